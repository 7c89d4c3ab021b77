"""The weeks a suite is judged by: its traffic's own, and those of its history.

`gather` puts them together, `place` finds the history a suite names and `shown_as` names it without a password, `watch` judges the suite's watched budgets on them, and `blocks` is what evidence and
report show of any weeks.
"""

from __future__ import annotations

from cascade_eval.weeks.blocks import blocks
from cascade_eval.weeks.gathering import APART, Weeks, asked, gather, place, shown_as
from cascade_eval.weeks.promised import watch, watch_rows

__all__ = ["APART", "Weeks", "asked", "blocks", "gather", "place", "shown_as", "watch", "watch_rows"]
