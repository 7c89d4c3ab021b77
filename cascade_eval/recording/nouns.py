"""What is asked, what came back, and what a recording amounts to."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from cascade_eval.suite.text import Lines

Status: TypeAlias = Literal["ok", "timeout", "error", "refused"]

NANO: Final = 1_000_000_000
"""Nano-dollars in a dollar: money is integer until it is shown."""

LINE_COLUMNS: Final = frozenset(
    {
        "call", "asked_at", "attempts", "waited_s", "reason", "finish_reason", "served_model", "cost_at_most_usd",
        "top_logprobs",
    }
)  # fmt: skip
"""Columns a line has beside those of recorded traffic."""


@dataclass(frozen=True)
class Model:
    """A model to ask, and how.

    Parameters
    ----------
    name
        What it is called in the recorded traffic.
    client
        ``openai`` for any server with that interface, or ``anthropic``.
    model
        The id that is sent.
    base_url
        Where; the provider's own address where None.
    api_key_env
        Environment variable that holds the key.
    prompt, system
        Templates: ``{input}`` and any other column of the case. A judge's prompt also knows ``{answer}``.
    max_output_tokens
        Sent with every call, so that the worst case of a call is known.
    temperature, top_p, seed
        Sent where given; the seed of a call is made from `seed`, its prompt and its repeat.
    logprobs
        None asks for none; else how many alternatives per token beside the chosen one.
    samples
        How many times the same question is asked again, for self-consistency.
    timeout
        Seconds after which a call is recorded as timed out.
    concurrency
        Calls at a time.
    attempts
        Requests of one call at most, where earlier ones surely were not billed.
    stream
        Whether the answer is streamed.
    price
        As in a suite's ``prices:``; None looks the id up in the bundled table.
    judges
        Whose answers this model grades.
    scored
        Whether the first number in a judge's answer is its `score`.
    extra
        Further fields of the request.
    """

    name: str
    client: Literal["openai", "anthropic"]
    model: str
    base_url: str | None = None
    api_key_env: str | None = None
    prompt: str = "{input}"
    system: str | None = None
    max_output_tokens: int = 1024
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    logprobs: int | None = None
    samples: int = 0
    timeout: float = 60.0
    concurrency: int = 4
    attempts: int = 6
    stream: bool = False
    price: Mapping[str, Any] | None = None
    judges: str | None = None
    scored: bool = False
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Recipe:
    """What to ask whom.

    Parameters
    ----------
    name
        The file, as the user named it.
    base
        Folder that its paths are relative to.
    models
        In written order.
    cases, output
        Path of the cases, and the folder to record into; None where the command line says them.
    lines
        Where everything stands.
    """

    name: str
    base: Path
    models: tuple[Model, ...]
    cases: str | None
    output: str | None
    lines: Lines


@dataclass(frozen=True)
class Case:
    """A case to ask about.

    Parameters
    ----------
    case_id
        Unique.
    columns
        Columns of the case, as values JSON can hold.
    answers
        Answers recorded before, by model: what a judge may grade.
    """

    case_id: str
    columns: Mapping[str, Any]
    answers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Call:
    """One question to one model, asked once.

    Parameters
    ----------
    key
        Hash of the case's id, the model's settings, the rendered prompt and the repeat: a call that has a line in the
        journal is never made again.
    case
        The case.
    model
        The model.
    run
        Repeat, from 0.
    body
        The request as sent.
    worst
        Nano-dollars that one request can cost at most.
    """

    key: str
    case: Case
    model: Model
    run: int
    body: Mapping[str, Any]
    worst: int


class Usage(NamedTuple):
    """Tokens a response says it used; `input` includes those read from a cache and those written into one."""

    input: int
    cached: int
    output: int
    written: int = 0


@dataclass(frozen=True)
class Reply:
    """What became of one request.

    Parameters
    ----------
    status
        As in recorded traffic.
    answer
        Its text.
    usage
        Tokens, where the response said them.
    billed
        Whether the request was billed: by its usage (``usage``), surely not (``nothing``), or nobody knows
        (``unknown``).
    reason
        What went wrong.
    again
        Whether asking again may help and costs nothing twice.
    after
        Seconds the server asked to wait.
    hopeless
        Whether every further call of this model would end the same way: a wrong key, an unknown model.
    finish, served
        Why the answer ended, and which model the server says answered.
    token_logprobs, top_logprobs
        Natural-log probabilities of the tokens, and of their alternatives.
    """

    status: Status
    answer: str | None = None
    usage: Usage | None = None
    billed: Literal["usage", "nothing", "unknown"] = "unknown"
    reason: str | None = None
    again: bool = False
    after: float | None = None
    hopeless: bool = False
    finish: str | None = None
    served: str | None = None
    token_logprobs: tuple[float, ...] | None = None
    top_logprobs: tuple[tuple[float, ...], ...] | None = None


@dataclass(frozen=True)
class Progress:
    """How far a recording is.

    Parameters
    ----------
    done, total
        Finished calls, those of earlier runs included, and all there are.
    failed
        Finished calls that timed out or failed.
    requests
        Requests sent, in all runs.
    spent, reserved, cap
        Nano-dollars: known to be spent or possibly spent; held for requests under way; the most allowed, None without.
    seconds
        Since this run began.
    asked
        Calls this run finished.
    """

    done: int
    total: int
    failed: int
    requests: int
    spent: int
    reserved: int
    cap: int | None
    seconds: float
    asked: int


@dataclass(frozen=True)
class Recording:
    """What a recording amounts to, earlier runs included.

    Parameters
    ----------
    output
        The folder.
    journal
        The recorded traffic in it.
    total
        Calls the recipe and the cases come to.
    statuses
        Finished calls by model and status.
    unasked
        Calls without a line, by model.
    ungraded
        Calls of judges that have no answer to grade, because the model they judge gave none.
    requests
        Requests sent, retries included.
    spent
        Nano-dollars that responses account for.
    uncertain
        Nano-dollars that requests without a known price can have cost at most; they count against the cap.
    unpriced, unheard
        How many such requests there are: with a line, and without one (under way when a process ended).
    reasons
        Why calls were not made, or failed, and how many.
    interrupted
        Whether this run was stopped.
    notes
        What a reader should know, one sentence each.
    """

    output: Path
    journal: Path
    total: int
    statuses: Mapping[tuple[str, str], int]
    unasked: Mapping[str, int]
    ungraded: int = 0
    requests: int = 0
    spent: int = 0
    uncertain: int = 0
    unpriced: int = 0
    unheard: int = 0
    reasons: Mapping[str, int] = field(default_factory=Counter)
    interrupted: bool = False
    notes: tuple[str, ...] = ()

    @property
    def failed(self) -> int:
        """Finished calls that timed out or failed; a refusal is an answer."""
        return sum(count for (_, status), count in self.statuses.items() if status in {"timeout", "error"})

    @property
    def outcome(self) -> Literal["complete", "failures", "unasked", "interrupted"]:
        """`complete` only where every call was made and answered."""
        if self.interrupted:
            return "interrupted"
        if any(self.unasked.values()):
            return "unasked"
        return "failures" if self.failed else "complete"

    @property
    def spent_usd(self) -> float:
        """Dollars that responses account for."""
        return self.spent / NANO

    @property
    def uncertain_usd(self) -> float:
        """Dollars that may have been spent beside them, at most."""
        return self.uncertain / NANO
