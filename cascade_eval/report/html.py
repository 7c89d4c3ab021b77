"""The report as one HTML file that needs nothing else: no network, no script, no style it was not allowed."""

from __future__ import annotations

import base64
import functools
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import jinja2
from markupsafe import Markup

from cascade_eval import atomic
from cascade_eval.report import svg_charts, svg_weeks, view

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

TEMPLATES = Path(__file__).parent / "templates"


def write(
    path: str | os.PathLike[str], evidence: Mapping[str, Any], *, css: Literal["inline", "sidecar"] = "inline"
) -> Path:
    """Write the report.

    Parameters
    ----------
    path
        Of the HTML file; written whole or not at all.
    evidence
        As `cascade_eval.evidence.build` or `read` return it.
    css
        ``sidecar`` puts the style into a ``.css`` file of the same name, for servers whose content-security policy
        refuses styles inside the page, as Jenkins does. Everything is readable without it.

    Raises
    ------
    UsageError
        The file cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> from cascade_eval import evidence, runs, suite
    >>> judged = runs.evaluate(suite.load("suites/tickets.cascade.yaml"))
    >>> made = evidence.build([{**judged.record, "suite": "tickets"}], selected={"items": 1, "of": 1})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write(f"{folder}/cascade.html", made).read_text(encoding="utf-8")[:15]
    '<!DOCTYPE html>'
    """
    target = Path(path)
    if css == "sidecar":
        sheet = target.with_suffix(".css")
        atomic.write(sheet, _part("report.css").encode())
        return atomic.write(target, render(evidence, stylesheet=sheet.name).encode())
    return atomic.write(target, render(evidence).encode())


def render(evidence: Mapping[str, Any], *, stylesheet: str | None = None) -> str:
    """Return the page; `stylesheet` is linked to instead of the style standing inside."""
    return draw(view.build(evidence), stylesheet=stylesheet)


def draw(page: view.View, *, stylesheet: str | None = None) -> str:
    """Return the page for a view."""
    style, script = _part("report.css"), _part("report.js")
    return _template().render(
        page=page,
        style=None if stylesheet else Markup(style),  # noqa: S704  our own file
        stylesheet=stylesheet,
        script=Markup(script),  # noqa: S704  our own file
        policy=_policy(style, script, linked=stylesheet is not None),
    )


def _policy(style: str, script: str, *, linked: bool) -> str:
    """Return a policy under which nothing but our own style and script counts, whatever an answer contains."""
    source = "'self'" if linked else _hash(style)
    return f"default-src 'none'; style-src {source}; script-src {_hash(script)}; base-uri 'none'; form-action 'none'"


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _tight(text: str) -> str:
    """Keep a range and an n on one line."""
    return text.replace("–", "\u2060–\u2060").replace("n ", "n\u00a0") if "(" in text else text


@functools.cache
def _part(name: str) -> str:
    return (TEMPLATES / name).read_text(encoding="utf-8")


@functools.cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.globals["chart"] = svg_charts
    environment.globals["weeks_chart"] = svg_weeks
    environment.filters["tight"] = _tight
    return environment.get_template("report.html.j2")
