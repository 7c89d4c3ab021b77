"""The public names, and what importing the package costs."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import cascade_eval

ROOT = Path(__file__).parents[1]

MODULES = (
    "agreement", "audit", "baseline", "bounds", "budgets", "calibration", "cascade", "cohorts", "costs", "counts",
    "diagnosis", "drift", "errors", "evidence", "goldens", "history", "importers", "metrics", "monitor", "playback", "proposals",
    "recording", "replay", "report", "runs", "sequential", "signals",
    "starter", "suite", "thresholds", "traffic", "verdicts",
)  # fmt: skip

DOCUMENTED = {
    "runs": {"check", "evaluate", "open", "replays"},
    "suite": {"load", "parse", "schema", "evaluate"},
    "traffic": {"open", "query", "from_records", "from_frame"},
    "goldens": {"open", "describe"},
    "evidence": {"build", "read", "redact", "schema", "write"},
    "bounds": {
        "rate",
        "zero_disagreement_minimum",
        "cases_to_decide",
        "smallest_provable",
        "without_flips",
        "without_misjudgement",
    },
    "report.html": {"write"},
    "starter": {"init", "demo"},
    "monitor": {"weekly", "whole", "fixed", "judge"},
    "diagnosis": {"run"},
    "history": {"write", "read", "compact"},
    "importers": {"read", "open", "find", "names"},
    "proposals": {"threshold", "pair", "escalation", "calibrate", "write", "markdown"},
    "thresholds": {"sweep", "front", "select", "pair", "select_pair", "target"},
    "playback": {"play", "record", "Adapter"},
    "audit": {"plan", "sample", "read", "merge", "load", "load_plan", "spent", "worth"},
    "diagnosis.flagship": {"noise", "doubtful", "write"},
    "recording": {"load", "parse", "run", "collect", "write"},
}
"""Functions that documents and help texts name."""


def test_public_names_are_pinned():
    """A name appears or goes only when this list says so."""
    assert cascade_eval.__all__ == ["__version__", *MODULES]
    assert dir(cascade_eval) == cascade_eval.__all__


@pytest.mark.parametrize("name", MODULES)
def test_a_public_name_is_its_module(name):
    """Every name resolves to the module of that name, and the module says what it is."""
    module = getattr(cascade_eval, name)
    assert module is importlib.import_module(f"cascade_eval.{name}")
    assert module.__doc__


def test_an_unknown_name_is_an_attribute_error():
    """A misspelt name fails as in any module."""
    with pytest.raises(AttributeError, match="module 'cascade_eval' has no attribute 'suites'"):
        cascade_eval.suites  # noqa: B018  the access is the test


@pytest.mark.parametrize(("module", "names"), DOCUMENTED.items())
def test_documented_functions_exist(module, names):
    """What documents and help texts name can be called, and is documented where it stands."""
    found = importlib.import_module(f"cascade_eval.{module}")
    for name in names:
        assert getattr(found, name).__doc__, name


def test_importing_the_package_loads_the_standard_library_only():
    """`import cascade_eval` runs in every pytest session, so it may load nothing of its own or of others."""
    code = (
        "import sys; before = set(sys.modules); import cascade_eval; new = set(sys.modules) - before - {'cascade_eval'}; "
        "print(sorted(name for name in new if name.partition('.')[0] not in sys.stdlib_module_names))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_names_resolve_in_a_fresh_process():
    """A noun can be used without having been imported by name."""
    code = "import cascade_eval; print(cascade_eval.bounds.zero_disagreement_minimum(0.05))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "59\n"


def test_a_report_is_written_as_the_help_says():
    """`report.html.write` needs no import of its own, and nothing that draws is imported before it is asked for."""
    code = (
        "import sys; from cascade_eval import report; "
        "assert 'cascade_eval.report.html' not in sys.modules; report.html.write; report.markdown.render; "
        "assert not hasattr(report, 'pdf') and dir(report) == report.__all__"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
