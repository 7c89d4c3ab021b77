"""Metrics: each on a few cases, against figures worked out by hand."""

from __future__ import annotations

import datetime as dt
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_replays import case, replayed, three, two

from cascade_eval import agreement, bounds, costs, metrics, prices, replay
from cascade_eval.basis import Fact
from cascade_eval.cascade import Tier
from cascade_eval.metrics import ratios

untimed = settings(deadline=None, max_examples=50)


def paid(mini, flagship, **options):
    """Return what two calls cost, in cents."""
    return {
        "mini": {"cost_usd": mini / 100, **options},
        "flagship": {} if flagship is None else {"cost_usd": flagship / 100},
    }


# The catalogue


def test_every_metric_is_found_by_its_name():
    """All listed metrics exist; one per tier below the flagship is made up on the way, and nothing else is."""
    listed = metrics.names(("mini", "medium", "top"))
    assert [*metrics.METRICS, "escalation from mini", "escalation from medium"] == listed
    assert all(metrics.find(name, ("mini", "medium", "top")).name == name for name in listed)
    assert metrics.find("escalation from maxi", ("mini", "top")) is None
    assert all(metric.help.endswith(".") and metric.compute is not None for metric in metrics.METRICS.values())


@pytest.mark.parametrize("name", metrics.names(("mini", "top")))
def test_no_metric_is_measured_on_nothing(name):
    """Without a case every metric is blocked and says why; none is zero."""
    nobody = replayed([case(i, 0.9, case={"cached": True}) for i in range(3)])
    estimate = nobody.estimate(name)
    assert (estimate.value, estimate.blocked) == (None, True)
    assert estimate.reason


@pytest.mark.parametrize("name", metrics.names(("mini", "top")))
def test_a_metric_that_cannot_be_had_says_so(name):
    """What is known not to be computable has no value, whatever the cases hold."""
    context = metrics.Context((), problems={name: "there is no such thing here"})
    found = replayed([case(i, 0.9, **paid(1, 10)) for i in range(3)], context=context).estimate(name)
    assert (found.value, found.blocked, found.reason) == (None, True, "there is no such thing here")


# Rates


def test_escalation_from_a_tier_counts_who_reached_it():
    """Of 5 cases 3 leave mini; 2 of these leave medium; so escalation is 2 of 5, and 2 of 3 from medium."""
    cases = [
        case(i, sure) | {"models": case(i, sure)["models"] | {"medium": {"answer": "a", "confidence": other}}}
        for i, (sure, other) in enumerate([(0.9, 0.9), (0.9, 0.1), (0.1, 0.9), (0.1, 0.1), (0.1, 0.2)])
    ]
    found = replayed(cases, three(0.5, 0.5))
    counted = {name: found.estimate(name) for name in ("escalation", "escalation from mini", "escalation from medium")}
    assert {name: (each.count, each.nobs) for name, each in counted.items()} == {
        "escalation": (2, 5),
        "escalation from mini": (3, 5),
        "escalation from medium": (2, 3),
    }
    assert found.escalation_from("mini") == counted["escalation from mini"]


def test_failures_count_calls_on_the_path_only():
    """A timeout or refusal of a tier the case came to counts once a case; one it never reached does not."""
    cases = [
        case(0, 0.9, mini={"status": "timeout"}, flagship={"status": "timeout"}),  # timed out, and unanswered
        case(1, 0.9, mini={"status": "refused"}),
        case(2, 0.9, flagship={"status": "refused"}),  # never asked
        case(3, 0.1, flagship={"status": "refused"}),  # refused, and unanswered
        case(4, 0.9),
    ]
    found = replayed(cases)
    counted = {name: found.estimate(name) for name in ("timeouts", "refusals", "unanswered")}
    assert {name: (each.count, each.nobs) for name, each in counted.items()} == {
        "timeouts": (1, 5),
        "refusals": (2, 5),
        "unanswered": (2, 5),
    }


def test_regeneration_is_of_the_cases_that_know():
    """Two of three asked again; where nobody noted it the case is in no ratio."""
    flags = [True, False, True, None]
    found = replayed([case(i, 0.9, case={"regenerated": flag}) for i, flag in enumerate(flags)]).regeneration
    assert (found.count, found.nobs) == (2, 3)


def test_coverage_and_audited_are_facts():
    """They are shares of this data, compared exactly, without bounds around them."""
    cases = [case(i, 0.9, flagship={"answer": None if i == 0 else "a"}) for i in range(4)]
    del cases[3]["models"]["mini"]
    found = replayed(cases)
    assert (found.coverage.count, found.coverage.nobs, found.coverage.low, found.coverage.high) == (3, 4, 0.75, 0.75)
    assert (found.audited.count, found.audited.nobs) == (2, 3)
    assert isinstance(found.audited.basis, Fact)
    assert found.disagreement.reason.startswith("coverage is 3 of 4 cases with a known path, below 99%")


# Money


def test_cost_is_every_call_over_always_asking_the_flagship():
    """Mini 1 cent, the flagship 10; 3 of 10 escalate: (10 + 30) / 100, and 4 cents a request."""
    found = replayed([case(i, 0.1 if i < 3 else 0.9, **paid(1, 10)) for i in range(10)])
    assert found.cost.value == pytest.approx(0.4, abs=1e-15)
    assert found.cost_per_request.value == pytest.approx(0.04, abs=1e-15)
    assert found.cost.nobs == found.cost_per_request.nobs == 10
    assert found.cost.estimated is False


def test_savings_and_break_even_are_cost_seen_from_the_other_side():
    """Savings are one minus cost with the bounds exchanged; so is what is left of escalation to the break-even."""
    cases = [case(i, 0.1 if i % 4 == 0 else 0.9, **paid(1 + i % 3, 10 + i % 5)) for i in range(80)]
    found = replayed(cases)
    cost, savings, margin = (found.estimate(name) for name in ("cost", "savings", "break-even margin"))
    for other, unit in ((savings, "ratio"), (margin, "points")):
        assert (other.value, other.low, other.high) == (1 - cost.value, 1 - cost.high, 1 - cost.low)
        assert other.unit == unit
        assert (cost <= 0.5).p_pass == pytest.approx((other >= 0.5).p_pass)
        assert (cost <= 0.3).p_fail == pytest.approx((other >= 0.7).p_fail)
        assert (cost <= 0.5).outcome == (other >= 0.5).outcome == "pass"


def test_the_break_even_margin_is_the_published_one():
    """Mini .00885 and a gate-free flagship of .0295: break-even .700, so 40 points are left at 30% escalation."""
    cases = [
        case(i, 0.1 if i < 300 else 0.9, mini={"cost_usd": 0.00885}, flagship={"cost_usd": 0.0295}) for i in range(1000)
    ]
    found = replayed(cases)
    assert found.cost.value == pytest.approx(0.6)
    assert found.estimate("break-even margin").value == pytest.approx(costs.break_even(0.00885, 0, 0.0295) - 0.3)


def test_cost_bounds_are_fiellers_of_the_cases():
    """With a case to a hash group they are those of the pairs, and never nearer than what so few cases can have missed."""
    rng = np.random.default_rng(5)
    prices = zip(rng.integers(1, 90, 40).tolist(), rng.integers(80, 120, 40).tolist(), strict=True)
    alone = {}
    for i, pair in enumerate(prices):
        each = case(i, 0.9, **paid(*pair))
        alone[int(replayed([each]).counts()["ratio.flagship"][0].argmax())] = (each, pair)
    x, y = np.array([pair for _, pair in alone.values()]).T
    found = replayed([each for each, _ in alone.values()]).cost
    low, high = bounds.fieller(len(x), x.sum(), y.sum(), x @ x, x @ y, y @ y)
    assert found.value == pytest.approx(x.sum() / y.sum())
    missed = 1 - 0.05 ** (1 / len(x))
    assert found.low == pytest.approx(min(low, found.value - missed))
    assert found.high == pytest.approx(max(high, found.value + missed))
    assert missed < min(found.high - found.value, found.value - found.low) + 1e-9


@pytest.mark.parametrize(
    ("missing", "reason"), [(1, None), (3, "the flagship's cost is estimated in 1.5% of the cases")]
)
def test_a_flagship_call_nobody_made_is_guessed_and_marked(missing, reason):
    """A guess stands for up to 1% of the flagship's calls; beyond it the ratio is shown and cannot be judged."""
    cases = [case(i, 0.9, **paid(1, None if i < missing else 10)) for i in range(200)]
    found = replayed(cases).cost
    assert found.estimated == missing / 200
    assert found.value == pytest.approx(0.1)
    assert found.blocked == (reason is not None)
    assert found.reason is None or found.reason.startswith(reason)
    assert (found <= 0.5).outcome == ("inconclusive" if reason else "pass")


def test_a_guess_by_tokens_uses_the_cohorts_mean_output():
    """Input 1 and output 2 nano-dollars a token: unrecorded calls cost their input and the mean output of the others."""
    prices = costs.parse({"flagship": {"input": "$0.001", "output": "$0.002"}})
    rules = replay.Rules(agreement.parse("exact"), prices)
    cases = [
        case(
            i,
            0.9,
            mini={"cost_usd": 1e-7, "input_tokens": 100 if i < 2 else 50},
            flagship={"input_tokens": None if i < 2 else 50, "output_tokens": None if i < 2 else 20 + 10 * (i % 2)},
        )
        for i in range(200)
    ]
    found = replayed(cases, rules=rules).cost
    known, guessed = 198 * (50 + 2 * 25), 2 * (100 + 2 * 25)
    assert found.value == pytest.approx(200 * 100 / (known + guessed))
    assert found.estimated == 0.01
    assert not found.blocked


@pytest.mark.parametrize("day", ["2025-06-09", "2025-06-10"])
def test_a_guess_by_tokens_uses_the_price_of_its_day(day):
    """A flagship whose price changed overnight is guessed at the price that held when the case was decided."""
    when = dt.datetime.fromisoformat(f"{day}T12:00:00+00:00")
    cascade = replace(two(), tiers=(two().tiers[0], Tier("top", "o3")))
    cases = [
        {
            "case_id": str(i),
            "decided_at": when,
            "models": {
                "mini": {"answer": "a", "confidence": 0.9, "cost_usd": 1e-7, "input_tokens": 100 if i < 2 else 50},
                "o3": {"answer": "a"} | ({} if i < 2 else {"input_tokens": 50, "output_tokens": 20 + 10 * (i % 2)}),
            },
        }
        for i in range(200)
    ]
    found = replayed(cases, cascade).cost
    [rate] = [
        rate for rate, _ in prices.rates("o3", costs.Prices()) if (rate.since == "2025-06-10") == day.endswith("10")
    ]
    asked, answered = (steps[0][1] / 1e6 for steps in (rate.input, rate.output))
    known, guessed = 198 * (50 * asked + 25 * answered), 2 * (100 * asked + 25 * answered)
    assert found.value == pytest.approx(200 * 100 / (known + guessed))
    assert found.estimated == 0.01


def test_an_audit_estimates_the_flagships_cost_and_may_be_judged():
    """Each drawn call stands for 1 / audit_probability cases; estimated throughout, and not blocked."""
    cases = []
    for i in range(400):
        drawn = i % 4 == 0
        each = case(i, 0.9, case={"audit_probability": 0.25 if drawn else None}, **paid(1, 10 if drawn else None))
        if not drawn:
            del each["models"]["flagship"]
        cases.append(each)
    found = replayed(cases).cost
    assert found.value == pytest.approx(0.1)
    assert (found.estimated, found.blocked) == (1.0, False)
    assert (found <= 0.2).outcome == "pass"


@pytest.mark.parametrize(
    ("cases", "reason"),
    [
        ([case(0, 0.9)], "cost is known for 0 of 1 cases, below 99%"),
        ([case(0, 0.9, **paid(1, None))], "no call of the flagship has a known cost to compare with"),
        ([case(i, 0.9, **paid(1, 0)) for i in range(9)], "the sum it is divided by is zero"),
        ([case(0, 0.9, **paid(1, 10))], "too few cases: the bounds are unbounded"),
    ],
)
def test_a_cost_that_cannot_be_judged_says_why(cases, reason):
    """Unknown, unpaired, free or single: no value to judge, the reason in words, never zero."""
    found = replayed(cases).cost
    assert found.blocked
    assert found.reason == reason
    assert (found <= 0.5).not_measured


def test_a_missing_price_is_unknown_not_zero():
    """One case in fifty without a cost of its cheap call: coverage of cost is below its floor."""
    cases = [case(i, 0.9, mini={"cost_usd": None if i == 0 else 0.01}, flagship={"cost_usd": 0.1}) for i in range(50)]
    assert replayed(cases).cost.reason == "cost is known for 49 of 50 cases, below 99%"


# Tasks


def steps(*rows):
    """Return cases of several tasks: task, cents, completed."""
    return [
        case(i, 0.9, case={"task_id": task, "completed": done}, mini={"cost_usd": cents / 100})
        for i, (task, cents, done) in enumerate(rows)
    ]


def test_a_completed_task_bears_the_cost_of_all_its_steps_and_of_the_failed_tasks():
    """Tasks of 1 + 2, 3 and 4 cents, the last not completed: 10 cents over 2 tasks."""
    rows = [("a", 1, False), ("b", 3, True), ("a", 2, True), ("c", 4, False)]
    found = replayed(steps(*rows)).cost_per_completed_task
    assert found.value == pytest.approx(0.05)
    assert found.nobs == 3


def test_tasks_survive_being_cut_into_batches():
    """Steps of one task in two batches are one task once their counts are added."""
    rows = [("a", 1, False), ("b", 3, True), ("a", 2, True), ("c", 4, False), ("c", 4, True)]
    whole = replayed(steps(*rows))
    parts = [replace_rows(whole, mask).counts() for mask in ([1, 1, 0, 0, 0], [0, 0, 1, 1, 1])]
    metric = metrics.METRICS["cost per completed task"]
    [added] = metrics.estimates(metric, parts[0] + parts[1], whole.context)
    direct = whole.cost_per_completed_task
    assert (added.value, added.low, added.high, added.nobs) == (direct.value, direct.low, direct.high, direct.nobs)


def replace_rows(found, mask):
    return replace(found, rows=np.array(mask, dtype=np.bool_))


def test_a_case_without_a_task_is_one():
    """Without `task_id` each case is its own task; without `completed` there is nothing to divide by."""
    cases = [case(i, 0.9, case={"completed": i < 2}, mini={"cost_usd": 0.01}) for i in range(4)]
    assert replayed(cases).cost_per_completed_task.value == pytest.approx(0.02)
    nobody = replayed([case(0, 0.9, mini={"cost_usd": 0.01})]).cost_per_completed_task
    assert (nobody.value, nobody.reason) == (None, "no case says whether it was `completed`")


def test_no_task_completed_has_no_price():
    """Money spent on nothing completed is not a cost of zero a task."""
    found = replayed(steps(("a", 1, False), ("b", 2, False))).cost_per_completed_task
    assert (found.value, found.reason) == (None, "the sum it is divided by is zero")


# Quality


def test_quality_of_right_and_wrong_answers_is_exact():
    """Expected answers make it a share with exact bounds; retention compares it with the flagship's."""
    right = [True, True, False, False]
    cases = [case(i, 0.9, agrees=False, case={"expected": "b" if ok else "a"}) for i, ok in enumerate(right * 10)]
    found = replayed(cases)
    low, high = map(float, bounds.rate(20, 40))
    assert (found.quality.count, found.quality.nobs, found.quality.low, found.quality.high) == (20, 40, low, high)
    assert found.quality.method == "clopper-pearson"
    assert found.retention.value == pytest.approx(20 / 20)
    assert found.retention.nobs == 40


def test_graded_quality_is_a_mean():
    """Scores between 0 and 1 are averaged, with bounds by t; retention is a ratio of sums, not of means of ratios."""
    grades = [(0.5, 0.8), (0.7, 0.9), (0.6, 1.0), (0.2, 0.5)] * 5
    cases = [case(i, 0.9, mini={"score": m}, flagship={"score": f}) for i, (m, f) in enumerate(grades)]
    found = replayed(cases)
    assert found.quality.value == pytest.approx(0.5)
    assert found.quality.method == "fieller"
    assert found.retention.value == pytest.approx(2.0 / 3.2)
    assert found.quality.low < 0.5 < found.quality.high
    assert (found.quality.blocked, (found.quality >= 0.2).outcome) == (False, "pass")


@pytest.mark.parametrize(
    ("escalated", "reason"), [(1, None), (2, "the served answer is known for 98 of 100 graded cases")]
)
def test_served_answers_without_a_grade_are_missed(escalated, reason):
    """Mini is graded everywhere and the flagship nowhere: what was escalated is not graded, though it could have been."""
    cases = [case(i, 0.1 if i < escalated else 0.9, mini={"score": 1.0}) for i in range(100)]
    found = replayed(cases).quality
    assert found.reason is None if reason is None else reason in found.reason
    assert found.blocked is (reason is not None)


def test_an_escalated_case_has_the_flagships_quality():
    """Whoever served the case is the one that is graded."""
    cases = [case(i, 0.9 if i % 2 else 0.1, mini={"score": 0.25}, flagship={"score": 0.75}) for i in range(8)]
    assert replayed(cases).quality.value == pytest.approx(0.5)


def test_without_a_grade_there_is_no_quality():
    """Nothing expected and no score: not measured."""
    found = replayed([case(0, 0.9)])
    assert found.quality.reason == found.retention.reason == "no answer has a score and no case an expected answer"


# Latency


@untimed
@given(st.lists(st.floats(0.001, 3_000), min_size=1, max_size=200))
def test_quantiles_are_numpys_up_to_a_bucket(seconds):
    """A quantile read off the histogram is within a bucket of the sample's own."""
    found = replayed([case(i, 0.9, mini={"latency_s": s}) for i, s in enumerate(seconds)])
    for name, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99)):
        exact = float(np.quantile(seconds, share, method="inverted_cdf"))
        assert found.latency(name).value == pytest.approx(exact, rel=0.008)


def test_latency_bounds_are_order_statistics():
    """Of 100 latencies of 1 to 100 s the median's 95% bounds are the 42nd and the 59th, the p95's the 91st and 99th."""
    found = replayed([case(i, 0.9, mini={"latency_s": float(i + 1)}) for i in range(100)])
    for name, value, low, high in (("p50", 50, 42, 59), ("p95", 95, 91, 99)):
        estimate = found.latency(name)
        assert (estimate.value, estimate.low, estimate.high) == pytest.approx((value, low, high), rel=0.008)
    assert found.latency("p99").high == math.inf


@pytest.mark.parametrize(
    ("slow", "outcome"), [(0, "pass"), (4, "pass"), (5, "inconclusive"), (15, "inconclusive"), (16, "fail")]
)
def test_latency_budgets_are_judged_by_exact_counts(slow, outcome):
    """Of 200 cases, "p95 at most 1 s" is about how many took longer: 4 prove it, 16 refute it; exactly 1 s is not slow."""
    cases = [case(i, 0.9, mini={"latency_s": 1.001 if i < slow else 1.0}) for i in range(200)]
    verdict = replayed(cases).latency("p95") <= 1.0
    assert (verdict.p_pass <= 0.05) == (bounds.p_at_most(slow, 200, 0.05) <= 0.05)
    assert verdict.outcome == outcome


def test_a_limit_that_is_named_is_counted_exactly():
    """Inside of a bucket, too: what took exactly as long is within, and what is unknown is not slower."""
    seconds = [1.0, 1.0005, 1.001, 1.0015, 1.002, None]
    cases = [case(i, 0.9, case={"language": "ab"[i % 2]}, mini={"latency_s": s}) for i, s in enumerate(seconds)]
    found = replayed(cases)
    limits = (1.0, 1.001, 1.00125, 9.0)
    counts = replay.tally(found.cascade, found.decisions, found.columns, ("language",), limits=limits)
    assert counts.members == (("a",), ("b",))
    assert counts["slower"].tolist() == [[2, 1, 1, 0], [2, 1, 1, 0]]


def test_latency_counted_by_bucket_is_exact_on_an_edge():
    """From counts alone, a limit on the edge of a bucket has those on it within and the others beyond."""
    seconds = [0.5] * 60 + [1.0] * 60 + [2.0] * 3
    found = replayed([case(i, 0.9, mini={"latency_s": s}) for i, s in enumerate(seconds)])
    [estimate] = metrics.estimates(metrics.METRICS["latency p95"], found.counts(), found.context)
    assert [estimate.basis.count(limit) for limit in (0.25, 0.5, 1.0, 2.0)] == [123, 63, 3, 0]


def test_latency_of_an_escalated_case_is_the_sum():
    """Both calls were waited for; a recorded latency that is missing leaves the case's unknown."""
    cases = [case(i, 0.1, mini={"latency_s": 1.0}, flagship={"latency_s": 2.0}) for i in range(50)]
    assert replayed(cases).latency("p50").value == pytest.approx(3.0, rel=0.008)
    cases[0]["models"]["flagship"]["latency_s"] = None
    assert replayed(cases).latency("p50").reason == "latency is known for 49 of 50 cases, below 99%"


# Against a baseline

MOVED = [case(i, 0.4 if i % 5 == 0 else 0.9, agrees=i % 10 != 0) for i in range(200)]


def test_drift_is_the_difference_in_points_with_the_score_bounds():
    """One case in five is kept now that was escalated before: -20 points, Tango's bounds."""
    found = replayed(MOVED, two(0.3), baseline=two(0.5)).escalation_drift
    low, high = map(float, bounds.tango(0, 40, 200))
    assert (found.value, found.low, found.high, found.nobs, found.unit) == (-0.2, low, high, 200, "points")
    assert found.method == "tango"


def test_flips_are_a_share_of_the_pairs():
    """Half of the newly kept cases disagree: 20 of 200, with exact bounds."""
    found = replayed(MOVED, two(0.3), baseline=two(0.5)).flips_to_disagreement
    assert (found.count, found.nobs) == (20, 200)
    assert (found.low, found.high) == tuple(map(float, bounds.rate(20, 200)))


def test_without_a_baseline_nothing_is_compared():
    """Flips and drift say that there is none."""
    found = replayed(MOVED, two(0.3))
    assert found.escalation_drift.reason == found.flips_to_disagreement.reason == "there is no baseline"


def test_weighted_drift_is_the_weighted_difference():
    """Newly kept cases of weight 3 beside others of weight 1: -120 / 280, judged by t and never surer than Kish says."""
    weights = [3.0 if i % 5 == 0 else 1.0 for i in range(200)]
    cases = [each | {"weight": w} for each, w in zip(MOVED, weights, strict=True)]
    found = replayed(cases, two(0.3), baseline=two(0.5)).escalation_drift
    assert found.value == pytest.approx(-120 / 280)
    assert found.low < -120 / 280 < found.high
    assert (found <= -0.30).outcome == "pass"
    assert (found <= -0.50).outcome == "fail"


def test_equal_weights_change_a_difference_little():
    """With every weight 2 the difference is the plain one, and the bounds of t lie near those of the score test."""
    plain = replayed(MOVED, two(0.3), baseline=two(0.5)).escalation_drift
    twice = replayed([each | {"weight": 2.0} for each in MOVED], two(0.3), baseline=two(0.5)).escalation_drift
    assert twice.value == pytest.approx(plain.value)
    assert (twice.low, twice.high) == pytest.approx((plain.low, plain.high), abs=0.01)


def test_clusters_that_move_together_are_no_proof():
    """Forty moved cases in one conversation of five are worth five cases, not two hundred."""
    cases = [each | {"cluster": f"talk {i % 5}"} for i, each in enumerate(MOVED)]
    found = replayed(cases, two(0.3), baseline=two(0.5)).escalation_drift
    assert found.value == pytest.approx(-0.2)
    assert found.nobs == 200
    assert found.high > 0
    assert (found <= 0.0).outcome == "inconclusive"
    alone = [each | {"cluster": f"talk {i}"} for i, each in enumerate(MOVED)]
    assert (replayed(alone, two(0.3), baseline=two(0.5)).escalation_drift <= 0.0).outcome == "pass"


def test_drift_of_each_cohort_is_its_own():
    """Slices and cohort tables say the same of each cohort, weighted or not."""
    for extra in ({}, {"weight": 2.0}, {"cluster": "x"}):
        cases = [each | {"language": "de" if i % 2 else "en"} | extra for i, each in enumerate(MOVED)]
        found = replayed(cases, two(0.3), baseline=two(0.5))
        table = metrics.estimates(metrics.METRICS["escalation drift"], found.counts("language"), found.context)
        for slice_, estimate in zip(reversed(found.cohorts("language")), table, strict=True):
            assert slice_.escalation_drift.value == estimate.value
            assert slice_.escalation_drift.nobs == estimate.nobs


@given(
    st.lists(st.tuples(st.integers(0, 2**61), st.integers(0, 2**61)), max_size=40),
    st.sampled_from([1, 30, 100]),
)
def test_moments_of_money_are_exact(pairs, times):
    """Sums of squares of large nano-dollars equal those of whole numbers of any size, for few groups and for many."""
    x, y = np.array(pairs * times, dtype=np.int64).reshape(-1, 2).T
    whole = [(a, b) for a, b in pairs * times]
    want = (
        len(whole), sum(a for a, _ in whole), sum(b for _, b in whole),
        sum(a * a for a, _ in whole), sum(a * b for a, b in whole), sum(b * b for _, b in whole),
    )  # fmt: skip
    assert ratios._moments(x, y) == want
