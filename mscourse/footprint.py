"""The most anonymous memory that a process holds while it does something.

Linux tells at any time what a process holds, and keeps no record of the peak of its anonymous
memory alone. So a thread looks every few milliseconds; what is shorter is measured at its end.
"""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

# What a fit allocates it holds for longer than this, if it is worth knowing.
_PERIOD_S = 0.01

# The thread ends when nothing has been watched for this long; the next one starts another.
_IDLE_S = 2.0

_STATM = Path("/proc/self/statm")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE") if _STATM.exists() else 0


class Watch:
    """The peak of what this process has held since `watch` was called."""

    def __init__(self) -> None:
        self.peak_bytes = 0

    def end(self) -> int | None:
        """Stop watching; return the peak in bytes, or None where the system does not tell."""
        if not _PAGE_BYTES:
            return None
        _watcher.look()
        _watcher.remove(self)
        return self.peak_bytes


class _Watcher:
    """Looks at the memory of this process, for all who watch it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._watches: list[Watch] = []
        self._last_used_s = 0.0
        self._thread: threading.Thread | None = None
        self._pid = 0
        self._descriptor = -1

    def add(self, watch: Watch) -> None:
        with self._lock:
            self._watches.append(watch)
            if self._pid != os.getpid():  # a fork has neither the thread nor the right descriptor
                self._pid = os.getpid()
                self._descriptor = os.open(_STATM, os.O_RDONLY)
                self._thread = None
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._look_again_and_again, name="mscourse-footprint", daemon=True
                )
                self._thread.start()

    def remove(self, watch: Watch) -> None:
        with self._lock:
            self._watches.remove(watch)
            self._last_used_s = time.monotonic()

    def look(self) -> None:
        # resident minus shared: pages of files and of shared memory are not anonymous.
        _, resident, shared, *_ = os.pread(self._descriptor, 100, 0).split()
        held_bytes = (int(resident) - int(shared)) * _PAGE_BYTES
        for watch in self._watches:
            watch.peak_bytes = max(watch.peak_bytes, held_bytes)

    def _look_again_and_again(self) -> None:
        while True:
            time.sleep(_PERIOD_S)
            self.look()
            with self._lock:
                if not self._watches and time.monotonic() - self._last_used_s > _IDLE_S:
                    self._thread = None
                    return


_watcher = _Watcher()


def watch() -> Watch:
    """Begin to watch what this process holds."""
    started = Watch()
    if _PAGE_BYTES:
        _watcher.add(started)
    return started
