"""Keys and passwords taken out of whatever is about to be written.

Three nets, because each has holes: the values of environment variables whose names say that they are secret, whatever
they look like; the forms keys of well-known providers have; and what follows the name of a header or a parameter that
carries a key. Text streamed in chunks is put together first: half a key has no form.
"""

from __future__ import annotations

import functools
import json
import os
import re
import urllib.parse
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

MARK = "[scrubbed]"

# A shorter value ("none", "dummy") is no secret, and taking it out of every text would change answers.
SHORTEST_SECRET = 8

_SECRET_VARIABLE = re.compile(
    r"(?:^|_)(?:(?:API|ACCESS|SECRET|PRIVATE|ACCOUNT|AUTH|SIGNING|ENCRYPTION|MASTER)_?KEY|KEY|TOKEN|SECRET|SECRETS"
    r"|PASSWORD|PASSWD|PASSPHRASE|PGPASSWORD|PASS|CREDENTIALS?|BEARER|AUTHORIZATION)(?:_ID|_VALUE|_\d+)?$",
    re.IGNORECASE,
)

_CARRIERS = (
    "proxy-authorization|authorization|x-api-key|x-goog-api-key|x-auth-token|api-key|api_key|apikey"
    "|access_token|refresh_token|client_secret"
)
# Within prose "password: it does not work" is no password; as the name of a field it is one.
_CARRIER = re.compile(rf"(?:{_CARRIERS}|set-cookie|cookie|password)\Z", re.IGNORECASE)

_FORMS = tuple(
    re.compile(form, re.DOTALL)
    for form in (
        # A digit, a capital or a mask tells a key from words such as sk-learn-compatible.
        r"(?<![A-Za-z0-9])(?:sk|rk|pk|xai|gsk|fw|r8|tgp|pplx|nvapi)[-_](?=[\w\-*.…]*[0-9A-Z*…])[\w\-*.…]{12,}",
        r"(?<![A-Za-z0-9])AIza[\w\-]{30,}",
        r"(?<![A-Za-z0-9])(?:AKIA|ASIA)[0-9A-Z]{16}",
        r"(?<![A-Za-z0-9])(?:gh[pousr]_|github_pat_|glpat-|hf_|xox[abeprs]-|npm_|pypi-)[\w\-]{16,}",
        r"(?<![A-Za-z0-9])eyJ[\w\-]{8,}\.[\w\-]{4,}\.[\w\-]*",
        r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)",
    )
)
_BEARER = re.compile(r"\b((?i:bearer|basic))(\s+)(?=[\w.~+/=\-]*[0-9])[\w.~+/=\-]{8,}")
_CARRIED = re.compile(
    rf"""(?<![\w-])((?:{_CARRIERS})\\?["']?\s*[:=]\s*\\?["']?)((?:(?:bearer|basic|token)\s+)?)(\[scrubbed\]|[^\s"'\\,;&}}\]]+)""",
    re.IGNORECASE,
)
_PASSWORD_IN_URL = re.compile(r"""(\b[a-z][a-z0-9+.\-]*://[^\s/?#:"']*):(?:[^\s/?#"']*)@""", re.IGNORECASE)
_KEY_IN_QUERY = re.compile(
    r"""([?&](?:key|api[_-]?key|subscription-key|token|access_token|secret|client_secret|sig|signature|password|pwd|x-amz-signature|x-amz-credential|x-amz-security-token)=)[^&\s#"']+""",
    re.IGNORECASE,
)


def secrets(environ: Mapping[str, str] | None = None) -> tuple[str, ...]:
    """Give the values of environment variables whose names say that they are secret, longest first.

    Parameters
    ----------
    environ
        Names and values; the environment of this process if not given. Values under eight characters are left out.

    Examples
    --------
    >>> secrets({"OPENAI_API_KEY": "correct horse battery", "TOKENIZERS_PARALLELISM": "disabled", "SHELL": "/bin/fish-shell"})
    ('correct horse battery',)
    """
    found = {
        value.strip()
        for name, value in (os.environ if environ is None else environ).items()
        if len(value.strip()) >= SHORTEST_SECRET and value.strip() not in MARK and _SECRET_VARIABLE.search(name)
    }
    return tuple(sorted(found, key=lambda value: (-len(value), value)))


def scrub(text: str, environ: Mapping[str, str] | None = None) -> str:
    """Take keys and passwords out of a text.

    Parameters
    ----------
    text
        What is about to be written: an error body, a header, a prompt, an answer.
    environ
        Where secret values are looked up; the environment of this process if not given.

    Returns
    -------
    str
        The text with ``[scrubbed]`` in the place of every secret. Scrubbing it again changes nothing.

    Examples
    --------
    >>> scrub("401: Incorrect API key provided: sk-proj-4aB****************wxYZ.", {})
    '401: Incorrect API key provided: [scrubbed]'
    >>> scrub("postgresql://ann:hunter2@db/runs", {})
    'postgresql://ann:[scrubbed]@db/runs'
    >>> scrub("it said: swordfish-4711", {"GATEWAY_TOKEN": "swordfish-4711"})
    'it said: [scrubbed]'
    """
    return _scrub(text, _values(secrets(environ)))


def _scrub(text: str, values: re.Pattern[str] | None) -> str:
    if values is not None:
        text = values.sub(MARK, text)
    for form in _FORMS:
        text = form.sub(MARK, text)
    text = _PASSWORD_IN_URL.sub(rf"\1:{MARK}@", text)
    text = _KEY_IN_QUERY.sub(rf"\1{MARK}", text)
    text = _BEARER.sub(rf"\1\2{MARK}", text)
    return _CARRIED.sub(rf"\1\2{MARK}", text)


def scrub_json(value: Any, environ: Mapping[str, str] | None = None) -> Any:
    """Take keys and passwords out of every string of a value made of dicts, lists, strings and numbers.

    Parameters
    ----------
    value
        What `json.loads` gives, headers as a dict included. It is not changed; tuples come back as lists.
    environ
        Where secret values are looked up; the environment of this process if not given.

    Returns
    -------
    object
        The same value scrubbed, names of dicts as well. What stands under the name of a header that carries a key
        goes whole.

    Examples
    --------
    >>> scrub_json({"X-API-Key": "abc", "logprobs": [{"token": "Paris", "logprob": -0.1}]}, {})
    {'X-API-Key': '[scrubbed]', 'logprobs': [{'token': 'Paris', 'logprob': -0.1}]}
    """
    return _scrub_json(value, _values(secrets(environ)))


def _scrub_json(value: Any, values: re.Pattern[str] | None) -> Any:
    if isinstance(value, str):
        return _scrub(value, values)
    if isinstance(value, dict):
        return {
            named: MARK if carrier and item is not None else _scrub_json(item, values)
            for name, item in value.items()
            for named, carrier in [_scrub_name(str(name), values)]
        }
    if isinstance(value, list | tuple):
        return [_scrub_json(item, values) for item in value]
    return value


@functools.lru_cache(maxsize=1024)
def _scrub_name(name: str, values: re.Pattern[str] | None) -> tuple[str, bool]:
    """Scrub the name of a field, which comes again and again, and say whether what it names is a key."""
    return _scrub(name, values), _CARRIER.match(name) is not None


def url(text: str) -> str:
    """Give a URL without its password and without keys in its query.

    Parameters
    ----------
    text
        A base URL or a database URL.

    Examples
    --------
    >>> url("https://ann:hunter2@gateway.example/v1?api-version=3&key=abcdef")
    'https://ann:[scrubbed]@gateway.example/v1?api-version=3&key=[scrubbed]'
    """
    return _KEY_IN_QUERY.sub(rf"\1{MARK}", _PASSWORD_IN_URL.sub(rf"\1:{MARK}@", text))


@functools.lru_cache(maxsize=8)
def _values(found: tuple[str, ...]) -> re.Pattern[str] | None:
    """Match each value as it stands, as JSON writes it and as a URL writes it."""
    forms = {form for value in found for form in (value, json.dumps(value)[1:-1], urllib.parse.quote(value, safe=""))}
    if not forms:
        return None
    return re.compile("|".join(re.escape(form) for form in sorted(forms, key=lambda form: (-len(form), form))))
