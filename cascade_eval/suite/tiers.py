"""Cascades from their definition: tiers, gates and routes, checked against each other."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError

from cascade_eval import signals
from cascade_eval.cascade import All, AnyOf, Cascade, Leaf, leaves
from cascade_eval.errors import Problem, SuiteError, did_you_mean
from cascade_eval.suite import mappings, model, phrases, text
from cascade_eval.suite.text import Lines

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from cascade_eval.cascade import Gate, Route, Tier

_CASCADE: TypeAdapter[Any] = TypeAdapter(model.WrittenCascade)


def parse_cascade(name: str, definition: Any) -> Cascade:
    """Read a cascade from plain JSON, as evidence stores it.

    Parameters
    ----------
    name
        Its name.
    definition
        A list of tiers, or ``{"routes": […], "tiers": […]}``, as `Cascade.definition` holds it.

    Raises
    ------
    SuiteError
        With every problem.

    Examples
    --------
    >>> parse_cascade("always-flagship", [{"tier": "flagship", "model": "gpt-4.1"}]).flagship.model
    'gpt-4.1'
    """
    problems: list[Problem] = []
    found = read(name, definition, Lines(None), problems) if _plain(definition, problems) else None
    if problems or found is None:
        raise SuiteError([f"cascade '{name}': {problem.message}" for problem in problems])
    return found


def in_route(path: text.Path) -> bool:
    """Whether a value of a cascade is one that a route compares as text.

    Examples
    --------
    >>> in_route(("routes", 0, "when", "user_tier", 1)), in_route(("tiers", 0, "model"))
    (True, False)
    """
    return len(path) > 3 and path[0] == "routes" and path[2] == "when"


def read(name: str, definition: Any, lines: Lines, problems: list[Problem]) -> Cascade | None:
    """Read a cascade; what is wrong is added to `problems`, and None returned where nothing could be read."""
    if not isinstance(definition, dict | list):
        message = f"a cascade is a list of tiers or a mapping such as {model.WrittenRouted.example}, not {phrases.show(definition)}."
        problems.append(lines.problem(message))
        return None
    try:
        written = _CASCADE.validate_python(definition)
    except ValidationError as error:
        problems += mappings.problems(error, definition, lines, "a cascade")
        return None
    routed = isinstance(written, model.WrittenRouted)
    cascade = Cascade(
        name,
        tuple(tier.read() for tier in (written.tiers if routed else written)),
        tuple(route.read() for route in written.routes) if routed else (),
        definition,
    )
    problems += _inconsistencies(cascade, lines)
    return cascade


def _plain(definition: Any, problems: list[Problem]) -> bool:
    """Whether this is JSON that any reader can read; YAML was checked by its own reader."""
    if _too_deep(definition):
        problems.append(Problem(f"nested more than {text.MAX_DEPTH} levels deep."))
        return False
    try:
        json.dumps(definition, allow_nan=False, ensure_ascii=False).encode()
    except (TypeError, ValueError) as error:
        problems.append(Problem(f"not plain JSON: {error}."))
        return False
    return True


def _too_deep(value: Any) -> bool:
    level = [value]
    for _ in range(text.MAX_DEPTH):
        level = [child for item in level for child in _children(item)]
        if not level:
            return False
    return True


def _children(value: Any) -> Sequence[Any]:
    return list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else ()


def _inconsistencies(cascade: Cascade, lines: Lines) -> Iterator[Problem]:
    at: text.Path = ("tiers",) if isinstance(cascade.definition, dict) else ()
    for position, tier in enumerate(cascade.tiers):
        for key, message in _tier_problems(cascade, position, tier):
            yield lines.problem(message, *at, position, key)
    for position, route in enumerate(cascade.routes):
        yield from _route_problems(cascade, route, lines, position)
    for leaf, tier, path in placed(cascade):
        for message in _leaf_problems(leaf, tier, cascade):
            yield lines.problem(message, *path)


def _tier_problems(cascade: Cascade, position: int, tier: Tier) -> Iterator[tuple[str, str]]:
    """Say what is wrong with a tier, by the key where it stands."""
    earlier = cascade.tiers[:position]
    if tier.name in {other.name for other in earlier}:
        yield "tier", f"a second tier is called '{tier.name}'. Give each its own name."
    same = [other.name for other in earlier if other.model == tier.model]
    if same and tier.model == cascade.flagship.model:
        yield "model", f"'{same[0]}' and '{tier.name}' both ask '{tier.model}', which would always agree with itself."
    elif same and not _entered(cascade, cascade.position(same[-1]), position):
        message = (
            f"'{same[-1]}' and '{tier.name}' both ask '{tier.model}', and no route starts at '{tier.name}', so the same "
            "answer would be looked at twice. Combine the gates by 'all' or 'any', or route some cases to it."
        )
        yield "model", message
    if tier is not cascade.flagship:
        if tier.gate is None:
            yield (
                "gate",
                f"'{tier.name}' needs a gate such as {model.WrittenLeaf.example}; only the last tier has none.",
            )
        return
    if tier.gate is not None:
        yield (
            "gate",
            f"'{tier.name}' is the last tier, the flagship, and settles everything. Remove its gate, or add the flagship.",
        )
    if tier.hedged:
        yield "hedged", f"'{tier.name}' is the last tier, and none can start with it. Remove 'hedged'."


def _entered(cascade: Cascade, after: int, position: int) -> bool:
    """Whether a route starts at a tier, or between an earlier one and it: then it can be the gate of a cohort's own."""
    names = {tier.name for tier in cascade.tiers[after + 1 : position + 1]}
    return any(route.start in names for route in cascade.routes)


def _route_problems(cascade: Cascade, route: Route, lines: Lines, position: int) -> Iterator[Problem]:
    names = [tier.name for tier in cascade.tiers]
    if route.start not in names:
        yield lines.problem(
            f"unknown tier '{route.start}'.{did_you_mean(route.start, names)}", "routes", position, "start"
        )


def _leaf_problems(leaf: Leaf, tier: Tier, cascade: Cascade) -> Iterator[str]:
    broken = signals.check(leaf.signal, None, tier.model)
    yield from broken
    if not broken and "agrees" in _own_columns(leaf, tier):
        yield (
            "'agrees' says whether the flagship gave the same answer, which no gate knows before it asks. Name a signal of the "
            "answer itself."
        )
    if leaf.signal.name == "agreement" and leaf.signal.options.get("model") == cascade.flagship.model:
        yield (
            f"'agreement' asks '{cascade.flagship.model}', the flagship, to find out whether to ask it: what is kept would agree "
            "with it by construction. Name another cheap model."
        )
    judge = leaf.signal.options.get("model") if leaf.signal.name == "judge" else None
    for other in cascade.tiers:
        if judge is not None and other.model == judge:
            yield f"the judge '{judge}' is also the tier '{other.name}', and would grade its own answers. Choose another judge."
    named = Counter(one.name for one, _, _ in placed(cascade) if one.name is not None)
    if leaf.name is not None and named[leaf.name] > 1:
        yield f"{named[leaf.name]} gates are called '{leaf.name}'. Give each its own name."


def _own_columns(leaf: Leaf, tier: Tier) -> set[str]:
    """Columns of the tier's own model that a signal reads."""
    return {need.name for need in signals.needs(leaf.signal, tier.model) if need.model == tier.model}


def placed(cascade: Cascade) -> Iterator[tuple[Leaf, Tier, text.Path]]:
    """Return every leaf of a cascade with its tier and its path in the definition."""
    routed = isinstance(cascade.definition, dict)
    for position, tier in enumerate(cascade.tiers):
        path: text.Path = (*(("tiers",) if routed else ()), position, "gate")
        if tier.gate is not None:
            yield from (
                (leaf, tier, where) for leaf, where in zip(leaves(tier.gate), _paths(tier.gate, path), strict=True)
            )


def _paths(gate: Gate, path: text.Path) -> Iterator[text.Path]:
    if isinstance(gate, Leaf):
        yield (*path, "signal")
        return
    word = "all" if isinstance(gate, All) else "any"
    for position, child in enumerate(gate.gates):
        yield from _paths(child, (*path, word, position))


def notes(cascades: Mapping[str, Cascade | None], lines: Lines) -> list[Problem]:
    """Say what is legal in cascades but probably not meant."""
    found = []
    for name, cascade in cascades.items():
        for position, tier in enumerate(() if cascade is None else cascade.tiers):
            assert cascade is not None
            found += [
                lines.problem(
                    f"'{tier.name}' settles cases that '{other.name}' escalated: both look at the same answer, "
                    "and it keeps more.",
                    "cascades",
                    name,
                )
                for other in cascade.tiers[:position]
                if _keeps_more(tier, other)
            ]
            found += [
                lines.problem(f"'{tier.name}': {message}", "cascades", name)
                for message in (*_unthrifty(tier.gate, tier.model), *_graded(tier))
            ]
    return found


def _graded(tier: Tier) -> Iterator[str]:
    """Say so where a gate reads a grade, which most often is given by someone who knows the right answer."""
    if any("score" in _own_columns(leaf, tier) for leaf in leaves(tier.gate)):
        yield "its gate reads 'score', the grade of the answer: make sure that production knows it before it answers."


def _keeps_more(tier: Tier, other: Tier) -> bool:
    """Whether a tier settles by the same signal of the same model what an earlier one did not."""
    one, two = tier.gate, other.gate
    if tier.model != other.model or not isinstance(one, Leaf) or not isinstance(two, Leaf):
        return False
    same = (one.signal, one.calibrate, one.surer) == (two.signal, two.calibrate, two.surer)
    if not same or one.threshold is None or two.threshold is None:
        return False
    return one.threshold < two.threshold if one.surer == "higher" else one.threshold > two.threshold


def _unthrifty(gate: Gate | None, asked: str) -> Iterator[str]:
    if not isinstance(gate, All | AnyOf):
        return
    paid = None
    for child in gate.gates:
        costly = [leaf.signal.name for leaf in leaves(child) if signals.calls(leaf.signal, asked)]
        if paid is not None and not costly:
            yield f"'{paid}' is paid and comes before a free gate. Write the free one first, and it is paid less often."
            return
        paid = paid or (costly[0] if costly else None)
    for child in gate.gates:
        yield from _unthrifty(child, asked)
