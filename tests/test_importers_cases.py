"""Calls into the rows of one case, without a file: what surrounds what, what a row costs, parts, columns, and the map."""

from __future__ import annotations

import json

import made_logs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade_eval import importers
from cascade_eval.errors import DataError
from cascade_eval.importers import calls, catalogue, choices, grouping, otlp
from cascade_eval.importers.calls import Aside, Call

M, N = "mini", "flagship"


def first_name(call):
    return call.names[0] if call.names else None


def grouped(*found):
    """Return what became of calls, and the reasons of those left out."""
    aside = []
    made = grouping.case(found, first_name, lambda call, problem: aside.append((call.id, problem.reason)))
    return made, aside


def call(own, parent=None, model=M, **more):
    return Call(case="c", names=(model,), id=own, parent=parent, **more)


def link(own, parent):
    return Call(case="c", id=own, parent=parent, part=True)


# --- one call around another ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("found", "kept"),
    [
        ([call("a"), call("b", "a")], ["b"]),
        ([call("a"), link("x", "a"), call("b", "x")], ["b"]),
        ([call("a"), link("x", "a"), link("y", "x"), call("b", "y"), call("d", "y")], ["b", "d"]),
        ([call("a"), call("b", "a"), call("d", "b")], ["d"]),
        ([call("a"), call("b", "a", N), call("d", "b")], ["b", "d"]),
        ([call("a"), link("x", "root"), call("b", "x")], ["a", "b"]),
        ([call("a"), call("b", "x")], ["a", "b"]),
        ([call("a", "a"), call("b", "b")], ["a", "b"]),
        ([call("a", "b"), call("b", "a")], ["a", "b"]),
        ([call("a", "x"), link("x", "a"), call("b")], ["a", "b"]),
        ([call("a"), link("x", "y"), link("y", "x"), call("b", "x")], ["a", "b"]),
    ],
)  # fmt: skip
def test_a_call_around_another_of_its_model_counts_once(found, kept):
    """However many spans stand between them; a call of another model is its own, and of a ring nothing is left out."""
    runs = [
        each if each.part else Call(**{**fields(each), "run": n, "answer": each.id}) for n, each in enumerate(found)
    ]
    made, aside = grouped(*runs)
    assert sorted(row["answer"] for row in made.rows) == kept
    calls = sum(not each.part for each in found)
    assert (made.calls, made.repeated, made.other, aside) == (len(kept), calls - len(kept), len(found) - calls, [])


def fields(each):
    return {name: getattr(each, name) for name in each.__struct_fields__}


@given(st.lists(st.tuples(st.integers(0, 7), st.sampled_from(["link", M, N])), min_size=1, max_size=8), st.randoms())
def test_what_surrounds_what_is_found_as_by_a_slow_walk(drawn, chance):
    """In any tree of spans and any order, a call is left out exactly where a call of its model stands below it."""
    tree = {str(n): (str(parent) if parent < n else None, kind) for n, (parent, kind) in enumerate(drawn)}

    def below(own):
        children = [each for each, (parent, _) in tree.items() if parent == own]
        return [*children, *(each for child in children for each in below(child))]

    kept = {
        own for own, (_, kind) in tree.items() if kind != "link" and all(tree[each][1] != kind for each in below(own))
    }
    found = [
        link(own, parent) if kind == "link" else call(own, parent, kind, run=int(own), answer=own)
        for own, (parent, kind) in tree.items()
    ]
    chance.shuffle(found)
    made, _ = grouped(*found)
    assert {row["answer"] for row in made.rows} == kept


SPAN = {"otel": ("gen_ai.operation.name", "invoke_agent", "execute_tool"), "openinference": ("openinference.span.kind", "CHAIN", "TOOL")}  # fmt: skip


@pytest.mark.parametrize("kind", [*SPAN, "langfuse"])
@pytest.mark.parametrize(("between", "calls"), [("chain", 1), ("tool", 2)])
def test_a_span_between_two_records_of_one_call(tmp_path, kind, between, calls):
    """A chain or an agent between a framework's span and the client's changes nothing; what a tool asks is its own call."""
    made = list(nested(kind, between))
    log = made_logs.write(tmp_path / "log.jsonl", map(json.dumps, made))
    report = made_logs.read(log, tmp_path / "out", kind).report
    assert (report.calls, report.repeated, report.other) == (calls, 2 - calls, 2)
    assert made_logs.accounted(report)
    # By another case id the span between has none, and is still no trouble.
    path = "metadata.session" if kind == "langfuse" else "session"
    report = importers.read(kind, log, output=tmp_path / "sessions", case=path).report
    assert (report.calls + report.repeated, report.bad) == (2, 0)
    assert made_logs.accounted(report)


def nested(kind, between):
    """Yield records: a root, a call, what stands between, and the same call again."""
    for number, parent, what in ((1, None, "chain"), (2, 1, "call"), (3, 2, between), (4, 3, "call")):
        session = "s" if what == "call" else ["no", "text"]
        if kind == "langfuse":
            record = {"id": f"o{number}", "traceId": "t", "metadata": {"session": session}}
            record |= {"parentObservationId": parent and f"o{parent}"}
            kinds = {"call": {"type": "GENERATION", "model": M}, "chain": {"type": "CHAIN"}, "tool": {"type": "TOOL"}}
            yield record | kinds[what]
            continue
        name, chain, tool = SPAN[kind]
        span = made_logs.span(1, number, M, attributes={"llm.model_name": M, name: {"chain": chain, "tool": tool}.get(what, "chat" if kind == "otel" else "LLM")})  # fmt: skip
        if what == "call":
            span["attributes"].append(made_logs.attribute("session", session))
        if parent:
            span["parentSpanId"] = f"{parent + 1:016x}"
        yield json.loads(made_logs.line(span))


# --- rows ----------------------------------------------------------------------------------------------------------

NUMBERS = ("input_tokens", "cached_input_tokens", "output_tokens", "cost_usd", "latency_s")
attempts = st.lists(
    st.fixed_dictionaries(
        {"status": st.sampled_from(["ok", "error", "refused", "timeout"])}
        | {name: st.none() | st.integers(0, 9) for name in NUMBERS}
    ),
    min_size=2,
    max_size=4,
)


def slow_sum(name, made):
    """Add a value up by the rules of the document: what failed cost nothing, but how long it took nobody knows."""
    total = None
    for each in made:
        if each[name] is not None:
            total = (total or 0) + each[name]
        elif name == "latency_s":
            return None
        elif name == "cached_input_tokens" and each["status"] == "ok":
            if each["input_tokens"] is None:
                return None
        elif each["status"] not in {"error", "refused"}:
            return None
    return total


@given(attempts)
def test_a_row_costs_what_all_its_calls_cost(made):
    """Each total is known only where every call's part of it is, and the last good answer is the one that counts."""
    row = grouped(*(call(str(n), started=n, answer=str(n), **each) for n, each in enumerate(made)))[0].rows[0]
    assert {name: row[name] for name in NUMBERS} == {name: slow_sum(name, made) for name in NUMBERS}
    good = [n for n, each in enumerate(made) if each["status"] == "ok"] or [len(made) - 1]
    assert (row["answer"], row["status"]) == (str(good[-1]), made[good[-1]]["status"])
    assert row["attempts"] == ", ".join(each["status"] for each in made)


def test_runs_that_a_log_names_are_its_runs():
    """A named run takes the calls after it that name none, and a call by itself keeps the run it names."""
    made, _ = grouped(call("a", run=4, started=1), call("b", started=2), call("d", run=1, started=3))
    assert [(row["run"], "attempts" in row) for row in made.rows] == [(4, True), (1, False)]
    assert [row["run"] for row in grouped(call("a", run=3))[0].rows] == [3]


def test_records_of_one_id_that_differ_take_no_other_call_with_them():
    """Both are left out; a third call of the same case stays, and so do calls without any id."""
    made, aside = grouped(call("a", answer="x"), call("a", answer="y"), call("b", answer="z"), call(None, model=N))
    assert [row["answer"] for row in made.rows] == [None, "z"]
    assert aside == [("a", "records with one id say different things")] * 2


# --- parts ---------------------------------------------------------------------------------------------------------


def part(own, **more):
    return Call(case="c", id=own, join="a", part=True, **more)


@pytest.mark.parametrize(
    ("mine", "parts", "answer", "samples", "status", "prompt"),
    [
        ({}, [{"answer": "x"}], "x", None, "ok", None),
        ({}, [{"answer": "x"}, {"answer": "y"}], "x", ["x", "y"], "ok", None),
        ({"answer": "own"}, [{"answer": "x"}, {"answer": "y"}], "own", None, "ok", None),
        ({}, [{"status": "refused"}], None, None, "refused", None),
        ({"status": "timeout"}, [{"status": "refused"}], None, None, "timeout", None),
        ({}, [{"prompt": "p"}], None, None, "ok", "p"),
        ({}, [{"prompt": "p"}, {"prompt": "q"}], None, None, "ok", "p q"),
        ({"prompt": "own"}, [{"prompt": "p"}, {"prompt": "q"}], None, None, "ok", "own"),
    ],
)
def test_a_call_is_completed_by_its_parts(mine, parts, answer, samples, status, prompt):
    """What a call says itself goes before what its parts say; several answers are samples, and the first is the answer."""
    made = [part(f"p{n}", **each) for n, each in enumerate(parts)]
    completed = grouping._completed(call("a", join="a", **mine), made)
    told = (completed.answer, completed.samples, completed.status, completed.prompt)
    assert told == (answer, samples, status, prompt)
    found, aside = grouped(call("a", join="a", **mine), *made)
    assert (found.rows[0]["answer"], found.joined, aside) == (answer, len(parts), [])


# --- columns -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other", "shared"),
    [
        (3, 3, 3), (3, 4, "each its own"), ("en", "en", "en"), ("en", "pt", None), (3, "3", None), ("3", 3, None),
        (3, 3.0, "each its own"), (True, False, None), (True, 1, None),
    ],
)  # fmt: skip
def test_columns_of_a_case_agree_or_are_numbers_of_each_call(one, other, shared):
    """Two numbers that differ are each call's own; everything else that differs sets the whole case aside."""
    made, aside = grouped(call("a", columns={"x": one}), call("b", model=N, columns={"x": other}))
    if shared is None:
        assert (made.rows, [reason for _, reason in aside]) == ([], ["x differs between the records of one case"] * 2)
    else:
        assert [row["x"] for row in made.rows] == ([other, one] if shared == "each its own" else [shared] * 2)


@given(st.lists(st.sampled_from([None, True, False]), min_size=1, max_size=4))
@settings(deadline=None)
def test_a_cache_answered_where_it_answered_every_call(said):
    """A case a cache answered in part came to the cascade; where nothing says a word about caches, nothing is said."""
    made, _ = grouped(
        *(call(str(n), model=f"m{n}", columns={} if one is None else {"cached": one}) for n, one in enumerate(said))
    )
    expected = None if set(said) == {None} else set(said) == {True}
    assert {row.get("cached") for row in made.rows} == {expected}


def test_a_case_that_is_left_out_counts_nowhere():
    """Retries that were put together are not counted of a case whose calls then contradict each other."""
    found = [
        call("a", status="error", started=1), call("b", started=2),
        call("d", model=N, variant="x", started=3), call("e", model=N, variant="y", started=4),
    ]  # fmt: skip
    made, aside = grouped(*found)
    assert (made.rows, made.calls, made.merged, made.repeated, len(aside)) == ([], 0, 0, 0, 4)
    assert grouped(*found[:3])[0].merged == 1


# --- the map -------------------------------------------------------------------------------------------------------


def chosen(models, columns=(), case=None):
    return choices.read(catalogue.find("otel"), case=case, models=models, columns=dict(columns))


@given(st.lists(st.lists(st.sampled_from(["a", "b", "a-2025", "d"]), min_size=1, max_size=2), max_size=8))
def test_names_that_were_looked_up_are_remembered_rightly(seen):
    """A call's tier is the same whatever calls came before it, also of models that share a name or have none."""
    mapped = chosen({"mini": "a", "flagship": "b"})
    for names in seen:
        each = Call(case="c", names=tuple(names))
        answers = []
        for map_ in (mapped, chosen({"mini": "a", "flagship": "b"})):
            try:
                answers.append(map_.name(each))
            except Aside as problem:
                answers.append(problem.args)
        assert answers[0] == answers[1]


@pytest.mark.parametrize(
    ("view", "label"),
    [
        ({"tier": "cheap", "beta": False}, "mini"), ({"tier": "cheap", "beta": True}, "beta"), ({"tier": "cheap"}, None),
        ({"beta": False}, None), ({"tier": "dear", "size": 4}, "flagship"), ({"tier": "dear", "size": 4, "also": "x"}, "two"),
    ],
)  # fmt: skip
def test_a_label_told_by_values_needs_all_of_them(view, label):
    """Truth values and numbers are compared as they are written; a record that two labels fit is refused."""
    mapped = chosen(
        {
            "mini": {"tier": "cheap", "beta": "false"},
            "beta": {"tier": "cheap", "beta": True},
            "flagship": {"tier": "dear", "size": 4},
            "other": {"also": "x"},
        }
    )
    if label != "two":
        assert mapped.label(view) == label
        return
    with pytest.raises(Aside, match="two labels of the map fit"):
        mapped.label(view)


def test_columns_are_of_the_call_or_of_its_case():
    """Outcomes and the run are of the call, a time becomes nanoseconds, and what a record lacks is left out."""
    columns = {"run": "r", "confidence": "c", "language": "l", "decided_at": "at", "missing": "m"}
    view = {"r": 2, "c": 0.5, "l": "en", "at": "2026-07-06T09:00:00Z"}
    outcomes, found = chosen({}, columns).columns_of(view)
    assert outcomes | found == {"run": 2, "confidence": 0.5, "language": "en", "decided_at": 1783328400 * 10**9}
    assert "run" in outcomes
    assert {"language", "decided_at"} <= found.keys()


def test_a_log_of_nothing_but_spans_around_calls_is_no_log_of_calls(tmp_path):
    """Spans that are no calls make no case, with a parent or without."""
    chain = {**made_logs.span(1, 1, attributes={"gen_ai.operation.name": "invoke_agent"}), "parentSpanId": "f" * 16}
    log = made_logs.write(tmp_path / "log.jsonl", [made_logs.line(chain)])
    with pytest.raises(DataError, match="no call to a model could be used, of 1 records; 1 are no calls"):
        made_logs.read(log, tmp_path / "out")


# --- values --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("found", "message", "events", "status"),
    [
        ({}, None, [], "error"),
        ({}, "request timed out", [], "timeout"),
        ({"error.type": "ReadTimeout"}, None, [], "timeout"),
        ({}, None, [("exception", "openai.APITimeoutError")], "timeout"),
        ({}, None, [("note", "openai.APITimeoutError")], "error"),
        ({}, "content_filter", [], "refused"),
    ],
)
def test_how_a_span_failed_is_read_from_all_it_says(found, message, events, status):
    """The status of a failed span is told by its error, its message and its exceptions; other events say nothing."""
    told = [
        otlp._Event(name=name, attributes=[otlp._Pair("exception.type", otlp._Value(stringValue=kind))])
        for name, kind in events
    ]
    assert otlp.status(otlp.Span(status=otlp._Status(2, message), events=told), found) == status
    assert otlp.status(otlp.Span(), {}) == "ok"


@pytest.mark.parametrize(
    ("written", "ids"),
    [
        ("00F067AA0BA902B7", "00f067aa0ba902b7"), ("APBnqgupArc=", "00f067aa0ba902b7"), ("APBnqgupArc", "APBnqgupArc"),
        ("APBnqgupArcA", "APBnqgupArcA"), ("short", "short"), ("", None), (None, None),
    ],
)  # fmt: skip
def test_an_id_of_a_span_is_eight_bytes_however_it_is_written(written, ids):
    """Hexadecimal and base64 of the same bytes are the same id; what is neither is kept as it is."""
    assert otlp.span_id(written, "spanId") == ids


@pytest.mark.parametrize("values", ["text", [-0.5, "x"], [True], [0.5], [0.0011], [None]])
def test_log_probabilities_are_numbers_up_to_nothing(values):
    """Anything else in their place is a reason; a sure token may be a hair above 0 by rounding."""
    with pytest.raises(Aside, match="log-probabilities are not"):
        calls.logprobs(values)
    assert calls.logprobs([-0.5, 0, 0.001, float("-inf")]) == [-0.5, 0.0, 0.001, float("-inf")]
    assert calls.logprobs([]) is None


@pytest.mark.parametrize(
    ("read", "value", "found"),
    [
        (calls.tokens, calls.MOST_TOKENS, calls.MOST_TOKENS), (calls.tokens, calls.MOST_TOKENS + 1, Aside),
        (calls.tokens, "0", 0), (calls.tokens, 3.0, 3), (calls.tokens, "3.0", Aside), (calls.tokens, "٣", Aside),
        (calls.nanoseconds, calls.LAST_NANOSECOND, calls.LAST_NANOSECOND), (calls.nanoseconds, calls.LAST_NANOSECOND + 1, Aside),
        (calls.nanoseconds, "17", 17), (calls.nanoseconds, 1, 1), (calls.nanoseconds, "0", None), (calls.nanoseconds, "now", Aside),
        (calls.nanoseconds, True, Aside), (calls.nanoseconds, "٣", Aside), (calls.nanoseconds, -1, Aside),
        (calls.text, 2**63 - 1, str(2**63 - 1)), (calls.text, 2**63, Aside), (calls.text, True, Aside), (calls.text, "", None),
        (calls.dollars, calls.MOST_DOLLARS, calls.MOST_DOLLARS), (calls.dollars, 0, 0), (calls.dollars, "1000000.1", Aside),
        (calls.dollars, -1e-9, Aside), (calls.seconds, calls.MOST_SECONDS, calls.MOST_SECONDS), (calls.seconds, 1.1e9, Aside),
        (calls.text, "x" * 4096, "x" * 4096), (calls.text, "x" * 4097, Aside), (calls.text, 1.5, Aside),
    ],
)  # fmt: skip
def test_values_at_the_ends_of_what_is_read(read, value, found):
    """The last value that is read is read as it is, and the next one is a reason."""
    if found is Aside:
        with pytest.raises(Aside):
            read(value, "it")
    else:
        assert read(value, "it") == found


@pytest.mark.parametrize(
    ("value", "held"),
    [
        (2**63 - 1, 2**63 - 1), (2**63, str(2**63)), (-(2**63), -(2**63)), (-(2**63) - 1, str(-(2**63) - 1)),
        (True, True), (0.5, 0.5), (float("inf"), "inf"), ([1, {"b": 2, "a": 1}], '[1,{"a":1,"b":2}]'), (None, None),
    ],
)  # fmt: skip
def test_a_column_holds_what_fits_and_the_text_of_what_does_not(value, held):
    """Whole numbers of 64 bits stay numbers; larger ones, infinities, lists and objects become text."""
    found = calls.scalar(value)
    assert (found, type(found)) == (held, type(held))


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("a", {"b": 1}), ("a.b", 1), ("x.y", 2), ("x.y.z", 3), ("deep.er.est", 4), ("a.c", None), ("a.b.c", None), ("c", None),
    ],
)  # fmt: skip
def test_a_path_leads_through_keys_that_hold_dots(path, found):
    """Keys of any length, with dots or without; a path that ends at something else leads nowhere."""
    view = {"a": {"b": 1}, "x.y": 2, "x": {"y": {"z": 3}}, "deep.er": {"est": 4}, "deep": {"er": 5}}
    assert calls.lookup(view, path) == found


def test_a_long_value_is_shown_short():
    """Sixty characters are shown whole; of more, a part that says that it is one."""
    assert calls.shown("x" * 58) == repr("x" * 58)
    assert calls.shown("x" * 59) == f"'{'x' * 56}…"
