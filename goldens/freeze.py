"""Freeze made cases as a golden: `cases.parquet` and the `golden.yaml` that describes it."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow.compute as pc
import pyarrow.parquet as pq
from ruamel.yaml import YAML

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa

HERE = Path(__file__).parent


def write(
    folder: Path,
    table: pa.Table,
    *,
    description: str,
    recorded: dict[str, str],
    models: Sequence[str],
    cohorts: Sequence[str],
) -> None:
    """Write one golden; the same table always gives the same bytes with the same pyarrow."""
    folder.mkdir(parents=True, exist_ok=True)
    data = folder / "cases.parquet"
    pq.write_table(table, data, compression="zstd", compression_level=12)
    about = {
        "name": folder.name,
        "description": description,
        "licence": "Apache-2.0",
        "recorded": recorded,
        "models": list(models),
        "cases": table.num_rows,
        "cohorts": {column: count(table, column) for column in cohorts},
        "sha256": sha256([data]),
    }
    yaml = YAML()
    yaml.width = 110
    with (folder / "golden.yaml").open("w", encoding="utf-8", newline="\n") as file:
        yaml.dump(about, file)
    print(f"{folder}: {table.num_rows:,} cases, {data.stat().st_size:,} bytes")


def count(table: pa.Table, column: str) -> dict[str, int]:
    """Count the cases of each value, values in alphabetical order."""
    pairs = pc.value_counts(table[column]).to_pylist()
    return {str(pair["values"]): pair["counts"] for pair in sorted(pairs, key=lambda pair: str(pair["values"]))}


def sha256(files: Sequence[Path]) -> str:
    """Hash the bytes of the data files, in the order of their names."""
    digest = hashlib.sha256()
    for file in sorted(files, key=lambda file: file.as_posix()):
        digest.update(file.read_bytes())
    return digest.hexdigest()
