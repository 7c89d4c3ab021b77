"""The weeks a suite is judged by: its traffic's own, and those of its history.

`gather` puts them together, `watch` judges the suite's watched budgets on them, and `blocks` is what evidence and report
show of any weeks. `place` finds the history a suite names, `shown_as` names it without a password, and `refuse_namesake`
keeps the weeks of another suite out.
"""

from __future__ import annotations

from cascade_eval.weeks.blocks import blocks
from cascade_eval.weeks.gathering import Weeks, asked, gather, place, refuse_namesake, shown_as
from cascade_eval.weeks.promised import watch, watch_rows

__all__ = ["Weeks", "asked", "blocks", "gather", "place", "refuse_namesake", "shown_as", "watch", "watch_rows"]
