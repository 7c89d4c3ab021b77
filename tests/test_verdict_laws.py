"""How much more it takes to decide, and the laws verdicts obey."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm
from test_verdicts import ALPHA, NOTHING, fact, one, promise, ratio, share

from cascade_eval import bounds, sample_sizes
from cascade_eval.basis import Binomial, Paired
from cascade_eval.verdicts import Estimate, Inconclusive, Verdict, judge, keeping, rate

untimed = settings(deadline=None, max_examples=50)

# How much more


@pytest.mark.parametrize(
    ("count", "nobs", "text", "always"),
    [
        (1, 20, "at most 10%", 203),
        (19, 20, "at least 90%", 203),
        (4, 20, "at most 10%", 89),
        (16, 20, "at least 90%", 89),
        (1, 50, "at most 5%", 286),
        (1, 20, "1% to 10%", 203),
        (1, 20, "0% to 10%", 203),
    ],
)
def test_cases_to_decide_are_those_beyond_the_ones_there_are(count, nobs, text, always):
    """The published sample sizes, less the cases already looked at."""
    verdict = one(share(count, nobs), text)
    assert verdict.outcome == "inconclusive"
    assert verdict.cases_to_decide == always - nobs
    assert f"about {always - nobs:,} more cases like these would decide." in verdict.reason


def test_cases_to_decide_know_the_family():
    """Failing takes alpha over the size of the family; passing takes no correction."""
    wrong = judge([share(5, 25), *[share(1, 20)] * 5], promise("at most 10%"))
    assert wrong[0].cases_to_decide == 138 - 25
    assert wrong[1].cases_to_decide == 203 - 20


def test_a_weighted_case_decides_less():
    """Where 100 cases are worth 50, twice as many more are needed."""
    plain, half = one(share(5, 100), "at most 10%"), replace(share(5, 100), basis=Binomial((2.5, 50), (2.5, 50)))
    assert plain.cases_to_decide == 203 - 100
    assert one(half, "at most 10%").cases_to_decide == 2 * 203 - 100


def test_more_cases_like_these_do_not_help_where_unknowns_stand_in_the_way():
    """With 9.5% known and 1% unknown no number of cases proves 10%, and none is named."""
    estimate = replace(share(950, 9_900), basis=Binomial((950, 10_000), (1_050, 10_000)))
    verdict = one(estimate, "at most 10%")
    assert (verdict.outcome, verdict.cases_to_decide) == ("inconclusive", None)


@untimed
@given(st.integers(5, 300), st.data(), st.sampled_from([0.05, 0.10, 0.4]))
def test_so_many_more_cases_do_decide(nobs, data, budget):
    """Half as many more again, at the same rate, give a verdict."""
    count = data.draw(st.integers(0, nobs))
    verdict = share(count, nobs) <= budget
    if verdict.cases_to_decide is None:
        return
    more = nobs + math.ceil(1.5 * verdict.cases_to_decide) + 20
    assert (share(round(count / nobs * more), more) <= budget).outcome != "inconclusive"
    assert verdict.cases_to_decide > 0


@pytest.mark.parametrize(
    ("text", "family"), [("at most 10%", 1), ("at least 90%", 1), ("at most 10%", 6), ("2% to 10%", 1)]
)
def test_the_smallest_excess_has_the_power_that_is_claimed(text, family):
    """At the excess named, this many cases fail with probability .8, after the family's first step."""
    verdict = judge([share(3, 60)] * family, promise(text))[0]
    excess = verdict.smallest_excess if "most" in text or "to" in text else 1 - verdict.smallest_excess
    level = ALPHA / family / (2 if " to " in text else 1)
    critical = min(x for x in range(61) if bounds.p_at_least(x, 60, 0.10) <= level)
    assert bounds.p_at_least(critical, 60, excess) == pytest.approx(0.8)


@pytest.mark.parametrize("estimate", [ratio([1, 2, 3], [5, 5, 5]), fact(0.2), NOTHING, share(0, 0)])
def test_the_smallest_excess_is_for_rates_only(estimate):
    """Where there is no exact test of a rate, none is named."""
    assert one(estimate, "at most 50%").smallest_excess is None


def test_an_effective_case_is_not_rounded_up():
    """59.6 effective cases notice what 59 do, not what 60 do."""
    some = replace(share(3, 100), basis=Binomial((3, 59.6), (3, 59.6)))
    assert one(some, "at most 10%").smallest_excess == one(share(3, 59), "at most 10%").smallest_excess


@pytest.mark.parametrize("noise", [0.05, 0.5])
def test_cases_to_decide_a_ratio_shrink_with_its_spread(noise):
    """A ratio over its budget says how many more cases would refute it; fewer where costs spread less."""
    x = 10 * (1 + noise * np.tile([-1, 1, 0, 0], 10)) * 0.5
    verdict = one(ratio(x, np.full(40, 10.0)), "at most 49%")
    assert (verdict.outcome == "fail") == (noise == 0.05)
    assert (verdict.cases_to_decide is None) == (noise == 0.05)


class Surely:
    """A test whose evidence is so many standard errors on one side of every budget."""

    def __init__(self, z):
        self.z = z

    def below(self, budget, *, strict=False):  # noqa: ARG002  the same for both
        return float(norm.sf(-self.z))

    def above(self, budget, *, strict=False):  # noqa: ARG002  the same for both
        return float(norm.sf(self.z))


@untimed
@given(st.floats(0.001, 2.9), st.integers(2, 500), st.integers(1, 9), st.booleans(), st.booleans())
def test_evidence_grows_with_the_root_of_the_cases(z, nobs, family, both, over):
    """So many more cases bring the power of .8 after the family's first step, and one less does not."""
    bound = promise("40% to 60%" if both else "at most 60%", "ratio")
    more = sample_sizes.more_cases(0.5, nobs, Surely(z if over else -z), bound, alpha=ALPHA, family=family)
    wanted = norm.isf(ALPHA / family / (2 if both else 1)) + norm.isf(0.2)

    def reached(extra):
        return z * math.sqrt((nobs + extra) / nobs)

    if more is None:
        assert reached(100_000) < wanted
    else:
        assert reached(more) >= wanted * (1 - 1e-9)
        assert more == 1 or reached(more - 1) < wanted
        assert 1 <= more <= 100_000


def test_evidence_for_neither_side_decides_nothing_however_many_cases_come():
    """At exactly the budget no number of cases is named, and certainty takes one case more."""
    counts = [
        sample_sizes.more_cases(0.5, 40, Surely(z), promise("at most 50%", "ratio"), alpha=ALPHA, family=1)
        for z in (0, 99)
    ]
    assert counts == [None, 1]


@pytest.mark.parametrize(("needed", "said"), [(99_999, 99_999), (100_000, 100_000), (100_001, None)])
def test_more_than_a_hundred_thousand_cases_are_not_asked_for(needed, said):
    """The last number that is named is named as it is."""
    z = (norm.isf(ALPHA) + norm.isf(0.2)) * math.sqrt(400 / (400 + needed - 0.5))
    bound = promise("at most 60%", "ratio")
    assert sample_sizes.more_cases(0.5, 400, Surely(z), bound, alpha=ALPHA, family=1) == said


def test_evidence_that_is_weak_on_both_sides_decides_nothing():
    """A test that takes both claims for likely has no direction in which more cases would lead."""
    both = SimpleNamespace(below=lambda _: 0.9, above=lambda _: 0.9)
    assert sample_sizes.more_cases(0.5, 40, both, promise("at most 50%", "ratio"), alpha=ALPHA, family=1) is None


@pytest.mark.parametrize(("text", "tests"), [("at most 10%", 1), ("1% to 10%", 2)])
def test_a_range_takes_more_cases_to_fail(text, tests):
    """Either side of a range fails at half of alpha, as two cohorts would."""
    verdict = one(share(5, 25), text)
    assert verdict.outcome == "inconclusive"
    assert verdict.cases_to_decide == bounds.cases_to_decide(0.2, 0.10, family=tests) - 25


def test_paired_differences_are_judged_by_the_score_test():
    """28 against 12 of 1,000: at most 3 points is proven, at most 0 is refuted, at most 1 is neither."""
    low, high = map(float, bounds.tango(28, 12, 1000))
    drift = Estimate("escalation drift", 0.016, low, high, nobs=1000, unit="points", basis=Paired(28, 12, 1000))
    texts = {"at most 3 points": "pass", "at most 0 points": "fail", "at most 1 point": "inconclusive"}
    assert {text: one(drift, text).outcome for text in texts} == texts
    assert one(drift, "at most 1 point").cases_to_decide > 0


# Laws

ORDER = {"fail": 0, "inconclusive": 1, "pass": 2}


@untimed
@given(
    st.integers(1, 300),
    st.data(),
    st.sampled_from(["at most 10%", "at least 60%", "15% to 40%"]),
    st.lists(st.sampled_from([0.6, 0.8, 0.9, 0.95, 0.99, 0.999]), min_size=2, max_size=2, unique=True),
)
def test_more_confidence_never_decides(nobs, data, text, levels):
    """A verdict that is inconclusive stays so when more confidence is asked for."""
    estimate = share(data.draw(st.integers(0, nobs)), nobs)
    less, more = (one(estimate, text, confidence=level).outcome for level in sorted(levels))
    assert more in {less, "inconclusive"}


@untimed
@given(st.integers(1, 300), st.data(), st.integers(0, 200), st.sampled_from([0.05, 0.1, 0.5]))
def test_agreeing_cases_never_turn_a_pass_into_a_fail(nobs, data, added, budget):
    """More cases that agree move an upper budget towards passing, and never away from it."""
    count = data.draw(st.integers(0, nobs))
    before, after = share(count, nobs) <= budget, share(count, nobs + added) <= budget
    assert ORDER[after.outcome] >= ORDER[before.outcome]


@untimed
@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 48)), min_size=1, max_size=5), st.randoms())
def test_the_order_of_cohorts_does_not_matter(cells, random):
    """Every cohort gets the same verdict wherever it stands in its family."""
    family = [share(min(x, n), n) for x, n in cells]
    order = random.sample(range(len(family)), len(family))
    found = judge(family, promise("at most 10%"))
    moved = judge([family[i] for i in order], promise("at most 10%"))
    for place, i in enumerate(order):
        assert (moved[place].outcome, moved[place].reason) == (found[i].outcome, found[i].reason)


@untimed
@given(st.lists(st.tuples(st.integers(0, 12), st.integers(1, 48)), min_size=1, max_size=5))
def test_a_larger_family_never_fails_more(cells):
    """Looking at more cohorts never turns a verdict into a failure, and never changes a pass."""
    family = [share(min(x, n), n) for x, n in cells]
    for verdict, estimate in zip(judge(family, promise("at most 10%")), family, strict=True):
        alone = one(estimate, "at most 10%").outcome
        assert verdict.outcome == alone or (alone, verdict.outcome) == ("fail", "inconclusive")


def test_judging_nobody_gives_nothing():
    """A budget line without cohorts has no verdict."""
    assert judge([], promise("at most 10%")) == []
    assert isinstance(one(share(1, 9), "at most 50%"), Verdict)


def test_what_cannot_fail_has_p_values_that_say_so():
    """A promise of anything at all is proven with certainty and never refuted."""
    verdict = one(share(3, 60), "0% to 100%")
    assert (verdict.outcome, verdict.p_pass, verdict.p_fail) == ("pass", 0.0, 1.0)


@pytest.mark.parametrize("confidence", [0.8, 0.99])
def test_a_rate_has_the_bounds_of_its_confidence(confidence):
    """The bounds are those of the exact test at that level, on each side."""
    found = rate("disagreement", 3, 60, confidence=confidence)
    assert (found.low, found.high) == bounds.rate(3, 60, confidence=confidence)


def test_no_case_is_no_count():
    """Where nothing was looked at nothing was found, and it is no measurement."""
    none = share(0, 0)
    assert (none.count, none.nobs, none.value, none.blocked) == (0, 0, None, True)


def test_an_estimate_is_not_equal_to_something_else():
    """Another count or a word is another thing."""
    assert share(1, 20) == share(1, 20)
    assert share(1, 20) != share(2, 20)
    assert share(1, 20) != "5%"


def test_what_was_undecided_says_why():
    """The exception is the sentence of its verdict, and carries it."""
    verdict = one(share(1, 20), "at most 10%")
    with pytest.raises(Inconclusive) as caught:
        bool(verdict)
    assert (str(caught.value), caught.value.verdict) == (verdict.reason, verdict)


def test_verdicts_are_kept_inside_the_block_only():
    """Blocks may stand in each other; each keeps what is compared inside it, and what of that was asked for."""
    outer, inner, asked, ignored = [], [], [], []
    with keeping(outer, asked):
        assert share(0, 200) <= 0.05
        with keeping(inner, ignored):
            one_more = share(1, 400) <= 0.05
        assert one_more
        _ = share(2, 600) <= 0.05
    assert share(3, 900) <= 0.05
    assert [[verdict.estimate.count for verdict in made] for made in (outer, inner, asked, ignored)] == [
        [0, 2],
        [1],
        [0, 1],
        [],
    ]
