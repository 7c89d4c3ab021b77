"""Make the incident goldens: sixteen weeks of a support cascade that saturates, with known truth.

A made-up shop sorts support requests: a model reads what a customer wrote and names the next step. A small model
(`mini`) answers first and a gate on its confidence escalates the unsure cases to `flagship`. Nothing here was ever
asked of a real model: every number is drawn from a hash, so that the true rates are known and two machines agree.

=========  =======================================================================================
weeks      what happens
=========  =======================================================================================
1 to 6     launch: 5% of the requests are in Portuguese
7 to 10    growth: Portuguese rises to 20%, and `mini` knows when it is unsure in both languages
11 to 16   saturated: `mini` reports .80 to .92 on the Portuguese requests it used to be unsure of
=========  =======================================================================================

How a case is drawn: q is the chance that `mini` gives the flagship's answer. English draws q from
.72 Beta(30, 1) + .28 Beta(3, 5), Portuguese from .30 Beta(30, 1) + .70 Beta(5, 4). A healthy `mini` reports q as
its confidence. A saturated one reports .80 + .12 q on the Beta(5, 4) part; its answers do not change. At every
threshold the true escalation and disagreement follow from the Beta distribution alone.

Three goldens: `incident` (weeks 1 to 10), `incident_saturated` (weeks 11 to 16), and `incident_mix_shift`, which is
weeks 11 to 16 with the same cases and answers and a healthy `mini`: what a change of traffic looks like when nothing
is wrong.

Run it with ``python goldens/make_incident.py [folder]``.
"""

from __future__ import annotations

import hashlib
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import freeze
import numpy as np
import pyarrow as pa
from scipy.stats import beta

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

CASES_A_WEEK = 1_500
PORTUGUESE = (0.05,) * 6 + (0.0875, 0.125, 0.1625, 0.20) + (0.20,) * 6
"""Share of Portuguese requests, week by week."""

FIRST_WEEK = datetime(2026, 7, 6, tzinfo=UTC)
WEEK_S = 7 * 24 * 3600

COHORT_KEY = {"en": "a", "pt": "b"}
"""The key under which the hash knows each language."""

MIXTURE = {"en": (0.72, (30, 1), (3, 5)), "pt": (0.30, (30, 1), (5, 4))}
"""Weight of the first part, its Beta parameters, the second part's."""

INTENTS = {"billing": 0.35, "delivery": 0.30, "returns": 0.20, "account": 0.15}
"""What the customer picked in the contact form, and how often."""

STEPS = {
    "billing": ("refund", "resend invoice", "explain charge"),
    "delivery": ("trace parcel", "ship again", "change address"),
    "returns": ("send label", "exchange item", "extend deadline"),
    "account": ("reset password", "change email", "delete account"),
}
"""The labels a model chooses from."""

FLAGSHIP_RIGHT = 0.96
PRICES = {"mini": (0.10, 0.40), "flagship": (2.00, 8.00)}
"""Made-up dollars per million input and output tokens."""

REQUESTS = {
    "en": {
        "refund": "I was charged twice for order {order}. Please send one payment back.",
        "resend invoice": "I cannot find the invoice for order {order}, I need it for my taxes.",
        "explain charge": "There is a fee on order {order} that I do not recognise.",
        "trace parcel": "Order {order} left your warehouse {days} days ago and nobody knows where it is.",
        "ship again": "The parcel of order {order} came back to you, please send it once more.",
        "change address": "I moved house. Order {order} has to go to my new street.",
        "send label": "The shoes of order {order} are too small. How do I return them?",
        "exchange item": "Order {order} came in blue, I would like it in green instead.",
        "extend deadline": "I am travelling for {days} more days, can order {order} go back later?",
        "reset password": "I am locked out since {days} days and the link never comes.",
        "change email": "Please write to my other mailbox from now on, order {order} too.",
        "delete account": "I want to leave. Remove everything you store about me, order {order} included.",
    },
    "pt": {
        "refund": "A encomenda {order} foi cobrada duas vezes. Quero um dos pagamentos de volta.",
        "resend invoice": "Perdi a fatura da encomenda {order} e preciso dela para os impostos.",
        "explain charge": "Há uma taxa na encomenda {order} que não conheço.",
        "trace parcel": "A encomenda {order} saiu há {days} dias e ninguém sabe onde está.",
        "ship again": "O pacote da encomenda {order} voltou para trás, enviem outra vez por favor.",
        "change address": "Mudei de casa. A encomenda {order} tem de ir para a nova rua.",
        "send label": "Os sapatos da encomenda {order} ficam apertados. Como os devolvo?",
        "exchange item": "A encomenda {order} veio em azul, prefiro trocar por verde.",
        "extend deadline": "Estou fora mais {days} dias, posso devolver a encomenda {order} depois?",
        "reset password": "Há {days} dias que não consigo entrar e o link nunca chega.",
        "change email": "Escrevam para o meu outro correio, também sobre a encomenda {order}.",
        "delete account": "Quero sair. Apaguem tudo sobre mim, a encomenda {order} também.",
    },
}
GREETINGS = {"en": ("", "Hello, ", "Hi there! "), "pt": ("", "Olá, ", "Boa tarde! ")}

COHORTS = ("language", "intent")
RECORDED = {
    "how": "made by goldens/make_incident.py from BLAKE2b hashes; no model was asked",
    "when": "the clock of the made traffic: {first} to {last}",
}


def uniforms(*key: str) -> tuple[float, float, float]:
    """Three numbers in [0, 1) that only this key gives: a 24-byte BLAKE2b digest read as three 64-bit words."""
    digest = hashlib.blake2b("\x1f".join(key).encode(), digest_size=24).digest()
    first, second, third = (int.from_bytes(digest[i : i + 8], "big") / 2**64 for i in (0, 8, 16))
    return first, second, third


def draw(weeks: Iterable[int], *, saturated: bool) -> pa.Table:
    """Draw all cases of these weeks; `saturated` says what `mini` reports, and changes nothing else."""
    cases = [request(week, i) for week in weeks for i in range(CASES_A_WEEK)]
    language = np.array([case["language"] for case in cases])
    part, level, agree = np.array([uniforms(case["case_id"], COHORT_KEY[case["language"]]) for case in cases]).T
    q, unsure = agreement_chance(language, part, level)
    inflated = unsure & (language == "pt") & saturated
    rows = [
        {
            **case,
            "truth": "saturated" if inflated[i] else "healthy",
            **answers(case, agrees=bool(agree[i] < q[i])),
            "mini.confidence": round(float(0.80 + 0.12 * q[i] if inflated[i] else q[i]), 6),
            **calls(case["case_id"], hardness=1 - float(q[i])),
        }
        for i, case in enumerate(cases)
    ]
    return as_table(rows)


def request(week: int, i: int) -> dict[str, Any]:
    """Return what is known before any model is asked about the i-th case of a week."""
    case_id = f"q{(week - 1) * CASES_A_WEEK + i}"
    which_language, which_intent, which_step = uniforms(case_id, "request")
    language = "pt" if which_language < PORTUGUESE[week - 1] else "en"
    intent = pick(list(INTENTS), which_intent, list(INTENTS.values()))
    step = pick(STEPS[intent], which_step)
    greeting, order, moment = uniforms(case_id, "text")
    text = REQUESTS[language][step].format(order=10_000 + int(order * 90_000), days=2 + int(moment * 12))
    seconds = (week - 1 + (i + moment) / CASES_A_WEEK) * WEEK_S
    return {
        "case_id": case_id,
        "week": week,
        "decided_at": FIRST_WEEK.timestamp() + seconds,
        "language": language,
        "intent": intent,
        "input": pick(GREETINGS[language], greeting) + text,
        "expected": step,
    }


def agreement_chance(
    language: NDArray[np.str_], part: NDArray[np.float64], level: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Chance of the flagship's answer, and which cases belong to the part that `mini` is unsure of."""
    q = np.empty(len(language))
    unsure = np.empty(len(language), dtype=np.bool_)
    for name, (weight, sure_shape, unsure_shape) in MIXTURE.items():
        of = language == name
        unsure[of] = part[of] >= weight
        q[of] = np.where(unsure[of], beta.ppf(level[of], *unsure_shape), beta.ppf(level[of], *sure_shape))
    return q, unsure


def answers(case: dict[str, Any], *, agrees: bool) -> dict[str, str]:
    """Both models' labels: the flagship is usually right, and `mini` gives its answer where `agrees` says so."""
    steps, right = STEPS[case["intent"]], case["expected"]
    flagship_right, which_wrong, which_other = uniforms(case["case_id"], "answers")
    wrong = [step for step in steps if step != right]
    flagship = right if flagship_right < FLAGSHIP_RIGHT else pick(wrong, which_wrong)
    other = [step for step in steps if step != flagship]
    return {"mini.answer": flagship if agrees else pick(other, which_other), "flagship.answer": flagship}


def calls(case_id: str, *, hardness: float) -> dict[str, float | int]:
    """Tokens, dollars and seconds of both calls; harder requests are longer, so escalated cases are dearer."""
    length, mini_words, flagship_words = uniforms(case_id, "tokens")
    mini_wait, flagship_wait, _ = uniforms(case_id, "latency")
    read = 250 + int(450 * length + 150 * hardness)
    wrote = {"mini": 15 + int(20 * mini_words), "flagship": 25 + int(40 * flagship_words + 20 * hardness)}
    # Waiting has an exponential tail, as shared servers have.
    took = {
        "mini": 0.20 + 0.008 * wrote["mini"] - 0.15 * float(np.log1p(-mini_wait)),
        "flagship": 0.70 + 0.020 * wrote["flagship"] - 0.60 * float(np.log1p(-flagship_wait)),
    }
    columns: dict[str, float | int] = {}
    for model, (price_in, price_out) in PRICES.items():
        columns[f"{model}.input_tokens"] = read
        columns[f"{model}.output_tokens"] = wrote[model]
        columns[f"{model}.cost_usd"] = round((read * price_in + wrote[model] * price_out) / 1e6, 9)
        columns[f"{model}.latency_s"] = round(took[model], 3)
    return columns


def pick(among: Sequence[str], u: float, weights: Sequence[float] | None = None) -> str:
    """Choose by a number in [0, 1), evenly or by weights that sum to 1."""
    if weights is None:
        return among[int(u * len(among))]
    return among[min(int(np.searchsorted(np.cumsum(weights), u, side="right")), len(among) - 1)]


def as_table(rows: list[dict[str, Any]]) -> pa.Table:
    """Put the rows into columns; models side by side, the clock as a timestamp with its zone."""
    order = [*(key for key in rows[0] if "." not in key)]
    order += [key for model in PRICES for key in rows[0] if key.startswith(f"{model}.")]
    columns = {key: [row[key] for row in rows] for key in order}
    columns["decided_at"] = [round(second * 1000) for second in columns["decided_at"]]
    table = pa.table(columns)
    clock = table["decided_at"].cast(pa.timestamp("ms", tz="UTC"))
    return table.set_column(table.schema.get_field_index("decided_at"), "decided_at", clock)


GOLDENS = {
    "incident": (
        range(1, 11),
        False,
        "Ten healthy weeks of a support cascade: launch with 5% Portuguese, then growth to 20%.",
    ),
    "incident_saturated": (
        range(11, 17),
        True,
        "The six weeks after: mini reports .80 to .92 on Portuguese requests it used to be unsure of.",
    ),
    "incident_mix_shift": (
        range(11, 17),
        False,
        "The same six weeks with a healthy mini: 20% Portuguese, nothing wrong inside a language.",
    ),
}


def main(out: Path) -> None:
    """Write the three goldens into a folder."""
    for name, (weeks, saturated, description) in GOLDENS.items():
        table = draw(weeks, saturated=saturated)
        span = {end: str(table["decided_at"][i].as_py().date()) for end, i in (("first", 0), ("last", -1))}
        recorded = {key: text.format(**span) for key, text in RECORDED.items()}
        freeze.write(
            out / name, table, description=description, recorded=recorded, models=list(PRICES), cohorts=COHORTS
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else freeze.HERE)
