"""Encoding in chunks: the same embeddings, the same gradients and the same dropout, with the activations of one chunk."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from workbench.losses import clip_loss, info_nce, supcon
from workbench.training import encode_in_chunks, fit


class Watched(nn.Module):
    """An encoder that writes down the sizes of what it is given and what comes out of its dropout."""

    def __init__(self, *layers):
        super().__init__()
        self.body = nn.Sequential(*layers)
        self.sizes, self.dropped = [], []
        next(m for m in layers if isinstance(m, nn.Dropout)).register_forward_hook(
            lambda module, inputs, out: self.dropped.append(out.detach().clone())
        )

    def forward(self, x):
        self.sizes.append(len(x))
        return self.body(x)


def encoder(dropout=0.0, seed=0):
    torch.manual_seed(seed)
    return Watched(nn.Linear(6, 16), nn.GELU(), nn.Dropout(dropout), nn.Linear(16, 5))


def gradients(model):
    found = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    assert any(g.abs().max() > 1e-4 for g in found), "vacuous: no gradient"
    return found


@pytest.mark.parametrize("chunk_size", [1, 3, 5, 10, 11, 64])
def test_same_loss_and_gradient(chunk_size):
    """Without dropout: those of encoding the whole batch at once, whether or not the chunk divides it."""
    model, x, y = encoder().double(), torch.randn(10, 6).double(), torch.randn(10, 6).double()
    whole = clip_loss(model(x), model(y))
    whole.backward()
    expected = gradients(model)
    model.sizes.clear()
    found = clip_loss(*(encode_in_chunks(model, z, chunk_size=chunk_size) for z in (x, y)))
    assert max(model.sizes) == min(chunk_size, 10) and sum(model.sizes) == 20
    found.backward()
    assert sum(model.sizes) == 40, "each row is encoded twice"
    torch.testing.assert_close(found, whole)
    for a, b in zip(gradients(model), expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


def test_dropout_is_replayed_bit_for_bit():
    """The second pass makes the numbers of the first, and gradients are those of the graph of the first, bit for bit."""
    model, x = encoder(dropout=0.5), torch.randn(12, 6)
    labels = torch.arange(12) // 2
    torch.manual_seed(1)
    plain = torch.cat([model(chunk) for chunk in x.split(5)])
    supcon(plain, labels).backward()
    expected = gradients(model)
    model.dropped.clear()
    torch.manual_seed(1)
    cached = encode_in_chunks(model, x, chunk_size=5)
    supcon(cached, labels).backward()
    assert torch.equal(cached, plain)
    first, second = model.dropped[:3], model.dropped[3:]
    assert len(second) == 3
    for again in second:
        assert any(torch.equal(again, once) for once in first)
    assert not torch.equal(model(x[:5]), model(x[:5])), "vacuous: dropout is off"
    for a, b in zip(gradients(model), expected, strict=True):
        assert torch.equal(a, b)


def test_replay_does_not_move_the_random_numbers():
    """What is drawn after the backward pass is what would be drawn without chunks."""
    model, x = encoder(dropout=0.5), torch.randn(12, 6)
    drawn = []
    for encode in (lambda: torch.cat([model(c) for c in x.split(5)]), lambda: encode_in_chunks(model, x, chunk_size=5)):
        torch.manual_seed(2)
        info_nce(encode(), x[:, :5]).backward()
        drawn.append(torch.rand(3))
    assert torch.equal(*drawn)


def test_dropout_differs_between_calls_and_chunks():
    """Two views of one batch by dropout (SimCSE) stay two views, and chunks do not share a mask."""
    model, x = encoder(dropout=0.5), torch.ones(6, 6)
    first, second = (encode_in_chunks(model, x, chunk_size=3) for _ in range(2))
    assert not torch.equal(first, second) and not torch.equal(first[:3], first[3:])
    info_nce(first, second).backward()
    gradients(model)


def test_autocast_is_replayed():
    """The backward pass, usually outside autocast, encodes in the precision of the first pass."""
    model, x = encoder(), torch.randn(8, 6)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cached = encode_in_chunks(model, x, chunk_size=4)
        loss = info_nce(cached, cached.detach().flip(0))
    loss.backward()
    assert [out.dtype for out in model.dropped] == [torch.bfloat16] * 4
    first, second = ({tuple(out.flatten().tolist()) for out in model.dropped[part]} for part in (slice(2), slice(2, 4)))
    assert first == second


def test_batch_norm_counts_each_chunk_once():
    """Running averages after forward and backward are those of one pass over the chunks, also with a cumulative average."""
    x = torch.randn(12, 6) * 3 + 1
    for momentum in (0.1, None):
        states = []
        for encode in (lambda m: torch.cat([m(c) for c in x.split(4)]), lambda m: encode_in_chunks(m, x, chunk_size=4)):
            torch.manual_seed(0)
            model = nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5, momentum=momentum))
            info_nce(encode(model), x[:, :5]).backward()
            states.append([*model.state_dict().values(), *gradients(model)])
            assert model[1].momentum == momentum
        assert states[0][4].abs().max() > 0.1, "vacuous: the averages have not moved"
        for a, b in zip(*states, strict=True):
            assert torch.equal(a, b)


def test_inputs_of_every_kind():
    """A tensor, a list of texts, and a tokenizer's mapping are cut alike."""
    table = nn.Embedding(10, 4)
    ids = torch.randint(0, 10, (7, 3))
    expected = table(ids).mean(1)
    kinds = {
        "tensor": (ids, lambda t: table(t).mean(1)),
        "list": ([row.tolist() for row in ids], lambda rows: table(torch.tensor(rows)).mean(1)),
        "mapping": (
            {"input_ids": ids, "attention_mask": torch.ones_like(ids)},
            lambda batch: (table(batch["input_ids"]) * batch["attention_mask"][..., None]).mean(1),
        ),
    }
    for inputs, encode in kinds.values():
        torch.testing.assert_close(encode_in_chunks(encode, inputs, chunk_size=3), expected)


def test_inside_the_training_loop():
    """`fit` trains through it as through any embeddings."""
    model, x = encoder(dropout=0.1), torch.randn(32, 6)
    y = x + 0.1 * torch.randn(32, 6)
    head = nn.Linear(6, 5)

    def loss_fn(rows):
        return info_nce(encode_in_chunks(model, x[rows], chunk_size=5), head(y[rows]), temperature=0.5)

    history = fit([model, head], loss_fn, [torch.arange(32)] * 40, steps=40, lr=1e-2, title=None)
    assert history.losses[-1] < 0.7 * history.losses[0]


def test_no_gradient_wanted():
    """Under no_grad it only encodes, once."""
    model = encoder()
    with torch.no_grad():
        out = encode_in_chunks(model, torch.randn(7, 6), chunk_size=3)
    assert model.sizes == [3, 3, 1] and not out.requires_grad


@pytest.mark.parametrize(
    ("inputs", "options", "error", "message"),
    [
        (torch.ones(4, 6), {"chunk_size": 0}, ValueError, "chunk_size"),
        (torch.ones(4, 6), {"chunk_size": 2.0}, ValueError, "chunk_size"),
        (torch.ones(0, 6), {"chunk_size": 2}, ValueError, "inputs"),
        (torch.tensor(1.0), {"chunk_size": 2}, TypeError, "inputs"),
        ("a text", {"chunk_size": 2}, TypeError, "inputs"),
        ({"a": torch.ones(4, 6), "b": torch.ones(3)}, {"chunk_size": 2}, ValueError, "length"),
    ],
)
def test_bad_input(inputs, options, error, message):
    """Errors name the argument."""
    with pytest.raises(error, match=message):
        encode_in_chunks(encoder(), inputs, **options)


@pytest.mark.parametrize(("result", "error"), [(torch.ones(1, 3), ValueError), (torch.ones(2), ValueError), ("x", TypeError)])
def test_bad_encoder(result, error):
    """An encoder that does not return one row for each input is named."""
    with pytest.raises(error, match="encoder"):
        encode_in_chunks(lambda chunk: result, torch.ones(4, 6), chunk_size=2)


PROGRAM = """
import ctypes, json, re, torch
from torch import nn
from workbench.losses import info_nce
from workbench.training import encode_in_chunks
torch.set_num_threads(1)

def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) / 1024

torch.manual_seed(0)
import torch.utils.checkpoint, torch._dynamo  # what is loaded at the first call does not count
model = nn.Sequential(nn.Linear(8, 2048), nn.GELU(), nn.Linear(2048, 8))
x = torch.randn(4096, 8)
extra = {}
for name, encode in (("chunks", lambda: encode_in_chunks(model, x, chunk_size=256)), ("whole", lambda: model(x))):
    ctypes.CDLL(None).malloc_trim(0)
    open("/proc/self/clear_refs", "w").write("5")
    before = peak()
    info_nce(encode(), x).backward()
    extra[name] = peak() - before
print(json.dumps(extra))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads the peak from /proc")
def test_memory():
    """4,096 rows through a layer of 2,048 take 32 MiB an activation; in chunks of 256, with the backward pass, far less."""
    root = Path(__file__).parents[2]
    # Large blocks go back to the system at once; else holes in the heap would count.
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}
    run = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, cwd=root, timeout=300, env=environment)
    assert run.returncode == 0, run.stderr
    extra = json.loads(run.stdout)
    assert extra["whole"] > 75, "vacuous: the whole batch does not need much either"
    assert extra["chunks"] < extra["whole"] / 2
