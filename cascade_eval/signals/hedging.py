"""Whether the answer hedges or refuses; the phrases stand in ``hedging.txt`` beside this file."""

from __future__ import annotations

import re
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING

import numpy as np

from cascade_eval import answers
from cascade_eval.signals import regex
from cascade_eval.signals.definition import Definition, Option, Options
from cascade_eval.traffic.batch import Field

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from cascade_eval.traffic.batch import Batch

_APOSTROPHES = str.maketrans("’‘´`", "''''")


def compute(batch: Batch, model: str, options: Options) -> NDArray[np.float64]:
    """Return 1 where no phrase of uncertainty or refusal is found in the answer and 0 where one is.

    Case, kind of apostrophe and width of white space do not matter; a phrase is found as whole words only. A refusal
    is as unsure as a hedge. No answer, or a blank one, is no signal.

    Parameters
    ----------
    batch
        Cases with `answer`.
    model
        The gated model.
    options
        ``languages``, codes such as ``[en, de]`` (default: all listed); ``phrases``, further ones.

    Returns
    -------
    ndarray of shape (cases,)

    Examples
    --------
    >>> import pyarrow as pa
    >>> from cascade_eval.traffic.batch import Batch, Field
    >>> said = pa.array(["Paris.", "I’m Not  Sure, Paris?", "Je ne sais pas.", "I cannot help with that.", " "])
    >>> compute(Batch(5, {Field("mini", "answer"): said}), "mini", {"languages": None, "phrases": ()})
    array([ 1.,  0.,  0.,  0., nan])
    """
    column = answers.coded(batch, model)
    plain = [_plain(text) for text in column.values]
    hedged = regex.matches(plain, _pattern(tuple(options["languages"] or listed()), tuple(options["phrases"])))
    blank = np.array([not text for text in plain], dtype=np.bool_)
    return answers.spread(column, np.where(blank, np.nan, 1 - hedged))


def _plain(text: str) -> str:
    return " ".join(text.translate(_APOSTROPHES).casefold().split())


@cache
def listed() -> Mapping[str, Sequence[str]]:
    """Return the phrases by language code.

    Examples
    --------
    >>> sorted(listed())
    ['de', 'en', 'es', 'fr', 'it', 'nl', 'pt']
    """
    found: dict[str, list[str]] = {}
    text = resources.files("cascade_eval.signals").joinpath("hedging.txt").read_text(encoding="utf-8")
    for line in filter(None, map(str.strip, text.splitlines())):
        if line.startswith("["):
            found[line.strip("[]")] = []
        elif not line.startswith("#"):
            found[next(reversed(found))].append(line)
    return found


@cache
def _pattern(languages: tuple[str, ...], further: tuple[str, ...]) -> str:
    phrases = [phrase for language in languages for phrase in listed()[language]]
    words = "|".join(sorted({re.escape(_plain(phrase)).replace(r"\ ", " ") for phrase in (*phrases, *further)}))
    # RE2's \b knows ASCII only.
    return rf"(?:^|[^\pL\pN])(?:{words})(?:[^\pL\pN]|$)"


def _check_languages(languages: Sequence[str]) -> str | None:
    unknown = [language for language in languages if language not in listed()]
    return f"no phrases for {', '.join(unknown)}; listed: {', '.join(sorted(listed()))}" if unknown else None


def _check_phrases(phrases: Sequence[str]) -> str | None:
    return None if all(map(_plain, phrases)) else "a phrase is blank"


def _columns(model: str, _options: Options) -> frozenset[Field]:
    return frozenset({Field(model, "answer")})


SIGNAL = Definition(
    name="hedging",
    compute=compute,
    columns=_columns,
    help="1 where the answer neither hedges nor refuses, else 0.",
    cost="Nothing.",
    source="The phrases in cascade_eval/signals/hedging.txt.",
    options={
        "languages": Option("Whose phrases are looked for; all by default.", kind="names", problem=_check_languages),
        "phrases": Option("Further phrases.", kind="names", default=(), problem=_check_phrases),
    },
)
