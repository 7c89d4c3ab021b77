"""The fixture `playback`: where it finds things, what it takes from the mark, and what a run of it comes to."""

from __future__ import annotations

import json

import pytest
from scipy import special

from cascade_eval import evidence, playback, replay, runs, verdicts
from cascade_eval.report import terminal

# A run inside this process forgets what it imported first, and numerical libraries cannot be imported twice.
PRELOADED = (evidence, playback, replay, runs, special, terminal, verdicts)

SUITE = """
traffic: data/support.jsonl
cascades:
  current:
    - {tier: small, model: mini, gate: {signal: confidence, threshold: 0.5}}
    - {tier: top, model: flagship}
agreement: same label
budgets:
  escalation: {overall: at most 40%}
"""

CODE = """
import httpx
import pytest

CLIENT = httpx.Client(timeout=None, verify=False)

def ask(model, **headers):
    body = {"model": model, "messages": []}
    reply = CLIENT.post("https://models.example/v1/chat/completions", json=body, headers=headers)
    return reply.json()["choices"][0]["message"]["content"]

def run(played, cases):
    for number in range(cases):
        with played.case(f"c{number}"):
            ask("mini")
            if number % 5 == 0:
                ask("flagship")
"""


@pytest.fixture
def project(pytester):
    """Make a project with a hundred cases, a suite, and code that escalates every fifth."""
    for folder in ("data", "suites", "tests"):
        pytester.mkdir(folder)
    rows = [
        {"case_id": f"c{number}", "models": {"mini": {"answer": "a"}, "flagship": {"answer": "A"}}}
        for number in range(100)
    ]
    (pytester.path / "data" / "support.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (pytester.path / "suites" / "support.cascade.yaml").write_text(SUITE.replace("data/", "../data/"))
    pytester.makeini("[pytest]\n")

    def write(test):
        (pytester.path / "tests" / "test_code.py").write_text(CODE + test)
        return pytester

    return write


def test_a_marked_suite_says_everything(project):
    """Data, tiers, agreement and confidence are the suite's, and the comparison is judged by its rules."""
    pytester = project(
        """
@pytest.mark.cascade("suites/support.cascade.yaml")
def test_budgets(playback):
    with playback() as played:
        run(played, 100)
    assert played.replay.escalation <= 0.40
    assert played.replay.disagreement <= 0.05
    assert [call.tier for call in played.calls[:3]] == ["small", "top", "small"]
"""
    )
    pytester.runpytest("-p", "no:cacheprovider", "tests").assert_outcomes(passed=1)


def test_a_broken_budget_fails_and_says_by_how_much(project):
    """A failing comparison shows its verdict, as a failing budget of a suite does."""
    pytester = project(
        """
def test_budgets(playback):
    with playback("data/support.jsonl", tiers=["mini", "flagship"]) as played:
        run(played, 100)
    assert played.replay.escalation <= 0.05
"""
    )
    result = pytester.runpytest("-p", "no:cacheprovider", "tests")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*20% > 5% (n=100)*"])


@pytest.mark.parametrize(("policy", "outcome"), [("fail", {"failed": 1}), ("warn", {"skipped": 1})])
def test_what_is_undecided_fails_unless_warned(project, policy, outcome):
    """Too few cases are no pass: the test fails, or is skipped where inconclusive verdicts only warn."""
    pytester = project(
        """
def test_budgets(playback):
    with playback("data/support.jsonl", tiers=["mini", "flagship"]) as played:
        run(played, 8)
    assert played.replay.escalation <= 0.40
"""
    )
    result = pytester.runpytest("-p", "no:cacheprovider", f"--cascade-inconclusive={policy}", "tests")
    result.assert_outcomes(**outcome)


def test_what_was_not_measured_is_never_excused(project):
    """A case without a call has no path; under a policy that warns the test fails all the same."""
    pytester = project(
        """
def test_budgets(playback):
    with playback("data/support.jsonl", tiers=["mini", "flagship"]) as played:
        with played.case("c1"):
            pass
    assert played.replay.escalation <= 0.40
"""
    )
    result = pytester.runpytest("-p", "no:cacheprovider", "--cascade-inconclusive=warn", "tests")
    result.assert_outcomes(failed=1)


def test_a_comparison_nobody_asserts_fails(project):
    """A forgotten `assert` promises nothing, and is not passed over."""
    pytester = project(
        """
def test_budgets(playback):
    with playback("data/support.jsonl", tiers=["mini", "flagship"]) as played:
        run(played, 100)
    played.replay.escalation <= 0.40
"""
    )
    result = pytester.runpytest("-p", "no:cacheprovider", "tests")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*compared, but never asserted*"])


def test_an_unmatched_call_fails_the_test(project):
    """A test whose code swallows an unmatched call fails with the nearest recording."""
    pytester = project(
        """
def test_budgets(playback):
    with playback("data/support.jsonl") as played:
        with played.case("c1"):
            try:
                ask("mimi")
            except BaseException:
                pass
"""
    )
    result = pytester.runpytest("-p", "no:cacheprovider", "tests")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*asked 'mimi', which data/support.jsonl has no answers of. Did you mean 'mini'?*"])


RECORDING = """
@pytest.fixture
def server(monkeypatch):
    from cascade_eval import playback
    with playback.play([{"case_id": "c0", "models": {"mini": {"answer": "recorded"}}}]):
        yield

@pytest.fixture
def nothing():
    yield

def test_code(%s, playback):
    with playback("code.jsonl") as played:
        with played.case("c0"):
            assert ask("mini") == "recorded"
"""


def test_a_cassette_is_recorded_beside_the_test_and_played(project, monkeypatch):
    """Without a recording the test says how to make one; --cascade-record makes it, and then it is played."""
    monkeypatch.delenv("CI", raising=False)
    pytester = project(RECORDING % "nothing")
    result = pytester.runpytest("-p", "no:cacheprovider", "tests")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["*code.jsonl: there is no cassette that can be read. Record it with --cascade-record.*"]
    )
    project(RECORDING % "server")
    pytester.runpytest("-p", "no:cacheprovider", "tests", "--cascade-record").assert_outcomes(passed=1)
    assert (pytester.path / "tests" / "code.jsonl").is_file()
    project(RECORDING % "nothing")
    pytester.runpytest("-p", "no:cacheprovider", "tests").assert_outcomes(passed=1)


def test_recording_is_refused_where_ci_is_set(project, monkeypatch):
    """A run of CI does not pay for calls and judge itself by them, unless forced."""
    monkeypatch.setenv("CI", "true")
    pytester = project(RECORDING % "server")
    result = pytester.runpytest("-p", "no:cacheprovider", "tests", "--cascade-record")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--cascade-record is refused where CI is set*--cascade-record=force*"])
    assert not (pytester.path / "tests" / "code.jsonl").exists()
    pytester.runpytest("-p", "no:cacheprovider", "--cascade-record=force", "tests").assert_outcomes(passed=1)


def test_traffic_is_played_also_while_recording(project, monkeypatch):
    """--cascade-record concerns cassettes; traffic is what it is."""
    monkeypatch.delenv("CI", raising=False)
    pytester = project(
        """
def test_code(playback):
    with playback("data/support.jsonl") as played, played.case("c1"):
        assert ask("mini") == "a"
"""
    )
    pytester.runpytest("-p", "no:cacheprovider", "tests", "--cascade-record").assert_outcomes(passed=1)


def test_other_traffic_may_be_played(project):
    """--cascade-traffic swaps what a marked suite is played on."""
    pytester = project(
        """
@pytest.mark.cascade("suites/support.cascade.yaml")
def test_code(playback):
    with playback() as played, played.case("fresh"):
        assert ask("mini") == "of today"
"""
    )
    (pytester.path / "fresh.jsonl").write_text('{"case_id": "fresh", "models": {"mini": {"answer": "of today"}}}')
    result = pytester.runpytest("-p", "no:cacheprovider", "--cascade-traffic=fresh.jsonl", "tests")
    result.assert_outcomes(passed=1)


TWICE = """
@pytest.fixture
def server():
    from cascade_eval import playback
    with playback.play([{"case_id": name, "models": {"mini": {"answer": name}}} for name in ("a", "b")]):
        yield

@pytest.mark.parametrize("name", ["a", "b"])
def test_code(server, playback, name):
    with playback("code.jsonl") as played, played.case(name):
        assert ask("mini") == name
"""


def test_what_was_recorded_in_a_run_is_not_written_over(project, monkeypatch):
    """Two tests that name one cassette would each leave only their own calls in it, the last one's."""
    monkeypatch.delenv("CI", raising=False)
    pytester = project(TWICE)
    result = pytester.runpytest("-p", "no:cacheprovider", "tests", "--cascade-record")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(
        ["*code.jsonl' was recorded in this run already, by *test_code?a?, and would be written*"]
    )
    assert '"case": "a"' in (pytester.path / "tests" / "code.jsonl").read_text()
    project(TWICE.replace('"code.jsonl"', 'f"{name}.jsonl"'))
    pytester.runpytest("-p", "no:cacheprovider", "tests", "--cascade-record").assert_outcomes(passed=2)


def test_a_failure_shows_the_code_and_not_the_clients(project):
    """An unmatched call is reported at the block, with the line that asked, and without a frame of a library."""
    pytester = project(
        """
def test_code(playback):
    with playback("data/support.jsonl") as played, played.case("c1"):
        ask("mimi")
"""
    )
    result = pytester.runpytest("-p", "no:cacheprovider", "tests")
    result.stdout.fnmatch_lines(["E *: case 'c1' asked 'mimi', *"])
    assert not any(
        word in line for line in result.outlines for word in ("respx/mocks.py", "contextlib.py", "httpcore/")
    )
