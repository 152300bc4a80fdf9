"""What the explorers compute, without a browser: closed forms, limits, slow loops."""

import math
import types

import numpy as np
import pytest
import torch

from workbench.data.scenes import SHAPES, captions, parse_caption, sample_scenes
from workbench.errors import UnknownNameError, WorkbenchError
from workbench.widgets.decoding import continuation, reshaped
from workbench.widgets.embedding import cards_html, find_rows, neighbours
from workbench.widgets.gap import nearest, shifted
from workbench.widgets.scene import CELLS, build_scene, rival_captions, unsupported
from workbench.widgets.sphere import facing, most_even, nearest_pairs, oriented, settle
from workbench.widgets.temperature import draw_negatives, softmax_row

unit = torch.nn.functional.normalize


def rows(n, d, seed=0):
    return unit(torch.randn(n, d, generator=torch.Generator().manual_seed(seed)), dim=1)


def test_softmax_row_is_the_loop_of_the_paper():
    """Loss, partner's probability and shares of the push equal a loop over exponentials; order is by cosine."""
    s, tau = torch.tensor([0.3, 0.9, -0.2, 0.5, 0.1]), 0.2
    row = softmax_row(s, 1, temperature=tau)
    push = {j: math.exp(float(s[j]) / tau) for j in (0, 2, 3, 4)}
    p = math.exp(0.9 / tau) / (math.exp(0.9 / tau) + sum(push.values()))
    assert row.partner == pytest.approx(p, rel=1e-6) and row.loss == pytest.approx(-math.log(p), rel=1e-6)
    assert row.order.tolist() == [3, 0, 4, 2]
    assert row.share.tolist() == pytest.approx([push[j] / sum(push.values()) for j in (3, 0, 4, 2)], rel=1e-6)


def test_softmax_row_limits():
    """Cold: one negative does all the work. Hot: all do, and the loss is that of guessing. Extremes stay finite."""
    s = torch.linspace(-1, 1, 21)
    cold, hot = softmax_row(s, 20, temperature=1e-4), softmax_row(s, 20, temperature=1e6)
    assert cold.effective == pytest.approx(1, abs=1e-6) and cold.loss == pytest.approx(0, abs=1e-6)
    assert hot.effective == pytest.approx(20, rel=1e-6) and hot.loss == pytest.approx(math.log(21), rel=1e-4)
    assert math.isfinite(softmax_row(s, 0, temperature=1e-4).loss)


def test_softmax_row_refuses():
    s = torch.zeros(3)
    with pytest.raises(ValueError, match="temperature"):
        softmax_row(s, 0, temperature=0.0)
    with pytest.raises(ValueError, match="negatives"):
        softmax_row(s, 0, temperature=0.1, negatives=torch.tensor([0, 1]))
    with pytest.raises(ValueError, match="negatives"):
        softmax_row(s, 0, temperature=0.1, negatives=torch.tensor([], dtype=torch.long))


def test_more_negatives_contain_the_fewer():
    """So that the slider adds negatives and takes none away; the partner is never among them."""
    few, many = draw_negatives(50, 7, 8, seed=3), draw_negatives(50, 7, 30, seed=3)
    assert many[:8].tolist() == few.tolist() and 7 not in many and len(set(many.tolist())) == 30


def test_pull_alone_collapses_and_push_spreads():
    """Free points on the sphere: without push the connected ones meet; with push their uniformity reaches that of the even density."""
    from workbench import metrics

    ring = torch.stack([torch.arange(60), (torch.arange(60) + 1) % 60], 1)
    alone, pushed = settle(ring, 60, push=0.0, steps=150), settle(ring, 60, push=3.0, steps=60)
    start = (alone[0, ring[:, 0]] - alone[0, ring[:, 1]]).square().sum(1).mean()
    end = (alone[-1, ring[:, 0]] - alone[-1, ring[:, 1]]).square().sum(1).mean()
    assert start > 1 and end < 0.05 * start
    assert float(metrics.uniformity(pushed[-1])) == pytest.approx(most_even(3), abs=0.15)
    assert metrics.uniformity(pushed[-1]) < metrics.uniformity(pushed[0]) < metrics.uniformity(alone[-1]) - 0.2
    for frames in (alone, pushed):
        assert torch.allclose(frames.norm(dim=2), torch.ones(frames.shape[:2]), atol=1e-5)
    assert torch.equal(alone[0], pushed[0]), "the same seed starts at the same points"


def test_most_even_is_the_integral():
    """Closed forms of the even density's uniformity equal numerical integration on circle and sphere."""
    angle = np.linspace(0, np.pi, 200_001)
    potential = np.exp(-2 * (2 - 2 * np.cos(angle)))
    assert most_even(2) == pytest.approx(np.log(np.trapezoid(potential, angle) / np.pi), abs=1e-6)
    assert most_even(3) == pytest.approx(np.log(np.trapezoid(potential * np.sin(angle), angle) / 2), abs=1e-6)


def test_turning_keeps_lengths_and_knows_its_axes():
    """A quarter turn brings the right side to the back or front, a tilt of 90 degrees shows the pole; lengths and angles stay."""
    x = rows(20, 3)
    turned = oriented(x, 35, -20)
    assert torch.allclose(turned @ turned.T, x @ x.T, atol=1e-5)
    assert torch.allclose(oriented(x, 0, 0), x)
    assert torch.allclose(oriented(torch.eye(3), 90, 0)[2], torch.tensor([1.0, 0.0, 0.0]), atol=1e-6)
    assert torch.allclose(oriented(torch.eye(3), 0, 90)[1], torch.tensor([0.0, 0.0, 1.0]), atol=1e-6)


def test_facing_brings_the_middle_to_the_front():
    """Points around any direction stand in the middle of the front after the turn and tilt, within their steps of ten degrees."""
    for direction in (*torch.eye(3), *-torch.eye(3), *rows(20, 3, 2)):
        x = unit(direction + 0.1 * rows(30, 3), dim=1)
        right, up, near = oriented(x, *facing(x)).mean(0).tolist()
        assert near > 0.9 and abs(right) < 0.2 and abs(up) < 0.2


def test_nearest_pairs_are_the_nearest():
    x = rows(12, 5)
    pairs = nearest_pairs(x, 2)
    for i in range(12):
        loop = sorted((j for j in range(12) if j != i), key=lambda j: -float(x[i] @ x[j]))[:2]
        assert set(pairs[pairs[:, 0] == i, 1].tolist()) == set(loop)


def two_clouds(n=40, apart=1.5):
    x = rows(n, 8)
    return unit(x + apart * torch.eye(8)[0], dim=1), unit(x + 0.05 * rows(n, 8, 1) - apart * torch.eye(8)[0], dim=1)


def test_closing_the_gap_mixes_the_one_index():
    """Two shifted copies: nothing taken away, a row's neighbours are its own kind; all taken away, the partner is there."""
    x, y = two_clouds()
    open_, closed = shifted(x, y, 0.0), shifted(x, y, 1.0)
    assert open_.gap == pytest.approx(float((x.mean(0) - y.mean(0)).norm()), abs=1e-5)
    assert open_.own == 1.0 and open_.mixed == 0.0
    assert closed.gap < 0.2 * open_.gap and closed.mixed > 0.9 and closed.own < 0.7


def test_one_index_against_a_loop():
    """`mixed` and `own` equal a loop over all rows of both kinds."""
    x, y = rows(15, 4), rows(15, 4, 1)
    got = shifted(x, y, 0.0, k=3)
    both = torch.cat([x, y])
    mixed = own = 0.0
    for i in range(30):
        near = sorted((j for j in range(30) if j != i), key=lambda j: -float(both[i] @ both[j]))[:3]
        mixed += ((i + 15) % 30 in near) / 30
        own += sum((j < 15) == (i < 15) for j in near) / 90
    assert (got.mixed, got.own) == (pytest.approx(mixed), pytest.approx(own))


def test_nearest_over_two_pools():
    """The best of both pools in one ranking, the query itself left out."""
    x, y = rows(10, 4), rows(10, 4, 1)
    found = nearest(x[3], (x, y), 5, leave_out=(0, 3))
    loop = sorted(
        [(float(p[i] @ x[3]), k, i) for k, p in enumerate((x, y)) for i in range(10) if (k, i) != (0, 3)], reverse=True
    )[:5]
    assert [(k, i) for k, i, _ in found] == [(k, i) for _, k, i in loop]
    assert nearest(x[3], (x, y), 1)[0][:2] == (0, 3), "vacuous: without leaving it out, the query finds itself"


STAR = {"shape": "star", "colour": "blue", "texture": "solid", "size": "large"}
RING = {"shape": "ring", "colour": "red", "texture": "dotted", "size": "small"}


@pytest.mark.parametrize("relation", CELLS)
def test_a_built_scene_says_what_was_asked(relation):
    """The caption of the built scene, by the package's grammar, names both objects and the relation."""
    scene = build_scene(STAR, RING, relation, "mint")
    said = parse_caption(captions(scene, "relations")[0])
    assert [(o.shape, o.colour, o.texture, o.size) for o in said.objects] == [tuple(STAR.values()), tuple(RING.values())]
    assert said.relations == ((0, relation, 1),) and said.background == "mint"


def test_a_scene_with_mistakes_is_refused():
    with pytest.raises(UnknownNameError, match="bleu"):
        build_scene({**STAR, "colour": "bleu"})
    with pytest.raises(UnknownNameError, match="beside"):
        build_scene(STAR, RING, "beside")
    with pytest.raises(ValueError, match="size"):
        build_scene({k: v for k, v in STAR.items() if k != "size"})


def test_true_captions_have_no_unsupported_word():
    """For 200 sampled scenes and all wordings, nothing in the true caption is marked; with a foreign shape word, that word is."""
    scenes = sample_scenes(200, seed=5, objects=(1, 2))
    marked = 0
    for wording in range(4):
        for i, caption in enumerate(captions(scenes, ("size", "texture", "colour", "shape", "relation"), wording=wording)):
            scene = scenes.select([i])
            assert not any(unsupported(caption, scene)), caption
            there = {SHAPES[int(c)] for c, here in zip(scene.shape[0], scene.present[0], strict=True) if here}
            absent = next(s for s in SHAPES if s not in there)
            words = caption.split()
            at = next(k for k, w in enumerate(words) if w in SHAPES)
            words[at] = absent
            marked += unsupported(" ".join(words), scene)[at]
    assert marked == 800


def test_unsupported_words_of_false_captions():
    """Wrong colours belong to their object, exchanged places mark the relation, free text without objects marks nothing."""
    scene = build_scene(STAR, RING, "left of")

    def marks(text):
        return [w for w, wrong in zip(text.split(), unsupported(text, scene), strict=True) if wrong]

    assert marks("a red star left of a blue ring") == ["red", "blue"]
    assert marks("a ring left of a star") == ["left", "of"]
    assert marks("right of a star is a ring") == []
    assert marks("a large green heart above a ring") == ["green", "heart"]
    assert marks("hello there") == []


def test_rival_captions_are_false_and_differ():
    """No rival has the true facts, also when both objects share a colour."""
    for second in (RING, {**RING, "colour": "blue"}):
        scene = build_scene(STAR, second)
        rivals = rival_captions(scene)
        assert len(set(rivals.values())) == len(rivals) >= 5
        assert not any(unsupported(rivals["true"], scene))
        left_out = {"true", "one object left out"}  # that one is true, only poorer
        assert all(any(unsupported(text, scene)) for name, text in rivals.items() if name not in left_out)


def test_reshaped_by_hand():
    """Temperature, top-k and top-p against the definitions, in that order."""
    logits = torch.tensor([2.0, 1.0, 0.5, -1.0])
    p = torch.softmax(logits, 0)
    assert torch.allclose(reshaped(logits), p)
    assert torch.allclose(reshaped(logits, temperature=0.5), torch.softmax(2 * logits, 0))
    assert torch.allclose(reshaped(logits, top_k=2), torch.tensor([p[0], p[1], 0, 0]) / (p[0] + p[1]))
    kept = reshaped(logits, top_p=float(p[0] + p[1]) - 1e-3)
    assert (kept > 0).tolist() == [True, True, False, False]
    for bad in ({"temperature": 0.0}, {"top_k": -1}, {"top_p": 0.0}):
        with pytest.raises(ValueError, match="temperature"):
            reshaped(logits, **bad)


@pytest.fixture(scope="module")
def speaker():
    from workbench.models import pretrained

    return pretrained("fact-gpt", device="cpu")


def test_greedy_continuation_is_that_of_generate(speaker):
    """Token by token with a cache gives the words that transformers' generate gives; the distributions are those of log_probs."""
    prompt = "question : what is museum ? answer : museum is"
    steps = continuation(speaker, prompt, length=6)
    words = [s.text.strip() for s in steps if not s.text.startswith("<|")]
    assert " ".join(words) == speaker.generate([prompt], max_new_tokens=6)[0].strip()
    text = f"{prompt} {words[0]} {words[1]}"
    nats = speaker.log_probs([text])[0]
    first = len(prompt.split()) - 1
    assert [math.log(float(s.raw[s.token])) for s in steps[:2]] == pytest.approx(nats[first : first + 2].tolist(), abs=1e-3)


def test_draws_follow_rule_and_seed(speaker):
    """The same seed draws the same, top-k 1 is greedy, drawn tokens are among those kept."""
    prompt = "people say detective is"
    options = {"length": 5, "sample": True, "temperature": 2.0, "top_k": 5}
    one, two = (continuation(speaker, prompt, seed=4, **options) for _ in range(2))
    assert [s.token for s in one] == [s.token for s in two]
    assert all(float(s.kept[s.token]) > 0 and int((s.kept > 0).sum()) <= 5 for s in one)
    greedy, forced = continuation(speaker, prompt, length=5), continuation(speaker, prompt, length=5, sample=True, top_k=1)
    assert [s.token for s in greedy] == [s.token for s in forced]
    drawn = {tuple(s.token for s in continuation(speaker, prompt, seed=k, **options)) for k in range(6)}
    assert len(drawn) > 1, "vacuous: every seed draws the same"


def test_continuation_refuses(speaker):
    with pytest.raises(ValueError, match="empty"):
        continuation(speaker, "  ")
    with pytest.raises(WorkbenchError, match="dual-encoder"):
        continuation(types.SimpleNamespace(kind="dual-encoder", name="x", tokenizer=None), "a")


def test_find_rows():
    texts = ["red cat face", "cat", "Dog face"]
    assert find_rows("CAT", texts) == [0, 1] and find_rows("face cat", texts) == [0]
    assert find_rows("2", texts) == [2] and find_rows("7", texts) == [] and find_rows("  ", texts) == []


def test_neighbours_leave_the_row_out():
    x = rows(9, 4)
    loop = sorted((j for j in range(9) if j != 2), key=lambda j: -float(x[2] @ x[j]))[:3]
    assert [i for i, _ in neighbours(x, 2, 3)] == loop


def test_cards_escape_what_users_wrote():
    made = cards_html([(None, "<script>row</script>", "a & b")], total=30)
    assert "<script>" not in made and "a &amp; b" in made and "and 29 more" in made
