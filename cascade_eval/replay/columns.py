"""What every cascade replayed on the same cases shares: signals, comparisons, charges, computed once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import pyarrow as pa

from cascade_eval import agreement, cohorts, costs, signals
from cascade_eval.counts import GROUPS
from cascade_eval.traffic import keys

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cascade_eval.cascade import Leaf, Tier
    from cascade_eval.cohorts import Codes
    from cascade_eval.traffic import Batch

T = TypeVar("T")

Calibrated = Callable[["Columns", "NDArray[np.floating]"], "NDArray[np.floating]"]
"""Turns the raw values of a gate into calibrated ones, case by case."""


@dataclass(frozen=True)
class Rules:
    """What replaying needs beside cascade and cases.

    Parameters
    ----------
    agreement
        When two answers agree.
    prices
        For calls without a recorded cost.
    calibrated
        Maps by ``(tier name, position of the leaf)``; gates without one compare the raw signal.
    """

    agreement: agreement.Rule
    prices: costs.Prices
    calibrated: Mapping[tuple[str, int], Calibrated] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Columns:
    """Columns computed at most once for a batch.

    Parameters
    ----------
    batch
        The cases.
    rules
        Agreement, prices and calibration maps.
    """

    batch: Batch
    rules: Rules
    kept: dict[tuple[Any, ...], Any] = field(default_factory=dict, repr=False)

    def _once(self, key: tuple[Any, ...], make: Callable[[], T]) -> T:
        if key not in self.kept:
            self.kept[key] = make()
        found: T = self.kept[key]
        return found

    def signal(self, leaf: Leaf, model: str) -> NDArray[np.floating]:
        """Raw value of a gate's signal, NaN where missing."""
        key = ("signal", leaf.signal.key, model)
        return self._once(key, lambda: signals.compute(leaf.signal, self.batch, model))

    def value(self, tier: Tier, position: int, leaf: Leaf) -> NDArray[np.floating]:
        """Value a gate compares: the signal, calibrated where the gate says so."""
        raw = self.signal(leaf, tier.model)
        calibrated = self.rules.calibrated.get((tier.name, position))
        if calibrated is None:
            return raw
        key = ("value", leaf.signal.key, tier.model, id(calibrated))
        return self._once(key, lambda: calibrated(self, raw))

    def agrees(self, model: str, flagship: str) -> NDArray[np.int8]:
        """1 agree, 0 disagree, -1 unknown, for a model's answers against the flagship's."""
        rule = self.rules.agreement
        return self._once(("agrees", model, flagship), lambda: agreement.compare(rule, self.batch, model, flagship))

    def charge(self, model: str, kind: str = "call") -> costs.Charge:
        """Cost of a recorded call, or of its extra samples."""
        price = costs.samples if kind == "samples" else costs.call
        return self._once(("charge", model, kind), lambda: price(self.batch, model, self.rules.prices))

    def quality(self, model: str) -> NDArray[np.floating]:
        """Graded quality of a model's answers from 0 to 1, NaN where unknown."""
        return self._once(("quality", model), lambda: agreement.quality(self.rules.agreement, self.batch, model))

    def latency(self, model: str) -> NDArray[np.floating]:
        """Seconds a model's call took, NaN where unknown."""
        return self._once(("latency", model), lambda: self.batch.numbers(model, "latency_s"))

    def status(self, model: str) -> NDArray[np.int8]:
        """How a model's call ended."""
        return self._once(("status", model), lambda: self.batch.status(model))

    def codes(self, family: tuple[str, ...]) -> Codes:
        """Cohort member of each case."""
        return self._once(("codes", family), lambda: cohorts.encode(self.batch, family))

    def hashes(self, name: str) -> NDArray[np.uint64]:
        """64-bit hash of a column of the case, as text; a null counts as a value of its own in each case."""
        return self._once(("hashes", name), lambda: _hashes(self.batch, name))

    def groups(self) -> NDArray[np.int64]:
        """Hash group of each case; dependent cases share one."""
        name = "cluster" if self.batch.has(None, "cluster") else "case_id"
        return self._once(("groups",), lambda: (self.hashes(name) >> np.uint64(32)).astype(np.int64) % GROUPS)

    def cached(self) -> NDArray[np.bool_]:
        """Where a cache in front of the cascade answered."""
        return self._once(("cached",), lambda: self.batch.flags(None, "cached")[0])

    def weights(self) -> NDArray[np.float64] | None:
        """Case weights, None where all are one."""
        return self._once(("weights",), lambda: _weights(self.batch))


def _hashes(batch: Batch, name: str) -> NDArray[np.uint64]:
    if name == "case_id" and batch.hashed is not None:
        return batch.hashed
    column = batch.arrow(None, name)
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    found: NDArray[np.uint64] = keys.hashes(column.cast(pa.string()))
    if name != "case_id" and column.null_count:
        missing = ~np.asarray(column.is_valid().to_numpy(zero_copy_only=False), dtype=np.bool_)
        found = np.where(missing, keys.hashes(batch.arrow(None, "case_id").cast(pa.string())), found)
    return found


def _weights(batch: Batch) -> NDArray[np.float64] | None:
    if not batch.has(None, "weight"):
        return None
    weight = batch.numbers(None, "weight").astype(np.float64)
    return np.where(np.isnan(weight), 1.0, weight)
