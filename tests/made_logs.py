"""Made logs in OTLP JSON, and the rows a slow, plain reading of the same calls gives."""

from __future__ import annotations

import json

import pyarrow.parquet as pq

from cascade_eval import importers

MODELS = ("gpt-4.1-nano", "gpt-4.1")
START = 1783328400_000000000


def attribute(key, value):
    kind = "intValue" if isinstance(value, int) else "stringValue"
    return {"key": key, "value": {kind: str(value)}}


def span(trace, number, model=MODELS[0], **more):
    """Return one span; `status`, `prompt`, `answer`, `tokens` and `seconds` say what happened."""
    found = {"gen_ai.operation.name": "chat", "gen_ai.request.model": model}
    if more.get("prompt") is not None:
        messages = [{"role": "user", "parts": [{"type": "text", "content": more["prompt"]}]}]
        found["gen_ai.input.messages"] = json.dumps(messages)
    if more.get("answer") is not None:
        found["gen_ai.output.messages"] = json.dumps(
            [{"role": "assistant", "parts": [{"type": "text", "content": more["answer"]}]}]
        )
    if more.get("tokens") is not None:
        found |= {"gen_ai.usage.input_tokens": more["tokens"], "gen_ai.usage.output_tokens": 1}
    status = more.get("status", "ok")
    if status != "ok":
        found["error.type"] = {"timeout": "APITimeoutError", "error": "500"}[status]
    found |= more.get("attributes", {})
    start = START + number * 10**9
    return {
        "traceId": f"{trace:032x}",
        "spanId": f"{number + 1:016x}",
        "name": "chat",
        "startTimeUnixNano": str(start),
        "endTimeUnixNano": str(start + more.get("seconds", 1) * 10**9),
        "attributes": [attribute(key, value) for key, value in found.items()],
        "status": {"code": 2} if status != "ok" else {},
    }


def line(*spans):
    return json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": list(spans)}]}]})


def write(path, lines):
    path.write_text("".join(f"{each}\n" for each in lines), encoding="utf-8")
    return path


def rows(folder):
    """Return the rows of an import, nulls left out."""
    found = pq.ParquetFile(folder / "cases.parquet").read().to_pylist()
    return [{name: value for name, value in row.items() if value is not None} for row in found]


def slow_rows(calls):
    """Return `{(case, model, run): row}` of calls, one by one, by the rules of the document.

    A call is a dictionary of `trace`, `model`, `number` (its order in time), `prompt`, `status`, `answer`, `tokens`.
    """
    runs = {}
    for call in sorted(calls, key=lambda call: call["number"]):
        key = call["trace"], call["model"]
        mine = runs.setdefault(key, [[]])
        last = mine[-1][-1] if mine[-1] else None
        if last and last["status"] == "ok" and last["prompt"] is not None and last["prompt"] == call["prompt"]:
            mine.append([])
        mine[-1].append(call)
    found = {}
    for (trace, model), attempts in runs.items():
        for run, each in enumerate(attempts):
            good = [call for call in each if call["status"] == "ok"]
            shown = good[-1] if good else each[-1]
            found[f"{trace:032x}", model, run] = {
                "status": shown["status"],
                "answer": shown["answer"],
                "input_tokens": _charged(each),
                "latency_s": float(len(each)),
            }
    return found


def _charged(attempts):
    total, known = 0, False
    for call in attempts:
        if call["tokens"] is not None:
            total, known = total + call["tokens"], True
        elif call["status"] != "error":
            return None
    return total if known else None


def accounted(report):
    """Whether every record of a report went somewhere."""
    parts = report.calls + report.joined + report.repeated + report.other
    return report.records + report.second == parts + sum(report.undeclared.values()) + report.bad


def read(path, output, kind="otel", **said):
    return importers.read(kind, path, output=output, **said)
