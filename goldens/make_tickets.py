"""Make the tickets golden from what was recorded: 330 support tickets, answered by a real language model.

The tickets (`tickets.jsonl`) were written for this project: 66 situations, eleven for each of six intents, each told in
English, German, French, Spanish and Portuguese. `cluster` names the situation, because five tickets about the same kettle
are not five independent cases. `expected` is the intent its author had in mind.

`tickets.record.yaml` says how the answers were recorded. A flagship's answer is made of five calls: the most frequent
of five sampled answers counts, the earlier one where two are equally frequent; its tokens and cost are those of all
five, and its latency is the longest, because they were asked at the same time. An answer is what the model wrote; nothing was mended.

Run it with ``python goldens/make_tickets.py <folder of the journal> [folder]``.
"""

from __future__ import annotations

import json
import sys
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import freeze
import pyarrow as pa

from cascade_eval import answers

MODELS = ("mini", "flagship")
SUMS = ("input_tokens", "cached_input_tokens", "output_tokens", "cost_usd")
CASE = ("case_id", "cluster", "language", "intent", "input", "expected")
LABEL = answers.KEYS["same label"]

Row = dict[str, Any]


def read(path: Path) -> list[Row]:
    """Read a file of JSON lines."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def outcomes(journal: list[Row]) -> dict[tuple[str, str], list[Row]]:
    """Group finished calls by case and model, in the order of their repeats."""
    found = defaultdict(list)
    for row in sorted(journal, key=lambda row: row["run"]):
        found[row["case_id"], row["model"]].append(row)
    return found


def modal(calls: list[Row]) -> Row:
    """Return the first call that gave the most frequent answer; ties go to the answer given first."""
    counts = Counter(LABEL(call["answer"]) for call in calls)
    return max(calls, key=lambda call: counts[LABEL(call["answer"])])


def outcome(calls: list[Row]) -> Row:
    """Put the calls behind one answer into one outcome."""
    if failed := [call["status"] for call in calls if call["status"] != "ok"]:
        raise SystemExit(f"{calls[0]['case_id']}: a call of {calls[0]['model']} ended as {failed[0]}; record it again")
    chosen = modal(calls)
    return {
        "answer": chosen["answer"],
        "token_logprobs": chosen["token_logprobs"],
        "samples": [call["answer"] for call in calls],
        **{name: sum(call[name] for call in calls) for name in SUMS},
        "latency_s": max(call["latency_s"] for call in calls),
    }


def table(tickets: list[Row], journal: list[Row]) -> pa.Table:
    """Put tickets and outcomes side by side, a row for each case."""
    found = outcomes(journal)
    columns: dict[str, list[Any]] = {name: [ticket[name] for ticket in tickets] for name in CASE}
    for model in MODELS:
        made = [outcome(found[ticket["case_id"], model]) for ticket in tickets]
        for name in made[0]:
            if name != "samples" or model == "flagship":
                columns[f"{model}.{name}"] = [row[name] for row in made]
    for model in MODELS:
        for name, places in (("cost_usd", 9), ("latency_s", 3)):
            columns[f"{model}.{name}"] = [round(value, places) for value in columns[f"{model}.{name}"]]
    return pa.table(columns)


def main(journal: Path, out: Path) -> None:
    """Write the golden into a folder."""
    rows = read(journal / "answers.jsonl")
    days = sorted({row["asked_at"][:10] for row in rows})
    freeze.write(
        out / "tickets",
        table(read(freeze.HERE / "tickets.jsonl"), rows),
        description="Support tickets in five languages, answered by Gemma 3 270M: 18 examples once, 60 examples five times.",
        recorded={
            "how": (
                "goldens/tickets.record.yaml: gemma-3-270m-q4_k_m.gguf served by llama.cpp (goldens/serve_gemma.py),"
                " real answers, log-probabilities, tokens and latencies; tickets written for this project, prices made up"
            ),
            "when": " to ".join(dict.fromkeys([days[0], days[-1]])),
        },
        models=MODELS,
        cohorts=["language", "intent"],
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else freeze.HERE)
