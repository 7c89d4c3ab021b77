"""Calls from cases and models: prompts rendered, requests written, keys and worst cases worked out."""

from __future__ import annotations

import hashlib
import json
import re
from typing import TYPE_CHECKING, Any, Final

from cascade_eval.recording import clients, pricing
from cascade_eval.recording.nouns import Call

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cascade_eval.recording.nouns import Case, Model
    from cascade_eval.recording.pricing import Sheet

_NAMED = re.compile(r"\{\{|\}\}|\{([A-Za-z_][\w.]*)\}")

_SETTINGS: Final = (
    "client",
    "model",
    "prompt",
    "system",
    "max_output_tokens",
    "temperature",
    "top_p",
    "seed",
    "logprobs",
    "stream",
    "extra",
)
"""What decides about an answer. The address does not: a server may move."""


def columns(template: str) -> list[str]:
    """Return the columns a template names.

    Examples
    --------
    >>> columns("Answer in {language}: {input}. As JSON: {{input}} {1}")
    ['language', 'input']
    """
    return [match[1] for match in _NAMED.finditer(template) if match[1]]


def render(template: str, values: Mapping[str, Any]) -> str:
    """Put values into a template once: braces in a value stay as they are, ``{{`` and ``}}`` are braces.

    Parameters
    ----------
    template
        Text with ``{column}``.
    values
        Value by column; text as it is, anything else as JSON.

    Examples
    --------
    >>> render("{input} {{input}} {n}", {"input": "{n}?", "n": [1, 2]})
    '{n}? {input} [1, 2]'
    """

    def value(match: re.Match[str]) -> str:
        if match[1] is None:
            return match[0][0]
        found = values[match[1]]
        return found if isinstance(found, str) else json.dumps(found, ensure_ascii=False)

    return _NAMED.sub(value, template)


def settings(model: Model) -> dict[str, Any]:
    """Return the settings of a model that decide about its answers."""
    return {name: getattr(model, name) for name in _SETTINGS}


def call(case: Case, model: Model, run: int, sheet: Sheet, answer: str | None = None) -> Call:
    """Write one call.

    Parameters
    ----------
    case, model, run
        Who is asked what, and the repeat.
    sheet
        What the model charges.
    answer
        What a judge grades.

    Returns
    -------
    Call
        Its worst case is that of one request: all input at the dearest price, and the longest output.
    """
    values = {"case_id": case.case_id, **case.columns, "answer": answer}
    prompt = render(model.prompt, values)
    system = None if model.system is None else render(model.system, values)
    body = request(model, prompt, system, run)
    worst = sheet.worst(pricing.input_bound(body), model.max_output_tokens)
    return Call(_key(case, model, prompt, system, run), case, model, run, body, worst)


def _key(case: Case, model: Model, prompt: str, system: str | None, run: int) -> str:
    parts = [case.case_id, model.name, settings(model), prompt, system, run]
    return hashlib.sha256(json.dumps(parts, ensure_ascii=True, sort_keys=True).encode()).hexdigest()[:32]


def request(model: Model, prompt: str, system: str | None, run: int) -> dict[str, Any]:
    """Return the request as it is sent, in the words of the model's interface."""
    plain = {
        "model": model.model,
        "temperature": model.temperature,
        "top_p": model.top_p,
        "stream": model.stream or None,
    }
    user = {"role": "user", "content": prompt}
    if model.client == "anthropic":
        own = {"messages": [user], "system": system, "max_tokens": model.max_output_tokens}
    else:
        own = _openai(model, [*([] if system is None else [{"role": "system", "content": system}]), user], run)
    return {name: value for name, value in {**plain, **own, **model.extra}.items() if value is not None}


def _seed(seed: int, prompt: str, run: int) -> int:
    """Give each question and repeat a draw of its own: under one seed for all, every case draws the same numbers."""
    digest = hashlib.blake2b(f"{seed}\x1f{run}\x1f{prompt}".encode("utf-8", "surrogatepass"), digest_size=4).digest()
    return int.from_bytes(digest, "big") >> 1


def _openai(model: Model, messages: list[dict[str, str]], run: int) -> dict[str, Any]:
    # OpenAI's reasoning models take only the newer name; many other servers know only the older one.
    own = clients.host(model).endswith((*clients.DOMAINS["openai"], ".openai.azure.com"))
    longest = "max_completion_tokens" if own else "max_tokens"
    return {
        "messages": messages,
        longest: model.max_output_tokens,
        "seed": None if model.seed is None else _seed(model.seed, messages[-1]["content"], run),
        "logprobs": None if model.logprobs is None else True,
        "top_logprobs": model.logprobs or None,
        "stream_options": {"include_usage": True} if model.stream else None,
    }
