"""The commands of an audit: plan it, draw its sample, read its answers, and look at the flagship itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from cascade_eval.cli import reporting

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Any

    from cascade_eval.audit import Plan, Reading, Sample
    from cascade_eval.diagnosis.flagship import Doubtful, Noise
    from cascade_eval.replay import Replay
    from cascade_eval.suite import Suite
    from cascade_eval.traffic import Traffic

FAILED, UNDECIDED = 1, 3
"""Exit codes of `audit read`: a budget is refuted; or none is, and not all are proven."""


@click.group(short_help="Ask the flagship about some unescalated cases.")
def audit() -> None:
    """Ask the flagship about some unescalated cases, and read what that proves about all of them.

    Plan how many calls each cohort gets, draw the cases, have them answered, read the answers.

    Example: cascade-eval audit plan evals/support.cascade.yaml --cases 300 -o plan.json

    In Python: audit.plan(replay, suite.budgets, cases=300)
    """


def _window_options(command: Any) -> Any:
    """Add the options that say which window is meant."""
    for option in (
        click.option("--tolerate", metavar="N", type=click.IntRange(min=0), help="Set up to N bad rows aside."),
        click.option("--traffic", metavar="PATH", help="The window, instead of the suite's own data."),
        click.option("--cascade", metavar="NAME", help="Which cascade; the suite's first unless given."),
    ):
        command = option(command)
    return command


@audit.command(short_help="Share flagship calls out to cohorts.")
@click.argument("path", metavar="SUITE")
@click.option("--cases", metavar="N", type=click.IntRange(min=1), help="Most calls.")
@click.option("--usd", metavar="X", type=click.FloatRange(min=0, min_open=True), help="Most dollars.")
@click.option("--usd-per-call", metavar="X", type=float, help="Price of a call; the window's mean unless given.")
@click.option("--per", metavar="COLUMN", multiple=True, help="Cohort column; 'overall' for none. May be repeated.")
@click.option("--prior", metavar="FILE", help='Earlier rates: a reading, or {"language=fr": 0.04} as JSON.')
@click.option("-o", "--output", metavar="FILE", help="Where to write the plan.")
@_window_options
def plan(path: str, per: tuple[str, ...], prior: str | None, output: str | None, **options: Any) -> None:
    """Share flagship calls out to cohorts, so that as many as possible can be decided.

    Says which cohorts cannot be decided and what it would take. A plan that decides nothing is refused.

    Example: cascade-eval audit plan evals/support.cascade.yaml --cases 300 --usd 5 -o plan.json

    In Python: audit.plan(runs.replays(suite.load(path))["current"], suite.load(path).budgets, cases=300, usd=5)
    """
    import json

    from cascade_eval import audit as audit_

    opened = _open(path, options, per)
    made = audit_.plan(
        opened.window,
        opened.suite.budgets,
        per=None if not per else [] if per == ("overall",) else per,
        prior=None if prior is None else audit_.priors(_json(prior)),
        cases=options["cases"],
        usd=options["usd"],
        usd_per_call=options["usd_per_call"],
        at_least={column.name: column.at_least for column in opened.suite.cohorts if column.at_least is not None},
    )
    _say(_plan_lines(made))
    if _has(opened.traffic, "audit_probability"):
        click.echo("  note: this window declares an audit already, so draw from another, or judge it as it is")
    _write(output, json.dumps(made.record(), indent=2, ensure_ascii=False) + "\n")


@audit.command(short_help="Draw the cases of a plan.")
@click.argument("path", metavar="SUITE")
@click.option("--plan", "planned", metavar="FILE", required=True, help="From `audit plan -o`.")
@click.option("--seed", help="Draw by this instead of the plan's own; readings will say so.")
@click.option("-o", "--output", metavar="FILE", required=True, help="Where to write: .parquet or .jsonl.")
@click.option("--judge", metavar="MODEL", help="Who judges whether answers agree; no tier.")
@_window_options
def sample(path: str, planned: str, seed: str | None, output: str, judge: str | None, **options: Any) -> None:
    """Draw the cases of a plan, into a file with empty columns for the flagship's answers.

    Example: cascade-eval audit sample evals/support.cascade.yaml --plan plan.json -o sample.parquet

    In Python: audit.sample(plan, replay, traffic).write("sample.parquet")
    """
    from cascade_eval import audit as audit_

    found = audit_.load_plan(planned)
    opened = _open(path, {**options, "cascade": options["cascade"] or found.cascade}, found.per)
    drawn = audit_.sample(found, opened.window, opened.traffic, seed=seed, judge=judge)
    written = drawn.write(output)
    _say(_sample_lines(drawn))
    if not _has(opened.traffic, "input"):
        click.echo("  note: the cases have no 'input', so the sample has no questions; 'columns:' can name it")
    click.echo(f"written: {written}")


@audit.command(short_help="Read the answers to a sample.")
@click.argument("path", metavar="SUITE")
@click.argument("sampled", metavar="SAMPLE")
@click.argument("answers", metavar="ANSWERS")
@click.option("-o", "--output", metavar="FILE", help="Where to write the reading as JSON; the next plan's --prior.")
@click.option("--merged", metavar="FILE", help="Where to write the window with the audit in it, for pytest to judge.")
@reporting.options
@_window_options
@click.pass_context
def read(
    context: click.Context,
    /,
    path: str,
    sampled: str,
    answers: str,
    output: str | None,
    merged: str | None,
    report: str | None,
    evidence: str | None,
    **options: Any,
) -> None:
    """Read the answers to a sample: disagreement by cohort and overall, and what the audit cost.

    ANSWERS is the sample's file, filled in, or any recorded traffic that has them.

    Exit code 0: every budget it speaks of is proven. 1: one is refuted. 3: none is, and one is not proven. 4: something
    cannot be used.

    Example: cascade-eval audit read evals/support.cascade.yaml sample.parquet evals/goldens/support -o reading.json

    In Python: audit.read(audit.load("sample.parquet"), "evals/goldens/support", replay, suite.budgets)
    """
    import json

    from cascade_eval import audit as audit_

    drawn = audit_.load(sampled)
    opened = _open(path, {**options, "cascade": options["cascade"] or drawn.cascade}, drawn.per)
    found = audit_.read(drawn, answers, opened.window, opened.suite.budgets)
    _say(_reading_lines(found))
    _write(output, json.dumps(found.record(), indent=2, ensure_ascii=False) + "\n")
    files = reporting.Files(report, evidence)
    if merged is None and not files:
        context.exit(_code(found))
    whole = audit_.merge(opened.traffic, drawn, answers)
    if merged is not None:
        click.echo(f"written: {audit_.to_parquet(merged, whole, columns=opened.suite.source.columns)}")
    if files:
        reporting.write(files, opened.suite, whole, {"audit": reporting.audited(found)})
    context.exit(_code(found))


@audit.command(short_help="List the flagship's least sure answers.")
@click.argument("path", metavar="SUITE")
@click.option("--signal", metavar="NAME", help="What says how sure it was; 'confidence' or 'logprob' unless given.")
@click.option("--at-most", metavar="X", type=float, help="Only answers with this value or less.")
@click.option("--limit", metavar="N", type=click.IntRange(min=1), default=20, show_default=True, help="Most answers.")
@click.option("-o", "--output", metavar="FILE", help="Where to write them: .csv or .jsonl.")
@_window_options
def doubtful(path: str, output: str | None, **options: Any) -> None:
    """List the flagship's answers that it was least sure of, for a person to look at.

    The flagship is the reference for every other answer, and no more than that. Where it was asked twice (column `run`),
    the rate at which it disagrees with itself is shown, and every disagreement budget below it.

    Example: cascade-eval audit doubtful evals/support.cascade.yaml --limit 50 -o review.csv

    In Python: flagship.write("review.csv", flagship.doubtful(found, runs.open(found).traffic, limit=50))
    """
    from cascade_eval.diagnosis import flagship

    opened = _open(path, options, ())
    floor = flagship.noise(opened.suite, opened.traffic, cascade=options["cascade"])
    if floor is not None:
        _say(_floor_lines(floor))
    found = flagship.doubtful(
        opened.suite,
        opened.traffic,
        cascade=options["cascade"],
        signal=options["signal"],
        at_most=options["at_most"],
        limit=options["limit"],
    )
    _say(_doubtful_lines(found))
    if output is not None:
        click.echo(f"written: {flagship.write(output, found)}")


class _Opened:
    """A suite with the window an audit is about; batches are replayed one at a time."""

    def __init__(self, suite: Suite, traffic: Traffic, cascade: str, per: Sequence[str]) -> None:
        self.suite = suite
        self.traffic = traffic
        self.cascade = cascade
        self.per = per

    @property
    def window(self) -> _Opened:
        """The replays, one for each batch."""
        return self

    def __iter__(self) -> Iterator[Replay]:
        from cascade_eval import cohorts, metrics, replay
        from cascade_eval.suite import evaluation

        plan = evaluation.plan(self.suite, self.traffic, {}, sweep=False)
        [cascade] = [one for one in plan.cascades if one.name == self.cascade]
        context = metrics.Context((), self.suite.confidence, self.suite.coverage, self.suite.audited)
        needs = evaluation.needs(plan, self.traffic) | (cohorts.needs(self.per) & self.traffic.fields)
        for batch in self.traffic.batches(needs):
            yield replay.run(cascade, batch, plan.rules_of(cascade), context=context)


def _open(path: str, options: Mapping[str, Any], per: Sequence[str]) -> _Opened:
    from dataclasses import replace

    from cascade_eval import cohorts, errors, runs, suite

    found = replace(suite.load(path), baseline=None)
    opened = runs.open(found, traffic_path=options["traffic"], tolerate=options["tolerate"])
    names = [cascade.name for cascade in found.cascades]
    name = options["cascade"] or names[0]
    if name not in names:
        raise errors.UsageError([errors.Problem(f"no cascade '{name}'.{errors.did_you_mean(name, names)}", path)])
    columns = [column for column in per if column != "overall"]
    lost = [need.name for need in cohorts.needs(columns) if need not in opened.traffic.fields]
    if lost:
        near = errors.did_you_mean(lost[0], opened.traffic.case_columns)
        raise errors.UsageError([errors.Problem(f"no case has a column '{lost[0]}'.{near}", path)])
    return _Opened(found, opened.traffic, name, columns)


def _has(traffic: Traffic, column: str) -> bool:
    from cascade_eval.traffic import Field

    return Field(None, column) in traffic.fields


def _json(path: str) -> Mapping[str, Any]:
    import json
    from pathlib import Path

    from cascade_eval import errors

    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        message = f"there is no such file{errors.beside(Path(path))} Leave --prior out where nothing was read before."
        raise errors.UsageError([errors.Problem(message, path)]) from None
    except (OSError, ValueError) as error:
        raise errors.UsageError([errors.Problem(f"cannot be read as JSON: {error}", path)]) from error
    if not isinstance(found, dict):
        raise errors.UsageError([errors.Problem("is not a mapping from cohorts to rates", path)])
    return found


def _code(found: Reading) -> int:
    """Return the exit code of a reading; one that speaks of no budget decides nothing."""
    outcomes = {verdict.outcome for verdict in found.verdicts}
    if "fail" in outcomes:
        return FAILED
    return 0 if outcomes == {"pass"} else UNDECIDED


def _plan_lines(made: Plan) -> Iterator[str]:
    yield f"{made.cascade}: {made.calls:,} calls of {made.model}{_spent(made.spend)}; price: {made.price_from}"
    width = max(len(each.label) for each in made.strata)
    yield f"  {'':{width}}  unescalated  budget  expected  decides     gets  chance"
    for each in made.strata:
        floor = "over 100,000" if each.floor is None else f"{each.floor:,}"
        yield (
            f"  {each.label:{width}}  {each.unescalated:>11,}  {_percent(each.limit):>6}  {_percent(each.prior):>8}  {floor:>7}  {each.calls:>7,}"
            f"  {_percent(each.chance):>6}"
        )
    for origin in dict.fromkeys(each.prior_from for each in made.strata):
        own = [each.label for each in made.strata if each.prior_from == origin]
        yield f"  expected {origin}: {', '.join(own[:8])}{', …' if len(own) > 8 else ''}"
    yield f"  overall: worth {made.overall.effective:,.0f} plain cases, {_needed(made)}"
    yield from (f"  cannot be decided: {sentence}" for sentence in made.shortfalls)
    yield from (f"  note: {note}" for note in made.notes)


def _needed(made: Plan) -> str:
    overall = made.overall
    if overall.limit is None:
        return "and no budget speaks of it"
    needed = "over 100,000" if overall.needed is None else f"{overall.needed:,}"
    return f"{needed} decide 'at most {_percent(overall.limit)}' if {_percent(overall.expected)} is true"


def _percent(rate: float) -> str:
    from cascade_eval import budgets

    return budgets.show(rate, "rate")


def _spent(usd: float | None) -> str:
    return "" if usd is None else f", about ${usd:,.2f}"


def _sample_lines(drawn: Sample) -> Iterator[str]:
    from cascade_eval.audit import window

    yield f"{drawn.cases:,} cases of {drawn.cascade} to ask {drawn.model}"
    for each in drawn.strata:
        yield f"  {window.label(each.cohort)}: {each.cases:,} of {each.population:,} unescalated cases"
    yield f"fill in '{drawn.model}.answer' (and cost_usd, status where a call failed), then: cascade-eval audit read"


def _reading_lines(found: Reading) -> Iterator[str]:
    from cascade_eval.audit import window

    yield f"{found.cascade}: {found.answered:,} of {found.drawn:,} drawn cases compared; drawn {found.age_days:.1f} days ago{_seed(found)}"
    yield f"  overall: {found.overall}"
    yield from (f"  {window.label(each.cohort)}: {each.estimate}" for each in found.cohorts)
    for verdict in found.verdicts:
        name = window.label(verdict.cohort)
        yield f"  {verdict.outcome}: disagreement · {name}, {verdict.bound}: {verdict.reason}"
    spend = found.spend
    cost = "unknown" if spend.usd is None else f"${spend.usd:,.4g}"
    saved = "unknown" if spend.saved is None else f"${spend.saved:,.4g}"
    yield f"  cost of the audit: {cost} for {spend.calls:,} calls; saved by the cascade in this window: {saved}"
    if spend.reason is not None:
        yield f"  {spend.reason}"
    yield from (f"  finding: {sentence}" for sentence in found.findings)


def _seed(found: Reading) -> str:
    if found.seed is None:
        return " by a seed nobody wrote down"
    if found.planned_seed in {None, found.seed}:
        return f" by the seed '{found.seed}'"
    return f" by the seed '{found.seed}' and not by its plan's own, '{found.planned_seed}': how many were drawn before it nobody knows"


def _floor_lines(floor: Noise) -> Iterator[str]:
    yield f"{floor.model} disagrees with itself: {floor.overall}"
    for name, (raw, corrected) in floor.corrected.items():
        if raw is not None and corrected is not None:
            yield f"  {name}: {_percent(raw)} disagreement, {_percent(corrected)} if the flagship's answers did not flip"
    yield from (f"  {problem}" for problem in (*floor.below, *floor.perhaps))


def _doubtful_lines(found: Sequence[Doubtful]) -> Iterator[str]:
    if not found:
        yield "no answer has such a low value"
    for one in found:
        where = ", ".join(f"{column}={value}" for column, value in one.cohort.items())
        yield f"{one.case_id}  {one.signal} {one.value:.4g}  {where}  {(one.answer or '(none)')[:80]}"


def _say(lines: Iterator[str]) -> None:
    from cascade_eval.report import terminal

    for line in lines:
        click.echo(terminal.clean(line))


def _write(output: str | None, text: str) -> None:
    if output is None:
        return
    from cascade_eval import atomic

    click.echo(f"written: {atomic.write(output, text.encode())}")
