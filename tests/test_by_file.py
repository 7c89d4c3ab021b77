"""How the tests of this project are spread over workers."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import pytest

ALL_OF_A_FILE = """
import pytest
from pathlib import Path

@pytest.mark.parametrize("number", range(8))
def test_any(number, worker_id, request):
    with Path("{said}").open("a") as file:
        file.write(f"{{request.path.name}} {{worker_id}}\\n")
"""


@pytest.mark.parametrize(("options", "together"), [((), True), (("--dist", "each"), False)])
def test_the_tests_of_a_file_share_a_worker(pytester, options, together):
    """With `-n` a file stays together, so that examples go on from each other; a stated `--dist` is obeyed."""
    said = pytester.path / "said.txt"
    pytester.makeini(f"[pytest]\npythonpath = {Path(__file__).parent}\n")
    pytester.makeconftest("from by_file import pytest_xdist_make_scheduler")
    pytester.makepyfile(test_a=ALL_OF_A_FILE.format(said=said), test_b=ALL_OF_A_FILE.format(said=said))
    result = pytester.runpytest_subprocess("-n", "2", *options)
    assert result.ret == pytest.ExitCode.OK
    workers = defaultdict(set)
    for line in said.read_text(encoding="utf-8").splitlines():
        name, worker = line.split()
        workers[name].add(worker)
    assert set(workers) == {"test_a.py", "test_b.py"}
    assert all(len(found) == 1 for found in workers.values()) == together
