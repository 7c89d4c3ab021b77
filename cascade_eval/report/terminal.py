"""A verdict explained in at most 40 lines of plain text.

The order never changes: the verdict; where it was promised; the table of its cohorts with this row marked; what is
wrong; what would fix it; where to look. Everything comes from the records of evidence, so that a block looks the
same on a laptop, under workers and from a stored file. Recorded text is untrusted: control characters never reach
the terminal.
"""

from __future__ import annotations

import math
import textwrap
from typing import TYPE_CHECKING, Any, NamedTuple

from cascade_eval import budgets
from cascade_eval.report import numbers, widths

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

LINES = 40
"""Lines of a block, for any number of cases and cohorts."""

ROWS = 16
"""Rows of a table; the rest is counted."""

CASES = 5
"""Cases that are named."""

NAME = 32
"""Columns a cohort's name may take in a table."""

_WORDS = {"pass": "pass", "fail": "FAIL", "inconclusive": "inconclusive"}
_SEVERITY = ("FAIL", "not measured", "inconclusive", "pass", "", "routed")
_UNITS = {
    "rate": (100.0, "", "%"),
    "ratio": (100.0, "", "%"),
    "points": (100.0, "", " points"),
    "seconds": (1.0, "", " s"),
    "dollars": (1.0, "$", ""),
    "days": (1.0, "", " days"),
}


class Row(NamedTuple):
    """One line of the table of cohorts."""

    name: str
    estimate: Mapping[str, Any]
    outcome: str
    marked: bool


def block(
    suite: Mapping[str, Any], cascade: Mapping[str, Any], verdict: Mapping[str, Any], *, width: int = 80
) -> list[str]:
    """Explain one verdict.

    Parameters
    ----------
    suite, cascade, verdict
        Records of evidence: the suite, its cascade, one of the cascade's verdicts.
    width
        Columns of the terminal; sentences wrap, cases are cut.

    Returns
    -------
    list of str
        At most `LINES` lines.
    """
    width = max(40, min(width, 100))
    parts = [
        [headline(verdict), *_wrap([promised(verdict)], width, 2)],
        _table(suite, cascade, verdict),
        _wrap(_wrong(cascade, verdict), width, 5),
        _wrap(_fixes(suite, cascade, verdict), width, 4),
        _cases(cascade, verdict, width),
    ]
    lines = [line for part in parts if part for line in ("", *part)][1:]
    return lines[:LINES]


def title(suite: Mapping[str, Any], cascade: Mapping[str, Any], verdict: Mapping[str, Any]) -> str:
    """Name a verdict in a heading; the cascade only where the suite has several.

    Examples
    --------
    >>> suite = {"suite": "suites/support.cascade.yaml", "cascades": [{"name": "current"}, {"name": "always-flagship"}]}
    >>> title(suite, suite["cascades"][0], {"metric": "disagreement", "cohort": {"language": "fr"}})
    'support: disagreement · language=fr'
    """
    name = suite["suite"].rsplit("/", 1)[-1].removesuffix(".yaml").removesuffix(".yml").removesuffix(".cascade")
    judged = [other for other in suite["cascades"] if other["name"] != "always-flagship"]
    which = f" / {cascade['name']}" if len(judged) > 1 else ""
    return clean(f"{name}{which}: {verdict['metric']} · {member(verdict['cohort'])}")


def headline(verdict: Mapping[str, Any]) -> str:
    """Say a verdict in one short line.

    Examples
    --------
    >>> estimate = {"value": 50 / 314, "nobs": 314, "unit": "rate"}
    >>> budget = {"bound": "at most 10%", "low": None, "high": 0.1, "not_measured": False, "estimate": estimate}
    >>> headline({**budget, "outcome": "fail"})
    '15.9% > 10% (n=314)'
    >>> headline({**budget, "outcome": "inconclusive"})
    '15.9%, at most 10%: undecided (n=314)'
    """
    estimate, low, high = verdict["estimate"], verdict["low"], verdict["high"]
    if verdict["not_measured"] or estimate["value"] is None:
        return clean(f"not measured: {estimate.get('reason') or verdict.get('reason') or verdict['bound']}")
    value = numbers.show(estimate["value"], estimate["unit"], beside=_budget(verdict))
    size = "" if estimate.get("nobs") is None else f" (n={estimate['nobs']:,})"
    if verdict["outcome"] == "fail" and high is not None and estimate["value"] > high:
        return f"{value} > {budget(high, estimate['unit'])}{size}"
    if verdict["outcome"] == "fail" and low is not None and estimate["value"] < low:
        return f"{value} < {budget(low, estimate['unit'])}{size}"
    undecided = ": undecided" if verdict["outcome"] == "inconclusive" else ""
    return f"{value}, {clean(verdict['bound'])}{undecided}{size}"


def promised(verdict: Mapping[str, Any]) -> str:
    """Say where and what was promised."""
    where = verdict["file"] or ""
    if verdict["line"] is not None:
        where = f"{where}:{verdict['line']}"
    return clean(f"{where}  {verdict['metric']}, {verdict['scope']}: {verdict['bound']}".strip())


def member(cohort: Mapping[str, str]) -> str:
    """Write a cohort as ids and budgets do.

    Examples
    --------
    >>> member({"language": "fr", "intent": "refund"}), member({})
    ('language=fr,intent=refund', 'overall')
    """
    return ",".join(f"{column}={value}" for column, value in cohort.items()) or "overall"


def budget(value: float, unit: str) -> str:
    """Write a budget as a person would.

    Examples
    --------
    >>> budget(0.1, "rate"), budget(0.005, "rate"), budget(1.5, "seconds"), budget(0.002, "dollars")
    ('10%', '0.5%', '1.5 s', '$0.002')
    """
    scale, before, after = _UNITS[unit]
    return f"{before}{value * scale:.12g}{after}"


def overview(suite: Mapping[str, Any], *, tests: Sequence[Mapping[str, Any]] = (), verbose: bool = True) -> list[str]:
    """Say in a few lines how a suite went: one line per cascade, the promise, the age of a baseline.

    `tests` are verdicts asserted by Python tests, already part of the cascades.
    """
    data = suite["data"]
    lines = [clean(f"{suite['suite']}  {data['cases']:,} cases of {data['path']}")]
    if data.get("bad_rows"):
        lines.append(f"  {_rows_aside(data['bad_rows'])}")
    judged = [cascade for cascade in suite["cascades"] if cascade["name"] != "always-flagship"]
    name = max((widths.wide(clean(cascade["name"])) for cascade in judged), default=0)
    lines += [
        f"  {widths.pad(clean(cascade['name']), name)}  {tally(cascade['verdicts'])}{_centre(cascade)}"
        for cascade in judged
    ]
    lines += _standing(suite)
    if tests:
        lines.append(f"  of these, asserted by tests: {tally(tests)}")
    if verbose:
        lines += [f"  {line}" for line in (*_baselines(judged), clean(suite["promise"])) if line]
    return lines


def _rows_aside(bad: int) -> str:
    return "1 bad row was set aside" if bad == 1 else f"{bad:,} bad rows were set aside"


def tally(verdicts: Iterable[Mapping[str, Any]]) -> str:
    """Count verdicts by outcome: ``12 pass, 1 FAIL``."""
    words = [outcome_word(verdict) for verdict in verdicts]
    shown = [
        f"{words.count(word)} {word}" for word in ("pass", "FAIL", "inconclusive", "not measured") if word in words
    ]
    return ", ".join(shown) or "no verdicts"


def outcome_word(verdict: Mapping[str, Any]) -> str:
    """Word of a verdict in tables and counts."""
    if verdict["outcome"] == "inconclusive" and verdict["not_measured"]:
        return "not measured"
    return _WORDS[verdict["outcome"]]


def clean(text: object) -> str:
    """Return text without control characters, line breaks, or anything else a terminal acts on.

    Examples
    --------
    >>> clean("a" + chr(27) + "[31mb" + chr(10) + "c")
    'a�[31mb c'
    """
    spaced = " ".join(str(text).splitlines())
    return "".join(character if character.isprintable() else "�" for character in spaced)


# Pieces of a block, in its order.


def _table(suite: Mapping[str, Any], cascade: Mapping[str, Any], verdict: Mapping[str, Any]) -> list[str]:
    rows, hidden = _fit(_rows(cascade, verdict))
    near = _budget(verdict)
    heads = [
        "",
        *_heads(cascade, verdict["metric"], weekly=_watched(verdict)),
        f"{100 * suite['confidence']:.6g}% bounds",
        "",
    ]
    cells = [_cells(row, near) for row in rows]
    sizes = [max(widths.wide(line[i]) for line in [heads, *cells]) for i in range(4)]
    lines = [_line(" ", heads, sizes)]
    lines += [_line(">" if row.marked else " ", line, sizes) for row, line in zip(rows, cells, strict=True)]
    if hidden:
        words = [row.outcome or "not judged" for row in hidden]
        parts = ", ".join(f"{words.count(word)} {word}" for word in dict.fromkeys(words))
        lines.append(f"  … and {len(hidden)} more: {parts}")
    return lines


def _line(mark: str, cells: Sequence[str], sizes: Sequence[int]) -> str:
    name, nobs, value, ranged, outcome = cells
    right = [widths.pad(cell, size, right=True) for cell, size in zip((nobs, value, ranged), sizes[1:], strict=True)]
    return f"{mark} {widths.pad(name, sizes[0])}   {'   '.join(right)}   {outcome}".rstrip()


def _cells(row: Row, near: tuple[float | None, ...]) -> list[str]:
    estimate = row.estimate
    nobs = "–" if estimate.get("nobs") is None else f"{estimate['nobs']:,}"
    value = numbers.show(estimate.get("value"), estimate["unit"], beside=near)
    if estimate["unit"] == "rate" and estimate.get("count") is not None:
        value = f"{estimate['count']:,}  {value:>6}"
    return [widths.cut(clean(row.name), NAME), nobs, value, _bounds(estimate, near), row.outcome]


def _heads(cascade: Mapping[str, Any], metric: str, *, weekly: bool) -> tuple[str, str]:
    if metric == "disagreement":
        tiers = [step["tier"] for step in cascade.get("funnel", [])[:-1]]
        # Unaudited cases are settled and not compared, and weeks count more cases than this traffic has.
        audited = cascade["overall"]["metrics"].get("audited", {}).get("value")
        if weekly or audited not in {1, None}:
            return "compared", "flagship disagrees"
        return (clean(f"settled by {tiers[0]}") if len(tiers) == 1 else "unescalated"), "flagship disagrees"
    return "cases", "escalated" if metric == "escalation" else metric


def _rows(cascade: Mapping[str, Any], verdict: Mapping[str, Any]) -> list[Row]:
    """Return the verdict's own row among its siblings: members of the same columns, or all single columns."""
    metric, columns = verdict["metric"], set(verdict["cohort"])
    judged = {member(other["cohort"]): other for other in cascade["verdicts"] if other["metric"] == metric}
    judged[member(verdict["cohort"])] = verdict
    cells = [cell for cell in cascade["cohorts"] if metric in cell["metrics"]]
    cells = [cell for cell in cells if set(cell["cohort"]) == columns or (not columns and len(cell["cohort"]) == 1)]
    found = {member(cell["cohort"]): _row(cell, judged, metric) for cell in cells}
    own = member(verdict["cohort"])
    row = Row(own, verdict["estimate"], outcome_word(verdict), marked=True)
    if own in found:
        return [row if name == own else other for name, other in found.items()]
    return [row, *found.values()]


def _row(cell: Mapping[str, Any], judged: Mapping[str, Mapping[str, Any]], metric: str) -> Row:
    name = member(cell["cohort"])
    if cell.get("routed"):
        return Row(name, cell["metrics"][metric], "routed", marked=False)
    outcome = outcome_word(judged[name]) if name in judged else ""
    estimate = judged[name]["estimate"] if name in judged else cell["metrics"][metric]
    return Row(name, estimate, outcome, marked=False)


def _fit(rows: list[Row]) -> tuple[list[Row], list[Row]]:
    """Split off what does not fit: the marked row stays, then what is worst, and the order stays."""
    if len(rows) <= ROWS:
        return rows, []
    ranked = sorted(range(len(rows)), key=lambda i: (not rows[i].marked, _SEVERITY.index(rows[i].outcome)))
    kept = set(ranked[:ROWS])
    return [row for i, row in enumerate(rows) if i in kept], [row for i, row in enumerate(rows) if i not in kept]


def _wrong(cascade: Mapping[str, Any], verdict: Mapping[str, Any]) -> Iterator[str]:
    found = list(_overconfident(cascade, verdict)) if verdict["metric"] == "disagreement" else []
    # What the first line and the table have said already is not said again.
    said = (found and verdict["outcome"] == "fail" and not _watched(verdict)) or verdict["reason"] in headline(verdict)
    if not said:
        yield clean(verdict["reason"])
    if verdict["outcome"] != "pass":
        yield from found


def _overconfident(cascade: Mapping[str, Any], verdict: Mapping[str, Any]) -> Iterator[str]:
    """Name the bin of the reliability diagram that promises most beyond what its exact upper bound allows."""
    gates = {gate["tier"]: gate for gate in cascade["thresholds"]}
    found = [
        (bin_["nobs"] * (bin_["mean"] - bin_["agree"]), part["tier"], bin_)
        for part in cascade["calibration"]
        if part["cohort"] == verdict["cohort"] and part["tier"] in gates
        for bin_ in part["bins"]
        if None not in {bin_["mean"], bin_["agree"], bin_["bound_high"]}
        and 0 <= bin_["low"] <= bin_["high"] <= 1
        and _settles(gates[part["tier"]], bin_["high"])
        and bin_["bound_high"] < bin_["mean"]
    ]
    if found:
        _, tier, worst = max(found, key=lambda entry: entry[0])
        where = f" on {member(verdict['cohort'])}" if verdict["cohort"] else ""
        yield clean(
            f"The gate is overconfident{where}: where it says {worst['low']:.2f} – "
            f"{worst['high']:.2f}, {tier} agrees with the flagship {numbers.show(worst['agree'], 'rate')} of the time "
            f"(n={worst['nobs']:,})."
        )


def _settles(gate: Mapping[str, Any], value: float) -> bool:
    if gate["threshold"] is None or gate["surer"] == "lower":
        return gate["threshold"] is None
    return bool(value >= gate["threshold"])


def _fixes(suite: Mapping[str, Any], cascade: Mapping[str, Any], verdict: Mapping[str, Any]) -> Iterator[str]:
    if verdict["outcome"] == "pass":
        return
    if verdict.get("advice"):
        yield clean(verdict["advice"])
    if verdict["outcome"] == "inconclusive" and not verdict["not_measured"]:
        yield from _more_cases(verdict)
    if verdict["outcome"] != "fail" or verdict["metric"] != "disagreement" or verdict.get("advice"):
        return
    # What weeks showed cannot be tried on the cases of this run, which may be calm by themselves.
    if not _watched(verdict):
        yield from _threshold(suite, cascade, verdict)


def _watched(verdict: Mapping[str, Any]) -> bool:
    return str(verdict["bound"]).endswith(budgets.WEEKLY)


def _more_cases(verdict: Mapping[str, Any]) -> Iterator[str]:
    more = verdict["cases_to_decide"]
    if more is not None and "more cases" not in verdict["reason"]:
        yield f"About {more:,} more cases like these would decide."
    if verdict["smallest_excess"] is not None:
        excess = numbers.show(verdict["smallest_excess"], verdict["estimate"]["unit"], beside=_budget(verdict))
        yield f"With this many cases a true value of {excess} is refuted four times in five, a smaller one less often."


def _threshold(suite: Mapping[str, Any], cascade: Mapping[str, Any], verdict: Mapping[str, Any]) -> Iterator[str]:
    """Find the point of the sweep that escalates least more and whose bound would hold."""
    own, most = member(verdict["cohort"]), verdict["high"]
    points = [p for p in cascade["sweep"] if p["cohort"] == verdict["cohort"] and p["disagreement"] is not None]
    now = _cell(cascade, verdict["cohort"])["metrics"].get("escalation", {}).get("value")
    if not points or most is None or now is None:
        return
    alpha = 1 - suite["confidence"]
    more = sorted((p for p in points if (p["escalation"] or 0) > now), key=lambda p: p["escalation"])
    held = next((p for p in more if _holds(p, most, alpha)), None)
    if held is None:
        yield clean(
            f"No other threshold of this gate holds {verdict['bound']} on {own}: recalibrate it there, or route it."
        )
        return
    gates = ", ".join(f"{tier} {value:.6g}" for tier, value in _moved(cascade, held))
    yield clean(
        f"Escalating more would fix it: threshold {gates} leaves {numbers.show(held['disagreement'], 'rate', beside=(most,))} "
        f"disagreement (n={held['cases_kept']:,}) on {own} and escalates {numbers.show(held['escalation'], 'rate')} of it "
        f"instead of {numbers.show(now, 'rate')}. Chosen on these cases, so confirm it on others."
    )


def _moved(cascade: Mapping[str, Any], point: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    now = {gate["tier"]: gate["threshold"] for gate in cascade["thresholds"]}
    for tier, value in point["thresholds"].items():
        if value is not None and value != now.get(tier):
            yield tier, value


def _holds(point: Mapping[str, Any], most: float, alpha: float) -> bool:
    """Tell whether the exact one-sided bound of a point of the sweep is within the budget."""
    nobs = point["cases_kept"]
    if not nobs or None in point["thresholds"].values():
        return False
    return _binomial_at_most(round(point["disagreement"] * nobs), nobs, most) <= alpha


def _binomial_at_most(count: int, nobs: int, rate: float) -> float:
    """P(X <= count) of a binomial; Clopper and Pearson's upper bound is within `rate` where this is at most alpha.

    A sum of logarithms, because a block must not wait for a statistics library to load.
    """
    if not 0 < rate < 1:
        return float(rate <= 0 or count >= nobs)
    whole = math.lgamma(nobs + 1)
    terms = (
        whole - math.lgamma(k + 1) - math.lgamma(nobs - k + 1) + k * math.log(rate) + (nobs - k) * math.log1p(-rate)
        for k in range(count + 1)
    )
    return math.fsum(math.exp(term) for term in terms)


def _cell(cascade: Mapping[str, Any], cohort: Mapping[str, str]) -> Mapping[str, Any]:
    cells = (cell for cell in cascade["cohorts"] if cell["cohort"] == cohort)
    return next(cells, {"metrics": {}}) if cohort else cascade["overall"]


def _cases(cascade: Mapping[str, Any], verdict: Mapping[str, Any], width: int) -> list[str]:
    if verdict["outcome"] == "pass":
        return []
    found = list(_looked_at(cascade, verdict))
    heads = {"disagreement": "Disagreements the gate was surest of:", "flips to disagreement": "Cases that flipped:"}
    lines = [widths.cut(f"  {line}", width) for line in found[:CASES]]
    return [heads[verdict["metric"]], *lines] if lines else []


def _looked_at(cascade: Mapping[str, Any], verdict: Mapping[str, Any]) -> Iterator[str]:
    if verdict["metric"] == "disagreement":
        for case in cascade["worst"]:
            if verdict["cohort"].items() <= case["cohort"].items():
                value = "" if case["value"] is None else f" {case['value']:.3g}"
                yield f"case {clean(case['case_id'])}  {case['tier']}{value}{_answers(case, 'answer', 'flagship_answer')}"
    if verdict["metric"] == "flips to disagreement":
        for flips in cascade["flips"]:
            if flips["cohort"] == verdict["cohort"]:
                worse = (case for case in flips["cases"] if case["direction"] == "worse")
                yield from (
                    f"case {clean(c['case_id'])}{_answers(c, 'candidate_answer', 'flagship_answer')}" for c in worse
                )


def _answers(case: Mapping[str, Any], given: str, reference: str) -> str:
    if case.get(given) is None and case.get(reference) is None:
        return ""
    answer, flagship = (
        widths.cut(clean(case.get(key)), 30) if case.get(key) is not None else "none" for key in (given, reference)
    )
    return f"  “{answer}”, flagship “{flagship}”"


# Pieces of an overview.


def _standing(suite: Mapping[str, Any]) -> list[str]:
    """Say each alarm that stands and each cause that was found in a line."""
    found = [m for m in suite.get("movements") or () if m["alarm"] and m["standing"]]
    lines = [f"  ALARM since {m['first']}, {m['cascade']}: {m['message']}" for m in found]
    lines += [
        f"  {one['cascade']}: {cause['name']} ({'conclusive' if cause['conclusive'] else 'suspected'}): {cause['message']}"
        for one in suite.get("findings") or ()
        for cause in one["causes"]
    ]
    left = len(lines) - CASES
    return [*map(clean, (line for line in lines[:CASES])), *([f"  … and {left} more"] if left > 0 else [])]


def _centre(cascade: Mapping[str, Any]) -> str:
    estimate = cascade["overall"]["metrics"].get("disagreement")
    if estimate is None or estimate["value"] is None:
        return ""
    value = numbers.show(estimate["value"], "rate")
    return f"; disagreement {value} ({_bounds(estimate)}, n={estimate['nobs']:,})"


def _baselines(cascades: Iterable[Mapping[str, Any]]) -> list[str]:
    lines = []
    for cascade in cascades:
        if base := cascade.get("baseline"):
            days = base.get("age_days")
            age = "" if days is None else f", {days:.0f} days old" if days >= 1.5 else ", a day old or less"
            lines.append(clean(f"baseline of {cascade['name']}: {base['name']}{age}"))
    return lines


# Numbers and columns.


def _budget(verdict: Mapping[str, Any]) -> tuple[float | None, ...]:
    return verdict["low"], verdict["high"]


def _bounds(estimate: Mapping[str, Any], near: tuple[float | None, ...] = ()) -> str:
    return numbers.bounds(estimate.get("low"), estimate.get("high"), estimate["unit"], beside=near) or numbers.UNKNOWN


def _wrap(sentences: Iterable[str], width: int, most: int) -> list[str]:
    text = " ".join(sentences)
    return textwrap.wrap(text, width, max_lines=most, placeholder=" …", break_on_hyphens=False) if text else []
