"""CoCa: the lower half never sees the picture, no word sees [CLS], both losses are the paper's, and both can be learnt at once."""

import math

import pytest
import torch

from workbench import losses, seed_everything
from workbench.models import AttentionPooler, CoCa, Tokens, decode_texts, encode_texts, train_tokenizer
from workbench.training import batches, fit

TEXTS = [f"a {c} {s}" for c in ("red", "blue", "green", "yellow") for s in ("square", "bar")]
TEXTS[-1] = "a yellow and rather long bar"  # so that the others are padded


def build(**options):
    seed_everything(0)
    tokenizer = train_tokenizer(TEXTS, vocab_size=80)
    texts = encode_texts(tokenizer, TEXTS)
    options = {"image_features": 6, "width": 16, "heads": 2, "queries": 3, "projection_dim": 8, "max_length": 12, **options}
    return CoCa(tokenizer, **options).eval(), tokenizer, texts, torch.randn(8, 5, 6)


def test_a_pooler_is_attention_of_learned_queries():
    """One head, identity projections: the pooled token is the layer norm of the softmax-weighted mean, written as a loop."""
    seed_everything(0)
    pooler = AttentionPooler(2, 4, heads=1).double()
    attention = pooler.attention
    with torch.no_grad():
        attention.in_proj_weight.copy_(torch.eye(4).repeat(3, 1))
        attention.in_proj_bias.zero_()
        attention.out_proj.weight.copy_(torch.eye(4))
        attention.out_proj.bias.zero_()
        tokens = torch.randn(3, 5, 4, dtype=torch.float64)
        pooled, seen = pooler.read(tokens, weights=True)
        for i in range(3):
            for q in range(2):
                scores = torch.stack([pooler.queries[q] @ token / math.sqrt(4) for token in tokens[i]]).softmax(0)
                torch.testing.assert_close(seen[i, q], scores)
                mean = sum(w * token for w, token in zip(scores, tokens[i], strict=True))
                expected = (mean - mean.mean()) / (mean.var(unbiased=False) + 1e-5).sqrt()
                torch.testing.assert_close(pooled[i, q], expected)
        torch.testing.assert_close(pooler(tokens[:, [3, 1, 4, 0, 2]]), pooled)  # a set: the order of the tokens is nothing


@pytest.mark.parametrize("training", [False, True])
def test_who_sees_whom(training):
    """Words see earlier words only; [CLS] sees every real word and itself; no word, no next word sees [CLS] or padding."""
    model, _, texts, images = build()
    model.train(training)
    row, real = 0, int(texts.mask[0].sum())
    t = texts.ids.shape[1]
    assert real < t, "the row must be padded, else the test says nothing"

    def outputs(texts=texts, images=images):
        states, cls = model.read_text(texts)
        return torch.cat([states, cls[:, None]], 1)[row], model.next_words(states, model.read_image(images)[0])[row]

    def moved(after):
        return [((a - b).abs().amax(1) > 1e-6) for a, b in zip(after, before, strict=True)]

    before = outputs()
    for k in range(t):
        ids = texts.ids.clone()
        ids[row, k] = 5 + (ids[row, k] + 1) % 20
        lower, upper = moved(outputs(Tokens(ids, texts.mask)))
        if k < real:
            assert lower[:k].sum() == 0 and lower[k:real].all() and bool(lower[-1]), k
            assert upper[:k].sum() == 0 and upper[k:real].all()
        else:  # padding: only its own place moves
            assert not lower[:real].any() and not lower[-1] and not upper[:real].any()
    with torch.no_grad():
        model.cls.neg_()
        lower, upper = moved(outputs())
        assert bool(lower[-1]) and not lower[:-1].any() and not upper.any()
        model.cls.neg_()
        lower, upper = moved(outputs(images=-images))
    assert not lower.any() and upper.all(), "the picture reaches the upper half only"


def test_logits_depend_on_the_own_picture_only():
    """Another picture changes the logits and the vector of its row and of no other row."""
    model, _, texts, images = build()
    other = images.clone()
    other[3] = -images[3]
    a, b = model(images, texts), model(other, texts)
    for x, y in ((a.logits, b.logits), (a.image_embeddings[:, None], b.image_embeddings[:, None])):
        change = (x - y).abs().amax(dim=(1, 2))
        assert change[3] > 1e-4 and change[torch.arange(8) != 3].max() < 1e-6
    torch.testing.assert_close(a.text_embeddings, b.text_embeddings, rtol=0, atol=0)


@pytest.mark.parametrize(("cap", "con"), [(2.0, 1.0), (0.0, 1.0), (1.0, 0.0), (0.5, 3.0)])
def test_loss_equals_a_loop(cap, con):
    """Both directions added, the mean over real tokens of the batch, and the weights: the paper's equations as a loop."""
    model, _, texts, images = build()
    with torch.no_grad():
        out = model(images, texts)
        x, w, s = out.image_embeddings, out.text_embeddings, out.logit_scale
        contrast = told = 0.0
        count = 0
        for i in range(8):
            row, column = (s * x[i] @ w.T).exp(), (s * w[i] @ x.T).exp()
            contrast -= float((row[i] / row.sum()).log() + (column[i] / column.sum()).log()) / 8
            for t in range(1, texts.ids.shape[1]):
                if texts.mask[i, t]:
                    told -= float(out.logits[i, t - 1].log_softmax(0)[texts.ids[i, t]])
                    count += 1
        loss = float(model.loss(images, texts, caption_weight=cap, contrastive_weight=con))
    assert count < 8 * (texts.ids.shape[1] - 1)
    assert loss == pytest.approx(con * contrast + cap * told / count, rel=1e-4)
    both = 2 * float(losses.clip_loss(x, w, logit_scale=s))
    assert contrast == pytest.approx(both, rel=1e-4), "the sum is twice CLIP's mean"


def test_extra_padding_changes_nothing():
    """Loss, vectors and log-probabilities ignore padding, whatever stands there."""
    model, _, texts, images = build()
    more = Tokens(torch.cat([texts.ids, torch.full((8, 2), 9)], 1), torch.cat([texts.mask, torch.zeros(8, 2).long()], 1))
    with torch.no_grad():
        torch.testing.assert_close(model.loss(images, more), model.loss(images, texts))
        torch.testing.assert_close(model.text_embeddings(more), model.text_embeddings(texts))
        log_p = model.log_probs(images, more)
        torch.testing.assert_close(log_p[:, :-2], model.log_probs(images, texts))
    assert not log_p[:, -2:].any()


def test_gradients_reach_what_each_loss_trains():
    """Both losses train every parameter; contrast alone leaves the upper half, captions alone the vectors' parts."""
    model, _, texts, images = build()

    def idle(**weights):
        model.zero_grad()
        model.loss(images, texts, **weights).backward()
        return {n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()}

    assert idle() == set()
    assert all(n.startswith(("multimodal", "token_norm")) for n in idle(caption_weight=0)) and idle(caption_weight=0)
    vectors = ("contrastive_pooler", "cls", "image_projection", "text_projection", "log_scale")
    assert all(n.startswith(vectors) for n in idle(contrastive_weight=0)) and idle(contrastive_weight=0)


def test_the_cascade_reads_pooled_tokens_and_the_parallel_form_does_not():
    """With the parallel form the contrastive vector does not depend on the generative pooler; in the cascade it does."""
    for cascade in (True, False):
        model, _, _, images = build(cascade=cascade)
        with torch.no_grad():
            before = model.image_embeddings(images)
            model.generative_pooler.queries.add_(torch.randn_like(model.generative_pooler.queries))
            change = float((model.image_embeddings(images) - before).abs().max())
        assert (change > 1e-4) is cascade


def test_learns_to_find_and_to_tell():
    """150 steps on eight pairs: every picture finds its text, greedy captions are the texts, words are nearly certain."""
    model, tokenizer, texts, images = build(width=32, max_length=texts_length())
    fit(model, lambda rows: model.loss(images[rows], texts[rows]), batches(8, 8), steps=150, lr=5e-3, clip_norm=1.0, title=None)
    with torch.no_grad():
        out = model(images, texts)
        log_p = model.log_probs(images, texts)
    assert (out.image_embeddings @ out.text_embeddings.T).argmax(1).tolist() == list(range(8))
    assert float(-log_p.sum() / texts.mask[:, 1:].sum()) < 0.05
    ids = model.generate(images)
    assert decode_texts(tokenizer, ids) == TEXTS
    # Greedy words are the most probable ones of a teacher-forced pass over the caption itself.
    with torch.no_grad():
        best = model.next_words(model.read_text(Tokens(ids, torch.ones_like(ids)))[0], model.read_image(images)[0]).argmax(2)
    for i in range(8):
        end = ids[i].tolist().index(model.end)
        assert best[i, :end].tolist() == ids[i, 1 : end + 1].tolist()
    looks = model.look(images, texts)
    assert looks.shape == (8, texts.ids.shape[1] - 1, 5)
    torch.testing.assert_close(looks.sum(2), torch.ones(looks.shape[:2]))


def texts_length():
    return build()[2].ids.shape[1]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m, t, x: m(x[:3], t), "paired row by row"),
        (lambda m, t, x: m(x[..., :4], t), "image tokens must have shape"),
        (lambda m, t, x: m.loss(x, t, caption_weight=0, contrastive_weight=0), "not both 0"),
        (lambda m, t, x: m.generate(x, max_length=99), "max_length"),
        (lambda m, t, x: m.read_text(Tokens(t.ids, t.mask.flip(1))), "padded on the right"),
        (lambda m, t, x: build(width=15), "multiple of heads"),
        (lambda m, t, x: build(layers=(0, 1)), "layers"),
        (lambda m, t, x: build(queries=0), "queries"),
        (lambda m, t, x: build(temperature=0.0), "temperature"),
    ],
)
def test_bad_input_is_named(call, message):
    """Every refusal says which argument is wrong."""
    model, _, texts, images = build()
    with pytest.raises((ValueError, TypeError), match=message):
        call(model, texts, images)
