"""Thresholds: what every one of them would do, and which one can be certified.

===========  ====================================================================================
`places`     which thresholds can be moved, and which values of them are tried
`sweeping`   every threshold at once, from counts by bin
`variants`   cascades that differ in one threshold only
`selection`  the laxest threshold whose disagreement is certified
`curves`     deferral curves and the measures of the literature
===========  ====================================================================================
"""

from cascade_eval.thresholds.curves import Curve, aiq, apgr, cpt, curve, hull, ibc_lift, oracle_gap, pgr
from cascade_eval.thresholds.places import EDGES, Edges, Place, edges, places
from cascade_eval.thresholds.selection import Selection, Step, conformal, select
from cascade_eval.thresholds.sweeping import Sweep, count, read, sweep
from cascade_eval.thresholds.variants import Variants, variants

__all__ = [
    "EDGES",
    "Curve",
    "Edges",
    "Place",
    "Selection",
    "Step",
    "Sweep",
    "Variants",
    "aiq",
    "apgr",
    "conformal",
    "count",
    "cpt",
    "curve",
    "edges",
    "hull",
    "ibc_lift",
    "oracle_gap",
    "pgr",
    "places",
    "read",
    "select",
    "sweep",
    "variants",
]
