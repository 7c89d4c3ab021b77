"""Suites: what is judged, and what is promised, read from YAML."""

from __future__ import annotations

from cascade_eval.suite.evaluation import Evaluation, evaluate
from cascade_eval.suite.history import Past, at
from cascade_eval.suite.judged import Data
from cascade_eval.suite.nouns import CohortColumn, Source, Suite
from cascade_eval.suite.reading import baseline_problem, load, parse
from cascade_eval.suite.schema import schema
from cascade_eval.suite.tiers import parse_cascade
from cascade_eval.suite.writing import write_threshold

__all__ = [
    "CohortColumn",
    "Data",
    "Evaluation",
    "Past",
    "Source",
    "Suite",
    "at",
    "baseline_problem",
    "evaluate",
    "load",
    "parse",
    "parse_cascade",
    "schema",
    "write_threshold",
]
