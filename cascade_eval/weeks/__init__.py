"""The weeks a suite is judged by: its traffic's own, and those of its history.

`gather` puts them together, `watch` judges the suite's watched budgets on them, and `blocks` is what evidence and
report show of any weeks.
"""

from __future__ import annotations

from cascade_eval.weeks.blocks import blocks
from cascade_eval.weeks.gathering import Weeks, asked, gather
from cascade_eval.weeks.promised import watch, watch_rows

__all__ = ["Weeks", "asked", "blocks", "gather", "watch", "watch_rows"]
