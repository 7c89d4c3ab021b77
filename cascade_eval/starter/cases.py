"""Cases of a made-up support desk, drawn from hashes: the same on every machine, with known truth.

For each case q is the chance that the small model gives the flagship's answer. English draws q from
.80 Beta(40, 1) + .20 Beta(2, 4), Portuguese from .55 Beta(40, 1) + .45 Beta(2, 4). A healthy small model reports q as its
confidence. A saturated one reports .82 + .12 q on the Beta(2, 4) part of the Portuguese cases: its answers do not
change, it has only stopped knowing when it is unsure.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

PORTUGUESE = 1 / 3
"""Share of Portuguese cases."""

BEGIN, WEEKS = dt.datetime(2026, 9, 7, tzinfo=dt.UTC), 4
"""The Monday on which the cases begin, and how many weeks they fill evenly."""

SURE, UNSURE = (40, 1), (2, 4)
"""Beta parameters of the two parts."""

UNSURE_SHARE = {"en": 0.20, "pt": 0.45}

STEPS = ("refund", "resend invoice", "trace parcel", "send label", "reset password")
"""The labels a model chooses from."""

REQUESTS = {
    "en": {
        "refund": "I paid twice for order {order}.",
        "resend invoice": "The invoice of order {order} never arrived.",
        "trace parcel": "Where is order {order}?",
        "send label": "Order {order} does not fit, it has to go back.",
        "reset password": "I cannot log in to look at order {order}.",
    },
    "pt": {
        "refund": "Paguei duas vezes a encomenda {order}.",
        "resend invoice": "A fatura da encomenda {order} nunca chegou.",
        "trace parcel": "Onde está a encomenda {order}?",
        "send label": "A encomenda {order} não serve, tem de voltar.",
        "reset password": "Não consigo entrar para ver a encomenda {order}.",
    },
}


def lines(cases: int, *, saturated: bool = False) -> str:
    """Return nested JSONL, one case a line.

    Parameters
    ----------
    cases
        How many.
    saturated
        Whether the small model is sure where it should not be; nothing else changes.

    Examples
    --------
    >>> json.loads(lines(1))["models"]["flagship"]["answer"]
    'resend invoice'
    """
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records(cases, saturated=saturated))


def records(cases: int, *, saturated: bool = False) -> Iterator[dict[str, Any]]:
    """Yield one record per case."""
    from scipy import special

    u = np.array([_uniforms(number) for number in range(cases)])
    language = np.where(u[:, 0] < PORTUGUESE, "pt", "en")
    unsure = u[:, 1] < np.where(language == "pt", UNSURE_SHARE["pt"], UNSURE_SHARE["en"])
    q = np.where(unsure, special.betaincinv(*UNSURE, u[:, 2]), special.betaincinv(*SURE, u[:, 2]))
    inflated = saturated & unsure & (language == "pt")
    confidence = np.where(inflated, 0.82 + 0.12 * q, q)
    for number in range(cases):
        step = int(u[number, 4] * len(STEPS))
        agrees = bool(u[number, 3] < q[number])
        decided = BEGIN + dt.timedelta(weeks=WEEKS) * number / cases
        record = _record(
            number, str(language[number]), step, float(confidence[number]), float(u[number, 5]), agrees=agrees
        )
        yield {**record, "decided_at": decided.isoformat(timespec="seconds")}


def _record(number: int, language: str, step: int, confidence: float, length: float, *, agrees: bool) -> dict[str, Any]:
    order = 10_000 + 7 * number
    cheap = step if agrees else (step + 1 + number % (len(STEPS) - 1)) % len(STEPS)
    tokens = 300 + round(200 * length)
    return {
        "case_id": f"{language}-{number:04}",
        "language": language,
        "input": REQUESTS[language][STEPS[step]].format(order=order),
        "models": {
            "mini": {
                "answer": STEPS[cheap],
                "confidence": round(confidence, 4),
                "input_tokens": tokens,
                "output_tokens": 8,
            },
            "flagship": {"answer": STEPS[step], "input_tokens": tokens, "output_tokens": 8},
        },
    }


def _uniforms(number: int) -> list[float]:
    """Six numbers in [0, 1) that only this case gives: a 48-byte BLAKE2b digest read as 64-bit words."""
    digest = hashlib.blake2b(f"starter\x1f{number}".encode(), digest_size=48).digest()
    return [int.from_bytes(digest[at : at + 8], "big") / 2**64 for at in range(0, 48, 8)]
