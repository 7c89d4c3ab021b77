"""The project's own goldens and suites, judged once more by plain pandas and scipy."""

from __future__ import annotations

import ast
import hashlib
import importlib
import re
import sys
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
from ruamel.yaml import YAML
from scipy import stats

ROOT = Path(__file__).parents[1]
GOLDENS = ROOT / "goldens"
SUITES = ROOT / "suites"
INCIDENT = ("incident", "incident_saturated", "incident_mix_shift")
DIGITS = ("digits", "digits_shifted")

sys.path.append(str(GOLDENS))  # the scripts are no package
make_incident = importlib.import_module("make_incident")
make_digits = importlib.import_module("make_digits")


@cache
def cases(golden):
    return pd.read_parquet(GOLDENS / golden / "cases.parquet")


def read_yaml(file):
    return YAML(typ="safe").load(file)


# --- the draws -----------------------------------------------------------------------------------------------------


def test_hash_gives_the_published_uniforms():
    """Key parts joined by U+001F give the three numbers stated for them."""
    drawn = make_incident.uniforms("q0", "b")
    assert drawn == pytest.approx((0.965062653259, 0.816629098896, 0.143738981646), abs=1e-12)


class Truth(NamedTuple):
    kept: float
    joint: float  # kept and disagreeing, of all cases


def true_rates(language, threshold, *, saturated=False):
    """From the Beta distribution alone: P(q >= t) and E[(1 - q); q >= t]."""
    weight, *shapes = make_incident.MIXTURE[language]
    kept = joint = 0.0
    for i, (part, (a, b)) in enumerate(zip((weight, 1 - weight), shapes, strict=True)):
        always = saturated and language == "pt" and i == 1
        p = 1.0 if always else stats.beta.sf(threshold, a, b)
        right = a / (a + b) * (1.0 if always else stats.beta.sf(threshold, a + 1, b))
        kept, joint = kept + part * p, joint + part * (p - right)
    return Truth(kept, joint)


def table_row(share, *, saturated=False):
    en, pt = true_rates("en", 0.70), true_rates("pt", 0.70, saturated=saturated)
    kept = (1 - share) * en.kept + share * pt.kept
    joint = (1 - share) * en.joint + share * pt.joint
    return [1 - kept, 1 - pt.kept, joint / kept, en.joint / en.kept, pt.joint / pt.kept]


POPULATION = {
    "launch": (0.05, False, [0.2866, 0.5641, 0.0364, 0.0346, 0.0927]),
    "mix shift": (0.20, False, [0.3304, 0.5641, 0.0422, 0.0346, 0.0927]),
    "saturated": (0.20, True, [0.2176, 0.0000, 0.1078, 0.0346, 0.3208]),
}


@pytest.mark.parametrize(("share", "saturated", "expected"), POPULATION.values(), ids=POPULATION)
def test_mixture_has_the_stated_population_values(share, saturated, expected):
    """Escalation, escalation of Portuguese, disagreement overall and by language at threshold .70, from formulas."""
    assert table_row(share, saturated=saturated) == pytest.approx(expected, abs=6e-5)


DRAWN = {"launch": ("incident", range(1, 7)), "mix shift": ("incident_mix_shift", range(11, 17))}
DRAWN["saturated"] = ("incident_saturated", range(11, 17))


@pytest.mark.parametrize("scenario", DRAWN)
def test_drawn_cases_follow_the_population(scenario):
    """Rates of the drawn weeks at threshold .70 lie within four standard errors of the truth."""
    golden, weeks = DRAWN[scenario]
    frame = cases(golden)
    frame = frame[frame["week"].isin(weeks)]
    kept, disagrees = frame["mini.confidence"] >= 0.70, frame["mini.answer"] != frame["flagship.answer"]
    en, pt = frame["language"] == "en", frame["language"] == "pt"
    samples = [~kept, ~kept[pt], disagrees[kept], disagrees[kept & en], disagrees[kept & pt]]
    share, _, truth = POPULATION[scenario]
    for sample, rate in zip(samples, truth, strict=True):
        assert abs(sample.mean() - rate) <= 4 * np.sqrt(rate * (1 - rate) / len(sample)) + 1e-9
    assert abs(pt.mean() - share) <= 4 * np.sqrt(share * (1 - share) / len(frame))


def test_saturation_changes_what_mini_reports_and_nothing_else():
    """The saturated weeks and their twin differ in Portuguese confidence and in the column that tells the truth."""
    ill, well = cases("incident_saturated"), cases("incident_mix_shift")
    told = ["mini.confidence", "truth"]
    pd.testing.assert_frame_equal(ill.drop(columns=told), well.drop(columns=told))
    changed = ill["mini.confidence"] != well["mini.confidence"]
    assert (changed == (ill["truth"] == "saturated")).all()
    assert set(ill["language"][changed]) == {"pt"}
    assert ill["mini.confidence"][changed].between(0.80, 0.92).all()
    assert set(well["truth"]) == {"healthy"}


@pytest.mark.parametrize("golden", INCIDENT)
def test_dollars_are_tokens_times_the_stated_prices(golden):
    """Recorded cost is that of the recorded tokens, to the nano-dollar."""
    frame = cases(golden)
    for model, (price_in, price_out) in make_incident.PRICES.items():
        dollars = (frame[f"{model}.input_tokens"] * price_in + frame[f"{model}.output_tokens"] * price_out) / 1e6
        np.testing.assert_allclose(frame[f"{model}.cost_usd"], dollars, atol=5.1e-10, rtol=0)


def test_shifted_writing_fools_the_linear_model_and_not_the_flagship():
    """On inverted digits the small model is sure and wrong, the flagship right; neither holds at launch."""
    inverted = cases("digits_shifted").query("writing == 'inverted'")
    assert inverted["linear.confidence"].median() > 0.99
    assert (inverted["linear.answer"] == inverted["expected"]).mean() < 0.05
    assert (inverted["kernel.answer"] == inverted["expected"]).mean() > 0.95
    for _, launch in cases("digits").groupby("writing"):
        assert len(launch) >= 300
        assert (launch["linear.answer"] == launch["expected"]).mean() > 0.80


# --- the files -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("golden", INCIDENT + DIGITS)
def test_description_fits_the_data(golden):
    """golden.yaml states the hash, the number of cases, the models and the cases of each cohort as they are."""
    about = read_yaml(GOLDENS / golden / "golden.yaml")
    frame = cases(golden)
    assert list(about) == ["name", "description", "licence", "recorded", "models", "cases", "cohorts", "sha256"]
    assert about["sha256"] == hashlib.sha256((GOLDENS / golden / "cases.parquet").read_bytes()).hexdigest()
    assert (about["name"], about["licence"], about["cases"]) == (golden, "Apache-2.0", len(frame))
    assert about["models"] == list(dict.fromkeys(c.split(".")[0] for c in frame.columns if "." in c))
    assert about["cohorts"] == {column: frame[column].value_counts().to_dict() for column in about["cohorts"]}


@pytest.mark.parametrize("golden", INCIDENT + DIGITS)
def test_cases_are_complete_and_in_order(golden):
    """No cell is missing, no case twice, the clock has a zone and never goes back."""
    frame = cases(golden)
    assert not frame.isna().to_numpy().any()
    assert frame["case_id"].is_unique
    assert str(frame["decided_at"].dt.tz) == "UTC"
    assert frame["decided_at"].is_monotonic_increasing
    assert frame["week"].is_monotonic_increasing


def test_goldens_stay_small():
    """All goldens together are under three megabytes."""
    assert sum(file.stat().st_size for file in GOLDENS.glob("*/cases.parquet")) < 3_000_000


def test_incident_is_reproducible(tmp_path):
    """Made twice the files are the same bytes, and the columns are the committed ones."""
    make_incident.main(tmp_path / "first")
    make_incident.main(tmp_path / "second")
    for golden in INCIDENT:
        first, second = (tmp_path / run / golden for run in ("first", "second"))
        for name in ("cases.parquet", "golden.yaml"):
            assert (first / name).read_bytes() == (second / name).read_bytes()
        pd.testing.assert_frame_equal(pd.read_parquet(first / "cases.parquet"), cases(golden), check_exact=True)


def test_digits_are_reproducible(tmp_path):
    """Made again the columns are the committed ones; a confidence may differ in its last recorded place."""
    make_digits.main(tmp_path)
    for golden in DIGITS:
        again, kept = pd.read_parquet(tmp_path / golden / "cases.parquet"), cases(golden)
        np.testing.assert_allclose(again["linear.confidence"], kept["linear.confidence"], atol=1.001e-6, rtol=0)
        drop = ["linear.confidence"]
        pd.testing.assert_frame_equal(again.drop(columns=drop), kept.drop(columns=drop), check_exact=True)


# --- the suites, judged by the slow way ----------------------------------------------------------------------------


class Judged(NamedTuple):
    """One verdict: a rate has a count, a ratio has none."""

    cascade: str
    metric: str
    cohort: str
    nobs: int
    count: int | None
    value: float
    low: float
    high: float
    outcome: str


def judge(suite, golden):
    """Every verdict of a suite on a golden, one budget line and one cohort at a time."""
    spec, frame = read_yaml(SUITES / f"{suite}.cascade.yaml"), cases(golden)
    for name in spec["cascades"]:
        for metric, lines in spec["budgets"].items():
            for scope, phrase in lines.items():
                family = list(members(scope, frame))
                found = [one(spec, name, metric, phrase, frame[of]) for _, of in family]
                adjusted = holm([p_fail for *_, p_fail in found])
                for (cohort, _), (nobs, count, value, low, high, p_pass, _), p in zip(
                    family, found, adjusted, strict=True
                ):
                    outcome = "pass" if p_pass <= 0.05 else "fail" if p <= 0.05 else "inconclusive"
                    yield Judged(name, metric, cohort, nobs, count, value, low, high, outcome)


def members(scope, frame):
    if scope == "overall":
        yield "overall", pd.Series(data=True, index=frame.index)
    else:
        column = scope.removeprefix("each ")
        for value in sorted(frame[column].unique()):
            yield f"{column}={value}", frame[column] == value


def holm(p):
    order, worst, out = np.argsort(p, kind="stable"), 0.0, [0.0] * len(p)
    for rank, i in enumerate(order):
        worst = max(worst, min(1.0, (len(p) - rank) * p[i]))
        out[i] = worst
    return out


def one(spec, name, metric, phrase, frame):
    """nobs, count, value, bounds and the two p-values of one metric on some cases."""
    escalated, disagrees = play(spec["cascades"][name], frame)
    cheap, flagship = (tier["model"] for tier in spec["cascades"][name])
    if metric in {"cost", "retention"}:
        sums = costs if metric == "cost" else rights
        return ratio(*sums(frame, cheap, flagship, escalated), limits(phrase))
    if metric == "disagreement":
        return rate((~escalated & disagrees).sum(), (~escalated).sum(), limits(phrase))
    if metric == "escalation":
        return rate(escalated.sum(), len(frame), limits(phrase))
    if metric == "flips to disagreement":
        before, _ = play(spec["cascades"][spec["baseline"]], frame)
        return rate((~escalated & before & disagrees).sum(), len(frame), limits(phrase))
    assert metric == "latency p95"
    took = frame[f"{cheap}.latency_s"] + escalated * frame[f"{flagship}.latency_s"]
    return rate((took > limits(phrase)[1]).sum(), len(frame), (None, 0.05))


def play(tiers, frame):
    cheap, flagship = tiers
    assert cheap["gate"]["signal"] == "confidence"
    escalated = frame[f"{cheap['model']}.confidence"] < cheap["gate"]["threshold"]
    return escalated, frame[f"{cheap['model']}.answer"] != frame[f"{flagship['model']}.answer"]


def costs(frame, cheap, flagship, escalated):
    always = frame[f"{flagship}.cost_usd"]
    return frame[f"{cheap}.cost_usd"] + escalated * always, always


def rights(frame, cheap, flagship, escalated):
    served = frame[f"{flagship}.answer"].where(escalated, frame[f"{cheap}.answer"])
    return (served == frame["expected"]).astype(float), (frame[f"{flagship}.answer"] == frame["expected"]).astype(float)


def limits(phrase):
    """Lowest and highest that are promised; percent become shares."""
    words = phrase.removesuffix(" of always-flagship")
    numbers = [float(number) / (100 if unit == "%" else 1) for number, unit in re.findall(r"([\d.]+)(%|s)", words)]
    if words.startswith("at most"):
        return None, numbers[0]
    return (numbers[0], None) if words.startswith("at least") else tuple(numbers)


def verdict_p(p_high, p_low, limit):
    """Combine the tests of both ends, each (p_pass, p_fail) of its own; a band needs both to pass and one to fail."""
    ends = [end for end, bound in zip((p_low, p_high), limit, strict=True) if bound is not None]
    p_pass = max(p for p, _ in ends)
    return p_pass, min(1.0, len(ends) * min(p for _, p in ends))


def rate(count, nobs, limit):
    low = stats.beta.ppf(0.05, count, nobs - count + 1) if count else 0.0
    high = stats.beta.ppf(0.95, count + 1, nobs - count) if count < nobs else 1.0
    below = [None if b is None else stats.binom.cdf(count, nobs, b) for b in limit]
    above = [None if b is None else stats.binom.sf(count - 1, nobs, b) for b in limit]
    p_pass, p_fail = verdict_p((below[1], above[1]), (above[0], below[0]), limit)
    return int(nobs), int(count), count / nobs, low, high, p_pass, p_fail


def ratio(x, y, limit, *, confidence=0.95):
    n, t = len(x), stats.t.ppf(confidence, len(x) - 1)

    def below(b):
        return stats.ttest_1samp(x - b * y, 0, alternative="less").pvalue

    covariance = np.cov(x, y) / n
    a = y.mean() ** 2 - t**2 * covariance[1, 1]
    half = x.mean() * y.mean() - t**2 * covariance[0, 1]
    root = np.sqrt(half**2 - a * (x.mean() ** 2 - t**2 * covariance[0, 0]))
    below_end = [None if b is None else below(b) for b in limit]
    above_end = [None if p is None else 1 - p for p in below_end]
    p_pass, p_fail = verdict_p((below_end[1], above_end[1]), (above_end[0], below_end[0]), limit)
    return n, None, x.sum() / y.sum(), (half - root) / a, (half + root) / a, p_pass, p_fail


OWN = {"signoff": "incident", "threshold_change": "incident", "weekly_replay": "incident", "digits": "digits"}


@pytest.mark.parametrize("suite", OWN)
def test_suites_are_proven_on_their_own_golden(suite):
    """Every budget of every suite is decided, and passes, on the golden it names."""
    spec = read_yaml(SUITES / f"{suite}.cascade.yaml")
    assert (SUITES / spec["goldens"]).resolve() == GOLDENS / OWN[suite]
    verdicts = list(judge(suite, OWN[suite]))
    assert verdicts
    assert [v for v in verdicts if v.outcome != "pass"] == []


ELSEWHERE = {
    ("weekly_replay", "incident_saturated"): {"fail": {"disagreement overall", "disagreement language=pt"}},
    ("weekly_replay", "incident_mix_shift"): {},
    ("threshold_change", "incident_mix_shift"): {},
    ("signoff", "incident_mix_shift"): {},
    ("signoff", "incident_saturated"): {
        "fail": {"disagreement overall", "disagreement language=pt", "retention overall"},
        "inconclusive": {f"disagreement intent={intent}" for intent in make_incident.INTENTS},
    },
    ("digits", "digits_shifted"): {
        "fail": {
            "disagreement overall",
            "disagreement writing=inverted",
            "disagreement writing=noisy",
            "disagreement writing=rotated",
            "retention overall",
        }
    },
}


@pytest.mark.parametrize(("suite", "golden"), ELSEWHERE)
def test_suites_on_other_weeks(suite, golden):
    """On the weeks that follow, exactly what is wrong fails by name; a mere change of traffic fails nothing."""
    verdicts = list(judge(suite, golden))
    for outcome in ("fail", "inconclusive"):
        named = {f"{v.metric} {v.cohort}" for v in verdicts if v.outcome == outcome}
        assert named == ELSEWHERE[suite, golden].get(outcome, set())


COUNTS = [
    ("weekly_replay", "incident", "current", "disagreement", "overall", 354, 10336),
    ("weekly_replay", "incident", "current", "disagreement", "language=en", 332, 9880),
    ("weekly_replay", "incident", "current", "disagreement", "language=pt", 22, 456),
    ("weekly_replay", "incident", "current", "escalation", "overall", 4664, 15000),
    ("weekly_replay", "incident_saturated", "current", "disagreement", "overall", 732, 7018),
    ("weekly_replay", "incident_saturated", "current", "disagreement", "language=pt", 578, 1781),
    ("weekly_replay", "incident_saturated", "current", "escalation", "overall", 1982, 9000),
    ("weekly_replay", "incident_mix_shift", "current", "disagreement", "language=pt", 31, 615),
    ("threshold_change", "incident", "candidate", "disagreement", "language=pt", 37, 514),
    ("digits", "digits", "current", "disagreement", "overall", 44, 1433),
    ("digits", "digits", "current", "disagreement", "writing=noisy", 11, 408),
    ("digits", "digits_shifted", "current", "disagreement", "writing=inverted", 317, 317),
]


@pytest.mark.parametrize(("suite", "golden", "cascade", "metric", "cohort", "count", "nobs"), COUNTS)
def test_counts_are_the_published_ones(suite, golden, cascade, metric, cohort, count, nobs):
    """The counts that documentation quotes are the counts of the data."""
    found = [v for v in judge(suite, golden) if (v.cascade, v.metric, v.cohort) == (cascade, metric, cohort)]
    assert [(v.count, v.nobs) for v in found] == [(count, nobs)]


def test_saturation_looks_like_good_news_on_a_cost_graph():
    """In the saturated weeks cost and escalation go down while Portuguese disagreement goes far over its budget."""
    before = {(v.metric, v.cohort): v for v in judge("weekly_replay", "incident")}
    after = {(v.metric, v.cohort): v for v in judge("weekly_replay", "incident_saturated")}
    assert after["cost", "overall"].high < before["cost", "overall"].low
    assert after["escalation", "overall"].high < before["escalation", "overall"].low
    assert after["disagreement", "language=pt"].low > 3 * 0.10


def test_python_suite_marks_a_suite_that_exists():
    """The Python suite names a YAML suite of this project and asks for the fixtures in its comments."""
    module = ast.parse((SUITES / "test_support_cascade.py").read_text(encoding="utf-8"))
    marked = [node.args[0].value for node in ast.walk(module) if isinstance(node, ast.Call)]
    assert [(ROOT / name).is_file() for name in marked] == [True]
    tests = {node.name: [a.arg for a in node.args.args] for node in module.body if isinstance(node, ast.FunctionDef)}
    assert sorted(tests.values()) == [["cohort"], ["replay"]]


# --- the judge itself ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "nobs", "low", "high"),
    [(0, 29, 0, 0.0981), (5, 100, 0.0199, 0.1023), (3, 60, 0.0138, 0.1242), (15, 300, 0.0311, 0.0759)],
)
def test_judge_knows_published_bounds(count, nobs, low, high):
    """The one-sided bounds used here are the published Clopper-Pearson values."""
    found = rate(count, nobs, (None, 0.10))
    assert found[3:5] == pytest.approx((low, high), abs=5e-5)
    assert (found[5] <= 0.05) == (high <= 0.10)


def test_judge_adjusts_for_the_number_of_cohorts():
    """Four cohorts at 10%: Holm's adjusted p-values of the published example."""
    p_fail = [rate(x, n, (None, 0.10))[6] for x, n in [(2, 100), (4, 120), (9, 60), (25, 100)]]
    assert holm(p_fail) == pytest.approx([1, 1, 0.42491, 0.00005], abs=6e-6)


def test_judge_inverts_its_own_ratio_test():
    """Two one-sided 97.5% bounds are the published interval; a budget at the upper bound is just provable."""
    x = pd.Series([1, 1, 11, 1, 2, 12, 1, 1.0])
    y = pd.Series([10, 9, 10, 12, 20, 10, 8, 11.0])
    assert ratio(x, y, (None, 1.0), confidence=0.975)[2:5] == pytest.approx((1 / 3, -0.0228, 0.7749), abs=5e-5)
    high = ratio(x, y, (None, 1.0))[4]
    assert ratio(x, y, (None, high))[5] == pytest.approx(0.05)
