"""No loss holds an n x n matrix, backward included: measured as the peak of a fresh process."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

N = 6_000  # one n x n matrix of float32 is 137 MiB
LIMIT = 40  # MiB above the inputs, gradients (1.5 MiB) included; the largest strip of blocks is 12 MiB

PROGRAM = """
import ctypes, json, re, torch
torch.set_num_threads(1)
from workbench import losses

def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) / 1024

g = torch.Generator().manual_seed(0)
x, y, queue = (torch.randn(%d, 32, generator=g).requires_grad_() for _ in "xyq")
classes = torch.randint(50, (len(x),), generator=g)
calls = {
    "info_nce": lambda x, y, q, c: losses.info_nce(x, y),
    "info_nce of each": lambda x, y, q, c: losses.info_nce(x, y, reduction="none").square().mean(),
    "info_nce with a queue": lambda x, y, q, c: losses.info_nce(x, y, queue=q),
    "info_nce, cold": lambda x, y, q, c: losses.info_nce(x, y, temperature=1e-3),
    "clip_loss": lambda x, y, q, c: losses.clip_loss(x, y),
    "nt_xent": lambda x, y, q, c: losses.nt_xent(x[::2], y[::2]),
    "dcl": lambda x, y, q, c: losses.dcl(x[::2], y[::2]),
    "dclw": lambda x, y, q, c: losses.dclw(x[::2], y[::2]),
    "supcon": lambda x, y, q, c: losses.supcon(x, c),
    "sigmoid_loss": lambda x, y, q, c: losses.sigmoid_loss(x, y),
    "sigmoid_loss of each": lambda x, y, q, c: losses.sigmoid_loss(x, y, reduction="none").square().mean(),
    "one n x n matrix": lambda x, y, q, c: (x @ y.T).sum(),
}
extra = {}
for name, call in calls.items():
    call(x[:40], y[:40], queue[:40], classes[:40]).backward()  # what is loaded at the first call does not count
    x.grad = y.grad = queue.grad = None
    ctypes.CDLL(None).malloc_trim(0)  # what the last one gave back does not count
    open("/proc/self/clear_refs", "w").write("5")  # the peak starts again from here
    before = peak()
    call(x, y, queue, classes).backward()
    extra[name] = peak() - before
print(json.dumps(extra))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads the peak from /proc")
def test_no_loss_holds_an_n_by_n_matrix():
    """At 6,000 rows every loss and its gradient stay far below the 137 MiB of one matrix, which the measurement does see."""
    root = Path(__file__).parents[2]
    run = subprocess.run([sys.executable, "-c", PROGRAM % N], capture_output=True, text=True, cwd=root, timeout=300)
    assert run.returncode == 0, run.stderr
    extra = json.loads(run.stdout)
    assert extra.pop("one n x n matrix") > 120, "vacuous: the measurement does not see a matrix"
    assert {name: mib for name, mib in extra.items() if mib > LIMIT} == {}
