"""Reads `catalogue.yaml`: papers, parts and claims as frozen records."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from workbench.errors import UnknownNameError, WorkbenchError

CATALOGUE = Path(__file__).with_name("catalogue.yaml")
RELATIONS = (">", ">=", "<", "<=")
VERDICTS = ("reproduced", "not reproduced", "inconclusive")
PARTS = {
    "00-start": "Start here",
    "01-geometry": "Geometry of contrastive losses",
    "02-feature-suppression": "Feature suppression",
    "03-image-text": "Images and text",
    "04-hallucination": "Hallucination",
    "05-sentence-embeddings": "Sentence embeddings",
    "06-adapting-clip": "Adapting CLIP",
    "07-language-models": "Language models",
    "08-few-labels": "Few labels",
    "09-other-modalities": "Other modalities",
}


@dataclass(frozen=True)
class Claim:
    """One testable statement of a paper.

    Attributes:
        id: name of the claim, unique within its paper.
        statement: what is claimed, in one sentence.
        metric: what the notebook measures, once for each seed.
        relation: '>', '>=', '<' or '<='.
        reference: a number, or the name of a second quantity measured beside the metric for each seed.
        min_effect: by how much the metric must pass the reference.
        paper_value: the paper's own number, with a tag that says how sure it is.
        headline: the one claim of the paper that the scoreboard shows first.
        expected: preset -> verdict that the tests expect.
        reason: why the claim does not hold at our scale, where that was found out.
    """

    id: str
    statement: str
    metric: str
    relation: str
    reference: float | str
    min_effect: float
    paper_value: str
    headline: bool = False
    expected: dict[str, str] = field(default_factory=dict)
    reason: str | None = None

    def __post_init__(self) -> None:
        if self.relation not in RELATIONS:
            raise WorkbenchError(f"claim {self.id}: relation must be one of {RELATIONS}, got {self.relation!r}")
        unknown = set(self.expected.values()) - set(VERDICTS)
        if unknown:
            raise WorkbenchError(f"claim {self.id}: expected verdicts must be among {VERDICTS}, got {sorted(unknown)}")


@dataclass(frozen=True)
class Paper:
    """One paper of the collection, whether its notebook exists or not."""

    slug: str
    part: str
    title: str
    authors: str
    venue: str
    year: int
    arxiv: str
    claims: tuple[Claim, ...]

    @property
    def link(self) -> str:
        """Address of the paper."""
        return f"https://arxiv.org/abs/{self.arxiv}"

    @property
    def notebook(self) -> Path:
        """Where the paper's notebook stands, or will stand, below the notebooks folder."""
        return Path(self.part) / f"{self.slug}.ipynb"

    @property
    def headline(self) -> Claim:
        """The claim that stands for the paper on the scoreboard."""
        return next(c for c in self.claims if c.headline)

    def claim(self, claim_id: str) -> Claim:
        """The claim of that id; UnknownNameError otherwise."""
        for claim in self.claims:
            if claim.id == claim_id:
                return claim
        raise UnknownNameError(f"claim of {self.slug}", claim_id, [c.id for c in self.claims])


@cache
def load_catalogue(path: Path = CATALOGUE) -> dict[str, Paper]:
    """All papers by slug, in the order of the file.

    Raises:
        WorkbenchError: an entry lacks a field, has one too many, repeats a name or has not exactly one headline.
    """
    entries = yaml.load(path.read_text(encoding="utf8"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    papers: dict[str, Paper] = {}
    for entry in entries:
        paper = _paper(entry)
        if paper.slug in papers:
            raise WorkbenchError(f"{path.name}: slug {paper.slug!r} stands twice")
        papers[paper.slug] = paper
    return papers


def find_paper(slug: str) -> Paper:
    """The paper of that slug.

    Raises:
        UnknownNameError: no paper has this slug; the message names the nearest ones.
    """
    papers = load_catalogue()
    if slug not in papers:
        raise UnknownNameError("slug", slug, papers)
    return papers[slug]


def _paper(entry: dict[str, Any]) -> Paper:
    slug = entry.get("slug", "(no slug)")
    try:
        claims = tuple(Claim(**claim) for claim in entry["claims"])
        paper = Paper(**{**entry, "claims": claims})
    except (TypeError, KeyError) as error:
        raise WorkbenchError(f"catalogue entry {slug!r}: {error}") from None
    if paper.part not in PARTS:
        raise UnknownNameError(f"part of {slug}", paper.part, PARTS)
    if len({c.id for c in claims}) != len(claims) or sum(c.headline for c in claims) != 1:
        raise WorkbenchError(f"catalogue entry {slug!r}: claim ids must differ and exactly one must be the headline")
    return paper
