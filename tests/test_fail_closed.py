"""Nothing measured must never look like a pass: every way to measure nothing, and how it ends.

Each test breaks one thing in a suite that passes, and asserts the kind of ending (failed, inconclusive, not measured, or
a usage error before anything is judged) and its reason in words.
"""

from __future__ import annotations

import subprocess

import numpy as np
import pyarrow as pa
import pytest
from fail_closed_cases import (
    BUDGETS,
    CASES,
    MINI,
    OVERALL,
    all_of,
    columns,
    ends,
    every,
    judge,
    outcomes,
    reasons,
    text,
    write,
)

from cascade_eval import evidence, goldens, runs, suite, traffic
from cascade_eval.errors import BaselineError, CostError, DataError, SuiteError

NUMBER = np.arange(CASES)
ESCALATION = "  escalation: {overall: 15% to 40%}\n"
TIERS = f"    - {MINI}\n    - {{tier: flagship, model: flagship}}\n"


def test_the_unbroken_suite_passes(tmp_path):
    """Everything below starts from a suite of which every verdict is a pass."""
    found = judge(tmp_path)
    assert set(outcomes(found).values()) == {"pass"}
    assert len(found.verdicts) == 6


@pytest.mark.parametrize(
    ("written", "said"),
    [
        (text(more="confidense: 95%\n"), "13: unknown key 'confidense' in a suite. Did you mean 'confidence'?"),
        (
            text(mini=MINI.replace("threshold", "treshold")),
            "4: unknown key 'treshold' in a gate. Did you mean 'threshold'?",
        ),
        (text(mini=MINI.replace("model:", "modell:")), "4: unknown key 'modell' in a tier. Did you mean 'model'?"),
        (
            text("  disagrement: {overall: at most 5%}\n"),
            "8: unknown metric 'disagrement'. Did you mean 'disagreement'?",
        ),
        (text("  disagreement: {overal: at most 5%}\n"), "8: 'overal' is not a scope. Did you mean 'overall'?"),
        (text("  disagreement: {each langage: at most 5%}\n"), "Did you mean 'language'?"),
        (text("  disagreement: {overall: at mots 5%}\n"), "8: 'at mots 5%' is not a bound."),
        (text("  disagreement: {overall: 0.05}\n"), "is not a bound"),
        (text("  disagreement: {overall: at most 500%}\n"), "100%"),
        (text("  disagreement: {overall: at most 0%}\n"), "cannot be proven by any number of cases"),
        (text(more="agreement: same lable\n"), "Did you mean 'same label'?"),
        (text(more="inconclusive: ignore\n"), "'inconclusive' cannot be 'ignore'."),
        (text(more="baseline: curent\n"), "unknown baseline 'curent'. Did you mean 'current'?"),
        (text(mini=MINI.replace("0.8}", "1e999}")), "'1e999' is not a finite number."),
        (text(mini=MINI.replace("0.8}", ".inf}")), "'.inf' is not a finite number."),
        (text(mini=MINI.replace("0.8}", "0.8, chosen_on: abc}")), "'abc' is not the hash of data."),
    ],
)
def test_a_typo_in_any_key_or_phrase_is_a_usage_error(tmp_path, written, said):
    """What is not understood is named with its line and the nearest word, and nothing is judged."""
    with pytest.raises(SuiteError) as caught:
        judge(tmp_path, written=written)
    assert said in str(caught.value)


def test_a_signal_that_is_no_column_is_a_usage_error(tmp_path):
    """A gate on a misspelled column names the columns there are."""
    with pytest.raises(DataError, match="unknown signal 'confidance'"):
        judge(tmp_path, written=text(mini=MINI.replace("confidence", "confidance")))


@pytest.mark.parametrize("budgets", ["", "  {}\n"])
def test_a_suite_without_budgets_is_a_usage_error(tmp_path, budgets):
    """A suite that promises nothing cannot be kept."""
    with pytest.raises(SuiteError, match="a suite without budgets judges nothing"):
        judge(tmp_path, written=text(budgets))


def test_empty_data_is_a_usage_error(tmp_path):
    """No case is no evidence."""
    with pytest.raises(DataError, match="no cases"):
        judge(tmp_path, cases=0)


def test_data_without_a_row_left_is_a_usage_error(tmp_path):
    """Setting every row aside leaves nothing to judge, however many are tolerated."""
    with pytest.raises(DataError, match="no cases"):
        judge(tmp_path, {"weight": all_of(0.0)}, tolerate=CASES)


@pytest.mark.parametrize("weight", [0.0, float("nan"), -1.0, float("inf")])
def test_weights_that_weigh_nothing_are_a_usage_error(tmp_path, weight):
    """A weight is a finite number above zero, in each row."""
    with pytest.raises(DataError, match="weight is not a finite number above 0: case-0000"):
        judge(tmp_path, {"weight": [weight] + [1.0] * (CASES - 1)})


def test_duplicate_case_ids_are_a_usage_error(tmp_path):
    """A case that counts twice would make any bound too narrow."""
    with pytest.raises(DataError, match="case_id was there before: case-0000"):
        judge(tmp_path, {"case_id": lambda t: [*t["case_id"][:-1], "case-0000"]})


def test_a_named_cohort_that_no_case_is_in_is_a_usage_error(tmp_path):
    """A budget for a misspelled cohort would judge nothing."""
    with pytest.raises(DataError, match="8: no case has 'language=fz', so its budget would judge nothing"):
        judge(tmp_path, written=text("  disagreement: {language=fz: at most 5%}\n"))


def test_a_cohort_column_that_is_missing_is_a_usage_error(tmp_path):
    """`each language` over data without languages would have no cohort to fail."""
    with pytest.raises(DataError, match="no case has a column 'language'"):
        judge(tmp_path, {"language": None})


def test_every_case_errored_is_not_measured(tmp_path):
    """Where every call of the cheap tier failed, its gate was never read, and no rate says anything about it."""
    found = judge(tmp_path, {"mini.status": all_of("error"), "flagship.status": all_of("error")})
    ends(found, "not measured", "no gate had anything to read: in all 600 cases the calls of cheaper tiers")


@pytest.mark.parametrize("status", ["error", "refused", "timeout"])
def test_every_cheap_call_failed_is_not_measured(tmp_path, status):
    """An escalation of 100% for want of answers keeps no promise of at least 15%."""
    written = text("  escalation: {overall: at least 15%}\n  cost: {overall: at most 200%}\n")
    found = judge(tmp_path, {"mini.status": all_of(status)}, written)
    ends(found, "not measured", "no gate had anything to read")


def test_failures_of_another_kind_are_not_measured_where_every_call_failed(tmp_path):
    """No timeout among calls that all errored proves nothing about timeouts; timeouts themselves are a finding."""
    written = text("  timeouts: {overall: at most 5%}\n")
    ends(judge(tmp_path, {"mini.status": all_of("error")}, written), "not measured", "no gate had anything to read")
    ends(judge(tmp_path, {"mini.status": all_of("timeout")}, written), "fail", "100%")


def test_a_timeout_shorter_than_every_call_is_not_measured(tmp_path):
    """A gate that never hears of an answer is not measured by escalating everything."""
    written = text("  escalation: {overall: at least 15%}\n", mini=MINI.replace("gate:", "timeout: 1ms, gate:"))
    ends(judge(tmp_path, None, written), "not measured", "timed out")


def test_every_case_unresolved_is_not_measured(tmp_path):
    """Where the cheap model has no row, no path is known, and coverage says so."""
    numbers = pa.nulls(CASES, pa.float64())
    absent = {f"mini.{name}": numbers for name in ("confidence", "cost_usd", "latency_s")}
    absent |= {f"mini.{name}": pa.nulls(CASES, pa.string()) for name in ("answer", "status")}
    ends(judge(tmp_path, absent), "not measured", "coverage is 0 of 600 cases with a known path, below 99%")


def test_coverage_below_its_floor_is_not_measured(tmp_path):
    """Rates of the 98% of cases that were recorded say nothing about the hard 2% that were not."""
    gone = NUMBER % 50 == 0
    absent = {
        f"mini.{name}": lambda t, name=name: every(t[f"mini.{name}"], gone, None)
        for name in ("answer", "confidence", "cost_usd", "latency_s", "status")
    }
    found = judge(tmp_path, absent, text(OVERALL + ESCALATION))
    ends(found, "not measured", "coverage is 588 of 600 cases with a known path, below 99%")


@pytest.mark.parametrize("cut", ["threshold: 0.8", "escalate: 30%"])
def test_a_signal_that_is_nowhere_known_is_not_measured(tmp_path, cut):
    """A gate on nulls escalates everything, which keeps no promise."""
    written = text(mini=MINI.replace("threshold: 0.8", cut))
    found = judge(tmp_path, {"mini.confidence": all_of(float("nan"))}, written)
    ends(found, "not measured", "no signal: confidence of mini is null in all 600 cases its gate read")


def test_a_signal_missing_in_one_cohort_is_not_measured_there(tmp_path):
    """One language without confidences is found, though the whole looks healthy."""
    found = judge(tmp_path, {"mini.confidence": lambda t: every(t["mini.confidence"], NUMBER % 3 == 1, None)})
    assert outcomes(found)["disagreement", "fr"] == "not measured"
    assert "null in all 200 cases its gate read" in reasons(found)["disagreement", "fr"]


def test_a_model_without_a_price_is_a_usage_error_where_cost_is_promised(tmp_path):
    """A missing price is unknown, never zero."""
    with pytest.raises(CostError, match="12: 'cost' cannot be computed: no price is known for 'mini'"):
        judge(tmp_path, {"mini.cost_usd": None})


def test_costs_missing_in_some_cases_are_not_measured(tmp_path):
    """A cost that is known for nine cases in ten is not the cost."""
    written = text("  cost: {overall: at most 60%}\n")
    found = judge(tmp_path, {"mini.cost_usd": lambda t: every(t["mini.cost_usd"], NUMBER % 10 == 0, None)}, written)
    ends(found, "not measured", "cost is known for 540 of 600 cases, below 99%")


@pytest.mark.parametrize(
    ("budget", "reason"),
    [
        ("calibration age: {overall: at most 30 days}", "no gate uses a calibration"),
        ("uncovered traffic: {overall: at most 5%}", "no gate uses a calibration"),
        ("cost per completed task: {overall: at most $1}", "no case says whether it was `completed`"),
        ("flagship self-disagreement: {overall: at most 5%}", "the flagship was not asked twice"),
        ("regeneration: {overall: at most 5%}", "no case to judge"),
    ],
)
def test_a_metric_that_could_not_be_computed_is_not_measured(tmp_path, budget, reason):
    """A promise about something that was not recorded fails."""
    ends(judge(tmp_path, written=text(f"  {budget}\n")), "not measured", reason)


def test_latency_that_was_not_recorded_is_not_measured(tmp_path):
    """No latency is not a fast one."""
    found = judge(tmp_path, {"mini.latency_s": None}, text("  latency p95: {overall: at most 9 s}\n"))
    ends(found, "not measured", "latency is known for 0 of 600 cases")


def test_quality_without_anything_to_measure_it_by_is_a_usage_error(tmp_path):
    """Neither scores nor expected answers: quality cannot be judged on this data at all."""
    with pytest.raises(DataError, match="8: 'quality' needs a `score` of the answers, or an `expected` answer"):
        judge(tmp_path, written=text("  quality: {overall: at least 50%}\n"))


def test_expected_answers_that_are_all_null_are_not_measured(tmp_path):
    """A column that expects nothing measures no quality."""
    nothing = {"expected": pa.nulls(CASES, pa.string())}
    found = judge(tmp_path, nothing, text("  quality: {overall: at least 1%}\n  retention: {overall: at least 1%}\n"))
    ends(found, "not measured", "no answer has a score and no case an expected answer")


def test_a_flagship_without_rows_is_a_usage_error(tmp_path):
    """A reference nobody asked is named."""
    gone = dict.fromkeys(("flagship.answer", "flagship.cost_usd", "flagship.latency_s", "flagship.status"))
    with pytest.raises(DataError, match="tier 'flagship': no case has an answer of 'flagship'"):
        judge(tmp_path, gone)


@pytest.mark.parametrize(
    "change",
    [
        {"flagship.status": lambda t: every(t["flagship.status"], NUMBER % 20 == 0, "error")},
        {"flagship.status": lambda t: every(t["flagship.status"], NUMBER % 20 == 0, "refused")},
        {"flagship.answer": lambda t: every(t["flagship.answer"], NUMBER % 20 == 0, None)},
    ],
)
def test_flagship_answers_that_are_missing_or_failed_are_not_measured(tmp_path, change):
    """What cannot be compared is unknown, never agreement: five in a hundred of them are too many."""
    found = judge(tmp_path, change, text(OVERALL))
    ends(found, "not measured", "audited is 420 of 450 unescalated cases with a known comparison, below 99%")


def test_a_flagship_that_fails_just_where_the_cheap_model_is_wrong_hides_nothing(tmp_path):
    """Within the tolerated share, unknown comparisons count as disagreeing for a pass."""
    wrong = NUMBER % 100 == 5
    lost = {"flagship.status": lambda t: every(t["flagship.status"], wrong & (NUMBER < 400), "error")}
    budget = text("  disagreement: {overall: at most 2.5%}\n")
    assert (
        outcomes(judge(tmp_path, None, budget))
        == outcomes(judge(tmp_path, lost, budget))
        == {("disagreement",): "inconclusive"}
    )
    whole, hidden = judge(tmp_path, None, budget).verdicts[0], judge(tmp_path, lost, budget).verdicts[0]
    assert hidden.estimate.count == 2
    assert hidden.p_pass == pytest.approx(whole.p_pass)


def test_gates_that_escalate_everything_are_not_measured_by_a_disagreement_budget(tmp_path):
    """Zero disagreement among no unescalated answers is no agreement, and the reason says so."""
    found = judge(tmp_path, None, text(OVERALL, mini=MINI.replace("0.8}", "2}")))
    ends(found, "not measured", "the gates escalated every case, so there is no unescalated answer to compare")


def test_a_route_that_sends_everything_to_the_flagship_is_a_usage_error_for_each_cohort(tmp_path):
    """Cohorts that are routed have no item, so a budget of routed cohorts alone would vanish."""
    routed = text("  disagreement: {each language: at most 10%}\n").replace(
        "  current:\n", "  current:\n   routes: [{when: {language: [en, fr, de]}, start: flagship}]\n   tiers:\n"
    )
    with pytest.raises(DataError, match="judges nothing: every cohort it names is routed to the flagship"):
        judge(tmp_path, None, routed)


def test_a_cascade_that_no_budget_speaks_of_is_a_usage_error(tmp_path):
    """A second cascade whose tiers no budget names would look like one that kept its promises."""
    other = (
        "    - {tier: flagship, model: flagship}\n  other:\n    - " + MINI.replace("tier: mini", "tier: small") + "\n"
    )
    written = text("  escalation from mini: {overall: at most 40%}\n").replace("cohorts:", "XX", 1)
    written = written.replace(
        "    - {tier: flagship, model: flagship}\nXX", other + "    - {tier: flagship, model: flagship}\ncohorts:"
    )
    with pytest.raises(DataError, match="the cascade 'other' is judged by no budget"):
        judge(tmp_path, None, written)


def chosen(path, more):
    """Write into the suite that its threshold was chosen by the agreement of some data."""
    path.write_text(path.read_text().replace("threshold: 0.8", f"threshold: 0.8, chosen_on: {more}"))
    return suite.load(path)


def test_a_threshold_judged_on_the_data_that_chose_it_is_not_measured(tmp_path):
    """Agreement that was maximised by looking proves nothing; escalation and cost were not, and are judged."""
    path = write(tmp_path)
    found = runs.evaluate(chosen(path, traffic.open(tmp_path / "cases.parquet").sha256()))
    kinds = outcomes(found)
    assert {kinds[key] for key in kinds if key[0] == "disagreement"} == {"not measured"}
    assert (kinds["escalation",], kinds["cost",]) == ("pass", "pass")
    assert "the threshold of mini was chosen on this data" in reasons(found)["disagreement",]


def test_a_threshold_chosen_on_this_data_is_not_measured_in_python_tests(tmp_path):
    """The replay of a Python test refuses the same verdict."""
    path = write(tmp_path)
    replay = runs.replays(chosen(path, traffic.open(tmp_path / "cases.parquet").sha256()))["current"]
    verdict = replay.unescalated.disagreement._compare(None, 0.1)
    assert (verdict.outcome, verdict.not_measured) == ("inconclusive", True)
    assert "chosen on this data" in verdict.reason
    assert (replay.escalation <= 0.4).outcome == "pass"


def test_a_threshold_chosen_on_other_data_is_judged(tmp_path):
    """That is what choosing and judging apart is for; the hash travels in the definition and back."""
    found = chosen(write(tmp_path), "ab" * 32)
    assert set(outcomes(runs.evaluate(found)).values()) == {"pass"}
    read = suite.parse_cascade("current", found.cascades[0].definition)
    assert read.tiers[0].gate.chosen_on == "ab" * 32


def test_a_share_to_escalate_is_chosen_on_no_data(tmp_path):
    """`escalate` looks at signals alone, so a hash beside it is a misunderstanding."""
    with pytest.raises(SuiteError, match="'escalate' looks at signals alone"):
        chosen(
            write(tmp_path, None, text(mini=MINI.replace("threshold: 0.8", "escalate: 30%, chosen_on: " + "ab" * 32))),
            "",
        )


def golden(folder, changes=None):
    """Make a golden of the cases, and a suite on it."""
    path = write(folder, changes, text(data="golden", kind="goldens"), name="golden/cases.parquet")
    goldens.describe(folder / "golden", name="made", description="", licence="", recorded={}, cohorts=["language"])
    return path


def test_a_golden_whose_data_changed_is_a_usage_error(tmp_path):
    """What changed is said, and how it is accepted."""
    path = golden(tmp_path)
    write(tmp_path, {"language": all_of("en")}, path.read_text(), name="golden/cases.parquet")
    with pytest.raises(
        DataError, match=r"the golden changed: language=de 200 before, 0 now; .*pytest --cascade-update"
    ):
        runs.evaluate(suite.load(path))


def test_a_file_slipped_into_a_golden_is_a_usage_error(tmp_path):
    """More data in the folder is other data."""
    path = golden(tmp_path)
    write(tmp_path, {"case_id": [f"more-{i}" for i in range(CASES)]}, path.read_text(), name="golden/more.parquet")
    with pytest.raises(DataError, match="the golden changed: cases 600 before, 1,200 now"):
        runs.evaluate(suite.load(path))


@pytest.mark.parametrize(("old", "new"), [("cases: 600", "cases: 6000"), ("- mini", "- tiny")])
def test_a_golden_whose_description_is_of_other_data_is_a_usage_error(tmp_path, old, new):
    """Counts edited by hand under the same hash are found."""
    path = golden(tmp_path)
    described = tmp_path / "golden" / goldens.FILE
    described.write_text(described.read_text().replace(old, new))
    with pytest.raises(DataError, match="the description is not of this data"):
        runs.evaluate(suite.load(path))


def test_a_cohort_the_golden_has_and_fresh_traffic_lacks_is_not_measured(tmp_path):
    """A sample without a language promises nothing about it, though the suite's golden is not what is judged."""
    path = golden(tmp_path)
    keep = NUMBER % 3 != 1
    fresh = {key: np.asarray(values, dtype=object)[keep].tolist() for key, values in columns().items()}
    write(tmp_path, fresh, path.read_text(), name="fresh.parquet")
    found = runs.evaluate(suite.load(path), traffic_path=str(tmp_path / "fresh.parquet"))
    assert outcomes(found)["disagreement", "fr"] == "not measured"
    assert reasons(found)["disagreement", "fr"] == "the golden has language=fr, and no case of this data is in it"


def evidence_of(path, folder, **selected):
    """Leave the evidence of a run."""
    record = runs.evaluate(suite.load(path)).record
    evidence.write(folder / "before.json", evidence.build([record], selected=selected or {"items": 6, "of": 6}))


COMPARED = BUDGETS + "  flips to disagreement: {overall: at most 1%}\n"


def test_a_baseline_of_other_data_is_a_usage_error(tmp_path):
    """Flips are counted case by case, so the cases have to be the same."""
    evidence_of(write(tmp_path), tmp_path)
    with pytest.raises(BaselineError, match="the baseline was measured on other data"):
        judge(tmp_path, {"language": all_of("en")}, text(COMPARED, more="baseline: before.json\n"))


def test_a_partial_run_is_no_baseline(tmp_path):
    """What was deselected has not been measured."""
    evidence_of(write(tmp_path), tmp_path, items=1, of=6)
    with pytest.raises(BaselineError, match="only 1 of 6 items ran, so this evidence is no baseline"):
        judge(tmp_path, None, text(COMPARED, more="baseline: before.json\n"))


def git(folder, *arguments):
    """Run git, without anyone's settings."""
    who = [
        "-c",
        "user.name=A",
        "-c",
        "user.email=a@example.org",
        "-c",
        "init.defaultBranch=main",
        "-c",
        "commit.gpgsign=false",
    ]
    subprocess.run(["git", *who, *arguments], cwd=folder, check=True, capture_output=True)


def test_a_cascade_that_did_not_exist_at_the_baseline_is_a_usage_error(tmp_path):
    """Renaming a cascade is no way around the promise about what changed."""
    path = write(tmp_path, None, text(COMPARED))
    git(tmp_path, "init")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "first")
    path.write_text(text(COMPARED, more="baseline: git:HEAD\n"))
    assert set(outcomes(runs.evaluate(suite.load(path))).values()) == {"pass"}
    twice = text(COMPARED, more="baseline: git:HEAD\n").replace("cohorts:", "  renamed:\n" + TIERS + "cohorts:")
    path.write_text(twice)
    with pytest.raises(BaselineError, match="the cascade 'renamed' did not exist at git:HEAD"):
        runs.evaluate(suite.load(path))


def test_a_comparison_without_a_baseline_is_a_usage_error(tmp_path):
    """A promise about what changed needs something to compare with."""
    with pytest.raises(SuiteError, match="'flips to disagreement' compares with a baseline, and this suite has none"):
        judge(tmp_path, None, text(COMPARED))


def test_a_baseline_that_is_the_only_cascade_is_a_usage_error(tmp_path):
    """A cascade compared with itself has nothing to be compared with."""
    with pytest.raises(DataError, match="judges nothing: no cascade is compared with a baseline"):
        judge(tmp_path, None, text(COMPARED, more="baseline: current\n"))


def test_too_few_cases_are_inconclusive_and_only_warn_where_told_so(tmp_path):
    """Too few cases is no pass; `warn` excuses it, and what was not measured it never excuses."""
    each = "  disagreement: {each language: at most 10%}\n"
    few = judge(tmp_path, None, text(each, more="inconclusive: warn\n"), cases=30)
    assert {(verdict.outcome, verdict.warned) for verdict in few.verdicts} == {("inconclusive", True)}
    blind = text(each, mini=MINI.replace("0.8}", "2}"), more="inconclusive: warn\n")
    assert {(verdict.outcome, verdict.warned) for verdict in judge(tmp_path, None, blind).verdicts} == {
        ("inconclusive", False)
    }
