"""Each kind of ending, once through pytest: outcome, exit code, and the reason on the terminal."""

from __future__ import annotations

import pytest
from fail_closed_cases import MINI, OVERALL, text, write
from scipy import special

from cascade_eval import evidence, pytest_plugin, runs

# A run inside this process forgets what it imported first, and numerical libraries cannot be imported twice.
PRELOADED = (evidence, pytest_plugin, runs, special)


@pytest.fixture
def project(pytester, monkeypatch):
    """Make a folder that knows nothing of the CI these tests may run in."""
    for name in ("CI", "GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY", "PYTEST_ADDOPTS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    return pytester


def run(project, *args):
    """Run pytest in this process."""
    return project.runpytest_inprocess(*args, plugins=[pytest_plugin])


def test_pytest_fails_a_refuted_budget(project):
    """Failed, and exit code 1."""
    write(project.path, None, text("  disagreement: {overall: at most 0.1%}\n"))
    result = run(project)
    assert (result.ret, result.parseoutcomes()) == (pytest.ExitCode.TESTS_FAILED, {"failed": 1})


def test_pytest_fails_what_was_not_measured_under_warn_too(project):
    """Inconclusive, not skipped, and exit code 1, though another verdict of the suite was decided."""
    blind = text(
        OVERALL + "  cost: {overall: at most 200%}\n", mini=MINI.replace("0.8}", "2}"), more="inconclusive: warn\n"
    )
    write(project.path, None, blind)
    result = run(project, "-rs")
    assert (result.ret, result.parseoutcomes()) == (pytest.ExitCode.TESTS_FAILED, {"inconclusive": 1, "passed": 1})
    result.stdout.fnmatch_lines(["*not measured: *", "not measured always counts as failure: 1 verdict"])


def test_pytest_ends_with_a_usage_error_before_anything_is_judged(project):
    """Exit code 4, and no test ran."""
    write(project.path, {"language": None})
    result = run(project)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*no case has a column 'language'*"])
    assert not result.parseoutcomes()


def test_pytest_fails_a_suite_in_which_nothing_was_decided_under_warn(project):
    """A warning excuses a verdict, never all of them: exit code 1."""
    few = text("  disagreement: {each language: at most 10%}\n", more="inconclusive: warn\n")
    write(project.path, None, few, cases=30)
    result = run(project)
    assert (result.ret, result.parseoutcomes()) == (pytest.ExitCode.TESTS_FAILED, {"inconclusive": 3})
    result.stdout.fnmatch_lines(["*Nothing in this suite was decided, so a warning is not enough.*"])


def test_pytest_excuses_too_few_cases_under_warn_where_something_was_decided(project):
    """Only then: exit code 0, and named all the same."""
    few = text(
        "  disagreement: {each language: at most 10%}\n  cost: {overall: at most 200%}\n", more="inconclusive: warn\n"
    )
    write(project.path, None, few, cases=30)
    result = run(project)
    assert (result.ret, result.parseoutcomes()) == (pytest.ExitCode.OK, {"inconclusive": 3, "passed": 1})


def test_a_budget_that_cannot_fail_decides_nothing(project):
    """Beside verdicts that could not be decided its pass is no excuse: exit code 1 under warn."""
    hollow = text(
        "  disagreement: {each language: at most 10%}\n  escalation: {overall: 0% to 100%}\n",
        more="inconclusive: warn\n",
    )
    write(project.path, None, hollow, cases=30)
    result = run(project)
    assert (result.ret, result.parseoutcomes()) == (pytest.ExitCode.TESTS_FAILED, {"inconclusive": 3, "passed": 1})


@pytest.mark.parametrize("name", ["made.cascade.yml", "made.Cascade.YAML", "made_cascade.yaml", "made.cascades.yaml"])
def test_a_suite_that_would_be_passed_over_for_its_name_is_an_error(project, name):
    """Among tests that pass nobody would miss it: exit code 4, and the name it is to have."""
    project.makepyfile(test_fine="def test_fine():\n    assert True\n")
    write(project.path).rename(project.path / name)
    result = run(project)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"*{name}: holds a suite, and is not collected under this name*'made.cascade.yaml'*"])


def test_a_suite_of_another_name_that_the_ini_file_matches_is_judged(project):
    """`cascade_suites` says what else is a suite."""
    project.makeini("[pytest]\ncascade_suites = *.cascade.yml")
    write(project.path).rename(project.path / "made.cascade.yml")
    assert run(project).ret == pytest.ExitCode.OK


def test_yaml_that_is_no_suite_is_nobody_s_business(project):
    """A file of another tool, and a cascade in a file of its own, are passed over whatever they are called."""
    project.makepyfile(test_fine="def test_fine():\n    assert True\n")
    (project.path / "cascade.yaml").write_text("cascades: 3\nmodels: [a, b]\n", encoding="utf-8")
    (project.path / "style.yml").write_text("cascades: {}\nbudgets: {}\n", encoding="utf-8")
    (project.path / "cascade.yml").write_bytes(b"\xff\xfe\x00")
    assert run(project).ret == pytest.ExitCode.OK
