"""Evaluation: which cohorts are judged, as which families, and what the record says of it."""

from __future__ import annotations

import datetime as dt
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from fail_closed_cases import CASES, MINI, OVERALL, all_of, every, judge, outcomes, reasons, text, write

from cascade_eval import bounds, runs, suite, traffic
from cascade_eval.baseline import Baseline
from cascade_eval.errors import DataError
from cascade_eval.suite import evaluation

NUMBER = np.arange(CASES)
NOW = dt.datetime(2026, 8, 1, tzinfo=dt.UTC)
EACH = "  disagreement: {each language: at most 10%}\n"
BAD_FRENCH = {"mini.answer": lambda t: every(t["mini.answer"], NUMBER % 3 == 1, "wrong")}
INTENTS = {"intent": ["refund" if i % 2 else "address" for i in range(CASES)]}
ROUTES = "  current:\n   routes: [{when: {language: fr}, start: flagship}]\n   tiers:\n"


class InBatches:
    """Traffic that comes in batches of another size."""

    def __init__(self, whole, size):
        self.whole, self.size = whole, size

    def __getattr__(self, name):
        return getattr(self.whole, name)

    def batches(self, needs, **options):
        """Yield fewer cases at once."""
        return self.whole.batches(needs, self.size, **options)


def cells(found, cascade=0):
    """Return the cohorts of a cascade's record, by label."""
    return {tuple(cell["cohort"].items()): cell for cell in found.record["cascades"][cascade]["cohorts"]}


# Families.


def test_overall_each_and_crosses_are_families_of_their_own(tmp_path):
    """One verdict overall, one per member, one per combination; each knows how many it was looked at with."""
    budgets = EACH.replace("{", "{overall: at most 5%, each language and intent: at most 20%, ")
    found = judge(tmp_path, INTENTS, text(budgets, cohorts="[language, intent]"))
    sizes = {}
    for verdict in found.verdicts:
        sizes.setdefault(verdict.scope, []).append((verdict.family, len(verdict.cohort)))
    assert sizes == {"overall": [(1, 0)], "each language and intent": [(6, 2)] * 6, "each language": [(3, 1)] * 3}
    assert set(outcomes(found).values()) == {"pass"}


def test_columns_no_budget_names_are_measured_and_not_judged(tmp_path):
    """Cohort columns are in the record whether or not a budget speaks of them."""
    found = judge(tmp_path, INTENTS, text(OVERALL, cohorts="[language, intent]"))
    assert len(found.verdicts) == 1
    assert {column for label in cells(found) for column, _ in label} == {"language", "intent"}


def test_members_are_sorted_and_the_nameless_come_last(tmp_path):
    """Values in order, then null, then the pool."""
    mixed = {"language": [None if i % 5 == 0 else f"x{i}" if i < 50 else "b" if i % 2 else "a" for i in range(CASES)]}
    found = judge(tmp_path, mixed, text(EACH, cohorts="{language: {at least: 20 cases}}"))
    assert [verdict.cohort["language"] for verdict in found.verdicts] == ["a", "b", "(none)", "(other)"]


def test_a_verdict_knows_where_it_was_promised(tmp_path):
    """File and line of the budget, also in a long suite."""
    found = judge(tmp_path, None, text(OVERALL + "  escalation: {overall: 15% to 40%}\n"))
    assert [verdict.line for verdict in found.verdicts] == [8, 9]
    assert all(verdict.file.endswith("made.cascade.yaml") for verdict in found.verdicts)


# Pooling.


def test_small_cohorts_are_judged_together_and_listed(tmp_path):
    """The pool adds up what its members count, and says who they are."""
    small = {"language": [f"x{i % 6}" if i % 4 == 0 else "en" for i in range(CASES)]}
    found = judge(tmp_path, small, text(EACH, cohorts="{language: {at least: 60 cases}}"))
    assert set(outcomes(found)) == {("disagreement", "en"), ("disagreement", "(other)")}
    pool = cells(found)[("language", "(other)"),]
    assert (pool["cases"], pool["pooled"]) == (150, ["x0", "x2", "x4"])


def test_a_cohort_of_just_enough_cases_stands_by_itself(tmp_path):
    """At least 60 cases means 60 are enough."""
    sizes = {"language": ["edge" if i < 60 else "tiny" if i < 119 else "en" for i in range(CASES)]}
    found = judge(tmp_path, sizes, text(EACH, cohorts="{language: {at least: 60 cases}}"))
    assert {cohort for _, cohort in outcomes(found)} == {"edge", "en", "(other)"}


def test_a_named_cohort_that_is_pooled_is_a_usage_error(tmp_path):
    """A promise by name for a cohort too small to stand by itself is not kept by the pool."""
    small = {"language": ["fr" if i < 20 else "en" for i in range(CASES)]}
    written = text("  disagreement: {language=fr: at most 10%}\n", cohorts="{language: {at least: 60 cases}}")
    with pytest.raises(DataError, match=r"8: 'language=fr' has too few cases and is pooled into \(other\)"):
        judge(tmp_path, small, written)


# What is missing.


def open_suite(folder, changes=None, written=None):
    """Open the suite with its data, for evaluation by hand."""
    return runs.open(suite.load(write(folder, changes, text(EACH) if written is None else written)))


def test_a_cohort_the_golden_describes_is_an_item(tmp_path):
    """Not measured, with a reason that names both sides; the others are judged."""
    opened = open_suite(tmp_path)
    golden = suite.Data("golden", "golden", cohorts={"language": {"en": 200, "pt": 80, "no": 3}})
    found = evaluation.evaluate(opened.suite, opened.traffic, data=golden, now=NOW)
    assert outcomes(found)["disagreement", "pt"] == outcomes(found)["disagreement", "no"] == "not measured"
    assert reasons(found)["disagreement", "pt"] == "the golden has language=pt, and no case of this data is in it"


def test_a_cohort_that_is_pooled_in_the_golden_is_not_missed_by_name(tmp_path):
    """What the golden itself has too few cases of was never promised alone."""
    opened = open_suite(tmp_path, None, text(EACH, cohorts="{language: {at least: 60 cases}}"))
    golden = suite.Data("golden", "golden", cohorts={"language": {"en": 200, "pt": 80, "no": 3}})
    found = evaluation.evaluate(opened.suite, opened.traffic, data=golden, now=NOW)
    assert {cohort for _, cohort in outcomes(found)} == {"de", "en", "fr", "pt"}


def test_a_cohort_the_baseline_had_is_an_item(tmp_path):
    """What an earlier run judged and this data lacks was not measured."""
    opened = open_suite(tmp_path)
    before = Baseline(opened.suite.cascades[0], "evidence", "before.json", cohorts=((("language", "pt"),),))
    found = evaluation.evaluate(opened.suite, opened.traffic, baselines={"current": before}, now=NOW)
    assert outcomes(found)["disagreement", "pt"] == "not measured"
    assert reasons(found)["disagreement", "pt"] == "the baseline has language=pt, and no case of this data is in it"


def test_a_routed_cohort_has_no_item_and_is_marked(tmp_path):
    """A route that sends a cohort to the flagship leaves nothing to promise; the record says so."""
    found = judge(tmp_path, BAD_FRENCH, text(EACH).replace("  current:\n", ROUTES))
    assert {cohort for _, cohort in outcomes(found)} == {"de", "en"}
    assert {dict(label)["language"]: cell["routed"] for label, cell in cells(found).items()} == {
        "de": False,
        "en": False,
        "fr": True,
    }


def test_a_cohort_that_gates_escalate_whole_keeps_its_item(tmp_path):
    """What a gate did is a measurement that failed to happen, not an arrangement."""
    unsure = {"mini.confidence": lambda t: every(t["mini.confidence"], NUMBER % 3 == 1, 0.1)}
    found = judge(tmp_path, unsure, text(EACH))
    assert outcomes(found)["disagreement", "fr"] == "not measured"
    assert "the gates escalated every case" in reasons(found)["disagreement", "fr"]


# Holm.


def test_holm_is_computed_over_all_cohorts_of_a_line(tmp_path):
    """Adjusted p-values are those of the whole family, whatever else is promised."""
    found = judge(tmp_path, BAD_FRENCH, text(EACH.replace("{", "{overall: at most 50%, ")))
    each = [verdict for verdict in found.verdicts if verdict.scope == "each language"]
    assert [verdict.p_holm for verdict in each] == pytest.approx(bounds.holm([verdict.p_fail for verdict in each]))
    assert outcomes(found)["disagreement", "fr"] == "fail"


def test_many_cohorts_looked_at_together_may_leave_one_undecided(tmp_path):
    """Over budget on its own, and not after looking at all of them: the reason says so."""
    cohorts = np.arange(CASES) // 30
    unlucky = (cohorts == 7) & (NUMBER % 30 < 8)
    many = {
        "language": [f"c{i:02}" for i in cohorts],
        "mini.answer": lambda t: every(t["mini.answer"], unlucky, "wrong"),
    }
    many["mini.confidence"] = all_of(0.9)
    found = judge(tmp_path, many, text(EACH))
    assert outcomes(found)["disagreement", "c07"] == "inconclusive"
    assert "over budget on its own, not after looking at 20 cohorts" in reasons(found)["disagreement", "c07"]
    alone = judge(tmp_path, many, text("  disagreement: {language=c07: at most 10%}\n"))
    assert outcomes(alone) == {("disagreement", "c07"): "fail"}


# The record.


def test_always_flagship_is_reported_and_never_judged(tmp_path):
    """It stands last, costs 100% and has no verdict."""
    last = judge(tmp_path).record["cascades"][-1]
    assert (last["name"], last["verdicts"]) == ("always-flagship", [])
    assert last["overall"]["metrics"]["cost"]["value"] == 1.0


def test_the_promise_counts_lines_and_not_cohorts(tmp_path):
    """Each budget line of each cascade is one family with its own level."""
    assert judge(tmp_path).record["promise"].startswith("The chance of any false failure is at most 4 × 0.05 = 0.2;")
    wide = text(more="confidence: 90%\n")
    assert "at most 4 × 0.1 = 0.4;" in judge(tmp_path, None, wide).record["promise"]


def test_notes_say_what_was_found_on_the_way(tmp_path):
    """Nulls of a signal, shares that became thresholds, rows set aside, recipes fitted on this data."""
    some_null = {"mini.confidence": lambda t: every(t["mini.confidence"], NUMBER % 100 == 3, None)}
    assert (
        "current: confidence of mini is null in 6 of 600 cases its gate read; they escalate"
        in (judge(tmp_path, some_null).record["notes"])
    )
    share = judge(tmp_path, None, text(mini=MINI.replace("threshold: 0.8", "escalate: 30%"))).record["notes"]
    assert any(note.startswith("current: 'escalate: 0.3' of mini stands for the threshold") for note in share)
    recipe = judge(tmp_path, None, text(OVERALL, mini=MINI.replace("threshold", "calibrate: platt, threshold")))
    assert any("this judges the recipe, not a deployed map" in note for note in recipe.record["notes"])
    assert any("cannot change who escalates at a given rate" in note for note in recipe.record["notes"])


def test_rows_set_aside_are_counted_and_named(tmp_path):
    """Nothing is dropped in silence."""
    found = judge(tmp_path, {"mini.cost_usd": lambda t: every(t["mini.cost_usd"], NUMBER == 9, -1.0)}, tolerate=1)
    assert (found.record["data"]["bad_rows"], found.record["data"]["cases"]) == (1, CASES - 1)
    assert any(note.startswith("1 bad row was set aside") and "case-0009" in note for note in found.record["notes"])


def test_advice_is_computed_for_what_failed_and_nothing_else(tmp_path):
    """A threshold that would hold where there is one; nothing for a pass, nothing for what was not measured."""
    unsure = {**BAD_FRENCH, "mini.confidence": lambda t: every(t["mini.confidence"], NUMBER % 3 == 1, 0.81)}
    found = {verdict.cohort.get("language"): verdict for verdict in judge(tmp_path, unsure).verdicts}
    assert "No threshold of mini holds disagreement in language=fr to at most 10%" in found["fr"].advice
    assert found["de"].advice is None
    overall = judge(tmp_path, unsure).verdicts[0]
    assert "A threshold of " in overall.advice
    assert "Confirm it on other cases: it was found on these." in overall.advice
    blind = judge(tmp_path, None, text(OVERALL, mini=MINI.replace("0.8}", "2}")))
    assert blind.verdicts[0].advice is None


def test_all_cases_are_never_advised_to_be_routed_to_the_flagship(tmp_path):
    """A cohort can be routed. Where no threshold helps all cases, the cohort that failed by itself is named."""
    wrong = {"mini.answer": lambda t: every(t["mini.answer"], NUMBER % 3 == 1, "wrong")}
    hopeless = {**wrong, "mini.confidence": all_of(0.9)}
    found = {verdict.cohort.get("language"): verdict for verdict in judge(tmp_path, hopeless).verdicts[:4]}
    assert found[None].advice == (
        "No threshold of mini holds disagreement in overall to at most 5% on these cases: mend language=fr first, which "
        "failed by itself, or give the gate a better signal."
    )
    assert "route it to the flagship" in found["fr"].advice
    alone = judge(tmp_path, hopeless, text(OVERALL)).verdicts[0]
    assert alone.advice.endswith("on these cases: give the gate a better signal.")


def test_what_the_call_says_of_inconclusive_goes_before_the_suite(tmp_path):
    """The option decides, and the record and every verdict say which it was."""
    found = judge(tmp_path, None, text(EACH), cases=30, inconclusive="warn")
    assert found.record["inconclusive"] == "warn"
    assert all(verdict.warned for verdict in found.verdicts)


# Partitions and order.


def record(opened, cases, executor=None):
    """Evaluate at a fixed time."""
    return evaluation.evaluate(
        opened.suite, cases, data=opened.data, baselines=opened.baselines, executor=executor, now=NOW
    ).record


def same(one, other):
    """Assert that two records are equal; means of a signal's values to a billionth, as they are sums of fractions."""
    before, after = ([{**each, "calibration": []} for each in found["cascades"]] for found in (one, other))
    assert {**one, "cascades": before} == {**other, "cascades": after}
    for left, right in zip(one["cascades"], other["cascades"], strict=True):
        assert numbers(left["calibration"]) == pytest.approx(numbers(right["calibration"]), rel=1e-9)


def numbers(value):
    """Return every number of a record, in order."""
    if isinstance(value, dict | list):
        parts = value.values() if isinstance(value, dict) else value
        return [number for part in parts for number in numbers(part)]
    return [value] if isinstance(value, int | float) else []


MANY = """\
  disagreement: {overall: at most 5%, each language and intent: at most 20%}
  flips to disagreement: {overall: at most 5%}
  escalation drift: {overall: at most 30 points}
  cost: {each intent: at most 60%}
  retention: {overall: at least 90%}
  latency p95: {overall: at most 9 s}
"""


def rich(folder):
    """Open a suite that uses clusters, labels, a baseline and two families."""
    changes = {
        **INTENTS,
        "cluster": [f"user-{i // 3}" for i in range(CASES)],
        "expected": lambda t: t["flagship.answer"],
    }
    changes["mini.answer"] = lambda t: every(t["mini.answer"], NUMBER % 17 == 0, "wrong")
    more = "  wider:\n    - " + MINI.replace("0.8}", "0.6}") + "\n    - {tier: flagship, model: flagship}\n"
    written = text(MANY, cohorts="[language, intent]", more="baseline: current\n").replace(
        "cohorts:", more + "cohorts:"
    )
    return open_suite(folder, changes, written)


@pytest.mark.parametrize("size", [23, 64, 599])
def test_the_record_does_not_depend_on_how_cases_are_cut_into_batches(tmp_path, size):
    """Counts add, so every number, list and sentence is the same."""
    opened = rich(tmp_path)
    same(record(opened, InBatches(opened.traffic, size)), record(opened, opened.traffic))


def test_the_record_does_not_depend_on_where_batches_are_counted(tmp_path):
    """Threads, or any other executor, add up to the same."""
    opened = rich(tmp_path)
    with ThreadPoolExecutor(3) as threads:
        threaded = record(opened, InBatches(opened.traffic, 50), executor=threads)
    same(threaded, record(opened, opened.traffic))


def test_the_order_of_rows_changes_no_number(tmp_path):
    """Shuffled cases give the same verdicts and the same measurements."""
    opened = rich(tmp_path)
    table = pq.read_table(tmp_path / "cases.parquet")
    shuffled = table.take(pa.array(np.random.default_rng(7).permutation(CASES)))
    pq.write_table(shuffled, tmp_path / "shuffled.parquet")
    one, other = record(opened, opened.traffic), record(opened, traffic.open(tmp_path / "shuffled.parquet"))
    for before, after in zip(one["cascades"], other["cascades"], strict=True):
        for part in ("verdicts", "overall", "cohorts", "sweep", "funnel", "right"):
            assert after[part] == before[part]
    assert other["data"]["sha256"] != one["data"]["sha256"]


def test_a_copy_of_a_cascade_is_judged_like_the_first(tmp_path):
    """The same definition twice gives the same verdicts twice, and no flips between them."""
    twin = "  twin:\n    - " + MINI + "\n    - {tier: flagship, model: flagship}\ncohorts:"
    found = judge(tmp_path, None, text().replace("cohorts:", twin))
    first, second, _ = found.record["cascades"]
    assert first["verdicts"] == second["verdicts"]


@pytest.mark.parametrize("surer", ["higher", "lower"])
def test_cascades_that_share_a_pass_are_judged_as_if_alone(tmp_path, surer):
    """Numbers and lists of cases of each variant are those of a suite that has it alone, and so are its points."""
    gates = [MINI.replace("0.8}", f"{threshold}, surer: {surer}}}") for threshold in (0.3, 0.8, 0.93)]
    flagship = "\n    - {tier: flagship, model: flagship}\n"
    more = "".join(f"  also{i}:\n    - {gate}{flagship}" for i, gate in enumerate(gates))
    opened = open_suite(tmp_path, BAD_FRENCH, text(EACH).replace("cohorts:", more + "cohorts:"))
    together = record(opened, opened.traffic)["cascades"][1:4]
    for found, gate in zip(together, gates, strict=True):
        opened = open_suite(tmp_path, BAD_FRENCH, text(EACH, mini=gate))
        alone = record(opened, opened.traffic)["cascades"][0]
        assert found["worst"] or gate is gates[0]
        for name in ("overall", "cohorts", "worst", "funnel", "paths", "right", "calibration"):
            assert found[name] == alone[name]
        # A curve of several tries the thresholds of all.
        assert all(point in found["sweep"] for point in alone["sweep"])


def test_data_and_cascades_are_not_changed_by_evaluation(tmp_path):
    """A suite can be judged twice, and on other data, with the same result each time."""
    opened = open_suite(tmp_path, None, text(EACH, mini=MINI.replace("threshold: 0.8", "escalate: 30%")))
    half = replace(
        opened,
        traffic=traffic.from_frame(pq.read_table(tmp_path / "cases.parquet").filter(pc.field("language") != "fr")),
    )
    first = record(opened, opened.traffic)
    assert record(half, half.traffic) != first
    assert record(opened, opened.traffic) == first
