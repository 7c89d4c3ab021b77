"""From the calls of one case to its rows: parts joined, repeats told from retries, columns of the case agreed on.

Calls of one model in one case are taken in order of time. A call is

- a *retry* where the one before it failed: both are one row;
- a *repeat* where the one before it was answered and had the same recorded prompt: the next `run`; where a cache
  answered it, it says nothing about the model and counts as recorded twice;
- a further *step* where the prompt is another, or was not recorded: one row, and the last answer counts.

A row costs what all its calls cost. A failed call without recorded usage has cost nothing, except one that timed out,
which may have been billed: what its row cost is then unknown, never less.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from cascade_eval.importers.calls import Aside
from cascade_eval.traffic.names import CASE_COLUMNS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from cascade_eval.importers.calls import Call, Scalar

SUMMED = ("input_tokens", "cached_input_tokens", "output_tokens", "cost_usd", "latency_s")


class Named(NamedTuple):
    """A call and the model its row bears."""

    model: str
    call: Call


@dataclass
class Case:
    """What became of the calls of one case.

    Parameters
    ----------
    rows
        In long form, without nulls.
    calls, joined, repeated, other, merged
        How many, as in a report.
    undeclared
        Calls by the name of their model.
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    calls: int = 0
    joined: int = 0
    repeated: int = 0
    other: int = 0
    merged: int = 0
    undeclared: dict[str, int] = field(default_factory=dict)


def case(found: Sequence[Call], name: Callable[[Call], str | None], aside: Callable[[Call, Aside], None]) -> Case:
    """Turn everything that was recorded of one case into rows.

    Parameters
    ----------
    found
        Calls and parts with the same `case`, in any order.
    name
        Which model a call is of; None where the map does not say.
    aside
        Takes what is left out. Where calls contradict each other, the whole case is.
    """
    made = Case()
    ordered = sorted(found, key=_order) if len(found) > 1 else list(found)
    columns_only = [each for each in ordered if each.part and each.join is None]
    made.other = len(columns_only)
    whole = _outermost(_once([each for each in ordered if not (each.part and each.join is None)], made), made)
    joined = _joined(_undisputed(whole, aside), made, aside)
    named = _named(joined, name, made, aside)
    if not named:
        return made
    before = made.repeated
    try:
        shared = _shared([*columns_only, *(each.call for each in named)]) | _given(columns_only)
        rows = [row for model in sorted({each.model for each in named}) for row in _rows(model, named, made)]
    except Aside as problem:
        for each in named:
            aside(each.call, problem)
        made.merged, made.repeated = 0, before
        return made
    made.calls = len(named) - (made.repeated - before)
    made.rows = [_finished(row, shared) for row in rows]
    return made


def _order(call: Call) -> tuple[Any, ...]:
    # Beyond time and id, whatever differs decides, so that the order of lines never does.
    content = msgspec.structs.replace(call, file=0, line=0)
    return (call.started or 0, call.id or "", msgspec.msgpack.encode(content, order="sorted"), call.file, call.line)


def _once(found: Sequence[Call], made: Case) -> list[Call]:
    """Leave out records that were delivered again."""
    if len(found) < 2:
        return list(found)
    kept: list[Call] = []
    seen: set[bytes] = set()
    for call in found:
        content = msgspec.msgpack.encode(msgspec.structs.replace(call, file=0, line=0), order="sorted")
        if call.id is not None and content in seen:
            made.repeated += 1
            continue
        seen.add(content)
        kept.append(call)
    return kept


def _undisputed(found: Sequence[Call], aside: Callable[[Call, Aside], None]) -> list[Call]:
    """Leave out records that bear one id and say different things: which is right, nobody knows."""
    ids = [call.id for call in found if not call.part and call.id is not None]
    twice = {each for each in ids if ids.count(each) > 1} if len(set(ids)) < len(ids) else set()
    for call in found:
        if call.id in twice and not call.part:
            aside(call, Aside("records with one id say different things", str(call.id)))
    return [call for call in found if call.part or call.id not in twice]


def _outermost(found: Sequence[Call], made: Case) -> list[Call]:
    """Leave out a call that surrounds another of the same model: two instrumentations saw one call."""
    if len(found) < 2:
        return list(found)
    inside = {(call.parent, name) for call in found if call.parent and not call.part for name in call.names}
    kept = [call for call in found if call.part or not any((call.id, name) in inside for name in call.names)]
    made.repeated += len(found) - len(kept)
    return kept


# --- parts ---------------------------------------------------------------------------------------------------------


def _joined(found: Sequence[Call], made: Case, aside: Callable[[Call, Aside], None]) -> list[Call]:
    """Complete calls by their parts."""
    parts: dict[str, list[Call]] = {}
    for part in (each for each in found if each.part):
        parts.setdefault(str(part.join), []).append(part)
    whole = [each for each in found if not each.part]
    if not parts:
        return whole
    used: set[int] = set()
    # Results that name their model choose first; what failed may name none, and takes the request that is left.
    done = [
        _completed(call, _parts_of(call, whole, parts.get(call.join or "", []), used))
        for call in sorted(whole, key=lambda call: not call.names)
    ]
    for part in (each for group in parts.values() for each in group):
        if id(part) in used:
            made.joined += 1
        else:
            reason = "a request without a result" if part.names else "an event of a call that is not in the log"
            aside(part, Aside(reason, str(part.join)))
    return sorted(done, key=_order)


def _parts_of(call: Call, whole: Sequence[Call], parts: Sequence[Call], used: set[int]) -> list[Call]:
    """Find the parts of a call: all that name no model, or the one request that asked its model."""
    events = [part for part in parts if not part.names]
    asked = [part for part in parts if part.names and id(part) not in used]
    fits = [part for part in asked if call.names and _dated(call.names[0], part.names[0])]
    chosen = max(fits, key=lambda part: len(part.names[0]), default=None)
    nameless = sum(1 for each in whole if each.join == call.join and not each.names)
    if not call.names and len(asked) == 1 and nameless == 1:
        chosen = asked[0]
    mine = [*events, *([chosen] if chosen is not None else [])]
    used.update(map(id, mine))
    return mine


def _dated(answered: str, asked: str) -> bool:
    """Whether the model that answered may be a dated version of the one that was asked."""
    return answered == asked or answered.startswith(f"{asked}-")


def _completed(call: Call, parts: Sequence[Call]) -> Call:
    if not parts:
        return call
    values: dict[str, Any] = {}
    for name in ("answer", "samples", "input", "started", "token_logprobs", "prompt"):
        own = getattr(call, name)
        given = [getattr(part, name) for part in parts if getattr(part, name) is not None]
        values[name] = own if own is not None else given[-1] if given else None
    prompts = [part.prompt for part in parts if part.prompt is not None]
    if call.prompt is None and len(prompts) > 1:
        values["prompt"] = " ".join(prompts)
    names = (*(name for part in parts for name in part.names), *call.names)
    columns = {key: value for part in parts for key, value in part.columns.items()} | call.columns
    refused = any(part.status == "refused" for part in parts) and call.status == "ok"
    status = "refused" if refused else call.status
    label = call.label or next((part.label for part in parts if part.label), None)
    return msgspec.structs.replace(
        call, names=tuple(dict.fromkeys(names)), columns=columns, status=status, label=label, **values
    )


# --- rows ----------------------------------------------------------------------------------------------------------


def _named(
    found: Sequence[Call],
    name: Callable[[Call], str | None],
    made: Case,
    aside: Callable[[Call, Aside], None],
) -> list[Named]:
    named = []
    for call in found:
        try:
            model = name(call)
        except Aside as problem:
            aside(call, problem)
            continue
        if model is None and not call.names:
            aside(call, Aside("no model"))
        elif model is None:
            made.undeclared[call.names[0]] = made.undeclared.get(call.names[0], 0) + 1
        else:
            named.append(Named(model, call))
    return named


def _rows(model: str, named: Sequence[Named], made: Case) -> list[dict[str, Any]]:
    mine = [each.call for each in named if each.model == model]
    variants = {call.variant for call in mine}
    if len(variants) > 1:
        raise Aside(f"several prompts of one case went to one model{_HINT}", ", ".join(sorted(map(str, variants))))
    attempts = _attempts(mine)
    made.repeated += len(mine) - sum(map(len, attempts.values()))
    made.merged += sum(len(each) - 1 for each in attempts.values())
    return [_row(model, run, each) for run, each in attempts.items()]


_HINT = "; name one of them for each tier in the map"


def _attempts(mine: Sequence[Call]) -> dict[int, list[Call]]:
    """Divide the calls of one model into runs."""
    runs: dict[int, list[Call]] = {}
    last = 0
    for call in mine:
        if call.run is not None:
            last = call.run
        elif runs.get(last) and _again(runs[last][-1], call):
            if call.columns.get("cached"):
                continue
            last += 1
        runs.setdefault(last, []).append(call)
    return runs


def _again(before: Call, call: Call) -> bool:
    return before.status == "ok" and before.prompt is not None and before.prompt == call.prompt


def _row(model: str, run: int, attempts: Sequence[Call]) -> dict[str, Any]:
    answered = [call for call in attempts if call.status == "ok"]
    shown = answered[-1] if answered else attempts[-1]
    row: dict[str, Any] = {"case_id": shown.case, "model": model, "run": run, "status": shown.status}
    for name in ("answer", "samples", "token_logprobs"):
        row[name] = getattr(shown, name)
    for name in SUMMED:
        row[name] = _sum(name, attempts)
    if len(attempts) > 1:
        row["attempts"] = ", ".join(call.status for call in attempts)
    for call in attempts:
        row |= call.outcomes
        row |= {key: value for key, value in call.columns.items() if _is_number(value)}
    return row


def _sum(name: str, attempts: Sequence[Call]) -> Any:
    if len(attempts) == 1:
        return getattr(attempts[0], name)
    values = [getattr(call, name) for call in attempts]
    known = [value for value in values if value is not None]
    missing = [call for call, value in zip(attempts, values, strict=True) if value is None]
    if not known or any(not _free(call, name) for call in missing):
        return None
    return sum(known)


def _free(call: Call, name: str) -> bool:
    """Whether a value that was not recorded is nothing: of a failed call, and of tokens that would be a part."""
    if name == "cached_input_tokens" and call.status == "ok":
        return call.input_tokens is not None
    return call.status in {"error", "refused"} and name != "latency_s"


def _is_number(value: Scalar) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


# --- columns of the case -------------------------------------------------------------------------------------------


def _shared(found: Sequence[Call]) -> dict[str, Scalar]:
    """Agree on the columns of the case.

    A number may be a signal, which every call has its own of; it is of the case where all calls say the same.
    """
    shared: dict[str, Scalar] = {}
    loose: set[str] = set()
    for call in found:
        for name, value in call.columns.items():
            if name == "cached":
                continue
            if name not in shared:
                shared[name] = value
            elif shared[name] != value or type(shared[name]) is not type(value):
                if name in CASE_COLUMNS or not (_is_number(value) and _is_number(shared[name])):
                    raise Aside(f"{name} differs between the records of one case", f"{shared[name]!r} and {value!r}")
                loose.add(name)
    of_calls = [call for call in found if call.names or call.label]
    started = [call.started for call in of_calls if call.started is not None]
    if started and "decided_at" not in shared:
        shared["decided_at"] = min(started)
    asked = [call.input for call in of_calls if call.input is not None]
    if asked and "input" not in shared:
        shared["input"] = asked[0]
    cached = [call.columns.get("cached") for call in of_calls]
    if any(value is not None for value in cached):
        # A cache in front of the cascade answered only where it answered everything.
        shared["cached"] = all(cached)
    return {name: value for name, value in shared.items() if name not in loose}


def _given(columns_only: Sequence[Call]) -> dict[str, Scalar]:
    """Return columns of calls that a record around them has: they are every call's that has none of its own."""
    given: dict[str, Scalar] = {}
    for part in columns_only:
        for name, value in part.outcomes.items():
            if given.setdefault(name, value) != value:
                raise Aside(f"{name} differs between the records of one case", f"{given[name]!r} and {value!r}")
    return given


def _finished(row: dict[str, Any], shared: Mapping[str, Scalar]) -> dict[str, Any]:
    return {name: value for name, value in {**shared, **row}.items() if value is not None}
