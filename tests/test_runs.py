"""Runs: a suite with its data and its baseline opened, from wherever the run began."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from fail_closed_cases import BUDGETS, CASES, LANGUAGES, every, outcomes, text, write

from cascade_eval import evidence, runs, suite
from cascade_eval.errors import BaselineError, DataError, SuiteError, UsageError

FLIPS = BUDGETS + "  flips to disagreement: {overall: at most 20%}\n  escalation drift: {overall: at most 30 points}\n"
WIDER = "  wider:\n    - {tier: mini, model: mini, gate: {signal: confidence, threshold: 0.5}}\n"
WIDER += "    - {tier: flagship, model: flagship}\n"


def compared(baseline, budgets=FLIPS, **options):
    """Return the text of a suite of one cascade, compared with a baseline."""
    return text(budgets, more=f"baseline: {baseline}\n", **options)


def two_cascades(baseline, budgets=FLIPS):
    return compared(baseline, budgets).replace("cohorts:", WIDER + "cohorts:")


@pytest.fixture
def inside(tmp_path):
    """Begin the run in the temporary folder, and go back afterwards."""
    before = Path.cwd()
    os.chdir(tmp_path)
    yield tmp_path
    os.chdir(before)


# Data


def test_a_suites_own_data_lies_beside_it(inside):
    """Paths in a suite are relative to its folder, whatever the working directory."""
    (inside / "suites").mkdir()
    path = write(inside / "suites", None, text())
    found = runs.evaluate(suite.load(path.relative_to(inside)))
    assert found.record["data"]["path"] == "cases.parquet"
    assert found.record["suite"] == "suites/made.cascade.yaml"
    assert set(outcomes(found).values()) == {"pass"}


def test_bad_data_beside_a_suite_is_named_from_where_the_reader_is(inside):
    """`../cases.jsonl` of a suite in a folder is `cases.jsonl:2` in the error, and as written in the evidence."""
    (inside / "suites").mkdir()
    rows = [{"case_id": i, "models": {"mini": {"confidence": 0.9}, "flagship": {"answer": "a"}}} for i in range(3)]
    lines = [json.dumps(row) for row in rows]
    (inside / "cases.jsonl").write_text("\n".join([lines[0], "{broken", *lines[1:]]) + "\n")
    written = (
        text("  escalation: {overall: at most 90%}\n")
        .replace("cases.parquet", "../cases.jsonl")
        .replace("[language]", "[]")
    )
    path = inside / "suites" / "made.cascade.yaml"
    path.write_text(written)
    with pytest.raises(DataError) as caught:
        runs.open(suite.load(path))
    assert [(problem.file, problem.line) for problem in caught.value.problems] == [
        ("cases.jsonl", 2),
        ("cases.jsonl", None),
    ]
    found = runs.open(suite.load(path), tolerate=1)
    assert found.traffic.name == "../cases.jsonl"
    path.write_text(written.replace("cases.jsonl", "case.jsonl"))
    with pytest.raises(DataError, match=r"^case\.jsonl: there is no such file or folder\. Did you mean 'cases\.jsonl'"):
        runs.open(suite.load(path))


@pytest.mark.parametrize("form", ["list", "mapping"])
def test_a_gate_that_cannot_be_read_is_named_by_its_own_line(tmp_path, form):
    """Of several tiers the one with the wrong signal is pointed at, in both forms of a cascade."""
    indent = "      " if form == "mapping" else "    "
    tiers = [
        "- {tier: mini, model: mini, gate: {signal: confidence, threshold: 0.9}}",
        "- tier: again",
        "  model: mini",
        "  gate: {signal: zeal, threshold: 0.8}",
        "- {tier: flagship, model: flagship}",
    ]
    head = ["traffic: cases.parquet", "cascades:", "  now:"]
    if form == "mapping":
        head += ["    routes: [{when: {language: [fr]}, start: again}]", "    tiers:"]
    else:
        tiers[1:4] = []
        tiers[0] = tiers[0].replace("signal: confidence", "signal: zeal")
    lines = [*head, *(indent + line for line in tiers), "budgets: {escalation: {overall: at most 90%}}", ""]
    write(tmp_path, None, text())
    path = tmp_path / "now.cascade.yaml"
    path.write_text("\n".join(lines))
    with pytest.raises(DataError) as caught:
        runs.check(suite.load(path))
    [problem] = caught.value.problems
    assert problem.line == 1 + next(i for i, line in enumerate(lines) if "zeal" in line)
    assert "Columns of 'mini': 'confidence'" in problem.message


def test_other_traffic_is_relative_to_the_working_directory(inside):
    """A fresh sample given on the command line is found from where the command runs, not beside the suite."""
    (inside / "suites").mkdir()
    path = write(inside / "suites", None, text())
    wrong = {"mini.answer": lambda t: every(t["mini.answer"], [i % 2 == 0 for i in range(CASES)], "wrong")}
    write(inside, wrong, name="fresh.parquet")
    found = runs.evaluate(suite.load(path), traffic_path="fresh.parquet")
    assert found.record["data"]["path"] == "fresh.parquet"
    assert outcomes(found)[("disagreement",)] == "fail"
    with pytest.raises(UsageError, match=r"nowhere\.parquet"):
        runs.open(suite.load(path), traffic_path="nowhere.parquet")


def test_bad_rows_are_set_aside_only_when_that_is_tolerated(tmp_path):
    """One cost that is no cost is an error; with a tolerance of one it is counted and the rest is judged."""
    costs = lambda t: [-1.0, *list(t["mini.cost_usd"])[1:]]  # noqa: E731  a column that depends on the others
    found = suite.load(write(tmp_path, {"mini.cost_usd": costs}))
    with pytest.raises(DataError, match="negative"):
        runs.evaluate(found)
    judged = runs.evaluate(found, tolerate=1).record
    assert (judged["data"]["cases"], judged["data"]["bad_rows"]) == (CASES - 1, 1)
    with pytest.raises(DataError):
        runs.evaluate(found, tolerate=0)


def test_an_importer_that_does_not_exist_is_said(tmp_path):
    """A misspelt importer is refused with its line and the nearest name; other traffic can be judged instead."""
    written = text().replace("traffic: cases.parquet", "traffic: {path: log, importer: langfuze}")
    found = suite.load(write(tmp_path, None, written))
    with pytest.raises(SuiteError, match=r"\.yaml:\d+: no importer 'langfuze'\. Did you mean 'langfuse'\?"):
        runs.open(found)
    assert runs.open(found, traffic_path=str(tmp_path / "cases.parquet")).traffic.cases == CASES


def test_checking_says_everything_at_once(tmp_path):
    """Two columns that no case has are two problems of one error; a sound suite gives what it opened."""
    assert runs.check(suite.load(write(tmp_path))).traffic.cases == CASES
    wrong = text(cohorts="[langauge]", mini="{tier: mini, model: mini, gate: {signal: confidnce, threshold: 0.8}}")
    wrong = wrong.replace("each language", "each langauge")
    with pytest.raises(UsageError) as caught:
        runs.check(suite.load(write(tmp_path, None, wrong)))
    assert len(caught.value.problems) >= 2
    assert "Did you mean 'language'?" in str(caught.value)
    assert "Did you mean 'confidence'?" in str(caught.value)


# Baselines


def test_a_cascade_of_the_suite_is_the_baseline_of_the_others(tmp_path):
    """The named one is compared with nothing; promises about change are judged for the others only."""
    found = runs.evaluate(suite.load(write(tmp_path, None, two_cascades("current"))))
    flips = {
        each.cascade.name: [v for v in each.verdicts if v.metric == "flips to disagreement"] for each in found.cascades
    }
    assert {name: len(verdicts) for name, verdicts in flips.items()} == {"current": 0, "wider": 1, "always-flagship": 0}
    [verdict] = flips["wider"]
    assert (verdict.estimate.count, verdict.estimate.nobs, verdict.outcome) == (0, CASES, "pass")
    by_name = {each["name"]: each["baseline"] for each in found.record["cascades"]}
    assert by_name["current"] is None
    assert by_name["wider"] == {
        "kind": "cascade",
        "name": "current",
        "created_at": None,
        "age_days": None,
        "commit": None,
    }


def git(folder, *arguments, day="2026-01-01"):
    """Run git without anyone's settings, on some day; return what it prints."""
    settings = ("user.name=A", "user.email=a@example.org", "init.defaultBranch=main", "commit.gpgsign=false")
    command = ["git", *(word for setting in settings for word in ("-c", setting)), *arguments]
    dated = os.environ | {"GIT_COMMITTER_DATE": f"{day}T12:00:00+01:00"}
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True, env=dated).stdout.strip()


@pytest.fixture
def repository(inside):
    """Make a repository of two commits: the gate stood at 0.8 in the first, at 0.5 in the second."""
    (inside / "suites").mkdir()
    for threshold, day in (("0.8", "2026-01-05"), ("0.5", "2026-01-12")):
        write(inside / "suites", None, compared("git:HEAD~1").replace("threshold: 0.8", f"threshold: {threshold}"))
        if threshold == "0.8":
            git(inside, "init")
        git(inside, "add", ".")
        git(inside, "commit", "-m", threshold, day=day)
    return inside


def flipped(found):
    """Return what a run says of its baseline: threshold then, threshold now, and the difference in escalation."""
    [current, _] = found.cascades
    [drift] = [verdict for verdict in current.verdicts if verdict.metric == "escalation drift"]
    then = current.baseline.cascade.tiers[0].gate.threshold
    return then, current.cascade.tiers[0].gate.threshold, drift.estimate.value


@pytest.mark.parametrize("start", [".", "suites", "elsewhere"])
@pytest.mark.parametrize("name", ["suites/made.cascade.yaml", None])
def test_a_commit_is_found_from_any_folder(repository, start, name):
    """The suite as it was at a commit is read where the suite lies, whatever its name is relative to."""
    path = repository / "suites" / "made.cascade.yaml"
    (repository / "elsewhere").mkdir()
    os.chdir(repository / start)
    found = suite.parse(path.read_text(), file=name or os.path.relpath(path), base=path.parent)
    then, now, moved = flipped(runs.evaluate(found))
    assert (then, now) == (0.8, 0.5)
    assert moved == -0.25


def test_a_baseline_by_commit_says_which_and_of_when(repository):
    """Evidence holds the full hash and the day of the commit."""
    record = runs.evaluate(suite.load("suites/made.cascade.yaml")).record["cascades"][0]["baseline"]
    assert record["commit"] == git(repository, "rev-parse", "HEAD~1")
    assert (record["kind"], record["name"], record["created_at"]) == ("git", "git:HEAD~1", "2026-01-05T12:00:00+01:00")
    assert record["age_days"] > 0


@pytest.mark.parametrize(
    ("ref", "message"),
    [
        ("nowhere/main", "git knows no commit 'nowhere/main' here. Run 'git fetch --depth=1 nowhere main:"),
        ("v1", "git knows no commit 'v1' here. A shallow clone has only the newest commit"),
    ],
)
def test_a_missing_commit_says_how_to_fetch_it(repository, ref, message):
    """The message names the suite as the user does, and the command."""
    with pytest.raises(BaselineError) as caught:
        runs.open(suite.load("suites/made.cascade.yaml", baseline=f"git:{ref}"))
    assert str(caught.value).startswith(f"suites/made.cascade.yaml: {message}")


def test_a_suite_that_is_new_has_no_past(repository):
    """A suite the commit did not have yet is an error that says what to do, not a comparison with nothing."""
    shutil.copy("suites/made.cascade.yaml", "suites/new.cascade.yaml")
    with pytest.raises(BaselineError, match=r"suites/new\.cascade\.yaml: this suite does not exist at 'HEAD~1'"):
        runs.open(suite.load("suites/new.cascade.yaml"))


def evidence_of(found, folder, name="before.json"):
    """Write the evidence of a run, and read it back."""
    record = found.record
    items = sum(len(each["verdicts"]) for each in record["cascades"])
    built = evidence.build([record], selected={"items": items, "of": items}, created_at="2026-01-05T12:00:00+00:00")
    return evidence.write(folder / name, built)


def test_evidence_of_an_earlier_run_is_replayed_on_this_traffic(tmp_path):
    """The cascade stands in the evidence whole: the baseline is what it was, with its age, and compared case by case."""
    path = write(tmp_path)
    evidence_of(runs.evaluate(suite.load(path)), tmp_path)
    path.write_text(compared("before.json").replace("threshold: 0.8", "threshold: 0.5"))
    found = runs.evaluate(suite.load(path))
    assert flipped(found) == (0.8, 0.5, -0.25)
    record = found.record["cascades"][0]["baseline"]
    assert (record["kind"], record["name"], record["created_at"]) == (
        "evidence",
        "before.json",
        "2026-01-05T12:00:00+00:00",
    )
    assert {tuple(pairs) for pairs in found.cascades[0].baseline.cohorts} == {
        (("language", name),) for name in LANGUAGES
    }


def test_a_cascade_the_evidence_lacks_is_named(tmp_path):
    """A renamed cascade has no past in the evidence; the nearest name is offered."""
    path = write(tmp_path)
    evidence_of(runs.evaluate(suite.load(path)), tmp_path)
    path.write_text(compared("before.json").replace("  current:", "  curent:"))
    with pytest.raises(BaselineError, match=r"no cascade 'curent' of .* Did you mean 'current'\?"):
        runs.evaluate(suite.load(path))


def test_evidence_of_a_flagship_whose_answers_changed_is_refused(tmp_path):
    """Another hash is other data, even where the cases have the same names."""
    path = write(tmp_path)
    evidence_of(runs.evaluate(suite.load(path)), tmp_path)
    path.write_text(compared("before.json"))
    table = pq.read_table(tmp_path / "cases.parquet")
    pq.write_table(table.slice(1), tmp_path / "cases.parquet")
    with pytest.raises(BaselineError, match=r"before\.json: the baseline was measured on other data \(cases\.parquet"):
        runs.open(suite.load(path))


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "there is no such file"), ("{", "not JSON"), (json.dumps({"schema": "x"}), "not evidence of a run")],
)
def test_a_baseline_file_that_is_no_evidence_is_a_usage_error(tmp_path, content, message):
    """Missing, damaged or something else: said with the file, before anything is judged."""
    path = write(tmp_path, None, compared("before.json"))
    if content is not None:
        (tmp_path / "before.json").write_text(content)
    with pytest.raises(UsageError, match=rf"before\.json.*{message}"):
        runs.open(suite.load(path))


# Columns kept


def test_replays_say_what_the_evaluation_says(tmp_path):
    """Python tests and YAML budgets come to the same verdicts, with the same family behind them."""
    path = write(tmp_path, None, two_cascades("current"))
    judged = runs.evaluate(suite.load(path))
    kept = runs.replays(suite.load(path), inconclusive="warn")
    assert list(kept) == ["current", "wider"]
    for each in judged.cascades[:2]:
        whole = kept[each.cascade.name]
        verdicts = {(v.metric, v.cohort.get("language")): v for v in each.verdicts}
        for cohort in whole.cohorts("language"):
            here = cohort.unescalated.disagreement <= 0.10
            there = verdicts["disagreement", cohort.cohort["language"]]
            assert (here.outcome, here.p_pass, here.p_holm) == (there.outcome, there.p_pass, there.p_holm)
            assert here.inconclusive == "warn"
        assert (whole.cost <= 0.6).p_pass == verdicts["cost", None].p_pass
    assert kept["current"].baseline is None
    assert (kept["wider"].escalation_drift <= 0.3).p_pass == {v.metric: v.p_pass for v in judged.cascades[1].verdicts}[
        "escalation drift"
    ]


def test_small_cohorts_are_pooled_in_replays_as_in_verdicts(tmp_path):
    """`(other)` has the same cases in the fixture's replay and in the suite's table."""
    records = [
        {
            "case_id": f"c{i}",
            "language": "en" if i < 80 else f"rare-{i}",
            "models": {
                "mini": {"answer": "a", "confidence": 0.9, "cost_usd": 0.1},
                "flagship": {"answer": "a", "cost_usd": 1.0},
            },
        }
        for i in range(100)
    ]
    (tmp_path / "logs.jsonl").write_text("\n".join(json.dumps(record) for record in records), encoding="utf-8")
    path = tmp_path / "pooled.cascade.yaml"
    path.write_text(
        "traffic: logs.jsonl\ncascades:\n  only:\n"
        "    - {tier: mini, model: mini, gate: {signal: confidence, threshold: 0.5}}\n    - {tier: flagship, model: flagship}\n"
        "cohorts: {language: {at least: 20 cases}}\nbudgets: {disagreement: {each language: at most 30%}}\n",
        encoding="utf-8",
    )
    found = suite.load(path)
    replay = runs.replays(found)["only"]
    slices = {member.cohort["language"]: len(member) for member in replay.cohorts("language")}
    assert slices == {"en": 80, "(other)": 20}
    assert len(replay.where(language="(other)")) == 20
    cells = runs.evaluate(found).record["cascades"][0]["cohorts"]
    assert {cell["cohort"]["language"]: cell["cases"] for cell in cells} == slices
