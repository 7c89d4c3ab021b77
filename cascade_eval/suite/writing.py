"""Writing a threshold back into a suite without touching anything else in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cascade_eval.errors import SuiteError, did_you_mean
from cascade_eval.suite import cascades, text, tiers

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cascade_eval.errors import Problem

_CUTS = ("threshold", "escalate")


def write_threshold(
    written: str,
    cascade: str | None,
    tier: str,
    value: float,
    *,
    gate: str | None = None,
    chosen_on: str | None = None,
    file: str | None = None,
) -> str:
    """Return a suite with one threshold changed; every other character stays, comments included.

    Parameters
    ----------
    written
        The suite; or, when `cascade` is None, a cascade file of its own.
    cascade, tier
        Whose gate.
    value
        The new threshold. It takes the place of `escalate` where the gate has that.
    gate
        Name of one gate of a combined one.
    chosen_on
        sha256 of the data whose agreement chose the threshold; it takes the place of an earlier one. Without it an
        earlier one stays.
    file
        For messages.

    Raises
    ------
    SuiteError
        Where there is no such cascade, tier or gate in this text.

    Examples
    --------
    >>> suite = "cascades: {a: [{tier: mini, model: m, gate: {signal: s, threshold: 0.8}}, {tier: big, model: b}]}  # mine"
    >>> write_threshold(suite, "a", "mini", 0.75)
    'cascades: {a: [{tier: mini, model: m, gate: {signal: s, threshold: 0.75}}, {tier: big, model: b}]}  # mine'
    """
    path = _leaf(written, cascade, tier, gate, file)
    changed = _replaced(written, _entry(_mapping(written, path), _CUTS), "threshold", repr(float(value)))
    if chosen_on is not None:
        changed = _with_data(changed, path, chosen_on)
    found = _entries(changed, cascade, path)
    if found.get("threshold") != float(value) or chosen_on not in {None, found.get("chosen_on")}:
        raise SuiteError("the threshold cannot be written into this layout. Change it by hand.")
    return changed


def _with_data(written: str, path: text.Path, sha256: str) -> str:
    """Write which data chose the threshold: over the entry that is there, else behind the threshold."""
    mapping = _mapping(written, path)
    earlier = _entry(mapping, ("chosen_on",))
    if earlier is not None:
        return _replaced(written, earlier, "chosen_on", sha256)
    key, value = _entry(mapping, _CUTS)
    end = value.end_mark.index
    if mapping.flow_style:
        return f"{written[:end]}, chosen_on: {sha256}{written[end:]}"
    # A comment behind the threshold stays beside it.
    newline = "\r\n" if "\r\n" in written else "\n"
    stop = written.find(newline, end)
    stop = len(written) if stop < 0 else stop
    return f"{written[:stop]}{newline}{' ' * key.start_mark.column}chosen_on: {sha256}{written[stop:]}"


def _replaced(written: str, entry: Any, name: str, value: str) -> str:
    key, old = entry
    between = written[key.end_mark.index : old.start_mark.index]
    return written[: key.start_mark.index] + name + between + value + written[old.end_mark.index :]


def _leaf(written: str, cascade: str | None, tier: str, gate: str | None, file: str | None) -> text.Path:
    document = text.read(written, file=file, as_text=_keeps(cascade))
    prefix, definition = _definition(document.value, cascade)
    problems: list[Problem] = []
    found = tiers.read(cascade or "", definition, document.lines.within(*prefix), problems)
    if found is None or problems:
        raise SuiteError(problems)
    gates = [(leaf, path) for leaf, at, path in tiers.placed(found) if at.name == tier]
    if not gates:
        names = [one.name for one in found.tiers[:-1]]
        raise SuiteError([document.lines.problem(f"no gate at tier '{tier}'.{did_you_mean(tier, names)}", *prefix)])
    chosen = [path for leaf, path in gates if gate is None or leaf.name == gate]
    if len(chosen) != 1:
        named = [leaf.name for leaf, _ in gates if leaf.name is not None]
        hint = did_you_mean(gate or "", named) if named else " Give it a 'name' in the suite."
        raise SuiteError(
            [document.lines.problem(f"'{tier}' combines {len(gates)} gates; say which one.{hint}", *prefix)]
        )
    return (*prefix, *chosen[0][:-1])


def _keeps(cascade: str | None) -> Callable[[text.Path], bool]:
    return tiers.in_route if cascade is None else cascades.in_route


def _definition(value: Any, cascade: str | None) -> tuple[text.Path, Any]:
    if cascade is None:
        return (), value
    named = value.get("cascades") if isinstance(value, dict) else None
    if not isinstance(named, dict) or cascade not in named:
        raise SuiteError(f"unknown cascade '{cascade}'.{did_you_mean(cascade, named or ())}")
    if isinstance(named[cascade], str):
        raise SuiteError(f"'{cascade}' stands in '{named[cascade]}'. Write the threshold there.")
    return ("cascades", cascade), named[cascade]


def _mapping(written: str, path: text.Path) -> Any:
    """Return the node of the gate at `path`."""
    node = text.node(written)
    for part in path:
        node = (
            node.value[part] if isinstance(part, int) else next(value for key, value in node.value if key.value == part)
        )
    return node


def _entry(mapping: Any, names: Sequence[str]) -> Any:
    """Return the nodes of the first key of these names and of its value; None where there is none."""
    return next(((key, value) for key, value in mapping.value if key.value in names), None)


def _entries(written: str, cascade: str | None, path: text.Path) -> dict[str, Any]:
    value = text.read(written, as_text=_keeps(cascade)).value
    for part in path:
        value = value[part]
    found: dict[str, Any] = value
    return found
