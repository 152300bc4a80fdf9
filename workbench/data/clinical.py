"""Clinical terms for entity linking: ICD-10-CM titles with inclusion terms, and the Human Phenotype Ontology, as released."""

from __future__ import annotations

import re
from functools import cache, lru_cache
from typing import Any

import numpy as np
import torch

from workbench.data.dataset import Dataset
from workbench.data.files import data_dir, read_table, require_split
from workbench.data.texts import codes, columns_of, integers, lists, split_rows
from workbench.errors import UnknownNameError
from workbench.runtime import resolve_device

SOURCES = ("icd", "hpo")
VIEWS = ("mentions", "concepts", "definitions")
HPO_NOTICE = "This product uses the Human Phenotype Ontology (release 2025-01-16). Find out more at http://www.human-phenotype-ontology.org"
ROOT = "HP:0000118"  # phenotypic abnormality: its children are the organ-system branches


def load_clinical(
    split: str = "train", *, source: str = "icd", view: str = "mentions", device: str | torch.device = "cpu"
) -> Dataset:
    """Medical concepts and what they are called, with whole subtrees kept in one split.

    Args:
        split: 'train' (70 %), 'val' (10 %), 'test' (20 %) or 'all'. A concept whose texts nearly repeat one of a later split is in
            none of the three and comes with 'all' only.
        source: 'icd', the US diagnosis catalogue ICD-10-CM of April 2026; or 'hpo', the Human Phenotype Ontology.
        view: what a row is.

            - 'mentions', a synonym (ICD: inclusion term; HPO: EXACT synonym): captions, with the title in `extras["partner"]`;
            - 'concepts', a code: captions are the titles, `extras["synonyms"]`, `extras["definition"]` ('' for ICD) and
              `extras["parents"]` (codes);
            - 'definitions', HPO only: captions are the definitions, `extras["partner"]` the names.
        device: where the tensors live, such as 'cpu' or 'auto'.

    Returns:
        labels: chapter (ICD) or first organ-system branch (HPO; the last class collects terms outside all of them). Factors
        concept (equal for one code: not each other's negatives), branches (how many branches hold the term; 1 for ICD) and, in
        mentions, lay (1 for HPO's layperson words). extras id: the code. The first call takes 1 s and keeps 60 MB.

    Raises:
        UnknownNameError: split, source or view.
        DataError: a file of the set is missing or corrupt.

    Example:
        >>> ds = load_clinical("all", source="hpo")
        >>> i = ds.captions.index("Epileptic seizure")
        >>> ds.extras["partner"][i], ds.extras["id"][i]
        ('Seizure', 'HP:0001250')
    """
    require_split(split, "clinical split")
    if source not in SOURCES:
        raise UnknownNameError("clinical source", source, SOURCES)
    views = VIEWS if source == "hpo" else VIEWS[:2]
    if view not in views:
        raise UnknownNameError(f"view of {source}", view, views)
    place = resolve_device(device)
    c = columns_of("clinical", "icd.parquet") if source == "icd" else _hpo(str(data_dir()))
    rows = split_rows(c, split, "clinical")
    if view == "definitions":
        rows = rows[c["definition"][rows] != ""]
    names = [str(n) for n in dict.fromkeys(c["label"].tolist())]

    repeat = [len(s) for s in c["synonyms"][rows].tolist()] if view == "mentions" else 1
    at = np.repeat(rows, repeat)
    factors = {"concept": integers(at), "branches": integers(c["branches"][at])}
    extras: dict[str, Any] = {"id": c["id"][at].tolist()}
    captions = c["title"][at].tolist()
    if view == "mentions":
        extras["partner"] = captions
        captions = [s for cell in c["synonyms"][rows].tolist() for s in cell]
        lay = np.array([flag for cell in c["lay"][rows].tolist() for flag in cell], dtype=np.int64)
        factors["lay"] = torch.from_numpy(lay)
    elif view == "concepts":
        extras |= {"synonyms": lists(c["synonyms"][at]), "definition": c["definition"][at].tolist()}
        extras["parents"] = lists(c["parents"][at])
    else:
        extras["partner"], captions = captions, c["definition"][at].tolist()
    labels = codes(c["label"][at], names)
    return Dataset("clinical", split, None, labels, names, captions, factors, extras=extras).to(place)


def hpo_file() -> str:
    """The text of hp.obo, byte for byte as released (its terms allow no changed version to be passed on)."""
    return read_table("clinical", "hp.parquet")["content"][0].as_py().decode()


def read_obo(text: str) -> list[dict[str, Any]]:
    """The current terms of an ontology in OBO format: id, name, definition, exact synonyms, which of them are lay, parents."""
    terms = []
    for block in text.split("\n[Typedef]\n")[0].split("\n[Term]\n")[1:]:
        if "\nis_obsolete: true" in block:
            continue
        definition = re.search(r'^def: "((?:[^"\\]|\\.)*)"', block, re.M)
        synonyms = re.findall(r'^synonym: "((?:[^"\\]|\\.)*)" EXACT([^\[]*)', block, re.M)
        terms.append(
            {
                "id": re.match(r"id: (\S+)", block)[1],  # type: ignore[index]
                "name": re.search(r"^name: (.*)", block, re.M)[1],  # type: ignore[index]
                "definition": re.sub(r"\\(.)", r"\1", definition[1]) if definition else "",
                "synonyms": [re.sub(r"\\(.)", r"\1", s) for s, _ in synonyms],
                "lay": ["layperson" in kind for _, kind in synonyms],
                "parents": re.findall(r"^is_a: (\S+)", block, re.M),
            }
        )
    return terms


def hpo_branches(terms: list[dict[str, Any]]) -> list[list[str]]:
    """The organ-system branches (children of 'Phenotypic abnormality') of every term, in the order of the file."""
    parents = {t["id"]: t["parents"] for t in terms}

    @cache
    def above(code: str) -> frozenset[str]:
        ups = parents[code]
        return frozenset({code} if ROOT in ups else ()).union(*(above(up) for up in ups))

    order = {t["id"]: i for i, t in enumerate(terms)}
    return [sorted(above(t["id"]), key=order.__getitem__) for t in terms]


@lru_cache(maxsize=2)
def _hpo(folder: str) -> dict[str, np.ndarray]:
    terms = read_obo(hpo_file())
    names = {t["id"]: t["name"] for t in terms}
    branches = hpo_branches(terms)
    label = [names[b[0]] if b else "outside the phenotypes" for b in branches]
    columns: dict[str, list[Any]] = {key: [t[key] for t in terms] for key in ("id", "definition", "synonyms", "lay", "parents")}
    columns |= {"title": [t["name"] for t in terms], "label": label}
    split = columns_of("clinical", "hpo_splits.parquet")
    where = dict(zip(split["id"].tolist(), split["split"].tolist(), strict=True))
    columns["split"] = [where[t["id"]] for t in terms]
    found: dict[str, np.ndarray] = {"branches": np.array([len(b) for b in branches])}
    for key, values in columns.items():
        found[key] = np.empty(len(values), dtype=object)
        found[key][:] = values
    return found
