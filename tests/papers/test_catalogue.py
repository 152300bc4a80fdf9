"""The catalogue holds all papers, each well formed; a malformed entry says what is wrong with it."""

import pytest
import yaml

from workbench.errors import UnknownNameError, WorkbenchError
from workbench.papers import find_paper, load_catalogue
from workbench.papers.catalogue import CATALOGUE, PARTS


def test_all_83_papers_with_complete_entries():
    papers = load_catalogue()
    assert len(papers) == 83
    for paper in papers.values():
        assert paper.authors and paper.venue and paper.title and 2015 <= paper.year <= 2026
        assert len(paper.arxiv) == 10 and paper.arxiv[4] == "."
        assert paper.part in PARTS and paper.notebook.name == f"{paper.slug}.ipynb"
        assert len(paper.claims) >= 3 and paper.headline.headline


def test_arxiv_numbers_differ():
    numbers = [p.arxiv for p in load_catalogue().values()]
    assert len(set(numbers)) == len(numbers)


def test_unknown_slug_names_the_nearest():
    with pytest.raises(UnknownNameError, match="contrastive-loss-behaviour"):
        find_paper("contrastive-loss-behavior")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda e: e.pop("venue"), "venue"),
        (lambda e: e.update(colour="red"), "colour"),
        (lambda e: e.update(part="11-nowhere"), "part"),
        (lambda e: e["claims"][0].update(relation="~"), "relation"),
        (lambda e: e["claims"][0].update(expected={"ci": "surely"}), "verdicts"),
        (lambda e: [c.pop("headline", None) for c in e["claims"]], "headline"),
        (lambda e: e["claims"].append(e["claims"][0]), "ids must differ"),
    ],
)
def test_a_malformed_entry_says_what_is_wrong(tmp_path, change, message):
    entry = yaml.safe_load(CATALOGUE.read_text(encoding="utf8"))[0]
    change(entry)
    path = tmp_path / "catalogue.yaml"
    path.write_text(yaml.safe_dump([entry]))
    with pytest.raises(WorkbenchError, match=message):
        load_catalogue(path)


def test_a_slug_that_stands_twice_is_refused(tmp_path):
    entry = yaml.safe_load(CATALOGUE.read_text(encoding="utf8"))[0]
    path = tmp_path / "twice.yaml"
    path.write_text(yaml.safe_dump([entry, entry]))
    with pytest.raises(WorkbenchError, match="twice"):
        load_catalogue(path)
