"""Whether a confidence means what it says, and how to make it.

The label everywhere is *agrees with the flagship*, 0 or 1.

==========  ========================================================================================
`scores`    Brier, log loss, AUROC, expected calibration error and its debiased sibling, Spiegelhalter, reliability
`maps`      Platt, isotonic and hierarchical maps from a raw signal to a probability of agreement
`stored`    a fitted map in a file, with the data it was fitted on and when
==========  ========================================================================================

A single monotone map keeps the ranking, so it cannot change who escalates at a given rate: it gives the threshold a
meaning. Only a map that differs by cohort changes who escalates.

All names are reached as ``calibration.<name>``.
"""

from __future__ import annotations

from cascade_eval.calibration.maps import Map, fit, fold_of, out_of_fold
from cascade_eval.calibration.scores import (
    Reliability,
    auroc,
    brier,
    debiased_error,
    ece,
    from_histogram,
    log_loss,
    murphy,
    reliability,
    spiegelhalter,
)
from cascade_eval.calibration.stored import Stored, load, save

__all__ = [
    "Map",
    "Reliability",
    "Stored",
    "auroc",
    "brier",
    "debiased_error",
    "ece",
    "fit",
    "fold_of",
    "from_histogram",
    "load",
    "log_loss",
    "murphy",
    "out_of_fold",
    "reliability",
    "save",
    "spiegelhalter",
]
