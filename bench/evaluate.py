"""Measure what a full evaluation costs, in multiples of merely reading its columns.

Ten cascades, twenty cohorts, every metric and bound, full sweep. Floor and candidate are run in turn in one process and
compared pair by pair in CPU seconds (user + system), because wall time on a shared machine says little. A wrong answer
is not timed: the counts are checked against pandas on tied data first.

Run ``python bench/evaluate.py`` (a million cases) or ``python bench/evaluate.py 10000000``.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import made
import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from cascade_eval import runs, suite

READ = [
    "case_id",
    "cohort",
    *(f"mini.{name}" for name in ("answer", "confidence", "cost_usd", "latency_s")),
    *(f"flagship.{name}" for name in ("answer", "cost_usd", "latency_s")),
]
THRESHOLDS = [round(0.5 + 0.04 * i, 2) for i in range(10)]


def suite_text(data: Path) -> str:
    """Ten cascades with every kind of budget."""
    cascades = "\n".join(
        f"  c{i}:\n    - {{tier: mini, model: mini, gate: {{signal: confidence, threshold: {threshold}}}}}\n"
        "    - {tier: flagship, model: flagship}"
        for i, threshold in enumerate(THRESHOLDS)
    )
    return f"""traffic: {data}
cascades:
{cascades}
agreement: same label
cohorts: [cohort]
budgets:
  disagreement: {{overall: at most 20%, each cohort: at most 25%}}
  escalation: {{overall: at most 90%, each cohort: at most 90%}}
  cost: {{overall: at most 90%, each cohort: at most 95%}}
  latency p95: {{overall: at most 10s}}
"""


def floor(data: Path) -> None:
    """Read the needed columns and do nothing with them."""
    for _ in pq.ParquetFile(data, pre_buffer=False).iter_batches(131_072, columns=READ):
        pass


def pandas_way(cases: pd.DataFrame, thresholds: np.ndarray) -> list[tuple[float, ...]]:
    """Do what a user writes: one group-by for each cascade and threshold."""
    rows = []
    always = cases.groupby("cohort", observed=True)["flagship.cost_usd"].sum()
    for threshold in thresholds:
        kept = cases["mini.confidence"] >= threshold
        wrong = kept & (cases["mini.answer"].astype(str) != cases["flagship.answer"].astype(str))
        cost = cases["mini.cost_usd"] + cases["flagship.cost_usd"].where(~kept, 0)
        by = cases["cohort"]
        rows.append(
            (
                (~kept).groupby(by, observed=True).mean(),
                wrong.groupby(by, observed=True).sum() / kept.groupby(by, observed=True).sum(),
                cost.groupby(by, observed=True).sum() / always,
            )
        )
    return rows


def check(folder: Path) -> None:
    """Refuse to time a wrong answer: counts per cohort on tied data equal pandas."""
    data = folder / "check.parquet"
    made.wide(data, 20_000)
    path = folder / "check.cascade.yaml"
    path.write_text(suite_text(data), encoding="utf-8")
    record = runs.evaluate(suite.load(path)).record
    cases = pd.read_parquet(data)
    wrong = cases["mini.answer"].astype(str) != cases["flagship.answer"].astype(str)
    checked = 0
    for cascade, threshold in zip(record["cascades"], THRESHOLDS, strict=False):
        for cell in cascade["cohorts"]:
            mine = cases["cohort"] == cell["cohort"]["cohort"]
            kept = mine & (cases["mini.confidence"] >= threshold)
            found = cell["metrics"]
            want = (int((mine & ~kept).sum()), int((kept & wrong).sum()), int(kept.sum()))
            got = (found["escalation"]["count"], found["disagreement"]["count"], found["disagreement"]["nobs"])
            if want != got:
                sys.exit(f"wrong: {cascade['name']} {cell['cohort']}: {got}, pandas has {want}")
            checked += 3
    print(f"checked {checked} counts against pandas: 0 differ")


def paired(label: str, candidate, reference, pairs: int) -> float:
    """Time candidate and reference in turn; print the ratios of CPU seconds."""
    candidate(), reference()
    ratios, seconds = [], []
    for _ in range(pairs):
        start = time.process_time()
        reference()
        between = time.process_time()
        candidate()
        end = time.process_time()
        ratios.append((end - between) / (between - start))
        seconds.append(end - between)
    print(
        f"{label}: {np.median(ratios):.1f}x ({min(ratios):.1f} to {max(ratios):.1f}), "
        f"median {np.median(seconds):.2f} CPU s over {pairs} pairs"
    )
    return float(np.median(ratios))


def peak(path: Path) -> tuple[float, float]:
    """Peak resident memory of one evaluation in a fresh process, in MB: after imports, and in all."""
    code = (
        "import sys\n"
        "from cascade_eval import runs, suite, calibration, signals\n"
        "import scipy.special, scipy.stats, pyarrow.parquet\n"
        "def high():\n"
        "    return next(int(l.split()[1]) for l in open('/proc/self/status') if l.startswith('VmHWM')) / 1024\n"
        "before = high()\n"
        "runs.evaluate(suite.load(sys.argv[1]))\n"
        "print(before, high())\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    before, after = map(float, done.stdout.split())
    return before, after


BARE = (
    "import sys, numpy, pyarrow.parquet as pq\n"
    "for _ in pq.ParquetFile(sys.argv[1], pre_buffer=False).iter_batches(131_072, columns=sys.argv[2:]): pass\n"
)


def children(command: list[str], folder: Path) -> float:
    """CPU seconds of a command and what it starts."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, cwd=folder, capture_output=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def whole_command(path: Path, data: Path, pairs: int) -> None:
    """Compare `pytest` on the suite, with its report, and a script that imports what it must and reads the columns."""
    judge = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--cascade-report=report.html", str(path)]
    ratios = []
    for _ in range(pairs):
        bare = children([sys.executable, "-c", BARE, str(data), *READ], path.parent)
        ratios.append(children(judge, path.parent) / bare)
    print(f"pytest with report / a bare script: {np.median(ratios):.1f}x ({min(ratios):.1f} to {max(ratios):.1f})")


def main(cases: int) -> None:
    """Print every figure."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        check(folder)
        data, small = folder / "wide.parquet", folder / "tenth.parquet"
        made.wide(data, cases)
        made.wide(small, cases // 10)
        for each in (data, small):
            each.with_suffix(".cascade.yaml").write_text(suite_text(each), encoding="utf-8")
        path = data.with_suffix(".cascade.yaml")
        print(f"{cases:,} cases, 10 cascades, 20 cohorts, full sweep")
        paired("full evaluation / reading its columns", lambda: runs.evaluate(suite.load(path)), lambda: floor(data), 5)

        whole_command(path, data, 3)

        joined = folder / "long.parquet"
        made.long(joined, data)
        from cascade_eval import traffic

        def align() -> None:
            opened = traffic.open(joined)
            for _ in opened.batches(opened.fields):
                pass

        def read_long() -> None:
            for _ in pq.ParquetFile(joined, pre_buffer=False).iter_batches(131_072):
                pass

        if cases <= 1_000_000:
            paired("long rows, shuffled, joined / reading them", align, read_long, 3)
        hundred = pd.read_parquet(data).head(100_000)
        pandas_way(hundred, np.array([0.5]))
        start = time.process_time()
        pandas_way(hundred, np.linspace(0, 1, 11))
        each = (time.process_time() - start) / 11
        print(
            f"pandas, one group-by per threshold: {each:.3f} CPU s for 100,000 cases, one cascade and one threshold; "
            f"extrapolated to {cases:,} cases, 10 cascades, 101 thresholds: {each * cases / 100_000 * 1010:,.0f} CPU s"
        )
        for each_path, label in ((small.with_suffix(".cascade.yaml"), cases // 10), (path, cases)):
            before, after = peak(each_path)
            print(f"peak memory at {label:,} cases: {after:.0f} MB, {after - before:.0f} MB over imports")
        print(f"(this process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB)")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)
