"""Undo what a start has begun, whatever comes between: machines that are forgotten cost money."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from mscourse.cluster.nodes import Progress

# Whoever presses Ctrl-C often does it twice. What was started is removed all the same; but who
# insists is obeyed, and told what is left.
_MOST_INTERRUPTS = 3


def insist(undo: Callable[[], None]) -> str:
    """Undo something, from the beginning if that is interrupted; say why it failed, or nothing."""
    for _ in range(_MOST_INTERRUPTS):
        try:
            undo()
        except KeyboardInterrupt:
            continue
        except Exception as error:  # noqa: BLE001 (whatever it is, what is left must be told)
            return str(error) or repr(error)
        return ""
    return "The removal was interrupted."


def unfailing(progress: Progress) -> Progress:
    """Tell what is going on, but go on as well if nobody reads it."""

    def tell(line: str) -> None:
        with suppress(Exception):
            progress(line)

    return tell
