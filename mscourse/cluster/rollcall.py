"""Keep what a client knows of its engines true.

A controller tells each client once when an engine comes or goes. What it tells while the client
connects, or while an ssh tunnel is broken, never arrives: an engine that came would stay without
work, and a search would wait for ever for one that has died.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Mapping, Set

import ipyparallel as ipp

from mscourse.controller import ControllerQuestion

_PERIOD_S = 5.0

# A connection may be broken for as long as it likes; the question is then asked again.
_ANSWER_WITHIN_S = 30.0


class RollCall:
    """Compares, until it is closed, a client's engines with those of its controller.

    Parameters
    ----------
    client : ipyparallel.Client
    """

    def __init__(self, client: ipp.Client) -> None:
        self._client = client
        self._absent: set[int] = set()
        self._is_closing = threading.Event()
        threading.Thread(target=self._run, name="mscourse-rollcall", daemon=True).start()

    def close(self) -> None:
        """Look no more; a second time does nothing."""
        self._is_closing.set()

    def look(self) -> None:
        """Compare once. An engine that is missing twice in a row is gone."""
        # What each engine has to do would be less to ask for, but lists the dead as well.
        answer = ControllerQuestion(self._client, "connection_request").wait(_ANSWER_WITHIN_S)
        if answer is None:
            return
        engines = {int(key): identity for key, identity in answer["engines"].items()}
        here = set(self._client.ids)
        absent = here - engines.keys()
        # One that has just come may have told us first, and the controller's answer be older.
        gone, self._absent = absent & self._absent, absent
        if gone or engines.keys() - here:
            # Where all that the controller tells arrives, too.
            self._client._io_loop.add_callback(self._correct, engines, gone)

    def _correct(self, engines: Mapping[int, str], gone: Set[int]) -> None:
        """Do what the client does when it is told."""
        for engine in engines.keys() - set(self._client.ids):
            self._client._register_engine({"content": {"id": engine, "uuid": engines[engine]}})
        for engine in gone & set(self._client.ids):
            identity = self._client._engines[engine]
            self._client._unregister_engine({"content": {"id": engine, "uuid": identity}})

    def _run(self) -> None:
        while not self._is_closing.wait(_PERIOD_S):
            with contextlib.suppress(Exception):  # the client may be closed meanwhile
                self.look()
