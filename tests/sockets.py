"""Every test runs with sockets blocked, but for those marked `loopback`, which talk to servers of their own."""

from __future__ import annotations

import pytest
import pytest_socket


@pytest.hookimpl(trylast=True)
def pytest_runtest_setup(item):
    """Block sockets before the fixtures of a test; asyncio needs a pair of local ones."""
    if item.get_closest_marker("loopback") is None:
        pytest_socket.disable_socket(allow_unix_socket=True)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_teardown():
    """Give sockets back."""
    pytest_socket.enable_socket()
