"""Cheaper estimates with predictions: what they save, what they cannot promise, and what they cannot see.

The made world: a case disagrees with probability ``expit(a + s * z)``, z standard normal, `a` such that the mean is as
wanted. A good predictor knows that probability; a weak one knows ``E[probability | x]`` with x of correlation r to z; none
says the mean of every case. 300 of 20,000 cases are audited.
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.special import expit

from cascade_eval import audit, runs, suite, traffic
from cascade_eval.audit import assisted, spending
from cascade_eval.diagnosis import changes

SIZE, AUDITED = 20_000, 300


def world(mean, spread, correlation=1.0, seed=1):
    """Draw true probabilities, and what a predictor of this correlation makes of them."""
    rng = np.random.default_rng(seed)
    z, noise, inner = rng.standard_normal(SIZE), rng.standard_normal(SIZE), rng.standard_normal(300)
    a = brentq(lambda a: expit(a + spread * z).mean() - mean, -20, 5)
    truth = expit(a + spread * z)
    if correlation == 1:
        return truth, truth
    known, rest = correlation * z + math.sqrt(1 - correlation**2) * noise, math.sqrt(1 - correlation**2)
    return truth, expit(a + spread * (correlation * known[:, None] + rest * inner[None, :])).mean(axis=1)


def simulate(truth, predicted, reps=1500, seed=2):
    """Errors of the audit alone, of PPI++ and of AIPW, and how often their normal 95% upper bounds hold the truth."""
    rng = np.random.default_rng(seed)
    chance = assisted.design(predicted, AUDITED)
    mean = truth.mean()
    errors, held = np.zeros((reps, 3)), np.zeros((reps, 2))
    for rep in range(reps):
        rows = rng.choice(SIZE, AUDITED, replace=False, shuffle=False)
        labels = rng.random(AUDITED) < truth[rows]
        one = assisted.ppi(labels, predicted[rows], predicted)
        drawn = rng.random(SIZE) < chance
        every = np.full(SIZE, np.nan)
        every[drawn] = rng.random(int(drawn.sum())) < truth[drawn]
        two = assisted.aipw(every, drawn, chance, predicted)
        errors[rep] = labels.mean() - mean, one.value - mean, two.value - mean
        held[rep] = [each.value + 1.645 * each.standard_error >= mean for each in (one, two)]
    return errors, held


def saved(truth, predicted):
    """Audits saved at equal root mean square error, from the variances themselves: PPI++, AIPW."""
    mean = truth.mean()
    alone = mean * (1 - mean) / AUDITED
    covariance, spread = np.cov(truth, predicted)[0, 1], predicted.var()
    power = np.clip(covariance / ((1 + AUDITED / SIZE) * spread), 0, 1) if spread > 1e-12 else 0.0
    rest = (mean * (1 - mean) - 2 * power * covariance + power**2 * spread) / AUDITED
    chance = assisted.design(predicted, AUDITED)
    squares = truth * (1 - truth) + (truth - predicted) ** 2
    weighted = ((1 - chance) / chance * squares).sum() / SIZE**2 + mean * (1 - mean) / SIZE
    return 1 - (power**2 * spread / SIZE + rest) / alone, 1 - weighted / alone


WORLDS = [
    pytest.param((0.08, 1.63), 0.19, 0.38, id="good"),
    pytest.param((0.03, 2.0, 0.4), 0.01, 0.10, id="weak"),
    pytest.param((0.05, 2.0, 0.0), 0.0, 0.0, id="none"),
]


@pytest.mark.parametrize(("made", "ppi", "aipw"), WORLDS)
def test_audits_saved_at_equal_error(made, ppi, aipw):
    """19% and 38% with a good predictor, 1% and 10% with a weak one, nothing with none."""
    assert saved(*world(*made)) == pytest.approx((ppi, aipw), abs=0.015)


@pytest.mark.parametrize(("made", "ppi", "aipw"), WORLDS[:2])
def test_the_estimators_save_as_much_in_a_simulation(made, ppi, aipw):
    """Unbiased, with the mean square error that the formulas promise, and bounds that do not hold what they promise."""
    errors, held = simulate(*world(*made))
    square = (errors**2).mean(axis=0)
    assert np.abs(errors.mean(axis=0)).max() < 4 * math.sqrt(square.max() / len(errors))
    assert 1 - square[1] / square[0] == pytest.approx(ppi, abs=0.08)
    assert 1 - square[2] / square[0] == pytest.approx(aipw, abs=0.08)
    assert ((held.mean(axis=0) > 0.88) & (held.mean(axis=0) < 0.945)).all()


def test_without_an_audit_saturation_is_invisible():
    """Confidences rise by 1.51 logits and answers do not change: 2.3% is predicted where 7.8% disagree; an audit sees it."""
    truth, _ = world(0.078, 1.63)
    predicted = expit(np.log(truth / (1 - truth)) - 1.51)
    assert truth.mean() == pytest.approx(0.078, abs=0.0005)
    assert predicted.mean() == pytest.approx(0.023, abs=0.0005)
    errors, _ = simulate(truth, predicted, reps=300)
    assert np.abs(errors.mean(axis=0)).max() < 0.004


def test_so_it_is_in_the_made_incident():
    """On what mini keeps in the saturated weeks, its own confidence predicts half of the disagreement there is."""
    frame = pd.read_parquet("goldens/incident_saturated/cases.parquet")
    kept = frame[frame["mini.confidence"] >= 0.80]
    wrong = (kept["mini.answer"] != kept["flagship.answer"]).to_numpy()
    predicted = 1 - kept["mini.confidence"].to_numpy()
    assert (round(wrong.mean(), 3), round(predicted.mean(), 3)) == (0.104, 0.05)
    rows = np.random.default_rng(0).choice(len(kept), 600, replace=False)
    found = assisted.ppi(wrong[rows], predicted[rows], predicted)
    assert abs(found.value - wrong.mean()) < 3 * found.standard_error
    assert abs(predicted.mean() - wrong.mean()) > 3 * found.standard_error


# Laws


@example([(True, 0.0), (False, 2.3e-190)])  # whose variance is too small for a float
@given(st.lists(st.tuples(st.booleans(), st.floats(0, 1)), min_size=2, max_size=30))
def test_ppi_is_its_formula(cases):
    """As a loop says it, with everything audited it is nearly the mean, and a constant prediction changes nothing."""
    y, f = (np.array(column, dtype=float) for column in zip(*cases, strict=True))
    found = assisted.ppi(y, f, f)
    n = len(y)
    spread = sum((b - f.mean()) ** 2 for b in f) / (n - 1)
    shared = sum((a - y.mean()) * (b - f.mean()) for a, b in zip(y, f, strict=True)) / (n - 1)
    power = min(max(shared / (2 * spread), 0), 1) if spread > 0 and np.ptp(f) > 0 else 0
    if np.ptp(f) == 0 or spread > 1e-9:
        assert found.power == pytest.approx(power, abs=1e-6)
        assert found.value == pytest.approx(y.mean(), abs=1e-9)
    flat = assisted.ppi(y, np.full(n, 0.3), np.full(500, 0.3))
    assert (flat.power, flat.value) == (0, pytest.approx(y.mean()))
    assert flat.standard_error == pytest.approx(y.std(ddof=1) / math.sqrt(n))


@given(st.lists(st.floats(0, 1), min_size=1, max_size=40), st.floats(0.05, 1), st.floats(0.05, 1))
def test_chances_add_up_to_the_audit(predicted, share, uniform):
    """Between 0 and 1, adding up to the size, and never less for a less decided prediction."""
    f = np.array(predicted)
    chance = assisted.design(f, share * len(f), uniform=uniform)
    assert chance.sum() == pytest.approx(share * len(f))
    assert ((chance > 0) & (chance <= 1)).all()
    order = np.argsort(np.sqrt(f * (1 - f)), kind="stable")
    assert (np.diff(chance[order]) >= -1e-9).all()


def test_aipw_is_unbiased_whatever_is_predicted():
    """Over every sample of four cases, each with its probability, the mean estimate is the rate."""
    labels, predicted, chance = np.array([1.0, 0, 1, 0]), np.array([0.1, 0.9, 0.3, 0.2]), np.array([0.3, 0.5, 0.9, 0.6])
    total = 0.0
    for bits in range(16):
        drawn = np.array([bool(bits >> k & 1) for k in range(4)])
        probability = float(np.prod(np.where(drawn, chance, 1 - chance)))
        if drawn.sum() >= 2:
            total += probability * assisted.aipw(labels, drawn, chance, predicted).value
        else:
            gap = (labels - predicted)[drawn] / chance[drawn]
            total += probability * (predicted.mean() + gap.sum() / 4)
    assert total == pytest.approx(0.5)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: assisted.ppi([1, 0], [0.1], [0.1] * 5),
        lambda: assisted.ppi([1], [0.1], [0.1] * 5),
        lambda: assisted.ppi([1, 0], [0.1, np.nan], [0.1] * 5),
        lambda: assisted.ppi([1, 0], [0.1, 0.2], [0.1]),
        lambda: assisted.aipw([1, 0], [True, True], [0.0, 0.5], [0.1, 0.1]),
        lambda: assisted.aipw([1, np.nan], [True, True], [0.5, 0.5], [0.1, 0.1]),
        lambda: assisted.aipw([1, 0, 1], [True, True], [0.5, 0.5], [0.1, 0.1]),
        lambda: assisted.design([0.5, 1.5], 1),
        lambda: assisted.design([0.5, 0.5], 3),
        lambda: assisted.design([0.5, 0.5], 1, uniform=0),
    ],
)
def test_what_cannot_be_estimated_is_an_error(wrong):
    """A missing label, prediction or chance is no zero."""
    with pytest.raises(ValueError, match=r"\w"):
        wrong()


# What an audit costs beside what it guards


@pytest.mark.parametrize(
    ("usd", "saved_usd", "days", "share", "pays", "weeks"),
    [
        (6.0, 4.0, 7, 1.5, False, 2),
        (1.0, 4.0, 7, 0.25, True, 1),
        (4.0, 4.0, 7, 1.0, False, 2),
        (8.0, 4.0, 7, 2.0, False, 3),
        (1.0, 4.0, 14, 0.25, True, 1),
        (1.0, 0.0, 7, math.inf, False, None),
        (1.0, -2.0, 7, math.inf, False, None),
    ],
)
def test_an_audit_has_to_cost_less_than_it_guards(usd, saved_usd, days, share, pays, weeks):
    """Equal is not less; a cascade that saves nothing is guarded by no audit; every k weeks it guards k weeks' saving."""
    found = spending.worth(audit.Spend(10, usd, saved_usd), days=days)
    assert (found.share, found.pays, found.weeks) == (share, pays, weeks)
    assert found.usd_per_week == usd * 7 / days


@pytest.mark.parametrize("spend", [audit.Spend(3, None, 2.0, "no price"), audit.Spend(3, 1.0, None, "no price")])
def test_an_unknown_cost_pays_nothing(spend):
    """Unknown is neither cheap nor dear."""
    found = spending.worth(spend, days=7)
    assert (found.share, found.pays, found.weeks, found.reason) == (None, None, None, "no price")
    with pytest.raises(ValueError, match="longer than"):
        spending.worth(spend, days=0)


def audited_week(share, seed=0):
    """Replay the saturated weeks with an audit of this share of the unescalated cases."""
    found = suite.load("suites/weekly_replay.cascade.yaml")
    frame = pd.read_parquet("goldens/incident_saturated/cases.parquet").drop(columns=["input"])
    kept = (frame["mini.confidence"] >= 0.80).to_numpy()
    drawn = kept & (np.random.default_rng(seed).random(len(frame)) < share)
    whole = frame.copy()
    frame["audit_probability"] = np.where(drawn, share, np.nan)
    frame.loc[kept & ~drawn, [name for name in frame if name.startswith("flagship.")]] = None
    [replayed] = changes.replays(found, traffic.from_frame(frame), [found.cascades[0]])
    return replayed, whole, kept, drawn


def test_what_a_merged_audit_cost_and_guarded():
    """Its own calls are added up exactly; the saving is estimated from them, and near the truth."""
    replayed, whole, kept, drawn = audited_week(0.2)
    spend = spending.spent(replayed)
    assert spend.calls == drawn.sum()
    assert spend.usd == pytest.approx(whole.loc[drawn, "flagship.cost_usd"].sum())
    truth = whole.loc[kept, "flagship.cost_usd"].sum() - whole["mini.cost_usd"].sum()
    assert spend.saved == pytest.approx(truth, rel=0.05)
    found = spending.worth(spend, days=42)
    assert found.pays
    assert found.share == pytest.approx(spend.usd / spend.saved)


def test_what_was_not_audited_or_priced_is_unknown():
    """A golden answered by everyone declares no audit, and a call without a price makes its sum unknown."""
    found = suite.load("suites/weekly_replay.cascade.yaml")
    [plain] = changes.replays(found, runs.open(found).traffic, [found.cascades[0]])
    assert spending.spent(plain).usd is None
    assert "declares no audit" in spending.spent(plain).reason
    row = {"case_id": "a", "language": "en", "mini.answer": "x", "mini.confidence": 0.9, "mini.cost_usd": 0.1}
    rows = [row | {"case_id": f"c{n}", "flagship.answer": "x", "audit_probability": 0.5} for n in range(4)]
    [unpriced] = changes.replays(found, traffic.from_records(rows), [found.cascades[0]])
    assert spending.spent(unpriced).reason == "the cost of 4 of 4 audit calls is unknown"
    silent = [{**one, "flagship.answer": None, "flagship.status": None, "flagship.cost_usd": None} for one in rows]
    [unasked] = changes.replays(found, traffic.from_records(silent), [found.cascades[0]])
    assert spending.spent(unasked).usd is None
