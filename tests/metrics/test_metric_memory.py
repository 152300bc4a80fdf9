"""No metric builds an n x n matrix, measured as the peak of a fresh process."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

N = 10_000  # one n x n matrix of float32 would be 381 MiB
LIMIT = 280  # MiB above the inputs; a block of similarities has 64 MiB

PROGRAM = """
import json, re, sys, torch
torch.set_num_threads(1)
import sklearn.linear_model, sklearn.model_selection  # what the probes load does not count
from workbench import metrics as m

def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) / 1024

g = torch.Generator().manual_seed(0)
x = torch.randn(%d, 32, generator=g)
y, labels = x + torch.randn(len(x), 32, generator=g), torch.randint(50, (len(x),), generator=g)
m.modality_gap(x[:50], y[:50])
calls = {
    "alignment": lambda: m.alignment(x, y),
    "tolerance": lambda: m.tolerance(x, labels),
    "effective_rank": lambda: m.effective_rank(x),
    "uniformity": lambda: m.uniformity(x),
    "cross_uniformity": lambda: m.cross_uniformity(x, y),
    "negative_weight_entropy": lambda: m.negative_weight_entropy(x, y, temperature=0.1),
    "classmate_share": lambda: m.classmate_share(x, y, labels, temperature=0.1),
    "knn_accuracy": lambda: m.knn_accuracy(x, labels, y, labels),
    "few_shot_knn": lambda: m.few_shot_knn(x, labels, draws=2),
    "recall_at_k": lambda: m.recall_at_k(x, y),
    "recall_at_k with labels": lambda: m.recall_at_k(x, y, k=1, query_labels=labels, key_labels=labels),
    "modality_gap": lambda: m.modality_gap(x, y, max_pairs=500),
    "modality_gap of some queries": lambda: m.modality_gap(x, y, max_pairs=500, max_queries=500),
    "nearest_neighbours": lambda: m.nearest_neighbours(x, k=5),
    "ranking": lambda: m.ranking(x[:1000], y, query_labels=labels[:1000], key_labels=labels),
    "estimate of uniformity": lambda: m.estimate("uniformity", x),
    "estimate of linear_cka": lambda: m.estimate("linear_cka", x, y),
    "variance_shares": lambda: m.variance_shares(x, {"a": labels}),
    "one n x n matrix": lambda: x @ x.T,
}
extra = {}
for name, call in calls.items():
    open("/proc/self/clear_refs", "w").write("5")  # the peak starts again from here
    before = peak()
    call()
    extra[name] = peak() - before
print(json.dumps(extra))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads the peak from /proc")
def test_no_metric_builds_an_n_by_n_matrix():
    """At 10,000 rows every metric stays far below the 381 MiB of one matrix, which the same measurement does see."""
    root = Path(__file__).parents[2]
    run = subprocess.run([sys.executable, "-c", PROGRAM % N], capture_output=True, text=True, cwd=root, timeout=300)
    assert run.returncode == 0, run.stderr
    extra = json.loads(run.stdout)
    assert extra.pop("one n x n matrix") > 340, "vacuous: the measurement does not see a matrix"
    assert {name: mib for name, mib in extra.items() if mib > LIMIT} == {}
