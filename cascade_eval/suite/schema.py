"""The JSON Schema of a suite, so that editors complete keys and underline what cannot be read."""

from __future__ import annotations

from typing import Any

from cascade_eval import metrics
from cascade_eval.suite import model, promises

_NUMBER = r"([0-9]{1,3}(,[0-9]{3})+|[0-9]+)?(\.[0-9]+)?"
# How a number of each unit is written.
_AMOUNTS = {
    "rate": rf"{_NUMBER}\s*%",
    "ratio": rf"{_NUMBER}\s*%",
    "points": rf"[-−]?{_NUMBER}\s*points?",
    "seconds": rf"{_NUMBER}\s*(ms|s)",
    "dollars": rf"\${_NUMBER}",
    "days": rf"{_NUMBER}\s*days?",
}
_SCOPES = "'overall', 'each <cohort column>', 'each <a> and <b>', or one cohort: '<column>=<value>'."


def schema() -> dict[str, Any]:
    """Return the JSON Schema of a suite, as `suite.schema.json` holds it.

    Examples
    --------
    >>> schema()["properties"]["confidence"]["examples"]
    ['95%']
    """
    generated: dict[str, Any] = model.WrittenSuite.model_json_schema(by_alias=True)
    generated["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    generated["title"] = "A suite of cascade_eval"
    generated["required"] = ["cascades", "budgets"]
    generated["oneOf"] = [{"required": ["goldens"]}, {"required": ["traffic"]}]
    properties = generated["properties"]
    properties["cascades"] |= {"minProperties": 1}
    properties["budgets"] |= {
        "minProperties": 1,
        "additionalProperties": False,
        "properties": {metric.name: _scopes(metric) for metric in metrics.METRICS.values()},
        "patternProperties": {"^escalation from .+$": _scopes(metrics.Metric("", "rate", "Share leaving this tier."))},
    }
    properties["prices"] |= {"additionalProperties": _PRICE}
    properties["agreement"] |= _AGREEMENT
    return generated


def _scopes(metric: metrics.Metric) -> dict[str, Any]:
    bound = _bound(metric.unit, watched=metric.name == promises.WATCHED)
    return {
        "type": "object",
        "description": f"{metric.help} Scopes: {_SCOPES}",
        "minProperties": 1,
        "additionalProperties": False,
        "properties": {"overall": bound},
        **({} if metric.name in promises.WHOLE else {"patternProperties": {"^each .+$": bound, "^[^=]+=.+$": bound}}),
    }


def _bound(unit: metrics.Unit, *, watched: bool = False) -> dict[str, Any]:
    one, bare = _AMOUNTS[unit], rf"[-−]?{_NUMBER}"
    of = r"(\s+of\s+always-flagship)?" if unit == "ratio" else ""
    weekly = rf"|at\s+most\s+{one}\s*,\s*watched\s+weekly" if watched else ""
    pattern = rf"^\s*((at\s+most|at\s+least)\s+{one}|({one}|{bare})\s+to\s+{one}{weekly}){of}\s*$"
    examples = [*promises.EXAMPLES[unit], *(["at most 10%, watched weekly"] if watched else [])]
    return {"type": "string", "pattern": pattern, "examples": examples}


_DOLLARS = {"anyOf": [{"type": "number", "minimum": 0}, {"type": "string", "pattern": rf"^\$? ?{_NUMBER}$"}]}
_PRICE = {
    "type": "object",
    "description": "Dollars per token count, such as {input: $0.10, cached_input: $0.025, output: $0.40, per: 1M tokens}.",
    "additionalProperties": False,
    "properties": {
        "input": _DOLLARS,
        "cached_input": _DOLLARS,
        "output": _DOLLARS,
        "per": {"type": "string", "examples": ["1M tokens"]},
    },
}
_AGREEMENT = {
    "anyOf": [
        {"enum": ["exact", "same label", "same number", "same JSON", "judged"]},
        {"type": "string", "pattern": rf"^(within|similar) {_NUMBER}$", "examples": ["within 0.15", "similar 0.9"]},
        {"type": "object", "minProperties": 1, "maxProperties": 1},
        {
            "type": "object",
            "required": ["rule", "empty answers"],
            "additionalProperties": False,
            "properties": {"rule": True, "empty answers": {"enum": ["agree", "unknown"]}},
        },
    ]
}
