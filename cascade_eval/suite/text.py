"""YAML 1.2 as plain values, with the line of everything.

Only what a suite needs is read: mappings, lists and scalars of the YAML 1.2 core schema, so that `no` is a string and
`1_000` is not a number. Directives, tags, anchors, aliases, merge keys, duplicate keys and further documents are
problems: each of them makes a file mean something else than it seems to say.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from cascade_eval.errors import Problem, SuiteError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

Path: TypeAlias = tuple[str | int, ...]
"""Keys and list positions from the top of a document to one of its values."""

MAX_BYTES = 1_000_000
MAX_DEPTH = 40

_NULLS = frozenset({"", "~", "null", "Null", "NULL"})
_TRUTHS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INTEGER = re.compile(r"[-+]?[0-9]+")
_OTHER_BASE = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_INFINITE = re.compile(r"[-+]?\.(inf|Inf|INF)")
_NAN = frozenset({".nan", ".NaN", ".NAN"})
_LONGEST_INTEGER = 300
_HINTS = (
    ("\\t", " Use spaces, not tabs."),
    ("indentation indicators", " Signs do not survive YAML: write 'at least 5%' or 'at most 5%'."),
)


@dataclass(frozen=True)
class Lines:
    """Where everything in a file stands.

    Parameters
    ----------
    file
        As the user named it.
    at
        One-based line by path: of the key for an entry of a mapping, of its first character for a list item.
    """

    file: str | None
    at: Mapping[Path, int] = field(default_factory=dict, repr=False)

    def of(self, *path: str | int) -> int | None:
        r"""Line of the value at `path`, or of the nearest thing around it; None where nothing is known.

        Examples
        --------
        >>> read("a:\n  b: [1, 2]\n", file="x.yaml").lines.of("a", "b", 1, "missing")
        2
        """
        while path not in self.at and path:
            path = path[:-1]
        return self.at.get(path)

    def problem(self, message: str, *path: str | int) -> Problem:
        """Say what is wrong at `path`."""
        return Problem(message, self.file, self.of(*path))

    def within(self, *path: str | int) -> Lines:
        """Return the lines of one part, by path from there."""
        length = len(path)
        return Lines(self.file, {key[length:]: line for key, line in self.at.items() if key[:length] == path})

    def renamed(self, names: Mapping[str, str]) -> Lines:
        """Return the same lines, with the keys at the top known under new names as well."""
        extra = {(names[str(key[0])], *key[1:]): line for key, line in self.at.items() if key and key[0] in names}
        return Lines(self.file, {**self.at, **extra})


@dataclass(frozen=True)
class Document:
    """A value made of dicts, lists, strings, numbers, booleans and None, and where its parts stand."""

    value: Any
    lines: Lines


def read(text: str, *, file: str | None = None, as_text: Callable[[Path], bool] = lambda _: False) -> Document:
    r"""Read one YAML document.

    Parameters
    ----------
    text
        The document.
    file
        For messages.
    as_text
        Says of a path whether a scalar there stays text as it was written (null stays null).

    Returns
    -------
    Document
        Values by the core schema of YAML 1.2; keys are always strings.

    Raises
    ------
    SuiteError
        With every forbidden construct, or the first syntax error.

    Examples
    --------
    >>> read("language: no\nthreshold: 0.82\n").value
    {'language': 'no', 'threshold': 0.82}
    """
    from ruamel.yaml.error import MarkedYAMLError
    from ruamel.yaml.reader import ReaderError

    if len(text) > MAX_BYTES:
        raise SuiteError([Problem(f"{len(text):,} characters are too many; at most {MAX_BYTES:,} are read.", file)])
    reader = _Reader(file, as_text)
    try:
        return reader.document(_events(text))
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise SuiteError([Problem(_syntax(error), file, None if mark is None else mark.line + 1)]) from None
    except ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise SuiteError(
            [Problem(f"not YAML: the character U+{error.character:04X} is not allowed.", file, line)]
        ) from None


def _events(text: str) -> Iterator[Any]:
    from ruamel.yaml import YAML

    return iter(YAML(typ="safe", pure=True).parse(text))


def node(written: str) -> Any:
    """Return the node tree of a document that `read` accepts, whose marks say where each part begins and ends."""
    from ruamel.yaml import YAML

    return YAML(typ="safe", pure=True).compose(written)


def _syntax(error: Any) -> str:
    parts = [part for part in (error.context, error.problem) if part]
    return f"not YAML: {', '.join(parts)}.{next((hint for mark, hint in _HINTS if mark in str(error.problem)), '')}"


class _TooDeepError(Exception):
    """The document is nested deeper than any suite."""


class _Reader:
    """Builds the value from parser events, one method per kind of event."""

    def __init__(self, file: str | None, as_text: Callable[[Path], bool]) -> None:
        self.file = file
        self.as_text = as_text
        self.lines: dict[Path, int] = {}
        self.problems: list[Problem] = []

    def document(self, events: Iterator[Any]) -> Document:
        value: Any = None
        documents = 0
        for event in events:
            kind = type(event).__name__
            if kind == "DocumentStartEvent":
                documents += 1
                self._start(event, documents)
                try:
                    value = self.value(next(events), events, ())
                except _TooDeepError:
                    break
                if documents > 1:
                    break
        if not documents:
            self.problems.append(Problem("the file is empty.", self.file))
        if self.problems:
            raise SuiteError(self.problems)
        return Document(value, Lines(self.file, self.lines))

    def _start(self, event: Any, documents: int) -> None:
        if event.version or event.tags:
            self.problem("directives (lines that begin with %) are not read. Remove them.", event)
        if documents > 1:
            self.problem("a second document begins here; a file holds one.", event)

    def problem(self, message: str, event: Any) -> None:
        self.problems.append(Problem(message, self.file, event.start_mark.line + 1))

    def value(self, event: Any, events: Iterator[Any], path: Path) -> Any:
        if len(path) > MAX_DEPTH:
            self.problem(f"nested more than {MAX_DEPTH} levels deep.", event)
            raise _TooDeepError
        self.lines.setdefault(path, event.start_mark.line + 1)
        kind = type(event).__name__
        if kind == "AliasEvent":
            self.problem(f"the alias '*{event.anchor}' is not read. Write the value out.", event)
            return None
        self._refuse_extras(event)
        if kind == "MappingStartEvent":
            return self._mapping(events, path)
        if kind == "SequenceStartEvent":
            return self._sequence(events, path)
        return self._scalar(event, path)

    def _refuse_extras(self, event: Any) -> None:
        if event.anchor is not None:
            self.problem(f"the anchor '&{event.anchor}' is not read. Write the value out.", event)
        if event.tag is not None:
            tag = str(event.tag).replace("tag:yaml.org,2002:", "!!")
            self.problem(f"the tag '{tag}' is not read. Remove it.", event)

    def _mapping(self, events: Iterator[Any], path: Path) -> dict[str, Any]:
        mapping: dict[str, Any] = {}
        for event in events:
            if type(event).__name__ == "MappingEndEvent":
                break
            key = self._key(event, events, path)
            here = (*path, key)
            if key in mapping:
                self.problem(f"'{key}' is written twice; first in line {self.lines[here]}.", event)
                here = (*path, key, "twice")
            self.lines[here] = event.start_mark.line + 1
            value = self.value(next(events), events, here)
            mapping.setdefault(key, value)
        return mapping

    def _key(self, event: Any, events: Iterator[Any], path: Path) -> str:
        if type(event).__name__ != "ScalarEvent":
            self.problem("a key must be a word.", event)
            self.value(event, events, (*path, "key"))
            return "key"
        self._refuse_extras(event)
        if event.value == "<<" and event.implicit[0]:
            self.problem("the merge key '<<' is not read. Write the entries out.", event)
        return self._text(event)

    def _text(self, event: Any) -> str:
        # JSON escapes characters beyond the first plane as two halves, which belong together.
        try:
            return str(event.value).encode("utf-16", "surrogatepass").decode("utf-16")
        except UnicodeDecodeError:
            self.problem("half a character: an escape such as \\ud83d needs its second half.", event)
            return ""

    def _sequence(self, events: Iterator[Any], path: Path) -> list[Any]:
        items: list[Any] = []
        for event in events:
            if type(event).__name__ == "SequenceEndEvent":
                break
            items.append(self.value(event, events, (*path, len(items))))
        return items

    def _scalar(self, event: Any, path: Path) -> Any:
        written = self._text(event)
        value = resolve(written) if event.implicit[0] else written
        if value is not None and self.as_text(path):
            return written
        if isinstance(value, float) and not math.isfinite(value):
            self.problem(f"'{written}' is not a finite number.", event)
        return value


def resolve(word: str) -> Any:
    """Return what a plain word means in the core schema of YAML 1.2.

    Examples
    --------
    >>> [resolve(word) for word in ("no", "true", "0.82", "1_000", "~", "0x1f")]
    ['no', True, 0.82, '1_000', None, 31]
    """
    if word in _NULLS:
        return None
    if word in _TRUTHS:
        return _TRUTHS[word]
    if len(word) > _LONGEST_INTEGER:
        return word
    if _INTEGER.fullmatch(word):
        return int(word)
    if _OTHER_BASE.fullmatch(word):
        return int(word, 0)
    if _FLOAT.fullmatch(word):
        return float(word)
    if _INFINITE.fullmatch(word):
        return float(word.replace(".", ""))
    return float("nan") if word in _NAN else word
