"""Tests in Python that ask for replays, cohorts and a baseline of a suite."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET

import plugin_records as records
import pytest
from plugin_records import write
from scipy import special

from cascade_eval import evidence, pytest_plugin, verdicts
from cascade_eval.report import terminal

# A run inside this process forgets what it imported first, and numerical libraries cannot be imported twice.
PRELOADED = (evidence, special, terminal, verdicts)

FAKE = """
import json
from dataclasses import dataclass, field, replace
from typing import Any

from cascade_eval import errors, pytest_run, verdicts


@dataclass(frozen=True)
class Replay:
    '''Answers as a replay does, from the cells of a record.'''

    record: dict
    policy: str
    cohort: dict = field(default_factory=dict)
    baseline: Any = None

    @property
    def name(self):
        return self.record["name"]

    @property
    def unescalated(self):
        return self

    def cohorts(self, *family):
        cells = [cell for cell in self.record["cohorts"] if tuple(cell["cohort"]) == family]
        return [replace(self, cohort=cell["cohort"]) for cell in cells]

    @property
    def disagreement(self):
        family = [one._alone() for one in self.cohorts(*self.cohort)] if self.cohort else None
        return replace(self._alone(), family=None if family is None else lambda: family)

    def _alone(self):
        cells = [self.record["overall"], *self.record["cohorts"]]
        cell = next(cell for cell in cells if cell["cohort"] == self.cohort)
        known = cell["metrics"]["disagreement"]
        made = verdicts.rate("disagreement", known["count"], known["nobs"])
        return replace(made, setting={"confidence": 0.95, "cohort": self.cohort, "inconclusive": self.policy})


class Core:
    def evaluate(self, request):
        with (request.path.parent / "asked.log").open("a") as log:
            log.write("evaluate\\n")
        record = json.loads(request.path.read_text())
        if "problems" in record:
            raise errors.SuiteError(record["problems"])
        return record

    def replays(self, request):
        with (request.path.parent / "asked.log").open("a") as log:
            log.write("replays\\n")
        record = json.loads(request.path.read_text())
        found = {one["name"]: Replay(one, record["inconclusive"]) for one in record["cascades"]}
        for name, one in found.items():
            if name == "candidate":
                found[name] = replace(one, baseline=found["current"])
        return found


def pytest_configure(config):
    config.stash[pytest_run.CORE] = Core()
"""

MARK = f"""
import pytest
pytestmark = pytest.mark.cascade("{records.FILE}")
"""
COHORTS = f"""{MARK}
def test_agrees(cohort):
    assert cohort.unescalated.disagreement <= 0.10
"""


@pytest.fixture
def project(pytester, monkeypatch):
    """Make a folder with one suite and a fake core that replays its cells."""
    records.alone(monkeypatch)
    pytester.makeconftest(FAKE)
    write(pytester, records.suite())
    return pytester


def run(project, *args, tests=None):
    """Run the tests, and not the suite's own items."""
    if tests is not None:
        project.makepyfile(test_support=tests)
    return project.runpytest_inprocess(*(args or ["test_support.py"]), plugins=[pytest_plugin])


def test_a_cohort_test_runs_for_every_member(project):
    """The example of the README: one test per member, with its id, each judged."""
    result = run(project, "-v", "test_support.py", tests=COHORTS)
    words = {"en": "PASSED", "de": "PASSED", "fr": "FAILED", "nl": "PASSED", "pt": "INCONCLUSIVE"}
    result.stdout.fnmatch_lines([f"*test_agrees[[]language={name}[]] {word}*" for name, word in words.items()])
    assert result.ret == pytest.ExitCode.TESTS_FAILED


def test_a_failing_assertion_is_explained_like_a_budget(project):
    """The assertion shows the block, and so does the comparison written the other way round."""
    for comparison in ("cohort.disagreement <= 0.10", "0.10 >= cohort.disagreement"):
        result = run(
            project, "test_support.py", "-k", "fr", tests=f"{MARK}\ndef test_a(cohort):\n    assert {comparison}\n"
        )
        result.stdout.fnmatch_lines(
            [
                "E       *assert 15.9% > 10% (n=314)",
                "E         test_support.py:4  disagreement, language=fr: at most 10%",
                "*- cascade budget -*",
                "15.9% > 10% (n=314)",
                "> language=fr*FAIL",
                "FAILED test_support.py::test_a[[]language=fr[]] - *assert 15.9% > *",
            ]
        )


def test_a_failing_verdict_without_a_comparison_is_explained(project):
    """`within` has no operator that pytest could explain, so its block is a section of the report."""
    tests = f"{MARK}\ndef test_a(replay):\n    assert replay.disagreement.within(0.2, 0.4)\n"
    result = run(project, tests=tests)
    result.stdout.fnmatch_lines(["*- cascade budget -*", "4.0% < 20% (n=3,078)", "> overall*FAIL"])


def test_an_inconclusive_assertion_is_an_outcome_of_its_own(project):
    """No traceback: block, category, and failure unless the suite warns."""
    result = run(project, "test_support.py", "-k", "pt", tests=COHORTS)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert result.parseoutcomes() == {"inconclusive": 1, "deselected": 4}
    result.stdout.fnmatch_lines(["> language=pt*inconclusive", "INCONCLUSIVE test_support.py::*=pt[]] - 7.3%*"])
    result.stdout.no_fnmatch_line("*Error*")
    write(project, records.suite(policy="warn"))
    result = run(project, "test_support.py", "-k", "pt", "--junit-xml=junit.xml")
    assert result.ret == pytest.ExitCode.OK
    assert ET.parse(project.path / "junit.xml").getroot()[0].get("skipped") == "1"


def test_not_measured_is_never_excused(project):
    """A cohort without a case fails under `warn` too."""
    write(project, records.suite(records.cascade(counts={**records.LANGUAGES, "sv": (0, 0)}), policy="warn"))
    assert run(project, "test_support.py", "-k", "sv", tests=COHORTS).ret == pytest.ExitCode.TESTS_FAILED


def test_an_undecided_verdict_inside_an_expected_failure_stays_expected(project):
    """The mark xfail keeps its meaning."""
    tests = f"{MARK}\n@pytest.mark.xfail\ndef test_a(cohort):\n    assert cohort.disagreement <= 0.10\n"
    assert run(project, tests=tests).parseoutcomes() == {"xfailed": 2, "xpassed": 3}


def test_verdicts_of_tests_are_in_the_evidence(project):
    """Passes, fails and inconclusives alike enter the cascade's verdicts once, with their test, and JUnit."""
    run(project, "test_support.py", "--cascade-evidence=e.json", "--junit-xml=junit.xml", tests=COHORTS)
    found = json.loads((project.path / "e.json").read_text())
    own = [one for one in found["suites"][0]["cascades"][0]["verdicts"] if one["test"]]
    outcomes = {one["test"].partition("=")[2].rstrip("]"): (one["outcome"], one["scope"], one["line"]) for one in own}
    expected = {"en": "pass", "de": "pass", "fr": "fail", "nl": "pass", "pt": "inconclusive"}
    assert outcomes == {name: (outcome, f"language={name}", 4) for name, outcome in expected.items()}
    assert len(own) == 5
    assert found["selected"] == {"items": 5, "of": 10}
    names = [one.get("value") for one in ET.parse(project.path / "junit.xml").getroot().iter("property")]
    assert names.count("at most 10%") == 5


def test_a_suite_of_several_cascades_runs_each_test_for_each(project):
    """Ids name cascade and cohort; the mark may pick one cascade."""
    write(project, records.suite(records.cascade(), records.cascade("candidate")))
    tests = f"{MARK}\ndef test_a(replay):\n    assert replay.disagreement <= 0.10\n"
    listed = run(project, "test_support.py", "--collect-only", "-q", tests=tests)
    listed.stdout.fnmatch_lines(["test_support.py::test_a[[]current[]]", "test_support.py::test_a[[]candidate[]]"])
    tests = tests.replace('yaml")', 'yaml", cascade="candidate")')
    assert "test_support.py::test_a" in run(project, "test_support.py", "--collect-only", "-q", tests=tests).outlines


def test_the_baseline_is_a_replay(project):
    """A cascade with a baseline gives it; one without is an error that says how to name one."""
    write(project, records.suite(records.cascade(), records.cascade("candidate")))
    tests = f"{MARK}\ndef test_a(baseline):\n    assert baseline.disagreement <= 0.10\n"
    result = run(project, tests=tests)
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*current has no baseline. Name one in the suite*--cascade-baseline.*"])


def test_routed_members_are_left_out(project):
    """There is nothing to promise of a cohort that a route sends to the flagship."""
    cascade = records.cascade(counts={"en": (51, 2009)})
    cascade["cohorts"].append(records.cell({"language": "no"}, 0, 0, routed=True))
    write(project, records.suite(cascade))
    listed = run(project, "test_support.py", "--collect-only", "-q", tests=COHORTS)
    assert [line for line in listed.outlines if "::" in line] == ["test_support.py::test_agrees[language=en]"]


def test_a_suite_is_replayed_once(project):
    """All tests of a session share record and replays."""
    run(project, tests=COHORTS)
    assert (project.path / "suites/asked.log").read_text().split() == ["evaluate", "replays"]


def test_a_project_keeps_its_own_fixtures(project):
    """A fixture of the same name in a project is untouched, even in a marked test."""
    tests = f"{MARK}\n@pytest.fixture\ndef cohort():\n    return 7\n\ndef test_a(cohort):\n    assert cohort == 7\n"
    result = run(project, tests=tests)
    result.assert_outcomes(passed=1)
    assert "cascade budgets" not in str(result.stdout)


ASKS = "def test_a(replay):\n    pass\n"


@pytest.mark.parametrize(
    ("tests", "message"),
    [
        (ASKS, "test_support.py::test_a: asks for a cascade, but of which suite? Mark it with "),
        (
            f'import pytest\n@pytest.mark.cascade("{records.FILE}", cascad="current")\n{ASKS}',
            "test_support.py::test_a: the mark 'cascade' has no option 'cascad'. Did you mean 'cascade'?",
        ),
        (f"import pytest\n@pytest.mark.cascade\n{ASKS}", "test_support.py::test_a: write @pytest.mark.cascade("),
        (
            f'import pytest\n@pytest.mark.cascade("suites/suport.cascade.yaml")\n{ASKS}',
            f"no suite 'suites/suport.cascade.yaml'. Did you mean '{records.FILE}'?",
        ),
        (
            f'import pytest\n@pytest.mark.cascade("{records.FILE}", cascade="curent")\n{ASKS}',
            f"test_support.py::test_a: {records.FILE} has no cascade 'curent'. Did you mean 'current'?",
        ),
        (
            'import pytest\n@pytest.mark.cascade("suites/broken.cascade.yaml")\ndef test_a(cohort):\n    pass\n',
            "suites/broken.cascade.yaml:3: wrong.",
        ),
        (
            'import pytest\n@pytest.mark.cascade("suites/plain.cascade.yaml")\ndef test_a(cohort):\n    pass\n',
            "test_support.py::test_a: suites/plain.cascade.yaml has no cohort to judge.",
        ),
    ],
)
def test_wrong_marks_are_usage_errors(project, tests, message):
    """What is wrong, what is allowed, the nearest name; exit code 4 and no other noise."""
    write(project, {"problems": ["suites/broken.cascade.yaml:3: wrong."]}, "suites/broken.cascade.yaml")
    write(project, records.suite(records.cascade(cohorts=[])), "suites/plain.cascade.yaml")
    (project.path / "suites/plain.cascade.yaml").write_text(
        json.dumps(records.suite(records.cascade(cohorts=[]), name="suites/plain.cascade.yaml"))
    )
    for args in (["test_support.py"], ["test_support.py", "--continue-on-collection-errors"]):
        result = run(project, *args, tests=tests)
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        assert message in str(result.stdout) + str(result.stderr)
        assert "Traceback" not in str(result.stdout)


def test_the_mark_is_declared(project):
    """--strict-markers knows it, and --markers shows its signature."""
    run(project, "--markers").stdout.fnmatch_lines(["@pytest.mark.cascade(suite, [*], cascade=None): *"])


def test_a_comparison_nobody_asserts_promises_nothing(project):
    """A forgotten `assert` fails the test and says so, whatever the comparison came to."""
    forgotten = run(project, "test_support.py", tests=f"{MARK}\ndef test_a(replay):\n    replay.disagreement <= 0.4\n")
    forgotten.assert_outcomes(failed=1)
    forgotten.stdout.fnmatch_lines(["*compared, but never asserted: * Write `assert` before it.*"])
