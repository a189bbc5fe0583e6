"""Run each recorded solution in a sandbox.

nbval kills a notebook's kernel, which leaves its cluster running; the sandbox stops that.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import ExitStack
from unittest.mock import patch

import pytest

from mscourse.labs.sandbox import sandbox

_sandboxes: dict[pytest.Item | pytest.Collector | None, ExitStack] = {}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(
    item: pytest.Item, nextitem: pytest.Item | None
) -> Generator[None, object, object]:
    """Open a sandbox before a notebook's first cell, and close it after the last."""
    notebook = item.parent
    if item.path.suffix != ".ipynb":  # this hook is called for every test of the run
        return (yield)
    if notebook not in _sandboxes:
        _sandboxes[notebook] = opened = ExitStack()
        box = opened.enter_context(sandbox())
        opened.enter_context(patch.dict(os.environ, box.environment))
    try:
        return (yield)
    finally:
        if nextitem is None or nextitem.parent is not notebook:
            _sandboxes.pop(notebook).close()


def pytest_unconfigure() -> None:
    """Close a sandbox that an interrupted run left open."""
    for opened in _sandboxes.values():
        opened.close()
