"""Examples in docstrings and documents are tests: Python is run, YAML is read as a suite or a part of one."""

from __future__ import annotations

import bisect
import doctest
from pathlib import Path
from typing import TYPE_CHECKING

from sybil import Sybil
from sybil.document import PythonDocStringDocument
from sybil.example import NotEvaluated
from sybil.parsers.markdown import CodeBlockParser, PythonCodeBlockParser
from sybil.parsers.rest import DocTestParser
from sybil.python import import_path

if TYPE_CHECKING:
    from sybil import Example

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


class _Docstrings(PythonDocStringDocument):
    """Each docstring by itself: the names of its module, and nothing that another docstring left behind."""

    _current: int | None = None

    def import_document(self, example: Example) -> None:
        """Begin anew where a docstring begins."""
        starts = sorted(start for start, _, _ in self.extract_docstrings(self.text))
        here = bisect.bisect(starts, example.region.start)
        if here != self._current:
            self._current = here
            self.namespace.clear()
            self.namespace.update(vars(import_path(Path(self.path))))
        raise NotEvaluated


_documents = Sybil(
    path=str(Path(__file__).parents[1]),
    parsers=[PythonCodeBlockParser(doctest_optionflags=_FLAGS), CodeBlockParser(language="yaml", evaluator=_read_yaml)],
    patterns=["README.md", "CONTRIBUTING.md", "docs/*.md"],
)
_docstrings = Sybil(
    path=str(Path(__file__).parents[1]),
    parsers=[DocTestParser(optionflags=_FLAGS)],
    patterns=["cascade_eval/*.py", "cascade_eval/**/*.py"],
    document_types={".py": _Docstrings},
)

collect = (_documents + _docstrings).pytest()
"""Stands as `pytest_collect_file` in the root conftest.py."""
