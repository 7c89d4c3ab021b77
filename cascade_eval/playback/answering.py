"""Who answers: recorded traffic, by case and model; or a cassette, by what was asked."""

from __future__ import annotations

import itertools
import json
import math
import threading
from collections import Counter, defaultdict
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from cascade_eval import costs, errors, traffic
from cascade_eval.playback import matching, wire
from cascade_eval.playback.nouns import Asked, Outcome, Response
from cascade_eval.traffic import ABSENT, OK, STATUSES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from cascade_eval.playback.cassettes import Exchange
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

    body: str
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
        body = matching.canonical(matching.raw_body(request), self.settings.ignore)
        with self._lock:
            taken = self._taken.get((case, model))
            if taken is None:
                self._taken[case, model] = _Taken(body, 0, "ok")
                return 0, True
            if taken.body != body:
                first, second = (("POST", request.path, text) for text in (taken.body, body))
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
                    f"case '{case}' asked '{model}' {taken.run + 2} times; {self.recorded.name} has {recorded + 1} answers."
                )
            taken.run += 1
            return taken.run, True

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
        return _took(batch, row, model, charge, asked)

    def cases(self, run: Iterable[str], _asked: Sequence[Asked], _facts: Mapping[str, Row]) -> tuple[list[str], Batch]:
        """Return the cases that were run, in recorded order, with all their columns."""
        places = sorted(self.places[case] for case in run if case in self.places)
        return [self.ids[place] for place in places], self.batch.take(np.array(places, dtype=np.int64))

    def unplayed(self, run: Iterable[str]) -> list[str]:
        """Return the cases that were not run."""
        done = set(run)
        return [case for case in self.ids if case not in done]


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


def _took(batch: Batch, row: int, model: str, charge: costs.Charge, asked: Asked) -> Priced:
    latency: Any = batch.text(model, "latency_s", row)
    seconds = math.nan if latency is None else float(latency)
    tokens: list[Any] = [batch.text(model, name, row) for name in ("input_tokens", "output_tokens")]
    return Priced(
        int(charge.nano[row]),
        bool(charge.known[row]),
        seconds if asked.limit is None else asked.limit,
        *(None if one is None else int(one) for one in tokens),
    )


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


class FromCassette:
    """A cassette that answers.

    Parameters
    ----------
    exchanges
        In recorded order. A recording adds to them while it goes on.
    name
        For messages.
    settings
        How requests are understood.
    """

    def __init__(self, exchanges: list[Exchange], name: str, settings: Settings) -> None:
        self.exchanges = exchanges
        self.name = name
        self.settings = settings
        self._used: set[int] = set()
        self._runs: Counter[tuple[str | None, str | None]] = Counter()
        self._lock = threading.Lock()

    def check_case(self, case: str) -> None:
        """Take any case: what a cassette holds is found by what is asked."""

    @cached_property
    def _keys(self) -> dict[tuple[str, str, str], list[int]]:
        found: dict[tuple[str, str, str], list[int]] = defaultdict(list)
        for number, one in enumerate(self.exchanges):
            found[self._key(one.request)].append(number)
        return dict(found)

    def _key(self, request: Request) -> tuple[str, str, str]:
        return matching.key(request.method, request.path, matching.body_of(request), self.settings.ignore)

    def answer(self, request: Request, case: str | None) -> tuple[Response, Asked, bool]:
        """Answer a request with the next recording of the same; the recordings of its own case go first."""
        wanted = self._key(request)
        with self._lock:
            number = self._pick(wanted, case)
            self._used.add(number)
            return *self.play(number, request, case), True

    def _pick(self, wanted: tuple[str, str, str], case: str | None) -> int:
        known = self._keys.get(wanted, [])
        own = [number for number in known if case is not None and self.exchanges[number].case == case]
        left = [number for number in own or known if number not in self._used]
        if left:
            return left[0]
        whose = f" for case '{case}'" if own else ""
        if known:
            raise NoRecording(
                f"{wanted[0]} {wanted[1]} was asked {len(own or known) + 1} times{whose}, and recorded"
                f" {len(own or known)} times in {self.name}. Record it again with --cascade-record."
            )
        near = matching.nearest(wanted, self._keys)
        shown = "" if near is None else f" The nearest recording differs so:\n{matching.difference(near, wanted)}"
        raise NoRecording(f"{wanted[0]} {wanted[1]} is not in {self.name}.{shown}")

    def play(self, number: int, request: Request, case: str | None) -> tuple[Response, Asked]:
        """Note that a recording was played, and return what the client gets."""
        exchange = self.exchanges[number]
        adapter = self.settings.adapter(request)
        found = None if adapter else wire.outcome(exchange.request, exchange.response)
        model = found.model if found else adapter.model_of(request) if adapter else None
        model = model and self.settings.model(model)
        late = exchange.response.fault == "timeout"
        limit = self.settings.limit(request, model, exchange.latency_s, late=late)
        status = "timeout" if limit is not None else found.status if found else _status(exchange.response)
        case = exchange.case if case is None else case
        run = self._runs[case, model]
        self._runs[case, model] += 1
        charged = adapter is None or adapter.charged
        said = found.answer if found else None
        asked = Asked(case, model, status, run, charged, limit, said, number)
        return too_slow(asked) if limit is not None else _at_once(exchange.response), asked

    def priced(self, asked: Sequence[Asked], prices: costs.Prices) -> list[Priced]:
        """Return what each call took: its tokens at their price, as traffic is charged."""
        rows = [_record(str(i), one, self.exchanges[one.number]) for i, one in enumerate(asked)]
        if not rows:
            return []
        batch = traffic.from_records(rows, name=self.name).read()
        charges = {model: costs.call(batch, model, prices) for model in {str(one.model) for one in asked}}
        found = [_took(batch, i, str(one.model), charges[str(one.model)], one) for i, one in enumerate(asked)]
        return [
            each if one.charged else each._replace(nano=0, known=True) for one, each in zip(asked, found, strict=True)
        ]

    def cases(self, run: Iterable[str], asked: Sequence[Asked], facts: Mapping[str, Row]) -> tuple[list[str], Batch]:
        """Return the cases that were run as columns: what was played, and what was recorded for them besides."""
        ids = list(dict.fromkeys(run))
        rows: dict[str, dict[str, Row]] = {case: {} for case in ids}
        for number, exchange in enumerate(self.exchanges):
            found = wire.outcome(exchange.request, exchange.response)
            if number not in self._used and found is not None and exchange.case in rows:
                one = Asked(exchange.case, self.settings.model(found.model), found.status, said=found.answer)
                rows[exchange.case].setdefault(str(one.model), _row(one, exchange))
        played: set[tuple[str, str]] = set()
        for one in asked:
            # Of several calls the last that was answered stands for the model.
            if one.case in rows and one.model and (one.status == "ok" or (one.case, one.model) not in played):
                rows[one.case][one.model] = _row(one, self.exchanges[one.number])
                played.add((one.case, one.model))
        records = [
            {"case_id": case, **facts.get(case, {}), "models": {model: dict(row) for model, row in rows[case].items()}}
            for case in ids
        ]
        batch = traffic.from_records(records, name=self.name).read()
        places = {case: place for place, case in enumerate(batch.arrow(None, "case_id").to_pylist())}
        return ids, batch.take(np.array([places[case] for case in ids], dtype=np.int64))

    def unplayed(self, run: Iterable[str]) -> list[str]:
        """Return the recorded cases that were not run."""
        done = set(run)
        return [case for case in dict.fromkeys(one.case for one in self.exchanges) if case and case not in done]


def _status(response: Response) -> Status:
    if response.fault == "timeout" or response.status in wire.TIMEOUTS:
        return "timeout"
    return "error" if response.fault is not None or response.status >= 400 else "ok"


def _at_once(response: Response) -> Response:
    """Let a client that retries a recorded failure do so without waiting."""
    if response.status < 400:
        return response
    return replace(response, headers={**response.headers, "retry-after-ms": "1", "retry-after": "0"})


def _row(asked: Asked, exchange: Exchange) -> dict[str, Any]:
    found = wire.outcome(exchange.request, exchange.response) or Outcome("")
    return {
        "status": asked.status,
        "answer": found.answer,
        "input_tokens": found.input_tokens,
        "cached_input_tokens": found.cached_input_tokens,
        "output_tokens": found.output_tokens,
        "latency_s": exchange.latency_s,
    }


def _record(case: str, asked: Asked, exchange: Exchange) -> dict[str, Any]:
    return {"case_id": case, "models": {str(asked.model): _row(asked, exchange)}}
