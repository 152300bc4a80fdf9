"""Phantoms: pictures follow their factors, reports follow their pictures, and every number has one picture."""

import pytest
import torch

from workbench.data.phantoms import COUNT, FINDINGS, WORDS, draw, load_phantoms, sample_findings
from workbench.errors import UnknownNameError


def test_counts_and_ranges():
    """Default sizes, grey pictures in [0, 1], none to three findings, each in a fifth of the pictures."""
    assert [len(load_phantoms(s)) for s in ("train", "val", "test")] == [2000, 500, 1000]
    ds = load_phantoms("train")
    assert ds.images.shape == (2000, 1, 32, 32) and ds.images.min() >= 0 and ds.images.max() <= 1
    share = ds.extras["findings"].float().mean(0)
    assert ((share > 0.17) & (share < 0.26)).all() and ds.factors["count"].max() == COUNT and ds.factors["count"].min() == 0


def test_a_number_is_one_picture_in_any_batch():
    """Picture i is the same alone, in a batch and in a longer load; other numbers, splits and seeds give other pictures."""
    ds = load_phantoms("train", n=300)
    index = torch.tensor([257, 3])
    alone = draw(index, *sample_findings(index, 0))
    assert torch.equal(alone, ds.images[index]) and torch.equal(load_phantoms("train", n=5).images, ds.images[:5])
    every = [p.numpy().tobytes() for s in ("train", "val", "test") for p in load_phantoms(s, n=300).images]
    assert len(set(every)) == 900
    assert not torch.equal(load_phantoms("train", n=5, seed=1).images, ds.images[:5])


def test_a_finding_changes_its_own_side_only():
    """Taking one finding away changes the picture on its side and nothing on the other."""
    index = torch.arange(200)
    present, side, large = sample_findings(index, 0)
    for k, name in enumerate(FINDINGS):
        rows = index[present[:, k]][:10]
        without = present.clone()
        without[:, k] = False
        parts = [draw(rows, p[rows], side[rows], large[rows]) for p in (present, without)]
        change = (parts[0] - parts[1]).abs().squeeze(1)
        assert (change.amax((1, 2)) > 0.03).all(), name
        if name != "enlarged heart":
            right = side[rows, k].bool()
            left_half, right_half = change[:, :, :13].sum((1, 2)), change[:, :, 19:].sum((1, 2))
            assert (torch.where(right, left_half, right_half) < 0.05 * torch.where(right, right_half, left_half)).all(), name


def test_reports_say_what_is_there():
    """Every present finding has a sentence with one of its words and its side; absent ones are only denied."""
    ds = load_phantoms("test", n=400, negatives=2)
    denial = ("No ", "There is no ", "Negative for ")
    for i, sentences in enumerate(ds.extras["sentences"]):
        assert ds.captions[i] == " ".join(sentences)
        told = [s for s in sentences if not s.startswith(denial)]
        for k, name in enumerate(FINDINGS):
            said = [s for s in told if any(w.lower() in s.lower() for w in WORDS[name])]
            denied = [s for s in sentences if s.startswith(denial) and any(w in s for w in WORDS[name])]
            there = bool(ds.extras["findings"][i, k])
            # 'opacity' words share parts; a finding that is there is always told, one that is denied is never there
            assert not there or said, (name, sentences)
            assert not (there and denied), (name, sentences)
            if there and name != "enlarged heart":
                side = ("left", "right")[ds.factors[f"side_{name}"][i]]
                assert any(side in s.lower() for s in said)
        assert sum(s.startswith(denial) for s in sentences) == 2 and len(sentences) == 3 + ds.factors["count"][i]


def test_pictures_hold_the_findings_but_faintly():
    """A linear probe is above chance for every finding and far from perfect for the small ones."""
    from sklearn.metrics import roc_auc_score

    train, test = load_phantoms("train"), load_phantoms("test")
    x, z = (torch.nn.functional.avg_pool2d(ds.images, 2).flatten(1).double() for ds in (train, test))
    mean, y = x.mean(0), train.extras["findings"].double()
    x = x - mean
    ridge = torch.linalg.solve(x.T @ x + 0.5 * torch.eye(x.shape[1]).double(), x.T @ (y - y.mean(0)))
    scores = (z - mean) @ ridge
    aucs = sorted(roc_auc_score(test.extras["findings"][:, k], scores[:, k]) for k in range(len(FINDINGS)))
    assert aucs[0] > 0.55 and sum(aucs) / 7 < 0.95 and aucs[2] < 0.9, aucs


@pytest.mark.parametrize("options", [{"n": 0}, {"contrast": 0}, {"negatives": 9}, {"size": 1}])
def test_bad_options(options):
    """Impossible numbers are refused by name, and so is an unknown split."""
    with pytest.raises(ValueError, match=next(iter(options))):
        load_phantoms(**options)
    with pytest.raises(UnknownNameError, match="dev"):
        load_phantoms("dev")
