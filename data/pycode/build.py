"""Build the pycode set: documented functions of the standard library of Python 3.11.2.

    python data/pycode/build.py [--out FOLDER]

Needs apt and dpkg. About a minute on one core.
"""

from __future__ import annotations

import ast
import inspect
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from workbench.data.build import Package, assign_splits, run, unpacked, write_table
from workbench.data.near_duplicates import without_overlap

VERSION = "3.11.2-6+deb12u9"
PACKAGES = (
    Package(
        "apt",
        "libpython3.11-minimal",
        VERSION,
        "69f41cfa3f4ba17284e538f843069d7529c53c207d2ae17a5b02785944870e33",
        f"libpython3.11-minimal_{VERSION}_amd64.deb",
    ),
    Package(
        "apt",
        "libpython3.11-stdlib",
        VERSION,
        "10f13e000ee757f5f2d2d3569f9e30546214a0c850acd78695feae373bfa3e53",
        f"libpython3.11-stdlib_{VERSION}_amd64.deb",
    ),
)
FEWEST_WORDS = 4  # of the first sentence
LONGEST = 4_000  # characters of code
NEAR = 0.9  # overlap of words from which two functions or two first sentences count as the same
TRIVIAL = (ast.Pass, ast.Raise)


def summary(docstring: str) -> str:
    """The first sentence of a docstring, on one line."""
    first = re.sub(r"\s+", " ", docstring.split("\n\n")[0]).strip()
    return re.split(r"(?<=[.!?])\s+(?=[A-Z])", first)[0]


def without_comments(code: str) -> str:
    """Code without comments and blank lines."""
    lines = code.split("\n")
    for token in tokenize.generate_tokens(io.StringIO(code).readline):
        if token.type == tokenize.COMMENT:
            row, column = token.start
            lines[row - 1] = lines[row - 1][:column].rstrip()
    return "\n".join(line.rstrip() for line in lines if line.strip())


def functions(source: str) -> Iterator[tuple[str, str, str]]:
    """Qualified name, docstring and code (no docstring, no comments) of every function that does more than one trivial step."""
    lines = source.split("\n")  # not splitlines, which also splits at form feeds

    def walk(node: ast.AST, prefix: str) -> Iterator[tuple[str, str, str]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                name = f"{prefix}{child.name}"
                if not isinstance(child, ast.ClassDef) and (found := read(child)):
                    yield name, *found
                yield from walk(child, f"{name}.")

    def read(node: ast.FunctionDef | ast.AsyncFunctionDef) -> tuple[str, str] | None:
        docstring = ast.get_docstring(node, clean=False)
        body = node.body[1:]
        if docstring is None or not body:
            return None
        one = body[0] if len(body) == 1 else None
        value = getattr(one, "value", None) if isinstance(one, (ast.Return, ast.Expr)) else None
        if isinstance(one, TRIVIAL) or isinstance(value, (ast.Call, ast.Constant, ast.Name)):
            return None
        doc = node.body[0]
        if doc.lineno == node.lineno or body[0].lineno <= (doc.end_lineno or 0):
            return None  # all on one line
        start = min([node.lineno, *(d.lineno for d in node.decorator_list)])
        # By the column of the function: dedent would stop at strings that begin further left.
        kept = lines[start - 1 : doc.lineno - 1] + lines[doc.end_lineno : node.end_lineno]
        column = node.col_offset
        shifted = [line[column:] if line[:column].isspace() else line for line in kept]
        return inspect.cleandoc(docstring), without_comments("\n".join(shifted))

    yield from walk(ast.parse(source), "")


def build(folder: Path) -> None:
    """Write functions.parquet into `folder`."""
    rows = []
    for package in PACKAGES:
        with unpacked(package) as root:
            library = root / "usr" / "lib" / "python3.11"
            for path in sorted(library.rglob("*.py")):
                place = path.relative_to(library)
                module = ".".join(place.with_suffix("").parts).removesuffix(".__init__")
                if "test" in module or path.name.startswith("_sysconfigdata"):
                    continue
                for name, docstring, code in functions(path.read_text(encoding="utf8", errors="replace")):
                    query = summary(docstring)
                    if len(query.split()) >= FEWEST_WORDS and len(code) <= LONGEST:
                        rows.append((module, name, query, docstring, code))
    rows = list({row[4]: row for row in sorted(rows, reverse=True)}.values())[::-1]
    modules, names, queries, docstrings, codes = (list(column) for column in zip(*rows, strict=True))
    families = [module.split(".")[0].lstrip("_").removeprefix("py") for module in modules]
    split = without_overlap(assign_splits(families, ["all"] * len(rows)), [*enumerate(queries), *enumerate(codes)], NEAR)
    table = {"module": modules, "name": names, "summary": queries, "docstring": docstrings, "code": codes, "split": split}
    write_table(folder / "functions.parquet", pa.table(table))


if __name__ == "__main__":
    run(build, __file__)
