"""Choosing the threshold of a gate of a suite, with everything a reviewer asks for."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from cascade_eval import bounds, cohorts, replay, thresholds
from cascade_eval.errors import DataError, Problem, UsageError
from cascade_eval.proposals import gates, rates, samples
from cascade_eval.proposals.nouns import Part, Threshold
from cascade_eval.replay.decisions import settles
from cascade_eval.suite import sketches
from cascade_eval.thresholds import selection

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cascade_eval.proposals.gates import AtGate
    from cascade_eval.proposals.nouns import Rate
    from cascade_eval.suite import Suite
    from cascade_eval.traffic import Traffic
    from cascade_eval.verdicts import Estimate

WALKS: Final = len(selection.STARTS)
"""Walks of a selection, which share its allowed error."""


def threshold(
    suite: Suite,
    traffic: Traffic,
    *,
    at_most: float,
    cascade: str | None = None,
    tier: str | None = None,
    per: Sequence[str] = (),
    delta: float = 0.1,
    joint: bool = False,
    now: dt.datetime | None = None,
) -> Threshold:
    """Propose the threshold that keeps most among those whose disagreement is certified.

    Parameters
    ----------
    suite
        Cascades, agreement, cohorts and floors; its budgets and baseline are not looked at.
    traffic
        Cases with the flagship's answers, of escalated cases too.
    at_most
        Largest disagreement to allow, between 0 and 1.
    cascade, tier
        Whose gate; the first cascade and its only gated tier unless given.
    per
        Cohort columns: the threshold has to be certified in each of K cohorts, each at `delta` / K.
    delta
        Chance to be wrong, below one half.
    joint
        Certify kept and disagreeing cases among all traffic instead; it promises less.
    now
        When it is made; the present by default.

    Returns
    -------
    Threshold

    Raises
    ------
    UsageError
        Unknown names, a gate of several signals, or data that cannot be used.

    Notes
    -----
    A case at the gate without a known comparison counts as disagreeing, and where fewer are known than the suite's
    `audited`, nothing is certified: cases that were compared need not be like the others. Sampling weights, audit
    probabilities and clusters are made into equal, independent cases by drawing among them by keyed hash.

    Examples
    --------
    >>> from cascade_eval import runs
    >>> from cascade_eval.suite import load
    >>> found = load("suites/digits.cascade.yaml")
    >>> made = threshold(found, runs.open(found).traffic, at_most=0.05)
    >>> made.tier, made.threshold is not None, made.kept.nobs > 100
    ('linear', True, True)
    """
    if not 0 < at_most < 1 or not 0 < delta < 0.5:
        raise UsageError("the target lies between 0% and 100%, and delta between 0% and 50%.")
    at = gates.at(suite, traffic, cascade, tier, per)
    harm: Literal["disagreement", "joint"] = "joint" if joint else "disagreement"
    sample = samples.Sample.of(at, joint=joint)
    if len(sample.values) == 0:
        raise DataError(
            [Problem(f"no case reaches the gate of '{at.tier.name}', so nothing can choose it", traffic.name)]
        )
    why = samples.unfit(at.replay.decisions, at.agrees[at.frame] >= 0, suite)
    parts, chosen, bound = _parts(at, sample, at_most, delta, harm, why)
    value = None if chosen is None else gates.shortest(chosen, at.compared.dtype)
    moved = None if value is None else _moved(at, value)
    after = None if moved is None else gates.estimated(moved)
    kept = _kept(at, sample, value, suite)
    return Threshold(
        suite.name, at.cascade.name, at.tier.name, gates.signal(at.leaf), at_most, delta, harm, tuple(per), value,
        at.leaf.threshold, parts, kept[0] if kept else None, bound, after, at.replay.escalation.value, kept[1:],
        at.columns.batch.cases, int(at.frame.sum()), int((at.frame & (at.agrees >= 0)).sum()), len(sample.values),
        traffic.name, traffic.sha256(), now or dt.datetime.now(dt.UTC), tuple(_notes(at, sample, joint=joint, moved=moved)),
        sketches.of(traffic, at.leaf.signal, at.tier.model),
    )  # fmt: skip


def _parts(
    at: AtGate,
    sample: samples.Sample,
    at_most: float,
    delta: float,
    harm: Literal["disagreement", "joint"],
    why: str | None,
) -> tuple[tuple[Part, ...], float | None, float | None]:
    """Choose overall or in each cohort, and the threshold that keeps most among those certified in all of them."""
    surer = at.leaf.surer
    whole = thresholds.select(sample.values, sample.disagrees, at_most=at_most, delta=delta, surer=surer, harm=harm)
    found = {cohorts.label((), ()): whole}
    if at.groups.family:
        group = at.groups.codes[sample.rows]
        # A cohort no case was drawn of is certified nowhere, and must not be forgotten.
        here = np.unique(at.groups.codes[at.read])
        # One grid for all, taken from values alone, so that one threshold can be certified in every cohort.
        grid = [step.threshold for step in whole.steps]
        found = {
            cohorts.label(at.groups.family, at.groups.members[k]): thresholds.select(
                sample.values[group == k],
                sample.disagrees[group == k],
                at_most=at_most,
                delta=delta / len(here),
                surer=surer,
                harm=harm,
                grid=grid,
            )
            for k in here
        }
    parts = tuple(_part(label, selection, why) for label, selection in sorted(found.items()))
    steps = list(zip(*(selection.steps for selection in found.values()), strict=True))
    shared = [each for each in steps if all(step.certified for step in each)]
    if why is not None or not shared:
        return parts, None, None
    bound = max(_bound(one, step) for one, step in zip(found.values(), shared[-1], strict=True))
    return parts, shared[-1][0].threshold, bound


def _bound(found: thresholds.Selection, step: thresholds.Step) -> float:
    """Bound the harm of a step at the error its test was allowed, so that it is within the target where it passed."""
    nobs = found.nobs if found.harm == "joint" else step.kept
    _, high = bounds.rate([step.disagreeing], [nobs], confidence=1 - found.delta / WALKS)
    return float(high[0])


def _part(label: str, found: thresholds.Selection, why: str | None) -> Part:
    if why is not None or found.step is None:
        needed = None if why is not None else found.needed
        return Part(label, found.delta, found.nobs, None, 0, 0, None, why or found.reason, needed)
    step = found.step
    bound = _bound(found, step)
    return Part(label, found.delta, found.nobs, found.threshold, step.kept, step.disagreeing, bound, found.reason)


def _moved(at: AtGate, value: float) -> Estimate:
    """Predict escalation by replaying all cases."""
    cascade = gates.moved(at.cascade, {at.position: value})
    return replay.run(cascade, at.columns, at.columns.rules, context=at.context).escalation


def _kept(at: AtGate, sample: samples.Sample, value: float | None, suite: Suite) -> tuple[Rate, ...]:
    """Count the disagreement of kept cases overall and by cohort, the worst first."""
    if value is None:
        return ()
    kept = settles(replace(at.leaf, threshold=value), at.compared[sample.rows]) & at.read[sample.rows]
    rows, bad = sample.rows[kept], sample.disagrees[kept]
    return rates.by_cohort(at.columns, at.families, rows, bad, suite.confidence)


def _notes(at: AtGate, sample: samples.Sample, *, joint: bool, moved: Estimate | None) -> Iterator[str]:
    yield "These cases chose the threshold and prove nothing about it: judge it on others."
    if moved is not None and moved.value is None:
        yield f"Escalation at this threshold is unknown: {moved.reason}."
    if sample.of_cases > len(sample.values):
        yield (
            f"{len(sample.values):,} of {sample.of_cases:,} cases are counted, so that each stands for as many and is "
            "independent of the others."
        )
    unknown = int((at.frame & (at.agrees < 0)).sum())
    if unknown:
        yield f"{unknown:,} cases at the gate have no known comparison and count as disagreeing."
    if at.leaf.calibrate is not None and at.leaf.calibrate.file is None:
        yield (
            "The calibration is a recipe fitted out of fold on these very cases, so the guarantee is approximate: store "
            "one fitted on other data for an exact one."
        )
    if joint:
        yield "Joint harm counts kept and disagreeing cases among all traffic: it promises less than disagreement."
    if sum(tier.gate is not None for tier in at.cascade.tiers) > 1:
        yield "The other gates stay as they are; choosing one of them changes which cases come here."
