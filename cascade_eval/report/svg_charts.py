"""The pictures of the report, drawn from `cascade_eval.report.panels`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from markupsafe import Markup

from cascade_eval.report import numbers, svg

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cascade_eval.report.panels import Bar, Pareto, Points, Reliability, Spot, Sweep
    from cascade_eval.report.sentences import State


def pareto(picture: Pareto) -> Markup:
    """Draw cost against disagreement; each cascade is a numbered mark with bars to its bounds."""
    x = svg.Scale(0, max(1.0, *(spot.x[2] for spot in picture.spots)) * 1.05, 52, 505)
    highest = max(0.02, *(spot.y[2] for spot in picture.spots))
    y = svg.Scale(0, min(1.0, highest * 1.3), 300, 14)
    parts = [
        svg.across(x, 300, [(t, svg.percent(t)) for t in svg.ticks(0, x.high, 6)], top=14),
        svg.upward(y, x, [(t, svg.percent(t)) for t in svg.ticks(0, y.high)]),
        svg.text(505, 338, "cost, of always-flagship →", anchor="end"),
        svg.text(52, 338, "↑ disagreement"),
    ]
    for curve in picture.curves:
        inside = [point for point in curve if point[0] <= x.high and point[1] <= y.high]
        parts.append(svg.line(svg.trace(inside, x, y), "currentColor", width=1.5, opacity=0.35))
    for most, words in picture.budgets:
        if most <= y.high:
            parts += [svg.line(f"M{x.start:g} {y(most):.1f}H{x.stop:g}", svg.FAIL, width=1.2, dash="2 3")]
            parts += [svg.text(x.start + 6, round(y(most)) - 5, _short(words), colour=svg.FAIL)]
    if picture.flagship:
        parts += [
            svg.mark("none", x(1), y(0), 5),
            svg.text(x(1) - 2, y(0) - 12, "always-flagship", anchor="end", opacity=0.75),
        ]
    parts += _spots(picture.spots, x, y)
    label = "Cost against disagreement: " + "; ".join(
        f"{s.name} costs {numbers.show(s.x[0], 'ratio')} and disagrees {numbers.show(s.y[0], 'rate')}"
        for s in picture.spots
    )
    return svg.frame(520, 346, label, parts, kind="chart wide")


def _spots(spots: Sequence[Spot], x: svg.Scale, y: svg.Scale) -> list[str]:
    parts = []
    for spot in spots:
        at, up = x(spot.x[0]), y(spot.y[0])
        bars = f"M{x(spot.x[1]):.1f} {up:.1f}H{x(spot.x[2]):.1f}M{at:.1f} {y(spot.y[1]):.1f}V{y(spot.y[2]):.1f}"
        parts += [svg.line(bars, svg.STATES[spot.state], width=1.6), svg.mark(spot.state, at, up)]
    heights = svg.spread([y(spot.y[0]) - 9 for spot in spots], 1)
    parts += [
        f'<g font-weight="600">{svg.text(round(x(s.x[0]) + 9, 1), round(h, 1), str(s.number))}</g>'
        for s, h in zip(spots, heights, strict=True)
    ]
    return parts


@dataclass(frozen=True)
class _Stage:
    """Where the two halves of a sweep stand: escalation and cost above, disagreement below."""

    x: svg.Scale
    above: svg.Scale
    below: svg.Scale


def _stage(picture: Sweep, *, small: bool) -> _Stage:
    left, right = (40, 290) if small else (48, 430)
    upper, lower = ((12, 92), (112, 178)) if small else ((22, 162), (192, 292))
    return _Stage(
        svg.Scale(*picture.x, left, right),
        svg.Scale(0, picture.cost_top, upper[1], upper[0]),
        svg.Scale(0, picture.disagreement_top, lower[1], lower[0]),
    )


def sweep(picture: Sweep) -> Markup:
    """Draw what every threshold would do: escalation and cost above, disagreement below, on one axis."""
    stage = _stage(picture, small=False)
    bottom = stage.below.start
    parts = [
        _sweep_axes(picture, stage, 6, 4),
        _sweep_lines(picture, stage),
        *_operating_words(picture, stage),
        *_dots(picture, stage),
        *_ends(picture, stage),
        svg.text(stage.x.stop, bottom + 36, f"threshold of {_short(picture.tier)} →", anchor="end"),
    ]
    label = f"Threshold sweep, {picture.title}. Where it operates it {picture.caption or 'is not known'}."
    return svg.frame(520, round(bottom) + 44, label, parts, kind="chart wide")


def small_sweep(picture: Sweep, axes: str) -> Markup:
    """Draw a sweep small, on axes drawn before by `small_sweep_axes` under this id."""
    parts = [f'<use href="#{axes}"/>', _sweep_lines(picture, _stage(picture, small=True), off=0.8)]
    return svg.frame(300, 198, f"Threshold sweep, {picture.title}", parts, size=11)


def small_sweep_axes(picture: Sweep, axes: str) -> Markup:
    """Draw once what all small sweeps of one gate share."""
    return _shared(axes, _sweep_axes(picture, _stage(picture, small=True), 4, 3), size=11)


def _shared(name: str, drawn: str, *, size: int) -> Markup:
    return Markup(  # noqa: S704  every part escapes its words
        f'<svg class="symbols" width="0" height="0" aria-hidden="true"><defs><g id="{name}" font-size="{size}">{drawn}</g></defs></svg>'
    )


def _sweep_axes(picture: Sweep, stage: _Stage, across: int, upward: int) -> str:
    top, bottom = stage.above.stop, stage.below.start
    marks = [(t, numbers.plain(t)) for t in svg.ticks(*picture.x, across)]
    shares = [(t, svg.percent(t)) for t in svg.ticks(0, picture.disagreement_top, upward)]
    parts = [
        svg.across(stage.x, bottom, marks, top=top),
        svg.upward(stage.above, stage.x, [(t, svg.percent(t)) for t in (0, 0.5, 1)]),
        svg.upward(stage.below, stage.x, shares),
    ]
    if picture.operating is not None:
        parts.append(
            svg.line(f"M{stage.x(picture.operating):.1f} {bottom:g}V{top:g}", "currentColor", width=1.2, opacity=0.6)
        )
    return "".join(parts)


def _sweep_lines(picture: Sweep, stage: _Stage, *, off: float = 0.4) -> str:
    kept = _inside(picture.disagreement, stage.below)
    parts = [
        svg.line(svg.trace(picture.cost, stage.x, stage.above, off=off), svg.OCHRE, dash="5 3"),
        svg.line(svg.trace(picture.escalation, stage.x, stage.above, off=off), "currentColor"),
        svg.line(svg.trace(kept, stage.x, stage.below, off=off), svg.BLUE, width=2.2),
    ]
    if _budgeted(picture):
        at = stage.below(picture.budget or 0)
        parts.append(svg.line(f"M{stage.x.start:g} {at:.1f}H{stage.x.stop:g}", svg.FAIL, width=1.2, dash="2 3"))
    return "".join(parts)


def _inside(points: Points, scale: svg.Scale) -> Points:
    return tuple(point for point in points if point[1] <= scale.high)


def _budgeted(picture: Sweep) -> bool:
    return picture.budget is not None and picture.budget <= picture.disagreement_top


def _operating_words(picture: Sweep, stage: _Stage) -> list[str]:
    if picture.operating is None:
        return []
    at = stage.x(picture.operating)
    anchor = "end" if at > (stage.x.start + stage.x.stop) / 2 else "start"
    return [
        svg.text(
            round(at, 1), stage.above.stop - 7, f"operates at {numbers.plain(picture.operating, 6)}", anchor=anchor
        )
    ]


def _dots(picture: Sweep, stage: _Stage) -> list[str]:
    """Mark each line at the threshold in use, at the swept point nearest to it."""
    where = picture.operating
    if where is None:
        return []
    lines = (
        (picture.escalation, stage.above, "currentColor"),
        (picture.cost, stage.above, svg.OCHRE),
        (picture.disagreement, stage.below, svg.BLUE),
    )
    near = [(min(points, key=lambda point: abs(point[0] - where)), y, colour) for points, y, colour in lines if points]
    return [
        f'<circle cx="{stage.x(where):.1f}" cy="{y(point[1]):.1f}" r="3.2" fill="{colour}"/>'
        for point, y, colour in near
    ]


def _ends(picture: Sweep, stage: _Stage) -> list[str]:
    """Name each line where it ends, so that no legend has to be looked up."""
    inside = _inside(picture.disagreement, stage.below)
    ends = [
        (stage.above(picture.escalation[-1][1]), "escalation", "") if picture.escalation else None,
        (stage.above(picture.cost[-1][1]), "cost", svg.OCHRE) if picture.cost else None,
        (stage.below(inside[-1][1]), "disagreement", svg.BLUE) if inside else None,
        (stage.below(picture.budget or 0), picture.budget_text, svg.FAIL) if _budgeted(picture) else None,
    ]
    known = [end for end in ends if end]
    places = svg.spread([place for place, _, _ in known], 15)
    return [
        svg.text(stage.x.stop + 8, round(place + 4, 1), _short(words), colour=colour)
        for place, (_, words, colour) in zip(places, known, strict=True)
    ]


def _square(picture: Reliability, *, small: bool) -> tuple[svg.Scale, svg.Scale]:
    side, left, top, bottom = (240, 38, 10, 206) if small else (400, 46, 14, 352)
    return svg.Scale(*picture.x, left, side - 10), svg.Scale(0, 1, bottom, top)


def reliability(picture: Reliability) -> Markup:
    """Draw agreement against the gate's value; the area of a mark is its share of cases."""
    x, y = _square(picture, small=False)
    parts = [
        _reliability_axes(picture, x, y),
        *_bins(picture, x, y, 14),
        svg.text(x.stop, y.start + 36, "value the gate compares →", anchor="end"),
        svg.text(x.start, y.start + 36, "↑ agrees"),
    ]
    return svg.frame(400, 396, f"Reliability, {picture.title}: {', '.join(picture.facts)}", parts, kind="chart wide")


def small_reliability(picture: Reliability, axes: str) -> Markup:
    """Draw reliability small, on axes drawn before by `small_reliability_axes` under this id."""
    parts = [f'<use href="#{axes}"/>', *_bins(picture, *_square(picture, small=True), 10)]
    return svg.frame(240, 226, f"Reliability, {picture.title}", parts, size=11)


def small_reliability_axes(picture: Reliability, axes: str) -> Markup:
    """Draw once what all small reliability pictures of a cascade share."""
    return _shared(axes, _reliability_axes(picture, *_square(picture, small=True)), size=11)


def _reliability_axes(picture: Reliability, x: svg.Scale, y: svg.Scale) -> str:
    marks = [(t, numbers.plain(t)) for t in svg.ticks(*picture.x, 5)]
    parts = [
        svg.across(x, y.start, marks, top=y.stop),
        svg.upward(y, x, [(t, svg.percent(t)) for t in (0, 0.25, 0.5, 0.75, 1)]),
    ]
    if picture.diagonal:
        diagonal = f"M{x(0):g} {y(0):g}L{x(1):g} {y(1):g}"
        parts.append(svg.line(diagonal, "currentColor", width=1.2, dash="3 4", opacity=0.6))
    return "".join(parts)


def _bins(picture: Reliability, x: svg.Scale, y: svg.Scale, largest: float) -> list[str]:
    """Draw bins as dots of a few sizes, each size one path of points with round ends."""
    bars = "".join(f"M{x(mean):.0f} {y(low):.0f}V{y(high):.0f}" for mean, _, low, high, _ in picture.bins)
    most = max((nobs for *_, nobs in picture.bins), default=1)
    sizes: dict[int, list[str]] = {}
    for mean, agree, _, _, nobs in picture.bins:
        size = max(3, round(largest * (nobs / most) ** 0.5))
        sizes.setdefault(size, []).append(f"M{x(mean):.0f} {y(agree):.0f}h0")
    dots = [f'<path d="{"".join(points)}" stroke-width="{size}"/>' for size, points in sizes.items()]
    return [
        f'<g fill="none" stroke="{svg.BLUE}" stroke-linecap="round"><path d="{bars}" stroke-width="1.4"/>{"".join(dots)}</g>'
    ]


def bar(row: Bar) -> Markup:
    """Draw a row of the funnel: settled here, then passed on."""
    settled, passed = row.shares
    parts = [
        '<rect width="1000" height="14" fill-opacity="0.08"/>',
        f'<rect width="{1000 * settled:.1f}" height="14" fill="{svg.BLUE}"/>',
        f'<rect x="{1000 * settled:.1f}" width="{1000 * passed:.1f}" height="14" fill="{svg.BLUE}" fill-opacity="0.35"/>',
    ]
    return _stretched(row, parts)


def two_bars(row: Bar) -> Markup:
    """Draw a row of cost by path: its share of cases above its share of cost."""
    colours = (svg.BLUE, svg.OCHRE)
    parts = ['<rect width="1000" height="14" fill-opacity="0.08"/>']
    parts += [
        f'<rect y="{7.5 * i:g}" width="{1000 * share:.1f}" height="6.5" fill="{colour}"/>'
        for i, (share, colour) in enumerate(zip(row.shares, colours, strict=False))
    ]
    return _stretched(row, parts)


def _stretched(row: Bar, parts: Sequence[str]) -> Markup:
    label = f"{row.name}: {', '.join(row.facts)}"
    picture = svg.frame(1000, 14, label, parts, kind="bar")
    return picture.replace(' role="img"', ' preserveAspectRatio="none" role="img"', 1).replace(
        ' width="1000" height="14"', ' width="100%" height="14"', 1
    )


def strip(states: Sequence[State]) -> Markup:
    """Draw one small mark per verdict, most urgent first."""
    shown = states[:60]
    groups = {
        state: [(7 + 14 * i, 7) for i, other in enumerate(shown) if other == state] for state in dict.fromkeys(shown)
    }
    parts = [svg.marks(state, places, 4) for state, places in groups.items()]
    more = "" if len(states) <= 60 else f" (60 of {len(states)} drawn)"
    return svg.frame(14 * max(len(shown), 1), 14, f"{len(states)} verdicts{more}", parts, kind="strip")


def _short(words: str, most: int = 22) -> str:
    return words if len(words) <= most else f"{words[: most - 1]}…"
