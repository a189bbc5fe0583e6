"""A batch of joblib's tasks: run on an engine, and told at the client with all that it has said."""

from __future__ import annotations

import contextlib
import io
import pickle
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
from numpy.typing import NDArray

from mscourse.errors import ClusterError
from mscourse.pools import EngineId


def itself(value: Any) -> Any:
    return value


def map_array(path: Path) -> NDArray[Any]:
    """Open an array. Runs on an engine.

    Copy-on-write, as persisted splits are: an estimator that writes into its input harms nobody.
    """
    array: NDArray[Any] = np.load(path, mmap_mode="c", allow_pickle=False)
    return array


@dataclass(frozen=True)
class EngineWarning:
    """A warning on its way from an engine."""

    message: Warning | str
    category: type[Warning]
    filename: str
    lineno: int

    def repeat(self) -> None:
        """Warn of the same here; what is filtered as often said is so in the place it was said."""
        registry = _warned_before.setdefault(self.filename, {})
        warnings.warn_explicit(
            self.message, self.category, self.filename, self.lineno, registry=registry
        )


# What Python keeps in each module, for those whose code ran on an engine.
_warned_before: dict[str, dict[Any, Any]] = {}


@dataclass(frozen=True)
class TaskOutcome:
    """What came of a batch of joblib's."""

    result: Any = None
    error: Exception | None = None
    printed: str = ""
    warned: Sequence[EngineWarning] = ()


def read_outcome(value: bytes | None, failure: str | None, engine: EngineId) -> TaskOutcome:
    """Read what an engine has returned, or make an error of it."""
    if value is None:
        return TaskOutcome(error=ClusterError(str(failure)))
    try:
        outcome: TaskOutcome = pickle.loads(value)
    except Exception as error:  # noqa: BLE001  # it is raised where somebody waits
        error.add_note(f"This is raised by reading what engine {engine} has returned.")
        return TaskOutcome(error=error)
    return outcome


def echo(printed: str) -> Sequence[EngineWarning]:
    """Print what tasks have printed; if that fails, it is no error of theirs but a warning."""
    try:
        if printed:
            sys.stdout.write(printed)
    except Exception as error:  # noqa: BLE001  # whatever stands there for the standard output
        message = f"What tasks have printed cannot be printed here: {error}"
        return [EngineWarning(message, RuntimeWarning, __file__, 0)]
    return []


def run_task(number: int, payload: bytes) -> bytes:
    """Run a batch of joblib's; pickle what came of it. Runs on an engine."""
    error: Exception | None = None
    result = None
    with _listening() as (printed, caught):
        try:
            result = cloudpickle.loads(payload)()
        except BaseException as raised:  # noqa: BLE001  # whatever it is, it is raised at the client
            raised.add_note(f"On an engine:\n{traceback.format_exc()}")
            # What is no `Exception` would end more there than it has ended here.
            if isinstance(raised, Exception) and _can_travel(raised):
                error = raised
            else:
                error = RuntimeError("".join(traceback.format_exception(raised)))
    warned = [_warning(each) for each in caught]
    try:
        return _dumps(TaskOutcome(result, error, printed.getvalue(), warned))
    except Exception:  # noqa: BLE001  # the result is of a kind that cannot travel
        error = RuntimeError(traceback.format_exc())
        return _dumps(TaskOutcome(None, error, printed.getvalue(), warned))


def _warning(caught: warnings.WarningMessage) -> EngineWarning:
    message, category = caught.message, caught.category
    if not _can_travel(message):
        message, category = f"{category.__name__}: {message}", UserWarning
    return EngineWarning(message, category, caught.filename, caught.lineno)


def _can_travel(said: object) -> bool:
    """Whether an error or a warning can be read where it arrives.

    One that is made of more than its message often cannot: it would cost all that it travels with.
    """
    try:
        pickle.loads(_dumps(said))
    except Exception:  # noqa: BLE001  # each type has an error of its own for it
        return False
    return True


@contextlib.contextmanager
def _listening() -> Iterator[tuple[io.StringIO, list[warnings.WarningMessage]]]:
    """Catch what is printed and warned of, if that can be told from what other threads say.

    Threads of an executor in this very process are heard anyway.
    """
    printed = io.StringIO()
    if threading.current_thread() is not threading.main_thread():
        yield printed, []
        return
    with warnings.catch_warnings(record=True) as caught, contextlib.redirect_stdout(printed):
        yield printed, caught


def _dumps(value: object) -> bytes:
    """Pickle by the fast means, unless something can be pickled by value only."""
    try:
        return pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
    except Exception:  # noqa: BLE001  # each type has an error of its own for it
        pickled: bytes = cloudpickle.dumps(value)
        return pickled
