"""When an answer agrees with the flagship's, and which of the two was right.

A rule is written in words (`same label`, `within 0.15`, `judged`) and read by `parse`. `compare` applies it to whole
columns: 1 agrees, 0 disagrees, -1 unknown. The flagship is the reference, not the truth: where an expected answer or
a score was recorded, `quality` grades each side by itself and `who_was_right` says who was.
"""

from __future__ import annotations

import importlib
import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from cascade_eval import answers, errors
from cascade_eval.traffic.batch import ABSENT, OK, Batch, Field

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from numpy.typing import NDArray

UNKNOWN: Final = -1
NEITHER: Final = 0
CHEAP: Final = 1
FLAGSHIP: Final = 2
BOTH: Final = 3

WORDS = ("exact", "same label", "same number", "same JSON", "within", "similar", "judged", "callable")
"""What an agreement rule may be called."""

_HOW = (
    "Write exact, same label, same number, within 0.15, same JSON, {same JSON: {fields: [a, b], tolerance: 0.01}}, "
    "similar 0.9, judged or {callable: 'package.module:function'}; with {rule: …, empty answers: agree} two answers that "
    "say nothing agree."
)

_EMPTY = "empty answers"


@dataclass(frozen=True)
class Rule:
    """How an answer is compared with the flagship's.

    Parameters
    ----------
    kind
        One of `WORDS`.
    bound
        The greatest difference of scores (`within`), the least similarity from 0 to 1 (`similar`), or the greatest
        difference of numbers (`same JSON`).
    fields
        The fields `same JSON` compares; empty means all.
    function
        ``function(answer, flagship_answer) -> bool | None``; None means unknown. Called once per distinct pair of
        texts.
    name
        Where the function was found, as ``package.module:function``.
    empty
        Whether two answers that say nothing agree (`answers.silent`). Otherwise their comparison is unknown: a
        pipeline that lost the text of both would agree with itself.
    """

    kind: str
    bound: float = 0.0
    fields: tuple[str, ...] = ()
    function: Callable[[str, str], object] | None = None
    name: str = ""
    empty: bool = False

    def __str__(self) -> str:
        return f"{self._said()}; empty answers agree" if self.empty else self._said()

    def _said(self) -> str:
        if self.kind in {"within", "similar"}:
            return f"{self.kind} {self.bound:g}"
        if self.kind == "callable":
            return f"agrees by {self.name}"
        extra = [f"tolerance {self.bound:g}"] if self.bound else []
        if self.fields:
            extra.insert(0, f"fields {', '.join(self.fields)}")
        return f"{self.kind} ({'; '.join(extra)})" if extra else self.kind


def parse(spec: object) -> Rule:
    """Read an agreement rule as a suite or Python writes it.

    Parameters
    ----------
    spec
        A phrase, a mapping with one key, a `Rule`, or a function of two texts; or ``{"rule": …, "empty answers":
        "agree"}`` around one of them.

    Returns
    -------
    Rule

    Raises
    ------
    ValueError
        What is wrong with it, and what may be written.

    Examples
    --------
    >>> parse("same label")
    Rule(kind='same label', bound=0.0, fields=(), function=None, name='', empty=False)
    >>> str(parse("within 0.15")), str(parse({"same JSON": {"fields": ["total", "currency"], "tolerance": 0.01}}))
    ('within 0.15', 'same JSON (fields total, currency; tolerance 0.01)')
    >>> parse("same lable")
    Traceback (most recent call last):
    ...
    ValueError: unknown agreement 'same lable'. Did you mean 'same label'?
    """
    if isinstance(spec, Rule):
        return spec
    if isinstance(spec, str):
        return _parse_phrase(" ".join(spec.split()))
    if isinstance(spec, dict) and spec.keys() & {"rule", _EMPTY}:
        return _parse_with_empty(spec)
    if isinstance(spec, dict) and len(spec) == 1:
        kind, value = next(iter(spec.items()))
        return _parse_pair(str(kind), value)
    if callable(spec):
        return Rule("callable", function=spec, name=f"{spec.__module__}:{getattr(spec, '__qualname__', spec)}")
    raise ValueError(f"{spec!r} is not an agreement. {_HOW}")


def _parse_with_empty(spec: Mapping[str, object]) -> Rule:
    unknown = [key for key in spec if key not in {"rule", _EMPTY}]
    if unknown:
        raise ValueError(
            f"unknown key '{unknown[0]}' of 'agreement'.{errors.did_you_mean(str(unknown[0]), ['rule', _EMPTY])}"
        )
    said = spec.get(_EMPTY, "unknown")
    if said not in {"agree", "unknown"}:
        raise ValueError(f"'{_EMPTY}' is agree or unknown, not {said!r}")
    if spec.get("rule") is None:
        raise ValueError(f"'{_EMPTY}' needs a rule beside it: {{rule: exact, {_EMPTY}: agree}}")
    return replace(parse(spec["rule"]), empty=said == "agree")


def _parse_phrase(text: str) -> Rule:
    if text in {"exact", "same label", "same number", "same JSON", "judged"}:
        return Rule(text)
    word, _, value = text.rpartition(" ")
    if word in {"within", "similar"}:
        return _parse_pair(word, value)
    if text in {"within", "similar"}:
        return _parse_pair(text, None)
    if text == "callable":
        raise ValueError(f"'callable' needs a function. {_HOW}")
    wrong = word if word.isalpha() and value[:1].isdigit() else text
    same_letters = [name for name in WORDS if name.casefold() == wrong.casefold()]
    near = f" Did you mean '{same_letters[0]}'?" if same_letters else errors.did_you_mean(wrong, WORDS)
    raise ValueError(f"unknown agreement '{text}'.{near}")


def _parse_pair(kind: str, value: object) -> Rule:
    if kind == "within":
        return Rule(kind, bound=_bound(kind, value, "0.15", highest=math.inf))
    if kind == "similar":
        least = _bound(kind, value, "0.9", highest=1.0)
        if not least:
            raise ValueError("'similar 0' holds of any two answers; write similar 0.9")
        return Rule(kind, bound=least)
    if kind == "same JSON":
        return _parse_json(value)
    if kind == "callable":
        return _import(value)
    if kind in WORDS:
        raise ValueError(f"'{kind}' takes no options; write {kind}")
    raise ValueError(f"unknown agreement '{kind}'.{errors.did_you_mean(kind, WORDS)}")


def _bound(kind: str, value: object, example: str, highest: float) -> float:
    allowed = "a number from 0 to 1" if highest == 1.0 else "a number that is not negative"
    try:
        bound = math.nan if isinstance(value, bool) or value is None else float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        bound = math.nan
    if not (0 <= bound <= highest and math.isfinite(bound)):
        said = "nothing" if value is None else repr(value)
        raise ValueError(f"'{kind}' needs {allowed}, not {said}; write {kind} {example}")
    return bound


def _parse_json(value: object) -> Rule:
    options: Mapping[str, Any] = value if isinstance(value, dict) else {"": value}
    for key in options:
        if key not in {"fields", "tolerance"}:
            raise ValueError(
                f"unknown option {key!r} of 'same JSON'.{errors.did_you_mean(str(key), ['fields', 'tolerance'])}"
            )
    fields = options.get("fields", [])
    if not _are_names(fields):
        raise ValueError(f"'fields' of 'same JSON' is a list of names, not {fields!r}")
    return Rule(
        "same JSON", bound=_bound("tolerance", options.get("tolerance", 0.0), "0.01", math.inf), fields=tuple(fields)
    )


def _are_names(value: object) -> bool:
    return isinstance(value, (list, tuple)) and all(isinstance(name, str) for name in value)


def _import(value: object) -> Rule:
    module, colon, attribute = str(value).partition(":")
    if not (isinstance(value, str) and colon and module and attribute):
        raise ValueError(f"{value!r} names no function; write {{callable: 'package.module:function'}}")
    try:
        found: Any = importlib.import_module(module)
        for part in attribute.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"the agreement '{value}' cannot be imported: {error}") from error
    if not callable(found):
        raise ValueError(f"the agreement '{value}' is not a function")  # noqa: TRY004  a mistake in the suite, not in code
    return Rule("callable", function=found, name=value)


def needs(rule: Rule, model: str, flagship: str) -> frozenset[Field]:
    """Return the columns `compare` reads.

    Examples
    --------
    >>> sorted(map(str, needs(parse("same label"), "mini", "flagship")))
    ['flagship.answer', 'flagship.status', 'mini.answer', 'mini.status']
    """
    status = {Field(model, "status"), Field(flagship, "status")}
    if rule.kind == "judged":
        return frozenset(status | {Field(model, "agrees")})
    if rule.kind == "within":
        return frozenset(status | {Field(model, "score"), Field(flagship, "score"), Field(model, "answer")})
    return frozenset(status | {Field(model, "answer"), Field(flagship, "answer")})


def compare(rule: Rule, batch: Batch, model: str, flagship: str) -> NDArray[np.int8]:
    """Compare a model's answers with the flagship's, case by case.

    Unknown (-1) where the model has no row, and where the flagship has none, did not end `ok`, or recorded nothing
    that could be compared. Where the model's own answer is null although its call ended `ok`, it disagrees with
    whatever the flagship said. Two answers that both say nothing are unknown, unless the rule lets them agree; so are
    two JSON documents of which neither has a field the rule lists. `within` compares the two `score` columns: a null score of the model is unknown,
    unless its answer is recorded and null as well. `judged` reads the model's `agrees` column (a number agrees from
    .5); null is unknown.

    Parameters
    ----------
    rule
        From `parse`.
    batch
        Aligned cases with the columns `needs` names.
    model, flagship
        Recorded models.

    Returns
    -------
    ndarray of int8, shape (cases,)
        1 agrees, 0 disagrees, -1 unknown.

    Raises
    ------
    UsageError
        An `agrees` below 0 or above 1, which is a score on another scale.

    Examples
    --------
    >>> import pyarrow as pa
    >>> from cascade_eval.traffic.batch import Batch, Field
    >>> columns = {Field(model, "status"): pa.array([0, 0, 0, 0], pa.int8()) for model in ("mini", "flagship")}
    >>> columns[Field("mini", "answer")] = pa.array(["Refund.", "delivery", None, "refund"])
    >>> columns[Field("flagship", "answer")] = pa.array(["refund", "refund", "refund", None])
    >>> compare(parse("same label"), Batch(4, columns), "mini", "flagship")
    array([ 1,  0,  0, -1], dtype=int8)
    """
    outcome = _COMPARISONS.get(rule.kind, _compare_answers)(rule, batch, model, flagship)
    comparable = (batch.status(model) != ABSENT) & (batch.status(flagship) == OK)
    return np.where(comparable, outcome, np.int8(UNKNOWN))


def _compare_judged(_rule: Rule, batch: Batch, model: str, _flagship: str) -> NDArray[np.int8]:
    agrees = batch.numbers(model, "agrees")
    beyond = np.flatnonzero((agrees < 0) | (agrees > 1))
    if len(beyond):
        raise errors.DataError(
            f"'agrees' of {model} is {agrees[beyond[0]]:g}; allowed are true, false and numbers from 0 to 1, which agree "
            "from 0.5. A score on another scale goes into 'score', for 'agreement: within …'."
        )
    return np.where(np.isnan(agrees), np.int8(UNKNOWN), (agrees >= 0.5).astype(np.int8))


def _compare_scores(rule: Rule, batch: Batch, model: str, flagship: str) -> NDArray[np.int8]:
    cheap, reference = batch.numbers(model, "score"), batch.numbers(flagship, "score")
    outcome = np.where(_within(cheap, reference, rule.bound), np.int8(1), np.int8(0))
    outcome[np.isnan(cheap)] = UNKNOWN
    if batch.has(model, "answer"):
        unanswered = np.isnan(cheap) & (batch.status(model) == OK)
        outcome[unanswered & ~answers.coded(batch, model).known] = 0
    outcome[np.isnan(reference)] = UNKNOWN
    return outcome


def _within(left: NDArray[np.floating], right: NDArray[np.floating], bound: float) -> NDArray[np.bool_]:
    """Whether two scores differ by at most `bound`, holding at a bound written in decimals in either precision."""
    slack = bound * 1e-9
    if np.float32 in (left.dtype, right.dtype) and bound:
        # 0.85 and 0.70 are not those numbers in float32: each is off by up to half its spacing.
        slack = slack + np.spacing(np.fmax(np.abs(left), np.abs(right)).astype(np.float32)).astype(np.float64)
    gap = np.abs(left.astype(np.float64, copy=False) - right.astype(np.float64, copy=False))
    return np.asarray(gap <= bound + slack)


def _compare_answers(rule: Rule, batch: Batch, model: str, flagship: str) -> NDArray[np.int8]:
    cheap = answers.coded(batch, model)
    outcome = _same(rule, cheap, answers.coded(batch, flagship))
    # A call that did not end well and left no answer said nothing that could agree or disagree.
    outcome[(batch.status(model) != OK) & ~cheap.known] = UNKNOWN
    return outcome


def _same(rule: Rule, cheap: answers.Coded, reference: answers.Coded) -> NDArray[np.int8]:
    """Compare two columns of answers: a missing one disagrees with every reference, a missing reference is unknown."""
    if rule.kind == "same JSON":
        outcome = answers.same_json(cheap, reference, fields=rule.fields, tolerance=rule.bound)
    elif rule.kind == "similar":
        outcome = answers.pairwise(cheap, reference, lambda a, b: _similar(a, b, rule.bound))
    elif rule.kind == "callable":
        outcome = answers.pairwise(cheap, reference, lambda a, b: _call(rule, a, b))
    else:
        outcome = answers.same(cheap, reference, answers.KEYS[rule.kind]).astype(np.int8)
    outcome[~cheap.known] = 0
    outcome[~reference.known] = UNKNOWN
    if not rule.empty:
        outcome[(outcome == 1) & answers.both_silent(cheap, reference)] = UNKNOWN
    return outcome


def both_silent(rule: Rule, batch: Batch, model: str, flagship: str, outcome: NDArray[np.int8]) -> int:
    """Count the cases in which neither a model nor the flagship said anything; `outcome` is what `compare` returned."""
    rows = np.flatnonzero(outcome == UNKNOWN)
    if rule.empty or rule.kind in _COMPARISONS or not len(rows):
        return 0
    few = Batch(
        batch.cases, {field: batch.columns[field] for field in needs(rule, model, flagship) & set(batch.columns)}
    )
    few = few.take(rows)
    ended = (few.status(model) != ABSENT) & (few.status(flagship) == OK)
    return int((ended & answers.both_silent(answers.coded(few, model), answers.coded(few, flagship))).sum())


def fields_found(rule: Rule, batch: Batch, models: Collection[str]) -> set[str]:
    """Return which of the fields a rule lists any of these models' answers has."""
    found: set[str] = set()
    columns = {
        field: batch.columns[field] for field in (Field(model, "answer") for model in models) if field in batch.columns
    }
    # Most data answer this in a few rows.
    for rows in (np.arange(min(batch.cases, 100)), np.arange(batch.cases)):
        if len(found) == len(set(rule.fields)):
            break
        few = Batch(batch.cases, columns).take(rows)
        found = {field for model in models for field in answers.fields_found(answers.coded(few, model), rule.fields)}
    return found


def _similar(firsts: list[str], seconds: list[str], least: float) -> NDArray[np.int8]:
    """Token-set similarity of folded texts: words in any order, each counted once (rapidfuzz, `token_set_ratio`)."""
    from rapidfuzz import fuzz, process

    folded = {text: answers.fold(text) for text in {*firsts, *seconds}}
    left, right = [folded[text] for text in firsts], [folded[text] for text in seconds]
    ratio = process.cpdist(left, right, scorer=fuzz.token_set_ratio, dtype=np.float64)
    equal = np.array([a == b for a, b in zip(left, right, strict=True)], dtype=np.bool_)
    return (equal | (ratio >= least * 100 * (1 - 1e-9))).astype(np.int8)


def _call(rule: Rule, firsts: list[str], seconds: list[str]) -> NDArray[np.int8]:
    """Ask the user's function about each distinct pair."""
    assert rule.function is not None
    said = [rule.function(a, b) for a, b in zip(firsts, seconds, strict=True)]
    return np.array([_verdict_of(rule, value) for value in said], dtype=np.int8)


def _verdict_of(rule: Rule, value: object) -> int:
    if value is None:
        return UNKNOWN
    if isinstance(value, (bool, np.bool_)):
        return int(value)
    if isinstance(value, (int, float, np.floating)) and not math.isnan(value):
        return int(value >= 0.5)
    raise errors.UsageError(
        f"the agreement '{rule.name}' returned {value!r}; allowed: True, False, a number, or None for unknown"
    )


_COMPARISONS: Mapping[str, Callable[[Rule, Batch, str, str], NDArray[np.int8]]] = {
    "judged": _compare_judged,
    "within": _compare_scores,
}


def quality_needs(model: str, available: Collection[Field] | None = None) -> frozenset[Field]:
    """Return the columns `quality` reads: the score where it is recorded, else answer and expected answer.

    Examples
    --------
    >>> sorted(map(str, quality_needs("mini", {Field("mini", "score")})))
    ['mini.score', 'mini.status']
    """
    status, score = Field(model, "status"), Field(model, "score")
    graded = frozenset({status, Field(model, "answer"), Field(None, "expected")})
    if available is None:
        return graded | {score}
    return frozenset({status, score}) if score in available else graded


def quality(rule: Rule, batch: Batch, model: str) -> NDArray[np.float64]:
    """Grade a model's answers: the recorded score, else 1 or 0 by whether they are what was expected.

    A column is graded one way throughout: where a `score` column exists, a null score is unknown. Against `expected`
    the rule decides as it does against the flagship; `judged` and `within`, which compare no answers, stand for
    `same label` there. An answer that is null although the call ended `ok` is wrong; a call that did not end `ok` has
    no quality.

    Parameters
    ----------
    rule
        From `parse`.
    batch
        Aligned cases with the columns `quality_needs` names.
    model
        A recorded model.

    Returns
    -------
    ndarray of shape (cases,)
        NaN where unknown. From 0 to 1 unless the recorded score is on another scale.

    Examples
    --------
    >>> import pyarrow as pa
    >>> from cascade_eval.traffic.batch import Batch, Field
    >>> batch = Batch(3, {
    ...     Field("mini", "status"): pa.array([0, 0, 1], pa.int8()),
    ...     Field("mini", "answer"): pa.array(["4", "5", None]),
    ...     Field(None, "expected"): pa.array(["4.0", "4", "4"]),
    ... })
    >>> quality(parse("same number"), batch, "mini")
    array([ 1.,  0., nan])
    """
    if batch.has(model, "score"):
        graded = batch.numbers(model, "score").astype(np.float64, copy=True)
        graded[batch.status(model) == ABSENT] = np.nan
        return graded
    textual = rule if rule.kind not in _COMPARISONS else Rule("same label", empty=rule.empty)
    outcome = _same(textual, answers.coded(batch, model), answers.coded(batch, None, "expected"))
    known = (outcome != UNKNOWN) & (batch.status(model) == OK)
    return np.where(known, outcome.astype(np.float64), np.nan)


def who_was_right(rule: Rule, batch: Batch, model: str, flagship: str, *, right: float = 0.5) -> NDArray[np.int8]:
    """Say who was right, of a model and the flagship; asked about the cases in which they disagree.

    Parameters
    ----------
    rule, batch, model, flagship
        As for `compare`; `quality` grades each side.
    right
        The least quality that counts as right.

    Returns
    -------
    ndarray of int8, shape (cases,)
        `CHEAP`, `FLAGSHIP`, `NEITHER`, `BOTH` (two right answers can differ), or `UNKNOWN` where either quality is.
    """
    return who_of(quality(rule, batch, model), quality(rule, batch, flagship), right=right)


def who_of(cheap: NDArray[np.floating], reference: NDArray[np.floating], *, right: float = 0.5) -> NDArray[np.int8]:
    """Say who was right from the quality of both sides, with the codes of `who_was_right`.

    Examples
    --------
    >>> who_of(np.array([1.0, 0.0, np.nan]), np.array([0.0, 0.0, 1.0])).tolist() == [CHEAP, NEITHER, UNKNOWN]
    True
    """
    known = ~(np.isnan(cheap) | np.isnan(reference))
    codes = (cheap >= right) * np.int8(CHEAP) + (reference >= right) * np.int8(FLAGSHIP)
    return np.where(known, codes, np.int8(UNKNOWN)).astype(np.int8)
