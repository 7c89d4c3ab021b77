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


# The shortest of each form: one character less is no key. A space stands in the place of nothing.
SHORTEST = [
    *(
        f"{head}{cut}{'a' * 11}7"
        for head in ("sk", "rk", "pk", "xai", "gsk", "fw", "r8", "tgp", "pplx", "nvapi")
        for cut in "-_"
    ),
    *(f"sk-{'a' * 11}{last}" for last in "Z*…"),
    "AIza" + "x" * 30,
    *(f"{head}{'A' * 16}" for head in ("AKIA", "ASIA")),
    *(f"gh{kind}_{'a' * 16}" for kind in "pousr"),
    *(f"xox{kind}-{'a' * 16}" for kind in "abeprs"),
    *(f"{head}{'a' * 16}" for head in ("github_pat_", "glpat-", "hf_", "npm_", "pypi-")),
]


@pytest.mark.parametrize("key", SHORTEST)
def test_the_shortest_key_of_each_form(key):
    """Every known provider's form is taken out whole, and neither a shorter word nor one that only ends like it."""
    assert scrubbing.scrub(f"({key})", {}) == f"({MARK})"
    shorter = key.replace("aa", "a", 1).replace("xx", "x", 1).replace("AA", "A", 1) if len(key) < 22 else key[:-1]
    for other in (shorter, f"b{key}", f"B{key}", f"7{key}"):
        assert scrubbing.scrub(f"({other})", {}) == f"({other})"


def test_a_token_of_three_parts():
    """A JSON web token is taken out with its signature or without; of shorter parts it is none."""
    assert scrubbing.scrub("eyJ12345678.abcd. eyJ12345678.abcd.ef", {}) == f"{MARK} {MARK}"
    for other in (
        "eyJ1234567.abcd.ef",
        "eyJ12345678.abc.ef",
        "eyJ12345678.abcd",
        *(f"{c}eyJ12345678.abcd.ef" for c in "aB7"),
    ):
        assert scrubbing.scrub(other, {}) == other


def test_a_private_key_that_was_cut_goes_to_the_end():
    """Where the end of a private key is missing, all that follows goes; two keys leave what stands between them."""
    begin, end = "-----BEGIN PRIVATE KEY-----", "-----END PRIVATE KEY-----"
    assert scrubbing.scrub(f"a {begin}\nMII\nmore", {}) == f"a {MARK}"
    assert scrubbing.scrub(f"{begin}x{end} b {begin}y{end}", {}) == f"{MARK} b {MARK}"


CARRIERS = (
    "proxy-authorization", "authorization", "x-api-key", "x-goog-api-key", "x-auth-token", "api-key", "api_key", "apikey",
    "access_token", "refresh_token", "client_secret",
)  # fmt: skip


@pytest.mark.parametrize("name", CARRIERS)
def test_what_follows_the_name_of_a_header_that_carries_a_key(name):
    """In a header, in JSON, in JSON within JSON, in a form and in Python's spelling the value goes and the rest stays."""
    for before, after in (
        (f"{name}: ", ""), (f"{name.upper()} = ", ", and"), (f'{{"{name}": "', '", "n": 1}'), (f"{{'{name}':'", "'}"),
        (f'"{{\\"{name}\\": \\"', '\\"}"'), (f"{name}=", "&n=1"), (f"{name}: Bearer ", ""), (f"[{name}: token ", "]"),
    ):  # fmt: skip
        assert scrubbing.scrub(f"{before}short{after}", {}) == f"{before}{MARK}{after}"
    assert scrubbing.scrub(f"my{name}: short", {}) == f"my{name}: short"
    assert scrubbing.scrub_json({name.title(): "short", f"{name}s": "short"}, {}) == {
        name.title(): MARK,
        f"{name}s": "short",
    }


@pytest.mark.parametrize("name", ["set-cookie", "Cookie", "PASSWORD"])
def test_a_field_of_its_own_that_carries_a_key(name):
    """As the name of a field it carries a key; in prose it does not."""
    assert scrubbing.scrub_json({name: ["a", 1], "n": {name: 5}}, {}) == {name: MARK, "n": {name: MARK}}
    assert scrubbing.scrub(f"{name}: it does not work", {}) == f"{name}: it does not work"


IN_QUERIES = (
    "key", "api-key", "api_key", "apikey", "subscription-key", "token", "access_token", "secret", "client_secret", "sig",
    "signature", "password", "pwd", "x-amz-signature", "x-amz-credential", "x-amz-security-token",
)  # fmt: skip


@pytest.mark.parametrize("name", IN_QUERIES)
def test_keys_in_queries(name):
    """A parameter that carries a key goes, first or later, in a text and in an address; its neighbours stay."""
    for text in (
        "https://host/v1?{}=x9#top",
        "https://host/v1?a=1&{}=x9&b=2",
        '"https://host?{}=x9" said',
        "see ?{}=x9.",
    ):
        filled = text.format(name.upper())
        expected = filled.replace("x9.", MARK).replace("x9", MARK)
        assert scrubbing.scrub(filled, {}) == scrubbing.url(filled) == expected


@pytest.mark.parametrize(
    ("text", "scrubbed"),
    [
        ("postgresql+psycopg://ann:hunter2@db/runs", f"postgresql+psycopg://ann:{MARK}@db/runs"),
        ("redis://:hunter2@db", f"redis://:{MARK}@db"),
        ("https://ann@corp.example:hunter2@db/x", f"https://ann@corp.example:{MARK}@db/x"),
        ("HTTPS://ann:p@ss@db", f"HTTPS://ann:{MARK}@db"),
        ("https://ann@host:80/a:b@c", "https://ann@host:80/a:b@c"),
        ("https://host/?q=a:b@c", "https://host/?q=a:b@c"),
        ("https://host/#a:b@c", "https://host/#a:b@c"),
        ("'https://host' a:b@c", "'https://host' a:b@c"),
    ],
)
def test_passwords_in_addresses(text, scrubbed):
    """Between the colon and the last at sign before the path stands a password, whatever it holds."""
    assert scrubbing.scrub(text, {}) == scrubbing.url(text) == scrubbed


@pytest.mark.parametrize(
    ("text", "scrubbed"),
    [
        ("Bearer abcdefg1", f"Bearer {MARK}"), ("BASIC  abc.~+/=-1", f"BASIC  {MARK}"), ("bearer abcdef1", "bearer abcdef1"),
        ("bearer abcdefgh", "bearer abcdefgh"), ("forbearer abcdefg1", "forbearer abcdefg1"),
    ],
)  # fmt: skip
def test_what_follows_bearer(text, scrubbed):
    """Eight characters with a digit among them are a key; a shorter word, or one of letters, is not."""
    assert scrubbing.scrub(text, {}) == scrubbed


@pytest.mark.parametrize(
    "word",
    ["API_KEY", "APIKEY", "ACCESS_KEY", "SECRET_KEY", "PRIVATE_KEY", "ACCOUNT_KEY", "ACCOUNTKEY", "AUTH_KEY", "SIGNINGKEY",
     "ENCRYPTIONKEY", "MASTERKEY", "ACCESSKEY", "SECRETKEY", "PRIVATEKEY", "AUTHKEY", "KEY", "TOKEN", "SECRET", "SECRETS",
     "PASSWORD", "PASSWD", "PASSPHRASE", "PGPASSWORD", "PASS", "CREDENTIAL", "CREDENTIALS", "BEARER", "AUTHORIZATION"],
)  # fmt: skip
def test_every_word_of_a_secret_variable(word):
    """Alone, after a prefix, numbered or with an ending; within a longer word it says nothing."""
    for name in (word, f"my_{word.lower()}", f"{word}_ID", f"{word}_VALUE", f"{word}_12"):
        assert scrubbing.secrets({name: "correct horse"}) == ("correct horse",), name
    for name in (f"MY{word}X", f"{word}_PATH", f"{word}12"):
        assert scrubbing.secrets({name: "correct horse"}) == (), name


def test_a_secret_has_eight_characters():
    """White space around a value does not count, a value within the mark is none, and the longest comes first."""
    environ = {
        "A_KEY": "1234567",
        "B_KEY": " 12345678 ",
        "C_KEY": "scrubbed",
        "D_KEY": "0123456789",
        "E_KEY": "22345678",
    }
    assert scrubbing.secrets(environ) == ("0123456789", "12345678", "22345678")


def test_a_secret_within_another_leaves_nothing_of_it():
    """Of two values of which one begins the other, the longer goes whole, however the variables are ordered."""
    values = {"A_KEY": "swordfish", "B_KEY": "swordfish-and-more", "C_KEY": 'swordfish"'}
    for names in (values, dict(reversed(values.items()))):
        assert scrubbing.scrub('<swordfish-and-more><swordfish><swordfish\\">', names) == f"<{MARK}><{MARK}><{MARK}>"


@pytest.mark.parametrize("secret", ['quo"ted\\pass', "two\nlines\tof it", "ключ-ключ", "a b/c?d=e&f"])
def test_each_spelling_of_a_secret_goes_whole(secret):
    """Not a character of it is left at either end: as it stands, as JSON writes it, as a URL writes it."""
    for spelled in (secret, json.dumps(secret)[1:-1], urllib.parse.quote(secret, safe="")):
        assert scrubbing.scrub(f"<{spelled}>", {"GATEWAY_TOKEN": secret}) == f"<{MARK}>"


def test_lists_and_tuples_are_scrubbed_alike():
    """A tuple comes back as a list, scrubbed at every depth; a number is no name of a key."""
    assert scrubbing.scrub_json(({"a": (KEY, 1)}, None), {}) == [{"a": [MARK, 1]}, None]


@pytest.mark.parametrize(
    "key",
    [
        *(f"sk-{'a' * 6}{c}{'a' * 6}7" for c in "-_.*…"), *(f"pk_7{'a' * 6}{c}{'a' * 6}" for c in "-_.*…"),
        f"AIza{'x' * 15}-_{'x' * 15}", f"AKIA{'A7' * 8}", f"ghp_{'a' * 8}-_{'a' * 8}", "eyJ1234-_678.ab-_.e-_f",
    ],
)  # fmt: skip
def test_no_half_of_a_key_stays_behind(key):
    """Every character that a key may have belongs to it: nothing is left after one of them."""
    assert scrubbing.scrub(f"({key})", {}) == f"({MARK})"


@pytest.mark.parametrize(
    "text",
    [
        "https://a/b:c@d", "https://a?b:c@d", "https://a#b:c@d", 'https://a"b:c@d', "https://a'b:c@d", "https://a b:c@d",
        "https://a:b/c@d", "https://a:b?c@d", "https://a:b#c@d", 'https://a:b"c@d', "https://a:b'c@d", "https://a:b c@d",
        "7://ann:b@c", "see ?keys=abc and &monkey=abc",
    ],
)  # fmt: skip
def test_what_looks_like_the_password_of_an_address(text):
    """A password stands before the path, within one word, and after a scheme."""
    assert scrubbing.scrub(text, {}) == scrubbing.url(text) == text


@pytest.mark.parametrize(
    ("text", "scrubbed"),
    [
        ("a-b.c+7://ann:b:c@d", f"a-b.c+7://ann:{MARK}@d"),
        ("x://:@d", f"x://:{MARK}@d"),
        ("'https://host?key=ab' 'c'", f"'https://host?key={MARK}' 'c'"),
        ('"https://host?key=ab" c', f'"https://host?key={MARK}" c'),
        ("https://host?key=&n=1", "https://host?key=&n=1"),
        ("api-key: ab cd", f"api-key: {MARK} cd"),
        ("api-key=ab;cd", f"api-key={MARK};cd"),
        ("authorization: tokenab", f"authorization: {MARK}"),
        ("bearer1234567890", "bearer1234567890"),
        ("Bearer 1abcdefg", f"Bearer {MARK}"),
        ("https://host?key=ab cd", f"https://host?key={MARK} cd"),
        ("api-key: , none", "api-key: , none"),
    ],
)
def test_a_secret_ends_where_its_word_does(text, scrubbed):
    """What stands after a key, beyond white space, a quote or a separator, is no part of it."""
    assert scrubbing.scrub(text, {}) == scrubbed
