"""Embedded files: found, intact, and never read when they are not; and what the builders promise."""

import hashlib
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
import yaml

from workbench.data import build, files
from workbench.data.mnist import load_mnist
from workbench.errors import DataError, UnknownNameError

EMBEDDED = ("clipart", "digits", "emoji", "mnist", "stamps", "voice")


@pytest.fixture
def copy(tmp_path, monkeypatch):
    """A copy of two small sets that the loaders read instead of the real ones."""
    for name in ("mnist", "digits"):
        shutil.copytree(files.data_dir() / name, tmp_path / name)
    monkeypatch.setenv("WORKBENCH_DATA", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("name", EMBEDDED)
def test_stored_files_are_the_recorded_ones(name):
    """Every set passes its own checksums, and no data file lies in its folder without one."""
    files.verify(name)
    folder = files.data_dir() / name
    stored = {p.name for p in folder.iterdir() if p.suffix not in (".md", ".py") and p.is_file()} - {files.CHECKSUMS}
    assert stored == set(files.checksums(name)) and stored


@pytest.mark.parametrize("name", EMBEDDED)
def test_cards_are_complete(name):
    """A card has its front matter, the sections that a reader needs, pinned sources, and licence texts beside it."""
    card = files.read_card(name)
    text = (files.data_dir() / name / files.CARD).read_text()
    assert card["name"] == name and card["rows"] > 0 and card["embedded"]
    assert all(source["version"] and source["licence"] for source in card["sources"])
    for heading in ("Splits", "How it was built", "Licence", "Known biases", "Not for"):
        assert f"\n## {heading}" in text, heading
    texts = list((files.data_dir() / name / "LICENSES").iterdir())
    assert texts and all(len(t.read_text()) > 500 for t in texts)
    assert f"[{name}]({name}/card.md)" in (files.data_dir() / "README.md").read_text()


def test_cards_name_the_tools_of_the_lock():
    """The versions that give the same bytes are those that the project installs."""
    lock = dict(line.split("==") for line in (files.data_dir().parent / "constraints.txt").read_text().split() if "==" in line)
    for name in EMBEDDED:
        for tool, version in files.read_card(name)["built_with"].items():
            assert lock[tool] == version, (name, tool)


def test_one_changed_byte_is_found(copy):
    """A flipped bit in the middle of a file is an error that names the file and the remedy; nothing is loaded."""
    path = copy / "mnist" / "digits.parquet"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    for broken in (lambda: files.verify("mnist"), lambda: load_mnist("val")):
        with pytest.raises(DataError, match=r"digits.parquet is corrupt.*git checkout -- data/mnist/digits.parquet.*build.py"):
            broken()
    files.verify("digits")
    rows = {row["name"]: row for row in files.describe_all()}
    assert not rows["mnist"]["checksum_ok"] and "corrupt" in rows["mnist"]["problem"] and rows["mnist"]["rows"] == 10_000
    assert rows["digits"]["checksum_ok"] and rows["digits"]["problem"] is None


def test_a_missing_file_is_named_with_its_remedy(copy):
    """Missing data, list of checksums, line in the list, card: each its own message."""
    (copy / "mnist" / "digits.parquet").unlink()
    with pytest.raises(DataError, match=r"digits.parquet cannot be read \(No such file.*git checkout"):
        load_mnist("val")
    (copy / "mnist" / files.CHECKSUMS).write_text("")
    with pytest.raises(DataError, match="is not listed in"):
        load_mnist("val")
    (copy / "mnist" / files.CHECKSUMS).write_text("garbage\n")
    with pytest.raises(DataError, match="SHA256SUMS, line 1"):
        files.verify("mnist")
    (copy / "mnist" / files.CARD).write_text("no front matter")
    with pytest.raises(DataError, match="front matter lacks name"):
        files.verify("mnist")
    (copy / "mnist" / files.CARD).write_text("---\nname: [\n---\n")
    with pytest.raises(DataError, match="not YAML"):
        files.verify("mnist")


def test_a_wrong_data_folder_is_named(tmp_path, monkeypatch):
    """A WORKBENCH_DATA that does not exist is said to be the reason; an unknown set lists the known ones."""
    with pytest.raises(UnknownNameError, match="did you mean 'mnist'"):
        files.verify("mnst")
    monkeypatch.setenv("WORKBENCH_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(DataError, match=r"nowhere.*named by WORKBENCH_DATA"):
        files.data_dir()


def test_describe_all_serves_the_list_command():
    """Each row has the keys of `workbench data list --json`; bytes are those on disk; all sets stay under 90 MB."""
    rows = {row["name"]: row for row in files.describe_all()}
    assert set(EMBEDDED) <= set(rows)
    for name in EMBEDDED:
        row = rows[name]
        assert {"name", "title", "rows", "modalities", "licence", "bytes", "checksum_ok"} <= set(row)
        on_disk = sum((files.data_dir() / name / file).stat().st_size for file in files.checksums(name))
        assert row["checksum_ok"] and row["bytes"] == on_disk > 0
    assert sum(row["bytes"] for row in rows.values() if row["name"] not in ("features", "examples")) < 90e6
    assert rows["emoji"]["bytes"] < 35e6


def slow_compose(rgba, side, background):
    """Pixel by pixel: mean premultiplied colour and mean alpha of each block, then the background through what is left."""
    n, _, h, _ = rgba.shape
    k = h // side
    value = rgba.tolist()
    out = torch.zeros(n, 3 if background else 4, side, side, dtype=torch.float64)
    for i in range(n):
        for y in range(side):
            for x in range(side):
                colour, alpha = [0.0, 0.0, 0.0], 0.0
                for v in range(k):
                    for u in range(k):
                        r, g, b, a = (value[i][c][y * k + v][x * k + u] / 255 for c in range(4))
                        alpha += a / k**2
                        colour = [c + part * a / k**2 for c, part in zip(colour, (r, g, b), strict=True)]
                if background:
                    out[i, :, y, x] = torch.tensor([c + (1 - alpha) * b for c, b in zip(colour, background, strict=True)])
                else:
                    out[i, :, y, x] = torch.tensor([*colour, alpha])
    return out


@pytest.mark.parametrize("background", [(1.0, 1.0, 1.0), (0.1, 0.5, 0.9), None])
@pytest.mark.parametrize("side", [6, 4])
def test_compose_equals_the_slow_reference(side, background):
    """Resizing and laying over a colour equals the mean of premultiplied colour, written as loops."""
    rgba = torch.randint(0, 256, (1, 4, 12, 12), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    assert 0 < rgba[:, 3].float().mean() < 255  # transparency takes part
    torch.testing.assert_close(
        files.compose(rgba, side, background).double(), slow_compose(rgba, side, background), rtol=0, atol=2e-6
    )


@pytest.mark.parametrize("side", [4, 5, 8, 11, 16])
def test_colour_under_transparent_pixels_never_shows(side):
    """Whatever colour hides where alpha is zero, the picture is the same, at sizes that divide and sizes that do not."""
    rgba = torch.zeros(1, 4, 16, 16, dtype=torch.uint8)
    rgba[:, :, 4:12, 4:12] = 255
    hidden = rgba.clone()
    hidden[:, 0] = 255  # red everywhere, seen or not; white stays white
    assert not torch.equal(rgba, hidden)
    for background in ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0), None):
        torch.testing.assert_close(files.compose(rgba, side, background), files.compose(hidden, side, background))


@pytest.mark.parametrize(
    ("size", "error"), [(3, ValueError), (257, ValueError), (32.0, TypeError), (True, TypeError), ("32", TypeError)]
)
def test_wrong_sizes_are_refused(size, error):
    """A size is an integer from 4 to 256."""
    with pytest.raises(error, match="size must be"):
        files.require_size(size)


@pytest.mark.parametrize("background", [(1, 1), "white", (0, 0, 255), (float("nan"), 0, 0), 1.0])
def test_wrong_backgrounds_are_refused(background):
    """A background is None or three numbers in [0, 1]; 8-bit colours, names and NaN are not."""
    with pytest.raises(ValueError, match="background must be"):
        files.require_background(background)


# ---- builders ----------------------------------------------------------------------------------------------------------------


def test_splits_keep_families_and_fractions():
    """No family is divided, each stratum is near 70 / 10 / 20, and the order of rows does not matter."""
    families = [f"f{i // (1 + i % 3)}" for i in range(600)]
    strata = [families[i][-1] for i in range(600)]
    split = build.assign_splits(families, strata)
    assert len({(f, s) for f, s in zip(families, split, strict=True)}) == len(set(families)) < 600
    for stratum in set(strata):
        rows = [s for s, t in zip(split, strata, strict=True) if t == stratum]
        for name, fraction in build.FRACTIONS.items():
            assert abs(rows.count(name) / len(rows) - fraction) < 0.08, (stratum, name)
    order = np.random.default_rng(0).permutation(600)
    again = build.assign_splits([families[i] for i in order], [strata[i] for i in order])
    assert again == [split[i] for i in order]


def test_connected_merges_chains():
    """Rows that are linked through others are one group, named by its smallest member; the rest stay alone."""
    assert build.connected(6, [(4, 2), (5, 4), (1, 0)]) == [0, 0, 2, 3, 2, 2]
    assert build.connected(3, []) == [0, 1, 2]


def test_written_tables_are_bit_identical_and_complete(tmp_path):
    """The same rows give the same bytes, come back as they were, and keep their row groups."""
    table = pa.table({"number": [1, 2, 3], "words": [["a"], [], ["b", "c"]], "blob": [b"x", b"", b"yy"]})
    for name in ("one", "two"):
        build.write_table(tmp_path / f"{name}.parquet", table, table.slice(0, 1), plain=["blob"])
    assert (tmp_path / "one.parquet").read_bytes() == (tmp_path / "two.parquet").read_bytes()
    (tmp_path / "toy").mkdir()
    (tmp_path / "one.parquet").rename(tmp_path / "toy" / "one.parquet")
    build.write_checksums(tmp_path / "toy")
    line = (tmp_path / "toy" / files.CHECKSUMS).read_text()
    assert line == f"{hashlib.sha256((tmp_path / 'two.parquet').read_bytes()).hexdigest()}  one.parquet\n"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WORKBENCH_DATA", str(tmp_path))
        assert files.read_table("toy", "one.parquet", row_groups=[0]).to_pydict() == table.to_pydict()
        assert files.read_table("toy", "one.parquet", columns=["number"])["number"].to_pylist() == [1, 2, 3, 1]


def test_webp_is_lossless_where_it_is_seen():
    """Colour and alpha come back exactly; colour under alpha 0 is stored as zero."""
    rgba = np.random.default_rng(0).integers(0, 256, (16, 16, 4), dtype=np.uint8)
    rgba[:8, :, 3] = 0
    back = files.decode_pictures([build.lossless_webp(rgba)])[0].transpose(1, 2, 0)
    assert np.array_equal(back[8:], rgba[8:]) and not back[:8].any()


def test_svg_is_fitted_and_centred(tmp_path):
    """A drawing twice as wide as high fills the width and leaves equal bands above and below."""
    pytest.importorskip("resvg_py")
    path = tmp_path / "wide.svg"
    path.write_text(
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 20 10"><rect width="20" height="10" fill="#00f"/></svg>'
    )
    drawn = build.render_svg(path, 16)
    assert drawn.shape == (16, 16, 4)
    assert (drawn[4:12] == [0, 0, 255, 255]).all() and not drawn[:4].any() and not drawn[12:].any()


def test_a_package_that_is_not_the_pinned_one_is_refused(tmp_path, monkeypatch):
    """A cached file with another SHA-256 is an error that names it; a missing client and a failing one are too."""
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path))
    package = build.Package("npm", "@scope/toy", "1.0.0", "0" * 64)
    (tmp_path / "scope-toy-1.0.0.tgz").write_bytes(b"something else")
    with pytest.raises(DataError, match=r"scope-toy-1.0.0.tgz has SHA-256 .* delete the file"):
        build.fetch(package)
    monkeypatch.setattr(build.Package, "command", lambda self, folder: ["no-such-client", "get"])
    with pytest.raises(DataError, match="no-such-client is needed"):
        build.fetch(build.Package("npm", "other", "1.0.0", ""))
    monkeypatch.setattr(build.Package, "command", lambda self, folder: ["false", "get"])
    with pytest.raises(DataError, match=r"false get could not fetch other 1.0.0: exit code 1"):
        build.fetch(build.Package("npm", "other", "1.0.0", ""))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["scope-toy-1.0.0.tgz"]


def test_front_matter_is_plain_yaml():
    """Cards can be read by any tool: the block between the dashes is YAML with the promised fields."""
    for card in Path(files.data_dir()).glob("*/card.md"):
        if card.parent.name in EMBEDDED:
            assert set(files.CARD_FIELDS) <= set(yaml.safe_load(card.read_text().split("---\n")[1]))
