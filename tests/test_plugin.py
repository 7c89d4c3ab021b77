"""The plugin on one process: collection, outcomes, blocks, options, files."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path

import plugin_records as records
import pytest
from plugin_records import write
from scipy import special

from cascade_eval import evidence, pytest_plugin

# A run inside this process forgets what it imported first, and numerical libraries cannot be imported twice.
PRELOADED = (evidence, pytest_plugin, special)

FAKE = """
import json
from cascade_eval import errors, pytest_run


class Core:
    '''Reads records where a suite would stand, and writes down each time it is asked.'''

    def evaluate(self, request):
        with (request.path.parent / "asked.log").open("a") as log:
            log.write(f"{request.name} {request.traffic_path} {request.tolerate} {request.inconclusive} {request.baseline}\\n")
        record = json.loads(request.path.read_text())
        if "problems" in record:
            raise errors.SuiteError(record["problems"])
        if "bug" in record:
            raise KeyError(record["bug"])
        return record


def pytest_configure(config):
    config.stash[pytest_run.CORE] = Core()
"""


@pytest.fixture
def project(pytester, monkeypatch):
    """Make a folder with one suite and the fake core, without a trace of the CI these tests may run in."""
    records.alone(monkeypatch)
    pytester.makeconftest(FAKE)
    write(pytester, records.suite())
    return pytester


def run(project, *args):
    """Run pytest in this process."""
    return project.runpytest_inprocess(*args, plugins=[pytest_plugin])


def warned(*cascades):
    """Make a suite that lets inconclusive verdicts pass with a warning."""
    return records.suite(*cascades, policy="warn")


IDS = [f"{records.FILE}::current::disagreement::language={name}" for name in records.LANGUAGES]


def test_one_item_per_verdict_with_ids_that_can_be_pasted_back(project):
    """Ids name suite, cascade, metric and cohort; each runs alone from the command line."""
    listed = run(project, "--collect-only", "-q")
    assert [line for line in listed.outlines if "::" in line] == IDS
    run(project, IDS[0]).assert_outcomes(passed=1)
    run(project, IDS[2]).assert_outcomes(failed=1)
    run(project, f"{records.FILE}::current").assert_outcomes(passed=3, failed=1)


def test_hostile_cohort_names_give_ids_that_can_be_pasted_back(project):
    """Colons, brackets, line breaks and letters of any script survive the way to the command line."""
    names = {"a::b": (1, 99), "x[1]": (1, 99), "new\nline": (1, 99), "中 文": (1, 99), "50%": (1, 99), "a/b@c": (1, 99)}
    write(project, records.suite(records.cascade(counts=names)))
    ids = [line for line in run(project, "--collect-only", "-q").outlines if "::" in line]
    assert len(ids) == len(names)
    for pasted in ids:
        run(project, pasted).assert_outcomes(passed=1)


def test_outcomes_and_exit_code(project):
    """A pass passes, a fail fails, an inconclusive verdict is a category of its own and fails."""
    result = run(project)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert result.parseoutcomes() == {"passed": 3, "failed": 1, "inconclusive": 1}
    result.stdout.fnmatch_lines([f"{records.FILE} ..F.[?]*"])


def test_verbose_names_the_outcome(project):
    """With -v an inconclusive verdict is written out."""
    run(project, "-v").stdout.fnmatch_lines([f"{IDS[4]} INCONCLUSIVE*", f"{IDS[0]} PASSED*"][::-1])


def test_a_failure_shows_its_block_and_a_short_line(project):
    """No traceback: the block under its heading, and the verdict in the summary."""
    result = run(project)
    result.stdout.fnmatch_lines(
        [
            "*_ support: disagreement · language=fr _*",
            "15.9% > 10% (n=314)",
            f"{records.FILE}:10  disagreement, each language: at most 10%",
            "> language=fr*FAIL",
            f"FAILED {IDS[2]} - 15.9*",
        ]
    )
    result.stdout.no_fnmatch_line("*NotKept*")
    result.stdout.no_fnmatch_line("*pytest_items.py*")


def test_an_inconclusive_verdict_is_explained_and_summed_up(project):
    """Failures alone are explained by pytest, so the plugin prints block and line of the inconclusive, and that they fail."""
    run(project).stdout.fnmatch_lines(
        [
            "*= INCONCLUSIVE =*",
            "*_ support: disagreement · language=pt _*",
            "7.3%, at most 10%: undecided (n=41)",
            "> language=pt*inconclusive",
            "*= cascade budgets =*",
            f"{records.FILE}  3,478 cases of goldens/support",
            "  current  3 pass, 1 FAIL, 1 inconclusive; disagreement 4.0% (*n=3,078)",
            "  The chance of any false failure is at most 5%.",
            f"INCONCLUSIVE {IDS[4]} - 7.3%, at most 10%: undecided (n=41)",
            "inconclusive counts as failure: 1 verdict",
        ]
    )


def test_a_warned_item_is_skipped_and_never_passed(project):
    """Under `warn` too few cases do not fail the run, in JUnit neither, and are still named."""
    write(project, warned(records.cascade(made=records.judged({"en": (51, 2009), "pt": (3, 41)}, policy="warn"))))
    result = run(project, "--junit-xml=junit.xml")
    assert result.ret == pytest.ExitCode.OK
    assert result.parseoutcomes() == {"passed": 1, "inconclusive": 1}
    result.stdout.fnmatch_lines([f"INCONCLUSIVE {IDS[4]} - *", "inconclusive counts as a warning: 1 verdict"])
    totals = ET.parse(project.path / "junit.xml").getroot()[0]
    assert (totals.get("skipped"), totals.get("failures")) == ("1", "0")


def test_not_measured_fails_even_where_inconclusive_warns(project):
    """`warn` excuses too few cases, never that nothing was measured."""
    made = records.judged({"en": (51, 2009), "sv": (0, 0)}, policy="warn")
    write(project, warned(records.cascade(made=[made[0], made[1] | {"warned": True}])))
    result = run(project)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["INCONCLUSIVE *language=sv - not measured: no case to judge"])


def test_a_suite_of_which_nothing_was_decided_fails(project):
    """All inconclusive is not a pass under `warn`, whichever of its items is selected."""
    write(project, warned(records.cascade(made=records.judged({"pt": (3, 41), "sv": (2, 30)}, policy="warn"))))
    for selection in ([], ["-k", "pt"], [IDS[4]]):
        result = run(project, *selection)
        assert result.ret == pytest.ExitCode.TESTS_FAILED
        result.stdout.fnmatch_lines(["Nothing in this suite was decided, so a warning is not enough."])


def test_selecting_an_undecided_item_of_a_decided_suite_warns(project):
    """What is decided is a matter of the evidence, not of what -k selected."""
    made = records.judged({"en": (51, 2009), "pt": (3, 41)}, policy="warn")
    write(project, warned(records.cascade(made=made)))
    assert run(project, "-k", "pt").ret == pytest.ExitCode.OK


def test_a_suite_without_a_verdict_fails(project):
    """A suite whose every cohort was routed judged nothing, and does not vanish."""
    write(project, records.suite(records.cascade(made=[])))
    result = run(project)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["*no budget of this suite had anything to judge*"])


def test_a_cohort_promised_twice_has_two_ids(project):
    """`each language` and `language=fr` of one metric are two items."""
    named = [records.judged({"fr": (50, 314)}, "at most 30%")[0] | {"scope": "language=fr"}]
    write(project, records.suite(records.cascade(made=[*records.judged(records.LANGUAGES), *named])))
    pasted = f"{IDS[2]} (at most 30%)"
    run(project, pasted).assert_outcomes(passed=1)
    run(project, IDS[2]).assert_outcomes(failed=1)


def test_junit_carries_flat_numbers(project):
    """Every item has its numbers as properties, and the headline as the failure's message."""
    run(project, "--junit-xml=junit.xml")
    cases = {case.get("name"): case for case in ET.parse(project.path / "junit.xml").getroot().iter("testcase")}
    case = cases["language=fr"]
    found = {one.get("name"): one.get("value") for one in case.iter("property")}
    assert found["cascade_outcome"] == "fail"
    assert (found["cascade_count"], found["cascade_nobs"], found["cascade_bound"]) == ("50", "314", "at most 10%")
    assert float(found["cascade_value"]) == 50 / 314
    assert case.find("failure").get("message") == "15.9% > 10% (n=314)"
    assert cases["language=pt"].find("failure").get("message") == "7.3%, at most 10%: undecided (n=41)"


def test_selection_works(project):
    """-k, --deselect and --lf select items; --lf remembers fails and inconclusives alike."""
    assert run(project, "-k", "fr or pt").parseoutcomes() == {"failed": 1, "inconclusive": 1, "deselected": 3}
    assert run(project, "--deselect", IDS[2]).parseoutcomes()["deselected"] == 1
    run(project)
    assert run(project, "--lf").parseoutcomes()["failed"] == 1


def test_a_partial_run_says_so(project):
    """The summary and the evidence count what ran of what there is."""
    result = run(project, IDS[0], "--cascade-evidence=evidence.json")
    result.stdout.fnmatch_lines(["a partial run: 1 of 5 items ran"])
    assert json.loads((project.path / "evidence.json").read_text())["selected"] == {"items": 1, "of": 5}


def test_evidence_is_written_whole(project):
    """The evidence holds the suites' records, and says where it was written."""
    result = run(project, "--cascade-evidence=out/evidence.json")
    result.stdout.fnmatch_lines(["written: out/evidence.json"])
    found = json.loads((project.path / "out/evidence.json").read_text())
    assert found["selected"] == {"items": 5, "of": 5}
    assert [one["outcome"] for one in found["suites"][0]["cascades"][0]["verdicts"]].count("pass") == 3


def test_report_and_summaries_are_written(project, monkeypatch):
    """One run leaves HTML, Markdown and, on GitHub, a step summary that is appended to."""
    step = project.path / "step.md"
    step.write_text("before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(step))
    result = run(project, "--cascade-report=out/cascade.html", "--cascade-markdown=out/cascade.md")
    result.stdout.fnmatch_lines(["written: out/cascade.html", "written: out/cascade.md"])
    assert "language=fr" in (project.path / "out/cascade.html").read_text()
    text = (project.path / "out/cascade.md").read_text()
    assert "15.9%" in text
    assert step.read_text() == f"before\n{text}\n"


def test_an_unreadable_suite_is_a_usage_error(project):
    """Exit code 4 and every problem once, with --collect-only and with ids inside the suite as well."""
    problems = [f"{records.FILE}:3: unknown key 'treshold'. Did you mean 'threshold'?", f"{records.FILE}:9: no."]
    write(project, {"problems": problems})
    for args in ([], ["--collect-only"], [IDS[0]], ["-q", "--no-summary"]):
        result = run(project, *args)
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        assert [str(result.stderr).count(problem) for problem in problems] == [1, 1]
        assert problems[0] not in str(result.stdout)
        assert "INTERNALERROR" not in str(result.stdout)


def test_problems_of_all_suites_are_shown_together(project):
    """Two broken suites are reported in one run."""
    write(project, {"problems": ["a.cascade.yaml:1: wrong."]}, "suites/a.cascade.yaml")
    write(project, {"problems": ["b.cascade.yaml:1: wrong."]}, "suites/b.cascade.yaml")
    result = run(project)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*a.cascade.yaml:1: wrong.", "*b.cascade.yaml:1: wrong."])


def test_carrying_on_after_collection_errors_still_ends_in_a_usage_error(project):
    """With --continue-on-collection-errors the rest runs, the problems are shown, and the exit code stays 4."""
    write(project, {"problems": ["a.cascade.yaml:1: wrong."]}, "suites/a.cascade.yaml")
    result = run(project, "--continue-on-collection-errors")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert result.parseoutcomes()["passed"] == 3
    result.stdout.fnmatch_lines(["a.cascade.yaml:1: wrong."])
    result.stderr.fnmatch_lines(["*1 suite could not be used; see the collection errors."])


def test_a_fault_of_the_core_is_a_collection_error(project):
    """Even a bug never passes and never becomes an internal error."""
    write(project, {"bug": "oops"})
    result = run(project)
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(["*KeyError: 'oops'*"])


def test_a_suite_is_evaluated_once(project):
    """Collecting twice and running all items asks the core once."""
    run(project, IDS[0], IDS[2], "--cascade-traffic=fresh", "--cascade-tolerate=3", "--cascade-inconclusive=warn")
    asked = (project.path / "suites/asked.log").read_text().splitlines()
    assert asked == [f"{records.FILE} fresh 3 warn None"]


def test_settings_stand_in_the_ini_file_and_the_command_line_goes_first(project):
    """Each option has an ini of its name; paths there are relative to the file."""
    project.makeini("[pytest]\ncascade_tolerate = 7\ncascade_baseline = git:main\ncascade_evidence = left/e.json\n")
    run(project, "--cascade-tolerate=0")
    asked = (project.path / "suites/asked.log").read_text()
    assert asked == f"{records.FILE} None 0 None git:main\n"
    assert (project.path / "left/e.json").is_file()


@pytest.mark.parametrize(
    ("ini", "args", "message"),
    [
        (
            "cascade_inconclusive = wran",
            [],
            "cascade_inconclusive must be 'fail' or 'warn', not 'wran'. Did you mean 'warn'?",
        ),
        ("cascade_tolerate = many", [], "cascade_tolerate must be a number of rows, 0 or more, not 'many'."),
        ("", ["--cascade-tolerate=-1"], "cascade_tolerate must be a number of rows, 0 or more, not '-1'."),
    ],
)
def test_wrong_settings_are_usage_errors(project, ini, args, message):
    """What is wrong and what is allowed, before anything runs."""
    project.makeini(f"[pytest]\n{ini}\n")
    result = run(project, *args)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert message in str(result.stderr)


def test_accepting_changes_is_refused_in_ci_unless_forced(project, monkeypatch):
    """--cascade-update does nothing unseen."""
    monkeypatch.setenv("CI", "true")
    result = run(project, "--cascade-update")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--cascade-update is refused where CI is set*--cascade-update=force*"])
    assert run(project, "--cascade-update=force").ret == pytest.ExitCode.TESTS_FAILED


def test_suites_may_have_other_names(project):
    """The ini `cascade_suites` adds globs; other YAML is nobody's business here."""
    project.makeini("[pytest]\ncascade_suites = gates/*.yml\n")
    write(project, records.suite(name="gates/a.yml"), "gates/a.yml")
    write(project, records.suite(), "gates/b.yaml")
    listed = run(project, "--collect-only", "-q", "gates").outlines
    assert {line.split("::")[0] for line in listed if "::" in line} == {"gates/a.yml"}


def test_quiet_runs_stay_quiet(project):
    """-q leaves the counts, -qq and --no-summary leave nothing of the plugin's; --tb=no leaves no blocks."""
    assert "The chance of any false failure" not in str(run(project, "-q").stdout)
    for args in (["-qq"], ["--no-summary"]):
        assert "cascade budgets" not in str(run(project, *args).stdout)
    assert "> language=pt" not in str(run(project, "--tb=no").stdout)


def test_annotations_only_on_github(project, monkeypatch):
    """Workflow commands name file, line and verdict, and appear only where they are understood."""
    assert "::error" not in str(run(project).stdout)
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    found = [line for line in run(project).outlines if line.startswith("::")]
    title = "title=support%3A disagreement · language"
    assert found == [
        f"::error file={records.FILE},line=10,{title}=fr::15.9%25 > 10%25 (n=314)",
        f"::error file={records.FILE},line=10,{title}=pt::7.3%25, at most 10%25: undecided (n=41)",
    ]


def test_what_cannot_be_written_does_not_end_well(project):
    """A run whose evidence could not be written is no success, and its verdicts are still shown."""
    write(project, records.suite(records.cascade(made=records.judged({"en": (51, 2009)}))))
    (project.path / "file").write_text("")
    result = run(project, "--cascade-evidence=file/evidence.json")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stdout.fnmatch_lines(["*1 pass;*", "what was asked for could not be written: *", "*1 passed*"])


UNRELATED = """
import sys

def test_nothing_is_loaded():
    heavy = {"numpy", "pandas", "scipy", "pyarrow", "pydantic", "jinja2", "ruamel", "filelock", "sklearn", "rich"}
    assert not heavy & set(sys.modules)
    own = {name for name in sys.modules if name.startswith("cascade_eval")}
    assert own <= {"cascade_eval"} | {f"cascade_eval.pytest_{part}" for part in ("plugin", "items", "run", "tests")}
"""


def test_an_unrelated_run_pays_nothing(pytester, monkeypatch):
    """No library is loaded, no line printed, no file written, when no suite is involved."""
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    pytester.makepyfile(UNRELATED)
    isolated = ["-p", "no:cacheprovider", "--cascade-evidence=e.json"]
    records.alone(monkeypatch)
    monkeypatch.setenv("PYTHONPATH", str(Path(pytest_plugin.__file__).parents[1]))
    result = pytester.runpytest_subprocess("-p", "cascade_eval.pytest_plugin", *isolated)
    result.assert_outcomes(passed=1)
    assert "cascade" not in str(result.stdout).replace(str(pytester.path), "").replace("cascade_eval-", "")
    written = {path.name for path in pytester.path.iterdir()} - {
        "stdout",
        "stderr",
        "runpytest-0",
        "runpytest-current",
        "__pycache__",
    }
    assert written == {"test_an_unrelated_run_pays_nothing.py"}
    assert not str(result.stderr).strip()
