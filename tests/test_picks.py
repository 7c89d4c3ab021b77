"""Cases worth looking at: the first of each list, however many there are, exactly as if all had been sorted."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from small_replays import RULES, case, gate, three, two

from cascade_eval import replay, thresholds, traffic
from cascade_eval.cascade import AnyOf, Cascade, Tier
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


def random_cases(size, rng):
    """Cases of two cohorts, some of which a cache answered, with tied values and some that are missing."""
    value = np.round(rng.random((size, 2)), 1)
    value[rng.random((size, 2)) < 0.1] = np.nan
    return [
        {
            "case_id": f"case-{number:04}",
            "cohort": f"k{number % 2}",
            "cached": bool(rng.random() < 0.2),
            "models": {
                name: {"answer": str(rng.integers(2))} | ({} if np.isnan(own) else {"confidence": float(own)})
                for name, own in zip(("mini", "medium"), value[number], strict=True)
            }
            | {"flagship": {"answer": "0"} if rng.random() < 0.9 else {"status": "error"}},
        }
        for number in range(size)
    ]


def settled_by(one, cascade):
    """Walk through the tiers of a cascade in one case; return the tier, what its gate compared, and whether it is wrong."""
    for position, tier in enumerate(cascade.tiers[:-1]):
        value = one["models"][tier.model].get("confidence")
        sign = 1 if tier.gate.surer == "higher" else -1
        if value is not None and sign * value >= sign * tier.gate.threshold:
            known = "answer" in one["models"]["flagship"]
            return position, value, known and one["models"][tier.model]["answer"] != "0", known
    return len(cascade.tiers) - 1, None, False, "answer" in one["models"]["flagship"]


def by_member(found):
    """Put numbers of cases into the list of all, and into that of their cohort."""
    lists = {}
    for number in found:
        for family, member in (((), ()), (("cohort",), (f"k{number % 2}",))):
            lists.setdefault((family, member), []).append(number)
    return lists


def slow_worst(cases, cascade):
    """Look for unescalated disagreements case by case; the surest first, ties in order."""
    found = {}
    for number, one in enumerate(cases):
        position, value, wrong, _ = settled_by(one, cascade)
        if wrong and position < len(cascade.tiers) - 1 and not one["cached"]:
            found[number] = value if cascade.tiers[position].gate.surer == "lower" else -value
    ordered = sorted(found, key=lambda number: (found[number], number))
    return {(*key, "worst"): own[: picks.most(key[0], "worst")] for key, own in by_member(ordered).items()}


def slow_flips(cases, cascade, before):
    """Look for cases whose served answer began or ceased to disagree, case by case."""
    lists = {}
    for kind, first, then in (("worse", before, cascade), ("better", cascade, before)):
        found = []
        for number, one in enumerate(cases):
            (_, _, was, known), (_, _, now, also) = settled_by(one, first), settled_by(one, then)
            if known and also and not was and now and not one["cached"]:
                found.append(number)
        lists |= {(*key, kind): own[: picks.FLIPS] for key, own in by_member(found).items()}
    return lists


def positions(picked, name="small"):
    return {key[1:]: found.position.tolist() for key, found in picked.items() if key[0] == name}


LOWER = Cascade("small", (Tier("mini", "mini", gate(0.4, surer="lower")), Tier("top", "flagship")))


@pytest.mark.parametrize("cascade", [two(0.0), two(0.6), LOWER, three(0.6, 0.3)], ids=["all", "some", "lower", "three"])
@pytest.mark.parametrize("pieces", [1, 3])
def test_cases_worth_looking_at_are_those_a_loop_finds(cascade, pieces):
    """The surest disagreements and the flips, over all tiers and cohorts, however the cases were cut into batches."""
    rng = np.random.default_rng([SEED, pieces])
    cases, before = random_cases(300, rng), two(0.3)
    total = {}
    for batch in traffic.from_records(cases).batches(traffic.from_records(cases).fields, -(-300 // pieces)):
        columns = replay.Columns(batch, RULES)
        decisions = replay.decide(cascade, columns)
        baseline = before, replay.decide(before, columns)
        families = (("cohort",),)
        for part in (
            picks.worst(families, cascade, decisions, columns),
            picks.flips(families, cascade, decisions, columns, baseline),
        ):
            for key, found in part.items():
                most = picks.most(key[1], key[3])
                total[key] = total[key].merged(found, most) if key in total else found
    assert positions(total) == slow_worst(cases, cascade) | slow_flips(cases, cascade, before)


@pytest.mark.parametrize("surer", ["higher", "lower"])
def test_variants_are_picked_from_what_settles_everything(surer):
    """The list of each of several thresholds, read off one replay, is the list a replay of its own gives."""
    made = [
        Cascade(f"at {t}", (Tier("mini", "mini", gate(t, surer=surer)), Tier("top", "flagship")))
        for t in (0.2, 0.5, 0.9)
    ]
    columns = replay.Columns(traffic.from_records(random_cases(300, np.random.default_rng(SEED))).read(), RULES)
    [group] = thresholds.variants(made)
    settled, escalated = thresholds.forced(made[0], columns, group.place)
    assert picks.reads_alone(group, escalated)
    found = picks.surest((("cohort",),), group, settled, columns, group.bins(columns))
    for cascade in made:
        own = picks.worst((("cohort",),), cascade, replay.decide(cascade, columns), columns)
        assert positions(found, cascade.name) == positions(own, cascade.name)


def test_lists_are_shared_only_where_one_gate_decides():
    """A second gate settles what the varying one does not, and cascades with gates of several leaves are no group."""
    columns = replay.Columns(traffic.from_records(random_cases(50, np.random.default_rng(SEED))).read(), RULES)
    for shape, alone in ((two, True), (lambda t: three(t, 0.5), False)):
        [group] = thresholds.variants([replace(shape(t), name=f"at {t}") for t in (0.2, 0.6)])
        _, escalated = thresholds.forced(group.cascades[0], columns, group.place)
        assert picks.reads_alone(group, escalated) is alone
    several = [Tier("mini", "mini", AnyOf((gate(t, name="own"), gate(0.8)))) for t in (0.2, 0.6)]
    assert thresholds.variants([Cascade(str(n), (tier, two().tiers[1])) for n, tier in enumerate(several)]) == []


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
