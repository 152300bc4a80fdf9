"""Training scripts of the shipped models: smoke runs of each, and the parts whose mathematics can be wrong unseen."""

import hashlib
import json
import math

import numpy as np
import pytest
import torch

from workbench.models.pretrained import model_folder
from workbench.models.recipes import RECIPES, recipe, train
from workbench.models.recipes import _common as common

# One name for each script; of nano_bert the one that takes every branch. The bridges: test_pretrained_shipped.
OURS = {module: name for name, module in RECIPES.items() if module != "lit_bridge" and name != "mini-clip-tau001"}
STOCK = {
    "dual-encoder": "CLIPModel",
    "captioner": "VisionEncoderDecoderModel",
    "language-model": "GPT2LMHeadModel",
    "masked-language-model": "BertForMaskedLM",
}


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    """The folder of one smoke run of a model, made once.

    `evaluate` of models that are shipped runs in test_pretrained_shipped; here it only hands over their numbers, to save minutes.
    """
    folders = {}

    def run(name):
        if name not in folders:
            shipped = model_folder(name) / "metrics.json"
            with pytest.MonkeyPatch.context() as patch:
                if shipped.is_file() and name != "fact-gpt":
                    metrics = json.loads(shipped.read_text())["metrics"]
                    patch.setattr(recipe(name), "evaluate", lambda folder, **_: metrics)
                folders[name] = train(name, "ci", tmp_path_factory.mktemp("smoke") / name)
        return folders[name]

    return run


@pytest.mark.parametrize("name", OURS.values())
def test_smoke_run_writes_a_folder_that_transformers_reads(name, smoke):
    """`ci` runs the whole script: stock class, fp16 weights, tokenizer, finite metrics, all of them in `evaluate`, and right checksums."""
    import transformers
    from safetensors import safe_open

    folder = smoke(name)
    stored = json.loads((folder / "metrics.json").read_text())
    assert stored["name"] == name and stored["preset"] == "ci" and stored["steps"] > 0 and stored["curve"]
    assert stored["headline"].items() <= stored["metrics"].items()
    assert stored["baselines"] and all(
        math.isfinite(value) for value in [*stored["metrics"].values(), *stored["baselines"].values()]
    )

    model = getattr(transformers, STOCK[stored["kind"]]).from_pretrained(folder)
    assert model.dtype == torch.float32
    assert sum(p.numel() for p in model.parameters()) == pytest.approx(stored["parameters"], rel=0.01)
    with safe_open(folder / "model.safetensors", framework="pt") as file:
        kinds = {file.get_slice(key).get_dtype() for key in file.keys()}  # noqa: SIM118
    assert kinds <= {"F16", "I64"}
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    assert max(tokenizer("a red circle of the Lord")["input_ids"]) < len(tokenizer)
    kept = json.loads((folder / "tokenizer.json").read_text())
    assert kept["truncation"] is None and kept["padding"] is None
    assert (folder / "preprocessor_config.json").exists() == (stored["kind"] in ("dual-encoder", "captioner"))

    sums = dict(reversed(line.split("  ")) for line in (folder / "SHA256SUMS").read_text().splitlines())
    files = {p.name for p in folder.iterdir()} - {"SHA256SUMS", "card.md"}
    assert set(sums) == files
    assert all(hashlib.sha256((folder / file).read_bytes()).hexdigest() == digest for file, digest in sums.items())
    card = (folder / "card.md").read_text()
    assert all(f"{value:g}" in card for value in stored["headline"].values())
    assert "## Licence" in card and "## Not for" in card and "{" not in card.split("---", 2)[2].replace("{n", "")


def test_same_seed_same_weights_and_evaluate_repeats_the_card(tmp_path, smoke, monkeypatch):
    """Two runs of one seed store the same bytes, another seed does not; `evaluate` of the folder gives the metrics of its card."""
    module, first = recipe("fact-gpt"), smoke("fact-gpt")
    stored = json.loads((first / "metrics.json").read_text())["metrics"]
    assert {key: common.rounded(value) for key, value in module.evaluate(first).items()} == stored
    monkeypatch.setattr(module, "evaluate", lambda folder: stored)
    for folder, seed in (("again", 0), ("other", 4)):
        module.train("ci", tmp_path / folder, seed)
    weights = [(path / "model.safetensors").read_bytes() for path in (first, tmp_path / "again", tmp_path / "other")]
    assert weights[0] == weights[1] != weights[2]


def test_chunks_keep_every_id_once_and_in_order():
    """Pieces of long documents, their two special ids taken off, joined give the documents back."""
    documents = [list(range(10, 33)), [50, 51], list(range(60, 69))]
    pieces = common.chunks(documents, 8, 2, 3)
    assert all(len(piece) <= 8 and piece[0] == 2 and piece[-1] == 3 for piece in pieces)
    assert [i for piece in pieces for i in piece[1:-1]] == [i for ids in documents for i in ids]


@pytest.mark.parametrize("name", ["nano-bert", "nano-gpt", "fact-gpt"])
def test_documents_are_read_whole_after_any_other_call(name):
    """A tokenizer remembers the cutting and padding of its last call; documents for training must not notice."""
    from workbench.models.text import train_tokenizer

    tokenizer = train_tokenizer(["one two three four five"] * 30, vocab_size=80)
    texts = ["one two three four five " * 4, "two"]
    encoded = recipe(name).encoded
    before = encoded(tokenizer, texts)
    tokenizer(texts, padding=True, truncation=True, max_length=4)
    assert encoded(tokenizer, texts) == before
    assert len(before[0]) == 22 and tokenizer.pad_token_id not in before[0][1:-1]


def test_packed_batches_show_every_row_once_an_epoch():
    """One epoch holds each row exactly once, padded with the mask at 0, and batches near the wanted number of ids."""
    rows = [[i] * (3 + i % 17) for i in range(1, 200)]
    seen, batches = [], common.packed(rows, 128, seed=0)
    while len(seen) < len(rows):
        ids, mask = next(batches)
        assert ids.shape == mask.shape and ids.numel() <= 2 * 128
        seen += [int(row[0]) for row in ids]
        assert all(int(m.sum()) == len(rows[int(r[0]) - 1]) for r, m in zip(ids, mask, strict=True))
    assert sorted(seen) == list(range(1, 200))


def test_ngrams_are_distributions_and_count_by_hand():
    """p(b) and p(b | a) sum to 1 over the vocabulary, also after an id never seen; values agree with counting on paper."""
    grams = common.NGrams([[0, 1, 2, 1], [0, 2, 2]], vocabulary=4, weight=2.0)
    every = np.arange(4)
    for first in range(4):
        single, pair = grams.log_probs(np.full(4, first), every)
        assert np.exp(single).sum() == pytest.approx(1) and np.exp(pair).sum() == pytest.approx(1)
    single, pair = grams.log_probs(np.array([2]), np.array([1]))
    unigram = (2 + 1) / (5 + 4)
    assert math.exp(single[0]) == pytest.approx(unigram)
    assert math.exp(pair[0]) == pytest.approx((1 + 2 * unigram) / (2 + 2))


def test_masking_hits_15_percent_in_berts_proportions():
    """Of the words 15 % are to be guessed; 80 / 10 / 10 % of these show [MASK], a random id, themselves; special ids stay."""
    nano_bert = recipe("nano-bert")
    ids = torch.full((400, 100), 7)
    ids[:, 0], ids[:, -1] = 2, 3
    inputs, chosen = nano_bert.corrupt(ids, torch.Generator().manual_seed(0), 1000)
    assert not chosen[:, [0, -1]].any() and torch.equal(inputs[~chosen], ids[~chosen])
    assert chosen[:, 1:-1].float().mean() == pytest.approx(0.15, abs=0.01)
    shown = inputs[chosen]
    assert (shown == 4).float().mean() == pytest.approx(0.8, abs=0.02)
    assert (shown == 7).float().mean() == pytest.approx(0.1, abs=0.02)


def test_document_nats_equal_one_document_at_a_time():
    """Batched and padded scoring gives the log-probabilities of each document alone, pieces of long ones included."""
    nano_gpt = recipe("nano-gpt")
    torch.manual_seed(0)
    model = nano_gpt.build(50, width=16, layers=1, heads=2, length=nano_gpt.LENGTH).eval()
    documents = [torch.randint(50, (n,)).tolist() for n in (5, 300, 2, 129)]
    for ids, nats in zip(documents, nano_gpt.document_nats(model, documents, batch=2), strict=True):
        expected = []
        for at in range(0, len(ids) - 1, nano_gpt.LENGTH):
            piece = torch.tensor([ids[at : at + nano_gpt.LENGTH + 1]])
            with torch.no_grad():
                logs = model(input_ids=piece[:, :-1]).logits.log_softmax(-1)
            expected += [-float(logs[0, i, piece[0, i + 1]]) for i in range(piece.shape[1] - 1)]
        np.testing.assert_allclose(nats, expected, rtol=1e-4, atol=1e-5)
        assert len(nats) == len(ids) - 1


def test_windows_read_every_token_once_an_epoch():
    """The windows of an epoch are disjoint stretches of the joined documents: each token is predicted at most once."""
    nano_gpt = recipe("nano-gpt")
    documents = [[0, *range(1 + 40 * i, 41 + 40 * i), 0] for i in range(40)]
    joined = sum(len(ids) - 1 for ids in documents)
    batches = nano_gpt.windows(documents, 2, seed=0)
    seen = torch.cat([next(batches)[:, 1:].flatten() for _ in range((joined - 1) // 128 // 2)])
    words = seen[seen > 0]
    assert len(words.unique()) == len(words) > 1000


def test_no_picture_reads_as_a_row_of_dropped_tokens():
    """Image dropout (17 tokens of zeros) and no picture (1 token of zeros) give the same caption log-probabilities; a picture does not."""
    captioner = recipe("mini-captioner")
    from workbench.models.text import encode_texts, train_tokenizer

    tokenizer = train_tokenizer(["a red circle above a blue star"] * 3, vocab_size=60)
    torch.manual_seed(0)
    model = captioner.build(tokenizer)[0].eval()
    texts = encode_texts(tokenizer, ["a red star", "a blue circle above a star"])
    with torch.no_grad():
        picture = captioner.image_states(model, torch.rand(2, 3, 32, 32))
        dropped, none = (
            captioner.log_probs(model, picture * 0, texts),
            captioner.log_probs(model, captioner.image_states(model, None, 2), texts),
        )
        seen = captioner.log_probs(model, picture, texts)
    torch.testing.assert_close(dropped, none)
    assert (seen - none).abs().max() > 1e-3
    assert torch.equal(none == 0, texts.mask[:, 1:] == 0)


def test_held_out_triples_do_not_depend_on_the_wording():
    """A triple and its reversal are one: the same scenes are held out however they are worded; it is about 15 % of them."""
    scenes_clip = recipe("scenes-clip")
    from workbench.data.scene_captions import describe
    from workbench.data.scenes import load_scenes, scenes_of

    ds = load_scenes("train", n=1500, size=8, **scenes_clip.PAIRS)
    held = scenes_clip.held_out(ds)
    assert 0.11 < held.float().mean() < 0.19
    for wording in (1, 2, 3):
        again = [scenes_clip._left_out(one) for one in describe(scenes_of(ds), scenes_clip.RELATION_FACTS, wording=wording)]
        assert again == held.tolist()


def test_swapped_captions_are_false_and_use_the_same_words():
    """Both false captions are reorderings of the true one's words, differ from it, and are read back as other facts."""
    scenes_clip = recipe("scenes-clip")
    from workbench.data.scene_captions import describe
    from workbench.data.scenes import load_scenes, scenes_of

    ds = load_scenes("test", n=200, size=8, **scenes_clip.PAIRS)
    for one in describe(scenes_of(ds), scenes_clip.RELATION_FACTS, wording=None):
        for kind, text in enumerate(scenes_clip.swapped(one)):
            plain = [sorted(w for w in t.split() if w not in ("a", "an")) for t in (str(one), text)]
            assert plain[0] == plain[1]
            if kind == 0 or one.objects[0].colour != one.objects[1].colour:
                assert text != str(one)


def test_positions_begin_again_after_the_first_text():
    """A translation after [SEP] has the positions it has when alone, from 1 on; a single text keeps 0, 1, 2, ..."""
    nano_bert = recipe("nano-bert")
    ids = torch.tensor([[2, 9, 8, 3, 7, 6, 5, 3], [2, 9, 8, 7, 6, 5, 8, 3]])
    assert nano_bert.positions(ids, sep=3).tolist() == [[0, 1, 2, 3, 1, 2, 3, 4], [0, 1, 2, 3, 4, 5, 6, 7]]


def test_pairs_hold_both_texts_in_either_order():
    """[CLS] a [SEP] b [SEP], every other pair turned round, both cut at half the room; pairs with an empty side are left out."""
    from workbench.models.text import train_tokenizer

    nano_bert = recipe("nano-bert")
    tokenizer = train_tokenizer(["uno one dos two"] * 30, vocab_size=60)
    one, uno, two, dos = (tokenizer.convert_tokens_to_ids(word) for word in ("one", "uno", "two", "dos"))
    pairs = [("one two", "uno dos"), ("two", "dos"), ("one", "")]
    assert nano_bert.encoded_pairs(tokenizer, pairs, half=1) == [[2, one, 3, uno, 3], [2, dos, 3, two, 3]]
    assert nano_bert.encoded_pairs(tokenizer, pairs)[0] == [2, one, two, 3, uno, dos, 3]


def test_start_from_copies_layers_and_shared_pieces(tmp_path, monkeypatch):
    """Every layer equals the shipped model's; a piece known to both has its vector, wherever it stands; others keep their own."""
    from workbench.models.text import train_tokenizer

    nano_bert = recipe("nano-bert")
    theirs, mine = (train_tokenizer([text] * 30, vocab_size=80) for text in ("alpha beta gamma", "delta gamma beta"))
    torch.manual_seed(0)
    other, model = nano_bert.untrained(theirs, 2), nano_bert.untrained(mine, 2)
    before = model.bert.embeddings.word_embeddings.weight.detach().clone()
    common.store(tmp_path / "models" / "nano-bert", other, theirs)
    monkeypatch.setattr(nano_bert, "data_dir", lambda: tmp_path)
    shared = nano_bert.start_from("nano-bert", model, mine)
    assert shared == len(mine.get_vocab().keys() & theirs.get_vocab().keys()) > 5
    here, there = (t.convert_tokens_to_ids("gamma") for t in (mine, theirs))
    vectors, its = (m.bert.embeddings.word_embeddings.weight for m in (model, other))
    assert here != there and torch.equal(vectors[here], its[there].half().float())
    delta = mine.convert_tokens_to_ids("delta")
    assert torch.equal(vectors[delta], before[delta])
    layer = "bert.encoder.layer.1.output.dense.weight"
    assert torch.equal(model.state_dict()[layer], other.state_dict()[layer].half().float())
    monkeypatch.setattr(nano_bert, "data_dir", lambda: tmp_path / "nowhere")
    assert nano_bert.start_from("nano-bert", model, mine) == 0


def test_only_shape_names_weigh_more():
    """Each shape is one token of weight SHAPE_WEIGHT; every other token, the unknown one too, has weight 1."""
    from workbench.data.scene_captions import SHAPES
    from workbench.models.text import train_tokenizer

    captioner = recipe("mini-captioner")
    tokenizer = train_tokenizer(captioner._scene_words(), vocab_size=300)
    weights = captioner._token_weights(tokenizer)
    heavy = {tokenizer.convert_ids_to_tokens(i) for i in (weights != 1).nonzero().flatten().tolist()}
    assert heavy == set(SHAPES) and set(weights.tolist()) == {1.0, captioner.SHAPE_WEIGHT}
