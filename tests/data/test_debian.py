"""Debian: a clear message before it is built, and the reading of a small table of its form."""

import runpy

import pyarrow as pa
import pytest

from workbench.data.build import write_table
from workbench.data.debian import load_debian
from workbench.data.files import data_dir
from workbench.errors import DataError, UnknownNameError


@pytest.fixture
def builder():
    """Functions of the builder script."""
    return runpy.run_path(str(data_dir() / "debian" / "build.py"))


def test_before_it_is_built(tmp_path, monkeypatch):
    """The message names the file and the command."""
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path))
    with pytest.raises(DataError, match=r"was not built: .*packages.parquet.*data/debian/build.py"):
        load_debian()


def test_a_small_table_is_read(tmp_path, monkeypatch):
    """Pairs of one-line and long text, or of English and a translation, by split."""
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path))
    (tmp_path / "debian").mkdir()
    names = ["bash", "dash", "vim"]
    columns = {
        "name": names,
        "source": names,
        "section": ["shells", "shells", "editors"],
        "synopsis": ["GNU shell", "small shell", "editor"],
    }
    columns |= {"description": ["long b", "long d", "long v"], "maintainer": ["m"] * 3, "split": ["train", "test", "train"]}
    columns |= {"tags": [["role::program"], [], ["use::editing"]], "depends": [["libc6"], [], []]}
    write_table(tmp_path / "debian" / "packages.parquet", pa.table(columns))
    rows = {"name": ["vim"], "language": ["fr"], "synopsis": ["éditeur"], "description": ["x"]}
    write_table(tmp_path / "debian" / "translations.parquet", pa.table(rows))
    ds = load_debian("train")
    assert ds.captions == ["GNU shell", "editor"] and ds.extras["partner"] == ["long b", "long v"]
    assert [ds.label_names[i] for i in ds.labels] == ["shells", "editors"] and ds.extras["tags"][1] == ["use::editing"]
    french = load_debian("all", language="fr")
    assert (french.captions, french.extras["partner"]) == (["editor"], ["éditeur"])
    with pytest.raises(UnknownNameError, match="tlh"):
        load_debian(language="tlh")


def test_fields_are_parsed(builder):
    """Grouped debtags are spread out; long texts lose the dots of empty lines."""
    assert builder["tags"]("role::{program,plugin}, use::editing") == {"role::program", "role::plugin", "use::editing"}
    assert builder["long_text"]("one line\n First.\n .\n Second.") == ("one line", "First.\n\nSecond.")
