"""How a node that is to go tells its engines to take nothing more.

::

    agent of the node                  folder of the node           engine
    drain(folder) ──────────────────►  draining  ────────────────►  is_draining()
    busy_engines(folder)  ◄──────────  busy-<pid>  ◄──────────────  with working():

An engine finds the folder in a variable of its environment; without that, nothing of this applies.
It is told by files, not by messages, so that it works while an evaluation runs, and when the client
that uses the engine is far away, busy, or not this package's.

Neither side waits for the other. The engine first says that it works, and then looks whether it
may: so an agent that has told it to drain, and then finds it idle, can end it.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

NODE_FOLDER_VARIABLE = "MSCOURSE_NODE_FOLDER"

_FLAG = "draining"
_BUSY = "busy-"


def is_draining() -> bool:
    """Whether the node of this engine is to go. Asked before each evaluation."""
    folder = os.environ.get(NODE_FOLDER_VARIABLE)
    return bool(folder) and os.path.exists(f"{folder}/{_FLAG}")  # noqa: PTH110  # twice as fast


@contextmanager
def working() -> Iterator[None]:
    """Let the agent of the node know, for the length of a block, that this engine works."""
    folder = os.environ.get(NODE_FOLDER_VARIABLE)
    if not folder:
        yield
        return
    mark = Path(folder, f"{_BUSY}{os.getpid()}")
    # Where the mark cannot be written, the agent may end this engine at work: then the work is
    # done again elsewhere. To fail here would lose it at once.
    with contextlib.suppress(OSError):
        mark.touch()
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            mark.unlink()


def drain(folder: Path) -> None:
    """Tell all engines of a node to take nothing more. For the node's agent.

    Parameters
    ----------
    folder : path
        The folder of the node, which is there.
    """
    (folder / _FLAG).touch()


def busy_engines(folder: Path) -> set[int]:
    """List the engines of a node that work now. For the node's agent.

    Parameters
    ----------
    folder : path
        The folder of the node.

    Returns
    -------
    set of int
        Their process numbers. An engine that has died at work is not among them.
    """
    names = [path.name for path in folder.glob(f"{_BUSY}*")]
    pids = {int(found[1]) for name in names if (found := re.fullmatch(rf"{_BUSY}(\d+)", name))}
    return {pid for pid in pids if psutil.pid_exists(pid)}
