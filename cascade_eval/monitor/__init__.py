"""Weeks of a cascade: rows, sequences that stay valid however often one looks, and what they say.

`weekly` turns traffic into rows (`whole` into those of one window), `fixed` does it for a set that is asked again each
week, `judge` reads rows of any number of weeks, and `history` keeps them in between.
"""

from __future__ import annotations

from cascade_eval.monitor.judging import judge
from cascade_eval.monitor.movements import LOOKS
from cascade_eval.monitor.nouns import KINDS, Change, Cohort, Finding, Findings, Kind, Row, Watched, label
from cascade_eval.monitor.rows import WHOLE, fixed, gone, namesake, weekly, whole

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
    "fixed",
    "gone",
    "judge",
    "label",
    "namesake",
    "weekly",
    "whole",
]
