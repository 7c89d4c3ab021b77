"""Plan and draw: what an audit promises before anything is asked."""

from __future__ import annotations

import hashlib
import json

import audit_windows as made
import numpy as np
import pyarrow as pa
import pytest
from audit_windows import NOW, PRIOR, SIZES, SUITE, drawn, evaluated, planned, refused

from cascade_eval import audit, bounds, traffic
from cascade_eval.cascade import Cascade

# --- plan ---------------------------------------------------------------------------------------------------------


def test_a_plan_pays_every_floor_it_can():
    """Each cohort gets the calls that decide it, the rest goes where the overall rate needs it, and it says what it costs."""
    plan = planned(made.table(SIZES))
    en, fr = plan.strata
    assert (en.floor, fr.floor) == (89, bounds.cases_to_decide(0.25, 0.1, family=2))
    assert en.decided
    assert fr.decided
    assert plan.calls == 200
    assert plan.usd_per_call == 0.01
    assert plan.spend == pytest.approx(2.0)
    assert plan.shortfalls == ()
    assert en.chance >= 0.8
    assert plan.overall.needed is not None


def test_the_price_is_that_of_recorded_calls():
    """In production the flagship's price is known from escalated cases."""
    plan = planned(made.seen_in_production(made.table(SIZES)))
    assert (plan.usd_per_call, plan.price_from) == (0.01, "mean of 20 calls in this window")


@pytest.mark.parametrize(
    ("caps", "calls"), [({"usd": 1.5}, 150), ({"usd": 1.5, "cases": 120}, 120), ({"cases": 180}, 180)]
)
def test_both_caps_hold(caps, calls):
    """The plan stays within the cases and within the dollars."""
    plan = planned(made.table(SIZES), **{"cases": None, **caps})
    assert plan.calls == calls
    assert plan.usd is None or plan.spend <= plan.usd + 1e-9


def test_a_plan_says_what_it_cannot_decide():
    """A cohort without its floor is named with the calls, the dollars and, where the window is too short, how long it must be."""
    plan = planned(made.table({"en": 1000, "fr": 300, "nl": 20}), prior=PRIOR)
    [sentence] = plan.shortfalls
    assert sentence.startswith("language=nl: 89 calls ($0.89) would decide it, and it gets")
    assert "This window has 20 such cases: take one 4.5 times as long" in sentence


def test_a_rate_on_its_budget_is_never_decided():
    """An expected rate at the budget has no floor, and the plan says so."""
    plan = planned(made.table(SIZES), prior={"language=en": 0.1, "language=fr": 0.25})
    assert plan.strata[0].floor is None
    assert "over 100,000 calls would be needed" in plan.shortfalls[0]


def test_without_a_prior_the_plan_says_what_it_assumed():
    """A cohort without an earlier rate is expected to use three tenths of its budget."""
    plan = planned(made.table(SIZES), prior={"language=fr": (3, 60)})
    en, fr = plan.strata
    assert (en.prior, en.prior_from) == (pytest.approx(0.03), "three tenths of its budget, for want of an earlier rate")
    assert fr.prior == pytest.approx(3.5 / (60 + 0.5 / 0.03))
    assert fr.prior_from == "3 of 60 before"


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ({"cases": None}, ("an audit needs a cap",)),
        ({"cases": 0}, ("at least one case",)),
        ({"prior": {"language=en": 3}}, ("the prior of 'language=en' is 3",)),
        ({"per": ["topic"]}, ("no budget says how much 'topic=(none)' may disagree",)),
        ({"usd_per_call": 0.0}, ("costs more than nothing",)),
        (
            {"cases": 40, "prior": {"language=en": 0.03, "language=fr": 0.05}},
            (
                "40 calls decide no cohort",
                "91 calls ($0.91) decide one cohort, with 2 for each other; 292 ($2.92) decide all.",
                "language=fr: 203 calls ($2.03) would decide it",
            ),
        ),
    ],
)
def test_plans_that_are_refused(options, parts):
    """What cannot be planned, or would decide nothing, is an error that says what it would take."""
    refused(lambda: planned(made.table(SIZES), **options), *parts)


def test_dollars_need_a_price():
    """A cap in dollars without any known price is refused; in cases it is not."""
    cases = made.table(SIZES).drop(["big.cost_usd"])
    refused(lambda: planned(cases, cases=None, usd=5), "no call of 'big' of known cost", "usd_per_call")
    assert planned(cases).spend is None
    assert planned(cases, cases=None, usd=5, usd_per_call=0.05).calls == 100


def test_a_window_without_unescalated_cases_is_refused():
    """Where everything was escalated there is nothing to audit."""
    refused(lambda: planned(made.table({"en": 0})), "escalated every case")


def test_a_window_of_unknown_paths_is_refused():
    """Where paths are unknown nobody can say what was not escalated."""
    cases = made.table(SIZES).drop(["mini.confidence"])
    refused(lambda: planned(cases), "0 of 1,320 cases have a known path")
    refused(lambda: audit.plan([], made.promised(), cases=5), "there is none")


def test_the_strictest_line_counts():
    """A cohort named in a line of its own keeps the stricter of both promises."""
    lines = made.promised(("each language", "at most 10%"), ("language=fr", "at most 5%"))
    plan = audit.plan(made.window(made.table(SIZES)), lines, cases=500)
    assert [each.limit for each in plan.strata] == [0.1, 0.05]


def test_small_cohorts_are_pooled_as_in_the_suite():
    """Cohorts below the suite's size are one stratum, counted as the suite counts them, escalated cases included."""
    cases = made.table({"en": 1000, "fr": 300, "nl": 45, "pt": 60})
    plan = planned(cases, at_least={"language": 60}, prior={})
    found = {each.label: each.unescalated for each in plan.strata}
    assert found == {"language=en": 1000, "language=fr": 300, "language=pt": 60, "language=(other)": 45}
    pooled = evaluated(traffic.from_frame(cases), SUITE.replace("[language]", "{language: {at least: 60 cases}}"))
    assert {v.cohort.get("language"): v.estimate.nobs for v in pooled.verdicts if v.cohort} == {
        label.removeprefix("language="): size for label, size in found.items()
    }
    sample = drawn(cases, plan)
    assert {"language": "(other)"} in [stratum.cohort for stratum in sample.strata]


def test_a_plan_survives_its_file(tmp_path):
    """What was written is what is read, and nothing else is taken for a plan."""
    plan = planned(made.table(SIZES), prior={**PRIOR, "language=xx": 0.5})
    file = tmp_path / "plan.json"
    file.write_text(json.dumps(plan.record()))
    assert audit.load_plan(file) == plan
    assert "the prior of 'language=xx' is not used" in plan.notes[0]
    for text, part in (
        ("{}", "is not an audit plan"),
        ("[", "is not an audit plan"),
        ('{"schema": "x"}', "schema 'x'"),
    ):
        file.write_text(text)
        refused(lambda: audit.load_plan(file), part)
    refused(lambda: audit.load_plan(tmp_path / "none.json"), "cannot be read")


def test_pieces_plan_and_read_as_the_whole():
    """A window cut into batches gives the same plan, sample and reading."""
    whole = made.table(SIZES, 0.1)
    parts = made.pieces(whole, 97)
    plan = audit.plan(parts, made.promised(), cases=200, prior=PRIOR, now=NOW)
    assert plan == planned(whole)
    opened = traffic.from_frame(whole)
    sample = audit.sample(plan, parts[::-1], opened, seed=1, now=NOW)
    assert sample.ids == drawn(whole, plan).ids
    readings = [audit.read(sample, opened, of, made.promised(), now=NOW) for of in (parts, made.window(whole))]
    assert readings[0].record() == readings[1].record()


# --- sample -------------------------------------------------------------------------------------------------------


def test_a_sample_is_what_its_rule_says():
    """Of each cohort the unescalated cases with the smallest keyed hashes, one by one."""
    whole = made.table(SIZES)
    sample = drawn(whole, seed="week-3")
    key = hashlib.blake2b(b"week-3").digest()
    number = lambda name: hashlib.blake2b(name.encode(), digest_size=8, key=key).digest()  # noqa: E731  the rule
    rows = [row for row in whole.to_pylist() if row["mini.confidence"] >= 0.8]
    for stratum in sample.strata:
        mine = sorted((row["case_id"] for row in rows if row["language"] == stratum.cohort["language"]), key=number)
        assert set(mine[: stratum.cases]) == {i for i in sample.ids if i.startswith(stratum.cohort["language"])}
    assert sample.ids == sorted(sample.ids, key=number)


def test_order_changes_nothing_and_seeds_change_everything():
    """Shuffled cases give the same sample; another seed another one."""
    whole = made.table(SIZES)
    shuffled = whole.take(np.random.default_rng(0).permutation(len(whole)))
    assert drawn(shuffled).ids == drawn(whole).ids
    assert drawn(whole, seed=2).ids != drawn(whole).ids


def test_a_larger_sample_contains_a_smaller_one():
    """More calls of the same seed add cases, and take none away."""
    whole = made.table(SIZES)
    small, large = (set(drawn(whole, planned(whole, cases=n)).ids) for n in (150, 400))
    assert small < large


def test_every_case_has_its_chance():
    """Over 400 seeds each of 40 cases is drawn as often as its probability says, within five standard deviations."""
    whole = made.table({"en": 40}, escalated=3)
    opened = traffic.from_frame(whole, name="window")
    replayed = made.window(opened)
    plan = audit.plan(replayed, made.promised(("overall", "at most 50%")), cases=20)
    found = np.zeros(40)
    for seed in range(400):
        sample = audit.sample(plan, replayed, opened, seed=seed, now=NOW)
        assert sample.cases == len(set(sample.ids)) == 20
        found[[int(name.removeprefix("en-")) for name in sample.ids]] += 1
    spread = np.sqrt(400 * 0.5 * 0.5)
    assert np.abs(found - 400 * 0.5).max() < 5 * spread
    assert sample.probability.tolist() == [0.5] * 20


def test_escalated_and_cached_cases_are_never_drawn():
    """A census draws every unescalated case, and nothing else."""
    whole = made.table(SIZES)
    cached = pa.array([number < 100 for number in range(len(whole))])
    whole = whole.append_column("cached", cached)
    sample = drawn(whole, planned(whole, cases=5000))
    kept = {r["case_id"] for r in whole.to_pylist() if r["mini.confidence"] >= 0.8 and not r["cached"]}
    assert set(sample.ids) == kept
    assert len(sample.ids) == 1200
    assert set(sample.probability.tolist()) == {1.0}


@pytest.mark.parametrize("name", ["sample.parquet", "sample.jsonl"])
def test_a_sample_survives_its_file_and_is_traffic(tmp_path, name):
    """What was written is what is read; the file is traffic in which the flagship has not been asked yet."""
    sample = drawn(made.seen_in_production(made.table(SIZES)))
    file = sample.write(tmp_path / name)
    back = audit.load(file)
    assert (back.ids, back.strata, back.model, back.drawn_at) == (sample.ids, sample.strata, "big", NOW)
    assert back.probability.tolist() == sample.probability.tolist()
    opened = traffic.open(file)
    assert set(opened.models) == {"mini", "big"}
    assert (opened.read().status("big") == traffic.ABSENT).all()
    assert opened.read().text(None, "input", 0).startswith("question ")
    assert list(tmp_path.iterdir()) == [file]


def test_a_changed_sample_is_refused(tmp_path):
    """A sample with a row missing, a probability changed, or of another kind of file is no sample."""
    whole = made.table(SIZES)
    sample = drawn(whole)
    file = sample.write(tmp_path / "sample.jsonl")
    lines = file.read_text().splitlines()
    file.write_text("\n".join(lines[1:]))
    refused(lambda: audit.load(file), "rows were removed, added or changed")
    changed = json.loads(lines[0]) | {"audit_probability": 0.9}
    file.write_text("\n".join([json.dumps(changed), *lines[1:]]))
    refused(lambda: audit.load(file), "'audit_probability' was changed")
    file.write_text(json.dumps({"case_id": "a", "mini.answer": "b"}))
    refused(lambda: audit.load(file), "is not a sample of an audit: it has no column 'audit_stratum'")
    refused(lambda: sample.write(tmp_path / "sample.csv"), "ends in .parquet or .jsonl")


def test_samples_that_are_refused():
    """A judge that is a tier, a cohort nobody planned, an audit of an audit, another cascade."""
    whole = made.table(SIZES)
    plan = planned(whole)
    for judge in ("mini", "big"):
        refused(lambda judge=judge: drawn(whole, plan, judge=judge), f"'{judge}' judges", "grade itself")
    assert drawn(whole, plan, judge="critic").judge == "critic"
    refused(lambda: drawn(made.table({**SIZES, "pt": 5}), plan), "knows nothing of language=pt")
    refused(lambda: drawn(made.table({"en": 0, "fr": 0}), plan), "none of the plan's cohorts")
    audited = whole.append_column("audit_probability", pa.array([0.5] * len(whole)))
    refused(lambda: drawn(audited, plan), "declares an audit already")
    other = made.window(whole, cascade=Cascade("other", made.CASCADE.tiers))
    refused(lambda: audit.sample(plan, other, traffic.from_frame(whole), seed=1), "the plan is for 'current'")
