"""What a budget can be set on: each metric is one function from counts to estimates, one per cohort.

`METRICS` lists them with their units; `estimates` computes one of them for every member of a cohort family. A third
party adds a metric by putting a `Metric` with a function into `METRICS`.

Two rules hold for all of them. What depends on the path of a case is *blocked*, which no option excuses, where too few
paths are known; and what a gate without any signal decided was not measured.

=============  ==============================================================================
`parts`        rates from tables of states, weighted and clustered ones sized honestly
`rates`        escalation, disagreement, coverage, failures
`ratios`       money and quality: ratios of sums
`latency`      quantiles
`comparisons`  against a baseline, the flagship itself, the calibration in use
`catalogue`    the metrics by name
=============  ==============================================================================
"""

from cascade_eval.metrics.catalogue import METRICS, estimates, find, names
from cascade_eval.metrics.nouns import Compute, Context, Metric, Unit

__all__ = ["METRICS", "Compute", "Context", "Metric", "Unit", "estimates", "find", "names"]
