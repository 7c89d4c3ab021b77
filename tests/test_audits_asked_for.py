"""Asking for an audit: the number of calls that is named is one that decides, and what cannot be decided is said."""

from __future__ import annotations

from pathlib import Path

import audit_windows as made
import numpy as np
import pyarrow as pa
import pytest
from audit_windows import SUITE, promised

from cascade_eval import audit, suite, traffic
from cascade_eval.diagnosis import audits
from cascade_eval.errors import UsageError

OVERALL, EN, FR, NL = (), *(((("language", name)),) for name in ("en", "fr", "nl"))
SIZES = {"en": 2000, "fr": 400, "nl": 40}
NAMES = {OVERALL: "overall", EN: "language=en", FR: "language=fr", NL: "language=nl"}


def asked(cohorts, sizes=SIZES, text=SUITE, **extra):
    """Ask about a window; return the treatment, and how a plan of so many calls turns out."""
    whole = made.table(sizes, **extra)
    if "audit_probability" not in extra:
        whole = made.seen_in_production(whole)
    found = suite.parse(text, file="s.cascade.yaml", base=Path())
    treatment = audits.ask_for_an_audit(found, traffic.from_frame(whole, name="window.parquet"), "current", cohorts)

    per = ("language",) if "--per language" in " ".join(treatment.steps) else ()

    def decides(calls):
        try:
            plan = audit.plan(made.window(whole), promised(), per=per, cases=calls)
        except UsageError:
            return set()
        own = {each.label for each in plan.strata if each.decided}
        return own | ({"overall"} if plan.overall.decided else set())

    return treatment, decides


@pytest.mark.parametrize(
    ("cohorts", "decided", "lost"),
    [
        ((), {EN, FR}, {NL}),
        ((OVERALL,), {OVERALL}, set()),
        ((FR,), {FR}, set()),
        ((OVERALL, FR), {OVERALL, FR}, set()),
        ((FR, NL), {FR}, {NL}),
        ((EN, FR, OVERALL), {OVERALL, EN, FR}, set()),
    ],
)
def test_so_many_calls_decide_what_is_said(cohorts, decided, lost):
    """A plan of that many calls decides every cohort that is named, and none that is said to be too small."""
    treatment, decides = asked(cohorts)
    calls = int(treatment.evidence["calls"])
    assert {NAMES[each] for each in decided} <= decides(calls)
    said = treatment.message.partition(" decide ")[2].partition(". ")[0]
    assert set(said.split(", ")) == {NAMES[each] for each in decided}
    assert treatment.message.startswith(f"{calls:,} flagship calls, about ${calls / 100:,.2f} decide ")
    assert treatment.evidence["usd"] == pytest.approx(calls / 100)
    for each in (EN, FR, NL):
        assert (f"{NAMES[each]} has" in treatment.message) == (each in lost)
    assert f"--cases {calls} " in treatment.steps[0]
    assert [step.split()[1:3] for step in treatment.steps] == [["audit", word] for word in ("plan", "sample", "read")]
    assert treatment.cohorts == (cohorts or ((),))


@pytest.mark.parametrize("cohorts", [(OVERALL,), (FR,), (EN, FR)])
def test_fewer_calls_would_not_decide_as_much(cohorts):
    """One call fewer leaves something open that was asked for."""
    treatment, decides = asked(cohorts)
    assert not {NAMES[each] for each in cohorts} <= decides(int(treatment.evidence["calls"]) - 1)


def test_what_nothing_can_decide_has_no_commands():
    """Of forty unescalated cases no audit proves 10%, and no command is given that would spend money on it."""
    treatment, _ = asked((NL,))
    assert treatment.steps == ()
    assert (
        "language=nl has 40 unescalated cases and cannot be decided by them: it takes 89 where 3% disagree"
        in treatment.message
    )
    small, _ = asked((OVERALL, EN), {"en": 20, "fr": 10})
    assert "These cases cannot be audited to a decision: 50 calls decide no cohort" in small.message
    assert (small.steps, small.cohorts) == ((), (OVERALL, EN))


def test_a_rate_near_its_budget_is_not_decided_by_these_cases():
    """Where an earlier audit found nearly one in ten, it takes more calls than there are cases to tell it from a budget of 10%."""
    number = np.arange(2 * 1010)
    chance = np.where((number % 1010 < 1000) & (number % 5 == 0), 0.2, np.nan)
    text = SUITE.replace("overall: at most 10%, ", "")
    treatment, _ = asked(
        (EN,),
        {"en": 1000, "fr": 1000},
        text,
        disagree={"en": 0.1, "fr": 0.0},
        audit_probability=pa.array(chance, from_pandas=True),
    )
    assert (
        "language=en has 1,000 unescalated cases and cannot be decided by them: it takes 19,126 where 9.5%"
        in treatment.message
    )
    assert treatment.steps == ()


def test_the_next_audit_expects_what_the_last_one_found():
    """A window that was audited is not drawn from again, and what was found there says how many calls it takes now."""
    number = np.arange(1010 + 1010)
    chance = np.where((number % 1010 < 1000) & (number % 5 == 0), 0.2, np.nan)
    column = pa.array(chance, from_pandas=True)
    treatment, _ = asked((EN, FR), {"en": 1000, "fr": 1000}, disagree={"en": 0.0, "fr": 0.3}, audit_probability=column)
    assert "--traffic FRESH_CASES" in treatment.steps[0]
    assert "--prior READING" in treatment.steps[0]
    assert "Expected rates are those of the audit these cases have" in treatment.message
    plan = audit.plan(
        made.window(made.table({"en": 1000, "fr": 1000})),
        promised(),
        per=("language",),
        cases=int(treatment.evidence["calls"]),
        prior={"language=en": (0, 200), "language=fr": (60, 200)},
    )
    assert all(each.decided for each in plan.strata)
    fresh, _ = asked((EN, FR), {"en": 1000, "fr": 1000})
    assert "--prior" not in fresh.steps[0]
    assert "three tenths of each budget" in fresh.message


@pytest.mark.parametrize(
    ("budgets", "columns"),
    [
        ("{overall: at most 10%, each language: at most 10%}", ("language",)),
        ("{overall: at most 10%}", ()),
        ("{each region and language: at most 10%}", ("region", "language")),
    ],
)
def test_the_columns_of_an_audit_are_those_of_the_first_promise(budgets, columns):
    """A promise about something else than disagreement, or from below, has no part in it."""
    text = (
        SUITE.replace("{overall: at most 10%, each language: at most 10%}", budgets)
        + "  escalation: {each tier: 0% to 90%}\n"
    )
    text = text.replace("cohorts: [language]", "cohorts: [language, region, tier]")
    found = suite.parse(text, file="s.cascade.yaml", base=Path())
    assert audits.promised_each(found) == columns


def test_a_cohort_nobody_promised_anything_has_the_stated_default():
    """Where the suite promises nothing of a scope an audit needs, the defaults are judged by, and only there."""
    text = SUITE.replace(
        "{overall: at most 10%, each language: at most 10%}", "{overall: at most 3%, language=fr: at most 7%}"
    )
    found = suite.parse(text, file="s.cascade.yaml", base=Path())
    given = [(str(one.scope), one.bound.high) for one in audits._promises(found, ("region",))]
    assert given == [("overall", 0.03), ("language=fr", 0.07), ("each region", 0.1)]
    assert [str(one.scope) for one in audits._promises(found, ())] == ["overall", "language=fr"]
    only = suite.parse(SUITE.replace("overall: at most 10%, ", ""), file="s.cascade.yaml", base=Path())
    given = [(str(one.scope), one.bound.high) for one in audits._promises(only, ("language",))]
    assert given == [("each language", 0.1), ("overall", 0.05)]
