"""The examples of the help texts run as they stand, on the suite that `cascade-eval init evals` writes."""

from __future__ import annotations

import inspect
import re
import shlex

import click
import pytest

from cascade_eval import cli, evidence, runs, starter, suite

ELSEWHERE = {
    "init": "tests/test_cli.py",
    "demo": "tests/test_cli.py",
    "record": "asks models",
    "import": "needs the log of another tool; tests/test_importers.py",
    "audit doubtful": "needs a flagship that says how sure it is; tests/test_flagship.py",
}
"""Commands whose example needs what a fresh folder lacks, and where they are run."""


def commands(group=cli.commands, before=""):
    """Yield every command with its full name."""
    for name, command in group.commands.items():
        yield f"{before}{name}", command
        if isinstance(command, click.Group):
            yield from commands(command, f"{before}{name} ")


def example(command):
    """Return what follows `Example:`, as a shell would read it."""
    text = inspect.cleandoc(command.help or "").partition("Example: cascade-eval ")[2].partition("\n\n")[0]
    return shlex.split(" ".join(text.split()))


HELP = dict(commands())
ORDER = [name for name in HELP if name not in ELSEWHERE]


def test_examples_run_in_a_fresh_folder(tmp_path, monkeypatch, capsys):
    """Pasted one after the other, each example ends with 0: nothing in them is missing or misspelt."""
    monkeypatch.chdir(tmp_path)
    starter.init("evals")
    record = {**runs.evaluate(suite.load("evals/support.cascade.yaml")).record, "suite": "support.cascade.yaml"}
    items = sum(len(cascade["verdicts"]) for cascade in record["cascades"])
    evidence.write("reports/evidence.json", evidence.build([record], selected={"items": items, "of": items}))
    # A plan is drawn and a sample read in this order; the list of commands has another.
    steps = {name: number for number, name in enumerate(("audit plan", "audit sample", "audit read"))}
    for name in sorted(ORDER, key=lambda name: steps.get(name, -1)):
        code = cli.run(example(HELP[name]))
        out, err = capsys.readouterr()
        assert code == 0, (name, out, err)
        assert out, name


@pytest.mark.parametrize("name", HELP)
def test_every_command_shows_an_example_of_itself(name):
    """The example names the command, or the first of its group's, and only options that it has."""
    words = example(HELP[name])
    assert " ".join(words).startswith(name)
    command = HELP[" ".join(words[:2])] if isinstance(HELP[name], click.Group) else HELP[name]
    known = {option for parameter in command.params for option in parameter.opts}
    assert {word for word in words if word.startswith("-")} <= known


@pytest.mark.parametrize("name", HELP)
def test_exit_codes_are_said_in_one_way(name):
    """A command with answers of its own lists them in order, each once, and 4 among them; the others have none."""
    text = " ".join((HELP[name].help or "").split())
    codes = re.findall(r"(?:Exit code|[.;]) (\d+): ", text)
    assert codes == sorted(codes, key=lambda code: (code == "4", int(code)))
    assert not codes or (codes[0], codes[-1]) == ("0", "4")
    assert "Exits" not in text


SHARED = {
    "--tolerate": "N",
    "--traffic": "PATH",
    "--cascade": "NAME",
    "--tier": "NAME",
    "--per": "COLUMN",
    "--since": "WEEK",
}


@pytest.mark.parametrize("name", HELP)
def test_one_thing_has_one_option(name):
    """What is written has -o and --output, and what several commands ask for has one name and one placeholder."""
    for parameter in HELP[name].params:
        assert ("-o" in parameter.opts) == ("--output" in parameter.opts), parameter.opts
        for option in set(parameter.opts) & set(SHARED):
            assert parameter.metavar == SHARED[option], option
