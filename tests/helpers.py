"""What several test modules look at. Not in conftest.py: `solutions/` has one too."""

from __future__ import annotations

import os
from pathlib import Path

import psutil


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
