"""Cases worth looking at: the first of each list, however many there are, exactly as if all had been sorted."""

from __future__ import annotations

import numpy as np
import pytest
from small_replays import RULES, case, two

from cascade_eval import replay, thresholds, traffic
from cascade_eval.suite import picks

SEED = 11


def listed(confidences, cohorts):
    """Replay a gate that settles everything on cases that all disagree, and pick from them."""
    cases = [
        case(number, float(confidence), agrees=False, case={"cohort": f"k{cohort}"})
        for number, (confidence, cohort) in enumerate(zip(confidences, cohorts, strict=True))
    ]
    columns = replay.Columns(traffic.from_records(cases).read(), RULES)
    cascade = two(0.0)
    return picks.worst((("cohort",),), cascade, replay.decide(cascade, columns), columns)


@pytest.mark.parametrize("digits", [1, 2, 6])
@pytest.mark.parametrize("rare", [0, 3, 40])
def test_the_surest_disagreements_are_those_a_full_sort_finds(digits, rare):
    """However tied the values are and however small a cohort is, every list is the beginning of the sorted one."""
    rng = np.random.default_rng([SEED, digits, rare])
    confidence = np.round(rng.random(3_000), digits)
    cohort = np.concatenate([np.full(rare, 2), rng.integers(0, 2, 3_000 - rare)])
    # A rare cohort is the least sure one, so that no cut through all cases finds it.
    confidence[:rare] /= 10
    found = listed(confidence, cohort)
    order = sorted(range(3_000), key=lambda i: (-confidence[i], i))
    assert found["small", (), (), "worst"].position.tolist() == order[: picks.WORST]
    for number in set(cohort.tolist()):
        own = [i for i in order if cohort[i] == number]
        assert found["small", ("cohort",), (f"k{number}",), "worst"].position.tolist() == own[: picks.WORST_EACH]


def test_cascades_that_share_members_share_no_sums_of_different_cases():
    """Counting two cascades by one preparation gives what counting each by itself does."""
    rng = np.random.default_rng(SEED)
    cases = [
        case(n, float(c), agrees=bool(c > 0.4), mini={"cost_usd": 0.1 * c}, flagship={"cost_usd": 1.0 + c})
        for n, c in enumerate(rng.random(200))
    ]
    columns = replay.Columns(traffic.from_records(cases).read(), RULES)
    by = replay.tallied(columns, ())
    for cascade in (two(0.0), two(0.5), two(2.0), two(0.5, timeout=0.1)):
        decisions = replay.decide(cascade, columns)
        shared = replay.tally(cascade, decisions, columns, (), by=by)
        alone = replay.tally(cascade, decisions, columns, ())
        assert shared.arrays.keys() == alone.arrays.keys()
        for name, table in alone.arrays.items():
            np.testing.assert_array_equal(shared[name], table, err_msg=name)
        total = decisions.cost[decisions.cost_known].sum()
        assert alone["request.cost"].sum() == total


@pytest.mark.parametrize("pattern", ["none", "all", "some", "mixed"])
def test_masks_are_counted_by_member(pattern):
    """Masks that are true everywhere or nowhere are counted like all others."""
    rng = np.random.default_rng(SEED)
    columns = replay.Columns(
        traffic.from_records([case(n, 0.5, case={"cohort": f"k{n % 3}"}) for n in range(60)]).read(), RULES
    )
    by = replay.tallied(columns, ("cohort",))
    full, empty, some = np.ones(60, dtype=bool), np.zeros(60, dtype=bool), rng.random(60) < 0.3
    masks = {"none": [empty], "all": [full, full], "some": [some, ~some], "mixed": [some, empty, full, ~some]}[pattern]
    want = [[int(mask[by.codes == member].sum()) for mask in masks] for member in range(3)]
    assert by.cases(*masks).tolist() == want


def test_thresholds_are_chosen_from_all_values_seen():
    """Values met batch after batch stand for as many cases as have them."""
    from cascade_eval.suite import survey

    rng = np.random.default_rng(SEED)
    look, batches = survey._Look(), [np.round(rng.random(400), 2) for _ in range(3)]
    for values in batches:
        values[::7] = np.nan
        look.add(values)
    every = np.concatenate(batches)
    values, cases = np.unique(every[~np.isnan(every)], return_counts=True)
    np.testing.assert_array_equal(look.values, values)
    np.testing.assert_array_equal(look.cases, cases)
    assert len(thresholds.edges(look.values, look.cases, surer="higher").values) > 1
