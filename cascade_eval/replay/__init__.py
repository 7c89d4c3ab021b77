"""Who settled each case, at what cost: a cascade replayed on recorded answers.

===========  =============================================================================================
`columns`    what every cascade replayed on the same cases shares, computed once
`decisions`  the decision rule
`members`    cases by the members of a cohort family: counted, and summed over
`charges`    what the calls cost, and what always asking the flagship would have cost
`paired`     how two cascades served the same cases
`tallies`    from what became of each case to tables that add up
`slices`     `Replay`, and its slices by cohort and by where a case was settled
===========  =============================================================================================
"""

from cascade_eval.replay.charges import always_flagship
from cascade_eval.replay.columns import Columns, Rules
from cascade_eval.replay.decisions import UNRESOLVED, Decisions, decide, needs
from cascade_eval.replay.members import Tallied, among, tallied
from cascade_eval.replay.paired import paired_state, pairs
from cascade_eval.replay.slices import Replay, leaf_names, run
from cascade_eval.replay.tallies import NEEDS as COUNTED
from cascade_eval.replay.tallies import served_quality, tally

__all__ = [
    "COUNTED",
    "UNRESOLVED",
    "Columns",
    "Decisions",
    "Replay",
    "Rules",
    "Tallied",
    "always_flagship",
    "among",
    "decide",
    "leaf_names",
    "needs",
    "paired_state",
    "pairs",
    "run",
    "served_quality",
    "tallied",
    "tally",
]
