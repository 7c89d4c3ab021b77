"""The plugin under pytest-xdist: one evaluation, equal evidence, crashes told."""

from __future__ import annotations

import json
from pathlib import Path

import plugin_records as records
import pytest
from plugin_records import write
from test_plugin import FAKE as SUITES
from test_plugin_python import COHORTS, MARK
from test_plugin_python import FAKE as REPLAYS

pytest.importorskip("xdist")

PLAIN = ["-p", "cascade_eval.pytest_plugin", "-p", "no:cacheprovider"]
WORKERS = ["-p", "xdist", "-n2"]


@pytest.fixture
def project(pytester, monkeypatch):
    """Make a folder with one suite and the fake core, for runs in processes of their own."""
    records.alone(monkeypatch)
    monkeypatch.setenv("PYTHONPATH", str(Path(records.verdicts.__file__).parents[1]))
    # Others on this machine may run suites of their own meanwhile.
    monkeypatch.setenv("TMPDIR", str(pytester.mkdir("temporary")))
    pytester.makeconftest(REPLAYS)
    write(pytester, records.suite())
    return pytester


def left_behind(project):
    """Shared folders of runs that have ended."""
    return [path.name for path in (project.path / "temporary").glob("cascade-eval-*")]


def evidence(project, name):
    """Read evidence without its time."""
    found = json.loads((project.path / name).read_text())
    return found | {"created_at": None}


def test_workers_change_nothing_but_the_time(project):
    """Suites and Python tests: the same outcomes, the same evidence, one evaluation, nothing left behind."""
    project.makepyfile(test_support=COHORTS)
    alone = project.runpytest_subprocess(*PLAIN, "--cascade-evidence=alone.json")
    (project.path / "suites/asked.log").unlink()
    shared = project.runpytest_subprocess(*PLAIN, *WORKERS, "--cascade-evidence=shared.json")
    assert alone.ret == shared.ret == pytest.ExitCode.TESTS_FAILED
    assert alone.parseoutcomes() == shared.parseoutcomes() == {"passed": 6, "failed": 2, "inconclusive": 2}
    assert evidence(project, "alone.json") == evidence(project, "shared.json")
    assert evidence(project, "shared.json")["selected"] == {"items": 10, "of": 10}
    assert (project.path / "suites/asked.log").read_text().split().count("evaluate") == 1
    assert left_behind(project) == []
    shared.stdout.fnmatch_lines(
        [
            "*_ support: disagreement · language=fr _*",
            "15.9% > 10% (n=314)",
            "*= INCONCLUSIVE =*",
            "> language=pt*",
            "*= cascade budgets =*",
            "  current  6 pass, 2 FAIL, 2 inconclusive; *",
            "inconclusive counts as failure: 2 verdicts",
            "written: shared.json",
            "FAILED *language=fr* - 15.9*",
        ]
    )


@pytest.mark.parametrize("dist", ["loadfile", "loadgroup", "each"])
def test_every_way_of_distribution_works(project, dist):
    """However items are handed out, all of them run and the evidence is whole."""
    if dist == "loadgroup":
        project.makepyfile(test_support=COHORTS.replace("def test", '@pytest.mark.xdist_group("one")\ndef test'))
    result = project.runpytest_subprocess(*PLAIN, *WORKERS, f"--dist={dist}", "--cascade-evidence=e.json")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    selected = evidence(project, "e.json")["selected"]
    assert selected["items"] == selected["of"] == (10 if dist == "loadgroup" else 5)


def test_a_crashed_worker_makes_the_run_partial(project):
    """A test that takes its worker down leaves evidence of everything else, which says that it is not whole."""
    project.makepyfile(test_support=f"{MARK}\nimport os\ndef test_a(replay):\n    os._exit(7)\n")
    result = project.runpytest_subprocess(*PLAIN, *WORKERS, "--cascade-evidence=e.json")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["*crashed while running*", "a partial run: 5 of 6 items ran"])
    assert evidence(project, "e.json")["selected"] == {"items": 5, "of": 6}


def test_an_unreadable_suite_is_a_collection_error(project):
    """Workers can only report collection errors: the same text, once, exit code 1, never 0."""
    project.makeconftest(SUITES)
    write(project, {"problems": [f"{records.FILE}:3: unknown key 'treshold'."]})
    project.makepyfile(test_other="def test_passes():\n    pass\n")
    result = project.runpytest_subprocess(*PLAIN, *WORKERS)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert str(result.stdout).count("unknown key 'treshold'") == 1
    assert "INTERNALERROR" not in str(result.stdout)
    assert (project.path / "suites/asked.log").read_text().count("\n") == 1


def test_a_wrong_mark_is_a_collection_error(project):
    """The message of a wrong mark survives workers, without a traceback."""
    project.makepyfile(test_support="def test_a(replay):\n    pass\n")
    result = project.runpytest_subprocess(*PLAIN, *WORKERS, "test_support.py")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["test_support.py::test_a: asks for a cascade, but of which suite?*"])
    assert "Traceback" not in str(result.stdout)


def test_without_xdist_nothing_is_missing(project):
    """`-p no:xdist` and an environment without it run alike."""
    result = project.runpytest_subprocess(*PLAIN, "-p", "no:xdist", "--cascade-evidence=e.json")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert evidence(project, "e.json")["selected"] == {"items": 5, "of": 5}


def test_an_unrelated_run_with_workers_makes_no_folder(project):
    """The shared folder exists only once a suite is needed."""
    project.makepyfile(test_other="import glob, tempfile\ndef test_a():\n    assert True\n")
    result = project.runpytest_subprocess(*PLAIN, *WORKERS, "test_other.py")
    result.assert_outcomes(passed=1)
    assert left_behind(project) == []
    assert "cascade budgets" not in str(result.stdout)
