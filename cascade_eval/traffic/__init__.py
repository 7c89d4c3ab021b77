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

__all__ = ["ABSENT", "ERROR", "OK", "REFUSED", "STATUSES", "TIMEOUT", "Batch", "Field"]
