"""Run pytest with nbval on a lab, and record how each cell ran.

A script, run by :mod:`mscourse.labs.check` in a process of its own as
``python -P runner.py REPORT PYTEST_ARGUMENT...``. It writes one JSON file at the end; without the
file, there is no verdict. Beside it, ``REPORT.count`` tells how many cells have run so far. It
imports nothing of the package, whose import takes seconds.
"""

import json
import os
import signal
import sys
from collections.abc import Callable, Generator
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

_WIDGET = "application/vnd.jupyter.widget-view+json"


class CellRecorder:
    """Records each cell, and frees the way for the next one when a cell timed out."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.cells: list[dict[str, Any]] = []

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        """Compare what was printed, but not warnings and progress bars."""
        for item in items:
            if "stderr" not in item.parent.skip_compare:
                item.parent.skip_compare = (*item.parent.skip_compare, "stderr")
            item.compare_outputs = partial(compare_shown, item.compare_outputs)

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
                    "outputs": without_widgets(item.test_outputs or []),
                    "complaint": "" if call.excinfo is None else str(call.excinfo.value),
                }
            )
            self.path.with_name(f"{self.path.name}.count").write_text(
                str(len(self.cells)), encoding="utf-8"
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


def without_widgets(outputs: list[Any]) -> list[Any]:
    """Leave progress bars out, as they are left out of what a solution records."""
    return [output for output in outputs if _WIDGET not in output.get("data", {})]


def compare_shown(compare: Callable[..., bool], outputs: list[Any], reference: list[Any]) -> bool:
    """Compare what a cell showed with what was recorded, as nbval does, but for progress bars."""
    return compare(without_widgets(outputs), reference)


def interrupt_engines() -> None:
    """Interrupt what the engines of this run's clusters are doing."""
    for process in psutil.process_iter():
        try:
            ours = process.environ().get("IPYTHONDIR") == os.environ["IPYTHONDIR"]
            if ours and "ipyparallel.engine" in process.cmdline():
                process.send_signal(signal.SIGINT)
        except (psutil.Error, OSError):
            continue


def main(report_path: str, arguments: list[str]) -> int:
    """Run pytest; return its exit status."""
    # jsonschema, which nbval imports by way of nbformat, would use it to compile a grammar of
    # addresses, for 3 s; no notebook is validated with that.
    sys.modules["rfc3987_syntax"] = None  # type: ignore[assignment]
    return int(pytest.main(arguments, plugins=[CellRecorder(Path(report_path))]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
