"""Run a program within limits of time and memory, and leave none of its processes behind."""

from __future__ import annotations

import os
import secrets
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence

import psutil

# Several times what the slowest needs on two cores.
_TIME_LIMIT_S = 240

# A system that takes all memory is ended while the machine can still be used.
_LEAST_AVAILABLE_BYTES = 2_000_000_000

_LOOK_EVERY_S = 0.1

# Daemons that a system has started are given this long to end by themselves.
_GRACE_S = 5

# All that a program starts inherits this variable, daemons with other parents included.
_MARK = "MSCOURSE_BENCHMARK"


class Ended(Exception):  # noqa: N818  # it may be no error: a lack of memory is a result
    """The program did not come to its end.

    Attributes
    ----------
    outcome : str
        "failed", "out of time" or "out of memory".
    """

    def __init__(self, outcome: str, details: str = "") -> None:
        super().__init__(f"{outcome} {details}".strip())
        self.outcome = outcome


def run_guarded(command: Sequence[str], environment: Mapping[str, str]) -> str:
    """Run a program and return what it printed.

    Raises
    ------
    Ended
        If it failed, took too long, or left the machine with too little memory.
    """
    os.sync()  # what the previous one wrote must not be written to the disk at our expense
    mark = secrets.token_hex(8)
    deadline_s = time.monotonic() + _TIME_LIMIT_S
    with subprocess.Popen(
        command,
        env={**environment, _MARK: mark},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        outcome = None
        try:
            while outcome is None:
                try:
                    output, errors = process.communicate(timeout=_LOOK_EVERY_S)
                    break
                except subprocess.TimeoutExpired:
                    if time.monotonic() > deadline_s:
                        outcome = "out of time"
                    elif psutil.virtual_memory().available < _LEAST_AVAILABLE_BYTES:
                        outcome = "out of memory"
                    elif process.poll() is not None:
                        # A daemon of its own still holds the pipe that is read here.
                        _end_all(_left(mark))
        finally:
            if process.poll() is None:
                _end_all([*_marked(mark), psutil.Process(process.pid)])
            else:
                _end_all(_left(mark))
    if outcome is not None:
        raise Ended(outcome)
    if process.returncode != 0:
        raise Ended("failed", f"with exit status {process.returncode}\n{errors[-2000:]}")
    return output


def _left(mark: str) -> list[psutil.Process]:
    """List what has not ended by itself."""
    _, alive = psutil.wait_procs(list(_marked(mark)), timeout=_GRACE_S)
    return alive


def _end_all(processes: Sequence[psutil.Process]) -> None:
    for process in processes:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(processes, timeout=_GRACE_S)


def _marked(mark: str) -> Iterator[psutil.Process]:
    for process in psutil.process_iter():
        try:
            if process.environ().get(_MARK) == mark:
                yield process
        except (psutil.Error, OSError):
            continue  # gone, or somebody else's
