"""Everything that must be known before the first request: prices, keys, cases, caps, and what was asked before."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cascade_eval import scrubbing
from cascade_eval.errors import DataError, Problem, UsageError, did_you_mean
from cascade_eval.recording import calls, clients, pricing, questions, recipe
from cascade_eval.recording.nouns import LINE_COLUMNS, NANO

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from cascade_eval.recording.journal import Past
    from cascade_eval.recording.nouns import Call, Case, Model, Recipe
    from cascade_eval.recording.pricing import Sheet


MOST_USD: Final = 1_000_000_000


@dataclass(frozen=True)
class Plan:
    """What is going to be asked.

    Parameters
    ----------
    models
        In the order in which they are asked: those a judge waits for first.
    cases
        The cases.
    sheets, keys
        Prices and keys by model.
    output
        The folder.
    cap, most_requests
        Nano-dollars and requests that may be spent, earlier runs included; None without a cap.
    environ
        Where secret values are looked up.
    """

    models: tuple[Model, ...]
    cases: tuple[Case, ...]
    sheets: Mapping[str, Sheet]
    keys: Mapping[str, str]
    output: Path
    cap: int | None
    most_requests: int | None
    environ: Mapping[str, str]

    @property
    def stages(self) -> list[list[Model]]:
        """Models that can be asked at the same time; each judge in a stage after the model it grades."""
        depth: dict[str, int] = {}
        for model in self.models:
            depth[model.name] = depth[model.judges] + 1 if model.judges in depth else 0
        return [
            [model for model in self.models if depth[model.name] == stage]
            for stage in range(max(depth.values(), default=-1) + 1)
        ]

    def total(self, model: Model) -> int:
        """How many calls a model comes to."""
        return len(self.cases) * (1 + model.samples)

    def judged(self, case: Case, model: Model, past: Past) -> str | None:
        """Return the answer a judge grades: what this recording was told, else what the cases brought along."""
        assert model.judges is not None
        recorded = past.answers.get((self.written(case.case_id), model.judges))
        asked_here = any(other.name == model.judges for other in self.models)
        return recorded if recorded is not None or asked_here else case.answers.get(model.judges)

    def calls(self, model: Model, past: Past) -> Iterator[Call]:
        """Yield the calls of a model that can be written now, finished ones included."""
        for case in self.cases:
            answer = None
            if model.judges is not None:
                answer = self.judged(case, model, past)
                if answer is None:
                    continue
            for run in range(1 + model.samples):
                yield calls.call(case, model, run, self.sheets[model.name], answer)

    def written(self, text: str) -> str:
        """Return a text as it stands in the journal."""
        return scrubbing.scrub(text, self.environ)


def plan(
    found: Recipe,
    *,
    cases: str | None,
    only: Iterable[str],
    max_usd: float | str | Decimal | None,
    max_calls: int | None,
    output: str | Path | None,
    environ: Mapping[str, str],
) -> Plan:
    """Work out what is asked, and refuse what could not be paid for, understood or resumed.

    Raises
    ------
    UsageError
        Every problem of the models, or of the cases.
    """
    models = _chosen(found, tuple(only))
    sheets, keys, problems = _priced(found, models, environ)
    cap: int | None = None
    try:
        cap = _cap(found, max_usd, max_calls, sheets)
    except UsageError as error:
        problems += error.problems
    if problems:
        raise UsageError(problems)
    path, base = (cases, None) if cases is not None else (found.cases, found.base)
    if path is None:
        raise UsageError([found.lines.problem("no cases: write 'cases: cases.jsonl', or --cases.")])
    read = questions.read(path, base)
    _check_columns(found, models, read, path)
    folder = Path(output) if output is not None else found.base / (found.output or "recorded")
    # Only what is secret: looked up for every line, the rest of the environment would be looked at each time.
    secret = dict.fromkeys([*scrubbing.secrets(environ), *keys.values()])
    named = {f"{number}_API_KEY": value for number, value in enumerate(secret)}
    asked = Plan(models, read, sheets, keys, folder, cap, max_calls, named)
    _check_written(asked, path)
    return asked


def _check_written(asked: Plan, path: str) -> None:
    """Refuse cases that nobody could tell apart in the journal, where keys are taken out of their ids."""
    often = Counter(asked.written(case.case_id) for case in asked.cases)
    problems = [
        Problem(f"{count:,} cases are '{written}' once keys are taken out of their ids. Rename them.", path)
        for written, count in often.items()
        if count > 1
    ]
    if problems:
        raise DataError(problems)


def _chosen(found: Recipe, only: tuple[str, ...]) -> tuple[Model, ...]:
    names = [model.name for model in found.models]
    unknown = [name for name in only if name not in names]
    if unknown:
        raise UsageError(
            [Problem(f"--only: no model '{name}' in this recipe.{did_you_mean(name, names)}") for name in unknown]
        )
    chosen = [model for model in found.models if not only or model.name in only]
    ordered: list[Model] = []
    while chosen:
        waiting = {model.name for model in chosen}
        ready = [model for model in chosen if model.judges not in waiting]
        ordered += ready
        chosen = [model for model in chosen if model not in ready]
    return tuple(ordered)


def _priced(
    found: Recipe, models: Iterable[Model], environ: Mapping[str, str]
) -> tuple[dict[str, Sheet], dict[str, str], list[Problem]]:
    sheets, keys, problems = {}, {}, []
    for model in models:
        try:
            sheets[model.name] = pricing.sheet(model)
        except ValueError as error:
            problems.append(found.lines.problem(str(error), "models", model.name, "model"))
        try:
            keys[model.name] = _key(model, environ)
        except ValueError as error:
            problems.append(found.lines.problem(str(error), "models", model.name, "api_key_env"))
    return sheets, keys, problems


def _key(model: Model, environ: Mapping[str, str]) -> str:
    """Return the key of a model; a provider's own key goes to that provider, or wherever a recipe says by name.

    Raises
    ------
    ValueError
        There is none, or none that could be sent; the message says what to write.
    """
    name = model.api_key_env or clients.KEYS[model.client]
    host = clients.host(model)
    if model.api_key_env is None and host not in clients.LOOPBACK and not host.endswith(clients.DOMAINS[model.client]):
        raise ValueError(
            f"which key may go to {host}? Name the variable that holds it, api_key_env: {name}, or one of its own."
        )
    key = environ.get(name, "").strip()
    if not key and model.api_key_env is None and host in clients.LOOPBACK:
        return "none"
    if not key:
        raise ValueError(f"the environment variable {name} is not set; the key of '{model.name}' is read from it.")
    if not (key.isascii() and key.isprintable()):
        raise ValueError(f"the value of the environment variable {name} is no key: it holds characters no header can.")
    return key


def _check_columns(found: Recipe, models: Iterable[Model], cases: tuple[Case, ...], path: str) -> None:
    from cascade_eval.traffic.names import KEYS, OUTCOME_COLUMNS

    available = {name for case in cases for name in case.columns}
    problems = [
        Problem(f"the column '{name}' has the name of one that is recorded. Rename it.", path)
        for name in sorted(available & (LINE_COLUMNS | OUTCOME_COLUMNS | {*KEYS}))
    ]
    names = {model.name for model in found.models}
    recorded = {name for case in cases for name in case.answers}
    for model in models:
        allowed = {"case_id", *available, *(["answer"] if model.judges else [])}
        for template, key in ((model.prompt, "prompt"), (model.system or "", "system")):
            problems += [
                found.lines.problem(recipe.unknown_column(column, sorted(allowed)), "models", model.name, key)
                for column in dict.fromkeys(calls.columns(template))
                if column not in allowed
            ]
            problems += _empty(model, template, cases, path)
        if model.judges is not None and model.judges not in names | recorded:
            message = f"judges: nobody recorded or asks '{model.judges}'.{did_you_mean(model.judges, names | recorded)}"
            problems.append(found.lines.problem(message, "models", model.name, "judges"))
    if problems:
        raise DataError(problems)


def _empty(model: Model, template: str, cases: tuple[Case, ...], path: str) -> Iterator[Problem]:
    for column in dict.fromkeys(calls.columns(template)):
        empty = [case.case_id for case in cases if column in case.columns and case.columns[column] is None]
        if empty:
            message = (
                f"{len(empty):,} of {len(cases):,} cases have no '{column}', which the prompt of '{model.name}' names."
            )
            yield Problem(f"{message} First: {empty[0]}.", path)


def _cap(
    found: Recipe, max_usd: float | str | Decimal | None, max_calls: int | None, sheets: Mapping[str, Sheet]
) -> int | None:
    priced = [name for name, sheet in sheets.items() if not sheet.free]
    if priced and max_usd is None and max_calls is None:
        message = f"'{priced[0]}' costs money. Say how much may be spent: --max-usd 5, or --max-calls 1000."
        raise UsageError([found.lines.problem(message, "models", priced[0])])
    if max_usd is None:
        return None
    try:
        dollars = Decimal(str(max_usd))
    except InvalidOperation:
        dollars = Decimal("nan")
    if not dollars.is_finite() or not 0 <= dollars < MOST_USD:
        raise UsageError([Problem(f"--max-usd: {max_usd} is not an amount of dollars.")])
    # Down to whole nano-dollars: a cap is never rounded in favour of spending.
    return math.floor(dollars * NANO)


def refuse_other_questions(asked: Plan, past: Past) -> None:
    """Refuse to add to a journal whose calls were made with other settings.

    Raises
    ------
    UsageError
        Which models, and which of their settings changed.
    """
    changed: Counter[str] = Counter()
    for model in asked.models:
        for call in asked.calls(model, past):
            before = past.keys.get((asked.written(call.case.case_id), model.name, call.run))
            changed[model.name] += before is not None and before != call.key
    problems = [
        Problem(
            f"{count:,} calls of '{name}' were made with another {_difference(asked, past, name)}. Record into another "
            "folder (--output), or give the model another name.",
            str(asked.output),
        )
        for name, count in changed.items()
        if count
    ]
    if problems:
        raise UsageError(problems)


def _difference(asked: Plan, past: Past, name: str) -> str:
    now = settings_line(asked, next(model for model in asked.models if model.name == name))
    before: Mapping[str, Any] = past.settings.get(name, {})
    differing = [key for key in now if before and before.get(key) != now[key]]
    return ", ".join(f"'{key}'" for key in differing) or "question (the cases changed)"


def settings_line(asked: Plan, model: Model) -> Any:
    """Return the settings of a model as they stand in the log."""
    return scrubbing.scrub_json(calls.settings(model), asked.environ)
