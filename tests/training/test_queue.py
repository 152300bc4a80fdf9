"""The queue against collections.deque."""

import random
from collections import deque

import pytest
import torch
from torch.nn import functional as F

from workbench import UnknownNameError
from workbench.training import Queue


@pytest.mark.parametrize("size", [1, 5, 8, 13])
def test_first_in_first_out_as_a_deque(size):
    """After pushes of any sizes, dividing `size` or not or larger than it, order and content are a deque's."""
    rng, queue, oracle = random.Random(0), Queue(size, 3), deque(maxlen=size)
    torch.manual_seed(0)
    for step in range(40):
        keys, ids = torch.randn(rng.randint(1, size + 3), 3), None
        if step % 3:
            ids = torch.randint(100, (len(keys),))
        queue.push(keys, ids)
        oracle.extend(zip(F.normalize(keys), [-1] * len(keys) if ids is None else ids.tolist(), strict=True))
        assert len(queue) == len(oracle)
        torch.testing.assert_close(queue.keys, torch.stack([k for k, _ in oracle]))
        assert queue.ids.tolist() == [i for _, i in oracle]
    assert len(queue) == queue.size == size


def test_keys_are_unit_and_carry_no_gradient():
    """Pushing keys that are part of a graph stores plain unit vectors."""
    weight = torch.randn(4, 3, requires_grad=True)
    queue = Queue(8, 3)
    queue.push(weight * 5)
    assert not queue.keys.requires_grad
    torch.testing.assert_close(queue.keys.norm(dim=1), torch.ones(4))


def test_pushing_after_the_loss_does_not_spoil_its_gradient():
    """`keys` is a copy: the gradient of a loss over it is that of the keys at the time, whatever is pushed since."""
    torch.manual_seed(0)
    queue, query = Queue(4, 3), torch.randn(2, 3, requires_grad=True)
    queue.push(torch.randn(4, 3))
    old = queue.keys
    loss = (query @ queue.keys.T).exp().sum()
    queue.push(torch.randn(3, 3))
    loss.backward()
    torch.testing.assert_close(query.grad, ((query @ old.T).exp() @ old).detach())
    assert not torch.equal(queue.keys, old)


def test_starts_empty_or_random():
    """Empty: no key at all. Random: `size` unit vectors with id -1, the same for the same seed, replaced from the oldest on."""
    assert Queue(5, 3).keys.shape == (0, 3) and len(Queue(5, 3)) == 0
    queue = Queue(5, 3, start="random", seed=1)
    start = queue.keys
    torch.testing.assert_close(start.norm(dim=1), torch.ones(5))
    assert queue.ids.tolist() == [-1] * 5 and len(queue) == 5
    assert torch.equal(start, Queue(5, 3, start="random", seed=1).keys)
    queue.push(torch.tensor([[1.0, 0.0, 0.0]]))
    assert torch.equal(queue.keys[:4], start[1:]) and queue.keys[4].tolist() == [1, 0, 0]


def test_state_dict_round_trip(tmp_path):
    """Saved (safetensors) and loaded, the queue goes on where it was, write position included."""
    from safetensors.torch import load_file, save_file

    torch.manual_seed(0)
    queue = Queue(5, 3)
    queue.push(torch.randn(7, 3), torch.arange(7))
    save_file(queue.state_dict(), tmp_path / "queue.safetensors")
    again = Queue(5, 3)
    again.load_state_dict(load_file(tmp_path / "queue.safetensors"))
    more = torch.randn(2, 3)
    for q in (queue, again):
        q.push(more, torch.tensor([7, 8]))
    assert torch.equal(again.keys, queue.keys) and again.ids.tolist() == [4, 5, 6, 7, 8]


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: Queue(0, 3), ValueError, "size and dim must be at least 1"),
        (lambda: Queue(3, 3, start="radnom"), UnknownNameError, "did you mean 'random'"),
        (lambda: Queue(3, 3).push(torch.ones(2, 4)), ValueError, "keys must have width 3"),
        (lambda: Queue(3, 3).push(torch.zeros(2, 3)), ValueError, "rows of zeros"),
        (lambda: Queue(3, 3).push(torch.full((2, 3), torch.nan)), ValueError, "NaN"),
        (lambda: Queue(3, 3).push(torch.ones(2, 3), ids=torch.ones(3).long()), ValueError, r"ids must have shape \(2,\)"),
        (lambda: Queue(3, 3).push(torch.ones(0, 3)), ValueError, "at least 1 row"),
    ],
)
def test_bad_input(call, error, match):
    """Each mistake is named, and nothing is stored."""
    with pytest.raises(error, match=match):
        call()
