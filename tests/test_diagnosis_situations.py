"""Situations a diagnosis could name wrongly, as counts or as cases: each law beside its opposite."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import situations

from cascade_eval import diagnosis, monitor, suite, traffic
from cascade_eval.diagnosis import measuring, points, reading, tree
from cascade_eval.diagnosis.facts import CohortFacts, Facts, Feedback, Frontier, Period

BEFORE = ("2026-W10", "2026-W11", "2026-W12", "2026-W13")
NOW = ("2026-W14", "2026-W15", "2026-W16", "2026-W17")


def period(cases, escalated, disagreed, agrees=None):
    """Four equal weeks with these shares; the flagship answered every case, or no unescalated one where `disagreed` is None."""
    decisions, kept = np.full(4, cases / 4), np.full(4, cases * (1 - escalated) / 4)
    none = np.zeros(4)
    compared = none if disagreed is None else kept
    wrong = none if disagreed is None else kept * disagreed
    size = none if agrees is None else decisions
    return Period(
        decisions, decisions, decisions * escalated, compared, wrong, compared, wrong, size, size * (agrees or 0.0)
    )


def known(cohorts, *, budget=0.10, overall=0.20, **rest):
    """Facts of cohorts given as {label: (before, now)}, all cases first; labels are values of `language` or `column=value`."""
    made = []
    for name, (before, now) in cohorts.items():
        column, _, value = name.rpartition("=")
        made.append(CohortFacts(((column or "language", value),), budget, False, period(*before), period(*now)))
    first = [one for one in made if one.family == made[0].family]
    whole = CohortFacts(
        (), overall, False, *(total([getattr(one, side) for one in first]) for side in ("before", "now"))
    )
    return Facts("current", ("mini", "big"), 0.95, (*BEFORE, *NOW), BEFORE, NOW, (whole, *made), **rest)


def total(periods):
    """Add periods up."""
    names = Period.__dataclass_fields__
    return Period(*(np.sum([getattr(one, name) for one in periods], axis=0) for name in names))


def sure(facts):
    """Conclusive causes with their cohorts, and the names of those suspected."""
    found = tree.diagnose(facts).causes
    return {one.name: {value for c in one.cohorts for _, value in c} for one in found if one.conclusive}, {
        one.name for one in found if not one.conclusive
    }


# --- worse answers, or a gate that keeps more ----------------------------------------------------------------------

UNEQUAL = {  # cases, escalated, disagreement of what is kept, agreement of mini over all cases
    "en": ((2000, 0.30, 0.060, 0.86), (2000, 0.30, 0.210, 0.64)),
    "de": ((400, 0.15, 0.050, 0.92), (400, 0.15, 0.090, 0.85)),
    "pt": ((800, 0.20, 0.050, 0.90), (800, 0.20, 0.130, 0.79)),
}


def test_a_student_that_drifts_unequally_is_no_gate_that_saturates():
    """Cohorts get worse by factors from 2 to 4, and the least of them is not spared."""
    named, _ = sure(known(UNEQUAL))
    assert named == {"student drift": {"en", "pt"}}


def test_the_same_rates_with_answers_as_good_as_before_are_the_gate():
    """The gate keeps what it used to escalate, and mini agrees as often over all cases."""
    kept = {name: (before, (cases, 0.02, wrong, before[3])) for name, (before, (cases, _, wrong, _)) in UNEQUAL.items()}
    named, _ = sure(known(kept))
    assert named == {"saturation": {"en", "pt"}}


def test_one_small_cohort_of_many_that_looks_spared_spares_nobody():
    """Among seven small cohorts one is lucky: by itself it would look spared, and drift would be a gate that fails."""
    small = {f"s{i}": ((100, 0.1, 0.07, 0.9), (200, 0.1, 0.15, 0.8)) for i in range(6)}
    small["lucky"] = ((100, 0.1, 0.10, 0.88), (200, 0.1, 0.06, 0.86))
    named, _ = sure(known({**UNEQUAL, **small}))
    assert set(named) == {"student drift"}


def test_new_cases_that_make_another_column_worse_are_no_student():
    """A language nobody calibrated for goes to every channel; other languages are as they were."""
    new = {
        "en": ((3000, 0.2, 0.04), (2600, 0.2, 0.04)),
        "de": ((1000, 0.2, 0.04), (900, 0.2, 0.04)),
        "pt": ((0.0, 0.0, None), (500, 0.02, 0.40)),
        "channel=web": ((2400, 0.2, 0.04), (2400, 0.18, 0.09)),
        "channel=mail": ((1600, 0.2, 0.04), (1600, 0.18, 0.09)),
    }
    named, _ = sure(known(new, budget=0.12))
    assert named == {"uncovered cohort": {"pt"}}


def test_a_large_cohort_that_rose_a_little_is_not_spared():
    """With ten thousand cases a rise by a third is certain, and small beside the others; it is a rise all the same."""
    large = {**UNEQUAL, "de": ((10_000, 0.15, 0.050, 0.92), (10_000, 0.15, 0.066, 0.90))}
    assert set(sure(known(large))[0]) == {"student drift"}


def test_a_cohort_that_nearly_rose_belongs_to_the_drift():
    """Where every cohort got worse, one whose escalation fell by chance has no cause of its own."""
    nearly = {**UNEQUAL, "fr": ((176, 0.271, 0.091), (238, 0.180, 0.170))}
    fr = {sign.label: sign for sign in reading.read(known(nearly)).signs}["language=fr"]
    assert (fr.over, fr.rose, fr.fell) == (True, False, True)
    assert set(sure(known(nearly))[0]) == {"student drift"}


def test_one_gate_that_fails_beside_one_worse_cohort_is_no_student():
    """Two rises in two columns of the same cases, one of them the gate's alone: nothing got worse everywhere."""
    two = {
        "en": ((2600, 0.06, 0.040, 0.94), (2600, 0.005, 0.056, 0.94)),
        "de": ((400, 0.14, 0.065, 0.89), (400, 0.14, 0.080, 0.88)),
        "pt": ((1200, 0.28, 0.090, 0.81), (1200, 0.28, 0.130, 0.77)),
        "channel=web": ((4200, 0.13, 0.055, 0.90), (4200, 0.10, 0.080, 0.88)),
    }
    assert len(reading.spread(reading.read(known(two)))) == 3
    assert not sure(known(two))[0].keys() & {"student drift"}


def test_a_drift_that_one_cohort_makes_is_none():
    """Two languages, one of them clearly worse and the other perhaps, and two intents that mirror it: not every cohort."""
    one = {
        "de": ((155, 0.15, 0.015, 0.96), (270, 0.03, 0.29, 0.69)),
        "en": ((192, 0.31, 0.008, 0.95), (383, 0.31, 0.034, 0.93)),
        "intent=refund": ((204, 0.27, 0.011, 0.95), (381, 0.25, 0.097, 0.89)),
        "intent=status": ((134, 0.22, 0.008, 0.96), (274, 0.15, 0.212, 0.79)),
    }
    assert "student drift" not in sure(known(one))[0]
    both = {**one, "en": (one["en"][0], (383, 0.31, 0.15, 0.81))}
    assert "student drift" in sure(known(both))[0]


def test_a_cohort_that_rose_by_next_to_nothing_is_spared():
    """English went from 1.9% to 3.1%, at the edge of chance, while German went from 5.5% to 33%: it is German alone."""
    edge = {
        "de": ((549, 0.30, 0.055, 0.883), (1811, 0.18, 0.327, 0.60)),
        "en": ((1546, 0.15, 0.019, 0.963), (4671, 0.15, 0.031, 0.949)),
        "intent=cancel": ((615, 0.21, 0.029, 0.928), (2000, 0.17, 0.162, 0.788)),
        "intent=refund": ((743, 0.16, 0.016, 0.964), (2241, 0.15, 0.062, 0.909)),
        "intent=status": ((737, 0.22, 0.038, 0.932), (2244, 0.15, 0.114, 0.850)),
    }
    assert sure(known(edge, budget=0.20))[0] == {"saturation": {"de"}}


def test_cohorts_that_are_spared_together_leave_no_drift():
    """Two of four got worse; neither of the others has cases enough by itself to show that it did not."""
    half = {
        "en": ((966, 0.17, 0.030), (1048, 0.20, 0.128)),
        "pt": ((2670, 0.36, 0.036), (3235, 0.34, 0.145)),
        "de": ((400, 0.43, 0.030), (496, 0.44, 0.035)),
        "fr": ((400, 0.22, 0.043), (400, 0.18, 0.050)),
    }
    assert "student drift" not in sure(known(half))[0]
    assert "student drift" in sure(known({name: half[name] for name in ("en", "pt")}))[0]


def test_of_many_cohorts_wrong_from_the_start_one_rises_by_chance():
    """Eleven languages at 16% of a budget of 10%, and a twelfth that seems to have risen: no gate of its own failed there."""
    always = {f"l{i}": ((2400, 0.25, 0.16), (8000, 0.25, 0.16)) for i in range(11)}
    lucky = {**always, "pl": ((217, 0.25, 0.08), (955, 0.25, 0.17))}
    assert sure(known(lucky))[0] == {"threshold by feel": set(always)}
    fewer = {"en": ((4000, 0.25, 0.03), (4000, 0.25, 0.03)), "pl": lucky["pl"]}
    assert sure(known(fewer))[0]["saturation"] == {"pl"}


def test_a_cohort_that_was_mended_is_no_rising_escalation():
    """It was over its budget, escalates more since and is within it: a note. Never over it, it only costs more."""
    others = {"en": ((1500, 0.2, 0.03), (1500, 0.2, 0.03))}
    found = tree.diagnose(known({**others, "pt": ((900, 0.05, 0.20), (900, 0.3, 0.04))}))
    assert found.main.name == "healthy"
    assert any("language=pt: escalation rose" in note and "is within it now" in note for note in found.notes)
    assert "rising escalation" in sure(known({**others, "pt": ((900, 0.05, 0.04), (900, 0.3, 0.04))}))[0]


def test_one_cohort_beside_spared_ones_has_saturated():
    """Where another cohort with cases enough did not rise, it is this cohort's gate, whatever is known of all cases."""
    one = {
        "en": ((2000, 0.2, 0.05), (2000, 0.2, 0.05)),
        "pt": ((900, 0.3, 0.06), (900, 0.02, 0.21)),
    }
    assert sure(known(one))[0] == {"saturation": {"pt"}}


def test_without_earlier_answers_escalation_tells_the_gate_from_the_student():
    """Disagreement rose in every cohort and agreement over all cases is unknown: the gate keeps more, or it does not."""
    rose = {"en": ((1500, 0.3, 0.05), (1500, 0.05, 0.15)), "pt": ((900, 0.3, 0.06), (900, 0.02, 0.17))}
    flat = {name: (before, (now[0], 0.3, now[2])) for name, (before, now) in rose.items()}
    assert set(sure(known(rose))[0]) == {"saturation"}
    assert set(sure(known(flat))[0]) == {"student drift"}


@pytest.mark.parametrize(("escalated", "name"), [(0.02, "saturation"), (0.29, None)], ids=["fell", "did not"])
def test_audits_that_began_late_decide_with_escalation(escalated, name):
    """Over budget now and never compared before: named where the cohort clearly escalates less, else not at all."""
    late = {
        "en": ((2000, 0.2, None), (2000, 0.2, 0.04)),
        "pt": ((900, 0.3, None), (900, escalated, 0.20)),
    }
    named, _ = sure(known(late))
    assert named == ({name: {"pt"}} if name else {})


def test_a_cohort_always_over_budget_that_escalates_a_little_less_was_wrong_at_launch():
    """A wobble of escalation and of disagreement, neither by itself beyond chance, is no saturation."""
    wobble = {
        "en": ((1500, 0.2, 0.03), (1500, 0.2, 0.03)),
        "pt": ((900, 0.22, 0.15), (900, 0.155, 0.155)),
    }
    assert sure(known(wobble))[0] == {"threshold by feel": {"pt"}}


# --- a judge nobody watches ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("to", [3.0, 0.2], ids=["strict", "lenient"])
def test_a_judge_nobody_watches_leaves_the_cause_open(to):
    """Agreement that moves everywhere at once is the judge or the answers; neither is named, and nothing is healthy."""
    moved = {
        name: ((1500, 0.2, wrong, 0.85), (1500, 0.2, wrong * to, 0.85 - 0.8 * wrong * (to - 1)))
        for name, wrong in (("en", 0.05), ("pt", 0.055))
    }
    blind = known(moved, rests_on_judge="agreement")
    found = tree.diagnose(blind)
    assert found.main.name == "not enough evidence"
    assert not any(one.conclusive for one in found.causes)
    assert "verifier regression" in sure(blind)[1]
    watched = replace(blind, asked_again=frozenset({"judge"}))
    assert tree.diagnose(watched).main.name == ("student drift" if to > 1 else "healthy")


# --- other traffic, and what it explains ---------------------------------------------------------------------------


def test_another_mix_of_one_column_is_no_rise_of_escalation_in_another():
    """Portuguese grows and goes to the web; where languages are as they were, the web escalates more for that alone."""
    mix = {
        "en": ((3000, 0.10, 0.03), (2000, 0.10, 0.03)),
        "pt": ((1000, 0.40, 0.05), (2000, 0.40, 0.05)),
        "channel=web": ((4000, 0.175, 0.035), (4000, 0.25, 0.04)),
    }
    assert set(sure(known(mix))[0]) == {"mix shift"}
    alone = {**mix, "en": (mix["en"][0], (3000, 0.10, 0.03)), "pt": (mix["pt"][0], (1000, 0.40, 0.05))}
    assert sure(known(alone))[0] == {"rising escalation": {"web"}}


def test_all_cases_that_disagree_more_by_other_traffic_are_no_gate_that_failed():
    """English grew, nothing inside got worse, and one language happens to escalate less: the whole has not saturated."""
    mixed = {
        "de": ((900, 0.33, 0.032), (480, 0.20, 0.010)),
        "en": ((1500, 0.28, 0.117), (3300, 0.25, 0.119)),
        "pt": ((630, 0.28, 0.025), (360, 0.20, 0.015)),
    }
    firm, suspected = sure(known(mixed, budget=0.13, overall=0.08))
    assert "saturation" not in firm
    assert tree.diagnose(known(mixed, budget=0.13, overall=0.08)).main.name == "not enough evidence"
    assert "saturation" in suspected


def test_a_threshold_is_not_called_needlessly_strict_where_a_cohort_would_pay_for_it():
    """A certified threshold that breaks a cohort's promise, or weeks in which something moved, prove nothing."""
    calm = {"en": ((1500, 0.4, 0.02), (1500, 0.4, 0.02)), "pt": ((900, 0.4, 0.03), (900, 0.4, 0.03))}
    frontier = Frontier("mini", 0.5, 0.05, 0.05, 0.1, 0.09, 0.11, None, 0.9, 0.5)
    assert set(sure(known(calm, frontier=frontier))[0]) == {"threshold by feel"}
    assert set(sure(known(calm, frontier=replace(frontier, kept=False)))[0]) == {"healthy"}
    fell = {**calm, "pt": (calm["pt"][0], (900, 0.02, 0.04))}
    assert "threshold by feel" not in sure(known(fell, frontier=frontier))[0]


def test_a_certified_threshold_is_held_against_the_promise_to_each_cohort():
    """A threshold certified overall at which one language is over its own budget does not keep the promises."""
    world = made(7, easy=np.array([0.95, 0.3]), shares=np.array([0.9, 0.1]), threshold=0.95, budgets=(0.08, 0.10))
    table = situations.table(world)
    found = suite.parse(situations.text(world), file="made.cascade.yaml", base=Path())
    [facts] = measuring.measure(found, traffic.from_frame(table))
    frame = table.to_pandas()
    kept = frame[(frame.language == "pt") & (frame["mini.confidence"] >= facts.frontier.threshold)]
    assert (kept["mini.answer"] != kept["big.answer"]).mean() > 0.10
    assert not facts.frontier.kept
    loose = suite.parse(
        situations.text(world).replace("each language: at most 10%", "each language: at most 60%"),
        file="made.cascade.yaml",
        base=Path(),
    )
    assert measuring.measure(loose, traffic.from_frame(table))[0].frontier.kept


# --- from cases ----------------------------------------------------------------------------------------------------


def made(seed, **change):
    """Draw a healthy world of two languages and change it."""
    rng = np.random.default_rng(seed)
    world = situations.world(rng)
    world.cohorts, world.shares, world.easy = ("en", "pt"), np.array([0.7, 0.3]), np.array([0.7, 0.7])
    world.weeks, world.cases, world.change, world.audited, world.budgets = 8, 900, 4, 1.0, (0.08, 0.15)
    for name, value in change.items():
        setattr(world, name, value)
    return world


def measured(world, *, text=None, table=None, rows=()):
    """Facts of a world, with its suite or cases swapped."""
    found = suite.parse(text or situations.text(world), file="made.cascade.yaml", base=Path())
    cases = traffic.from_frame(situations.table(world) if table is None else table)
    [facts] = measuring.measure(found, cases, rows=rows, certify=False)
    return facts


def test_cases_routed_to_the_flagship_are_no_overhead():
    """More traffic of a routed language costs more, and nothing more is paid beside the flagship."""
    world = made(2, shares_after=np.array([0.4, 0.6]))
    tiers = situations.text(world).partition("current:\n")[2].partition("agreement")[0].replace("    - ", "      - ")
    start, _, rest = situations.text(world).partition("    - {tier: mini")
    text = f"{start}    routes:\n      - {{when: {{language: [pt]}}, start: big}}\n    tiers:\n{tiers}agreement{rest.partition('agreement')[2]}"
    facts = measured(world, text=text)
    assert facts.money.ratio > facts.money.before[0] + 0.15
    assert facts.money.overhead == pytest.approx(facts.money.overhead_before, abs=0.03)
    assert "cost creep" not in {cause.name for cause in tree.diagnose(facts).causes}


@pytest.mark.parametrize("declared", [True, False], ids=["audit", "holes"])
def test_agreement_over_all_cases_needs_unescalated_ones(declared):
    """Weeks in which the flagship saw escalated cases alone say nothing about all cases."""
    world = made(3, audited=0.7)
    table = situations.table(world)
    late = np.repeat(np.arange(world.weeks), world.cases) >= world.change
    drawn = ~np.isnan(table["audit_probability"].to_numpy(zero_copy_only=False)) & ~late
    for name in ("big.answer", "big.cost_usd", "big.output_tokens", "audit_probability"):
        column = pa.compute.if_else(pa.array(drawn), pa.scalar(None, table[name].type), table[name])
        table = table.set_column(table.column_names.index(name), name, column)
    if not declared:
        table = table.drop_columns(["audit_probability"])
    [sign] = [one for one in reading.read(measured(world, table=table)).signs if not one.cohort]
    assert sign.cheap.size_before == 0
    assert (sign.cheap.size > 0) == declared


def test_a_judge_set_that_moved_weeks_ago_has_moved_although_the_last_week_alone_would_not_show_it():
    """Four weeks at 82% and a last one at 89% are a judge that moved; back at 97% it has come back."""
    world = made(4, judged=True)
    rates = (0.97, 0.97, 0.97, 0.82, 0.81, 0.82, 0.83)
    moved = {}
    for last in (0.89, 0.97):
        rows = [
            monitor.Row(
                "made", "current", "judge", f"2026-W{10 + i}", (), cases=200, agreed=round(200 * r), answered=200
            )
            for i, r in enumerate((*rates, last))
        ]
        moved[last] = bool(measured(world, rows=rows).fixed)
    assert moved == {0.89: True, 0.97: False}


def test_a_judge_set_of_small_weeks_has_moved_by_all_of_them():
    """Weeks of 100 from 94% to 84%, none of which differs enough by itself; and nothing where the rate stays."""
    world = made(4, judged=True, judge_moves=True)
    for after, expected in ((84, True), (93, False)):
        rows = [
            monitor.Row(
                "made",
                "current",
                "judge",
                f"2026-W{10 + i}",
                (),
                cases=100,
                agreed=94 if i < 4 else after,
                answered=100,
            )
            for i in range(8)
        ]
        facts = measured(world, rows=rows)
        assert not monitor.judge(rows, ()).alarms
        assert bool(facts.fixed) == expected
        assert (tree.diagnose(facts).main.name == "verifier regression") == expected


def test_questions_asked_again_are_compared_with_the_history_too():
    """Earlier weeks known only as rows of a history are the reference for what users did."""
    world = made(5, asked_again=(0.05, 0.15))
    table = situations.table(world)
    early = np.repeat(np.arange(world.weeks), world.cases) < world.change
    found = suite.parse(situations.text(world), file="made.cascade.yaml", base=Path())
    rows = monitor.weekly(found, traffic.from_frame(table.filter(pa.array(early))))
    late = table.filter(pa.array(~early))
    whole, parted = measured(world, table=table), measured(world, table=late, rows=rows)
    [one] = parted.feedback
    assert isinstance(one, Feedback)
    assert parted.feedback == whole.feedback
    assert one.low > 0.05
    [said] = diagnosis.run(found, traffic.from_frame(late), rows=rows, treat=False)
    assert [cause.name for cause in said.causes] == ["moved past the cascade"]


def test_an_alarm_from_the_first_weeks_on_did_not_begin():
    """A threshold that was wrong from the start has four weeks of reference, and is named for that."""
    world = made(6, threshold=0.3, budgets=(0.05, 0.08), audited=0.3, cases=600)
    facts = measured(world)
    assert facts.overall.alarm == facts.windows[1]
    assert len(facts.before) == 4
    assert tree.diagnose(facts).main.name == "threshold by feel"


def test_weeks_that_scatter_have_no_point_of_change():
    """Five weeks of two cohorts that scatter three times more than by chance show a point in next to no draw."""
    rng = np.random.default_rng(9)
    found = 0
    for _ in range(300):
        rates = rng.beta(0.2 * 60, 0.8 * 60, (2, 5))
        found += points.strongest([(rng.binomial(200, rates), np.full((2, 5), 200))]) is not None
    assert found <= 3
