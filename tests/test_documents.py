"""README and docs say what the package does today: outputs in them are compared with real ones."""

from __future__ import annotations

import ast
import re
import shlex
from pathlib import Path

import examples
import pytest

from cascade_eval import cli, runs, suite
from cascade_eval.report import terminal

ROOT = Path(__file__).parents[1]


def read(name):
    return (ROOT / name).read_text(encoding="utf-8")


def blocks(text, language):
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


@pytest.fixture(autouse=True)
def _at_the_root(monkeypatch):
    monkeypatch.chdir(ROOT)


def test_the_failing_block_is_real():
    """The block in the README is the one a user reads after the command above it, line by line."""
    [shown] = blocks(read("README.md"), "text")
    heading, *lines = shown.splitlines()
    command = "python -m pytest suites/weekly_replay.cascade.yaml --cascade-traffic goldens/incident_saturated"
    assert f"$ {command}\n" in read("README.md")
    record = runs.evaluate(
        suite.load("suites/weekly_replay.cascade.yaml"), traffic_path="goldens/incident_saturated"
    ).record
    [cascade] = [cascade for cascade in record["cascades"] if cascade["name"] == "current"]
    [verdict] = [v for v in cascade["verdicts"] if v["metric"] == "disagreement" and v["cohort"] == {"language": "pt"}]
    assert heading.strip("_ ") == terminal.title(record, cascade, verdict)
    assert lines == terminal.block(record, cascade, verdict, width=80)
    assert len(lines) <= 40


def test_cost_and_escalation_hold_in_the_saturated_weeks():
    """What the README says of the saturated weeks is so: cost and escalation pass, and are lower than before."""
    found = suite.load("suites/weekly_replay.cascade.yaml")
    before, after = (runs.evaluate(found, traffic_path=path) for path in (None, "goldens/incident_saturated"))
    for metric in ("cost", "escalation"):
        [early], [late] = ([v for v in run.verdicts if v.metric == metric] for run in (before, after))
        assert late.outcome == "pass"
        assert late.estimate.value < early.estimate.value


def test_the_python_suite_is_the_one_in_the_project():
    """The Python suite of the README is the project's own, which pytest runs."""
    source = read("suites/test_support_cascade.py")
    after = source.split("\n")[ast.parse(source).body[0].end_lineno :]
    assert "\n".join(after).strip() in read("README.md")


def test_the_suite_is_the_one_in_the_project():
    """The suite of the README promises what the weekly suite promises."""
    [first, *_] = blocks(read("README.md"), "yaml")
    shown = suite.parse(first, file="README.md", base=ROOT / "suites")
    real = suite.load("suites/weekly_replay.cascade.yaml")
    assert [(b.metric, str(b.scope), b.bound) for b in shown.budgets] == [
        (b.metric, str(b.scope), b.bound) for b in real.budgets
    ]
    assert shown.cascades == real.cascades


@pytest.mark.parametrize(
    "commands",
    [
        "python -m pip install -e . && python -m pytest suites",
        "python -m pip install -e '.[dev]' && python -m pytest -n 2",
    ],
)
def test_set_up_is_two_commands(commands):
    """README and CI set up and run in the same words."""
    assert f"$ {commands}\n" in read("README.md")
    for part in commands.split(" && "):
        assert part in read(".ci/run")


def test_the_main_job_leaves_what_the_readme_names(request):
    """The settings of the project write the report and the evidence where the README looks for them."""
    for name, path in {"report": "reports/cascade.html", "evidence": "reports/evidence.json"}.items():
        assert request.config.getini(f"cascade_{name}") == path
        assert f"`{path}`" in read("README.md")


def test_examples_are_collected(request):
    """Examples in docstrings and documents are tests of every run: nothing turns them off in silence."""
    collect = request.config.pluginmanager.getplugin(str(ROOT / "conftest.py")).pytest_collect_file
    assert collect is examples.collect
    assert {"README.md", "docs", "cascade_eval"} <= set(request.config.getini("testpaths"))


@pytest.mark.parametrize(("document", "outputs"), [("docs/cli.md", 1), ("docs/thresholds.md", 2)])
def test_console_outputs_are_real(capsys, document, outputs):
    """A command of a document that shows an output prints those lines, as its first ones."""
    shown = 0
    for block in blocks(read(document), "console"):
        command, _, output = block.partition("\n")
        if not output.strip():
            continue
        assert cli.run(shlex.split(command.removeprefix("$ cascade-eval "))) == 0
        printed = capsys.readouterr().out
        assert printed[: len(output)] == output
        shown += 1
    assert shown == outputs
