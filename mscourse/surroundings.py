"""Leave a process as an evaluation found it, whatever the evaluation did to it.

What comes next in the same engine must not depend on what came before. The random generators have
a module of their own, `mscourse.seeds`. Environment variables, signals and attributes of modules
are left to the estimators.
"""

from __future__ import annotations

import contextlib
import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np


@contextmanager
def restored() -> Iterator[None]:
    """Put back the working folder, numpy's handling of errors, and the filters of warnings."""
    if threading.current_thread() is not threading.main_thread():
        yield  # they are those of other threads too, to whom they may matter now
        return
    folder = _working_folder()
    try:
        with np.errstate(), warnings.catch_warnings():
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
