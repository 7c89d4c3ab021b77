"""A recording: what it asks, what it writes, and what it refuses."""

from __future__ import annotations

import datetime as dt
import json
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scripted_server as scripted
from hypothesis import given, settings
from hypothesis import strategies as st
from recipes import FREE, PRICED, SAMPLED, TWO, Fake, good, recipe, write_cases

from cascade_eval import cli, costs, errors, prices, recording, traffic
from cascade_eval.recording import calls, pricing, questions
from cascade_eval.recording.recipe import WrittenModel
from cascade_eval.traffic import Batch, Field

# --- recipes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("models:\n  mini: {modell: x}\n", "tiers.record.yaml:2: unknown key 'modell' in a model. Did you mean 'model'?"),
        ("models:\n  mini: {client: opneai, model: x}\n", "'client' cannot be 'opneai'. Did you mean 'openai'?"),
        ("modls: {}\n", "tiers.record.yaml:1: unknown key 'modls' in a recipe. Did you mean 'models'?"),
        ("cases: a.jsonl\n", "a recipe needs 'models'"),
        ("- a\n", "a recipe is a mapping with 'models:'."),
        ("models:\n  m: {model: x, timeout: 20}\n", "20 is not a time. Write '20s' or '20ms'."),
        ("models:\n  m: {model: x, samples: 5}\n", "samples of one question differ only at a temperature above 0."),
        ("models:\n  m: {model: x, samples: -1, temperature: 1}\n", "'samples' is from 0 to 1,000, not -1."),
        ("models:\n  m: {model: x, prompt: a, prompt_file: b}\n", "either 'prompt' or 'prompt_file', not both"),
        ("models:\n  m:\n    model: x\n    prompt_file: b.txt\n", "tiers.record.yaml:4: prompt_file: there is no such file."),
        ("models:\n  m:\n    model: x\n    price: {input: 1}\n", "tiers.record.yaml:4: prices of 'm': 'output' is missing"),
        ("models:\n  m: {model: x, extra: {n: 3}}\n", "'n' cannot stand in 'extra'"),
        ("models:\n  m: {model: x, base_url: localhost}\n", "'localhost' is not an address."),
        ("models:\n  m: {model: x, base_url: 'http://a:b@c/v1'}\n", "the address holds a key or a password."),
        ("models:\n  m: {model: x, base_url: 'http://token@c/v1'}\n", "the address holds a key or a password."),
        ("models:\n  m: {model: x, base_url: 'http://c/v1?code=abc'}\n", "an address ends with its path"),
        ("models:\n  m: {model: x, extra: {service_tier: priority}}\n", "'service_tier' decides what a token costs. Say it: price:"),
        ("models:\n  m: {model: x, extra: {a: [{cache_control: {}}]}}\n", "'cache_control' cannot stand in 'extra'"),
        ("models:\n  m: {model: x, extra: {tools: [{type: web_search}]}}\n", "a tool of type 'web_search' costs more than its tokens."),
        ("models:\n  m: {model: x, api_key: sk-abcdefgh12345678}\n", "tiers.record.yaml:2: a key stands here."),
        ("models:\n  m: {client: anthropic, model: x, logprobs: true}\n", "offers no log-probabilities"),
        ("models:\n  m: {model: x, logprobs: 30}\n", "'logprobs' is true, or from 0 to 20 alternatives, not 30."),
        (
            "models:\n  a: {model: x, judges: {of: b}}\n  b: {model: x, judges: {of: a}}\n",
            "tiers.record.yaml:2: 'a' would judge itself.",
        ),
    ],
)  # fmt: skip
def test_a_recipe_says_what_is_wrong_with_it(tmp_path, text, says):
    """Every problem has its line, what is allowed, and the nearest word."""
    with pytest.raises(errors.SuiteError) as caught:
        recipe(tmp_path, text)
    assert says in str(caught.value)


def test_a_key_in_a_recipe_is_not_repeated(tmp_path):
    """The message about a key in a recipe names its line, and never the key."""
    with pytest.raises(errors.SuiteError) as caught:
        recipe(tmp_path, "models:\n  m: {model: x, system: 'use sk-abcdefgh12345678'}\n")
    assert "sk-abc" not in str(caught.value)


def test_the_recipe_of_the_document_can_be_read(tmp_path):
    """The recipe in docs/recording.md is one: its models are priced, and its files are all that is missing."""
    document = (Path(__file__).parents[1] / "docs" / "recording.md").read_text(encoding="utf-8")
    [shown] = re.findall(r"^```\n(cases: .*?)^```$", document, re.MULTILINE | re.DOTALL)
    (tmp_path / "prompts").mkdir()
    (tmp_path / "prompts" / "flagship.txt").write_text("{input}?")
    found = recording.parse(shown, base=tmp_path)
    assert [model.name for model in found.models] == ["mini", "flagship", "critic"]
    assert all(pricing.sheet(model).rates for model in found.models)
    rows = re.findall(r"^\| (`.*?) \|", document.partition("| key of a model")[2].partition("\n\n")[0], re.MULTILINE)
    assert set(re.findall(r"`(\w+)`", " ".join(rows))) == set(WrittenModel.keys())


# --- what is refused before anything is asked ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "options", "says"),
    [
        ("model: nobody-sells-this, base_url: '{url}'", {}, "no price is known for 'nobody-sells-this'"),
        ("model: gpt-4.1-minni", {}, "Did you mean 'gpt-4.1-mini'?"),
        ("model: gpt-4.1-mini", {}, "the environment variable OPENAI_API_KEY is not set"),
        (f"model: x, base_url: '{{url}}', {PRICED}", {}, "'m' costs money. Say how much may be spent: --max-usd"),
        (f"model: x, base_url: '{{url}}', {PRICED}", {"max_usd": "nan"}, "--max-usd: nan is not an amount of dollars."),
        (
            f"model: x, base_url: '{{url}}', {PRICED}",
            {"max_usd": "a lot"},
            "--max-usd: a lot is not an amount of dollars.",
        ),
        (f"model: x, base_url: '{{url}}', {PRICED}", {"max_usd": "1e99999999"}, "is not an amount of dollars."),
        (f"model: x, base_url: '{{url}}', {FREE}", {"only": ["n"]}, "--only: no model 'n' in this recipe."),
        (f"model: x, base_url: '{{url}}', {FREE}", {"cases": "none.jsonl"}, "no such file"),
        (f"model: x, base_url: '{{url}}', {FREE}, prompt: '{{inptu}}'", {}, "Did you mean 'input'?"),
        (f"model: x, base_url: '{{url}}', {FREE}, judges: {{of: min}}", {}, "nobody recorded or asks 'min'."),
        (f"model: x, base_url: 'https://host/v1', {FREE}", {}, "which key may go to host? Name the variable"),
        (f"model: x, base_url: '{{url}}', {FREE}, api_key_env: NONE", {}, "the environment variable NONE is not set"),
    ],
)
def test_nothing_is_asked_before_everything_is_known(tmp_path, model, options, says):
    """Price, key, cap, cases and prompts are known before the first call; else nothing is asked and it says why."""
    write_cases(tmp_path)
    fake = Fake(lambda *_: good())
    found = recipe(tmp_path, f"cases: cases.jsonl\nmodels:\n  m: {{{model}}}\n")
    with pytest.raises(errors.UsageError) as caught:
        recording.run(found, connect=fake, environ={}, **options)
    assert says in str(caught.value)
    assert not fake.sent


def keys_sent(folder, address, environ):
    """Return the keys that clients were opened with."""
    write_cases(folder, 1)
    keys = []

    def connect(_model, key):
        keys.append(key)
        return Fake(lambda *_: good())

    where = "" if address is None else f", base_url: '{address}'"
    found = recipe(folder, f"cases: cases.jsonl\nmodels:\n  m: {{model: x{where}, {FREE}}}\n")
    recording.run(found, connect=connect, environ=environ)
    return keys


@pytest.mark.parametrize(
    ("address", "environ", "sent"),
    [
        (None, {"OPENAI_API_KEY": "of-openai"}, "of-openai"),
        (None, {"OPENAI_API_KEY": " of-openai \n"}, "of-openai"),
        ("https://eu.api.openai.com/v1", {"OPENAI_API_KEY": "of-openai"}, "of-openai"),
        ("http://[::1]:8080/v1", {}, "none"),
        ("http://LOCALHOST:8080/v1", {}, "none"),
    ],
)
def test_a_provider_s_key_goes_to_that_provider(tmp_path, address, environ, sent):
    """A provider gets its own key unasked, and a server on this machine needs none."""
    assert keys_sent(tmp_path, address, environ) == [sent]


@pytest.mark.parametrize(
    ("address", "key", "says"),
    [
        ("http://localhost.example.com/v1", "of-openai", "which key may go to localhost.example.com?"),
        ("https://notopenai.com/v1", "of-openai", "which key may go to notopenai.com?"),
        ("https://api.openai.com.example.org/v1", "of-openai", "which key may go to api.openai.com.example.org?"),
        (None, "two\nlines-of-it", "is no key: it holds characters no header can"),
        (None, "schlüssel", "is no key: it holds characters no header can"),
    ],
)
def test_a_provider_s_key_goes_nowhere_else(tmp_path, address, key, says):
    """An address that only looks like the provider's, and a key no header can hold, are refused without showing the key."""
    with pytest.raises(errors.UsageError) as caught:
        keys_sent(tmp_path, address, {"OPENAI_API_KEY": key})
    assert says in str(caught.value)
    assert key not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"input": "q"}\n', "no column 'case_id'"),
        ('{"case_id": "a", "input": "q"}\n{"case_id": "a", "input": "r"}\n', "cases.jsonl:2: the case 'a' was there before."),
        ('{"case_id": "a", "input": null}\n{"case_id": "b", "input": "r"}\n', "1 of 2 cases have no 'input'"),
        ('{"case_id": "a", "input": "q", "reason": "x"}\n', "the column 'reason' has the name of one that is recorded."),
        ('{"case_id": "a", "model": "m", "answer": "1", "input": "q"}\n{"case_id": "a", "model": "n", "answer": "1", "input": "r"}\n',
         "'input' differs between rows of the case 'a'."),
        ("{\n", "cases.jsonl:1"),
        ('{"case_id": "sk-proj-AAAAbbbb11111", "input": "q"}\n{"case_id": "sk-proj-AAAAbbbb22222", "input": "q"}\n',
         "2 cases are '[scrubbed]' once keys are taken out of their ids."),
    ],
)  # fmt: skip
def test_cases_that_cannot_be_asked_about(tmp_path, text, says):
    """A case without an id, twice, or without a question is named with its line; nothing is asked."""
    (tmp_path / "cases.jsonl").write_text(text)
    fake = Fake(lambda *_: good())
    found = recipe(tmp_path, f"cases: cases.jsonl\nmodels:\n  m: {{model: x, base_url: '{{url}}', {FREE}}}\n")
    with pytest.raises(errors.UsageError, match=re.escape(says)):
        recording.run(found, connect=fake, environ={})
    assert not fake.sent


@pytest.mark.parametrize("shape", ["prompts", "wide", "long", "nested", "parquet", "csv"])
def test_cases_come_from_any_file_of_traffic(tmp_path, shape):
    """Prompts, wide, long and nested traffic, Parquet and CSV give the same cases, and the answers already there."""
    wide = [{"case_id": f"0{i}", "input": f"q{i}", "language": "fr", "old.answer": f"a{i}"} for i in range(3)]
    name = "cases.jsonl"
    if shape == "prompts":
        wide = [{key: value for key, value in row.items() if key != "old.answer"} for row in wide]
    if shape in {"prompts", "wide"}:
        rows = wide
    elif shape == "long":
        rows = [
            {**{k: v for k, v in row.items() if "." not in k}, "model": model, "answer": f"a{i}", "confidence": i / 7}
            for i, row in enumerate(wide)
            for model in ("old", "other")
        ]
    else:
        rows = [
            {**{k: v for k, v in row.items() if "." not in k}, "models": {"old": {"answer": f"a{i}"}}}
            for i, row in enumerate(wide)
        ]
    if shape == "parquet":
        name = "cases.parquet"
        pq.write_table(pa.Table.from_pylist(wide), tmp_path / name)
    elif shape == "csv":
        name = "cases.csv"
        (tmp_path / name).write_text("\n".join([",".join(wide[0]), *(",".join(row.values()) for row in wide)]) + "\n")
    else:
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = questions.read(name, tmp_path)
    assert [case.case_id for case in found] == ["00", "01", "02"]
    assert [dict(case.columns) for case in found] == [{"input": f"q{i}", "language": "fr"} for i in range(3)]
    old = [] if shape == "prompts" else ["a0", "a1", "a2"]
    assert [case.answers["old"] for case in found if case.answers] == old


# --- prompts, keys and prices --------------------------------------------------------------------------------------


@given(st.text(), st.text())
def test_a_value_is_put_in_as_it_is(before, value):
    """Braces and names within a value are text: nothing is put into a template twice."""
    template = before.replace("{", "{{").replace("}", "}}") + "{input}"
    assert calls.render(template, {"input": value}) == before + value


def test_a_key_tells_calls_apart(tmp_path):
    """Case, settings, prompt and repeat are in a call's key; address, price, timeout and concurrency are not."""
    case = recording.Case("a", {"input": "q"})
    base = recording.Model("m", "openai", "x", base_url="http://a/v1", price={"input": 1, "output": 1}, seed=3)

    def key(case=case, run=0, **changed):
        model = recording.Model(**{**vars(base), **changed})
        return calls.call(case, model, run, pricing.sheet(model)).key

    same = [
        key(),
        key(base_url="http://b/v1"),
        key(price={"input": 9, "output": 9}),
        key(timeout=1.0),
        key(concurrency=9),
    ]
    assert len(set(same)) == 1
    other = [
        key(run=1), key(recording.Case("b", {"input": "q"})), key(recording.Case("a", {"input": "r"})), key(model="y"),
        key(temperature=0.5), key(seed=4), key(logprobs=0), key(prompt="{input}!"), key(name="n"), key(extra={"a": 1}),
        key(max_output_tokens=5), key(system="s"), key(stream=True), key(top_p=0.1),
    ]  # fmt: skip
    assert len({*same, *other}) == 1 + len(other)


def test_each_question_and_repeat_draws_by_itself_and_again_the_same():
    """The seed sent differs by seed, prompt and repeat, and is the same when asked again."""

    def sent(seed, prompt, run):
        return calls.request(recording.Model("m", "openai", "x", seed=seed), prompt, None, run)["seed"]

    asked = [(seed, prompt, run) for seed in (0, 3) for prompt in ("p", "q") for run in (0, 1)]
    assert len({sent(*one) for one in asked}) == len(asked)
    assert [sent(*one) for one in asked] == [sent(*one) for one in asked]


def test_requests_are_in_the_words_of_the_interface():
    """OpenAI's own models take max_completion_tokens, other servers max_tokens."""
    model = recording.Model("m", "openai", "x", seed=3, system="s", logprobs=2, temperature=0.0, stream=True)
    sent = calls.request(model, "p", "s", 2)
    assert 0 <= sent.pop("seed") < 2**31
    assert sent == {
        "model": "x",
        "messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "p"}],
        "max_completion_tokens": 1024,
        "logprobs": True,
        "top_logprobs": 2,
        "temperature": 0.0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    other = calls.request(recording.Model("m", "openai", "x", base_url="http://a"), "p", None, 0)
    assert other == {"model": "x", "messages": [{"role": "user", "content": "p"}], "max_tokens": 1024}
    third = calls.request(recording.Model("m", "anthropic", "x", extra={"top_k": 3}), "p", "s", 0)
    assert third["system"] == "s"
    assert (third["max_tokens"], third["top_k"], len(third["messages"])) == (1024, 3, 1)


@settings(deadline=None)
@given(
    st.integers(0, 300_000),
    st.floats(0, 1),
    st.integers(0, 100_000),
    st.sampled_from(["gpt-4.1-mini", "claude-sonnet-4-5", "m"]),
)
def test_a_call_costs_what_replay_would_charge(full, share, output, name):
    """Cost by usage is, to the nano-dollar, what `costs.call` charges for the same tokens, and never above the worst case."""
    price = {"input": "$0.15", "cached_input": "$0.0375", "output": 0.6} if name == "m" else None
    sheet = pricing.sheet(recording.Model(name, "openai", name, price=price))
    cached = int(full * share)
    at = dt.datetime(2026, 6, 1, tzinfo=dt.UTC)
    batch = Batch(
        1,
        {
            Field(None, "decided_at"): pa.array([at]),
            Field(name, "status"): pa.array([0], pa.int8()),
            Field(name, "input_tokens"): pa.array([full]),
            Field(name, "cached_input_tokens"): pa.array([cached]),
            Field(name, "output_tokens"): pa.array([output]),
        },
    )
    charged = costs.call(batch, name, prices.parse(None if price is None else {name: price}))
    mine = sheet.cost(recording.Usage(full, cached, output), at)
    assert mine == charged.nano[0]
    assert mine <= sheet.worst(full, output)


# --- the journal is traffic ----------------------------------------------------------------------------------------


def test_the_journal_is_traffic(tmp_path):
    """Tiers, repeats, judges, log-probabilities and the case's columns read back as recorded traffic."""

    def answer(call, before):
        if call.model.name == "critic":
            return good("PASS 4")
        return good(f"a{call.run}", token_logprobs=(-0.5, -0.25), finish="stop")

    write_cases(tmp_path, 3, language="fr")
    fake = Fake(answer)
    found = recording.run(recipe(tmp_path, SAMPLED), connect=fake, environ={}, max_usd=1)
    assert (found.outcome, found.total, found.failed) == ("complete", 12, 0)
    assert found.spent == 12 * (100 * 1000 + 10 * 2000)
    read = traffic.open(found.journal, cache=False)
    assert set(read.models) == {"mini", "critic"}
    assert read.cases == 3
    batch = read.read()
    order = np.argsort(batch.arrow(None, "case_id").to_pylist())
    assert [batch.text("mini", "answer", row) for row in order] == ["a0"] * 3
    assert batch.arrow("mini", "token_logprobs").to_pylist() == [[-0.5, -0.25]] * 3
    assert batch.numbers("critic", "score").tolist() == [4.0] * 3
    assert batch.text("critic", "judged", 0) == "mini"
    assert batch.arrow(None, "language").to_pylist() == ["fr"] * 3
    assert sorted(text for _, name, text in fake.sent if name == "critic") == [
        f"Is a0 right for q{i}? PASS or FAIL, and 1 to 5." for i in range(3)
    ]


def test_a_judge_has_nothing_to_grade_where_nobody_answered(tmp_path):
    """A failed answer is not graded, which is said; a judged model that was not asked leaves the judge unasked."""

    def answer(call, before):
        late = call.model.name == "mini" and call.case.case_id == "c1"
        return recording.Reply("timeout", reason="late") if late else good("PASS 4")

    write_cases(tmp_path, 3)
    found = recording.run(recipe(tmp_path, SAMPLED), connect=Fake(answer), environ={}, max_usd=1)
    assert (found.ungraded, found.outcome) == (1, "failures")
    assert found.statuses == {("critic", "ok"): 2, ("mini", "ok"): 6, ("mini", "timeout"): 3}
    other = recording.run(
        recipe(tmp_path, SAMPLED), connect=Fake(answer), environ={}, max_calls=0, output=tmp_path / "other"
    )
    assert (other.unasked, other.ungraded, other.outcome) == ({"mini": 9, "critic": 3}, 0, "unasked")


def test_a_judge_grades_what_the_cases_brought_along(tmp_path):
    """A judge alone grades answers recorded before."""
    (tmp_path / "cases.jsonl").write_text('{"case_id": "a", "input": "q", "old.answer": "blue"}\n')
    fake = Fake(lambda *_: good("FAIL"))
    text = f"cases: cases.jsonl\nmodels:\n  critic: {{model: y, base_url: '{{url}}', {FREE}, prompt: '{{answer}}?', judges: {{of: old}}}}\n"
    assert recording.run(recipe(tmp_path, text), connect=fake, environ={}).outcome == "complete"
    assert [text for _, _, text in fake.sent] == ["blue?"]


def test_collected_repeats_are_samples(tmp_path):
    """Repeats become samples with their cost; a failed one is a null among them, and its cost unknown."""

    def answer(call, before):
        if call.model.name == "critic":
            return good("PASS 4")
        broken = call.run == 2 and call.case.case_id == "c1"
        return recording.Reply("error", reason="x") if broken else good(f"a{call.run}", top_logprobs=((-0.1, -2.0),))

    write_cases(tmp_path, 2, language="fr")
    found = recording.run(recipe(tmp_path, SAMPLED), connect=Fake(answer), environ={}, max_usd=1)
    table = recording.collect(found.output)
    assert table.column("case_id").to_pylist() == ["c0", "c1"]
    assert table.column("mini.answer").to_pylist() == ["a0", "a0"]
    assert table.column("mini.samples").to_pylist() == [["a1", "a2"], ["a1", None]]
    assert table.column("mini.samples_cost_usd").to_pylist() == [0.00024, None]
    assert table.column("mini.samples_output_tokens").to_pylist() == [20, None]
    assert table.column("mini.top_logprobs").to_pylist() == [[[-0.1, -2.0]]] * 2
    assert table.column("critic.judged").to_pylist() == ["mini", "mini"]
    assert table.column("language").to_pylist() == ["fr", "fr"]
    assert not {"call", "mini.call", "reason", "asked_at"} & set(table.column_names)
    read = traffic.from_frame(table)
    assert (set(read.models), read.cases) == ({"mini", "critic"}, 2)


@pytest.mark.loopback
def test_a_golden_is_filled_in(tmp_path, capsys):
    """--collect keeps what the cases had, in their order, and puts the recorded tier beside it."""
    (tmp_path / "golden.jsonl").write_text(
        "".join(
            json.dumps({"case_id": c, "input": c, "language": "en", "old.answer": f"old {c}", "mini.answer": "?"})
            + "\n"
            for c in "ba"
        )
    )
    text = f"cases: golden.jsonl\nmodels:\n  mini: {{{{model: x, base_url: '{{}}', {FREE}, concurrency: 1}}}}\n"
    with scripted.Server(lambda _headers, body, _before: scripted.ok(f"to {scripted.asked(body)}")) as server:
        path = tmp_path / "r.record.yaml"
        path.write_text(text.format(server.url))
        assert cli.run(["record", str(path), "--collect", str(tmp_path / "filled.parquet")]) == 0
    assert "filled.parquet" in capsys.readouterr().out
    filled = pq.read_table(tmp_path / "filled.parquet")
    assert filled.column("case_id").to_pylist() == ["b", "a"]
    assert filled.column("old.answer").to_pylist() == ["old b", "old a"]
    assert filled.column("mini.answer").to_pylist() == ["to b", "to a"]
    assert set(traffic.open(tmp_path / "filled.parquet").models) == {"old", "mini"}


def test_nothing_recorded_is_nothing_to_collect(tmp_path):
    """An empty folder is an error, never an empty golden."""
    with pytest.raises(errors.DataError, match="nothing was recorded"):
        recording.collect(tmp_path)


# --- the command ---------------------------------------------------------------------------------------------------


@pytest.mark.loopback
def test_exit_codes(tmp_path, capsys):
    """0 for all answered, 1 for failures, 3 for calls not made, 4 for what cannot be used; --retry failed mends."""
    broken = [True]

    def script(headers, body, before):
        late = scripted.asked(body) == "q1" and broken[0]
        return (
            scripted.Act(400, {"content-type": "application/json"}, b'{"error": {"message": "no"}}')
            if late
            else scripted.ok()
        )

    write_cases(tmp_path, 3)
    with scripted.Server(script) as server:
        path = tmp_path / "r.record.yaml"
        path.write_text(TWO.replace("{url}", server.url))
        arguments = ["record", str(path), "--max-usd", "$0.10"]
        assert cli.run([*arguments, "--max-calls", "2"]) == 3
        assert "4 calls were not made" in capsys.readouterr().out
        assert cli.run(arguments) == 1
        out = capsys.readouterr().out
        assert "mini: 1 error, 2 ok" in out
        assert "1 × mini: 400: no" in out
        broken[0] = False
        assert cli.run([*arguments, "--retry", "failed"]) == 0
        assert "Every call was made and answered." in capsys.readouterr().out
        assert cli.run(["record", str(path), "--max-usd", "a lot"]) == 4
        assert cli.run([*arguments, "--output", str(tmp_path / "new"), "--collect", str(tmp_path / "a.csv")]) == 4
        assert "name a file that ends in .parquet" in capsys.readouterr().err
        assert cli.run(["record", str(tmp_path / "no.yaml"), "--max-usd", "1"]) == 4
        assert len(server.heard) == 8
