"""Small pieces of pictures: scales, ticks, lines, axes, marks.

Colours stand in presentation attributes, because a strict content-security policy drops styles and leaves
attributes; text takes the colour of the page. Every colour keeps 3:1 against the light and the dark page, and the
three outcomes stay apart for every kind of colour blindness, besides having shapes of their own.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from markupsafe import Markup, escape

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from cascade_eval.report.sentences import State

PASS, FAIL, OPEN, QUIET = "#00876C", "#C8441B", "#7A68B5", "#7C7F85"
BLUE, OCHRE = "#2A78B8", "#A67A00"
STATES: dict[State, str] = {"pass": PASS, "fail": FAIL, "inconclusive": OPEN, "missing": OPEN, "none": QUIET}


@dataclass(frozen=True)
class Scale:
    """Map a domain linearly onto picture units."""

    low: float
    high: float
    start: float
    stop: float

    def __call__(self, value: float) -> float:
        """Return the place of `value`, kept inside the picture."""
        share = (value - self.low) / (self.high - self.low) if self.high > self.low else 0.5
        return self.start + min(max(share, 0.0), 1.0) * (self.stop - self.start)


def ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Return round numbers from `low` to `high`, at most `most`.

    Examples
    --------
    >>> ticks(0, 1)
    [0.0, 0.25, 0.5, 0.75, 1.0]
    >>> ticks(0.31, 0.97, 4)
    [0.4, 0.6, 0.8]
    """
    span = high - low
    if not span > 0:
        return [low]
    power = 10.0 ** math.floor(math.log10(span))
    steps = (power * part for part in (0.1, 0.2, 0.25, 0.5, 1, 2, 2.5, 5))
    step = next(s for s in steps if math.floor(high / s + 1e-9) - math.ceil(low / s - 1e-9) < most)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


def percent(value: float) -> str:
    """Write a tick of a share.

    Examples
    --------
    >>> percent(0.25), percent(0.025), percent(1)
    ('25%', '2.5%', '100%')
    """
    return f"{round(value * 100, 6):g}%"


def trace(points: Sequence[tuple[float, float]], x: Scale, y: Scale, *, off: float = 0.4) -> str:
    """Return path data through `points` in whole units, leaving out what lies less than `off` units beside the line.

    Examples
    --------
    >>> unit = Scale(0, 4, 0, 40)
    >>> trace([(0, 0), (1, 1), (2, 2), (4, 0)], unit, unit)
    'M0 0l20 20 20-20'
    """
    across, up = (x.stop - x.start) / (x.high - x.low or 1), (y.stop - y.start) / (y.high - y.low or 1)
    left, bottom = x.start - x.low * across, y.start - y.low * up
    # Not through the scales: a report draws tens of thousands of points, and these lie inside the picture already.
    placed = [(round(left + a * across), round(bottom + b * up)) for a, b in points]
    kept = _corners(list(dict.fromkeys(placed)), off)
    if not kept:
        return ""
    steps = (f"{c - a} {d - b}" for (a, b), (c, d) in itertools.pairwise(kept))
    return f"M{kept[0][0]} {kept[0][1]}l{' '.join(steps)}".replace(" -", "-").removesuffix("l")


def _corners(points: list[tuple[int, int]], off: float) -> list[tuple[int, int]]:
    """Return the points that matter: a stretch goes on while all it leaves out lies within `off` of it.

    After Reumann and Witkam, with the corridor of Sklansky and Gonzalez: one pass, the slopes still allowed from the
    last corner are narrowed by every point passed.
    """
    if len(points) < 3:
        return points
    kept = [points[0]]
    (a, b), low, high = points[0], -math.inf, math.inf
    for before, (c, d) in itertools.pairwise(points):
        across = c - a
        slope = (d - b) / across if across > 0 else math.inf
        if not low <= slope <= high and before != kept[-1]:
            kept.append(before)
            (a, b), low, high = before, -math.inf, math.inf
            across = c - a
        if across > 0:
            low, high = max(low, (d - b - off) / across), min(high, (d - b + off) / across)
    return [*kept, points[-1]]


def line(data: str, colour: str, *, width: float = 1.8, dash: str = "", opacity: float = 1) -> str:
    """Draw path data as a line."""
    dashed = f' stroke-dasharray="{dash}"' if dash else ""
    faint = f' stroke-opacity="{opacity:g}"' if opacity < 1 else ""
    return f'<path d="{data}" fill="none" stroke="{colour}" stroke-width="{width:g}"{dashed}{faint}/>'


def text(x: float, y: float, words: str, *, anchor: str = "start", colour: str = "", opacity: float = 1) -> str:
    """Write words; the colour is the page's own unless given."""
    placed = "" if anchor == "start" else f' text-anchor="{anchor}"'
    faint = f' fill-opacity="{opacity:g}"' if opacity < 1 else ""
    inked = f' fill="{colour}"' if colour else ""
    return f'<text x="{x:g}" y="{y:g}"{placed}{inked}{faint}>{escape(words)}</text>'


def frame(width: int, height: int, label: str, parts: Iterable[str], *, kind: str = "chart", size: int = 12) -> Markup:
    """Put parts into a picture that says in words what it shows; lines are not filled unless they say so."""
    inside = "".join(parts)
    return Markup(  # noqa: S704  every part escapes its words
        f'<svg class="{kind}" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" aria-label="{escape(label)}"'
        f' font-size="{size}" fill="currentColor" stroke-linejoin="round">{inside}</svg>'
    )


def across(x: Scale, y: float, marks: Iterable[tuple[float, str]], *, top: float) -> str:
    """Draw an axis below a picture, with faint lines up from its ticks."""
    drawn = list(marks)
    grid = "".join(f"M{x(at):.0f} {y:g}V{top:g}" for at, _ in drawn)
    words = "".join(text(round(x(at)), y + 16, said) for at, said in drawn)
    return f'{line(grid, "currentColor", width=1, opacity=0.08)}<g text-anchor="middle" fill-opacity="0.75">{words}</g>'


def upward(y: Scale, x: Scale, marks: Iterable[tuple[float, str]]) -> str:
    """Draw an axis left of a picture, with faint lines across from its ticks."""
    drawn = list(marks)
    grid = "".join(f"M{x.start:g} {y(at):.0f}H{x.stop:g}" for at, _ in drawn)
    words = "".join(text(x.start - 6, round(y(at)) + 4, said) for at, said in drawn)
    return f'{line(grid, "currentColor", width=1, opacity=0.12)}<g text-anchor="end" fill-opacity="0.75">{words}</g>'


def mark(state: State, x: float, y: float, size: float = 6) -> str:
    """Draw an outcome by its shape: circle passes, square fails, diamond is open."""
    return marks(state, [(x, y)], size)


def marks(state: State, places: Iterable[tuple[float, float]], size: float) -> str:
    """Draw one outcome at many places, as one path."""
    r, s = size, size * (0.9 if state == "fail" else 1.25)
    shape = {
        "pass": f"m{-r:g} 0a{r:g} {r:g} 0 1 0 {2 * r:g} 0a{r:g} {r:g} 0 1 0 {-2 * r:g} 0z",
        "none": f"m{-r:g} 0a{r:g} {r:g} 0 1 0 {2 * r:g} 0a{r:g} {r:g} 0 1 0 {-2 * r:g} 0z",
        "fail": f"m{-s:g} {-s:g}h{2 * s:g}v{2 * s:g}h{-2 * s:g}z",
    }.get(state, f"m0 {-s:g}l{s:g} {s:g}l{-s:g} {s:g}l{-s:g} {-s:g}z")
    data = "".join(f"M{x:.1f} {y:.1f}{shape}" for x, y in places)
    hollow = state in {"none", "missing"}
    fill = (
        f'fill="none" stroke="{STATES[state]}" stroke-width="{1.6 if size < 5 else 2}"'
        if hollow
        else f'fill="{STATES[state]}"'
    )
    return f'<path d="{data}" {fill}/>'


def spread(places: Sequence[float], gap: float) -> list[float]:
    """Push labels apart until none covers another, keeping their order.

    Examples
    --------
    >>> spread([10, 12, 40], 10)
    [10, 20, 40]
    """
    order = sorted(range(len(places)), key=places.__getitem__)
    moved = list(places)
    for before, after in itertools.pairwise(order):
        moved[after] = max(moved[after], moved[before] + gap)
    return moved
