"""With `-n`, all tests of a file go to one worker."""

from __future__ import annotations

import pytest
from xdist.scheduler import LoadFileScheduling


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Keep a file together, unless `--dist` says otherwise: the examples of a document go on from each other."""
    return LoadFileScheduling(config, log) if config.getvalue("dist") == "load" else None
