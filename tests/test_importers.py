"""Importers: samples of every tool, what is said about a log, and where the rows go."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path

import made_logs
import pyarrow.compute as pc
import pytest

from cascade_eval import cli, importers, runs, suite, traffic
from cascade_eval.errors import DataError, SuiteError, UsageError

SAMPLES = Path(__file__).with_name("import_samples")
GPT = {"mini": "gpt-4.1-nano", "flagship": "gpt-4.1"}
LANGUAGE = {"language": "app.language"}
ROUTES = [
    ("de", "cancel", None),
    ("en", "refund", None),
    ("en", "track", None),
    ("pt", "cancel", "cancel"),
    ("pt", "refund", "track"),
]

SAMPLE_LOGS = {
    "otel, today's names": ("otel", "otel_current.jsonl", GPT, LANGUAGE, (22, 10, 0, 12, 1)),
    "otel, names up to v1.36": ("otel", "otel_v136.jsonl", GPT, LANGUAGE, (44, 10, 28, 6, 1)),
    "openinference": ("openinference", "openinference.jsonl", GPT, LANGUAGE, (22, 10, 0, 12, 1)),
    "litellm payloads": ("litellm", "litellm.jsonl", GPT, {"language": "metadata.requester_metadata.language"}, (8, 8, 0, 0, 1)),
    "litellm spend logs": ("litellm", "litellm_spend.jsonl", GPT, {"language": "metadata.spend_logs_metadata.language"}, (7, 7, 0, 0, 0)),
    "langfuse": ("langfuse", "langfuse.jsonl", GPT, {"language": "metadata.language"}, (12, 7, 0, 5, 0)),
    "openai batch": ("openai_batch", "openai_batch", GPT, {}, (20, 10, 10, 0, 0)),
    "anthropic batch": ("anthropic_batch", "anthropic_batch", {"mini": "claude-haiku", "flagship": "claude-opus"}, {}, (20, 10, 10, 0, 0)),
    "promptfoo": ("promptfoo", "promptfoo.json", {"mini": "openai:gpt-4.1-nano", "flagship": "openai:gpt-4.1"}, {"language": "vars.language"}, (10, 10, 0, 0, 0)),
    "decisions": ("decisions", "decisions.csv", GPT, {"language": "language"}, (5, 7, 0, 0, 0)),
}  # fmt: skip
ALL_CALLED = {"openai batch", "anthropic batch", "promptfoo"}


@pytest.mark.parametrize("name", SAMPLE_LOGS)
def test_samples_of_every_tool_give_the_cases_that_were_made(tmp_path, name):
    """Records, calls, joined, other and merged are those of the log, nothing is set aside, and traffic reads it."""
    kind, path, models, columns, counts = SAMPLE_LOGS[name]
    found = made_logs.read(SAMPLES / path, tmp_path / "out", kind, models=models, columns=columns)
    report = found.report
    assert (report.records, report.calls, report.joined, report.other, report.merged) == counts
    assert made_logs.accounted(report)
    assert report.bad == 0
    opened = traffic.open(found.folder)
    assert set(opened.models) == {"mini", "flagship"}
    batch = opened.read()
    assert opened.cases == report.cases == (6 if "otel" in name or name == "openinference" else 5)
    if kind == "decisions":
        return
    answers = zip(batch.arrow("mini", "answer").to_pylist(), batch.arrow("flagship", "answer").to_pylist(), strict=True)
    languages = batch.arrow(None, "language").to_pylist() if columns else [None] * report.cases
    cases = sorted(zip(languages, *zip(*answers, strict=True), strict=True), key=str)
    if columns and name not in ALL_CALLED:
        assert [case for case in cases if case[1] != "other"] == ROUTES
    else:
        assert sorted(case[1] for case in cases) == ["cancel", "cancel", "refund", "refund", "track"]


def test_a_timeout_without_an_answer_is_a_timeout_of_the_flagship(tmp_path):
    """The sixth request of the samples timed out at the flagship, and a busy flagship was asked again."""
    found = made_logs.read(SAMPLES / "otel_current.jsonl", tmp_path / "out", models=GPT)
    rows = made_logs.rows(found.folder)
    assert [row["input"] for row in rows if row["status"] == "timeout"] == ["hello?? anyone"]
    [retried] = [row for row in rows if "attempts" in row]
    assert (retried["attempts"], retried["status"], retried["answer"]) == ("error, ok", "ok", "cancel")


def test_columns_come_from_spans_around_the_calls(tmp_path):
    """A gate's confidence and the language stand on the request's span, and reach the rows of its calls."""
    columns = {"language": "app.language", "confidence": "app.gate.confidence", "service": "resource.service.name"}
    found = made_logs.read(SAMPLES / "otel_current.jsonl", tmp_path / "out", models=GPT, columns=columns)
    rows = {(row["input"], row["model"]): row for row in made_logs.rows(found.folder)}
    row = rows["Quero cancelar.", "mini"]
    assert (row["language"], row["confidence"], row["service"]) == ("pt", 0.42, "support-bot")


def test_signals_of_batches_and_decisions_are_kept(tmp_path):
    """Log-probabilities of batches and confidences of decision logs are columns of the cheap model's rows."""
    batch = made_logs.read(SAMPLES / "openai_batch", tmp_path / "batch", "openai_batch", models=GPT)
    rows = {(row["case_id"], row["model"]): row for row in made_logs.rows(batch.folder)}
    assert rows["r-3", "mini"]["token_logprobs"] == [pytest.approx(-0.06)]
    assert (rows["r-5", "flagship"]["status"], rows["r-5", "mini"]["input"]) == ("error", "Quero cancelar.")
    log = made_logs.read(SAMPLES / "decisions.csv", tmp_path / "log", "decisions", models=GPT)
    rows = {(row["case_id"], row["model"]): row for row in made_logs.rows(log.folder)}
    assert (rows["r-3", "mini"]["confidence"], rows["r-3", "mini"]["escalated"]) == (0.55, True)
    assert "answer" not in rows["r-3", "flagship"]
    assert "confidence" not in rows["r-3", "flagship"]
    assert ("r-1", "flagship") not in rows


def test_cached_tokens_are_part_of_the_input(tmp_path):
    """Anthropic and Langfuse count cached input apart; here it is part of the input, as prices expect."""
    found = made_logs.read(SAMPLES / "anthropic_batch", tmp_path / "a", "anthropic_batch")
    row = made_logs.rows(found.folder)[0]
    assert (row["input_tokens"], row["cached_input_tokens"]) == (49, 40)
    found = made_logs.read(SAMPLES / "langfuse.jsonl", tmp_path / "l", "langfuse")
    row = made_logs.rows(found.folder)[0]
    assert (row["input_tokens"], row["cached_input_tokens"], row["cost_usd"]) == (20, 6, 0.00002)


# --- what is said about a log --------------------------------------------------------------------------------------


def test_recorded_names_are_kept_without_a_map(tmp_path):
    """Without a map a row bears the model that was asked, not the dated one that answered."""
    found = made_logs.read(SAMPLES / "otel_current.jsonl", tmp_path / "out")
    assert dict(found.report.models) == {"gpt-4.1": 3, "gpt-4.1-nano": 6}


def test_a_model_the_map_does_not_name_is_counted(tmp_path):
    """Calls of other models are left out and reported by name; they are not bad records."""
    found = made_logs.read(SAMPLES / "otel_current.jsonl", tmp_path / "out", models={"mini": "gpt-4.1-nano"})
    assert dict(found.report.undeclared) == {"gpt-4.1": 4}
    assert (found.report.bad, found.report.rows) == (0, 6)
    assert made_logs.accounted(found.report)


def test_a_column_no_record_has_is_said(tmp_path, capsys):
    """A mistyped path is no empty column: the command, the traffic and the error of a suite name it."""
    shutil.copy(SAMPLES / "otel_current.jsonl", tmp_path / "log.jsonl")
    columns = {"language": "app.langage", "confidence": "app.gate.confidence"}
    opened = importers.open("otel", tmp_path / "log.jsonl", models=GPT, columns=columns, cache=False)
    [note] = opened.notes
    assert note.endswith("no record has a value at 'app.langage', which is to be the column 'language'")
    said = ["--model", "mini=gpt-4.1-nano", "--model", "flagship=gpt-4.1", "--column", "language=app.langage"]
    assert cli.run(["import", "otel", str(tmp_path / "log.jsonl"), "-o", str(tmp_path / "out"), *said]) == 0
    assert "0  records with a value at 'app.langage': there is no column 'language'" in capsys.readouterr().out
    (tmp_path / "a.cascade.yaml").write_text(
        "traffic: {otel: log.jsonl, models: {mini: gpt-4.1-nano, flagship: gpt-4.1}}\n"
        "columns: {language: app.langage, confidence: app.gate.confidence}\n"
        "cascades:\n"
        "  now:\n"
        "    - {tier: mini, model: mini, gate: {signal: confidence, threshold: 0.8}}\n"
        "    - {tier: flagship, model: flagship}\n"
        "cohorts: [language]\n"
        "budgets: {escalation: {overall: at most 90%}}\n"
    )
    with pytest.raises(
        DataError, match=r"no case has a column 'language'(.|\n)*no record has a value at 'app\.langage'"
    ):
        runs.check(suite.load(tmp_path / "a.cascade.yaml"))


def test_a_cached_log_is_named_where_it_lies_now(tmp_path):
    """The same bytes in another place share the rows of the cache, and not the name of the first place."""
    lines = [*(SAMPLES / "otel_current.jsonl").read_text().splitlines(), "{broken"]
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        log = made_logs.write(tmp_path / name / "log.jsonl", lines)
        opened = importers.open("otel", log, models=GPT, tolerate=1, cache=tmp_path / "cache")
        assert opened.name == str(log)
        assert [problem.file for problem in opened.set_aside] == [str(log)]
    assert len(list((tmp_path / "cache" / "imported").iterdir())) == 1


def test_a_model_no_record_has_is_answered_with_recorded_names(tmp_path):
    """What may be written are names of the log, not the suite's own labels."""
    models = {"mini": "turbo", "flagship": "gpt-4.1"}
    with pytest.raises(DataError, match=r"names 'turbo'\. Allowed: 'gpt-4\.1', 'gpt-4\.1-nano'"):
        made_logs.read(SAMPLES / "otel_current.jsonl", tmp_path / "out", models=models)


def test_calls_left_out_are_said_wherever_the_log_is_judged(tmp_path, monkeypatch):
    """A judge the map does not name is in no cost; the evidence of a suite says so, as the command does."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = SAMPLES / "otel_current.jsonl"
    assert importers.open("otel", path, models=GPT, cache=False).notes == ()
    for cache in (False, tmp_path / "cache"):
        [note] = importers.open("otel", path, models={"mini": "gpt-4.1-nano"}, cache=cache).notes
        assert "4 calls of models the map does not name ('gpt-4.1') are left out, and in no cost" in note
    judge = made_logs.line(made_logs.span(50, 50, "o3-judge"))
    made_logs.write(tmp_path / "log.jsonl", [*path.read_text().splitlines(), judge])
    (tmp_path / "a.cascade.yaml").write_text(
        "traffic: {otel: log.jsonl, models: {mini: gpt-4.1-nano, flagship: gpt-4.1}}\n"
        "columns: {confidence: app.gate.confidence}\n"
        "cascades:\n"
        "  now:\n"
        "    - {tier: mini, model: mini, gate: {signal: confidence, threshold: 0.8}}\n"
        "    - {tier: flagship, model: flagship}\n"
        "budgets: {escalation: {overall: at most 90%}}\n"
    )
    notes = runs.evaluate(suite.load(tmp_path / "a.cascade.yaml")).record["notes"]
    assert any("1 calls of models the map does not name ('o3-judge')" in note for note in notes)


def asked_and_answered(asked, answered, number=1):
    """Make a line of a call that names both models."""
    names = {"gen_ai.request.model": asked, "gen_ai.response.model": answered}
    return made_logs.line(made_logs.span(number, number, asked, attributes=names))


@pytest.mark.parametrize(
    ("asked", "answered", "model"),
    [
        ("gpt-4.1", "gpt-4.1-2025-04-14", "flagship"),
        ("gpt-4.1", "gpt-4.1-nano", None),
        ("gpt-4.1", "gpt-4.1-nano-2025-04-14", None),
        ("gpt-4.1-nano", "gpt-4.1-2025-04-14", None),
        ("gpt-4.1", "o3-mini", "flagship"),
    ],
)
def test_a_tier_that_another_tier_answered_for_is_set_aside(tmp_path, asked, answered, model):
    """Where a gateway fell back to the cheap model, its answer is not compared with itself under the flagship's name."""
    good = [asked_and_answered(name, name, 10 + n) for n, name in enumerate(GPT.values())]
    log = made_logs.write(tmp_path / "log.jsonl", [asked_and_answered(asked, answered), *good])
    report = made_logs.read(log, tmp_path / "out", models=GPT).report
    assert dict(report.models) == ({"mini": 1, "flagship": 1} if model is None else {"mini": 1, "flagship": 2})
    assert [reason.reason for reason in report.set_aside] == (
        [] if model else ["the model that was asked and the one that answered are two tiers of the map"]
    )
    assert made_logs.accounted(report)


@pytest.mark.parametrize(
    ("cost", "tokens", "kept"), [(0.0, 10, None), (0.0, 0, 0.0), (0.002, 10, 0.002), (0, 10, None)]
)
def test_tokens_for_nothing_are_a_price_nobody_knew(tmp_path, cost, tokens, kept):
    """Gateways write a cost of 0 for models they have no price of; that is unknown, and never zero."""
    row = {"id": "r1", "trace_id": "t1", "call_type": "completion", "model": "mini", "response_cost": cost}
    row |= {"prompt_tokens": tokens, "completion_tokens": tokens, "startTime": 1783328400.0}
    log = made_logs.write(
        tmp_path / "log.jsonl", [json.dumps(row), json.dumps({**row, "id": "r2", "response_cost": 1})]
    )
    [first] = made_logs.rows(made_logs.read(log, tmp_path / "out", kind="litellm", case="request").folder)[:1]
    assert first.get("cost_usd") == kept


def test_parts_of_a_log_that_cannot_be_read_are_not_passed_over(tmp_path):
    """A rotated file, or one packed otherwise, is named; files that are no part of a log may lie beside it."""
    lines = (SAMPLES / "otel_current.jsonl").read_text().splitlines()
    (tmp_path / "logs").mkdir()
    made_logs.write(tmp_path / "logs" / "a.jsonl", lines)
    (tmp_path / "logs" / "README.md").write_text("spans of July")
    assert made_logs.read(tmp_path / "logs", tmp_path / "out").report.cases == 6
    for name in ("a.jsonl.1", "b.jsonl.bz2", "spans.log"):
        (tmp_path / "logs" / name).write_bytes(b"x")
    with pytest.raises(DataError, match=r"a\.jsonl\.1: is not read, and would(.|\n)*b\.jsonl\.bz2(.|\n)*spans\.log"):
        made_logs.read(tmp_path / "logs", tmp_path / "out")


def test_tiers_can_be_told_by_a_value_instead_of_a_model(tmp_path):
    """Two tiers of one model are told apart by an attribute of the call."""
    spans = [made_logs.span(1, n, attributes={"app.tier": tier}) for n, tier in enumerate(["small", "large"])]
    log = made_logs.write(tmp_path / "log.jsonl", map(made_logs.line, spans))
    models = {"mini": {"app.tier": "small"}, "flagship": {"attributes.app.tier": "large"}}
    assert dict(made_logs.read(log, tmp_path / "out", models=models).report.models) == {"mini": 1, "flagship": 1}
    both = {"mini": {"app.tier": "small"}, "flagship": {"name": "chat"}}
    with pytest.raises(DataError, match="two labels of the map fit"):
        made_logs.read(log, tmp_path / "again", models={**both, "third": {"name": "chat"}})


def test_a_case_can_be_a_conversation(tmp_path):
    """`case: conversation` groups traces; a dotted path does, too; a record without it is set aside."""
    talk = {"gen_ai.conversation.id": "talk-1"}
    spans = [made_logs.span(n, n, MODELS, attributes=talk) for n, MODELS in enumerate(made_logs.MODELS, 1)]
    log = made_logs.write(tmp_path / "log.jsonl", map(made_logs.line, [*spans, made_logs.span(9, 9)]))
    for case in ("conversation", "gen_ai.conversation.id"):
        found = made_logs.read(log, tmp_path / "out", case=case)
        assert (found.report.cases, found.report.bad) == (1, 1)
    assert made_logs.read(log, tmp_path / "out").report.cases == 3


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"models": {"mini": "gpt-4.1-nan"}}, r"names 'gpt-4\.1-nan'\. Did you mean 'gpt-4\.1-nano'\?"),
        ({"models": {"mini": {"app.tier": "x"}}}, r"models: mini: no record that could be used has"),
        ({"models": {"mini": {}}}, "an empty mapping fits everything"),
        ({"models": {"mini": "a", "big": "a"}}, "'a' stands for two labels"),
        ({"models": {"mini": 4}}, "is the name of a recorded model"),
        ({"columns": {"model": "x"}}, "model is read by the importer itself"),
        ({"columns": {"language": ""}}, "is a dotted path"),
        ({"columns": {"case_id": "x"}, "case": "trace"}, "said twice"),
        (
            {"case": "converstaion"},
            r"no value at 'converstaion', which is to be the case\. Did you mean 'conversation'",
        ),
    ],
)
def test_what_cannot_be_said_is_an_error(tmp_path, said, message):
    """A map, a column or a case that cannot be meant is refused with what is allowed; nothing is written."""
    with pytest.raises(UsageError, match=message):
        made_logs.read(SAMPLES / "otel_current.jsonl", tmp_path / "out", **said)
    assert not (tmp_path / "out").exists()


def test_decisions_need_two_models_that_fit(tmp_path):
    """A map of one model is refused; a decision served by a model the map does not name there is set aside."""
    with pytest.raises(UsageError, match="name 2 models, in order: cheap, flagship"):
        made_logs.read(SAMPLES / "decisions.csv", tmp_path / "out", "decisions", models={"mini": "gpt-4.1-nano"})
    swapped = {"mini": "gpt-4.1", "flagship": "gpt-4.1-nano"}
    with pytest.raises(DataError, match="served_by is not the model"):
        made_logs.read(SAMPLES / "decisions.csv", tmp_path / "out", "decisions", models=swapped)


def test_the_wrong_kind_of_log_says_so(tmp_path):
    """Spans read as another tool's log give no calls, and the error asks whether it is a log of another kind."""
    with pytest.raises(DataError, match="no call to a model could be used"):
        made_logs.read(SAMPLES / "otel_current.jsonl", tmp_path / "out", "openinference")
    with pytest.raises(DataError, match="22 records"):
        made_logs.read(SAMPLES / "otel_current.jsonl", tmp_path / "out", "langfuse")
    with pytest.raises(UsageError, match=r"no importer 'otle'\. Did you mean 'otel'"):
        importers.find("otle")


# --- where the rows go ---------------------------------------------------------------------------------------------


def test_an_import_is_replaced_and_nothing_else_is(tmp_path):
    """A folder of an earlier import is written again; a folder with other files is left alone."""
    for _ in range(2):
        made_logs.read(SAMPLES / "langfuse.jsonl", tmp_path / "out", "langfuse")
    written = json.loads((tmp_path / "out" / "import.json").read_text())
    assert (written["kind"], written["records"], written["cases"]) == ("langfuse", 12, 5)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["out"]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    with pytest.raises(UsageError, match=r"holds 'thesis\.txt'"):
        made_logs.read(SAMPLES / "langfuse.jsonl", tmp_path / "mine", "langfuse")


def test_files_may_be_packed_split_and_one_document(tmp_path):
    """Lines, .gz, a folder of parts, one JSON document and a list of records give the same rows."""
    lines = (SAMPLES / "otel_current.jsonl").read_text().splitlines()
    plain = made_logs.rows(made_logs.read(SAMPLES / "otel_current.jsonl", tmp_path / "plain").folder)
    (tmp_path / "packed.jsonl.gz").write_bytes(gzip.compress("\n".join(lines).encode()))
    (tmp_path / "parts").mkdir()
    made_logs.write(tmp_path / "parts" / "a.jsonl", lines[:9])
    made_logs.write(tmp_path / "parts" / "b.ndjson", lines[9:])
    groups = [group for line in lines for group in json.loads(line)["resourceSpans"]]
    (tmp_path / "whole.json").write_text(json.dumps({"resourceSpans": groups}, indent=1))
    (tmp_path / "list.json").write_text(json.dumps([json.loads(line) for line in lines]))
    made_logs.write(tmp_path / "lines.json", lines)
    for name in ("packed.jsonl.gz", "parts", "whole.json", "list.json", "lines.json"):
        found = made_logs.read(tmp_path / name, tmp_path / "out")
        assert made_logs.rows(found.folder) == plain, name
        assert found.report.bad == 0


def test_a_suite_can_judge_a_log(tmp_path, monkeypatch):
    """`traffic: {otel: …}` is judged like the imported folder, keeps its rows in the cache, and bad records count."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    shutil.copy(SAMPLES / "otel_current.jsonl", tmp_path / "log.jsonl")
    written = """
traffic: {otel: log.jsonl, models: {mini: gpt-4.1-nano, flagship: gpt-4.1}}
columns: {language: app.language, confidence: app.gate.confidence}
cascades:
  now:
    - {tier: mini, model: mini, gate: {signal: confidence, threshold: 0.8}}
    - {tier: flagship, model: flagship}
cohorts: [language]
budgets: {escalation: {overall: at most 90%}}
"""
    path = tmp_path / "log.cascade.yaml"
    path.write_text(written)
    record = runs.evaluate(suite.load(path)).record
    assert (record["data"]["path"], record["data"]["cases"], record["data"]["bad_rows"]) == ("log.jsonl", 6, 0)
    [cascade] = [each for each in record["cascades"] if each["name"] == "now"]
    # Two of three escalated cases reached the flagship's answer; the third timed out there, and was escalated all the same.
    assert cascade["overall"]["metrics"]["escalation"]["count"] == 3
    folders = list((tmp_path / "cache" / "cascade_eval" / "imported").iterdir())
    assert len(folders) == 1
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"resourceSpans": [\n')
    with pytest.raises(DataError, match=r"log\.jsonl:23: the line is not JSON(.|\n)*--cascade-tolerate 1"):
        runs.evaluate(suite.load(path))
    again = runs.evaluate(suite.load(path), tolerate=1).record
    assert (again["data"]["cases"], again["data"]["bad_rows"]) == (6, 1)
    assert again["data"]["sha256"] != record["data"]["sha256"]
    path.write_text(written.replace("gpt-4.1-nano", "5"))
    with pytest.raises(SuiteError, match=r"yaml:2: models: mini: is the name"):
        runs.evaluate(suite.load(path))
    imported = made_logs.read(
        tmp_path / "log.jsonl", tmp_path / "out", models=GPT, columns={"confidence": "app.gate.confidence", **LANGUAGE}
    )
    path.write_text(written)
    other = runs.evaluate(suite.load(path), traffic_path=str(imported.folder)).record
    assert [v["outcome"] for v in other["cascades"][0]["verdicts"]] == [
        v["outcome"] for v in again["cascades"][0]["verdicts"]
    ]


def test_without_a_cache_a_log_is_held_in_memory(tmp_path):
    """`cache=False` leaves nothing behind and gives the same cases."""
    path = SAMPLES / "langfuse.jsonl"
    kept = importers.open("langfuse", path, cache=tmp_path / "cache")
    held = importers.open("langfuse", path, cache=False)
    assert held.sha256() == kept.sha256() == importers.open("langfuse", path, cache=tmp_path / "cache").sha256()
    assert held.cases == kept.cases == 5
    assert held.sha256() != importers.open("langfuse", path, case="conversation", cache=False).sha256()


@pytest.mark.parametrize(
    ("traffic_", "message"),
    [
        ("{otel: a, litellm: b}", "traffic is either"),
        ("{otel: a, path: b}", "traffic is either"),
        ("{otle: a}", "Did you mean 'otel'"),
        ("{path: a, case: trace}", "are said of a log"),
        ("{otel: a, importer: langfuse}", "is both"),
    ],
)
def test_a_log_in_a_suite_is_named_once(tmp_path, traffic_, message):
    """Two places, a misspelt kind, and words that belong to a log only are errors of the suite."""
    path = tmp_path / "a.cascade.yaml"
    path.write_text(f"traffic: {traffic_}\ncascades: {{}}\nbudgets: {{}}\n")
    with pytest.raises(SuiteError, match=message):
        suite.load(path)


# --- the command ---------------------------------------------------------------------------------------------------


def test_the_command_prints_what_became_of_every_record(tmp_path, capsys):
    """The table names records, calls, models and reasons; the exit code tells of records set aside."""
    log = tmp_path / "log.jsonl"
    log.write_text((SAMPLES / "otel_current.jsonl").read_text() + "{}\n")
    said = [
        "--model",
        "mini=gpt-4.1-nano",
        "--model",
        "flagship=gen_ai.request.model=gpt-4.1",
        "--column",
        "language=app.language",
    ]
    command = ["import", "otel", str(log), "-o", str(tmp_path / "out"), *said]
    assert cli.run(command) == 3
    out = capsys.readouterr().out
    assert "         23  records\n" in out
    assert "         10  calls, in 6 cases\n" in out
    assert (
        f"          1  set aside: neither resourceSpans nor resourceLogs: not OTLP JSON\n               {log}:23: neither"
        in out
    )
    assert "--tolerate 1" in out
    assert cli.run([*command, "--tolerate", "1"]) == 0
    assert traffic.open(tmp_path / "out").cases == 6
    capsys.readouterr()
    assert cli.run(["import", "otel", str(log), "-o", str(tmp_path / "x"), "--model", "mini"]) == 4
    assert "'mini' is not written NAME=VALUE" in capsys.readouterr().err


def test_imported_columns_have_types(tmp_path):
    """Numbers stay numbers and flags flags where every record agrees; mixed columns become text."""
    mixed = [{"n": 1, "f": 0.5, "b": True, "m": 1}, {"n": 2, "f": 3, "b": False, "m": "x"}]
    base = {"decided_at": "2026-07-06T09:00:00Z", "escalated": False, "confidence": 0.9}
    lines = [json.dumps({**base, "request_id": f"r{i}", **row}) for i, row in enumerate(mixed)]
    log = made_logs.write(tmp_path / "log.jsonl", lines)
    found = made_logs.read(log, tmp_path / "out", "decisions", columns={name: name for name in "nfbm"})
    table = traffic.open(found.folder).source.parts[0].schema
    assert [str(table.field(name).type) for name in "nfbm"] == ["int64", "double", "bool", "string"]
    assert pc.count(traffic.open(found.folder).read().arrow(None, "decided_at")).as_py() == 2
