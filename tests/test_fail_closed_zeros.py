"""Attempts to pass by zeros that stand for nothing, tolerances on another scale, exchanged cases and idle settings."""

from __future__ import annotations

import audit_windows as made
import numpy as np
import pyarrow as pa
import pytest
from audit_windows import SIZES
from fail_closed_cases import CASES, OVERALL, all_of, every, judge, outcomes, text, write
from test_fail_closed_pytest import project, run  # noqa: F401  `project` is a fixture

from cascade_eval import audit, suite
from cascade_eval.audit import files
from cascade_eval.errors import DataError, SuiteError

NUMBER = np.arange(CASES)
PRICES = "prices:\n  mini: {input: $1, output: $1, per: 1M tokens}\n"


@pytest.mark.parametrize(("lost", "refused"), [(6, False), (7, True), (CASES, True)])
def test_a_call_that_took_no_time_was_not_timed(tmp_path, lost, refused):
    """A zero in place of a missing latency would be the fastest call there is; 1% of them is forgiven."""
    fast = {"mini.latency_s": lambda t: every(t["mini.latency_s"], lost > NUMBER, 0.0)}
    written = text("  latency p95: {overall: at most 9s}\n")
    if refused:
        with pytest.raises(DataError, match=rf"'latency_s' of 'mini' is 0 in {lost} of 600 calls") as error:
            judge(tmp_path, fast, written)
        assert "made.cascade.yaml:8: " in str(error.value)
    else:
        assert outcomes(judge(tmp_path, fast, written)) == {("latency p95",): "pass"}
    assert outcomes(judge(tmp_path, fast, text(OVERALL))) == {("disagreement",): "pass"}, "nothing asks for it"


@pytest.mark.parametrize(("status", "refused"), [("ok", True), ("error", False)])
def test_a_call_that_read_no_token_was_not_counted(tmp_path, status, refused):
    """Tokens times a price is nothing where zero stands for unknown; a call that failed may have read none."""
    free = {
        "mini.cost_usd": None,
        "mini.input_tokens": np.where(NUMBER % 10 == 1, 0, 100),
        "mini.output_tokens": all_of(5),
        "mini.status": lambda t: every(t["mini.status"], NUMBER % 10 == 1, status),
    }
    written = text("  cost: {overall: at most 60%}\n", more=PRICES)
    if refused:
        with pytest.raises(DataError, match=r"'cost' cannot be judged: 'input_tokens' of 'mini' is 0 in 60 of 600"):
            judge(tmp_path, free, written)
    else:
        assert outcomes(judge(tmp_path, free, written)) == {("cost",): "pass"}


@pytest.mark.parametrize(("tolerance", "refused"), [("15", True), ("1", True), ("0.4", False)])
def test_a_tolerance_that_covers_every_score_is_refused(tmp_path, tolerance, refused):
    """`within 15` of scores from 0 to 1 holds of any two of them."""
    graded = {"mini.score": NUMBER % 11 / 10, "flagship.score": NUMBER % 11 / 10}
    written = text(OVERALL, more=f"agreement: within {tolerance}\n")
    if refused:
        with pytest.raises(DataError, match=rf"'within {tolerance}' holds of any two scores here, .* 0 and 1") as error:
            judge(tmp_path, graded, written)
        assert "made.cascade.yaml:9: " in str(error.value)
    else:
        assert outcomes(judge(tmp_path, graded, written)) == {("disagreement",): "pass"}


def test_two_of_our_columns_from_one_of_theirs_are_refused():
    """One of them would be read as something it is not; the folder may be given as text."""
    written = text(more="columns: {case_id: id, cluster: id}\n")
    with pytest.raises(SuiteError, match=r"s\.cascade\.yaml:\d+: 'case_id' and 'cluster' are both read from 'id'"):
        suite.parse(written, file="s.cascade.yaml", base=".")
    assert suite.parse(text(), file="s.cascade.yaml", base=".").resolve("x") == "x"


# An audit's sample


def changed(sample, name, value):
    """Put another column into a sample."""
    table = files.columns(sample.batch) | {name: value}
    return audit.Sample(files.batch(pa.table(table), "sample"))


def swapped(sample):
    """Exchange one drawn case for one that was not drawn."""
    others = sorted({f"en-{number}" for number in range(SIZES["en"])} - set(sample.ids))
    first = next(name for name in sample.ids if name.startswith("en-"))
    return changed(sample, "case_id", [others[0] if name == first else name for name in sample.ids])


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (swapped, "is not what its seed '1' draws from this window: cases were exchanged"),
        (lambda one: changed(one, "audit_seed", ["2"] * one.cases), "is not what its seed '2' draws"),
        (lambda one: changed(one, "mini.answer", ["no"] * one.cases), "the served answer of 200 of 200 drawn cases"),
        (lambda one: changed(one, "audit_served_by", ["big"] * one.cases), "the served answer of 200 of 200"),
    ],
    ids=["a case", "the seed", "the answers", "the tier"],
)
def test_a_sample_with_other_cases_or_answers_is_refused(spoil, said):
    """The window knows which cases the seed draws and what was served; the file does not get to say."""
    whole = made.table(SIZES)
    sample = made.drawn(whole)
    read = made.answers(sample, whole)
    assert audit.read(sample, read, made.window(whole), made.promised(), now=made.NOW).seed == "1"
    assert audit.read(sample, read, made.pieces(whole, 100), made.promised(), now=made.NOW).seed == "1"
    made.refused(lambda: audit.read(spoil(sample), read, made.window(whole), made.promised()), said)


# Settings


def test_a_glob_of_suites_that_no_file_has_is_an_error(project):  # noqa: F811  the fixture
    """A folder that was renamed would take its suites out of every run, and nobody would miss them: exit code 4."""
    project.makepyfile(test_fine="def test_fine():\n    assert True\n")
    project.makeini("[pytest]\ncascade_suites =\n    gates/*.yml\n    *.gate.yaml\n")
    write(project.path).rename(project.path / "made.gate.yaml")
    result = run(project)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*cascade_suites: no file below * is called 'gates/*.yml'. *"])
    (project.path / "gates").mkdir()
    for name, moved in (("made.gate.yaml", "made.yml"), ("cases.parquet", "cases.parquet")):
        (project.path / name).rename(project.path / "gates" / moved)
    project.makeini("[pytest]\ncascade_suites = gates/*.yml\n")
    assert run(project).ret == pytest.ExitCode.OK
    assert run(project, "test_fine.py").ret == pytest.ExitCode.OK, "a run of other tests is nobody's business"


@pytest.mark.parametrize(("lost", "refused"), [(6, False), (7, True), (CASES, True)])
@pytest.mark.parametrize("model", ["mini", "flagship"])
def test_a_call_that_cost_nothing_was_not_priced(tmp_path, model, lost, refused):
    """Logs write 0 for a model whose price they do not know; that would be the cheapest there is."""
    column = f"{model}.cost_usd"
    free = {column: lambda t: every(t[column], lost > NUMBER, 0.0)}
    written = text("  cost per request: {overall: at most $1}\n")
    if refused:
        with pytest.raises(
            DataError, match=rf"'cost_usd' of '{model}' is 0 in {lost} of 600 calls .*logged as 0"
        ) as error:
            judge(tmp_path, free, written)
        assert f"prices: {{{model}: {{input: $0, output: $0, per: 1M tokens}}}}" in str(error.value)
    else:
        assert outcomes(judge(tmp_path, free, written)) == {("cost per request",): "pass"}
    assert outcomes(judge(tmp_path, free, text(OVERALL))) == {("disagreement",): "pass"}, "nothing asks for it"


@pytest.mark.parametrize(("price", "refused"), [("$0", False), ("$1", True)])
def test_a_model_is_free_where_the_suite_says_so(tmp_path, price, refused):
    """A model of one's own may cost nothing; that is said, and not read off a log."""
    sheet = f"prices: {{mini: {{input: {price}, output: {price}, per: 1M tokens}}}}\n"
    written = text("  cost: {overall: at most 60%}\n", more=sheet)
    if refused:
        with pytest.raises(DataError, match="'cost_usd' of 'mini' is 0 in 600 of 600"):
            judge(tmp_path, {"mini.cost_usd": all_of(0.0)}, written)
    else:
        assert outcomes(judge(tmp_path, {"mini.cost_usd": all_of(0.0)}, written)) == {("cost",): "pass"}
