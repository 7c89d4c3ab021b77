"""The cap: a request is sent only where its worst case still fits beside everything spent, held and uncertain."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Ledger:
    """Money and requests of a recording, earlier runs included.

    Parameters
    ----------
    cap
        Nano-dollars that may be spent; None without a cap.
    most_requests
        Requests that may be sent; None without a cap.
    spent
        Nano-dollars that responses account for.
    uncertain
        Worst cases of requests nobody knows the price of: they may have been billed.
    requests
        Requests sent.
    reserved, under_way
        Worst cases of requests under way, and how many there are.

    Examples
    --------
    >>> ledger = Ledger(cap=100)
    >>> ledger.reserve(60), ledger.reserve(60)
    (True, False)
    >>> ledger.settle(60, 15)
    >>> ledger.reserve(60), ledger.reserve(30)
    (True, False)
    >>> ledger.settle(60, None)
    >>> ledger.spent, ledger.uncertain, ledger.committed
    (15, 60, 75)
    """

    cap: int | None = None
    most_requests: int | None = None
    spent: int = 0
    uncertain: int = 0
    requests: int = 0
    reserved: int = 0
    under_way: int = 0

    @property
    def committed(self) -> int:
        """Nano-dollars that may be gone: spent, uncertain, and held for requests under way."""
        return self.spent + self.uncertain + self.reserved

    def reserve(self, worst: int) -> bool:
        """Hold the worst case of a request about to be sent; False where a cap could break."""
        if self.most_requests is not None and self.requests >= self.most_requests:
            return False
        if self.cap is not None and self.committed + worst > self.cap:
            return False
        self.requests += 1
        self.reserved += worst
        self.under_way += 1
        return True

    def settle(self, worst: int, cost: int | None) -> None:
        """Give back what was held for a request: it cost this much, or None where nobody knows."""
        self.reserved -= worst
        self.under_way -= 1
        if cost is None:
            self.uncertain += worst
        else:
            self.spent += cost

    @property
    def may_change(self) -> bool:
        """Whether a request under way may still give something back."""
        return self.under_way > 0 and (self.most_requests is None or self.requests < self.most_requests)
