"""The reference of the package, from its docstrings: one Markdown page for each subpackage."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterator
from typing import Any

MODULES = ("losses", "metrics", "models", "training", "decoding", "data", "plots", "widgets", "diagnose", "papers", "batch")
SECTIONS = ("Args", "Attributes", "Returns", "Yields", "Raises", "Source", "Sources", "Example", "Examples", "Note", "Notes")
NAMED = ("Args", "Attributes")
SPAN = re.compile(r"(``.+?``|`[^`]+`|\$\$.+?\$\$|(?<![\w\\$])\$[^$\n]+(?:\n[^$\n]+)*?\$(?!\d))", re.DOTALL)
MATH_BLOCK = re.compile(r"^\.\. math::[ ]?(.*(?:\n+[ ]{4,}.*)*)", re.MULTILINE)
WIDE = 88  # a signature longer than this takes a line for each argument


def api_pages() -> dict[str, str]:
    """File name (no ending) -> Markdown, for every subpackage that has public names."""
    pages = {}
    for name in MODULES:
        module = importlib.import_module(f"workbench.{name}")
        if names := list(getattr(module, "__all__", [])):
            pages[name] = "\n\n".join(_page(f"workbench.{name}", module, names)) + "\n"
    return pages


def first_sentence(text: str | None) -> str:
    """The first sentence of a docstring, in Markdown, on one line."""
    line = " ".join((text or "").strip().split("\n\n")[0].split())
    return escaped(re.split(r"(?<=\.)\s", line)[0].split(": $")[0].rstrip(":")).replace("|", "\\|")


def _page(name: str, module: Any, names: list[str]) -> Iterator[str]:
    yield f"# {name}"
    if module.__doc__:
        yield docstring(inspect.cleandoc(module.__doc__))
    members = {n: getattr(module, n) for n in sorted(names, key=str.lower)}
    rows = [f"| [`{n}`](#{anchor(name, n)}) | {first_sentence(_doc(m))} |" for n, m in members.items()]
    yield "\n".join(["| name | what it is |", "|---|---|", *rows])
    for n, member in members.items():
        yield f"({anchor(name, n)})=\n## {n}"
        yield from _entry(n, member)


def anchor(module: str, name: str) -> str:
    """The label of a name; with its module, since labels are the site's, and marked in classes, since case does not count."""
    kind = "class-" if name[:1].isupper() else ""
    return f"api-{module.rpartition('.')[2]}-{kind}{name.lower().replace('_', '-')}"


def _entry(name: str, member: Any) -> Iterator[str]:
    if not (inspect.isclass(member) or inspect.isroutine(member)):
        yield f"```python\n{name} = {member!r}\n```" if len(repr(member)) < 400 else f"A {type(member).__name__}."
        return
    yield f"```python\n{signature(name, member)}\n```"
    text = _doc(member)
    if text:
        yield docstring(text)
    if inspect.isclass(member):
        for method, function in vars(member).items():
            plain = function.fget if isinstance(function, property) else getattr(function, "__func__", function)
            if method.startswith("_") or not inspect.isfunction(plain) or not plain.__doc__:
                continue
            shown = f"{name}.{method}" if isinstance(function, property) else signature(f"{name}.{method}", plain)
            yield f"### {name}.{method}\n\n```python\n{shown}\n```"
            yield docstring(inspect.cleandoc(plain.__doc__))


class _Plain(str):
    """An annotation that shows itself without quotes."""

    def __repr__(self) -> str:
        return str(self)


def signature(name: str, member: Any) -> str:
    """`name(arguments) -> result`, on one line or one argument a line."""
    try:
        found = inspect.signature(member)
    except (TypeError, ValueError):
        return name
    empty = inspect.Signature.empty
    parameters = [
        p.replace(annotation=_Plain(p.annotation) if isinstance(p.annotation, str) else p.annotation)
        for p in found.parameters.values()
    ]
    start, back = name, found.return_annotation
    if inspect.isclass(member):
        start, back = f"class {name}", empty
    back = _Plain(back) if isinstance(back, str) else back
    line = start + str(found.replace(parameters=parameters, return_annotation=back))
    if len(line) <= WIDE:
        return line
    shown, star = [], any(p.kind is p.VAR_POSITIONAL for p in parameters)
    for p in parameters:
        if p.kind is p.KEYWORD_ONLY and not star:
            shown.append("*")
            star = True
        shown.append(str(p))
    result = "" if back is empty else " -> " + inspect.formatannotation(back)
    return start + "(\n" + "".join(f"    {s},\n" for s in shown) + f"){result}"


def docstring(text: str) -> str:
    """A docstring in Google style as Markdown: sections become bold words with lists, examples become code."""
    parts = re.split(rf"^({'|'.join(SECTIONS)}):[ ]*", text, flags=re.MULTILINE)
    out = [_prose(parts[0])]
    for title, body in zip(parts[1::2], parts[2::2], strict=True):
        first, _, rest = body.partition("\n")
        body = inspect.cleandoc("\n" + rest) if not first.strip() else " ".join([first.strip(), inspect.cleandoc("\n" + rest)])
        if title in ("Example", "Examples"):
            out.append(f"**{title}**\n\n```pycon\n{body.strip()}\n```")
        elif title in NAMED:
            out.append(f"**{title}**\n\n{_named(body)}")
        else:
            out.append(f"**{title}.** {_prose(body)}")
    return "\n\n".join(o for o in out if o.strip())


def _named(body: str) -> str:
    entries: list[list[str]] = []
    for line in body.splitlines():
        if line and not line[0].isspace():
            entries.append([line])
        elif entries and line.strip():
            entries[-1].append(line.strip())
    items = []
    for entry in entries:
        joined = " ".join(entry)
        name, colon, rest = joined.partition(": ")
        items.append(f"- `{name.strip()}`: {escaped(rest)}" if colon else f"- {escaped(joined)}")
    return "\n".join(items)


def _prose(text: str) -> str:
    """Paragraphs, lists and formulas; indented blocks are code."""
    text = MATH_BLOCK.sub(lambda m: "$$" + " ".join(m[1].split()) + "$$", text.strip())
    blocks = []
    for block in re.split(r"\n\s*\n", text):
        if re.match(r"[ ]{4,}\S", block) and all(not line or line.startswith("    ") for line in block.splitlines()):
            blocks.append("```python\n" + inspect.cleandoc("\n" + block) + "\n```")
        elif block.lstrip().startswith(">>>"):
            blocks.append(f"```pycon\n{block}\n```")
        else:
            blocks.append(escaped(block))
    return "\n\n".join(blocks)


def escaped(text: str) -> str:
    """Prose with what Markdown would take for itself escaped, outside of code and formulas; a block formula stands alone."""
    pieces = SPAN.split(text)
    for i, piece in enumerate(pieces):
        if i % 2 == 0:
            piece = piece.replace("*", r"\*").replace("<", "&lt;").replace("[", r"\[")
            pieces[i] = re.sub(r"(?<!\w)_|_(?!\w)", r"\_", piece)
        elif piece.startswith("$$"):
            pieces[i] = "\n\n$$" + " ".join(piece[2:-2].split()) + "$$\n\n"
    return "".join(pieces)


def _doc(member: Any) -> str:
    if not (inspect.isclass(member) or inspect.isroutine(member)):
        return ""
    text = member.__doc__ or ""
    # A dataclass without a docstring of its own has its signature there.
    return "" if inspect.isclass(member) and text.startswith(f"{member.__name__}(") else inspect.cleandoc(text)
