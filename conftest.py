"""Tests of the plugin run pytest inside pytest; the plugin itself is registered by its entry point, never here."""

from __future__ import annotations

from importlib.util import find_spec

pytest_plugins = ["pytester"]

# `pytest suites` works without what development needs; that the examples are run is a test of its own.
if find_spec("sybil") is not None:
    from examples import collect as pytest_collect_file  # noqa: F401  a hook

if find_spec("pytest_socket") is not None:
    from sockets import pytest_runtest_setup, pytest_runtest_teardown  # noqa: F401  hooks

if find_spec("xdist") is not None:
    from by_file import pytest_xdist_make_scheduler  # noqa: F401  a hook
