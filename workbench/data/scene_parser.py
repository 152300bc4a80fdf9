"""Reading captions of scenes, and any other text, back into objects, attributes and relations."""

from __future__ import annotations

import re
from dataclasses import replace

from workbench.data.scene_captions import PLACES, Description, Mention
from workbench.data.scene_table import BACKGROUNDS, COLOURS, SHAPES, SIZES, TEXTURES


def parse_caption(text: str, *, strict: bool = True) -> Description:
    """Read a caption back into the objects, attributes and relations that it states.

    Args:
        text: a caption of the grammar or, with `strict=False`, any text: plurals, synonyms ("big", "polka dots", "gray"), other
            word orders ("the star is blue") and unknown words are allowed, and only the words of the vocabulary count.
        strict: accept nothing but the grammar, word for word.

    Returns:
        The description; what is not said is None. An object mentioned twice in free text is listed twice.

    Raises:
        TypeError: `text` is not a string.
        ValueError: `strict`, and the text is not a caption of the grammar.

    Example:
        >>> parse_caption("a red circle left of a small star").relations
        ((0, 'left of', 1),)
        >>> parse_caption("The circles are red!", strict=False).objects
        (Mention(shape='circle', colour='red', texture=None, size=None, place=None),)
    """
    if not isinstance(text, str):
        raise TypeError(f"text must be a string, got {type(text).__name__}")
    description = _Reader().read(text)
    if strict and str(description) != text:
        raise ValueError(f"not a caption of the grammar: {text!r:.200}; parse_caption(text, strict=False) reads free text")
    return description


_SYNONYMS: dict[str, tuple[str, str]] = {
    **{name: ("shape", name) for name in SHAPES},
    **{name + ("es" if name == "cross" else "s"): ("shape", name) for name in SHAPES},
    **{word: ("shape", name) for word, name in (("disc", "circle"), ("disk", "circle"), ("rhombus", "diamond"))},
    **{name: ("colour", name) for name in COLOURS},
    **{word: ("colour", name) for word, name in (("violet", "purple"), ("crimson", "red"), ("scarlet", "red"))},
    **{name: ("texture", name) for name in TEXTURES},
    **dict.fromkeys(("stripes", "stripe", "stripy"), ("texture", "striped")),
    **dict.fromkeys(("dots", "spotted", "dotty"), ("texture", "dotted")),
    **dict.fromkeys(("checked", "chequered", "checker", "checks", "checkerboard"), ("texture", "checkered")),
    **{word: ("texture", name) for word, name in (("plain", "solid"), ("bands", "banded"), ("split", "halved"))},
    **{name: ("size", name) for name in SIZES},
    **dict.fromkeys(("big", "huge", "giant"), ("size", "large")),
    **dict.fromkeys(("little", "tiny"), ("size", "small")),
    **dict.fromkeys(("middling", "mid"), ("size", "medium")),
}
_BACKGROUND = {**{name: name for name in BACKGROUNDS}, "gray": "grey"}
_PLACE_WORDS = {"top": "top", "bottom": "bottom", "left": "left", "right": "right", "centre": "centre"}
_PLACE_WORDS |= {"upper": "top", "lower": "bottom", "center": "centre", "middle": "centre"}
_RELATION_WORDS = {("left", "of"): "left of", ("right", "of"): "right of", ("top", "of"): "above", ("above", ""): "above"}
_RELATION_WORDS |= {
    ("over", ""): "above",
    **dict.fromkeys((("below", ""), ("under", ""), ("beneath", ""), ("underneath", "")), "below"),
}
_ARTICLES = {"a", "an", "the", "one", "another", "some"}
_BACKDROP = ("background", "backdrop")
_GENERIC = {"object", "objects", "thing", "things", "shape", "shapes", "figure"}


class _Reader:
    """One pass over the words: adjectives wait for their noun, a relation waits for the object behind it."""

    def __init__(self) -> None:
        self.objects: list[Mention] = []
        self.relations: list[tuple[int, str, int]] = []
        self.background: str | None = None
        self._start_clause()

    def _start_clause(self) -> None:
        self.waiting: dict[str, str] = {}  # adjectives before their noun
        self.relation: str | None = None  # a relation that waits for the object behind it
        self.head: tuple[str, int] | None = None  # of "left of B is A": the relation and B
        self.answer = False  # the "is" of that form was read, A comes next
        self.predicate = False  # after "is": adjectives belong to the object before it
        self.first = True  # no object yet

    def read(self, text: str) -> Description:
        words = re.findall(r"[a-z]+|[.,;!?]", text.lower())
        i = 0
        while i < len(words):
            i += self._step(words, i)
        self._settle()
        return Description(tuple(self.objects), tuple(self.relations), self.background)

    def _step(self, words: list[str], i: int) -> int:
        """Read the word at i and say how many words that took."""
        word, before, after = words[i], words[i - 1] if i else "", words[i + 1] if i + 1 < len(words) else ""
        if (word, after) in _RELATION_WORDS or (word, "") in _RELATION_WORDS:
            self.relation, self.predicate = _RELATION_WORDS.get((word, after)) or _RELATION_WORDS[word, ""], False
            return 2 if (word, after) in _RELATION_WORDS else 1
        if word in _PLACE_WORDS:
            return self._place(words, i)
        if word in _BACKGROUND and after in _BACKDROP:
            self.background, self.waiting = _BACKGROUND[word], {}
            return 2
        if word in _BACKDROP:
            self.waiting = {}  # "on a red background": no object is red
        elif word in _SYNONYMS:
            factor, name = _SYNONYMS[word]
            if factor == "shape":
                self._noun(name)
            elif self.predicate and self.objects:
                self._attach(factor, name)
            else:
                self.waiting.setdefault(factor, name)
        elif word in _GENERIC and (self.waiting or before in _ARTICLES):
            self._noun(None)
        elif word in ("is", "are"):
            self.answer = self.head is not None and before not in ("which", "that")
            self.predicate = not self.answer
        elif word in _ARTICLES:
            self._settle()
        elif word == "and" and not self.waiting:
            self.relation = None  # "at the left of the picture and ...": the relation had no object
        elif word in ".;!?":
            self._settle()
            self._start_clause()
        return 1

    def _settle(self) -> None:
        # Adjectives that met no noun describe the object before them: "a circle, red and striped".
        for factor, name in self.waiting.items():
            if self.objects:
                self._attach(factor, name)
        self.waiting, self.predicate = {}, False

    def _attach(self, factor: str, name: str) -> None:
        if getattr(self.objects[-1], factor) is None:
            self.objects[-1] = replace(self.objects[-1], **{factor: name})

    def _place(self, words: list[str], i: int) -> int:
        end = i
        while end < len(words) and words[end] in _PLACE_WORDS and tuple(words[end : end + 2]) not in _RELATION_WORDS:
            end += 1
        found = {_PLACE_WORDS[word] for word in words[i:end]}
        found -= {"centre"} if len(found) > 1 else set()
        for place in PLACES:
            if set(place.split()) == found and self.objects and not self.waiting:
                self._attach("place", place)
        return end - i

    def _noun(self, shape: str | None) -> None:
        new = len(self.objects)
        self.objects.append(Mention(shape=shape, **self.waiting))
        if self.relation and self.first:
            self.head = (self.relation, new)
        elif self.relation:
            self.relations.append((new - 1, self.relation, new))
        elif self.head and self.answer:
            self.relations.append((new, *self.head))
            self.head = None
        self.waiting, self.relation, self.first, self.answer, self.predicate = {}, None, False, False, False
