"""Recorded traffic that answers, by case and model; and how requests are understood, whoever answers them."""

from __future__ import annotations

import itertools
import json
import math
import threading
from collections import defaultdict
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from cascade_eval import costs, errors, traffic
from cascade_eval.playback import matching, wire
from cascade_eval.playback.nouns import Asked, Outcome, Response
from cascade_eval.traffic import ABSENT, OK, STATUSES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from cascade_eval.playback.nouns import Adapter, Request, Row, Status
    from cascade_eval.traffic import Batch, Traffic


class NoRecording(LookupError):  # noqa: N818  an answer to a question, on its way to `Unmatched`
    """No recording answers a request; the message says which is nearest."""


class Priced(NamedTuple):
    """What one call took: nano-dollars, whether they are known, seconds (NaN where unknown), tokens."""

    nano: int
    known: bool
    latency: float
    input_tokens: int | None = None
    output_tokens: int | None = None


@dataclass(frozen=True)
class Settings:
    """How requests are understood.

    Parameters
    ----------
    adapters
        Plain services.
    models
        Recorded model by the name the code asks for.
    content
        What a model said, from its row; its answer where None.
    ignore
        Fields of bodies that may differ.
    timeouts
        Seconds by recorded model, from the tiers of the cascade.
    """

    adapters: tuple[Adapter, ...] = ()
    models: Mapping[str, str] = field(default_factory=dict)
    content: Callable[[Row], str | None] | None = None
    ignore: tuple[str, ...] = ()
    timeouts: Mapping[str, float] = field(default_factory=dict)

    def adapter(self, request: Request) -> Adapter | None:
        """Return the adapter that takes a request."""
        return next((one for one in self.adapters if one.takes(request)), None)

    def model(self, name: str) -> str:
        """Return the recorded name of a model."""
        return self.models.get(name, name)

    def limit(self, request: Request, model: str | None, latency: float | None, *, late: bool) -> float | None:
        """Return the seconds after which a call would have timed out; None where it would not have.

        One that was `late` when it was recorded, nobody knows how much, took as long as it may take. A stream keeps a
        client waiting between its events only, and how long that took was not recorded.
        """
        client = None if request.asked("stream") else request.timeout
        known = [one for one in (client, self.timeouts.get(model or "")) if one is not None]
        over = late if latency is None else bool(known) and latency > min(known)
        return min(known) if known and over else None


@dataclass
class _Taken:
    """What was taken so far of the recordings of one case and model."""

    first: Request
    run: int
    status: Status


class FromTraffic:
    """Recorded traffic that answers.

    Parameters
    ----------
    recorded
        The cases.
    settings
        How requests are understood.
    """

    def __init__(self, recorded: Traffic, settings: Settings) -> None:
        self.recorded = recorded
        self.settings = settings
        self.batch = recorded.read()
        self.ids: list[str] = [str(one) for one in self.batch.arrow(None, "case_id").to_pylist()]
        self.places = {case: place for place, case in enumerate(self.ids)}
        self._statuses = {model: self.batch.status(model) for model in self.batch.models}
        self._repeats: dict[str, _Repeats] = {}
        self._charges: dict[str, costs.Charge] = {}
        self._taken: dict[tuple[str, str], _Taken] = {}
        self._lock = threading.Lock()

    def check_case(self, case: str) -> None:
        """Raise `NoRecording` where nothing was recorded for a case."""
        if case not in self.places:
            raise NoRecording(f"no case '{case}' in {self.recorded.name}.{errors.did_you_mean(case, self._near(case))}")

    def _near(self, case: str) -> Iterable[str]:
        """Return a few cases among which the nearest name is sought."""
        alike = (one for one in self.ids if one[:1] == case[:1])
        return [*itertools.islice(alike, 2000)] or self.ids[:5]

    def answer(self, request: Request, case: str | None) -> tuple[Response, Asked, bool]:
        """Answer a request from the row of its case and model; the flag is false where it was a retry."""
        adapter = self.settings.adapter(request)
        form = None if adapter else wire.format_of(request)
        if adapter is None and form is None:
            raise NoRecording(_unknown_service(request))
        model = self.settings.model(wire.model_of(request) if adapter is None else adapter.model_of(request))
        if case is None:
            raise NoRecording(
                f"'{model}' was asked, but for which case? Call it within played.case(\"…\"), or send the case's header."
            )
        self.check_case(case)
        place = self._place(case, model)
        if adapter is None:
            self._check_asked(request, case, model)
        charged = adapter is None or adapter.charged
        run, fresh = self._next(request, case, model) if charged else (0, True)
        batch, row = (self.batch, place) if run == 0 else self._again(model).at(case, run)
        asked = self._asked(request, batch, row, Asked(case, model, run=run, charged=charged))
        if charged:
            self._taken[case, model].status = asked.status
        if asked.limit is not None:
            return too_slow(asked), asked, fresh
        if adapter is None:
            assert form is not None
            response = wire.answer(form, self._outcome(batch, row, request, asked, place), request)
            return response, replace(asked, said=self._said(batch, row, model)), fresh
        if asked.status == "timeout":
            return Response(fault="timeout"), asked, fresh
        if asked.status == "error":
            return wire.failed(), asked, fresh
        return wire.plain(adapter.reply(self._row(batch, row, model, place))), asked, fresh

    def _check_asked(self, request: Request, case: str, model: str) -> None:
        """Refuse what a gate would decide by and traffic does not hold: half an answer looks like a sure one."""
        several, include = request.asked("n"), request.asked("include")
        if isinstance(several, int) and several > 1:
            raise NoRecording(
                f"case '{case}' asked '{model}' for {several} answers at once; traffic holds one for each run. Ask "
                f"{several} times, or play a cassette."
            )
        forced = _forced(request)
        if forced:
            raise NoRecording(
                f"case '{case}' asked '{model}' to call {forced}, and traffic holds answers, no calls of tools. Play a "
                "cassette."
            )
        asked = request.asked("logprobs") or (isinstance(include, list) and "message.output_text.logprobs" in include)
        if asked and traffic.Field(model, "token_logprobs") not in self.recorded.fields:
            raise NoRecording(
                f"case '{case}' asked '{model}' for log-probabilities, and {self.recorded.name} has no '{model}.token_logprobs'."
            )

    def _place(self, case: str, model: str) -> int:
        if model not in self._statuses:
            near = errors.did_you_mean(model, self._statuses)
            raise NoRecording(
                f"case '{case}' asked '{model}', which {self.recorded.name} has no answers of.{near}"
                " Where your code uses another name, say models={'its name': 'recorded name'}."
            )
        place = self.places[case]
        if self._statuses[model][place] == ABSENT:
            has = [name for name, status in self._statuses.items() if status[place] != ABSENT]
            raise NoRecording(
                f"case '{case}' asked '{model}', which was never asked that when {self.recorded.name} was recorded;"
                f" of this case it has {', '.join(map(repr, has)) or 'nothing'}."
            )
        return place

    def _next(self, request: Request, case: str, model: str) -> tuple[int, bool]:
        """Return which repeat answers, and whether this is a new call: a retry of a failed one gets the same."""
        with self._lock:
            taken = self._taken.get((case, model))
            if taken is None:
                self._taken[case, model] = _Taken(request, 0, "ok")
                return 0, True
            first, second = map(self._key, (taken.first, request))
            if first[2] != second[2]:
                raise NoRecording(
                    f"case '{case}' asked '{model}' twice, and not the same; traffic holds one answer for both. Play a "
                    f"cassette, or ignore the fields that differ:\n{matching.difference(first, second)}"
                )
            again = request.headers.get("x-stainless-retry-count", "0") != "0"
            if again or taken.status in {"timeout", "error"}:
                return taken.run, False
            recorded = self._again(model).of(case)
            if taken.run >= recorded:
                raise NoRecording(
                    f"case '{case}' asked '{model}' {taken.run + 2} times; {self.recorded.name} has {several(recorded + 1, 'answer')}"
                    " of it. Play a cassette, or traffic that holds repeats."
                )
            taken.run += 1
            return taken.run, True

    def _key(self, request: Request) -> tuple[str, str, str]:
        return matching.key(request.method, request.path, matching.raw_body(request), self.settings.ignore)

    def _again(self, model: str) -> _Repeats:
        if model not in self._repeats:
            needs = [one for one in self.recorded.fields if one.model == model]
            self._repeats[model] = _Repeats(model, self.recorded.repeats(model, needs))
        return self._repeats[model]

    def _asked(self, request: Request, batch: Batch, row: int, asked: Asked) -> Asked:
        model = str(asked.model)
        latency: Any = batch.text(model, "latency_s", row)
        status: Any = STATUSES[max(int(batch.status(model)[row]), OK)]
        late = status == "timeout"
        limit = self.settings.limit(request, model, latency, late=late) if asked.charged else None
        return replace(asked, status="timeout" if limit is not None else status, limit=limit)

    def _said(self, batch: Batch, row: int, model: str) -> str | None:
        value = batch.text(model, "answer", row)
        return value if value is None or isinstance(value, str) else json.dumps(value)

    def _outcome(self, batch: Batch, row: int, request: Request, asked: Asked, place: int) -> Outcome:
        model, content = str(asked.model), self.settings.content
        if content is not None and asked.status == "ok":
            answer = content(self._row(batch, row, model, place))
        else:
            answer = self._said(batch, row, model)
        fields: dict[str, Any] = {
            name: None if (value := batch.text(model, name, row)) is None else int(str(value).partition(".")[0])
            for name in ("input_tokens", "cached_input_tokens", "output_tokens")
        }
        if request.asked("logprobs") or request.asked("include"):
            fields |= {name: _listed(batch.text(model, name, row)) for name in ("token_logprobs", "top_logprobs")}
        return Outcome(wire.model_of(request), asked.status, answer, **fields)

    def _row(self, batch: Batch, row: int, model: str, place: int) -> Row:
        """Return a recorded row as a dictionary, with the columns of its case."""
        of_case = {
            need.name: self.batch.text(None, need.name, place) for need in self.batch.columns if need.model is None
        }
        own = {need.name: batch.text(model, need.name, row) for need in batch.columns if need.model == model}
        return of_case | own | {"model": model}

    def priced(self, asked: Sequence[Asked], prices: costs.Prices) -> list[Priced]:
        """Return what each call took, as recorded."""
        return [self._priced(one, prices) for one in asked]

    def _priced(self, asked: Asked, prices: costs.Prices) -> Priced:
        model = str(asked.model)
        if not asked.charged:
            return Priced(0, known=True, latency=0.0)
        if asked.run:
            batch, row = self._again(model).at(str(asked.case), asked.run)
            charge = costs.call(batch, model, prices)
        else:
            batch, row = self.batch, self.places[str(asked.case)]
            if model not in self._charges:
                self._charges[model] = costs.call(batch, model, prices)
            charge = self._charges[model]
        return took(batch, row, model, charge, asked)

    def cases(self, run: Iterable[str], _asked: Sequence[Asked], _facts: Mapping[str, Row]) -> tuple[list[str], Batch]:
        """Return the cases that were run, in recorded order, with all their columns."""
        places = sorted(self.places[case] for case in run if case in self.places)
        return [self.ids[place] for place in places], self.batch.take(np.array(places, dtype=np.int64))

    def unplayed(self, run: Iterable[str]) -> list[str]:
        """Return the cases that were not run."""
        done = set(run)
        return [case for case in self.ids if case not in done]


def _forced(request: Request) -> str | None:
    """Return the tool a request says must be called, None where the model may answer as well."""
    choice = request.asked("tool_choice") or request.asked("function_call")
    if isinstance(choice, dict):
        function = choice.get("function")
        named = choice.get("name") or (function.get("name") if isinstance(function, dict) else None)
        kind = choice.get("type")
        return f"'{named}'" if named else "a tool" if kind not in {"auto", "none", "allowed_tools"} else None
    return "a tool" if choice in {"required", "any"} else None


def _listed(value: Any) -> Any:
    """Return a list; lists of lists out of JSON records are kept as text."""
    return json.loads(value) if isinstance(value, str) else value


class _Repeats:
    """What one model answered when it was asked again."""

    def __init__(self, model: str, batch: Batch) -> None:
        self.batch = batch
        self.rows: dict[str, list[int]] = defaultdict(list)
        cases = batch.arrow(None, "case_id").to_pylist()
        runs = batch.arrow(model, "run").to_pylist()
        for row in sorted(range(batch.cases), key=lambda row: runs[row]):
            self.rows[str(cases[row])].append(row)

    def of(self, case: str) -> int:
        """How often a case was asked again."""
        return len(self.rows.get(case, ()))

    def at(self, case: str, run: int) -> tuple[Batch, int]:
        """Return where the n-th repeat of a case stands, the first answer being 0."""
        return self.batch, self.rows[case][run - 1]


def took(batch: Batch, row: int, model: str, charge: costs.Charge, asked: Asked) -> Priced:
    """Return what a call took, as its row has it."""
    latency: Any = batch.text(model, "latency_s", row)
    seconds = math.nan if latency is None else float(latency)
    tokens: list[Any] = [batch.text(model, name, row) for name in ("input_tokens", "output_tokens")]
    return Priced(
        int(charge.nano[row]),
        bool(charge.known[row]),
        seconds if asked.limit is None else asked.limit,
        *(None if one is None else int(one) for one in tokens),
    )


def several(count: int, noun: str) -> str:
    """Count something, in one or in many."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def too_slow(asked: Asked) -> Response:
    """Let a client time out, and say why: the recording took longer than it, or its tier, waits."""
    text = f"'{asked.model}' took longer when it was recorded than the {asked.limit:g} s that this call may take"
    return Response(body=text.encode(), fault="timeout")


def _unknown_service(request: Request) -> str:
    known = ", ".join(f"…{form.path}" for form in wire.FORMATS)
    return (
        f"{request.method} {request.host}{request.path} is no model's: {known} are known. Say how recorded traffic "
        "answers it with adapters=[playback.Adapter(path, model, reply)]."
    )
