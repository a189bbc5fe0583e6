"""What a scheduler is given to do, and what it says has come of it.

A source is asked for items whenever an engine wants some: it may be a list (`Queue`), or something
that decides by what has come back already.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, Protocol

from mscourse.pools import EngineId

Item = tuple[Any, ...]


class Ended(NamedTuple):
    """An item that has come to its end.

    Attributes
    ----------
    item : tuple
        The item.
    value : object
        What the function returned.
    failure : str or None
        Why there is no value: the function raised, or the item has killed its engines.
    engine : hashable
        Where it ran last.
    """

    item: Item
    value: Any
    failure: str | None
    engine: EngineId


class Source(Protocol):
    """Where the scheduler gets its items. Asked from the scheduler's thread only."""

    @property
    def n_waiting(self) -> int:
        """How many items could be taken now."""

    @property
    def is_open(self) -> bool:
        """Whether more may come that nothing under way brings.

        It is the end when none is waiting, nothing is under way, and it is not open.
        """

    def take(
        self, n: int, engine: EngineId, engines: Sequence[EngineId], *, ahead: bool
    ) -> Sequence[Item]:
        """Hand out up to ``n`` items for an engine, in the order in which they should run.

        Parameters
        ----------
        n : int
            About as many as make a good message. Fewer may be better, or none for the moment.
        engine : hashable
            The engine that will run them.
        engines : sequence of hashable
            All that there are now, this one among them.
        ahead : bool
            Whether the engine is busy, so that they would wait for what it is at.
        """


class Queue:
    """A source that hands out the items of a list."""

    is_open = False

    def __init__(self, items: Iterable[Item]) -> None:
        self._items = deque(items)

    @property
    def n_waiting(self) -> int:
        return len(self._items)

    def take(
        self, n: int, engine: EngineId, engines: Sequence[EngineId], *, ahead: bool
    ) -> Sequence[Item]:
        return [self._items.popleft() for _ in range(min(n, len(self._items)))]
