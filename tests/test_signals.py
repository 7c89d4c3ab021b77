"""Signals by name: what a gate may say, what it reads and what it pays."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade_eval import errors, signals
from cascade_eval.cascade import Signal
from cascade_eval.signals import catalogue
from cascade_eval.traffic.batch import Batch, Field

REQUIRED = {
    "agreement": {"model": "tiny"},
    "judge": {"model": "critic"},
    "recorded": {"column": "x"},
    "regex": {"pattern": "x"},
    "schema": {"schema": {}},
}


def batch_of(size, **columns):
    return Batch(
        size,
        {
            Field("mini", name): values if isinstance(values, pa.Array) else pa.array(values)
            for name, values in columns.items()
        },
    )


def test_a_recorded_column_keeps_its_precision():
    """float32 stays float32, null and NaN are no signal, whole numbers become floats, a missing column has none."""
    batch = batch_of(3, confidence=pa.array([0.5, None, np.nan], pa.float32()), votes=[1, None, 3])
    found = signals.compute(Signal("confidence"), batch, "mini")
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, np.array([0.5, np.nan, np.nan], np.float32))
    np.testing.assert_array_equal(signals.compute(Signal("votes"), batch, "mini"), [1, np.nan, 3])
    assert np.isnan(signals.compute(Signal("nowhere"), batch, "mini")).all()


def test_a_column_that_bears_a_built_in_name():
    """`logprob` is the built-in, `{recorded: logprob}` the column."""
    batch = batch_of(1, logprob=[-3.0], token_logprobs=[[0.0]])
    assert signals.compute(Signal("logprob"), batch, "mini").tolist() == [1.0]
    assert signals.compute(Signal("recorded", {"column": "logprob"}), batch, "mini").tolist() == [-3.0]
    assert signals.needs(Signal("recorded", {"column": "logprob"}), "mini") == {Field("mini", "logprob")}


def test_text_is_no_number():
    """A gate on a text column says so, with the column and its type."""
    with pytest.raises(errors.DataError, match=r"the signal 'mini.answer' holds string, not numbers"):
        signals.compute(Signal("answer"), batch_of(1, answer=["x"]), "mini")


AVAILABLE = {
    Field("mini", "confidence"),
    Field("mini", "logprob"),
    Field("mini", "token_logprobs"),
    Field("big", "margin"),
    Field(None, "language"),
}


@pytest.mark.parametrize(
    ("name", "options", "problems"),
    [
        ("confidence", {}, []),
        ("logprob", {}, []),
        ("logprob", {"statistic": "quantile", "q": 0.2}, []),
        ("recorded", {"column": "logprob"}, []),
        ("recorded", {"column": "confidnce"}, ["unknown signal 'confidnce'. Did you mean 'confidence'?"]),
        ("confidense", {}, ["unknown signal 'confidense'. Did you mean 'confidence'?"]),
        ("logprobs", {}, ["unknown signal 'logprobs'. Did you mean 'logprob'?"]),
        (
            "margin",
            {},
            [
                (
                    "unknown signal 'margin': 'mini' has no such column, and no signal is called so. "
                    "Columns of 'mini': 'confidence', 'logprob'. Signals: agreement, hedging, judge, length, logprob, "
                    "recorded, regex, schema, self_consistency, self_reported."
                )
            ],
        ),
        ("confidence", {"scale": 3}, ["'confidence' is a recorded column and takes no options, not 'scale'"]),
        (
            "logprob",
            {"statistic": "minimun"},
            ["logprob, option statistic: 'minimun' is not allowed. Did you mean 'minimum'?"],
        ),
        ("logprob", {"statistic": "quantile"}, ["logprob: statistic quantile needs the option q, from 0 to 1"]),
        ("logprob", {"q": 0.1}, ["logprob: the option q belongs to statistic quantile, not to probability"]),
        ("logprob", {"statistic": "quantile", "q": 2}, ["logprob, option q: 2 is not a number from 0 to 1"]),
        (
            "logprob",
            {"statistic": 1, "que": 2},
            [
                "logprob, option statistic: 1 is not a text",
                "unknown option 'que' of logprob. Allowed: 'q', 'statistic'.",
            ],
        ),
        (
            "self_reported",
            {"scale": "5 to 1"},
            ["self_reported, option scale: '5 to 1' is not a scale; write 1 to 5 or 0 to 100"],
        ),
        (
            "self_consistency",
            {},
            [
                (
                    "self_consistency reads 'mini.samples', which no case has. "
                    "Repeats in rows of their own become samples by `cascade-eval record … --collect FILE`."
                )
            ],
        ),
        ("self_reported", {"scale": 5}, ["self_reported, option scale: 5 is not a text"]),
        ("judge", {}, ["judge needs the option 'model': The recorded model that judges; it may not be a tier."]),
        (
            "agreement",
            {"model": "tiny", "rule": "same labels"},
            ["agreement, option rule: 'same labels' is not allowed. Did you mean 'same label'?"],
        ),
        (
            "regex",
            {"pattern": "(a"},
            [
                "regex, option pattern: Invalid regular expression: missing ): (a (RE2: no look-around, no back-references)"
            ],
        ),
        ("regex", {"pattern": "a", "absent": "yes"}, ["regex, option absent: 'yes' is not true or false"]),
        (
            "hedging",
            {"languages": ["en", "xx"]},
            ["hedging, option languages: no phrases for xx; listed: de, en, es, fr, it, nl, pt"],
        ),
        ("hedging", {"phrases": [" "]}, ["hedging, option phrases: a phrase is blank"]),
        ("schema", {}, ["schema: write either schema, a JSON Schema, or file, the path of one"]),
        (
            "schema",
            {"file": "/nowhere/at/all.json"},
            ["schema: '/nowhere/at/all.json' cannot be read: No such file or directory"],
        ),
        ("length", {"unit": "chars"}, ["length, option unit: 'chars' is not allowed. Did you mean 'characters'?"]),
    ],
)
def test_what_is_wrong_with_a_signal(name, options, problems):
    """Every problem is said in words, with the nearest name; a signal without problems has none."""
    assert signals.check(Signal(name, options), AVAILABLE, "mini") == problems


def test_any_name_may_be_a_column_until_the_traffic_is_known():
    """Without the traffic an unknown name is not yet a problem, but options on it are."""
    assert signals.check(Signal("whatever"), None, "mini") == []
    assert signals.check(Signal("whatever", {"a": 1}), None, "mini")


@pytest.mark.parametrize("name", signals.names())
def test_every_signal_describes_itself(name):
    """Name, help, cost, source, range and options are there; needs, calls and direction work with the least options."""
    definition = signals.find(name)
    assert definition.name == name
    assert definition.low < definition.high
    assert all((definition.help, definition.cost, definition.source))
    assert all(option.help.endswith(".") for option in definition.options.values())
    signal = Signal(name, REQUIRED.get(name, {}))
    assert signals.check(signal, None, "mini") == []
    assert signals.needs(signal, "mini")
    assert signals.surer(signal) in {"higher", "lower"}
    assert all(call.kind in {"call", "samples"} for call in signals.calls(signal, "mini"))


@pytest.mark.parametrize("name", signals.names())
@pytest.mark.parametrize("size", [0, 3])
def test_without_its_columns_there_is_no_signal(name, size):
    """A batch without the columns, with null columns or without cases gives NaN throughout, never a number."""
    signal = Signal(name, REQUIRED.get(name, {}))
    empty = Batch(size, {})
    nulls = Batch(size, {field: pa.nulls(size) for field in signals.needs(signal, "mini") if field.name != "status"})
    for batch in (empty, nulls):
        found = signals.compute(signal, batch, "mini")
        assert found.shape == (size,)
        assert np.isnan(found).all()


def test_what_is_paid_when_a_gate_is_read():
    """A second model and a judge are called, self-consistency pays its samples, everything else is free."""
    paid = {name: signals.calls(Signal(name, REQUIRED.get(name, {})), "mini") for name in signals.names()}
    assert {name: calls for name, calls in paid.items() if calls} == {
        "agreement": (signals.Call("tiny", "call"),),
        "judge": (signals.Call("critic", "call"),),
        "self_consistency": (signals.Call("mini", "samples"),),
    }
    assert signals.calls(Signal("confidence"), "mini") == ()


def test_one_file_per_built_in():
    """Every module of the package with a SIGNAL is listed, and the other way round."""
    folder = Path(catalogue.__file__).parent
    defined = {
        path.stem
        for path in folder.glob("*.py")
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "SIGNAL"
    }
    assert defined == set(catalogue.BUILT_IN)


@given(st.integers(0, 6), st.integers(0, 6))
def test_partitions_and_slices_change_nothing(first, second):
    """A part of a batch, taken or sliced, has that part of every signal, bit for bit."""
    start, stop = sorted((first, second))
    rng = np.random.default_rng(5)
    tokens = [None, [], [-0.1, None], *(rng.uniform(-3, 0, n).tolist() for n in (1, 9, 200))]
    alternatives = [None, [], [[-0.1], None], *([[-0.2, -1.7], [-0.3, -2.0, -3.0]] for _ in range(3))]
    whole = batch_of(
        6,
        token_logprobs=tokens,
        top_logprobs=alternatives,
        samples=[None, [], ["a", None], ["a", "A."], ["b", "c", "b"], ["d"]],
        answer=["0.9", None, "maybe", "", "Confidence: 85%", "PASS"],
    )
    statistics = ("probability", "mean", "minimum", "first", "margin", "entropy")
    asked = [Signal("logprob", {"statistic": name}) for name in statistics] + [
        Signal("logprob", {"statistic": "quantile", "q": 0.3})
    ]
    asked += [Signal(name) for name in ("self_consistency", "self_reported", "hedging", "length")]
    part = whole.take(np.arange(start, stop))
    sliced = Batch(stop - start, {field: column.slice(start, stop - start) for field, column in whole.columns.items()})
    for signal in asked:
        expected = signals.compute(signal, whole, "mini")[start:stop]
        np.testing.assert_array_equal(signals.compute(signal, part, "mini"), expected)
        np.testing.assert_array_equal(signals.compute(signal, sliced, "mini"), expected)


MODULE = """
import numpy as np
from cascade_eval.signals import Definition, Option
from cascade_eval.traffic.batch import Field

def compute(batch, model, options):
    return batch.numbers(model, "output_tokens") * options["factor"]

SIGNAL = Definition(
    name="tokens_scaled", compute=compute, columns=lambda model, options: frozenset({Field(model, "output_tokens")}),
    help="Scaled.", cost="Nothing.", source="A test.", options={"factor": Option("By what.", kind="number", default=2)},
)
WRONG = Definition(
    name="wrong", compute=lambda batch, model, options: [1.0], columns=lambda model, options: frozenset(),
    help="Wrong.", cost="Nothing.", source="A test.",
)
"""

USE = """
import pyarrow as pa
from cascade_eval import errors, signals
from cascade_eval.cascade import Signal
from cascade_eval.traffic.batch import Batch, Field

def said(function, *args):
    try:
        return function(*args)
    except errors.UsageError as error:
        return str(error)
"""


def install(folder, entries):
    """Leave a package with entry points behind, as an installer does."""
    folder.joinpath("their_signals.py").write_text(MODULE, encoding="utf-8")
    info = folder / "their_signals-1.0.dist-info"
    info.mkdir()
    info.joinpath("METADATA").write_text("Metadata-Version: 2.1\nName: their-signals\nVersion: 1.0\n", encoding="utf-8")
    lines = "\n".join(f"{name} = {target}" for name, target in entries.items())
    info.joinpath("entry_points.txt").write_text(f"[cascade_eval.signals]\n{lines}\n", encoding="utf-8")


def run(folder, code):
    root = Path(catalogue.__file__).parents[2]
    script = f"import sys\nsys.path[:0] = [{str(root)!r}, {str(folder)!r}]\n{USE}\n{code}"
    return subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True, timeout=60
    ).stdout.splitlines()


def test_a_third_party_adds_a_signal(tmp_path):
    """An installed signal is listed, checked and computed like a built-in; a column of its name must be told apart."""
    install(tmp_path, {"tokens_scaled": "their_signals:SIGNAL"})
    lines = run(
        tmp_path,
        """
batch = Batch(2, {Field("mini", "output_tokens"): pa.array([3, None])})
print("tokens_scaled" in signals.names())
print(signals.compute(Signal("tokens_scaled", {"factor": 10}), batch, "mini").tolist())
print(signals.check(Signal("tokens_scaled", {"faktor": 1}), None, "mini"))
print(signals.check(Signal("token_scaled"), set(batch.columns), "mini"))
print(signals.check(Signal("tokens_scaled"), {Field("mini", "tokens_scaled")}, "mini"))
""",
    )
    both = "both a recorded column of 'mini' and an installed signal"
    assert lines == [
        "True",
        "[30.0, nan]",
        "[\"unknown option 'faktor' of tokens_scaled. Did you mean 'factor'?\"]",
        "[\"unknown signal 'token_scaled'. Did you mean 'tokens_scaled'?\"]",
        f"[\"'tokens_scaled' is {both}; write {{recorded: tokens_scaled}} for the column, or rename one of them\"]",
    ]


def test_a_third_party_cannot_shadow_or_break(tmp_path):
    """A built-in's name, a broken import, something else and a wrong result are errors that name the package."""
    install(
        tmp_path,
        {
            "logprob": "their_signals:SIGNAL",
            "gone": "their_signals:NOTHING",
            "other": "their_signals:SIGNAL",
            "wrong": "their_signals:WRONG",
        },
    )
    lines = run(
        tmp_path,
        """
for name in ("logprob", "gone", "other"):
    print(said(signals.find, name)[:96])
print(said(signals.compute, Signal("wrong"), Batch(2, {}), "mini"))
""",
    )
    assert lines == [
        "the installed package 'their-signals' offers a signal called 'logprob', which is built in. Remove that package"[
            :96
        ],
        "the installed package 'their-signals' offers the signal 'gone', which cannot be imported: module"[:96],
        "the installed package 'their-signals' offers Definition(name='tokens_scaled', compute=<function compute"[:96],
        "the signal 'wrong' returned list, not 2 floats, one per case",
    ]
