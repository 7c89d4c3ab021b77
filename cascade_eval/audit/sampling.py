"""Which cases an audit asks the flagship about: seeded, without replacement, with the chance each had."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
import pyarrow as pa

from cascade_eval import agreement, cohorts, traffic
from cascade_eval.audit import files, window
from cascade_eval.errors import Problem, UsageError
from cascade_eval.traffic import Field
from cascade_eval.traffic.batch import array

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from cascade_eval.audit.plans import Plan
    from cascade_eval.audit.window import Window
    from cascade_eval.cascade import Cascade
    from cascade_eval.replay import Replay
    from cascade_eval.traffic import Batch, Traffic

FILLED: Final[Mapping[str, pa.DataType]] = {
    "answer": pa.string(),
    "status": pa.string(),
    "score": pa.float64(),
    "cost_usd": pa.float64(),
    "input_tokens": pa.int64(),
    "output_tokens": pa.int64(),
    "latency_s": pa.float64(),
}
"""Columns of the flagship that someone fills in, empty in a sample; `score` only where scores are compared."""

REQUIRED: Final = (
    "audit_stratum", "audit_probability", "audit_population", "audit_drawn", "audit_left_out", "audit_model",
    "audit_cascade", "audit_drawn_at", "audit_served_by",
)  # fmt: skip
"""Columns without which a file is no sample."""

SEED: Final = "audit_seed"
"""Column of the seed; samples of earlier versions may lack it."""

PLANNED: Final = "audit_plan_seed"
"""Column of the seed the plan would have it drawn by; samples of earlier versions may lack it."""

KEPT: Final = ("input", "weight", "cluster", "decided_at")
"""Case columns a sample keeps where they exist."""


class Drawn(NamedTuple):
    """One stratum of a sample: its cohort, unescalated cases of the window, cases drawn."""

    cohort: Mapping[str, str]
    population: int
    cases: int


@dataclass(frozen=True, eq=False)
class Sample:
    """Cases to ask the flagship about.

    Parameters
    ----------
    batch
        The cases, in random order: ids, cohorts, input, the served answer, and the columns named ``audit_…``.
    """

    batch: Batch

    @property
    def cases(self) -> int:
        """How many were drawn."""
        return self.batch.cases

    @property
    def ids(self) -> list[str]:
        """Their case ids."""
        found: list[str] = self.batch.arrow(None, "case_id").to_pylist()
        return found

    @property
    def cascade(self) -> str:
        """Name of the cascade whose unescalated cases these are."""
        return self.constant("audit_cascade")

    @property
    def model(self) -> str:
        """The model to ask."""
        return self.constant("audit_model")

    @property
    def judge(self) -> str | None:
        """The model that judges agreement, None where answers are compared."""
        return self.constant("audit_judge") or None

    @property
    def seed(self) -> str | None:
        """What it was drawn by; None where it does not say."""
        return self.constant(SEED) if self.batch.has(None, SEED) else None

    @property
    def planned_seed(self) -> str | None:
        """What its plan would have it drawn by; None where it does not say."""
        return self.constant(PLANNED) if self.batch.has(None, PLANNED) else None

    @cached_property
    def drawn_at(self) -> dt.datetime:
        """When it was drawn."""
        return dt.datetime.fromisoformat(self.constant("audit_drawn_at"))

    @cached_property
    def per(self) -> tuple[str, ...]:
        """Cohort columns it is stratified by."""
        return tuple(next(iter(self.strata)).cohort)

    @cached_property
    def strata(self) -> tuple[Drawn, ...]:
        """Its strata, those without a case left out, in order of their text."""
        found = []
        for code, name in enumerate(self._names):
            first = int(np.argmax(self.codes == code))
            population = int(self.batch.integers(None, "audit_population")[0][first])
            found.append(Drawn(json.loads(name), population, int((self.codes == code).sum())))
        return tuple(found)

    @cached_property
    def codes(self) -> NDArray[np.int64]:
        """Stratum of each case, shape (n_cases,)."""
        codes, values = self.batch.codes(None, "audit_stratum")
        place = {name: at for at, name in enumerate(self._names)}
        return np.array([place[str(value)] for value in values], dtype=np.int64)[codes]

    @cached_property
    def _names(self) -> list[str]:
        return sorted(map(str, self.batch.codes(None, "audit_stratum")[1]))

    @property
    def left_out(self) -> tuple[str, ...]:
        """Strata of the plan, as text, of which no case was drawn."""
        return tuple(json.loads(self.constant("audit_left_out")))

    @property
    def probability(self) -> NDArray[np.float64]:
        """Chance each case had to be drawn, shape (n_cases,)."""
        return self.batch.numbers(None, "audit_probability").astype(np.float64)

    def constant(self, name: str) -> str:
        """Return what a column says that is the same in every row."""
        return str(self.batch.text(None, name, 0) or "")

    def write(self, path: str | Path) -> Path:
        """Write the sample whole or not at all: Parquet, or JSONL where the name ends so."""
        return files.write(path, self.batch)


def sample(
    plan: Plan,
    of: Window,
    traffic: Traffic,
    *,
    seed: int | str | None = None,
    judge: str | None = None,
    now: dt.datetime | None = None,
) -> Sample:
    """Draw the cases of a plan from the unescalated cases of a window.

    Each case gets a number, the BLAKE2b hash of its id keyed by the seed; of each cohort those with the smallest numbers
    are drawn. So the sample depends on neither the order of the cases nor how they are cut into pieces, and a larger
    plan's sample contains a smaller one's.

    Parameters
    ----------
    plan
        From `plan`, of this window or an earlier one.
    of
        A replay of the window, or replays of its pieces.
    traffic
        The cases themselves, for ids, inputs and answers.
    seed
        The plan's own unless given: a sample that anyone would draw. Another one is named wherever the sample is read.
    judge
        A model that judges whether answers agree, where agreement is ``judged``. It may be no tier.
    now
        The present by default.

    Returns
    -------
    Sample

    Raises
    ------
    UsageError
        The judge is a tier, the window has a cohort the plan does not know, or the traffic was audited before.
    """
    if Field(None, "audit_probability") in traffic.fields:
        raise UsageError(
            f"{traffic.name} declares an audit already (audit_probability), and is judged as it is: by pytest, monitor and threshold. "
            "To draw another, take that column out of the data, or out of 'columns:' where it is named there."
        )
    strata = window.Strata(plan.per, [_text(stratum.cohort) for stratum in plan.strata])
    wanted = np.array([stratum.calls for stratum in plan.strata], dtype=np.int64)
    seed = plan.seed if seed is None else seed
    lots = _Lots(wanted, seed)
    cascade = rule = None
    for piece in window.pieces(of):
        if cascade is None:
            cascade, rule = piece.cascade, piece.columns.rules.agreement
            _refuse_other(plan, cascade)
            refuse_judge(judge, cascade)
        _draw(lots, piece, strata)
    assert cascade is not None
    assert rule is not None
    if lots.unplanned:
        names = ", ".join(sorted(lots.unplanned)[:10])
        raise UsageError(
            f"the plan knows nothing of {names}, which has unescalated cases in this window: plan again, or pool small "
            "cohorts."
        )
    chosen = lots.chosen()
    if not len(chosen.position):
        raise UsageError("none of the plan's cohorts has an unescalated case in this window: plan again.")
    table = _table(plan, cascade, rule, traffic, chosen, lots)
    silent = (lots.drawn == 0) & (lots.population > 0)
    left_out = [_text(plan.strata[at].cohort) for at in np.flatnonzero(silent).tolist()]
    constants = {
        "audit_left_out": json.dumps(left_out, ensure_ascii=False),
        "audit_model": plan.model,
        "audit_cascade": plan.cascade,
        SEED: str(seed),
        PLANNED: plan.seed,
        "audit_drawn_at": (now or dt.datetime.now(dt.UTC)).isoformat(timespec="seconds"),
        "audit_window": traffic.sha256(),
        "audit_judge": judge or "",
    }
    for name, value in constants.items():
        table[name] = pa.array([value] * len(chosen.position), pa.string())
    return Sample(files.batch(pa.table(table), "sample"))


def _refuse_other(plan: Plan, cascade: Cascade) -> None:
    if (plan.cascade, plan.model) != (cascade.name, cascade.flagship.model):
        raise UsageError(
            f"the plan is for '{plan.cascade}' and asks '{plan.model}'; this window was replayed through '{cascade.name}' with "
            f"'{cascade.flagship.model}'. Plan again."
        )


def refuse_judge(judge: str | None, cascade: Cascade) -> None:
    """Refuse a judge that is a tier: it would grade its own answers, or those it is compared with."""
    if judge is not None and judge in {tier.model for tier in cascade.tiers}:
        raise UsageError(
            f"'{judge}' judges whether answers agree and is a tier of '{cascade.name}' as well: it would grade itself. "
            "Name another judge."
        )


def numbers(ids: list[str], seed: int | str) -> NDArray[np.uint64]:
    """Return each case's number, shape (n_ids,): the hash of its id keyed by the seed."""
    key = hashlib.blake2b(str(seed).encode()).digest()
    digests = [hashlib.blake2b(name.encode(), digest_size=8, key=key).digest() for name in ids]
    return np.frombuffer(b"".join(digests), dtype=">u8").astype(np.uint64)


class _Chosen(NamedTuple):
    """Cases drawn, each array of shape (n_drawn,)."""

    position: NDArray[np.int64]
    stratum: NDArray[np.int64]
    server: NDArray[np.int64]


class _Lots:
    """The cases with the smallest numbers so far, stratum by stratum."""

    def __init__(self, wanted: NDArray[np.int64], seed: int | str) -> None:
        self.wanted = wanted
        self.seed = seed
        self.population = np.zeros(len(wanted), dtype=np.int64)
        self.unplanned: set[str] = set()
        self._kept = np.zeros((4, 0), dtype=np.uint64)

    @property
    def drawn(self) -> NDArray[np.int64]:
        """Cases drawn from each stratum."""
        return np.minimum(self.wanted, self.population)

    def add(
        self,
        number: NDArray[np.uint64],
        position: NDArray[np.int64],
        stratum: NDArray[np.int64],
        server: NDArray[np.int64],
    ) -> None:
        """Add the unescalated cases of a piece, and keep the smallest numbers of each stratum."""
        self.population += np.bincount(stratum, minlength=len(self.wanted))
        new = np.stack([number, *(part.astype(np.uint64) for part in (position, stratum, server))])
        every = np.concatenate([self._kept, new], axis=1)
        # By stratum, then by number; equal numbers, which do not happen, by position.
        every = every[:, np.lexsort((every[1], every[0], every[2]))]
        size = np.bincount(every[2].astype(np.int64), minlength=len(self.wanted))
        rank = np.arange(every.shape[1]) - np.repeat(np.cumsum(size) - size, size)
        self._kept = every[:, rank < self.wanted[every[2].astype(np.int64)]]

    def chosen(self) -> _Chosen:
        """Return the drawn cases in the order of their numbers, which is random."""
        kept = self._kept[:, np.argsort(self._kept[0], kind="stable")].astype(np.int64)
        return _Chosen(kept[1], kept[2], kept[3])


def _draw(lots: _Lots, piece: Replay, strata: window.Strata) -> None:
    rows = np.flatnonzero(window.unescalated(piece))
    if not len(rows):
        return
    codes = strata.codes(piece)[rows]
    if (codes < 0).any():
        own = piece.columns.codes(strata.family)
        lots.unplanned |= {cohorts.label(strata.family, own.members[m]) for m in np.unique(own.codes[rows[codes < 0]])}
        return
    batch = piece.columns.batch
    ids = batch.arrow(None, "case_id").take(array(rows.astype(np.int64))).to_pylist()
    lots.add(numbers(ids, lots.seed), rows + batch.first, codes, piece.decisions.settled[rows].astype(np.int64))


def _text(cohort: Mapping[str, str]) -> str:
    return window.text(tuple(cohort), tuple(cohort.values()))


def _table(
    plan: Plan, cascade: Cascade, rule: agreement.Rule, traffic: Traffic, chosen: _Chosen, lots: _Lots
) -> dict[str, pa.Array]:
    """Columns of the sample's file but the constant ones."""
    flagship = cascade.flagship.model
    cheap = list(dict.fromkeys(tier.model for tier in cascade.tiers[:-1]))
    compared = {need for model in cheap for need in agreement.needs(rule, model, flagship)}
    served = {need for need in compared if need.model != flagship and need.name != "agrees"}
    served |= {Field(model, name) for model in cheap for name in ("answer", "status")}
    case = {Field(None, name) for name in KEPT} | cohorts.needs(plan.per)
    found = traffic.rows(chosen.position.tolist(), (served | case) & traffic.fields)
    table: dict[str, pa.Array] = files.columns(found)
    models = np.array([tier.model for tier in cascade.tiers])
    table["audit_served_by"] = pa.array(models[chosen.server].tolist(), pa.string())
    table["audit_stratum"] = pa.array([_text(plan.strata[s].cohort) for s in chosen.stratum.tolist()], pa.string())
    table["audit_probability"] = array((lots.drawn / np.maximum(lots.population, 1))[chosen.stratum])
    table["audit_population"] = array(lots.population[chosen.stratum])
    table["audit_drawn"] = array(lots.drawn[chosen.stratum])
    fill = {f"{flagship}.{name}": kind for name, kind in FILLED.items() if name != "score" or rule.kind == "within"}
    if rule.kind == "judged":
        fill |= {f"{model}.agrees": pa.bool_() for model in cheap}
    return table | {name: pa.nulls(len(chosen.position), kind) for name, kind in fill.items()}


def load(path: str | Path) -> Sample:
    """Read a sample back.

    Raises
    ------
    UsageError
        The file cannot be read, is no sample, or rows of it are gone or changed: a sample is read whole or not at all.
    """
    opened = traffic.open(path)
    missing = [name for name in REQUIRED if Field(None, name) not in opened.fields]
    if missing:
        raise UsageError([Problem(f"is not a sample of an audit: it has no column '{missing[0]}'", str(path))])
    found = Sample(opened.read())
    _refuse_incomplete(found, str(path))
    return found


def _refuse_incomplete(found: Sample, path: str) -> None:
    drawn, known = found.batch.integers(None, "audit_drawn")
    population, _ = found.batch.integers(None, "audit_population")
    for code, stratum in enumerate(found.strata):
        mine = found.codes == code
        counts = {(int(n), int(size)) for n, size in zip(drawn[mine], population[mine], strict=True)}
        if not known[mine].all() or counts != {(stratum.cases, stratum.population)}:
            said = ", ".join(f"{n:,} of {size:,}" for n, size in sorted(counts))
            message = f"has {stratum.cases:,} rows of stratum {json.dumps(stratum.cohort)}, and says it drew {said}"
            raise UsageError([Problem(f"{message}: rows were removed, added or changed. Sample again.", path)])
    expected = drawn / np.maximum(population, 1)
    if not np.allclose(found.probability, expected, rtol=1e-9):
        raise UsageError([Problem("the column 'audit_probability' was changed. Sample again.", path)])
