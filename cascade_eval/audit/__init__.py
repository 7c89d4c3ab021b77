"""Ask the flagship about some unescalated cases, and say what that proves about all of them.

==============  =============================================================================================
`plan`          how many calls each cohort gets, so that as many cohorts as possible can be decided
`sample`        which cases those are: seeded, without replacement, with the chance each had to be drawn
`read`          what the answers prove, cohort by cohort and overall, and what the audit itself cost
`merge`         the answers put into the traffic they belong to, so that a suite judges it
`worth`         what an audit costs beside what the cascade saves; `spent` reads both off audited traffic
`assisted`      estimates, never verdicts, that predictions of every case make narrower
==============  =============================================================================================

Between `sample` and `read` someone, or something, asks the flagship: the sample is a file of cases with empty columns
for its answers, and any recorded traffic with those answers will do.
"""

from __future__ import annotations

from cascade_eval.audit import assisted
from cascade_eval.audit.allocation import chance, proportional
from cascade_eval.audit.answers import merge
from cascade_eval.audit.estimating import Weighted, estimate
from cascade_eval.audit.files import to_parquet
from cascade_eval.audit.planning import plan
from cascade_eval.audit.plans import Outlook, Plan, Stratum, load_plan, priors
from cascade_eval.audit.reading import Reading, Spend, read
from cascade_eval.audit.sampling import Sample, load, sample
from cascade_eval.audit.spending import Worth, spent, worth

__all__ = [
    "Outlook",
    "Plan",
    "Reading",
    "Sample",
    "Spend",
    "Stratum",
    "Weighted",
    "Worth",
    "assisted",
    "chance",
    "estimate",
    "load",
    "load_plan",
    "merge",
    "plan",
    "priors",
    "proportional",
    "read",
    "sample",
    "spent",
    "to_parquet",
    "worth",
]
