"""Build the corpora set: Jane Austen's six novels by paragraph, and the tokenizers of the small language models.

    python data/corpora/build.py [--out FOLDER]

Needs apt and dpkg, and the stored sets wordnet, verses, pycode and emoji, on which the tokenizers are trained. Two minutes on one core.
"""

from __future__ import annotations

import json
import os
import re
import zlib
from pathlib import Path

os.environ |= {"TOKENIZERS_PARALLELISM": "false", "RAYON_NUM_THREADS": "1"}  # several threads could count in another order

import pyarrow as pa

from workbench.data.build import Package, assign_splits, run, unpacked, write_table
from workbench.data.corpora import SPECIAL_TOKENS, corpus_texts

PACKAGE = Package(
    "apt",
    "r-cran-janeaustenr",
    "1.0.0-1",
    "df6bddf211906d1ff404f8ff662c21b34e6660e7f54a311084e749050c019c95",
    "r-cran-janeaustenr_1.0.0-1_all.deb",
)
FRACTIONS = {"train": 0.9, "val": 0.05, "test": 0.05}
SIZES = {"bpe-4k": 4096, "bpe-8k": 8192, "wordpiece-8k": 8192}
HEADING = re.compile(r"^(chapter|volume) +[ivxlc0-9]+\.?$", re.I)


def read_novels(path: Path) -> list[list[str]]:
    """The lines of each novel. R keeps each as a compressed vector of strings; a string is a flag word, its length and its bytes."""
    content, novels, at = path.read_bytes(), [], 0
    while at < len(content):
        stream = zlib.decompressobj()
        raw = stream.decompress(content[at + 4 :])
        at = len(content) - len(stream.unused_data)
        lines, here = [], raw.index(b"\x00\x00\x00\x10") + 8
        while here + 8 <= len(raw) and raw[here + 3] == 9:
            length = int.from_bytes(raw[here + 4 : here + 8], "big")
            lines.append(raw[here + 8 : here + 8 + length].decode())
            here += 8 + length
        novels.append(lines)
    return novels


def paragraphs(lines: list[str]) -> list[tuple[int, str]]:
    """Chapter number (through the novel) and text of every paragraph after the first chapter heading."""
    found, chapter, block = [], 0, []
    for line in [*lines, ""]:
        if line.strip():
            block.append(line.strip())
            continue
        if block and HEADING.match(block[0]):
            chapter += block[0].lower().startswith("chapter")
        elif block and chapter:
            text = re.sub(r"\s+", " ", " ".join(block)).replace("_", "")
            if not re.fullmatch(r"(finis|the end)\W*", text, re.I) and not re.match(r"end of (the )?project", text, re.I):
                found.append((chapter, text))
        block = []
    return found


def train_tokenizer(kind: str, size: int, texts: list[str]) -> str:
    """A tokenizer trained on the texts, as JSON."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

    if kind == "bpe":
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=size,
            special_tokens=["<|endoftext|>"],
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        )
    else:
        tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
        tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        tokenizer.decoder = decoders.WordPiece()
        trainer = trainers.WordPieceTrainer(vocab_size=size, special_tokens=list(SPECIAL_TOKENS), show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    if kind != "bpe":
        cls, sep = tokenizer.token_to_id("[CLS]"), tokenizer.token_to_id("[SEP]")
        tokenizer.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", cls), ("[SEP]", sep)]
        )
    content = json.loads(tokenizer.to_str())
    if kind != "bpe":
        # The trainer numbers pieces in an order that changes from run to run (and breaks ties so: see the card). Specials first, then sorted.
        pieces = sorted(set(content["model"]["vocab"]) - set(SPECIAL_TOKENS))
        content["model"]["vocab"] = {piece: i for i, piece in enumerate([*SPECIAL_TOKENS, *pieces])}
    return json.dumps(content, ensure_ascii=False, separators=(",", ":"))


def build(folder: Path) -> None:
    """Write austen.parquet and one JSON file a tokenizer into `folder`."""
    with unpacked(PACKAGE) as source:
        novels = read_novels(source / "usr/lib/R/site-library/janeaustenr/data/Rdata.rdb")
    rows = [(lines[0].title().replace(" And ", " and "), *row) for lines in novels for row in paragraphs(lines)]
    titles, chapters, texts = (list(column) for column in zip(*rows, strict=True))
    split = assign_splits([f"{t} {c}" for t, c in zip(titles, chapters, strict=True)], titles, FRACTIONS)
    columns = {"novel": titles, "chapter": pa.array(chapters, pa.int16()), "text": texts, "split": split}
    write_table(folder / "austen.parquet", pa.table(columns))

    training = [t for t, s in zip(texts, split, strict=True) if s == "train"]
    for source_name in ("web", "kjv", "wordnet", "pycode", "emoji"):
        training += corpus_texts(source_name, "train")
    for name, size in SIZES.items():
        (folder / f"{name}.json").write_text(train_tokenizer(name.split("-")[0], size, training), encoding="utf8", newline="\n")


if __name__ == "__main__":
    run(build, __file__)
