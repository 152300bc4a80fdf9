"""Time and memory of the contrastive losses against their peers: value and gradient, every row in a process of its own.

    make bench                                            # an environment with the peers, then this program, then the plots
    .venv-peers/bin/python benchmarks/losses.py           # measure, and write results.json and RESULTS.md beside this file
    .venv-peers/bin/python benchmarks/losses.py --add --sizes 4096x512 --threads 2 --contests CLIP     # some rows again, or more

All get the same random rows, not normalised, and one temperature; what a peer does not normalise itself is normalised for it
with torch's `normalize`. Time is CPU seconds of forward and backward together, the median of several; memory is what the
process peaks at beyond the rows, gradients included. A peer runs as long as its matrices can fit; its value must be ours.
"""

from __future__ import annotations

import argparse
import ctypes
import functools
import itertools
import json
import multiprocessing
import os
import platform
import re
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

HERE = Path(__file__).parent
SCALE = 14.3  # one over the temperature, 0.07
Loss = Callable[[Tensor, Tensor, Tensor], Tensor]  # both sides and the scale, which is learned where the loss allows it

# Loss -> contestants; the first is ours. The number: matrices of n x n float32 that it holds at least, to know where to stop.
CONTESTS: dict[str, dict[str, Callable[[int], float]]] = {
    "CLIP, both directions": {"workbench": lambda n: 0, "open_clip": lambda n: 4},
    "InfoNCE, one way": {
        "workbench": lambda n: 0,
        "info-nce-pytorch": lambda n: 3,
        "sentence-transformers": lambda n: 3,
        "sentence-transformers cached": lambda n: 0,
    },
    "NT-Xent, two views": {"workbench": lambda n: 0, "lightly": lambda n: 16, "pytorch-metric-learning": lambda n: 34 * n},
    "SupCon, classes": {"workbench": lambda n: 0, "pytorch-metric-learning": lambda n: 10},
    "SigLIP": {"workbench": lambda n: 0, "open_clip": lambda n: 5},
}
# Matrix products, in units of n x n x d, that value and gradient take at least when no n x n matrix is kept.
PRODUCTS = {
    "CLIP, both directions": 4,
    "InfoNCE, one way": 3,
    "NT-Xent, two views": 8,
    "SupCon, classes": 2,
    "SigLIP": 3,
}
BARE = "bare products"
TORCH_BARE = "bare products by torch.mm"
SHARE = 0.4  # of the free memory that a peer's matrices may take
ENOUGH = 25.0  # CPU seconds after which a row is not measured again
QUICK, TURNS = 0.1, 5  # rows of fewer CPU seconds get so many processes, by turns
TINY = 32  # rows of which the products cost nothing: what is left is the price of calling operators
# What is measured: contests, numbers of rows, widths, threads, contestants (None: all).
PLAN: list[tuple[list[str], list[int], list[int], int, list[str] | None]] = [
    (list(CONTESTS), [TINY], [128], 1, None),
    (list(CONTESTS), [256, 1024, 4096, 16384], [128, 512], 1, None),
    (["CLIP, both directions"], [4096, 16384], [512], 1, [TORCH_BARE]),
    (["CLIP, both directions"], [1024, 4096, 16384], [512], 2, None),
    (["CLIP, both directions"], [65536], [128], 1, ["workbench", BARE]),
    (["CLIP, both directions"], [131072], [256], 1, ["workbench"]),
]


def contestant(contest: str, name: str, n: int) -> Loss:
    """A loss, ready to be called; only its own library is imported."""
    if name == "workbench":
        from workbench import losses

        classes = torch.arange(n) // 4
        return {
            "CLIP, both directions": lambda x, y, s: losses.clip_loss(x, y, logit_scale=s),
            "InfoNCE, one way": lambda x, y, s: losses.info_nce(x, y, temperature=1 / SCALE),
            "NT-Xent, two views": lambda x, y, s: losses.nt_xent(x, y, temperature=1 / SCALE),
            "SupCon, classes": lambda x, y, s: losses.supcon(x, classes, temperature=1 / SCALE),
            "SigLIP": lambda x, y, s: losses.sigmoid_loss(x, y, logit_scale=s, logit_bias=-10.0),
        }[contest]
    if name == "open_clip":
        make_torchvision_importable()
        from open_clip.loss import ClipLoss, SigLipLoss

        if contest == "SigLIP":
            siglip = SigLipLoss()
            return lambda x, y, s: siglip(normalize(x), normalize(y), s, -10.0)
        clip = ClipLoss(cache_labels=True)
        return lambda x, y, s: clip(normalize(x), normalize(y), s)
    if name == "lightly":
        make_torchvision_importable()
        from lightly.loss import NTXentLoss

        ntxent = NTXentLoss(temperature=1 / SCALE)
        return lambda x, y, s: ntxent(x, y)
    if name == "pytorch-metric-learning":
        from pytorch_metric_learning.losses import NTXentLoss, SelfSupervisedLoss, SupConLoss

        if contest == "SupCon, classes":
            classes, supcon = torch.arange(n) // 4, SupConLoss(temperature=1 / SCALE)
            return lambda x, y, s: supcon(x, classes)
        views = SelfSupervisedLoss(NTXentLoss(temperature=1 / SCALE))
        return lambda x, y, s: views(x, y)
    if name == "info-nce-pytorch":
        from info_nce import info_nce

        return lambda x, y, s: info_nce(x, y, temperature=1 / SCALE)
    make_torchvision_importable()
    from sentence_transformers.sentence_transformer import losses as theirs

    if name == "sentence-transformers":
        ranking = theirs.MultipleNegativesRankingLoss(torch.nn.Identity(), scale=SCALE)
        return lambda x, y, s: ranking.compute_loss_from_embeddings([x, y], None)
    cached = theirs.CachedMultipleNegativesRankingLoss(torch.nn.Sequential(torch.nn.Identity()), scale=SCALE, mini_batch_size=512)
    # It goes backward by itself, mini-batch by mini-batch; ours of the value that comes back then has nothing left to do.
    return lambda x, y, s: cached.calculate_loss([[x], [y]], with_backward=True).requires_grad_()


def bare_products(count: int, library: str) -> Loss:
    """Nothing but `count` products of n x n x d, block by block: logits, and what goes to either side."""

    def products(x: Tensor, y: Tensor, s: Tensor) -> Tensor:
        from workbench.losses._products import add_product, product

        multiply = product if library == "quickest" else lambda a, b: a @ b.T
        accumulate = add_product if library == "quickest" else lambda out, w, z: out.addmm_(w, z)
        with torch.no_grad():
            n, block = len(x), min(512, len(x))
            logits, to_x, to_y = torch.zeros(block, block), torch.zeros_like(x), torch.zeros_like(y)
            for i in range(0, n, block):
                for j in range(0, n, block):
                    left, right = x[i : i + block], y[j : j + block]
                    for number in range(count):
                        if number % 4 in (0, 3):
                            logits = multiply(left, right)
                        elif number % 4 == 1:
                            accumulate(to_x[i : i + block], logits, right)
                        else:
                            accumulate(to_y[j : j + block], logits.T, left)
        return to_x.sum() + to_y.sum()

    return products


@functools.cache
def make_torchvision_importable() -> None:
    """torchvision's wheel is built for CUDA and does not import beside a CPU build of torch; no operator of it is used here."""
    try:
        import torchvision  # noqa: F401
    except RuntimeError:
        for name in [name for name in sys.modules if name.startswith("torchvision")]:
            del sys.modules[name]
        library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            library.define(name + "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        KEPT.append(library)


KEPT: list[Any] = []  # a library is gone when nobody refers to it


def peak() -> float:
    """Highest resident memory in MB since it was last cleared."""
    return int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) * 1024 / 1e6  # type: ignore[index]


def measure(contest: str, name: str, n: int, d: int, threads: int) -> dict[str, Any]:
    """One row, in this process."""
    torch.set_num_threads(threads)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(n, d, generator=generator)
    y = torch.randn(n, d, generator=generator).mul_(2).add_(x)
    scale = torch.tensor(SCALE, requires_grad=True)

    def ready(rows: int) -> Loss:
        if name in (BARE, TORCH_BARE):
            return bare_products(PRODUCTS[contest], "quickest" if name == BARE else "torch")
        return contestant(contest, name, rows)

    def step(loss: Loss, left: Tensor, right: Tensor) -> float:
        left.grad = right.grad = scale.grad = None
        value = loss(left, right, scale)
        if value.grad_fn is not None:
            value.backward()
        return value.item()

    few = min(160, n)  # what is loaded at the first call does not count
    step(ready(few), x[:few].clone().requires_grad_(), y[:few].clone().requires_grad_())
    loss = ready(n)
    x.requires_grad_(), y.requires_grad_()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    before, extra = peak(), 0.0
    seconds: list[float] = []
    while (len(seconds) < 3 or sum(seconds) < 0.3) and sum(seconds) < ENOUGH:
        started = time.process_time()
        value = step(loss, x, y)
        seconds.append(time.process_time() - started)
        extra = extra or peak() - before
    return {"cpu": statistics.median(seconds), "mb": extra, "value": value, "runs": len(seconds)}


def measure_apart(row: tuple[str, str, int, int, int], timeout: float) -> dict[str, Any]:
    """One row, in a process of its own: a copy of this one, which has imported the libraries but has multiplied nothing."""

    def child(pipe: Any) -> None:
        try:
            pipe.send(measure(*row))
        except Exception as error:
            pipe.send({"failed": f"{type(error).__name__}: {error}"[:200]})

    context = multiprocessing.get_context("fork")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=child, args=(there,))
    process.start()
    there.close()
    try:
        result = here.recv() if here.poll(timeout) else {"failed": f"more than {timeout:.0f} s"}
    except EOFError:
        result = {"failed": "killed, most likely for its memory"}
    process.kill()
    process.join()
    return result


def available_memory() -> float:
    return int(re.search(r"MemAvailable:\s+(\d+)", Path("/proc/meminfo").read_text())[1]) * 1024  # type: ignore[index]


def planned(options: argparse.Namespace) -> Iterator[tuple[str, str, int, int, int]]:
    """The rows to measure; those of one contest and size follow each other, so that they see the same machine."""
    sizes = [tuple(map(int, size.split("x"))) for size in options.sizes or ()]
    plan = PLAN if not sizes else [(list(CONTESTS), [n], [d], t, None) for t in options.threads or [1] for n, d in sizes]
    for contests, rows, widths, threads, names in plan:
        for d in widths:
            for n in rows:
                for contest in contests:
                    if options.contests and not any(word.lower() in contest.lower() for word in options.contests):
                        continue
                    for name in names or [*CONTESTS[contest], BARE]:
                        if not options.names or name in options.names:
                            yield contest, name, n, d, threads


def run_all(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """All rows; those of one contest and size take turns, quick ones several times, so that a busy moment hits all alike."""
    for _, group in itertools.groupby(planned(options), key=lambda row: (row[0], *row[2:])):
        found: dict[tuple[str, str, int, int, int], list[dict[str, Any]]] = {row: [] for row in group}
        for turn in range(TURNS):
            for row, results in found.items():
                if turn and results[0].get("cpu", QUICK) >= QUICK:
                    continue
                needed = CONTESTS[row[0]].get(row[1], lambda n: 0)(row[2]) * row[2] ** 2 * 4
                if needed > SHARE * available_memory():
                    results.append({"failed": f"needs {needed / 1e9:,.0f} GB"})
                else:
                    results.append(measure_apart(row, options.timeout))
        for row, results in found.items():
            result = results[0]
            if "cpu" in result:
                result["cpu"] = statistics.median(r["cpu"] for r in results)
                result["runs"] = sum(r["runs"] for r in results)
            line = dict(zip(("contest", "name", "n", "d", "threads"), row, strict=True)) | result
            print(json.dumps(line), flush=True)
            yield line


def disagreements(rows: list[dict[str, Any]]) -> list[str]:
    """Peers whose value is not ours: then the same thing was not measured."""
    ours = {(r["contest"], r["n"], r["d"]): r["value"] for r in rows if r["name"] == "workbench" and "value" in r}
    found = []
    for row in rows:
        key = (row["contest"], row["n"], row["d"])
        if row["name"] not in CONTESTS[row["contest"]] or "value" not in row or key not in ours:
            continue
        if abs(row["value"] - ours[key]) > 1e-4 * abs(ours[key]):
            found.append(f"{row['contest']}, n={row['n']}, d={row['d']}: {row['name']} {row['value']}, workbench {ours[key]}")
    return found


def machine() -> dict[str, Any]:
    """What it ran on."""
    models = [line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line]
    total = int(re.search(r"MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text())[1]) * 1024  # type: ignore[index]
    peers = ["torch", "open_clip_torch", "lightly", "pytorch-metric-learning", "sentence-transformers", "info-nce-pytorch"]
    return {
        "processor": models[0] if models else platform.processor(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "cores": os.cpu_count(),
        "gigabytes": round(total / 2**30),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in peers},
        "date": str(date.today()),
        "load at the start": round(os.getloadavg()[0], 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", metavar="ROWSxWIDTH", help="instead of the planned ones")
    parser.add_argument("--threads", type=int, nargs="+", help="with --sizes; default 1")
    parser.add_argument("--contests", nargs="+", help="only contests with one of these words in their name")
    parser.add_argument("--names", nargs="+", help="only these contestants")
    parser.add_argument("--timeout", type=float, default=1800, help="seconds for one row")
    parser.add_argument("--add", action="store_true", help="keep the other rows of results.json")
    parser.add_argument("--out", type=Path, default=HERE / "results.json")
    options = parser.parse_args()
    print(json.dumps(about := machine()), flush=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for contest, name in {row[:2] for row in planned(options)}:
            if name in CONTESTS[contest]:
                contestant(contest, name, 2)
    rows = list(run_all(options))
    if wrong := disagreements(rows):
        sys.exit("the values differ, so the losses are not the same:\n" + "\n".join(wrong))

    def place(row: dict[str, Any]) -> tuple[Any, ...]:
        return tuple(row[key] for key in ("contest", "name", "n", "d", "threads"))

    if options.add and options.out.exists():
        new = {place(row) for row in rows}
        rows = [row for row in json.loads(options.out.read_text())["rows"] if place(row) not in new] + rows
    about["load at the end"] = round(os.getloadavg()[0], 1)
    lines = ",\n".join(json.dumps(row) for row in rows)
    options.out.write_text(f'{{"machine": {json.dumps(about)},\n"rows": [\n{lines}\n]}}\n')


if __name__ == "__main__":
    main()
