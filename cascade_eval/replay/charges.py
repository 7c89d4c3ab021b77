"""What the calls of a cascade cost, and what always asking the flagship would have cost, as sums that add up."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from cascade_eval import costs
from cascade_eval.counts import Clusters
from cascade_eval.prices import rates
from cascade_eval.replay.members import among, grouped
from cascade_eval.traffic import Field
from cascade_eval.traffic.batch import array

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cascade_eval.cascade import Cascade
    from cascade_eval.replay.columns import Columns
    from cascade_eval.replay.decisions import Decisions
    from cascade_eval.replay.members import Tallied

    Mask = NDArray[np.bool_]


def count(
    t: Tallied,
    cascade: Cascade,
    decisions: Decisions,
    decided: Mask,
    arrays: dict[str, NDArray[Any]],
    clusters: dict[str, Clusters],
) -> None:
    """Sum what was paid, and what always asking the flagship would have cost, by hash group.

    Table ``costs`` has four columns: cases whose cost is known; and whose always-flagship cost is, too; all; and cases
    whose always-flagship cost had to be estimated.
    """
    known = decided & t.of(decisions.cost_known).astype(np.bool_)
    cost = t.of(decisions.cost)
    flagship, flagship_known, estimated = always_flagship(t.columns, cascade, decisions)
    paired = known & t.of(flagship_known).astype(np.bool_)
    arrays["request.cost"] = grouped(t, known, cost)
    arrays["request.cases"] = grouped(t, known, None)
    same = np.array_equal(known, paired)
    arrays["ratio.cost"] = arrays["request.cost"] if same else grouped(t, paired, cost)
    arrays["ratio.flagship"] = grouped(t, paired, t.of(flagship).astype(np.int64, copy=False))
    guessed = paired & t.of(estimated).astype(np.bool_)
    _count_missing(t, cascade, known & ~paired, cost, arrays)
    arrays["costs"] = t.cases(known, paired, decided, guessed)
    _count_tasks(t, known, cost, clusters)


def _count_missing(
    t: Tallied,
    cascade: Cascade,
    missing: Mask,
    cost: NDArray[np.int64],
    arrays: dict[str, NDArray[Any]],
) -> None:
    """Sum what an estimate of unrecorded flagship calls needs: their input, and what known calls cost.

    Table ``missing.answered`` holds by member what the output of recorded flagship calls costs and of how many it is
    known, and the same of whole calls. It is counted whether or not a call is missing here: another batch may need it.
    """
    first, flagship = cascade.tiers[0].model, cascade.flagship.model
    answered = _repriced(t.columns, flagship, flagship, "output_tokens")
    charges = answered, t.columns.charge(flagship)
    columns = [column for charge in charges for column in t.once(charge, functools.partial(_known_sum, t, charge))]
    arrays["missing.answered"] = np.stack(columns, axis=1)
    if missing.any():
        asked = _repriced(t.columns, flagship, first, "input_tokens")
        known = t.of(asked.known).astype(np.bool_) & missing
        arrays["missing.cost"] = grouped(t, missing, cost)
        arrays["missing.cases"] = grouped(t, missing, None)
        arrays["missing.asked"] = grouped(t, known, t.of(asked.nano).astype(np.int64))
        arrays["missing.inputs"] = np.bincount(t.codes[known], minlength=t.size)


def _known_sum(t: Tallied, charge: costs.Charge) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Sum the calls of known cost by member, and count them."""
    known = t.of(charge.known).astype(np.bool_)
    total = np.bincount(among(t.codes, known), weights=among(t.of(charge.nano), known), minlength=t.size)
    return np.rint(total).astype(np.int64), t.cases(known)[:, 0]


def _repriced(columns: Columns, flagship: str, model: str, name: str) -> costs.Charge:
    """Charge one model's recorded tokens at the flagship's price, and nothing else."""
    key = ("repriced", flagship, model, name)
    if key not in columns.kept:
        columns.kept[key] = _reprice(columns, flagship, model, name)
    found: costs.Charge = columns.kept[key]
    return found


def _reprice(columns: Columns, flagship: str, model: str, name: str) -> costs.Charge:
    batch = columns.batch
    if not batch.has(model, name) or not rates(flagship, columns.rules.prices):
        nothing = np.zeros(batch.cases, dtype=np.int64)
        return costs.Charge(nothing, nothing != 0, np.full(batch.cases, -1, dtype=np.int16), ())
    zero = array(np.zeros(batch.cases, dtype=np.int64))
    moved = {Field(flagship, "status"): array(np.zeros(batch.cases, dtype=np.int8))}
    moved |= {Field(flagship, "input_tokens"): zero, Field(flagship, "output_tokens"): zero}
    if batch.has(None, "decided_at"):
        moved[Field(None, "decided_at")] = batch.arrow(None, "decided_at")
    moved[Field(flagship, name)] = batch.arrow(model, name)
    return costs.call(replace(batch, columns=moved), flagship, columns.rules.prices)


def always_flagship(columns: Columns, cascade: Cascade, decisions: Decisions) -> tuple[NDArray[np.int64], Mask, Mask]:
    """Return the cost of asking the flagship at once, where it is known, and where it is estimated.

    A recorded flagship call counts as it is. Where an audit drew some unescalated cases, each drawn call stands for
    ``1 / audit_probability`` cases and the others for none: the sum is unbiased, and marked as estimated. Elsewhere a
    flagship call that was not recorded is not known here; it is estimated from the counts (tables ``missing.*``).

    Returns
    -------
    nano, known, estimated : ndarray of shape (n_cases,)
    """
    charge = columns.charge(cascade.flagship.model)
    estimated = np.zeros(columns.batch.cases, dtype=np.bool_)
    if not columns.batch.has(None, "audit_probability"):
        return charge.nano, charge.known, estimated
    chance = columns.batch.numbers(None, "audit_probability").astype(np.float64)
    below = (decisions.settled >= 0) & (decisions.settled < len(cascade.tiers) - 1)
    drawn = below & ~np.isnan(chance) & charge.known
    skipped = below & np.isnan(chance)
    with np.errstate(invalid="ignore", divide="ignore"):
        grown = np.rint(np.where(drawn, charge.nano / chance, charge.nano))
    nano = np.where(skipped, 0, np.nan_to_num(grown)).astype(np.int64)
    return nano, charge.known | skipped, below


def _count_tasks(t: Tallied, known: Mask, cost: NDArray[np.int64], clusters: dict[str, Clusters]) -> None:
    """Keep what each task's steps cost and whether it was completed; a case without a task is one."""
    batch = t.columns.batch
    if not batch.has(None, "completed"):
        return
    done = t.of(batch.flags(None, "completed")[0]).astype(np.int64)
    name = "task_id" if batch.has(None, "task_id") else "case_id"
    task = t.of(t.columns.hashes(name)).astype(np.uint64)
    clusters["tasks"] = Clusters(t.codes[known], task[known], done[known], cost[known].astype(np.float64))
