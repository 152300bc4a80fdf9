"""Early exits against truncated models, contrast rules against slow loops and the cases where each reduces to another."""

import copy
import math

import pytest
import torch

from workbench import decoding


def gpt2(layers=3, seed=0):
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(seed)
    config = GPT2Config(vocab_size=23, n_embd=16, n_layer=layers, n_head=2, n_positions=16, resid_pdrop=0.0, embd_pdrop=0.0)
    model = GPT2LMHeadModel(config).eval()
    for p in model.parameters():  # fresh norms are the identity, and then applying one twice would not show
        torch.nn.init.normal_(p, std=0.3)
    return model


def llama(layers=3, seed=0):
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2, "num_key_value_heads": 1}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=23, num_hidden_layers=layers, max_position_embeddings=16, **sizes)).eval()
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.3)
    return model


def truncated(model, layers):
    """The same model with its upper blocks cut off: what an early exit with the final norm computes."""
    short = copy.deepcopy(model)
    name = "h" if hasattr(short.base_model, "h") else "layers"
    setattr(short.base_model, name, getattr(short.base_model, name)[:layers])
    short.config.num_hidden_layers = layers
    return short


PROMPTS, CONTINUATIONS = [[0, 3, 5], [0, 7], [0, 1, 2, 4]], [[6, 8], [9, 10, 11], [12]]


@pytest.mark.parametrize("build", [gpt2, llama])
def test_early_exit_is_the_model_without_its_upper_blocks(build):
    """Exit n equals the logits of the model cut after block n; the last exit equals the model's own logits (norm once)."""
    model = build()
    found = decoding.score_continuations(model, PROMPTS, CONTINUATIONS, layers=[1, 2, 3], batch_size=2)
    for n in (1, 2, 3):
        short = truncated(model, n)
        for i, (prompt, continuation) in enumerate(zip(PROMPTS, CONTINUATIONS, strict=True)):
            with torch.no_grad():
                logits = short(torch.tensor([[*prompt, *continuation]])).logits[0]
            for t in range(len(continuation)):
                expected = logits[len(prompt) - 1 + t].log_softmax(-1)
                torch.testing.assert_close(found.at(n)[i, t], expected, rtol=1e-4, atol=1e-5)
                assert found.targets[i, t] == continuation[t] and found.mask[i, t]
    assert found.mask.sum() == sum(map(len, CONTINUATIONS))
    assert (found.at(1)[:, 0] - found.at(3)[:, 0]).abs().max() > 0.1  # the layers differ, or nothing was compared


def test_literal_variant_leaves_the_norm_out():
    """Without exit_norm the head reads the raw state of a lower layer; the last layer is the same either way."""
    model = gpt2()
    raw = decoding.score_continuations(model, PROMPTS, CONTINUATIONS, layers=[1, 3], exit_norm=False)
    normed = decoding.score_continuations(model, PROMPTS, CONTINUATIONS, layers=[1, 3])
    with torch.no_grad():
        states = model(torch.tensor([PROMPTS[0] + CONTINUATIONS[0]]), output_hidden_states=True).hidden_states[1]
        expected = (states[0, 2] @ model.lm_head.weight.T).log_softmax(-1)
    torch.testing.assert_close(raw.at(1)[0, 0], expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(raw.at(3), normed.at(3))
    assert (raw.at(1) - normed.at(1)).abs().max() > 0.1


def test_sequence_score_is_the_log_probability_of_the_continuation():
    """Sum over the continuation of log p(token | everything before), by one forward pass per token."""
    model = gpt2()
    found = decoding.score_continuations(model, PROMPTS, CONTINUATIONS)
    scores = decoding.sequence_scores(found.at(3), found.targets, found.mask)
    for i, (prompt, continuation) in enumerate(zip(PROMPTS, CONTINUATIONS, strict=True)):
        slow, text = 0.0, list(prompt)
        for token in continuation:
            with torch.no_grad():
                slow += float(model(torch.tensor([text])).logits[0, -1].log_softmax(-1)[token])
            text.append(token)
        assert abs(float(scores[i]) - slow) < 1e-4


def rows(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return (2 * torch.randn(*shape, generator=generator, dtype=torch.float64)).log_softmax(-1)


def test_rules_equal_loops_written_from_the_formulas():
    """Contrast, fusion, refocus and the restricted softmax, number by number."""
    e, a, em, am, plain = (rows(4, 9, seed=s) for s in range(5))
    beta, omega, strength, alpha = 0.7, 0.3, 0.4, 0.2
    focused = decoding.refocus(e, plain, strength=strength)
    final = decoding.contrast(focused, a, beta=beta)
    fused = decoding.fuse(final, decoding.contrast(em, am, beta=beta), omega=omega)
    got = decoding.restricted(fused, plain, alpha=alpha)
    for i in range(4):
        score = []
        for v in range(9):
            term = float(e[i, v]) + strength * (float(e[i, v]) - float(plain[i, v]))
            score.append(beta * term - float(a[i, v]) + omega * (beta * float(em[i, v]) - float(am[i, v])))
        total = sum(math.exp(s) for s in score)
        top = max(math.exp(float(plain[i, w])) for w in range(9))
        kept = [math.exp(float(plain[i, v])) >= alpha * top for v in range(9)]
        assert 0 < sum(kept) < 9
        for v in range(9):
            expected = score[v] - math.log(total) if kept[v] else -1000.0
            assert abs(float(got[i, v]) - expected) < 1e-9


def test_cases_in_which_a_rule_reduces_to_another():
    """omega 0: ICD. A uniform amateur with beta 1: the expert. Amateur = expert: uniform. strength 0 or no instruction: nothing."""
    e, a, em, am = (rows(5, 7, seed=s) for s in range(4))
    final, lower = decoding.contrast(e, a), decoding.contrast(em, am)
    torch.testing.assert_close(decoding.fuse(final, lower, omega=0), final)
    uniform = torch.full_like(e, -math.log(7))
    torch.testing.assert_close(decoding.restricted(decoding.contrast(e, uniform), e, alpha=0), e)
    torch.testing.assert_close(decoding.restricted(decoding.contrast(e, e), e, alpha=0), uniform)
    torch.testing.assert_close(decoding.refocus(e, a, strength=0), e)
    torch.testing.assert_close(decoding.refocus(e, e, strength=3.0), e)
    only_top = decoding.restricted(final, e, alpha=1)
    assert ((only_top > -1000).sum(-1) == 1).all() and (only_top.argmax(-1) == e.argmax(-1)).all()


def test_raw_logits_and_log_probabilities_give_the_same_rule():
    """A constant per position drops out in the final softmax, for one layer and for the fusion; without it, it does not."""
    e, a, em, am = (rows(5, 7, seed=s) for s in range(4))
    shift = [torch.arange(5, dtype=torch.float64)[:, None] * k for k in (1.0, -2.0, 0.5, 3.0)]
    one = decoding.fuse(decoding.contrast(e, a, beta=2.0), decoding.contrast(em, am, beta=2.0))
    raw = [x + s for x, s in zip((e, a, em, am), shift, strict=True)]
    two = decoding.fuse(decoding.contrast(raw[0], raw[1], beta=2.0), decoding.contrast(raw[2], raw[3], beta=2.0))
    assert (one - two).abs().max() > 1
    torch.testing.assert_close(decoding.restricted(one, e), decoding.restricted(two, e))


def test_plausible_is_decided_by_the_original_model():
    """The mask follows p >= alpha max p; contrasted scores that favour a masked token do not bring it back."""
    p = torch.tensor([[0.50, 0.30, 0.15, 0.05]], dtype=torch.float64).log()
    assert decoding.plausible(p, 0.31).tolist() == [[True, True, False, False]]
    assert decoding.plausible(p, 0.0).all() and decoding.plausible(p, 1.0).tolist() == [[True, False, False, False]]
    scores = torch.tensor([[0.0, 0.0, 0.0, 50.0]], dtype=torch.float64)
    assert decoding.restricted(scores, p, alpha=0.2, floor=-math.inf)[0, 3] == -math.inf


def test_dola_chooses_the_layer_of_largest_divergence():
    """Against scipy's Jensen-Shannon distance at every position; one candidate is that candidate."""
    from scipy.spatial.distance import jensenshannon

    final, lower = rows(6, 8, seed=9), rows(3, 6, 8, seed=10)
    got, chosen = decoding.dola(final, lower), set()
    for i in range(6):
        j = max(range(3), key=lambda j, i=i: jensenshannon(final[i].exp(), lower[j, i].exp()))
        chosen.add(j)
        torch.testing.assert_close(got[i], final[i] - lower[j, i])
    assert len(chosen) > 1
    torch.testing.assert_close(decoding.dola(final, lower[:1]), final - lower[0])


def test_with_tail_is_a_distribution_between_the_model_and_the_contrast():
    """Sums to one, leaves the mass of the plausible set and every other token alone; alpha 1 and 0 are the two ends."""
    e, a = rows(5, 9, seed=1), rows(5, 9, seed=2)
    scores = decoding.contrast(e, a)
    mixed, head = decoding.with_tail(scores, e, alpha=0.2), decoding.plausible(e, 0.2)
    torch.testing.assert_close(mixed.exp().sum(-1), torch.ones(5, dtype=torch.float64))
    torch.testing.assert_close(mixed[~head], e[~head])
    torch.testing.assert_close((mixed.exp() * head).sum(-1), (e.exp() * head).sum(-1))
    torch.testing.assert_close(mixed[0][head[0]].diff(), scores[0][head[0]].diff())
    torch.testing.assert_close(decoding.with_tail(scores, e, alpha=1), e)
    torch.testing.assert_close(decoding.with_tail(scores, e, alpha=0), scores.log_softmax(-1))


@pytest.mark.parametrize(
    "call, error, name",
    [
        (lambda e: decoding.plausible(e, 1.5), ValueError, "alpha"),
        (lambda e: decoding.plausible(e, "0.1"), TypeError, "alpha"),
        (lambda e: decoding.contrast(e, e[:1]), ValueError, "expert and amateur"),
        (lambda e: decoding.contrast(e, e, beta=0.0), ValueError, "beta"),
        (lambda e: decoding.fuse(e, e, omega=-1.0), ValueError, "omega"),
        (lambda e: decoding.refocus(e, e * float("nan")), ValueError, "plain"),
        (lambda e: decoding.dola(e, e), ValueError, "lower"),
        (lambda e: decoding.restricted(e.long(), e), TypeError, "scores"),
        (lambda e: decoding.sequence_scores(e, torch.zeros(2), torch.zeros(2)), ValueError, "targets"),
        (lambda e: decoding.score_continuations(gpt2(), [[0]], [[]]), ValueError, "continuations"),
        (lambda e: decoding.score_continuations(gpt2(), [[0]], [[1]], layers=[4]), ValueError, "layer"),
        (lambda e: decoding.score_continuations(gpt2(), [[0] * 16], [[1]]), ValueError, "16 tokens"),
        (lambda e: decoding.final_norm(torch.nn.Linear(2, 2)), TypeError, "model"),
    ],
)
def test_bad_input_is_named(call, error, name):
    """The error names the argument."""
    with pytest.raises(error, match=name):
        call(rows(3, 5))
