"""Small records of evidence, judged for real, for the tests of the plugin and of its blocks."""

from __future__ import annotations

import json

from cascade_eval import budgets, verdicts

LANGUAGES = {"en": (51, 2009), "de": (15, 572), "fr": (50, 314), "nl": (3, 142), "pt": (3, 41)}
"""Disagreements and unescalated cases by language: one budget of 10% is refuted, one undecided."""

FILE = "suites/support.cascade.yaml"


def alone(monkeypatch):
    """Leave no trace of the CI these tests may run in, and load plugins by hand.

    So it makes no difference whether the package is installed, and other plugins cost nothing.
    """
    for name in ("CI", "GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY", "PYTEST_ADDOPTS", "NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")


def write(pytester, record, name=FILE):
    """Write a record where the fake core reads it."""
    path = pytester.path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(record))
    return path


def estimates(counts, metric="disagreement"):
    """Estimate a rate in each cohort."""
    return {name: verdicts.rate(metric, count, nobs) for name, (count, nobs) in counts.items()}


def judged(counts, bound="at most 10%", *, metric="disagreement", column="language", line=10, policy="fail"):
    """Judge one budget line, `each language`, or `overall` where the only cohort has no name."""
    found = verdicts.judge(list(estimates(counts, metric).values()), budgets.parse(bound, "rate"))
    records = []
    for name, verdict in zip(counts, found, strict=True):
        record = verdict.record()
        excusable = record["outcome"] == "inconclusive" and not record["not_measured"]
        known = {"cohort": {column: name} if name else {}, "scope": f"each {column}" if name else "overall"}
        records.append(record | known | {"file": FILE, "line": line, "warned": excusable and policy == "warn"})
    return records


def cell(cohort, count, nobs, *, escalated=10, routed=False):
    """Measure one cohort."""
    metrics = {
        "escalation": verdicts.rate("escalation", escalated, nobs + escalated).record(),
        "disagreement": verdicts.rate("disagreement", count, nobs).record(),
    }
    return {
        "cohort": cohort,
        "cases": nobs + escalated,
        "weight": float(nobs + escalated),
        "metrics": metrics,
        "routed": routed,
        "pooled": None,
    }


def cascade(name="current", counts=None, *, made=None, column="language", **other):
    """Make a cascade of two tiers with one cell per cohort; `made` are its verdicts."""
    counts = LANGUAGES if counts is None else counts
    cells = [cell({column: member}, *pair) for member, pair in counts.items()]
    whole = cell({}, sum(x for x, _ in counts.values()), sum(n for _, n in counts.values()), escalated=400)
    tier = {"timeouts": 0, "errors": 0, "refused": 0}
    return {
        "name": name,
        "definition": [{"tier": "mini", "model": "small"}, {"tier": "flagship", "model": "large"}],
        "flagship": "large",
        "baseline": None,
        "thresholds": [
            {"tier": "mini", "signal": "confidence", "threshold": 0.82, "escalate": None, "surer": "higher"}
        ],
        "overall": {key: value for key, value in whole.items() if key not in {"routed", "pooled"}},
        "cohorts": cells,
        "verdicts": judged(counts) if made is None else made,
        "sweep": [],
        "calibration": [],
        "flips": [],
        "worst": [],
        "funnel": [
            {"tier": "mini", "model": "small", "reached": 3478, "settled": 3078, "escalated": 400, **tier},
            {"tier": "flagship", "model": "large", "reached": 400, "settled": 400, "escalated": 0, **tier},
        ],
        "paths": [],
        "right": {"cheap": 0, "flagship": 0, "neither": 0, "both": 0, "unknown": 0},
        **other,
    }


def suite(*cascades, name=FILE, policy="fail", **other):
    """Make a suite's record; always-flagship is added."""
    flagship = cascade("always-flagship", {"en": (0, 0)}, made=[], thresholds=[], cohorts=[], funnel=[])
    return {
        "suite": name,
        "data": {
            "path": "goldens/support",
            "kind": "golden",
            "sha256": "0" * 64,
            "cases": 3478,
            "bad_rows": 0,
            "cached": None,
            "span": None,
            "description": None,
        },
        "confidence": 0.95,
        "inconclusive": policy,
        "promise": "The chance of any false failure is at most 5%.",
        "cohorts": ["language"],
        "agreement": "exact",
        "floors": {"coverage": 0.99, "audited": 0.99},
        "notes": [],
        "prices": [],
        "cascades": [*(cascades or (cascade(),)), flagship],
        **other,
    }
