"""The columnar replay does to every case what the one-case-at-a-time oracle does, and adds up to the same counts."""

from __future__ import annotations

import math
import os
from dataclasses import replace

import generated
import hypothesis
import numpy as np
import oracle
import pytest
from hypothesis import given, settings

from cascade_eval import counts, metrics, replay
from cascade_eval.cascade import leaves

SLOW = [hypothesis.HealthCheck.too_slow, hypothesis.HealthCheck.data_too_large]
settings.register_profile("quick", max_examples=300, deadline=None, suppress_health_check=SLOW)
settings.register_profile("thorough", settings.get_profile("quick"), max_examples=5_000)
many = settings.get_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))

SERVED = {
    counts.AGREE: "agree",
    counts.DISAGREE: "disagree",
    counts.UNKNOWN: "unknown",
    counts.UNSAMPLED: "not sampled",
}
AT_FLAGSHIP = {counts.ANSWERED: "answered", counts.UNANSWERED: "unanswered", counts.MISSING: "missing"}


def as_dict(outcome, last):
    """Write the oracle's outcome the way `from_decisions` writes the replay's."""
    if outcome.served in {"cached", "unresolved"}:
        return {"served": outcome.served}
    served = outcome.served if outcome.sampled or outcome.settled == last else "not sampled"
    return {
        "start": outcome.start,
        "settled": outcome.settled,
        "served": served,
        "cost": outcome.cost,
        "latency": outcome.latency,
        "timed out": outcome.timeouts > 0,
        "refused": outcome.refusals > 0,
        "reads": sorted({place[:2] for place in outcome.reads}),
    }


def from_decisions(decisions, row, last):
    if decisions.cached[row]:
        return {"served": "cached"}
    settled = int(decisions.settled[row])
    if settled == replay.UNRESOLVED:
        return {"served": "unresolved"}
    latency = float(decisions.latency[row])
    return {
        "start": int(decisions.start[row]),
        "settled": settled,
        "served": (AT_FLAGSHIP if settled == last else SERVED)[int(decisions.served[row])],
        "cost": int(decisions.cost[row]) if decisions.cost_known[row] else None,
        "latency": None if math.isnan(latency) else latency,
        "timed out": bool(decisions.failed[row] & 1),
        "refused": bool(decisions.failed[row] & 2),
        "reads": sorted(place for place, who in decisions.reads.items() if who[row]),
    }


def counted(scenario):
    """Tables of a scenario by cohort, and the oracle's counts."""
    cascade, columns = scenario.cascade, replay.Columns(scenario.batch(), generated.RULES)
    decisions = replay.decide(cascade, columns)
    tables = replay.tally(cascade, decisions, columns, generated.FAMILY, limits=LIMITS)
    return tables, oracle.tally(cascade, scenario.recorded, generated.FAMILY)


LIMITS = (0.5, 2.0)


def rates(raw, tiers):
    """Say what each rate counts, and out of how many."""
    found = {
        "escalation": (raw["escalated"], raw["decided"]),
        "disagreement": (raw["sampled disagree"], raw["sampled agree"] + raw["sampled disagree"]),
        "coverage": (raw["resolved"], raw["cases"]),
        "audited": (raw["sampled agree"] + raw["sampled disagree"], raw["sampled"]),
        "unanswered": (raw["unanswered"], raw["resolved"] - raw["missing"]),
        "timeouts": (raw["timed out"], raw["resolved"]),
        "refusals": (raw["refused"], raw["resolved"]),
    }
    return found | {f"escalation from {t}": (raw[f"left {i}"], raw[f"reached {i}"]) for i, t in enumerate(tiers[:-1])}


def context_of(scenario):
    """Leave no floor under coverage and audited, so that every count is shown."""
    cascade = scenario.cascade
    return metrics.Context(
        tuple(tier.name for tier in cascade.tiers),
        coverage=0.0,
        audited=0.0,
        leaves=replay.leaf_names(cascade),
        audit=scenario.recorded.has(None, "audit_probability"),
    )


@many
@given(generated.scenarios())
def test_every_case_is_decided_as_the_oracle_decides_it(scenario):
    """Start, settling tier, comparison, cost, latency, failures and the leaves read are the same, case by case."""
    recorded, last = scenario.recorded, len(scenario.cascade.tiers) - 1
    decisions = replay.run(scenario.cascade, scenario.batch(), generated.RULES).decisions
    for row, case in enumerate(recorded.cases):
        expected = as_dict(oracle.decide(scenario.cascade, recorded, case), last)
        assert from_decisions(decisions, row, last) == expected, case["case_id"]


@many
@given(generated.scenarios(most=12))
def test_every_count_is_the_oracle_s_count(scenario):
    """In every cohort: rates, money, time, quality, leaves read, and what weighted and clustered cases are worth."""
    tables, expected = counted(scenario)
    assert sorted(tables.members) == sorted(expected)
    check_rates(scenario, tables, expected)
    for i, member in enumerate(tables.members):
        weighted = scenario.recorded.has(None, "weight")
        sums = expected[member].weighted if weighted else expected[member].raw
        check_money(tables, i, expected[member], sums, exact=not weighted)
        check_latency(tables, i, expected[member])
        check_quality(tables, i, expected[member].raw, sums)
        check_reads(scenario, tables, i, expected[member].raw)


def check_rates(scenario, tables, expected):
    context = context_of(scenario)
    # What a gate read decides whether a rate is shown at all; here every rate is.
    tables = replace(tables, arrays={name: table for name, table in tables.arrays.items() if name != "signals"})
    for name in rates(expected[tables.members[0]].raw, context.tiers):
        estimates = metrics.estimates(metrics.find(name, context.tiers), tables, context)
        for member, estimate in zip(tables.members, estimates, strict=True):
            check_rate(name, estimate, expected[member], context)
            if name in {"escalation", "disagreement"} and not estimate.blocked:
                check_worth(scenario, name, estimate, expected[member])


def check_rate(name, estimate, expected, context):
    count, nobs = rates(expected.raw, context.tiers)[name]
    assert estimate.nobs == nobs, name
    if not nobs or (estimate.blocked and "audit does not add up" in estimate.reason):
        assert estimate.value is None
        return
    assert (estimate.count, estimate.blocked) == (count, False), name
    # What is a fact of the data is counted, whatever the cases weigh.
    weighted, all_of_them = rates(expected.raw if name in FACTS else expected.weighted, context.tiers)[name]
    assert estimate.value == pytest.approx(float(weighted / all_of_them), abs=1e-12), name


FACTS = ("coverage", "audited")


def check_money(tables, i, expected, sums, *, exact):
    """Nano-dollars are exact integers, and exact sums under weights."""
    raw = expected.raw
    assert tables["costs"][i].tolist()[:3] == [raw["cost known"], raw["cost paired"], raw["resolved"]]
    for name, key in SUMS.items():
        assert total(tables, name, i) == sums[key], name
        assert not exact or name not in tables or tables[name].dtype == np.int64


SUMS = {
    "request.cost": "cost",
    "request.cases": "cost known",
    "ratio.cost": "cost of paired",
    "ratio.flagship": "flagship cost of paired",
    "missing.cost": "cost of missing",
    "missing.cases": "cost missing",
}


def check_latency(tables, i, expected):
    """Every known latency is in the histogram, and exactly on its side of a limit."""
    raw = expected.raw
    assert tables["latency.known"][i].tolist() == [raw["latency known"], raw["latency unknown"]]
    assert tables["latency"][i].sum() == raw["latency known"]
    known = [outcome.latency for _, outcome in expected.outcomes if outcome.latency is not None]
    assert tables["slower"][i].tolist() == [sum(one > limit for one in known) for limit in LIMITS]


def check_quality(tables, i, raw, sums):
    assert total(tables, "quality.sum", i) == sums["quality"]
    assert total(tables, "retained", i) == raw["qualities known"]
    assert total(tables, "retained.cascade", i) == sums["quality of both"]
    assert total(tables, "retained.flagship", i) == sums["flagship quality of both"]


def total(tables, name, i):
    return tables[name][i].sum() if name in tables else 0


def check_reads(scenario, tables, i, raw):
    """Every leaf counts what it read and the nulls among it, in written order; nothing but nulls is no signal."""
    places = [
        (position, number)
        for position, tier in enumerate(scenario.cascade.tiers)
        for number, _ in enumerate(leaves(tier.gate))
    ]
    read = [[raw[f"read {p}.{n}"], raw[f"null {p}.{n}"]] for p, n in places]
    assert tables["signals"][i].tolist() == read
    if any(cases and cases == nulls for cases, nulls in read):
        assert metrics.estimates(metrics.find("escalation"), tables, context_of(scenario))[i].blocked


def check_worth(scenario, name, estimate, expected):
    """Bounds rest on what the cases are worth, unknown comparisons counted against each side's claim."""
    clustered = scenario.recorded.has(None, "cluster")
    lowest, highest = worst(name, expected, len(scenario.cascade.tiers) - 1)
    assert estimate.basis.low == pytest.approx(oracle.worth(lowest, clustered=clustered), rel=1e-9, abs=1e-9)
    assert estimate.basis.high == pytest.approx(oracle.worth(highest, clustered=clustered), rel=1e-9, abs=1e-9)


def worst(name, expected, last):
    """List (case, weight, hit) twice: with unknown comparisons agreeing, and with them disagreeing."""
    resolved = [(case, outcome) for case, outcome in expected.outcomes if outcome.settled is not None]
    if name == "escalation":
        below = [(c, oracle.weight_of(c), int(o.settled == last)) for c, o in resolved if o.start < last]
        return below, below
    drawn = [(c, o) for c, o in resolved if o.settled < last and o.sampled]
    return tuple(
        [(c, oracle.audit_weight(c), int(o.served in bad)) for c, o in drawn]
        for bad in ({"disagree"}, {"disagree", "unknown"})
    )
