"""A pytest plugin, loaded beside nbval, that records how each cell of a lab ran.

It runs in the process that :mod:`mscourse.labs.check` starts, and writes one JSON file at the end;
without the file, there is no verdict.
"""

import json
import os
import signal
from collections.abc import Generator
from pathlib import Path
from typing import Any

import psutil
import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that names the file to write."""
    parser.addoption("--lab-report", type=Path, help="file to write the cells' results to")


def pytest_configure(config: pytest.Config) -> None:
    """Start recording."""
    path = config.getoption("--lab-report")
    if path is not None:
        config.pluginmanager.register(CellRecorder(path))


class CellRecorder:
    """Records each cell, and frees the way for the next one when a cell timed out."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.cells: list[dict[str, Any]] = []

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: Any, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Record a cell once it has run."""
        report = yield
        if call.when == "call":
            timed_out = item.parent.timed_out
            self.cells.append(
                {
                    "id": item.cell.id,
                    "source": item.cell.source,
                    "passed": report.passed,
                    "timed_out": timed_out,
                    "kernel_died": not item.parent.kernel.is_alive(),
                    "outputs": item.test_outputs or [],
                    "complaint": "" if call.excinfo is None else str(call.excinfo.value),
                }
            )
            if timed_out:
                # nbval has interrupted the kernel, but not the engines, and would expect
                # all later cells to fail.
                interrupt_engines()
                item.parent.timed_out = False
        return report

    def pytest_sessionfinish(self, exitstatus: int) -> None:
        """Write the file."""
        content = {"exit_status": int(exitstatus), "cells": self.cells}
        self.path.write_text(json.dumps(content), encoding="utf-8")


def interrupt_engines() -> None:
    """Interrupt what the engines of this run's clusters are doing."""
    for process in psutil.process_iter():
        try:
            ours = process.environ().get("IPYTHONDIR") == os.environ["IPYTHONDIR"]
            if ours and "ipyparallel.engine" in process.cmdline():
                process.send_signal(signal.SIGINT)
        except (psutil.Error, OSError):
            continue
