"""OpenAI's Batch API: the file of requests, the file of results, and the file of errors, told apart by their lines.

A case is a `custom_id`, so that the same ids sent to the cheap model and to the flagship make one case. A request
without its result is set aside; a result without its request is used as it is. Batches cost half: recorded tokens are
kept, so that prices are those of the cascade and not of the batch.

Source: OpenAI API reference, "Batch", request input and request output objects.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cascade_eval.importers import calls, lines, messages
from cascade_eval.importers.calls import Aside, Call
from cascade_eval.importers.definition import Importer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ANSWERING = ("/chat/completions", "/completions", "/responses")


def _read(record: Mapping[str, Any]) -> tuple[Sequence[Call], Mapping[str, Any]]:
    custom = calls.text(record.get("custom_id"), "custom_id") or ""
    if not custom:
        raise Aside("no custom_id")
    if "response" in record or "error" in record:
        return (_result(custom, record),), record
    if "body" not in record:
        raise Aside("neither a request nor a result of a batch")
    url = record.get("url")
    if isinstance(url, str) and not url.endswith(ANSWERING):
        return (), record
    body = messages.mapping(record["body"], "body")
    model = calls.text(body.get("model"), "the model")
    if model is None:
        raise Aside("no model")
    asked = messages.first(body, ("messages", "input", "prompt"))
    part = Call(
        case=custom,
        names=(model,),
        join=custom,
        part=True,
        prompt=messages.prompt(asked),
        input=messages.question(asked),
    )
    return (part,), record


def _result(custom: str, record: Mapping[str, Any]) -> Call:
    response = messages.mapping(record.get("response"), "response")
    body = messages.mapping(response.get("body"), "body")
    known = calls.text(record.get("id"), "id")
    failed = record.get("error") or body.get("error")
    code = response.get("status_code")
    if failed or not response or (isinstance(code, int) and code >= 400):
        told = failed if isinstance(failed, dict) else {"message": failed}
        model = calls.text(body.get("model"), "the model")
        status = calls.failure(told.get("code"), told.get("message"), told.get("type"), code)
        return Call(case=custom, names=(model,) if model else (), id=known, join=custom, status=status)
    model = calls.text(body.get("model"), "the model")
    if model is None:
        raise Aside("no model")
    answer = messages.completion(body)
    return Call(
        case=custom,
        names=(model,),
        id=known,
        join=custom,
        started=calls.moment(messages.first(body, ("created", "created_at")), "created"),
        status=answer.status,
        answer=answer.text,
        samples=answer.samples,
        token_logprobs=answer.token_logprobs,
        input_tokens=answer.input_tokens,
        cached_input_tokens=answer.cached_input_tokens,
        output_tokens=answer.output_tokens,
    )


IMPORTER = Importer(
    name="openai_batch",
    help="OpenAI batches: requests and results.",
    records=lines.unchanged,
    read=_read,
    cases={"request": ("custom_id",)},
)
