"""What is known before the first request: caps, order, keys, columns, and what was asked before; nothing is asked here."""

from __future__ import annotations

import dataclasses
import json
import re
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from recipes import recipe, write_cases

from cascade_eval import errors
from cascade_eval.recording import planning
from cascade_eval.recording.journal import Past

LOCAL = "model: x, base_url: '{url}', price: free"
PRICED = "model: x, base_url: '{url}', price: {input: 1, output: 1}"
DEFAULTS = {"cases": None, "only": (), "max_usd": None, "max_calls": None, "output": None, "environ": {}}


def planned(folder, models, **options):
    found = recipe(
        folder, "cases: cases.jsonl\nmodels:\n" + "".join(f"  {name}: {{{each}}}\n" for name, each in models.items())
    )
    return planning.plan(found, **{**DEFAULTS, **options})


@pytest.mark.parametrize(
    ("said", "nano"),
    [
        (0, 0), (5, 5 * 10**9), (0.1, 10**8), ("0.1", 10**8), ("1e-9", 1), ("1.999999e-9", 1), ("999999999.999", 999_999_999_999_000_000),
        (-0.01, None), (10**9, None), ("inf", None), (float("nan"), None), ("five", None),
    ],
)  # fmt: skip
def test_a_cap_is_whole_nano_dollars_never_rounded_up(tmp_path, said, nano):
    """Dollars as they are written, down to what can be counted; what is no amount is refused."""
    write_cases(tmp_path)
    if nano is None:
        with pytest.raises(errors.UsageError, match=re.escape(f"--max-usd: {said} is not an amount of dollars.")):
            planned(tmp_path, {"m": PRICED}, max_usd=said)
        return
    assert planned(tmp_path, {"m": PRICED}, max_usd=said).cap == nano
    assert Fraction(nano, 10**9) <= Fraction(str(said))


def test_a_cap_is_asked_for_where_anything_costs_money(tmp_path):
    """A number of calls is a cap too; what is free needs none, and one model that is not free is named."""
    write_cases(tmp_path)
    free = planned(tmp_path, {"m": LOCAL})
    assert (free.cap, free.most_requests) == (None, None)
    counted = planned(tmp_path, {"m": PRICED}, max_calls=3)
    assert (counted.cap, counted.most_requests) == (None, 3)
    with pytest.raises(errors.UsageError, match="'n' costs money"):
        planned(tmp_path, {"m": LOCAL, "n": PRICED})


def test_a_missing_key_and_a_missing_cap_are_said_together(tmp_path):
    """Whoever runs a recipe for the first time mends all of it at once."""
    write_cases(tmp_path)
    with pytest.raises(errors.UsageError) as caught:
        planned(tmp_path, {"m": "model: gpt-4.1-mini"})
    said = str(caught.value)
    assert "OPENAI_API_KEY is not set" in said
    assert "'m' costs money. Say how much may be spent" in said


@given(st.lists(st.none() | st.integers(0, 5), min_size=1, max_size=6), st.sets(st.integers(0, 5)))
def test_a_judge_is_asked_in_a_stage_after_the_model_it_grades(tmp_path_factory, judged, only):
    """Whatever judges whom, every model that was chosen is in one stage, as early as it can be."""
    folder = tmp_path_factory.getbasetemp()
    names = [f"m{number}" for number in range(len(judged))]
    of = {
        name: f"m{other}"
        for name, other in zip(names, judged, strict=True)
        if other is not None and other < int(name[1:])
    }
    rows = [{"case_id": "c", "model": "other", "answer": "x", "input": "q"}]
    (folder / "cases.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    # Written in turn around, so that no order of writing helps.
    text = {
        name: f"{LOCAL}, prompt: p" + (f", judges: {{of: {of[name]}}}" if name in of else "") for name in names[::-1]
    }
    chosen = [name for name in names if int(name[1:]) in only] or names
    asked = planned(folder, text, only=chosen)

    def depth(name):
        return depth(of[name]) + 1 if of.get(name) in chosen else 0

    stages = [[model.name for model in stage] for stage in asked.stages]
    assert [sorted(stage) for stage in stages] == [
        [name for name in chosen if depth(name) == stage] for stage in range(max(map(depth, chosen)) + 1)
    ]
    order = [model.name for model in asked.models]
    assert sorted(order) == chosen
    assert all(order.index(of[name]) < order.index(name) for name in chosen if of.get(name) in chosen)


def test_calls_are_counted_and_written_alike(tmp_path):
    """Each case is asked once and once for each sample, in the order of the cases."""
    write_cases(tmp_path, 3)
    asked = planned(tmp_path, {"m": f"{LOCAL}, samples: 2, temperature: 1"})
    [model] = asked.models
    calls = list(asked.calls(model, Past()))
    assert len(calls) == asked.total(model) == 9
    assert [(call.case.case_id, call.run) for call in calls] == [(f"c{i}", run) for i in range(3) for run in range(3)]
    assert len({call.key for call in calls}) == 9


def test_a_judge_grades_what_was_recorded_before_what_came_along(tmp_path):
    """Where the judged model is asked here, only what it said here is graded; else what the cases brought along."""
    row = {"case_id": "a", "model": "mini", "answer": "brought", "input": "q"}
    (tmp_path / "cases.jsonl").write_text(json.dumps(row) + "\n")
    models = {"mini": LOCAL, "judge": f"{LOCAL}, prompt: 'grade {{answer}}', judges: {{of: mini}}"}
    said = Past(answers={("a", "mini"): "recorded"})
    for only, past, graded in (
        ((), Past(), None), ((), said, "recorded"), (["judge"], Past(), "brought"), (["judge"], said, "recorded"),
    ):  # fmt: skip
        asked = planned(tmp_path, models, only=only)
        judge = asked.models[-1]
        assert asked.judged(asked.cases[0], judge, past) == graded
        prompts = [call.body["messages"][0]["content"] for call in asked.calls(judge, past)]
        assert prompts == ([] if graded is None else [f"grade {graded}"])


@pytest.mark.parametrize(
    ("row", "model", "problems"),
    [
        ({"input": "q"}, f"{LOCAL}, system: '{{tone}} {{tone}}'", ["the prompt names '{tone}'"]),
        ({"input": "q", "tone": None}, f"{LOCAL}, system: '{{tone}} {{tone}}'", ["2 of 2 cases have no 'tone', which the prompt of 'm' names. First: c0."]),
        ({"input": "q", "cost_usd": 1, "status": "ok"}, LOCAL, ["the column 'cost_usd' has the name", "the column 'status' has the name"]),
        ({"input": "q"}, f"{LOCAL}, prompt: '{{answer}}'", ["the prompt names '{answer}'"]),
        ({"input": "q"}, f"{LOCAL}, prompt: '{{answer}}', judges: {{of: n}}", ["judges: nobody recorded or asks 'n'"]),
        ({"input": "q"}, f"{LOCAL}, prompt: '{{case_id}}: {{input}}'", []),
    ],
)  # fmt: skip
def test_everything_that_is_wrong_with_columns_is_said_at_once_and_once(tmp_path, row, model, problems):
    """A column that a template names is there and filled in, and none has the name of one that is recorded."""
    write_cases(tmp_path, 2, **row)
    if not problems:
        assert planned(tmp_path, {"m": model}).cases
        return
    with pytest.raises(errors.DataError) as caught:
        planned(tmp_path, {"m": model})
    said = [problem.message for problem in caught.value.problems]
    assert len(said) == len(problems)
    assert all(wanted in found for wanted, found in zip(problems, said, strict=True))


@pytest.mark.parametrize(
    ("model", "environ", "key"),
    [
        (LOCAL, {}, "none"),
        (LOCAL, {"OPENAI_API_KEY": "of-openai"}, "of-openai"),
        (f"{LOCAL}, api_key_env: MINE", {"MINE": " mine\n", "OPENAI_API_KEY": "of-openai"}, "mine"),
        (f"{LOCAL}, api_key_env: MINE", {"OPENAI_API_KEY": "of-openai"}, None),
        (f"{LOCAL}, api_key_env: MINE", {"MINE": "  "}, None),
        ("model: x, base_url: 'https://gateway.example/v1', price: free", {"OPENAI_API_KEY": "of-openai"}, None),
        ("model: x, base_url: 'https://gateway.example/v1', price: free, api_key_env: OPENAI_API_KEY", {"OPENAI_API_KEY": "k"}, "k"),
        ("client: anthropic, model: x, price: free", {"OPENAI_API_KEY": "of-openai"}, None),
        ("client: anthropic, model: x, price: free", {"ANTHROPIC_API_KEY": "of-anthropic"}, "of-anthropic"),
    ],
)  # fmt: skip
def test_which_key_goes_where(tmp_path, model, environ, key):
    """A provider's key goes to itself, a named one where it is named, and a server on this machine needs none."""
    write_cases(tmp_path)
    if key is None:
        with pytest.raises(errors.UsageError, match=r"which key may go|is not set"):
            planned(tmp_path, {"m": model}, environ=environ)
    else:
        assert planned(tmp_path, {"m": model}, environ=environ).keys == {"m": key}


def test_what_is_written_holds_no_key_of_the_recipe_or_the_environment(tmp_path):
    """Keys that the recipe names and variables that say they are secret are taken out; other variables are not."""
    write_cases(tmp_path)
    environ = {"GATEWAY": "plain words key", "DB_PASSWORD": "correct horse", "EDITOR": "an editor's name"}
    asked = planned(tmp_path, {"m": f"{LOCAL}, api_key_env: GATEWAY"}, environ=environ)
    assert (
        asked.written("plain words key, correct horse, an editor's name") == "[scrubbed], [scrubbed], an editor's name"
    )


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({}, None),
        ({"price": None, "attempts": 2, "concurrency": 9, "timeout": 3.0}, None),
        ({"temperature": 0.5}, "2 calls of 'm' were made with another 'temperature'."),
        (
            {"temperature": 0.5, "prompt": "again: {input}"},
            "2 calls of 'm' were made with another 'prompt', 'temperature'.",
        ),
    ],
)
def test_a_journal_is_gone_on_with_under_the_same_settings_only(tmp_path, change, says):
    """What decides about an answer cannot change under its feet; how often and how fast it is asked may."""
    write_cases(tmp_path, 2)
    before = planned(tmp_path, {"m": LOCAL})
    [model] = before.models
    past = Past(settings={"m": planning.settings_line(before, model)})
    for call in before.calls(model, past):
        past.keys[call.case.case_id, "m", call.run] = call.key
    now = dataclasses.replace(before, models=(dataclasses.replace(model, **change),))
    if says is None:
        planning.refuse_other_questions(now, past)
        return
    with pytest.raises(errors.UsageError, match=re.escape(says)):
        planning.refuse_other_questions(now, past)


def test_other_cases_of_the_same_name_are_other_questions(tmp_path):
    """Where the settings are the same, it is the cases that changed; how many is said, and where the journal lies."""
    write_cases(tmp_path, 3)
    before = planned(tmp_path, {"m": LOCAL})
    [model] = before.models
    past = Past(settings={"m": planning.settings_line(before, model)})
    for call in before.calls(model, past):
        past.keys[call.case.case_id, "m", call.run] = call.key if call.case.case_id == "c1" else "another"
    with pytest.raises(errors.UsageError) as caught:
        planning.refuse_other_questions(before, past)
    [problem] = caught.value.problems
    assert "2 calls of 'm' were made with another question (the cases changed)." in problem.message
    assert problem.file == str(tmp_path / "recorded")


def test_output_and_cases_of_the_call_go_before_the_recipe_s(tmp_path):
    """An output that is handed in stands as it is; the recipe's lies beside the recipe."""
    write_cases(tmp_path)
    assert planned(tmp_path, {"m": LOCAL}, output="elsewhere").output.as_posix() == "elsewhere"
    assert planned(tmp_path, {"m": LOCAL}).output == tmp_path / "recorded"
    (tmp_path / "other.jsonl").write_text('{"case_id": "z", "input": "q"}\n')
    asked = planned(tmp_path, {"m": LOCAL}, cases=str(tmp_path / "other.jsonl"))
    assert [case.case_id for case in asked.cases] == ["z"]
    with pytest.raises(errors.UsageError, match=r"no cases: write 'cases: cases.jsonl', or --cases."):
        planning.plan(recipe(tmp_path, f"models:\n  m: {{{LOCAL}}}\n"), **DEFAULTS)


def test_only_models_of_the_recipe_can_be_chosen(tmp_path):
    """Every name that is none of them is said, with the nearest one."""
    write_cases(tmp_path)
    with pytest.raises(errors.UsageError) as caught:
        planned(tmp_path, {"mini": LOCAL, "big": LOCAL}, only=["minni", "big", "else"])
    said = [problem.message for problem in caught.value.problems]
    assert said[0].startswith("--only: no model 'minni' in this recipe. Did you mean 'mini'?")
    assert len(said) == 2
