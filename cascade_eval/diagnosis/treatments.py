"""What could be done about a cause: computed from the traffic at hand, and never applied unasked.

`for_cause` is the door; each treatment is a function of its own. Every change is written as the YAML one would paste, and
what is predicted is a replay of just that. What escalates more stands in `escalating`, what maps and students take in
`mending`.
"""

from __future__ import annotations

import shlex
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from cascade_eval import budgets, proposals, traffic
from cascade_eval.cascade import Leaf
from cascade_eval.diagnosis import changes, escalating
from cascade_eval.diagnosis.audits import ask_for_an_audit, promised_each, shell
from cascade_eval.diagnosis.escalating import alone, escalate_more, route
from cascade_eval.diagnosis.mending import recalibrate, retrain
from cascade_eval.diagnosis.nouns import Cause, Treatment
from cascade_eval.errors import UsageError
from cascade_eval.suite import Suite, parse_cascade
from cascade_eval.traffic import Field, Traffic

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from cascade_eval.cascade import Cascade, Tier
    from cascade_eval.diagnosis.nouns import CauseName
    from cascade_eval.monitor import Cohort
    from cascade_eval.proposals import Threshold

__all__ = [
    "alone",
    "ask_for_an_audit",
    "choose_threshold",
    "escalate_more",
    "fix_the_judge",
    "for_cause",
    "leave_alone",
    "look_beyond",
    "recalibrate",
    "retrain",
    "route",
    "use_a_cascade",
]


class _Setting(NamedTuple):
    """What the treatments of a cause look at."""

    cause: Cause
    suite: Suite
    cases: Traffic
    every: Traffic

    @property
    def cohorts(self) -> tuple[Cohort, ...]:
        """Whose cases are treated: all where the cause names none."""
        return self.cause.cohorts or ((),)


def for_cause(cause: Cause, suite: Suite, cases: Traffic, *, since: dt.datetime | None = None) -> tuple[Treatment, ...]:
    """Work out what could be done about a cause.

    Parameters
    ----------
    cause
        Its name decides, and its cohorts are treated.
    suite
        Cascades, and what is promised.
    cases
        What was recorded. A certified threshold holds for traffic like these cases, so they should be of the time in
        which the cause holds.
    since
        Look only at cases decided from then on.

    Returns
    -------
    tuple of Treatment
        The one to try first leads.

    Raises
    ------
    UsageError
        The cascade is none of the suite's, or the data cannot be used.

    Examples
    --------
    >>> from cascade_eval import runs
    >>> from cascade_eval.suite import load
    >>> found = load("suites/weekly_replay.cascade.yaml")
    >>> cause = Cause("healthy", "current", (), True, "agreement", "every budget holds")
    >>> [made] = for_cause(cause, found, runs.open(found).traffic)
    >>> made.kind, made.steps
    ('leave alone', ())
    """
    setting = _Setting(cause, suite, cases if since is None else _since(cases, since), cases)
    return tuple(_BY_CAUSE[cause.name](setting))


def _since(cases: Traffic, since: dt.datetime) -> Traffic:
    """Keep the cases decided from a moment on; what was asked is left out, for nothing looks at it."""
    import pyarrow as pa
    import pyarrow.compute as pc

    batch = cases.read(field for field in cases.fields if field != Field(None, "input"))
    if not batch.has(None, "decided_at"):
        raise UsageError(f"'{cases.name}' has no `decided_at`, so nobody can say which cases are of that time")
    moments = batch.arrow(None, "decided_at").cast(pa.timestamp("us", tz="UTC"))
    later = pc.fill_null(pc.greater_equal(moments, pa.scalar(since, pa.timestamp("us", tz="UTC"))), fill_value=False)
    rows = np.asarray(later.to_numpy(zero_copy_only=False), dtype=np.bool_)
    if not rows.any():
        raise UsageError(f"no case of '{cases.name}' was decided from {since.isoformat()} on")
    return traffic.from_batch(batch.take(rows), cases.name)


# Treatments by cause


def _saturation(of: _Setting) -> Iterator[Treatment]:
    made = escalate_more(of.suite, of.cases, of.cause.cascade, of.cohorts, part_of=of.every)
    yield from made
    yield recalibrate(of.suite, of.cases, of.cause.cascade, of.cohorts)
    undecided = [cohort for one in made if one.kind == "route to the flagship" for cohort in one.cohorts]
    if undecided:
        yield ask_for_an_audit(of.suite, of.cases, of.cause.cascade, undecided)


def _drifted(of: _Setting) -> Iterator[Treatment]:
    student = retrain(of.suite, of.cases, of.cause.cascade, of.cause.cohorts)
    if student is not None:
        yield student
    for made in escalate_more(of.suite, of.cases, of.cause.cascade, ((),), part_of=of.every):
        if made.kind == "use the flagship alone" and not made.evidence["more labels would not help"]:
            yield ask_for_an_audit(of.suite, of.cases, of.cause.cascade)
        yield made


def _by_feel(of: _Setting) -> Iterator[Treatment]:
    yield choose_threshold(of.suite, of.cases, of.cause.cascade)


def _rising(of: _Setting) -> Iterator[Treatment]:
    made = choose_threshold(of.suite, of.cases, of.cause.cascade)
    now, then = made.evidence.get("escalation now"), made.predicted.get("escalation", (None,))[0]
    if made.kind == "choose a threshold" and now is not None and then is not None and then < now:
        yield made
    yield leave_alone(of.suite, of.cases, of.cause.cascade, of.cause.cohorts)


def _creeping(of: _Setting) -> Iterator[Treatment]:
    made = choose_threshold(of.suite, of.cases, of.cause.cascade)
    dearest = made.predicted.get("cost", (None, None, None))[2]
    if made.kind == "choose a threshold" and dearest is not None and dearest < 1:
        yield made
    else:
        yield alone(of.suite, of.cases, of.cause.cascade, why="no certified threshold is shown to cost less")


def _overspent(of: _Setting) -> Iterator[Treatment]:
    yield use_a_cascade(of.suite, of.cases, of.cause.cascade)


def _healthy(of: _Setting) -> Iterator[Treatment]:
    yield leave_alone(of.suite, of.cases, of.cause.cascade, of.cause.cohorts)


def _shifted(of: _Setting) -> Iterator[Treatment]:
    if of.cause.test == "audit":
        yield from escalate_more(of.suite, of.cases, of.cause.cascade, [()], part_of=of.every)
        return
    extra = " A certified threshold was certified for the earlier mix: choose it again on these cases."
    yield leave_alone(of.suite, of.cases, of.cause.cascade, of.cause.cohorts, extra=extra)


def _unknown(of: _Setting) -> Iterator[Treatment]:
    yield ask_for_an_audit(of.suite, of.cases, of.cause.cascade, of.cause.cohorts)


def _judged(of: _Setting) -> Iterator[Treatment]:
    yield fix_the_judge(of.suite, of.cases, of.cause.cascade)


def _beyond(of: _Setting) -> Iterator[Treatment]:
    yield look_beyond(of.suite, of.cases, of.cause.cascade)


_BY_CAUSE: Mapping[CauseName, Callable[[_Setting], Iterator[Treatment]]] = {
    "healthy": _healthy,
    "saturation": _saturation,
    "mix shift": _shifted,
    "uncovered cohort": _saturation,
    "student drift": _drifted,
    "threshold by feel": _by_feel,
    "verifier regression": _judged,
    "cost creep": _creeping,
    "single-model overspend": _overspent,
    "rising escalation": _rising,
    "moved past the cascade": _beyond,
    "audit costs more than it guards": _unknown,
    "not enough evidence": _unknown,
}


# Treatments


def choose_threshold(suite: Suite, cases: Traffic, cascade: str, at_most: float | None = None) -> Treatment:
    """Choose the laxest certified threshold that keeps what is promised: in each cohort, and overall.

    Parameters
    ----------
    suite, cases, cascade
        As for `escalate_more`.
    at_most
        Largest disagreement to allow; what the suite promises where None.

    Returns
    -------
    Treatment
        "choose a threshold", or "ask for an audit" with the labelled cases it would take where none is certified.
    """
    tier = escalating.gate_of(suite, cases, cascade, ((),))
    made, per, target = _strictest(suite, cases, cascade, tier, at_most)
    command = shell(
        "threshold", suite, cases.name, "--cascade", cascade, "--tier", tier.name, *(word for column in per for word in ("--per", column)),
        "--disagreement", f"at most {_percent(target)}",
    )  # fmt: skip
    where = f" in each {' and '.join(per)}" if per else ""
    if made.threshold is None:
        needed = [part.needed for part in made.parts if part.threshold is None]
        enough = (
            ""
            if None in needed or not needed
            else f" About {max(n for n in needed if n is not None):,} labelled cases each probably would."
        )
        message = f"No threshold of {tier.name} is certified at {_percent(target)}{where}: {made.reason}.{enough}"
        first = ask_for_an_audit(suite, cases, cascade)
        steps = (*first.steps, command)
        return replace(
            first,
            message=f"{message} {first.message}",
            steps=steps,
            evidence={**first.evidence, "labelled": float(made.labelled)},
        )
    current = suite.cascade(cascade)
    changed = changes.cut(
        current, current.position(tier.name), made.threshold, chosen_on=made.chosen_on or made.data_sha256
    )
    now, after = changes.replays(suite, cases, [current, changed])
    message = (
        f"A threshold of {made.threshold:.6g} on {tier.name} (now {_now(made)}) is certified at {_percent(target)}{where}: "
        f"bound {_percent(made.bound)}. {escalating.moves(now, after)} Chosen on these cases, with a "
        f"chance of {_percent(made.delta)} to be wrong: a prediction, to be judged on others."
    )
    return Treatment(
        "choose a threshold",
        ((),),
        message,
        changes.predicted(after, now),
        (f"{command} --write", escalating.judge_again(suite)),
        {"threshold": made.threshold, "bound": made.bound or 0.0, **escalating.before(now)},
    )


def use_a_cascade(suite: Suite, cases: Traffic, cascade: str, at_most: float | None = None) -> Treatment:
    """Put a cheaper model with a certified threshold before the flagship; the one that costs least of those recorded.

    Parameters
    ----------
    suite, cases, cascade, at_most
        As for `choose_threshold`. Candidates are the cascades of the suite with one gate, and each recorded model that has
        a confidence or log-probabilities.

    Returns
    -------
    Treatment
        "use a cascade", or "leave alone" with the reason where no candidate is certified to cost less.
    """
    current = suite.cascade(cascade)
    found: list[tuple[Cascade, Threshold, float]] = []
    for candidate in _candidates(suite, cases, current):
        alone_ = replace(suite, cascades=(candidate,))
        made, _, target = _strictest(alone_, cases, candidate.name, candidate.tiers[0], at_most)
        if made.threshold is not None:
            found.append(
                (changes.cut(candidate, 0, made.threshold, chosen_on=made.chosen_on or made.data_sha256), made, target)
            )
    now, *after = changes.replays(suite, cases, [current, *(changed for changed, _, _ in found)])
    prices = [changes.predicted(replayed, now)["cost"][0] for replayed in after]
    ranked = sorted((price, place) for place, price in enumerate(prices) if price is not None)
    if not ranked or ranked[0][0] >= (1.0 if now.cost.value is None else now.cost.value):
        message = "No recorded model has a threshold certified for what is promised that costs less."
        return Treatment("leave alone", ((),), message, {}, (), escalating.before(now))
    place = ranked[0][1]
    changed, made, target = found[place]
    message = (
        f"{changed.tiers[0].model} before {changed.flagship.model}, settling at {made.threshold:.6g}, is certified at "
        f"{_percent(target)}: bound {_percent(made.bound)}. {escalating.moves(now, after[place])} Chosen on these cases, "
        f"with a chance of {_percent(made.delta)} to be wrong: a prediction, to be judged on others."
    )
    return Treatment(
        "use a cascade",
        ((),),
        message,
        changes.predicted(after[place], now),
        (f"Paste into {suite.name}:\n{changes.written(changed)}", escalating.judge_again(suite)),
        {"threshold": made.threshold or 0.0, "bound": made.bound or 0.0, **escalating.before(now)},
    )


def _candidates(suite: Suite, cases: Traffic, current: Cascade) -> Iterator[Cascade]:
    """Cascades of one gate with this flagship: the suite's, and one of each recorded model with something to gate on."""
    last = current.flagship
    tried = set()
    for one in suite.cascades:
        if len(one.tiers) == 2 and one.flagship.model == last.model and escalating.is_leaf(one.tiers[0].gate):
            tried.add(one.tiers[0].model)
            yield one
    for model in cases.models:
        signal = next((name for name, column in _SIGNALS if Field(model, column) in cases.fields), None)
        answered = Field(model, "answer") in cases.fields or Field(model, "agrees") in cases.fields
        if model not in {last.model, *tried} and signal is not None and answered:
            first = {"tier": model, "model": model, "gate": {"signal": signal, "threshold": 0.5}}
            name = last.name if last.name != model else f"{last.name} (flagship)"
            yield parse_cascade(f"{model} first", [first, {"tier": name, "model": last.model}])


_SIGNALS = (("confidence", "confidence"), ("logprob", "token_logprobs"))
"""Signals to gate on, and the column each needs."""


def fix_the_judge(suite: Suite, cases: Traffic, cascade: str) -> Treatment:
    """Repair the judge before anything that rests on its grades is believed."""
    del cases
    judges = sorted(
        {str(one.options["model"]) for one in escalating.signals_of(suite.cascade(cascade)) if one.name == "judge"}
    )
    who = f"the judge {', '.join(judges)}" if judges else "the judge behind the recorded agreement"
    message = (
        f"Frozen answers are graded differently than before, so {who} has changed and its grades say nothing about the "
        "cascade. Return to the judge that graded the frozen answers as recorded, then judge the traffic again."
    )
    name = judges[0] if judges else "JUDGE"
    step = f"cascade-eval monitor {shlex.quote(suite.name)} --judge-set {shlex.quote(name)}=FROZEN_ANSWERS"
    return Treatment("fix the judge", ((),), message, {}, (step,))


def leave_alone(
    suite: Suite, cases: Traffic, cascade: str, cohorts: Sequence[Cohort] = (), *, extra: str = ""
) -> Treatment:
    """Change nothing; say where things stand."""
    [now] = changes.replays(suite, cases, [suite.cascade(cascade)])
    found = changes.predicted(now, now)
    said = ", ".join(f"{name} {_percent(value)}" for name, (value, _, _) in found.items())
    margin = now.estimate("break-even margin").value
    even = (
        ""
        if margin is None
        else f" Escalation could rise by {margin * 100:.0f} points before the cascade costs as much as its flagship."
    )
    message = f"Leave the gate as it is: {said} over all traffic.{even}{extra}"
    return Treatment("leave alone", tuple(cohorts) or ((),), message, found, (), escalating.before(now))


def look_beyond(suite: Suite, cases: Traffic, cascade: str) -> Treatment:
    """Look for what users miss where the flagship gives no better answers than the cascade."""
    [now] = changes.replays(suite, cases, [suite.cascade(cascade)])
    agreed = now.disagreement.value
    said = "" if agreed is None else f" ({_percent(agreed)} disagreement)"
    message = (
        f"The gate does what it promises{said}: asking the flagship more often would serve the same answers. "
        "Look at prompts, retrieval and the flagship itself, on the cases users asked again about."
    )
    return Treatment("look beyond the cascade", ((),), message, {}, (), escalating.before(now))


# Words


def _strictest(
    suite: Suite, cases: Traffic, cascade: str, tier: Tier, at_most: float | None
) -> tuple[Threshold, tuple[str, ...], float]:
    """Certify a threshold for each promise about disagreement; return the one that keeps all of them, or the first that fails.

    What keeps 8% in every language may break 4% of all cases.
    """
    each = promised_each(suite)
    wanted = [(each, _target(suite, each) if at_most is None else at_most)]
    whole = any(one.metric == "disagreement" and one.scope.kind == "overall" for one in suite.budgets)
    if each and whole and at_most is None:
        wanted.append(((), _target(suite, ())))
    found = [
        (proposals.threshold(suite, cases, at_most=target, cascade=cascade, tier=tier.name, per=per), per, target)
        for per, target in wanted
    ]
    none = [one for one in found if one[0].threshold is None]
    if none:
        return none[0]
    assert isinstance(tier.gate, Leaf)
    sign = 1.0 if tier.gate.surer == "higher" else -1.0
    return max(found, key=lambda one: sign * (one[0].threshold or 0.0))


def _target(suite: Suite, per: tuple[str, ...]) -> float:
    """Return what is promised in each cohort of some columns, or overall."""
    if not per:
        return escalating.promised(suite, ())
    return escalating.promised(suite, tuple((column, "") for column in per))


def _now(made: Threshold) -> str:
    return "none" if made.current is None else f"{made.current:.6g}"


def _percent(value: Any) -> str:
    return "unknown" if value is None else budgets.show(value, "ratio")
