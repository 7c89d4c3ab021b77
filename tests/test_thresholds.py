"""Sweeps: which thresholds are tried, and what each of them would do."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_replays import CONFIDENCE, case, gate, replayed, three, two

from cascade_eval import bounds, thresholds
from cascade_eval.cascade import All, AnyOf, Cascade, Leaf, Signal, Tier

untimed = settings(deadline=None, max_examples=60)

# Thresholds to try


@pytest.mark.parametrize(
    ("values", "cases", "options", "expected", "complete"),
    [
        ([0.1, 0.5, 0.9], [1, 1, 1], {}, [0.1, 0.5, 0.9], True),
        ([0.1, 0.5, 0.9], [1, 1, 1], {"named": [0.7, 0.5]}, [0.1, 0.5, 0.7, 0.9], True),
        ([0.1, 0.5, 0.9], [1, 1, 1], {"named": [0.7], "surer": "lower"}, [0.9, 0.7, 0.5, 0.1], True),
        ([0.1, 0.5, 0.9], [1, 1, 1], {"limit": 3}, [0.1, 0.5, 0.9], True),
        ([1, 2, 3, 4, 5], [1, 1, 1, 1, 1], {"limit": 3}, [1, 3, 5], False),
        ([1, 2, 3, 4, 5], [1, 1, 96, 1, 1], {"limit": 3}, [1, 3, 5], False),
        ([1, 2, 3, 4, 5], [96, 1, 1, 1, 1], {"limit": 3}, [1, 5], False),
        ([1, 2, 3, 4, 5], [96, 1, 1, 1, 1], {"limit": 3, "named": [2.5]}, [1, 2.5, 5], False),
        ([], [], {"named": [0.5]}, [0.5], True),
        ([], [], {}, [], True),
    ],
)
def test_thresholds_are_all_values_or_evenly_filled(values, cases, options, expected, complete):
    """Every distinct value where there are few, quantiles by case where there are many, and what is in use always."""
    found = thresholds.edges(np.array(values, dtype=float), np.array(cases, dtype=int), **options)
    assert (found.values.tolist(), found.complete) == (expected, complete)


def test_quantiles_hold_equal_shares_of_the_cases():
    """With many distinct values about as many cases lie between any two neighbours."""
    values = np.sort(np.random.default_rng(3).beta(5, 1, 20_000))
    found = thresholds.edges(values, np.ones(len(values), dtype=int), limit=101)
    filled = np.diff(np.searchsorted(values, found.values))
    assert len(found.values) == 101
    assert filled.min() >= 198
    assert filled.max() <= 202


@pytest.mark.parametrize("surer", ["higher", "lower"])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_bins_count_the_thresholds_a_case_settles_at(surer, dtype):
    """The bin of a value is the number of thresholds it settles at, compared in the column's own precision; NaN at none."""
    tried = thresholds.edges(np.array([0.29, 0.58, 0.82]), np.ones(3, dtype=int), named=[0.5], surer=surer)
    values = np.array([0.0, 0.29, 0.5, 0.58, 0.7, 0.82, 0.8200000001, 1.0, np.nan, -np.inf, np.inf], dtype=dtype)
    settles = [
        sum(bool(value >= dtype(t) if surer == "higher" else value <= dtype(t)) for t in tried.values)
        for value in values
    ]
    assert tried.bins(values).tolist() == settles
    assert settles[8] == 0


def test_only_single_gates_and_named_leaves_can_be_moved():
    """A leaf of a composite gate has to be named, since its siblings are held still."""
    tiers = (
        Tier("mini", "mini", gate(0.5)),
        Tier("medium", "medium", All((gate(0.5), AnyOf((gate(0.6, name="loud"), gate(0.7)))))),
        Tier("top", "flagship"),
    )
    found = list(thresholds.places(Cascade("c", tiers)))
    assert [(place.name, place.tier.name, place.leaf.threshold) for place in found] == [
        ("0.0", "mini", 0.5),
        ("1.1", "medium", 0.6),
    ]


# What each threshold would do

LEVELS = (0.0, 0.25, 0.5, 0.82, 1.0, None)
ROWS = st.lists(st.tuples(st.sampled_from(LEVELS), st.sampled_from([True, True, False, None])), min_size=1, max_size=24)


def cases_of(rows):
    return [
        case(i, confidence, agrees=bool(agrees), flagship={"answer": None if agrees is None else "a"})
        for i, (confidence, agrees) in enumerate(rows)
    ]


def one_by_one(rows, threshold, surer):
    """Escalated, compared and disagreeing cases at a threshold, by looking at each case."""
    kept = [
        agrees
        for confidence, agrees in rows
        if confidence is not None and (confidence >= threshold if surer == "higher" else confidence <= threshold)
    ]
    return len(rows) - len(kept), sum(agrees is not None for agrees in kept), sum(agrees is False for agrees in kept)


@untimed
@given(ROWS, st.sampled_from(["higher", "lower"]))
def test_a_sweep_is_what_each_threshold_does_case_by_case(rows, surer):
    """Escalation, disagreement and kept cases equal a loop over cases, at every threshold tried."""
    cascade = Cascade("c", (Tier("mini", "mini", gate(0.5, surer=surer)), Tier("top", "flagship")))
    curve = thresholds.sweep(replayed(cases_of(rows), cascade))
    assert {*curve.thresholds.tolist()} == {level for level, _ in rows if level is not None}
    for i, threshold in enumerate(curve.thresholds):
        escalated, compared, wrong = one_by_one(rows, threshold, surer)
        assert curve.escalation[i] == escalated / len(rows)
        assert curve.kept[i] == compared
        np.testing.assert_equal(curve.disagreement[i], wrong / compared if compared else np.nan)
        low, high = bounds.rate(wrong, compared)
        assert (curve.low[i], curve.high[i]) == (pytest.approx(low), pytest.approx(high))


@untimed
@given(ROWS, st.sampled_from(["higher", "lower"]))
def test_escalation_rises_along_a_sweep(rows, surer):
    """From the threshold that keeps most to the one that escalates most, nobody comes back."""
    cascade = Cascade("c", (Tier("mini", "mini", gate(0.5, surer=surer)), Tier("top", "flagship")))
    curve = thresholds.sweep(replayed(cases_of(rows), cascade))
    assert np.all(np.diff(curve.escalation) >= 0)
    assert np.all(np.diff(curve.kept) <= 0)


def test_in_memory_every_distinct_value_is_tried():
    """However many there are: only a streaming evaluation makes do with quantiles."""
    size = thresholds.EDGES + 50
    curve = thresholds.sweep(replayed([case(i, i / size) for i in range(size)]))
    assert curve.complete
    assert len(curve.thresholds) == size


def test_a_missing_signal_never_settles():
    """Cases without a value escalate at every threshold, the smallest one too."""
    curve = thresholds.sweep(replayed([case(0, None), case(1, 0.1), case(2, 0.9), case(3, None)]))
    assert curve.thresholds.tolist() == [0.1, 0.9]
    assert curve.escalation.tolist() == [0.5, 0.75]


def test_cost_moves_with_escalation():
    """Mini costs 1 and the flagship 10 cents a case: each escalated case adds a flagship call."""
    paid = {"mini": {"cost_usd": 0.01}, "flagship": {"cost_usd": 0.10}}
    curve = thresholds.sweep(replayed([case(i, i / 4, **paid) for i in range(4)]))
    assert curve.cost.tolist() == pytest.approx([0.1, 0.35, 0.6, 0.85])


def test_cost_is_unknown_where_nothing_was_paid():
    """Without recorded costs or prices a sweep has no cost, and it is not zero."""
    assert np.isnan(thresholds.sweep(replayed([case(0, 0.2), case(1, 0.7)])).cost).all()


@pytest.mark.parametrize(
    "column", [{"weight": 2.0}, {"audit_probability": 0.5}, {"cluster": "one"}], ids=lambda column: next(iter(column))
)
def test_a_sample_of_unknown_worth_has_no_bounds(column):
    """Weighted, audited and clustered cases are worth fewer plain ones: no bounds rather than wrong ones."""
    curve = thresholds.sweep(replayed([case(i, i / 4, case=column) for i in range(4)]))
    assert np.isnan(curve.low).all()
    assert np.isnan(curve.high).all()
    assert curve.disagreement.tolist() == [0, 0, 0, 0]


def test_weights_count_in_the_rates():
    """A case of weight 3 counts three times, on either side of the threshold."""
    weights = (1.0, 3.0, 2.0)
    cases = [
        case(i, level, agrees=i != 1, case={"weight": w})
        for i, (level, w) in enumerate(zip((0.2, 0.5, 0.9), weights, strict=True))
    ]
    curve = thresholds.sweep(replayed(cases))
    assert curve.escalation.tolist() == [0, 1 / 6, 4 / 6]
    assert curve.disagreement.tolist() == [3 / 6, 3 / 5, 0]


def test_the_second_gate_moves_while_the_first_is_held():
    """Cases the first tier settled stay where they are."""
    cases = [
        case(i, level)
        | {"models": case(i, level)["models"] | {"medium": {"answer": "b" if i == 2 else "a", "confidence": other}}}
        for i, (level, other) in enumerate([(0.9, 0.1), (0.2, 0.6), (0.1, 0.8), (0.3, 0.9)])
    ]
    curve = thresholds.sweep(replayed(cases, three(0.5, 0.5)), "medium")
    assert curve.tier == "medium"
    assert curve.thresholds.tolist() == [0.1, 0.6, 0.8, 0.9]
    assert curve.escalation.tolist() == [0, 0, 0.25, 0.5]
    assert curve.disagreement.tolist() == [0.25, 0.25, 1 / 3, 0]


MARGIN = Signal("margin")


def composite(loud, quiet, join):
    """Gate on confidence, whose leaf is named, and on margin."""
    both = join((Leaf(MARGIN, threshold=quiet), Leaf(CONFIDENCE, threshold=loud, name="loud")))
    return Cascade("c", (Tier("mini", "mini", both), Tier("top", "flagship")))


@pytest.mark.parametrize("join", [All, AnyOf])
def test_a_named_leaf_of_a_composite_gate_can_be_swept(join):
    """Each point is what the whole gate does with that leaf's threshold there."""
    rows = [(0.1, 0.9), (0.4, 0.2), (0.6, 0.8), (0.8, 0.1), (0.9, 0.7)]
    cases = [case(i, loud, agrees=i % 2 == 0, mini={"margin": quiet}) for i, (loud, quiet) in enumerate(rows)]
    curve = thresholds.sweep(replayed(cases, composite(0.5, 0.5, join)))
    for i, threshold in enumerate(curve.thresholds):
        alone = replayed(cases, composite(threshold, 0.5, join))
        assert curve.escalation[i] == alone.escalation.value
        assert curve.kept[i] == (alone.disagreement.nobs or 0)
        np.testing.assert_equal(curve.disagreement[i], float(alone.disagreement))
    tried = [loud for loud, quiet in rows if (quiet >= 0.5) == (join is All)]
    assert {*tried} <= {*curve.thresholds.tolist()}


def test_sweeps_of_slices_do_not_mix():
    """Sweeping one cohort after another gives each its own curve, whatever was computed before."""
    rows = [("de", 0.2), ("de", 0.8), ("en", 0.2), ("en", 0.4), ("en", 0.9), ("fr", 0.4)]
    whole = replayed([case(i, level, case={"language": name}) for i, (name, level) in enumerate(rows)])
    for _ in range(3):
        for slice_ in whole.cohorts("language"):
            own = [level for name, level in rows if name == slice_.cohort["language"]]
            curve = thresholds.sweep(slice_)
            assert curve.thresholds.tolist() == sorted(own)
            assert curve.escalation.tolist() == [i / len(own) for i in range(len(own))]


@pytest.mark.parametrize(
    ("cascade", "tier", "message"),
    [
        (two(), "medium", "no movable gate in tier 'medium'"),
        (Cascade("c", (Tier("top", "flagship"),)), None, "no movable gate: name a leaf"),
        (
            replace(two(), tiers=(Tier("mini", "mini", All((gate(0.1), gate(0.2)))), Tier("top", "flagship"))),
            "mini",
            "no movable gate in tier 'mini': name a leaf of a composite gate",
        ),
    ],
)
def test_what_cannot_be_moved_is_said(cascade, tier, message):
    """A tier without a gate, or with an unnamed composite one, is an error that says what to do."""
    with pytest.raises(KeyError) as caught:
        thresholds.sweep(replayed([case(0, 0.5)], cascade), tier)
    assert message in str(caught.value)
