"""Thresholds that escalate a given share: quantiles of the raw signal, tied levels split by keyed hash."""

from __future__ import annotations

import math
import os
from fractions import Fraction
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from scipy import stats
from test_real_data import needs_data

from cascade_eval import calibration, thresholds
from cascade_eval.thresholds import targets

LEVELS = st.lists(st.sampled_from([0.1, 0.3, 0.5, 0.7, 0.9, math.nan]), min_size=1, max_size=25)
SHARES = st.fractions(Fraction(1, 50), Fraction(49, 50), max_denominator=50)


@settings(deadline=None)
@given(LEVELS, SHARES, st.sampled_from(["higher", "lower"]))
def test_what_is_below_and_a_share_of_what_is_tied_make_the_target(values, at, surer):
    """Counted in fractions: less sure cases are within the target, with the tied ones they reach it, and split they meet it."""
    found = thresholds.target(values, at=float(at), surer=surer)
    n, lost = len(values), sum(map(math.isnan, values))
    if found.threshold is None:
        assert lost == n
        assert (found.whole, found.split) == (1, 1)
        return
    less = [v < found.threshold if surer == "higher" else v > found.threshold for v in values]
    below, tied = Fraction(lost + sum(less), n), Fraction(sum(v == found.threshold for v in values), n)
    assert tied > 0, "the threshold is an attained value"
    assert (found.below, found.tied) == (pytest.approx(float(below)), pytest.approx(float(tied)))
    if Fraction(lost, n) > at:
        assert (below, found.share) == (Fraction(lost, n), 0)
    else:
        assert below <= at <= below + tied
        assert found.share == pytest.approx(float((at - below) / tied), abs=1e-9)
        assert found.split == pytest.approx(float(at))


@settings(deadline=None)
@given(LEVELS, SHARES)
def test_weights_stand_for_as_many_cases(values, at):
    """Weighting every case by 3 changes nothing, and repeating a case is weighting it."""
    plain = thresholds.target(values, at=float(at))
    heavy = thresholds.target(values, at=float(at), weights=[3.0] * len(values))
    counts = [1 + i % 3 for i in range(len(values))]
    repeated = thresholds.target(np.repeat(values, counts), at=float(at))
    weighted = thresholds.target(values, at=float(at), weights=counts)
    for one, other in ((plain, heavy), (repeated, weighted)):
        assert one.threshold == other.threshold
        assert (one.below, one.split) == (pytest.approx(other.below), pytest.approx(other.split))


def test_who_escalates_depends_on_the_case_alone():
    """Less sure and missing values escalate, surer ones settle, and of tied ones the same whatever stands beside them."""
    values = [0.2, math.nan, 0.9, *[0.5] * 400]
    ids = [f"case-{i}" for i in range(len(values))]
    found = thresholds.target(values, at=0.4)
    escalates = found.escalates(values, ids)
    assert escalates[:3].tolist() == [True, True, False]
    assert escalates.mean() == pytest.approx(0.4, abs=0.05)
    order = np.random.default_rng(0).permutation(len(values))
    shuffled = found.escalates(np.array(values)[order], [ids[i] for i in order])
    assert shuffled.tolist() == escalates[order].tolist()
    alone = [bool(found.escalates([value], [name])[0]) for value, name in zip(values, ids, strict=True)]
    assert alone == escalates.tolist()


def test_another_key_splits_the_level_otherwise_and_as_much():
    """The share stays, the cases change; of 4,000 tied ones each key takes a quarter, the two agree on a sixteenth."""
    values, ids = np.full(4000, 0.5), [f"case-{i}" for i in range(4000)]
    one, other = (thresholds.target(values, at=0.25, key=key).escalates(values, ids) for key in ("a", "b"))
    assert one.mean() == pytest.approx(0.25, abs=0.03)
    assert other.mean() == pytest.approx(0.25, abs=0.03)
    assert (one & other).mean() == pytest.approx(1 / 16, abs=0.02)


def test_numbers_of_ids_are_the_hash_that_is_documented():
    """Anybody can number a case: eight bytes of keyed BLAKE2b, big-endian, their first 53 bits over 2**53."""
    import hashlib

    digest = hashlib.blake2b(b"case-17", digest_size=8, key=b"cascade-eval ties").digest()
    [found] = targets.lots(["case-17"])
    assert found == (int.from_bytes(digest, "big") >> 11) / 2**53
    many = targets.lots(f"case-{i}" for i in range(20_000))
    assert np.histogram(many, 10, (0, 1))[0].tolist() == pytest.approx([2000] * 10, abs=150)


def test_a_float32_column_is_compared_in_its_own_precision():
    """0.9 of a float32 column is tied with the threshold 0.9, as it is at a gate."""
    values = np.array([0.5, 0.9, 0.9, 0.9], dtype=np.float32)
    found = thresholds.target(values, at=0.25)
    assert np.float32(found.threshold) == np.float32(0.9)
    written = targets.Target(0.25, 0.9, 0.0, 0.0, 0.25, 0.75)
    assert written.escalates(values, "abcd").tolist() == [True, False, False, False]


@pytest.mark.parametrize(
    ("values", "options", "message"),
    [
        ([0.5], {"at": 0.0}, "between 0 and 1"),
        ([0.5], {"at": 1.0}, "between 0 and 1"),
        ([], {"at": 0.5}, "without cases"),
        ([0.5], {"at": 0.5, "weights": [0.0]}, "without cases"),
    ],
)
def test_what_has_no_share_is_refused(values, options, message):
    """No cases, no weight, or a share that is none."""
    with pytest.raises(ValueError, match=message):
        thresholds.target(values, **options)


# What calibrating first would do


def drawn(rng, size):
    """Values Beta(5, 2), each agreeing with that probability."""
    value = rng.beta(5, 2, size)
    return value, rng.random(size) < value


def realised(size, fits=400, decimals=None):
    """Share that escalates of a large population: by quantile of isotonic values, and by raw quantile with split ties."""
    rng = np.random.default_rng(size)
    # Its quantiles stand for the whole population, without the error of a sample.
    population = stats.beta.ppf((np.arange(10_000) + 0.5) / 10_000, 5, 2)
    population = population if decimals is None else population.round(decimals)
    rates = []
    for _ in range(fits):
        value, agrees = drawn(rng, size)
        value = value if decimals is None else value.round(decimals)
        fitted = calibration.fit("isotonic", value, agrees)
        cut = np.quantile(fitted.apply(value), 0.25)
        found = thresholds.target(value, at=0.25)
        below, tied = np.mean(population < found.threshold), np.mean(population == found.threshold)
        rates.append((np.mean(fitted.apply(population) < cut), below + found.share * tied, below))
    return np.array(rates).T


@pytest.mark.parametrize(("size", "mean", "off", "sd"), [(200, 0.18, 0.62, 0.031), (1000, 0.20, 0.45, 0.014)])
def test_a_quantile_of_isotonic_values_misses_the_target(size, mean, off, sd):
    """Asked for 25%, a quantile of isotonic values escalates far less and varies widely; the raw quantile does not."""
    isotonic, split, _ = realised(size)
    assert isotonic.mean() == pytest.approx(mean, abs=0.015)
    assert np.mean(np.abs(isotonic - 0.25) > 0.05) == pytest.approx(off, abs=0.1)
    assert isotonic.min() < 0.1
    assert split.mean() == pytest.approx(0.252, abs=0.006)
    assert split.std() == pytest.approx(sd, abs=0.006)


def test_ties_are_met_only_when_they_are_split():
    """Rounded to one digit a plain quantile is 8 points short of the target; with the tied level split it is met."""
    _, split, plain = realised(1000, fits=40, decimals=1)
    assert plain.mean() == pytest.approx(0.165, abs=0.01)
    assert split.mean() == pytest.approx(0.25, abs=0.006)


@needs_data
@pytest.mark.parametrize(
    ("signal", "isotonic", "plain"), [("x_conf_logprob", 0.21, 0.25), ("x_conf_verbal", 0.07, 0.07)]
)
def test_on_real_answers_the_split_meets_the_target(signal, isotonic, plain):
    """gpt-4.1-nano on MMLU-Pro, chosen on random halves: 25% on the other, whether the signal has ties or has not."""
    rows = pd.read_parquet(Path(os.environ["CASCADE_EVAL_DATA"]) / "mmlu_pro_calibration.parquet")
    cheap, top = (rows[rows.tier_model == model].set_index("case_id") for model in ("gpt-4.1-nano", "gpt-4.1"))
    agrees = (cheap.response == top.response.reindex(cheap.index)).to_numpy()
    value = cheap[signal].to_numpy(float)
    known = np.flatnonzero(~np.isnan(value))
    rng = np.random.default_rng(0)
    rates = []
    for _ in range(20):
        order = rng.permutation(known)
        mine, other = order[: len(order) // 2], order[len(order) // 2 :]
        fitted = calibration.fit("isotonic", value[mine], agrees[mine])
        cut = np.quantile(fitted.apply(value[mine]), 0.25)
        found = thresholds.target(value[mine], at=0.25)
        split = found.escalates(value[other], cheap.index[other])
        rates.append((np.mean(fitted.apply(value[other]) < cut), np.mean(value[other] < found.threshold), split.mean()))
    means = np.mean(rates, axis=0)
    assert means[:2] == pytest.approx([isotonic, plain], abs=0.015)
    assert means[2] == pytest.approx(0.25, abs=0.01)
