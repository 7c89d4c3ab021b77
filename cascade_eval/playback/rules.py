"""What turns the calls of a playback into a replay: a suite's cascade and rules, or tiers named in their place."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from cascade_eval import costs, errors, metrics, replay
from cascade_eval.cascade import Cascade, Tier
from cascade_eval.playback import answering

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence

    from cascade_eval.playback import cassette_player
    from cascade_eval.suite import Suite


@dataclass(frozen=True)
class Judged:
    """What turns calls into a replay.

    Parameters
    ----------
    cascade
        Tiers in order; None where nobody said what they are.
    rules
        When answers agree, and prices.
    context
        Floors and confidence.
    inconclusive
        Policy for verdicts made by comparison.
    """

    cascade: Cascade | None
    rules: replay.Rules
    context: metrics.Context
    inconclusive: Literal["fail", "warn"] = "fail"


def find(
    suite: Suite | str | os.PathLike[str] | None,
    cascade: Cascade | str | None,
    tiers: Sequence[str] | None,
    agreement: object,
    prices: Mapping[str, Any] | None,
    inconclusive: str | None,
) -> tuple[Judged, tuple[str | None, Mapping[str, str], Path | None]]:
    """Return what judges, and the suite's data: its path, its columns, and the folder the path is relative to."""
    if inconclusive not in {None, "fail", "warn"}:
        raise errors.UsageError(f"inconclusive must be 'fail' or 'warn', not {inconclusive!r}.")
    if suite is None:
        if isinstance(cascade, str):
            raise errors.UsageError(f"cascade '{cascade}' of which suite? Say suite='….cascade.yaml'.")
        found = _of_tiers(tiers) if tiers is not None else cascade
        judged = _alone(found, agreement, prices, metrics.Context(()))
        return _under(judged, inconclusive), (None, {}, None)
    if tiers is not None:
        raise errors.UsageError("the suite says what the tiers are; leave 'tiers' out.")
    from cascade_eval import suite as suites

    loaded = suite if isinstance(suite, suites.Suite) else suites.load(Path(suite))
    chosen = cascade if isinstance(cascade, Cascade) else _cascade_of(loaded, cascade)
    assert loaded.agreement_rule is not None
    context = metrics.Context((), loaded.confidence, loaded.coverage, loaded.audited)
    rules = replay.Rules(loaded.agreement_rule, _prices(loaded.prices))
    judged = Judged(chosen, rules, context, loaded.inconclusive)
    if loaded.source.query or loaded.source.importer:
        return _under(judged, inconclusive), (None, {}, None)
    data = (loaded.source.path, loaded.source.columns, loaded.base)
    return _under(judged, inconclusive), data


def _of_tiers(models: Sequence[str]) -> Cascade:
    names = list(models)
    if isinstance(models, str) or not names or len(set(names)) < len(names):
        raise errors.UsageError(f"tiers are recorded models, each once, the flagship last, not {models!r}.")
    return Cascade("played", tuple(Tier(name, name) for name in names))


def _cascade_of(suite: Suite, name: str | None) -> Cascade:
    names = [cascade.name for cascade in suite.cascades]
    if name is None and len(names) > 1:
        raise errors.UsageError(f"{suite.name} has several cascades; say cascade='{names[0]}' or another of {names}.")
    if name is not None and name not in names:
        raise errors.UsageError(f"{suite.name} has no cascade '{name}'.{errors.did_you_mean(name, names)}")
    return suite.cascade(name or names[0])


def check_tiers(judged: Judged, source: answering.FromTraffic | cassette_player.FromCassette) -> None:
    """Refuse tiers below the flagship that the traffic has no answers of: no case could be resolved.

    Raises
    ------
    UsageError
        Which tiers, with the nearest recorded model.
    """
    if judged.cascade is None or not isinstance(source, answering.FromTraffic):
        return
    recorded = source.recorded
    lost = [tier.model for tier in judged.cascade.tiers[:-1] if tier.model not in recorded.models]
    if lost:
        raise errors.UsageError(
            errors.Problem(
                f"no answers of the tier '{model}'.{errors.did_you_mean(model, recorded.models)}", recorded.name
            )
            for model in lost
        )


def unflattered(judged: Judged, source: answering.FromTraffic | cassette_player.FromCassette) -> Judged:
    """Return the same without proof of what a threshold chosen on this very data makes good."""
    if judged.cascade is None or not isinstance(source, answering.FromTraffic):
        return judged
    from cascade_eval.suite import evaluation

    problems = evaluation.flattered(judged.cascade, source.recorded)
    return replace(judged, context=replace(judged.context, problems=problems))


def _alone(
    cascade: Cascade | None, agreement_rule: Any, prices: Mapping[str, Any] | None, context: metrics.Context
) -> Judged:
    """Return what judges a playback without a suite."""
    from cascade_eval import agreement

    try:
        rule = agreement.parse(agreement_rule)
    except ValueError as error:
        raise errors.UsageError(str(error)) from error
    return Judged(cascade, replay.Rules(rule, _prices(prices)), context)


def _prices(written: Mapping[str, Any] | None) -> costs.Prices:
    """Read prices as a suite writes them.

    Raises
    ------
    UsageError
        With every problem.
    """
    try:
        return costs.parse(written)
    except ValueError as error:
        raise errors.UsageError(str(error).splitlines()) from error


def _under(judged: Judged, inconclusive: str | None) -> Judged:
    """Return the same under another policy for what is inconclusive, where one is given."""
    return (
        judged if inconclusive is None else replace(judged, inconclusive="warn" if inconclusive == "warn" else "fail")
    )


def timeouts(cascade: Cascade | None) -> dict[str, float]:
    """Return the seconds after which each tier's call no longer counts, by model."""
    tiers: Sequence[Any] = () if cascade is None else cascade.tiers
    return {tier.model: tier.timeout for tier in tiers if tier.timeout is not None}
