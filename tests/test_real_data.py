"""Suites on real recorded answers, against a plain pandas computation of the same figures."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cascade_eval import errors, runs, suite

needs_data = pytest.mark.skipif("CASCADE_EVAL_DATA" not in os.environ, reason="CASCADE_EVAL_DATA is not set")
pytestmark = needs_data

COLUMNS = "columns: {model: tier_model, answer: response}"


def judge(name, text, tmp_path):
    """Evaluate a suite on one of the data sets; return its record."""
    data = Path(os.environ["CASCADE_EVAL_DATA"]).resolve() / f"{name}.parquet"
    path = tmp_path / "real.cascade.yaml"
    path.write_text(f"traffic: {data}\n{COLUMNS}\n{text}", encoding="utf-8")
    return runs.evaluate(suite.load(path)).record


def frame(name, *models):
    """Read the same data by pandas, as one row per case."""
    rows = pd.read_parquet(Path(os.environ["CASCADE_EVAL_DATA"]) / f"{name}.parquet")
    sides = [rows[rows.tier_model == model].set_index("case_id") for model in models]
    sides = [side.add_suffix(end) for side, end in zip(sides, ("_c", "_f"), strict=True)]
    joined = sides[0].join(sides[1], how="inner")
    assert len(joined) == len(sides[0]) == len(sides[1])
    return joined


def plain(cases, escalates, agrees, comparable):
    """Escalation, disagreement and cost of some cases, the way one would write it in pandas."""
    kept = ~escalates
    known = kept & comparable
    cost = cases.cost_usd_c.sum() + cases.cost_usd_f[escalates].sum()
    return {
        "escalation": (int(escalates.sum()), len(cases)),
        "disagreement": (int((known & ~agrees).sum()), int(known.sum())),
        "cost": cost / cases.cost_usd_f.sum() if cases.cost_usd_f.notna().any() else None,
    }


def assert_same(cell, expected):
    """Assert that a cell of evidence has the counts of pandas to the last one, and the cost to nine digits."""
    for metric in ("escalation", "disagreement"):
        found = cell["metrics"][metric]
        assert (found["count"] or 0, found["nobs"]) == expected[metric], (cell["cohort"], metric)
    if expected["cost"] is not None:
        assert cell["metrics"]["cost"]["value"] == pytest.approx(expected["cost"], rel=1e-9)


MMLU = """
cascades:
  nano:
    - {tier: nano, model: gpt-4.1-nano, gate: {signal: x_conf_logprob, escalate: 30%}}
    - {tier: flagship, model: gpt-4.1}
agreement: exact
cohorts: [cohort]
budgets:
  disagreement: {overall: at most 30%, each cohort: at most 20%}
  escalation: {overall: 25% to 35%}
  cost: {overall: at most 60%}
"""


def test_a_global_threshold_hides_cohorts_and_the_suite_names_them(tmp_path):
    """gpt-4.1-nano gated on its log-probability at 30%: the known counts, and failures of the bad subjects by name."""
    record = judge("mmlu_pro_calibration", MMLU, tmp_path)
    cascade = record["cascades"][0]
    overall = cascade["overall"]["metrics"]
    assert (overall["escalation"]["count"], overall["escalation"]["nobs"]) == (3610, 12032)
    assert (overall["disagreement"]["count"], overall["disagreement"]["nobs"]) == (2285, 8402)
    cells = {cell["cohort"]["cohort"]: cell["metrics"]["disagreement"] for cell in cascade["cohorts"]}
    for name, count, nobs in (("engineering", 361, 683), ("law", 117, 235), ("philosophy", 114, 280)):
        assert (cells[name]["count"], cells[name]["nobs"]) == (count, nobs)
    outcomes = {
        verdict["cohort"]["cohort"]: verdict["outcome"]
        for verdict in cascade["verdicts"]
        if verdict["metric"] == "disagreement" and verdict["cohort"]
    }
    assert len(outcomes) == 14
    failed = {name for name, outcome in outcomes.items() if outcome == "fail"}
    assert failed == {"chemistry", "engineering", "law", "math", "other", "philosophy", "physics"}
    assert outcomes["biology"] == "pass"


def test_mmlu_equals_pandas_in_every_cohort(tmp_path):
    """Escalation, disagreement and cost per subject equal a plain pandas computation to the last count."""
    record = judge("mmlu_pro_calibration", MMLU, tmp_path)["cascades"][0]
    threshold = record["thresholds"][0]["threshold"]
    cases = frame("mmlu_pro_calibration", "gpt-4.1-nano", "gpt-4.1")
    escalates = ~(cases.x_conf_logprob_c >= threshold)
    agrees = cases.response_c == cases.response_f
    comparable = cases.response_f.notna()
    assert_same(record["overall"], plain(cases, escalates, agrees, comparable))
    for cell in record["cohorts"]:
        mine = cases.cohort_c == cell["cohort"]["cohort"]
        assert_same(cell, plain(cases[mine], escalates[mine], agrees[mine], comparable[mine]))


SQL = """
cascades:
  proxy:
    - {tier: proxy, model: PROXY, gate: {signal: confidence, threshold: 0.9}}
    - {tier: oracle, model: ORACLE}
agreement: exact
cohorts: [dataset]
budgets:
  disagreement: {overall: at most 20%, each dataset: at most 20%}
  escalation: {overall: 1% to 99%}
"""


def test_semantic_sql_equals_pandas_under_heavy_ties(tmp_path):
    """With the flagship as the only yardstick and tied confidences the counts equal pandas, and there is no quality."""
    rows = pd.read_parquet(Path(os.environ["CASCADE_EVAL_DATA"]) / "semantic_sql.parquet")
    names = rows.groupby("tier_model").confidence.count()
    proxy = next(name for name in names.index if "8" in name.lower() and "70" not in name)
    oracle = next(name for name in names.index if name != proxy)
    text = SQL.replace("PROXY", proxy).replace("ORACLE", oracle)
    record = judge("semantic_sql", text, tmp_path)["cascades"][0]
    cases = frame("semantic_sql", proxy, oracle)
    escalates = ~(cases.confidence_c >= np.asarray(0.9, cases.confidence_c.dtype))
    agrees = cases.response_c == cases.response_f
    comparable = cases.response_f.notna()
    assert_same(record["overall"], plain(cases, escalates, agrees, comparable))
    assert len(record["cohorts"]) == 5
    for cell in record["cohorts"]:
        mine = cases.dataset_c == cell["cohort"]["dataset"]
        assert_same(cell, plain(cases[mine], escalates[mine], agrees[mine], comparable[mine]))
    assert "quality" not in record["overall"]["metrics"]
    assert cases.confidence_c.nunique() < len(cases) / 2, "the data is tied, or this test shows nothing"


QA = """
cascades:
  small:
    - {tier: small, model: CHEAP, gate: {signal: {logprob: {statistic: minimum}}, threshold: 0.5}}
    - {tier: large, model: FLAGSHIP}
agreement: same label
cohorts: [dataset]
budgets:
  disagreement: {overall: at most 90%}
  escalation: {overall: 1% to 99%}
"""


def test_open_qa_gates_on_recorded_token_probabilities(tmp_path):
    """The minimum token probability, from a recorded list, gates as a per-row computation says."""
    rows = pd.read_parquet(Path(os.environ["CASCADE_EVAL_DATA"]) / "open_qa_logprobs.parquet")
    models = [m for m in rows.tier_model.unique() if rows[rows.tier_model == m].x_token_probs.notna().all()]
    cheap, flagship = min(models), max(models)
    logged = rows[rows.tier_model.isin([cheap, flagship])].copy()
    with np.errstate(divide="ignore"):
        logged["token_logprobs"] = [np.log(np.asarray(p, dtype=float)) for p in logged.x_token_probs]
    data = tmp_path / "qa.parquet"
    logged.drop(columns="x_token_probs").to_parquet(data)
    path = tmp_path / "qa.cascade.yaml"
    text = QA.replace("CHEAP", cheap).replace("FLAGSHIP", flagship)
    path.write_text(f"traffic: {data}\n{COLUMNS}\n{text}", encoding="utf-8")
    record = runs.evaluate(suite.load(path)).record["cascades"][0]
    mine = logged[logged.tier_model == cheap]
    smallest = np.array([np.min(p) if len(p) else np.nan for p in mine.x_token_probs])
    escalated = int(np.sum(~(np.exp(np.log(smallest)) >= 0.5)))
    found = record["overall"]["metrics"]["escalation"]
    assert (found["count"], found["nobs"]) == (escalated, len(mine))


WMT = """
cascades:
  cheap:
    - {tier: cheap, model: CHEAP, gate: {signal: confidence, threshold: 0.9}}
    - {tier: flagship, model: FLAGSHIP}
agreement: within 0.15
cohorts: [cohort]
budgets:
  disagreement: {overall: at most 60%}
  cost: {overall: at most 100%}
  latency p95: {overall: at most 60s}
"""


def test_wmt_compares_scores_within_a_margin_with_recorded_cost_and_latency(tmp_path):
    """Graded quality: agreement within 0.15, recorded dollars, recorded seconds, all as pandas has them."""
    rows = pd.read_parquet(Path(os.environ["CASCADE_EVAL_DATA"]) / "wmt17_mt_confidence.parquet")
    cost = rows.groupby("tier_model").cost_usd.mean().sort_values()
    cheap, flagship = cost.index[0], cost.index[-1]
    record = judge("wmt17_mt_confidence", WMT.replace("CHEAP", cheap).replace("FLAGSHIP", flagship), tmp_path)
    cascade = record["cascades"][0]
    cases = frame("wmt17_mt_confidence", cheap, flagship)
    escalates = ~(cases.confidence_c >= 0.9)
    agrees = (cases.score_c - cases.score_f).abs() <= 0.15 * (1 + 1e-9)
    assert_same(cascade["overall"], plain(cases, escalates, agrees, cases.score_f.notna()))
    for cell in cascade["cohorts"]:
        mine = cases.cohort_c == cell["cohort"]["cohort"]
        assert_same(cell, plain(cases[mine], escalates[mine], agrees[mine], cases.score_f[mine].notna()))
    latency = cases.latency_s_c + np.where(escalates, cases.latency_s_f, 0)
    shown = cascade["overall"]["metrics"]["latency p95"]["value"]
    assert shown == pytest.approx(np.quantile(latency, 0.95, method="inverted_cdf"), rel=0.005)
    served = np.where(escalates, cases.score_f, cases.score_c)
    assert cascade["overall"]["metrics"]["quality"]["value"] == pytest.approx(served.mean(), rel=1e-9)


ROUTES = """
cascades:
  routed:
    routes: [{when: {dataset: [gsm8k, mt_bench]}, start: flagship}]
    tiers:
      - {tier: cheap, model: CHEAP, gate: {signal: SIGNAL, threshold: 0.5}}
      - {tier: flagship, model: FLAGSHIP}
agreement: within 0
cohorts: [dataset]
budgets:
  disagreement: {each dataset: at most 60%}
"""


def test_routellm_without_any_confidence_is_not_measured_and_says_so(tmp_path):
    """A gate on a confidence nobody recorded escalates everything: never a pass, and the reason names the signal."""
    record = judge("routellm_eval", _routes("confidence"), tmp_path)
    verdicts = record["cascades"][0]["verdicts"]
    assert verdicts
    assert {verdict["outcome"] for verdict in verdicts} == {"inconclusive"}
    assert all(verdict["not_measured"] for verdict in verdicts)
    assert "no signal: confidence of cheap is null in all 14,042 cases" in verdicts[0]["reason"]


def test_routellm_with_a_signal_that_does_not_exist_is_a_usage_error(tmp_path):
    """A misspelled signal is an error that names the recorded columns."""
    with pytest.raises(errors.UsageError, match="confidense"):
        judge("routellm_eval", _routes("confidense"), tmp_path)


def test_routellm_routes_whole_data_sets_to_the_flagship(tmp_path):
    """Routed cohorts have no item; the others are replayed, here on whether the cheap answer was right."""
    record = judge("routellm_eval", _routes("score"), tmp_path)["cascades"][0]
    routed = {cell["cohort"]["dataset"] for cell in record["cohorts"] if cell["routed"]}
    assert routed == {"gsm8k", "mt_bench"}
    assert [verdict["cohort"] for verdict in record["verdicts"]] == [{"dataset": "mmlu"}]
    rows = pd.read_parquet(Path(os.environ["CASCADE_EVAL_DATA"]) / "routellm_eval.parquet")
    cheap, flagship = _models(rows)
    mmlu = frame("routellm_eval", cheap, flagship)
    mmlu = mmlu[mmlu.dataset_c == "mmlu"]
    kept = mmlu.score_c >= 0.5
    found = record["cohorts"][[c["cohort"]["dataset"] for c in record["cohorts"]].index("mmlu")]["metrics"]
    assert (found["escalation"]["count"], found["escalation"]["nobs"]) == (int((~kept).sum()), len(mmlu))
    wrong = int((kept & (mmlu.score_c != mmlu.score_f)).sum())
    assert (found["disagreement"]["count"], found["disagreement"]["nobs"]) == (wrong, int(kept.sum()))


def _models(rows):
    cost = rows.groupby("tier_model").cost_usd.mean().sort_values()
    return cost.index[0], cost.index[-1]


def _routes(signal):
    rows = pd.read_parquet(Path(os.environ["CASCADE_EVAL_DATA"]) / "routellm_eval.parquet")
    cheap, flagship = _models(rows)
    return ROUTES.replace("CHEAP", cheap).replace("FLAGSHIP", flagship).replace("SIGNAL", signal)
