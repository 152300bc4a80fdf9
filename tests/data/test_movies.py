"""Movies and item sequences: counts, links, splits by series, leave-one-out, and MovieLens that is only read."""

from itertools import pairwise

import pytest
import torch

from workbench.data.files import verify
from workbench.data.movies import NUMBERS, load_movies
from workbench.data.sequences import load_sequences
from workbench.errors import DataError, UnknownNameError

SPLITS = ("train", "val", "test")


def test_counts_of_the_specification():
    """3,200 films; 1,336 with a known director in the four largest genres, 1,179 of which share their director."""
    verify("movies")
    assert [len(load_movies(s)) for s in (*SPLITS, "all")] == [2241, 319, 640, 3200]
    ds = load_movies("all", known_director=True, genres=4)
    assert len(ds) == 1336 and list(ds.label_names) == ["Drama", "Comedy", "Action", "Adventure"]
    director = ds.factors["director"]
    assert ((director.bincount() > 1)[director]).sum() == 1179 and director.min() >= 0


def test_codes_and_numbers_are_those_of_known_films():
    """Titanic is James Cameron's, a Paramount drama of 1997; unknown numbers are 0 and marked; nothing is NaN."""
    ds = load_movies("all")
    row = ds.captions.index("Titanic")
    name = lambda factor: ds.factor_names[factor][ds.factors[factor][row]]  # noqa: E731
    assert name("director") == "James Cameron" and ds.factors["year"][row] == 1997
    assert ds.factors["gross"][row] == pytest.approx(1.842879955e9, rel=1e-3)
    for number in NUMBERS:
        known = ds.factors[f"known_{number}"].bool()
        assert torch.isfinite(ds.factors[number]).all() and (ds.factors[number][~known] == 0).all() and 0 < known.sum() < 3200
    assert ds.factors["year"].min() == 1915 and ds.factors["year"].max() <= 2012


def test_series_of_films_stay_together():
    """Films whose titles differ in a number or a subtitle only are in one split; splits are those of the factor."""
    where = {}
    for i, split in enumerate(SPLITS):
        ds = load_movies(split)
        assert (ds.factors["split"] == i).all()
        where |= dict.fromkeys(ds.captions, split)
    for films in (
        ("Spider-Man", "Spider-Man 2", "Spider-Man 3"),
        ("Toy Story", "Toy Story 2"),
        ("Shrek", "Shrek 2"),
        ("Rush Hour", "Rush Hour 2"),
    ):
        found = [where[f] for f in films if f in where]
        assert len(found) > 1 and len(set(found)) == 1, films


def test_sequences_leave_one_out():
    """Train ends before val's target, val before test's; items are 1 to 1,500, padded with 0; no item follows itself."""
    train, val, test = (load_sequences(s) for s in SPLITS)
    assert len(train) == len(val) == len(test) == 26_748 and len(test.label_names) == 1500
    for row in range(0, len(test), 1999):
        whole = [*test.extras["items"][row][: test.factors["length"][row]].tolist(), int(test.labels[row]) + 1]
        assert 5 <= len(whole) <= 20 and all(1 <= i <= 1500 for i in whole)
        assert all(a != b for a, b in pairwise(whole))
        for ds, drop in ((val, 1), (train, 2)):
            items, length = ds.extras["items"][row], int(ds.factors["length"][row])
            assert items[:length].tolist() == whole[: len(whole) - drop - 1] and int(ds.labels[row]) + 1 == whole[-1 - drop]
            assert (items[length:] == 0).all()
    shares = test.labels.bincount(minlength=1500).float().sort(descending=True).values
    assert shares[:150].sum() > 0.3 * shares.sum()  # a long tail, but not one item only


def test_movielens_is_read_from_a_folder(tmp_path):
    """Ratings are ordered by time within a user; a missing package or file, and a broken line, are named."""
    lines = ["user_id:token\titem_id:token\trating:float\ttimestamp:float"]
    lines += [f"7\t{item}\t4\t{time}" for item, time in ((30, 5), (10, 1), (20, 3), (40, 9), (50, 8))] + ["8\t10\t1\t2"]
    (tmp_path / "ml-100k.inter").write_text("\n".join(lines) + "\n")
    ds = load_sequences("test", source="ml-100k", folder=tmp_path)
    names = [ds.label_names[i - 1] for i in ds.extras["items"][0].tolist()]
    assert len(ds) == 1 and names == ["10", "20", "30", "50"] and ds.label_names[ds.labels[0]] == "40"
    (tmp_path / "ml-100k.inter").write_text("\n".join([*lines, "7 50"]))
    with pytest.raises(DataError, match="line 8"):
        load_sequences(source="ml-100k", folder=tmp_path)
    with pytest.raises(DataError, match="missing"):
        load_sequences(source="ml-100k", folder=tmp_path / "none")


def test_bad_options():
    """Unknown splits, sources and numbers of genres are refused."""
    with pytest.raises(UnknownNameError, match="dev"):
        load_movies("dev")
    with pytest.raises(UnknownNameError, match="beauty"):
        load_sequences(source="beauty")
    with pytest.raises(ValueError, match="genres"):
        load_movies(genres=0)
