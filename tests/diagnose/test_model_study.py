"""A model on the user's pictures: embedded once, matched to captions, tested on scenes whose facts are known."""

import json
from pathlib import Path

import jsonschema
import numpy as np
import pytest
import torch
from PIL import Image

import workbench.diagnose
from workbench.data.scenes import captions, counterfactual, load_scenes, render, scenes_of
from workbench.diagnose.model_inputs import embed_captions, embed_pictures, load_picture, read_captioned
from workbench.diagnose.report import plain
from workbench.diagnose.scene_tests import FACTS, scene_tests, word_order
from workbench.errors import DataError, WorkbenchError
from workbench.models import pretrained
from workbench.models.images import ImagePreparation

SCHEMA = json.loads((Path(workbench.diagnose.__file__).parent / "schema.json").read_text())


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Forty scenes as picture files, and their captions."""
    folder = tmp_path_factory.mktemp("pictures")
    scenes = load_scenes("val", n=40, objects=(2, 2), caption_level=("colour", "shape", "relation"))
    for i, x in enumerate((scenes.images * 255).byte().permute(0, 2, 3, 1).numpy()):
        Image.fromarray(x).save(folder / f"{i:02d}.png")
    return folder, list(scenes.captions)


@pytest.fixture(scope="module")
def clip():
    return pretrained("scenes-clip", device="cpu")


@pytest.fixture(scope="module")
def study(pictures, tmp_path_factory):
    """scenes-clip on scenes, with a cache of its own, the second of two runs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WORKBENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        workbench.diagnose.model("scenes-clip", images=pictures[0], captions=pictures[1], scenes=0, device="cpu")
        return workbench.diagnose.model("scenes-clip", images=pictures[0], captions=pictures[1], scenes=24, device="cpu")


def test_embeddings_are_the_models_own(study, pictures, clip):
    """What is measured is what the model gives for the pictures and captions, also from the cache, which the second run uses alone."""
    pixels = torch.stack([torch.from_numpy(np.array(Image.open(p))) for p in sorted(pictures[0].iterdir())]).permute(0, 3, 1, 2)
    for s, wanted in zip(study.inputs.sets, (clip.embed_images(pixels), clip.embed_texts(pictures[1])), strict=True):
        got = torch.nn.functional.normalize(torch.from_numpy(s.values), dim=1)
        torch.testing.assert_close(got, wanted, atol=1e-5, rtol=0)
    assert study.model["from_cache"] == 80 and study.model["computed"] == 0 and study.inputs.paired


def test_the_cache_goes_by_content(tmp_path, pictures, clip):
    """One changed picture and one new caption are computed, all others are not; a damaged cache is computed again."""
    files = sorted(pictures[0].iterdir())[:6]
    first, _, known = embed_pictures(clip, files, cache=tmp_path)
    assert known == 0
    Image.new("RGB", (32, 32), "red").save(tmp_path / "new.png")
    again, at, known = embed_pictures(clip, [*files[:5], tmp_path / "new.png"], cache=tmp_path)
    assert (
        known == 5
        and at.tolist() == list(range(6))
        and np.array_equal(first[:5], again[:5])
        and not np.allclose(first[5], again[5])
    )
    assert embed_captions(clip, ["a red star", "a"], cache=tmp_path)[1] == 0
    assert embed_captions(clip, ["a red star", "a blue star"], cache=tmp_path)[1] == 1
    for stored in tmp_path.glob("image-*.npz"):
        stored.write_bytes(b"damaged")
    assert embed_pictures(clip, files, cache=tmp_path)[2] == 0


def test_pictures_come_to_the_size_of_the_model(tmp_path):
    """Transparency lies over white, a wide picture is padded or cut as its model asks, and a broken file is none."""
    Image.new("RGBA", (40, 20), (255, 0, 0, 255)).save(tmp_path / "wide.png")
    Image.new("RGBA", (8, 8), (0, 0, 0, 0)).save(tmp_path / "clear.png")
    (tmp_path / "broken.png").write_bytes(b"no picture")
    padded = load_picture(tmp_path / "wide.png", ImagePreparation((16, 16)))
    assert padded.shape == (3, 16, 16) and (padded[:, 0] > 0.999).all()
    assert (padded[0] > 0.999).all() and (padded[1:, 8] < 0.001).all()
    cut = load_picture(tmp_path / "wide.png", ImagePreparation((16, 16), shortest=20))
    assert cut.shape == (3, 20, 20) and (cut[0] > 0.999).all() and (cut[1:] < 0.001).all()
    assert (load_picture(tmp_path / "clear.png", ImagePreparation((8, 8))) > 0.999).all()
    assert load_picture(tmp_path / "broken.png", ImagePreparation((8, 8))) is None


def test_captions_are_matched_by_name(tmp_path, pictures):
    """By file or id, in any order; pictures and captions alone, repeated and empty ones are counted; no match is an error."""
    rows = ["file,caption", "03.png,c", "00.png,a", "02.png,", "00.png,again", "77.png,none"]
    (tmp_path / "c.csv").write_text("\n".join(rows) + "\n")
    for name in ("02.png", "03.png", "00.png", "01.png"):
        (tmp_path / name).write_bytes((pictures[0] / name).read_bytes())
    (tmp_path / "d.jsonl").write_text('{"id": "03", "caption": "c"}\n{"id": "00", "caption": "a"}\n')
    for table in ("c.csv", "d.jsonl"):
        if table == "c.csv":
            (tmp_path / table).write_text((tmp_path / table).read_text().replace("02.png,\n", '02.png," "\n'))
        got = read_captioned(tmp_path, tmp_path / table)
        assert [p.name for p in got.pictures] == ["00.png", "03.png"] and got.captions == ("a", "c")
    said = "\n".join(read_captioned(tmp_path, tmp_path / "c.csv").warnings)
    for part in (
        "5 captions of 4 pictures",
        "1 pictures have no caption",
        "1 captions have no picture",
        "1 of 3 captions are empty",
    ):
        assert part in said, (part, said)
    for captions_, words in (
        (["a"], "1 captions for 4 pictures"),
        ([1, 2, 3, 4], "want a caption"),
        ({"z": "a"}, "no picture in"),
    ):
        with pytest.raises(DataError, match=words):
            read_captioned(tmp_path, captions_)
    with pytest.raises(DataError, match="no folder"):
        read_captioned(tmp_path / "none")


def test_tests_on_scenes_equal_slow_loops(clip):
    """Zero-shot accuracy and minimal pairs are those of a loop over scenes and cosines; an edit's cosine is that of its pictures."""
    n = 24
    result = {(m.estimate.name, m.against): m.estimate for m in scene_tests(clip, n=n, side=32).estimates}
    assert len(result) == 5 + 4 * len(FACTS)
    scenes = load_scenes("test", n=n, objects=(1, 1))
    seen, names = clip.embed_images(scenes.images), clip.embed_texts([f"a {c} object" for c in scenes.factor_names["colour"]])
    right = sum(
        max(range(len(names)), key=lambda k: float(x @ names[k])) == int(y)
        for x, y in zip(seen, scenes.factors["colour"], strict=True)
    )
    assert result["zero_shot", "colour"].value == right / n > result["zero_shot", "shape"].null
    edited = counterfactual(scenes_of(scenes), "shape", seed=0).scenes
    other = clip.embed_images(render(edited, 32))
    told = [clip.embed_texts(captions(s, FACTS["shape"])) for s in (scenes_of(scenes), edited)]
    text = image = 0
    for i in range(n):
        s = [[float(told[a][i] @ (seen, other)[b][i]) for b in range(2)] for a in range(2)]
        text += s[0][0] > s[1][0] and s[1][1] > s[0][1]
        image += s[0][0] > s[0][1] and s[1][1] > s[1][0]
    assert (result["pairs_text", "shape"].value, result["pairs_image", "shape"].value) == (text / n, image / n)
    assert result["pair_cosine", "shape"].value == pytest.approx(float((seen * other).sum(1).mean()), abs=1e-6)


class Bag:
    """A model whose texts are bags of words: no order of words can matter to it."""

    name = "bag"

    def embed_texts(self, texts):
        rows = torch.zeros(len(texts), 64)
        for i, text in enumerate(texts):
            for word in text.split():
                rows[i, sum(map(ord, word)) % 64] += 1
        return torch.nn.functional.normalize(rows, dim=1)


class First(Bag):
    """A model that knows the first word only, and pictures that show it."""

    def embed_texts(self, texts):
        return super().embed_texts([t.split()[0] for t in texts])


def test_word_order_needs_a_model_that_reads_it():
    """A bag of words never prefers the right order (ties are wrong); a model of the first word does where the picture shows that word."""
    chance = np.random.default_rng(0)
    words = [f"w{i:02d}" for i in range(30)]
    texts = [" ".join(chance.permutation(words)[:5]) for _ in range(60)]
    bag, reason = word_order(Bag(), Bag().embed_texts(texts), texts)
    assert bag.estimate.value == 0.0 and reason is None
    first, _ = word_order(First(), First().embed_texts(texts), texts)
    assert first.estimate.low > first.estimate.null and first.estimate.n == 60
    none, reason = word_order(Bag(), Bag().embed_texts(texts[:5]), texts[:5])
    assert none is None and "20 are needed" in reason


def test_the_report_of_a_model(study, tmp_path):
    """The JSON fits the schema, the findings speak of scenes, and the page holds the figure of the tests."""
    content = json.loads(json.dumps(plain(study.as_dict()), allow_nan=False))
    jsonschema.validate(content, SCHEMA)
    assert content["kind"] == "model" and content["model"]["scenes"] == 24
    measures = {v.measure for v in study.verdicts}
    assert {"zero_shot", "pairs_text", "pair_cosine", "caption_choice"} <= measures and "scenes" in study.figures()
    assert "Diagnosis of the model scenes-clip" in study.save(tmp_path / "r.html").read_text()


def test_models_of_one_side(pictures, tmp_path, monkeypatch):
    """A text encoder is diagnosed on captions alone and says what was not tested; nothing that it can use is one sentence."""
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path))
    study = workbench.diagnose.model("nano-bert", captions=pictures[1], device="cpu")
    assert [s.name for s in study.inputs.sets] == ["text"] and study.model["pictures"] == 0 and study.model["scenes"] == 0
    with pytest.raises(WorkbenchError, match="sees no pictures"):
        workbench.diagnose.model("nano-bert", images=pictures[0], device="cpu")
