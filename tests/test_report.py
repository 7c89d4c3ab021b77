"""The report: what it says, that it escapes, that it needs nothing else, that it stays small."""

from __future__ import annotations

import base64
import copy
import functools
import hashlib
import html.parser
import re

import evidence_sample
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cascade_eval import evidence
from cascade_eval.report import html as html_report
from cascade_eval.report import markdown, numbers, panels, sentences, svg, view

VOID = {"meta", "link", "input", "br", "img", "hr"}


class Page(html.parser.HTMLParser):
    """Collects what stands on a page, and checks that every element is closed where it was opened."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.words, self.problems = [], [], [], []
        self.open = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.problems.append((tag, self.getpos()))

    def handle_data(self, data):
        if not {"script", "style"} & set(self.open):
            self.words.append(data)

    @property
    def text(self):
        return " ".join("".join(self.words).replace("\u2060", "").split())


@pytest.fixture(scope="module")
def sample():
    return evidence_sample.sample()


@pytest.fixture(scope="module")
def page(sample):
    return Page(html_report.render(sample))


@pytest.fixture(scope="module")
def shown(sample):
    return view.build(sample)


def test_one_sentence_per_cascade(shown):
    """The first thing on the page says of every judged cascade what came out, by how much and what was promised."""
    said = [c.headline for suite in shown.suites for c in suite.judged]
    assert [f"{h.suite} / {h.cascade} {h.verb}: {h.text}." for h in said] == [
        "checkout / current passes: all 4 budgets hold; nearest to its budget, disagreement on language=de is 6.9% (5.1–9.2%, n 461), promised at most 10.0%.",
        "support / current fails: disagreement on language=fr is 31.6% (27.3–36.1%, n 320), promised at most 10%.",
        "support / wider fails: disagreement on language=fr is 26.8% (21.6–32.6%, n 190), promised at most 10%.",
        "nothing yet / fresh sample was not measured: disagreement overall, promised at most 5%: no case to judge.",
    ]


def test_the_page_says_what_the_view_says(page, shown):
    """Every headline, tally, promise and note of the view is readable on the page."""
    for suite in shown.suites:
        assert suite.promise in page.text
        for cascade in suite.judged:
            h = cascade.headline
            assert f"{h.suite} / {h.cascade} {h.verb}: {h.text}.".replace("n ", "n ") in page.text.replace("\xa0", " ")
            assert h.tally[1:] in page.text
            assert all(" ".join(note.split()) in page.text for note in cascade.unmeasured)


@pytest.mark.parametrize(
    ("outcomes", "state"),
    [
        (["pass", "pass"], "pass"),
        (["pass", "inconclusive"], "inconclusive"),
        (["pass", "missing", "inconclusive"], "missing"),
        (["inconclusive", "fail", "missing"], "fail"),
        ([], "none"),
    ],
)
def test_a_cascade_is_what_its_most_urgent_verdict_is(sample, outcomes, state):
    """Only passing verdicts make a pass; none at all is not judged, never passed."""
    template = sample["suites"][1]["cascades"][0]["verdicts"][0]
    made = [
        {**template, "outcome": "inconclusive" if o == "missing" else o, "not_measured": o == "missing"}
        for o in outcomes
    ]
    assert sentences.headline("s", "c", made).state == state


def test_a_warned_inconclusive_is_no_pass(sample):
    """An excused verdict is shown as inconclusive and said to be excused."""
    verdict = {**sample["suites"][1]["cascades"][0]["verdicts"][0], "warned": True}
    assert (verdict["outcome"], sentences.judged(verdict).word) == ("inconclusive", "inconclusive (excused)")
    assert sentences.headline("s", "c", [verdict]).verb == "is inconclusive"


def test_always_flagship_is_shown_and_not_judged(shown):
    """The reference stands in the table, has no verdict, no matrix and no section of its own."""
    support = shown.suites[1]
    assert [(row.name, row.word) for row in support.compared] == [
        ("current", "fail"),
        ("wider", "fail"),
        ("always-flagship", "the reference"),
    ]
    assert [c.headline.cascade for c in support.judged] == ["current", "wider"]


def test_the_matrix_holds_every_verdict_and_every_cohort(sample, shown):
    """No verdict is lost, routed and unpromised cells say so, and what fails stands on top of its group."""
    matrix = shown.suites[1].judged[0].matrix
    rows = {(group, row.name): row for group, members in matrix.groups for row in members}
    assert sum(len(cell.verdicts) for row in rows.values() for cell in row.cells) == len(
        sample["suites"][1]["cascades"][0]["verdicts"]
    )
    assert len(rows) == 1 + len(sample["suites"][1]["cascades"][0]["cohorts"])
    assert all(cell.routed for cell in rows["intent", "legal"].cells)
    assert rows["language", "fr"].cells[1].measured.value == "37.7%"
    assert [row.state for _, members in matrix.groups[1:2] for row in members] == [
        "fail",
        "missing",
        "inconclusive",
        "inconclusive",
        "pass",
    ]


def test_a_cohort_the_data_lacks_has_a_row(sample):
    """A verdict on a cohort without a cell is shown, with no cases."""
    cascade = copy.deepcopy(sample["suites"][1]["cascades"][0])
    cascade["verdicts"].append(
        {**cascade["verdicts"][0], "cohort": {"language": "gone"}, "not_measured": True, "outcome": "inconclusive"}
    )
    suite = {**sample["suites"][1], "cascades": [cascade]}
    groups = view.build({**sample, "suites": [suite]}).suites[0].judged[0].matrix.groups
    gone = [row for _, rows in groups for row in rows if row.name == "gone"]
    assert [(row.cases, row.state) for row in gone] == [("no cases", "missing")]


def test_what_was_not_measured_is_said_once_with_its_reason(shown):
    """Metrics and cohorts that share a reason share a sentence; routed cohorts are not complained about."""
    assert shown.suites[1].judged[0].unmeasured == (
        "escalation, disagreement, coverage, audited on language=(none): no case to judge.",
        "cost, savings, quality, retention, latency p95 on language=(none): no case.",
    )


def test_everything_is_closed_and_nothing_of_others_runs(page):
    """Hostile names and answers stay text: elements nest, there is one script, no handler and no image."""
    assert page.problems == []
    assert page.open == []
    assert page.tags.count("script") == 1
    assert not {"img", "iframe", "object", "embed", "form", "base"} & set(page.tags)
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]
    assert evidence_sample.HOSTILE in page.text
    assert "{{ 7*7 }}" in page.text


@settings(max_examples=40)
@example('<b a="')
@example("</text></svg></style></script><script>")
@given(
    st.lists(
        st.sampled_from(["<", ">", '"', "'", "&", "</", "<!--", "{{", "{%", "x", "\0", "\u202e"]) | st.text(max_size=4)
    ).map("".join)
)
def test_any_name_stays_text(hostile):
    """Whatever stands in names, answers and notes, the page has the same elements in the same order."""
    record = copy.deepcopy(SMALL)
    suite = record["suites"][0]
    cascade = suite["cascades"][0]
    suite["notes"] = [hostile]
    suite["data"]["description"] = f"d{hostile}"
    cascade["name"] = f"c{hostile}"
    cascade["funnel"][0] |= {"tier": hostile, "model": hostile}
    cascade["flips"][0]["cases"][0] |= {"case_id": hostile, "baseline_answer": hostile}
    cascade["definition"] = {hostile: hostile}
    for case in cascade["worst"]:
        case |= {"case_id": f"{case['case_id']}{hostile}", "answer": hostile, "input": hostile, "expected": hostile}
    cascade["verdicts"][0] |= {"reason": hostile, "advice": f"a{hostile}", "bound": hostile}
    drawn = Page(html_report.render(record))
    assert drawn.problems == []
    assert drawn.tags == SMALL_TAGS


def small():
    record = evidence_sample.sample()
    suite = record["suites"][0]
    suite["cascades"] = suite["cascades"][:1]
    suite["cascades"][0] |= {
        "sweep": suite["cascades"][0]["sweep"][:5],
        "calibration": suite["cascades"][0]["calibration"][:1],
    }
    suite["cascades"][0]["worst"] = suite["cascades"][0]["worst"][4:6]
    suite["cascades"][0]["verdicts"][0] |= {"outcome": "fail", "advice": "a"}
    for case in suite["cascades"][0]["worst"]:
        case |= {"expected": "e", "input": "i", "answer": "a"}
    suite["notes"] = ["n"]
    return {**record, "suites": [suite]}


SMALL = small()
SMALL_TAGS = Page(html_report.render(SMALL)).tags


def test_the_page_needs_nothing_else(page):
    """No address but its own anchors; no style attribute; colours of pictures stand in attributes."""
    linked = [
        (tag, name, value)
        for tag, name, value in page.attributes
        if name in {"href", "src", "action", "data", "xlink:href", "srcset"}
    ]
    assert {value[:1] for _, _, value in linked} == {"#"}
    anchors = {value for _, name, value in page.attributes if name == "id"}
    assert {value[1:] for _, _, value in linked} <= anchors
    assert not [value for _, name, value in page.attributes if name == "style"]
    assert not re.search(r"url\(|@import", html_report.TEMPLATES.joinpath("report.css").read_text())


def test_ids_are_unique(page):
    """Two suites with the same cascade names do not share an anchor."""
    ids = [value for _, name, value in page.attributes if name == "id"]
    assert len(ids) == len(set(ids))


def test_only_our_own_style_and_script_may_run(sample):
    """The page's policy allows nothing but the hashes of what stands in it."""
    text = html_report.render(sample)
    policy = dict(Page(text).attributes_of("meta"))["content-security-policy"]
    for kind in ("style", "script"):
        inside = re.search(rf"<{kind}>(.*?)</{kind}>", text, re.DOTALL).group(1)
        digest = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'")


def attributes_of(self, tag):
    """Return name and content of the page's declarations."""
    found, name = [], None
    for of, key, value in self.attributes:
        if of == tag and key == "http-equiv":
            name = value.lower()
        elif of == tag and key == "content" and name:
            found.append((name, value))
            name = None
    return found


Page.attributes_of = attributes_of


def test_a_sidecar_holds_the_style(sample, tmp_path):
    """For servers that refuse styles inside a page, the style is a file beside it and allowed as such."""
    path = html_report.write(tmp_path / "out" / "cascade.html", sample, css="sidecar")
    text = path.read_text()
    assert "<style" not in text
    assert '<link rel="stylesheet" href="cascade.css">' in text
    assert "style-src &#39;self&#39;" in text
    assert path.with_suffix(".css").read_text() == html_report.TEMPLATES.joinpath("report.css").read_text()


def test_the_same_evidence_gives_the_same_page(sample):
    """The page depends on the evidence alone, also after it went through its file."""
    assert html_report.render(sample) == html_report.render(copy.deepcopy(sample))


def test_a_partial_run_says_so_first(sample):
    """Before any verdict the page and the comment say that not every item ran."""
    partial = {**sample, "selected": {"items": 3, "of": 14}}
    text = Page(html_report.render(partial)).text
    assert text.index("Only 3 of 14 items ran") < text.index("checkout / current")
    assert "**Partial run.** Only 3 of 14 items ran" in markdown.render(partial)


def test_nothing_judged_never_looks_like_a_pass():
    """Evidence without suites, and a suite without cascades, say that nothing was judged."""
    nothing = evidence.build([], selected={"items": 0, "of": 0})
    assert "Nothing was judged" in Page(html_report.render(nothing)).text
    assert "nothing was judged" in markdown.render(nothing)
    assert view.build(nothing).state == "none"
    empty = evidence_sample.suite("a.cascade.yaml", [], 0, [])
    assert (
        "a: no cascade was judged"
        in Page(html_report.render(evidence.build([empty], selected={"items": 0, "of": 0}))).text
    )


def test_redacted_evidence_says_that_text_was_left_out(sample):
    """The report of redacted evidence shows ids and no text."""
    text = Page(html_report.render(evidence.redact(sample))).text
    assert "charged twice" not in text
    assert "(left out)" in text
    assert "gold-0004" in text
    assert "was left out." in text


@functools.cache
def ten_by_twenty():
    """Ten judged cascades and always-flagship, in one suite of twenty cohorts."""
    big = evidence_sample.sample(wide=5, members=tuple(f"lang-{i}" for i in range(15)))
    return {**big, "suites": big["suites"][1:2]}


def test_a_report_of_ten_cascades_and_twenty_cohorts_stays_small():
    """At most 500 kB, whatever the evidence holds."""
    text = html_report.render(ten_by_twenty())
    assert len(text.encode()) <= 500_000
    assert "Not drawn:" in text


def test_a_long_answer_is_cut_and_says_how_much():
    """Nothing is shortened in silence."""
    text = Page(html_report.render(evidence_sample.sample())).text
    assert "W" * 600 + "… (2,400 more characters)" in text
    assert "W" * 601 not in text


# Numbers


@given(
    st.floats(0, 1),
    st.floats(0.0001, 1).map(lambda b: round(b, 4)),
)
def test_a_rate_never_rounds_onto_or_across_its_budget(value, budget):
    """What is shown lies on the same side of the budget as what was measured; 0% and 100% are exact."""
    shown = float(numbers.show(value, "rate", beside=(budget,)).removesuffix("%")) / 100
    if abs(value - budget) > 1e-11:
        assert (shown < budget - 1e-15) == (value < budget)
        assert abs(shown - budget) > 1e-15
    if 1e-11 < value < 1 - 1e-11:
        assert 0 < shown < 1
    assert abs(shown - value) <= 0.0005 + 1e-12


@pytest.mark.parametrize(
    ("value", "unit", "beside", "text"),
    [
        (None, "rate", (), "unknown"),
        (float("nan"), "rate", (), "unknown"),
        (1.19, "ratio", (), "119.0%"),
        (0.4500001, "ratio", (0.45,), "45.00001%"),
        (-0.00001, "points", (), "−0.001 points"),
        (0.0, "points", (), "0.0 points"),
        (-1e-17, "points", (), "0.0 points"),
        (-0.0, "rate", (), "0%"),
        (12345.0, "dollars", (), "$12,345.00"),
        (-0.5, "dollars", (), "−$0.500"),
        (0.9999, "seconds", (1.0,), "999.9 ms"),
        (2.0001, "seconds", (2.0,), "2.0001 s"),
        (50.2, "days", (), "50 days"),
        (29.6, "days", (30.0,), "29.6 days"),
    ],
)
def test_numbers_as_people_read_them(value, unit, beside, text):
    """Each unit has its own way, and none rounds onto a budget."""
    assert numbers.show(value, unit, beside=beside) == text


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (0.123456, 3, "0.123"), (0.0, 3, "0"), (-0.0, 3, "0"), (999.4, 3, "999"), (999.6, 3, "999.6"), (1000.0, 3, "1,000"),
        (1000.5, 6, "1,000"), (-12345.6, 3, "−12,346"), (0.05, 2, "0.05"), (1e-12, 2, "0.000000000001"),
        (4e-13, 2, "<0.000000000001"), (1e-300, 2, "<0.000000000001"), (-2e-6, 2, "−0.000002"),
    ],
)  # fmt: skip
def test_plain_numbers_are_never_zero_but_where_they_are(value, digits, text):
    """No exponents, thousands apart, a minus as people write it; a p-value however small is no zero."""
    assert numbers.plain(value, digits) == text


@pytest.mark.parametrize(
    ("low", "high", "unit", "text"),
    [
        (0.0, 0.1, "rate", "0–10.0%"), (1e-6, 0.1, "rate", "0.0001–10.0%"), (9e-7, 0.1, "rate", "<0.0001–10.0%"),
        (9e-7, 0.1, "ratio", "0.0001–10.0%"), (None, 1.5, "seconds", "up to 1.50 s"), (0.2, None, "ratio", "from 20.0%"),
        (0.1, 0.2, "seconds", "100–200 ms"), (0.9, 2.0, "seconds", "900 ms–2.00 s"), (2.0, 3.0, "days", "2–3 days"),
        (-0.02, -0.01, "points", "−2.0 to −1.0 points"), (0.01, 0.02, "points", "1.0–2.0 points"), (1.0, 2.0, "dollars", "$1.00–$2.00"),
        (-1e-19, 0.02, "points", "0.0–2.0 points"),
    ],
)  # fmt: skip
def test_two_bounds_say_their_unit_once(low, high, unit, text):
    """Where both have the same; a minus never stands beside a dash, and a bound that is above zero never is zero."""
    assert numbers.bounds(low, high, unit) == text


@pytest.mark.parametrize(("value", "text"), [(None, "unknown"), (0, "0"), (1234567, "1,234,567")])
def test_counts_have_their_thousands_apart(value, text):
    """What is not known is not zero."""
    assert numbers.count(value) == text


# Pictures


def test_a_sweep_of_two_gates_moves_one_at_a_time(sample):
    """Rows belong to the gate that moved; the operating point to both; two moved gates to none."""
    rows = [{"thresholds": {"a": a, "b": b}} for a, b in ((0.1, 0.5), (0.5, 0.5), (0.5, 0.9), (0.1, 0.9))]
    moved = panels._moved(rows, {"a": 0.5, "b": 0.5})
    assert {tier: [row["thresholds"] for row in found] for tier, found in moved.items()} == {
        "a": [{"a": 0.1, "b": 0.5}, {"a": 0.5, "b": 0.5}],
        "b": [{"a": 0.5, "b": 0.5}, {"a": 0.5, "b": 0.9}],
    }


def test_small_pictures_are_shared_out(sample):
    """Each cascade draws its most urgent cohorts and names the rest."""
    shown = view.build(ten_by_twenty()).suites[0]
    cascade = shown.judged[0]
    drawn = [panel.title for panel in cascade.reliability]
    assert len(drawn) < 15
    assert drawn[0] == "overall"
    assert "language=lang-1" in drawn[:4]
    assert all(title not in cascade.undrawn.split(", ") for title in drawn)


def test_a_signal_that_is_no_probability_has_no_diagonal(sample):
    """Raw values outside 0 to 1 span their own axis."""
    cascade = copy.deepcopy(sample["suites"][1]["cascades"][0])
    for row in cascade["calibration"]:
        for found in row["bins"]:
            found["mean"] -= 3
    panel = panels.reliability(cascade, [])[0]
    assert not panel.diagonal
    assert panel.x[0] < panel.x[1] < 0


def test_unknown_costs_leave_no_false_share(sample):
    """One path of unknown cost makes every share of cost unknown, never a share of what is known."""
    rows = panels.paths(sample["suites"][1]["cascades"][0])
    assert [len(row.shares) for row in rows] == [1, 1, 1]
    assert {row.facts[3] for row in rows} == {"unknown"}


# Markdown


def test_the_comment_names_failures_first(sample):
    """The table begins with what fails and ends with what passes."""
    table = [
        line.split("|")[1].split()[1]
        for line in markdown.render(sample).splitlines()
        if line.startswith(("| ❌", "| ⬜", "| ❔", "| ✅"))
    ]
    assert table == sorted(table, key=["fail", "not", "inconclusive", "pass"].index)
    assert table[0] == "fail"


def test_the_comment_is_bounded():
    """Forty cascades of twenty cohorts still fit a comment."""
    suite = ten_by_twenty()["suites"][0]
    text = markdown.render({**ten_by_twenty(), "suites": [suite] * 4})
    assert len(text) < 30_000
    assert "more" in text


@given(st.text(alphabet="ab|`*_[]()<>&\\\n@#:/!~ \u202e", max_size=30))
def test_no_name_breaks_out_of_its_cell(name):
    """Whatever a cohort is called, rows keep their cells and no markup, link or mention comes alive."""
    escaped = markdown._escape(name)
    assert "\n" not in escaped
    assert "<" not in escaped
    assert not re.search(r"(?<!\\)(\\\\)*[|`*_\[\]~#]", escaped)
    assert not re.search(r"@\w|://", escaped)


def test_the_comment_of_a_pass_says_so(sample):
    """When every budget of every cascade holds, the first line says it."""
    only = {**sample, "suites": sample["suites"][:1]}
    assert markdown.render(only).startswith("### cascade_eval: every budget holds\n")
    assert markdown.render({**only, "selected": {"items": 1, "of": 4}}).startswith("### cascade_eval: a partial run")


# Colours


def luminance(colour):
    """Return relative luminance as WCAG 2 defines it."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    """Return the contrast ratio of two colours."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", [0, 1])
def test_text_and_pictures_have_contrast(scheme):
    """WCAG AA on the light and the dark page: 4.5:1 for every text colour, 3:1 for every colour of a picture."""
    sheet = html_report.TEMPLATES.joinpath("report.css").read_text()
    roots = re.findall(r":root \{(.*?)\}", sheet, re.DOTALL)
    colours = dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", roots[scheme]))
    for name in ("ink", "quiet", "pass", "fail", "open", "link"):
        assert contrast(colours[name], colours["page"]) >= 4.5, name
    for colour in (svg.PASS, svg.FAIL, svg.OPEN, svg.QUIET, svg.BLUE, svg.OCHRE):
        assert contrast(colour, colours["page"]) >= 3, colour
    assert min(contrast(colour, "#ffffff") for colour in (svg.PASS, svg.FAIL, svg.OPEN)) >= 3


def test_outcomes_differ_by_shape(sample):
    """Each outcome's mark is drawn differently, colours aside."""
    shapes = [
        re.sub(r"#[0-9A-F]{6}", "", svg.mark(state, 0, 0)) for state in ("pass", "fail", "inconclusive", "missing")
    ]
    assert len(set(shapes)) == 4
