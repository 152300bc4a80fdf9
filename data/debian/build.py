"""Build the debian set in the cache folder: packages, descriptions and translations, from the distribution's own lists.

    python data/debian/build.py [--out FOLDER]

Needs apt with a configured Debian archive; changes nothing in the system. About a minute, and 40 MB of download.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from workbench.data.build import assign_splits, cache_dir, connected, run, write_table
from workbench.data.debian import LANGUAGES
from workbench.errors import DataError

HELPER = "/usr/lib/apt/apt-helper"


def fetch_lists(folder: Path) -> Path:
    """Download package lists and translations into `folder`, with the system's sources and keys."""
    lists, cache = folder / "lists", folder / "cache"
    (lists / "partial").mkdir(parents=True)
    (cache / "archives" / "partial").mkdir(parents=True)
    options = {
        "Dir::State::lists": lists,
        "Dir::Cache": cache,
        "Acquire::Languages": ",".join(("en", *LANGUAGES)),
        "APT::Sandbox::User": "root",
    }
    command = ["apt-get", "-q", *(part for k, v in options.items() for part in ("-o", f"{k}={v}")), "update"]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)
    except FileNotFoundError:
        raise DataError("apt-get is needed to build the debian set; run this on Debian or a relative of it") from None
    except subprocess.CalledProcessError as error:
        raise DataError(f"apt-get update failed: {error.stderr.strip().splitlines()[-1:]}") from None
    return lists


def stanzas(path: Path) -> Iterator[dict[str, str]]:
    """The paragraphs of a list, packed or not, as field -> text (continuation lines kept)."""
    text = subprocess.run([HELPER, "cat-file", str(path)], check=True, capture_output=True).stdout.decode("utf8", "replace")
    for block in text.split("\n\n"):
        fields = re.findall(r"^([A-Za-z0-9_-]+):[ ]?((?:.*)(?:\n[ \t].*)*)", block, re.M)
        if fields:
            yield dict(fields)


def long_text(text: str) -> tuple[str, str]:
    """One-line and long description of a description field."""
    first, *rest = text.split("\n")
    lines = ["" if line.strip() == "." else line.strip() for line in rest]
    return first.strip(), "\n".join(lines).strip()


def build(folder: Path) -> None:
    """Write packages and translations into `folder`."""
    with tempfile.TemporaryDirectory() as scratch:
        lists = fetch_lists(Path(scratch))
        found = {path: path.name for path in sorted(lists.iterdir()) if path.is_file()}
        texts: dict[tuple[str, str], tuple[str, str]] = {}
        for path, name in found.items():
            if match := re.search(r"_i18n_Translation-([A-Za-z_]+)", name):
                for s in stanzas(path):
                    if text := s.get(f"Description-{match[1]}"):
                        texts[s["Package"], match[1]] = long_text(text)
        packages: dict[str, dict[str, str]] = {}
        for path, name in found.items():
            if re.search(r"_main_binary-\w+_Packages", name):
                for s in stanzas(path):
                    packages.setdefault(s["Package"], s)
    if not packages:
        raise DataError("the lists hold no package of the section main; check the apt sources")
    names = sorted(packages)
    rows = [packages[name] for name in names]
    english = [texts.get((n, "en"), long_text(r.get("Description", ""))) for n, r in zip(names, rows, strict=True)]
    source = [r.get("Source", r["Package"]).split(" ")[0] for r in rows]
    sections = [r.get("Section", "").split("/")[-1] for r in rows]
    first: dict[str, int] = {}
    together = [(first.setdefault(f"source {s}", i), i) for i, s in enumerate(source)]
    together += [(first.setdefault(f"text {d}", i), i) for i, (_, d) in enumerate(english) if d]
    together += [(first.setdefault(f"line {d}", i), i) for i, (d, _) in enumerate(english)]
    families = [names[f] for f in connected(len(names), together)]
    strings = pa.list_(pa.string())
    columns = {
        "name": names,
        "source": source,
        "section": sections,
        "synopsis": [one for one, _ in english],
        "description": [long for _, long in english],
        "maintainer": [r.get("Maintainer", "") for r in rows],
        "tags": pa.array([sorted(tags(r.get("Tag", ""))) for r in rows], strings),
        "depends": pa.array([re.findall(r"(?:^|[,|])\s*([a-z0-9][a-z0-9.+-]*)", r.get("Depends", "")) for r in rows], strings),
        "split": assign_splits(families, sections),
    }
    write_table(folder / "packages.parquet", pa.table(columns))
    cells = [(n, language, *texts[n, language]) for n in names for language in LANGUAGES if (n, language) in texts]
    keys = ("name", "language", "synopsis", "description")
    write_table(folder / "translations.parquet", pa.table(dict(zip(keys, map(list, zip(*cells, strict=True)), strict=True))))


def tags(text: str) -> set[str]:
    """Debtags of a tag field; 'role::{program,plugin}' stands for two."""
    found = set()
    for facet, group, single in re.findall(r"([a-z0-9-]+)::(?:\{([^}]*)\}|([^,\s]+))", text):
        found |= {f"{facet}::{value.strip()}" for value in (group or single).split(",")}
    return found


if __name__ == "__main__":
    # The texts are not ours to pass on, so the default folder is the cache, outside the repository.
    run(build, str(cache_dir() / "debian" / "build.py"))
