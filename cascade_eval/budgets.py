"""What is promised: a bound in words, for whom, and where it was written.

A bound is a phrase with a unit: ``at most 5%``, ``at least 95%``, ``15% to 40%``, ``at most 800 ms``. Inside, numbers
are in natural units: rates, ratios and points as fractions, latency in seconds, money in dollars, age in days. They
are converted as decimals, so that 5% is the same 0.05 a Python file would write.
"""

from __future__ import annotations

import difflib
import math
import re
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Final, Literal, NamedTuple

Unit = Literal["rate", "ratio", "points", "seconds", "dollars", "days"]


class _Unit(NamedTuple):
    """How a unit is written.

    `marks` maps each accepted spelling to how many natural units it is; the first one is used in examples. `signed`
    says that the number may be negative.
    """

    marks: dict[str, Decimal]
    example: str
    signed: bool = False


_PERCENT = Decimal("0.01")
_UNITS: dict[str, _Unit] = {
    "rate": _Unit({"%": _PERCENT}, "5"),
    "ratio": _Unit({"%": _PERCENT}, "45"),
    "points": _Unit({"points": _PERCENT, "point": _PERCENT}, "3", signed=True),
    "seconds": _Unit({"ms": Decimal("0.001"), "s": Decimal(1)}, "800"),
    "dollars": _Unit({"$": Decimal(1)}, "0.002"),
    "days": _Unit({"days": Decimal(1), "day": Decimal(1)}, "30"),
}
_NONNEGATIVE = ("rate", "seconds", "dollars", "days")

_NUMBER = r"[-−]?\$?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d+)?"
_AMOUNT = rf"({_NUMBER})\s*(%|[a-z]+)?"
WEEKLY: Final = "watched weekly"
"""How a promise is judged that is watched over weeks; written after the bound and a comma."""

_HOW = re.compile(r"(.*\S) ?, ?([a-z][a-z ]*)")
_SHAPES = (
    ("most", re.compile(rf"at most {_AMOUNT}")),
    ("least", re.compile(rf"at least {_AMOUNT}")),
    ("between", re.compile(rf"{_AMOUNT} to {_AMOUNT}")),
)


@dataclass(frozen=True)
class Bound:
    """What a number must stay within, ends included.

    Parameters
    ----------
    low, high
        In natural units; None where that side is open.
    text
        As written.
    unit
        ``rate``, ``ratio``, ``points``, ``seconds``, ``dollars`` or ``days``.
    watched
        Judged over weeks, by a sequence that stays valid however often one looks.
    """

    low: float | None
    high: float | None
    text: str
    unit: str
    watched: bool = field(default=False, repr=False)

    @property
    def cannot_fail(self) -> bool:
        """Whether every possible number is within it.

        Examples
        --------
        >>> parse("0% to 100%", "rate").cannot_fail, parse("at least 0%", "ratio").cannot_fail
        (True, False)
        """
        floor, ceiling = 0.0 if self.unit in _NONNEGATIVE else -math.inf, 1.0 if self.unit == "rate" else math.inf
        return (self.low is None or self.low <= floor) and (self.high is None or self.high >= ceiling)

    @property
    def limits(self) -> tuple[tuple[float, Literal["least", "most"]], ...]:
        """The ends a number can lie beyond: "0% to 5%" promises what "at most 5%" does."""
        found: list[tuple[float, Literal["least", "most"]]] = []
        if self.low is not None and not replace(self, high=None).cannot_fail:
            found.append((self.low, "least"))
        if self.high is not None and not replace(self, low=None).cannot_fail:
            found.append((self.high, "most"))
        return tuple(found)

    @property
    def plain(self) -> str:
        """The bound without how it is judged, for the middle of a sentence."""
        return _HOW.sub(r"\1", self.text) if self.watched else self.text

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Scope:
    """For whom a promise holds.

    Parameters
    ----------
    kind
        ``overall``, ``each`` member of the columns, or ``one`` cohort.
    columns
        Cohort columns.
    values
        One value per column where `kind` is ``one``, else empty.
    """

    kind: Literal["overall", "each", "one"]
    columns: tuple[str, ...] = ()
    values: tuple[str, ...] = ()

    def __str__(self) -> str:
        if self.kind == "overall":
            return "overall"
        if self.kind == "each":
            return f"each {' and '.join(self.columns)}"
        return ", ".join(f"{column}={value}" for column, value in zip(self.columns, self.values, strict=True))


@dataclass(frozen=True)
class Budget:
    """One line of promises.

    Parameters
    ----------
    metric
        Name of the metric.
    scope
        For whom.
    bound
        Within what.
    line, file
        Where it was written.
    """

    metric: str
    scope: Scope
    bound: Bound
    line: int | None = None
    file: str | None = None


def parse(text: str, unit: str) -> Bound:
    """Read a bound.

    Parameters
    ----------
    text : str
        ``at most <number><unit>``, ``at least <number><unit>`` or ``<a> to <b><unit>``; a ratio may add
        ``of always-flagship``, and ``at most`` of a rate ``, watched weekly``.
    unit : {"rate", "ratio", "points", "seconds", "dollars", "days"}
        What the metric is measured in. Written as ``%``, ``points``, ``ms`` or ``s``, ``$`` in front, and ``days``.

    Returns
    -------
    Bound

    Raises
    ------
    ValueError
        With what is wrong and what to write instead.

    Examples
    --------
    >>> parse("15% to 40%", "rate")
    Bound(low=0.15, high=0.4, text='15% to 40%', unit='rate')
    >>> parse("at most 800 ms", "seconds").high
    0.8
    >>> parse("at most 10%, watched weekly", "rate").watched
    True
    >>> parse("at mots 5%", "rate")
    Traceback (most recent call last):
    ValueError: 'at mots 5%' is not a bound. Write 'at most 5%', 'at least 5%' or '5% to 10%'.
    """
    text = " ".join(text.split())
    if how := _HOW.fullmatch(text):
        return _watched(parse(how[1], unit), how[2])
    phrase = text.removesuffix(" of always-flagship") if unit == "ratio" else text
    for kind, shape in _SHAPES:
        if match := shape.fullmatch(phrase):
            amounts = match.groups()
            low, high = _ends(kind, amounts, phrase, unit)
            return _checked(low, high, text, unit)
    raise ValueError(f"'{text}' is not a bound. {_write(text, unit)}")


def make(low: float | None, high: float | None, unit: str) -> Bound:
    """Put a bound given in natural units into words.

    Raises
    ------
    ValueError
        As `parse`, and where neither side is given.

    Examples
    --------
    >>> make(None, 0.1, "rate").text, make(0.2, 0.5, "seconds").text
    ('at most 10%', '200 ms to 500 ms')
    """
    ends = [_exact(end, unit) for end in (low, high) if end is not None]
    if not ends:
        raise ValueError("a bound needs at least one end.")
    if unit == "rate" and any(end is not None and abs(end) > 1 for end in (low, high)):
        raise ValueError(f"a rate lies between 0 and 1, so '{ends[-1]}' is no bound for one. Write 0.05 for 5%.")
    words = "at most" if low is None else "at least" if high is None else ""
    return _checked(low, high, f"{words} {ends[0]}" if words else " to ".join(ends), unit)


def parse_scope(text: str) -> Scope:
    """Read for whom a promise holds.

    Parameters
    ----------
    text : str
        ``overall``, ``each language``, ``each language and intent``, or ``language=no, intent=refund``.

    Raises
    ------
    ValueError
        With what is wrong and what to write instead.

    Examples
    --------
    >>> parse_scope("each language and intent").columns
    ('language', 'intent')
    >>> parse_scope("language=no").values
    ('no',)
    """
    text = " ".join(text.split())
    if text == "overall":
        return Scope("overall")
    if "=" in text:
        return _one(text)
    if text.startswith("each "):
        columns = tuple(re.split(r"\s*,\s*|\s+and\s+", text.removeprefix("each ")))
        return Scope("each", _distinct(columns, text))
    raise ValueError(f"'{text}' is not a scope.{_nearest_scope(text)}")


def show(value: float | None, unit: str) -> str:
    """Write a number in its unit, for people; 0% and 100% only where exact.

    Examples
    --------
    >>> [show(v, "rate") for v in (0.2718, 0.1, 0.0004, 0.99996, 1.0)]
    ['27.2%', '10%', '0.04%', '99.996%', '100%']
    >>> show(0.00123, "dollars"), show(1.2412, "seconds"), show(-0.031, "points"), show(1, "days")
    ('$0.00123', '1.24 s', '-3.1 points', '1 day')
    """
    return _show(value, unit, ())


def show_against(value: float | None, bound: Bound) -> str:
    """Write a number with enough digits to be seen on its side of the bound.

    Examples
    --------
    >>> show_against(0.10004, parse("at most 10%", "rate")), show_against(0.1, parse("at most 10%", "rate"))
    ('10.004%', '10%')
    """
    return _show(value, bound.unit, tuple(end for end in (bound.low, bound.high) if end is not None))


def _watched(bound: Bound, how: str) -> Bound:
    """Make a bound one that is watched; only an upper bound of a rate can be."""
    if how != WEEKLY:
        raise ValueError(
            f"'{how}' is no way to judge. Write '{bound}, {WEEKLY}', or '{bound}' to judge these cases alone."
        )
    if bound.unit != "rate" or bound.low is not None or bound.cannot_fail:
        example = _with_mark(Decimal(10), "rate")
        raise ValueError(
            f"'{bound}' cannot be watched; only 'at most' of disagreement can. Write 'at most {example}, {WEEKLY}'."
        )
    return replace(bound, text=f"{bound}, {WEEKLY}", watched=True)


def _ends(kind: str, amounts: tuple[str | None, ...], phrase: str, unit: str) -> tuple[float | None, float | None]:
    if kind == "between":
        a, a_mark, b, b_mark = amounts
        b_mark = _mark(b, b_mark, phrase, unit)
        # "15 to 40%": the first number takes the unit of the second.
        bare = a_mark is None and not (a or "").lstrip("-−").startswith("$")
        a_mark = b_mark if bare else _mark(a, a_mark, phrase, unit)
        return _number(a, a_mark, phrase, unit), _number(b, b_mark, phrase, unit)
    digits, mark = amounts
    end = _number(digits, _mark(digits, mark, phrase, unit), phrase, unit)
    return (None, end) if kind == "most" else (end, None)


def _mark(digits: str | None, mark: str | None, phrase: str, unit: str) -> str:
    allowed = _UNITS[unit].marks
    if "$" in (digits or ""):
        mark = "$" if mark is None else f"${mark}"
    if mark is None:
        raise ValueError(f"'{phrase}' has no unit. {_share(phrase, unit) or _write(phrase, unit)}")
    if mark not in allowed:
        raise ValueError(f"'{phrase}' is not in {_spoken(unit)}. {_write(phrase, unit)}")
    return mark


def _number(digits: str | None, mark: str, phrase: str, unit: str) -> float:
    plain = (digits or "").replace("−", "-").replace("$", "").replace(",", "")
    if not any(c.isdigit() for c in plain):
        raise ValueError(f"'{phrase}' is not a bound. {_write(phrase, unit)}")
    if plain.startswith("-") and not _UNITS[unit].signed:
        raise ValueError(f"'{phrase}' is negative; only points may be. {_write(phrase, unit)}")
    return float(Decimal(plain) * _UNITS[unit].marks[mark])


def _checked(low: float | None, high: float | None, text: str, unit: str) -> Bound:
    if any(end is not None and not math.isfinite(end) for end in (low, high)):
        raise ValueError(f"'{text}' is not finite. {_write('', unit)}")
    if unit == "rate" and any(end is not None and end > 1 for end in (low, high)):
        raise ValueError(f"'{text}' is over 100%, which no rate can be. {_write('', unit)}")
    if unit != "points" and any(end is not None and end < 0 for end in (low, high)):
        raise ValueError(f"'{text}' is negative; only points may be. {_write('', unit)}")
    if low is not None and high is not None and low > high:
        raise ValueError(f"'{text}' ends before it begins. Write '{_exact(high, unit)} to {_exact(low, unit)}'.")
    if unit == "rate" and high == 0:
        raise ValueError(
            f"'{text}' cannot be proven by any number of cases: 0 of 60 proves at most 4.9%, 0 of 1,000 proves at "
            "most 0.3%, 0 of 10,000 proves at most 0.03% (95% confidence). Write 'at most 0.3%'."
        )
    return Bound(low, high, text, unit)


def _share(phrase: str, unit: str) -> str | None:
    """Ask which is meant by a number below one where per cent are wanted: 0.3 is likelier 30% than 0.3%."""
    found = re.findall(r"\d+(?:\.\d+)?|\.\d+", phrase)
    if next(iter(_UNITS[unit].marks)) != "%" or not any(0 < Decimal(number) < 1 for number in found):
        return None
    if any(Decimal(number) > 1 for number in found):
        return None
    shares = iter([f"{_plain((Decimal(number) * 100).normalize())}%" for number in found])
    as_share = re.sub(r"\d+(?:\.\d+)?|\.\d+", lambda _: next(shares), phrase)
    as_written = re.sub(r"\d+(?:\.\d+)?|\.\d+", lambda number: f"{number[0]}%", phrase)
    return f"Write '{as_share}' or '{as_written}', whichever is meant."


def _write(phrase: str, unit: str) -> str:
    """Show right phrases, with the number the user wrote and the nearest words first."""
    numbers = re.findall(r"\d+(?:\.\d+)?", phrase)
    found = re.search(r"\d+(?:\.\d+)?", phrase)
    number = Decimal(found[0] if found else _UNITS[unit].example)
    if number == 0 or (unit == "rate" and number > 100):
        number = Decimal(_UNITS[unit].example)
    mark = next((m for m in _UNITS[unit].marks if re.search(rf"\d\s*{re.escape(m)}\b", phrase)), None)
    twice = number * 2
    low, high = (number / 2, number) if unit == "rate" and twice > 100 else (number, twice)
    if len(numbers) == 2 and Decimal(numbers[0]) < Decimal(numbers[1]):
        low, high = Decimal(numbers[0]), Decimal(numbers[1])
    examples = [f"at most {_with_mark(number, unit, mark)}", f"at least {_with_mark(number, unit, mark)}"]
    if difflib.get_close_matches(phrase[:8], ["at least"], n=1, cutoff=0.75):
        examples.reverse()
    return (
        f"Write '{examples[0]}', '{examples[1]}' or '{_with_mark(low, unit, mark)} to {_with_mark(high, unit, mark)}'."
    )


def _with_mark(number: Decimal, unit: str, mark: str | None = None) -> str:
    mark = next(iter(_UNITS[unit].marks)) if mark is None else mark
    if mark in {"points", "point", "days", "day"}:
        mark = mark.removesuffix("s") if abs(number) == 1 else mark.removesuffix("s") + "s"
    digits = _plain(number)
    if mark == "$":
        return f"-${digits[1:]}" if number < 0 else f"${digits}"
    return f"{digits}%" if mark == "%" else f"{digits} {mark}"


def _spoken(unit: str) -> str:
    marks = [mark for mark in _UNITS[unit].marks if mark not in {"point", "day"}]
    return " or ".join(marks)


def _exact(value: float, unit: str) -> str:
    """Write a number of the user's with all its digits."""
    if not math.isfinite(value):
        return str(value)
    mark = _display_mark(value, unit)
    return _with_mark((Decimal(repr(float(value))) / _UNITS[unit].marks[mark]).normalize(), unit, mark)


def _display_mark(value: float, unit: str) -> str:
    if unit == "seconds":
        return "ms" if 0 < abs(value) < 0.9995 else "s"
    return next(iter(_UNITS[unit].marks))


def _show(value: float | None, unit: str, ends: tuple[float, ...]) -> str:
    if value is None or math.isnan(value):
        return "unknown"
    if math.isinf(value):
        return "unbounded"
    mark = _display_mark(value, unit)
    per = _UNITS[unit].marks[mark]
    # What differs only in the thirteenth digit differs by the rounding of a sum: 0.1 + 0.2 is 0.3 to people, and -0 is 0.
    number = round(Decimal(repr(float(value))) / per, 12) + 0
    fences = [round(Decimal(repr(float(end))) / per, 12) for end in ends]
    fences += [Decimal(0), Decimal(100)] if mark == "%" else [Decimal(0)]
    for places in range(_places(number, unit), 13):
        rounded = round(number, places)
        if all(_side(rounded, fence) == _side(number, fence) for fence in fences):
            break
    return _with_mark(_kept_zeros(rounded, number, unit), unit, mark)


def _places(number: Decimal, unit: str) -> int:
    """Digits after the point that are worth reading."""
    size = abs(number)
    if unit in {"rate", "ratio", "points"}:
        return 2 if size < 1 else 1
    if unit == "dollars" and size >= 1:
        return 2
    if size == 0 or unit == "days":
        return 1
    return max(0, 2 - size.adjusted())


def _kept_zeros(rounded: Decimal, number: Decimal, unit: str) -> Decimal:
    """Drop the zeros of exact numbers only: 10% is ten, 10.0% was rounded. Money keeps its cents."""
    if unit == "dollars":
        whole = rounded.normalize()
        return whole if -whole.as_tuple().exponent >= 2 or whole == whole.to_integral_value() else round(rounded, 2)  # type: ignore[operator]
    return rounded.normalize() if rounded == number else rounded


def _side(number: Decimal, fence: Decimal) -> int:
    return (number > fence) - (number < fence)


def _plain(number: Decimal) -> str:
    return f"{number:,f}"


def _one(text: str) -> Scope:
    # A comma inside a value is part of it; one before "name=" starts the next column.
    pairs = [part.partition("=") for part in re.split(r",\s*(?=[^,=]+=)", text)]
    columns, values = tuple(p[0].strip() for p in pairs), tuple(p[2].strip() for p in pairs)
    if not all(values):
        raise ValueError(f"'{text}' names no value. Write '{columns[0] or 'language'}=no' or 'each {columns[0]}'.")
    return Scope("one", _distinct(columns, text), values)


def _distinct(columns: tuple[str, ...], text: str) -> tuple[str, ...]:
    if not all(columns):
        raise ValueError(f"'{text}' names no column. Write 'each language' or 'language=no'.")
    if len(set(columns)) < len(columns):
        twice = next(column for column in columns if columns.count(column) > 1)
        raise ValueError(f"'{text}' names the column '{twice}' twice.")
    return columns


def _nearest_scope(text: str) -> str:
    first, _, rest = text.partition(" ")
    if difflib.get_close_matches(text, ["overall"], n=1, cutoff=0.7) or text in {"all", "total", "aggregate"}:
        return " Did you mean 'overall'?"
    if rest and (first in {"every", "per", "by"} or difflib.get_close_matches(first, ["each"], n=1, cutoff=0.6)):
        return f" Did you mean 'each {rest}'?"
    column = text if re.fullmatch(r"\w+", text) and text != "each" else "language"
    return f" Write 'overall', 'each {column}' or '{column}=<value>'."
