"""Blocks: what a failing verdict says, in which order, and what it never does."""

from __future__ import annotations

import math

import plugin_records as records
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from cascade_eval import bounds
from cascade_eval.report import annotations, terminal


def _verdict(cascade, cohort):
    return next(verdict for verdict in cascade["verdicts"] if verdict["cohort"] == cohort)


def _worst(case_id="gold-0012", **other):
    case = {
        "case_id": case_id,
        "cohort": {"language": "fr"},
        "tier": "mini",
        "value": 0.97,
        "answer": "refund",
        "flagship_answer": "exchange",
        "expected": None,
        "right": None,
        "input": None,
    }
    return case | other


def _bin(low, high, nobs, mean, agree, bound_high):
    known = {"low": low, "high": high, "nobs": nobs, "mean": mean, "agree": agree}
    return known | {"bound_low": agree / 2, "bound_high": bound_high}


def _calibration(*bins, cohort):
    return {"tier": "mini", "signal": "confidence", "recipe": None, "cohort": cohort, "bins": list(bins)}


def _point(threshold, escalation, disagreement, kept, cohort):
    known = {"cohort": cohort, "thresholds": {"mini": threshold}, "escalation": escalation}
    return known | {"disagreement": disagreement, "cost": None, "cases_kept": kept}


def test_a_failing_block_says_everything_in_order():
    """The verdict; where it was promised; the table with its row marked; what is wrong; the fix; the cases."""
    fr = {"language": "fr"}
    cascade = records.cascade(
        calibration=[
            _calibration(_bin(0.82, 0.92, 120, 0.87, 0.63, 0.71), _bin(0.92, 1, 99, 0.95, 0.94, 0.98), cohort=fr)
        ],
        sweep=[
            _point(0.82, 10 / 324, 50 / 314, 314, fr),
            _point(0.9, 0.20, 26 / 259, 259, fr),
            _point(0.93, 0.30, 12 / 227, 227, fr),
            _point(0.95, 0.60, 2 / 130, 130, fr),
        ],
        worst=[_worst(), _worst("gold-7", cohort={"language": "en"})],
    )
    verdict = _verdict(cascade, fr)
    assert "\n".join(terminal.block(records.suite(cascade), cascade, verdict)) == (
        "15.9% > 10% (n=314)\n"
        "suites/support.cascade.yaml:10  disagreement, each language: at most 10%\n"
        "\n"
        "                settled by mini   flagship disagrees   95% bounds\n"
        "  language=en             2,009           51    2.5%     2.0–3.2%   pass\n"
        "  language=de               572           15    2.6%     1.6–4.0%   pass\n"
        "> language=fr               314           50   15.9%   12.6–19.7%   FAIL\n"
        "  language=nl               142            3    2.1%     0.6–5.4%   pass\n"
        "  language=pt                41            3    7.3%    2.0–17.8%   inconclusive\n"
        "\n"
        "The gate is overconfident on language=fr: where it says 0.82 – 0.92, mini agrees\n"
        "with the flagship 63.0% of the time (n=120).\n"
        "\n"
        "Escalating more would fix it: threshold mini 0.93 leaves 5.3% disagreement\n"
        "(n=227) on language=fr and escalates 30.0% of it instead of 3.1%. Chosen on\n"
        "these cases, so confirm it on others.\n"
        "\n"
        "Disagreements the gate was surest of:\n"
        "  case gold-0012  mini 0.97  “refund”, flagship “exchange”"
    )


def test_an_inconclusive_block_says_what_would_decide():
    """An undecided verdict gives its reason, how many more cases decide, and what would have been noticed."""
    cascade = records.cascade()
    verdict = _verdict(cascade, {"language": "pt"}) | {"reason": "7.3% lies on both sides.", "cases_to_decide": 842}
    text = "\n".join(terminal.block(records.suite(cascade), cascade, verdict | {"smallest_excess": 0.2714}))
    assert text.startswith("7.3%, at most 10%: undecided (n=41)\n")
    assert text.endswith(
        "7.3% lies on both sides.\n"
        "\n"
        "About 842 more cases like these would decide. With this many cases a true value\n"
        "of 27.1% is refuted four times in five, a smaller one less often."
    )


@pytest.mark.parametrize(
    ("audited", "bound", "head"),
    [
        (1.0, "at most 10%", "settled by mini"),
        (None, "at most 10%", "settled by mini"),
        (0.4, "at most 10%", "compared"),
        (1.0, "at most 10%, watched weekly", "compared"),
    ],
)
def test_a_column_of_compared_cases_is_not_called_settled(audited, bound, head):
    """Where some settled cases were not compared, or weeks are counted, the table does not call its n settled."""
    cascade = records.cascade()
    cascade["overall"]["metrics"]["audited"] = {"value": audited}
    verdict = _verdict(cascade, {"language": "pt"}) | {"bound": bound}
    lines = terminal.block(records.suite(cascade), cascade, verdict)
    heads = next(line for line in lines if "flagship disagrees" in line)
    assert heads.split("flagship disagrees")[0].strip() == head


def test_a_verdict_without_a_measurement_says_so_first():
    """Not measured is never shown as a number."""
    cascade = records.cascade(counts={"fr": (0, 0)})
    verdict = _verdict(cascade, {"language": "fr"})
    lines = terminal.block(records.suite(cascade), cascade, verdict)
    assert lines[0] == "not measured: no case to judge"
    assert "> language=fr                 0           0  unknown      unknown   not measured" in lines


def test_an_overall_verdict_stands_above_every_cohort():
    """The row of all cases is marked, and the cohorts below show where it comes from."""
    counts = records.LANGUAGES
    cascade = records.cascade(made=[*records.judged({"": (122, 3078)}, "at most 3%"), *records.judged(counts)])
    lines = terminal.block(records.suite(cascade), cascade, _verdict(cascade, {}))
    assert lines[4].startswith("> overall")
    assert lines[4].endswith("FAIL")
    assert [line.split()[0] for line in lines[5:10]] == [f"language={name}" for name in counts]


def test_a_routed_cohort_is_in_the_table_and_not_judged():
    """Cohorts that a route sends to the flagship are shown as routed."""
    cascade = records.cascade()
    cascade["cohorts"].append(records.cell({"language": "no"}, 0, 0, routed=True))
    lines = terminal.block(records.suite(cascade), cascade, _verdict(cascade, {"language": "fr"}))
    assert next(line for line in lines if "language=no" in line).endswith("routed")


def test_a_cohort_that_only_the_verdict_knows_is_in_the_table():
    """A cohort this data lacks, promised all the same, has a row of its own."""
    cascade = records.cascade(made=records.judged({**records.LANGUAGES, "sv": (0, 0)}))
    lines = terminal.block(records.suite(cascade), cascade, _verdict(cascade, {"language": "sv"}))
    assert any(line.startswith("> language=sv") for line in lines)


def test_many_cohorts_and_cases_stay_within_forty_lines():
    """57 cohorts: the marked row and the worst come first, the rest is counted; 40 lines are never exceeded."""
    counts = {f"l{i:02}": ((40, 100) if i % 19 == 0 else (1, 400 + i)) for i in range(57)}
    cascade = records.cascade(counts=counts, worst=[_worst(f"c{i}", cohort={"language": "l38"}) for i in range(200)])
    verdict = _verdict(cascade, {"language": "l38"}) | {"reason": "word " * 2000, "advice": "more " * 2000}
    lines = terminal.block(records.suite(cascade), cascade, verdict)
    assert len(lines) <= terminal.LINES
    table = [line for line in lines if "language=l" in line]
    assert [line.split()[-1] for line in table].count("FAIL") == 3
    assert len(table) == terminal.ROWS
    assert "  … and 41 more: 41 pass" in lines
    assert sum("case c" in line for line in lines) == terminal.CASES


@pytest.mark.parametrize(
    ("value", "high", "unit", "expected"),
    [
        (0.1004, 0.10, "rate", "10.04% > 10% (n=314)"),
        (0.10000004, 0.10, "rate", "10.000004% > 10% (n=314)"),
        (0.999, 0.99, "rate", "99.9% > 99% (n=314)"),
        (1.0, 0.99, "rate", "100% > 99% (n=314)"),
        (0.4512, 0.45, "ratio", "45.1% > 45% (n=314)"),
        (2.5, 2, "seconds", "2.50 s > 2 s (n=314)"),
        (0.0021, 0.002, "dollars", "$0.00210 > $0.002 (n=314)"),
        (0.034, 0.03, "points", "3.4 points > 3 points (n=314)"),
        (40.0, 30, "days", "40 days > 30 days (n=314)"),
    ],
)
def test_a_headline_never_rounds_a_value_onto_its_budget(value, high, unit, expected):
    """Units and decimals as people write them, with as many digits as keep value and budget apart."""
    estimate = {"value": value, "unit": unit, "nobs": 314, "low": None, "high": None, "count": None, "reason": None}
    verdict = {"outcome": "fail", "low": None, "high": high, "bound": "", "not_measured": False, "estimate": estimate}
    assert terminal.headline(verdict) == expected


def test_too_low_fails_with_the_sign_turned():
    """A broken lower budget reads value < budget."""
    estimate = {"value": 0.03, "unit": "rate", "nobs": 400}
    known = {"outcome": "fail", "low": 0.15, "high": 0.4, "bound": "15% to 40%", "not_measured": False}
    assert terminal.headline(known | {"estimate": estimate}) == "3.0% < 15% (n=400)"


def test_hostile_names_and_answers_cannot_steer_the_terminal():
    """Escape sequences, line breaks, bidirectional marks and workflow commands never come through."""
    bad = "\x1b[2J\r\n::error::x\u202e"
    cascade = records.cascade(counts={bad: (50, 100)}, worst=[_worst(bad, cohort={"language": bad}, answer=bad)])
    verdict = cascade["verdicts"][0] | {"reason": bad, "advice": bad, "file": bad}
    text = "\n".join(terminal.block(records.suite(cascade), cascade, verdict))
    assert not any(character in text for character in "\x1b\r\u202e")
    assert not any(line.lstrip().startswith("::") for line in text.splitlines())


def test_wide_letters_keep_the_columns_straight():
    """A letter of two columns is counted as two."""
    cascade = records.cascade(counts={"中文": (50, 314), "fr": (51, 2009)})
    lines = terminal.block(records.suite(cascade), cascade, cascade["verdicts"][0])
    chinese, french = (next(line for line in lines if name in line) for name in ("中文", "=fr"))
    assert chinese.index("314") + 2 == french.index("2,009") + 2


def test_no_threshold_that_holds_is_said():
    """Where no point of the sweep holds, the block does not suggest one."""
    fr = {"language": "fr"}
    cascade = records.cascade(sweep=[_point(0.9, 0.5, 0.2, 150, fr), _point(None, 1.0, None, 0, fr)])
    text = " ".join(terminal.block(records.suite(cascade), cascade, _verdict(cascade, fr)))
    assert "No other threshold of this gate holds at most 10% on language=fr" in text


@given(nobs=st.integers(1, 400), share=st.floats(0, 1), rate=st.floats(0.001, 0.999))
def test_a_suggested_threshold_is_tested_exactly(nobs, share, rate):
    """The tail summed for a suggestion equals the library's, so that it holds where the exact bound does."""
    count = round(nobs * share)
    expected = stats.binom.cdf(count, nobs, rate)
    assert math.isclose(terminal._binomial_at_most(count, nobs, rate), expected, rel_tol=1e-9, abs_tol=1e-12)
    _, high = bounds.rate(count, nobs)
    if abs(float(high) - rate) > 1e-9:
        assert (expected <= 0.05) == (high <= rate)


def test_an_overview_counts_and_shows_the_centre():
    """One line per cascade: its verdicts, and disagreement with n and bounds; then baseline and promise."""
    base = {"kind": "git", "name": "git:origin/main", "created_at": None, "age_days": 12.2, "commit": None}
    record = records.suite(records.cascade(baseline=base))
    assert terminal.overview(record) == [
        "suites/support.cascade.yaml  3,478 cases of goldens/support",
        "  current  3 pass, 1 FAIL, 1 inconclusive; disagreement 4.0% (3.4–4.6%, n=3,078)",
        "  baseline of current: git:origin/main, 12 days old",
        "  The chance of any false failure is at most 5%.",
    ]


def test_an_annotation_cannot_be_escaped_from():
    """Line breaks, percent signs, colons and commas in names are written as workflow commands want them."""
    text = annotations.line("error", "a\n::x 5%", file="a,b:c", line=3, heading="h\r")
    assert text == "::error file=a%2Cb%3Ac,line=3,title=h%0D::a%0A::x 5%25"
