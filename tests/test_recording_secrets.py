"""Keys planted everywhere: in the environment, in headers, errors, streams, answers and cases; none is ever written."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest
import scripted_server as scripted
from scripted_server import Act, asked, events, ok, streamed

from cascade_eval import cli, recording

pytestmark = pytest.mark.loopback

PLANTED = {
    "OPENAI_API_KEY": "planted-openai-key-0001",
    "GATEWAY": "planted gateway key 0002",  # named by the recipe only
    "ANTHROPIC_API_KEY": "planted-anthropic-0003",
    "DATABASE_PASSWORD": 'planted"pass\\word 0004',
    "SOMETHING_TOKEN": "plantéd-token-0005",
}
FORM = "sk-proj-planted0006AbCdEf"
SECRETS = [*PLANTED.values(), FORM]
"""Also in the spellings of JSON."""
SPELLED = {json.dumps(secret)[1:-1] for secret in SECRETS} | {
    json.dumps(secret, ensure_ascii=False)[1:-1] for secret in SECRETS
}

JSON = {"content-type": "application/json"}
EVERYTHING = " and ".join(SECRETS)


def script(headers, body, before):
    """Echo keys wherever a server could."""
    question = asked(body)
    echoed = {"x-echo": FORM, **JSON}
    if "status" in question:
        status = int(question.split("-")[1])
        error = {"error": {"message": f"Incorrect API key provided: {EVERYTHING}", "headers": headers}}
        return Act(status, echoed, json.dumps(error).encode())
    if "malformed" in question:
        return Act(body=f"{{{EVERYTHING}".encode(), headers=echoed)
    if "html" in question:
        return Act(body=f"<p>{EVERYTHING}</p>".encode(), headers={"content-type": "text/html", "x-echo": FORM})
    if body.get("stream"):
        # Cut in the middle of every key, as a stream may be.
        halves = [part for secret in SECRETS for part in (secret[:9], secret[9:], " ")]
        return Act(pieces=events(*streamed(halves)), headers={"content-type": "text/event-stream"})
    return ok(EVERYTHING)


RECIPE = """
cases: cases.jsonl
output: out
models:
  plain: {model: x, base_url: "{url}", price: free, attempts: 1, timeout: 5s}
  streamed: {model: y, base_url: "{url}", price: free, attempts: 1, stream: true, api_key_env: GATEWAY}
  critic: {model: z, base_url: "{url}", price: free, prompt: "grade {answer}", judges: {of: plain}}
"""
QUESTIONS = ("good", "status-400", "status-500", "status-502", "status-504", "malformed", "html", f"with {EVERYTHING}")


def planted(folder, url):
    rows = [{"case_id": f"c{i}", "input": text, "note": EVERYTHING} for i, text in enumerate(QUESTIONS)]
    rows.append({"case_id": f"id {FORM}", "input": "good", "note": "x"})
    (folder / "cases.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "r.record.yaml").write_text(RECIPE.replace("{url}", url))
    return rows


def found_in(text):
    return [secret for secret in SPELLED if secret in text]


def test_no_key_is_ever_written(tmp_path, monkeypatch, capsys):
    """After everything that can go wrong, twice, no file and no output holds a planted key; the keys were sent, though."""
    for name, value in PLANTED.items():
        monkeypatch.setenv(name, value)
    with scripted.Server(script) as server:
        rows = planted(tmp_path, server.url)
        for options in ([], ["--retry", "failed"]):
            assert cli.run(["record", str(tmp_path / "r.record.yaml"), *options]) == 1
        sent = {headers["authorization"] for headers in server.headers}
    shown = capsys.readouterr()
    written = {
        path.name: path.read_text("utf-8", "replace") for path in (tmp_path / "out").rglob("*") if path.is_file()
    }
    assert {"answers.jsonl", "requests.log", "replaced.log"} <= written.keys()
    for text in (shown.out, shown.err, *written.values()):
        assert not found_in(text)
        assert "planted" not in re.sub(r"r\.record\.yaml|test_no_key\w*", "", text)
    # What was scrubbed were the real keys, in real calls.
    assert sent == {f"Bearer {PLANTED['OPENAI_API_KEY']}", f"Bearer {PLANTED['GATEWAY']}"}
    lines = [json.loads(line) for line in written["answers.jsonl"].splitlines()]
    assert (
        len(lines)
        == len({line["call"] for line in lines})
        == 2 * len(rows) + sum(line["model"] == "plain" and line["status"] == "ok" for line in lines)
    )
    assert "[scrubbed]" in written["answers.jsonl"]
    streams = [line["answer"] for line in lines if line["model"] == "streamed" and line["status"] == "ok"]
    assert streams
    assert all(answer.split() == ["[scrubbed]"] * len(SECRETS) for answer in streams)


def test_a_resume_finds_scrubbed_lines_again(tmp_path, monkeypatch):
    """A case whose id or text held a key is not asked twice, though neither stands in the journal."""
    for name, value in PLANTED.items():
        monkeypatch.setenv(name, value)
    with scripted.Server(script) as server:
        planted(tmp_path, server.url)
        first = recording.run(recording.load(tmp_path / "r.record.yaml"))
        heard = len(server.heard)
        assert recording.run(recording.load(tmp_path / "r.record.yaml")) == first
        assert len(server.heard) == heard


def test_an_exception_holds_no_key(tmp_path, monkeypatch, capsys):
    """Where the command ends with an error, its message holds no key either."""
    monkeypatch.setenv("OPENAI_API_KEY", PLANTED["OPENAI_API_KEY"])
    (tmp_path / "r.record.yaml").write_text(f"models:\n  m: {{model: {FORM}}}\n")
    assert cli.run(["record", str(tmp_path / "r.record.yaml"), "--max-usd", "1"]) == 4
    shown = capsys.readouterr()
    assert "a key stands here" in shown.err
    assert not found_in(shown.out + shown.err)


def test_recording_costs_nothing_until_it_asks():
    """Importing the package's nouns loads neither client, nor HTTP, nor pydantic."""
    code = (
        "import sys, cascade_eval.recording.nouns as n, cascade_eval.scrubbing\n"
        "print([m for m in ('openai', 'anthropic', 'httpx', 'httpx2') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
