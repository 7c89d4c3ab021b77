"""Made traffic for the benchmarks: one row per case, two models, twenty cohorts, tied confidences."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

if TYPE_CHECKING:
    from pathlib import Path

COHORTS = [f"cohort-{i:02d}" for i in range(20)]
ROWS_PER_GROUP = 1_000_000


def wide(path: Path, cases: int, *, seed: int = 7) -> None:
    """Write so many cases in the wide form, a row group at a time."""
    writer = None
    for first in range(0, cases, ROWS_PER_GROUP):
        table = _table(first, min(ROWS_PER_GROUP, cases - first), np.random.default_rng([seed, first]))
        writer = writer or pq.ParquetWriter(path, table.schema, compression="snappy")
        writer.write_table(table, row_group_size=ROWS_PER_GROUP)
    if writer is not None:
        writer.close()


def long(path: Path, source: Path) -> None:
    """Write the same cases as one row per case and model, shuffled."""
    table = pq.read_table(source)
    parts = []
    for model in ("mini", "flagship"):
        mine = {"case_id": table["case_id"], "cohort": table["cohort"], "model": pa.array([model] * len(table))}
        for name in table.column_names:
            if name.startswith(f"{model}."):
                mine[name.removeprefix(f"{model}.")] = table[name]
        parts.append(pa.table(mine))
    both = pa.concat_tables(parts, promote_options="default")
    order = np.random.default_rng(3).permutation(len(both))
    pq.write_table(both.take(pa.array(order)), path, compression="snappy")


def _table(first: int, cases: int, rng: np.random.Generator) -> pa.Table:
    cohort = rng.choice(20, cases, p=np.arange(1, 21) / 210)
    confidence = np.round(rng.beta(5, 2, cases), 4)
    agrees = rng.random(cases) < np.clip(confidence + 0.1 - 0.02 * (cohort % 5), 0, 1)
    label = rng.integers(0, 12, cases)
    cheap = np.where(agrees, label, (label + 1 + rng.integers(0, 10, cases)) % 12)
    tokens = rng.lognormal(5.5, 0.8, cases).astype(np.int64) + 1

    def text(codes: np.ndarray) -> pa.Array:
        return pa.DictionaryArray.from_arrays(codes.astype(np.int32), [f"label-{i}" for i in range(12)])

    return pa.table(
        {
            "case_id": pa.array(np.char.add("case-", (np.arange(cases) + first).astype(str))),
            "cohort": pa.DictionaryArray.from_arrays(cohort.astype(np.int32), COHORTS),
            "mini.answer": text(cheap),
            "mini.confidence": confidence,
            "mini.cost_usd": tokens * 1e-7,
            "mini.latency_s": rng.lognormal(-1, 0.5, cases),
            "flagship.answer": text(label),
            "flagship.cost_usd": tokens * 1.5e-6,
            "flagship.latency_s": rng.lognormal(0.5, 0.5, cases),
        }
    )
