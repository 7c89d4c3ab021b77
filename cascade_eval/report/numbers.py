"""Numbers as people read them: never rounded onto a budget, 0% and 100% only where exact."""

from __future__ import annotations

import math

_SCALE = {"rate": 100.0, "ratio": 100.0, "points": 100.0, "seconds": 1.0, "dollars": 1.0, "days": 1.0}
_DIGITS = {"rate": 1, "ratio": 1, "points": 1, "seconds": 2, "dollars": 2, "days": 0}
_MOST_DIGITS = 12
UNKNOWN = "unknown"

TINY = 1e-6
"""Lower bounds of rates below it are not worth their digits."""


def show(value: float | None, unit: str, *, beside: tuple[float | None, ...] = ()) -> str:
    """Return a number with its unit.

    Parameters
    ----------
    value
        In natural units: rates, ratios and points as fractions, seconds, dollars, days.
    unit
        Of a metric.
    beside
        Budgets the number must not be rounded onto.

    Examples
    --------
    >>> show(0.159, "rate"), show(0.10004, "rate", beside=(0.1,)), show(0.10, "rate", beside=(0.1,))
    ('15.9%', '10.004%', '10.0%')
    >>> show(0.0, "rate"), show(0.00004, "rate"), show(0.99996, "rate"), show(1.0, "rate")
    ('0%', '0.004%', '99.996%', '100%')
    >>> show(0.85, "seconds"), show(2.3, "seconds"), show(0.00213, "dollars"), show(-0.021, "points")
    ('850 ms', '2.30 s', '$0.00213', '−2.1 points')
    """
    if value is None or not math.isfinite(value):
        return UNKNOWN
    if unit == "seconds" and abs(value) < 1:
        return f"{_digits(value * 1000, 0, _scaled(beside, 1000))} ms"
    scale = _SCALE[unit]
    number = _digits(value * scale, _decimals(value, unit), (*_scaled(beside, scale), *_exact_only(unit)))
    return _unit(number, unit)


def bounds(low: float | None, high: float | None, unit: str, *, beside: tuple[float | None, ...] = ()) -> str:
    """Return two bounds with their unit said once; empty where neither is known.

    Examples
    --------
    >>> bounds(0.126, 0.197, "rate"), bounds(-0.01, 0.02, "points"), bounds(0.85, 1.2, "seconds")
    ('12.6–19.7%', '−1.0 to 2.0 points', '850 ms–1.20 s')
    >>> bounds(None, 0.2, "rate"), bounds(None, None, "rate"), bounds(1e-14, 0.299, "rate")
    ('up to 20.0%', '', '<0.0001–29.9%')
    """
    if low is None and high is None:
        return ""
    if low is None or high is None:
        return f"up to {show(high, unit, beside=beside)}" if low is None else f"from {show(low, unit, beside=beside)}"
    first, second = show(low, unit, beside=beside), show(high, unit, beside=beside)
    if unit == "rate" and 0 < low < TINY:
        first = f"<{show(TINY, unit)}"
    joint = " to " if "−" in first + second else "–"
    for tail in ("%", " points", " days", " ms", " s"):
        if first.endswith(tail) and second.endswith(tail):
            first = first.removesuffix(tail)
    return f"{first}{joint}{second}"


def count(value: float | None) -> str:
    """Return a whole number with its thousands apart.

    Examples
    --------
    >>> count(12345), count(None)
    ('12,345', 'unknown')
    """
    return UNKNOWN if value is None else f"{value:,.0f}"


def plain(value: float | None, digits: int = 3) -> str:
    """Return a threshold, a score or a p-value without a unit.

    Examples
    --------
    >>> plain(0.82), plain(-1.25), plain(0.00003), plain(1e-20), plain(None)
    ('0.82', '−1.25', '0.00003', '<0.000000000001', 'unknown')
    """
    if value is None:
        return UNKNOWN
    text = f"{value:.{digits}g}" if abs(value) < 1000 else f"{value:,.0f}"
    if "e" in text:
        least = 10**-_MOST_DIGITS
        below = "<" if 0 < value < least else ""
        text = below + f"{max(value, least) if below else value:.{_MOST_DIGITS}f}".rstrip("0").rstrip(".")
    return _signed(text)


def _decimals(value: float, unit: str) -> int:
    """Return how many decimals to begin with: money keeps three figures, everything else a fixed number."""
    if unit == "dollars" and 0 < abs(value) < 1:
        return 2 - math.floor(math.log10(abs(value)))
    return 0 if unit in {"rate", "ratio"} and value in {0.0, 1.0} else _DIGITS[unit]


def _digits(value: float, digits: int, avoid: tuple[float, ...]) -> str:
    """Write `value` with as few decimals as keep it on its own side of every number in `avoid`."""
    apart = [other for other in avoid if not math.isclose(value, other, rel_tol=1e-12, abs_tol=1e-12)]
    text = f"{value:,.{digits}f}"
    while digits < _MOST_DIGITS and not all(_same_side(text, value, other) for other in apart):
        digits += 1
        text = f"{value:,.{digits}f}"
    return _signed(text)


def _signed(text: str) -> str:
    """Write a minus as people do, and none before zero."""
    return text.replace("-", "−" if any(c in "123456789" for c in text) else "")


def _same_side(text: str, value: float, other: float) -> bool:
    shown = float(text.replace(",", ""))
    return not math.isclose(shown, other) and (shown < other) == (value < other)


def _scaled(values: tuple[float | None, ...], scale: float) -> tuple[float, ...]:
    return tuple(value * scale for value in values if value is not None)


def _exact_only(unit: str) -> tuple[float, ...]:
    return {"rate": (0.0, 100.0), "ratio": (0.0, 100.0), "points": (0.0,)}.get(unit, ())


def _unit(number: str, unit: str) -> str:
    if unit == "dollars":
        return f"−${number[1:]}" if number.startswith("−") else f"${number}"
    tail = {"rate": "%", "ratio": "%", "points": " points", "seconds": " s", "days": " days"}[unit]
    return f"{number}{tail}"
