"""Find work whose message, or whose answer, was lost on the way.

A connection that breaks and comes back, such as an ssh tunnel, drops what was in it, and nobody is
told: the engine is idle, and the client waits for ever. But the controller counts what each engine
has. If that is less than the client waits for, twice in a row, the oldest of it is lost.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import ipyparallel as ipp

from mscourse.controller import ControllerQuestion

# An answer is under way for far less than this, so that what is missing twice is not on its way.
_ASK_PERIOD_S = 10.0


class LostAnswers:
    """Compares what a client waits for with what its controller knows.

    Parameters
    ----------
    client : ipyparallel.Client
    """

    def __init__(self, client: ipp.Client) -> None:
        self._client = client
        self._awaited: dict[Hashable, list[Any]] = {}  # futures by engine, the oldest first
        self._asked_s = time.monotonic()
        self._question: ControllerQuestion | None = None
        self._asked_of: dict[Hashable, list[Any]] = {}
        self._suspects: list[Any] = []

    def sent(self, engine: Hashable, future: Any) -> None:
        """Take note of work that an engine was sent."""
        self._awaited.setdefault(engine, []).append(future)

    def came(self, future: Any) -> Hashable | None:
        """Take note that something has come of it; give its engine, if that is not known yet."""
        for engine, futures in list(self._awaited.items()):
            if future in futures:
                futures.remove(future)
                if not futures:
                    del self._awaited[engine]
                return engine
        return None

    def look(self) -> Sequence[Any]:
        """Give the futures that nothing will come of any more, each once."""
        if self._question is not None:
            if self._question.is_open:
                return []
            answer, self._question = self._question.answer, None
            return [] if answer is None else self._compare(answer)
        now_s = time.monotonic()
        if self._awaited and now_s - self._asked_s > _ASK_PERIOD_S:
            self._asked_s = now_s
            self._asked_of = {engine: list(futures) for engine, futures in self._awaited.items()}
            self._question = ControllerQuestion(self._client)
        return []

    def _compare(self, answer: Mapping[Any, Any]) -> Sequence[Any]:
        missing = []
        for engine, asked_of in self._asked_of.items():
            has = answer.get(engine)
            if has is None:
                continue  # it has died, which is told in another way
            awaited = [each for each in asked_of if not each.done()]
            n_known = has["queue"] + has["tasks"]
            missing += awaited[: max(0, len(awaited) - n_known)]
        lost = [each for each in missing if each in self._suspects]
        self._suspects = missing
        return lost


def wait_no_more(client: ipp.Client, future: Any) -> None:
    """Let a client forget that something is to come of a message, and drop what comes after all.

    Else `ipyparallel.Client.wait` would wait for it, and it would be reported as stranded when its
    engine ends.
    """
    drop_if_late(client, future)
    for waiting in (client.outstanding, *client._outstanding_dict.values()):
        waiting.difference_update(future.msg_ids)


def drop_if_late(client: ipp.Client, future: Any) -> None:
    """Have a client drop what comes of a message after all."""
    handlers = client._queue_handlers
    if not isinstance(handlers["apply_reply"], _UnlessLate):
        handlers["apply_reply"] = _UnlessLate(handlers["apply_reply"])
    handlers["apply_reply"].late.update(future.msg_ids)


class _UnlessLate:
    """Hands a client its answers, except those that nobody waits for any more.

    Their engine was taken for dead, or they for lost. The client would print them in full, and
    keep them for good.
    """

    def __init__(self, handle: Callable[[dict[str, Any]], None]) -> None:
        self._handle = handle
        self.late: set[str] = set()

    def __call__(self, message: dict[str, Any]) -> None:
        message_id = message["parent_header"]["msg_id"]
        if message_id in self.late:
            self.late.remove(message_id)
        else:
            self._handle(message)
