"""What kind of value something is, and how a message shows it."""

from __future__ import annotations

import numbers
import sys
from typing import TypeGuard

# Letters of a value that a message shows.
_MOST_SHOWN = 100


def is_integer(value: object) -> TypeGuard[int]:
    """Whether something is an integer, of Python's or numpy's, and no boolean."""
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def is_number(value: object) -> TypeGuard[float]:
    """Whether something is an integer or a float, of Python's or numpy's, and no boolean."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def is_count(value: object, *, least: int = 0) -> bool:
    """Whether something is an integer that can count what is in a file: no boolean, no float."""
    return type(value) is int and least <= value <= sys.maxsize


def shown(value: object) -> str:
    """Show something in a message, of which it may be the smaller part."""
    text = repr(value)
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}..."


def told(error: BaseException) -> str:
    """Tell an exception in a message, which some of them would fill with what they were given."""
    text = f"{type(error).__name__}: {error}"
    return text if len(text) <= 2 * _MOST_SHOWN else f"{text[: 2 * _MOST_SHOWN]}..."
