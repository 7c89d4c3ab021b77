"""The flagship looked at itself: how often it contradicts itself, and which of its answers a person should see.

The flagship is the reference, not the truth. Asked again it sometimes answers otherwise, and a disagreement budget below
that rate asks for more agreement than the flagship has with itself.
"""

from __future__ import annotations

import csv
import io
import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from cascade_eval import atomic, bounds, budgets, cohorts, metrics, signals
from cascade_eval.cascade import Signal
from cascade_eval.diagnosis import changes
from cascade_eval.diagnosis.escalating import speaks_of
from cascade_eval.errors import Problem, UsageError, did_you_mean
from cascade_eval.suite import evaluation, repeats
from cascade_eval.traffic import OK, Field

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Mapping, Sequence

    from cascade_eval.cascade import Cascade
    from cascade_eval.monitor import Cohort
    from cascade_eval.suite import Suite
    from cascade_eval.traffic import Traffic
    from cascade_eval.verdicts import Estimate

_SELF = metrics.METRICS["flagship self-disagreement"]

SIGNALS: Final = (("confidence", "confidence"), ("logprob", "token_logprobs"))
"""What says how sure the flagship is, in the order in which it is looked for, and the column each needs."""


class Corrected(NamedTuple):
    """A cascade's disagreement as measured, and what it would be by labels that do not flip; None where unknown."""

    raw: float | None
    corrected: float | None


@dataclass(frozen=True)
class Noise:
    """How often the flagship disagrees with itself.

    Parameters
    ----------
    model
        The flagship.
    overall
        Share of repeated cases whose second answer disagrees with the first, with bounds.
    cohorts
        The same by cohort, of the suite's columns.
    flipped
        Chance that one answer is not the flagship's usual one, if its answers are of two kinds: two answers then differ in
        ``2 * flipped * (1 - flipped)`` of the cases.
    below
        Each disagreement budget that lies under the lower bound of its own scope: a second flagship would break it.
    perhaps
        Each that lies under the rate, though not under its lower bound: the repeats are too few to say.
    corrected
        Disagreement of each cascade, raw and corrected by `flipped`. Verdicts use the raw one.
    """

    model: str
    overall: Estimate
    cohorts: Mapping[Cohort, Estimate]
    flipped: float
    below: tuple[Problem, ...]
    perhaps: tuple[Problem, ...]
    corrected: Mapping[str, Corrected] = field(default_factory=dict)


def noise(suite: Suite, traffic: Traffic, *, cascade: str | None = None) -> Noise | None:
    """Measure the noise floor on cases the flagship was asked about twice (column `run`).

    Parameters
    ----------
    suite
        Its agreement decides what differs, and its disagreement budgets are compared with the floor.
    traffic
        Long rows with `run`.
    cascade
        Whose flagship; the suite's first unless given.

    Returns
    -------
    Noise or None
        None where nothing was asked twice, or no answer to a repeat can be compared.
    """
    model = _cascade(suite, cascade).flagship.model
    plan = evaluation.plan(replace(suite, budgets=(), baseline=None), traffic, {}, sweep=False)
    tables = repeats.count(plan, traffic, model)
    context = metrics.Context((), suite.confidence, suite.coverage, suite.audited)
    overall = [metrics.estimates(_SELF, table.total(), context)[0] for table in tables.values()][:1]
    if not overall or overall[0].value is None:
        return None
    each: dict[Cohort, Estimate] = {}
    for family, table in tables.items():
        for member, estimate in zip(table.members, metrics.estimates(_SELF, table, context), strict=True):
            each[tuple(zip(family, member, strict=True))] = estimate
    each.pop((), None)
    flipped = flips_behind(overall[0].value)
    raw = (
        {
            one.name: run.disagreement.value
            for one, run in zip(suite.cascades, changes.replays(suite, traffic, suite.cascades), strict=True)
        }
        if _same(suite, model)
        else {}
    )
    return Noise(
        model,
        overall[0],
        each,
        flipped,
        tuple(_below(suite, model, {(): overall[0], **each}, shown=True)),
        tuple(_below(suite, model, {(): overall[0], **each}, shown=False)),
        {name: Corrected(value, _corrected(value, flipped)) for name, value in raw.items()},
    )


def flips_behind(self_disagreement: float) -> float:
    """Chance that one answer of two kinds is not the usual one, from how often two answers differ.

    Examples
    --------
    >>> round(flips_behind(2 * 0.03 * 0.97), 4), flips_behind(0.0), flips_behind(0.7)
    (0.03, 0.0, 0.5)
    """
    return float((1 - np.sqrt(max(0.0, 1 - 2 * self_disagreement))) / 2)


def _corrected(value: float | None, flipped: float) -> float | None:
    found = float("nan") if value is None else float(bounds.without_flips(value, flipped))
    return None if np.isnan(found) else found


def _same(suite: Suite, model: str) -> bool:
    return all(one.flagship.model == model for one in suite.cascades)


def _below(suite: Suite, model: str, found: Mapping[Cohort, Estimate], *, shown: bool) -> Iterator[Problem]:
    """Name the budgets under the floor of their own scope: by its lower bound, or by its value alone."""
    for budget in suite.budgets:
        high = budget.bound.high
        if budget.metric != "disagreement" or high is None:
            continue
        for cohort, estimate in found.items():
            if estimate.value is None or estimate.low is None or not speaks_of(budget.scope, cohort):
                continue
            if high < estimate.low if shown else estimate.low <= high < estimate.value:
                yield Problem(_sentence(model, cohort, estimate, budget, shown=shown), budget.file, budget.line)


def _sentence(model: str, cohort: Cohort, estimate: Estimate, budget: budgets.Budget, *, shown: bool) -> str:
    where = f" in {cohorts.label(tuple(c for c, _ in cohort), tuple(v for _, v in cohort))}" if cohort else ""
    words = "and cannot be proven" if shown else f"though {estimate.nobs:,} repeats are too few to be sure of it"
    return (
        f"'{model}' disagrees with itself{where} in {budgets.show(estimate.value, 'rate')} of {estimate.nobs:,} repeated cases "
        f"({budgets.show(estimate.low, 'rate')} to {budgets.show(estimate.high, 'rate')}): '{budget.bound}' is below that, {words}."
    )


@dataclass(frozen=True)
class Doubtful:
    """An answer of the flagship that it was not sure of.

    Parameters
    ----------
    case_id, cohort
        Which case, and the value of each of the suite's cohort columns.
    signal, value
        How sure it was, and by what.
    answer, input
        What it answered, and what was asked; None where that was not recorded.
    """

    case_id: str
    cohort: Mapping[str, str]
    signal: str
    value: float
    answer: str | None
    input: str | None


def doubtful(
    suite: Suite,
    traffic: Traffic,
    *,
    cascade: str | None = None,
    signal: str | None = None,
    at_most: float | None = None,
    limit: int = 20,
) -> tuple[Doubtful, ...]:
    """List the flagship's answers that it was least sure of, for a person to look at.

    Parameters
    ----------
    suite, traffic
        Whose cases.
    cascade
        Whose flagship; the suite's first unless given.
    signal
        A recorded column of the flagship in which higher is surer, or ``logprob``; `confidence` where it was recorded,
        else the mean probability of the answer's tokens.
    at_most
        Only answers with this value or less.
    limit
        Most answers.

    Returns
    -------
    tuple of Doubtful
        The least sure first, ties by position in the traffic.

    Raises
    ------
    UsageError
        Nothing recorded says how sure the flagship was, or it answered nothing.
    """
    model = _cascade(suite, cascade).flagship.model
    columns = [column.name for column in suite.cohorts]
    names = _signals(traffic, model, signal)
    for name in names:
        found = _least_sure(traffic, model, name, np.inf if at_most is None else at_most, limit)
        if found is not None:
            return tuple(_shown(traffic, model, name, columns, *found)) if len(found[0]) else ()
    message = f"{' and '.join(names)} of '{model}' are null in every case, so nothing says how sure it was"
    raise UsageError([Problem(message, traffic.name)])


def _least_sure(
    traffic: Traffic, model: str, name: str, at_most: float, limit: int
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]] | None:
    """Values and positions of the least sure answers; None where no answer has a value."""
    wanted = Signal(name)
    needs = signals.needs(wanted, model) | {Field(model, "answer")}
    values, positions, readable = np.zeros(0), np.zeros(0, dtype=np.int64), False
    for batch in traffic.batches(needs & traffic.fields):
        own = signals.compute(wanted, batch, model).astype(np.float64)
        known = (batch.status(model) == OK) & ~np.isnan(own)
        readable |= bool(known.any())
        known &= own <= at_most
        values = np.concatenate([values, own[known]])
        positions = np.concatenate([positions, np.flatnonzero(known) + batch.first])
        first = np.lexsort((positions, values))[:limit]
        values, positions = values[first], positions[first]
    return (values, positions) if readable else None


def _shown(
    traffic: Traffic,
    model: str,
    name: str,
    columns: Sequence[str],
    values: np.ndarray[Any, Any],
    positions: np.ndarray[Any, Any],
) -> Iterator[Doubtful]:
    needs = {Field(None, "case_id"), Field(None, "input"), Field(model, "answer"), *cohorts.needs(columns)}
    batch = traffic.rows(positions.tolist(), needs & traffic.fields)
    codes = {column: cohorts.encode(batch, (column,)) for column in columns}
    for row, value in enumerate(values.tolist()):
        answer, asked = batch.text(model, "answer", row), batch.text(None, "input", row)
        yield Doubtful(
            str(batch.text(None, "case_id", row)),
            {column: one.members[int(one.codes[row])][0] for column, one in codes.items()},
            name,
            value,
            None if answer is None else str(answer),
            None if asked is None else str(asked),
        )


def _signals(traffic: Traffic, model: str, signal: str | None) -> list[str]:
    """Return what may say how sure the flagship was, in the order in which it is looked at."""
    if signal is None:
        found = [name for name, column in SIGNALS if Field(model, column) in traffic.fields]
        if not found:
            message = f"nothing says how sure '{model}' was: record its `confidence` or `token_logprobs`"
            raise UsageError([Problem(message, traffic.name)])
        return found
    known = [field.name for field in traffic.fields if field.model == model]
    needs = signals.needs(Signal(signal), model)
    lost = [need.name for need in needs if need.name != "status" and need.name not in known]
    if lost:
        raise UsageError([Problem(f"'{model}' has no column '{lost[0]}'.{did_you_mean(lost[0], known)}", traffic.name)])
    return [signal]


def _cascade(suite: Suite, name: str | None) -> Cascade:
    names = [one.name for one in suite.cascades]
    if name is not None and name not in names:
        raise UsageError([Problem(f"no cascade '{name}'.{did_you_mean(name, names)}", suite.name)])
    return suite.cascade(name or names[0])


# Handing out


def write(path: str | os.PathLike[str], found: Sequence[Doubtful]) -> Path:
    """Write doubtful answers as CSV or JSONL, for a person to fill in; a spreadsheet runs nothing that is written there.

    Parameters
    ----------
    path
        Ending in .csv or .jsonl.
    found
        From `doubtful`.
    """
    target = Path(path)
    if target.suffix not in {".csv", ".jsonl"}:
        raise UsageError(f"-o: answers for review are written as .csv or .jsonl, not as '{path}'.")
    records = [_record(one) for one in found]
    if target.suffix == ".jsonl":
        lines = (json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n" for record in records)
        return atomic.write(target, "".join(lines).encode())
    stream = io.StringIO()
    rows = csv.DictWriter(stream, list(records[0]) if records else list(_COLUMNS))
    rows.writeheader()
    rows.writerows({name: neutral(value) for name, value in record.items()} for record in records)
    return atomic.write(target, stream.getvalue().encode())


_COLUMNS = ("case_id", "signal", "value", "answer", "input", "review")


def _record(one: Doubtful) -> dict[str, Any]:
    """Return a row: the case, its cohorts, the answer, and an empty place for what the person says."""
    value = one.value if np.isfinite(one.value) else str(one.value)
    rest = {"signal": one.signal, "value": value, "answer": one.answer, "input": one.input, "review": ""}
    return {"case_id": one.case_id, **one.cohort, **rest}


def neutral(value: object) -> object:
    """Keep a spreadsheet from reading text as a formula.

    Examples
    --------
    >>> neutral("=1+1"), neutral("refund"), neutral(-0.5)
    ("'=1+1", 'refund', -0.5)
    """
    if not isinstance(value, str):
        return value
    # Spreadsheets look behind leading blanks, and take a tab or a carriage return for the end of a cell.
    risky = value.lstrip().startswith(("=", "+", "-", "@", "＝", "＋", "－", "＠")) or value.startswith(
        ("\t", "\r", "\n")
    )
    return f"'{value}" if risky else value
