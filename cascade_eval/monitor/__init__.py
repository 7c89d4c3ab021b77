"""Weeks of a cascade: rows, sequences that stay valid however often one looks, and what they say.

`weekly` turns traffic into rows (`whole` into those of one window), `fixed` does it for a set that is asked again each
week, `judge` reads rows of any number of weeks, and `history` keeps them in between.
"""

from __future__ import annotations

from cascade_eval.monitor.judging import judge
from cascade_eval.monitor.movements import LOOKS
from cascade_eval.monitor.namesakes import known_as, namesake
from cascade_eval.monitor.nouns import KINDS, Change, Cohort, Finding, Findings, Kind, Row, Watched, check_week, label
from cascade_eval.monitor.rows import WHOLE, fixed, gone, weekly, whole
from cascade_eval.monitor.stragglers import without_future, without_late

__all__ = [
    "KINDS",
    "LOOKS",
    "WHOLE",
    "Change",
    "Cohort",
    "Finding",
    "Findings",
    "Kind",
    "Row",
    "Watched",
    "check_week",
    "fixed",
    "gone",
    "judge",
    "known_as",
    "label",
    "namesake",
    "weekly",
    "whole",
    "without_future",
    "without_late",
]
