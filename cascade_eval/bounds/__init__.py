"""How sure a number is: one-sided confidence bounds, p-values and sample sizes, over whole arrays of cohorts.

==============  ====================================================================================
`rates`         Clopper-Pearson bounds and exact binomial p-values; Wilson and Jeffreys for drawing
`weighted`      effective counts of weighted, clustered and stratified samples
`ratios`        ratios of sums and means: Fieller bounds and the t-tests they invert
`pairs`         two cascades on the same cases: McNemar, Tango; Holm's correction
`labels`        rates corrected for a reference or a judge that errs; for reading beside the raw ones
`power`         how many cases decide, and what a number of cases could have noticed
==============  ====================================================================================

Every bound holds with `confidence` on its own side, so 95% means 5% below `low` and another 5% above `high`. Every
p-value is the inversion of the bound of the same family: ``p <= alpha(confidence)`` exactly where the bound lies on
the right side of the budget. What cannot be decided is NaN or the whole range, never a pass.

All names are reached as ``bounds.<name>``.
"""

from __future__ import annotations

from cascade_eval.bounds.labels import without_flips, without_misjudgement
from cascade_eval.bounds.pairs import (
    McNemar,
    holm,
    mcnemar,
    p_difference_at_least,
    p_difference_at_most,
    tango,
)
from cascade_eval.bounds.power import (
    cases_to_decide,
    power_needed,
    smallest_excess,
    smallest_provable,
    zero_disagreement_minimum,
)
from cascade_eval.bounds.rates import METHODS, alpha, p_at_least, p_at_most, rate
from cascade_eval.bounds.ratios import (
    fieller,
    log_delta,
    mean,
    p_mean_at_least,
    p_mean_at_most,
    p_ratio_at_least,
    p_ratio_at_most,
)
from cascade_eval.bounds.weighted import (
    Stratified,
    effective,
    linearised_variance,
    ratio_variance,
    stratified,
)

__all__ = [
    "METHODS",
    "McNemar",
    "Stratified",
    "alpha",
    "cases_to_decide",
    "effective",
    "fieller",
    "holm",
    "linearised_variance",
    "log_delta",
    "mcnemar",
    "mean",
    "p_at_least",
    "p_at_most",
    "p_difference_at_least",
    "p_difference_at_most",
    "p_mean_at_least",
    "p_mean_at_most",
    "p_ratio_at_least",
    "p_ratio_at_most",
    "power_needed",
    "rate",
    "ratio_variance",
    "smallest_excess",
    "smallest_provable",
    "stratified",
    "tango",
    "without_flips",
    "without_misjudgement",
    "zero_disagreement_minimum",
]
