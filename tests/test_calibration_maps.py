"""Maps from a raw signal to a probability of agreement: fitting, applying, folds, and the stored file."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import blake2b

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade_eval import calibration
from cascade_eval.errors import DataError

WHEN = datetime(2026, 1, 31, 12, tzinfo=UTC)


def sigmoid(x):
    """Inverse of the logit."""
    return 1 / (1 + np.exp(-np.asarray(x)))


def logit(p):
    """Log-odds."""
    return np.log(p) - np.log1p(-np.asarray(p))


def drawn(n, seed, slope=1.0, shift=0.0, low=0.05, high=0.95):
    """Confidences and labels whose truth is logistic in the logit of the confidence."""
    rng = np.random.default_rng(seed)
    conf = rng.uniform(low, high, n)
    return conf, (rng.random(n) < sigmoid(shift + slope * logit(conf))).astype(float)


def test_platt_recovers_a_steep_slope():
    """A true slope of 6 is found, within four standard errors: nothing shrinks it."""
    conf, y = drawn(4000, 3, slope=6, low=0.3, high=0.7)
    fitted = calibration.fit("platt", conf, y)
    x = logit(conf)
    p = fitted.apply(conf)
    design = np.stack([np.ones_like(x), x])
    error = np.sqrt(np.linalg.inv((design * (p * (1 - p))) @ design.T)[1, 1])
    assert fitted.slope == pytest.approx(6, abs=4 * error)
    assert (fitted.inverted, fitted.scale, fitted.nobs) == (False, "probability", 4000)


@pytest.mark.parametrize("weighted", [False, True])
def test_platt_is_unregularised_logistic_regression(weighted):
    """Intercept and slope equal scikit-learn's without penalty, with sampling weights too."""
    from sklearn.linear_model import LogisticRegression

    conf, y = drawn(500, 4, slope=2, shift=-1)
    weight = np.random.default_rng(5).uniform(0.5, 8, 500) if weighted else None
    fitted = calibration.fit("platt", conf, y, sample_weight=weight)
    other = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(logit(conf)[:, None], y, sample_weight=weight)
    assert fitted.slope == pytest.approx(other.coef_[0, 0], rel=1e-4)
    assert fitted.intercept == pytest.approx(other.intercept_[0], rel=1e-4)


def test_isotonic_gives_the_worked_example():
    """Ten cases and their steps; the quantile of a staircase is no attained value and escalates 3 of 10 for 25%."""
    conf = np.arange(1, 11) / 10
    steps = calibration.fit("isotonic", conf, (0, 1, 0, 1, 1, 0, 1, 1, 1, 1)).apply(conf)
    assert steps.round(4).tolist() == [0, 0.5, 0.5, 0.6667, 0.6667, 0.6667, 1, 1, 1, 1]
    quantile = np.quantile(steps, 0.25)
    assert quantile == pytest.approx(0.5417, abs=5e-5)
    assert quantile not in steps
    assert (steps < quantile).sum() == 3


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 1), st.integers(1, 5)), min_size=1, max_size=50))
def test_isotonic_is_scikit_learns(rows):
    """With ties and weights, on the data and between them, equal to scikit-learn's."""
    from sklearn.isotonic import IsotonicRegression

    x, y, w = (np.array(column, dtype=float) for column in zip(*rows, strict=True))
    x /= 20
    grid = np.linspace(0, 1, 101)
    other = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(x, y, sample_weight=w)
    fitted = calibration.fit("isotonic", x, y, sample_weight=w)
    assert fitted.apply(grid) == pytest.approx(other.predict(grid), abs=1e-9)


def direct_hierarchical(conf, y, codes, size):
    """Maximise the penalised likelihood by a general optimiser."""
    from scipy.optimize import minimize

    def loss(theta):
        z = theta[0] + theta[1] * logit(conf) + theta[2:][codes]
        return -(y * z - np.logaddexp(0, z)).sum() + (theta[2:] ** 2).sum() / 2

    return minimize(loss, np.zeros(size + 2), method="BFGS", options={"gtol": 1e-6}).x


def test_hierarchical_maximises_its_penalised_likelihood():
    """Intercept, slope and each cohort's effect equal those of a general optimiser."""
    conf, _ = drawn(300, 6)
    codes = np.random.default_rng(7).choice(4, 300, p=[0.6, 0.3, 0.08, 0.02])
    y = (np.random.default_rng(8).random(300) < sigmoid(logit(conf) + np.array([1, 0, -1, -2])[codes])).astype(float)
    fitted = calibration.fit("hierarchical", conf, y, cohorts=(codes, ["en", "de", "fr", "nl"]))
    direct = direct_hierarchical(conf, y, codes, 4)
    assert [fitted.intercept, fitted.slope, *fitted.effects] == pytest.approx(direct, abs=1e-4)


def test_cohorts_the_map_has_not_seen_get_the_whole():
    """A new cohort, a negative code and no cohort at all are judged by the common curve, and counted."""
    conf, y = drawn(200, 9)
    fitted = calibration.fit("hierarchical", conf, y, cohorts=(np.arange(200) % 2, ["en", "fr", "never seen"]))
    assert fitted.cohorts == ("en", "fr")
    whole = fitted.apply([0.5, np.nan])
    assert fitted.apply([0.5, 0.5], cohorts=["xx", "fr"])[0] == whole[0]
    assert fitted.apply([0.5, 0.5], cohorts=["xx", "fr"])[1] != whole[0]
    assert fitted.apply([0.5], cohorts=(np.array([-1]), ["en"])) == whole[0]
    assert np.isnan(whole[1])
    assert fitted.uncovered((np.array([0, 1, -1]), ["fr", "xx"])).tolist() == [False, True, True]
    assert not calibration.fit("platt", conf, y).uncovered(["xx"]).any()


def test_codes_and_names_are_the_same_cohorts():
    """Cohorts as codes in any numbering, or as one name per case, give the same map and the same values."""
    conf, y = drawn(200, 10)
    names = np.array(["fr", "en", "de"])[np.arange(200) % 3]
    by_name = calibration.fit("hierarchical", conf, y, cohorts=names)
    by_code = calibration.fit("hierarchical", conf, y, cohorts=(np.arange(200) % 3, ["fr", "en", "de"]))
    assert dict(zip(by_name.cohorts, by_name.effects, strict=True)) == pytest.approx(
        dict(zip(by_code.cohorts, by_code.effects, strict=True)), abs=1e-7
    )
    assert by_name.apply(conf, names) == pytest.approx(by_code.apply(conf, (np.arange(200) % 3, ["fr", "en", "de"])))


@pytest.mark.parametrize(
    ("n_b", "pooled", "isotonic", "platt", "hierarchical"),
    [(25, 0.304, 0.174, 0.124, 0.094), (100, 0.291, 0.109, 0.067, 0.054), (300, 0.265, 0.072, 0.034, 0.027)],
)
def test_small_cohorts_are_best_served_by_leaning_on_the_whole(n_b, pooled, isotonic, platt, hierarchical):
    """A saturated cohort beside 2,000 cases of another: the known errors of four ways to fit, hierarchical smallest."""
    rng = np.random.default_rng(n_b)
    codes, grid = np.repeat([0, 1], [2000, n_b]), np.linspace(0.5, 0.99, 99)
    truth = sigmoid(logit(grid) - 1.5)
    errors = []
    for _ in range(40):
        conf = rng.uniform(0.5, 0.99, 2000 + n_b)
        y = rng.random(2000 + n_b) < sigmoid(logit(conf) - 1.5 * codes)
        own_conf, own_y = conf[2000:], y[2000:]
        fits = [
            calibration.fit("isotonic", conf, y).apply(grid),
            calibration.fit("isotonic", own_conf, own_y).apply(grid),
            calibration.fit("platt", own_conf, own_y).apply(grid),
            calibration.fit("hierarchical", conf, y, cohorts=(codes, "ab")).apply(grid, ["b"] * 99),
        ]
        errors.append(((np.array(fits) - truth) ** 2).mean(axis=1))
    found = np.sqrt(np.mean(errors, axis=0))
    assert found[:3] == pytest.approx([pooled, isotonic, platt], abs=0.012)
    # The known value is that of a cohort effect with a common slope as well; ours is no worse.
    assert hierarchical / 2 < found[3] <= hierarchical + 0.005
    assert (np.diff(found) < 0).all()


@settings(deadline=None, max_examples=50)
@given(
    st.lists(st.tuples(st.integers(0, 30), st.integers(0, 1)), min_size=3, max_size=40),
    st.sampled_from(["platt", "isotonic"]),
)
def test_a_monotone_map_cannot_change_who_escalates(rows, kind):
    """Surer values never become less sure, so cutting calibrated values splits no case from a surer one."""
    conf, y = (np.array(column, dtype=float) for column in zip(*rows, strict=True))
    conf /= 30
    fitted = calibration.fit(kind, conf, y)
    order = np.argsort(conf, kind="stable")
    calibrated = fitted.apply(conf)[order]
    assert np.all(np.diff(calibrated) >= 0)
    if kind == "platt" and fitted.slope > 0.01:
        inner = (conf > 0) & (conf < 1)
        assert np.array_equal(*(np.unique(v[inner], return_inverse=True)[1] for v in (conf, fitted.apply(conf))))


@pytest.mark.parametrize("kind", ["platt", "isotonic", "hierarchical"])
def test_a_signal_that_runs_backwards_says_so(kind):
    """Where surer values agree less, the map is flat and flagged instead of turning the ranking round."""
    conf, y = drawn(500, 12, slope=-2)
    fitted = calibration.fit(kind, conf, y, cohorts=["x"] * 500)
    assert fitted.inverted
    assert np.ptp(fitted.apply(np.linspace(0.1, 0.9, 9))) == pytest.approx(0, abs=0.1)
    assert fitted.apply([0.5])[0] == pytest.approx(y.mean(), abs=0.06)


@pytest.mark.parametrize("kind", ["platt", "isotonic"])
def test_a_signal_whose_low_values_are_surer_is_turned(kind):
    """With ``surer="lower"`` the map falls with the signal and equals that of the mirrored signal."""
    conf, y = drawn(500, 13)
    turned = calibration.fit(kind, 1 - conf, y, surer="lower")
    assert not turned.inverted
    assert turned.apply(1 - conf) == pytest.approx(calibration.fit(kind, conf, y).apply(conf), abs=1e-9)


@pytest.mark.parametrize(
    ("values", "scale"),
    [
        ([0.0, 0.5, 1.0, 0.7], "probability"),
        ([-np.inf, -0.5, -0.1, 0.0], "log-probability"),
        ([1.0, 3.0, 5.0, 9.0], "standard"),
        ([-np.inf, 3.0, -5.0, 9.0], "standard"),
        ([4.0, 4.0, 4.0, 4.0], "standard"),
    ],
)
@pytest.mark.parametrize("kind", ["platt", "isotonic"])
def test_signals_of_any_scale_become_probabilities(values, scale, kind):
    """Probabilities, log-probabilities down to -inf and anything else are mapped into 0 to 1; NaN stays NaN."""
    fitted = calibration.fit(kind, [*values, np.nan], [0, 1, 0, 1, 1])
    found = fitted.apply([*values, np.nan, 1e9])
    assert fitted.scale == scale
    assert fitted.nobs == 4
    assert np.isnan(found[4])
    assert np.all((found[[0, 1, 2, 3, 5]] >= 0) & (found[[0, 1, 2, 3, 5]] <= 1))
    assert np.all(np.isfinite([fitted.intercept, fitted.slope, *fitted.knots_x]))


def test_log_probabilities_are_calibrated_as_probabilities():
    """A mean log-probability and its exponential give the same calibrated values."""
    conf, y = drawn(300, 14)
    assert calibration.fit("platt", np.log(conf), y).apply(np.log(conf)) == pytest.approx(
        calibration.fit("platt", conf, y).apply(conf)
    )


@pytest.mark.parametrize("y", [[1, 1, 1, 1], [0, 0, 0, 0], [0, 0, 1, 1], [1, 1, 0, 0]])
@pytest.mark.parametrize("kind", ["platt", "hierarchical"])
def test_perfect_separation_stays_finite(y, kind):
    """Labels of one kind, or split by one value, give a finite curve that does not claim certainty."""
    fitted = calibration.fit(kind, [0.2, 0.4, 0.6, 0.8], y, cohorts=["a", "b", "a", "b"])
    assert np.all(np.isfinite([fitted.intercept, fitted.slope, *fitted.effects]))
    found = fitted.apply([0.2, 0.8])
    assert 0.01 < found.min() <= found.max() < 0.99


def test_weights_count_relative_to_each_other():
    """Multiplying every weight changes nothing, not even the shrinkage of cohorts."""
    conf, y = drawn(200, 15)
    weight = np.random.default_rng(16).uniform(1, 3, 200)
    cohorts = np.array(["a", "b"])[np.arange(200) % 2]
    one, many = (
        calibration.fit("hierarchical", conf, y, cohorts=cohorts, sample_weight=w) for w in (weight, 1000 * weight)
    )
    assert one.effects == pytest.approx(many.effects, abs=1e-8)


def test_out_of_fold_maps_have_not_seen_their_fold():
    """Map k equals a map fitted on the other folds, and labels of fold k do not matter to it."""
    conf, y = drawn(300, 17)
    folds = calibration.fold_of([f"case-{i}" for i in range(300)])
    maps = calibration.out_of_fold("platt", conf, y, folds=folds)
    assert len(maps) == 5
    for k, fitted in enumerate(maps):
        assert fitted == calibration.fit("platt", conf[folds != k], y[folds != k])
        changed = np.where(folds == k, 1 - y, y)
        assert calibration.out_of_fold("platt", conf, changed, folds=folds)[k] == fitted


def test_out_of_fold_passes_cohorts_and_weights_on():
    """Each map is that of `fit` on the rest, cohorts and weights included."""
    conf, y = drawn(120, 18)
    folds, codes = np.arange(120) % 3, np.arange(120) % 2
    weight = np.linspace(1, 2, 120)
    maps = calibration.out_of_fold(
        "hierarchical", conf, y, folds=folds, cohorts=(codes, ["a", "b"]), sample_weight=weight
    )
    rest = folds != 1
    again = calibration.fit(
        "hierarchical", conf[rest], y[rest], cohorts=(codes[rest], ["a", "b"]), sample_weight=weight[rest]
    )
    assert maps[1] == again


def test_folds_are_a_keyed_hash_of_the_id():
    """The same id has the same fold in any order, process and container; folds are even; the key matters."""
    ids = [f"case-{i}" for i in range(10_000)]
    folds = calibration.fold_of(ids)
    digest = blake2b(b"case-7", digest_size=8, key=b"cascade-eval folds").digest()
    assert folds[7] == int.from_bytes(digest) % 5
    assert np.array_equal(calibration.fold_of(np.array(ids[::-1])), folds[::-1])
    assert np.abs(np.bincount(folds) - 2000).max() < 4 * np.sqrt(10_000 * 0.2 * 0.8)
    assert (calibration.fold_of(ids, key="another") != folds).mean() > 0.7
    assert folds.dtype == np.int8


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: calibration.fit("plat", [0.5], [1]), ValueError, "'plat' is not a calibration. Did you mean 'platt'?"),
        (lambda: calibration.fit("hierarchical", [0.5], [1]), ValueError, "Write 'hierarchical per language'."),
        (lambda: calibration.fit("platt", [0.5], [1, 0]), ValueError, "must be as many"),
        (lambda: calibration.fit("platt", [0.5], [2]), ValueError, "labels lie between 0 and 1"),
        (
            lambda: calibration.fit("platt", [np.nan, 0.5], [1, -1]),
            DataError,
            "no case has both the signal and a comparison",
        ),
        (lambda: calibration.fit("platt", [], []), DataError, "no case has both the signal and a comparison"),
        (lambda: calibration.out_of_fold("platt", [0.5], [1], folds=[0]), DataError, "no case has both"),
        (lambda: calibration.fold_of(["a", None]), ValueError, "an id is missing"),
        (lambda: calibration.fold_of(["a"], k=1), ValueError, "between 2 and 100 folds"),
    ],
)
def test_what_cannot_be_fitted_is_refused(call, error, message):
    """Each misuse is an error that says what is wrong; nothing is fitted on nothing."""
    with pytest.raises(error) as caught:
        call()
    assert message in str(caught.value)


def some_map(kind):
    """Fit a map of this kind."""
    conf, y = drawn(100, 19)
    return calibration.fit(kind, conf, y, cohorts=np.array(["fr", "e\nn"])[np.arange(100) % 2])


@pytest.mark.parametrize("kind", ["platt", "isotonic", "hierarchical"])
def test_a_stored_map_comes_back_bit_for_bit(tmp_path, kind):
    """What was saved is loaded, with where it came from, and equal maps give equal files."""
    fitted, file = some_map(kind), tmp_path / "calibrations" / "mini.json"
    facts = {
        "data_sha256": "ab" * 32,
        "created_at": WHEN,
        "signal": "logprob",
        "models": ("mini", "flagship"),
        "columns": ("language",),
    }
    calibration.save(file, fitted, **facts)
    stored = calibration.load(file)
    assert stored.map == fitted
    assert (stored.created_at, stored.signal, stored.columns) == (WHEN, "logprob", ("language",))
    assert stored.cohorts == fitted.cohorts
    assert json.loads(file.read_text())["schema"] == "cascade-eval/calibration/1"
    again = calibration.save(tmp_path / "again.json", stored.map, **facts)
    assert again.read_bytes() == file.read_bytes()


def saved(tmp_path, change):
    """Write a stored isotonic map, changed by hand."""
    file = tmp_path / "mini.json"
    calibration.save(file, some_map("isotonic"), data_sha256="ab", created_at=WHEN, signal="confidence")
    value = json.loads(file.read_text())
    change(value)
    file.write_text(json.dumps(value))
    return file


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v: v.update(schema="cascade-eval/calibration/2"), "its schema must be 'cascade-eval/calibration/1'"),
        (lambda v: v.pop("data_sha256"), "'data_sha256' is missing."),
        (lambda v: v.update(data_sha256=""), "'data_sha256' must be text."),
        (lambda v: v.update(modles=[]), "unknown key 'modles'. Did you mean 'models'?"),
        (lambda v: v.update(columns="language"), "'columns' must be a list of texts."),
        (lambda v: v.update(created_at="2026-01-31T12:00:00"), "it must be a time with zone"),
        (lambda v: v.update(map=[]), "map: a map is a mapping, not list."),
        (lambda v: v["map"].pop("kind"), "map: 'kind' is missing."),
        (lambda v: v["map"].update(kind="plat"), "map: 'kind' is 'plat'. Allowed: platt, isotonic, hierarchical."),
        (lambda v: v["map"].update(slop=1), "map: unknown key 'slop'. Did you mean 'slope'?"),
        (lambda v: v["map"].update(slope=-1), "map: 'slope' is -1."),
        (lambda v: v["map"].update(spread=0), "map: 'spread' is 0."),
        (lambda v: v["map"].update(intercept=True), "map: 'intercept' is True."),
        (lambda v: v["map"].update(nobs=-1), "map: 'nobs' is -1."),
        (lambda v: v["map"].update(intercept=float("inf")), "is not JSON: Infinity is not a number"),
        (lambda v: v["map"].update(intercept=float("nan")), "is not JSON: NaN is not a number"),
        (lambda v: v["map"].update(cohorts=["fr"]), "map: 'cohorts' and 'effects' must be as many."),
        (lambda v: v["map"].update(knots_x=[0.1]), "map: 'knots_x' and 'knots_y' must be as many"),
        (lambda v: v["map"].update(knots_x=[], knots_y=[]), "and an isotonic map has some"),
        (lambda v: v["map"].update(knots_x=[0.2, 0.1], knots_y=[0, 1]), "map: 'knots_x' must rise"),
        (lambda v: v["map"].update(knots_x=[0.1, 0.2], knots_y=[1, 0]), "'knots_y' must not fall or leave 0 to 1"),
        (lambda v: v["map"].update(knots_x=[0.1, 0.2], knots_y=[0, 2]), "'knots_y' must not fall or leave 0 to 1"),
    ],
)
def test_a_stored_map_that_is_off_is_refused(tmp_path, change, message):
    """Every wrong part is a DataError that names the file and the part."""
    file = saved(tmp_path, change)
    with pytest.raises(DataError) as caught:
        calibration.load(file)
    assert message in str(caught.value)
    assert str(file) in str(caught.value)


def test_everything_wrong_with_a_stored_map_is_shown_together(tmp_path):
    """Problems are collected, not shown one at a time."""
    file = saved(tmp_path, lambda v: (v.pop("signal"), v.update(models=1), v["map"].update(kind="x", slope=-1)))
    with pytest.raises(DataError) as caught:
        calibration.load(file)
    assert len(caught.value.problems) == 4


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "there is no such calibration"),
        (b'{"schema": ', "is not JSON"),
        (b"\xff\xfe\xfa", "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b"[]", "is not a calibration"),
        (b"\x80\x04\x95", "is not JSON"),
    ],
)
def test_a_file_that_is_no_calibration_is_refused(tmp_path, content, message):
    """Missing, broken, foreign and pickled files are errors, never maps."""
    file = tmp_path / "mini.json"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(DataError, match=message):
        calibration.load(file)


def test_what_could_not_be_read_back_is_not_written(tmp_path):
    """A map with impossible numbers, or a time without zone, is refused before a file exists."""
    file = tmp_path / "mini.json"
    for fitted, when in (
        (replace(some_map("platt"), slope=float("nan")), WHEN),
        (some_map("platt"), WHEN.replace(tzinfo=None)),
    ):
        with pytest.raises(DataError):
            calibration.save(file, fitted, data_sha256="ab", created_at=when, signal="confidence")
    assert not file.exists()
