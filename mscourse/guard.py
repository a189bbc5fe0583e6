"""A process that outlives its parent, to end the parent's cluster and to remove its folder.

A client that is killed can clean up nothing, and one that is interrupted while it cleans up stops
there. So `local_cluster` has this file run as a script, by its path, with standard input from a
pipe that only the client writes to: ``guard.py FOLDER PARENT_PID``. When something comes through
the pipe, or it is closed, the client wants the cluster to end, or has ended itself.

It waits without importing anything, and is as small as a Python process can be.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import sys
import time
from typing import Any

# ipyparallel gives this variable to controllers and engines, and they to what they start.
_MARK = "IPP_PROFILE_DIR"

# A client that is killed says nothing, and a process that was forked from it holds the pipe open.
# So the parent is looked at, too.
_LOOK_PERIOD_S = 1.0

# An idle engine ends within 0.3 s. One at work would do so after its evaluation only.
_PATIENCE_S = 1.0

# What removes the temporary files of others ignores all signals, and ends soon after them.
_TRACKER = "resource_tracker"
_PATIENCE_WITH_TRACKERS_S = 3.0

# A process that waits for a disk or a driver cannot even be killed.
_MOST_S = 10.0
_POLL_PERIOD_S = 0.02


def main() -> None:
    folder, parent = sys.argv[1], int(sys.argv[2])
    while os.getppid() == parent:
        if select.select([sys.stdin], [], [], _LOOK_PERIOD_S)[0]:
            break
    end_cluster(folder)
    shutil.rmtree(folder, ignore_errors=True)


def end_cluster(folder: str) -> None:
    """End the controller and the engines that work in a folder, and all that they have started."""
    told = set()
    start_s = time.monotonic()
    while (waited_s := time.monotonic() - start_s) < _MOST_S:
        members = _members(folder)  # also what has been started meanwhile
        if not members:
            return
        for process in members:
            patience_s = _PATIENCE_WITH_TRACKERS_S if _is_tracker(process) else _PATIENCE_S
            if waited_s > patience_s:
                _tell(process, "kill")
            elif process not in told:
                told.add(process)
                _tell(process, "terminate")
        time.sleep(_POLL_PERIOD_S)


def _members(folder: str) -> list[Any]:
    import psutil

    members = []
    for process in psutil.process_iter():
        # It may have ended, or be somebody else's.
        with contextlib.suppress(psutil.Error, OSError):
            is_member = process.environ().get(_MARK) == folder
            if is_member and process.status() != psutil.STATUS_ZOMBIE:
                members.append(process)
    return members


def _is_tracker(process: Any) -> bool:
    import psutil

    with contextlib.suppress(psutil.Error):
        return _TRACKER in " ".join(process.cmdline())
    return False


def _tell(process: Any, what: str) -> None:
    import psutil

    with contextlib.suppress(psutil.Error):  # it has ended
        getattr(process, what)()


if __name__ == "__main__":
    main()
