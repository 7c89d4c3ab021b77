"""Proposals: what is certified, on which cases, what is refused, and what is written."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from proposal_cases import SUITE, cases, laid_out

from cascade_eval import calibration, cli, proposals, runs, suite, thresholds
from cascade_eval.errors import UsageError

__all__ = ["laid_out"]  # a fixture


def propose(found, **options):
    return proposals.threshold(found, runs.open(found).traffic, **{"at_most": 0.10, **options})


def test_it_is_what_select_certifies(laid_out):
    """The threshold is that of `thresholds.select` on the labelled cases, and kept cases are counted as it counts them."""
    frame = cases()
    made = propose(laid_out(frame))
    wrong = frame["mini.answer"] != "yes"
    found = thresholds.select(frame["mini.confidence"], wrong, at_most=0.10)
    kept = frame["mini.confidence"] >= found.threshold
    assert made.threshold == found.threshold
    assert (made.kept.count, made.kept.nobs) == (int((wrong & kept).sum()), int(kept.sum()))
    assert made.escalation[0] == pytest.approx(1 - kept.mean())
    assert made.kept.rate < made.bound <= 0.10
    assert made.coverage == 1
    by_hand = {
        f"language={name}": (int((wrong & kept & here).sum()), int((kept & here).sum()))
        for name in ("en", "fr")
        for here in [frame["language"] == name]
    }
    assert {one.cohort: (one.count, one.nobs) for one in made.slices} == by_hand


def test_per_cohort_one_threshold_certified_in_all(laid_out):
    """Each cohort gets delta / K, and the proposed threshold is as strict as the strictest cohort needs."""
    frame = cases(8000)
    worse = (frame["language"] == "fr") & (np.random.default_rng(1).random(8000) < 0.05)
    frame.loc[worse, "mini.answer"] = "no"
    made = propose(laid_out(frame), per=["language"])
    assert [part.delta for part in made.parts] == [0.05, 0.05]
    assert made.threshold >= max(part.threshold for part in made.parts)
    assert made.bound <= 0.10
    assert propose(laid_out(frame)).threshold < made.threshold


def test_one_hopeless_cohort_leaves_no_threshold(laid_out):
    """Where a cohort cannot be certified nothing is proposed, and the cohort is named."""
    frame = cases()
    frame.loc[frame["language"] == "fr", "mini.answer"] = "no"
    made = propose(laid_out(frame), per=["language"])
    assert made.threshold is None
    assert "language=fr" in made.reason
    assert "language=en" not in made.reason


def test_too_few_cases_say_how_many_would_do(laid_out):
    """Forty cases certify nothing, and the proposal says how many probably would."""
    made = propose(laid_out(cases(40, wrong=0.05)), at_most=0.05)
    assert (made.threshold, made.kept, made.bound, made.escalation) == (None, None, None, None)
    assert made.parts[0].needed > 40


def test_labels_of_escalated_cases_only_certify_nothing(laid_out):
    """Production knows the flagship's answers of escalated cases; those are not like the ones it keeps."""
    frame = cases()
    frame.loc[frame["mini.confidence"] >= 0.5, "big.answer"] = None
    made = propose(laid_out(frame))
    assert made.threshold is None
    assert made.coverage == pytest.approx((frame["mini.confidence"] < 0.5).mean())
    assert "were compared with the flagship, below 99%" in made.reason


def test_a_few_unknown_comparisons_count_as_disagreeing(laid_out):
    """Unknown labels never help: they count as the worst they could be."""
    frame = cases()
    frame.loc[:19, "big.answer"] = None
    made = propose(laid_out(frame))
    pessimistic = frame["mini.answer"].ne("yes") | frame["big.answer"].isna()
    assert made.threshold == thresholds.select(frame["mini.confidence"], pessimistic, at_most=0.10).threshold
    assert "20 cases at the gate" in " ".join(made.notes)


def test_an_audit_stands_for_all_cases(laid_out):
    """Drawn with a known chance, labelled cases are evened out: kept ones are neither too many nor too few."""
    frame = cases(12_000)
    settled = frame["mini.confidence"] >= 0.5
    drawn = settled & (np.random.default_rng(3).random(12_000) < 0.25)
    frame["audit_probability"] = np.where(drawn, 0.25, np.nan)
    frame.loc[settled & ~drawn, "big.answer"] = None
    made = propose(laid_out(frame))
    assert made.threshold is not None
    assert made.used == pytest.approx(3000, abs=250)
    share = made.kept.nobs / made.used
    assert share == pytest.approx((frame["mini.confidence"] >= made.threshold).mean(), abs=0.04)


def test_an_audit_of_three_tiers_stands_for_what_the_second_one_kept(laid_out):
    """Cases the second tier settled are drawn as well; at the first gate those not drawn are stood for by those drawn."""
    size, rng = 12_000, np.random.default_rng(4)
    frame = cases(size)
    first = frame["mini.confidence"] >= 0.5
    second = ~first & (rng.random(size) < 0.6)
    frame["mid.answer"], frame["mid.confidence"] = "yes", np.where(second, 0.9, 0.1)
    frame.loc[first, ["mid.answer", "mid.confidence"]] = [None, np.nan]
    drawn = (first | second) & (rng.random(size) < 0.25)
    frame["audit_probability"] = np.where(drawn, 0.25, np.nan)
    truth = frame["mini.answer"].ne("yes")
    frame.loc[(first | second) & ~drawn, "big.answer"] = None
    middle = "    - {tier: middle, model: mid, gate: {signal: confidence, threshold: 0.5}}\n    - {tier: fl"
    made = propose(laid_out(frame, SUITE.replace("    - {tier: fl", middle)), tier="mini")
    assert (made.labelled, made.gated) == (int((drawn | ~(first | second)).sum()),) * 2
    assert made.threshold is not None
    kept = frame["mini.confidence"] >= made.threshold
    assert truth[kept].mean() <= 0.10
    assert made.kept.nobs / made.used == pytest.approx(kept.mean(), abs=0.04)


def test_a_cluster_counts_once(laid_out):
    """Ten copies of each case are no more evidence than one, and give no laxer threshold."""
    frame = cases(300)
    copies = pd.concat([frame.assign(case_id=frame["case_id"] + f"-{n}", cluster=frame["case_id"]) for n in range(10)])
    made = propose(laid_out(copies))
    assert made.used == 300
    assert made.threshold == propose(laid_out(frame)).threshold


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({"cascade": "curent"}, "s.cascade.yaml:2: no cascade 'curent'. Did you mean 'current'?"),
        ({"tier": "mni"}, "s.cascade.yaml:3: no gate at tier 'mni'. Did you mean 'mini'?"),
        ({"per": ["lnguage"]}, "no case has a column 'lnguage'. Did you mean 'language'?"),
        ({"at_most": 0}, "between 0% and 100%"),
        ({"delta": 0.5}, "delta between 0% and 50%"),
    ],
)
def test_what_cannot_be_used_is_an_error(laid_out, options, part):
    """Each mistake is a usage error with place and nearest word."""
    with pytest.raises(UsageError) as caught:
        propose(laid_out(cases(60)), **options)
    assert part in str(caught.value)


def test_combined_and_several_gates_are_asked_about(laid_out):
    """A gate of several signals is refused; of several gated tiers one has to be named."""
    gate = "signal: confidence\n        threshold: 0.5  # by feel"
    both = SUITE.replace(gate, "any: [{signal: confidence, threshold: 0.9}, {signal: length, threshold: 2}]")
    with pytest.raises(UsageError, match="combines several signals"):
        propose(laid_out(cases(60), both))
    mid = {"mid.answer": "yes", "mid.confidence": 0.5}
    three = SUITE.replace(
        "    - {tier: fl", "    - {tier: mid, model: mid, gate: {signal: confidence, threshold: 1}}\n    - {tier: fl"
    )
    with pytest.raises(UsageError, match="has gates at mini, mid"):
        propose(laid_out(cases(60, **mid), three))
    made = propose(laid_out(cases(**mid), three), tier="mid")
    assert made.gated == int((cases()["mini.confidence"] < 0.5).sum())


def test_joint_harm_is_easier(laid_out):
    """Joint harm certifies a laxer threshold, and says that it promises less."""
    found = laid_out(cases())
    joint = propose(found, joint=True)
    assert joint.threshold <= propose(found).threshold
    assert "promises less" in " ".join(joint.notes)


# --- writing -------------------------------------------------------------------------------------------------------

SHA, OTHER = "ab" * 32, "cd" * 32


@pytest.mark.parametrize(
    ("gate", "expected"),
    [
        ("{signal: s, threshold: 0.8}  # c", "{signal: s, threshold: 0.75, chosen_on: SHA}  # c"),
        ("{signal: s, escalate: 30%}", "{signal: s, threshold: 0.75, chosen_on: SHA}"),
        (f"{{chosen_on: {OTHER}, signal: s, threshold: 1}}", "{chosen_on: SHA, signal: s, threshold: 0.75}"),
        ("\n    threshold: 0.8  # c\n    signal: s", "\n    threshold: 0.75  # c\n    chosen_on: SHA\n    signal: s"),
        (
            f"\n    signal: s\n    threshold: 0.8\n    chosen_on: {OTHER}  # o",
            "\n    signal: s\n    threshold: 0.75\n    chosen_on: SHA  # o",
        ),
    ],
)
def test_chosen_on_stands_beside_the_threshold(gate, expected):
    """The hash is set or replaced in either layout; everything else stays."""
    text = "- tier: mini\n  model: m\n  gate: GATE\n- {tier: big, model: b}"
    written = suite.write_threshold(text.replace("GATE", gate), None, "mini", 0.75, chosen_on=SHA)
    assert written == text.replace("GATE", expected.replace("SHA", SHA))


def test_write_changes_the_suite_and_its_data_proves_nothing_then(laid_out, capsys):
    """The command writes threshold and sketch; the suite judged on the same data is not measured, on other data it is."""
    found = laid_out(cases())
    assert cli.run(["threshold", "s.cascade.yaml", "--disagreement", "at most 10%", "--write", "-o", "p.json"]) == 0
    record = json.loads(Path("p.json").read_text())
    read = suite.load("s.cascade.yaml")
    gate = read.cascades[0].tiers[0].gate
    assert gate.threshold == record["threshold"] == propose(found).threshold
    assert gate.chosen_on == record["chosen_on"] == propose(found).chosen_on
    assert record["data_sha256"] == runs.open(found).traffic.sha256()
    assert "# by feel" in Path("s.cascade.yaml").read_text()
    [verdict] = runs.evaluate(read).verdicts
    assert verdict.outcome != "pass"
    assert "was chosen on this data" in verdict.reason
    cases(seed=1).to_parquet("fresh.parquet")
    [verdict] = runs.evaluate(read, traffic_path="fresh.parquet").verdicts
    assert "was chosen on this data" not in verdict.reason
    assert "written: s.cascade.yaml" in capsys.readouterr().out


def test_a_cascade_in_a_file_of_its_own_is_written_there(laid_out, tmp_path):
    """The threshold goes where the cascade stands."""
    (tmp_path / "one.yaml").write_text(
        "- {tier: mini, model: mini, gate: {signal: confidence, threshold: 0.5}}\n- {tier: flagship, model: big}\n"
    )
    start, end = SUITE.index("  current:"), SUITE.index("agreement")
    found = laid_out(cases(), f"{SUITE[:start]}  current: one.yaml\n{SUITE[end:]}")
    made = propose(found)
    assert proposals.write("s.cascade.yaml", made).name == "one.yaml"
    assert suite.load("s.cascade.yaml").cascades[0].tiers[0].gate.threshold == made.threshold


def test_nothing_certified_exits_with_three_and_writes_nothing(laid_out, capsys):
    """Without a certified threshold the suite stays as it is, and the proposal says why."""
    laid_out(cases(40))
    command = ["threshold", "s.cascade.yaml", "--disagreement", "at most 2%", "--write", "-o", "p.md"]
    assert cli.run(command) == 3
    assert (suite.load("s.cascade.yaml").cascades[0].tiers[0].gate.threshold) == 0.5
    assert "threshold: none" in Path("p.md").read_text()
    assert "threshold: none" in capsys.readouterr().out
    with pytest.raises(UsageError, match="nothing is written"):
        proposals.write("s.cascade.yaml", propose(suite.load("s.cascade.yaml"), at_most=0.02))


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["--disagreement", "5%"], "is not a bound"),
        (["--disagreement", "at least 5%"], "cannot be certified"),
        (["--disagreement", "at most 5%", "--delta", "0.1"], "--delta"),
        (["--disagreement", "at most 5%", "-o", "p.txt"], "written as .md or .json"),
    ],
)
def test_options_that_cannot_be_used(laid_out, capsys, arguments, part):
    """A wrong option is exit code 4 with what to write."""
    laid_out(cases(60))
    assert cli.run(["threshold", "s.cascade.yaml", *arguments]) == 4
    assert part in capsys.readouterr().err


# --- calibrate -----------------------------------------------------------------------------------------------------


def test_calibrate_stores_what_a_gate_can_use(laid_out, capsys):
    """The file names data, cohorts and models; its own data is refused, other data is judged with it."""
    found = laid_out(cases())
    command = [
        "calibrate",
        "s.cascade.yaml",
        "--kind",
        "hierarchical",
        "--per",
        "language",
        "-o",
        "calibrations/m.json",
    ]
    assert cli.run(command) == 0
    assert "can change who escalates" in capsys.readouterr().out
    stored = calibration.load("calibrations/m.json")
    assert (stored.columns, stored.cohorts, stored.models) == (("language",), ("en", "fr"), ("mini", "big"))
    assert stored.data_sha256 == runs.open(found).traffic.sha256()
    using = laid_out(
        cases(), SUITE.replace("signal: confidence", "signal: confidence\n        calibrate: calibrations/m.json")
    )
    with pytest.raises(UsageError, match="fitted on the very data"):
        propose(using)
    cases(seed=5).to_parquet("fresh.parquet")
    made = proposals.threshold(using, runs.open(using, traffic_path="fresh.parquet").traffic, at_most=0.10)
    assert made.threshold > 0.8


@pytest.mark.parametrize("kind", ["platt", "isotonic"])
def test_a_single_map_says_that_it_keeps_the_ranking(laid_out, kind):
    """One monotone map for all betters the Brier score and cannot better the ranking."""
    frame = cases()
    found = laid_out(frame)
    made = proposals.calibrate(found, runs.open(found).traffic, kind=kind)
    agrees = (frame["mini.answer"] == "yes").to_numpy()
    assert made.brier_before == pytest.approx(np.mean((agrees - frame["mini.confidence"]) ** 2))
    assert made.brier_after < made.brier_before
    assert made.auroc_after == pytest.approx(made.auroc_before, abs=0.03 if kind == "isotonic" else 1e-12)
    assert "cannot change who escalates at a given rate" in made.notes[0]


def test_calibrate_refuses_what_it_cannot_fit(laid_out, capsys):
    """Without cohorts nothing is hierarchical, and without labels nothing is fitted."""
    found = laid_out(cases(60))
    assert cli.run(["calibrate", "s.cascade.yaml", "--kind", "hierarchical", "-o", "m.json"]) == 4
    assert "--per language" in capsys.readouterr().err
    found = laid_out(cases(60, **{"big.answer": None}).astype({"big.answer": "string"}))
    with pytest.raises(UsageError, match="has both the signal and a comparison"):
        proposals.calibrate(found, runs.open(found).traffic, kind="platt")
