"""Have the disk keep what was written, so that it outlives a power cut."""

from __future__ import annotations

import os
import sys
from pathlib import Path

if sys.platform == "darwin":
    import fcntl


def flush(descriptor: int) -> None:
    """Have the disk write what a file was given."""
    if sys.platform == "darwin":  # where fsync leaves it in the disk's own cache
        try:
            fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
            return
        except OSError:  # not every file system can, such as those of a network
            pass
    os.fsync(descriptor)


def flush_folder(folder: Path) -> None:
    """Have the disk know the names of the files in a folder."""
    if os.name == "nt":  # where a folder cannot be opened
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
