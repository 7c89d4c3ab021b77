"""Thresholds: what every one of them would do, and which one can be certified.

===========  ====================================================================================
`places`     which thresholds can be moved, and which values of them are tried
`lookup`     where values stand among thresholds, by table
`sweeping`   every threshold at once, from counts by bin
`windows`    quantiles of many windows of one column at once
`pairs`      two gates at once: what every pair of thresholds would do
`variants`   cascades that differ in one threshold only
`fronts`     the points no other point beats
`selection`  the certified threshold that keeps most
`paths`      the cheapest pair of thresholds whose disagreement is certified
`targets`    the threshold that escalates a given share
`curves`     deferral curves and the measures of the literature
===========  ====================================================================================
"""

from cascade_eval.thresholds.curves import Curve, aiq, apgr, cpt, curve, hull, ibc_lift, oracle_gap, pgr
from cascade_eval.thresholds.fronts import front
from cascade_eval.thresholds.pairs import POINTS, Pair, pair
from cascade_eval.thresholds.paths import PairSelection, PairStep, select_pair
from cascade_eval.thresholds.places import EDGES, Edges, Place, edges, places
from cascade_eval.thresholds.selection import Selection, Step, certified, conformal, select
from cascade_eval.thresholds.sweeping import Sweep, count, forced, read, sweep
from cascade_eval.thresholds.targets import Target, target
from cascade_eval.thresholds.variants import Variants, variants

__all__ = [
    "EDGES",
    "POINTS",
    "Curve",
    "Edges",
    "Pair",
    "PairSelection",
    "PairStep",
    "Place",
    "Selection",
    "Step",
    "Sweep",
    "Target",
    "Variants",
    "aiq",
    "apgr",
    "certified",
    "conformal",
    "count",
    "cpt",
    "curve",
    "edges",
    "forced",
    "front",
    "hull",
    "ibc_lift",
    "oracle_gap",
    "pair",
    "pgr",
    "places",
    "read",
    "select",
    "select_pair",
    "sweep",
    "target",
    "variants",
]
