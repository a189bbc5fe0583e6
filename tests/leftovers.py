"""What a test has left behind: processes, temporary files, shared memory, threads.

This test run has a temporary folder of its own, so that nothing of another run is taken for ours,
and each process that comes of this one is known by it, also when its parent has ended.
"""

from __future__ import annotations

import contextlib
import os
import re
import threading
import time
from pathlib import Path
from typing import Any

import psutil

# What it is, and which one.
Thing = tuple[str, Any]

# Processes end, and files are removed, a little after they were told to; where two test runs share
# the cores, not so little.
_GRACE_S = 30.0

# Both are Linux's; elsewhere less is seen.
_SHARED_MEMORY = Path("/dev/shm")
_PROCESSES = Path("/proc")

# These serve this process to its end: they remove what others leave.
_SERVANTS = ("resource_tracker", "multiprocessing.forkserver")

# Multiprocessing has one folder for each process that needs one, and a broken executor of loky
# leaves its semaphores; both go at the end of that process.
_KEPT = ("pymp-", "sem.loky-")

# An engine whose estimator has used joblib keeps the workers for the next one, and ends with them.
_WORKER = "LokyProcess-"

# A browser starts these by itself, whenever it likes, and ends them with itself. The windows that a
# test has opened are of another type.
_BROWSERS_HELPER = "--type=utility"


class Watch:
    """Compares what there is before and after a test.

    Parameters
    ----------
    folder : path
        The temporary folder of this test run.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._mark = f"TMPDIR={folder}".encode()

    def look(self) -> set[Thing]:
        """List what there is now."""
        pids = self._processes()
        things: set[Thing] = {("process", pid) for pid in pids}
        things |= {
            ("file", path) for path in self._folder.iterdir() if not path.name.startswith(_KEPT)
        }
        if _SHARED_MEMORY.is_dir():
            things |= {("file", path) for path in _SHARED_MEMORY.iterdir() if _is_of(path, pids)}
        return things | {("thread", each) for each in threading.enumerate() if not each.daemon}

    def left_since(self, before: set[Thing]) -> list[str]:
        """Describe what is new, and does not go away soon."""
        deadline_s = time.monotonic() + _GRACE_S
        while left := self._new(before):
            if time.monotonic() > deadline_s:
                return left
            time.sleep(0.02)
        return []

    def _processes(self) -> set[int]:
        pids = {child.pid for child in psutil.Process().children(recursive=True)}
        if _PROCESSES.is_dir():
            for entry in os.scandir(_PROCESSES):
                if entry.name.isdigit():
                    with contextlib.suppress(OSError):  # it has ended, or is somebody else's
                        if self._mark in Path(entry.path, "environ").read_bytes().split(b"\0"):
                            pids.add(int(entry.name))
        return pids

    def _new(self, before: set[Thing]) -> list[str]:
        return [text for thing in self.look() - before if (text := _described(thing, before))]


def _described(thing: Thing, before: set[Thing]) -> str:
    """Say what a thing is; nothing of a process that has ended, or is to stay."""
    kind, what = thing
    if kind != "process":
        return f"{kind} {what}"
    try:
        process = psutil.Process(what)
        command, parent = " ".join(process.cmdline()), process.ppid()
        has_ended = process.status() == psutil.STATUS_ZOMBIE
    except psutil.Error:
        return ""
    is_servant = any(name in command for name in _SERVANTS)
    helps_another = _WORKER in command or _BROWSERS_HELPER in command
    if has_ended or is_servant or (helps_another and ("process", parent) in before):
        return ""
    return f"process {what} of {parent}: {command[:200]}"


def _is_of(entry: Path, pids: set[int]) -> bool:
    """Whether shared memory may be of this test run; its name tells who has made it, or nothing."""
    if entry.name.startswith(_KEPT):
        return False
    number = re.search(r"[_-](\d+)[_-]", entry.name)
    if number is None:
        return True
    pid = int(number[1])
    return pid == os.getpid() or pid in pids or not psutil.pid_exists(pid)
