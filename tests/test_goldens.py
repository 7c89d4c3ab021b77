"""A golden is the data its description says, or an error that says what changed."""

from __future__ import annotations

import json

import pytest

from cascade_eval import goldens
from cascade_eval.errors import DataError, UsageError
from cascade_eval.traffic import Field

ROWS = [
    {
        "case_id": f"c{i}",
        "language": ["en", "no", None, "en"][i % 4],
        "models": {"mini": {"answer": "x"}, "big": {"answer": "y"}},
    }
    for i in range(10)
]


def freeze(folder, rows=ROWS):
    folder.mkdir(exist_ok=True)
    write(folder, rows)
    return goldens.describe(
        folder,
        name="support",
        description="Ten cases.",
        licence="Apache-2.0",
        recorded={"how": "made here", "when": "2026-11"},
        cohorts=["language"],
    )


def write(folder, rows):
    (folder / "cases.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def edit(folder, before, after):
    file = folder / "golden.yaml"
    text = file.read_text()
    assert before in text
    file.write_text(text.replace(before, after))


def error(folder, **options):
    with pytest.raises(DataError) as caught:
        goldens.open(folder, **options)
    return str(caught.value)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.delenv("CI", raising=False)


def test_what_is_described_opens(tmp_path):
    """The description counts models, cases and cohorts, and the golden is read like any traffic; `no` stays a word."""
    freeze(tmp_path / "g")
    golden = goldens.open("g", base=tmp_path)
    assert (golden.name, golden.licence, golden.cases, golden.models) == ("support", "Apache-2.0", 10, ("mini", "big"))
    assert golden.cohorts == {"language": {"en": 5, "no": 3, "(none)": 2}}
    assert golden.recorded == {"how": "made here", "when": "2026-11"}
    assert golden.sha256 == golden.traffic.sha256()
    assert golden.traffic.read([Field("big", "answer")]).cases == 10


def test_changed_data_says_what_changed(tmp_path):
    """Fewer cases, another split of cohorts, another model: before and now, and the command that accepts it."""
    freeze(tmp_path / "g")
    changed = [{**row, "language": "pt" if row["language"] == "no" else row["language"]} for row in ROWS[:-1]]
    changed[0] = {**changed[0], "models": {"mini": {"answer": "x"}, "bigger": {"answer": "y"}}}
    write(tmp_path / "g", changed)
    said = error(tmp_path / "g")
    for part in (
        "cases 10 before, 9 now",
        "models mini, big before, mini, bigger, big now",
        "language=no 3 before, 0 now",
        "language=pt 0 before, 2 now",
        "pytest --cascade-update",
        "golden.yaml: the golden changed",
    ):
        assert part in said
    assert "language=en" not in said


def test_a_changed_answer_is_a_change(tmp_path):
    """One byte in one answer is enough, and the message does not pretend that counts changed."""
    freeze(tmp_path / "g")
    write(tmp_path / "g", [{**ROWS[0], "models": {"mini": {"answer": "z"}, "big": {"answer": "y"}}}, *ROWS[1:]])
    assert "same cases, models and cohorts, other values" in error(tmp_path / "g")


def test_a_column_that_is_gone_is_said(tmp_path):
    """A cohort column that was described and no longer exists is named."""
    freeze(tmp_path / "g")
    write(tmp_path / "g", [{k: v for k, v in row.items() if k != "language"} for row in ROWS])
    assert "column language is gone" in error(tmp_path / "g")


def test_update_accepts_and_keeps_what_people_wrote(tmp_path):
    """Facts are renewed; comments, order and words stay."""
    freeze(tmp_path / "g")
    edit(tmp_path / "g", "licence:", "# ask legal before you share it\nlicence:")
    edit(tmp_path / "g", "cases: 10", "cases: 10  # counted")
    write(tmp_path / "g", ROWS[:8])
    goldens.update("g", base=tmp_path)
    golden = goldens.open(tmp_path / "g")
    assert (golden.cases, golden.cohorts) == (8, {"language": {"en": 4, "no": 2, "(none)": 2}})
    text = (tmp_path / "g" / "golden.yaml").read_text()
    assert "# ask legal before you share it\nlicence: Apache-2.0" in text
    assert any(line.startswith("cases: 8 ") and line.endswith("# counted") for line in text.splitlines())


def test_update_is_refused_on_ci_unless_forced(tmp_path, monkeypatch):
    """A golden that accepts itself where it should guard is refused, and nothing is written."""
    file = freeze(tmp_path / "g")
    write(tmp_path / "g", ROWS[:8])
    before = file.read_text()
    monkeypatch.setenv("CI", "true")
    with pytest.raises(UsageError, match="--cascade-update=force"):
        goldens.update(tmp_path / "g")
    assert file.read_text() == before
    goldens.update(tmp_path / "g", force=True)
    assert goldens.open(tmp_path / "g").cases == 8


def test_a_folder_without_description_is_no_golden(tmp_path):
    """Plain data is not a golden; the error says how to describe it."""
    freeze(tmp_path / "g").unlink()
    said = error("g", base=tmp_path)
    assert "needs a golden.yaml" in said
    assert "goldens.describe('g'" in said
    assert "Did you mean 'g'?" in error("gg", base=tmp_path)


BROKEN = [
    ("name: support", "nam: support", ["unknown key 'nam'. Did you mean 'name'?", "'name' is missing"]),
    ("cases: 10", "cases: ten", ["'cases' is 'ten', not a whole number"]),
    ("cases: 10", "cases: 10\ncases: 11", ["golden.yaml:", "duplicate key"]),
    ("cases: 10", "cases: !!python/object:os.system {}", ["not readable"]),
    ("cases: 10", "cases: [10", ["golden.yaml:", "not readable"]),
]


@pytest.mark.parametrize(("before", "after", "messages"), BROKEN)
def test_a_broken_description_is_an_error(tmp_path, before, after, messages):
    """Unknown, missing and duplicate keys, wrong kinds, tags and broken YAML are named, never guessed around."""
    freeze(tmp_path / "g")
    edit(tmp_path / "g", before, after)
    said = error(tmp_path / "g")
    for message in messages:
        assert message in said


def test_a_cohort_that_does_not_exist_cannot_be_described(tmp_path):
    """Describing by a misspelt column names the nearest one and writes nothing."""
    (tmp_path / "g").mkdir()
    write(tmp_path / "g", ROWS)
    with pytest.raises(DataError, match="Did you mean 'language'"):
        goldens.describe(tmp_path / "g", name="x", description="", licence="", recorded={}, cohorts=["langage"])
    assert not (tmp_path / "g" / "golden.yaml").exists()
