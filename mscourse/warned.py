"""What an evaluation warns of: caught on its engine, where nobody looks, to be told at the client.

The client's filters hold there: what it ignores is not told, and what it has turned into an error
is one for the evaluation, too.
"""

from __future__ import annotations

import functools
import re
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

# Of one evaluation so many different warnings are kept, each up to so many characters: an estimator
# may have a number of its own in each.
_MOST_KEPT = 20
_LONGEST = 1000


class Filter(NamedTuple):
    """One of Python's filters of warnings, in a form that travels.

    The category is named, and not carried: the engine may not have its module, and need not import
    it for this. What is not imported does not warn.
    """

    action: str
    message: str | re.Pattern[str] | None
    category_module: str
    category_name: str
    module: str | re.Pattern[str] | None
    lineno: int

    def here(self) -> tuple[Any, ...] | None:
        """Give it in Python's own form; None if this process does not know the category."""
        category: Any = sys.modules.get(self.category_module)
        for name in self.category_name.split("."):
            category = getattr(category, name, None)
        if not isinstance(category, type):
            return None
        return self.action, self.message, category, self.module, self.lineno


def current_filters() -> tuple[Filter, ...]:
    """Give the filters of this process, the one that counts first in front."""
    return tuple(
        Filter(action, message, category.__module__, category.__qualname__, module, lineno)
        for action, message, category, module, lineno in warnings.filters
        if isinstance(category, type)  # nobody should, but may give several
    )


@functools.lru_cache(maxsize=2)
def _here(filters: tuple[Filter, ...], n_modules: int) -> list[tuple[Any, ...]]:
    """Give filters in Python's own form; found anew when modules have come that may be meant."""
    return [found for each in filters if (found := each.here()) is not None]


@contextmanager
def caught(filters: tuple[Filter, ...]) -> Iterator[dict[str, None]]:
    """Catch what is warned of, and leave the filters as they were.

    Yields
    ------
    dict of str to None
        Type and message of each different warning, as they come. It stays empty in a thread beside
        the main one: filters are those of all threads, and such a process is no engine but the
        client's own or an executor's, which shows its warnings itself.
    """
    found: dict[str, None] = {}
    if threading.current_thread() is not threading.main_thread():
        yield found
        return

    def keep(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
        if len(found) < _MOST_KEPT:
            found[f"{category.__name__}: {message}"[:_LONGEST]] = None

    with warnings.catch_warnings():
        warnings.filters = list(_here(filters, len(sys.modules)))
        warnings.showwarning = keep
        yield found
