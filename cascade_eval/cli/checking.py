"""What a suite can decide with the cases it has: sizes and sources, never who agrees."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cascade_eval import bounds, budgets, runs, suite
from cascade_eval.report import terminal
from cascade_eval.traffic import Field

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from cascade_eval.suite import Evaluation, Suite
    from cascade_eval.traffic import Traffic
    from cascade_eval.verdicts import Verdict

ROWS = 12
"""Cohorts and promises that are listed; the rest is counted."""


@dataclass(frozen=True, eq=False)
class Found:
    """A suite that can be judged.

    Parameters
    ----------
    suite
        What is promised.
    traffic
        The cases.
    evaluation
        How many cases stand behind each promise. Its verdicts are for pytest.
    """

    suite: Suite
    traffic: Traffic
    evaluation: Evaluation


@dataclass(frozen=True)
class Outlook:
    """What one promise rests on.

    Parameters
    ----------
    cascade, metric, cohort, bound
        Which promise.
    nobs
        Cases it is judged by.
    smallest
        Smallest "at most" so many cases could prove, none of them counting against it.
    needed
        Cases that would decide it with power .8 if the true rate is half the budget; None above 100,000.
    state
        ``enough``, ``few`` (decided only if the truth lies far from the budget) or ``never`` (cannot be proven).
    measured
        Whether it can be measured at all; no number of cases decides what was not.
    """

    cascade: str
    metric: str
    cohort: str
    bound: str
    nobs: int
    smallest: float
    needed: int | None
    state: str
    measured: bool = True


def look(path: str, *, traffic: str | None = None, tolerate: int | None = None) -> Found:
    """Read a suite with everything it names.

    Raises
    ------
    UsageError
        With every problem.
    """
    found = suite.load(path)
    opened = runs.check(found, traffic_path=traffic, tolerate=tolerate)
    return Found(found, opened.traffic, runs.judge(opened))


def lines(found: Found) -> Iterator[str]:
    """Say what was found, in a page at most."""
    record = found.evaluation.record
    yield terminal.clean(f"{found.suite.name}: {_sentence(found)}")
    yield from (f"  {terminal.clean(line)}" for line in (*_data(found, record), *_prices(record), *_known(record)))
    yield from (f"  cohort {line}" for line in _cohorts(record))
    yield from (f"  note: {terminal.clean(note)}" for note in record["notes"])
    if _partly_asked(found, record):
        yield (
            "  note: If the flagship's answers to unescalated cases are those of cases drawn by chance, a column "
            "'audit_probability' says so: the chance on the drawn ones, empty on the others."
        )
    yield from _promises(outlooks(found))


def outlooks(found: Found) -> list[Outlook]:
    """Return what each promise "at most" of a rate rests on.

    Other metrics are judged by their spread, which their number of cases alone does not tell.
    """
    return [
        _outlook(judged.cascade.name, verdict, 1 - found.suite.confidence)
        for judged in found.evaluation.cascades
        for verdict in judged.verdicts
        if verdict.estimate.unit == "rate" and verdict.bound.high is not None and 0 < verdict.bound.high < 1
    ]


def _outlook(cascade: str, verdict: Verdict, alpha: float) -> Outlook:
    high = verdict.bound.high
    assert high is not None
    n = verdict.estimate.nobs or 0
    smallest = float(bounds.smallest_provable(n, alpha))
    needed = bounds.cases_to_decide(high / 2, high, alpha=alpha)
    state = "never" if smallest > high else "enough" if needed is not None and n >= needed else "few"
    cohort = terminal.member(verdict.cohort)
    return Outlook(
        cascade, verdict.metric, cohort, str(verdict.bound.text), n, smallest, needed, state, not verdict.not_measured
    )


def _sentence(found: Found) -> str:
    names = ", ".join(cascade.name for cascade in found.suite.cascades)
    verdicts = [verdict for judged in found.evaluation.cascades for verdict in judged.verdicts]
    lost = [verdict for verdict in verdicts if verdict.not_measured]
    if not lost:
        return f"can be judged; {_some(len(verdicts), 'verdict')} on {names}"
    first = f"{lost[0].metric} · {terminal.member(lost[0].cohort)}"
    return f"can be read, but {len(lost)} of {_some(len(verdicts), 'verdict')} on {names} cannot be measured; {first}: {lost[0].reason}"


def _data(found: Found, record: Mapping[str, Any]) -> Iterator[str]:
    data = record["data"]
    aside = f", {_some(data['bad_rows'], 'bad row')} set aside" if data["bad_rows"] else ""
    yield f"data: {data['cases']:,} cases of {data['path']} ({data['kind']}, sha256 {data['sha256'][:12]}){aside}"
    yield f"models: {', '.join(found.traffic.models)}"
    yield f"agreement: {record['agreement']}"


def _prices(record: Mapping[str, Any]) -> Iterator[str]:
    for price in record["prices"]:
        since = f", since {price['since']}" if price.get("since") else ""
        yield f"price of {price['model']}: {price['source']}{since}"


def _known(record: Mapping[str, Any]) -> Iterator[str]:
    for cascade in record["cascades"]:
        if cascade["name"] == "always-flagship":
            continue
        shares = [f"{name} {_percent(cascade['overall']['metrics'].get(name))}" for name in ("coverage", "audited")]
        floors = f"at least {record['floors']['coverage']:.0%} and {record['floors']['audited']:.0%} are needed"
        yield f"{cascade['name']}: {', '.join(shares)} ({floors})"


def _partly_asked(found: Found, record: Mapping[str, Any]) -> bool:
    """Tell whether the flagship was asked about some unescalated cases, and nothing says how they were drawn."""
    shares = [cascade["overall"]["metrics"].get("audited") for cascade in record["cascades"]]
    some = any(share and share["value"] and 0 < share["value"] < record["floors"]["audited"] for share in shares)
    return some and Field(None, "audit_probability") not in found.traffic.fields


def _percent(metric: Mapping[str, Any] | None) -> str:
    return "unknown" if metric is None or metric["value"] is None else budgets.show(metric["value"], "rate")


def _cohorts(record: Mapping[str, Any]) -> Iterator[str]:
    cells = record["cascades"][0]["cohorts"]
    for cell in cells[:ROWS]:
        yield terminal.clean(f"{terminal.member(cell['cohort'])}: {_some(cell['cases'], 'case')}")
    if len(cells) > ROWS:
        yield f"… and {len(cells) - ROWS:,} more"


def _promises(found: Sequence[Outlook]) -> Iterator[str]:
    """List what cannot be decided first, because that is what a larger sample changes."""
    if not found:
        return
    lost = sum(not one.measured for one in found)
    found = [one for one in found if one.measured]
    if not found:
        yield f"  0 of {_some(lost, 'promised rate')} would be decided: nothing they speak of can be measured"
        return
    enough = sum(one.state == "enough" for one in found)
    more = f"; {lost:,} more cannot be measured" if lost else ""
    yield f"  {enough} of {_some(len(found), 'promised rate')} would be decided if the true rate is half the budget{more}"
    short = sorted((one for one in found if one.state != "enough"), key=lambda one: (one.state != "never", one.nobs))
    for one in short[:ROWS]:
        yield terminal.clean(f"    {one.cascade}: {one.metric} · {one.cohort}, {one.bound}: {_short(one)}")
    if len(short) > ROWS:
        yield f"    … and {len(short) - ROWS:,} more"


def _short(one: Outlook) -> str:
    needed = "over 100,000" if one.needed is None else f"{one.needed:,}"
    if one.state == "never":
        smallest = budgets.show(one.smallest, "rate")
        return f"{_some(one.nobs, 'case')} cannot prove it, at best at most {smallest}; {needed} would decide"
    return f"{_some(one.nobs, 'case')} may not decide; {needed} would"


def _some(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
