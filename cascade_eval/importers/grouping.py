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

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec

from cascade_eval.importers.calls import Aside
from cascade_eval.traffic.names import CASE_COLUMNS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from cascade_eval.importers.calls import Call, Scalar

Named: TypeAlias = "tuple[str, Call]"
"""The model a row bears, and its call."""

DEEPEST = 100
"""How far up what surrounds a call is followed."""

SUMMED = ("input_tokens", "cached_input_tokens", "output_tokens", "cost_usd", "latency_s")


@dataclass
class Case:
    """What became of the calls of one case.

    Parameters
    ----------
    rows
        In long form; a null is a value that is not there.
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
    columns_only, joined = _whole(found, made, aside)
    named = _named(joined, name, made, aside)
    if not named:
        return made
    before = made.repeated
    try:
        shared = _shared([*columns_only, *(call for _, call in named)]) | _given(columns_only)
        made.rows = [row for model, mine in _by_model(named) for row in _rows(model, mine, shared, made)]
    except Aside as problem:
        for _, call in named:
            aside(call, problem)
        made.merged, made.repeated = 0, before
        return made
    made.calls = len(named) - (made.repeated - before)
    return made


def _whole(
    found: Sequence[Call], made: Case, aside: Callable[[Call, Aside], None]
) -> tuple[Sequence[Call], Sequence[Call]]:
    """Return what has columns only, and the calls: each once, complete, and in order."""
    if len(found) == 1 and not found[0].part:
        return (), found
    ordered = _ordered(found)
    columns_only = [each for each in ordered if each.between]
    made.other = len(columns_only)
    told = [each for each in ordered if not each.between] if columns_only else ordered
    once = _outermost(_once(told, made), columns_only, made)
    return columns_only, _joined(_undisputed(once, aside), made, aside)


def _ordered(found: Sequence[Call]) -> list[Call]:
    """Put calls in order of time, and of their ids where they have none or the same."""
    distinct = len({_time(call) for call in found}) == len(found)
    return sorted(found, key=_time if distinct else _order)


def _time(call: Call) -> tuple[int, str]:
    return call.started or 0, call.id or ""


def _order(call: Call) -> tuple[Any, ...]:
    # Beyond time and id, whatever differs decides, so that the order of lines never does.
    content = msgspec.structs.replace(call, file=0, line=0)
    return (call.started or 0, call.id or "", msgspec.msgpack.encode(content, order="sorted"), call.file, call.line)


def _once(found: Sequence[Call], made: Case) -> list[Call]:
    """Leave out records that were delivered again."""
    ids = [call.id for call in found if call.id is not None]
    if len(set(ids)) == len(ids):
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
    if len(set(ids)) == len(ids):
        return list(found)
    twice = {each for each, times in Counter(ids).items() if times > 1}
    for call in found:
        if call.id in twice and not call.part:
            aside(call, Aside("records with one id say different things", str(call.id)))
    return [call for call in found if call.part or call.id not in twice]


def _outermost(found: Sequence[Call], between: Sequence[Call], made: Case) -> list[Call]:
    """Leave out a call that surrounds another of the same model: two instrumentations saw one call."""
    called = [call for call in found if not call.part]
    if len(called) < 2 or not any(call.parent for call in called):
        return list(found)
    parents = {str(each.id): each.parent for each in (*called, *between)}
    inside = {(outer, name) for call in called for outer in _around(call, parents) for name in call.names}
    kept = [call for call in found if call.part or not any((call.id, name) in inside for name in call.names)]
    made.repeated += len(found) - len(kept)
    return kept


def _around(call: Call, parents: Mapping[str, str | None]) -> list[str]:
    """Return the ids of all that surrounds a call, nearest first; nothing surrounds what surrounds itself."""
    found: list[str] = []
    outer = call.parent
    while outer and outer not in found and len(found) < DEEPEST:
        found.append(outer)
        outer = parents.get(outer)
    return [] if call.id in found else found


# --- parts ---------------------------------------------------------------------------------------------------------


def _joined(found: Sequence[Call], made: Case, aside: Callable[[Call, Aside], None]) -> list[Call]:
    """Complete calls by their parts."""
    whole = [each for each in found if not each.part]
    if len(whole) == len(found):
        return whole
    parts: dict[str, list[Call]] = {}
    for part in (each for each in found if each.part):
        parts.setdefault(str(part.join), []).append(part)
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
    answers = {str(part.id): part.answer for part in parts if part.answer is not None}
    if call.answer is None and len(answers) > 1:
        # Events of several choices: the first is the answer, as where a span holds them all.
        values["samples"] = [answers[each] for each in sorted(answers)]
        values["answer"] = values["samples"][0]
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
            named.append((model, call))
    return named


def _by_model(named: Sequence[Named]) -> list[tuple[str, list[Call]]]:
    if len(named) == 1:
        return [(named[0][0], [named[0][1]])]
    found: dict[str, list[Call]] = {}
    for model, call in named:
        found.setdefault(model, []).append(call)
    return sorted(found.items())


def _rows(model: str, mine: Sequence[Call], shared: Mapping[str, Scalar], made: Case) -> list[dict[str, Any]]:
    if len(mine) == 1:
        return [_row(model, mine[0].run or 0, mine, shared)]
    variants = {call.variant for call in mine}
    if len(variants) > 1:
        raise Aside(f"several prompts of one case went to one model{_HINT}", ", ".join(sorted(map(str, variants))))
    attempts = _attempts(mine)
    made.repeated += len(mine) - sum(map(len, attempts.values()))
    made.merged += sum(len(each) - 1 for each in attempts.values())
    return [_row(model, run, each, shared) for run, each in attempts.items()]


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


def _row(model: str, run: int, attempts: Sequence[Call], shared: Mapping[str, Scalar]) -> dict[str, Any]:
    shown = next((call for call in reversed(attempts) if call.status == "ok"), attempts[-1])
    row: dict[str, Any] = {
        **shared,
        "case_id": shown.case,
        "model": model,
        "run": run,
        "status": shown.status,
        "answer": shown.answer,
        "samples": shown.samples,
        "token_logprobs": shown.token_logprobs,
        "input_tokens": shown.input_tokens,
        "cached_input_tokens": shown.cached_input_tokens,
        "output_tokens": shown.output_tokens,
        "cost_usd": shown.cost_usd,
        "latency_s": shown.latency_s,
    }
    if len(attempts) > 1:
        row |= {name: _sum(name, attempts) for name in SUMMED}
        row["attempts"] = ", ".join(call.status for call in attempts)
    for call in attempts:
        if call.outcomes:
            row |= call.outcomes
        for name, value in call.columns.items():
            if _is_number(value):
                row[name] = value
    return row


def _sum(name: str, attempts: Sequence[Call]) -> Any:
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
    of_calls = [call for call in found if call.names or call.label] if len(found) > 1 else found
    cached = [call.columns["cached"] for call in of_calls if "cached" in call.columns]
    for call in found:
        for name, value in call.columns.items():
            if name == "cached" and cached:
                continue
            if name not in shared:
                shared[name] = value
            elif shared[name] != value or type(shared[name]) is not type(value):
                if name in CASE_COLUMNS or not (_is_number(value) and _is_number(shared[name])):
                    raise Aside(f"{name} differs between the records of one case", f"{shared[name]!r} and {value!r}")
                loose.add(name)
    started = [call.started for call in of_calls if call.started is not None]
    if started and "decided_at" not in shared:
        shared["decided_at"] = min(started)
    asked = next((call.input for call in of_calls if call.input is not None), None)
    if asked is not None and "input" not in shared:
        shared["input"] = asked
    if cached:
        # A cache in front of the cascade answered only where it answered everything.
        shared["cached"] = len(cached) == len(of_calls) and all(cached)
    return {name: value for name, value in shared.items() if name not in loose} if loose else shared


def _given(columns_only: Sequence[Call]) -> dict[str, Scalar]:
    """Return columns of calls that a record around them has: they are every call's that has none of its own."""
    given: dict[str, Scalar] = {}
    for part in columns_only:
        for name, value in part.outcomes.items():
            if given.setdefault(name, value) != value:
                raise Aside(f"{name} differs between the records of one case", f"{given[name]!r} and {value!r}")
    return given
