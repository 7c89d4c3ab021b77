"""Test LLM cascades: escalation, disagreement and cost budgets per cohort.

A noun is a module, a verb a function called through it::

    import cascade_eval

    suite = cascade_eval.suite.load("suites/support.cascade.yaml")
    for verdict in cascade_eval.runs.evaluate(suite).verdicts:
        print(verdict.outcome, verdict.reason)

=============  ========================================================================
what is told   cascade, budgets, suite
what was seen  traffic, goldens
columns        signals, calibration, agreement, costs, cohorts: arrays in, arrays out
counted        replay, counts, metrics: who settled each case, and what follows from it
judged         bounds, verdicts, baseline, thresholds, audit
over weeks     monitor, history, sequential, drift
what to do     diagnosis, proposals
real models    recording, playback, importers: how traffic gets in
a whole run    runs, evidence, report; starter: a suite to begin from
=============  ========================================================================

pytest collects suites by the plugin; `cascade-eval --help` shows what surrounds it. Nothing is imported before it is
used: the plugin loads this module in every pytest run, whether it has suites or not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cascade_eval import (
        agreement,
        audit,
        baseline,
        bounds,
        budgets,
        calibration,
        cascade,
        cohorts,
        costs,
        counts,
        diagnosis,
        drift,
        errors,
        evidence,
        goldens,
        history,
        importers,
        metrics,
        monitor,
        playback,
        proposals,
        recording,
        replay,
        report,
        runs,
        sequential,
        signals,
        starter,
        suite,
        thresholds,
        traffic,
        verdicts,
    )

    __version__: str

__all__ = [
    "__version__",
    "agreement",
    "audit",
    "baseline",
    "bounds",
    "budgets",
    "calibration",
    "cascade",
    "cohorts",
    "costs",
    "counts",
    "diagnosis",
    "drift",
    "errors",
    "evidence",
    "goldens",
    "history",
    "importers",
    "metrics",
    "monitor",
    "playback",
    "proposals",
    "recording",
    "replay",
    "report",
    "runs",
    "sequential",
    "signals",
    "starter",
    "suite",
    "thresholds",
    "traffic",
    "verdicts",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib import metadata

        return metadata.version("cascade-eval")
    if name in __all__:
        from importlib import import_module

        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")


def __dir__() -> list[str]:
    return __all__
