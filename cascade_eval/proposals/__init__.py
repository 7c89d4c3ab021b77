"""Proposals: a chosen threshold or a fitted calibration, and everything it rests on.

A proposal is reviewed before anything uses it. It names the data by hash, says how much of it was labelled, and where
nothing can be certified it says so instead of naming the next best value.

==========  ====================================================================
`gates`     one gate with the cases that reach it
`rates`     disagreement of kept cases by cohort
`samples`   the labelled cases a test may count
`choosing`  `threshold`: the certified threshold that keeps most
`targets`   `escalation`: the threshold that escalates a given share
`pairs`     `pair`: both thresholds of three tiers
`fitting`   `calibrate`: a map from the raw signal to a probability of agreement
`writing`   a proposal for people, and its threshold into the suite
==========  ====================================================================
"""

from __future__ import annotations

from cascade_eval.proposals.choosing import threshold
from cascade_eval.proposals.fitting import Calibration, calibrate
from cascade_eval.proposals.nouns import SCHEMA, Escalation, Pair, Part, Point, Rate, Threshold
from cascade_eval.proposals.pairs import pair
from cascade_eval.proposals.targets import escalation
from cascade_eval.proposals.writing import lines, markdown, write

__all__ = [
    "SCHEMA",
    "Calibration",
    "Escalation",
    "Pair",
    "Part",
    "Point",
    "Rate",
    "Threshold",
    "calibrate",
    "escalation",
    "lines",
    "markdown",
    "pair",
    "threshold",
    "write",
]
