"""Suites as pytest sees them: files, cascades and metrics as collectors, one item per verdict."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from cascade_eval.pytest_run import RUN, Record, shown, verdicts_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_LONGEST = 1_000_000
"""Letters of a file that are looked at to tell whether it is a suite."""

NOTHING = "nothing-judged"
"""Name of the failing item of a suite that has no verdict at all."""


@dataclass(frozen=True)
class Finding:
    """What a test came to: the verdict that decided it, and all a Python test asserted."""

    suite: Record
    cascade: Record
    verdict: Record | None
    asserted: tuple[Record, ...] = ()

    @property
    def excused(self) -> bool:
        """Inconclusive for want of cases, and the suite lets that pass with a warning.

        A suite of which nothing at all was decided is excused nothing: it has proven nothing.
        """
        verdict = self.verdict
        if verdict is None or verdict["outcome"] != "inconclusive":
            return False
        return bool(verdict["warned"] and not verdict["not_measured"] and decided(self.suite))

    def headline(self) -> str:
        """Say the verdict in one line."""
        from cascade_eval.report import terminal

        return terminal.headline(self.verdict) if self.verdict else ""

    def block(self) -> list[str]:
        """Explain the verdict."""
        from cascade_eval.report import terminal

        if self.verdict is None:
            return []
        lines = terminal.block(self.suite, self.cascade, self.verdict)
        if self.verdict["warned"] and not self.verdict["not_measured"] and not decided(self.suite):
            lines = [*lines[: terminal.LINES - 2], "", "Nothing in this suite was decided, so a warning is not enough."]
        return lines

    def facts(self) -> Record:
        """Return what the report carries to wherever results are gathered: plain values only."""
        from cascade_eval.report import terminal

        verdict = self.verdict or {"outcome": "pass"}
        known = {
            "suite": self.suite["suite"],
            "cascade": self.cascade["name"],
            "outcome": verdict["outcome"],
            "excused": self.excused,
            "not_measured": bool(verdict.get("not_measured")),
            "headline": self.headline(),
            "asserted": list(self.asserted),
        }
        if self.verdict is None or verdict["outcome"] == "pass":
            return known
        where = {"title": terminal.title(self.suite, self.cascade, verdict), "file": verdict["file"]}
        return {**known, **where, "line": verdict["line"], "block": self.block()}


FINDING = pytest.StashKey[Finding]()
"""What a test came to."""


class SuiteFile(pytest.File):
    """A suite: collecting it evaluates it, because its cohorts come from its data."""

    def collect(self) -> Iterator[pytest.Item | pytest.Collector]:
        """Yield one collector per cascade that has verdicts."""
        from cascade_eval import errors

        run = self.config.stash[RUN]
        try:
            record = run.record(self.path)
        except errors.UsageError as error:
            run.refuse(str(error))
            return
        for cascade in record["cascades"]:
            if cascade["verdicts"]:
                collector = CascadeCollector.from_parent(self, name=safe(cascade["name"]))
                collector.suite, collector.cascade = record, cascade
                yield collector
        if not verdicts_of(record):
            yield NothingJudged.from_parent(self, name=NOTHING)


class Misnamed(pytest.File):
    """A suite that pytest would pass over because of its name, and nobody would miss it."""

    def collect(self) -> Iterator[pytest.Item | pytest.Collector]:
        """Say what it is to be called."""
        run = self.config.stash[RUN]
        name = shown(self.path, self.config.rootpath)
        run.refuse(
            f"{name}: holds a suite, and is not collected under this name. Call it '{_stem(self.path)}.cascade.yaml', or "
            f"name it in the ini option cascade_suites."
        )
        yield from ()


_SUITE = re.compile(r"^(?:cascades|budgets) *:", re.MULTILINE)


def misnamed(path: Path) -> bool:
    """Tell whether a file that is not named as a suite is one: YAML with 'cascade' in its name, cascades and budgets.

    Only files of such a name are opened.
    """
    name = path.name.casefold()
    if "cascade" not in name or not name.endswith((".yaml", ".yml")):
        return False
    with path.open(encoding="utf-8", errors="replace") as file:
        return len(set(_SUITE.findall(file.read(_LONGEST)))) == 2


def _stem(path: Path) -> str:
    return re.sub(r"[-_.]*cascades?[-_.]*", "", path.stem, flags=re.IGNORECASE) or "my"


class CascadeCollector(pytest.Collector):
    """A cascade of a suite."""

    suite: Record
    cascade: Record

    def collect(self) -> Iterator[pytest.Collector]:
        """Yield one collector per metric, in the order of the budgets."""
        for metric in dict.fromkeys(verdict["metric"] for verdict in self.cascade["verdicts"]):
            collector = MetricCollector.from_parent(self, name=safe(metric))
            collector.suite, collector.cascade = self.suite, self.cascade
            collector.verdicts = [verdict for verdict in self.cascade["verdicts"] if verdict["metric"] == metric]
            yield collector


class MetricCollector(pytest.Collector):
    """A metric of a cascade."""

    suite: Record
    cascade: Record
    verdicts: list[Record]

    def collect(self) -> Iterator[pytest.Item]:
        """Yield one item per verdict."""
        taken: set[str] = set()
        for verdict in self.verdicts:
            name = _item_name(verdict, taken)
            taken.add(name)
            item = BudgetItem.from_parent(self, name=name)
            item.finding = Finding(self.suite, self.cascade, verdict)
            # Here and not when it runs, so that every report of the item carries them, JUnit's included.
            item.user_properties += properties(verdict)
            yield item


class BudgetItem(pytest.Item):
    """One promise in one cohort; already judged when it runs."""

    finding: Finding

    def runtest(self) -> None:
        """Pass, or raise what was found."""
        self.stash[FINDING] = self.finding
        if self.finding.excused:
            pytest.skip(self.finding.headline())
        verdict = self.finding.verdict
        if verdict is None or verdict["outcome"] != "pass":
            raise NotKept(self.finding.headline())

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """Explain the verdict instead of showing a traceback of this module."""
        if not isinstance(excinfo.value, NotKept):
            return super().repr_failure(excinfo, style)
        return explanation(self.finding, *self._promised_at())

    def reportinfo(self) -> tuple[Path, int | None, str]:
        """Return the line the promise stands in, and the heading of its block."""
        from cascade_eval.report import terminal

        finding = self.finding
        assert finding.verdict is not None
        _, line = self._promised_at()
        return self.path, line - 1, terminal.title(finding.suite, finding.cascade, finding.verdict)

    def _promised_at(self) -> tuple[str, int]:
        verdict = self.finding.verdict or {}
        return verdict.get("file") or self.finding.suite["suite"], verdict.get("line") or 1


class NothingJudged(pytest.Item):
    """Stands for a suite without a single verdict, which must not look like one that holds."""

    def runtest(self) -> None:
        """Fail."""
        raise NotKept("no budget of this suite had anything to judge")

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:  # noqa: ARG002  pytest's signature
        """Say so in one line."""
        return f"{self.nodeid.split('::')[0]}: {excinfo.value}"


class NotKept(Exception):  # noqa: N818  it carries a verdict, which is no error
    """A verdict other than pass."""


# What names, files and marks say.


def safe(name: str) -> str:
    """Write a name so that pytest takes an id that holds it back from the command line.

    Examples
    --------
    >>> safe("language=fr"), safe("intent=a::b[1]")
    ('language=fr', 'intent=a%3A%3Ab%5B1%5D')
    """
    for special in ("::", "[", "]", "\\"):
        name = name.replace(special, "".join(f"%{ord(character):02X}" for character in special))
    return "".join(c if c.isprintable() else "".join(f"%{b:02X}" for b in c.encode("utf-8", "replace")) for c in name)


def decided(suite: Record) -> bool:
    """Tell whether any verdict of the suite is a pass or a fail that could have come out otherwise."""
    return any(verdict["outcome"] != "inconclusive" and not _cannot_fail(verdict) for verdict in verdicts_of(suite))


def _cannot_fail(verdict: Record) -> bool:
    """Tell whether a bound allows every rate there is, so that its pass decides nothing."""
    low, high = verdict["low"], verdict["high"]
    return verdict["estimate"]["unit"] == "rate" and (low is None or low <= 0) and (high is None or high >= 1)


def properties(verdict: Record) -> list[tuple[str, object]]:
    """Return a verdict as flat properties, for JUnit."""
    estimate = verdict["estimate"]
    numbers = {name: estimate[name] for name in ("value", "low", "high", "count", "nobs")}
    known = {"outcome": verdict["outcome"], "bound": verdict["bound"], **numbers}
    return [(f"cascade_{name}", value) for name, value in known.items() if value is not None]


def explanation(finding: Finding, path: str, line: int) -> Any:
    """Return a failure whose text is the block and whose one-line form is the headline."""
    # pytest offers no public way to give a failure a text and a short crash line that both survive workers.
    from _pytest._code.code import ReprEntryNative, ReprExceptionInfo, ReprFileLocation, ReprTraceback

    text = [f"{row}\n" for row in finding.block()]
    crash = ReprFileLocation(path, line, finding.headline())
    return ReprExceptionInfo(ReprTraceback([ReprEntryNative(text)], None, "native"), crash)


def complete(item: pytest.Item, report: pytest.TestReport) -> None:
    """Put what was found onto the report of a call, and make an inconclusive one what the policy says."""
    finding = item.stash[FINDING]
    report.cascade = finding.facts()  # type: ignore[attr-defined]
    undecided = finding.verdict is not None and finding.verdict["outcome"] == "inconclusive"
    if report.failed and not undecided and not isinstance(item, BudgetItem) and finding.verdict is not None:
        report.sections.append(("cascade budget", "\n".join(finding.block())))
    if undecided and report.outcome != "passed" and not hasattr(report, "wasxfail"):
        path, line, _ = item.location
        if finding.excused:
            report.outcome, report.longrepr = "skipped", (path, (line or 0) + 1, finding.headline())
        else:
            report.outcome, report.longrepr = "failed", explanation(finding, path, (line or 0) + 1)


def _item_name(verdict: Record, taken: set[str]) -> str:
    from cascade_eval.report import terminal

    name = safe(terminal.member(verdict["cohort"]))
    # A cohort may be promised by its name and by `each`: the bound tells them apart.
    for wider in (name, f"{name} ({safe(verdict['bound'])})"):
        if wider not in taken:
            return wider
    return f"{name} ({len(taken)})"
