"""Recipes, cases and stand-ins that tests of recording share."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from cascade_eval import recording

FREE = "price: free"
PRICED = "price: {input: $1, output: $2}"


def write_cases(folder, count=5, **columns):
    """Write a file of prompts; return its path."""
    rows = [{"case_id": f"c{i}", "input": f"q{i}", **columns} for i in range(count)]
    path = folder / "cases.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def recipe(folder, text, url="http://127.0.0.1:9/v1", **values):
    """Read a recipe whose `{url}` is the server's."""
    filled = text.replace("{url}", url)
    return recording.parse(filled, file="tiers.record.yaml", base=folder, **values)


def lines(folder):
    """Return the lines of a journal."""
    path = Path(folder) / "answers.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


class Fake:
    """A client that answers from a function of the call and how often the call was sent before."""

    def __init__(self, answer):
        self.answer, self.sent = answer, []

    def __call__(self, _model, _key):
        return self

    async def ask(self, call):
        before = sum(key == call.key for key, _, _ in self.sent)
        self.sent.append((call.key, call.model.name, call.body["messages"][-1]["content"]))
        await asyncio.sleep(0)
        return self.answer(call, before)

    async def close(self):
        pass


def good(answer="yes", tokens=(100, 0, 10), **values):
    return recording.Reply("ok", answer, recording.Usage(*tokens), "usage", **values)


SAMPLED = f"""
cases: cases.jsonl
models:
  mini: {{model: x, base_url: "{{url}}", temperature: 0.7, samples: 2, {PRICED}, max_output_tokens: 50}}
  critic:
    model: y
    base_url: "{{url}}"
    {PRICED}
    prompt: "Is {{answer}} right for {{input}}? PASS or FAIL, and 1 to 5."
    judges: {{of: mini, score: true}}
"""

TWO = f"""
cases: cases.jsonl
models:
  mini: {{model: x, base_url: "{{url}}", {PRICED}, max_output_tokens: 20, seed: 1, timeout: 5s}}
  big: {{model: y, base_url: "{{url}}", {PRICED}, max_output_tokens: 20, timeout: 5s}}
"""
