"""How much memory a process and all its descendants come to hold, watched from outside.

The summed PSS counts a page that several processes share once. It is read by a process of its own,
so that the one that is watched is not held up, and none of it is counted.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

_PERIOD_S = 0.05
_BYTES_PER_KIB = 1024
_PAGE_BYTES = mmap.PAGESIZE

# Where the time counts as well, looking may take this part of one core at the most.
_GENTLE_SHARE = 1 / 20


@dataclass
class Growth:
    """The most that the processes held over what they held before; None until it is known."""

    n_bytes: int | None = None


@contextlib.contextmanager
def watched_growth(*, gently: bool = False) -> Iterator[Growth]:
    """Watch this process and its descendants for the length of a ``with`` block.

    Parameters
    ----------
    gently : bool
        Look less often, the longer a look takes, so that the work is hardly held up. A peak that
        lasts for less than a second may be missed.
    """
    growth = Growth()
    if not Path("/proc/self/smaps_rollup").exists():  # only Linux tells the PSS
        yield growth
        return
    watcher = subprocess.Popen(
        [sys.executable, __file__, str(os.getpid()), str(_GENTLE_SHARE if gently else 1.0)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with watcher:
        assert watcher.stdout is not None
        before_bytes = int(watcher.stdout.readline())
        try:
            yield growth
        finally:
            most_bytes, _ = watcher.communicate()  # the end of its input is its signal
        growth.n_bytes = int(most_bytes) - before_bytes


def own_bytes(pid: int | None = None) -> int:
    """Tell what a process holds by itself: its resident pages that belong to no file.

    By default of this process. It reads counters that the system keeps anyway, and takes no time.
    """
    if not Path("/proc/self/statm").exists():
        return psutil.Process(pid).memory_info().rss
    _, resident, of_files, *_ = Path(f"/proc/{pid or 'self'}/statm").read_text().split()
    return (int(resident) - int(of_files)) * _PAGE_BYTES


def _watch(pid: int, share: float) -> None:
    """Print what is held at first, and at the end of the input the most there has been."""
    root = psutil.Process(pid)
    most_bytes = _held_bytes(root)
    print(most_bytes, flush=True)
    while True:
        start_s = time.monotonic()
        most_bytes = max(most_bytes, _held_bytes(root))
        took_s = time.monotonic() - start_s
        left_s = max(0.0, _PERIOD_S - took_s, took_s / share - took_s)
        if select.select([sys.stdin], [], [], left_s)[0]:
            break
    print(most_bytes)


def _held_bytes(root: psutil.Process) -> int:
    processes = [root, *root.children(recursive=True)]
    return sum(_pss_bytes(process.pid) for process in processes if process.pid != os.getpid())


def _pss_bytes(pid: int) -> int:
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except (FileNotFoundError, ProcessLookupError):  # it has just ended
        return 0
    line = next(line for line in text.splitlines() if line.startswith("Pss:"))
    return int(line.split()[1]) * _BYTES_PER_KIB


if __name__ == "__main__":
    _watch(int(sys.argv[1]), float(sys.argv[2]))
