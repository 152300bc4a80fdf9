"""Clinical terms: counts, the untouched ontology file, subtrees and near-duplicates inside one split."""

import hashlib

import pytest

from workbench.data.clinical import hpo_branches, hpo_file, load_clinical, read_obo
from workbench.data.files import verify
from workbench.data.near_duplicates import content_words
from workbench.errors import UnknownNameError

SPLITS = ("train", "val", "test")


def test_counts():
    """Numbers of codes, synonyms and definitions are those of the releases."""
    verify("clinical")
    assert len(load_clinical("all", view="concepts")) == 46_881 and len(load_clinical("all")) == 12_569
    assert len(load_clinical("all", source="hpo", view="concepts")) == 19_034
    assert len(load_clinical("all", source="hpo")) == 21_078
    assert len(load_clinical("all", source="hpo", view="definitions")) == 16_449
    assert len(load_clinical("all").label_names) == 22


def test_the_ontology_file_is_the_released_one():
    """hp.obo is stored byte for byte, with its version and licence lines, as its terms demand."""
    text = hpo_file()
    assert hashlib.sha256(text.encode()).hexdigest() == "6b77de067eecc838319ce7650ed5bab0f92a502eabb160e6bc7c0238bc1548c5"
    assert "data-version: hp/releases/2025-01-16" in text and "terms:license https://hpo.jax.org/app/license" in text


def test_obo_is_read_right():
    """A hand-made file: obsolete terms dropped, escapes undone, only EXACT synonyms, lay ones marked, branches found."""
    terms = read_obo(
        "format-version: 1.2\n\n[Term]\nid: HP:0000118\nname: Phenotypic abnormality\n\n[Term]\nid: HP:1\nname: Branch\nis_a: HP:0000118 ! x\n\n"
        '[Term]\nid: HP:2\nname: Leaf\ndef: "A \\"big\\" leaf." [x]\nsynonym: "Blade" EXACT layperson []\n'
        'synonym: "Foil" EXACT []\nsynonym: "Wing" RELATED []\nis_a: HP:1 ! Branch\n\n'
        "[Term]\nid: HP:3\nname: Gone\nis_obsolete: true\n\n[Typedef]\nid: part_of\nname: part of\n"
    )
    assert [t["id"] for t in terms] == ["HP:0000118", "HP:1", "HP:2"]
    assert terms[2]["definition"] == 'A "big" leaf.' and terms[2]["synonyms"] == ["Blade", "Foil"]
    assert terms[2]["lay"] == [True, False] and hpo_branches(terms) == [[], ["HP:1"], ["HP:1"]]


def test_known_links():
    """Mentions point at their titles, parents at their codes."""
    ds = load_clinical("all", source="hpo")
    lay = [t for t, flag in zip(ds.captions, ds.factors["lay"].tolist(), strict=True) if flag]
    assert 3000 < len(lay) < len(ds) and ds.extras["partner"][ds.captions.index("Epileptic seizure")] == "Seizure"
    icd = load_clinical("all", view="concepts")
    row = icd.extras["id"].index("A01.01")
    assert icd.captions[row] == "Typhoid meningitis" and icd.extras["parents"][row] == ["A01.0"]


@pytest.mark.parametrize("source", ["icd", "hpo"])
def test_no_subtree_and_no_near_duplicate_crosses_splits(source):
    """Each split has its share; ICD categories are in one split; no two texts of different splits have the same content words."""
    owner, category, sizes = {}, {}, []
    for split in SPLITS:
        ds = load_clinical(split, source=source, view="concepts")
        sizes.append(len(ds))
        for title, synonyms, code in zip(ds.captions, ds.extras["synonyms"], ds.extras["id"], strict=True):
            if source == "icd":
                assert category.setdefault(code[:3], split) == split
            for text in (title, *synonyms):
                assert owner.setdefault(content_words(text), split) == split, text
    whole = len(load_clinical("all", source=source, view="concepts"))
    assert 0.95 * whole < sum(sizes) < whole
    assert sizes[0] > 0.6 * whole and sizes[1] > 0.05 * whole and sizes[2] > 0.15 * whole


def test_every_mention_is_in_the_split_of_its_concept():
    """Views agree: the concepts of the mentions of a split are those of the split."""
    for source in ("icd", "hpo"):
        for split in SPLITS:
            mine = set(load_clinical(split, source=source, view="concepts").factors["concept"].tolist())
            assert set(load_clinical(split, source=source).factors["concept"].tolist()) <= mine


def test_unknown_names():
    """Splits, sources and views that do not exist are refused by name; ICD has no definitions."""
    for options in ({"split": "dev"}, {"source": "snomed"}, {"view": "names"}, {"view": "definitions"}):
        with pytest.raises(UnknownNameError, match=str(next(iter(options.values())))):
            load_clinical(**options)
