"""Tokenizer and text encoder: exact round trips, the same vocabulary on every run, and blindness to padding."""

import subprocess
import sys

import pytest
import torch

from workbench import UnknownNameError
from workbench.models import TextEncoder, Tokens, decode_texts, encode_texts, text_encoder, train_tokenizer

COLOURS = ("red", "blue", "green", "yellow", "black", "purple", "grey", "white")
SHAPES = ("circle", "square", "triangle", "cross", "star", "ring")
TEXTS = [
    f"a {c} {s} and a {d} {z}"
    for c, d in zip(COLOURS, COLOURS[3:] + COLOURS[:3], strict=True)
    for s, z in zip(SHAPES, SHAPES[::-1], strict=True)
]
NAMES = ("a red circle", "a blue star beside a green, yellow-black ring!", "cross", "a a a a purple square and a white triangle")


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(TEXTS, vocab_size=120)


def encoder(tokenizer, **options):
    torch.manual_seed(0)
    return text_encoder(len(tokenizer), **{"width": 16, "heads": 2, "max_length": 32, **options}).eval()


def padded(tokens, extra):
    zeros = torch.zeros(len(tokens), extra, dtype=torch.int64)
    return Tokens(torch.cat([tokens.ids, zeros], 1), torch.cat([tokens.mask, zeros], 1))


@pytest.mark.parametrize("kind", ["wordpiece", "bpe"])
def test_round_trip_and_special_tokens(kind):
    """Known texts come back word for word; every text begins with [CLS] and ends with [SEP]; ids 0-4 are the special tokens."""
    tokenizer = train_tokenizer(TEXTS, vocab_size=300, kind=kind)
    tokens = encode_texts(tokenizer, TEXTS)
    assert decode_texts(tokenizer, tokens.ids) == TEXTS
    assert tokenizer.convert_ids_to_tokens(range(5)) == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    assert (tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id) == (0, 2, 3)
    lengths = tokens.mask.sum(1)
    assert (tokens.ids[:, 0] == 2).all() and (tokens.ids[torch.arange(len(TEXTS)), lengths - 1] == 3).all()
    assert ((tokens.ids == 0) == (tokens.mask == 0)).all()
    assert len(tokenizer) <= 300


def test_byte_level_round_trip_of_any_text():
    """BPE on bytes loses nothing: accents, emoji, other scripts, double spaces."""
    tokenizer = train_tokenizer(TEXTS, vocab_size=300, kind="bpe", lowercase=False)
    texts = ["Ünïcode  Ωmega", "família 👩‍👩‍👧", "猫と犬", " leading"]
    ids = encode_texts(tokenizer, texts).ids.tolist()
    assert tokenizer.batch_decode(ids, skip_special_tokens=True) == texts


def test_word_pieces_are_real_pieces():
    """Common words are one token, rare ones several, unseen characters [UNK]; concatenated pieces spell the word."""
    tokenizer = train_tokenizer([*TEXTS * 3, "zebra quagga"], vocab_size=110)
    assert tokenizer.tokenize("a red CIRCLE") == ["a", "red", "circle"]
    pieces = tokenizer.tokenize("zebragga")
    assert len(pieces) > 1 and "".join(p.removeprefix("##") for p in pieces) == "zebragga"
    assert tokenizer.tokenize("猫") == ["[UNK]"]
    assert tokenizer.tokenize("[MASK]") == ["[MASK]"]


CODE = """
import random, hashlib
from workbench.models import train_tokenizer
rng = random.Random(0)
words = ["".join(rng.choice("abcdefghij") for _ in range(rng.randint(2, 8))) for _ in range(300)]
texts = [" ".join(rng.choice(words) for _ in range(6)) for _ in range(300)]
def digest(kind):
    vocabulary = train_tokenizer(texts, vocab_size=400, kind=kind).get_vocab()
    return hashlib.sha256(repr(sorted(vocabulary.items())).encode()).hexdigest()
"""


@pytest.mark.parametrize("kind", ["wordpiece", "bpe"])
def test_same_texts_same_vocabulary(kind):
    """Ties are broken the same way every time (transformers' own recipe differs from run to run on these texts)."""
    scope = {}
    exec(CODE, scope)
    assert len({scope["digest"](kind) for _ in range(4)}) == 1


@pytest.mark.slow
def test_same_vocabulary_in_another_process():
    """Hash seeds are drawn per process: a fresh one must agree too."""
    scope = {}
    exec(CODE, scope)
    done = subprocess.run([sys.executable, "-c", CODE + "print(digest('wordpiece'))"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == scope["digest"]("wordpiece")


def test_saved_tokenizer_loads_without_our_package(tokenizer, tmp_path):
    """save_pretrained and AutoTokenizer.from_pretrained give the same ids, lengths and special tokens."""
    from transformers import AutoTokenizer

    tokenizer.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    assert torch.equal(encode_texts(again, NAMES).ids, encode_texts(tokenizer, NAMES).ids)
    assert (again.eos_token_id, again.model_max_length) == (3, 128)


def test_truncation(tokenizer):
    """A cut text keeps its end token and is never longer than asked for."""
    tokens = encode_texts(tokenizer, NAMES, max_length=5)
    assert tokens.ids.shape == (4, 5) and tokens.ids[1, -1] == 3


@pytest.mark.parametrize("layers", [0, 1, 2])
@pytest.mark.parametrize("pooling", ["mean", "cls", "last", "pooler"])
def test_padding_does_not_change_an_embedding(tokenizer, layers, pooling):
    """A text has one embedding, alone or beside a longer one, with any extra padding, whatever the padding ids are."""
    model = encoder(tokenizer, layers=layers, pooling=pooling)
    together = model(encode_texts(tokenizer, NAMES))
    alone = torch.cat([model(encode_texts(tokenizer, [name])) for name in NAMES])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)
    more = padded(encode_texts(tokenizer, NAMES), 5)
    torch.testing.assert_close(model(more), together, rtol=1e-4, atol=1e-5)
    noise = Tokens(torch.where(more.mask == 1, more.ids, 7), more.mask)
    torch.testing.assert_close(model(noise), together, rtol=1e-4, atol=1e-5)
    if layers or pooling == "mean":
        assert torch.pdist(together).min() > 1e-4, "vacuous: all embeddings equal"


def test_poolings_equal_loops(tokenizer):
    """mean: average over real tokens; cls: the first; last: the last real one."""
    tokens = padded(encode_texts(tokenizer, NAMES), 2)
    for pooling, pick in (("mean", lambda s: s.mean(0)), ("cls", lambda s: s[0]), ("last", lambda s: s[-1])):
        model = encoder(tokenizer, pooling=pooling)
        states = model.tokens(tokens)
        expected = torch.stack([pick(s[: int(m.sum())]) for s, m in zip(states, tokens.mask, strict=True)])
        torch.testing.assert_close(model(tokens), expected)


def test_bag_of_word_pieces_is_blind_to_order(tokenizer):
    """Without layers the order of the words does not matter, before and after training; with layers it does."""
    for layers, blind in ((0, True), (1, False)):
        model = encoder(tokenizer, layers=layers)
        optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
        model(encode_texts(tokenizer, NAMES)).square().sum().backward()
        optimizer.step()
        x, y = model(encode_texts(tokenizer, ["a red circle and a blue star", "a blue star and a red circle"]))
        assert torch.allclose(x, y, atol=1e-6) is blind
    words = encode_texts(tokenizer, ["red blue"])
    bag = encoder(tokenizer, layers=0)
    torch.testing.assert_close(bag(words)[0], torch.stack([bag.tokens(words[[0]])[0, i] for i in range(4)]).mean(0))


@pytest.mark.parametrize("layers", [0, 2])
def test_gradients_reach_every_parameter(tokenizer, layers):
    """All but the bag's frozen positions and the key bias of attention (softmax ignores a shift) are trained."""
    model = encoder(tokenizer, layers=layers)
    (model(encode_texts(tokenizer, NAMES)) * torch.randn(4, 16)).sum().backward()
    idle = [n for n, p in model.named_parameters() if p.grad is None or p.grad.abs().max() == 0]
    assert [n for n in idle if "key.bias" not in n] == (["backbone.embeddings.position_embeddings.weight"] if layers == 0 else [])


def test_dropout_is_on_in_training_only(tokenizer):
    """Two passes differ in training mode (SimCSE's views) and agree in evaluation mode; the default has no dropout."""
    tokens = encode_texts(tokenizer, NAMES)
    model = encoder(tokenizer, dropout=0.1)
    assert torch.equal(model(tokens), model(tokens))
    model.train()
    assert not torch.allclose(model(tokens), model(tokens), atol=1e-3)
    plain = encoder(tokenizer).train()
    assert torch.equal(plain(tokens), plain(tokens))


@pytest.mark.parametrize("layers", [0, 2])
def test_saved_backbone_loads_without_our_package(tokenizer, layers, tmp_path):
    """save_pretrained and AutoModel.from_pretrained give the same embeddings; a bag comes back as a bag."""
    from transformers import AutoModel

    model, tokens = encoder(tokenizer, layers=layers), encode_texts(tokenizer, NAMES)
    model.backbone.save_pretrained(tmp_path)
    again = TextEncoder(AutoModel.from_pretrained(tmp_path, add_pooling_layer=False)).eval()
    assert torch.equal(again(tokens), model(tokens))
    assert again.backbone.embeddings.position_embeddings.weight.requires_grad is (layers > 0)


def test_tokens_behave_like_rows():
    """Indexing, slicing, length and device of a batch of sequences."""
    tokens = Tokens(torch.arange(6).view(3, 2), torch.ones(3, 2, dtype=torch.int64))
    assert len(tokens) == 3 and tokens[1:].ids.tolist() == [[2, 3], [4, 5]]
    assert tokens[torch.tensor([2, 0])].ids.tolist() == [[4, 5], [0, 1]]
    assert tokens.to("cpu").ids.device.type == "cpu"


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda t: train_tokenizer("one string"), TypeError, "list of strings"),
        (lambda t: train_tokenizer(["a", 3]), TypeError, "int 3 at position 1"),
        (lambda t: train_tokenizer([]), ValueError, "at least one text"),
        (lambda t: train_tokenizer(["abc"], kind="wordpeice"), UnknownNameError, "did you mean 'wordpiece'"),
        (lambda t: train_tokenizer(["abc"], vocab_size=6), ValueError, "vocab_size must be at least 8"),
        (lambda t: train_tokenizer(["abc"], vocab_size=200, kind="bpe"), ValueError, "at least 261"),
        (lambda t: encode_texts(t, "a red circle"), TypeError, "list of strings"),
        (lambda t: encode_texts(t, []), ValueError, "at least one text"),
        (lambda t: text_encoder(0), ValueError, "vocab_size at least 1"),
        (lambda t: text_encoder(10, layers=-1), ValueError, "layers must be at least 0"),
        (lambda t: text_encoder(10, width=10, heads=3), ValueError, "multiple of heads"),
        (lambda t: text_encoder(10, pooling="max"), UnknownNameError, "pooling"),
        (lambda t: text_encoder(10, depth=3), UnknownNameError, "option of BertConfig"),
        (lambda t: encoder(t)(torch.zeros(2, 3)), TypeError, "use encode_texts"),
        (lambda t: encoder(t, max_length=4)(encode_texts(t, NAMES)), ValueError, "the model takes 4"),
        (lambda t: text_encoder(10, width=16, heads=2)(encode_texts(t, NAMES)), ValueError, "another tokenizer"),
        (lambda t: encoder(t)(Tokens(torch.zeros(0, 3).long(), torch.zeros(0, 3).long())), ValueError, "at least one token"),
        (lambda t: Tokens(torch.zeros(2, 3), torch.zeros(2, 3).long()), ValueError, "ids must be int64"),
        (lambda t: Tokens(torch.zeros(2, 3).long(), torch.zeros(2, 4).long()), ValueError, "mask must have the shape"),
    ],
)
def test_bad_input(tokenizer, call, error, match):
    """Each mistake is named."""
    with pytest.raises(error, match=match):
        call(tokenizer)
