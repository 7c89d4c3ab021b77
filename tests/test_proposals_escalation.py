"""Proposals for a share to escalate: what is met, and what ties and missing values make of it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from proposal_cases import SUITE, cases, laid_out

from cascade_eval import cli, proposals, runs, suite, thresholds
from cascade_eval.errors import UsageError

__all__ = ["laid_out"]  # a fixture


def test_a_share_to_escalate_is_met_or_what_is_missing_is_said(laid_out, capsys):
    """Without ties a plain gate escalates what was asked for, and every figure is that of the replayed suite."""
    frame = cases()
    made = proposals.escalation(laid_out(frame), runs.open(suite.load("s.cascade.yaml")).traffic, at=0.30)
    escalates = frame["mini.confidence"] < made.threshold
    assert made.plain == pytest.approx(escalates.mean())
    assert made.plain == pytest.approx(0.30, abs=0.001)
    assert made.escalation[0] == pytest.approx(escalates.mean())
    assert made.disagreement[0] == pytest.approx((frame["mini.answer"] != "yes")[~escalates].mean())
    assert made.split == pytest.approx(0.30)
    assert not any("plain gate" in note for note in made.notes)
    command = ["threshold", "s.cascade.yaml", "--escalation", "30%", "--write", "-o", "p.json"]
    assert cli.run(command) == 0
    assert "escalate 30% of the cases at this gate" in capsys.readouterr().out
    assert json.loads(Path("p.json").read_text())["threshold"] == made.threshold
    gate = suite.load("s.cascade.yaml").cascades[0].tiers[0].gate
    assert (gate.threshold, gate.chosen_on) == (made.threshold, None)


def test_ties_that_miss_the_target_are_said_with_what_to_do(laid_out):
    """Rounded to tenths a plain gate is points short: the proposal says so, names the next value and the share to split."""
    frame = cases()
    frame["mini.confidence"] = frame["mini.confidence"].round(1)
    made = proposals.escalation(laid_out(frame), runs.open(suite.load("s.cascade.yaml")).traffic, at=0.30)
    assert made.threshold == 0.3
    below, tied = (frame["mini.confidence"] < 0.3).mean(), (frame["mini.confidence"] == 0.3).mean()
    assert (made.plain, made.tied) == (pytest.approx(below), pytest.approx(tied))
    assert made.share == pytest.approx((0.30 - below) / tied)
    said = " ".join(made.notes)
    assert f"escalates {below:.1%} instead of 30%; at the next value, 0.4, it escalates {below + tied:.1%}" in said
    assert "never by chance" in said
    found = thresholds.Target(0.30, made.threshold, made.share, made.missing, made.plain, made.tied, key=made.key)
    split = found.escalates(frame["mini.confidence"], frame["case_id"])
    assert split.mean() == pytest.approx(0.30, abs=0.015)


def test_missing_values_count_towards_the_share(laid_out):
    """Cases without a value escalate whatever the threshold; where they are more than the share, that is said."""
    frame = cases()
    frame.loc[frame.index % 2 == 0, "mini.confidence"] = np.nan
    found = laid_out(frame)
    traffic = runs.open(found).traffic
    some = proposals.escalation(found, traffic, at=0.60)
    assert (some.missing, some.plain) == (0.5, pytest.approx(0.60, abs=0.001))
    over = proposals.escalation(found, traffic, at=0.30)
    assert over.plain == 0.5
    assert "30% cannot be met" in " ".join(over.notes)
    assert any(line.startswith("no value: 50%") for line in proposals.lines(over))


@pytest.mark.parametrize(
    ("change", "part"),
    [
        (("threshold: 0.5  # by feel", "threshold: 0.5\n        calibrate: platt"), "compares a calibrated value"),
        (("signal: confidence", "signal: nothing"), "has a value of nothing"),
    ],
)
def test_what_has_no_quantile_is_refused(laid_out, change, part):
    """A calibrated gate, and a signal that nobody has."""
    found = laid_out(cases(200, **{"mini.nothing": np.nan}), SUITE.replace(*change))
    with pytest.raises(UsageError, match=part):
        proposals.escalation(found, runs.open(found).traffic, at=0.30)


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        ([], "say either --disagreement 'at most 5%' or --escalation '30%'"),
        (["--escalation", "30%", "--disagreement", "at most 5%"], "say either"),
        (["--escalation", "30"], "'30' is no share between 0% and 100%. Write it like '30%'"),
        (["--escalation", "100%"], "'100%' is no share"),
        (
            ["--disagreement", "at most 5%", "--delta", "0.1"],
            "'0.1' is no share between 0% and 100%. Write it like '10%'",
        ),
        (["--disagreement", "at most 5%", "--delta", "100%"], "--delta: '100%' is no share"),
        (
            ["--escalation", "30%", "--per", "language", "--delta", "5%"],
            "--per, --delta: has no meaning with --escalation",
        ),
        (["--disagreement", "at most 5%", "--both", "--tier", "mini"], "--tier: has no meaning with --both"),
    ],
)
def test_options_that_do_not_go_together(laid_out, capsys, arguments, part):
    """What is asked for twice, not at all, or for nothing is exit code 4 with what to write."""
    laid_out(cases(60))
    assert cli.run(["threshold", "s.cascade.yaml", *arguments]) == 4
    assert part in capsys.readouterr().err
