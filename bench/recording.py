"""Record from a real llama.cpp server on loopback, killed again and again, and compare with a recording left alone.

Three hundred short cases, two tiers. A recorder is killed (SIGKILL) five times at random moments and resumed each
time; every request passes a counting relay, so that what was asked is known from outside. With one slot, a fixed seed
and no prompt cache the server says the same to the same question, so answers are compared as well.

Run: python bench/recording.py model.gguf [cases]     (needs `pip install xllamacpp`, and any chat model as GGUF)
"""

from __future__ import annotations

import collections
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

KILLS = 5

SERVE = """
import sys, time, xllamacpp
params = xllamacpp.CommonParams()
params.model.path = sys.argv[1]
params.n_parallel, params.n_ctx, params.warmup, params.cache_prompt = 1, 2048, True, False
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
params.hostnames = ["127.0.0.1"]
params.port = int(sys.argv[2])
server = xllamacpp.Server(params)
print(server.listening_address, flush=True)
sys.stdin.read()
"""

RECIPE = """
cases: cases.jsonl
models:
  mini:
    model: gemma
    base_url: "{url}"
    prompt: "Topic of: {{input}}\\nOne word:"
    max_output_tokens: 2
    temperature: 0.0
    seed: 7
    logprobs: true
    concurrency: 1
    timeout: 120s
    extra: {{cache_prompt: false}}
    price: {{input: $0.10, output: $0.40}}
  flagship:
    model: gemma
    base_url: "{url}"
    prompt: "A customer writes: {{input}}\\nIs it about billing, delivery or an account? Answer with one word:"
    max_output_tokens: 3
    temperature: 0.7
    seed: 11
    concurrency: 1
    timeout: 120s
    extra: {{cache_prompt: false}}
    price: {{input: $2, output: $8}}
"""

THINGS = (
    "invoice",
    "parcel",
    "password",
    "refund",
    "courier",
    "login",
    "payment",
    "return",
    "profile",
    "tracking link",
)
TROUBLES = ("is wrong", "never came", "does not work", "came twice", "is lost")
WHEN = ("today", "since Monday", "again", "for a week", "after the update", "on my phone")


def main() -> None:
    """Serve, record twice, and print what differs."""
    model, count = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 300
    with tempfile.TemporaryDirectory() as folder:
        where = Path(folder)
        server = serve(model)
        relay = Relay("http://127.0.0.1:18098")
        try:
            write(where, relay.url, count)
            started = time.monotonic()
            codes = [record(where, "alone")]
            alone, asked_alone = time.monotonic() - started, relay.heard
            relay.heard = collections.Counter()
            codes += interrupted(where, alone)
            show(where, codes, asked_alone, relay.heard, alone)
        finally:
            relay.close()
            server.kill()
            server.wait()


def serve(model: str) -> subprocess.Popen:
    started = subprocess.Popen(
        [sys.executable, "-c", SERVE, model, "18098"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    print("server:", started.stdout.readline().strip())
    return started


class Relay:
    """Passes requests on, one at a time, and counts them by what they ask."""

    def __init__(self, to: str) -> None:
        self.heard: collections.Counter[str] = collections.Counter()
        relay = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                relay.heard[body.decode()] += 1
                ask = urllib.request.Request(to + self.path, body, {"content-type": "application/json"})  # noqa: S310
                with urllib.request.urlopen(ask) as response:  # noqa: S310  loopback
                    answer = response.read()
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: object) -> None:
                pass

        class Quiet(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: object) -> None:  # type: ignore[override]
                """Say nothing: a recorder that was killed hangs up."""

        self._server = Quiet(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/v1"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()


def write(where: Path, url: str, count: int) -> None:
    texts = [f"my {thing} {trouble} {when}" for thing in THINGS for trouble in TROUBLES for when in WHEN][:count]
    lines = [json.dumps({"case_id": f"t{i:03d}", "input": text, "language": "en"}) for i, text in enumerate(texts)]
    (where / "cases.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (where / "tiers.record.yaml").write_text(RECIPE.format(url=url), encoding="utf-8")


def command(where: Path, output: str) -> list[str]:
    return [
        sys.executable, "-m", "cascade_eval.cli", "record", str(where / "tiers.record.yaml"), "--max-usd", "5",
        "--output", str(where / output),
    ]  # fmt: skip


def record(where: Path, output: str) -> int:
    done = subprocess.run(command(where, output), capture_output=True, text=True, check=False)
    print(done.stdout, done.stderr)
    return done.returncode


def interrupted(where: Path, alone: float) -> list[int]:
    """Kill five times, each time after a random share of an undisturbed run, then let it finish."""
    moments = random.Random(int(os.environ.get("SEED", "1")))  # noqa: S311  no secret
    codes = []
    for number in range(KILLS):
        running = subprocess.Popen(command(where, "killed"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(1.5 + moments.random() * alone / (KILLS + 2))
        running.send_signal(signal.SIGKILL)
        codes.append(running.wait())
        print(f"kill {number + 1}: {len(lines(where / 'killed' / 'answers.jsonl'))} lines")
    return [*codes, record(where, "killed")]


def lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


def rows(where: Path, output: str) -> dict:
    found = collections.defaultdict(list)
    for line in lines(where / output / "answers.jsonl"):
        row = json.loads(line)
        found[row["case_id"], row["model"]].append(row)
    return found


def show(where: Path, codes: list[int], asked_alone: dict, asked: dict, seconds: float) -> None:
    one, other = rows(where, "alone"), rows(where, "killed")
    both = [(one[key][0], other[key][0]) for key in one if key in other]
    print(f"exit codes: {codes}; undisturbed run {seconds:.0f} s")
    print(f"calls: {len(one)} undisturbed, {len(other)} killed and resumed, the same: {one.keys() == other.keys()}")
    print(f"calls with more than one line: {sum(len(found) != 1 for found in (*one.values(), *other.values()))}")
    for name in ("status", "answer", "input_tokens", "output_tokens", "cost_usd", "token_logprobs"):
        print(f"same {name}: {sum(a.get(name) == b.get(name) for a, b in both)} of {len(both)}")
    print(f"statuses: {dict(collections.Counter(row['status'] for row, _ in both))}")
    print(f"requests that reached the server: {sum(asked_alone.values())} undisturbed, {sum(asked.values())} killed")
    again = {body: count for body, count in asked.items() if count > 1}
    print(f"asked more than once: {len(again)}, at most {max(again.values(), default=1)} times")
    for name, found in (("undisturbed", one), ("killed", other)):
        print(f"recorded spend, {name}: ${sum(rows_[0]['cost_usd'] for rows_ in found.values()):.9f}")


if __name__ == "__main__":
    main()
