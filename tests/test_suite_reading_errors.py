"""Reading suites: what is said of a bad one."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from suite_texts import GATE, PLAIN, ROUTED, changed, problems, read

from cascade_eval import suite
from cascade_eval.errors import SuiteError
from cascade_eval.suite import text

TIERS = [
    {"tier": "mini", "model": "nano", "gate": {"signal": "confidence", "threshold": 0.5}},
    {"tier": "flagship", "model": "big"},
]


@pytest.mark.parametrize(
    "definition",
    [
        None,
        5,
        "x",
        [],
        {},
        [[]],
        [{"tier": 1}],
        {"tiers": [], "routs": []},
        [float("nan")],
        [{"\ud800": 1}],
        [{"tier": b""}],
    ],
)
def test_a_broken_definition_is_a_suite_error_that_names_the_cascade(definition):
    """Evidence is untrusted: whatever it holds, reading a cascade raises nothing but SuiteError."""
    with pytest.raises(SuiteError, match="cascade 'c': "):
        suite.parse_cascade("c", definition)


def test_a_bottomless_definition_is_refused():
    """Nesting is bounded before anything recurses."""
    gate: dict = {"signal": "confidence", "threshold": 1}
    for _ in range(5000):
        gate = {"all": [gate]}
    with pytest.raises(SuiteError, match="nested more than 40 levels deep"):
        suite.parse_cascade("c", [{"tier": "a", "model": "a", "gate": gate}, {"tier": "b", "model": "b"}])


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("goldens: goldens", "golden: goldens", ["1: unknown key 'golden' in a suite. Did you mean 'goldens'?"]),
        ("goldens: goldens/support", "goldens:", ["1: 'goldens' is empty. Write what it is, or remove it."]),
        ("goldens: goldens/support\n", "", ["1: a suite needs 'goldens' or 'traffic': the cases it judges."]),
        ("goldens: goldens/support", "goldens: g\ntraffic: t", ["2: a suite has either 'goldens' or 'traffic', not both."]),
        ("goldens: goldens/support", "traffic: {pth: x}", ["1: unknown key 'pth' in traffic. Did you mean 'path'?"]),
        ("goldens: goldens/support", "traffic: {}", ["1: traffic is either {path: …}, {sql: …, query: …}, or a log such as {otel: …}."]),
        ("goldens: goldens/support", "traffic: {sql: x}", ["1: 'sql' and 'query' belong together: a database and what to ask it."]),
        ("git:origin/main", "curent", ["2: unknown baseline 'curent'. Did you mean 'current'?"]),
        ("git:origin/main", "'git:'", ["2: 'git:' names no commit. Write 'git:origin/main'."]),
        ("git:origin/main", "git:--output=x", ["2: 'git:--output=x' names no commit. Write 'git:origin/main'."]),
        ("  current:", "  always-flagship:", ["4: 'always-flagship' is the comparison that every cascade gets. Choose another name."]),
        ("  current:", "  a::b:", ["4: 'a::b' cannot name a cascade: ids of tests are built from it. Leave out '::' and '/'."]),
        ("  current:", "  other: [{tier: x, model: x, gate: 5}]\n  current:", ["4: a gate is a mapping such as {signal: logprob, threshold: 0.82}, not 5."]),
        ("  current:", "  other: missing.yaml\n  current:", ["4: there is no file 'missing.yaml' beside the suite."]),
        ("  current:", "  other: 5\n  current:", ["4: a cascade is a list of tiers or a mapping such as {routes: […], tiers: […]}, not 5."]),
        ("  current:", "  other: []\n  current:", ["4: an empty list says nothing. Write at least one."]),
        ("model: nano", "modle: nano", ["6: unknown key 'modle' in a tier. Did you mean 'model'?"]),
        ("model: nano", "model: 4", ["6: 'model' must be text, not 4. Write it in quotes."]),
        ("      model: nano\n", "", ["5: a tier needs 'model'."]),
        ("model: nano", "model: big", ["9: 'mini' and 'flagship' both ask 'big', which would always agree with itself."]),
        ("tier: flagship", "tier: mini", ["8: a second tier is called 'mini'. Give each its own name."]),
        (f"      gate: {GATE}\n", "", ["5: 'mini' needs a gate such as {signal: logprob, threshold: 0.82}; only the last tier has none."]),
        ("model: big", f"model: big\n      gate: {GATE}", ["10: 'flagship' is the last tier, the flagship, and settles everything. Remove its gate, or add the flagship."]),
        ("model: big", "model: big\n      hedged: true", ["10: 'flagship' is the last tier, and none can start with it. Remove 'hedged'."]),
        ("model: nano", "model: nano\n      hedged: yes", ["7: 'hedged' must be true or false, not 'yes'."]),
        ("model: nano", "model: nano\n      timeout: 5", ["7: 5 is not a time. Write '5s' or '5ms'."]),
        ("model: nano", "model: nano\n      timeout: 0s", ["7: '0s' is no time to answer in. Write '5s' or '800ms'."]),
        ("threshold: 0.82", "treshold: 0.82", ["7: unknown key 'treshold' in a gate. Did you mean 'threshold'?"]),
        ("threshold: 0.82", "treshold: x", ["7: unknown key 'treshold' in a gate. Did you mean 'threshold'?", "7: 'threshold' must be a number, not 'x'."]),
        ("threshold: 0.82", "threshold: true", ["7: 'threshold' must be a number, not true."]),
        ("threshold: 0.82", "threshold: '0.70'", ["7: 'threshold' must be a number, not '0.70'. Write 'threshold: 0.7', without quotes or unit."]),
        ("threshold: 0.82", "threshold: 70%", ["7: 'threshold' must be a number, not '70%'. Write 'threshold: 0.7', without quotes or unit."]),
        ("threshold: 0.82", "threshold: .inf", ["7: '.inf' is not a finite number."]),
        ("threshold: 0.82", "threshold: 0.82, escalate: 30%", ["7: a gate has either 'threshold' or 'escalate', not both."]),
        (", threshold: 0.82", "", ["7: a gate needs 'threshold: 0.82' or 'escalate: 30%'."]),
        ("threshold: 0.82", "escalate: 0.3", ["7: 0.3 is not a share. Write '30%'."]),
        ("threshold: 0.82", "escalate: 130%", ["7: '130%' is more than everything. A share lies between '0%' and '100%'."]),
        ("threshold: 0.82", "threshold: 0.82, surer: lowr", ["7: 'surer' cannot be 'lowr'. Did you mean 'lower'?"]),
        ("threshold: 0.82", "threshold: 0.82, calibrate: plat", ["7: 'plat' is not a calibration. Did you mean 'platt'?"]),
        ("threshold: 0.82", "threshold: 0.82, calibrate: hierarchical", ["7: 'hierarchical' does not say by which cohorts the maps may differ. Write 'hierarchical per language'."]),
        ("threshold: 0.82", "threshold: 0.82, calibrate: platt per language", ["7: 'platt' fits one map for all cases; only 'hierarchical per …' differs by cohort."]),
        ("threshold: 0.82", "escalate: 30%, calibrate: platt", ["7: 'escalate' cuts the raw signal, so 'calibrate' would do nothing. Remove it, or write a threshold."]),
        ("threshold: 0.82", "threshold: 0.5, calibrate: platt, surer: lower", ["7: a calibrated signal is a probability of agreement, and higher is surer. Remove 'surer: lower'."]),
        ("signal: confidence", "signal: {logprob: {statistik: mean}}", ["7: unknown option 'statistik' of logprob. Did you mean 'statistic'?"]),
        (GATE, "{al: [{signal: confidence, threshold: 1}]}", ["7: unknown key 'al' in a gate. Did you mean 'all'?"]),
        (GATE, "{all: []}", ["7: an empty list says nothing. Write at least one."]),
        (GATE, "{all: [{signal: confidence, threshold: 1}], threshold: 1}", ["7: unknown key 'threshold' in an 'all' gate. Allowed: 'all'."]),
        (GATE, "{any: [{signal: confidence, threshold: no}]}", ["7: 'threshold' must be a number, not 'no'."]),
        (GATE, "{all: [{signal: a, threshold: 1, name: x}, {signal: b, threshold: 1, name: x}]}", ["7: 2 gates are called 'x'. Give each its own name."] * 2),
        (GATE, "{signal: [a], threshold: 1}", ["7: a signal is a name or one name with its options, such as {logprob: {statistic: minimum}}, not a list."]),
        (GATE, "{signal: {logprob: minimum}, threshold: 1}", ["7: the options of 'logprob' are a mapping such as {logprob: {option: value}}, not 'minimum'."]),
        (GATE, "{signal: {judge: {model: big}}, threshold: 1}", ["7: the judge 'big' is also the tier 'flagship', and would grade its own answers. Choose another judge."]),
        ("same label", "same lable", ["10: unknown agreement 'same lable'. Did you mean 'same label'?"]),
        ("[language, intent]", "[language, language]", ["11: the cohort column 'language' is listed twice."]),
        ("[language, intent]", "[language, hour of decide_at]", ["11: unknown cohort 'hour of decide_at'. Did you mean 'hour of decided_at'?"]),
        ("[language, intent]", "{language: {at least: 60}}", ["11: 60 is not a number of cases. Write '60 cases'."]),
        ("[language, intent]", "{language: {at lest: 60 cases}}", ["11: unknown key 'at lest' in a cohort column. Did you mean 'at least'?"]),
        ("[language, intent]", "[a=b]", ["11: 'a=b' cannot be named in a budget, because it contains '='. Rename it in 'columns:'."]),
        ("  disagreement:", "  disagrement:", ["13: unknown metric 'disagrement'. Did you mean 'disagreement'?"]),
        ("  disagreement:", "  escalation from mni:", ["13: unknown tier 'mni' in 'escalation from mni'. Did you mean 'mini'?"]),
        ("  disagreement:", "  escalation from flagship:", ["13: nothing escalates from 'flagship', the flagship. Allowed: 'mini'."]),
        ("at most 5%", "at mots 5%", ["14: 'at mots 5%' is not a bound. Write 'at most 5%', 'at least 5%' or '5% to 10%'."]),
        ("    overall: at most 5%", "    overal: at most 5%", ["14: 'overal' is not a scope. Did you mean 'overall'?"]),
        ("each language", "each langage", ["15: 'langage' is not one of the suite's cohorts. Did you mean 'language'?"]),
        ("each language", "langage=no", ["15: 'langage' is not one of the suite's cohorts. Did you mean 'language'?"]),
        ("each language", "each language and itent", ["15: 'itent' is not one of the suite's cohorts. Did you mean 'intent'?"]),
        ("cohorts: [language, intent]\n", "", ["14: 'language' is not one of the suite's cohorts. Write 'cohorts: [language]'."]),
        ("each language: at most 10%", "each intent and language: at most 9%\n    each language and intent: at most 8%", ["16: 'each language and intent' is the same promise as 'each intent and language'. Keep one."]),
        ("confidence: 95%", "confidence: 0.95", ["16: 0.95 is not a share. Write '95%'."]),
        ("confidence: 95%", "confidence: 50%", ["16: '50%' is no confidence to judge with. Write one above '50%' and below '100%', such as '95%'."]),
        ("confidence: 95%", "inconclusive: wran", ["16: 'inconclusive' cannot be 'wran'. Did you mean 'warn'?"]),
        ("confidence: 95%", "prices: {nano: {input: 1, ouput: 2}}", ["16: prices of 'nano': unknown key 'ouput'. Did you mean 'output'?", "16: prices of 'nano': 'output' is missing"]),
        ("confidence: 95%", "confidense: 95%", ["16: unknown key 'confidense' in a suite. Did you mean 'confidence'?"]),
        ("confidence: 95%", "cohorts: [x]", ["16: 'cohorts' is written twice; first in line 11."]),
        ("confidence: 95%", "audited: &a 99%", ["16: the anchor '&a' is not read. Write the value out."]),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_its_line_and_the_nearest_word(old, new, expected):
    """One mistake in a good suite gives exactly these problems."""
    assert problems(changed((old, new))) == [f"s.cascade.yaml:{line}" for line in expected]


@pytest.mark.parametrize(
    ("budgets", "expected"),
    [
        ("", ["12: a suite without budgets judges nothing. Write 'budgets: {disagreement: {overall: at most 5%}}'."]),
        (" {}", ["12: a suite without budgets judges nothing. Write 'budgets: {disagreement: {overall: at most 5%}}'."]),
        (" at most 5%", ["12: 'budgets' is a mapping from metric to scope to bound, not 'at most 5%'."]),
        ("\n  cost: {}", ["13: 'cost' needs a scope and a bound. Write 'cost: {overall: at most 45% of always-flagship}'."]),
        ("\n  cost: at most 9%", ["13: 'cost' needs a scope and a bound. Write 'cost: {overall: at most 9%}'."]),
    ],
)  # fmt: skip
def test_a_suite_promises_something(budgets, expected):
    """A suite without budgets, or a metric without a bound, would pass without having judged anything."""
    text = f"{PLAIN.split('budgets:')[0]}budgets:{budgets}\n"
    assert problems(text) == [f"s.cascade.yaml:{line}" for line in expected]


def test_budgets_against_a_baseline_need_one():
    """A metric that compares is an error where there is nothing to compare with."""
    text = changed(("baseline: git:origin/main\n", ""), ("  disagreement:", "  flips to disagreement:"))
    assert problems(text) == [
        "s.cascade.yaml:12: 'flips to disagreement' compares with a baseline, and this suite has none. Write 'baseline: git:origin/main'."
    ]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("start: flagship", "start: flagsip", ["c.yaml:3: unknown tier 'flagsip'. Did you mean 'flagship'?"]),
        ("start: flagship", "strt: flagship", ["c.yaml:3: unknown key 'strt' in a route. Did you mean 'start'?"]),
        ("{task_type: [code]}", "{}", ["c.yaml:2: a route without columns matches every case. Name a column and its values."]),
        ("[code]", "[]", ["c.yaml:2: an empty list says nothing. Write at least one."]),
        ("[code]", "{a: b}", ["c.yaml:2: a value to route by is a word, not a mapping."]),
        ("threshold: 0.82", "threshold: high", ["c.yaml:7: 'threshold' must be a number, not 'high'."]),
        ("tiers:", "teirs:", ["c.yaml:4: unknown key 'teirs' in a cascade. Did you mean 'tiers'?"]),
        (ROUTED, "", ["c.yaml: the file is empty."]),
        (ROUTED, "a: [", ["c.yaml:1: not YAML: while parsing a flow node, expected the node content, but found '<stream end>'."]),
    ],
)  # fmt: skip
def test_problems_of_a_cascade_file_name_that_file(old, new, expected):
    """A cascade in a file of its own is reported by that file and line."""
    text = changed(("  current:", "  other: c.yaml\n  current:"))
    assert problems(text, read_file=lambda _: ROUTED.replace(old, new)) == expected


def test_all_problems_of_a_suite_are_shown_together():
    """One reading tells everything, in the order of the lines."""
    text = changed(
        ("git:origin/main", "nowhere"),
        ("threshold: 0.82", "treshold: 0.82"),
        ("same label", "same"),
        ("at most 5%", "5"),
        ("each language", "each langage"),
        ("95%", "95"),
    )
    lines = [int(problem.split(":")[1]) for problem in problems(text)]
    assert lines == [2, 7, 10, 14, 15, 16]


def test_a_missing_file_names_the_nearest_one(tmp_path):
    """A suite or cascade file that is not there is answered with the one that was probably meant."""
    (tmp_path / "support.cascade.yaml").write_text(PLAIN)
    with pytest.raises(SuiteError, match=r"there is no such file\. Did you mean '.*/support\.cascade\.yaml'\?"):
        suite.load(tmp_path / "suport.cascade.yaml")
    (tmp_path / "wider.yaml").write_text(ROUTED)
    (tmp_path / "b.cascade.yaml").write_text(changed(("  current:", "  other: widr.yaml\n  current:")))
    with pytest.raises(SuiteError, match=r"b\.cascade\.yaml:4: there is no file 'widr\.yaml' .* mean '.*/wider\.yaml'"):
        suite.load(tmp_path / "b.cascade.yaml")


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"\xff\xfea", "not UTF-8 at byte 0"), (b"a" * 1_000_001, "the file is too large; at most 1,000,000 bytes")],
)
def test_what_is_no_text_of_a_sensible_size_is_refused(tmp_path, content, message):
    """Binary and huge files are answered with what they are."""
    path = tmp_path / "x.cascade.yaml"
    path.write_bytes(content)
    with pytest.raises(SuiteError, match=message):
        suite.load(path)
    with pytest.raises(SuiteError, match="cannot be read"):
        suite.load(tmp_path)


def test_half_a_character_is_refused_and_two_halves_are_one():
    """JSON writes an emoji as two escapes; a single one is no text that could be written anywhere."""
    assert read(PLAIN + 'description: "\\ud83d\\ude00"\n').description == "\U0001f600"
    assert problems(PLAIN + 'description: "\\ud83d"\n') == [
        "s.cascade.yaml:17: half a character: an escape such as \\ud83d needs its second half."
    ]


KEYS = [(number, line.split(":")[0]) for number, line in enumerate(PLAIN.splitlines(), 1)]


@given(data=st.data())
def test_a_typo_in_any_key_is_an_error_of_that_line(data):
    """No misspelled key is ever passed over: the line where it stands is always among the problems."""
    number, key = data.draw(st.sampled_from(KEYS))
    start = len(key) - len(key.lstrip(" -"))
    place = data.draw(st.integers(start, len(key) - 1))
    letter = data.draw(st.sampled_from("xqz"))
    typo = data.draw(st.sampled_from([key[:place] + letter + key[place:], key[:place] + letter + key[place + 1 :]]))
    lines = PLAIN.splitlines()
    lines[number - 1] = typo + lines[number - 1][len(key) :]
    text = "\n".join(lines)
    if key.strip() == "current":
        assert [cascade.name for cascade in read(text).cascades] == [typo.strip()]
    else:
        assert any(problem.startswith(f"s.cascade.yaml:{number}: ") for problem in problems(text))


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
        max_leaves=8,
    ),
    st.sampled_from([*suite.schema()["properties"], "whole"]),
)
def test_any_value_anywhere_is_read_or_refused_in_words(value, key):
    """Whatever stands under a key, reading ends in a suite or a SuiteError, never in another exception."""
    whole = {
        "goldens": "g",
        "cascades": {"c": json.loads(json.dumps(TIERS))},
        "budgets": {"cost": {"overall": "at most 9%"}},
    }
    written = json.dumps(value if key == "whole" else whole | {key: value})
    try:
        read(written, read_file=lambda _: ROUTED)
    except SuiteError as error:
        assert error.problems  # noqa: PT017  most values are no error


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("", ["x: the file is empty."]),
        ("# only a comment\n", ["x: the file is empty."]),
        ("a: 1\na: 2\nb: {c: 1, c: 2}", ["x:2: 'a' is written twice; first in line 1.", "x:3: 'c' is written twice; first in line 3."]),
        ("%YAML 1.2\n---\na: 1", ["x:2: directives (lines that begin with %) are not read. Remove them."]),
        ("a: 1\n---\nb: 1", ["x:2: a second document begins here; a file holds one."]),
        ("a: !!python/object:os.system x", ["x:1: the tag '!!python/object:os.system' is not read. Remove it."]),
        ("a: &b 1\nc: *b", ["x:1: the anchor '&b' is not read. Write the value out.", "x:2: the alias '*b' is not read. Write the value out."]),
        ("<<: {a: 1}", ["x:1: the merge key '<<' is not read. Write the entries out."]),
        ("? [a]\n: 1", ["x:1: a key must be a word."]),
        ("a: .nan", ["x:1: '.nan' is not a finite number."]),
        ("a: 1e999", ["x:1: '1e999' is not a finite number."]),
        ("[" * 50, ["x:1: nested more than 40 levels deep."]),
        ("b: 1\n\ta: 1", ["x:2: not YAML: while scanning for the next token, found character '\\t' that cannot start any token. Use spaces, not tabs."]),
        ("a: >= 5%", ["x:1: not YAML: while scanning a block scalar, expected chomping or indentation indicators, but found '='. Signs do not survive YAML: write 'at least 5%' or 'at most 5%'."]),
        ("a: 1\nb: \x01", ["x:2: not YAML: the character U+0001 is not allowed."]),
        ("a" * 1_000_001, ["x: 1,000,001 characters are too many; at most 1,000,000 are read."]),
    ],
)  # fmt: skip
def test_yaml_that_means_something_else_than_it_says_is_refused(written, expected):
    """Everything that YAML has and a suite does not need is a problem with its line."""
    with pytest.raises(SuiteError) as caught:
        text.read(written, file="x")
    assert str(caught.value).splitlines() == expected


@given(st.text(st.characters(codec="utf-8") | st.sampled_from(":-[]{}#&*!|>'\"%@,? \n\ta1"), max_size=40))
def test_any_text_is_yaml_or_an_error_in_words(written):
    """Whatever a file holds, reading it ends in a value or a SuiteError."""
    try:
        text.read(written)
    except SuiteError as error:
        assert error.problems  # noqa: PT017  most texts are no error
