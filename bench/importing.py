"""Import made OTLP logs of several sizes: lines a second, and peak memory of a fresh process, which must not grow.

    python bench/importing.py 100000 1000000

Each line is one export of one span, shuffled so that the calls of a case are far apart: 1 in 4 cases escalates, prompts
and answers included (about 1.3 KB a line). Lines a second are told of CPU time (user and system), because wall time on a
shared machine says little, and of wall time. Peak memory is VmHWM of a process that does nothing else, so it holds the
interpreter and its libraries (the line "nothing") as well.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import tempfile
from pathlib import Path

MODELS = ("gpt-4.1-nano", "gpt-4.1")
STRIDE = 7919
"""Lines apart at which neighbours of a case are written; prime, so that every case is met once."""

CHILD = """
import sys, time
from pathlib import Path
from cascade_eval import importers
seconds, cpu, report = 0.0, 0.0, None
import cascade_eval.importers.otel, pyarrow.parquet
if len(sys.argv) > 1:
    start, used = time.perf_counter(), time.process_time()
    report = importers.read("otel", sys.argv[1], output=sys.argv[2], models={"mini": "gpt-4.1-nano", "flagship": "gpt-4.1"},
                            columns={"language": "app.language"}).report
    seconds, cpu = time.perf_counter() - start, time.process_time() - used
peak = next(int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
print(seconds, cpu, peak / 1024, report.cases if report else 0, report.rows if report else 0, report.bad if report else 0)
"""


def span(case, place):
    """Return one span of one case as OTLP JSON."""
    chance = random.Random(case)  # noqa: S311  made data, the same every time
    start = 1783328400_000000000 + case * 1_000_000 + place * 900_000
    trace = f"{case + 1:032x}"
    question = f"Question {case}: " + "where is it and when does it come " * 6
    messages = [{"role": "user", "parts": [{"type": "text", "content": question}]}]
    said = [{"role": "assistant", "parts": [{"type": "text", "content": chance.choice(["refund", "track", "other"])}]}]
    text = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": MODELS[place],
        "gen_ai.response.model": f"{MODELS[place]}-2025-04-14",
        "gen_ai.input.messages": json.dumps(messages),
        "gen_ai.output.messages": json.dumps(said),
        "app.language": chance.choice(["en", "de", "pt"]),
    }
    numbers = {"gen_ai.usage.input_tokens": 120, "gen_ai.usage.output_tokens": 2}
    attributes = [{"key": key, "value": {"stringValue": value}} for key, value in text.items()]
    attributes += [{"key": key, "value": {"intValue": str(value)}} for key, value in numbers.items()]
    made = {
        "traceId": trace, "spanId": f"{case * 2 + place + 1:016x}", "name": f"chat {MODELS[place]}", "kind": 3,
        "startTimeUnixNano": str(start), "endTimeUnixNano": str(start + 800_000), "attributes": attributes, "status": {},
    }  # fmt: skip
    return {
        "resourceSpans": [
            {"resource": {"attributes": []}, "scopeSpans": [{"scope": {"name": "made"}, "spans": [made]}]}
        ]
    }


def write(path, lines):
    """Write a log of so many lines."""
    cases = lines * 4 // 5
    with path.open("w") as file:
        written = 0
        for place in (0, 1):
            for number in range(cases):
                case = number * STRIDE % cases
                if (place == 0 or case % 4 == 0) and written < lines:
                    file.write(json.dumps(span(case, place)) + "\n")
                    written += 1
    return written


def measure(*arguments):
    """Import in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", CHILD, *map(str, arguments)], capture_output=True, text=True, check=True
    )
    return [float(word) for word in done.stdout.split()]


def main(sizes):
    heads = ("lines", "size", "cases", "rows", "set aside", "seconds", "lines/s", "CPU s", "lines/CPU s", "peak")
    print("".join(f"{head:>12}" for head in heads))
    print(f"{'(nothing)':>12}{f'{measure()[2]:.0f} MB':>{12 * (len(heads) - 1)}}")
    with tempfile.TemporaryDirectory() as folder:
        for lines in sizes:
            log = Path(folder) / f"{lines}.jsonl"
            written = write(log, lines)
            seconds, cpu, peak, *counts = measure(log, Path(folder) / f"{lines}")
            size = log.stat().st_size / 1e6
            log.unlink()
            cells = [f"{written:,}", f"{size:,.0f} MB", *(f"{count:,.0f}" for count in counts), f"{seconds:.1f}"]
            cells += [f"{written / seconds:,.0f}", f"{cpu:.1f}", f"{written / cpu:,.0f}", f"{peak:.0f} MB"]
            print("".join(f"{cell:>12}" for cell in cells), flush=True)


if __name__ == "__main__":
    main([int(word) for word in sys.argv[1:]] or [100_000, 1_000_000])
