"""Attempts to draw an audit's sample again until it pleases."""

from __future__ import annotations

import audit_windows as made
from audit_windows import SIZES

from cascade_eval import audit, traffic
from cascade_eval.cli.audit import _seed


def drawn(whole, plan, seed=None):
    """Draw a sample by the plan's own seed, or by another."""
    opened = traffic.from_frame(whole)
    return audit.sample(plan, made.window(opened), opened, seed=seed, now=made.NOW)


def test_of_a_window_there_is_one_sample_whatever_is_spent_on_it():
    """A plan made again has the same seed, one for more calls draws more cases, and another window has another."""
    whole = made.table(SIZES)
    small, again, large = (made.planned(whole, cases=cases) for cases in (150, 150, 200))
    assert small.seed == again.seed == large.seed != made.planned(made.table({**SIZES, "en": SIZES["en"] + 1})).seed
    assert set(drawn(whole, small).ids) == set(drawn(whole, again).ids) < set(drawn(whole, large).ids)
    assert drawn(whole, small).seed == small.seed


def test_a_reading_says_where_another_seed_was_chosen():
    """Nobody can tell how many samples were drawn, but that this one was not the plan's own can be told."""
    whole = made.table(SIZES)
    plan = made.planned(whole)
    for seed, other in ((None, False), (plan.seed, False), ("7", True)):
        sample = drawn(whole, plan, seed)
        read = audit.read(sample, made.answers(sample, whole), made.window(whole), made.promised(), now=made.NOW)
        assert (read.seed != read.planned_seed) is other
        assert read.record()["planned_seed"] == plan.seed
        assert ("not by its plan's own" in _seed(read)) is other


def test_answers_that_were_copied_from_what_was_served_are_questioned():
    """Of a few hundred answers some differ; a column filled in from the wrong model has none that does."""
    whole = made.table(SIZES, {"en": 0.02, "fr": 0.02})
    sample = drawn(whole, made.planned(whole))
    served = dict(zip(sample.ids, sample.batch.arrow("mini", "answer").to_pylist(), strict=True))
    copied = traffic.from_records([{"case_id": name, "big.answer": answer} for name, answer in served.items()])
    for answers, questioned in ((copied, True), (made.answers(sample, whole), False)):
        read = audit.read(sample, answers, made.window(whole), made.promised(), now=made.NOW)
        said = f"the flagship agrees in all {sample.cases} cases: make sure that the answers are its own"
        assert (said in " ".join(read.findings)) is questioned
