"""Proposals for both thresholds of three tiers: what is certified, shown, refused and written."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from proposal_cases import SUITE, cases, laid_out

from cascade_eval import cli, proposals, runs, suite, thresholds

__all__ = ["laid_out"]  # a fixture


THREE = SUITE.replace(
    "    - {tier: fl",
    "    - {tier: middle, model: mid, gate: {signal: confidence, threshold: 0.9}}  # by feel, too\n    - {tier: fl",
)


def staged(size=6000, *, seed=2, wrong=(0.35, 0.15)):
    """Two models, each with a confidence of its own; prices 1, 3 and 20."""
    frame = cases(size, seed=seed, wrong=wrong[0])
    rng = np.random.default_rng(seed + 1)
    confidence = rng.random(size).round(4)
    return frame.assign(
        **{
            "mid.confidence": confidence,
            "mid.answer": np.where(rng.random(size) >= wrong[1] * (1 - confidence), "yes", "no"),
            "mini.cost_usd": 0.001,
            "mid.cost_usd": 0.003,
            "big.cost_usd": 0.02,
        }
    )


def of_pair(frame, pair):
    """Kept cases and disagreeing ones, in plain pandas."""
    first = frame["mini.confidence"] >= pair[0]
    second = ~first & (frame["mid.confidence"] >= pair[1])
    wrong = (first & frame["mini.answer"].ne("yes")) | (second & frame["mid.answer"].ne("yes"))
    return first | second, wrong


def test_a_pair_is_what_select_pair_certifies_and_dominates_what_is_in_use(laid_out, capsys):
    """The pair is that of `thresholds.select_pair`; kept cases, cost and escalation are counted as pandas counts them."""
    frame = staged()
    found = laid_out(frame, THREE)
    made = proposals.pair(found, runs.open(found).traffic, at_most=0.10)
    wrong = frame[["mini.answer", "mid.answer"]].ne("yes").to_numpy()
    prices = np.tile([1.0, 4.0, 24.0], (len(frame), 1))
    alone = thresholds.select_pair(
        frame[["mini.confidence", "mid.confidence"]].to_numpy(), wrong, at_most=0.10, costs=prices
    )
    assert made.thresholds == alone.thresholds
    kept, bad = of_pair(frame, made.thresholds)
    assert (made.kept.count, made.kept.nobs) == (int(bad.sum()), int(kept.sum()))
    assert made.kept.rate < made.bound <= 0.10
    assert made.escalation[0] == pytest.approx(1 - kept.mean())
    first = frame["mini.confidence"] >= made.thresholds[0]
    assert made.cost[0] == pytest.approx((1 + 3 * (~first).mean() + 20 * (1 - kept.mean())) / 20)
    by_hand = {name: int((bad & (frame["language"] == name)).sum()) for name in ("en", "fr")}
    assert {one.cohort: one.count for one in made.slices} == {f"language={name}": n for name, n in by_hand.items()}
    assert cli.run(["threshold", "s.cascade.yaml", "--disagreement", "at most 10%", "--both", "-o", "p.md"]) == 0
    said = capsys.readouterr().out
    assert f"thresholds: {made.thresholds[0]} and {made.thresholds[1]} (now 0.5 and 0.9)" in said
    assert "pairs no other pair beats" in said
    assert "thresholds:" in Path("p.md").read_text()


def test_the_front_of_a_proposal_is_beaten_by_no_pair(laid_out):
    """Along the front cost rises and disagreement falls, and each point is what its pair does."""
    frame = staged(2000)
    found = laid_out(frame, THREE)
    front = proposals.pair(found, runs.open(found).traffic, at_most=0.10).front
    assert len(front) > 5
    assert all(a.cost < b.cost and a.disagreement > b.disagreement for a, b in itertools.pairwise(front))
    for point in front[:: max(1, len(front) // 5)]:
        kept, bad = of_pair(frame, point.thresholds)
        assert point.disagreement == pytest.approx(bad.sum() / kept.sum())
        assert point.escalation == pytest.approx(1 - kept.mean())
        assert point.high > point.disagreement


def test_a_pair_in_every_cohort(laid_out):
    """With --per the pair is certified in each cohort, keeps less, and one hopeless cohort leaves none."""
    frame = staged(8000)
    found = laid_out(frame, THREE)
    overall = proposals.pair(found, runs.open(found).traffic, at_most=0.10)
    each = proposals.pair(found, runs.open(found).traffic, at_most=0.10, per=["language"])
    assert [part.delta for part in each.parts] == [0.05, 0.05]
    assert all(part.bound <= 0.10 for part in each.parts)
    assert sum(part.kept for part in each.parts) == each.kept.nobs < overall.kept.nobs
    frame.loc[frame["language"] == "fr", ["mini.answer", "mid.answer"]] = "no"
    found = laid_out(frame, THREE)
    none = proposals.pair(found, runs.open(found).traffic, at_most=0.10, per=["language"])
    assert (none.thresholds, none.kept, none.escalation) == (None, None, None)
    assert "no pair is certified in language=fr" in none.reason
    assert len(none.front) > 1


def test_both_thresholds_are_written_and_their_data_proves_nothing_then(laid_out):
    """Either gate gets its threshold and a sketch of its cases, comments stay; nothing certified writes nothing and exits with 3."""
    found = laid_out(staged(), THREE)
    assert cli.run(["threshold", "s.cascade.yaml", "--disagreement", "at most 10%", "--both", "--write"]) == 0
    tiers = suite.load("s.cascade.yaml").cascades[0].tiers
    made = proposals.pair(found, runs.open(found).traffic, at_most=0.10)
    assert (tiers[0].gate.threshold, tiers[1].gate.threshold) == made.thresholds
    assert tuple(tier.gate.chosen_on for tier in tiers[:2]) == made.chosen_on
    assert "# by feel, too" in Path("s.cascade.yaml").read_text()
    [verdict] = runs.evaluate(suite.load("s.cascade.yaml")).verdicts
    assert "was chosen on this data" in verdict.reason
    laid_out(staged(60), THREE)
    assert cli.run(["threshold", "s.cascade.yaml", "--disagreement", "at most 5%", "--both", "--write"]) == 3
    assert suite.load("s.cascade.yaml").cascades[0].tiers[0].gate.threshold == 0.5


def test_labels_that_are_missing_never_certify_a_pair(laid_out):
    """Few unknown comparisons count as disagreeing; with many nothing is certified, and the front stays."""
    frame = staged(3000)
    frame.loc[:19, "big.answer"] = None
    found = laid_out(frame, THREE)
    made = proposals.pair(found, runs.open(found).traffic, at_most=0.10)
    assert "20 cases at the gates" in " ".join(made.notes)
    frame.loc[:149, "big.answer"] = None
    found = laid_out(frame, THREE)
    wrong = frame[["mini.answer", "mid.answer"]].ne("yes").to_numpy() | frame[["big.answer"]].isna().to_numpy()
    value = frame[["mini.confidence", "mid.confidence"]].to_numpy()
    assert thresholds.select_pair(value, wrong, at_most=0.20).thresholds is not None, "the labels alone would do"
    made = proposals.pair(found, runs.open(found).traffic, at_most=0.20)
    assert (made.thresholds, made.kept, made.escalation) == (None, None, None)
    assert "were compared with the flagship, below 99%" in made.reason


def test_where_the_second_tier_was_not_asked_there_is_no_front_and_the_way_out_is_said(laid_out, capsys):
    """Production asks the second tier about what comes to it: pairs of those cases alone would speak of harder ones."""
    frame = staged(3000)
    kept = frame["mini.confidence"] >= 0.5
    frame.loc[kept, ["mid.answer", "mid.confidence", "mid.cost_usd"]] = [None, np.nan, np.nan]
    found = laid_out(frame, THREE)
    made = proposals.pair(found, runs.open(found).traffic, at_most=0.10)
    assert (made.thresholds, made.front) == (None, ())
    assert "choose one gate at a time by --tier: production asks 'middle' only about what comes to it" in made.reason
    assert cli.run(["threshold", "s.cascade.yaml", "--disagreement", "at most 10%", "--both"]) == 3
    out = capsys.readouterr().out
    assert not [word for word in ("front", "Costs are unknown") if word in out]


def test_unknown_costs_are_said_and_escalation_stands_in(laid_out):
    """Without costs the pair that escalates least is taken, and the front is of escalation."""
    frame = staged(3000).drop(columns=["mini.cost_usd", "mid.cost_usd", "big.cost_usd"])
    found = laid_out(frame, THREE)
    made = proposals.pair(found, runs.open(found).traffic, at_most=0.10)
    assert made.thresholds is not None
    assert (made.cost[0], made.cost_now) == (None, None)
    assert "escalates least" in " ".join(made.notes)
    assert all(a.escalation < b.escalation for a, b in itertools.pairwise(made.front))


def test_a_cascade_of_another_shape_has_no_pair(laid_out, capsys):
    """Two tiers are refused with where they stand; three tiers without --tier are told of --both."""
    laid_out(cases(60))
    assert cli.run(["threshold", "s.cascade.yaml", "--disagreement", "at most 5%", "--both"]) == 4
    assert "s.cascade.yaml:3: 'current' has no pair of thresholds" in capsys.readouterr().err
    laid_out(staged(60), THREE)
    assert cli.run(["threshold", "s.cascade.yaml", "--disagreement", "at most 5%"]) == 4
    assert "--both tries pairs of thresholds" in capsys.readouterr().err
