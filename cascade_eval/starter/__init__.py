"""What `cascade-eval init` and `cascade-eval demo` write: a suite, a cascade, and made-up cases that fit them."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING

from cascade_eval import atomic, goldens, suite
from cascade_eval.errors import Problem, UsageError
from cascade_eval.starter import cases

if TYPE_CHECKING:
    import os

INIT_CASES = 1_200
DEMO_CASES = 3_000

HEALTHY, SATURATED = "healthy.cascade.yaml", "saturated.cascade.yaml"
"""The suites of the demo: the same promises, one month apart."""


def init(folder: str | os.PathLike[str]) -> list[Path]:
    """Write a small suite with its cascade and golden; nothing that exists is overwritten.

    Parameters
    ----------
    folder
        Made where it does not exist.

    Returns
    -------
    list of Path
        The files, the suite first.

    Raises
    ------
    UsageError
        A file of the same name exists; nothing was written.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     [path.name for path in init(folder)]
    ['support.cascade.yaml', 'support.yaml', 'suite.schema.json', 'cases.jsonl', 'golden.yaml']
    """
    root = Path(folder)
    golden = root / "goldens" / "support"
    story = "The cases are made up. Record your own, and describe them in golden.yaml."
    written = _write(
        root,
        {
            "support.cascade.yaml": _suite(root, "goldens: goldens/support", story),
            "cascades/support.yaml": _text("cascade.yaml"),
            "suite.schema.json": json.dumps(suite.schema(), indent=2) + "\n",
            "goldens/support/cases.jsonl": cases.lines(INIT_CASES),
        },
        also=[golden / goldens.FILE],
    )
    described = goldens.describe(
        golden,
        name="support",
        description="Made-up requests to a support desk, in English and Portuguese.",
        licence="CC0-1.0",
        recorded={"how": "drawn from hashes by cascade-eval init; no model was asked"},
        cohorts=["language"],
    )
    return [*written, described]


def demo(folder: str | os.PathLike[str]) -> list[Path]:
    """Write a healthy and a saturated month under the same promises.

    Returns
    -------
    list of Path
        The two suites, healthy first.

    Raises
    ------
    UsageError
        A file of the same name exists; nothing was written.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     [path.name for path in demo(folder)]
    ['healthy.cascade.yaml', 'saturated.cascade.yaml']
    """
    root = Path(folder)
    stories = {
        HEALTHY: "A healthy month: mini is unsure where it is often wrong.",
        SATURATED: "Months later: the same answers, and mini is sure of them.",
    }
    texts = {
        name: _suite(root, f"traffic: traffic/{name.partition('.')[0]}.jsonl", story) for name, story in stories.items()
    }
    texts |= {
        "cascades/support.yaml": _text("cascade.yaml"),
        "suite.schema.json": json.dumps(suite.schema(), indent=2) + "\n",
        "traffic/healthy.jsonl": cases.lines(DEMO_CASES),
        "traffic/saturated.jsonl": cases.lines(DEMO_CASES, saturated=True),
    }
    return _write(root, texts)[:2]


def _suite(folder: Path, data: str, story: str) -> str:
    return Template(_text("suite.yaml")).substitute(folder=folder.as_posix(), data=data, story=story)


def _text(name: str) -> str:
    return (resources.files("cascade_eval.starter") / name).read_text(encoding="utf-8")


def _write(root: Path, texts: dict[str, str], *, also: list[Path] | None = None) -> list[Path]:
    paths = {root / name: text for name, text in texts.items()}
    there = [path for path in [*paths, *(also or [])] if path.exists()]
    if there:
        problems = [Problem("exists and is not overwritten; name another folder", path.as_posix()) for path in there]
        raise UsageError(problems)
    for path, text in paths.items():
        atomic.write(path, text.encode())
    return list(paths)
