"""Text in columns of a terminal, where some letters take two columns and some none."""

from __future__ import annotations

import unicodedata


def wide(text: str) -> int:
    """Columns a terminal takes for the text.

    Examples
    --------
    >>> wide("pt"), wide("日本"), wide("e\u0301")
    (2, 4, 1)
    """
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def pad(text: str, width: int, *, right: bool = False) -> str:
    """Fill text up to so many columns; at its left where it is to stand at the right."""
    space = " " * max(0, width - wide(text))
    return space + text if right else text + space


def cut(text: str, width: int) -> str:
    """Shorten text to so many columns, with an ellipsis where something is left out.

    Examples
    --------
    >>> cut("pt-PT", 5), cut("pt-PT", 4), cut("日本語", 5)
    ('pt-PT', 'pt-…', '日本…')
    """
    if wide(text) <= width:
        return text
    while text and wide(text) >= width:
        text = text[:-1]
    return f"{text.rstrip()}…"
