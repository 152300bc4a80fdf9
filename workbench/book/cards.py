"""Pages of data sets and models, from their cards."""

from __future__ import annotations

import re
from html import escape
from typing import Any

import yaml

from workbench.data.files import CARD, data_dir, describe_all


def split_card(text: str) -> tuple[dict[str, Any], str]:
    """Front matter and body of a card."""
    match = re.match(r"---\n(.*?)\n---\n(.*)", text, flags=re.DOTALL)
    return (yaml.safe_load(match[1]) or {}, match[2].strip()) if match else ({}, text.strip())


def first_paragraph(body: str) -> str:
    """The first paragraph below the title."""
    blocks = [b.strip() for b in re.split(r"\n\s*\n", body)]
    return next((" ".join(b.split()) for b in blocks if b and not b.startswith(("#", "```", "|", "!"))), "")


def data_pages() -> tuple[dict[str, str], str]:
    """Name -> page of every set, and the grid of them for the gallery."""
    pages, cards = {}, []
    for row in describe_all():
        front, body = split_card((data_dir() / row["name"] / CARD).read_text(encoding="utf8"))
        kinds = ", ".join(row["modalities"])
        size = f"{row['bytes'] / 1e6:.1f} MB" if row["bytes"] else "made on the spot"
        facts = {"rows": f"{row['rows']:,}", "kind": kinds, "licence": row["licence"], "stored": size}
        if front.get("version"):
            facts["version"] = front["version"]
        pages[row["name"]] = _card_page(facts, body)
        cards.append(
            f'<a class="wb-card" href="cards/data/{row["name"]}.html"><div><b>{escape(row["name"])}</b><br>'
            f"<small>{row['rows']:,} rows · {escape(kinds)} · {escape(row['licence'])}</small>"
            f"<p>{escape(_plain(first_paragraph(body)))}</p></div></a>"
        )
    return pages, f'<div class="wb-grid">{"".join(cards)}</div>'


def model_pages() -> tuple[dict[str, str], dict[str, bytes], str]:
    """Name -> page of every model with a card, name -> its learning curve, and the grid of all models."""
    from workbench.models import list_models

    pages, curves, cards = {}, {}, []
    for model in list_models():
        name, folder = model["name"], data_dir() / "models" / model["name"]
        card = folder / CARD
        if card.exists():
            front, body = split_card(card.read_text(encoding="utf8"))
            facts: dict[str, Any] = {k: front[k] for k in ("kind", "licence", "seed", "preset", "steps", "seconds") if k in front}
            pages[name] = _card_page(facts, body.replace("](curve.svg)", f"]({name}-curve.svg)"))
            if (folder / "curve.svg").exists():
                curves[name] = (folder / "curve.svg").read_bytes()
        cards.append(_model_card(model, name in pages))
    return pages, curves, f'<div class="wb-grid">{"".join(cards)}</div>'


def _model_card(model: dict[str, Any], has_page: bool) -> str:
    facts = [f"{model['parameters'] / 1e6:.2f} M parameters"] if model["parameters"] else []
    facts += [f"{model['bytes'] / 1e6:.1f} MB"] if model["bytes"] else []
    facts += [model["licence"]] if model["licence"] else []
    words = f"<p>{escape(model['what'])}</p>" if model["what"] else ""
    headline = ", ".join(f"{key.replace('_', ' ')} {value:.3g}" for key, value in (model["headline"] or {}).items())
    words += f"<p><small>Held out: {escape(headline)}</small></p>" if headline else ""
    words += f"<p><small>Not here yet: <code>{escape(model['remedy'])}</code></small></p>" if model["remedy"] else ""
    inside = f"<div><b>{escape(model['name'])}</b><br><small>{escape(' · '.join(facts))}</small>{words}</div>"
    if has_page:
        return f'<a class="wb-card" href="cards/models/{model["name"]}.html">{inside}</a>'
    return f'<div class="wb-card">{inside}</div>'


def _card_page(facts: dict[str, Any], body: str) -> str:
    title, _, rest = body.partition("\n")
    table = "\n".join(["| | |", "|---|---|", *(f"| {k} | {v} |" for k, v in facts.items())])
    return f"{title}\n\n{table}\n{rest}\n"


def _plain(text: str) -> str:
    return re.sub(r"\[([^\]]+)\]\([^)]*\)", r"\1", text).replace("`", "")
