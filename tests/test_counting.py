"""What a pass leaves behind beside the rates: funnel, money by path and who was right, as found case by case."""

from __future__ import annotations

from collections import Counter

import generated
import numpy as np
import oracle
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_replays import RULES, case, two

from cascade_eval import replay, traffic
from cascade_eval.suite import counting
from cascade_eval.traffic.batch import Batch, Field

some = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])


def failure(recorded, one, tier):
    """Say how a call failed that was made: a call that took too long is late, whatever came of it."""
    if tier.model not in one["models"]:
        return None
    seconds = recorded.cell(one, tier.model, "latency_s")
    status = oracle.status(one, tier.model)
    if status == "timeout" or (tier.timeout is not None and seconds is not None and seconds > tier.timeout):
        return 0
    return {"error": 1, "refused": 2}.get(status)


def right(recorded, one, model, flagship):
    """Say whose score is at least a half."""
    scores = [recorded.cell(one, name, "score") for name in (model, flagship)]
    if None in scores:
        return "unknown"
    return {(True, True): "both", (True, False): "cheap", (False, True): "flagship", (False, False): "neither"}[
        tuple(score >= 0.5 for score in scores)
    ]


def slow_details(cascade, recorded):
    """Count by language, one case after the other."""
    found = {name: Counter() for name in ("funnel", "paths", "right")}
    last = len(cascade.tiers) - 1
    for one in recorded.cases:
        outcome = oracle.decide(cascade, recorded, one)
        if outcome.served == "cached" or outcome.settled is None:
            continue
        member = oracle.member(one, generated.FAMILY)
        for position in range(outcome.start, outcome.settled + 1):
            how = failure(recorded, one, cascade.tiers[position])
            if how is not None:
                found["funnel"][member, position, how] += 1
        if outcome.cost is not None:
            found["paths"][member, outcome.start * (last + 1) + outcome.settled] += outcome.cost
        if outcome.settled < last and outcome.served == "disagree" and outcome.sampled:
            who = right(recorded, one, cascade.tiers[outcome.settled].model, cascade.flagship.model)
            found["right"][member, counting.RIGHT.index(who)] += 1
    return {name: +each for name, each in found.items()}


def counted(members, table):
    """Put a table into the form of the slow one."""
    return +Counter({(members[i], *at): int(value) for (i, *at), value in np.ndenumerate(table) if value})


@some
@given(generated.scenarios())
def test_funnel_paths_and_who_was_right_are_what_a_loop_counts(scenario):
    """Every failed call on a path, the money of each path, and whose answer was right where they disagree."""
    columns = replay.Columns(scenario.batch(), generated.RULES)
    by = replay.tallied(columns, generated.FAMILY)
    found = counting._details(scenario.cascade, replay.decide(scenario.cascade, columns), by)
    expected = slow_details(scenario.cascade, scenario.recorded)
    assert {name: counted(by.members, table) for name, table in found.items()} == expected


@pytest.mark.parametrize("unit", ["s", "us", "ns"])
def test_the_span_of_a_batch_is_its_first_and_its_last_moment(unit):
    """In microseconds, whatever unit they are recorded in; nulls are no moments, and without any there is no span."""
    times = pa.array([5_000_000_000, None, 2_000_000_000, 9_000_000_000], pa.timestamp("ns", tz="UTC"))
    batch = Batch(4, {Field(None, "decided_at"): times.cast(pa.timestamp(unit, tz="UTC"))})
    assert counting._span(batch) == (2_000_000, 9_000_000)
    assert counting._span(Batch(2, {Field(None, "decided_at"): pa.nulls(2, pa.timestamp("us", tz="UTC"))})) is None
    assert counting._span(Batch(2, {})) is None


@given(st.lists(st.none() | st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=2, max_size=4))
def test_spans_of_parts_make_the_span_of_the_whole(spans):
    """From the first of the firsts to the last of the lasts; a part without moments changes nothing."""
    parts = [counting.Counted(cases=1, span=span) for span in spans]
    total = parts[0]
    for part in parts[1:]:
        total = total.absorb(part)
    known = [span for span in spans if span is not None]
    expected = (min(first for first, _ in known), max(last for _, last in known)) if known else None
    assert (total.span, total.cases) == (expected, len(spans))


def test_nobody_was_right_where_nothing_was_graded():
    """Without expected answers and scores of both it is unknown whose answer was right, not that both were wrong."""
    for extra in ({}, {"mini": {"score": 1.0}}, {"flagship": {"score": 1.0}}):
        columns = replay.Columns(traffic.from_records([case(0, 0.9, agrees=False, **extra)]).read(), RULES)
        by = replay.tallied(columns, ())
        found = counting._details(two(), replay.decide(two(), columns), by)["right"]
        assert dict(zip(counting.RIGHT, found[0].tolist(), strict=True)) == dict.fromkeys(counting.RIGHT, 0) | {
            "unknown": 1
        }
