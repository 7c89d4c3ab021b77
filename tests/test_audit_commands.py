"""The commands of an audit, from a suite to verdicts."""

from __future__ import annotations

import json

import audit_windows as made
import pyarrow.parquet as pq
import pytest

from cascade_eval import runs, suite
from cascade_eval.cli.audit import audit as command
from cascade_eval.errors import UsageError


def run(*arguments):
    return command.main(list(map(str, arguments)), standalone_mode=False)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Lay out a suite with a window as production records it, and the flagship's answers to all of it."""
    monkeypatch.chdir(tmp_path)
    whole = made.table({"en": 2000, "fr": 400}, {"en": 0.02, "fr": 0.25})
    pq.write_table(whole, "everything.parquet")
    pq.write_table(made.seen_in_production(whole), "window.parquet")
    (tmp_path / "s.cascade.yaml").write_text(made.SUITE)
    return tmp_path


def test_from_plan_to_verdict(folder, capsys):
    """Plan, sample, answers, reading; then pytest's own data with the audit in it is judged the same, and the reading is a prior."""
    assert run("plan", "s.cascade.yaml", "--cases", 300, "-o", "plan.json") is None
    assert "three tenths of its budget" in capsys.readouterr().out
    assert run("sample", "s.cascade.yaml", "--plan", "plan.json", "--seed", "week-3", "-o", "sample.parquet") is None
    arguments = ("s.cascade.yaml", "sample.parquet", "everything.parquet", "-o", "r.json", "--merged", "m.parquet")
    assert run("read", *arguments) == 1
    out = capsys.readouterr().out
    assert "fail: disagreement · language=fr, at most 10%" in out
    assert "cost of the audit: $3 for 300 calls" in out
    judged = runs.evaluate(suite.load("s.cascade.yaml"), traffic_path="m.parquet").verdicts
    record = json.loads((folder / "r.json").read_text())
    assert [v["outcome"] for v in record["verdicts"]] == [v.outcome for v in judged]
    assert run("plan", "s.cascade.yaml", "--cases", 300, "--prior", "r.json") is None
    assert "before: language=fr" in capsys.readouterr().out


def test_an_unfilled_sample_is_no_pass(folder, capsys):
    """Reading a sample nobody answered exits with 3, and every line says not measured."""
    run("plan", "s.cascade.yaml", "--cases", 300, "-o", "plan.json")
    run("sample", "s.cascade.yaml", "--plan", "plan.json", "--seed", "1", "-o", "sample.jsonl")
    capsys.readouterr()
    assert run("read", "s.cascade.yaml", "sample.jsonl", "sample.jsonl") == 3
    assert "pass:" not in capsys.readouterr().out


def test_a_healthy_window_exits_with_zero(folder):
    """Where every budget is proven the exit code is 0."""
    whole = made.table({"en": 2000, "fr": 400})
    pq.write_table(whole, "window.parquet")
    run("plan", "s.cascade.yaml", "--cases", 300, "-o", "plan.json")
    run("sample", "s.cascade.yaml", "--plan", "plan.json", "--seed", "1", "-o", "sample.parquet")
    assert run("read", "s.cascade.yaml", "sample.parquet", "window.parquet") == 0


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (("plan", "s.cascade.yaml", "--cases", 20), "20 calls decide no cohort"),
        (("plan", "s.cascade.yaml"), "an audit needs a cap"),
        (("plan", "s.cascade.yaml", "--cases", 300, "--per", "lnguage"), "Did you mean 'language'?"),
        (
            ("plan", "s.cascade.yaml", "--cases", 300, "--cascade", "curent"),
            "no cascade 'curent'. Did you mean 'current'?",
        ),
        (("plan", "s.cascade.yaml", "--cases", 300, "--prior", "none.json"), "none.json: there is no such file"),
        (("sample", "s.cascade.yaml", "--plan", "none.json", "--seed", "1", "-o", "s.parquet"), "cannot be read"),
        (("read", "s.cascade.yaml", "window.parquet", "window.parquet"), "is not a sample of an audit"),
    ],
)
def test_what_cannot_be_used_is_an_error(folder, arguments, part):
    """Every mistake is a usage error with the nearest word or the next step."""
    with pytest.raises(UsageError) as caught:
        run(*arguments)
    assert part in str(caught.value)


def test_overall_alone_needs_no_cohorts(folder, capsys):
    """A plan per overall is one stratum."""
    assert run("plan", "s.cascade.yaml", "--cases", 120, "--per", "overall") is None
    assert "overall        2,400" in capsys.readouterr().out
