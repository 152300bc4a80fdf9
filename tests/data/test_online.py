"""Public sets: the real loading code on small local copies in the formats of the hub; nothing is fetched."""

import io
import json
import re
import shutil
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from workbench.data.online import SETS, load_online
from workbench.errors import DataError, UnknownNameError

datasets = pytest.importorskip("datasets", reason="needs the extra online")


@pytest.fixture(autouse=True)
def offline(monkeypatch, tmp_path):
    """No test may reach the hub or the user's cache."""
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)


def picture(colour, size=(32, 32)):
    """A picture of one colour."""
    return Image.new("RGB", size, colour)


def store(folder, split, columns, features):
    """Write one split the way the hub stores it."""
    (folder / "data").mkdir(parents=True, exist_ok=True)
    table = datasets.Dataset.from_dict(columns, features=datasets.Features(features))
    table.to_parquet(folder / "data" / f"{split}-00000-of-00001.parquet")


COLOURS = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0)]


@pytest.fixture
def cifar100(tmp_path):
    """Four pictures with fine and coarse classes."""
    features = {
        "img": datasets.Image(),
        "fine_label": datasets.ClassLabel(names=["apple", "bear", "crab"]),
        "coarse_label": datasets.ClassLabel(names=["fruit", "animal"]),
    }
    columns = {"img": [picture(c) for c in COLOURS], "fine_label": [0, 1, 2, 0], "coarse_label": [0, 1, 1, 0]}
    for split in ("train", "test"):
        store(tmp_path / "cifar100", split, columns, features)
    return tmp_path / "cifar100"


def test_pictures_with_classes(cifar100):
    """Pictures, labels with names, and coarse classes; limit keeps the first rows."""
    ds = load_online("cifar100", "test", folder=cifar100)
    assert ds.images.shape == (4, 3, 32, 32) and [ds.label_names[i] for i in ds.labels] == ["apple", "bear", "crab", "apple"]
    torch.testing.assert_close(ds.images.mean((2, 3)), torch.tensor(COLOURS) / 255.0, atol=0.01, rtol=0)
    assert [ds.factor_names["coarse"][i] for i in ds.factors["coarse"]] == ["fruit", "animal", "animal", "fruit"]
    two = load_online("cifar100", "test", folder=cifar100, limit=2, size=8)
    assert len(two) == 2 and torch.equal(two.labels, ds.labels[:2]) and two.images.shape[-1] == 8


def test_pictures_with_captions_in_both_layouts(tmp_path):
    """Five columns of captions (flickr8k) and one column of lists (flickr30k, coco) give the same data set."""
    texts = [[f"{word} number {i}" for i in range(5)] for word in ("cat", "dog")]
    pictures = [picture(c, (40, 20)) for c in COLOURS[:2]]
    columns = {"image": pictures, **{f"caption_{i}": [t[i] for t in texts] for i in range(5)}}
    text = datasets.Value("string")
    store(tmp_path / "a", "test", columns, {"image": datasets.Image(), **{f"caption_{i}": text for i in range(5)}})
    a = load_online("flickr8k", "test", folder=tmp_path / "a", size=16)
    for name, split, column in (("flickr30k", "test", "caption"), ("coco", "val", "answer")):
        features = {"image": datasets.Image(), column: datasets.Sequence(text)}
        store(tmp_path / name, split, {"image": pictures, column: texts}, features)
        b = load_online(name, split, folder=tmp_path / name, size=16)
        assert torch.equal(a.images, b.images) and a.captions == b.captions == ["cat number 0", "dog number 0"]
        assert a.extras["captions"] == b.extras["captions"] == texts
    assert torch.equal(a.images[:, :, 0], torch.ones(2, 3, 16))  # bands above a wide picture


def test_sentence_pairs(tmp_path):
    """Both sentences and the similarity arrive row by row."""
    text = datasets.Value("string")
    columns = {"sentence1": ["a", "b"], "sentence2": ["c", "d"], "score": [0.25, 1.0]}
    store(tmp_path, "validation", columns, {"sentence1": text, "sentence2": text, "score": datasets.Value("float64")})
    ds = load_online("stsb", "validation", folder=tmp_path)
    assert ds.captions == ["a", "b"] and ds.extras["second"] == ["c", "d"] and ds.factors["score"].tolist() == [0.25, 1.0]


@pytest.fixture
def scifact(tmp_path):
    """A retrieval set of three documents, two queries and three judgements, one of them 'not relevant'."""
    home = tmp_path / "scifact"
    home.mkdir()

    def lines(name, records):
        (home / name).write_text("".join(json.dumps(r) + "\n" for r in records))

    lines("corpus.jsonl", [{"_id": f"d{i}", "title": "T" if i else "", "text": f"text {i}"} for i in range(3)])
    lines("queries.jsonl", [{"_id": "q1", "text": "first"}, {"_id": "q2", "text": "second"}])
    judged = [("q2", "d0", 1), ("q1", "d2", 2), ("q1", "d1", 0)]
    lines("test.jsonl", [{"query-id": q, "corpus-id": d, "score": s} for q, d, s in judged])
    configs = [("default", "test", "test.jsonl"), ("corpus", "corpus", "corpus.jsonl"), ("queries", "queries", "queries.jsonl")]
    head = "".join(f"- config_name: {c}\n  data_files:\n  - split: {s}\n    path: {p}\n" for c, s, p in configs)
    (home / "README.md").write_text(f"---\nconfigs:\n{head}---\n")
    return home


def test_retrieval(scifact):
    """Relevant pairs only, queries with their documents, codes that point into the corpus."""
    ds, corpus = load_online("scifact", "test", folder=scifact), load_online("scifact", "corpus", folder=scifact)
    assert corpus.captions == ["text 0", "T. text 1", "T. text 2"]
    assert ds.captions == ["second", "first"] and ds.extras["document"] == ["text 0", "T. text 2"]
    assert ds.factors["document"].tolist() == [0, 2] and ds.factors["query"].tolist() == [1, 0]
    assert ds.factors["relevance"].tolist() == [1.0, 2.0]
    damaged = shutil.copytree(scifact, scifact.parent / "damaged")
    (damaged / "queries.jsonl").write_text('{"_id": "q1", "text": "first"}\n')
    with pytest.raises(DataError, match="test: query q2 is judged but not stored"):
        load_online("scifact", "test", folder=damaged)


def test_offline_is_one_sentence():
    """Without a network every set fails with one line that names the set and the remedy."""
    for name, source in SETS.items():
        with pytest.raises(DataError, match=rf"cannot load {source.repository} .*folder=") as caught:
            load_online(name, source.splits[0])
        assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


def test_without_the_package(monkeypatch, tmp_path):
    """A missing `datasets` is said with the command that installs it."""
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DataError, match=re.escape('pip install "contrastive-workbench[online]"')):
        load_online("stsb", folder=tmp_path)


def test_damaged_copies_are_named(cifar100, tmp_path):
    """No folder, no split, a missing column, a bad score and a broken picture."""
    with pytest.raises(DataError, match=r"no folder .*; give a local copy of uoft-cs/cifar100"):
        load_online("cifar100", folder=tmp_path / "nowhere")
    with pytest.raises(DataError, match="no column 'img', it has"):
        store(tmp_path / "x", "train", {"picture": [1]}, {"picture": datasets.Value("int64")})
        load_online("cifar10", folder=tmp_path / "x")
    text = datasets.Value("string")
    with pytest.raises(DataError, match="column score: want numbers from 0 to 1, got 5"):
        features = {"sentence1": text, "sentence2": text, "score": datasets.Value("float64")}
        store(tmp_path / "y", "train", {"sentence1": ["a"], "sentence2": ["b"], "score": [5.0]}, features)
        load_online("stsb", folder=tmp_path / "y")
    buffer = io.BytesIO()
    picture((1, 2, 3)).save(buffer, "png")
    broken = [{"bytes": buffer.getvalue(), "path": None}, {"bytes": buffer.getvalue()[:50], "path": None}]
    with pytest.raises(DataError, match=r"split train, row 1: image is not a picture"):
        features = {"img": datasets.Image(decode=False), "label": datasets.ClassLabel(names=["a"])}
        store(tmp_path / "z", "train", {"img": broken, "label": [0, 0]}, features)
        load_online("cifar10", folder=tmp_path / "z")


@pytest.mark.parametrize(
    ("name", "options", "error", "words"),
    [
        ("cifar-10", {}, UnknownNameError, "did you mean 'cifar10'"),
        ("coco", {"split": "train"}, UnknownNameError, "split of coco 'train'"),
        ("stsb", {"limit": 0}, ValueError, "limit must be"),
        ("stsb", {"limit": 2.5}, TypeError, "limit must be"),
        ("stl10", {"size": 1}, ValueError, "size must be"),
    ],
)
def test_bad_options(name, options, error, words):
    """Each wrong option is refused before anything is fetched."""
    with pytest.raises(error, match=re.escape(words)):
        load_online(name, **options)


def test_no_set_needs_code_of_its_repository():
    """Every source names an owner, splits and the columns of its kind."""
    for source in SETS.values():
        assert source.repository.count("/") == 1 and source.splits and source.licence
        assert (source.kind in ("images", "captions")) == bool(source.image)
    assert np.all([bool(s.label) == (s.kind == "images") for s in SETS.values()])
