"""How many cases a second go through the OpenAI client in playback, and how much of that is the client itself.

    python bench/playback.py [cases] [rounds]

The same code makes the same calls twice in each round: once in playback, once against a transport that returns one
ready-made response without looking at the request. What the second costs is the client's own. Rounds alternate, and the
ratio is taken within each round, so that what else the machine does hits both. Seconds are those of the processor.
"""

from __future__ import annotations

import contextlib
import json
import statistics
import sys
import time

import httpx2
import openai

from cascade_eval import playback, traffic


def records(cases: int) -> list[dict]:
    tokens = {"input_tokens": 200, "output_tokens": 20, "cost_usd": 0.0001, "latency_s": 0.4}
    return [
        {
            "case_id": f"c{number}",
            "models": {
                "mini": {"answer": f"the answer to question {number}", **tokens},
                "flagship": {"answer": f"the answer to question {number}", **tokens},
            },
        }
        for number in range(cases)
    ]


def run(client: openai.OpenAI, cases: int, entered) -> float:
    begun = time.process_time()
    for number in range(cases):
        with entered(f"c{number}"):
            for model in ("mini", "flagship")[: 1 + (number % 3 == 0)]:
                client.chat.completions.create(
                    model=model, messages=[{"role": "user", "content": f"question {number}"}]
                )
    return time.process_time() - begun


def ready_made() -> httpx2.MockTransport:
    with playback.play(records(1)) as played, played.case("c0"), httpx2.Client(verify=False) as client:
        body = client.post("https://api.openai.com/v1/chat/completions", json={"model": "mini", "messages": []}).content
    json.loads(body)
    return httpx2.MockTransport(
        lambda _request: httpx2.Response(200, headers={"content-type": "application/json"}, content=body)
    )


def main(cases: int, rounds: int) -> None:
    recorded = traffic.from_records(records(cases))
    calls = cases + (cases + 2) // 3
    played_seconds, own_seconds, judged = [], [], []
    bare = openai.OpenAI(api_key="none", http_client=httpx2.Client(transport=ready_made()))
    client = openai.OpenAI(api_key="none", http_client=httpx2.Client(verify=False))
    run(bare, min(cases, 100), contextlib.nullcontext)
    for _ in range(rounds):
        own_seconds.append(run(bare, cases, contextlib.nullcontext))
        with playback.play(recorded, tiers=["mini", "flagship"]) as played:
            played_seconds.append(run(client, cases, played.case))
        begun = time.process_time()
        assert played.replay.escalation.nobs == cases
        judged.append(time.process_time() - begun)
    share = [own / whole for own, whole in zip(own_seconds, played_seconds, strict=True)]
    whole = statistics.median(played_seconds)
    print(f"{cases:,} cases, {calls:,} calls, median of {rounds} rounds")
    print(f"playback          {whole:7.2f} s   {cases / whole:8,.0f} cases/s   {calls / whole:8,.0f} calls/s")
    print(f"the client alone  {statistics.median(own_seconds):7.2f} s")
    print(f"its share         {statistics.median(share):7.0%}     ({min(share):.0%} to {max(share):.0%})")
    print(f"the replay        {statistics.median(judged):7.2f} s")


if __name__ == "__main__":
    given = [int(one) for one in sys.argv[1:]]
    main(*given, *(1000, 5)[len(given) :])
