"""Verdicts follow from effect, interval and minimum effect; nothing a notebook says can change them."""

import json

import numpy as np
import pytest
from scipy import stats

from workbench.errors import UnknownNameError
from workbench.papers import Claim, Measurement, check_answer, find_paper, judge, report_claims
from workbench.papers.claims import MIME

SLUG = "contrastive-loss-behaviour"


def make(relation=">", reference=0.0, min_effect=0.05, **more):
    return Claim("c", "a statement", "a metric", relation, reference, min_effect, "none", headline=True, **more)


def verdict(values, *args, **kwargs):
    return judge(make(*args, **kwargs), values, slug=SLUG, preset="ci").verdict


def test_interval_is_students():
    """The interval equals scipy's one-sample t interval."""
    values = [0.1, 0.3, 0.15, 0.22]
    result = judge(make(), values, slug=SLUG, preset="ci")
    wanted = stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
    assert result.effect == pytest.approx(np.mean(values))
    assert (result.ci_low, result.ci_high) == pytest.approx((wanted.low, wanted.high))


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ([0.20, 0.21, 0.22], "reproduced"),  # whole interval above the minimum effect
        ([0.01, 0.02, 0.00], "not reproduced"),  # whole interval below it, though above zero on average
        ([0.02, 0.06, 0.10], "inconclusive"),  # interval holds the minimum effect
        ([-0.3, -0.3, -0.3], "not reproduced"),
        ([0.9], "inconclusive"),  # one seed has no interval
    ],
)
def test_greater_claims(values, wanted):
    assert verdict(values) == wanted


@pytest.mark.parametrize("values", [[0.20, 0.21, 0.22], [0.01, 0.02, 0.0], [0.02, 0.06, 0.1], [-0.3, -0.2, -0.4]])
def test_smaller_claims_mirror_greater_ones(values):
    """metric < reference - e on -x is metric > reference + e on x."""
    assert verdict([-v for v in values], "<") == verdict(values, ">")


def test_a_number_as_reference_shifts_the_effect():
    assert verdict([0.45, 0.44, 0.43], "<", 0.5, 0.02) == "reproduced"
    assert verdict([0.49, 0.48, 0.47], "<", 0.5, 0.05) == "not reproduced"
    assert verdict([1.45, 1.44, 1.43], ">", 1.0, 0.3) == "reproduced"


def test_tolerance_claims_allow_a_small_loss():
    """'>=' with a negative minimum effect: not worse than the reference by more than the tolerance."""
    assert verdict([-0.01, -0.012, -0.011], ">=", 0.0, -0.03) == "reproduced"
    assert verdict([-0.05, -0.051, -0.049], ">=", 0.0, -0.03) == "not reproduced"
    assert verdict([0.01, 0.012, 0.011], "<=", 0.0, 0.03) == "reproduced"
    assert verdict([0.05, 0.052, 0.051], "<=", 0.0, 0.03) == "not reproduced"


def test_equality_holds_for_weak_relations_only():
    """With no spread the interval is a point: on the threshold '>=' holds and '>' does not."""
    assert verdict([0.5, 0.5], ">=", 0.0, 0.5) == "reproduced"
    assert verdict([0.5, 0.5], ">", 0.0, 0.5) == "not reproduced"


def test_references_are_paired_by_seed():
    """A difference of 0.1 in every seed is certain although the seeds themselves differ widely."""
    base = np.array([0.1, 0.5, 0.9])
    claim = make(reference="the baseline")
    paired = judge(claim, Measurement(base + np.array([0.099, 0.1, 0.101]), base), slug=SLUG, preset="ci")
    assert paired.verdict == "reproduced"
    assert paired.references == tuple(base)
    shuffled = judge(claim, Measurement(base + np.array([0.099, 0.1, 0.101]), base[::-1]), slug=SLUG, preset="ci")
    assert shuffled.verdict == "inconclusive"


def test_bootstrap_interval_holds_the_mean_and_is_near_students_for_many_values():
    values = np.random.default_rng(3).normal(0.3, 0.1, 40)
    boot = judge(make(), Measurement(values, interval="bootstrap"), slug=SLUG, preset="ci")
    student = judge(make(), values, slug=SLUG, preset="ci")
    assert boot.ci_low < boot.effect < boot.ci_high
    assert boot.ci_low == pytest.approx(student.ci_low, abs=0.01)
    assert boot.ci_low != student.ci_low


@pytest.mark.parametrize(
    ("claim", "measured", "message"),
    [
        (make(), [], "empty"),
        (make(), [0.1, float("nan")], "finite"),
        (make(), Measurement([0.1], references=[0.1]), "takes no references"),
        (make(reference="other"), [0.1, 0.2], "compares with 'other'"),
        (make(reference="other"), Measurement([0.1, 0.2], [0.1]), "2 values and 1 references"),
        (make(), Measurement([0.1, 0.2, 0.3], interval="bootstrap"), "at least 8"),
        (make(), Measurement([0.1, 0.2], interval="guess"), "interval"),
    ],
)
def test_unusable_measurements_are_refused(claim, measured, message):
    with pytest.raises(ValueError, match=message):
        judge(claim, measured, slug=SLUG, preset="ci")


def measured_all(values=(0.1, 0.2, 0.3)):
    return {c.id: list(values) for c in find_paper(SLUG).claims}


def test_report_needs_every_claim_and_no_other():
    some = measured_all()
    some.pop("hard-loss-stays-uniform")
    with pytest.raises(ValueError, match="hard-loss-stays-uniform"):
        report_claims(SLUG, some, preset="ci")
    with pytest.raises(UnknownNameError, match="no-such-claim"):
        report_claims(SLUG, {**measured_all(), "no-such-claim": [1.0]}, preset="ci")
    with pytest.raises(UnknownNameError, match="preset"):
        report_claims(SLUG, measured_all(), preset="big")


def test_report_carries_machine_readable_results_of_json_types():
    bundle = report_claims(
        SLUG, {c: np.array([0.3, 0.31, 0.32], dtype=np.float32) for c in measured_all()}, preset="ci"
    )._repr_mimebundle_()
    records = json.loads(json.dumps(bundle[MIME]))
    fields = "slug claim headline statement metric relation reference min_effect values effect ci_low ci_high verdict expected paper_value preset seconds"
    assert len(records) == 4 and set(fields.split()) <= set(records[0])
    assert sum(r["headline"] for r in records) == 1 and len(records[0]["values"]) == 3
    assert "<table" in bundle["text/html"] and "reproduced" in bundle["text/plain"]


def test_text_of_a_claim_is_escaped_in_html():
    claim = make(reason="because <script>alert(1)</script>")
    from workbench.papers import ClaimTable

    page = ClaimTable([judge(claim, [0.0, 0.0], slug=SLUG, preset="ci")]).to_html()
    assert "&lt;script&gt;" in page and "<script" not in page


def test_an_exercise_distinguishes_open_wrong_broken_and_right():
    def is_four(f):
        assert f(2) == 4, "2 should give 4"

    assert check_answer(..., is_four).status == "open"
    assert check_answer(lambda x: x, is_four).status == "wrong"
    assert check_answer(lambda x: 1 / 0, is_four).status == "wrong"
    assert check_answer(lambda x: x * x, is_four).status == "right"
