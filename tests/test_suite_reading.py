"""Reading suites: what a good one says."""

from __future__ import annotations

import json

import pytest
from suite_texts import GATE, PLAIN, ROUTED, SUPPORT, WIDER, changed, problems, read

from cascade_eval import suite
from cascade_eval.cascade import All, AnyOf, Calibrate, Leaf, Route, Signal, Tier
from cascade_eval.suite import CohortColumn, Source, text


def test_the_documented_suite_says_what_it_seems_to_say(tmp_path):
    """Every part of a whole suite becomes the value a reader expects, cascade files included."""
    (tmp_path / "cascades").mkdir()
    (tmp_path / "cascades" / "wider.yaml").write_text(WIDER)
    (tmp_path / "support.cascade.yaml").write_text(SUPPORT)
    found = suite.load(tmp_path / "support.cascade.yaml")
    assert found.name == (tmp_path / "support.cascade.yaml").as_posix()
    assert found.base == tmp_path
    assert found.source == Source("goldens", "goldens/support")
    assert found.resolve(found.source.path) == str(tmp_path / "goldens" / "support")
    assert found.baseline == "git:origin/main"
    assert found.cohorts == (CohortColumn("language"), CohortColumn("intent"))
    assert (found.confidence, found.inconclusive, found.coverage, found.audited) == (0.95, "fail", 0.99, 0.99)
    assert found.agreement_rule.kind == "same label"
    assert [(b.metric, str(b.scope), b.bound.low, b.bound.high, b.line) for b in found.budgets] == [
        ("disagreement", "overall", None, 0.05, 20),
        ("disagreement", "each language", None, 0.1, 21),
        ("disagreement", "language=no", None, 0.08, 22),
        ("escalation", "overall", 0.15, 0.4, 23),
        ("cost", "overall", None, 0.45, 24),
        ("flips to disagreement", "overall", None, 0.01, 25),
    ]
    current, wider = found.cascades
    assert current.name == "current"
    gate = Leaf(Signal("logprob"), threshold=0.82, calibrate=Calibrate("hierarchical", per=("language",)))
    assert current.tiers == (Tier("mini", "gpt-4.1-nano", gate, timeout=5.0), Tier("flagship", "gpt-4.1"))
    short = Leaf(Signal("length"), threshold=200.0, surer="lower", name="short")
    stored = Calibrate("stored", file="calibrations/mini.json")
    surest = Leaf(Signal("logprob", {"statistic": "minimum"}), threshold=0.5, calibrate=stored)
    both = All((Leaf(Signal("recorded", {"column": "logprob"}), escalate=0.3), AnyOf((short, surest))))
    assert wider.tiers == (Tier("mini", "gpt-4.1-nano", both, hedged=True), Tier("flagship", "gpt-4.1", timeout=0.8))
    assert wider.routes == (Route({"task_type": ("code", "legal"), "user_tier": ("no",)}, "flagship"),)


def test_a_definition_survives_json_and_reads_back_equal():
    """What evidence stores of a cascade is enough to replay it."""
    text = PLAIN.replace("confidence: 95%", "confidence: 90%").replace("cascades:", "cascades:\n  wider: w.yaml")
    for cascade in read(text, read_file=lambda _: WIDER).cascades:
        stored = json.loads(json.dumps(cascade.definition, allow_nan=False))
        again = suite.parse_cascade(cascade.name, stored)
        assert again == cascade
        assert again.definition == cascade.definition


def test_values_to_route_by_stay_as_they_were_written():
    """Cohort values are compared as text: `no`, `007` and `1.0` are those words, and null is the cohort (none)."""
    text = ROUTED.replace("[code]", "[no, 007, 1.0, true, null, 'null']")
    (cascade,) = read(
        PLAIN.split("cascades:")[0] + "cascades: {c: x.yaml}\nbudgets: {cost: {overall: at most 9%}}",
        read_file=lambda _: text,
    ).cascades
    assert cascade.routes[0].when == {"task_type": ("no", "007", "1.0", "true", "(none)", "null")}


@pytest.mark.parametrize(
    ("written", "source"),
    [
        ("traffic: logs/", Source("traffic", "logs/")),
        (
            "traffic: {path: s3://logs/a.parquet, importer: langfuse}",
            Source("traffic", "s3://logs/a.parquet", importer="langfuse"),
        ),
        ("traffic: {sql: sqlite:///a.db, query: select 1}", Source("traffic", "sqlite:///a.db", query="select 1")),
        ("goldens: g\ncolumns: {case_id: request_id}", Source("goldens", "g", {"case_id": "request_id"})),
    ],
)
def test_data_is_named_in_four_ways(written, source):
    """A golden, a path, a path with its importer, or a query; columns may bear foreign names."""
    assert read(PLAIN.replace("goldens: goldens/support", written)).source == source


def test_cohorts_may_be_pooled_and_derived_from_time():
    """The mapping form pools small cohorts; hours, weekdays and weeks come from `decided_at`."""
    text = changed(
        ("[language, intent]", "{language: {at least: 60 cases}, hour of decided_at: }"),
        ("each language", "each hour of decided_at"),
    )
    found = read(text)
    assert found.cohorts == (CohortColumn("language", 60), CohortColumn("decided_at", derived="hour"))
    assert found.cohorts[1].name == "hour of decided_at"
    assert found.budgets[1].scope.columns == ("hour of decided_at",)


def test_what_is_legal_but_hardly_meant_is_a_note():
    """A bound that cannot fail and a judge that is paid before a free gate are said, not refused."""
    gate = "{all: [{signal: {judge: {model: j}}, threshold: 1}, {signal: confidence, threshold: 0.8}]}"
    found = read(changed(("at most 5%", "0% to 100%"), ("{signal: confidence, threshold: 0.82}", gate)))
    assert [str(note) for note in found.notes] == [
        "s.cascade.yaml:4: 'mini': 'judge' is paid and comes before a free gate. Write the free one first, and it is paid less often.",
        "s.cascade.yaml:14: disagreement, overall: '0% to 100%' cannot fail.",
    ]


@pytest.mark.parametrize(
    ("gate", "surer"),
    [
        ("signal: confidence", "higher"),
        ("signal: confidence, surer: lower", "lower"),
        ("signal: length", "lower"),
        ("signal: length, surer: higher", "higher"),
        ("signal: {logprob: {statistic: entropy}}", "lower"),
        ("signal: {logprob: {statistic: entropy}}, calibrate: platt", "higher"),
    ],
)
def test_a_gate_that_does_not_say_follows_its_signal(gate, surer):
    """Where `surer` is not written, the signal knows its direction; a calibrated value is a probability of agreement."""
    (cascade,) = read(changed((GATE, f"{{{gate}, threshold: 0.5}}"))).cascades
    assert cascade.tiers[0].gate.surer == surer
    assert suite.parse_cascade("again", cascade.definition).tiers == cascade.tiers


def test_a_baseline_handed_in_goes_before_the_written_one():
    """The command line may name another baseline, and it is checked like the written one."""
    text = changed(
        ("baseline: git:origin/main\n", ""),
        ("  disagreement:", "  flips to disagreement: {overall: at most 1%}\n  disagreement:"),
    )
    assert read(text, baseline="current").baseline == "current"
    assert problems(text, baseline="curent") == ["s.cascade.yaml: unknown baseline 'curent'. Did you mean 'current'?"]


@pytest.mark.parametrize(
    ("word", "value"),
    [
        *((word, word) for word in ("no", "yes", "on", "off", "y", "NO", "1_000", "12:30:00", "2024-01-01", "5%", "$0.1", "0b1", "1.e", "nULL")),
        *((word, None) for word in ("null", "Null", "NULL", "~", "")),
        *((word, True) for word in ("true", "True", "TRUE")),
        ("FALSE", False),
        *zip(("0", "-12", "+3", "007", "0o17", "0x1F"), (0, -12, 3, 7, 15, 31), strict=True),
        *zip(("0.82", ".5", "1.", "-1e3", "1E-2"), (0.82, 0.5, 1.0, -1000.0, 0.01), strict=True),
    ],
)  # fmt: skip
def test_plain_words_mean_what_yaml_1_2_says(word, value):
    """Only the words of the core schema are not text, so that `no` is Norwegian and 12:30 is a time of day."""
    found = text.read(f"key: {word}\nquoted: '{word}'\n").value
    assert (type(found["key"]), found["key"]) == (type(value), value)
    assert found["quoted"] == word
