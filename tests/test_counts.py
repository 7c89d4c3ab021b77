"""Counts: addition does not care how the data was cut, and every state has a number of its own."""

from __future__ import annotations

import copy
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade_eval import counts
from cascade_eval.counts import Clusters, Counts

untimed = settings(deadline=None)

NAMES = ("de", "en", "fr", "(none)")
TABLES = {"states": (3,), "ratio.cost": (2,), "sweep.0.0": (2, 2)}


@st.composite
def counted(draw):
    """Draw counts over some members, with some of the tables, and sometimes with clusters."""
    members = tuple((name,) for name in draw(st.lists(st.sampled_from(NAMES), unique=True, max_size=4)))
    tables = draw(st.sets(st.sampled_from(sorted(TABLES))))
    arrays = {name: draw(numbers((len(members), *TABLES[name]))) for name in sorted(tables)}
    rows = draw(st.integers(0, 5)) if members else 0
    clusters = {"states": draw(contributions(len(members), rows))} if draw(st.booleans()) else {}
    return Counts(members, arrays, clusters)


def numbers(shape):
    size = int(np.prod(shape))
    values = st.lists(st.integers(-(2**40), 2**40), min_size=size, max_size=size)
    return values.map(lambda found: np.array(found, dtype=np.int64).reshape(shape))


@st.composite
def contributions(draw, members, rows):
    def column(low, high, dtype):
        return np.array(draw(st.lists(st.integers(low, high), min_size=rows, max_size=rows)), dtype=dtype)

    return Clusters(
        column(0, max(members - 1, 0), np.int64),
        column(0, 2, np.uint64),
        column(0, 2, np.int64),
        column(1, 3, np.float64),
    )


def content(found, *, zeros=True):
    """Everything in some counts as plain values by member, so that order is out of play."""
    tables = {
        (name, member): array[i].tolist()
        for name, array in found.arrays.items()
        for i, member in enumerate(found.members)
        if zeros or array[i].any()
    }
    rows = Counter(
        (name, found.members[member], int(cluster), int(state), float(weight))
        for name, each in found.clusters.items()
        for member, cluster, state, weight in zip(each.member, each.cluster, each.state, each.weight, strict=True)
    )
    return tables, rows


def by_hand(*parts):
    """Add counts value by value, in plain Python: the obvious way."""
    tables, rows = {}, Counter()
    for part in parts:
        own, more = content(part)
        rows += more
        for key, values in own.items():
            tables[key] = (np.array(tables[key]) + values).tolist() if key in tables else values
    return {key: values for key, values in tables.items() if np.any(values)}, rows


@untimed
@given(counted(), counted())
def test_addition_adds_every_member_and_table(left, right):
    """A member or a table that only one part has is there in the sum, as if the other had held zeros."""
    both = left + right
    assert content(both, zeros=False) == by_hand(left, right)
    assert set(both.members) == {*left.members, *right.members}
    assert set(both.arrays) == {*left.arrays, *right.arrays}


@untimed
@given(counted(), counted())
def test_addition_does_not_mind_the_order(left, right):
    """The same tables come out either way round, up to the order of members and rows."""
    assert content(left + right) == content(right + left)


@untimed
@given(counted(), counted(), counted())
def test_addition_does_not_mind_the_grouping(a, b, c):
    """Three parts add up to the same, whichever two are added first, and in the same order of members."""
    first, second = (a + b) + c, a + (b + c)
    assert first.members == second.members
    assert content(first) == content(second)
    assert {name: array.dtype for name, array in first.arrays.items()} == dict.fromkeys(first.arrays, np.int64)


@untimed
@given(counted(), st.permutations(NAMES))
def test_aligning_moves_and_never_changes(found, order):
    """Rows go where their member stands, members that did not occur get zeros, others are dropped."""
    wanted = [(name,) for name in order[:3]]
    aligned = found.align(wanted)
    assert aligned.members == tuple(wanted)
    tables, rows = content(aligned)
    before, rows_before = content(found)
    for (name, member), values in tables.items():
        expected = before.get((name, member), np.zeros(TABLES[name], dtype=int).tolist())
        assert values == expected
    assert rows == Counter({key: times for key, times in rows_before.items() if key[1] in wanted})


@untimed
@given(counted(), st.data())
def test_pooling_adds_the_members_it_brings_together(found, data):
    """Pooled counts are the sum of their members', one by one; -1 leaves a member out."""
    places = [data.draw(st.integers(-1, 1)) for _ in found.members]
    pooled = found.pool((("one",), ("two",)), places)
    for place in (0, 1):
        for name, array in found.arrays.items():
            expected = sum((array[i] for i, p in enumerate(places) if p == place), np.zeros(TABLES[name], dtype=int))
            assert pooled[name][place].tolist() == np.asarray(expected).tolist()
    kept = sum(places[int(member)] >= 0 for each in found.clusters.values() for member in each.member)
    assert sum(len(each.member) for each in pooled.clusters.values()) == kept


@untimed
@given(counted())
def test_the_total_is_the_pool_of_all(found):
    """All members together are one member without a name, and keep every cluster contribution."""
    total = found.total()
    assert total.members == ((),)
    for name, array in found.arrays.items():
        assert total[name].tolist() == [array.sum(axis=0).tolist()]
    assert {name: len(each.member) for name, each in total.clusters.items()} == {
        name: len(each.member) for name, each in found.clusters.items()
    }


@untimed
@given(counted().filter(lambda found: found.members), st.data())
def test_one_member_can_be_taken_out(found, data):
    """`only` keeps one member with its clusters; all of them together are the whole."""
    position = data.draw(st.integers(0, len(found.members) - 1))
    one = found.only(position)
    assert one.members == (found.members[position],)
    assert all(one[name].tolist() == [array[position].tolist()] for name, array in found.arrays.items())
    parts = [found.only(i) for i in range(len(found.members))]
    assert content(sum(parts[1:], parts[0])) == content(found)


def test_a_table_of_only_one_part_keeps_its_members_apart():
    """What batch one counted for `de` is not read as that of another member after the parts are aligned."""
    left = Counts((("de",), ("en",)), {"a": np.array([[1], [2]])})
    right = Counts((("fr",), ("de",)), {"b": np.array([[7], [9]])})
    both = left + right
    assert both.members == (("de",), ("en",), ("fr",))
    assert both["a"].tolist() == [[1], [2], [0]]
    assert both["b"].tolist() == [[9], [0], [7]]
    assert "a" in both
    assert "c" not in both


def test_adding_leaves_its_parts_alone():
    """The sum is new; neither part is changed by it."""
    left, right = (Counts((("de",),), {"a": np.array([[1, 2]])}) for _ in range(2))
    assert (left + right)["a"].tolist() == [[2, 4]]
    assert left["a"].tolist() == right["a"].tolist() == [[1, 2]]


def test_big_sums_stay_exact():
    """Integer tables do not pass through floats: 2**53 + 1 survives."""
    one = Counts((("de",),), {"a": np.array([[2**53]])})
    assert (one + Counts((("de",),), {"a": np.array([[1]])}))["a"].tolist() == [[2**53 + 1]]


@pytest.mark.parametrize("shape", [(1, 4), (3, 5), (4, 1)])
def test_histograms_and_sums_are_those_of_a_loop(shape):
    """Cases land in the cell of their member and state, with their values; cells nobody is in hold zero."""
    rng = np.random.default_rng(7)
    codes, cells = rng.integers(0, shape[0], 200), rng.integers(0, shape[1], 200)
    values = rng.integers(-9, 9, 200)
    expected, weighed = np.zeros(shape, dtype=int), np.zeros(shape)
    for code, cell, value in zip(codes, cells, values, strict=True):
        expected[code, cell] += 1
        weighed[code, cell] += value
    np.testing.assert_array_equal(counts.histogram(codes, cells, shape), expected)
    np.testing.assert_array_equal(counts.sums(codes, cells, shape, values), weighed)
    assert not counts.histogram(codes[:0], cells[:0], shape).any()


# States


@pytest.mark.parametrize("tiers", [1, 2, 3, 4])
def test_states_number_every_combination_once(tiers):
    """Encoding the digits gives back 0, 1, 2, …: one number per state, without gaps."""
    layout = counts.states(tiers)
    np.testing.assert_array_equal(layout.encode(*layout.digits), np.arange(layout.regular))
    assert {*map(len, layout.digits)} == {layout.regular} == {tiers * tiers * 4 * 4 * 3}
    assert (layout.unresolved, layout.cached, layout.size) == (layout.regular, layout.regular + 1, layout.regular + 2)


@untimed
@given(st.integers(1, 5), st.data())
def test_digits_are_the_inverse_of_encoding(tiers, data):
    """What was encoded is read back: start, settled, served, failed, again."""
    layout = counts.states(tiers)
    case = [data.draw(st.integers(0, radix - 1)) for radix in layout.shape]
    [state] = layout.encode(*(np.array([digit], dtype=np.int8) for digit in case))
    assert [int(digit[state]) for digit in layout.digits] == case


def test_a_choice_of_states_never_takes_in_the_unresolved():
    """A mask over regular states leaves out cases without a path and cached ones."""
    layout = counts.states(2)
    mask = layout.mask(np.ones(layout.regular, dtype=np.bool_))
    assert len(mask) == layout.size
    assert not mask[[layout.unresolved, layout.cached]].any()
    assert mask[: layout.regular].all()


# Latency

LOW, HIGH = counts.latency_edges()


@untimed
@given(st.lists(st.floats(0, 2**40, allow_nan=False), min_size=1, max_size=20))
def test_a_latency_lies_in_its_bucket(seconds):
    """Every latency lies between the edges of its bucket, as the float32 it is sorted by; longer ones in the last."""
    found = counts.latency_bins(np.array(seconds))
    single = np.array(seconds, dtype=np.float32).astype(np.float64)
    inside = np.minimum(single, np.nextafter(HIGH[-1], 0))
    assert np.all(LOW[found] <= inside)
    assert np.all(inside < HIGH[found])


@untimed
@given(st.lists(st.floats(0, 1e6, allow_nan=False), min_size=2, max_size=20))
def test_slower_never_lands_in_an_earlier_bucket(seconds):
    """Buckets keep the order of latencies, so that quantiles can be read off them."""
    assert np.all(np.diff(counts.latency_bins(np.sort(seconds))) >= 0)


def test_buckets_are_narrow_and_leave_no_gap():
    """Buckets join, start at zero, and are at most 0.8% wide between a quarter of a millisecond and nine hours."""
    np.testing.assert_array_equal(LOW[1:], HIGH[:-1])
    assert (LOW[0], len(LOW)) == (0.0, counts.LATENCY_BINS)
    width = (HIGH / np.maximum(LOW, 1e-300))[1:]
    assert width.max() <= 1.008
    assert LOW[1] <= 0.00025
    assert HIGH[-2] >= 9 * 3_600
    assert np.all(counts.latency_bins(LOW) == np.arange(len(LOW)))


@untimed
@given(counted(), counted(), counted())
def test_absorbing_is_adding(a, b, c):
    """Adding into tables of one's own gives what adding anew gives, and leaves the parts as they were."""
    before = copy.deepcopy((a, b, c))
    total = Counts(a.members, {}).absorb(a).absorb(b).absorb(c)
    assert content(total) == content(a + b + c)
    assert [content(part) for part in (a, b, c)] == [content(part) for part in before]


def test_a_table_that_two_counts_share_is_added_once_to_each():
    """One table that stands in two counts is copied by both, so that neither adds to the other's."""
    shared = np.ones((1, 2), dtype=np.int64)
    totals = [Counts(((),), {}).absorb(Counts(((),), {"states": shared})) for _ in range(2)]
    for total in totals:
        assert total.absorb(Counts(((),), {"states": shared}))["states"].tolist() == [[2, 2]]
    assert shared.tolist() == [[1, 1]]


def test_absorbing_a_table_of_another_kind_keeps_its_fractions():
    """Halves added to whole numbers stay halves, and the table they were added to stays as it was."""
    whole, half = np.array([[1, 2]]), np.array([[0.5, 0.25]])
    total = Counts(((),), {"money": whole}).absorb(Counts(((),), {"money": half}))
    assert total["money"].tolist() == [[1.5, 2.25]]
    assert (whole.tolist(), half.tolist()) == ([[1, 2]], [[0.5, 0.25]])
