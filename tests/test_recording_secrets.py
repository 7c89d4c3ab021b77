"""Keys planted everywhere: in the environment, in headers, errors, streams, answers and cases; none is ever written."""

from __future__ import annotations

import json
import logging
import re
import subprocess
import sys

import pytest
import scripted_server as scripted
from scripted_server import Act, asked, events, ok, streamed

from cascade_eval import cli, errors, recording
from cascade_eval.recording import clients

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


HOPELESS = (401, 402, 403, 404, 302)


@pytest.mark.parametrize("status", HOPELESS)
def test_a_hopeless_answer_holds_no_key(tmp_path, monkeypatch, capsys, status):
    """What a server says when it turns everything away is shown, and a key it repeats is not."""
    monkeypatch.setenv("GATEWAY", PLANTED["GATEWAY"])

    def script(headers, _body, _before):
        said = json.dumps({"error": {"message": f"wrong key {headers['authorization']} {EVERYTHING}"}})
        return Act(status, {**JSON, "location": f"http://elsewhere/?key={FORM}"}, said.encode())

    with scripted.Server(script) as server:
        (tmp_path / "cases.jsonl").write_text('{"case_id": "a", "input": "q"}\n')
        path = tmp_path / "r.record.yaml"
        path.write_text(
            f"cases: cases.jsonl\nmodels:\n  m: {{model: x, base_url: '{server.url}', price: free, api_key_env: GATEWAY}}\n"
        )
        for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "DATABASE_PASSWORD", "SOMETHING_TOKEN"):
            monkeypatch.setenv(name, PLANTED[name])
        assert cli.run(["record", str(path)]) == 3
        found = recording.run(recording.load(path))
    shown = capsys.readouterr()
    assert f"1 × m: {status}: " in shown.out
    written = [path.read_text() for path in (tmp_path / "recorded").iterdir()]
    for text in (shown.out, shown.err, *found.reasons, *found.notes, *written):
        assert not found_in(text)
        assert FORM not in text


@pytest.mark.parametrize("status", [200, 400, 401])
def test_no_half_of_a_key_is_left_where_a_reason_is_cut(tmp_path, status):
    """However long the text before it, a key that a server repeats is taken out whole before the text is shortened."""
    key = "abcd(efgh)*ijkl+mnop"

    def script(_headers, body, _before):
        text = "." * int(asked(body)) + key
        return Act(status, JSON, text.encode() if status == 200 else json.dumps({"error": {"message": text}}).encode())

    lengths = range(150, 430, 7)
    (tmp_path / "c.jsonl").write_text("".join(f'{{"case_id": "c{n}", "input": "{n}"}}\n' for n in lengths))
    with scripted.Server(script) as server:
        text = f"cases: c.jsonl\nmodels:\n  m: {{model: x, base_url: '{server.url}', price: free, api_key_env: K}}\n"
        found = recording.run(recording.parse(text, base=tmp_path), environ={"K": key})
    written = [path.read_text() for path in found.output.iterdir()]
    for text in (*written, *found.reasons, *found.notes):
        assert "abcd" not in text


@pytest.mark.parametrize("client", ["openai", "anthropic"])
@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_no_redirect_is_followed(tmp_path, client, status):
    """Neither prompt nor key goes where a server sends them; the model is not asked any more, and why is said."""
    (tmp_path / "c.jsonl").write_text("".join(f'{{"case_id": "{i}", "input": "q"}}\n' for i in range(3)))
    with scripted.Server(lambda *_: ok()) as other:
        elsewhere = other.url.replace("127.0.0.1", "localhost")
        with scripted.Server(lambda *_: Act(status, {"location": elsewhere})) as server:
            text = f"cases: c.jsonl\nmodels:\n  m: {{model: x, client: {client}, base_url: '{server.url}', price: free, concurrency: 1}}\n"
            found = recording.run(recording.parse(text, base=tmp_path), environ={})
        assert (len(server.heard), len(other.heard)) == (1, 0)
    assert found.reasons == {
        f"m: {status}: no redirect is followed, write the address itself as base_url: {elsewhere}": 3
    }


def test_no_proxy_stands_before_loopback(tmp_path, monkeypatch):
    """A proxy of the environment hears nothing of a server on this machine."""
    (tmp_path / "c.jsonl").write_text('{"case_id": "a", "input": "q"}\n')
    with scripted.Server(lambda *_: ok("from the proxy")) as proxy, scripted.Server(lambda *_: ok("direct")) as server:
        monkeypatch.setenv("HTTP_PROXY", f"http://ann:hunter2hunter2@127.0.0.1:{proxy.port}")
        text = f"cases: c.jsonl\nmodels:\n  m: {{model: x, base_url: '{server.url}', price: free}}\n"
        found = recording.run(recording.parse(text, base=tmp_path), environ={})
    assert (found.outcome, len(proxy.heard), len(server.heard)) == ("complete", 0, 1)


def test_a_proxy_that_cannot_be_one_is_said_without_its_password(tmp_path, monkeypatch):
    """The message about a proxy's address is scrubbed, and nothing is asked."""
    (tmp_path / "c.jsonl").write_text('{"case_id": "a", "input": "q"}\n')
    monkeypatch.setenv("ALL_PROXY", "gopher://ann:hunter2hunter2@host:1")
    text = (
        "cases: c.jsonl\nmodels:\n  m: {model: x, base_url: 'http://remote.invalid/v1', price: free, api_key_env: K}\n"
    )
    with pytest.raises(errors.UsageError, match="'m' cannot be asked") as caught:
        recording.run(recording.parse(text, base=tmp_path), environ={"K": "planted-key-0007"})
    assert "hunter2" not in str(caught.value)


def test_recording_costs_nothing_until_it_asks():
    """Importing the package's nouns loads neither client, nor HTTP, nor pydantic."""
    code = (
        "import sys, cascade_eval.recording.nouns as n, cascade_eval.scrubbing\n"
        "print([m for m in ('openai', 'anthropic', 'httpx', 'httpx2') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("client", ["openai", "anthropic"])
def test_whoever_logs_requests_is_quiet_while_they_are_sent(tmp_path, caplog, client):
    """With everything logged that can be, as by ANTHROPIC_LOG=debug, no prompt, header or address is; afterwards all is as it was."""
    own = logging.getLogger("httpcore2.http11")
    levels = {client: logging.DEBUG, "httpx2": logging.INFO, "httpcore2": logging.DEBUG, own.name: logging.DEBUG}
    for name, level in levels.items():
        caplog.set_level(level, logger=name)
    caplog.set_level(logging.DEBUG)
    (tmp_path / "c.jsonl").write_text(json.dumps({"case_id": "a", "input": "my pin is 4711"}) + "\n")
    with scripted.Server(lambda *_: Act(401, {**JSON, "x-echo": FORM}, b'{"error": {"message": "no"}}')) as server:
        text = f"cases: c.jsonl\nmodels:\n  m: {{model: x, client: {client}, base_url: '{server.url}', price: free, api_key_env: K}}\n"
        recording.run(recording.parse(text, base=tmp_path), environ={"K": FORM})
    assert len(server.heard) == 1
    told = [record.getMessage() for record in caplog.records if record.name.partition(".")[0] in clients.LOGGERS]
    assert not [line for line in told if FORM in line or "4711" in line or server.url in line]
    assert {name: logging.getLogger(name).level for name in levels} == levels
