"""Answers to a sample: what they prove, and what becomes of them in the window they were drawn from."""

from __future__ import annotations

import datetime as dt
import json

import audit_windows as made
import numpy as np
import pyarrow as pa
import pytest
from audit_windows import NOW, PRIOR, SIZES, SUITE, answers, drawn, evaluated, planned, refused

from cascade_eval import audit, bounds, traffic
from cascade_eval.audit import files
from cascade_eval.cascade import Cascade, Leaf, Signal, Tier

# --- read ---------------------------------------------------------------------------------------------------------


def test_the_worked_example_of_a_stratified_audit():
    """Five cohorts of 60 answers each: the weighted rate, its bounds, and the bad cohort's own verdict."""
    sizes = {"a": 5000, "b": 2000, "c": 1500, "d": 1000, "e": 500}
    wrong = {"a": 2, "b": 3, "c": 2, "d": 1, "e": 20}
    whole = made.table(sizes, escalated=5)
    prior = {f"language={name}": 0.02 for name in sizes}
    plan = audit.plan(made.window(whole), made.promised(), cases=305, prior=prior)
    plan = audit_with(plan, 60)
    sample = drawn(whole, plan)
    seen = dict.fromkeys(sizes, 0)
    rows = []
    for name in sample.ids:
        cohort = name.partition("-")[0]
        seen[cohort] += 1
        rows.append({"case_id": name, "big.answer": "no" if seen[cohort] <= wrong[cohort] else "yes"})
    reading = audit.read(sample, traffic.from_records(rows), made.window(whole), made.promised(), now=NOW)
    found = reading.overall
    assert (round(found.value, 5), round(found.low, 4), round(found.high, 4)) == (0.05, 0.0266, 0.0851)
    assert round(found.effective, 2) == 184.62
    outcomes = {v.cohort.get("language", "overall"): v.outcome for v in reading.verdicts}
    assert outcomes == {
        "overall": "pass",
        "a": "inconclusive",
        "b": "inconclusive",
        "c": "inconclusive",
        "d": "pass",
        "e": "fail",
    }
    assert reading.spend.usd is None
    assert "the cost of 300 of 300 calls is unknown" in reading.spend.reason


def audit_with(plan, calls):
    """Return the same plan with so many calls for each cohort."""
    record = plan.record()
    for stratum in record["strata"]:
        stratum["calls"] = calls
    from cascade_eval.audit import plans

    return plans._restored(record)


@pytest.mark.parametrize("missing", [0, 1, 9])
def test_one_cohort_reads_as_the_suite_judges_it(missing):
    """With one cohort, reading the answers and judging the merged traffic by a suite are the same, missing answers included."""
    whole = made.table({"en": 900}, 0.04)
    production = made.seen_in_production(whole)
    sample = drawn(production, planned(production, cases=300, prior={}))
    said = answers(sample, whole, missing=missing)
    reading = audit.read(sample, said, made.window(production), made.promised(), now=NOW)
    merged = audit.merge(traffic.from_frame(production), sample, said)
    judged = [v for v in evaluated(merged).verdicts if v.metric == "disagreement"]
    assert len(judged) == len(reading.verdicts) == 2
    for ours, theirs in zip(reading.verdicts, judged, strict=True):
        assert ours.outcome == theirs.outcome
        assert (ours.p_pass, ours.p_fail) == pytest.approx((theirs.p_pass, theirs.p_fail)) or missing == 9
        assert ours.not_measured == theirs.not_measured == (missing == 9)
        for name in ("value", "low", "high", "count", "nobs"):
            if missing < 9:
                assert getattr(ours.estimate, name) == pytest.approx(getattr(theirs.estimate, name))


def test_several_cohorts_read_as_the_suite_judges_them():
    """Cohort by cohort the numbers are the suite's, and so is the overall rate."""
    whole = made.table(SIZES, {"en": 0.03, "fr": 0.3})
    production = made.seen_in_production(whole)
    sample = drawn(production)
    said = answers(sample, whole)
    reading = audit.read(sample, said, made.window(production), made.promised(), now=NOW)
    judged = evaluated(audit.merge(traffic.from_frame(production), sample, said))
    theirs = {v.cohort.get("language", "overall"): v for v in judged.verdicts}
    assert reading.overall.value == pytest.approx(theirs["overall"].estimate.value)
    for each in reading.cohorts:
        estimate = theirs[each.cohort["language"]].estimate
        assert (each.estimate.low, each.estimate.high) == pytest.approx((estimate.low, estimate.high))
    assert {v.cohort.get("language", "overall"): v.outcome for v in reading.verdicts} == {
        name: v.outcome for name, v in theirs.items()
    }
    assert (reading.cohorts[1].estimate <= 0.1).outcome == "fail"


@pytest.mark.parametrize("kind", ["weight", "cluster", "both"])
def test_weights_and_clusters_read_as_the_suite_judges_them(kind):
    """Unequal weights and dependent cases are sized as the suite sizes them, overall and by cohort."""
    whole = made.table(SIZES, {"en": 0.05, "fr": 0.2})
    number = np.arange(len(whole))
    if kind != "cluster":
        whole = whole.append_column("weight", pa.array(1.0 + number % 3))
    if kind != "weight":
        whole = whole.append_column("cluster", pa.array([f"talk {n // 7}" for n in number]))
    sample = drawn(whole)
    reading = audit.read(sample, answers(sample, whole), made.window(whole), made.promised(), now=NOW)
    judged = evaluated(audit.merge(traffic.from_frame(whole), sample, answers(sample, whole)))
    method = "korn-graubard, weights" if kind == "weight" else "korn-graubard, clusters"
    assert {reading.overall.method, *(one.estimate.method for one in reading.cohorts)} == {method}
    for ours, theirs in zip(reading.verdicts, judged.verdicts, strict=True):
        for name in ("value", "low", "high", "effective", "count", "nobs"):
            assert getattr(ours.estimate, name) == pytest.approx(getattr(theirs.estimate, name)), name


def test_each_overall_bound_is_sized_for_its_own_claim():
    """With a stratum of few cases the lower and the upper bound rest on different sizes: those of `audit.estimate`."""
    whole = made.table({"en": 1000, "fr": 300, "nl": 20}, {"en": 0.05, "fr": 0.2, "nl": 0.0})
    sample = drawn(whole)
    reading = audit.read(sample, answers(sample, whole), made.window(whole), now=NOW)
    size, count = ([getattr(each, name) for each in reading.cohorts] for name in ("answered", "disagree"))
    assert min(size) < audit.estimating.SMALL <= max(size)
    expected = audit.estimate([each.population for each in reading.cohorts], size, count)
    assert expected.below != pytest.approx(expected.above)
    assert (reading.overall.value, reading.overall.low, reading.overall.high) == pytest.approx(
        (float(expected.value), float(expected.low), float(expected.high))
    )
    assert reading.overall.method == "korn-graubard, strata"
    assert {each.estimate.method for each in reading.cohorts} == {"clopper-pearson"}


@pytest.mark.parametrize(("rule", "score"), [("same label", False), ("judged", False), ("within 0.1", True)])
def test_a_sample_carries_the_answers_whatever_the_rule_compares(rule, score):
    """Who asks the flagship needs the small model's answers; what the flagship said before stays out of the file."""
    whole = made.table({"en": 300})
    for name in ("mini.score", "big.score"):
        whole = whole.append_column(name, pa.array(np.full(len(whole), 0.5)))
    whole = whole.append_column("mini.agrees", pa.array(np.ones(len(whole), dtype=bool)))
    whole = whole.append_column("mini.status", pa.array(["ok"] * len(whole)))
    opened = traffic.from_frame(whole, name="window")
    plan = audit.plan(made.window(whole), made.promised(("overall", "at most 10%")), cases=100, per=(), now=NOW)
    sample = audit.sample(plan, made.window(opened, rule=rule), opened, seed=1, now=NOW)
    assert set(sample.batch.arrow("mini", "answer").to_pylist()) == {"yes"}
    assert sample.batch.has("mini", "status")
    assert sample.batch.has("mini", "score") == score
    for name in ("answer", "score"):
        if sample.batch.has("big", name):
            assert sample.batch.arrow("big", name).null_count == 100
    if sample.batch.has("mini", "agrees"):
        assert sample.batch.arrow("mini", "agrees").null_count == 100


def test_one_answer_that_nobody_served_is_named():
    """A single changed answer refuses the whole sample, and says whose it is."""
    whole = made.table(SIZES)
    sample = drawn(whole)
    said = ["no" if name == sample.ids[7] else "yes" for name in sample.ids]
    spoilt = audit.Sample(files.batch(pa.table(files.columns(sample.batch) | {"mini.answer": said}), "sample"))
    words = f"of 1 of {sample.cases} drawn cases is not the one this window has. First: {sample.ids[7]}."
    made.refused(
        lambda: audit.read(spoilt, answers(sample, whole), made.window(whole), made.promised(), now=NOW), words
    )


def test_a_window_of_scores_alone_is_audited():
    """Where answers were never recorded, the cases a seed draws still are those of the window."""
    whole = made.table({"en": 300})
    for name in ("mini.score", "big.score"):
        whole = whole.append_column(name, pa.array(np.full(len(whole), 0.5)))
    whole = whole.drop_columns(["mini.answer", "big.answer"])
    opened = traffic.from_frame(whole, name="window")
    there = made.window(opened, rule="within 0.1")
    plan = audit.plan(there, made.promised(("overall", "at most 10%")), cases=100, per=(), now=NOW)
    sample = audit.sample(plan, there, opened, seed=1, now=NOW)
    graded = traffic.from_records([{"case_id": name, "big.score": 0.5} for name in sample.ids], name="answers")
    reading = audit.read(sample, graded, there, made.promised(("overall", "at most 10%")), now=NOW)
    assert (reading.overall.count, reading.overall.nobs) == (0, 100)
    assert [verdict.outcome for verdict in reading.verdicts] == ["pass"]


def test_unknown_answers_count_against_both_claims():
    """One missing answer of 120 makes the bounds wider on either side; the value is that of the answered ones."""
    whole = made.table({"en": 900}, 0.04)
    sample = drawn(whole, planned(whole, cases=120, prior={}))
    full, short = (
        audit.read(sample, answers(sample, whole, missing=n), made.window(whole), made.promised()) for n in (0, 1)
    )
    x = short.cohorts[0].disagree
    low, high = bounds.rate([x, x + 1], [120, 120])
    assert short.overall.value == x / 119
    assert (short.overall.low, short.overall.high) == pytest.approx((low[0], high[1]))
    assert "1 of 120 drawn cases have no known comparison" in short.findings[0]
    assert full.findings == ()


def test_nothing_measured_is_no_pass():
    """An unfilled sample, and one answered in part, prove nothing, and no option excuses it."""
    whole = made.seen_in_production(made.table(SIZES))
    sample = drawn(whole)
    reading = audit.read(sample, traffic.from_batch(sample.batch), made.window(whole), made.promised())
    assert reading.answered == 0
    assert all(v.outcome == "inconclusive" and v.not_measured for v in reading.verdicts)
    assert reading.overall.value is None
    json.dumps(reading.record(), allow_nan=False)


def test_a_stratum_nobody_asked_blocks_the_overall_rate():
    """Where a cohort with cases got no call, the overall rate is unknown; the other cohorts are judged."""
    whole = made.table(SIZES)
    record = planned(whole).record()
    record["strata"][1]["calls"] = 0
    from cascade_eval.audit import plans

    sample = drawn(whole, plans._restored(record))
    reading = audit.read(sample, answers(sample, whole), made.window(whole), made.promised())
    assert reading.overall.value is None
    assert 'no case was drawn of {"language": "fr"}' in reading.overall.reason
    assert [v.outcome for v in reading.verdicts] == ["inconclusive", "pass"]
    said = answers(sample, whole)
    refused(lambda: audit.merge(traffic.from_frame(whole), sample, said), 'no case was drawn of {"language": "fr"}')


def test_a_named_cohort_nobody_drew_is_not_measured():
    """A line that names a cohort the sample lacks is inconclusive; a line by other columns is said to be judged elsewhere."""
    whole = made.table(SIZES)
    sample = drawn(whole)
    lines = made.promised(("language=pt", "at most 10%"), ("each topic", "at most 10%"))
    reading = audit.read(sample, answers(sample, whole), made.window(whole), lines)
    [verdict] = reading.verdicts
    assert verdict.not_measured
    assert "has no case of language=pt" in verdict.reason
    assert "'disagreement: each topic' is not judged here" in reading.findings[-1]


def test_half_an_answer_is_not_measured_either():
    """Below the floor of answered cases nothing is measured, however many answers there are."""
    whole = made.table(SIZES, 0.0)
    sample = drawn(whole)
    reading = audit.read(sample, answers(sample, whole, missing=5), made.window(whole), made.promised())
    assert 0 < reading.answered < reading.drawn
    assert all(v.outcome == "inconclusive" and v.not_measured for v in reading.verdicts)
    assert all(one.estimate.blocked for one in reading.cohorts)
    assert "drawn cases with a known comparison, below 99%" in reading.overall.reason


def test_a_stratum_nobody_answered_leaves_the_whole_unknown():
    """One unanswered case in 200 is above the floor of answers; where it was all of its stratum, nothing stands for it."""
    whole = made.table({"en": 1000, "nl": 1}, 0.0)
    sample = drawn(whole, planned(whole, prior={}))
    assert sorted(stratum.cases for stratum in sample.strata) == [1, 199]
    lost = {name for name in sample.ids if name.startswith("nl")}
    said = traffic.from_records([{"case_id": name, "big.answer": "yes"} for name in sample.ids if name not in lost])
    reading = audit.read(sample, said, made.window(whole), made.promised())
    assert (reading.answered, reading.drawn) == (199, 200)
    assert reading.overall.value is None
    assert reading.overall.blocked
    assert "a stratum of the sample has no known comparison" in reading.overall.reason


def test_what_the_window_cost_must_be_known_to_say_what_was_saved():
    """One call of the small model without a cost: the saving is unknown, and the reason counts the cases."""
    whole = made.table(SIZES)
    sample = drawn(whole)
    costs = [None, *whole["mini.cost_usd"].to_pylist()[1:]]
    whole = whole.set_column(whole.column_names.index("mini.cost_usd"), "mini.cost_usd", pa.array(costs, pa.float64()))
    spend = audit.read(sample, answers(sample, whole), made.window(whole)).spend
    assert spend.saved is None
    assert spend.reason == "what 1 cases of the window cost is unknown"


def test_the_audit_pays_for_itself_or_is_a_finding():
    """Its spend is what its calls cost; what the cascade saved is exact in a census, and an audit dearer than that is named."""
    whole = made.table(SIZES)
    sample = drawn(whole, planned(whole, cases=5000))
    reading = audit.read(sample, answers(sample, whole), made.window(whole))
    assert reading.spend.calls == 1300
    assert reading.spend.usd == pytest.approx(13.0)
    # 1,300 flagship calls not made, less 1,320 calls of the small model.
    assert reading.spend.saved == pytest.approx(1300 * 0.01 - 1320 * 0.001)
    assert reading.findings[0].startswith("the audit costs more than it guards: $13 for the audit")
    small = drawn(whole)
    cheap = audit.read(small, answers(small, whole), made.window(made.seen_in_production(whole)))
    assert cheap.spend.usd == pytest.approx(2.0)
    assert cheap.spend.saved == pytest.approx(reading.spend.saved)
    assert not any("costs more" in finding for finding in cheap.findings)


def test_unknown_costs_stay_unknown():
    """A call without a cost makes the spend unknown, never smaller; a price by tokens makes it known."""
    whole = made.table(SIZES)
    sample = drawn(whole)
    rows = [
        {"case_id": name, "big.answer": "yes", "big.input_tokens": 1000, "big.output_tokens": 100}
        for name in sample.ids
    ]
    said = traffic.from_records(rows)
    assert audit.read(sample, said, made.window(whole)).spend.usd is None
    prices = {"big": {"input": 2, "output": 8}}
    priced = audit.read(sample, said, made.window(whole, prices=prices)).spend
    assert priced.usd == pytest.approx(200 * (1000 * 2e-6 + 100 * 8e-6))


def test_the_age_is_a_number_of_days():
    """Days since the sample was drawn."""
    whole = made.table(SIZES)
    sample = drawn(whole)
    later = NOW + dt.timedelta(days=9, hours=12)
    assert audit.read(sample, answers(sample, whole), made.window(whole), now=later).age_days == 9.5


def test_readings_that_are_refused():
    """Another window, another cascade, answers of another model, or a tier that judges."""
    whole = made.table(SIZES)
    sample = drawn(whole)
    said = answers(sample, whole)
    refused(lambda: audit.read(sample, said, made.window(made.table({"en": 1001, "fr": 300}))), "this window has 1,001")
    refused(lambda: audit.read(sample, said, made.window(made.table({**SIZES, "pt": 4}))), "belong to no cohort")
    refused(lambda: audit.read(sample, said, made.window(made.table({"en": 5, "fr": 5}))), "are not unescalated")
    other = Cascade("other", made.CASCADE.tiers)
    refused(lambda: audit.read(sample, said, made.window(whole, cascade=other)), "the sample is of 'current'")
    wrong = traffic.from_records([{"case_id": "en-1", "bgi.answer": "yes"}])
    refused(lambda: audit.read(sample, wrong, made.window(whole)), "no answer of 'big'", "Did you mean 'bgi'?")
    judging = answers(sample, whole, **{"mini.judged": "big"})
    refused(lambda: audit.read(sample, judging, made.window(whole)), "'mini' judges answers", "grade itself")


def test_answers_nobody_asked_for_count_for_nothing():
    """A file with more answers than were drawn reads the same, and says how many were not looked at."""
    whole = made.table(SIZES, 0.05)
    sample = drawn(whole)
    less, more = (
        audit.read(sample, said, made.window(whole), made.promised(), now=NOW)
        for said in (answers(sample, whole), traffic.from_frame(whole))
    )
    assert more.unasked == len(whole) - sample.cases
    assert [v.record() for v in less.verdicts] == [v.record() for v in more.verdicts]


def test_a_null_answer_that_was_served_disagrees():
    """A cheaper tier that settled with no answer disagrees with whatever the flagship says."""
    whole = made.table({"en": 300})
    whole = whole.set_column(3, "mini.answer", pa.nulls(len(whole), pa.string()))
    sample = drawn(whole, planned(whole, cases=200, prior={}))
    reading = audit.read(sample, answers(sample, whole), made.window(whole), made.promised())
    assert reading.cohorts[0].disagree == 200


def test_the_tier_that_served_is_compared():
    """With three tiers each case is compared by the answer of the tier that settled it."""
    whole = made.table({"en": 400})
    second = np.arange(len(whole)) % 2 == 0
    whole = whole.set_column(4, "mini.confidence", pa.array(np.where(second, 0.1, 0.9)))
    whole = whole.append_column("mid.answer", pa.array(["no"] * len(whole)))
    whole = whole.append_column("mid.confidence", pa.array([0.9] * len(whole)))
    mini, flagship = made.CASCADE.tiers
    three = Cascade("current", (mini, Tier("mid", "mid", Leaf(Signal("confidence"), threshold=0.8)), flagship))
    of = made.window(whole, cascade=three)
    plan = audit.plan(of, made.promised(("overall", "at most 10%")), cases=200)
    sample = audit.sample(plan, of, traffic.from_frame(whole), seed=1)
    reading = audit.read(sample, answers(sample, whole), of)
    served = [int(name.removeprefix("en-")) % 2 == 0 for name in sample.ids]
    assert reading.cohorts[0].disagree == sum(served)


def test_judged_agreement_is_filled_in_and_paid():
    """Where a judge decides, `agrees` is the column to fill in, and the judge's calls are the audit's cost as well."""
    whole = made.seen_in_production(made.table(SIZES)).append_column("mini.agrees", pa.nulls(1320, pa.bool_()))
    of = made.window(whole, rule="judged")
    plan = audit.plan(of, made.promised(), cases=200, prior=PRIOR)
    sample = audit.sample(plan, of, traffic.from_frame(whole), seed=1, judge="critic")
    assert sample.batch.has("mini", "agrees")
    rows = [
        {"case_id": name, "big.answer": "yes", "big.cost_usd": 0.01, "mini.agrees": i % 4 > 0, "critic.cost_usd": 0.002}
        for i, name in enumerate(sample.ids)
    ]
    said = traffic.from_records(rows)
    reading = audit.read(sample, said, of, made.promised())
    assert sum(each.disagree for each in reading.cohorts) == 50
    assert reading.spend.usd == pytest.approx(200 * 0.012)
    merged = audit.merge(traffic.from_frame(whole), sample, said)
    judged = evaluated(merged, SUITE.replace("same label", "judged"))
    assert judged.verdicts[0].estimate.value == pytest.approx(reading.overall.value)


# --- merge --------------------------------------------------------------------------------------------------------


def test_merging_changes_the_drawn_cases_only():
    """Undrawn cases stay as recorded; drawn ones have what the audit heard, and nothing recorded elsewhere."""
    whole = made.table(SIZES)
    sample = drawn(whole)
    said = traffic.from_records([{"case_id": name, "big.answer": "audited"} for name in sample.ids[:50]])
    merged = audit.merge(traffic.from_frame(whole), sample, said).read()
    chance = merged.numbers(None, "audit_probability")
    heard, asked = set(sample.ids[:50]), set(sample.ids)
    for row, recorded in enumerate(whole.to_pylist()):
        name = recorded["case_id"]
        expected = "audited" if name in heard else None if name in asked else recorded["big.answer"]
        assert merged.text("big", "answer", row) == expected
        assert np.isnan(chance[row]) == (name not in asked)
        assert (merged.text("big", "cost_usd", row) is None) == (name in asked)
        assert merged.text("mini", "answer", row) == "yes"


def test_merged_traffic_survives_its_file(tmp_path):
    """Written and read again, also under foreign column names, it is judged the same."""
    whole = made.table(SIZES, 0.05)
    production = made.seen_in_production(whole)
    sample = drawn(production)
    merged = audit.merge(traffic.from_frame(production), sample, answers(sample, whole))
    expected = [v.record() for v in evaluated(merged).verdicts]
    for number, foreign in enumerate(({}, {"case_id": "request", "answer": "reply"})):
        file = audit.to_parquet(tmp_path / f"{number}.parquet", merged, columns=foreign)
        assert [v.record() for v in evaluated(traffic.open(file, columns=foreign)).verdicts] == expected


def test_merging_is_refused_where_it_does_not_belong():
    """Traffic without the drawn cases, and traffic with an audit of its own, take none."""
    whole = made.table(SIZES)
    sample = drawn(whole)
    refused(lambda: audit.merge(traffic.from_frame(whole.slice(500)), sample, answers(sample, whole)), "are not in")
    audited = whole.append_column("audit_probability", pa.array([0.5] * len(whole)))
    refused(lambda: audit.merge(traffic.from_frame(audited), sample, answers(sample, whole)), "declares an audit")
