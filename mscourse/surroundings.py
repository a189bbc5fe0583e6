"""Leave a process as an evaluation found it, whatever the evaluation did to it.

What comes next in the same engine must not depend on what came before. The random generators and
the filters of warnings have modules of their own, `mscourse.seeds` and `mscourse.warned`.
Environment variables, signals and attributes of modules are left to the estimators.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np


@contextmanager
def restored() -> Iterator[None]:
    """Put back the working folder and numpy's handling of errors."""
    if threading.current_thread() is not threading.main_thread():
        yield  # they are those of other threads too, to whom they may matter now
        return
    folder = _working_folder()
    try:
        with np.errstate():
            yield
    finally:
        if folder is not None and _working_folder() != folder:
            with contextlib.suppress(OSError):
                os.chdir(folder)


def _working_folder() -> str | None:
    try:
        return os.getcwd()  # noqa: PTH109  # 1 us, not 10
    except FileNotFoundError:  # it has been deleted
        return None
