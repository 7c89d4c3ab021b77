"""Weeks, audits and findings on the report: the numbers of the evidence, an alarm nobody can miss, names that stay text."""

from __future__ import annotations

import copy
import functools
import json
import re

import audit_windows as made
import evidence_sample
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_report import Page
from weeks_sample import BAD, CALM, judge, remember, text, write

from cascade_eval import evidence, history
from cascade_eval.cli.audit import audit as audit_command
from cascade_eval.cli.monitor import monitor as monitor_command
from cascade_eval.report import findings, markdown, terminal, view, weekly
from cascade_eval.report import html as html_report

PLAIN = "  disagreement: {overall: at most 90%}\n"
DIAGNOSIS = {
    "cascade": "current",
    "causes": [
        {
            "name": "saturation",
            "cohorts": ["language=fr"],
            "conclusive": True,
            "test": "audit",
            "message": "The gate keeps answers that the flagship would change.",
            "evidence": ["language=fr: 40 of 60 disagree"],
            "contradicts": ["an audit of this cohort within budget"],
            "treatments": [
                {
                    "kind": "escalate more",
                    "cohorts": ["language=fr"],
                    "message": "A threshold of 0.95 is certified.",
                    "predicted": {"escalation": [0.34, 0.33, 0.35], "cost": [0.42, None, None], "patience": [7.0]},
                    "steps": ["gate: {signal: confidence, threshold: 0.95}"],
                }
            ],
        },
        {"name": "mix shift", "cohorts": [], "conclusive": False, "test": "mix", "message": "Other traffic arrived."},
    ],
    "steps": [{"name": "mix", "question": "Did the mix change?", "outcome": "suspects", "message": "fr grew"}],
    "notes": ["weeks before 2026-W20 were not looked at"],
}
AUDIT = {
    "cascade": "current",
    "rows": [
        {
            "cohort": cohort, "unescalated": 900, "sampled": 100, "answered": 99, "disagreed": wrong,
            "estimate": evidence_sample.rate(wrong, 99), "outcome": outcome, "not_measured": False, "bound": bound,
        }
        for cohort, wrong, outcome, bound in (
            ({}, 12, None, None),
            ({"language": "fr"}, 30, "fail", "at most 10%"),
            ({"language": "en"}, 1, "pass", "at most 10%"),
        )
    ],
    "calls": 200, "usd": 3.0, "saved_usd": 120.0, "age_days": 2.0, "notes": ["1 drawn case has no answer"],
}  # fmt: skip


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    """Ten calm weeks, an unmeasured one, and two bad ones of French; an audit and a diagnosis beside them."""
    folder = tmp_path_factory.mktemp("weeks")
    remember(folder, {**dict.fromkeys(range(20, 30), CALM), 30: {"en": (60, 2)}, 31: BAD})
    found = judge(folder, {32: BAD}, text(more="history: history\n"))
    return {**found.record, "audit": AUDIT, "findings": [DIAGNOSIS]}


@pytest.fixture(scope="module")
def built(record):
    return evidence.build([record], selected={"items": 3, "of": 3})


@pytest.fixture(scope="module")
def page(built):
    return Page(html_report.render(built))


def panels(built):
    return view.build(built).suites[0].weekly.cascades[0].panels


# Weeks


def test_lines_are_the_numbers_of_the_evidence(built):
    """Every rate, bound, alarm and line of a panel is what the rows of its cohort say, week by week."""
    suite = built["suites"][0]
    first = int(min(row["window"] for row in suite["weeks"]["rows"])[-2:])
    for panel in panels(built):
        cohort = {} if panel.title == "overall" else dict([panel.title.split("=")])
        rows = [row for row in suite["weeks"]["rows"] if row["cohort"] == cohort]
        [sequence] = [one for one in suite["sequences"] if one["cohort"] == cohort]
        assert panel.rates == tuple(
            (int(row["window"][-2:]) - first, row["disagreement"], row["disagreement_low"], row["disagreement_high"])
            for row in rows
        )
        drawn = {place for start, end in panel.alarms for place in range(start, end + 1)}
        assert {f"2026-W{first + place}" for place in drawn} == set(sequence["alarms"])
        assert panel.budget == sequence["budget"]
        by_name = {line.name: line for line in panel.beside}
        assert [y for _, y in by_name["escalation"].points] == [row["escalation"] for row in rows]
        assert by_name["cost per request"].points[-1][1] == rows[-1]["cost_per_request"]
        assert panel.top >= max(*(rate for _, rate, _, _ in panel.rates), panel.budget)


def test_what_needs_attention_is_drawn_first_and_large(built):
    """All cases, then the cohort with an alarm, both large; the quiet one small."""
    assert [(panel.title, panel.state, panel.large) for panel in panels(built)] == [
        ("overall", "fail", True),
        ("language=fr", "fail", True),
        ("language=en", "pass", False),
    ]


def test_an_alarm_is_a_band_and_a_word(page, built):
    """Each drawn alarm is a shaded rectangle with the word above it; the sentence beside it says since when."""
    drawn = html_report.render(built)
    bands = len(re.findall(r'<rect [^>]*fill-opacity="0.13"/>', drawn))
    assert (
        bands
        == sum(len(panel.alarms) for panel in panels(built))
        == len(re.findall(r"<text [^>]*>alarm</text>", drawn))
    )
    assert "alarm since 2026-W31, over 20%" in page.text
    assert "Disagreement by week, language=fr: alarm since 2026-W31, over 20%" in drawn


def test_a_week_that_measured_nothing_is_a_gap(built):
    """French had no case in week 30: its line is broken there, and nothing is drawn between its neighbours."""
    [fr] = [panel for panel in panels(built) if panel.title == "language=fr"]
    assert 10 not in [place for place, *_ in fr.rates]
    figure = html_report.render(built).split("<bdi>language=fr</bdi></b>: ")[1].split("</svg>")[0]
    assert len(re.findall(r'<path d="M[^"]*" fill="none" stroke="#2A78B8" stroke-width="2"', figure)) == 2


def test_unmeasured_weeks_are_marked(built):
    """A row without a rate is a hollow mark on the axis and says why in the table; it is never drawn as zero."""
    changed = copy.deepcopy(built)
    row = next(
        row for row in changed["suites"][0]["weeks"]["rows"] if not row["cohort"] and row["window"] == "2026-W25"
    )
    row |= {
        "disagreement": None,
        "disagreement_low": None,
        "disagreement_high": None,
        "reason": "the flagship was away",
    }
    overall = panels(changed)[0]
    assert overall.unmeasured == (5,)
    assert 5 not in [place for place, *_ in overall.rates]
    assert "the flagship was away" in Page(html_report.render(changed)).text


def test_years_turn(built):
    """Week 1 follows week 52 or 53, and a missing week leaves its place empty."""
    assert [weekly._number(w) - weekly._number("2026-W52") for w in ("2026-W52", "2026-W53", "2027-W01", "2027-W03")] == [
        0, 1, 2, 4,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("alarmed", "places", "runs"),
    [
        ([], [0, 1], []),
        ([3], [0, 3], [(3, 3)]),
        ([1, 2, 5], [0, 1, 2, 3, 5], [(1, 2), (5, 5)]),
        ([1, 4], [0, 1, 4], [(1, 4)]),
    ],
)
def test_weeks_of_alarm_that_follow_each_other_are_one_band(alarmed, places, runs):
    """Weeks without rows do not part an alarm; a week without alarm does."""
    assert list(weekly._runs(alarmed, places)) == runs


def test_pictures_write_words_in_the_colour_of_the_page(built):
    """No word of a picture of weeks has a colour of its own, so that its contrast is that of text."""
    part = html_report.render(built).split('-weeks">Week by week</h2>')[1].split('<section class="cascade"')[0]
    assert "<text" in part
    assert not re.search(r'<text [^>]*fill="#', part)


# An alarm that no verdict tells of


@pytest.fixture(scope="module")
def unsaid(tmp_path_factory):
    """Judge a suite of which only the budget that holds is left, while an alarm of its weeks stands."""
    folder = tmp_path_factory.mktemp("unsaid")
    found = judge(
        folder,
        {20: CALM, 21: BAD},
        text("  disagreement: {overall: at most 90%, language=fr: 'at most 20%, watched weekly'}\n"),
    )
    record = json.loads(json.dumps(found.record))
    record["cascades"][0]["verdicts"] = [v for v in record["cascades"][0]["verdicts"] if v["outcome"] == "pass"]
    return evidence.build([record], selected={"items": 1, "of": 1})


def test_an_alarm_beside_budgets_that_hold_stands_on_top(unsaid):
    """Title, first section, comment and terminal say the alarm; nothing says that all is well."""
    drawn = html_report.render(unsaid)
    shown = Page(drawn)
    assert "<title>alarm: made</title>" in drawn
    assert shown.text.index("alarm since 2026-W21") < shown.text.index("Against always asking the flagship")
    assert markdown.render(unsaid).startswith("### cascade_eval: an alarm stands, though every budget holds\n")
    assert "made / current, alarm since 2026-W21" in markdown.render(unsaid)
    assert any(
        line.startswith("  ALARM since 2026-W21, current: language=fr")
        for line in terminal.overview(unsaid["suites"][0])
    )


def test_an_alarm_a_verdict_tells_of_is_not_said_twice(built):
    """The headline of the cascade is the verdict; the alarm stands among the weeks."""
    assert view.build(built).suites[0].alarms == ()
    assert not view.build(built).alarm


# Audit and findings


def test_the_audit_is_a_table(page, built):
    """Every cohort with its counts, rate, bounds and verdict, and what the audit cost."""
    audit = view.build(built).suites[0].audit
    assert [(row.name, row.word, row.cells[:5]) for row in audit.rows] == [
        ("overall", "nothing promised", ("900", "100", "99", "12", "12.1%")),
        ("language=fr", "fail", ("900", "100", "99", "30", "30.3%")),
        ("language=en", "pass", ("900", "100", "99", "1", "1.0%")),
    ]
    assert "200 calls for $3.00; the cascade saved $120.00. The sample was drawn 2 days ago." in page.text
    assert "1 drawn case has no answer" in page.text


def test_findings_show_evidence_contradiction_and_treatment(page, built):
    """Nothing of a diagnosis is lost on the page; predictions have units, unknown ones stay plain numbers."""
    texts = [
        DIAGNOSIS["causes"][0][key] for key in ("name", "message", "test")
    ] + ["40 of 60 disagree", "an audit of this cohort within budget", "Treatment: escalate more (language=fr)",
         "gate: {signal: confidence, threshold: 0.95}", "Did the mix change? suspects. fr grew",
         "weeks before 2026-W20 were not looked at", "mix shift (suspected) in the whole cascade"]  # fmt: skip
    assert all(said in page.text for said in texts), [said for said in texts if said not in page.text]
    [treatment] = view.build(built).suites[0].diagnoses[0].causes[0].treatments
    assert treatment.predicted == (
        ("escalation", "34.0% (33.0–35.0%)"),
        ("cost, of always-flagship", "42.0%"),
        ("patience", "7"),
    )
    assert "current: saturation** (conclusive)" in markdown.render(built)
    assert any("current: saturation (conclusive)" in line for line in terminal.overview(built["suites"][0]))


@pytest.mark.parametrize(
    ("name", "conclusive", "state"),
    [
        ("healthy", True, "pass"),
        ("healthy", False, "missing"),
        ("not enough evidence", True, "missing"),
        ("saturation", True, "fail"),
        ("saturation", False, "inconclusive"),
    ],
)
def test_only_a_conclusive_health_looks_like_a_pass(name, conclusive, state):
    """A cause that is only suspected, and want of evidence, never look like a pass."""
    cause = {**DIAGNOSIS["causes"][0], "name": name, "conclusive": conclusive}
    assert findings._cause(cause).state == state


def test_an_audit_without_value_is_no_pass(built):
    """Evidence with a passing row that measured nothing is refused."""
    changed = copy.deepcopy(built)
    changed["suites"][0]["audit"]["rows"][2]["estimate"] |= {"value": None}
    with pytest.raises(evidence.errors.UsageError, match="nothing can pass without a value"):
        evidence.build(changed["suites"], selected={"items": 3, "of": 3})


# The page


def test_the_page_stays_whole(page):
    """Elements nest, ids are unique, links lead to anchors of the page, nothing has a style of its own."""
    assert page.problems == []
    assert page.open == []
    ids = [value for _, name, value in page.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    linked = {value for _, name, value in page.attributes if name == "href"}
    assert {value[1:] for value in linked} <= set(ids)
    assert not [value for _, name, value in page.attributes if name == "style"]


def spoilt(record, hostile):
    """Put a text wherever a name or sentence of others may stand in the new parts."""
    changed = copy.deepcopy(record)
    suite = changed["suites"][0]
    for one in (*suite["weeks"]["rows"], *suite["sequences"], *suite["movements"]):
        one["cohort"] = {column: f"{value}{hostile}" for column, value in one["cohort"].items()}
    for one in suite["movements"]:
        one |= {"message": hostile, "test": hostile}
    suite["weeks"]["notes"] = [hostile]
    suite["audit"]["notes"] = [hostile]
    cause = suite["findings"][0]["causes"][0]
    cause |= {"name": hostile, "message": hostile, "evidence": [hostile], "cohorts": [f"x{hostile}"]}
    cause["treatments"][0] |= {"message": hostile, "steps": [hostile], "predicted": {f"x{hostile}": [1.0]}}
    return changed


@settings(max_examples=25, deadline=None)
@given(
    hostile=st.lists(st.sampled_from(["<", ">", '"', "'", "&", "</svg>", "<!--", "{{", "{%", "x", "\0"])).map("".join)
)
def test_any_name_stays_text(built, hostile):
    """Whatever cohorts, messages and steps hold, the page has the same elements in the same order."""
    drawn = Page(html_report.render(spoilt(built, hostile)))
    assert drawn.problems == []
    assert drawn.tags == tags(json.dumps(built))


@functools.cache
def tags(record):
    return Page(html_report.render(spoilt(json.loads(record), "y"))).tags


def test_evidence_without_the_new_parts_draws_none_of_them():
    """Evidence of a run that had nothing to do with weeks has no heading of theirs, and no way to them."""
    shown = Page(html_report.render(evidence_sample.sample()))
    assert not [word for word in ("Week by week", "What is the matter", "Audit") if word in shown.text]


def test_a_report_of_many_weeks_stays_small():
    """Three cascades of 40 cohorts over 52 weeks, beside everything else, stay under 500 kB."""
    big = evidence_sample.sample()
    suite = copy.deepcopy(big["suites"][1])
    windows = [f"2026-W{week:02}" for week in range(1, 53)]
    cohorts = [{}, *({"language": f"l{i}"} for i in range(39))]
    names = ("one", "two", "three")
    suite["weeks"] = {
        "rows": [
            {
                "cascade": name, "cohort": cohort, "window": window, "complete": True, "cases": 90, "decisions": 90,
                "share": 0.1, "escalation": 0.3, "kept": 60, "compared": 60, "disagreed": 3, "disagreement": 0.05 + i % 7 / 99,
                "disagreement_low": 0.01, "disagreement_high": 0.13, "cost_per_request": 0.0012,
            }
            for name in names for cohort in cohorts for i, window in enumerate(windows)
        ],
    }  # fmt: skip
    suite["sequences"] = [
        {"cascade": name, "cohort": cohort, "budget": 0.1, "alarm_at": 100.0, "windows": windows, "log_m": [0.1] * 52,
         "alarms": [], "state": "open"}
        for name in names for cohort in cohorts
    ]  # fmt: skip
    drawn = html_report.render(evidence.build([suite], selected={"items": 1, "of": 1}))
    assert len(drawn.encode()) <= 500_000
    assert "Not drawn: language=l" in Page(drawn).text


# Commands


def test_monitor_writes_what_it_found(tmp_path, capsys):
    """Report and evidence hold the weeks of the whole history; the exit code stays that of the alarm, and the cases were judged."""
    remember(tmp_path, {**dict.fromkeys(range(20, 28), CALM), 28: BAD})
    path = write(tmp_path, {29: BAD})
    files = ["--report", str(tmp_path / "r.html"), "--evidence", str(tmp_path / "e.json")]
    arguments = [str(path), "--history", str(tmp_path / "history"), *files]
    assert monitor_command.main(arguments, standalone_mode=False) == 1
    [suite] = evidence.read(tmp_path / "e.json")["suites"]
    assert len({row["window"] for row in suite["weeks"]["rows"]}) == 10
    assert {v["outcome"] for v in suite["cascades"][0]["verdicts"] if v["cohort"] == {"language": "fr"}} == {"fail"}
    assert [m["standing"] for m in suite["movements"] if m["test"] == "disagreement"] == [True, True]
    assert [one["cascade"] for one in suite["findings"]] == ["current"]
    assert "Week by week" in (tmp_path / "r.html").read_text()
    assert capsys.readouterr().out.count("written: ") == 2
    assert len({row.window for row in history.read(tmp_path / "history")}) == 10


def test_monitor_without_files_writes_none(tmp_path):
    """Nothing but the history is touched when no file is asked for."""
    path = write(tmp_path, {29: CALM})
    assert monitor_command.main([str(path)], standalone_mode=False) == 0
    assert {p.name for p in tmp_path.iterdir()} == {"cases.parquet", "made.cascade.yaml"}


def test_audit_read_writes_its_table(tmp_path, monkeypatch):
    """The table's counts are those of the reading as JSON, and the verdicts beside it those of the merged window."""
    monkeypatch.chdir(tmp_path)
    whole = made.table({"en": 2000, "fr": 400}, {"en": 0.02, "fr": 0.25})
    pq.write_table(whole, "everything.parquet")
    pq.write_table(made.seen_in_production(whole), "window.parquet")
    budgets = "  disagreement: {overall: at most 10%, each language: at most 10%}\n"
    (tmp_path / "s.cascade.yaml").write_text(
        text(budgets, more="agreement: same label\n")
        .replace("cases.parquet", "window.parquet")
        .replace("model: flagship", "model: big")
    )

    def run(*arguments):
        return audit_command.main(list(map(str, arguments)), standalone_mode=False)

    run("plan", "s.cascade.yaml", "--cases", 300, "-o", "plan.json")
    run("sample", "s.cascade.yaml", "--plan", "plan.json", "--seed", "week-3", "-o", "sample.parquet")
    files = ("-o", "r.json", "--report", "r.html", "--evidence", "e.json")
    assert run("read", "s.cascade.yaml", "sample.parquet", "everything.parquet", *files) == 1
    [suite] = evidence.read("e.json")["suites"]
    reading = json.loads((tmp_path / "r.json").read_text())
    table = {tuple(row["cohort"].values()): row for row in suite["audit"]["rows"]}
    for one in reading["cohorts"]:
        row = table[tuple(one["cohort"].values())]
        assert (row["sampled"], row["answered"], row["disagreed"]) == (one["drawn"], one["answered"], one["disagree"])
    assert (table[()]["sampled"], suite["audit"]["usd"]) == (300, reading["spend"]["usd"])
    verdicts = [v["outcome"] for v in suite["cascades"][0]["verdicts"]]
    assert verdicts == [v["outcome"] for v in reading["verdicts"]]
    assert "Unescalated answers of" in (tmp_path / "r.html").read_text()
