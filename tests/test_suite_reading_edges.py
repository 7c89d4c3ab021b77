"""Suites at the edges: editors, written thresholds, earlier commits."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import jsonschema_rs
import pytest
from suite_texts import GATE, PLAIN, ROUTED, SUPPORT, WIDER, changed, problems, read

from cascade_eval import suite
from cascade_eval.errors import BaselineError, SuiteError
from cascade_eval.suite import text

TIERS = [
    {"tier": "mini", "model": "nano", "gate": {"signal": "confidence", "threshold": 0.5}},
    {"tier": "flagship", "model": "big"},
]


def test_the_shipped_schema_is_in_step():
    """Editors complete from the schema of this very code."""
    path = Path(suite.__file__).with_name("suite.schema.json")
    assert json.loads(path.read_text(encoding="utf-8")) == suite.schema()


@pytest.mark.parametrize(
    ("change", "valid"),
    [
        ({}, True),
        ({"cascades": {"c": "c.yaml"}}, True),
        ({"confidence": 0.95}, False),
        ({"budgets": {}}, False),
        ({"budgets": {"disagrement": {"overall": "at most 5%"}}}, False),
        ({"budgets": {"disagreement": {"overal": "at most 5%"}}}, False),
        ({"budgets": {"disagreement": {"each a and b": "at most 5%", "a=b": "15 to 40%"}}}, True),
        ({"budgets": {"disagreement": {"overall": "at mots 5%"}}}, False),
        ({"budgets": {"cost": {"overall": "at most 1,045.5 % of always-flagship"}}}, True),
        ({"budgets": {"latency p95": {"overall": "at most 800 ms"}, "cost per request": {"overall": "at most $0.002"}}}, True),
        ({"budgets": {"break-even margin": {"overall": "-2 to 3 points"}, "calibration age": {"overall": "at most 1 day"}}}, True),
        ({"budgets": {"escalation from mini": {"overall": "at most 30%"}}}, True),
        ({"cohorts": {"language": {"at least": "60 cases"}, "intent": None}}, True),
        ({"cohorts": {"language": {"at lest": "60 cases"}}}, False),
        ({"prices": {"nano": {"input": "$0.10", "output": 0.4, "per": "1M tokens"}}}, True),
        ({"agreement": "same lable"}, False),
        ({"agreement": {"same JSON": {"fields": ["a"]}}}, True),
        ({"traffic": "t"}, False),
        ({"cascades": {"c": [{"tier": "a", "model": "a", "gate": {"signal": "s", "treshold": 1}}]}}, False),
    ],
)  # fmt: skip
def test_the_schema_accepts_and_refuses_what_reading_does(change, valid):
    """An editor underlines what reading refuses, as far as a schema can tell, and nothing that reading accepts."""
    whole = {
        "goldens": "g",
        "cascades": {"c": TIERS},
        "budgets": {"cost": {"overall": "at most 9%"}},
        "cohorts": ["a", "b"],
    }
    written = whole | change
    assert jsonschema_rs.validator_for(suite.schema()).is_valid(written) == valid
    if valid:
        read(json.dumps(written), read_file=lambda _: ROUTED)
    else:
        problems(json.dumps(written))


def test_the_documented_suite_is_valid_to_an_editor():
    """The schema accepts the example, read by the same YAML rules."""
    assert jsonschema_rs.validator_for(suite.schema()).is_valid(text.read(SUPPORT).value)
    tiers = text.read(WIDER).value
    assert jsonschema_rs.validator_for(suite.schema()).is_valid(text.read(PLAIN).value | {"cascades": {"wider": tiers}})


def test_a_threshold_is_written_and_nothing_else_touched():
    """Comments, quotes and layout stay as they are; a share to escalate gives way to the threshold."""
    written = suite.write_threshold(SUPPORT.replace("  wider: cascades/wider.yaml\n", ""), "current", "mini", 0.75)
    assert written == SUPPORT.replace("  wider: cascades/wider.yaml\n", "").replace("0.82", "0.75")
    combined = ROUTED.replace(GATE, "{any: [{signal: a, escalate: 30%, name: x}, {signal: b, threshold: 1}]}  # kept")
    written = suite.write_threshold(combined, None, "mini", 2, gate="x")
    assert written == combined.replace("escalate: 30%", "threshold: 2.0")


@pytest.mark.parametrize(
    ("cascade", "tier", "message"),
    [
        ("curent", "mini", "unknown cascade 'curent'. Did you mean 'current'?"),
        ("wider", "mini", "'wider' stands in 'cascades/wider.yaml'. Write the threshold there."),
        ("current", "mni", "6: no gate at tier 'mni'. Did you mean 'mini'?"),
        ("current", "flagship", "6: no gate at tier 'flagship'. Allowed: 'mini'."),
    ],
)
def test_a_threshold_without_a_place_is_an_error(cascade, tier, message):
    """What cannot be addressed is named, with what can."""
    with pytest.raises(SuiteError) as caught:
        suite.write_threshold(SUPPORT, cascade, tier, 0.5, file="s")
    assert str(caught.value).removeprefix("s:") == message


def git(folder, *arguments):
    identity = [
        "-c",
        "user.name=A",
        "-c",
        "user.email=a@example.org",
        "-c",
        "init.defaultBranch=main",
        "-c",
        "commit.gpgsign=false",
    ]
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)


def test_cascades_are_read_as_they_were_at_a_commit(tmp_path):
    """A baseline by ref reads suite and cascade files at that commit, whatever the working tree says now."""
    path = tmp_path / "suites" / "s.cascade.yaml"
    path.parent.mkdir()
    path.write_text(changed(("  current:", "  wider: w.yaml\n  current:")))
    (path.parent / "w.yaml").write_text(ROUTED)
    git(tmp_path, "init")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "first")
    path.write_text("not: a suite")
    (path.parent / "w.yaml").unlink()
    past = suite.at(path, "main")
    assert list(past.cascades) == ["wider", "current"]
    assert past.cascades["wider"].routes[0].start == "flagship"
    assert len(past.commit) == 40
    assert "T" in past.created_at


def test_a_baseline_that_git_does_not_have_names_the_next_command(tmp_path):
    """A shallow clone is answered with the fetch that helps; a file that is too new with what to do instead."""
    path = tmp_path / "s.cascade.yaml"
    path.write_text(PLAIN)
    git(tmp_path, "init")
    git(tmp_path, "commit", "--allow-empty", "-m", "first")
    with pytest.raises(
        BaselineError,
        match=r"git knows no commit 'origin/main' here\. Run 'git fetch --depth=1 origin main:refs/remotes/origin/main', or name",
    ):
        suite.at(path, "origin/main")
    with pytest.raises(BaselineError, match=r"this suite does not exist at 'main'\. Commit it there first, or name"):
        suite.at(path, "main")
