"""Lines that put a verdict beside the promised line of a pull request: workflow commands of GitHub Actions."""

from __future__ import annotations


def line(level: str, message: str, *, file: str | None, line: int | None, heading: str) -> str:
    """Write one annotation.

    Examples
    --------
    >>> line("error", "15.9% > 10%", file="s.cascade.yaml", line=10, heading="support: disagreement")
    '::error file=s.cascade.yaml,line=10,title=support%3A disagreement::15.9%25 > 10%25'
    """
    given = {"file": file, "line": line, "title": heading}
    options = ",".join(f"{key}={_property(str(value))}" for key, value in given.items() if value is not None)
    return f"::{level} {options}::{_data(message)}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
