"""One text for a value that is no text: JSON with sorted keys, as answers are compared and stored."""

from __future__ import annotations

import json
from typing import Any

import msgspec

_TEXT = msgspec.json.Encoder(order="sorted")


def text(value: Any) -> str | None:
    """Write a value as text: itself where it is text, else canonical JSON.

    Examples
    --------
    >>> text({"b": 1, "a": [True, None]}), text("as it is"), text(None)
    ('{"a":[true,null],"b":1}', 'as it is', None)
    """
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, int):
        return json.dumps(value)
    return _TEXT.encode(value).decode()
