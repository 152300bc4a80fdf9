"""The losses on a CUDA device: Triton kernels for half precision, blocks of torch operations for the rest."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from workbench import losses

gpu = pytest.mark.gpu
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")

CALLS = {
    "info_nce": lambda x, y, s, **o: losses.info_nce(x, y, temperature=1 / s, **o),
    "clip": lambda x, y, s, **o: losses.clip_loss(x, y, logit_scale=s, **o),
    "nt_xent": lambda x, y, s, **o: losses.nt_xent(x, y, temperature=1 / s, **o),
    "dcl": lambda x, y, s, **o: losses.dcl(x, y, temperature=1 / s, **o),
    "sigmoid": lambda x, y, s, **o: losses.sigmoid_loss(x, y, logit_scale=s, **o),
    "queue": lambda x, y, s, **o: losses.info_nce(x, y, queue=y.flip(1), in_batch=False, temperature=1 / s, **o),
}


def rows(n, d, dtype, device):
    generator = torch.Generator().manual_seed(n)
    x = torch.randn(n, d, generator=generator)  # the noise keeps losses, and so gradients, far from what float16 cannot hold
    return x.to(dtype).to(device), (x + 3 * torch.randn(n, d, generator=generator)).to(dtype).to(device)


def value_and_gradients(call, x, y, scale, **options):
    x, y = x.detach().clone().requires_grad_(), y.detach().clone().requires_grad_()
    scale = torch.tensor(scale, device=x.device, requires_grad=True)
    value = call(x, y, scale, **options)
    value.backward()
    return value.detach(), x.grad, y.grad, scale.grad


def off(found, expected):
    return float((found.double().cpu() - expected.cpu()).norm() / expected.cpu().norm())


def check(name, n, d, dtype, scale, device, value_within, gradient_within, **options):
    x, y = rows(n, d, dtype, device)
    found = value_and_gradients(CALLS[name], x, y, scale, **options)
    exact = value_and_gradients(CALLS[name], x.double(), y.double(), scale)
    claim = f"{name}, n={n}, d={d}, {dtype}, scale {scale}, {options}"
    assert exact[1].abs().max() > 0, "vacuous: no gradient"
    assert off(found[0], exact[0]) < value_within, claim
    for part, a, b in zip(("x", "y"), found[1:3], exact[1:3], strict=True):
        assert off(a, b) < gradient_within, f"gradient of {part}, {claim}"


@gpu
@needs_cuda
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", CALLS)
def test_triton_against_float64(name, dtype):
    """Half precision by the kernels: value to 1e-4 of float64 on the same rows, gradients to the rounding of bfloat16."""
    from workbench.losses import triton_kernels

    assert triton_kernels.works(), "the kernels do not run here: everything falls back to torch operations"
    for n, d, options in ((64, 16, {}), (1000, 128, {}), (1000, 80, {"block_size": 300}), (4097, 512, {"block_size": 2048})):
        for scale in (5.0, 14.3, 100.0):
            check(name, n, d, dtype, scale, "cuda", 1e-4, 1e-2, **options)


@gpu
@needs_cuda
@pytest.mark.parametrize("name", CALLS)
def test_float32_by_blocks(name):
    """float32 on the device: blocks of torch operations, to 1e-5."""
    for n, d, options in ((300, 20, {}), (1000, 64, {"block_size": 256})):
        check(name, n, d, torch.float32, 14.3, "cuda", 1e-5, 1e-4, **options)


@gpu
@needs_cuda
def test_same_bits():
    """The kernels leave no order of summation open."""
    x, y = rows(3000, 64, torch.bfloat16, "cuda")
    first, second = (value_and_gradients(CALLS["clip"], x, y, 14.3) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@gpu
@needs_cuda
def test_memory():
    """65,536 rows in bfloat16 need the gradients and a block, not the 8 GiB of one matrix."""
    x, y = (z.requires_grad_() for z in rows(65_536, 128, torch.bfloat16, "cuda"))
    losses.clip_loss(x[:100], y[:100]).backward()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    losses.clip_loss(x, y).backward()
    assert torch.cuda.max_memory_allocated() - before < 2**30


PROGRAM = """
import torch
from workbench.losses import _blocks, _products, blockwise, triton_kernels
import tests_losses_gpu as t

torch.set_num_threads(1)
triton_kernels.TILE.update(TILE_M=16, TILE_N=32, TILE_K=16)
blockwise._triton_works = lambda x: x.dtype == torch.float16
used = []
weights = triton_kernels.weights
triton_kernels.weights = lambda *a: used.append(0) or weights(*a)
_blocks.add_product = lambda out, w, y: out.add_(w.float() @ y.to(w.dtype).float())  # no such product on a CPU
for name in t.CALLS:
    for n, d, options in ((40, 32, {}), (50, 48, {"block_size": 33})):
        for scale in (5.0, 60.0):
            used.clear()
            t.check(name, n, d, torch.float16, scale, "cpu", 1e-4, 1e-2, **options)
            assert used, name
print("all equal")
"""


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")
def test_kernels_in_the_interpreter(tmp_path):
    """The logic of the kernels without a device: Triton's interpreter, in small tiles that do not divide the rows."""
    (tmp_path / "tests_losses_gpu.py").write_text(Path(__file__).read_text())
    root = Path(__file__).parents[2]
    environment = {**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": f"{root}{os.pathsep}{tmp_path}"}
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAM], capture_output=True, text=True, env=environment, timeout=300
    )
    assert run.returncode == 0, run.stderr
    assert "all equal" in run.stdout
