"""The command line: what each command prints, writes and refuses."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from cascade_eval import bounds, cli, evidence, runs, starter, suite
from cascade_eval.cli import checking, showing
from cascade_eval.errors import UsageError

ROOT = Path(__file__).parents[1]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Stand in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def made(folder):
    """Write the suite of init; return its path."""
    starter.init("evals")
    return folder / "evals" / "support.cascade.yaml"


def run(capsys, *arguments):
    code = cli.run(arguments)
    out, err = capsys.readouterr()
    return code, out, err


def store(path="evidence.json"):
    """Evidence of the suite that init writes."""
    record = {**runs.evaluate(suite.load("evals/support.cascade.yaml")).record, "suite": "support.cascade.yaml"}
    items = sum(len(cascade["verdicts"]) for cascade in record["cascades"])
    return evidence.write(path, evidence.build([record], selected={"items": items, "of": items}))


# --- the door ------------------------------------------------------------------------------------------------------


def test_help_costs_nothing():
    """Help loads no library that computes, so that it answers at once."""
    code = (
        "import sys; from cascade_eval import cli; code = cli.run(['--help']); "
        "heavy = {'numpy', 'scipy', 'pandas', 'pyarrow', 'pydantic', 'jinja2', 'pytest'} & set(sys.modules); "
        "sys.exit(f'{heavy}' if heavy else code)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert all(name in done.stdout for name in cli.commands.commands)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["chek"], "no command 'chek'. Did you mean 'check'?"),
        (["check"], "Missing argument 'SUITE...'"),
        (["check", "x.yaml", "--tolerate", "-1"], "Invalid value for '--tolerate'"),
        (["schema", "sweet"], "'sweet' is not one of 'suite', 'evidence'"),
        (["report"], "Missing argument 'EVIDENCE'"),
        (["audit", "read", "s.cascade.yaml"], "Help: cascade-eval audit read --help"),
        (["demo", "--kep"], "No such option '--kep'"),
    ],
)
def test_a_wrong_command_line_is_a_usage_error(capsys, arguments, message):
    """What click finds wrong ends with the same code as what a suite finds wrong, and without a traceback."""
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (4, "")
    assert message in err


def test_a_group_alone_shows_its_help(capsys):
    """Without a command there is nothing to run: the help, as it is, and the code of a usage error."""
    code, out, err = run(capsys, "audit")
    assert (code, out) == (4, "")
    assert err.startswith("Usage: cascade-eval audit")


def test_a_mistake_of_ours_is_no_answer():
    """A crash ends with 70: Python's own 1 is an alarm of `monitor`, and a refuted budget of `audit read`."""
    code = (
        "import click; from cascade_eval import cli; "
        "cli.commands.add_command(click.Command('crash', callback=lambda: 1 / 0)); cli.main(['crash'])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 70
    assert done.stderr.endswith("ZeroDivisionError: division by zero\n")


def test_a_reader_that_goes_away_is_no_answer():
    """Where `| head` has read enough, the code is a shell's for it, and nothing else is said."""
    command = [sys.executable, "-m", "cascade_eval.cli", "schema"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        said = process.stderr.read()
    assert (process.returncode, said) == (141, b"")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("monitor", "--since", "2026-28"), "'2026-28' is not an ISO week. Write it as '2026-W28'."),
        (("monitor", "--since", "2026-W54"), "'2026-W54' is not an ISO week"),
        (("monitor", "--since", "2026-W50"), "--since: '2026-W50' leaves every week out; the last one is 2026-W40."),
        (("diagnose",), "histry: there is no such history. Did you mean 'history'? 'cascade-eval monitor' begins one."),
    ],
)
def test_weeks_that_cannot_be_meant_are_refused(capsys, made, arguments, message):
    """A misspelt week or history is a usage error, and nothing is written: without weeks all would look calm."""
    (made.parents[1] / "history").mkdir()
    name = "histry" if arguments[0] == "diagnose" else "history"
    code, out, err = run(capsys, arguments[0], str(made), "--history", name, *arguments[1:])
    assert (code, out) == (4, "")
    assert message in err
    assert not list((made.parents[1] / "history").iterdir())


def test_a_history_without_weeks_of_this_suite_is_said(capsys, made):
    """Nothing earlier was looked at, which is not the same as nothing having changed."""
    (made.parents[1] / "history").mkdir()
    code, out, _ = run(capsys, "diagnose", str(made), "--history", "history")
    assert code == 0
    assert "no week of this suite is kept in history: nothing earlier was looked at" in out


def test_calibrate_says_what_to_write_into_the_gate(capsys, made):
    """The option is relative to where one stands and the gate's path to the suite, so the line to paste is printed."""
    arguments = ("evals/support.cascade.yaml", "--kind", "platt", "-o", "evals/calibrations/mini.json")
    code, out, _ = run(capsys, "calibrate", *arguments)
    assert code == 0
    assert out.splitlines()[-1] == "In the gate of mini: calibrate: calibrations/mini.json"
    assert (made.parent / "calibrations" / "mini.json").is_file()


def test_messages_carry_no_control_characters(capsys, folder):
    """A file name cannot steer the terminal."""
    code, _, err = run(capsys, "check", "a\x07\x1b[31m.cascade.yaml")
    assert code == 4
    assert not {"\x07", "\x1b"} & set(err)


# --- check ---------------------------------------------------------------------------------------------------------


def test_check_shows_what_there_is(capsys, made):
    """Cases, models, cohorts, price sources and known shares are those of the data."""
    code, out, _ = run(capsys, "check", "evals/support.cascade.yaml")
    described = YAML(typ="safe").load(made.parent / "goldens" / "support" / "golden.yaml")
    assert code == 0
    assert f"data: {described['cases']:,} cases" in out
    assert f"sha256 {described['sha256'][:12]}" in out
    assert "models: mini, flagship" in out
    assert "coverage 100%, audited 100%" in out
    assert "price of mini" in out
    for language, cases in described["cohorts"]["language"].items():
        assert f"cohort language={language}: {cases:,} cases" in out


def test_check_judges_nothing(capsys, made):
    """A suite whose promises are broken checks as well as one whose promises hold, and shows no rate of disagreement."""
    made.write_text(made.read_text().replace("at most 6%", "at most 0.5%"))
    code, out, _ = run(capsys, "check", "evals/support.cascade.yaml")
    assert code == 0
    assert "FAIL" not in out
    assert "0.5%" in out  # named because so few cases may not decide it


def test_check_collects_the_problems_of_all_suites(capsys, made):
    """Every problem of every suite is one line with file and line number; what could be read is still shown."""
    broken = made.with_name("broken.cascade.yaml")
    broken.write_text(made.read_text().replace("at most 6%", "at mots 6%").replace("cohorts:", "cohort:"))
    code, out, err = run(
        capsys, "check", "evals/broken.cascade.yaml", "evals/support.cascade.yaml", "evals/none.cascade.yaml"
    )
    lines = err.splitlines()
    assert code == 4
    assert "evals/support.cascade.yaml: can be judged" in out
    assert all(line.startswith("evals/") for line in lines)
    for expected in (
        "Did you mean 'cohorts'?",
        "'at mots 6%' is not a bound",
        "none.cascade.yaml: there is no such file",
    ):
        assert any(expected in line for line in lines), err


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("cohorts: [language]", "cohorts: [language, intent]", "no case has a column 'intent'"),
        ("goldens: goldens/support", "traffic: goldens/nowhere", "goldens/nowhere"),
        ("signal: confidence", "signal: confidnce", "confidnce"),
        ("model: mini", "model: minni", "no case has an answer of 'minni'. Did you mean 'mini'?"),
    ],
)
def test_check_finds_what_the_data_cannot_answer(capsys, made, old, new, message):
    """Columns, files, signals and models that do not exist are usage errors."""
    for file in (made, made.parent / "cascades" / "support.yaml"):
        file.write_text(file.read_text().replace(old, new))
    code, _, err = run(capsys, "check", "evals/support.cascade.yaml")
    assert code == 4
    assert message in err


def test_check_needs_prices_only_where_cost_is_promised(capsys, made):
    """A model without a price is an error with a cost budget, and none without."""
    without = "\n".join(line for line in made.read_text().splitlines() if "per: 1M tokens" not in line)
    made.write_text(without.replace("prices: ", "# prices: "))
    code, _, err = run(capsys, "check", "evals/support.cascade.yaml")
    assert code == 4
    assert "cost" in err
    made.write_text(
        "\n".join(line for line in made.read_text().splitlines() if "cost" not in line and "50%" not in line)
    )
    assert run(capsys, "check", "evals/support.cascade.yaml")[0] == 0


def test_check_looks_at_other_cases(capsys, made):
    """--traffic swaps the data, and --tolerate sets bad rows aside."""
    lines = (made.parent / "goldens" / "support" / "cases.jsonl").read_text().splitlines()
    Path("week.jsonl").write_text("\n".join([*lines[:400], "{broken"]) + "\n")
    code, _, err = run(capsys, "check", "evals/support.cascade.yaml", "--traffic", "week.jsonl")
    assert code == 4
    assert "week.jsonl:401" in err
    code, out, _ = run(capsys, "check", "evals/support.cascade.yaml", "--traffic", "week.jsonl", "--tolerate", "1")
    assert code == 0
    assert "400 cases of week.jsonl" in out
    assert "1 bad row set aside" in out


def test_outlooks_are_those_of_the_exact_test(made):
    """Each promise rests on the cases of its verdict; its state follows from the exact bounds alone."""
    made.write_text(made.read_text().replace("at most 6%", "at most 0.3%"))
    found = checking.look("evals/support.cascade.yaml")
    outlooks = {(one.metric, one.cohort): one for one in checking.outlooks(found)}
    verdicts = {
        (v.metric, "overall" if not v.cohort else f"language={v.cohort['language']}"): v
        for v in found.evaluation.verdicts
    }
    assert set(outlooks) == {key for key, v in verdicts.items() if v.metric != "cost"}
    for key, one in outlooks.items():
        high = verdicts[key].bound.high
        assert one.nobs == verdicts[key].estimate.nobs
        assert one.smallest == pytest.approx(1 - 0.05 ** (1 / one.nobs))
        assert one.needed == bounds.cases_to_decide(high / 2, high)
    assert outlooks["disagreement", "overall"].state == "never"
    assert outlooks["disagreement", "language=en"].state == "enough"


def test_check_lists_what_cannot_be_decided_first(made):
    """A promise so many cases can never prove comes first, with the smallest bound they could."""
    made.write_text(made.read_text().replace("at most 6%", "at most 0.3%").replace("at most 10%", "at most 3%"))
    text = list(checking.lines(checking.look("evals/support.cascade.yaml")))
    [first, *_] = [line for line in text if "cannot prove it" in line]
    assert text.index(first) < min(i for i, line in enumerate(text) if "may not decide" in line)
    assert "disagreement · overall, at most 0.3%" in first


def test_check_says_what_cannot_be_measured(capsys, made):
    """Data without the flagship's answers can be read, and is not called judgeable."""
    golden = made.parent / "goldens" / "support"
    cases = [json.loads(line) for line in (golden / "cases.jsonl").read_text().splitlines()]
    for case in cases[::2]:
        del case["models"]["flagship"]
    Path("half.jsonl").write_text("".join(json.dumps(case) + "\n" for case in cases))
    code, out, _ = run(capsys, "check", "evals/support.cascade.yaml", "--traffic", "half.jsonl")
    first = out.splitlines()[0]
    assert code == 0
    assert "can be judged" not in out
    assert "can be read, but" in first
    assert "cannot be measured; disagreement · overall: " in first
    assert "note: If the flagship's answers to unescalated cases are those of cases drawn by chance" in out
    assert out.splitlines()[-1].startswith("  1 of 1 promised rate would be decided")
    assert out.splitlines()[-1].endswith("; 3 more cannot be measured")
    for case in cases:
        case["audit_probability"] = 0.5 if "flagship" in case["models"] else None
    Path("half.jsonl").write_text("".join(json.dumps(case) + "\n" for case in cases))
    _, out, _ = run(capsys, "check", "evals/support.cascade.yaml", "--traffic", "half.jsonl")
    assert "drawn by chance" not in out


def test_check_passes_notes_on(capsys, made):
    """A gate that pays before it looks at what is free is legal, and said."""
    golden = made.parent / "goldens" / "support"
    cases = [json.loads(line) for line in (golden / "cases.jsonl").read_text().splitlines()]
    for case in cases:
        case["models"]["grader"] = {"score": 1.0, "input_tokens": 10, "output_tokens": 1, "judged": "mini"}
    Path("judged.jsonl").write_text("".join(json.dumps(case) + "\n" for case in cases))
    cascade = made.parent / "cascades" / "support.yaml"
    gate = "gate: {all: [{signal: {judge: {model: grader}}, threshold: 0.5}, {signal: confidence, threshold: 0.8}]}"
    cascade.write_text(f"- tier: mini\n  model: mini\n  {gate}\n- {{tier: flagship, model: flagship}}\n")
    prices = "  grader: {input: $1, output: $1}\n"
    made.write_text(made.read_text().replace("prices:", "prices: #").replace("prices: #", f"prices:\n{prices}  #", 1))
    code, out, err = run(capsys, "check", "evals/support.cascade.yaml", "--traffic", "judged.jsonl")
    assert code == 0, err
    assert any("note:" in line and "judge" in line for line in out.splitlines()), out


# --- report --------------------------------------------------------------------------------------------------------


def test_report_is_drawn_beside_the_evidence(capsys, made):
    """The report of stored evidence stands beside it, or where -o says."""
    store()
    code, out, _ = run(capsys, "report", "evidence.json")
    assert (code, out) == (0, "written: evidence.html\n")
    assert run(capsys, "report", "evidence.json", "-o", "out/r.html")[0] == 0
    assert Path("out/r.html").read_bytes() == Path("evidence.html").read_bytes()


def test_report_options(capsys, made):
    """Markdown is printed, the style can stand apart, and redacted reports hold no text of a case."""
    store()
    code, out, _ = run(capsys, "report", "evidence.json", "--markdown")
    assert code == 0
    assert out.startswith("### cascade_eval")
    assert run(capsys, "report", "evidence.json", "-o", "r.html", "--css", "sidecar")[0] == 0
    assert Path("r.css").exists()
    run(capsys, "report", "evidence.json", "-o", "all.html")
    run(capsys, "report", "evidence.json", "-o", "none.html", "--redact")
    question = "order 1"
    assert question in Path("all.html").read_text()
    assert question not in Path("none.html").read_text()


@pytest.mark.parametrize("text", ["{", "[]", '{"schema": "other"}', "{}"])
def test_report_refuses_what_is_no_evidence(capsys, folder, text):
    """Damaged or foreign files are usage errors that name the file, and nothing is written."""
    Path("evidence.json").write_text(text)
    code, out, err = run(capsys, "report", "evidence.json")
    assert (code, out) == (4, "")
    assert err.startswith("evidence.json")
    assert not Path("evidence.html").exists()


# --- schema --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "expected"), [("suite", suite.schema), ("evidence", evidence.schema)])
def test_schema_is_that_of_the_package(capsys, folder, kind, expected):
    """What is printed and what is written are the schema Python returns."""
    code, out, _ = run(capsys, "schema", kind)
    assert code == 0
    assert json.loads(out) == expected()
    assert run(capsys, "schema", kind, "-o", "schema.json")[0] == 0
    assert Path("schema.json").read_text() == out


# --- init ----------------------------------------------------------------------------------------------------------


def test_init_writes_a_suite_that_passes(capsys, folder):
    """Every promise of the suite to begin from is proven by its own golden."""
    code, out, _ = run(capsys, "init", "evals")
    assert code == 0
    assert out.count("written: ") == 5
    evaluation = runs.evaluate(suite.load("evals/support.cascade.yaml"))
    assert {verdict.outcome for verdict in evaluation.verdicts} == {"pass"}
    assert {verdict.metric for verdict in evaluation.verdicts} == {"disagreement", "escalation", "cost"}


def test_init_never_overwrites(capsys, folder):
    """Where a file is in the way nothing at all is written, and every such file is named."""
    Path("evals/cascades").mkdir(parents=True)
    Path("evals/cascades/support.yaml").write_text("mine")
    code, _, err = run(capsys, "init", "evals")
    assert code == 4
    assert err.startswith("evals/cascades/support.yaml: ")
    assert [path.name for path in Path("evals").rglob("*") if path.is_file()] == ["support.yaml"]
    assert Path("evals/cascades/support.yaml").read_text() == "mine"


def test_init_is_the_same_everywhere(folder):
    """The same cases on every machine and in every year: the golden's hash is pinned."""
    starter.init("evals")
    described = YAML(typ="safe").load(Path("evals/goldens/support/golden.yaml"))
    assert described["cases"] == starter.INIT_CASES
    assert described["sha256"] == "f094ab8fa964827fa9f6d55fed2433faa342d1a9808d7bfffa5d65c64b09e40f"


# --- demo ----------------------------------------------------------------------------------------------------------


def test_demo_shows_what_saturation_looks_like(folder):
    """Cost and escalation fall, disagreement rises, and the budgets that fail are those of disagreement."""
    text = "\n".join(showing.demo(Path("demo")))
    healthy, saturated = evidence.read("demo/evidence.json")["suites"]
    early, late = (record["cascades"][0]["overall"]["metrics"] for record in (healthy, saturated))
    assert late["cost"]["value"] < early["cost"]["value"]
    assert late["escalation"]["value"] < early["escalation"]["value"]
    assert late["disagreement"]["value"] > 4 * early["disagreement"]["value"]
    failed = {
        (v["metric"], *v["cohort"].values()) for v in saturated["cascades"][0]["verdicts"] if v["outcome"] == "fail"
    }
    assert failed == {("disagreement",), ("disagreement", "pt")}
    assert {v["outcome"] for v in healthy["cascades"][0]["verdicts"]} == {"pass"}
    assert "saturated: disagreement · language=pt" in text
    assert "Report:  demo/report.html" in text
    assert Path("demo/report.html").stat().st_size > 10_000


def test_demo_changes_confidences_alone(folder):
    """The two months have the same cases, answers and tokens; the small model's confidence differs, in Portuguese only."""
    starter.demo("demo")

    def cases(name):
        return [json.loads(line) for line in Path(f"demo/traffic/{name}.jsonl").read_text().splitlines()]

    pairs = list(zip(cases("healthy"), cases("saturated"), strict=True))
    differing = {early["language"] for early, late in pairs if early != late}
    assert differing == {"pt"}
    for early, late in pairs:
        early["models"]["mini"]["confidence"] = late["models"]["mini"]["confidence"]
        assert early == late


def test_demo_stays_in_its_folder(capsys, folder):
    """Without --keep nothing is written where one stands; with it everything is in cascade-demo, never over another."""
    elsewhere = showing.folder(keep=False)
    assert not elsewhere.is_relative_to(folder)
    elsewhere.rmdir()
    assert run(capsys, "demo", "--keep")[0] == 0
    assert [path.name for path in folder.iterdir()] == ["cascade-demo"]
    code, _, err = run(capsys, "demo", "--keep")
    assert code == 4
    assert err.startswith("cascade-demo: exists")


def test_starter_reports_a_folder_that_cannot_be_written(folder):
    """A file where the folder should be is a usage error."""
    Path("evals").write_text("a file")
    with pytest.raises(UsageError, match="evals"):
        starter.init("evals")
