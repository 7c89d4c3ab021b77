"""Laws of replaying and counting that hold whatever the cascade and the cases are."""

from __future__ import annotations

import itertools
import os
from dataclasses import replace
from pathlib import Path

import generated
import hypothesis.strategies as st
import numpy as np
import oracle
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, assume, given, settings

from cascade_eval import agreement, costs, metrics, replay, thresholds, traffic
from cascade_eval.cascade import All, AnyOf, Cascade, Leaf, Signal, Tier
from cascade_eval.suite import survey
from cascade_eval.traffic import Batch, Field

SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large]
settings.register_profile("law", max_examples=40, deadline=None, suppress_health_check=SLOW)
settings.register_profile("thorough law", settings.get_profile("law"), max_examples=1_000)
some = settings.get_profile("thorough law" if os.environ.get("HYPOTHESIS_PROFILE") == "thorough" else "law")


# Thresholds


def escalate_more(gate, step):
    """Move every threshold so that no leaf settles more."""
    if isinstance(gate, Leaf):
        return replace(gate, threshold=gate.threshold + (step if gate.surer == "higher" else -step))
    return replace(gate, gates=tuple(escalate_more(inner, step) for inner in gate.gates))


@some
@given(generated.scenarios(), st.integers(0, 2), st.sampled_from([1e-9, 0.25, 1.0]))
def test_a_gate_that_escalates_more_never_takes_a_case_from_the_flagship(scenario, position, step):
    """Whatever gate escalates more, no case that reached the flagship is settled by a cheaper tier."""
    cascade = scenario.cascade
    last = len(cascade.tiers) - 1
    assume(position < last)
    tiers = list(cascade.tiers)
    tiers[position] = replace(tiers[position], gate=escalate_more(tiers[position].gate, step))
    columns = replay.Columns(scenario.batch(), generated.RULES)
    before = replay.decide(cascade, columns).settled
    after = replay.decide(replace(cascade, tiers=tuple(tiers)), columns).settled
    assert not np.any((before == last) & (after >= 0) & (after < last))
    assert np.all(after[(before >= 0) & (after >= 0)] >= before[(before >= 0) & (after >= 0)])


# Counts add


PRICES = costs.parse({"flagship": {"input": "$1", "output": "$8"}})
PRICED = replace(generated.RULES, prices=PRICES)


def same_tables(one, other, *, clusters=True):
    """Expect the same tables bit by bit; a table that is not there is a table of zeros."""
    other = other.align(one.members)
    for name in {*one.arrays, *other.arrays}:
        left, right = one.arrays.get(name), other.arrays.get(name)
        if left is None or right is None:
            assert not np.any(left if right is None else right), name
        else:
            np.testing.assert_array_equal(left, right, err_msg=name)
            assert left.dtype == right.dtype, name
    if clusters:
        assert {name: as_rows(one.clusters[name]) for name in one.clusters} == {
            name: as_rows(other.clusters[name]) for name in other.clusters
        }


def as_rows(clusters):
    return sorted(
        zip(*(getattr(clusters, name).tolist() for name in ("member", "cluster", "state", "weight")), strict=True)
    )


def tally(cascade, batch, rules=generated.RULES):
    columns = replay.Columns(batch, rules)
    return replay.tally(cascade, replay.decide(cascade, columns), columns, generated.FAMILY, limits=(0.5, 2.0))


@some
@given(generated.scenarios(most=14), st.sampled_from([1, 2, 7]), st.randoms())
def test_counts_of_partitions_add_up_to_the_whole(scenario, pieces, chance):
    """Any cut into 1, 2 or 7 pieces, added in any order, gives the tables of the whole bit by bit."""
    batch = scenario.batch()
    owner = np.array([chance.randrange(pieces) for _ in range(batch.cases)])
    parts = [tally(scenario.cascade, batch.take(np.flatnonzero(owner == piece))) for piece in range(pieces)]
    parts = [part for part in parts if part.members]
    chance.shuffle(parts)
    same_tables(tally(scenario.cascade, batch), sum(parts[1:], parts[0]))


@some
@given(generated.scenarios(most=10), st.randoms())
def test_shuffling_the_cases_changes_nothing(scenario, chance):
    """The order of rows is not data."""
    batch = scenario.batch()
    order = list(range(batch.cases))
    chance.shuffle(order)
    same_tables(tally(scenario.cascade, batch), tally(scenario.cascade, batch.take(np.array(order, dtype=np.int64))))


def test_flagship_calls_that_are_missing_in_one_piece_only_are_estimated_from_all():
    """Always-flagship is estimated from every recorded call, also of pieces in which none is missing."""
    batch = priced_batch()
    cascade = two_tiers()
    whole = tally(cascade, batch, PRICED)
    parts = [tally(cascade, batch.take(np.array(rows)), PRICED) for rows in ([0, 1], [2, 3])]
    same_tables(whole, parts[0] + parts[1])
    context = metrics.Context(("mini", "flagship"), leaves=("confidence of mini",))
    estimate = metrics.estimates(metrics.find("cost"), whole, context)[0]
    # Mini's two cases settled without a flagship row: 100 and 300 input tokens at $1 and a mean of (8 + 24) / 2 out.
    flagship = (100 * 1 + 10 * 8) + (300 * 1 + 30 * 8) + (100 + 300 + 2 * 20 * 8)
    assert estimate.value == pytest.approx((4 * 1_000 + 180_000 + 540_000) / (flagship * 1_000))
    assert estimate.blocked
    assert "50.0%" in estimate.reason


def priced_batch():
    """Two cases escalated with recorded tokens, two settled for which the flagship was never asked."""
    number = {Field("mini", "confidence"): [0.1, 0.2, 0.9, 0.9], Field("mini", "cost_usd"): [1e-6] * 4}
    tokens = {
        Field("mini", "input_tokens"): [100, 300, 100, 300],
        Field("flagship", "input_tokens"): [100, 300, None, None],
        Field("flagship", "output_tokens"): [10, 30, None, None],
    }
    status = {Field("mini", "status"): [0, 0, 0, 0], Field("flagship", "status"): [0, 0, -1, -1]}
    return Batch(
        4,
        {Field(None, "case_id"): pa.array(list("abcd")), Field(None, "language"): pa.array(["en"] * 4)}
        | {
            Field("mini", "answer"): pa.array(list("xxxx")),
            Field("flagship", "answer"): pa.array(["x", "x", None, None]),
        }
        | {field: pa.array(values, pa.float64()) for field, values in number.items()}
        | {field: pa.array(values, pa.int64()) for field, values in tokens.items()}
        | {field: pa.array(values, pa.int8()) for field, values in status.items()},
    )


# Weights


@some
@given(
    generated.recordings(most=12, weights=False, clusters=False),
    generated.cascades(),
    st.sampled_from([0.25, 1.0, 8.0]),
)
def test_equal_weights_are_no_weights(recorded, cascade, weight):
    """Cases that all weigh the same give the very counts, values and bounds of cases without weights."""
    heavy = replace(
        recorded,
        cases=[{**case, "weight": weight} for case in recorded.cases],
        columns=recorded.columns | {(None, "weight")},
    )
    plain, weighted = (generated.Scenario(cascade, each) for each in (recorded, heavy))
    for name in ("escalation", "disagreement", "cost", "cost per request", "retention", "timeouts"):
        one, other = (replay.run(cascade, each.batch(), generated.RULES).estimate(name) for each in (plain, weighted))
        assert (one.count, one.nobs, one.blocked) == (other.count, other.nobs, other.blocked), name
        if one.estimated:  # calls that were not recorded are estimated in whole nano-dollars, weighted or not
            continue
        for expected, found in zip((one.value, one.low, one.high), (other.value, other.low, other.high), strict=True):
            assert found == (None if expected is None else pytest.approx(expected, nan_ok=True)), name


# Confidence


@pytest.mark.parametrize(("kept", "wrong"), [(29, 0), (60, 3), (100, 5), (160, 8), (203, 13), (400, 20)])
@pytest.mark.parametrize("limit", [0.03, 0.05, 0.1, 0.2])
def test_more_confidence_never_turns_inconclusive_into_pass(kept, wrong, limit):
    """Once a verdict is undecided, asking for more confidence leaves it undecided."""
    batch = settled_batch(kept, wrong)
    outcomes = []
    for confidence in (0.8, 0.9, 0.95, 0.99, 0.999):
        context = metrics.Context(("mini", "flagship"), confidence=confidence)
        outcomes.append(
            (replay.run(two_tiers(), batch, generated.RULES, context=context).disagreement <= limit).outcome
        )
    changes = [key for key, _ in itertools.groupby(outcomes)]
    assert changes in (["pass"], ["fail"], ["inconclusive"], ["pass", "inconclusive"], ["fail", "inconclusive"])


def settled_batch(kept, wrong):
    """Cases that a cheaper tier settled, some of which the flagship answers differently."""
    return Batch(
        kept,
        {
            Field(None, "case_id"): pa.array([f"case {i}" for i in range(kept)]),
            Field("mini", "confidence"): pa.array([1.0] * kept),
            Field("mini", "answer"): pa.array(["a"] * kept),
            Field("flagship", "answer"): pa.array(["b"] * wrong + ["a"] * (kept - wrong)),
            Field("mini", "status"): pa.array([0] * kept, pa.int8()),
            Field("flagship", "status"): pa.array([0] * kept, pa.int8()),
        },
    )


def two_tiers(threshold=0.5):
    gate = Leaf(Signal("confidence"), threshold=threshold)
    return Cascade("two", (Tier("mini", "mini", gate), Tier("flagship", "flagship")))


# Slices


@some
@given(generated.scenarios(most=12))
def test_a_slice_of_a_replay_is_the_replay_of_the_slice(scenario):
    """Cohorts, unescalated and escalated cases of a replay count as if only they had been replayed."""
    batch = scenario.batch()
    whole = replay.run(scenario.cascade, batch, generated.RULES)
    known = batch.has(None, "language")
    for part in (*(whole.cohorts("language") if known else ()), whole.unescalated, whole.escalated):
        if len(part):
            alone = replay.run(scenario.cascade, batch.take(part.chosen), generated.RULES)
            same_tables(alone.counts(), part.counts())
            assert str(alone.escalation) == str(part.escalation)


# Sweeps


@st.composite
def sweepable(draw):
    """Draw a cascade of two or three tiers with one gate to move: alone or a named leaf among others."""
    moved = Leaf(
        draw(st.sampled_from([Signal("confidence"), Signal("margin"), Signal("judge", {"model": "judge"})])),
        threshold=draw(st.sampled_from(generated.GRID)),
        surer=draw(st.sampled_from(["higher", "lower"])),
    )
    named = replace(moved, name="moved")
    other = st.lists(generated.leaf(), min_size=1, max_size=2)
    before, after = draw(other), draw(other)
    gate = draw(
        st.sampled_from(
            [
                moved,
                moved,
                All((*before, named)),
                AnyOf((named, *after)),
                All((*before, AnyOf((*after, named)), before[0])),
            ]
        )
    )
    others = [Tier("first", "mini", draw(generated.gates()), draw(st.sampled_from([None, 1.0])), draw(st.booleans()))]
    tiers = [*(others if draw(st.booleans()) else []), Tier("moved", "small", gate, None, draw(st.booleans()))]
    return Cascade("swept", (*tiers, Tier("top", "flagship")), draw(generated.routes(["moved", "top"])))


def with_threshold(cascade, threshold):
    def moved(gate):
        if isinstance(gate, Leaf):
            return replace(gate, threshold=threshold) if gate.name == "moved" or gate is alone else gate
        return replace(gate, gates=tuple(moved(inner) for inner in gate.gates))

    position = cascade.position("moved")
    alone = cascade.tiers[position].gate
    tiers = list(cascade.tiers)
    tiers[position] = replace(tiers[position], gate=moved(alone))
    return replace(cascade, tiers=tuple(tiers))


def ratio(numerator, denominator):
    return float(numerator / denominator) if denominator else None


def number(value):
    return None if np.isnan(value) else float(value)


@some
@given(sweepable(), generated.recordings(most=14))
def test_a_sweep_at_a_threshold_is_the_replay_with_that_threshold(cascade, recorded):
    """Escalation, disagreement and cost at every distinct value are exactly what the oracle counts there."""
    batch = generated.Scenario(cascade, recorded).batch()
    curve = thresholds.sweep(replay.run(cascade, batch, generated.RULES), "moved")
    for i, threshold in enumerate(curve.thresholds.tolist()):
        counts = oracle.tally(with_threshold(cascade, threshold), recorded)[()]
        found = counts.weighted
        assert number(curve.escalation[i]) == ratio(found["escalated"], found["decided"])
        compared = found["sampled agree"] + found["sampled disagree"]
        assert number(curve.disagreement[i]) == ratio(found["sampled disagree"], compared)
        assert curve.kept[i] == compared
        if not found["resolved"] - found["cost paired"] and found["decided"]:
            assert number(curve.cost[i]) == ratio(found["cost of paired"], found["flagship cost of paired"])
        elif found["resolved"] - found["cost paired"] > 0.01 * found["decided"]:
            assert np.isnan(curve.cost[i])


@some
@given(sweepable(), generated.recordings(least=2, most=14))
def test_a_sweep_tries_every_distinct_value_in_order(cascade, recorded):
    """Every value a case has is a threshold, from the one that keeps most to the one that escalates most."""
    columns = replay.Columns(generated.Scenario(cascade, recorded).batch(), generated.RULES)
    curve = thresholds.sweep(replay.run(cascade, columns, generated.RULES), "moved")
    place = next(place for place in thresholds.places(cascade) if place.tier.name == "moved")
    values = columns.value(place.tier, place.number, place.leaf)
    distinct = sorted(set(values[~np.isnan(values)].tolist()), reverse=place.leaf.surer == "lower")
    assert curve.thresholds.tolist() == distinct
    escalation = curve.escalation[~np.isnan(curve.escalation)]
    complete = not any(case["models"].get("small") is None for case in recorded.cases)
    assert not complete or np.all(np.diff(escalation) >= 0) or len(cascade.tiers) > 2 or cascade.routes


def test_sweeps_of_one_slice_after_the_other_are_of_their_own_cases():
    """What was counted for one slice is never taken for another, even when the first one is gone."""
    values, languages = [0.1 * i for i in range(8)], list("abcdefgh")
    batch = settled_batch(8, 0)
    batch = replace(
        batch,
        columns={
            **batch.columns,
            Field(None, "language"): pa.array(languages),
            Field("mini", "confidence"): pa.array(values),
        },
    )
    whole = replay.run(two_tiers(), batch, generated.RULES)
    for value, language in zip(values, languages, strict=True):
        curve = thresholds.sweep(whole.where(language=language))
        assert (curve.thresholds.tolist(), curve.kept.tolist(), curve.escalation.tolist()) == ([value], [1.0], [0.0])


# Equality, precision, duplicates


@pytest.mark.parametrize(
    ("kind", "recorded", "threshold", "surer", "settles"),
    [
        (pa.float64(), 0.82, 0.82, "higher", True),
        (pa.float32(), 0.82, 0.82, "higher", True),
        (pa.float32(), 0.82, 0.82, "lower", True),
        (pa.float32(), 0.29, 0.29, "higher", True),
        (pa.float64(), 0.57, 0.57, "lower", True),
        (pa.float64(), float(np.nextafter(0.82, 0)), 0.82, "higher", False),
        (pa.float64(), float(np.nextafter(0.82, 1)), 0.82, "lower", False),
        (pa.float32(), float(np.nextafter(np.float32(0.82), np.float32(0))), 0.82, "higher", False),
        (pa.float64(), float("-inf"), float("-inf"), "higher", True),
        (pa.float64(), float("nan"), -1.0, "higher", False),
        (pa.float64(), None, -1.0, "higher", False),
        (pa.int64(), 1, 1.0, "higher", True),
        (pa.bool_(), True, 1.0, "higher", True),
    ],
)
def test_equality_settles_in_the_precision_of_the_column(kind, recorded, threshold, surer, settles):
    """A recorded value settles at the threshold written in decimals, and not one step beside it."""
    batch = settled_batch(1, 0)
    batch = replace(batch, columns={**batch.columns, Field("mini", "confidence"): pa.array([recorded], kind)})
    gate = Leaf(Signal("confidence"), threshold=threshold, surer=surer)
    cascade = Cascade("two", (Tier("mini", "mini", gate), Tier("flagship", "flagship")))
    decisions = replay.run(cascade, batch, generated.RULES).decisions
    assert decisions.settled.tolist() == [0 if settles else 1]


@some
@given(generated.recordings(), generated.leaf())
def test_the_same_gate_twice_is_the_gate_once(recorded, leaf):
    """A gate repeated within all or any decides, costs and takes as long as the gate alone, also as one object."""
    tops = (Tier("top", "flagship"),)
    gates = (leaf, All((leaf, leaf)), AnyOf((leaf, replace(leaf))), All((AnyOf((leaf, leaf)), leaf)))
    outcomes = []
    for gate in gates:
        scenario = generated.Scenario(Cascade("twice", (Tier("mini", "mini", gate), *tops)), recorded)
        found = replay.run(scenario.cascade, scenario.batch(), generated.RULES).decisions
        known = np.where(found.cost_known, found.cost, -1)
        outcomes.append((found.settled.tolist(), found.served.tolist(), known.tolist(), str(found.latency.tolist())))
    assert all(outcome == outcomes[0] for outcome in outcomes)


def test_a_gate_used_as_one_object_in_two_places_is_read_in_both():
    """Reads are counted by place in the gate, not by object."""
    leaf = Leaf(Signal("confidence"), threshold=0.5)
    cascade = Cascade("twice", (Tier("mini", "mini", All((leaf, leaf))), Tier("top", "flagship")))
    decisions = replay.run(cascade, settled_batch(3, 0), generated.RULES).decisions
    assert {place: int(who.sum()) for place, who in decisions.reads.items()} == {(0, 0): 3, (0, 1): 3}


def test_the_rules_used_here_are_those_of_the_oracle():
    """The oracle folds answers as `same label` does for the answers that are generated."""
    answers = ["a", "A.", "b", None]
    for mine, theirs in itertools.product(answers, answers):
        batch = replace(settled_batch(1, 0))
        columns = {**batch.columns, Field("mini", "answer"): pa.array([mine], pa.string())}
        columns[Field("flagship", "answer")] = pa.array([theirs], pa.string())
        found = agreement.compare(generated.RULES.agreement, replace(batch, columns=columns), "mini", "flagship")
        known = -1 if theirs is None else int(mine is not None and oracle.folded(mine) == oracle.folded(theirs))
        assert found.tolist() == [known]


# Shares to escalate


@some
@given(
    st.lists(st.sampled_from([*generated.GRID, 0.1, 0.2, 0.3, 0.4, 0.6, 0.7, 0.9, None]), min_size=1, max_size=40),
    st.sampled_from([0.05, 0.1, 0.25, 0.3, 0.5, 0.9]),
    st.sampled_from(["higher", "lower"]),
    st.booleans(),
)
def test_a_share_to_escalate_becomes_an_attained_value(values, share, surer, single):
    """The threshold is a value some case has; at most that share (to a case) lies on its unsure side, and no more fit."""
    known = [value for value in values if value is not None]
    assume(known)
    kind = pa.float32() if single else pa.float64()
    batch = settled_batch(len(values), 0)
    batch = replace(batch, columns={**batch.columns, Field("mini", "confidence"): pa.array(values, kind)})
    gate = Leaf(Signal("confidence"), escalate=share, surer=surer)
    cascade = Cascade("share", (Tier("mini", "mini", gate), Tier("flagship", "flagship")))
    looked = survey.survey([cascade], traffic.from_batch(batch), generated.RULES, base=Path())
    (filled,) = looked.cascades
    threshold = filled.tiers[0].gate.threshold
    assert np.isin(threshold, batch.numbers("mini", "confidence").astype(np.float64))
    settled = replay.run(filled, batch, generated.RULES).decisions.settled
    escalated = int(settled.sum()) - (len(values) - len(known))
    assert escalated <= share * len(known) + 1
    at_threshold = sum(np.asarray(value, dtype=kind.to_pandas_dtype()) == threshold for value in known)
    assert escalated + at_threshold > share * (len(known) - 1)
