"""Playing recordings to the user's own code, or making them, and what came of it."""

from __future__ import annotations

import contextlib
import functools
import inspect
import mmap
import os
import sysconfig
import threading
import time
from contextlib import AbstractContextManager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar

from cascade_eval import errors, goldens, traffic
from cascade_eval.playback import answering, cassette_player, cassettes, interception, matching, observed, overhearing
from cascade_eval.playback.nouns import Asked, Call
from cascade_eval.traffic import Traffic

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from types import TracebackType

    from cascade_eval.cascade import Cascade
    from cascade_eval.playback.nouns import Request, Response, Row
    from cascade_eval.playback.rules import Judged
    from cascade_eval.replay import Replay

CASE: ContextVar[str | None] = ContextVar("cascade_eval.playback.CASE", default=None)
"""The case the code works on, where `Playback.case` said so."""

HEADER = "x-case-id"

P = ParamSpec("P")
T = TypeVar("T")

_FORKED = (
    "a call was made in another process, where it is not seen by this one. Make the calls of a case in the process of the "
    "test, in threads or tasks."
)


@dataclass(eq=False)
class Playback:
    """A playback, or a recording, while it goes on and afterwards.

    Parameters
    ----------
    source
        Who answers.
    judged
        What turns calls into a replay.
    header
        Of a request, naming its case.
    variable
        A context variable of the user's own that names the case.
    allow
        Hosts that may be reached.
    """

    source: answering.FromTraffic | cassette_player.FromCassette
    judged: Judged
    header: str = HEADER
    variable: ContextVar[Any] | None = None
    allow: tuple[str, ...] = ()
    problems: dict[str, None] = field(default_factory=dict)
    _asked: list[Asked] = field(default_factory=list)
    _run: dict[str, None] = field(default_factory=dict)
    _facts: dict[str, Row] = field(default_factory=dict)
    _served: dict[str, str] = field(default_factory=dict)
    _begun: list[float] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _left: dict[str, None] = field(default_factory=dict)
    _process: int = field(default_factory=os.getpid)
    # Shared with processes that are forked, whose own memory is lost.
    _elsewhere: mmap.mmap = field(default_factory=lambda: mmap.mmap(-1, 1))

    @contextlib.contextmanager
    def case(self, case_id: object, **columns: object) -> Iterator[None]:
        """Say which case the code works on, in this block and the tasks started in it.

        Parameters
        ----------
        case_id
            As recorded.
        **columns
            Of the case, such as its language, where a cassette is played: it has none of its own.

        Raises
        ------
        Unmatched
            Nothing was recorded for such a case.
        """
        name = str(case_id)
        try:
            self.source.check_case(name)
        except answering.NoRecording as error:
            self.problems[str(error)] = None
            raise matching.Unmatched(str(error)) from None
        with self._lock:
            self._run[name] = None
            self._facts[name] = {**self._facts.get(name, {}), **columns}
        token = CASE.set(name)
        try:
            yield
        except BaseException:
            # Whoever catches it further out, this code answered nobody; a task that was cancelled no less.
            self._left[name] = None
            raise
        else:
            self._left.pop(name, None)
        finally:
            CASE.reset(token)

    def served(self, case_id: object, answer: str | None = None, *, model: str | None = None) -> None:
        """Say whose answer the code gave in the end, where it is not that of the last tier it asked.

        Parameters
        ----------
        case_id
            The case.
        answer
            What was given; the last tier that answered exactly that is meant.
        model
            The model whose answer was given, by its recorded name or that of its tier.

        Raises
        ------
        UsageError
            None of the calls made for the case is meant.
        """
        cascade = self._cascade()
        case = str(case_id)
        own = {one.model for one in self._asked if one.case == case and one.charged}
        tiers = [tier for tier in cascade.tiers if tier.model in own]
        said = {one.model: one.said for one in self._asked if one.case == case}
        meant = [
            tier
            for tier in tiers
            if (model in {tier.model, tier.name} if model is not None else said.get(tier.model) == answer)
        ]
        if not meant:
            what = f"'{model}'" if model is not None else repr(answer)
            asked = ", ".join(f"{tier.model}: {said.get(tier.model)!r}" for tier in tiers) or "nobody"
            raise errors.UsageError(f"case '{case}' was not answered by {what}. Asked were {asked}.")
        self._served[case] = meant[-1].model

    @property
    def calls(self) -> tuple[Call, ...]:
        """Every call that was made, in order; a client's own retries of a failed one are part of it."""
        tiers = {} if self.judged.cascade is None else {tier.model: tier.name for tier in self.judged.cascade.tiers}
        return tuple(
            Call(
                one.case,
                one.model,
                tiers.get(one.model or ""),
                one.status,
                took.input_tokens,
                took.output_tokens,
                took.nano / 1e9 if took.known else None,
                observed.seconds(took),
            )
            for one, took in self._priced()
        )

    def _priced(self) -> list[tuple[Asked, answering.Priced]]:
        asked = list(self._asked)
        return list(zip(asked, self.source.priced(asked, self.judged.rules.prices), strict=True))

    @property
    def missing(self) -> list[str]:
        """Recorded cases that were not run; `replay` says nothing of them."""
        return self.source.unplayed(self._run)

    @property
    def replay(self) -> Replay:
        """What the code did, as a replay of the cases that were run.

        Raises
        ------
        UsageError
            Nothing was run, a request was not answered, a call was made for no known case, or nobody said what the
            tiers are.
        """
        cascade = self._cascade()
        self.check()
        if not self._run:
            raise errors.UsageError(
                "no case was run: nothing was measured. Run each within `with played.case(case_id):`."
            )
        lost = [one.model for one in self._asked if one.case is None]
        if lost:
            raise errors.UsageError(
                f"{len(lost):,} calls were made for no known case, the first to {lost[0]!r}. Call them within "
                f"played.case(…), or send the header '{self.header}'."
            )
        ids, batch = self.source.cases(self._run, self._asked, self._facts)
        tiers = {tier.model: position for position, tier in enumerate(cascade.tiers)}
        served = {case: tiers[model] for case, model in self._served.items()}
        found = observed.build(
            cascade,
            batch,
            ids,
            self.judged.rules,
            self._priced(),
            served,
            left=self._left,
            context=self.judged.context,
        )
        return replace(found, inconclusive=self.judged.inconclusive)

    def _cascade(self) -> Cascade:
        if self.judged.cascade is None:
            raise errors.UsageError(
                "what are the tiers of this code? Say tiers=['mini', 'flagship'], the flagship last, or suite='….cascade.yaml'."
            )
        return self.judged.cascade

    def check(self) -> None:
        """Raise `Unmatched` where a request was not answered, in this process or one that was forked from it."""
        if self._elsewhere[0]:
            self.problems[_FORKED] = None
        if self.problems:
            raise matching.Unmatched(self.problems)

    def answer(self, request: Request) -> Response | None:
        """Answer a request of a client; None lets it through."""
        if request.host in self.allow:
            return None
        if os.getpid() != self._process:
            self._elsewhere[0] = 1
            raise self.stop(_FORKED)
        case = self._case_of(request)
        try:
            response, asked, fresh = self.source.answer(request, case)
        except answering.NoRecording as error:
            raise self.stop(str(error)) from None
        if fresh:
            self._note(asked)
        return response

    def _note(self, asked: Asked) -> None:
        with self._lock:
            self._asked.append(asked)
            if asked.case is not None:
                self._run.setdefault(asked.case)

    def _case_of(self, request: Request) -> str | None:
        """Return the case of a request: its header goes before the block it is made in, and that before a variable."""
        named = request.headers.get(self.header.lower()) or CASE.get()
        if named is None and self.variable is not None:
            value = self.variable.get(None)
            return None if value is None else str(value)
        return named

    def stop(self, text: str) -> matching.Stop:
        """Note a request that nothing answers, and make what is raised in its client."""
        text = f"{_asked_at()}{text}"
        with self._lock:
            self.problems[text] = None
        return matching.Stop(text)

    def keep(self, request: Request, response: Response, seconds: float) -> None:
        """Note what a real call came to."""
        if os.getpid() != self._process:
            self._elsewhere[0] = 1
        assert isinstance(self.source, cassette_player.FromCassette)
        case = self._case_of(request)
        exchange = cassettes.scrubbed(cassettes.Exchange(request, response, case, seconds))
        with self._lock:
            self.source.exchanges.append(exchange)
            self._begun.append(time.perf_counter() - seconds)
            number = len(self.source.exchanges) - 1
        self._note(self.source.play(number, exchange.request, case)[1])

    def kept(self) -> list[cassettes.Exchange]:
        """Return what was recorded, in the order in which it was asked: answers come in another each time."""
        assert isinstance(self.source, cassette_player.FromCassette)
        pairs = zip(self._begun, self.source.exchanges, strict=True)
        return [exchange for _, exchange in sorted(pairs, key=lambda pair: pair[0])]


_LIBRARIES: Final = tuple(
    {
        str(Path(__file__).parents[1]),
        *(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")),
    }
)


def _asked_at() -> str:
    """Return the line of the user's own code that made a call, below which there are only libraries."""
    frame = inspect.currentframe()
    while frame is not None:
        file = frame.f_code.co_filename
        if not file.startswith((*_LIBRARIES, "<")):
            return f"{os.path.relpath(file)}:{frame.f_lineno}: "
        frame = frame.f_back
    return ""


@dataclass
class _Quiet(AbstractContextManager[T]):
    block: AbstractContextManager[T]

    def __enter__(self) -> T:
        __tracebackhide__ = True
        try:
            return self.block.__enter__()
        except errors.UsageError as error:
            raise error.with_traceback(None) from None

    def __exit__(
        self, kind: type[BaseException] | None, raised: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        __tracebackhide__ = True
        try:
            return self.block.__exit__(kind, raised, trace)
        except matching.Unmatched as error:
            raise error.with_traceback(None)  # noqa: B904  its own cause is kept


def quiet(made: Callable[P, AbstractContextManager[T]]) -> Callable[P, AbstractContextManager[T]]:
    """Leave the frames below a block out of what it raises: what is said is about the code in it."""

    @functools.wraps(made)
    def entered(*given: P.args, **named: P.kwargs) -> AbstractContextManager[T]:
        return _Quiet(made(*given, **named))

    return entered


@contextlib.contextmanager
def _leaving(played: Playback) -> Iterator[None]:
    """Raise what was not answered when a playback is left, whatever the code made of it.

    The message names the line that asked, so that the frames of clients and of what stands below them are left out.
    """
    try:
        yield
    except (KeyboardInterrupt, SystemExit, GeneratorExit, matching.Unmatched):
        raise
    except BaseException as error:
        if _stopped(error):
            raise matching.Unmatched(played.problems) from None
        _without_frames(error)
        try:
            played.check()
        except matching.Unmatched as unmatched:
            raise unmatched from error
        raise
    played.check()


def _without_frames(error: BaseException | None) -> None:
    """Leave an unmatched request out of what an exception says it was raised after: it is told of in any case."""
    while error is not None:
        if isinstance(error.__context__, matching.Stop):
            error.__suppress_context__ = True
        error = error.__cause__ or error.__context__


def _stopped(error: BaseException) -> bool:
    """Whether an unmatched request ended the code, be it in one of the tasks of a group."""
    if isinstance(error, BaseExceptionGroup):
        return any(map(_stopped, error.exceptions))
    return isinstance(error, matching.Stop)


@contextlib.contextmanager
def playing(played: Playback) -> Iterator[Playback]:
    """Answer every request from the recording; nothing reaches a socket."""
    with _leaving(played), interception.standing(interception.Player(played.answer, played.stop, played.allow)):
        yield played


@contextlib.contextmanager
def taping(played: Playback, path: Path) -> Iterator[Playback]:
    """Let requests through, and write the cassette when all went well."""
    with overhearing.overheard(played.keep):
        try:
            yield played
            played.check()
        except BaseException:
            if played.kept():
                cassettes.write(path.with_suffix(".partial.jsonl"), played.kept())
            raise
    if not played.kept():
        raise errors.DataError([errors.Problem("nothing was asked, so there is nothing to record", str(path))])
    cassettes.write(path, played.kept())


def open_source(
    source: Traffic | str | os.PathLike[str] | Iterable[Mapping[str, Any]],
    settings: answering.Settings,
    *,
    columns: Mapping[str, str] | None = None,
    base: Path | None = None,
) -> answering.FromTraffic | cassette_player.FromCassette:
    """Open what answers: traffic, a golden, records, or a cassette.

    Raises
    ------
    DataError
        It cannot be read.
    """
    if isinstance(source, Traffic):
        return answering.FromTraffic(source, settings)
    if not isinstance(source, str | os.PathLike):
        return answering.FromTraffic(traffic.from_records(source), settings)
    name = os.fspath(source)
    path = Path(name) if base is None else base / name
    if "://" not in name and (cassettes.is_cassette(path) or (path.suffix == ".jsonl" and not path.exists())):
        foreign = path.suffix.lower() != ".jsonl"
        return cassette_player.FromCassette(cassettes.read(path, name), name, settings, foreign=foreign)
    if (path / "golden.yaml").is_file():
        return answering.FromTraffic(goldens.open(name, columns=columns or {}, base=base).traffic, settings)
    return answering.FromTraffic(traffic.open(name, columns=columns or {}, base=base), settings)
