"""Recorded cases as columns."""

from cascade_eval.traffic.batch import (
    ABSENT,
    ERROR,
    OK,
    REFUSED,
    STATUSES,
    TIMEOUT,
    Batch,
    Field,
)
from cascade_eval.traffic.database import QueryError
from cascade_eval.traffic.reading import from_batch, from_frame, from_records, open, query  # noqa: A004  traffic.open
from cascade_eval.traffic.recorded import Traffic

__all__ = [
    "ABSENT",
    "ERROR",
    "OK",
    "REFUSED",
    "STATUSES",
    "TIMEOUT",
    "Batch",
    "Field",
    "QueryError",
    "Traffic",
    "from_batch",
    "from_frame",
    "from_records",
    "open",
    "query",
]
