"""Several processes, each with its own rows: what they get is what one process gets with all of them.

`test_every_loss.py` has this for value and gradients of every loss; here are the other reductions, DistributedDataParallel,
errors, and memory.
"""

import ctypes
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import ranks
import torch
import torch.distributed as dist
from splits import part_of
from torch import nn

from workbench import losses
from workbench.losses import blockwise
from workbench.training import own_part, undo_averaging

pytestmark = pytest.mark.ddp


def rows(n=10, d=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, d, generator=generator, dtype=torch.float64)
    return x, x + 0.7 * torch.randn(n, d, generator=generator, dtype=torch.float64)


def call(name, x, y, labels, **options):
    if name == "supcon":
        return losses.supcon(x, labels, **options)
    return getattr(losses, name)(x, y, **options)


def each_anchor(group, name, reduction, gather):
    blockwise.GATHER = gather
    x, y = rows()
    part = part_of(dist.get_rank(group), dist.get_world_size(group), len(x))
    x, y = (z[part].clone().requires_grad_() for z in (x, y))
    found = call(name, x, y, torch.arange(10)[part] // 2, reduction=reduction, group=group, block_size=2)
    # Each process has its own function of its own values: the objective is the sum of all of them.
    (found.square().sum() if reduction == "none" else found).backward()
    return found.detach(), x.grad, y.grad


NAMES = ["info_nce", "nt_xent", "clip_loss", "dcl", "dclw", "supcon", "sigmoid_loss"]


@pytest.mark.parametrize("gather", [0, 2**30], ids=["passed_round", "gathered"])
@pytest.mark.parametrize("name", NAMES)
def test_other_reductions(name, gather):
    """'none' gives each process its own anchors, with the gradients of what all do with theirs; 'sum' the whole sum."""
    x, y = (z.requires_grad_() for z in rows())
    labels = torch.arange(10) // 2
    each = call(name, x, y, labels, reduction="none")
    each.square().sum().backward()
    two_views = len(each) == 20
    found = ranks.run(each_anchor, name, "none", gather, world=3)
    for rank, (values, by_x, by_y) in enumerate(found):
        part = part_of(rank, 3, 10)
        expected = torch.cat([each[:10][part], each[10:][part]]) if two_views else each[part]
        torch.testing.assert_close(values, expected.detach())
        torch.testing.assert_close(by_x, x.grad[part])
        if name != "supcon":
            torch.testing.assert_close(by_y, y.grad[part])
    assert x.grad.abs().max() > 1e-2 and found[0][0].std() > 1e-3, "vacuous"
    x.grad = y.grad = None
    total = call(name, x, y, labels, reduction="sum")
    total.backward()
    for rank, (value, by_x, _) in enumerate(ranks.run(each_anchor, name, "sum", gather, world=2)):
        torch.testing.assert_close(value, total.detach())
        torch.testing.assert_close(by_x, x.grad[part_of(rank, 2, 10)])


class TwoTowers(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.image, self.text = nn.Linear(6, 4), nn.Sequential(nn.Linear(6, 5), nn.GELU(), nn.Linear(5, 4))
        self.log_scale, self.bias = nn.Parameter(torch.tensor(1.5)), nn.Parameter(torch.tensor(-2.0))
        self.double()

    def forward(self, x, y):
        return self.image(x), self.text(y), self.log_scale.exp(), self.bias


def batch_loss(outputs, group=None):
    image, text, scale, bias = outputs
    image, text = undo_averaging(image, group), undo_averaging(text, group)
    return losses.clip_loss(image, text, logit_scale=scale, group=group) + losses.sigmoid_loss(
        image, text, logit_scale=scale, logit_bias=bias, group=group
    )


def train_wrapped(group, steps, gather):
    blockwise.GATHER = gather
    model = nn.parallel.DistributedDataParallel(TwoTowers(), process_group=group)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for step in range(steps):
        x, y = rows(n=11 - 3 * (step % 2), seed=step)  # the last batch of an epoch is smaller
        part = own_part(len(x), group)
        optimizer.zero_grad()
        loss = batch_loss(model(x[part], y[part]), group)
        loss.backward()
        optimizer.step()
    return loss.item(), [p.grad for p in model.parameters()], [p.detach() for p in model.parameters()]


@pytest.mark.parametrize("gather", [0, 2**30], ids=["passed_round", "gathered"])
@pytest.mark.parametrize("world", [2, 3])
def test_distributed_data_parallel(world, gather):
    """A model in DistributedDataParallel, scale and bias in it, trains as one process does with the whole batches."""
    model = TwoTowers()
    before = [p.detach().clone() for p in model.parameters()]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for step in range(4):
        x, y = rows(n=11 - 3 * (step % 2), seed=step)
        optimizer.zero_grad()
        loss = batch_loss(model(x, y))
        loss.backward()
        optimizer.step()
    for value, gradients, parameters in ranks.run(train_wrapped, 4, gather, world=world):
        assert value == pytest.approx(loss.item(), rel=1e-9)
        for found, parameter in zip(gradients, model.parameters(), strict=True):
            assert parameter.grad.abs().max() > 1e-4, "vacuous: no gradient"
            torch.testing.assert_close(found, parameter.grad)
        for found, parameter, start in zip(parameters, model.parameters(), before, strict=True):
            assert not torch.equal(parameter, start)
            torch.testing.assert_close(found, parameter.detach())


def refuse(group, rank_with_nan):
    x, y = rows(n=4)
    if dist.get_rank(group) == rank_with_nan:
        x[1, 2] = float("nan")
    messages = []
    for name in NAMES:
        try:
            call(name, x, y, torch.arange(4) // 2, group=group)
            messages.append("no error")
        except ValueError as error:
            messages.append(str(error))
    return messages


def test_bad_input_of_one_process_is_an_error_in_all():
    """The process with the NaN says so; the others stop too, instead of waiting for it."""
    found = ranks.run(refuse, 1, world=3)
    assert all("NaN" in message for message in found[1])
    for rank in (0, 2):
        assert all("another process" in message for message in found[rank])


def second_derivative(group):
    blockwise.GATHER = 0
    x, y = (z.requires_grad_() for z in rows(n=4))
    try:
        torch.autograd.grad(losses.clip_loss(x, y, group=group), x, create_graph=True)
    except RuntimeError as error:
        return str(error)


def test_second_derivatives_are_refused():
    """Where a second derivative would be wrong it is an error."""
    assert all("second derivatives" in message for message in ranks.run(second_derivative, world=2))


def alone(group):
    x, y = rows(n=4)
    single = dist.new_group([dist.get_rank()], use_local_synchronization=True)
    return losses.clip_loss(x, y, group=single), losses.clip_loss(x, y)


def test_a_group_of_one():
    """Is one process."""
    for found, expected in ranks.run(alone, world=2):
        assert torch.equal(found, expected)


OWN = 1500 * 1024 * 4 / 2**20  # MiB of one side's rows in a process


def extra_memory(group, gather):
    """MiB that the loss of 1,500 rows a process and its gradient add at their peak."""
    blockwise.GATHER = gather

    def peak():
        return int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 1024

    for n in (160, 1500):  # what is loaded at the first call does not count
        x, y = (torch.randn(n, 1024).requires_grad_() for _ in "xy")
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")
        before = peak()
        losses.clip_loss(x, y, group=group).backward()
    return peak() - before


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads the peak from /proc")
def test_memory_does_not_grow_with_the_processes():
    """With the rows of each process fixed, a third process adds only the rows under way; gathering adds much more.

    In a ring of two nothing is under way while the last rows are worked on, so the third process costs one more side, and no
    further process costs anything. Heaps differ by some MiB from run to run; the limits are in sides of 5.9 MiB.
    """
    two, three = (max(ranks.run(extra_memory, 0, world=world)) for world in (2, 3))
    assert three < two + 3 * OWN and three < 12 * OWN
    two, three = (max(ranks.run(extra_memory, 2**40, world=world)) for world in (2, 3))
    assert three > two + 4 * OWN and three > 20 * OWN, "vacuous: holding all rows is not seen either"


@pytest.mark.slow
def test_example_program():
    """The example runs under torchrun, in two processes as in one, with the same losses."""
    root = Path(__file__).parents[2]
    program = ["-m", "workbench.training.torchrun_example"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(root)}
    single = [sys.executable, *program]
    double = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *program]
    outputs = []
    for command in (single, double):
        run = subprocess.run([*command, "--steps", "5"], capture_output=True, text=True, timeout=300, env=environment, cwd=root)
        assert run.returncode == 0, run.stderr
        outputs.append([float(value) for value in re.findall(r"loss (\d+\.\d+)", run.stdout)])
    assert len(outputs[0]) == 5 and outputs[0][-1] < outputs[0][0]
    assert outputs[0] == pytest.approx(outputs[1], rel=1e-4)
