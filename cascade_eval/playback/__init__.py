"""The user's own cascade code, played against recorded traffic: unchanged, without a network, judged as a replay.

===============  =====================================================================================================
`playing`        `Playback`: which case, which calls, and the replay they make
`rules`          what turns calls into a replay: a suite, or tiers named in its place
`answering`      traffic that answers, by case and model; `cassette_player`: a cassette that does
`observed`       calls turned into a replay
`interception`   between the clients and the network; `overhearing` where real calls are recorded
`matching`       which recording answers; the nearest where none does
`wire`           formats: `chat` and `responses` of OpenAI, `messages` of Anthropic
`cassettes`      recorded requests and responses; `foreign`: those of VCR.py and HAR
===============  =====================================================================================================
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cascade_eval import errors
from cascade_eval.playback import answering, cassette_player, cassettes, matching, playing, rules
from cascade_eval.playback.cassettes import Exchange
from cascade_eval.playback.matching import Unmatched
from cascade_eval.playback.nouns import Adapter, Call, Request, Response, Row
from cascade_eval.playback.playing import CASE, HEADER, Playback

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from contextvars import ContextVar

    from cascade_eval.cascade import Cascade
    from cascade_eval.suite import Suite
    from cascade_eval.traffic import Traffic

    Source = Traffic | str | os.PathLike[str] | Iterable[Mapping[str, Any]]

__all__ = [
    "CASE",
    "Adapter",
    "Call",
    "Exchange",
    "Playback",
    "Request",
    "Response",
    "Unmatched",
    "play",
    "record",
]


@playing.quiet
@contextlib.contextmanager
def play(
    source: Source | None = None,
    *,
    suite: Suite | str | os.PathLike[str] | None = None,
    cascade: Cascade | str | None = None,
    tiers: Sequence[str] | None = None,
    models: Mapping[str, str] | None = None,
    adapters: Sequence[Adapter] = (),
    content: Callable[[Row], str | None] | None = None,
    ignore: Sequence[str] = (),
    case_header: str = HEADER,
    case_variable: ContextVar[Any] | None = None,
    agreement: object = "exact",
    prices: Mapping[str, Any] | None = None,
    allow: Sequence[str] = (),
    inconclusive: str | None = None,
) -> Iterator[Playback]:
    """Answer the code in this block from recordings: `httpx` and `httpx2`, sync or async, streamed or not.

    Parameters
    ----------
    source
        Traffic (opened, a path or records), a golden, or a cassette (.jsonl, of VCR.py, or HAR). The data of `suite`
        where None.
    suite
        Says what the tiers are, when answers agree, what models cost, and which data is played.
    cascade
        Name of the suite's cascade, where it has several; or a cascade.
    tiers
        Recorded models in order, the flagship last, instead of a suite.
    models
        Recorded model by the name the code asks for, where the two differ.
    adapters
        How plain HTTP services are answered.
    content
        From a recorded row to what the model said; its answer where None. Makes up what was said around an answer,
        such as ``{"answer": …, "confidence": …}``.
    ignore
        Fields of bodies that may differ from the recording, as dotted paths.
    case_header, case_variable
        A header, and a context variable of the code's own, that name the case; beside `Playback.case`.
    agreement, prices
        As in a suite, where there is none.
    allow
        Hosts that may be reached, such as a database of the code.
    inconclusive
        ``fail`` or ``warn``, before what the suite says.

    Yields
    ------
    Playback
        Its `replay` answers the questions every replay does.

    Raises
    ------
    Unmatched
        On leaving, where a request was not answered, whatever the code made of that.
    UsageError
        Something above cannot be used.

    Examples
    --------
    >>> import httpx
    >>> recorded = [{"case_id": "q1", "models": {
    ...     "mini": {"answer": "refund", "cost_usd": 0.001}, "flagship": {"answer": "refund", "cost_usd": 0.01}}}]
    >>> with play(recorded, tiers=["mini", "flagship"]) as played, played.case("q1"):
    ...     asked = {"model": "mini", "messages": [{"role": "user", "content": "Where is my money?"}]}
    ...     reply = httpx.post("https://api.openai.com/v1/chat/completions", json=asked)
    >>> reply.json()["choices"][0]["message"]["content"]
    'refund'
    >>> played.replay.escalation.value, played.replay.disagreement.value, round(played.replay.cost.value, 3)
    (0.0, 0.0, 0.1)
    """
    judged, data = rules.find(suite, cascade, tiers, agreement, prices, inconclusive)
    settings = _settings(judged, models, adapters, content, ignore)
    found, columns, base = (source, {}, None) if source is not None else data
    if found is None:
        raise errors.UsageError("what is to be played? Name traffic, a cassette, or a suite.")
    opened = playing.open_source(found, settings, columns=columns, base=base)
    rules.check_tiers(judged, opened)
    judged = rules.unflattered(judged, opened)
    with playing.playing(Playback(opened, judged, case_header, case_variable, tuple(allow))) as played:
        yield played


@playing.quiet
@contextlib.contextmanager
def record(
    path: str | os.PathLike[str],
    *,
    suite: Suite | str | os.PathLike[str] | None = None,
    cascade: Cascade | str | None = None,
    tiers: Sequence[str] | None = None,
    models: Mapping[str, str] | None = None,
    adapters: Sequence[Adapter] = (),
    case_header: str = HEADER,
    case_variable: ContextVar[Any] | None = None,
    agreement: object = "exact",
    prices: Mapping[str, Any] | None = None,
    inconclusive: str | None = None,
) -> Iterator[Playback]:
    """Let the code in this block make its real calls, and write them to a cassette, without keys.

    Parameters
    ----------
    path
        A ``.jsonl`` file; written anew when the block ends well. Where it does not, what was asked so far is left
        beside it, as ``.partial.jsonl``, and the file stays as it was.
    suite, cascade, tiers, models, adapters, case_header, case_variable, agreement, prices, inconclusive
        As for `play`.

    Yields
    ------
    Playback
        Which can be asked the same as if the cassette were played.

    Raises
    ------
    UsageError
        The file is no ``.jsonl``, or nothing was asked.
    """
    file = Path(path)
    if file.suffix != ".jsonl":
        raise errors.UsageError(f"a cassette is recorded as '{file.with_suffix('.jsonl').name}', not '{file.name}'.")
    judged, _ = rules.find(suite, cascade, tiers, agreement, prices, inconclusive)
    source = cassette_player.FromCassette([], file.name, _settings(judged, models, adapters, None, ()))
    with playing.taping(Playback(source, judged, case_header, case_variable), file) as taped:
        yield taped


def recordable(source: object) -> bool:
    """Whether a source is a cassette that can be recorded anew: one of ours, or a file yet to be made."""
    if not isinstance(source, str | os.PathLike) or "://" in os.fspath(source):
        return False
    path = Path(source)
    return path.suffix == ".jsonl" and (not path.exists() or cassettes.is_cassette(path))


def recordable_options(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return those options of `play` that `record` takes as well."""
    return {name: value for name, value in given.items() if name not in {"content", "ignore", "allow"}}


def _settings(
    judged: rules.Judged,
    models: Mapping[str, str] | None,
    adapters: Sequence[Adapter],
    content: Callable[[Row], str | None] | None,
    ignore: Sequence[str],
) -> answering.Settings:
    return answering.Settings(
        tuple(adapters),
        dict(models or {}),
        content,
        matching.check_ignored(ignore),
        rules.timeouts(judged.cascade),
    )
