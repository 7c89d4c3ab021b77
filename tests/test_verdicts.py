"""Verdicts: every outcome with its words, and the laws they obey."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade_eval import bounds, budgets, evidence_format, verdicts
from cascade_eval.basis import Binomial, Fact, Ratio
from cascade_eval.verdicts import Estimate, Inconclusive, judge, rate

ALPHA = 0.05
untimed = settings(deadline=None)


def promise(text, unit="rate"):
    return budgets.parse(text, unit)


def one(estimate, text, **options):
    """Judge an estimate that has no siblings."""
    [verdict] = judge([estimate], promise(text, estimate.unit), **options)
    return verdict


def share(count, nobs):
    return rate("disagreement", count, nobs)


def ratio(x, y, **options):
    """Estimate a cost ratio of paired sums by its moments alone."""
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    moments = (len(x), x.sum(), y.sum(), x @ x, x @ y, y @ y)
    low, high = map(float, bounds.fieller(*moments))
    return Estimate("cost", x.sum() / y.sum(), low, high, None, len(x), unit="ratio", basis=Ratio(moments, **options))


def fact(value, **options):
    return Estimate("coverage", value, value, value, basis=Fact(value), **options)


NOTHING = Estimate("disagreement", None, nobs=0, reason="no case to judge", blocked=True)

# Words


@pytest.mark.parametrize(
    ("estimate", "text", "outcome", "headline", "reason"),
    [
        pytest.param(
            share(2, 100),
            "at most 10%",
            "pass",
            "2% is within at most 10% (n=100)",
            "2% (bounds 0.36% to 6.2%, n=100): at most 10% is proven.",
            id="proven",
        ),
        pytest.param(
            share(50, 314),
            "at most 10%",
            "fail",
            "15.9% > 10% (n=314)",
            "15.9% (bounds 12.6% to 19.7%, n=314): at most 10% is refuted.",
            id="refuted",
        ),
        pytest.param(
            share(3, 41),
            "at most 10%",
            "inconclusive",
            "7.3%, at most 10% neither proven nor refuted (n=41)",
            "7.3% (bounds 2.0% to 17.8%, n=41): at most 10% is neither proven nor refuted; about 707 more cases like "
            "these would decide.",
            id="too few cases",
        ),
        pytest.param(
            share(5, 50),
            "at most 10%",
            "inconclusive",
            "10%, at most 10% neither proven nor refuted (n=50)",
            "10% (bounds 4.0% to 19.9%, n=50): at most 10% is neither proven nor refuted; over 100,000 more cases would "
            "be needed to decide.",
            id="on the budget",
        ),
        pytest.param(
            share(50, 100),
            "at least 90%",
            "fail",
            "50% < 90% (n=100)",
            "50% (bounds 41.4% to 58.6%, n=100): at least 90% is refuted.",
            id="below a lower bound",
        ),
        pytest.param(
            share(60, 100),
            "15% to 40%",
            "fail",
            "60% > 40% (n=100)",
            "60% (bounds 51.3% to 68.2%, n=100): 15% to 40% is refuted.",
            id="above a range",
        ),
        pytest.param(
            share(2, 100),
            "15% to 40%",
            "fail",
            "2% < 15% (n=100)",
            "2% (bounds 0.36% to 6.2%, n=100): 15% to 40% is refuted.",
            id="below a range",
        ),
        pytest.param(
            share(3, 10),
            "0% to 100%",
            "pass",
            "30% is within 0% to 100% (n=10)",
            "30%: 0% to 100% cannot fail.",
            id="cannot fail",
        ),
        pytest.param(
            fact(0.995),
            "at least 99%",
            "pass",
            "99.5% is within at least 99%",
            "99.5% is within at least 99%.",
            id="fact",
        ),
        pytest.param(
            NOTHING, "at most 10%", "inconclusive", "not measured: no case to judge", "no case to judge", id="no case"
        ),
        pytest.param(
            Estimate("latency p95", 1.25, 1.1, math.inf, nobs=20, unit="seconds", basis=Fact(1.25)),
            "at most 1 s",
            "fail",
            "1.25 s > 1 s (n=20)",
            "1.25 s (bounds 1.1 s to unbounded, n=20): at most 1 s is refuted.",
            id="one side unbounded",
        ),
    ],
)
def test_a_verdict_explains_itself(estimate, text, outcome, headline, reason):
    """Each outcome says what was measured, with n and bounds, and what follows for the promise."""
    verdict = one(estimate, text)
    assert (verdict.outcome, verdict.headline, verdict.reason) == (outcome, headline, reason)


def test_over_budget_on_its_own_is_said():
    """A cohort that would fail alone and does not after the correction is inconclusive, and told so."""
    found = judge([share(10, 60), share(2, 60), share(3, 60)], promise("at most 8%"))
    assert [verdict.outcome for verdict in found] == ["inconclusive"] * 3
    assert found[0].p_fail < ALPHA < found[0].p_holm
    assert "; over budget on its own, not after looking at 3 cohorts; about " in found[0].reason
    assert "on its own" not in found[1].reason
    assert one(share(10, 60), "at most 8%").outcome == "fail"


@pytest.mark.parametrize(
    ("count", "nobs", "text", "shown"),
    [
        (10_004, 100_000, "at most 10%", "10.004%"),
        (9_999, 100_000, "at most 10%", "9.999%"),
        (1, 1_000_000, "at most 10%", "0.0001%"),
        (999_999, 1_000_000, "at least 90%", "99.9999%"),
    ],
)
def test_headlines_never_round_onto_the_budget(count, nobs, text, shown):
    """A rate beside its budget is shown with enough digits to see its side; 0% and 100% only where exact."""
    assert one(share(count, nobs), text).headline.startswith(shown)


def test_bounds_in_the_reason_do_not_round_onto_the_budget_either():
    """An upper bound just over the budget is not shown as the budget."""
    nobs = next(n for n in range(20, 40) if bounds.rate(0, n)[1] <= 0.10) - 1
    assert one(share(0, nobs), "at most 10%").reason.startswith("0% (bounds 0% to 10.1%, n=28)")


@pytest.mark.parametrize(
    ("estimate", "text"),
    [
        (share(50, 314), "15.9% (12.6% to 19.7%), n=314"),
        (Estimate("cost", 0.5, -math.inf, math.inf, nobs=3, unit="ratio"), "50%, n=3"),
        (fact(0.25), "25% (25% to 25%)"),
        (Estimate("cost", None, reason="no price for 'mini'"), "cost unknown: no price for 'mini'"),
    ],
)
def test_an_estimate_is_written_with_what_it_rests_on(estimate, text):
    """Value, bounds where there are two, n where cases were counted, and the reason where there is no value."""
    assert str(estimate) == text


# The rule


def test_the_family_of_four_comes_out_as_published():
    """Holm's example: 2/100, 4/120, 9/60 and 25/100 against 10% are pass, pass, inconclusive, fail."""
    found = judge([share(x, n) for x, n in ((2, 100), (4, 120), (9, 60), (25, 100))], promise("at most 10%"))
    assert [verdict.outcome for verdict in found] == ["pass", "pass", "inconclusive", "fail"]
    assert [round(verdict.p_fail, 5) for verdict in found] == [0.99968, 0.99843, 0.14164, 0.00001]
    assert [round(verdict.p_holm, 5) for verdict in found] == [1, 1, 0.42491, 0.00005]
    assert {verdict.family for verdict in found} == {4}


def test_passing_takes_no_correction():
    """A cohort that passes alone passes among a hundred others."""
    family = [share(13, 203), *[share(20, 203)] * 99]
    assert one(family[0], "at most 10%").outcome == judge(family, promise("at most 10%"))[0].outcome == "pass"


def test_an_unmeasured_sibling_is_no_member_of_the_family():
    """What was not measured is not judged, and does not dilute the others."""
    found = judge([share(10, 60), NOTHING], promise("at most 8%"))
    assert [verdict.outcome for verdict in found] == ["fail", "inconclusive"]
    assert [verdict.family for verdict in found] == [1, 1]
    assert [verdict.not_measured for verdict in found] == [False, True]


@untimed
@given(st.integers(1, 400), st.data(), st.sampled_from([0.01, 0.05, 0.1, 0.25, 0.5, 0.9]))
def test_pass_and_fail_are_the_bounds_and_the_budget(nobs, data, budget):
    """A rate passes exactly where its upper bound is within the budget, and alone fails where its lower is beyond."""
    count = data.draw(st.integers(0, nobs))
    estimate = share(count, nobs)
    verdict = estimate <= budget
    assert (verdict.outcome == "pass") == (estimate.high <= budget)
    assert (verdict.outcome == "fail") == (estimate.low >= budget)


@untimed
@given(st.integers(1, 300), st.data(), st.sampled_from([(0.15, 0.4), (0.05, 0.1), (0.5, 0.9)]))
def test_a_range_passes_by_both_tests_and_fails_by_twice_the_smaller(nobs, data, ends):
    """`X to Y` takes the larger p-value to pass and twice the smaller one to fail, never above 1."""
    count = data.draw(st.integers(0, nobs))
    low, high = ends
    verdict = share(count, nobs).within(low, high)
    at_most, at_least = bounds.p_at_most, bounds.p_at_least
    assert verdict.p_pass == max(at_least(count, nobs, low), at_most(count, nobs, high))
    assert verdict.p_fail == min(1, 2 * min(at_most(count, nobs, low), at_least(count, nobs, high)))


@pytest.mark.parametrize("count", [0, 3, 20, 60, 97, 100])
@pytest.mark.parametrize(("written", "same"), [("0% to 5%", "at most 5%"), ("60% to 100%", "at least 60%")])
def test_an_end_no_rate_can_cross_promises_nothing(count, written, same):
    """A range from 0% to 5% is judged as "at most 5%" is, also where no case at all disagrees."""
    judged, plain = one(share(count, 100), written), one(share(count, 100), same)
    numbers = ("outcome", "p_pass", "p_fail", "cases_to_decide", "smallest_excess")
    assert [getattr(judged, name) for name in numbers] == [getattr(plain, name) for name in numbers]


def test_a_ratio_has_no_natural_floor():
    """Savings may be negative, so "0% to 50%" of them is a range with two sides."""
    lost = replace(ratio([12, 11, 13, 12], [10, 10, 11, 10], complement=True), metric="savings", value=-7 / 41)
    found = one(lost, "0% to 50%")
    assert (found.outcome, found.headline) == ("fail", "-17.1% < 0% (n=4)")


@pytest.mark.parametrize(
    ("value", "text", "outcome"),
    [
        (0.99, "at least 99%", "pass"),
        (0.99, "at most 99%", "pass"),
        (0.9899, "at least 99%", "fail"),
        (0.9901, "at most 99%", "fail"),
        (0.5, "50% to 60%", "pass"),
        (0.6, "50% to 60%", "pass"),
        (0.61, "50% to 60%", "fail"),
        (0.49, "50% to 60%", "fail"),
    ],
)
def test_facts_are_compared_and_equality_is_within(value, text, outcome):
    """What is known exactly is never inconclusive; a number exactly on its budget keeps the promise."""
    assert one(fact(value), text).outcome == outcome


def test_unknown_comparisons_count_against_either_claim():
    """A rate with unknowns passes only if all of them disagreed, and fails only if none did."""
    nobs, unknown = 300, 3
    count = max(x for x in range(60) if bounds.p_at_most(x, nobs, 0.10) <= ALPHA)
    basis = Binomial((count, nobs + unknown), (count + unknown, nobs + unknown))
    estimate = replace(share(count, nobs), basis=basis)
    assert one(share(count, nobs), "at most 10%").outcome == "pass"
    assert one(estimate, "at most 10%").outcome == "inconclusive"


# Not measured


@pytest.mark.parametrize(
    "estimate",
    [
        NOTHING,
        rate("disagreement", 0, 0),
        replace(share(0, 1000), blocked=True, reason="coverage is 9 of 10"),
        replace(share(0, 1000), basis=None, reason="no price"),
        Estimate("cost", 0.1, nobs=1, unit="ratio", basis=Ratio((1, 1, 10, 1, 10, 100))),
    ],
    ids=["nothing", "rate of nothing", "blocked", "no basis", "one unit"],
)
@pytest.mark.parametrize("text", ["at most 99%", "at least 1%", "1% to 99%", "0% to 100%"])
def test_what_was_not_measured_never_passes(estimate, text):
    """Blocked, without a basis or without a test: inconclusive, said so, and warned under no policy."""
    verdict = replace(one(estimate, text), inconclusive="warn")
    assert (verdict.outcome, verdict.not_measured, verdict.warned) == ("inconclusive", True, False)
    assert (verdict.p_pass, verdict.p_fail, verdict.cases_to_decide) == (None, None, None)
    assert verdict.reason
    assert verdict.headline == f"not measured: {verdict.reason}"


def test_warn_excuses_too_few_cases_only():
    """A verdict is warned where it is inconclusive, was measured, and the policy is to warn."""
    few = one(share(1, 20), "at most 10%")
    assert (few.warned, replace(few, inconclusive="warn").warned) == (False, True)
    for decided in (one(share(0, 90), "at most 10%"), one(share(90, 90), "at most 10%")):
        assert not replace(decided, inconclusive="warn").warned


# Truth


def test_an_inconclusive_verdict_has_no_truth_value():
    """Asking one raises `Inconclusive` with the verdict and its reason; the others answer."""
    assert share(0, 100) <= 0.10
    assert not share(40, 100) <= 0.10
    verdict = share(1, 20) <= 0.10
    with pytest.raises(Inconclusive) as caught:
        bool(verdict)
    assert caught.value.verdict is verdict
    assert str(caught.value) == verdict.reason


@pytest.mark.parametrize("number", [0.4, 0, True, np.float64(0.4), np.int64(1)])
def test_an_estimate_equals_no_number(number):
    """`== 0.4` would be silently false whatever was measured; it says what to write, on either side of the sign."""
    estimate = rate("escalation", 4, 10)
    for compare in (lambda: estimate == number, lambda: number == estimate, lambda: estimate != number):
        with pytest.raises(TypeError, match=r"equals no number; compare it: escalation <="):
            compare()


def test_equal_estimates_are_equal():
    """What has the same numbers is the same and hashes alike, whatever setting it came from; nothing else is equal."""
    one, same, other = rate("escalation", 4, 10), rate("escalation", 4, 10), rate("escalation", 5, 10)
    assert one == same
    assert hash(one) == hash(replace(same, setting={"confidence": 0.9}))
    assert one == replace(same, setting={"confidence": 0.9})
    assert one != other
    assert one not in {None, "40%"}


def test_an_estimate_has_no_truth_value_at_all():
    """`assert cohort.disagreement` without a comparison promises nothing, so it is no pass."""
    with pytest.raises(TypeError, match=r"compare it: disagreement <= 0\.05"):
        assert share(0, 100)


@pytest.mark.parametrize("compare", [lambda e: e < 0.1, lambda e: e > 0.1, lambda e: e.low < e < e.high])
def test_strict_comparisons_do_not_exist(compare):
    """A budget includes its end; `<` and `>` are errors rather than something near."""
    with pytest.raises(TypeError):
        compare(share(0, 100))


def test_comparisons_read_both_ways_and_in_chains():
    """`0.1 >= rate` is `rate <= 0.1`, and a chain is judged side by side."""
    estimate = share(30, 100)
    mirrored = 0.5 >= estimate  # noqa: SIM300  the mirrored spelling is what is tested
    assert mirrored == (estimate <= 0.5)
    assert 0.15 <= estimate <= 0.45
    assert float(estimate) == 0.3
    with pytest.raises(TypeError):
        float(NOTHING)


@pytest.mark.parametrize(
    ("compare", "message"),
    [
        (lambda e: e <= 5, "a rate lies between 0 and 1, so '500%' is no bound for one. Write 0.05 for 5%."),
        (lambda e: e <= 0, "cannot be proven by any number of cases"),
        (lambda e: e.within(0.4, 0.1), "ends before it begins"),
        (lambda e: e >= -0.1, "is negative; only points may be"),
        (lambda e: e <= np.nan, "is not finite"),  # noqa: PLW0177  not a number is what is handed in
    ],
)
def test_bounds_from_python_are_checked_as_those_of_suites(compare, message):
    """A number that can be no bound is an error with the reason."""
    with pytest.raises(ValueError, match=r".") as caught:
        compare(share(1, 100))
    assert message in str(caught.value)


def family_of(*counts, **setting):
    """Estimates of sibling cohorts that know each other, as slices of a replay make them."""
    made = []
    for name, (count, nobs) in counts:
        where = {"cohort": {"language": name}, "confidence": 0.95, **setting}
        made.append(replace(share(count, nobs), setting=where, family=lambda: made))
    return made


def test_comparing_in_python_adjusts_for_the_siblings():
    """A comparison gives the verdict `judge` gives over the family, with the cohort and policy of the slice."""
    counts = [("de", (2, 100)), ("en", (4, 120)), ("fr", (9, 60)), ("nl", (25, 100))]
    compared = [estimate <= 0.10 for estimate in family_of(*counts, inconclusive="warn")]
    judged = judge([share(*pair) for _, pair in counts], budgets.make(None, 0.10, "rate"))
    assert [(v.outcome, v.p_pass, v.p_holm, v.family) for v in compared] == [
        (v.outcome, v.p_pass, v.p_holm, v.family) for v in judged
    ]
    assert [v.cohort["language"] for v in compared] == ["de", "en", "fr", "nl"]
    assert [v.warned for v in compared] == [False, False, True, False]


def test_an_estimate_outside_its_family_is_judged_alone():
    """A family that does not hold the estimate itself cannot adjust it."""
    stray = replace(share(40, 100), setting={"cohort": {"language": "xx"}}, family=lambda: family_of(("de", (1, 99))))
    assert ((stray <= 0.10).outcome, (stray <= 0.10).family) == ("fail", 1)


def test_confidence_is_that_of_the_suite():
    """A verdict from Python is judged at the level its estimate was made at."""
    estimate = share(5, 100)
    assert (estimate <= 0.10).outcome == "inconclusive"
    assert (replace(estimate, setting={"confidence": 0.9}) <= 0.10).outcome == "pass"
    assert one(estimate, "at most 10%", confidence=0.9).outcome == "pass"


def test_verdicts_made_inside_a_block_are_kept():
    """`keeping` collects every comparison in order, the innermost block only, and nothing afterwards."""
    with verdicts.keeping([]) as outer:
        first = share(0, 100) <= 0.10
        with verdicts.keeping([]) as inner:
            second = share(0, 100) >= 0.10
        third = share(0, 100).within(0.01, 0.10)
    assert share(0, 100) <= 0.10
    assert outer == [first, third]
    assert inner == [second]


# What is left behind


@pytest.mark.parametrize(
    "verdict",
    [
        one(share(2, 100), "at most 10%"),
        one(share(50, 314), "at most 10%"),
        replace(
            one(share(3, 41), "at most 10%"), inconclusive="warn", cohort={"language": "pt"}, scope="each language"
        ),
        one(NOTHING, "at most 10%"),
        one(ratio([1, 2, 1, 2], [5, 6, 5, 5]), "at most 45%"),
        one(replace(ratio([1, 9], [1, 1]), low=-math.inf, high=math.inf), "at most 45%"),
        one(fact(1.0), "at least 99%"),
        replace(one(share(0, 90), "at most 10%"), file="s.cascade.yaml", line=7, test="t.py::t", advice="none needed"),
    ],
    ids=lambda verdict: verdict.outcome,
)
def test_records_are_what_evidence_stores(verdict):
    """A record is plain JSON, accepted as it is by the format, and says what the verdict says."""
    record = json.loads(json.dumps(verdict.record(), allow_nan=False))
    stored = evidence_format.Verdict.model_validate(record)
    assert stored.model_dump(by_alias=True) == record
    assert (stored.outcome, stored.warned, stored.not_measured) == (
        verdict.outcome,
        verdict.warned,
        verdict.not_measured,
    )
    assert stored.estimate.value == verdict.estimate.value
    assert stored.bound == str(verdict.bound)
