"""One cascade written as users write theirs, through every client: mini first, the flagship where mini is unsure."""

from __future__ import annotations

import asyncio
import json

import httpx

THRESHOLD = 0.8


def said(row):
    """Return what a model said: its answer and how sure it is, as JSON."""
    return json.dumps({"answer": row["answer"], "confidence": row.get("confidence")})


def settles(text):
    """Return the answer where it is sure enough."""
    found = json.loads(text)
    sure = found["confidence"] is None or found["confidence"] >= THRESHOLD
    return found["answer"] if sure else None


def question(case):
    return [{"role": "user", "content": f"What is the next step? {case}"}]


def raw_httpx(cases, entered):
    """Sync, by httpx alone, as Chat Completions."""
    given = {}
    with httpx.Client(base_url="https://api.openai.com/v1") as client:
        for case in cases:
            with entered(case):
                for model in ("mini", "flagship"):
                    body = {"model": model, "messages": question(case)}
                    reply = client.post("/chat/completions", json=body).raise_for_status().json()
                    answer = settles(reply["choices"][0]["message"]["content"])
                    if answer is not None:
                        break
                given[case] = answer
    return given


def openai_async(cases, entered):
    """All cases at once, by the async client, each in a task of its own."""
    import openai

    async def one(client, case):
        with entered(case):
            answer = None
            for model in ("mini", "flagship"):
                if answer is None:
                    reply = await client.chat.completions.create(model=model, messages=question(case))
                    answer = settles(reply.choices[0].message.content)
            return case, answer

    async def every():
        async with openai.AsyncOpenAI(api_key="sk-none", max_retries=0) as client:
            return dict(await asyncio.gather(*(one(client, case) for case in cases)))

    return asyncio.run(every())


def openai_streaming(cases, entered):
    """Sync, streamed, with the usage that a stream has only when asked for it."""
    import openai

    given = {}
    with openai.OpenAI(api_key="sk-none", max_retries=0) as client:
        for case in cases:
            with entered(case):
                for model in ("mini", "flagship"):
                    with client.chat.completions.create(
                        model=model, messages=question(case), stream=True, stream_options={"include_usage": True}
                    ) as stream:
                        text = "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)
                    given[case] = settles(text)
                    if given[case] is not None:
                        break
    return given


def openai_responses(cases, entered):
    """Sync, by the Responses API, the flagship streamed."""
    import openai

    given = {}
    with openai.OpenAI(api_key="sk-none", max_retries=0) as client:
        for case in cases:
            with entered(case):
                first = client.responses.create(model="mini", input=question(case))
                given[case] = settles(first.output_text)
                if given[case] is None:
                    with client.responses.stream(model="flagship", input=question(case)) as stream:
                        given[case] = settles(stream.get_final_response().output_text)
    return given


def by_anthropic(cases, entered):
    """Sync, by the Messages API, mini streamed."""
    import anthropic

    given = {}
    with anthropic.Anthropic(api_key="none", max_retries=0) as client:
        for case in cases:
            with entered(case):
                with client.messages.stream(model="mini", messages=question(case), max_tokens=99) as stream:
                    given[case] = settles(stream.get_final_text())
                if given[case] is None:
                    reply = client.messages.create(model="flagship", messages=question(case), max_tokens=99)
                    given[case] = settles(reply.content[0].text)
    return given


WAYS = (raw_httpx, openai_async, openai_streaming, openai_responses, by_anthropic)
