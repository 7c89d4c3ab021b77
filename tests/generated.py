"""Hypothesis strategies: cascades of every shape the decision rule knows, and what may have been recorded for them.

Numbers are coarse on purpose: ties decide. Seconds and weights are multiples of powers of two, so that sums are exact
in any order; the cost of each call is a different power of two, so that a sum tells which calls were paid.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import hypothesis.strategies as st
import numpy as np
import pyarrow as pa
from oracle import Recorded

from cascade_eval import agreement, costs, replay, traffic
from cascade_eval.cascade import All, AnyOf, Cascade, Leaf, Route, Signal, Tier
from cascade_eval.traffic import STATUSES, Batch, Field

MODELS = ("mini", "small", "medium", "flagship")
OTHERS = ("judge", "critic", "twin")
NANO = {model: 1 << power for power, model in enumerate((*MODELS, *OTHERS))}
SAMPLES_NANO = {model: 1 << (power + 10) for power, model in enumerate(MODELS)}
GRID = (0.0, 0.29, 0.58, 0.82, 1.0)
VALUES = (*GRID, 0.8200000001, 0.5, None, math.nan)
RULES = replay.Rules(agreement.parse("same label"), costs.Prices())
FAMILY = ("language",)


@dataclass(frozen=True)
class Scenario:
    """A cascade and what was recorded."""

    cascade: Cascade
    recorded: Recorded

    def batch(self) -> Batch:
        """Read the columns the replay says it needs, and no others."""
        recorded = traffic.from_batch(to_batch(self.recorded))
        return recorded.read(needs(self.cascade, recorded.fields))


def needs(cascade, available):
    """Everything an evaluation of this cascade reads."""
    flagship = cascade.flagship.model
    wanted = replay.needs(cascade) | replay.COUNTED | {Field(None, name) for name in FAMILY}
    for tier in cascade.tiers:
        wanted |= agreement.needs(RULES.agreement, tier.model, flagship)
        wanted |= agreement.quality_needs(tier.model, available)
        wanted |= costs.needs(tier.model, RULES.prices, available)
        wanted |= costs.samples_needs(tier.model, RULES.prices, available)
    for model in (*MODELS, *OTHERS):
        wanted |= costs.needs(model, RULES.prices, available)
    return wanted


TYPES = {
    "answer": pa.string(),
    "judged": pa.string(),
    "samples": pa.list_(pa.string()),
    "case_id": pa.string(),
    "language": pa.string(),
    "cluster": pa.string(),
    "cached": pa.bool_(),
}


def to_batch(recorded: Recorded) -> Batch:
    """Turn the oracle's dictionaries into columns."""
    columns = {}
    for model, name in sorted(recorded.columns, key=str):
        kind = pa.float32() if (model, name) in recorded.single else TYPES.get(name, pa.float64())
        rows = [case if model is None else case["models"].get(model) or {} for case in recorded.cases]
        columns[Field(model, name)] = pa.array([row.get(name) for row in rows], kind)
    for model in {model for model, _ in recorded.columns if model is not None}:
        present = [case["models"].get(model) for case in recorded.cases]
        codes = [-1 if row is None else STATUSES.index(row.get("status") or "ok") for row in present]
        columns[Field(model, "status")] = pa.array(codes, pa.int8())
    return Batch(len(recorded.cases), columns)


# Cascades


def signals():
    """Every kind of signal: recorded ones cost nothing, the others another call or samples."""
    return st.sampled_from(
        [
            Signal("confidence"),
            Signal("confidence"),
            Signal("margin"),
            Signal("judge", {"model": "judge"}),
            Signal("judge", {"model": "critic"}),
            Signal("agreement", {"model": "twin"}),
            Signal("agreement", {"model": "medium"}),
            Signal("self_consistency"),
        ]
    )


def leaf():
    return st.builds(
        Leaf, signals(), threshold=st.sampled_from(GRID), surer=st.sampled_from(["higher", "higher", "lower"])
    )


def gates():
    """Draw a leaf, or gates nested up to three deep."""
    flat = st.lists(leaf(), min_size=1, max_size=3).map(tuple)
    level = st.one_of(leaf(), st.builds(All, flat), st.builds(AnyOf, flat))
    nested = st.lists(level, min_size=1, max_size=3).map(tuple)
    return st.one_of(leaf(), leaf(), level, st.builds(All, nested), st.builds(AnyOf, nested))


def routes(names):
    when = st.sampled_from(
        [{"language": ("de",)}, {"language": ("(none)", "en")}, {"language": ("de",), "cluster": ("x",)}]
    )
    return st.lists(st.builds(Route, when, st.sampled_from(names)), max_size=2).map(tuple)


@st.composite
def cascades(draw):
    """One to four tiers, the flagship always last."""
    models = [*MODELS[: draw(st.integers(0, 3))], "flagship"]
    timeouts = st.sampled_from([None, None, 1.0, 2.0])
    tiers = [
        Tier(f"tier {i}", model, draw(gates()), draw(timeouts), draw(st.booleans()))
        for i, model in enumerate(models[:-1])
    ]
    tiers.append(Tier("top", "flagship", None, draw(timeouts)))
    return Cascade("generated", tuple(tiers), draw(routes([tier.name for tier in tiers])))


# Recordings

CHANCES = (None, 0.25, 0.5, 1.0)
CALL = st.tuples(
    st.sampled_from(["ok", "ok", "ok", "ok", "ok", None, "timeout", "error", "refused", "no row"]),
    st.sampled_from(["a", "A.", "b", None]),
    st.sampled_from(VALUES),
    st.sampled_from(VALUES),
    st.sampled_from([0.25, 0.5, 1.0, 1.5, 2.0, 3.0, None]),
    st.sampled_from([1, 1, 1, 3, None]),
    st.sampled_from([1.0, 0.0, 0.5, 1.0, None, math.nan]),
    st.sampled_from([["a", "a", "b"], ["a", "A.", "a"], ["a"], [], None, ["b", None]]),
)
CASE = st.tuples(
    st.sampled_from(["de", "en", None]),
    st.sampled_from([0.5, 1.0, 2.0, None]),
    st.sampled_from(["x", "y", "z", None]),
    st.sampled_from([False, False, False, False, None, True]),
    st.sampled_from(CHANCES),
    st.sampled_from(["PASS", "FAIL", "maybe", None]),
    st.sampled_from([None, "mini", "small"]),
)


@st.composite
def recordings(draw, *, least=1, most=8, weights=None, clusters=None, audits=None):
    """Draw some cases; columns and rows may be missing, null and NaN, and columns may hold float32."""
    rows = st.tuples(CASE, st.tuples(*[CALL for _ in (*MODELS, *OTHERS)]))
    optional = {
        "weight": st.sampled_from([False, False, True]) if weights is None else st.just(weights),
        "cluster": st.sampled_from([False, False, True]) if clusters is None else st.just(clusters),
        "audit_probability": st.sampled_from([False, False, True]) if audits is None else st.just(audits),
        "cached": st.booleans(),
        "language": st.sampled_from([True, True, True, False]),
    }
    per_case = {name for name, there in optional.items() if draw(there)}
    lost = draw(st.lists(st.sampled_from(LOSABLE), max_size=2)) if draw(st.booleans()) else []
    columns = frozenset({(None, name) for name in per_case | {"case_id"}} | (RECORDABLE - set(lost)))
    single = {key for key in columns if key[1] in {"confidence", "margin"} and draw(st.booleans())}
    cases = [
        one_case(number, *row, columns, single)
        for number, row in enumerate(draw(st.lists(rows, min_size=least, max_size=most)))
    ]
    return Recorded(cases, columns, frozenset(single))


RECORDABLE = frozenset(
    {
        *((model, name) for model in (*MODELS, *OTHERS) for name in ("answer", "latency_s", "cost_usd", "score")),
        *((model, name) for model in MODELS for name in ("confidence", "margin", "samples", "samples_cost_usd")),
        ("judge", "judged"),
    }
)
LOSABLE = sorted(RECORDABLE)


def one_case(number, facts, calls, columns, single):
    language, weight, cluster, cached, chance, word, judged = facts
    case = {
        "case_id": f"case {number}",
        "language": language,
        "weight": weight,
        "cluster": cluster,
        "cached": cached,
        "audit_probability": chance,
    }
    case = {name: value for name, value in case.items() if (None, name) in columns}
    case["models"] = {}
    for model, call in zip((*MODELS, *OTHERS), calls, strict=True):
        row = one_call(model, call)
        if row is not None and model == "judge":
            row |= {"answer": word, "judged": judged}
        if row is not None:
            row = {name: value for name, value in row.items() if name == "status" or (model, name) in columns}
            case["models"][model] = {
                name: float(np.float32(value)) if (model, name) in single and value is not None else value
                for name, value in row.items()
            }
    return case


def one_call(model, call):
    status, answer, confidence, margin, latency, cost, score, samples = call
    if status == "no row":
        return None
    paid = None if cost is None else cost * NANO[model] / 1e9
    row = {"status": status, "answer": answer, "latency_s": latency, "cost_usd": paid, "score": score}
    if model in MODELS:
        extra = None if cost is None or samples is None else cost * SAMPLES_NANO[model] / 1e9
        row |= {"confidence": confidence, "margin": margin, "samples": samples, "samples_cost_usd": extra}
    return row


@st.composite
def scenarios(draw, **recorded):
    """Draw a cascade, and a recording for it."""
    return Scenario(draw(cascades()), draw(recordings(**recorded)))
