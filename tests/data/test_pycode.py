"""Standard-library functions: counts, clean code, splits by module without repeats."""

import ast

import pytest

from workbench.data.files import verify
from workbench.data.near_duplicates import content_words
from workbench.data.pycode import load_pycode
from workbench.errors import UnknownNameError

SPLITS = ("train", "val", "test")


def test_counts_and_checksums():
    """3,589 functions, 2,473 / 350 / 720 in the splits, files as recorded."""
    verify("pycode")
    assert [len(load_pycode(s)) for s in (*SPLITS, "all")] == [2473, 350, 720, 3589]


def test_code_parses_and_holds_no_comment_and_not_its_docstring():
    """Every snippet is valid Python without a docstring or a comment line, and its summary opens its docstring."""
    ds = load_pycode("all")
    for code, query, doc in zip(ds.extras["partner"], ds.captions, ds.extras["docstring"], strict=True):
        function = ast.parse(code).body[0]
        assert isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef)) and ast.get_docstring(function) is None
        assert not any(line.lstrip().startswith("#") for line in code.split("\n") if '"""' not in code and "'''" not in code)
        assert " ".join(doc.split()).startswith(query) and len(query.split()) >= 4
    assert len(set(ds.extras["partner"])) == len(ds)


def test_no_module_sentence_or_code_is_in_two_splits():
    """Top-level modules are kept apart, and so are equal sentences and snippets that share nine tenths of their words."""
    parts = {s: load_pycode(s) for s in SPLITS}
    for key in ("modules", "concepts", "words"):
        seen = {}
        for split, ds in parts.items():
            values = {
                "modules": [m.split(".")[0].lstrip("_").removeprefix("py") for m in ds.extras["module"]],
                "concepts": ds.factors["concept"].tolist(),
                "words": [content_words(c) for c in ds.captions],
            }[key]
            assert all(seen.setdefault(v, split) == split for v in values), key
    train = [content_words(c) for c in parts["train"].extras["partner"]]
    for code in parts["test"].extras["partner"][::15]:
        words = content_words(code)
        assert max(len(words & w) / len(words | w) for w in train) < 0.9


def test_concept_marks_equal_sentences():
    """Rows share a concept exactly when their sentences are equal up to case and the full stop."""
    ds = load_pycode("all")
    groups = {}
    for c, text in zip(ds.factors["concept"].tolist(), ds.captions, strict=True):
        groups.setdefault(c, set()).add(text.lower().rstrip("."))
    assert all(len(g) == 1 for g in groups.values()) and len(set.union(*groups.values())) == len(groups) == 3402


def test_unknown_split():
    """A split that does not exist is refused by name."""
    with pytest.raises(UnknownNameError, match="dev"):
        load_pycode("dev")
