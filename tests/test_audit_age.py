"""Audit age: days since the newest audited case was decided, and why nobody may know."""

from __future__ import annotations

import datetime as dt
import json

import pytest

from cascade_eval import suite, traffic
from cascade_eval.errors import SuiteError
from cascade_eval.suite import evaluation

SUITE = """\
traffic: cases.jsonl
cascades:
  current:
    - {tier: mini, model: mini, gate: {signal: confidence, threshold: 0.8}}
    - {tier: flagship, model: flagship}
agreement: same label
cohorts: [language]
budgets:
  audit age: {overall: at most 8 days}
"""
NOW = dt.datetime(2026, 7, 20, tzinfo=dt.UTC)


def case(number, *, days=None, confidence=0.9, answer="yes", **more):
    """One case decided so many days before NOW; `answer` is the flagship's."""
    decided = None if days is None else (NOW - dt.timedelta(days=days)).isoformat()
    found = {"case_id": f"c{number}", "language": "en", "mini.answer": "yes", "mini.confidence": confidence}
    found |= {"flagship.answer": answer, "flagship.status": None if answer is None else "ok"}
    return found | ({} if days == "no column" else {"decided_at": decided}) | more


def age(folder, cases, text=SUITE):
    """Judge the age of the audit in these cases."""
    path = folder / "s.cascade.yaml"
    path.write_text(text, encoding="utf-8")
    found = evaluation.evaluate(suite.load(path), traffic.from_records(cases), now=NOW)
    [verdict] = found.verdicts
    return verdict


@pytest.mark.parametrize(("days", "outcome"), [(0, "pass"), (7.5, "pass"), (8, "pass"), (8.01, "fail"), (400, "fail")])
def test_the_age_is_a_fact_compared_exactly(tmp_path, days, outcome):
    """There is nothing to estimate: so many days are within eight, or are not."""
    verdict = age(tmp_path, [case(n, days=days + n) for n in range(3)])
    assert (verdict.outcome, verdict.estimate.value) == (outcome, pytest.approx(days))
    assert verdict.estimate.low == verdict.estimate.high == verdict.estimate.value


def test_only_unescalated_cases_with_a_comparison_count(tmp_path):
    """Escalated cases are answered by the flagship every day, and a failed call compares nothing."""
    cases = [
        case(0, days=1, confidence=0.2),
        case(1, days=2, answer=None),
        case(2, days=3, **{"flagship.status": "timeout"}),
        case(3, days=4, cached=True),
        case(4, days=9),
        case(5, days=30),
    ]
    cases = [{"cached": False} | one for one in cases]
    assert age(tmp_path, cases).estimate.value == 9


def test_a_declared_audit_decides_which_cases_were_audited(tmp_path):
    """A flagship answer that no audit drew came from elsewhere, and is no audit."""
    cases = [
        case(0, days=1, audit_probability=None),
        case(1, days=6, audit_probability=0.1),
        case(2, days=7, audit_probability=0.1),
    ]
    assert age(tmp_path, cases).estimate.value == 6


@pytest.mark.parametrize(
    ("cases", "reason"),
    [
        ([{k: v for k, v in case(0, days=1).items() if k != "decided_at"}], "no case says when it was decided"),
        ([case(0, days=1, answer=None), case(1, days=1, confidence=0.1)], "no unescalated case was compared"),
        ([case(0), case(1, days=1, confidence=0.1)], "none of the 1 audited cases says when"),
        (
            [case(0, days=1, audit_probability=None), case(1, days=1, confidence=0.2, audit_probability=None)],
            "no unescalated case was compared",
        ),
        ([case(0, days=-2)], "2 days from now: a clock is wrong"),
    ],
)
def test_what_nobody_knows_is_not_measured_and_never_excused(tmp_path, cases, reason):
    """Without a time or an audited case the age is unknown: that fails, whether inconclusive verdicts do or not."""
    for policy in ("fail", "warn"):
        verdict = age(tmp_path, cases, SUITE + f"inconclusive: {policy}\n")
        assert (verdict.outcome, verdict.not_measured) == ("inconclusive", True)
        assert reason in verdict.reason
        assert verdict.estimate.value is None


def test_each_cascade_has_its_own_audit(tmp_path):
    """What one cascade escalated, another kept: its audit is of other cases."""
    other = "  wider:\n    - {tier: mini, model: mini, gate: {signal: confidence, threshold: 0.1}}\n    - {tier: flagship, model: flagship}\n"
    path = tmp_path / "s.cascade.yaml"
    path.write_text(SUITE.replace("agreement:", other + "agreement:"), encoding="utf-8")
    cases = [case(0, days=1, confidence=0.5), case(1, days=10)]
    found = evaluation.evaluate(suite.load(path), traffic.from_records(cases), now=NOW)
    assert [v.estimate.value for v in found.verdicts] == [10, 1]


def test_batches_add_up_to_the_newest(tmp_path):
    """Wherever the newest case stands among many, it is found."""
    cases = [case(n, days=5 + (n * 7919) % 1000) for n in range(1500)]
    assert age(tmp_path, cases).estimate.value == 5


def test_it_is_one_number_for_all_cases():
    """A cohort nobody audited must not borrow the age of the others, so it cannot be promised by cohort."""
    text = SUITE.replace("{overall: at most 8 days}", "{each language: at most 8 days}")
    with pytest.raises(SuiteError, match=r"one number for all cases\. Write 'overall' instead of 'each language'"):
        suite.parse(text, file="s.cascade.yaml", base=".")
    with pytest.raises(SuiteError, match="days"):
        suite.parse(SUITE.replace("8 days", "8%"), file="s.cascade.yaml", base=".")


def test_evidence_has_it_only_where_it_was_asked_for(tmp_path):
    """The pass it takes is not paid by suites that promise nothing about it."""
    path = tmp_path / "s.cascade.yaml"
    for text, there in (
        (SUITE, True),
        (SUITE.replace("audit age: {overall: at most 8 days}", "escalation: {overall: at most 99%}"), False),
    ):
        path.write_text(text, encoding="utf-8")
        found = evaluation.evaluate(suite.load(path), traffic.from_records([case(0, days=1)]), now=NOW)
        record = json.loads(json.dumps(found.record["cascades"][0]))
        assert ("audit age" in record["overall"]["metrics"]) is there
