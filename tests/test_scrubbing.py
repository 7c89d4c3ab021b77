"""Keys and passwords never reach a file or a message, and other text stays as it is."""

from __future__ import annotations

import json
import urllib.parse

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade_eval import scrubbing

KEY = "sk-proj-4f9aQ7planted0KEY1zz"

MARK = scrubbing.MARK


@pytest.mark.parametrize(
    ("text", "scrubbed"),
    [
        (f"Incorrect API key provided: {KEY}.", f"Incorrect API key provided: {MARK}"),
        ("Incorrect API key provided: sk-abcd****************wxYZ", f"Incorrect API key provided: {MARK}"),
        ("sk-ant-api03-AbCdEfGh1234_-xyz", MARK),
        ("Authorization: Bearer abcdef", f"Authorization: Bearer {MARK}"),
        ('{"x-api-key": "short"}', f'{{"x-api-key": "{MARK}"}}'),
        ("{'authorization': 'Basic YW5uOmh1bnRlcjI='}", f"{{'authorization': 'Basic {MARK}'}}"),
        ("said Bearer abcdefgh12345 twice", f"said Bearer {MARK} twice"),
        ("https://ann:hunter2@host/v1", f"https://ann:{MARK}@host/v1"),
        ("https://host/v1?key=abc&n=1", f"https://host/v1?key={MARK}&n=1"),
        ("AIza" + "x" * 35, MARK),
        ("ghp_" + "a1" * 18, MARK),
        ("AKIA" + "ABCD" * 4, MARK),
        ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln", MARK),
        ("a -----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY----- b", f"a {MARK} b"),
    ],
)
def test_forms_of_keys_are_taken_out(text, scrubbed):
    """A key is recognised by its form, wherever it stands."""
    assert scrubbing.scrub(text, {}).rstrip(".") == scrubbed.rstrip(".")


@pytest.mark.parametrize(
    "text",
    [
        "the bearer of bad news, and bearer instruments",
        "a sk-learn-compatible estimator; risk-adjusted-return-on-capital",
        "where is my api key? my password: it does not work",
        "see https://example.org/a?keyword=shoes and ann@example.org at 10:30",
        '{"token": "Paris", "logprob": -0.25, "tokens": 12}',
        "basic English, e.g. key=value pairs",
    ],
)
def test_other_text_stays_as_it_is(text):
    """What only looks a little like a key is an answer, and an answer is never changed."""
    assert scrubbing.scrub(text, {}) == text


@pytest.mark.parametrize(
    ("name", "secret"),
    [
        ("OPENAI_API_KEY", True), ("MY_TOKEN", True), ("DB_PASSWORD", True), ("PGPASSWORD", True), ("CLIENT_SECRET", True),
        ("AWS_SECRET_ACCESS_KEY", True), ("GOOGLE_APPLICATION_CREDENTIALS", True), ("HF_TOKEN_2", True), ("openai_key", True),
        ("TOKENIZERS_PARALLELISM", False), ("HOME", False), ("KEYBOARD", False), ("MONKEY", False), ("PATH", False),
    ],
)  # fmt: skip
def test_variables_that_say_they_are_secret(name, secret):
    """The value of a variable counts as secret by the words of its name."""
    environ = {name: "correct horse battery"}
    assert scrubbing.secrets(environ) == (("correct horse battery",) if secret else ())


def test_short_values_are_no_secrets():
    """A placeholder such as 'none' is not taken out of every text."""
    assert scrubbing.scrub("none of them", {"OPENAI_API_KEY": "none"}) == "none of them"


@given(st.text(min_size=8, max_size=40), st.text(max_size=30), st.text(max_size=30))
def test_a_secret_value_is_gone_in_every_spelling(secret, before, after):
    """As it stands, as JSON writes it, as a URL writes it: a secret value is nowhere in what is written."""
    environ = {"GATEWAY_TOKEN": secret}
    if not scrubbing.secrets(environ):
        return
    secret = scrubbing.secrets(environ)[0]
    for spelled in (secret, json.dumps(secret)[1:-1], urllib.parse.quote(secret.encode("utf-8", "replace"), safe="")):
        text = scrubbing.scrub(f"{before}{spelled}{after}", environ)
        assert spelled not in text or spelled in MARK
        assert secret not in text


@given(st.text(max_size=200), st.lists(st.text(min_size=8, max_size=12), max_size=2))
def test_scrubbing_twice_is_scrubbing_once(text, secrets):
    """What was scrubbed stays as it is."""
    environ = {f"A_TOKEN_{number}": secret for number, secret in enumerate(secrets)}
    once = scrubbing.scrub(text, environ)
    if not any(secret in once for secret in scrubbing.secrets(environ)):
        assert scrubbing.scrub(once, environ) == once


def test_json_keeps_its_shape():
    """Numbers, nulls and names stay; strings are scrubbed at every depth; headers that carry keys go whole."""
    value = {
        "headers": {"Authorization": "x", "Accept": "json"},
        "n": [1, 2.5, None, True, {KEY: KEY}],
        "password": None,
    }
    assert scrubbing.scrub_json(value, {}) == {
        "headers": {"Authorization": MARK, "Accept": "json"},
        "n": [1, 2.5, None, True, {MARK: MARK}],
        "password": None,
    }


def test_the_environment_of_the_process_is_the_default(monkeypatch):
    """Without an environment handed in, the process's own secrets are taken out."""
    monkeypatch.setenv("SOME_API_KEY", "plain-words-only-key")
    assert scrubbing.scrub("it is plain-words-only-key.") == f"it is {MARK}."
