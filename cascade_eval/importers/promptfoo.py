"""Results of promptfoo: the JSON file of an evaluation, or its JSONL output with a result on each line.

A case is a set of `vars`, so that the same question to several providers is one case however many tests and files it
stands in. Several prompts for one provider are refused unless the map names one of them for each tier.

Source: promptfoo 0.123, `EvaluateResult` and `OutputFile`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cascade_eval.importers import calls, messages
from cascade_eval.importers.calls import Aside, Call
from cascade_eval.importers.definition import Importer

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

ERROR = 2
"""`failureReason` of a call that failed; a failed assertion is 1, and was answered."""


def _records(decoded: Any) -> Iterable[Any]:
    if not isinstance(decoded, dict):
        raise Aside("the line is not an object", calls.shown(decoded))
    results = decoded.get("results")
    if isinstance(results, dict):
        results = results.get("results")
    if isinstance(results, list):
        return results
    if "provider" not in decoded:
        raise Aside("neither results of an evaluation nor one result")
    return [decoded]


def _read(record: Any) -> tuple[Sequence[Call], Mapping[str, Any]]:
    record = messages.mapping(record, "a result")
    provider = record.get("provider")
    told = provider if isinstance(provider, dict) else {"id": provider}
    names = [name for key in ("label", "id") if (name := calls.text(told.get(key), f"provider.{key}"))]
    if not names:
        raise Aside("no provider")
    variables = messages.mapping(record.get("vars"), "vars")
    response = messages.mapping(record.get("response"), "response")
    prompt = messages.mapping(record.get("prompt"), "prompt")
    raw = prompt.get("raw")
    case = f"vars-{calls.digest(variables)}" if variables else ""
    usage = messages.mapping(messages.first(response, ("tokenUsage",)) or record.get("tokenUsage"), "tokenUsage")
    from_cache = response.get("cached") is True
    call = Call(
        case=case,
        names=tuple(dict.fromkeys(names)),
        id=calls.text(record.get("id"), "the id"),
        variant=calls.text(record.get("promptId"), "promptId") or str(record.get("promptIdx")),
        status=_status(record, response),
        answer=messages.content(response.get("output")),
        token_logprobs=calls.logprobs(response.get("logProbs")),
        input_tokens=None if from_cache else calls.tokens(usage.get("prompt"), "tokenUsage.prompt"),
        output_tokens=None if from_cache else calls.tokens(usage.get("completion"), "tokenUsage.completion"),
        cost_usd=_cost(record, response, from_cache=from_cache),
        latency_s=None if from_cache else _latency(record),
        prompt=messages.prompt(raw),
        input=raw if isinstance(raw, str) else None,
        outcomes=_score(record),
    )
    return (call,), {**record, "case": case}


def _status(record: Mapping[str, Any], response: Mapping[str, Any]) -> str:
    if response.get("error") or record.get("failureReason") == ERROR:
        return calls.failure(response.get("error"), record.get("error"))
    return "refused" if response.get("isRefusal") is True else "ok"


def _cost(record: Mapping[str, Any], response: Mapping[str, Any], *, from_cache: bool) -> float | None:
    """Return what the call cost; an answer from promptfoo's own cache says nothing where it says zero."""
    found = calls.dollars(messages.first(response, ("cost",)) if "cost" in response else record.get("cost"))
    return None if from_cache and not found else found


def _latency(record: Mapping[str, Any]) -> float | None:
    found = calls.amount(record.get("latencyMs"), "latencyMs", calls.MOST_SECONDS * 1000)
    return None if found is None else found / 1000


def _score(record: Mapping[str, Any]) -> dict[str, Any]:
    graded = messages.mapping(record.get("gradingResult"), "gradingResult").get("componentResults")
    found = calls.scalar(record.get("score"))
    # Without any assertion the score says only that the call went through.
    return {"score": float(found)} if graded and isinstance(found, int | float) else {}


IMPORTER = Importer(
    name="promptfoo",
    help="Results of promptfoo evaluations.",
    records=_records,
    read=_read,
    cases={"vars": ("case",), "test": ("testIdx",)},
)
