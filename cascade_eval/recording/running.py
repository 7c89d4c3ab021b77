"""A recording as it runs: workers per model, retries that cost nothing twice, and a way to stop."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import dataclasses
import datetime as dt
import math
import os
import re
import signal
import time
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from cascade_eval import scrubbing
from cascade_eval.recording import clients, journal, planning
from cascade_eval.recording.ledger import Ledger
from cascade_eval.recording.nouns import NANO, Progress, Recording

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from decimal import Decimal
    from pathlib import Path

    from cascade_eval.recording.clients import Client
    from cascade_eval.recording.journal import Journal, Past
    from cascade_eval.recording.nouns import Call, Model, Recipe, Reply
    from cascade_eval.recording.planning import Plan

MOST_WAIT: Final = 300.0
"""Seconds one call waits between its requests, all together; a server that asks for more is given up on."""

SHOWN: Final = 400
"""Characters of a reason."""

_NUMBER: Final = re.compile(r"-?\d+(?:\.\d+)?")


def run(
    found: Recipe,
    *,
    cases: str | None = None,
    only: Iterable[str] = (),
    max_usd: float | str | Decimal | None = None,
    max_calls: int | None = None,
    output: str | Path | None = None,
    retry_failed: bool = False,
    connect: Callable[[Model, str], Client] = clients.connect,
    on_progress: Callable[[Progress], None] = lambda _: None,
    environ: Mapping[str, str] | None = None,
) -> Recording:
    """Ask every model of a recipe about every case, once; what an earlier run finished is not asked again.

    Parameters
    ----------
    found
        From `load`.
    cases, output
        Go before the recipe's own; relative to the working directory.
    only
        Names of the models to ask; all unless given.
    max_usd, max_calls
        Dollars and requests that may be spent on this output, earlier runs included. One of them is required unless
        every price is 0.
    retry_failed
        Ask calls again that timed out or failed.
    connect
        Gives the client of a model, from the model and its key.
    on_progress
        Told after every finished call.
    environ
        Where keys come from; the environment of this process if not given.

    Returns
    -------
    Recording
        Its `outcome` is ``complete`` only where every call was made and answered.

    Raises
    ------
    UsageError
        Nothing was asked: recipe, prices, keys, caps, cases or the output cannot be used.
    """
    known = dict(os.environ if environ is None else environ)
    asked = planning.plan(
        found, cases=cases, only=only, max_usd=max_usd, max_calls=max_calls, output=output, environ=known
    )
    with journal.Journal(asked.output, asked.environ) as opened:
        before = journal.read(asked.output)
        again = frozenset(model.name for model in asked.models) if retry_failed else frozenset()
        planning.refuse_other_questions(asked, before)
        opened.set_failed_aside(again)
        past = journal.read(asked.output)
        session = _Session(asked, opened, past, on_progress)
        _wait_for(session, connect)
        return _recording(asked, journal.read(asked.output), session)


def _wait_for(session: _Session, connect: Callable[[Model, str], Client]) -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        asyncio.run(session.run(connect))
        return
    # A notebook has a loop of its own, and hears Ctrl-C itself.
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        running = pool.submit(asyncio.run, session.run(connect))
        while not running.done():
            try:
                concurrent.futures.wait([running])
            except KeyboardInterrupt:
                session.stop_from_elsewhere()
        running.result()


class _Session:
    """One run of a recording."""

    def __init__(self, asked: Plan, opened: Journal, past: Past, on_progress: Callable[[Progress], None]) -> None:
        self.plan, self.journal, self.past, self.on_progress = asked, opened, past, on_progress
        self.ledger = Ledger(asked.cap, asked.most_requests, past.spent, past.uncertain, past.requests)
        self.stopping = asyncio.Event()
        self.room = asyncio.Condition()
        self.hopeless: dict[str, str] = {}
        self.not_before: dict[str, float] = {}
        self.unmade: Counter[str] = Counter()
        self.notes: list[str] = []
        self.interrupted = False
        self.finished = 0
        finished = {model.name: self._finished(model) for model in asked.models}
        self.unfinished = [model for model in asked.models if finished[model.name] < asked.total(model)]
        self.done = sum(finished.values())
        self.total = sum(map(asked.total, asked.models))
        self.started = time.monotonic()
        self._workers: list[asyncio.Task[None]] = []
        self._loop: asyncio.AbstractEventLoop | None = None

    # --- from beginning to end -------------------------------------------------------------------------------------

    async def run(self, connect: Callable[[Model, str], Client]) -> None:
        self._loop = asyncio.get_running_loop()
        with self._signals():
            opened = {model.name: connect(model, self.plan.keys[model.name]) for model in self.unfinished}
            with clients.quiet():
                try:
                    await self._note_settings()
                    for stage in self.plan.stages:
                        await self._ask_all(stage, opened)
                finally:
                    await self.journal.drain()
                    await asyncio.gather(*(client.close() for client in opened.values()), return_exceptions=True)

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """Stop sending at the first signal, and stop waiting for what is under way at the second."""
        loop = asyncio.get_running_loop()
        taken = []
        for number in (signal.SIGINT, signal.SIGTERM):
            # Only the main thread hears signals; elsewhere whoever started the thread deals with them.
            with contextlib.suppress(ValueError, RuntimeError, NotImplementedError):
                loop.add_signal_handler(number, self.stop)
                taken.append(number)
        try:
            yield
        finally:
            for number in taken:
                loop.remove_signal_handler(number)

    def stop(self) -> None:
        if self.stopping.is_set():
            for worker in self._workers:
                worker.cancel()
        self.interrupted = True
        self.stopping.set()

    def stop_from_elsewhere(self) -> None:
        """Stop from another thread than the one it runs in."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self.stop)

    async def _note_settings(self) -> None:
        for model in self.plan.models:
            settings = planning.settings_line(self.plan, model)
            if self.past.settings.get(model.name) != settings:
                line = {"event": "settings", "model": model.name, "settings": settings}
                await self.journal.append(journal.REQUESTS, line)

    async def _ask_all(self, models: list[Model], opened: Mapping[str, Client]) -> None:
        self._workers = [
            asyncio.create_task(self._work(todo, opened[model.name]))
            for model in models
            if model.name in opened
            for todo in [self._todo(model)]
            for _ in range(model.concurrency)
        ]
        try:
            await _all(self._workers)
        finally:
            self._workers = []

    def _finished(self, model: Model) -> int:
        return sum(call.key in self.past.finished for call in self.plan.calls(model, self.past))

    def _todo(self, model: Model) -> Iterator[Call]:
        return (call for call in self.plan.calls(model, self.past) if call.key not in self.past.finished)

    async def _work(self, todo: Iterator[Call], client: Client) -> None:
        for call in todo:
            if self.stopping.is_set() or call.model.name in self.hopeless:
                return
            await self._ask(call, client)

    # --- one call --------------------------------------------------------------------------------------------------

    async def _ask(self, call: Call, client: Client) -> None:
        """Send requests until one of them ends the call, or none may be sent any more."""
        waited, name = 0.0, call.model.name
        for number in range(1, call.model.attempts + 1):
            await self._sleep(self.not_before.get(name, 0.0) - time.monotonic())
            if not await self._reserve(call):
                return
            asked_at, reply, seconds = await self._request(call, client)
            reply = dataclasses.replace(reply, reason=self._shown(reply.reason))
            cost = self._cost(call, reply, asked_at)
            # A wait of nothing is no answer to how long: a server in trouble is not asked six times within a moment.
            delay = reply.after or _delay(call, number)
            if delay > MOST_WAIT:
                reply = _too_long(reply, delay)
            patient = waited + delay <= MOST_WAIT
            if reply.again and number < call.model.attempts and patient:
                await self._unbilled(call, reply)
                waited += delay
                if reply.after is not None:
                    self.not_before[name] = max(self.not_before.get(name, 0.0), time.monotonic() + delay)
                await self._sleep(delay)
                continue
            if reply.hopeless:
                self.hopeless.setdefault(name, reply.reason or "refused")
                await self._unbilled(call, reply)
                return
            reason = _gave_up(reply, number, delay, patient=patient)
            line = _line(call, reply, asked_at, seconds, cost, reason, self.past.sent[call.key], waited)
            await self._finish(call, cost, line)
            return

    def _shown(self, reason: str | None) -> str | None:
        """Shorten what a server said once keys are taken out: of a key that is cut, a half would be left."""
        return None if reason is None else scrubbing.scrub(reason, self.plan.environ)[:SHOWN]

    async def _finish(self, call: Call, cost: int | None, line: Mapping[str, Any]) -> None:
        written = await self.journal.append(journal.ANSWERS, line)
        await self._settle(call, cost)
        # As it stands in the journal, so that a judge is asked the same before and after a resume.
        self.past.add(written)
        self.done += 1
        self.finished += 1
        self.on_progress(self.progress())

    async def _request(self, call: Call, client: Client) -> tuple[dt.datetime, Reply, float]:
        self.past.sent[call.key] += 1
        asked_at = dt.datetime.now(dt.UTC)
        note = {
            "event": "sent",
            "call": call.key,
            "attempt": self.past.sent[call.key],
            "case_id": call.case.case_id,
            "model": call.model.name,
            "run": call.run,
            "at_most_nano_usd": call.worst,
            "at": asked_at.isoformat(),
        }
        await self.journal.append(journal.REQUESTS, note)
        started = time.monotonic()
        reply = await client.ask(call)
        return asked_at, reply, time.monotonic() - started

    def _cost(self, call: Call, reply: Reply, at: dt.datetime) -> int | None:
        if reply.usage is not None:
            return self.plan.sheets[call.model.name].cost(reply.usage, at)
        return 0 if reply.billed == "nothing" or call.worst == 0 else None

    async def _reserve(self, call: Call) -> bool:
        """Hold the worst case; wait for requests under way where it does not fit yet, and say no where it never will."""
        async with self.room:
            while not self.stopping.is_set() and call.model.name not in self.hopeless:
                if self.ledger.reserve(call.worst):
                    return True
                if not self.ledger.may_change:
                    self.unmade["the cap leaves no room for its worst case"] += 1
                    return False
                await self.room.wait()
        return False

    async def _settle(self, call: Call, cost: int | None) -> None:
        async with self.room:
            self.ledger.settle(call.worst, cost)
            self.room.notify_all()
        if cost is not None and cost > call.worst:
            message = (
                f"a call of '{call.model.name}' cost ${cost / NANO:.6f}, more than it could (${call.worst / NANO:.6f}): the server "
                "does not keep to 'max_output_tokens', or the price is not its own. It was not asked any more"
            )
            self.hopeless[call.model.name] = message
            self.notes.append(f"{message}.")

    async def _unbilled(self, call: Call, reply: Reply) -> None:
        note = {
            "event": "unbilled",
            "call": call.key,
            "attempt": self.past.sent[call.key],
            "reason": reply.reason,
        }
        await self.journal.append(journal.REQUESTS, note)
        await self._settle(call, 0)

    async def _sleep(self, seconds: float) -> None:
        """Wait, but not once the run is being stopped."""
        if seconds > 0:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.stopping.wait(), seconds)

    def progress(self) -> Progress:
        """Return how far this is."""
        return Progress(
            self.done,
            self.total,
            sum(count for (_, status), count in self.past.statuses.items() if status in journal.FAILED),
            self.ledger.requests,
            self.ledger.spent + self.ledger.uncertain,
            self.ledger.reserved,
            self.plan.cap,
            time.monotonic() - self.started,
            self.finished,
        )


async def _all(workers: list[asyncio.Task[None]]) -> None:
    """Wait for all workers; where one fails (the disk is full), the others end, and its error is raised."""
    try:
        done, _ = await asyncio.wait(workers, return_when=asyncio.FIRST_EXCEPTION) if workers else (set(), set())
        failed = [task.exception() for task in done if not task.cancelled() and task.exception() is not None]
    finally:
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
    for error in failed:
        assert error is not None
        raise error


def _delay(call: Call, number: int) -> float:
    """Seconds before the next request where the server names none: doubling, and spread by the call's key."""
    spread = 0.75 + 0.25 * int(call.key[:4], 16) / 0xFFFF
    return min(30.0, 0.5 * 2.0 ** (number - 1)) * spread


def _too_long(reply: Reply, delay: float) -> Reply:
    """Say that a model is not worth asking now: every other call would be told the same, a moment sooner than it wishes."""
    reason = f"{reply.reason}; it asks to wait {delay:g} s, and a call waits {MOST_WAIT:g} s at most: go on after that"
    return dataclasses.replace(reply, again=False, hopeless=True, reason=reason)


def _gave_up(reply: Reply, number: int, delay: float, *, patient: bool) -> str | None:
    if not reply.again:
        return reply.reason
    if not patient:
        return f"{reply.reason}; gave up: asked to wait {delay:g} s more, and a call waits {MOST_WAIT:g} s at most"
    return f"{reply.reason}; gave up after {number} request{'' if number == 1 else 's'}"


def _line(
    call: Call,
    reply: Reply,
    asked_at: dt.datetime,
    seconds: float,
    cost: int | None,
    reason: str | None,
    attempts: int,
    waited: float,
) -> dict[str, Any]:
    """Write a line of the journal: recorded traffic in long form, and what only a recording knows."""
    usage = reply.usage
    found = {
        "case_id": call.case.case_id,
        "model": call.model.name,
        "run": call.run,
        "status": reply.status,
        "answer": reply.answer,
        "judged": call.model.judges,
        "score": _score(reply.answer) if call.model.scored else None,
        "input_tokens": None if usage is None else usage.input,
        "cached_input_tokens": None if usage is None else usage.cached,
        "output_tokens": None if usage is None else usage.output,
        "cost_usd": None if cost is None else cost / NANO,
        "cost_at_most_usd": call.worst / NANO if cost is None else None,
        "latency_s": round(seconds, 6),
        "token_logprobs": None if reply.token_logprobs is None else list(reply.token_logprobs),
        "top_logprobs": None if reply.top_logprobs is None else [list(token) for token in reply.top_logprobs],
        "finish_reason": reply.finish,
        "served_model": reply.served,
        "reason": reason,
        "asked_at": asked_at.isoformat(),
        "attempts": attempts,
        "waited_s": round(waited, 3) or None,
        "call": call.key,
    }
    # What a line does not know it leaves out: a column of nulls would hide that nothing was offered.
    always = {"answer", "cost_usd", "latency_s"}
    kept = {name: value for name, value in found.items() if value is not None or name in always}
    return {**kept, **{name: value for name, value in call.case.columns.items() if value is not None}}


def _score(answer: str | None) -> float | None:
    match = _NUMBER.search(answer or "")
    number = math.nan if match is None else float(match[0])
    return number if math.isfinite(number) else None


def _recording(asked: Plan, past: Past, session: _Session) -> Recording:
    unasked, ungraded = Counter[str](), 0
    for model in asked.models:
        nothing = 0 if model.judges is None else _ungraded(asked, model, past)
        finished = sum(call.key in past.finished for call in asked.calls(model, past))
        ungraded += nothing
        unasked[model.name] = asked.total(model) - nothing - finished
    names = {model.name for model in asked.models}
    reasons = Counter({reason: count for (name, reason), count in past.reasons.items() if name in names})
    reasons.update(session.unmade)
    reasons.update({f"{name}: {reason}": unasked[name] for name, reason in session.hopeless.items() if unasked[name]})
    notes = [*session.notes, *_unfit(asked, past)]
    others = {case for case, _, _ in past.keys} - {asked.written(case.case_id) for case in asked.cases}
    if others:
        notes.append(f"{len(others):,} cases of the journal are not among these cases; their lines stay, and count.")
    if session.journal.torn:
        notes.append("a line torn by a killed process was set aside; its call was not finished, and is asked again.")
    return Recording(
        asked.output,
        asked.output / journal.ANSWERS,
        sum(asked.total(model) for model in asked.models) - ungraded,
        {key: count for key, count in sorted(past.statuses.items()) if key[0] in names},
        unasked,
        ungraded,
        past.requests,
        past.spent,
        past.uncertain,
        past.unpriced,
        past.unheard,
        reasons,
        session.interrupted,
        tuple(notes),
    )


def _unfit(asked: Plan, past: Past) -> Iterator[str]:
    """Say what answers lack that a cascade will be judged by."""
    for model in asked.models:
        answered, cut = past.statuses[model.name, "ok"], past.cut[model.name]
        if cut:
            where = f"max_output_tokens: {model.max_output_tokens:,}"
            yield f"{cut:,} of {answered:,} answers of '{model.name}' were cut off at {where}."
        bare = past.without_logprobs[model.name]
        if bare and model.logprobs is not None:
            yield f"{bare:,} of {answered:,} answers of '{model.name}' came without the log-probabilities asked for."


def _ungraded(asked: Plan, model: Model, past: Past) -> int:
    """Count cases whose judged model was asked, and gave nothing that could be graded."""
    here = any(other.name == model.judges for other in asked.models)
    return sum(
        asked.judged(case, model, past) is None
        and (not here or (asked.written(case.case_id), str(model.judges), 0) in past.keys)
        for case in asked.cases
    ) * (1 + model.samples)
