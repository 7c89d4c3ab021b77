"""Calls of a chat model, as cassettes hold them and as code under test makes them."""

from __future__ import annotations

import json

import httpx

from cascade_eval.playback import cassettes, wire
from cascade_eval.playback.nouns import Outcome, Request

URL = "https://models.example/v1/chat/completions"
TIERS = {"tiers": ["mini", "flagship"]}
PRICES = {"mini": {"input": 1, "output": 2}, "flagship": {"input": 10, "output": 20}}
CLIENT = httpx.Client(timeout=None, verify=False)


def chat(content="yes", model="mini", **body):
    """Return an exchange of Chat Completions."""
    request = Request("POST", URL, {}, json.dumps({"model": model, "messages": [], **body}).encode())
    outcome = Outcome(model, answer=content, input_tokens=100, cached_input_tokens=0, output_tokens=10)
    return request, wire.answer(wire.FORMATS[0], outcome, request)


def kept(path, *exchanges):
    """Write a cassette of these exchanges."""
    cassettes.write(path, [cassettes.Exchange(*one) for one in exchanges])
    return path


def ask(model="mini", **body):
    """Make a call as code under test does."""
    return CLIENT.post(URL, json={"model": model, "messages": [], **body})


def text(reply):
    """Return what the model said."""
    return reply.json()["choices"][0]["message"]["content"]
