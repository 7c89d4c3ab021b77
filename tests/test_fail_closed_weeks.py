"""Attempts to pass by weeks of something else."""

from __future__ import annotations

import pytest
from click.testing import CliRunner
from weeks_sample import CALM, judge, outcomes, remember, text

from cascade_eval import cli, diagnosis, history, suite, traffic
from cascade_eval.errors import UsageError

CALM_WEEKS = dict.fromkeys(range(20, 30), CALM)


def test_suites_of_one_name_do_not_share_their_weeks(tmp_path):
    """In one repository, weeks of another suite under the same file name prove nothing, and none is written over them."""
    (tmp_path / ".git").mkdir()
    for team in ("a", "b"):
        (tmp_path / team).mkdir()
    remember(tmp_path / "a", CALM_WEEKS, into=tmp_path / "history")
    (tmp_path / "a" / "made.cascade.yaml").write_text(text(), encoding="utf-8")
    (tmp_path / "a" / "before" / "made.cascade.yaml").rename(tmp_path / "a" / "before" / "other.yaml")
    shared = text(more="history: ../history\n")
    moved = judge(tmp_path / "b", {30: CALM}, shared)
    assert outcomes(moved)["overall"] == "pass", "a suite that moved keeps its weeks"
    (tmp_path / "a" / "before" / "other.yaml").rename(tmp_path / "a" / "before" / "made.cascade.yaml")
    found = judge(tmp_path / "b", {30: CALM}, shared)
    assert set(outcomes(found).values()) == {"not measured"}
    assert "keeps weeks of a/before/made.cascade.yaml under the same name, 'made'" in found.verdicts[0].reason
    before = history.read(tmp_path / "history")
    for command in ("monitor", "diagnose"):
        arguments = [command, str(tmp_path / "b/made.cascade.yaml"), "--history", str(tmp_path / "history")]
        said = CliRunner().invoke(cli.commands, arguments)
        assert isinstance(said.exception, UsageError)
        assert "Call one of the suites otherwise" in str(said.exception)
    assert history.read(tmp_path / "history") == before
    mine = suite.load(tmp_path / "b" / "made.cascade.yaml")
    with pytest.raises(UsageError, match="keeps weeks of a/before/made"):
        diagnosis.run(mine, traffic.open(tmp_path / "b" / "cases.parquet"), rows=before)
