"""Proposals: a chosen threshold or a fitted calibration, and everything it rests on.

A proposal is reviewed before anything uses it. It names the data by hash, says how much of it was labelled, and where
nothing can be certified it says so instead of naming the next best value.

==========  ====================================================================
`gates`     one gate with the cases that reach it
`samples`   the labelled cases a test may count
`choosing`  `threshold`: the laxest threshold that is certified
`fitting`   `calibrate`: a map from the raw signal to a probability of agreement
`writing`   a proposal for people, and its threshold into the suite
==========  ====================================================================
"""

from __future__ import annotations

from cascade_eval.proposals.choosing import threshold
from cascade_eval.proposals.fitting import Calibration, calibrate
from cascade_eval.proposals.nouns import SCHEMA, Part, Rate, Threshold
from cascade_eval.proposals.writing import lines, markdown, write

__all__ = ["SCHEMA", "Calibration", "Part", "Rate", "Threshold", "calibrate", "lines", "markdown", "threshold", "write"]
