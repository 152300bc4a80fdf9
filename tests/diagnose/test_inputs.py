"""A user's files: every format gives the same numbers; whatever is wrong is one named sentence; nothing runs, nothing vanishes."""

import io
import json
import os
import pickle
import zipfile

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from workbench.diagnose import arrays
from workbench.diagnose.arrays import read_embeddings
from workbench.diagnose.columns import list_pictures, read_factors, read_labels, read_texts
from workbench.diagnose.inputs import read_inputs
from workbench.errors import DataError

X = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)


def write(folder):
    """The same embeddings in every format."""
    np.save(folder / "a.npy", X)
    np.savez(folder / "b.npz", image=X, text=X[::-1])
    np.savez(folder / "one.npz", x=X)
    save_file({"x": torch.from_numpy(X)}, folder / "c.safetensors")
    save_file({"x": torch.from_numpy(X).bfloat16()}, folder / "half.safetensors")
    wide = pd.DataFrame(X.astype(np.float64), columns=[f"d{i}" for i in range(4)])
    wide.to_csv(folder / "d.csv", index=False)
    wide.to_csv(folder / "d.tsv", index=False, sep="\t")
    wide.to_parquet(folder / "e.parquet")
    pd.DataFrame({"id": list("abcdef"), "caption": list("ABCDEF"), "embedding": list(X)}).to_parquet(folder / "f.parquet")


def test_every_format_gives_the_same_numbers(tmp_path):
    """npy, npz, safetensors, csv, tsv and parquet (columns or lists) hold the same six rows; bfloat16 to its precision."""
    write(tmp_path)
    for name in ("a.npy", "one.npz", "b.npz::image", "c.safetensors", "d.csv", "d.tsv", "e.parquet", "f.parquet"):
        e = read_embeddings(tmp_path / name)
        np.testing.assert_allclose(e.values, X, rtol=1e-6, err_msg=name)
        assert e.values.dtype == np.float32 and e.rows.tolist() == list(range(6)) and not e.warnings and len(e) == 6
    np.testing.assert_allclose(read_embeddings(tmp_path / "half.safetensors").values, X, rtol=1e-2)
    listed = read_embeddings(tmp_path / "f.parquet")
    assert listed.ids == tuple("abcdef") and listed.columns == {"caption": list("ABCDEF")} and listed.name == "f"
    assert read_embeddings(X.astype(np.float16), name="mine").name == "mine"


def test_rows_without_a_direction_are_counted(tmp_path):
    """NaN, infinite, overflowing and zero rows are left out, counted by kind, and the others keep their places."""
    x = X.astype(np.float64)
    x[1, 2], x[2, 0], x[3], x[4, 1] = np.nan, np.inf, 0.0, 1e300
    np.save(tmp_path / "x.npy", x)
    e = read_embeddings(tmp_path / "x.npy")
    assert e.rows.tolist() == [0, 5] and np.array_equal(e.values, X[[0, 5]])
    assert e.warnings == (
        "x: 3 of 6 rows have NaN or infinite entries and are left out (rows 1, 2, 4)",
        "x: 1 of 6 rows have only zeros and are left out (rows 3)",
    )


class Harmful:
    """An object whose unpickling makes a folder."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def npy(header, body=b""):
    """Bytes of an npy file with a header of one's own."""
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, header)
    return buffer.getvalue() + body


def test_nothing_is_executed(tmp_path):
    """Pickled objects in npy and npz files are refused by name, and their code does not run."""
    trap = tmp_path / "trap"
    harm = np.array([Harmful(str(trap)), 1], dtype=object)
    np.save(tmp_path / "x.npy", harm, allow_pickle=True)
    np.savez(tmp_path / "x.npz", a=harm)
    (tmp_path / "raw.npy").write_bytes(pickle.dumps(harm))
    for name in ("x.npy", "x.npz", "raw.npy"):
        with pytest.raises(DataError, match=rf"{name} (holds Python objects|cannot be read as npy)"):
            read_embeddings(tmp_path / name)
    assert not trap.exists()


def test_claims_of_size_are_not_believed(tmp_path, monkeypatch):
    """A header of a billion rows, and arrays that unpack to more than the limit, are one sentence before memory is asked for."""
    head = {"descr": "<f4", "fortran_order": False, "shape": (10**9, 512)}
    (tmp_path / "claim.npy").write_bytes(npy(head, bytes(4096)))
    with zipfile.ZipFile(tmp_path / "claim.npz", "w") as archive:
        archive.writestr("x.npy", npy({**head, "shape": (10**15, 512)}, bytes(4096)))
    for name in ("claim.npy", "claim.npz"):
        with pytest.raises(DataError, match=rf"{name} cannot be read"):
            read_embeddings(tmp_path / name)
    np.savez_compressed(tmp_path / "bomb.npz", x=np.zeros((1_000_000, 4), np.float32))
    assert (tmp_path / "bomb.npz").stat().st_size < 50_000
    monkeypatch.setattr(arrays, "LARGEST", 10_000_000)
    with pytest.raises(DataError, match=r"bomb.npz unpacks to 0.0 GiB, the limit"):
        read_embeddings(tmp_path / "bomb.npz")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("x.csv", b"a,b\n1,2\n3,x\n", "row 1, column b: want a number, got 'x'"),
        ("x.csv", b"a,b\n1,2\n3,\xff\n", "not UTF-8"),
        ("x.csv", b"a,b\n1,2\n3,4,5\n", "cannot be read as csv"),
        ("x.csv", b"a,b\n", "has no rows"),
        ("x.csv", b"", "cannot be read as csv"),
        ("x.csv", b"a,a\n1,2\n3,4\n", "names the column 'a' twice"),
        ("x.csv", b"a,b\n1,2\n", "1 of 1 rows can be used, at least 2"),
        ("x.csv", b"id,a\nu,1\nu,2\n", "1 ids are repeated .*'u'"),
        ("x.csv", b"text,label\nu,1\nv,2\n", "no numeric column"),
        ("x.parquet", b"PAR1 nonsense", "cannot be read as parquet"),
        ("x.npz", b"PK nonsense", "cannot be read as npz"),
        ("x.safetensors", b"\xff" * 64, "cannot be read as safetensors"),
        ("x.pt", b"", r"ending .pt; embeddings are read from"),
    ],
)
def test_a_bad_file_is_one_sentence(tmp_path, name, content, words):
    """Each broken file is refused with its name, the place and what is wanted."""
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=words) as caught:
        read_embeddings(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_bad_arrays(tmp_path):
    """Another shape or kind of numbers, ragged lists, and a choice between arrays are named."""
    for value, words in (
        (X[0], r"shape \(n, d\)"),
        (X.astype(complex), "real numbers"),
        (X[:, :0], "at least one column"),
        (X > 0, "real numbers"),
    ):
        with pytest.raises(DataError, match=words):
            read_embeddings(value)
    write(tmp_path)
    with pytest.raises(DataError, match=r"b.npz holds image .*text .*say which one, as in b.npz::NAME"):
        read_embeddings(tmp_path / "b.npz")
    with pytest.raises(DataError, match="no array 'audio', it has image, text"):
        read_embeddings(str(tmp_path / "b.npz") + "::audio")
    pd.DataFrame({"e": [[1.0, 2.0], [1.0]]}).to_parquet(tmp_path / "ragged.parquet")
    with pytest.raises(DataError, match="row 1, column e: a list of 1 values, row 0 has 2"):
        read_embeddings(tmp_path / "ragged.parquet")


def test_texts_labels_and_factors(tmp_path):
    """The same texts from every format; labels become codes in natural order; a table is matched by id."""
    texts = ["naïve", "<script>", "c"]
    (tmp_path / "t.txt").write_text("\n".join(texts) + "\n", encoding="utf-8")
    (tmp_path / "t.jsonl").write_text("".join(json.dumps({"caption": t}) + "\n" for t in texts))
    (tmp_path / "t.json").write_text(json.dumps(texts))
    pd.DataFrame({"id": list("zyx"), "text": texts[::-1], "label": [10, 9, 9]}).to_csv(tmp_path / "t.csv", index=False)
    for name in ("t.txt", "t.jsonl", "t.json"):
        assert read_texts(tmp_path / name, 3) == texts
    assert read_texts(tmp_path / "t.csv", 3, ids=list("xyz")) == texts and read_texts(tmp_path / "t.csv", 3) == texts[::-1]
    codes, names = read_labels(tmp_path / "t.csv", 3, ids=list("xyz"))
    assert names == ("9", "10") and codes.tolist() == [0, 0, 1]
    assert read_labels(["b", "a", "b"], 3)[0].tolist() == [1, 0, 1]
    pd.DataFrame({"colour": ["red", "blue", "red"], "size": [1.0, 2.0, 2.0]}).to_parquet(tmp_path / "f.parquet")
    factors = read_factors(tmp_path / "f.parquet", 3)
    assert factors["colour"][1] == ("blue", "red") and factors["size"][0].tolist() == [0, 1, 1]
    for call, words in (
        (lambda: read_texts(tmp_path / "t.txt", 4), "t.txt has 3 entries for 4 rows"),
        (lambda: read_texts(["a", 1], 2), "row 1: want a text, got 1"),
        (lambda: read_texts(tmp_path / "none.txt", 2), "no file"),
        (lambda: read_texts(tmp_path / "f.parquet", 3), "no column text or caption, it has colour, size"),
        (lambda: read_texts(tmp_path / "t.csv", 3, ids=list("xyw")), r"no row for 1 of 3 ids \(first: 'w'\)"),
        (lambda: read_labels(["a", "a"], 2), "at least two different values"),
        (lambda: read_labels(["a", 1.5], 2), "row 1: want a text or an integer, got 1.5"),
        (lambda: read_labels(["a", None], 2), "row 1: want a text"),
    ):
        with pytest.raises(DataError, match=words):
            call()
    (tmp_path / "bad.jsonl").write_text('"a"\n{"text": \n')
    with pytest.raises(DataError, match="line 2: not JSON"):
        read_texts(tmp_path / "bad.jsonl", 2)


def test_pictures_by_id_or_in_order(tmp_path):
    """Pictures are matched by id where there are ids, in the order of their names otherwise; a missing one is named."""
    for name in "cab":
        Image.new("RGB", (4, 4)).save(tmp_path / f"{name}.png")
    (tmp_path / "notes.txt").write_text("no picture")
    assert [p.stem for p in list_pictures(tmp_path, 3)] == list("abc")
    assert [p.stem for p in list_pictures(tmp_path, 2, ids=["b", "c.png"])] == ["b", "c"]
    with pytest.raises(DataError, match="holds 3 pictures for 4 rows"):
        list_pictures(tmp_path, 4)
    with pytest.raises(DataError, match=r"no picture for 1 of 2 ids \(first: 'z'\)"):
        list_pictures(tmp_path, 2, ids=["a", "z"])


def test_sets_are_put_on_common_rows(tmp_path):
    """A row that one of two sets cannot use is left out of both; labels and texts follow; the loss is counted."""
    a, b = X.copy(), X[:, ::-1].copy()
    a[1], b[4, 0] = 0, np.nan
    np.save(tmp_path / "a.npy", a)
    np.save(tmp_path / "b.npy", b)
    got = read_inputs([tmp_path / "a.npy", tmp_path / "b.npy"], pairs=True, labels=list("uvuvuv"), texts=list("ABCDEF"))
    assert got.rows.tolist() == [0, 2, 3, 5] and got.paired and got.aligned and len(got) == 4
    assert np.array_equal(got.sets[0].values, X[[0, 2, 3, 5]]) and np.array_equal(got.sets[1].values, X[[0, 2, 3, 5], ::-1])
    assert got.texts == tuple("ACDF") and got.labels[0].tolist() == [0, 0, 1, 1]
    assert len(got.warnings) == 3 and "4 common rows" in got.warnings[-1]


def test_sets_with_ids_are_matched_by_id(tmp_path):
    """Shuffled rows of a second file meet their partners by id, rows of one file alone are left out and counted."""
    ids = list("abcdef")
    order = [3, 0, 5, 1, 2]
    pd.DataFrame({"id": ids, "caption": ids, "e": list(X)}).to_parquet(tmp_path / "a.parquet")
    pd.DataFrame({"id": [ids[i] for i in order], "e": list(X[order])}).to_parquet(tmp_path / "b.parquet")
    got = read_inputs([tmp_path / "a.parquet", tmp_path / "b.parquet"], pairs=True)
    assert got.rows.tolist() == [0, 1, 2, 3, 5] and np.array_equal(got.sets[0].values, got.sets[1].values)
    assert got.texts == tuple("abcdf") and any("5 common rows" in w for w in got.warnings)


def test_sets_that_do_not_fit(tmp_path):
    """Paired sets need equal length and width; unpaired ones of other lengths are measured one by one, and that is said."""
    with pytest.raises(DataError, match=r"embeddings .1. has 6 rows, embeddings .2. has 5 rows"):
        read_inputs([X, X[:5]], pairs=True)
    with pytest.raises(DataError, match="share one space, but a has 4 columns and b has 3 columns"):
        read_inputs([X, X[:, :3]], names=["a", "b"], pairs=True)
    got = read_inputs([X, X[:5]], names=["a", "b"])
    assert not got.aligned and len(got.sets[1]) == 5 and "one by one" in got.warnings[0]
    with pytest.raises(ValueError, match="two sets"):
        read_inputs([X], pairs=True)
    with pytest.raises(ValueError, match="at least one"):
        read_inputs([])
