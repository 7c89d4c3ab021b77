"""Decision logs: one row for each request, with what the gate decided.

A row says that the cheap model was called, how confident it was, and whether the case went on to the flagship. What
the models answered is not in it, so escalation, mix and drift can be replayed, and disagreement is not measured.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cascade_eval.importers import calls, lines, messages
from cascade_eval.importers.calls import Aside, Call
from cascade_eval.importers.definition import Importer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

CASE = ("case_id", "request_id", "decision_id", "query_id", "id")
CONFIDENCE = ("confidence", "gate_confidence", "cheap_confidence")
YES, NO = frozenset({"true", "t", "1", "yes"}), frozenset({"false", "f", "0", "no"})
CHEAP, FLAGSHIP = ROLES = ("cheap", "flagship")
"""Names of the models where no map gives others."""


def _read(record: Mapping[str, Any]) -> tuple[Sequence[Call], Mapping[str, Any]]:
    case = calls.text(messages.first(record, CASE), "the case id") or ""
    escalated = _flag(record.get("escalated"))
    confidence = _confidence(messages.first(record, CONFIDENCE))
    columns: dict[str, Any] = {"escalated": escalated}
    served = calls.text(record.get("served_by"), "served_by")
    if served is not None:
        columns["served_by"] = served
    outcomes: dict[str, Any] = {}
    if confidence is not None:
        columns["gate_confidence"] = confidence
        outcomes["confidence"] = confidence
    started = calls.moment(record.get("decided_at"), "decided_at")
    asked = record.get("input")
    common: dict[str, Any] = {"case": case, "started": started, "columns": columns}
    common["input"] = asked if isinstance(asked, str) else None
    last = () if served is None else (served,)
    found = [Call(names=(CHEAP, *(() if escalated else last)), id=f"{case} {CHEAP}", outcomes=outcomes, **common)]
    if escalated:
        found.append(Call(names=(FLAGSHIP, *last), id=f"{case} {FLAGSHIP}", **common))
    return found, record


def _flag(value: Any) -> bool:
    if value is None:
        raise Aside("escalated is missing")
    word = str(value).strip().lower() if isinstance(value, bool | int | str) else ""
    if word not in YES | NO:
        raise Aside("escalated is not true or false", calls.shown(value))
    return word in YES


def _confidence(value: Any) -> float | None:
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            raise Aside("confidence is not a number", calls.shown(value)) from None
    if value is None or value != value:  # noqa: PLR0124  NaN: a signal that was not there
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > 1e300:
        raise Aside("confidence is not a finite number", calls.shown(value))
    return float(value)


IMPORTER = Importer(
    name="decisions",
    help="Decision logs: one row for each request, with its confidence and whether it escalated.",
    records=lines.unchanged,
    read=_read,
    cases={"request": CASE},
    roles=ROLES,
)
