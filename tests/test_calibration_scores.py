"""How well a probability predicts agreement: worked examples, other libraries, published numbers."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade_eval import bounds, calibration

needs_data = pytest.mark.skipif(
    "CASCADE_EVAL_DATA" not in os.environ, reason="set CASCADE_EVAL_DATA to a folder of recorded answers"
)

P = (0.55, 0.62, 0.68, 0.71, 0.78, 0.83, 0.88, 0.91, 0.95, 0.99)
Y = (0, 1, 0, 1, 1, 0, 1, 1, 1, 1)

CASES = st.lists(
    st.tuples(st.integers(0, 1), st.integers(0, 20).map(lambda k: k / 20), st.integers(1, 4)), min_size=2, max_size=60
).map(lambda rows: tuple(np.array(column) for column in zip(*rows, strict=True)))

SCORES = {
    "brier": calibration.brier,
    "log_loss": calibration.log_loss,
    "auroc": calibration.auroc,
    "ece": calibration.ece,
    "ece, left": lambda y, p, **w: calibration.ece(y, p, closed="left", **w),
    "ece, mass": lambda y, p, **w: calibration.ece(y, p, binning="equal-mass", bins=4, **w),
    "debiased": lambda y, p, **w: calibration.debiased_error(y, p, bins=3, **w),
    "spiegelhalter": calibration.spiegelhalter,
    "murphy": lambda y, p, **w: calibration.murphy(y, p, bins=4, **w),
    "reliability": lambda y, p, **w: np.concatenate(list(vars(calibration.reliability(y, p, bins=4, **w)).values())),
}


def test_the_worked_example_comes_back():
    """Ten cases, every score to five digits."""
    assert calibration.brier(Y, P) == pytest.approx(0.17558, abs=5e-6)
    assert calibration.log_loss(Y, P) == pytest.approx(0.50624, abs=5e-6)
    assert calibration.ece(Y, P, bins=5) == pytest.approx(0.132)
    assert calibration.ece(Y, P, bins=5, binning="equal-mass") == pytest.approx(0.144)
    assert calibration.debiased_error(Y, P, bins=5) == 0
    assert calibration.spiegelhalter(Y, P) == pytest.approx((0.4861, 0.6269), abs=5e-5)
    assert calibration.murphy(Y, P, bins=5) == pytest.approx((0.03004, 0.06, 0.21))


@settings(deadline=None)
@given(CASES)
def test_scores_are_those_of_scikit_learn(cases):
    """Brier, log loss and AUROC, with ties and weights, equal scikit-learn's."""
    from sklearn import metrics

    y, p, w = cases
    assert calibration.brier(y, p, sample_weight=w) == pytest.approx(np.average((y - p) ** 2, weights=w))
    loss = metrics.log_loss(y, p, sample_weight=w, labels=[0, 1])
    assert calibration.log_loss(y, p, sample_weight=w) == pytest.approx(loss)
    if 0 < y.mean() < 1:
        assert calibration.auroc(y, p, sample_weight=w) == pytest.approx(metrics.roc_auc_score(y, p, sample_weight=w))
    else:
        assert np.isnan(calibration.auroc(y, p, sample_weight=w))


@pytest.mark.parametrize("name", SCORES)
@settings(deadline=None)
@given(cases=CASES)
def test_weights_are_repeated_cases(name, cases):
    """A case that weighs k is k such cases, for every score."""
    y, p, w = cases
    weighted = SCORES[name](y, p, sample_weight=w)
    repeated = SCORES[name](np.repeat(y, w), np.repeat(p, w))
    assert weighted == pytest.approx(repeated, abs=1e-9, nan_ok=True)


@pytest.mark.parametrize("name", SCORES)
@settings(deadline=None)
@given(cases=CASES)
def test_a_histogram_is_as_good_as_its_cases(name, cases):
    """Counts per value give every score exactly as the single cases do."""
    y, p, _ = cases
    value, at = np.unique(p, return_inverse=True)
    labels, scores, weight = calibration.from_histogram(value, np.bincount(at), np.bincount(at, y))
    found = SCORES[name](labels, scores, sample_weight=weight)
    assert found == pytest.approx(SCORES[name](y, p), abs=1e-9, nan_ok=True)


@settings(deadline=None)
@given(CASES, st.sampled_from(["right", "left"]), st.sampled_from([2, 5, 10, 15]))
def test_equal_width_bins_hold_what_their_literals_say(cases, closed, bins):
    """On values that lie on the edges, ECE equals a plain loop over intervals with the stated closed end."""
    y, p, _ = cases
    total = 0.0
    for k in range(bins):
        low, high = k / bins, (k + 1) / bins
        if closed == "right":
            inside = (p > low) & (p <= high) | ((k == 0) & (p == 0))
        else:
            inside = (p >= low) & (p < high) | ((k == bins - 1) & (p == 1))
        if inside.any():
            total += inside.mean() * abs(p[inside].mean() - y[inside].mean())
    assert calibration.ece(y, p, bins=bins, closed=closed) == pytest.approx(total)


@settings(deadline=None)
@given(CASES, st.integers(1, 12))
def test_a_reliability_diagram_holds_every_case_once(cases, bins):
    """Bins ascend without overlap, so ties are never split; their counts add up; their bounds are exact."""
    y, p, _ = cases
    diagram = calibration.reliability(y, p, bins=bins)
    assert diagram.nobs.sum() == len(y)
    assert len(diagram.nobs) <= bins
    assert (diagram.agree * diagram.nobs).sum() == pytest.approx(y.sum())
    assert np.all(diagram.low[1:] > diagram.high[:-1])
    assert np.all((diagram.low - 1e-12 <= diagram.mean) & (diagram.mean <= diagram.high + 1e-12))
    low, high = bounds.rate(np.rint(diagram.agree * diagram.nobs), diagram.nobs)
    assert diagram.bound_low == pytest.approx(low)
    assert diagram.bound_high == pytest.approx(high)


def test_bins_of_a_continuous_value_have_equal_mass():
    """Without ties, every bin holds as many cases as any other."""
    p = np.random.default_rng(1).random(1000)
    assert calibration.reliability(p < 0.5, p, bins=8).nobs.tolist() == [125] * 8


def perfectly_calibrated(rng, n, runs):
    """Half the cases of an easy, half of a hard cohort, whose probabilities are the truth."""
    easy = np.where(rng.random((runs, n)) < 0.72, rng.beta(30, 1, (runs, n)), rng.beta(3, 5, (runs, n)))
    hard = np.where(rng.random((runs, n)) < 0.30, rng.beta(30, 1, (runs, n)), rng.beta(5, 4, (runs, n)))
    p = np.where(rng.random((runs, 1)) < 0.5, easy, hard)
    return rng.random((runs, n)) < p, p


@pytest.mark.parametrize(("n", "biased"), [(50, 0.109), (100, 0.077), (300, 0.045), (1000, 0.025)])
def test_plain_ece_accuses_the_innocent(n, biased):
    """A perfectly calibrated cohort shows this ECE; the debiased error is far smaller, Spiegelhalter holds its size."""
    runs = 400
    y, p = perfectly_calibrated(np.random.default_rng(n), n, runs)
    plain = np.array([calibration.ece(*row, binning="equal-mass") for row in zip(y, p, strict=True)])
    debiased = np.array([calibration.debiased_error(*row) ** 2 for row in zip(y, p, strict=True)])
    rejected = np.array([calibration.spiegelhalter(*row)[1] <= 0.05 for row in zip(y, p, strict=True)])
    assert plain.mean() == pytest.approx(biased, abs=0.001 + 4 * plain.std() / runs**0.5)
    assert debiased.mean() < (plain**2).mean() / 2
    assert rejected.mean() <= 0.05 + 4 * (0.05 * 0.95 / runs) ** 0.5


def test_without_cases_a_score_is_unknown():
    """No case gives NaN and an empty diagram, never a perfect score."""
    for name, score in SCORES.items():
        found = np.atleast_1d(score([], []))
        assert np.isnan(found).all(), name
    assert calibration.reliability([], []).nobs.shape == (0,)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: calibration.brier([0, 1], [0.5]), "must be as many"),
        (
            lambda: calibration.brier([0, 1], [0.5, 1.5]),
            "probabilities lie between 0 and 1; calibrate the signal first",
        ),
        (lambda: calibration.auroc([0, 1], [0.5, np.nan]), "leave cases out whose label or value is unknown"),
        (lambda: calibration.auroc([0, 2], [0.5, 0.6]), "labels lie between 0 and 1"),
        (lambda: calibration.ece([0], [0.5], bins=0), "at least one bin"),
        (lambda: calibration.ece([0], [0.5], binning="quantile"), "'quantile' is not a binning"),
    ],
)
def test_what_cannot_be_scored_is_refused(call, message):
    """Wrong input is an error that says what is allowed."""
    with pytest.raises(ValueError) as caught:
        call()
    assert message in str(caught.value)


COLUMNS = {
    "logit_perplexity": "x_conf_logprob",
    "verbal_numerical": "x_conf_verbal",
    "verbal_linguistic": "x_conf_linguistic",
}


def published(data, block):
    """Numbers of one block that a source printed."""
    rows = json.loads((data / "published_numbers.json").read_text())
    return [row for row in rows if row["block"].startswith(block)]


def groups_of(data):
    """Labels and signals by model and subject: readable answers with every signal the model has inside 0 to 1."""
    import pyarrow.parquet as pq

    table = pq.read_table(
        data / "mmlu_pro_calibration.parquet", columns=["tier_model", "cohort", "response", "score", *COLUMNS.values()]
    )
    model, cohort = (np.array(table[name].to_pylist()) for name in ("tier_model", "cohort"))
    signals = {name: table[name].to_numpy() for name in COLUMNS.values()}
    readable, score = ~np.array(table["response"].is_null()), table["score"].to_numpy()
    groups = {}
    for one in np.unique(model):
        keep = readable & (model == one)
        for values in signals.values():
            if not np.isnan(values[model == one]).all():
                keep &= (values >= 0) & (values <= 1)
        for subject in np.unique(cohort):
            rows = keep & (cohort == subject)
            groups[one, subject] = score[rows], {name: values[rows] for name, values in signals.items()}
    return groups


@needs_data
def test_numbers_of_a_public_study_come_back():
    """Accuracy, AUROC and ECE of 14 models by 14 subjects and up to three signals: all 1,288 printed values.

    The study's bins leave a value of exactly 0 out of the sum but not out of the number of cases.
    """
    data = Path(os.environ["CASCADE_EVAL_DATA"])
    groups, found = groups_of(data), {"accuracy": 0, "auroc": 0, "ece10": 0}
    for row in published(data, "mmlu_pro_calibration"):
        y, signals = groups[row["model"], row["cohort"]]
        what = row["block"].split()[1]
        if what == "accuracy":
            value = y.mean()
        else:
            s = signals[COLUMNS[row["kind"]]]
            above = s > 0
            value = calibration.auroc(y, s) if what == "auroc" else calibration.ece(y[above], s[above]) * above.mean()
        found[what] += abs(value - row["published"]) < (1e-6 if what == "ece10" else 1e-12)
    assert found == {"accuracy": 196, "auroc": 546, "ece10": 546}


@needs_data
def test_left_closed_bins_of_another_study_come_back():
    """ECE of "not in the lowest fifth" of eight translators: the source closes its ten bins on the left."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    data = Path(os.environ["CASCADE_EVAL_DATA"])
    table = pq.read_table(
        data / "wmt17_mt_confidence.parquet", columns=["tier_model", "confidence", "x_low_quality_within_model_q20"]
    )
    rows = published(data, "wmt17_mt_confidence: ECE")
    for row in rows:
        mine = table.filter(pc.equal(table["tier_model"], row["model"]))
        good = 1 - np.array(mine["x_low_quality_within_model_q20"].to_pylist(), dtype=float)
        found = calibration.ece(good, mine["confidence"].to_numpy(), closed="left")
        assert found == pytest.approx(row["published"], abs=1e-9), row["model"]
    assert len(rows) == 8
