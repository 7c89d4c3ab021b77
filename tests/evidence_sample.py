"""Evidence as a real run would leave it, made up from a seeded simulation, with names that break layouts."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from scipy import special

from cascade_eval import evidence

HOSTILE = "<script>alert('x')</script>"
LANGUAGES = ("en", "fr", "العربية — الفصحى", "中文（繁體）", "(none)")
INTENTS = (
    "refund",
    "cancellation-of-a-subscription-that-was-bought-through-a-third-party-reseller",
    "🧑‍🔬 lab & 'quotes' \"double\"",
    HOSTILE,
    "legal",
)
CHEAP, FLAGSHIP = 0.0004, 0.0021


@dataclass(frozen=True)
class Population:
    """Simulated cases: the cheap tier's confidence and whether it agrees with the flagship."""

    cohort: dict[str, str]
    confidence: np.ndarray
    agrees: np.ndarray

    def __add__(self, other: Population) -> Population:
        confidence = np.concatenate([self.confidence, other.confidence])
        return Population({}, confidence, np.concatenate([self.agrees, other.agrees]))


def population(column: str, member: str, cases: int, skill: float, seed: int) -> Population:
    """Simulate one cohort; `skill` shifts how far confidence overstates agreement."""
    rng = np.random.default_rng(seed)
    confidence = np.round(rng.beta(5, 1.6, cases), 3)
    agrees = rng.random(cases) < np.clip(confidence**1.2 + skill, 0, 0.995)
    return Population({column: member} if column else {}, confidence, agrees)


def rate(count: int, nobs: int, method: str = "clopper-pearson", **other) -> dict:
    """Estimate a rate with exact one-sided bounds."""
    if not nobs:
        return estimate(None, unit="rate", method=method, nobs=0, count=0, reason="no case to judge", **other)
    low = special.betaincinv(count, nobs - count + 1, 0.05) if count else 0.0
    high = special.betaincinv(count + 1, nobs - count, 0.95) if count < nobs else 1.0
    return estimate(count / nobs, low, high, unit="rate", method=method, count=count, nobs=nobs, **other)


def estimate(value, low=None, high=None, *, unit, method="t on x - B*y", **other) -> dict:
    """Return an estimate as it stands in evidence."""
    known = {"count": None, "nobs": None, "estimated": False, "reason": None} | other
    return {"value": value, "low": low, "high": high, "unit": unit, "method": method, **known}


def metrics(cases: Population, threshold: float) -> dict:
    """Measure a two-tier cascade on simulated cases."""
    n = len(cases.confidence)
    kept = cases.confidence >= threshold
    wrong = int((kept & ~cases.agrees).sum())
    escalated = int(n - kept.sum())
    cost = (CHEAP + FLAGSHIP * escalated / n) / FLAGSHIP if n else None
    spread = 0.6 / np.sqrt(n) if n else None
    known = cost is not None
    quality = 0.91 - 0.3 * wrong / n if n else None
    return {
        "escalation": rate(escalated, n),
        "disagreement": rate(wrong, int(kept.sum())),
        "cost": estimate(cost, cost - spread if known else None, cost + spread if known else None, unit="ratio", nobs=n,
                         estimated=0.004),
        "savings": estimate(1 - cost if known else None, 1 - cost - spread if known else None,
                            1 - cost + spread if known else None, unit="ratio", nobs=n),
        "quality": estimate(quality, quality - 0.02 if known else None, quality + 0.02 if known else None, unit="rate", nobs=n),
        "retention": estimate(quality / 0.91 if known else None, 0.97 if known else None, 1.01 if known else None,
                              unit="ratio", nobs=n),
        "latency p95": estimate(2.31 + 0.9 * escalated / n if n else None, 2.2, 2.9, unit="seconds", method="order statistic", nobs=n),
        "coverage": rate(n, n, method="exact share"),
        "audited": rate(int(kept.sum()), int(kept.sum()), method="exact share"),
    }  # fmt: skip


def verdict(
    metric: str, scope: str, cohort: dict, bound: str, high: float, measured: dict, *, line: int, **other
) -> dict:
    """Judge an estimate by its bounds alone, which is close enough for a sample."""
    value = measured["value"]
    missing = value is None
    outcome = "inconclusive"
    if not missing:
        outcome = "pass" if measured["high"] <= high else "fail" if measured["low"] > high else "inconclusive"
    where = "overall" if not cohort else ", ".join(f"{k}={v}" for k, v in cohort.items())
    reason = {
        "pass": f"Every bound of {metric} on {where} is within the budget.",
        "fail": f"The gate is overconfident on {where}: where it says 0.82 – 0.92, mini agrees with the flagship 63% of the time.",
        "inconclusive": "There is no case to judge." if missing else "The bounds lie on both sides of the budget.",
    }[outcome]
    return {
        "metric": metric, "cohort": cohort, "scope": scope, "bound": bound, "low": None, "high": high,
        "outcome": outcome, "warned": False, "not_measured": missing, "estimate": measured,
        "p_pass": None if missing else 0.03, "p_fail": None if missing else 0.01, "p_holm": None if missing else 0.04,
        "family": len(LANGUAGES), "reason": reason,
        "cases_to_decide": 85 if outcome == "inconclusive" and not missing else None,
        "smallest_excess": 0.131 if outcome == "pass" else None,
        "advice": f"threshold 0.91 on {where} would hold: it escalates 12.4% more and costs 7.0% more." if outcome == "fail" else None,
        "file": "suites/support.cascade.yaml", "line": line, "test": None, **other,
    }  # fmt: skip


def sweep(cases: Population, points: int) -> list[dict]:
    """Count at evenly spaced ranks of the distinct thresholds, and once with everything escalated."""
    found = np.unique(np.quantile(cases.confidence, np.linspace(0, 1, points - 1), method="lower"))
    rows = []
    for threshold in [*found.tolist(), None]:
        kept = cases.confidence >= (np.inf if threshold is None else threshold)
        share = 1 - kept.mean()
        rows.append({
            "cohort": cases.cohort, "thresholds": {"mini": threshold}, "escalation": float(share),
            "disagreement": float((kept & ~cases.agrees).sum() / kept.sum()) if kept.any() else None,
            "cost": float((CHEAP + FLAGSHIP * share) / FLAGSHIP), "cases_kept": int(kept.sum()),
        })  # fmt: skip
    return rows


def calibration(cases: Population) -> dict:
    """Bin by rank, with exact bounds."""
    order = np.argsort(cases.confidence)
    bins = []
    for part in np.array_split(order, 10 if len(order) >= 200 else 4):
        count, nobs = int(cases.agrees[part].sum()), len(part)
        exact = rate(count, nobs)
        bins.append({
            "low": float(cases.confidence[part].min()), "high": float(cases.confidence[part].max()), "nobs": nobs,
            "mean": float(cases.confidence[part].mean()), "agree": exact["value"], "bound_low": exact["low"], "bound_high": exact["high"],
        })  # fmt: skip
    error = cases.confidence - cases.agrees
    return {
        "tier": "mini", "signal": "logprob", "recipe": "platt", "cohort": cases.cohort, "nobs": len(cases.confidence),
        "brier": float((error**2).mean()), "log_loss": 0.41, "auroc": 0.71, "debiased_error": abs(float(error.mean())),
        "ece": abs(float(error.mean())), "spiegelhalter_z": 1.2, "spiegelhalter_p": 0.23, "note": "judges the recipe, not a deployed map",
        "bins": bins,
    }  # fmt: skip


def worst(language: str, number: int) -> dict:
    """Make one disagreement, hostile where `number` is 0 to 3."""
    hostile = [
        HOSTILE,
        '"><img src=x onerror=alert(1)> {{ 7*7 }} {% raw %} &amp; </td></table>',
        "لا يمكنني إلغاء اشتراكي \u202eevil\u202c \u0000\u0007 end",
        "W" * 3000,
    ]
    return {
        "case_id": f"gold-{number:04d}" if number else HOSTILE,
        "cohort": {"language": language, "intent": INTENTS[number % len(INTENTS)]}, "tier": "mini", "value": 0.992 - 0.004 * number,
        "answer": hostile[number] if number < len(hostile) else "cancel_subscription",
        "flagship_answer": "refund_request" if number % 4 else None, "expected": "refund_request" if number % 3 else None,
        "right": ("flagship", "cheap", "neither", None)[number % 4],
        "input": hostile[number] if number < len(hostile) else "I was charged twice last month and nobody answers.\nCan you send the money back?",
    }  # fmt: skip


def cascade(
    name: str, threshold: float, cohorts: list[Population], budgets: dict[str, tuple[str, float]], *, points: int = 51
) -> dict:
    """Make a cascade's record; `budgets` holds bound and budget by metric, applied overall and to each cohort."""
    whole = functools.reduce(Population.__add__, cohorts)
    cells = []
    for cases in cohorts:
        routed = "legal" in cases.cohort.values()
        cells.append({
            "cohort": cases.cohort, "cases": len(cases.confidence), "weight": float(len(cases.confidence)),
            "metrics": metrics(cases, 9.0 if routed else threshold), "routed": routed,
            "pooled": ["is", "mt"] if "(none)" in cases.cohort.values() else None,
        })  # fmt: skip
    overall = {
        "cohort": {},
        "cases": len(whole.confidence),
        "weight": float(len(whole.confidence)),
        "metrics": metrics(whole, threshold),
    }
    verdicts = []
    for line, (metric, (bound, high)) in enumerate(budgets.items(), start=18):
        verdicts.append(verdict(metric, "overall", {}, bound, high, overall["metrics"][metric], line=line))
        verdicts += [
            verdict(
                metric,
                f"each {next(iter(cell['cohort']))}",
                cell["cohort"],
                bound,
                high,
                cell["metrics"][metric],
                line=line,
            )
            for cell in cells
            if metric == "disagreement" and not cell["routed"]
        ]
    kept = int((whole.confidence >= threshold).sum())
    n = len(whole.confidence)
    flips = {
        "cohort": {}, "nobs": n, "worse": 31, "better": 12, "difference": 19 / n, "low": 7 / n, "high": 31 / n,
        "p_exact": 0.0054, "mid_p": 0.0044, "p_regression": 0.0027,
        "cases": [
            {"case_id": f"gold-{i:04d}", "baseline_answer": "refund_request", "candidate_answer": HOSTILE if i == 0 else "cancel_subscription",
             "flagship_answer": "refund_request", "direction": "worse" if i % 3 else "better"} for i in range(8)
        ],
    }  # fmt: skip
    return {
        "name": name,
        "definition": [
            {"tier": "mini", "model": "gpt-4.1-nano", "timeout": "5s", "gate": {"signal": "logprob", "threshold": threshold}},
            {"tier": "flagship", "model": "gpt-4.1"},
        ],
        "flagship": "gpt-4.1",
        "baseline": {"kind": "git", "name": "origin/main", "created_at": "2026-10-02T09:00:00+00:00", "age_days": 50.0, "commit": "0f9d2c"},
        "thresholds": [{"tier": "mini", "signal": "logprob", "threshold": threshold, "escalate": None, "surer": "higher"}],
        "overall": overall, "cohorts": cells, "verdicts": verdicts,
        "sweep": [*sweep(whole, 201), *(row for cases in cohorts if len(cases.confidence) for row in sweep(cases, points))],
        "calibration": [calibration(whole), *(calibration(cases) for cases in cohorts if len(cases.confidence))],
        "flips": [flips, flips | {"cohort": {"language": "fr"}, "nobs": 314, "worse": 9, "better": 1}],
        "worst": [worst(LANGUAGES[i % 3], i) for i in range(14)],
        "funnel": [
            {"tier": "mini", "model": "gpt-4.1-nano", "reached": n - 96, "settled": kept, "escalated": n - 96 - kept, "timeouts": 7, "errors": 2, "refused": 0},
            {"tier": "flagship", "model": "gpt-4.1", "reached": n - kept, "settled": n - kept - 3, "escalated": 0, "timeouts": 3, "errors": 0, "refused": 0},
        ],
        "paths": [
            {"path": ["mini"], "cases": kept, "cost_usd": kept * CHEAP},
            {"path": ["mini", "flagship"], "cases": n - 96 - kept, "cost_usd": (n - 96 - kept) * (CHEAP + FLAGSHIP)},
            {"path": ["flagship"], "cases": 96, "cost_usd": None},
        ],
        "right": {"cheap": 9, "flagship": 41, "neither": 11, "both": 0, "unknown": 33},
    }  # fmt: skip


def always_flagship(cohorts: list[Population]) -> dict:
    """Make the record of the cascade every other one is compared with."""
    whole = functools.reduce(Population.__add__, cohorts)
    n = len(whole.confidence)
    nothing = estimate(None, unit="rate", nobs=0, reason="no case is settled below the flagship")
    one = estimate(1.0, 1.0, 1.0, unit="ratio", nobs=n)
    measured = {
        "escalation": estimate(None, unit="rate", nobs=0, reason="no case starts below the flagship"), "disagreement": nothing, "cost": one,
        "savings": estimate(0.0, 0.0, 0.0, unit="ratio", nobs=n), "quality": estimate(0.91, 0.9, 0.92, unit="rate", nobs=n),
        "retention": one, "latency p95": estimate(3.82, 3.7, 3.95, unit="seconds", method="order statistic", nobs=n),
    }  # fmt: skip
    cell = {"cohort": {}, "cases": n, "weight": float(n), "metrics": measured}
    return {
        "name": "always-flagship", "definition": [{"tier": "flagship", "model": "gpt-4.1"}], "flagship": "gpt-4.1", "baseline": None,
        "thresholds": [], "overall": cell, "cohorts": [], "verdicts": [], "sweep": [], "calibration": [], "flips": [], "worst": [],
        "funnel": [{"tier": "flagship", "model": "gpt-4.1", "reached": n, "settled": n - 3, "escalated": 0, "timeouts": 3, "errors": 0, "refused": 0}],
        "paths": [{"path": ["flagship"], "cases": n, "cost_usd": n * FLAGSHIP}],
        "right": {"cheap": 0, "flagship": 0, "neither": 0, "both": 0, "unknown": 0},
    }  # fmt: skip


def suite(name: str, cascades: list[dict], cases: int, notes: list[str], **other) -> dict:
    """Make a suite's record around its cascades."""
    return {
        "suite": name,
        "data": {"path": "goldens/support", "kind": "golden", "sha256": "9d1c" * 16, "cases": cases, "bad_rows": 3, "cached": 0.041,
                 "span": ["2026-10-01T00:00:00+00:00", "2026-11-20T23:59:59+00:00"], "description": "Support questions answered by both tiers."},
        "confidence": 0.95, "inconclusive": "fail",
        "promise": "The chance that any of the 14 budgets fails falsely is at most 35% (7 families at 5%).",
        "cohorts": ["language", "intent"], "agreement": "same label", "floors": {"coverage": 0.99, "audited": 0.99}, "notes": notes,
        "prices": [
            {"model": "gpt-4.1-nano", "source": "genai-prices 0.2.3", "input": 0.1, "cached_input": 0.025, "output": 0.4, "as_of": "2026-11-01", "share": 0.86},
            {"model": "gpt-4.1", "source": "recorded", "input": None, "cached_input": None, "output": None, "as_of": None, "share": None},
        ],
        "cascades": cascades, **other,
    }  # fmt: skip


def cohorts(languages: tuple[str, ...] = LANGUAGES, intents: tuple[str, ...] = INTENTS) -> list[Population]:
    """Simulate every cohort; French is overconfident, the smallest is too small to decide."""
    sizes = (2009, 514, 142, 41, 0)
    by_language = [
        population("language", member, sizes[i % 5], -0.14 if i % 5 == 1 else 0.12, i)
        for i, member in enumerate(languages)
    ]
    by_intent = [
        population("intent", member, (900, 620, 47, 310, 96)[i % 5], 0.1, 40 + i) for i, member in enumerate(intents)
    ]
    return [*by_language, *by_intent]


def records(*, wide: int = 1, members: tuple[str, ...] = LANGUAGES) -> list[dict]:
    """Return the records of three suites; `wide` repeats the judged cascades under other names."""
    cases = cohorts(members)
    whole = int(sum(len(c.confidence) for c in cases))
    budgets = {
        "disagreement": ("at most 10%", 0.10),
        "escalation": ("at most 60%", 0.6),
        "cost": ("at most 65% of always-flagship", 0.65),
    }
    judged = []
    for i in range(wide):
        tail = f" {i + 1}" if i else ""
        judged.append(cascade(f"current{tail}", 0.72, cases, budgets))
        judged.append(cascade(f"wider{tail}", 0.83, cases, budgets))
    missing = cohorts(LANGUAGES[4:], INTENTS[:1])[:1]
    empty = metrics(population("", "", 0, 0, 0), 0.5)
    cell = {"cohort": {}, "cases": 0, "weight": 0.0, "metrics": empty}
    nothing = {
        **always_flagship(missing), "name": "fresh sample", "overall": cell, "funnel": [], "paths": [],
        "verdicts": [verdict("disagreement", "overall", {}, "at most 5%", 0.05, empty["disagreement"], line=9)],
    }  # fmt: skip
    easy = [population("language", "en", 1800, 0.14, 7), population("language", "de", 700, 0.14, 8)]
    good = cascade(
        "current", 0.7, easy, {"disagreement": ("at most 10.0%", 0.1), "escalation": ("at most 60%", 0.6)}, points=31
    )
    return [
        suite("suites/checkout.cascade.yaml", [good, always_flagship(easy)], 2500, [], inconclusive="warn"),
        suite("suites/support.cascade.yaml", [*judged, always_flagship(cases)], whole,
              ["3 rows were set aside (--cascade-tolerate 3).", "latency p99 was not recorded for gpt-4.1.", f"No weekly lines: {HOSTILE}"]),
        suite("suites/nothing yet.cascade.yaml", [nothing], 0, ["The golden holds no case."], prices=[], promise="Nothing was judged."),
    ]  # fmt: skip


def sample(*, wide: int = 1, members: tuple[str, ...] = LANGUAGES, items: int | None = None) -> dict:
    """Return evidence; `items` below the number of verdicts makes the run partial."""
    made = records(wide=wide, members=members)
    of = sum(len(c["verdicts"]) for s in made for c in s["cascades"])
    git = {"commit": "5f698d9a22a9a47832b055b70114141fd18e3687", "branch": "main", "dirty": True}
    selected = {"items": of if items is None else items, "of": of}
    return evidence.build(made, selected=selected, git=git, created_at="2026-11-21T23:20:00+00:00")
