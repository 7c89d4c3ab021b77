"""What ails a cascade: findings with their evidence, what would contradict them, and what to do.

`run` measures a suite on its traffic and walks a decision tree over whatever data is there.

============  ==========================================================================
`measuring`   suite, traffic and earlier weeks to facts; `periods`, `looking` and `fixed_sets` count
`reading`     facts to signs, cohort by cohort, each with its own test
`causes`      signs to causes: one rule each
`tree`        the tests in order, and which cause is acted on first
`treatments`  what could be done
`flagship`    how often the reference disagrees with itself, and where it is least sure
============  ==========================================================================
"""

from __future__ import annotations

from cascade_eval.diagnosis import flagship
from cascade_eval.diagnosis.nouns import Cause, Diagnosis, Step, Treatment
from cascade_eval.diagnosis.running import run

__all__ = ["Cause", "Diagnosis", "Step", "Treatment", "flagship", "run"]
