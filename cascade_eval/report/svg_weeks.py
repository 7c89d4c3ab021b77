"""Pictures of weeks, drawn from `cascade_eval.report.weekly`: disagreement with its bounds, and lines beside it."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from cascade_eval import budgets
from cascade_eval.report import svg

if TYPE_CHECKING:
    from collections.abc import Sequence

    from markupsafe import Markup

    from cascade_eval.report.weekly import Line, Panel


def disagreement(panel: Panel) -> Markup:
    """Draw the disagreement of each week with its bounds, the budget, and the weeks of an alarm as a band with a word."""
    x, y = svg.Scale(*_span(panel), 48, 430), svg.Scale(0, panel.top, 192, 26)
    parts = [*_rate(panel, x, y, most=6), svg.text(48, 232, "↑ disagreement by week")]
    if panel.budget is not None:
        height = round(y(panel.budget), 1)
        parts.append(svg.text(438, height + 4, f"at most {budgets.show(panel.budget, 'rate')}"))
    return svg.frame(520, 240, panel.label, parts, kind="chart wide")


def small(panel: Panel) -> Markup:
    """Draw a cohort small: disagreement above, its lines below."""
    x, y = svg.Scale(*_span(panel), 40, 290), svg.Scale(0, panel.top, 100, 18)
    parts = _rate(panel, x, y, most=3)
    parts += [_beside(line, x, 150 + 46 * i, panel) for i, line in enumerate(panel.beside)]
    return svg.frame(300, 150 + 46 * len(panel.beside), f"{panel.label}. {_said(panel.beside)}", parts, size=11)


def beside(panel: Panel) -> Markup:
    """Draw escalation, cost and share of a cohort, one under the other."""
    x = svg.Scale(*_span(panel), 12, 288)
    parts = [_beside(line, x, 26 + 72 * i, panel, height=38) for i, line in enumerate(panel.beside)]
    return svg.frame(300, 72 * len(panel.beside) + 8, _said(panel.beside), parts)


def _said(lines: Sequence[Line]) -> str:
    return "; ".join(f"{line.name} {line.last} at last" for line in lines)


def _span(panel: Panel) -> tuple[float, float]:
    return panel.ticks[0][0] - 0.5, panel.ticks[-1][0] + 0.5


def _rate(panel: Panel, x: svg.Scale, y: svg.Scale, *, most: int) -> list[str]:
    step = max(1, -(-len(panel.ticks) // most))
    marks = [(place, window[5:]) for place, window in panel.ticks[::step]]
    parts = [_band(start, end, x, y) for start, end in panel.alarms]
    parts += [
        svg.across(x, y.start, marks, top=y.stop),
        svg.upward(y, x, [(t, svg.percent(t)) for t in svg.ticks(0, panel.top, 4)]),
    ]
    if panel.budget is not None and panel.budget <= panel.top:
        parts.append(svg.line(f"M{x.start:g} {y(panel.budget):.1f}H{x.stop:g}", svg.FAIL, width=1.2, dash="2 3"))
    bars = "".join(f"M{x(at):.0f} {y(low):.0f}V{y(high):.0f}" for at, _, low, high in panel.rates)
    parts.append(svg.line(bars, svg.BLUE, width=1.2) if bars else "")
    parts += [svg.line(_trace(run, x, y), svg.BLUE, width=2) for run in _unbroken(panel)]
    dots = "".join(f"M{x(at):.1f} {y(rate):.1f}h0" for at, rate, _, _ in panel.rates)
    parts.append(f'<path d="{dots}" stroke="{svg.BLUE}" stroke-width="5" stroke-linecap="round"/>' if dots else "")
    # Hollow diamonds on the axis: those weeks were there, and nothing was measured.
    parts.append(svg.marks("missing", [(x(at), y.start) for at in panel.unmeasured], 3) if panel.unmeasured else "")
    return parts


def _band(start: int, end: int, x: svg.Scale, y: svg.Scale) -> str:
    """Shade weeks of alarm between two lines, and write the word above them."""
    left, right = x(start - 0.5), x(end + 0.5)
    sides = svg.line(f"M{left:.1f} {y.start:g}V{y.stop:g}M{right:.1f} {y.start:g}V{y.stop:g}", svg.FAIL, width=1)
    shade = f'<rect x="{left:.1f}" y="{y.stop:g}" width="{right - left:.1f}" height="{y.start - y.stop:g}" fill="{svg.FAIL}" fill-opacity="0.13"/>'
    middle, late = (left + right) / 2, right > x.stop - 20 and right - left < 50
    word = svg.text(round(right if late else middle, 1), y.stop - 6, "alarm", anchor="end" if late else "middle")
    return f"{shade}{sides}{word}"


def _unbroken(panel: Panel) -> list[list[tuple[float, float]]]:
    """Rates of weeks that follow each other; a week that was not measured is a gap."""
    order = {place: i for i, (place, _) in enumerate(panel.ticks)}
    runs: list[list[tuple[float, float]]] = []
    last = None
    for at, rate, _, _ in panel.rates:
        if last is None or order[at] != last + 1:
            runs.append([])
        runs[-1].append((float(at), rate))
        last = order[at]
    return runs


def _trace(points: Sequence[tuple[float, float]], x: svg.Scale, y: svg.Scale) -> str:
    placed = [f"{x(a):.1f} {y(b):.1f}" for a, b in points]
    return f"M{placed[0]}L{' '.join(placed[1:])}".removesuffix("L")


def _beside(line: Line, x: svg.Scale, top: float, panel: Panel, *, height: float = 24) -> str:
    """Draw one line from zero upwards, its name on the left and its last value on the right."""
    y = svg.Scale(0, line.top, top + height, top)
    parts = [
        svg.line(f"M{x.start:g} {y.start:g}H{x.stop:g}", "currentColor", width=1, opacity=0.25),
        svg.text(x.start, top - 6, line.name),
        svg.text(x.stop, top - 6, line.last, anchor="end"),
    ]
    order = {place: i for i, (place, _) in enumerate(panel.ticks)}
    for (a, b), (c, d) in itertools.pairwise(line.points):
        if order[int(c)] == order[int(a)] + 1:
            parts.append(f"M{x(a):.1f} {y(b):.1f}L{x(c):.1f} {y(d):.1f}")
    drawn = "".join(part for part in parts if part.startswith("M"))
    words = "".join(part for part in parts if not part.startswith("M"))
    last = "".join(f"M{x(a):.1f} {y(b):.1f}h0" for a, b in line.points[-1:])
    dot = f'<path d="{last}" stroke="currentColor" stroke-width="5" stroke-linecap="round"/>' if last else ""
    return f"{words}{svg.line(drawn, 'currentColor', width=1.5) if drawn else ''}{dot}"
