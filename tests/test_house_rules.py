"""Rules of this repository that no linter knows."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path

import pytest

from cascade_eval import cli, metrics, signals
from cascade_eval.signals import catalogue

ROOT = Path(__file__).parents[1]
TESTS = sorted((ROOT / "tests").glob("test_*.py"))
MODULES = sorted((ROOT / "cascade_eval").rglob("*.py"))
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "reports").glob("*.md")])

SECTIONS = ("Parameters", "Returns", "Yields", "Raises", "See Also", "Notes", "References", "Examples")
"""Sections of a numpydoc docstring, in order."""

MACHINE = re.compile(r"(?<![\w.])(/work/|/home/\w|/root/|/Users/\w|[A-Z]:\\Users|/[\w.\-/]+/site-packages/)")
VOCABULARY = re.compile(r"\b(tighten|loosen)(s|ed|ing)?\b", re.IGNORECASE)


@cache
def tracked():
    """Text files of the project; columns of numbers are left out."""
    ask = ["git", "-C", str(ROOT), "ls-files", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(ask, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip("not a git checkout")
    text = {".py", ".md", ".toml", ".yaml", ".html", ".css", ".js", ".txt", ".jsonl", ".json", ".csv", ""}
    return [ROOT / name for name in done.stdout.splitlines() if Path(name).suffix in text and (ROOT / name).is_file()]


def functions(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.stem)
def test_every_test_states_its_property(path):
    """Each test function says in its docstring what holds."""
    silent = [f.name for f in functions(path) if f.name.startswith("test_") and not ast.get_docstring(f)]
    assert not silent


def test_no_file_names_a_machine():
    """No file holds a path of the machine it was written on."""
    found = {
        str(path.relative_to(ROOT)): match[0]
        for path in tracked()
        if path != Path(__file__) and (match := MACHINE.search(path.read_text(encoding="utf-8")))
    }
    assert not found


def test_the_vocabulary_holds():
    """Nothing is tightened or loosened: those words mean opposite things to different people."""
    found = {
        str(path.relative_to(ROOT)): match[0]
        for path in tracked()
        if path != Path(__file__)
        and path.name != "LICENSE"
        and (match := VOCABULARY.search(path.read_text(encoding="utf-8")))
    }
    assert not found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT / "cascade_eval")))
def test_docstrings_can_be_parsed(path):
    """Sections of docstrings are numpydoc's, underlined in full, in order, and name parameters that exist."""
    for function in functions(path):
        text = ast.get_docstring(function) or ""
        lines = text.splitlines()
        titles = [
            (line, lines[number + 1])
            for number, line in enumerate(lines[:-1])
            if re.fullmatch(r"-{3,}", lines[number + 1])
        ]
        names = [title for title, _ in titles]
        assert set(names) <= set(SECTIONS), (function.name, names)
        assert names == sorted(names, key=SECTIONS.index), (function.name, names)
        assert all(len(title) == len(line) for title, line in titles), (function.name, names)
        unknown = set(_parameters(text)) - _arguments(function)
        assert not unknown, (function.name, unknown)


def _parameters(text):
    """Names in the section of parameters; several may share a line."""
    section = re.search(r"^Parameters\n-+\n(.*?)(?=^\w[^\n]*\n-{3,}$|\Z)", text, re.MULTILINE | re.DOTALL)
    for line in (section[1] if section else "").splitlines():
        if line and not line[0].isspace():
            yield from (name.strip(" *") for name in line.partition(" : ")[0].split(","))


def _arguments(function):
    arguments = function.args
    every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
    return {argument.arg for argument in every if argument is not None}


# --- documents -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", cli.commands.commands)
def test_commands_have_help_and_are_documented(name):
    """Each command says what it does, shows an example and the Python that does the same, and stands in docs/cli.md."""
    command = cli.commands.commands[name]
    text = inspect.cleandoc(command.help or "")
    assert f"Example: cascade-eval {name}" in text
    assert "In Python: " in text
    assert all(option.help for option in command.params if option.param_type_name == "option")
    documented = (
        (ROOT / "docs" / "cli.md").read_text(encoding="utf-8").partition(f"\n## {name}\n")[2].partition("\n## ")[0]
    )
    assert f"cascade-eval {name}" in documented
    assert "In Python:" in documented
    assert f"cascade-eval {name}" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_options_of_the_plugin_are_documented():
    """docs/cli.md lists exactly the options that pytest shows."""
    source = (ROOT / "cascade_eval" / "pytest_plugin.py").read_text(encoding="utf-8")
    declared = set(re.findall(r'"(?:--cascade-)([a-z]+)"', source)) | set(
        re.findall(r'^    \("([a-z]+)", "', source, re.MULTILINE)
    )
    documented = set(
        re.findall(r"^\| `--cascade-([a-z]+)", (ROOT / "docs" / "cli.md").read_text(encoding="utf-8"), re.MULTILINE)
    )
    assert documented == declared


def test_metrics_of_the_readme_are_those_of_the_package():
    """The table of metrics is complete, and says what the package says."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `([^`]+)` \| [^|]+ \| ([^|]+) \|$", readme, re.MULTILINE))
    assert rows.pop("escalation from <tier>")
    assert rows == {metric.name: metric.help for metric in metrics.METRICS.values()}


def test_signals_of_the_documents_are_those_of_the_package():
    """The table of signals is complete, and says what the package says."""
    text = (ROOT / "docs" / "suites.md").read_text(encoding="utf-8")
    for name in signals.names():
        if name != "recorded":
            found = catalogue.find(name)
            assert f"| `{name}` | {found.help} | {found.cost} |" in text


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(path):
    """Every link within the project names a file, and a heading where it names one."""
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", path.read_text(encoding="utf-8")):
        name, _, heading = target.partition("#")
        file = path.parent / name if name else path
        assert file.exists(), target
        if heading:
            titles = re.findall(r"^#+ (.+)$", file.read_text(encoding="utf-8"), re.MULTILINE)
            assert heading in {title.lower().replace(" ", "-") for title in titles}, target


def test_every_package_file_is_in_the_wheel():
    """The wheel is the package folder, so nothing the package reads may be ignored by git."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        assert tomllib.load(file)["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"] == ["cascade_eval"]
    here = {p for p in (ROOT / "cascade_eval").rglob("*") if p.is_file() and "__pycache__" not in p.parts}
    ask = ["git", "-C", str(ROOT), "check-ignore", *map(str, here)]
    done = subprocess.run(ask, capture_output=True, text=True, check=False)
    assert done.stdout == ""
    assert {"py.typed", "suite.schema.json", "evidence.schema.json", "hedging.txt"} <= {path.name for path in here}


def _imported():
    """Top-level names of other distributions that the package imports anywhere."""
    nodes = [node for path in MODULES for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))]
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module}
    return {name.partition(".")[0] for name in names} - set(sys.stdlib_module_names) - {"cascade_eval", "__future__"}


def test_what_is_installed_is_what_is_imported():
    """Users install nothing the package does not import, and it imports nothing that only development installs."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        project = tomllib.load(file)["project"]
    required, extras = project["dependencies"], project["optional-dependencies"]
    always, live = (
        {re.split(r"[\[>]", line)[0].partition(".")[0].replace("-", "_") for line in lines}
        for lines in (required, [line for name in ("xdist", "playback", "live", "sql") for line in extras[name]])
    )
    brought_along = {"markupsafe", "pydantic_core", "_pytest", "httpx", "httpx2", "httpcore", "httpcore2", "xdist"}
    assert always <= _imported()
    assert _imported() <= always | live | brought_along
