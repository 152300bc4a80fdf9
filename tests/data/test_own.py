"""Your own data: three formats give the same set; whatever is wrong is named by file, row and column; nothing is executed."""

import io
import pickle
import re
import zipfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from workbench.data import own
from workbench.data.own import load_folder, load_own
from workbench.errors import DataError, UnknownNameError

COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}


def png(colour, size=(32, 32)):
    """A picture of one colour as PNG bytes."""
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, "png")
    return buffer.getvalue()


@pytest.fixture
def folder(tmp_path):
    """Three pictures with captions, labels, a split, a number and a text."""
    home = tmp_path / "mine"
    (home / "pictures").mkdir(parents=True)
    lines = ["file,caption,label,split,weight,place"]
    for i, (name, colour) in enumerate(COLOURS.items()):
        (home / "pictures" / f"{name}.png").write_bytes(png(colour))
        lines.append(
            f'pictures/{name}.png,"a {name}, plain square",{name},{"train" if i else "test"},{i + 0.5},{"in" if i else "out"}'
        )
    (home / "captions.csv").write_text("\n".join(lines) + "\n")
    return home


def rewrite(folder, old, new):
    """Replace a text in the table."""
    table = folder / "captions.csv"
    content = table.read_text()
    assert old in content
    table.write_text(content.replace(old, new, 1))


def test_a_folder_becomes_a_dataset(folder):
    """Pictures, captions with commas, labels, numbers and texts arrive row by row; a split selects."""
    ds = load_folder(folder, size=16)
    assert ds.name == "mine" and ds.images.shape == (3, 3, 16, 16)
    torch.testing.assert_close(ds.images.mean((2, 3)), torch.eye(3), atol=0.01, rtol=0)
    assert ds.captions == [f"a {name}, plain square" for name in COLOURS]
    assert [ds.label_names[i] for i in ds.labels] == list(COLOURS) and ds.label_names == ["blue", "green", "red"]
    assert ds.factors["weight"].tolist() == [0.5, 1.5, 2.5] and ds.factors["weight"].dtype == torch.float32
    assert [ds.factor_names["place"][i] for i in ds.factors["place"]] == ["out", "in", "in"]
    train = load_folder(folder, "train", size=16)
    assert train.captions == ds.captions[1:] and torch.equal(train.images, ds.images[1:])
    assert train.extras["file"] == ["pictures/green.png", "pictures/blue.png"]


def test_parquet_and_npz_give_the_same_set(folder, tmp_path):
    """The same rows as parquet (bytes, or structs as `datasets` writes them) and as npz give the same data set."""
    ds = load_own(folder, size=32)
    names = list(COLOURS)
    columns = {"caption": ds.captions, "label": names, "weight": [0.5, 1.5, 2.5], "place": ["out", "in", "in"]}
    encoded = [png(c) for c in COLOURS.values()]
    pq.write_table(pa.table({"image": encoded, **columns}), tmp_path / "plain.parquet")
    pq.write_table(pa.table({"image": [{"bytes": b, "path": None} for b in encoded], **columns}), tmp_path / "struct.parquet")
    pixels = np.stack([np.asarray(Image.open(io.BytesIO(b))) for b in encoded])
    texts = {k: np.array(v) for k, v in columns.items()}
    np.savez(tmp_path / "last.npz", images=pixels, captions=texts.pop("caption"), labels=texts.pop("label"), **texts)
    np.savez(tmp_path / "first.npz", images=pixels.transpose(0, 3, 1, 2) / np.float32(255))
    for name in ("plain.parquet", "struct.parquet", "last.npz"):
        other = load_own(tmp_path / name, size=32)
        assert torch.equal(other.images, ds.images) and other.captions == ds.captions, name
        assert torch.equal(other.labels, ds.labels) and other.label_names == ds.label_names
        for factor in ("weight", "place"):
            assert torch.equal(other.factors[factor], ds.factors[factor]), (name, factor)
    torch.testing.assert_close(load_own(tmp_path / "first.npz", size=16).images, load_own(folder, size=16).images)


def test_proportions_and_transparency_are_kept(tmp_path):
    """A wide picture leaves equal bands; clear pixels show the background; None gives premultiplied RGBA."""
    Image.new("RGBA", (40, 20), (255, 0, 0, 128)).save(tmp_path / "wide.png")
    (tmp_path / "captions.csv").write_text("file\nwide.png\n")
    image = load_own(tmp_path, size=8, background=(0.0, 0.0, 1.0)).images[0]
    assert torch.equal(image[:, 0], torch.tensor([0.0, 0.0, 1.0])[:, None].expand(3, 8)) and torch.equal(image[:, 0], image[:, 7])
    torch.testing.assert_close(image[:, 4, 4], torch.tensor([128 / 255, 0, 127 / 255]), atol=1e-5, rtol=0)
    torch.testing.assert_close(
        load_own(tmp_path, size=8, background=None).images[0, :, 4, 4], torch.tensor([0.502, 0, 0, 0.502]), atol=1e-3, rtol=0
    )


def test_labels_that_are_numbers_keep_their_order(tmp_path):
    """Labels 2, 10, 2 are the classes '2' and '10' in that order."""
    np.savez(tmp_path / "x.npz", labels=np.array([10, 2, 2]))
    ds = load_own(tmp_path / "x.npz")
    assert ds.label_names == ["2", "10"] and ds.labels.tolist() == [1, 0, 0] and ds.images is None


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("pictures/green.png", "pictures/gren.png", "captions.csv, row 1, column file: no picture 'pictures/gren.png'"),
        ("pictures/green.png", "../secret.png", "row 1, column file: no picture '../secret.png' inside"),
        ("pictures/green.png", "/etc/passwd", "row 1, column file: no picture '/etc/passwd' inside"),
        ("pictures/green.png", "pictures/\x00.png", "row 1, column file"),
        ('"a green, plain square"', '""', "row 1, column caption: want a text"),
        ('"a green, plain square"', "a green, plain square", "line 3: 7 fields, the header has 6"),
        ('"a green, plain square"', '"a green', "captions.csv, line"),
        (",green,train", ",,train", "row 1, column label: want a text or an integer"),
        ("1.5", "nan", "row 1, column weight: want a finite number"),
        ("1.5", "inf", "row 1, column weight: want a finite number"),
        ("file,caption", "name,caption", "no column 'file'"),
        ("caption,label", "caption,caption", "column names must be different"),
    ],
)
def test_a_bad_table_is_named_by_row_and_column(folder, old, new, words):
    """Missing pictures, ways out of the folder, empty texts, lost quotes, NaN and wrong headers."""
    (folder.parent / "secret.png").write_bytes(png((1, 2, 3)))
    rewrite(folder, old, new)
    with pytest.raises(DataError, match=re.escape(words)):
        load_own(folder)


def test_a_link_out_of_the_folder_is_refused(folder):
    """A link inside the folder to a picture outside is not followed."""
    (folder.parent / "secret.png").write_bytes(png((1, 2, 3)))
    (folder / "pictures" / "green.png").unlink()
    (folder / "pictures" / "green.png").symlink_to(folder.parent / "secret.png")
    with pytest.raises(DataError, match="row 1, column file: no picture"):
        load_own(folder)


@pytest.mark.parametrize("content", [b"", b"not a picture", png((9, 9, 9))[:60], b"<svg xmlns='http://www.w3.org/2000/svg'/>"])
def test_a_bad_picture_is_named_by_row(folder, content):
    """Empty, foreign, truncated and unsupported files are named."""
    (folder / "pictures" / "blue.png").write_bytes(content)
    with pytest.raises(DataError, match=r"captions.csv, row 2: blue.png is not a picture that can be read"):
        load_own(folder)


def test_a_decompression_bomb_is_refused(folder):
    """A small file of 81 million pixels is refused before it is decoded."""
    Image.new("1", (9_000, 9_000)).save(folder / "pictures" / "blue.png")
    assert (folder / "pictures" / "blue.png").stat().st_size < 100_000
    with pytest.raises(DataError, match=r"row 2: blue.png is not a picture .*9000 x 9000 pixels"):
        load_own(folder)


def test_other_tables_that_are_wrong(folder, tmp_path):
    """No table, empty table, other encodings, no rows, unknown splits and formats."""
    (folder / "captions.csv").write_bytes("file,caption\npictures/red.png,gr\xfcn\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"captions.csv, line 2: not UTF-8"):
        load_own(folder)
    (folder / "captions.csv").write_text("file,caption\n")
    with pytest.raises(DataError, match="has no rows"):
        load_own(folder)
    (folder / "captions.csv").write_text("")
    with pytest.raises(DataError, match="is empty"):
        load_own(folder)
    (folder / "captions.csv").unlink()
    with pytest.raises(DataError, match=r"has no captions.csv; write one"):
        load_own(folder)
    with pytest.raises(DataError, match="no file or folder"):
        load_own(tmp_path / "nowhere")
    (tmp_path / "x.pkl").write_bytes(pickle.dumps([1]))
    with pytest.raises(DataError, match="neither a folder"):
        load_own(tmp_path / "x.pkl")


def test_unknown_splits(folder):
    """A split that no row has, and a split of a table without that column."""
    with pytest.raises(UnknownNameError, match="'trian'; did you mean 'train'"):
        load_own(folder, "trian")
    rewrite(folder, "split", "part")
    with pytest.raises(UnknownNameError, match="has no column split"):
        load_own(folder, "train")


class Harmful:
    """Writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


def test_nothing_is_unpickled(tmp_path):
    """An npz with a pickled object is refused, and its code does not run."""
    trap = tmp_path / "trap"
    np.savez(tmp_path / "bad.npz", captions=np.array([Harmful(str(trap))], dtype=object))
    with pytest.raises(DataError, match=r"bad.npz, array captions: .*allow_pickle=False.*; save"):
        load_own(tmp_path / "bad.npz")
    (tmp_path / "raw.npz").write_bytes(pickle.dumps(Harmful(str(trap))))
    with pytest.raises(DataError, match=r"raw.npz cannot be read as npz"):
        load_own(tmp_path / "raw.npz")
    assert not trap.exists()


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"images": np.zeros((3, 8, 8))}, "array images: want uint8 or floats of shape"),
        ({"images": np.zeros((3, 3, 8, 8), dtype=np.int64)}, "array images: want uint8 or floats"),
        ({"images": np.zeros((3, 2, 8, 8))}, "want 1, 3 or 4 channels"),
        ({"images": np.zeros((3, 3, 8, 16))}, "want square pictures, got 8 x 16"),
        ({"images": np.full((3, 3, 8, 8), 2.0)}, "array images, row 0: floats must be in [0, 1]"),
        ({"images": np.concatenate([np.zeros((2, 1, 8, 8)), np.full((1, 1, 8, 8), np.nan)])}, "array images, row 2"),
        ({"images": np.zeros((3, 1, 8, 8)), "labels": np.arange(2)}, "all arrays must have one length"),
        ({"labels": np.zeros((3, 2), dtype=int)}, "array label: want shape (3,)"),
        ({"labels": np.array([0.5, 1.0])}, "row 0, column label: want a text or an integer"),
        ({"captions": np.array([1, 2])}, "row 0, column caption: want a text"),
        ({"captions": np.array(3)}, "want shape"),
        ({}, "is empty"),
    ],
)
def test_bad_arrays(tmp_path, arrays, words):
    """Shapes, types, ranges and lengths of arrays are checked, with the row where there is one."""
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(DataError, match=re.escape(words)):
        load_own(tmp_path / "x.npz")


def test_bad_parquet(tmp_path):
    """A damaged file, pictures that are not bytes, and missing values are named."""
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(DataError, match=r"broken.parquet cannot be read as parquet"):
        load_own(tmp_path / "broken.parquet")
    pq.write_table(pa.table({"image": [png((1, 1, 1)), None]}), tmp_path / "x.parquet")
    with pytest.raises(DataError, match="row 1, column image: want the bytes of a picture, got NoneType"):
        load_own(tmp_path / "x.parquet")
    pq.write_table(pa.table({"caption": ["one", None]}), tmp_path / "x.parquet")
    with pytest.raises(DataError, match="row 1, column caption: want a text, got None"):
        load_own(tmp_path / "x.parquet")
    pq.write_table(pa.table({"price": [1.0, None]}), tmp_path / "x.parquet")
    with pytest.raises(DataError, match="row 1, column price: want a finite number"):
        load_own(tmp_path / "x.parquet")


def test_an_npz_that_would_fill_the_memory_is_refused(tmp_path, monkeypatch):
    """Arrays that unpack to more than the limit, and a header that claims 10^15 rows, are one sentence each."""
    np.savez_compressed(tmp_path / "bomb.npz", labels=np.zeros(3_000_000, dtype=np.int64))
    assert (tmp_path / "bomb.npz").stat().st_size < 100_000
    monkeypatch.setattr(own, "LARGEST_ARRAYS", 20_000_000)
    with pytest.raises(DataError, match=r"bomb.npz holds 0.0 GiB of arrays, the limit is"):
        load_own(tmp_path / "bomb.npz")
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<i8", "fortran_order": False, "shape": (10**15,)})
    with zipfile.ZipFile(tmp_path / "claim.npz", "w") as archive:
        archive.writestr("labels.npy", header.getvalue() + bytes(80))
    with pytest.raises(DataError, match=r"claim.npz"):
        load_own(tmp_path / "claim.npz")
