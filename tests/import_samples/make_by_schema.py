"""Write small logs by the documented schemas of tools that cannot be run here: batches, exports, spend logs, decisions.

    python make_by_schema.py FOLDER

It needs openai and anthropic, whose types check the bodies of answers. Sources: the API references of OpenAI and
Anthropic on batches, `SpendLogsPayload` of litellm 1.106, Langfuse's "Blob storage export field reference" and public
API, `EvaluateResult` of promptfoo 0.123.
"""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

CASES = [
    ("r-1", "en", "Where is my parcel?", "track", "track", 0.97),
    ("r-2", "en", "I want my money back.", "refund", "refund", 0.93),
    ("r-3", "pt", "Onde está a minha encomenda?", "refund", "track", 0.55),
    ("r-4", "de", "Bitte kündigen Sie mein Abo.", "cancel", "cancel", 0.91),
    ("r-5", "pt", "Quero cancelar.", "cancel", "cancel", 0.42),
]


def lines(path, records):
    path.write_text("".join(json.dumps(each, ensure_ascii=False) + "\n" for each in records), encoding="utf-8")


def openai_batch(folder):
    from openai.types.chat import ChatCompletion

    folder.mkdir(exist_ok=True)
    for model in ("gpt-4.1-nano", "gpt-4.1"):
        asked, answered, failed = [], [], []
        for number, (case, _, question, cheap, flagship, _) in enumerate(CASES):
            body = {"model": model, "messages": [{"role": "user", "content": question}], "logprobs": True}
            asked.append({"custom_id": case, "method": "POST", "url": "/v1/chat/completions", "body": body})
            result = {"id": f"batch_req_{model}_{number}", "custom_id": case}
            if (case, model) == ("r-5", "gpt-4.1"):
                error = {
                    "code": "batch_expired",
                    "message": "This request could not be executed before the batch expired.",
                }
                failed.append({**result, "response": None, "error": error})
                continue
            text = cheap if model.endswith("nano") else flagship
            completion = {
                "id": f"chatcmpl-{model}-{number}", "object": "chat.completion", "created": 1783328400 + number,
                "model": f"{model}-2025-04-14",
                "choices": [{"index": 0, "finish_reason": "stop",
                             "message": {"role": "assistant", "content": text, "refusal": None},
                             "logprobs": {"refusal": None, "content": [
                                 {"token": text, "logprob": -0.02 * (number + 1), "bytes": None, "top_logprobs": []}]}}],
                "usage": {"prompt_tokens": 14, "completion_tokens": 1, "total_tokens": 15,
                          "prompt_tokens_details": {"cached_tokens": 0}},
            }  # fmt: skip
            ChatCompletion.model_validate(completion)
            response = {"status_code": 200, "request_id": f"req_{number}", "body": completion}
            answered.append({**result, "response": response, "error": None})
        lines(folder / f"{model}-input.jsonl", asked)
        lines(folder / f"{model}-output.jsonl", answered[::-1])
        if failed:
            lines(folder / f"{model}-errors.jsonl", failed)


def anthropic_batch(folder):
    from anthropic.types.messages import MessageBatchIndividualResponse

    folder.mkdir(exist_ok=True)
    for model in ("claude-haiku", "claude-opus"):
        asked, answered = [], []
        for number, (case, _, question, cheap, flagship, _) in enumerate(CASES):
            messages = [{"role": "user", "content": question}]
            asked.append({"custom_id": case, "params": {"model": model, "max_tokens": 16, "messages": messages}})
            text = cheap if model == "claude-haiku" else flagship
            message = {
                "id": f"msg_{model}_{number}", "type": "message", "role": "assistant", "model": model,
                "content": [{"type": "text", "text": text}], "stop_reason": "end_turn", "stop_sequence": None,
                "usage": {"input_tokens": 9, "cache_read_input_tokens": 40, "cache_creation_input_tokens": 0,
                          "output_tokens": 3},
            }  # fmt: skip
            result = {"type": "succeeded", "message": message}
            if (case, model) == ("r-5", "claude-opus"):
                result = {"type": "expired"}
            answered.append({"custom_id": case, "result": result})
            MessageBatchIndividualResponse.model_validate(answered[-1])
        lines(folder / f"{model}-requests.jsonl", asked)
        lines(folder / f"{model}-results.jsonl", answered[::-1])


def litellm_spend(path):
    rows = []
    for number, (case, language, question, cheap, flagship, confidence) in enumerate(CASES):
        calls = [("gpt-4.1-nano", cheap)] + ([("gpt-4.1", flagship)] if confidence < 0.8 else [])
        for place, (model, text) in enumerate(calls):
            response = {"choices": [{"message": {"role": "assistant", "content": text}, "finish_reason": "stop"}]}
            rows.append({
                "request_id": f"chatcmpl-{number}-{place}", "call_type": "acompletion", "api_key": "", "spend": 0.00002,
                "total_tokens": 15, "prompt_tokens": 14, "completion_tokens": 1,
                "startTime": f"2026-07-06T09:0{number}:0{place}+00:00", "endTime": f"2026-07-06T09:0{number}:0{place + 1}+00:00",
                "completionStartTime": None, "model": model, "model_id": "", "model_group": model, "api_base": "",
                "user": "", "metadata": json.dumps({"spend_logs_metadata": {"language": language}}), "cache_hit": "False",
                "cache_key": "", "request_tags": "[]", "messages": [{"role": "user", "content": question}],
                "response": response, "session_id": case, "status": "success", "request_duration_ms": 1000,
            })  # fmt: skip
    lines(path, rows)


def langfuse(path):
    rows = []
    for number, (case, language, question, cheap, flagship, confidence) in enumerate(CASES):
        minute = f"2026-07-06 09:0{number}"
        rows.append({"id": f"span-{case}", "trace_id": case, "type": "SPAN", "name": "support request",
                     "start_time": f"{minute}:00.000000", "end_time": f"{minute}:04.000000", "session_id": f"s-{number // 2}",
                     "metadata": {"language": language, "confidence": confidence}, "level": "DEFAULT"})  # fmt: skip
        calls = [("gpt-4.1-nano", cheap)] + ([("gpt-4.1", flagship)] if confidence < 0.8 else [])
        for place, (model, text) in enumerate(calls):
            rows.append({
                "id": f"gen-{case}-{place}", "trace_id": case, "parent_observation_id": f"span-{case}", "type": "GENERATION",
                "name": "answer", "start_time": f"{minute}:0{place}.000000", "end_time": f"{minute}:0{place + 1}.250000",
                "session_id": f"s-{number // 2}", "metadata": {"language": language}, "level": "DEFAULT", "status_message": None,
                "provided_model_name": model, "input": json.dumps([{"role": "user", "content": question}]),
                "output": json.dumps({"role": "assistant", "content": text}),
                "usage_details": {"input": 14, "input_cached_tokens": 6, "output": 1, "total": 21},
                "cost_details": {"input": 0.00001, "output": 0.00001, "total": 0.00002}, "total_cost": 0.00002,
            })  # fmt: skip
    lines(path, rows)


def promptfoo(path):
    results = []
    for number, (case, language, question, cheap, flagship, _) in enumerate(CASES):
        for provider, text in (("openai:gpt-4.1-nano", cheap), ("openai:gpt-4.1", flagship)):
            failed = (case, provider) == ("r-5", "openai:gpt-4.1")
            response = {
                "output": text,
                "tokenUsage": {"total": 15, "prompt": 14, "completion": 1},
                "cost": 0.00002,
                "cached": False,
            }
            results.append({
                "id": f"{case}-{provider}", "promptIdx": 0, "testIdx": number, "promptId": "p1",
                "provider": {"id": provider, "label": ""}, "prompt": {"raw": f"Intent of: {question}", "label": "intent"},
                "vars": {"question": question, "language": language}, "testCase": {"vars": {"question": question}},
                "response": {"error": "API error: 429 Too Many Requests"} if failed else response,
                "error": "API error: 429 Too Many Requests" if failed else None, "failureReason": 2 if failed else 0,
                "success": not failed, "score": 0 if failed else 1, "latencyMs": 350, "namedScores": {},
                "gradingResult": None if failed else {"pass": True, "score": 1, "componentResults": [{"pass": True, "score": 1}]},
            })  # fmt: skip
    document = {
        "evalId": "eval-sample", "config": {"description": "intents"}, "shareableUrl": None,
        "results": {"version": 3, "timestamp": "2026-07-06T09:00:00Z", "prompts": [], "results": results, "stats": {}},
    }  # fmt: skip
    path.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def decisions(path):
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["decided_at", "request_id", "language", "confidence", "escalated", "served_by"])
        for number, (case, language, _, _, _, confidence) in enumerate(CASES):
            escalated = confidence < 0.8
            served = "gpt-4.1" if escalated else "gpt-4.1-nano"
            writer.writerow(
                [f"2026-07-06T09:0{number}:00Z", case, language, confidence, str(escalated).lower(), served]
            )


def main(folder):
    openai_batch(folder / "openai_batch")
    anthropic_batch(folder / "anthropic_batch")
    litellm_spend(folder / "litellm_spend.jsonl")
    langfuse(folder / "langfuse.jsonl")
    promptfoo(folder / "promptfoo.json")
    decisions(folder / "decisions.csv")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
