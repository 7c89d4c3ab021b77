"""Tests of the plugin run pytest inside pytest; the plugin itself is registered by its entry point, never here.

Examples in docstrings and documents are tests too: Python is run, YAML is read as a suite or a part of one.
"""

from __future__ import annotations

import doctest
from pathlib import Path
from typing import TYPE_CHECKING

from sybil import Sybil
from sybil.parsers.markdown import CodeBlockParser, PythonCodeBlockParser
from sybil.parsers.rest import DocTestParser

if TYPE_CHECKING:
    from sybil import Example

pytest_plugins = ["pytester"]

_FLAGS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS

_REST = {
    "goldens": "goldens/incident",
    "cascades": "{current: [{tier: mini, model: mini, gate: {signal: confidence, threshold: 0.8}}, {tier: flagship, model: big}]}",
    "cohorts": "[language, intent]",
    "budgets": "{escalation: {overall: 20% to 40%}}",
}
"""What a part of a suite in a document is completed with."""


def _read_yaml(example: Example) -> None:
    """Read a block as a suite, part of a suite, or a cascade's own file; a wrong word in a document is an error."""
    from cascade_eval import suite

    text = str(example.parsed)
    if text.startswith(("- ", "routes:", "tiers:")):
        written, cascade = "cascades: {current: cascade.yaml}\n", text
    else:
        written, cascade = text, "[{tier: flagship, model: big}]"
    keys = {line.partition(":")[0] for line in written.splitlines()}
    if "traffic" in keys:
        keys.add("goldens")
    written += "".join(f"\n{key}: {value}" for key, value in _REST.items() if key not in keys)
    suite.parse(written, file=example.path, base=Path(example.path).parent, read_file=lambda _: cascade)


_documents = Sybil(
    parsers=[PythonCodeBlockParser(doctest_optionflags=_FLAGS), CodeBlockParser(language="yaml", evaluator=_read_yaml)],
    patterns=["README.md", "CONTRIBUTING.md", "docs/*.md"],
)
_docstrings = Sybil(parsers=[DocTestParser(optionflags=_FLAGS)], patterns=["cascade_eval/*.py", "cascade_eval/**/*.py"])

pytest_collect_file = (_documents + _docstrings).pytest()
