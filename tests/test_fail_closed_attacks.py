"""Attempts to make the gate pass when it should not, beyond measuring nothing at all.

Each test is a way a tired engineer or someone in a hurry gets numbers that look better than what was measured.
"""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pytest
from fail_closed_cases import CASES, MINI, OVERALL, all_of, columns, ends, every, judge, outcomes, reasons, text

from cascade_eval import runs, suite
from cascade_eval.errors import DataError
from cascade_eval.metrics import ratios

NUMBER = np.arange(CASES)
BOTH = "  disagreement:\n    overall: at most 5%\n    each language: at most 10%\n"


@pytest.mark.parametrize("cases", [1, 2, 3, 10])
def test_a_handful_of_cases_proves_nothing(tmp_path, cases):
    """Cases that happen to be alike are no certainty, in ratios no more than in rates."""
    budgets = OVERALL + "  cost: {overall: at most 30%}\n  retention: {overall: at least 95%}\n"
    alike = {"mini.confidence": all_of(0.9, cases), "expected": lambda t: t["flagship.answer"]}
    kinds = outcomes(judge(tmp_path, alike, text(budgets), cases=cases))
    assert "pass" not in {kinds["disagreement",], kinds["retention",]}
    assert kinds["cost",] == ("not measured" if cases == 1 else "inconclusive")


def test_ratios_pass_once_no_kind_of_case_can_hide(tmp_path):
    """Sixty cases alike prove 95%, as they do for a rate; fifty do not."""
    alike = {"expected": lambda t: t["flagship.answer"], "mini.answer": lambda t: t["flagship.answer"]}
    written = text("  retention: {overall: at least 95%}\n")
    assert outcomes(judge(tmp_path, alike, written, cases=50)) == {("retention",): "inconclusive"}
    assert outcomes(judge(tmp_path, alike, written, cases=66)) == {("retention",): "pass"}


def test_unknown_latencies_may_be_the_slow_ones(tmp_path):
    """Within the tolerated share, a latency nobody recorded counts as slow for a pass."""
    written = text("  latency p99: {overall: at most 9 s}\n")
    assert outcomes(judge(tmp_path, None, written)) == {("latency p99",): "pass"}
    unknown = {"mini.latency_s": lambda t: every(t["mini.latency_s"], NUMBER < 6, None)}
    found = judge(tmp_path, unknown, written)
    assert outcomes(found) == {("latency p99",): "inconclusive"}


def audit(drawn, chance):
    """Declare an audit: the chance each drawn case had."""
    return {"audit_probability": [chance if chosen else None for chosen in drawn]}


def test_an_audit_that_left_cases_out_is_not_measured(tmp_path):
    """Drawn cases that stand for two thirds of what there is were not drawn from all of it."""
    found = judge(tmp_path, audit(NUMBER % 3 != 1, 1.0), text(OVERALL))
    ends(found, "not measured", "stand for 300 unescalated cases, and there are 450, so some had no chance to be drawn")


def test_an_audit_that_adds_up_is_judged(tmp_path):
    """Every other case drawn with a chance of one half, and a sample of which nothing else is in the data."""
    drawn = NUMBER // 4 % 2 == 0
    assert outcomes(judge(tmp_path, audit(drawn, 0.5), text(OVERALL))) == {("disagreement",): "pass"}
    assert outcomes(judge(tmp_path, audit(NUMBER >= 0, 0.1), text(OVERALL))) == {("disagreement",): "pass"}


@pytest.mark.parametrize("chance", [0.0, 1.5, -0.1])
def test_a_chance_that_is_none_is_a_usage_error(tmp_path, chance):
    """A probability lies above zero and at most at one."""
    with pytest.raises(DataError, match="audit_probability is not above 0 and at most 1"):
        judge(tmp_path, audit(NUMBER == 0, chance), text(OVERALL))


def test_an_audit_that_drew_nothing_is_not_measured(tmp_path):
    """A declared audit of no case knows nothing."""
    found = judge(tmp_path, {"audit_probability": pa.nulls(CASES, pa.float64())}, text(OVERALL))
    ends(found, "not measured", "audited is 0 of 450 unescalated cases")


def test_everything_cached_is_not_measured(tmp_path):
    """What a cache answered is no decision of the cascade."""
    ends(judge(tmp_path, {"cached": all_of(True)}), "not measured", "no case to judge")


def test_a_cohort_that_bears_the_name_of_the_pool_is_a_usage_error(tmp_path):
    """Small cohorts pooled into one that is recorded as '(other)' would hide in it."""
    named = {"language": ["(other)" if i % 3 else "fr" if i % 30 else "pt" for i in range(CASES)]}
    with pytest.raises(DataError, match=r"the column 'language' has the value '\(other\)'"):
        judge(tmp_path, named, text(cohorts="{language: {at least: 60 cases}}"))


def test_an_audit_that_stands_for_more_than_there_is_flatters_no_cost(tmp_path):
    """Drawn calls of the flagship stand for others; where those are not in the data, their cost is not saved."""
    written = text("  cost: {overall: at most 60%}\n")
    found = judge(tmp_path, audit(NUMBER >= 0, 1e-9), written)
    ends(found, "not measured", "stand for 450,000,000,000 unescalated cases, and there are 450: what always asking")
    assert outcomes(judge(tmp_path, audit(NUMBER // 4 % 2 == 0, 0.5), written)) == {("cost",): "pass"}


GRADES = "  quality: {overall: at least 20%}\n  retention: {overall: at least 90%}\n"


def test_grades_that_are_missing_just_where_answers_are_bad_are_not_measured(tmp_path):
    """The quality of the answers that were graded is not the quality of those that were served."""
    graded = {"mini.score": every(all_of(1.0), NUMBER % 3 == 0, None), "flagship.score": all_of(1.0)}
    found = judge(tmp_path, graded, text(GRADES))
    ends(found, "not measured", "the quality of the served answer is known for 450 of 600 graded cases, below 99%")


def test_grades_of_served_answers_alone_are_no_retention(tmp_path):
    """Both grades are known in escalated cases only, where the cascade is the flagship: that would be 100%."""
    sure = NUMBER % 4 != 3
    graded = {"mini.score": every(all_of(0.3), ~sure, None), "flagship.score": every(all_of(1.0), sure, None)}
    found = judge(tmp_path, graded, text(GRADES))
    assert outcomes(found) == {("quality",): "pass", ("retention",): "not measured"}
    assert "is known for 150 of 600 graded cases" in reasons(found)["retention",]


def test_labels_of_a_sample_are_enough(tmp_path):
    """Cases that nobody labelled are no gap in the grades; bounds say how few there are."""
    labels = {"expected": lambda t: every(t["flagship.answer"], NUMBER > 99, None)}
    found = judge(tmp_path, labels, text("  quality: {overall: at least 90%}\n"))
    assert (outcomes(found), found.verdicts[0].estimate.nobs) == ({("quality",): "pass"}, 100)


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("mini.cost_usd", 1e9, "mini.cost_usd is above 1,000,000: case-0000"),
        ("mini.latency_s", 1e300, "mini.latency_s is above 1,000,000,000: case-0000"),
        ("mini.input_tokens", 9 * 10**18, "mini.input_tokens is above 10,000,000,000,000: case-0000"),
        ("weight", 1e300, r"weight is not between 1e-30 and 1e\+30: case-0000"),
        ("weight", 1e-320, r"weight is not between 1e-30 and 1e\+30: case-0000"),
    ],
)
def test_amounts_that_would_not_add_up_are_a_usage_error(tmp_path, column, value, said):
    """What runs over in a sum may come out small, or negative, and cheap."""
    prices = "prices: {mini: {input: $1, output: $1, per: 1M tokens}}\n"
    cheap = {"mini.cost_usd": None, "mini.output_tokens": all_of(1)} if "tokens" in column else {}
    written = text("  latency p95: {overall: at most 9 s}\n  cost: {overall: at most 60%}\n", more=prices)
    one = type(value)(1)
    with pytest.raises(DataError, match=said):
        judge(tmp_path, {**cheap, column: [value, *all_of(one, CASES - 1)]}, written)


def test_sums_that_ran_over_are_not_measured():
    """A negative sum of costs is no cost, and one near the end of 64 bits may be one that came round."""
    from cascade_eval import metrics

    context = metrics.Context(("mini", "flagship"))
    whole = np.full(100, 10)
    for broken in (-1, 2**62):
        found = ratios.ratio("cost", "ratio", np.array([broken, *whole[1:]]), whole, context, nobs=100)
        assert (found.value, found.blocked) == (None, True)
    assert ratios.ratio("cost", "ratio", whole // 2, whole, context, nobs=100).value == 0.5


def lines(changes=()):
    """Write the cases as JSON lines, some of them replaced."""
    table = {key: list(values) for key, values in columns().items()}
    found = [json.dumps({key: values[i] for key, values in table.items()}, default=float) for i in range(CASES)]
    for number, old, new in changes:
        assert old in found[number]
        found[number] = found[number].replace(old, new)
    return "\n".join(found) + "\n"


def judge_lines(folder, written):
    """Evaluate the suite on JSON lines."""
    (folder / "cases.jsonl").write_text(written, encoding="utf-8")
    path = folder / "made.cascade.yaml"
    path.write_text(text(data="cases.jsonl"), encoding="utf-8")
    return runs.evaluate(suite.load(path))


def test_a_line_that_names_a_key_twice_is_a_usage_error(tmp_path):
    """Parsers keep the last of two values and say nothing; which one was meant, nobody knows."""
    twice = lines([(5, '"mini.answer": "yes"', '"mini.answer": "no", "mini.answer": "yes"')])
    with pytest.raises(
        DataError, match=r"cases\.jsonl:6: the line is not JSON \(the key 'mini\.answer' is there twice"
    ):
        judge_lines(tmp_path, twice)


def test_text_that_looks_like_keys_is_text(tmp_path):
    """Answers that are JSON themselves, and nested values, are read as they are."""
    tricky = [
        (5, '"case_id"', r'"input": "{\"a\": 1, \"a\" : 2, x\":", "meta": {"a": [{"b": 1}, {"b": 2}]}, "case_id"')
    ]
    assert set(outcomes(judge_lines(tmp_path, lines(tricky))).values()) == {"pass"}


@pytest.mark.parametrize("value", ["Infinity", '"high"', '"0,9"', "true"])
def test_a_signal_that_is_no_number_is_a_usage_error(tmp_path, value):
    """Words, decimal commas and infinities are never read as confidence."""
    with pytest.raises(DataError, match=r"mini\.confidence"):
        judge_lines(tmp_path, lines([(0, '"mini.confidence": 0.9', f'"mini.confidence": {value}')]))


def test_null_answers_of_a_cheap_tier_disagree(tmp_path):
    """An answer that is not there was served all the same, and the flagship had one."""
    silent = {"mini.answer": lambda t: every(t["mini.answer"], NUMBER % 10 == 1, None)}
    assert outcomes(judge(tmp_path, silent, text(OVERALL))) == {("disagreement",): "fail"}


def test_weights_that_hide_a_cohort_overall_do_not_hide_it_in_its_own_row(tmp_path):
    """Weights are the user's word on what counts; within a cohort they cancel."""
    bad = NUMBER % 3 == 1
    hidden = {
        "mini.answer": lambda t: every(t["mini.answer"], bad, "wrong"),
        "weight": np.where(bad, 1e-9, 1.0),
    }
    kinds = outcomes(judge(tmp_path, hidden, text(BOTH)))
    assert (kinds["disagreement",], kinds["disagreement", "fr"]) == ("pass", "fail")


def test_a_heavy_case_proves_nothing_by_its_weight(tmp_path):
    """One case that outweighs all others is worth one case."""
    heavy = {"weight": np.where(NUMBER == 0, 1e9, 1.0)}
    assert outcomes(judge(tmp_path, heavy, text(OVERALL))) == {("disagreement",): "inconclusive"}
    light = judge(
        tmp_path, audit(NUMBER >= 0, 1.0) | {"audit_probability": np.where(NUMBER == 0, 1e-9, 1.0)}, text(OVERALL)
    )
    assert outcomes(light) == {("disagreement",): "inconclusive"}


@pytest.mark.parametrize("value", [None, "", "overall", "fr ", "a,b", "a=b", "x\ny", "ен"])
def test_a_bad_cohort_is_judged_whatever_it_is_called(tmp_path, value):
    """Null, empty, look-alikes and letters that mean something elsewhere are cohorts like any other."""
    bad = NUMBER % 3 == 1
    named = {
        "language": [value if chosen else "en" for chosen in bad],
        "mini.answer": lambda t: every(t["mini.answer"], bad, "wrong"),
    }
    kinds = outcomes(judge(tmp_path, named, text("  disagreement: {each language: at most 10%}\n")))
    assert kinds == {("disagreement", "en"): "pass", ("disagreement", "(none)" if value is None else value): "fail"}


def test_three_tiers_with_the_middle_missing_in_half_of_the_cases_are_not_measured(tmp_path):
    """Paths through a tier nobody asked are not known; the flagship's answer does not stand in for it."""
    three = text(OVERALL).replace(
        "    - {tier: flagship", f"    - {MINI.replace('mini', 'middle')}\n    - {{tier: flagship"
    )
    half = NUMBER % 2 == 1
    middle = {
        f"middle.{key[5:]}": every(values, half, None) for key, values in columns().items() if key.startswith("mini.")
    }
    ends(judge(tmp_path, middle, three), "not measured", "coverage is 450 of 600 cases with a known path")


def test_a_judge_that_never_says_anything_is_not_measured(tmp_path):
    """Verdicts nobody can parse are no signal."""
    judged = {
        "judge.answer": all_of("well …"),
        "judge.status": all_of("ok"),
        "judge.cost_usd": all_of(0.001),
        "judge.latency_s": all_of(0.1),
    }
    found = judge(tmp_path, judged, text(OVERALL, mini=MINI.replace("confidence", "{judge: {model: judge}}")))
    ends(found, "not measured", "no signal: judge (model: judge) of mini is null in all 600 cases")


def test_a_promise_that_cannot_fail_says_so(tmp_path):
    """Legal, and marked in the notes; where nothing was measured it is no pass either."""
    found = judge(tmp_path, None, text("  disagreement: {overall: 0% to 100%}\n"))
    assert any("cannot fail" in note for note in found.record["notes"])
    blind = judge(tmp_path, None, text("  disagreement: {overall: 0% to 100%}\n", mini=MINI.replace("0.8}", "2}")))
    assert set(outcomes(blind).values()) == {"not measured"}


def test_a_time_without_a_zone_is_a_usage_error(tmp_path):
    """The hour of a cohort depends on it."""
    hours = text("  disagreement: {each hour of decided_at: at most 10%}\n", cohorts="[hour of decided_at]")
    with pytest.raises(DataError, match="decided_at has no time zone"):
        judge(tmp_path, {"decided_at": all_of("2026-01-01T00:00:00")}, hours)


def test_a_pool_hides_no_cohort_from_its_own_number(tmp_path):
    """Small cohorts are judged together, under their own name, and the list of them is kept."""
    small = {
        "language": [f"x{i % 30}" if i % 2 else "en" for i in range(CASES)],
        "mini.answer": lambda t: every(t["mini.answer"], NUMBER % 4 == 1, "wrong"),
    }
    found = judge(
        tmp_path,
        small,
        text("  disagreement: {each language: at most 10%}\n", cohorts="{language: {at least: 60 cases}}"),
    )
    assert outcomes(found) == {("disagreement", "en"): "pass", ("disagreement", "(other)"): "fail"}


def test_an_audit_of_no_column_is_no_audit(tmp_path):
    """Missing answers of the flagship are only forgiven where an audit says which cases it drew."""
    lost = {"flagship.answer": lambda t: every(t["flagship.answer"], NUMBER % 2 == 0, None)}
    ends(judge(tmp_path, lost, text(OVERALL)), "not measured", "audited is 150 of 450 unescalated cases")
