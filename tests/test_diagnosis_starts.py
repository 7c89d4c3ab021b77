"""When it began and where: what a golden, another gate, all cohorts together or the last week alone say."""

from __future__ import annotations

import datetime as dt
import importlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from test_diagnosis_situations import known, period, sure

from cascade_eval import cli, diagnosis, monitor, suite, traffic
from cascade_eval.diagnosis import causes, measuring, periods, points, reading, roots, treatments, tree
from cascade_eval.diagnosis.facts import Frontier, Money

ROOT = Path(__file__).parents[1]
PT = (("language", "pt"),)


@pytest.fixture(scope="module")
def weekly():
    """Give the suite that looks at production, and what opens a golden by its name."""
    found = suite.load(str(ROOT / "suites/weekly_replay.cascade.yaml"))
    return found, lambda name: traffic.open(str(ROOT / f"goldens/{name}/cases.parquet"))


def part(cases, rows, name):
    """Take some cases of recorded traffic."""
    return traffic.from_batch(cases.read(cases.fields).take(rows), name)


# --- from the start, or not ----------------------------------------------------------------------------------------


def test_a_golden_tells_what_the_weeks_cannot(weekly):
    """Over budget in every week there is: saturated where the golden was within budget, by feel where there is no other."""
    found, golden = weekly
    late = golden("incident_saturated")
    [alone] = diagnosis.run(found, late, treat=False)
    [same] = diagnosis.run(found, late, treat=False, golden=late)
    [told] = diagnosis.run(found, late, treat=False, golden=golden("incident"))
    assert (alone.main.name, same.main.name) == ("threshold by feel", "threshold by feel")
    assert (told.main.name, told.main.cohorts, told.main.conclusive) == ("saturation", (PT,), True)
    assert any("disagreement rose from 4.8% to 34.9%" in sentence for sentence in told.main.evidence)
    assert {step.outcome for step in told.steps if step.name in {"escalation", "gate"}} == {"suspects"}
    assert any("the reference is the golden" in note for note in told.notes)


def test_a_golden_as_bad_confirms_the_launch_and_one_that_is_fine_decides_nothing_small(weekly):
    """Half of the saturated weeks as a golden does not make the other half drift; thirty cases stay undecided."""
    found, golden = weekly
    cases = golden("incident_saturated")
    one, other = (part(cases, np.arange(side, cases.cases, 2), f"half {side}") for side in (0, 1))
    [halved] = diagnosis.run(found, other, treat=False, golden=one)
    assert (halved.main.name, halved.main.cohorts) == ("threshold by feel", (PT,))
    thirty = part(golden("incident"), np.arange(30), "few")
    [few] = diagnosis.run(found, thirty, treat=False, golden=golden("incident_mix_shift"))
    assert few.main.name == "not enough evidence"


def test_the_command_compares_with_the_golden_of_the_suite(capsys):
    """The example of its help names the saturated cohort without a history."""
    arguments = ["diagnose", str(ROOT / "suites/weekly_replay.cascade.yaml")]
    assert cli.run([*arguments, "--traffic", str(ROOT / "goldens/incident_saturated")]) == 1
    assert capsys.readouterr().out.startswith("current: saturation\n")


def test_a_golden_that_cannot_be_compared_is_a_note(weekly):
    """Without answers of the small model it says nothing, and the diagnosis stands as it was."""
    found, golden = weekly
    bare = traffic.from_records([{"case_id": "a", "language": "pt", "models": {"other": {"answer": "x"}}}])
    [one] = diagnosis.run(found, golden("incident_saturated"), treat=False, golden=bare)
    assert one.main.name == "threshold by feel"
    assert "was not compared with: " in one.notes[-1]


def test_a_reference_that_changed_in_its_middle_was_not_so_from_the_start():
    """Fine for two weeks and over budget since: suspects alone; over budget in all four: by feel."""
    always = known({"en": ((1600, 0.3, 0.30), (1600, 0.3, 0.30))})
    assert sure(always)[0] == {"threshold by feel": {"en"}}
    fine = period(1600, 0.3, 0.02)

    def changed(one):
        before = replace(one.before, disagreed=np.r_[fine.disagreed[:2], one.before.disagreed[2:]])
        return replace(one, before=before)

    named, suspected = sure(replace(always, cohorts=tuple(changed(one) for one in always.cohorts)))
    assert "threshold by feel" not in named
    assert suspected >= {"saturation", "threshold by feel"}


def test_a_rate_that_doubled_was_not_so_from_the_start():
    """A reference that is over its budget by what chance could do, and twice that now: no name."""
    doubled = known({"en": ((900, 0.3, 0.054), (1100, 0.3, 0.102))}, budget=0.05, overall=0.05)
    level = known({"en": ((900, 0.3, 0.102), (1100, 0.3, 0.102))}, budget=0.05, overall=0.05)
    assert "threshold by feel" not in sure(doubled)[0]
    assert sure(level)[0] == {"threshold by feel": {"en"}}


@pytest.mark.parametrize("changed", [True, False])
def test_weeks_under_another_gate_are_no_reference(weekly, changed):
    """Escalation that moved because the gate was changed on purpose is no cause; under one gate the same rows count."""
    found, golden = weekly
    tier, flagship = found.cascades[0].definition
    other = suite.parse_cascade("current", [{**tier, "gate": {**tier["gate"], "threshold": 0.95}}, flagship])
    earlier = [replace(row, window=f"2025-{row.window[5:]}") for row in monitor.weekly(found, golden("incident"))]
    if not changed:
        own = {
            row.cascade: row.definition for row in monitor.weekly(replace(found, cascades=(other,)), golden("incident"))
        }
        earlier = [replace(row, definition=own[row.cascade]) for row in earlier]
    [facts] = measuring.measure(replace(found, cascades=(other,)), golden("incident"), rows=earlier, certify=False)
    assert any("measured under another definition" in note for note in facts.notes) == changed
    assert any(window.startswith("2025") for window in facts.windows) != changed
    assert any(cause.name == "rising escalation" for cause in tree.diagnose(facts).causes) != changed


# --- all cohorts together ------------------------------------------------------------------------------------------


def stepped(step):
    """Count, in twelve cohorts and ten weeks of 30 cases, what happens in 30% of them and from week 6 on by a step more."""
    rate = np.full((12, 10), 0.3)
    rate[:, 6:] += step
    return np.random.default_rng(4).binomial(30, rate).astype(float), np.full((12, 10), 30.0)


def test_a_change_of_all_cohorts_is_seen_where_no_cohort_shows_it():
    """The same small step in twelve cohorts is found where it began; without a step nothing is."""
    assert points.strongest([stepped(0.07)]) in {5, 6, 7}
    assert points.strongest([stepped(0.0)]) is None


def test_a_point_of_change_is_rarely_found_where_nothing_changed():
    """Of 300 histories of equal weeks fewer than four have one; the level is one in a thousand."""
    rng = np.random.default_rng(5)
    size = np.full((6, 12), 80.0)
    found = [points.strongest([(rng.binomial(80, 0.2, (6, 12)).astype(float), size)]) for _ in range(300)]
    assert sum(one is not None for one in found) < 4


def test_a_gate_that_fails_in_one_cohort_is_not_named_in_another_column():
    """German requests go to both departments: departments without them are within budget, and only German is named."""
    cohorts = {
        "de": ((2000, 0.40, 0.05, 0.80), (2000, 0.10, 0.35, 0.80)),
        "en": ((900, 0.30, 0.04, 0.85), (900, 0.10, 0.30, 0.85)),
        "department=buy": ((1200, 0.38, 0.05, 0.81), (1200, 0.12, 0.32, 0.81)),
        "department=help": ((1100, 0.38, 0.05, 0.81), (1100, 0.12, 0.32, 0.81)),
    }
    german = (("language", "de"),)
    without = {((("department", name),), german): (6.0, 120.0) for name in ("buy", "help")}
    assert sure(known(cohorts, without=without))[0]["saturation"] == {"de", "en"}
    assert sure(known(cohorts))[0]["saturation"] == {"de", "en", "buy", "help"}


BOTH = {  # German and French fail, and half of each department is theirs
    "de": ((2000, 0.40, 0.05, 0.80), (2000, 0.10, 0.35, 0.80)),
    "fr": ((2000, 0.40, 0.05, 0.80), (2000, 0.10, 0.35, 0.80)),
    "en": ((4000, 0.30, 0.04, 0.85), (4000, 0.30, 0.04, 0.85)),
    "department=buy": ((4000, 0.35, 0.05, 0.82), (4000, 0.20, 0.19, 0.82)),
    "department=help": ((4000, 0.35, 0.05, 0.82), (4000, 0.20, 0.19, 0.82)),
}
LEFT = {
    ((("department", department),), (("language", code),)): (330.0, 2300.0)
    for department in ("buy", "help")
    for code in ("de", "fr")
}


def test_several_cohorts_together_explain_one_of_another_column():
    """A department is within budget without both languages that fail, and without either of them it is not."""
    assert sure(known(BOTH, without=LEFT))[0]["saturation"] == {"de", "fr"}
    assert sure(known(BOTH))[0]["saturation"] == {"de", "fr", "buy", "help"}


@pytest.mark.parametrize(("without", "named"), [(LEFT, ["de", "fr"]), ({}, ["buy", "de", "fr", "help"])])
def test_columns_that_only_mirror_what_failed_are_neither_named_nor_suspected(without, named):
    """Where both languages together explain the departments, nobody is sent there to look."""
    found = reading.read(known(BOTH, without=without))
    over = [sign for sign in found.signs if sign.over and sign.cohort]
    values = {sign: sign.cohort[0][1] for sign in over}
    assert sorted(values[sign] for sign in roots.apart(found, over)) == named
    assert sorted(values[sign] for sign in over if not roots.mirrored(found, sign)) == named


def test_answers_that_got_worse_in_one_cohort_are_said_to_have():
    """It is the gate that does not notice, whether answers got worse or confidences grew; which of them is evidence."""
    calm = ((4000, 0.3, 0.03, 0.85), (4000, 0.3, 0.03, 0.85))
    worse = {"en": calm, "pt": ((2000, 0.3, 0.04, 0.85), (2000, 0.3, 0.30, 0.66))}
    surer = {"en": calm, "pt": ((2000, 0.3, 0.04, 0.85), (2000, 0.05, 0.30, 0.85))}
    said = ["\n".join(tree.diagnose(known(one)).main.evidence) for one in (worse, surer)]
    assert [sure(known(one))[0] for one in (worse, surer)] == [{"saturation": {"pt"}}] * 2
    assert ["the answers themselves got worse" in one for one in said] == [True, False]


def test_shares_alone_that_break_the_budget_of_all_cases_are_other_traffic():
    """No cohort moved and the harder one grew: other traffic, by the audit; had it risen as well, the gate or the student."""
    mixed = known({"en": ((9000, 0.3, 0.02), (5000, 0.3, 0.02)), "pt": ((1000, 0.3, 0.09), (5000, 0.3, 0.09))},
                  budget=0.12, overall=0.04)  # fmt: skip
    main = tree.diagnose(mixed).main
    assert (main.name, main.cohorts[0], main.conclusive, main.test) == ("mix shift", PT, True, "audit")
    rose = known({"en": ((9000, 0.3, 0.02), (5000, 0.3, 0.02)), "pt": ((1000, 0.3, 0.04), (5000, 0.3, 0.09))},
                 budget=0.12, overall=0.04)  # fmt: skip
    assert not [cause for cause in tree.diagnose(rose).causes if cause.name == "mix shift" and cause.conclusive]


def test_other_traffic_that_breaks_the_budget_is_not_left_alone(weekly):
    """Found by the audit it asks for a gate that escalates more, and the command does not exit with 0."""
    found, golden = weekly
    broken = diagnosis.Cause("mix shift", "current", (PT,), True, "audit", "other traffic")
    [made] = treatments.for_cause(broken, found, golden("incident_saturated"))
    assert (made.kind, made.cohorts) == ("escalate more", ((),))
    quiet = replace(broken, test="gate")
    [left] = treatments.for_cause(quiet, found, golden("incident_saturated"))
    assert left.kind == "leave alone"
    code = importlib.import_module("cascade_eval.cli.diagnose").code
    assert [code([diagnosis.Diagnosis("current", (one,), ())]) for one in (broken, quiet)] == [1, 0]


def test_a_new_cohort_that_breaks_the_budget_of_all_cases_is_named():
    """It keeps its own budget, and all cases together do not keep theirs since it came."""
    arrived = known({"en": ((9000, 0.3, 0.02), (5000, 0.3, 0.02)), "pt": ((0, 0.3, 0.09), (5000, 0.3, 0.09))},
                    budget=0.12, overall=0.04)  # fmt: skip
    main = tree.diagnose(arrived).main
    assert (main.name, main.cohorts, main.conclusive) == ("uncovered cohort", (PT,), True)


def test_escalation_of_all_cohorts_is_seen_where_no_cohort_shows_it():
    """Six cohorts that each escalate a little more are all cases that do; other shares alone are not."""
    little = dict.fromkeys("abcdef", ((500, 0.3, 0.02), (500, 0.36, 0.02)))
    assert sure(known(little)) == ({"rising escalation": set()}, set())
    shares = {"a": ((2500, 0.20, 0.02), (500, 0.20, 0.02)), "b": ((500, 0.50, 0.02), (2500, 0.50, 0.02))}
    assert set(sure(known(shares))[0]) == {"mix shift"}


# --- money, signals, labels ----------------------------------------------------------------------------------------

CALM = {"en": ((4000, 0.3, 0.02), (4000, 0.3, 0.02))}


@pytest.mark.parametrize(
    ("last", "named"),
    [((0.8, 0.75, 0.85), True), ((0.44, 0.40, 0.48), False), (None, False)],
)
def test_a_price_that_rose_in_the_last_week_is_not_hidden_by_the_weeks_before(last, named):
    """Four weeks at 48% together keep a promise of 50%, and the last of them at 80% breaks it."""
    money = Money(0.48, 0.46, 0.50, (0.40, 0.38, 0.42), 0.50, last=last)
    assert ("cost creep" in sure(known(CALM, money=money))[0]) == named


def test_a_threshold_that_only_costs_too_much_comes_after_what_breaks_a_promise():
    """The cascade pays more than was promised, and a certified threshold would save: the promise leads."""
    frontier = Frontier("mini", 0.5, 0.05, 0.1, 0.2, 0.18, 0.22, None, 0.9, 0.7, True)
    money = Money(0.7, 0.68, 0.72, (0.7, 0.68, 0.72), 0.5)
    names = [cause.name for cause in causes.find(reading.read(known(CALM, frontier=frontier, money=money)))]
    assert names == ["cost creep", "threshold by feel"]


def test_a_cohort_whose_signals_were_lost_escalates_and_does_not_vanish():
    """Everything of it escalates: no rate is estimated, and its decisions are still decisions."""
    row = monitor.Row("s", "c", "production", "2026-W20", PT, decisions=50, escalated=50, escalation=None)
    counted = periods._period([row], ["2026-W20"])
    assert (counted.total("decisions"), counted.total("escalated")) == (50.0, 50.0)
    unknown = periods._period([replace(row, escalated=20)], ["2026-W20"])
    assert unknown.total("decisions") == 0.0
    lost = known({"en": ((4000, 0.3, 0.02), (4000, 0.3, 0.02)), "pt": ((900, 0.3, 0.02), (900, 1.0, 0.02))})
    assert sure(lost)[0] == {"rising escalation": {"pt"}}


def labelled(wrong_late, share, *, audited):
    """Eight weeks in which mini gives the flagship's answer, and labels of a share of the cases say which are wrong."""
    rng = np.random.default_rng(9)
    weeks = np.repeat(np.arange(8), 400)
    confidence = rng.random(len(weeks))
    wrong = rng.random(len(weeks)) < np.where(weeks < 4, 0.05, wrong_late)
    start = dt.datetime(2026, 3, 2, tzinfo=dt.UTC)
    moments = [
        start + dt.timedelta(weeks=int(w), hours=float(h))
        for w, h in zip(weeks, rng.random(len(weeks)) * 167, strict=True)
    ]
    drawn = rng.random(len(weeks)) < 0.2
    seen = (confidence < 0.3) | drawn if audited else np.ones(len(weeks), dtype=bool)
    columns = {
        "case_id": [f"c{i}" for i in range(len(weeks))],
        "decided_at": pa.array(moments, pa.timestamp("ms", "UTC")),
        "language": ["en"] * len(weeks),
        "expected": pa.array(np.where(wrong, "b", "a"), mask=rng.random(len(weeks)) >= share),
        "mini.answer": ["a"] * len(weeks),
        "mini.confidence": confidence,
        "flagship.answer": pa.array(["a"] * len(weeks), mask=~seen),
    }
    if audited:
        columns["audit_probability"] = pa.array(np.full(len(weeks), 0.2), mask=~(drawn & (confidence >= 0.3)))
    return traffic.from_frame(pa.table(columns))


@pytest.mark.parametrize(
    ("share", "audited", "what"),
    [(1.0, False, "of the flagship itself"), (0.3, False, "of the flagship itself"), (0.5, True, "that were served")],
)
def test_labels_of_some_cases_are_enough(share, audited, what, weekly):
    """The flagship's answers got worse: said by labels of a part of the cases, with or without its answers to all of them."""
    found, _ = weekly
    [worse] = diagnosis.run(found, labelled(0.25, share, audited=audited), treat=False)
    assert (worse.main.name, worse.main.conclusive) == ("moved past the cascade", True)
    assert any(what in sentence for sentence in worse.main.evidence)
    [same] = diagnosis.run(found, labelled(0.05, share, audited=audited), treat=False)
    assert same.main.name == "healthy"
