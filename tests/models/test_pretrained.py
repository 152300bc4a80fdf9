"""One object for every source: what it computes is what transformers computes by hand, and each way to fail is one sentence."""

import json
import math

import httpx
import pytest
import torch

from workbench.errors import DataError, UnknownNameError, WorkbenchError
from workbench.models import list_models, pretrained, train_tokenizer
from workbench.models.hub import CLASSES, kind_of
from workbench.models.images import ImagePreparation, read_preparation, require_pictures
from workbench.models.packaged import PACKAGED
from workbench.models.recipes import RECIPES
from workbench.models.wrappers import KINDS

TEXTS = ["a red dog", "a small blue dog runs in the house", "one", "two cats and a dog", "a red house"]
LENGTH = 24


def tokenizer():
    return train_tokenizer(TEXTS * 3, vocab_size=60, max_length=LENGTH)


def bert(vocab, cls="BertForMaskedLM"):
    import transformers

    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    return getattr(transformers, cls)(transformers.BertConfig(vocab_size=vocab, max_position_embeddings=LENGTH, **sizes))


def gpt(vocab, **extra):
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(1)
    return GPT2LMHeadModel(
        GPT2Config(vocab_size=vocab, n_embd=16, n_layer=2, n_head=2, n_positions=LENGTH, bos_token_id=2, eos_token_id=3, **extra)
    )


def clip(vocab):
    from transformers import CLIPConfig, CLIPModel

    torch.manual_seed(2)
    common = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32, "projection_dim": 8}
    text = {
        **common,
        "vocab_size": vocab,
        "max_position_embeddings": LENGTH,
        "eos_token_id": 3,
        "bos_token_id": 2,
        "pad_token_id": 0,
    }
    return CLIPModel(CLIPConfig(text_config=text, vision_config={**common, "image_size": 16, "patch_size": 8}, projection_dim=8))


def captioner(tok):
    from transformers import VisionEncoderDecoderModel, ViTConfig, ViTModel

    torch.manual_seed(3)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    encoder = ViTModel(ViTConfig(image_size=16, patch_size=8, **sizes), add_pooling_layer=False)
    model = VisionEncoderDecoderModel(encoder=encoder, decoder=gpt(len(tok), add_cross_attention=True))
    for config in (model.config, model.generation_config):
        config.decoder_start_token_id, config.pad_token_id, config.eos_token_id = tok.cls_token_id, 0, tok.sep_token_id
    model.generation_config.max_length = 10
    return model


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Tiny models of every kind, as save_pretrained writes them."""
    home, tok = tmp_path_factory.mktemp("models"), tokenizer()
    models = {
        "bert": bert(len(tok)),
        "encoder": bert(len(tok), "BertModel"),
        "gpt": gpt(len(tok)),
        "clip": clip(len(tok)),
        "captioner": captioner(tok),
        "vit": captioner(tok).encoder,
    }
    for name, model in models.items():
        model.save_pretrained(home / name)
        if name != "vit":
            tok.save_pretrained(home / name)
    colours = {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.3, 0.4], "size": {"height": 16, "width": 16}, "resample": 2}
    for name in ("clip", "captioner"):
        (home / name / "preprocessor_config.json").write_text(json.dumps(colours))
    return home


def load(home, name):
    return pretrained(home / name, device="cpu")


def broken(home, tmp_path, name="bert"):
    import shutil

    return shutil.copytree(home / name, tmp_path / "broken")


# ---- what it computes --------------------------------------------------------------------------------------------------------


def test_kinds_follow_the_configuration(home):
    """The kind comes from config.json alone."""
    kinds = {name: load(home, name).kind for name in ("bert", "encoder", "gpt", "clip", "captioner", "vit")}
    assert kinds == {
        "bert": "masked-language-model",
        "encoder": "sentence-encoder",
        "gpt": "language-model",
        "clip": "dual-encoder",
        "captioner": "captioner",
        "vit": "image-encoder",
    }
    assert {*kinds.values(), "speech", "bridge"} == set(KINDS) == {*CLASSES, "bridge"}


def test_kinds_of_well_known_configurations():
    """SigLIP, BLIP, Whisper, Llama, DINOv2 and ResNet are recognised without their weights; T5 is refused by name."""
    import transformers as tr

    cases = {
        "dual-encoder": tr.SiglipConfig(),
        "captioner": tr.BlipConfig(architectures=["BlipForConditionalGeneration"]),
        "speech": tr.WhisperConfig(architectures=["WhisperForConditionalGeneration"]),
        "language-model": tr.LlamaConfig(architectures=["LlamaForCausalLM"]),
        "image-encoder": tr.Dinov2Config(architectures=["Dinov2Model"]),
        "sentence-encoder": tr.MPNetConfig(architectures=["MPNetModel"]),
    }
    assert {kind: kind_of(config) for kind, config in cases.items()} == {kind: kind for kind in cases}
    assert kind_of(tr.ResNetConfig(architectures=["ResNetForImageClassification"])) == "image-encoder"
    with pytest.raises(WorkbenchError, match="T5ForConditionalGeneration"):
        kind_of(tr.T5Config(architectures=["T5ForConditionalGeneration"]))


@pytest.mark.parametrize("name", ["bert", "encoder"])
def test_text_embeddings_are_the_mean_of_real_tokens(home, name):
    """Each row equals the mean hidden state of that text computed alone, so neither order nor padding leaks in."""
    model = load(home, name)
    found = model.embed_texts(TEXTS, batch_size=2)
    backbone = model.model.bert if name == "bert" else model.model
    for text, row in zip(TEXTS, found, strict=True):
        ids = torch.tensor([model.tokenizer(text)["input_ids"]])
        with torch.no_grad():
            state = backbone(input_ids=ids).last_hidden_state[0].mean(dim=0)
        torch.testing.assert_close(row, state / state.norm(), atol=1e-5, rtol=1e-4)
    assert (found[0] - found[1]).norm() > 1e-3
    raw = model.embed_texts(TEXTS, unit=False)
    torch.testing.assert_close(raw / raw.norm(dim=1, keepdim=True), found, atol=1e-5, rtol=1e-4)


def test_what_sentence_transformers_recorded_holds(home, tmp_path):
    """Its files beside a model say where texts are cut and which state stands for a text; damaged ones say nothing."""
    folder = broken(home, tmp_path, "encoder")
    plain, long = pretrained(folder, device="cpu"), " ".join(TEXTS)
    assert plain.encode([long]).ids.shape[1] > 5
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 5, "do_lower_case": false}')
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode_cls_token": true}')
    model = pretrained(folder, device="cpu")
    tokens = model.encode([long])
    assert model.max_length == 5 == tokens.ids.shape[1]
    with torch.no_grad():
        first = model.model(input_ids=tokens.ids).last_hidden_state[0, 0]
    torch.testing.assert_close(model.embed_texts([long])[0], first / first.norm(), atol=1e-5, rtol=1e-4)
    for text in ("[]", "{", '{"max_seq_length": null}'):
        (folder / "sentence_bert_config.json").write_text(text)
        assert pretrained(folder, device="cpu").max_length == plain.max_length


def test_log_probs_are_log_softmax_of_the_next_token(home):
    """Against a loop over tokens with the plain model; padding is exactly zero; another text gives another number."""
    model = load(home, "gpt")
    found = model.log_probs(TEXTS, batch_size=2)
    for text, row in zip(TEXTS, found, strict=True):
        ids = model.tokenizer(text)["input_ids"]
        with torch.no_grad():
            logits = model.model(input_ids=torch.tensor([ids])).logits[0].double()
        wanted = [float(logits[i].log_softmax(-1)[ids[i + 1]]) for i in range(len(ids) - 1)]
        torch.testing.assert_close(row[: len(wanted)].double(), torch.tensor(wanted).double(), atol=1e-5, rtol=1e-5)
        assert (row[len(wanted) :] == 0).all()
    assert found.sum(dim=1).unique().numel() == len(TEXTS)


def test_greedy_generation_takes_the_most_probable_token(home):
    """Each new token is the argmax after the prompt without its closing token; a prompt in a batch changes nothing."""
    model = load(home, "gpt")
    prompts = [TEXTS[0], TEXTS[1]]
    found = model.generate(prompts, max_new_tokens=4)
    ids = model.tokenizer(prompts[0])["input_ids"][:-1]
    fresh = []
    for _ in range(4):
        with torch.no_grad():
            fresh.append(int(model.model(input_ids=torch.tensor([ids + fresh])).logits[0, -1].argmax()))
        if fresh[-1] == model.tokenizer.eos_token_id:
            break
    assert found[0] == model.tokenizer.decode(fresh, skip_special_tokens=True)
    assert model.generate([prompts[1]], max_new_tokens=4) == found[1:]
    with pytest.raises(ValueError, match="fills the model's 24 tokens"):
        model.generate(["dog " * 40])


def test_dual_encoder_equals_transformers_by_hand(home):
    """Images are resized to 16 pixels as the loaders do, normalised with the stored colours, projected; texts likewise."""
    model = load(home, "clip")
    images = torch.randint(0, 256, (3, 3, 64, 64), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    small = torch.nn.functional.avg_pool2d(images.float() / 255, 4)
    mean, std = torch.tensor([0.5, 0.4, 0.3]).view(1, 3, 1, 1), torch.tensor([0.2, 0.3, 0.4]).view(1, 3, 1, 1)
    with torch.no_grad():
        wanted = model.model.visual_projection(model.model.vision_model(pixel_values=(small - mean) / std).pooler_output)
    torch.testing.assert_close(model.embed_images(images), wanted / wanted.norm(dim=1, keepdim=True), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(model.embed_images(images.float() / 255, batch_size=2), model.embed_images(images))
    tokens = model.encode(TEXTS[:1])
    with torch.no_grad():
        text = model.model.text_projection(model.model.text_model(input_ids=tokens.ids).pooler_output)
    torch.testing.assert_close(model.embed_texts(TEXTS)[:1], text / text.norm(), atol=1e-5, rtol=1e-4)
    assert model.logit_scale == pytest.approx(math.exp(2.6592), rel=1e-4)


def test_captioner_reads_the_image(home):
    """Log-probabilities equal the model's own loss; the image changes them; without one the decoder reads one token of zeros."""
    model = load(home, "captioner")
    images = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    found = model.log_probs(TEXTS[:2], images)
    tokens = model.encode(TEXTS[:2])
    pixels = model.prepare(images)
    with torch.no_grad():
        logits = model.model(pixel_values=pixels, decoder_input_ids=tokens.ids, decoder_attention_mask=tokens.mask).logits
    loss = torch.nn.functional.cross_entropy(logits[0, :-1], tokens.ids[0, 1:], reduction="none") * tokens.mask[0, 1:]
    torch.testing.assert_close(-found[0], loss, atol=1e-5, rtol=1e-4)
    prior = model.log_probs(TEXTS[:2])
    assert (prior - found).abs().max() > 1e-4
    with torch.no_grad():
        zeros = torch.zeros(2, 1, 16)
        logits = model.model.decoder(input_ids=tokens.ids, attention_mask=tokens.mask, encoder_hidden_states=zeros).logits
    loss = torch.nn.functional.cross_entropy(logits[1, :-1], tokens.ids[1, 1:], reduction="none") * tokens.mask[1, 1:]
    torch.testing.assert_close(-prior[1], loss, atol=1e-5, rtol=1e-4)
    assert len(model.caption(images)) == 2 and len(model.caption(None, n=3)) == 3
    assert model.caption(images) == model.caption(images)
    with pytest.raises(ValueError, match="paired row by row, got 2 and 1 rows"):
        model.log_probs(TEXTS[:1], images)


def test_image_encoder_without_preprocessor(home):
    """A ViT without preprocessor_config.json takes the size in its configuration and ImageNet's colours; rows are unit."""
    model = load(home, "vit")
    assert model.prepare.size == (16, 16) and tuple(model.prepare.mean) == (0.485, 0.456, 0.406)
    rows = model.embed_images(torch.rand(5, 1, 28, 28), batch_size=2)
    assert rows.shape == (5, 16)
    torch.testing.assert_close(rows.norm(dim=1), torch.ones(5))


def test_half_precision_on_request(home):
    """bfloat16 weights give float32 rows near those of float32 weights."""
    exact, half = load(home, "bert"), pretrained(home / "bert", device="cpu", dtype=torch.bfloat16)
    assert half.dtype == torch.bfloat16 and exact.dtype == torch.float32
    a, b = exact.embed_texts(TEXTS), half.embed_texts(TEXTS)
    assert b.dtype == torch.float32 and (a * b).sum(dim=1).min() > 0.99


def test_methods_that_a_kind_lacks_say_so(home):
    """Every kind has some method that it lacks, and the sentence names model, kind and who has it."""
    images = torch.rand(1, 3, 16, 16)
    calls = {
        "bert": lambda m: m.embed_images(images),
        "gpt": lambda m: m.caption(images),
        "clip": lambda m: m.generate(["a"]),
        "captioner": lambda m: m.embed_texts(["a"]),
        "vit": lambda m: m.log_probs(["a"]),
        "encoder": lambda m: m.transcribe(torch.zeros(1, 8000), 8000),
    }
    for name, call in calls.items():
        model = load(home, name)
        with pytest.raises(WorkbenchError, match=f"has no .*: its kind is {model.kind}, and .* can do that"):
            call(model)
    with pytest.raises(WorkbenchError, match="sees no images"):
        load(home, "gpt").log_probs(["a"], images)


# ---- pictures ----------------------------------------------------------------------------------------------------------------


def test_preparation_cuts_the_centre():
    """Shorter edge to 8, then the middle 4 x 4: a picture whose centre is white and whose border is black comes out white."""
    picture = torch.zeros(1, 3, 16, 32)
    picture[..., 4:12, 12:20] = 1
    prepare = ImagePreparation((4, 4), shortest=8, mean=(0, 0, 0), std=(1, 1, 1))
    torch.testing.assert_close(prepare(picture)[..., 1:3, 1:3], torch.ones(1, 3, 2, 2), atol=0.05, rtol=0)
    assert prepare(picture).shape == (1, 3, 4, 4)
    assert prepare(picture, size=6).shape == (1, 3, 6, 6)


@pytest.mark.parametrize(
    ("stored", "wanted"),
    [
        ({"size": 20}, (20, 20)),
        ({"size": {"shortest_edge": 20}, "do_center_crop": True, "crop_size": {"height": 12, "width": 14}}, (12, 14)),
        ({"size": {"shortest_edge": 20}}, (20, 20)),
        ({"do_resize": False}, (16, 16)),
    ],
)
def test_preprocessor_files(tmp_path, home, stored, wanted):
    """The forms in which preprocessor_config.json gives a size."""
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(stored))
    found = read_preparation(tmp_path, load(home, "vit").model.config)
    assert found.size == wanted and found.shortest == (20 if "crop_size" in stored else None)
    (tmp_path / "preprocessor_config.json").write_text("{")
    with pytest.raises(DataError, match="is not JSON"):
        read_preparation(tmp_path, None)


@pytest.mark.parametrize(
    ("images", "error", "match"),
    [
        ([[1.0]], TypeError, "must be a torch tensor"),
        (torch.zeros(2, 3, 4, 4, dtype=torch.int64), TypeError, "uint8, or floating point"),
        (torch.zeros(3, 4, 4), ValueError, r"shape \(n, 3, h, w\)"),
        (torch.zeros(2, 4, 4, 4), ValueError, r"shape \(n, 3, h, w\)"),
        (torch.zeros(0, 3, 4, 4), ValueError, "n >= 1"),
        (torch.full((1, 3, 4, 4), 255.0), ValueError, r"in \[0, 1\], got 255 to 255"),
        (torch.full((1, 3, 4, 4), float("nan")), ValueError, r"in \[0, 1\], got nan"),
    ],
)
def test_bad_pictures_are_named(images, error, match):
    """Pictures of another kind than our data sets hold."""
    with pytest.raises(error, match=match):
        require_pictures(images)


# ---- one sentence for each way to fail ---------------------------------------------------------------------------------------


def test_folder_without_config(home, tmp_path):
    with pytest.raises(DataError, match=r"has no config\.json, so it is not a model folder"):
        pretrained(tmp_path)
    with pytest.raises(DataError, match="there is no folder"):
        pretrained(tmp_path / "nothing")
    with pytest.raises(DataError, match="there is no folder"):
        pretrained("./nothing")


@pytest.mark.parametrize(
    ("config", "error", "match"),
    [
        ("{", DataError, "is not readable JSON"),
        ("[]", DataError, "has no model_type"),
        ('{"hidden_size": 3}', DataError, "has no model_type"),
        ('{"model_type": "mind-reader"}', WorkbenchError, "'mind-reader', which cannot be loaded: transformers does not have it"),
        ('{"model_type": "own", "auto_map": {"AutoModel": "x.Y"}}', WorkbenchError, "code of its own, which is never run here"),
        ('{"model_type": "t5", "architectures": ["T5Model"]}', WorkbenchError, "which is none of: dual-encoder"),
    ],
)
def test_unusable_configurations(home, tmp_path, config, error, match):
    folder = broken(home, tmp_path)
    (folder / "config.json").write_text(config)
    with pytest.raises(error, match=match):
        pretrained(folder)


def test_pickles_are_refused(home, tmp_path):
    """A folder with pytorch_model.bin only is not opened, and the file is never read."""
    folder = broken(home, tmp_path)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(DataError, match=r"only as pytorch_model\.bin, a format that may run code"):
        pretrained(folder)
    (folder / "pytorch_model.bin").unlink()
    with pytest.raises(DataError, match=r"no model\.safetensors"):
        pretrained(folder)


def test_damaged_or_foreign_weights(home, tmp_path):
    """A truncated file, weights of other sizes, and weights that are not there are all found out at once."""
    folder = broken(home, tmp_path)
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[:-100])
    with pytest.raises(DataError, match=r"does not fit config\.json or is damaged"):
        pretrained(folder)
    (folder / "model.safetensors").write_bytes((home / "gpt" / "model.safetensors").read_bytes())
    with pytest.raises(DataError, match=r"lacks .* weights of BertForMaskedLM"):
        pretrained(folder)
    (folder / "model.safetensors").write_bytes(whole)
    stored = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**stored, "intermediate_size": 64}))
    with pytest.raises(DataError, match=r"does not fit config\.json or is damaged"):
        pretrained(folder)


def test_tokenizer_must_fit(home, tmp_path):
    """More tokens than the model has rows, far fewer, or none at all."""
    folder = broken(home, tmp_path)
    train_tokenizer(["abcdefghijklmnopqrstuvwxyz 0123456789"], vocab_size=200).save_pretrained(folder)
    with pytest.raises(DataError, match=r"the tokenizer in .* has \d+ tokens, the model knows \d+; use the tokenizer"):
        pretrained(folder)
    train_tokenizer(["ab"], vocab_size=10).save_pretrained(folder)
    with pytest.raises(DataError, match="use the tokenizer it was trained with"):
        pretrained(folder)
    for file in folder.glob("tokenizer*"):
        file.unlink()
    with pytest.raises(DataError, match="has no tokenizer"):
        pretrained(folder)


def test_names_that_do_not_exist():
    """A slip in one of our names is corrected; arguments of another type are named."""
    with pytest.raises(UnknownNameError, match="did you mean 'nano-bert'"):
        pretrained("nano-bertt")
    for wrong in (None, 3, ""):
        with pytest.raises(TypeError, match="name must be a name or a folder"):
            pretrained(wrong)
    with pytest.raises(TypeError, match="dtype must be a floating point"):
        pretrained("minilm", dtype=torch.int8)
    with pytest.raises(WorkbenchError, match="neither a folder nor a name of the hub"):
        pretrained("what is this")


def test_hub_names_while_offline():
    """No network and nothing in the cache: said in one sentence, with our own names where it might have been one of them."""
    with pytest.raises(
        WorkbenchError, match=r"'nobody/tiny-clip' is not in the local cache of the hub and the network is off"
    ) as a:
        pretrained("nobody/tiny-clip")
    assert "\n" not in str(a.value)
    with pytest.raises(WorkbenchError, match=r"network is off .* models of the workbench: mini-clip"):
        pretrained("zzzzqqqq")


def test_hub_names_that_the_hub_does_not_have(monkeypatch):
    """What the hub answers to an unknown and to a closed repository becomes one sentence each."""
    import huggingface_hub
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    def answer(error):
        def download(*args, **options):
            raise error(
                "401 Client Error.", response=httpx.Response(401, request=httpx.Request("GET", "https://example.invalid"))
            )

        return download

    monkeypatch.setattr(huggingface_hub, "snapshot_download", answer(RepositoryNotFoundError))
    with pytest.raises(WorkbenchError, match="the hub has no public model 'nobody/tiny-clip'"):
        pretrained("nobody/tiny-clip")
    monkeypatch.setattr(huggingface_hub, "snapshot_download", answer(GatedRepoError))
    with pytest.raises(WorkbenchError, match="only to people who accepted its terms"):
        pretrained("nobody/tiny-clip")


def test_hub_asks_for_no_pickle_and_no_code(monkeypatch, home):
    """What is downloaded can never be a pickle or a script; a hub name then opens like a folder."""
    import huggingface_hub

    asked = {}

    def download(name, **options):
        asked.update(options, name=name)
        return str(home / "bert")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    model = pretrained("somebody/bert", device="cpu")
    assert model.name == asked["name"] == "somebody/bert" and model.kind == "masked-language-model"
    assert not any(p.endswith((".bin", ".py", ".pt", ".pkl", "*")) for p in asked["allow_patterns"])


def test_list_names_every_model_once():
    """The list holds every recipe and package, with the command that brings what is not there."""
    rows = list_models()
    assert [r["name"] for r in rows] == [*RECIPES, *PACKAGED]
    keys = {"name", "kind", "what", "parameters", "bytes", "source", "licence", "headline", "available", "remedy"}
    for row in rows:
        assert set(row) == keys and (row["remedy"] is None) == row["available"]
        if row["available"]:
            assert row["kind"] in KINDS and row["parameters"] > 0 and row["bytes"] > 0 and row["licence"] and row["what"]
    json.dumps(rows)
