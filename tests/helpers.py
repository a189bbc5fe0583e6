"""What several test modules look at. Not in conftest.py: `solutions/` has one too."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest


def cluster_processes() -> set[int]:
    """Controllers and engines that this process has started."""
    return {
        process.pid
        for process in psutil.Process(os.getpid()).children(recursive=True)
        if process.is_running() and "ipyparallel" in " ".join(process.cmdline())
    }


def files_below(folder: Path) -> set[str]:
    """Names of all files in a folder, relative to it."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def wait_until(holds: Callable[[], bool], timeout_s: float = 20.0) -> bool:
    """Wait until something holds; return whether it does."""
    deadline_s = time.monotonic() + timeout_s
    while not holds():
        if time.monotonic() > deadline_s:
            return False
        time.sleep(0.02)
    return True


def require_system(why_not: str | None) -> None:
    """Skip the test if this computer lacks something, and say what; where all must run, fail."""
    if why_not is not None:
        if os.environ.get("CI") == "true":
            pytest.fail(f"This must run here, but {why_not}.")
        pytest.skip(why_not)
