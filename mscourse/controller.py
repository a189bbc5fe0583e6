"""A client's controller: what it knows, and whether it still answers.

The client's own methods wait for an answer without a limit.
"""

from __future__ import annotations

import contextlib
import time
from typing import Any

import ipyparallel as ipp
from ipyparallel.util import int_keys

# A controller that has died closes no connection: the client waits for ever. So if nothing has come
# back for a while, the controller is asked for a sign of life.
_ASK_AFTER_SILENCE_S = 10.0
_ANSWER_WITHIN_S = 20.0

# This process may have been paused itself, by Ctrl-Z or with its machine. What has come meanwhile
# is not read yet, so the controller gets its time again.
_PAUSE_S = 5.0

CONTROLLER_IS_SILENT = (
    "The controller does not answer: it has died, or the connection to it is cut."
)


class ControllerWatch:
    """Tells whether a client's controller still lives, while the client waits for something."""

    def __init__(self, client: ipp.Client) -> None:
        self._client = client
        self._heard_of_s = self._looked_s = self._asked_s = time.monotonic()
        self._question: ControllerQuestion | None = None

    def heard(self) -> None:
        """Take note that something has come back, which is as good as an answer."""
        self._heard_of_s = time.monotonic()
        self._question = None

    def is_silent(self) -> bool:
        """Whether the controller owes an answer for too long; asks it if nothing came lately."""
        now_s = time.monotonic()
        if now_s - self._looked_s > _PAUSE_S:
            self._asked_s = now_s
        self._looked_s = now_s
        if self._question is not None and not self._question.is_open:
            self.heard()
        elif self._question is None and now_s - self._heard_of_s > _ASK_AFTER_SILENCE_S:
            self._question = ControllerQuestion(self._client)
            self._asked_s = now_s
        return self._question is not None and now_s - self._asked_s > _ANSWER_WITHIN_S


class ControllerQuestion:
    """A question to a controller, which may not answer.

    Parameters
    ----------
    client : ipyparallel.Client
    request : str
        What is asked, in the words of ipyparallel's messages; by default, what each engine has to
        do, which gives what `ipyparallel.Client.queue_status` gives.
    """

    def __init__(self, client: ipp.Client, request: str = "queue_request") -> None:
        self._reply: Any = None
        with contextlib.suppress(OSError):  # the client is closed
            self._reply = client._send(
                client._query_stream, request, content={"targets": None, "verbose": False}
            )

    @property
    def is_open(self) -> bool:
        """Whether an answer may still come."""
        return self._reply is not None and not self._reply.done()

    @property
    def answer(self) -> dict[Any, Any] | None:
        """What was answered; None until it has come, or if nothing came."""
        if self._reply is None or not self._reply.done():
            return None
        content = dict(self._reply.result()["content"])
        return int_keys(content) if content.pop("status") == "ok" else None

    def wait(self, timeout_s: float) -> dict[Any, Any] | None:
        """Wait for the answer, and give it."""
        if self._reply is not None:
            self._reply.wait(timeout_s)
        return self.answer
