"""The captioner: causal, conditioned on its image, exact with and without cache, and able to learn pictures by heart."""

import math

import pytest
import torch

from workbench import UnknownNameError, seed_everything
from workbench.models import Captioner, ConvEncoder, Tokens, decode_texts, embed, encode_texts, train_tokenizer
from workbench.training import batches, fit

COLOURS = {"red": (1, 0, 0), "blue": (0, 0, 1), "green": (0, 0.7, 0), "yellow": (1, 0.9, 0)}
TEXTS = [f"a {c} {s}" for c in COLOURS for s in ("square", "bar")]


def pictures():
    """Eight 16-pixel pictures, one for each text."""
    images = torch.ones(8, 3, 16, 16)
    for i, colour in enumerate(COLOURS.values()):
        images[2 * i, :, 4:12, 4:12] = torch.tensor(colour)[:, None, None]
        images[2 * i + 1, :, 7:9, :] = torch.tensor(colour)[:, None, None]
    return images


def build(**options):
    seed_everything(0)
    tokenizer = train_tokenizer(TEXTS, vocab_size=60)
    options = {"width": 16, "max_length": 12, **options}
    return Captioner(tokenizer, ConvEncoder(widths=(8, 16)), **options), tokenizer, encode_texts(tokenizer, TEXTS)


@pytest.fixture(scope="module")
def trained():
    """A captioner that has seen the eight pairs 150 times, one time in four without the picture."""
    model, tokenizer, texts = build(width=32, image_dropout=0.25)
    images = pictures()
    history = fit(
        model, lambda rows: model.loss(images[rows], texts[rows]), batches(8, 8), steps=150, lr=1e-2, clip_norm=1.0, title=None
    )
    return model, tokenizer, texts, images, history


def test_later_tokens_do_not_change_earlier_logits():
    """Position i sees tokens up to i only: changing token k changes the logits from k on and none before."""
    model, _, texts = build()
    model.eval()
    images, before = pictures(), None
    before = model(images, texts)
    for k in (1, 3):
        ids = texts.ids.clone()
        ids[:, k] = (ids[:, k] + 1) % 20 + 5
        after = model(images, Tokens(ids, texts.mask))
        torch.testing.assert_close(after[:, :k], before[:, :k], rtol=1e-5, atol=1e-6)
        assert (after[:, k:] - before[:, k:]).abs().amax(dim=(1, 2)).min() > 1e-5


def test_logits_depend_on_the_image_and_only_on_the_own_one():
    """Another picture changes the row it belongs to and no other row."""
    model, _, texts = build()
    model.eval()
    images = pictures()
    other = images.clone()
    other[3] = 0
    change = (model(images, texts) - model(other, texts)).abs().amax(dim=(1, 2))
    assert change[3] > 1e-4 and change[torch.arange(8) != 3].max() < 1e-6


def test_log_probs_and_loss_equal_a_loop():
    """Sum over real tokens of the log-softmax of the next token; the loss is minus its mean; probabilities sum to one."""
    model, _, texts = build()
    texts = Tokens(*(torch.cat([x, torch.zeros(8, 2).long()], 1) for x in (texts.ids, texts.mask)))
    model.eval()
    images = pictures()
    logits, log_probs = model(images, texts), model.log_probs(images, texts)
    total, count = 0.0, 0
    for i in range(8):
        for t in range(texts.ids.shape[1] - 1):
            if texts.mask[i, t + 1]:
                p = logits[i, t].exp() / logits[i, t].exp().sum()
                expected = p[texts.ids[i, t + 1]].log()
                torch.testing.assert_close(log_probs[i, t], expected, rtol=1e-4, atol=1e-5)
                total, count = total + float(expected.detach()), count + 1
            else:
                assert log_probs[i, t] == 0
    assert count == 8 * 4 + 8 * (int(texts.mask.sum(1)[0]) - 5)
    assert float(model.loss(images, texts).detach()) == pytest.approx(-total / count, rel=1e-4)


def test_loss_equals_the_decoders_own():
    """transformers' labels with padding set to -100 give the same loss."""
    model, _, texts = build()
    model.eval()
    states = model.image_tokens(pictures(), 8)
    labels = texts.ids.masked_fill(texts.mask == 0, -100)
    theirs = model.decoder(input_ids=texts.ids, attention_mask=texts.mask, encoder_hidden_states=states, labels=labels).loss
    torch.testing.assert_close(model.loss(pictures(), texts), theirs)


def test_extra_padding_changes_nothing():
    """Loss and log-probabilities ignore padding, whatever stands there."""
    model, _, texts = build()
    model.eval()
    more = Tokens(torch.cat([texts.ids, torch.full((8, 3), 9)], 1), torch.cat([texts.mask, torch.zeros(8, 3).long()], 1))
    torch.testing.assert_close(model.loss(pictures(), more), model.loss(pictures(), texts))


def test_gradients_reach_every_parameter():
    """With some rows without image every parameter is trained, the null token too."""
    model, _, texts = build(image_dropout=0.5)
    model.loss(pictures(), texts).backward()
    idle = [n for n, p in model.named_parameters() if p.grad is None or p.grad.abs().max() == 0]
    assert idle == []


def test_a_dropped_image_is_no_image():
    """A row that lost its picture in training reads exactly what `images=None` reads; evaluation never drops."""
    model, _, texts = build(image_dropout=0.5)
    with torch.no_grad():
        model.null_token.normal_()
    without = model.log_probs(None, texts)
    torch.manual_seed(0)
    mixed = model.log_probs(pictures(), texts)
    torch.manual_seed(0)
    dropped = torch.rand(8, 1, 1).flatten() < 0.5
    same = (mixed - without).abs().amax(dim=1) < 1e-5
    assert torch.equal(same, dropped) and 0 < dropped.sum() < 8
    model.eval()
    assert ((model.log_probs(pictures(), texts) - without).abs().amax(dim=1) > 1e-4).all()


def test_overfits_eight_pairs_and_writes_them_back(trained):
    """The loss on the eight pairs falls to nearly zero and greedy captions are the texts, word for word."""
    model, tokenizer, texts, images, _ = trained
    with torch.no_grad():
        assert float(model.loss(images, texts)) < 0.02
    assert decode_texts(tokenizer, model.generate(images)) == TEXTS
    assert decode_texts(tokenizer, model.generate(images, num_beams=3)) == TEXTS


def test_no_image_gives_the_language_prior(trained):
    """Without a picture eight equally frequent texts cost log 8 nats each, no less and hardly more; untrained it is far off."""
    model, _, texts, images, _ = trained
    with torch.no_grad():
        nats = -model.log_probs(None, texts).sum(dim=1)
        with_image = -model.log_probs(images, texts).sum(dim=1)
    # exp(-nats) are probabilities of eight different texts: their sum cannot exceed one.
    assert 0.9 < float((-nats).exp().sum()) <= 1 + 1e-5
    assert float(nats.mean()) == pytest.approx(math.log(8), abs=0.25)
    assert float(with_image.max()) < 0.3
    untrained, _, texts = build(width=32)
    with torch.no_grad():
        assert -untrained.eval().log_probs(None, texts).sum(dim=1).mean() > 10


def test_sampling_without_image_visits_the_texts_evenly(trained):
    """160 samples from the prior are nearly all among the eight texts, and each of them comes up."""
    model, tokenizer, *_ = trained
    torch.manual_seed(0)
    samples = decode_texts(tokenizer, model.generate(n=160, sample=True))
    assert sum(s in TEXTS for s in samples) > 140
    assert min(samples.count(t) for t in TEXTS) >= 4
    torch.manual_seed(0)
    assert decode_texts(tokenizer, model.generate(n=160, sample=True)) == samples


def test_generate_equals_a_greedy_loop_without_cache():
    """transformers' cached decoding gives the argmax chain of full forward passes (untrained model: no easy answers)."""
    model, tokenizer, _ = build()
    with torch.no_grad():
        for p in model.decoder.parameters():
            p.add_(torch.randn_like(p) * 0.2)
    model.eval()
    images = pictures()
    ids = torch.full((8, 1), 2)
    done = torch.zeros(8, dtype=torch.bool)
    for _ in range(11):
        states = model.image_tokens(images, 8)
        following = model.decoder(input_ids=ids, encoder_hidden_states=states, use_cache=False).logits[:, -1].argmax(-1)
        following = torch.where(done, tokenizer.pad_token_id, following)
        done |= following == tokenizer.eos_token_id
        ids = torch.cat([ids, following[:, None]], 1)
        if done.all():
            break
    written = model.train().generate(images)
    assert torch.equal(written, ids) and model.training
    assert len({tuple(row) for row in ids.tolist()}) > 1, "vacuous: all captions equal"


def test_prefix_and_length(trained):
    """Captions start with the prefix and never exceed max_length."""
    model, tokenizer, _, images, _ = trained
    prefix = encode_texts(tokenizer, ["a blue"] * 8).ids[:, :3]
    out = model.generate(images, prefix=prefix)
    assert torch.equal(out[:, :3], prefix) and all(t.startswith("a blue") for t in decode_texts(tokenizer, out))
    assert model.generate(images, max_length=3).shape == (8, 3)


def test_cached_image_tokens_give_the_same_model():
    """Without encoder the captioner takes the encoder's tokens as they are."""
    model, tokenizer, texts = build()
    model.eval()
    tokens = embed(model.image_encoder, pictures(), method="tokens")
    over_cache = Captioner(tokenizer, image_features=16, width=16, max_length=12).eval()
    state = {k: v for k, v in model.state_dict().items() if not k.startswith("image_encoder.")}
    over_cache.load_state_dict(state)
    torch.testing.assert_close(over_cache.loss(tokens, texts), model.loss(pictures(), texts))


def test_saved_decoder_loads_without_our_package(trained, tmp_path):
    """save_pretrained and GPT2LMHeadModel.from_pretrained give the same logits."""
    from transformers import GPT2LMHeadModel

    model, _, texts, images, _ = trained
    model.decoder.save_pretrained(tmp_path)
    again = GPT2LMHeadModel.from_pretrained(tmp_path).eval()
    with torch.no_grad():
        states = model.image_tokens(images, 8)
        logits = again(input_ids=texts.ids, attention_mask=texts.mask, encoder_hidden_states=states).logits
        torch.testing.assert_close(logits, model(images, texts))


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda m, t, x: Captioner(t), ValueError, "image_features must be given"),
        (lambda m, t, x: Captioner(t, image_features=4, image_dropout=1.0), ValueError, r"image_dropout must be in \[0, 1\)"),
        (lambda m, t, x: Captioner(t, image_features=4, depth=2), UnknownNameError, "option of GPT2Config"),
        (lambda m, t, x: Captioner(t, image_features=4, width=10, heads=3), ValueError, "multiple of heads"),
        (lambda m, t, x: m(pictures()[:3], x), ValueError, "paired row by row, got 3 and 8"),
        (lambda m, t, x: m(pictures(), x.ids), TypeError, "use encode_texts"),
        (lambda m, t, x: m(pictures()[:, :1], x), ValueError, r"\(n, 3, h, w\)"),
        (lambda m, t, x: m(pictures(), Tokens(x.ids + 99, x.mask)), ValueError, "another tokenizer"),
        (lambda m, t, x: m(None, Tokens(x.ids, x.mask * torch.tensor([0, 1, 1, 1, 1]))), ValueError, "padded on the right"),
        (lambda m, t, x: m(None, Tokens(x.ids.repeat(1, 9), x.mask.repeat(1, 9))), ValueError, "the model takes 12"),
        (lambda m, t, x: m.generate(pictures(), max_length=99), ValueError, "at most 12 tokens, got 99"),
        (lambda m, t, x: m.generate(pictures(), prefix=x.ids[:2]), ValueError, "one row for each of 8"),
        (lambda m, t, x: m.generate(torch.rand(2, 3, 128, 128)), ValueError, "1 to 128"),
    ],
)
def test_bad_input(call, error, match):
    """Each mistake is named."""
    model, tokenizer, texts = build()
    with pytest.raises(error, match=match):
        call(model, tokenizer, texts)
