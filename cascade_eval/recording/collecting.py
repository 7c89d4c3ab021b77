"""A journal as a table of aligned cases: repeats folded into `samples`, beside what the cases had before."""

from __future__ import annotations

import io
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from cascade_eval import atomic, traffic
from cascade_eval.audit import files
from cascade_eval.errors import DataError, Problem, UsageError
from cascade_eval.recording import journal
from cascade_eval.recording.nouns import LINE_COLUMNS
from cascade_eval.traffic.names import OUTCOME_COLUMNS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

_KEPT: Final = (*sorted(OUTCOME_COLUMNS), "top_logprobs", "finish_reason")
_LINE: Final = OUTCOME_COLUMNS | LINE_COLUMNS | {"case_id", "model", "run"}


def collect(output: str | Path, *, cases: str | Path | None = None) -> pa.Table:
    """Put what was recorded into one row per case.

    Repeats of a call become its `samples`, with `samples_cost_usd` and `samples_output_tokens`; a repeat that failed is
    a null among them, and a sum with an unknown part is unknown.

    Parameters
    ----------
    output
        Folder of a recording.
    cases
        Traffic that the recording fills in, such as a golden without one of its tiers: its columns are kept, and those
        of a model that was recorded now are replaced.

    Returns
    -------
    pyarrow.Table
        Wide: ``mini.answer``, ``mini.cost_usd``, …

    Raises
    ------
    DataError
        Nothing was recorded, or the journal cannot be read.
    """
    rows: dict[str, dict[str, Any]] = {}
    repeats: dict[tuple[str, str], dict[int, Mapping[str, Any]]] = defaultdict(dict)
    path = Path(output) / journal.ANSWERS
    for line in journal.lines(path):
        rows.setdefault(line["case_id"], {"case_id": line["case_id"]}).update(
            {name: value for name, value in line.items() if name not in _LINE}
        )
        repeats[line["case_id"], line["model"]][line["run"]] = line
    if not rows:
        raise DataError([Problem("nothing was recorded.", str(path))])
    for (case, model), runs in repeats.items():
        rows[case].update({f"{model}.{name}": value for name, value in _outcome(runs).items()})
    # Cases come back in any order; by id a table does not depend on which answer came first.
    found = _table([rows[case] for case in sorted(rows)])
    return found if cases is None else _filled(found, cases)


def check(path: str | Path) -> None:
    """Refuse a file that is no Parquet, which is better said before models are asked than after.

    Raises
    ------
    UsageError
        What to write instead.
    """
    if Path(path).suffix != ".parquet":
        raise UsageError([Problem("name a file that ends in .parquet.", str(path))])


def write(path: str | Path, output: str | Path, *, cases: str | Path | None = None) -> Path:
    """Write what `collect` returns as Parquet, whole or not at all."""
    import pyarrow.parquet as pq

    check(path)
    sink = io.BytesIO()
    pq.write_table(collect(output, cases=cases), sink)
    return atomic.write(path, sink.getvalue())


def _outcome(runs: Mapping[int, Mapping[str, Any]]) -> dict[str, Any]:
    first = runs.get(0)
    found = {} if first is None else {name: first[name] for name in _KEPT if name in first}
    more = [runs[run] for run in sorted(runs) if run]
    if more:
        found["samples"] = [line["answer"] if line["status"] == "ok" else None for line in more]
        found["samples_cost_usd"] = _sum(line.get("cost_usd") for line in more)
        found["samples_output_tokens"] = _sum(line.get("output_tokens") for line in more)
    return found


def _sum(values: Iterable[Any]) -> Any:
    known = list(values)
    return None if None in known else sum(known)


def _table(rows: list[dict[str, Any]]) -> pa.Table:
    names = dict.fromkeys(name for row in rows for name in row)
    return pa.table({name: _column([row.get(name) for row in rows]) for name in names})


def _column(values: list[Any]) -> pa.Array:
    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        from cascade_eval.traffic import canonical

        return pa.array([canonical.text(value) for value in values], pa.string())


def _filled(found: pa.Table, cases: str | Path) -> pa.Table:
    """Put recorded columns beside those the cases had, case by case."""
    before = pa.table(files.columns(traffic.open(cases).read()))
    place = pc.index_in(before.column("case_id").cast(pa.string()), value_set=found.column("case_id"))
    models = {name.rpartition(".")[0] for name in found.column_names if name.rpartition(".")[2] == "status"}
    return pa.table({**dict(_kept(before, models)), **dict(_recorded(found, before, place))})


def _kept(before: pa.Table, models: set[str]) -> Iterator[tuple[str, pa.Array]]:
    for name in before.column_names:
        if not any(name.startswith(f"{model}.") for model in models):
            yield name, before.column(name)


def _recorded(found: pa.Table, before: pa.Table, place: pa.Array) -> Iterator[tuple[str, pa.Array]]:
    for name in found.column_names:
        if name not in before.column_names or "." in name:
            yield name, found.column(name).take(place)
