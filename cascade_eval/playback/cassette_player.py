"""A cassette that answers, by what was asked."""

from __future__ import annotations

import threading
import urllib.parse
from collections import Counter, defaultdict
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from cascade_eval import costs, scrubbing, traffic
from cascade_eval.playback import answering, matching, wire
from cascade_eval.playback.nouns import Asked, Outcome

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from cascade_eval.playback.answering import Priced, Settings
    from cascade_eval.playback.cassettes import Exchange
    from cascade_eval.playback.nouns import Request, Response, Row, Status
    from cascade_eval.traffic import Batch


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
    foreign
        Whether it may have secrets in its requests, because another tool wrote it.
    """

    def __init__(self, exchanges: list[Exchange], name: str, settings: Settings, *, foreign: bool = False) -> None:
        self.exchanges = exchanges
        self.foreign = foreign
        self.name = name
        self.settings = settings
        self._used: set[int] = set()
        self._runs: Counter[tuple[str | None, str | None]] = Counter()
        self._lock = threading.Lock()

    def check_case(self, case: str) -> None:
        """Take any case: what a cassette holds is found by what is asked."""

    @cached_property
    def _keys(self) -> dict[tuple[str, str, str], list[int]]:
        return self._indexed(self._key(one.request) for one in self.exchanges)

    @cached_property
    def _scrubbed_keys(self) -> dict[tuple[str, str, str], list[int]]:
        return self._indexed(matching.scrubbed(self._key(one.request)) for one in self.exchanges)

    def _indexed(self, keys: Iterable[tuple[str, str, str]]) -> dict[tuple[str, str, str], list[int]]:
        found: dict[tuple[str, str, str], list[int]] = defaultdict(list)
        for number, key in enumerate(keys):
            found[key].append(number)
        return dict(found)

    def _alike(self, wanted: tuple[str, str, str]) -> list[int]:
        """Return the recordings of a request.

        Secrets are looked for where nothing is found without that, because it takes by far the longest. Of our own
        cassettes they were taken out when it was written, of others not.
        """
        if wanted in self._keys:
            return self._keys[wanted]
        clean = matching.scrubbed(wanted)
        return self._keys.get(clean) or (self._scrubbed_keys.get(clean, []) if self.foreign else [])

    def _key(self, request: Request) -> tuple[str, str, str]:
        path = request.path if request.body or not request.query else f"{request.path}?{_query(request)}"
        return matching.key(request.method, path, matching.raw_body(request), self.settings.ignore)

    @cached_property
    def _addresses(self) -> list[tuple[str, str]]:
        return [_address(one.request) for one in self.exchanges]

    def answer(self, request: Request, case: str | None) -> tuple[Response, Asked, bool]:
        """Answer a request with the next recording of the same; those of its own address and case go first."""
        wanted = self._key(request)
        with self._lock:
            number = self._pick(wanted, _address(request), case)
            self._used.add(number)
            return *self.play(number, request, case), True

    def _pick(self, wanted: tuple[str, str, str], address: tuple[str, str], case: str | None) -> int:
        alike = self._alike(wanted)
        # A model may have moved since; two scorers that are asked the same are told apart by where they are.
        known = [number for number in alike if self._addresses[number] == address] or alike
        own = [number for number in known if case is not None and self.exchanges[number].case == case]
        left = [number for number in own or known if number not in self._used]
        if left:
            return left[0]
        whose = f" for case '{case}'" if own else ""
        if known:
            count = len(own or known)
            raise answering.NoRecording(
                f"{wanted[0]} {wanted[1]} was asked {answering.several(count + 1, 'time')}{whose}, and recorded"
                f" {answering.several(count, 'time')} in {self.name}. Record it again with --cascade-record."
            )
        near = matching.nearest(wanted, self._keys)
        shown = "" if near is None else f" The nearest recording differs so:\n{matching.difference(near, wanted)}"
        raise answering.NoRecording(f"{wanted[0]} {wanted[1]} is not in {self.name}.{shown}")

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
        return answering.too_slow(asked) if limit is not None else _at_once(self._formed(exchange, request)), asked

    def _formed(self, exchange: Exchange, request: Request) -> Response:
        """Return a response whole or streamed, as a request asks, where `ignore` let it match one of the other kind."""
        form, response = wire.format_of(request), exchange.response
        streamed = bool(exchange.request.asked("stream"))
        if form is None or _status(response) != "ok" or bool(request.asked("stream")) is streamed:
            return response
        found = wire.outcome(exchange.request, response)
        if found is None or found.answer is None:
            kind = "as a stream" if streamed else "whole"
            raise answering.NoRecording(
                f"POST {request.path} was recorded {kind} in {self.name}, and is no answer in words that could be said in "
                "another form. Record it again with --cascade-record."
            )
        return wire.answer(form, found, request)

    def priced(self, asked: Sequence[Asked], prices: costs.Prices) -> list[Priced]:
        """Return what each call took: its tokens at their price, as traffic is charged."""
        rows = [_record(str(i), one, self.exchanges[one.number]) for i, one in enumerate(asked)]
        if not rows:
            return []
        batch = traffic.from_records(rows, name=self.name).read()
        charges = {model: costs.call(batch, model, prices) for model in {str(one.model) for one in asked}}
        found = [answering.took(batch, i, str(one.model), charges[str(one.model)], one) for i, one in enumerate(asked)]
        return [
            each._replace(nano=0, known=True)
            if not one.charged or _unpaid(self.exchanges[one.number].response)
            else each
            for one, each in zip(asked, found, strict=True)
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


def _query(request: Request) -> str:
    """Return a query whatever the order of its parts, without secrets."""
    parts = urllib.parse.parse_qsl(request.query, keep_blank_values=True)
    return scrubbing.scrub(f"?{urllib.parse.urlencode(sorted(parts), safe='[]')}")[1:]


def _address(request: Request) -> tuple[str, str]:
    return request.host, _query(request) if request.query else ""


def _unpaid(response: Response) -> bool:
    """Whether a server refused to work: what it did not do it does not charge for, unlike what came too late."""
    return 400 <= response.status < 500 and response.status not in wire.TIMEOUTS


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
