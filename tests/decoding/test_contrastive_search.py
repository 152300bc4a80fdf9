"""Contrastive search against a loop without cache or batch, and against transformers' greedy search where alpha is zero."""

import math
from collections import Counter

import numpy as np
import pytest
import torch

from workbench import decoding
from workbench.models.ngrams import NGramModel


def gpt2(seed=0):
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(seed)
    config = GPT2Config(vocab_size=29, n_embd=16, n_layer=2, n_head=2, n_positions=32, bos_token_id=0, eos_token_id=None)
    model = GPT2LMHeadModel(config).eval()
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.4)
    return model


def llama(seed=0):
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2, "num_key_value_heads": 1}
    config = LlamaConfig(vocab_size=29, num_hidden_layers=2, max_position_embeddings=32, eos_token_id=None, **sizes)
    model = LlamaForCausalLM(config).eval()
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.4)
    return model


def slow(model, prefix, k, alpha, new_tokens):
    """One text, one candidate at a time, everything read anew: the formula as it stands."""
    text, choices = list(prefix), []
    for _ in range(new_tokens):
        with torch.no_grad():
            p = model(torch.tensor([text])).logits[0, -1].softmax(-1)
            best = None
            for v in p.topk(k).indices.tolist():
                h = model(torch.tensor([[*text, v]]), output_hidden_states=True).hidden_states[-1][0]
                penalty = max(float(torch.cosine_similarity(h[-1], h[j], dim=0)) for j in range(len(text)))
                score = (1 - alpha) * float(p[v]) - alpha * penalty
                if best is None or score > best[0]:
                    best = (score, v, penalty)
        text.append(best[1])
        choices.append(best[1:])
    return choices


PREFIX = torch.tensor([[0, 3, 7, 2], [0, 5, 5, 9], [0, 1, 28, 4]])


@pytest.mark.parametrize("build", [gpt2, llama])
@pytest.mark.parametrize("k, alpha", [(3, 0.6), (5, 0.3), (4, 1.0)])
def test_equals_the_loop_without_cache(build, k, alpha):
    """Cache, batch and bookkeeping change nothing: same tokens, same penalties."""
    model = build()
    found = decoding.contrastive_search(model, PREFIX, k=k, alpha=alpha, new_tokens=6)
    greedy = decoding.contrastive_search(model, PREFIX, k=1, alpha=alpha, new_tokens=6)
    for i, prefix in enumerate(PREFIX.tolist()):
        tokens, penalties = zip(*slow(model, prefix, k, alpha, 6), strict=True)
        assert found.tokens[i].tolist() == list(tokens)
        at = (found.candidates[i] == found.tokens[i][:, None]).float().argmax(-1)
        torch.testing.assert_close(found.penalty[i].gather(1, at[:, None])[:, 0], torch.tensor(penalties), rtol=1e-4, atol=1e-5)
    assert not torch.equal(found.tokens, greedy.tokens)  # or the penalty was never put to the test


@pytest.mark.parametrize("build", [gpt2, llama])
@pytest.mark.parametrize("k, alpha", [(5, 0.0), (1, 0.6)])
def test_without_penalty_or_choice_it_is_greedy_search(build, k, alpha):
    """alpha = 0, or one candidate, gives transformers' greedy search."""
    model = build()
    mask = torch.ones_like(PREFIX)
    expected = model.generate(PREFIX, attention_mask=mask, do_sample=False, max_new_tokens=8, min_new_tokens=8, pad_token_id=0)
    found = decoding.contrastive_search(model, PREFIX, k=k, alpha=alpha, new_tokens=8)
    assert torch.equal(found.tokens, expected[:, PREFIX.shape[1] :])


def test_what_is_recorded_is_what_the_model_says():
    """Probabilities are those of the full softmax, states those of one forward pass over the finished text."""
    model = gpt2()
    found = decoding.contrastive_search(model, PREFIX, k=4, alpha=0.6, new_tokens=5)
    text = torch.cat([PREFIX, found.tokens], 1)
    with torch.no_grad():
        out = model(text, output_hidden_states=True)
    p = out.logits[:, 3:-1].softmax(-1).topk(4, dim=-1)
    torch.testing.assert_close(found.probability, p.values, rtol=1e-4, atol=1e-6)
    assert torch.equal(found.candidates, p.indices) and (found.probability.sum(-1) < 0.999).all()
    states = torch.nn.functional.normalize(out.hidden_states[-1], dim=-1)
    torch.testing.assert_close(found.states, states, rtol=1e-4, atol=1e-5)


def test_a_finished_text_stays_finished():
    """After the end token only end tokens follow, and the other texts go on as if alone."""
    model = gpt2()
    free = decoding.contrastive_search(model, PREFIX, new_tokens=8)
    end = int(free.tokens[0, 2])
    found = decoding.contrastive_search(model, PREFIX, new_tokens=8, end=end)
    for mine, unstopped in zip(found.tokens.tolist(), free.tokens.tolist(), strict=True):
        cut = unstopped.index(end) + 1 if end in unstopped else len(unstopped)
        assert mine[:cut] == unstopped[:cut][: len(mine)] and set(mine[cut:]) <= {end}
    assert found.tokens[0, 3:].tolist() == [end] * (found.tokens.shape[1] - 3)


def test_suppressed_tokens_never_appear():
    """What the free search wrote is forbidden and does not come again; with alpha 0 it is transformers' suppress_tokens."""
    model = gpt2()
    free = decoding.contrastive_search(model, PREFIX, alpha=0.0, new_tokens=6).tokens
    banned = free[:, 1].unique().tolist()
    found = decoding.contrastive_search(model, PREFIX, alpha=0.0, new_tokens=6, suppress=banned)
    assert not torch.isin(found.tokens, torch.tensor(banned)).any() and torch.isin(free, torch.tensor(banned)).any()
    options = {"do_sample": False, "max_new_tokens": 6, "min_new_tokens": 6, "pad_token_id": 0, "suppress_tokens": banned}
    expected = model.generate(PREFIX, attention_mask=torch.ones_like(PREFIX), **options)
    assert torch.equal(found.tokens, expected[:, PREFIX.shape[1] :])


def test_score_prefers_the_probable_and_punishes_the_similar():
    """Written out for two candidates; alpha 0 and 1 are the two ends."""
    p, s = torch.tensor([0.5, 0.2]), torch.tensor([0.9, 0.1])
    torch.testing.assert_close(decoding.contrastive_scores(p, s, alpha=0.6), torch.tensor([0.2 - 0.54, 0.08 - 0.06]))
    torch.testing.assert_close(decoding.contrastive_scores(p, s, alpha=0.0), p)
    torch.testing.assert_close(decoding.contrastive_scores(p, s, alpha=1.0), -s)


def test_isotropy_is_the_pooled_mean_over_pairs_of_one_text():
    """A double loop over texts and pairs; long texts weigh more, pairs across texts do not count."""
    generator = torch.Generator().manual_seed(0)
    texts = [torch.randn(n, 6, generator=generator, dtype=torch.float64) + 0.5 for n in (2, 5, 9, 1)]
    cosines = [
        float(torch.cosine_similarity(x[i], x[j], dim=0)) for x in texts for i in range(len(x)) for j in range(len(x)) if i != j
    ]
    assert abs(decoding.isotropy(texts) - (1 - sum(cosines) / len(cosines))) < 1e-9
    assert abs(decoding.isotropy([7 * x for x in texts]) - decoding.isotropy(texts)) < 1e-9


@pytest.mark.parametrize(
    "call, name",
    [
        (lambda m: decoding.contrastive_search(m, PREFIX[0]), "prefix"),
        (lambda m: decoding.contrastive_search(m, PREFIX, k=0), "k"),
        (lambda m: decoding.contrastive_search(m, PREFIX, alpha=1.2, new_tokens=2), "alpha"),
        (lambda m: decoding.contrastive_search(m, PREFIX, new_tokens=29), "new_tokens"),
        (lambda m: decoding.contrastive_scores(torch.tensor([-1.0]), torch.tensor([0.1])), "probability"),
        (lambda m: decoding.isotropy([]), "states"),
        (lambda m: decoding.isotropy([torch.ones(1, 3)]), "states"),
        (lambda m: decoding.isotropy([torch.zeros(3, 3)]), "states"),
        (lambda m: NGramModel([], 4), "texts"),
        (lambda m: NGramModel([[0, 4]], 4), "texts"),
        (lambda m: NGramModel([[0]], 4, order=5), "order"),
        (lambda m: NGramModel([[0]], 4, weight=0.0), "weight"),
        (lambda m: NGramModel([[0]], 4).log_probs([1], start=1), "start"),
    ],
)
def test_bad_input_is_named(call, name):
    """The error names the argument."""
    with pytest.raises((TypeError, ValueError), match=name):
        call(gpt2())


def ngram_slow(texts, vocabulary, order, weight, history, word):
    """The recursion as it is written, over counts of tuples."""
    if order == 1:
        flat = [w for text in texts for w in text]
        return (flat.count(word) + 1) / (len(flat) + vocabulary)
    history = tuple(history)[-(order - 1) :]
    lower = ngram_slow(texts, vocabulary, min(order - 1, len(history) + 1), weight, history, word)
    if len(history) < order - 1:
        return lower
    grams = Counter(tuple(t[i : i + order]) for t in texts for i in range(len(t) - order + 1))
    context = sum(count for gram, count in grams.items() if gram[:-1] == history)
    return (grams[(*history, word)] + weight * lower) / (context + weight)


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_ngrams_equal_the_recursion(order):
    """Every token of a new text, against counts of tuples."""
    rng = np.random.default_rng(0)
    texts = [rng.integers(0, 4, n).tolist() for n in (30, 20, 3, 1)]
    model, new = NGramModel(texts, 4, order=order, weight=2.0), rng.integers(0, 4, 12).tolist()
    expected = [math.log(ngram_slow(texts, 4, min(order, i + 1), 2.0, new[:i], w)) for i, w in enumerate(new)]
    np.testing.assert_allclose(model.log_probs(new), expected, rtol=1e-9)
    np.testing.assert_allclose(model.log_probs(new, start=5), expected[5:], rtol=1e-9)


def test_ngrams_are_a_distribution():
    """Over the last token of any history the probabilities sum to one."""
    rng = np.random.default_rng(1)
    model = NGramModel([rng.integers(0, 6, 50).tolist()], 6, order=3, weight=0.7)
    for history in ([], [2], [1, 4], [5, 5, 5]):
        total = sum(math.exp(model.log_probs([*history, w])[-1]) for w in range(6))
        assert abs(total - 1) < 1e-9
