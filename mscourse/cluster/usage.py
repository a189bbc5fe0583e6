"""What a cluster is doing and has cost, as its master sees it: whether it should stop by itself.

The master asks its own controller, so that what any client has it do counts, and a laptop that is
closed costs no more than the idle time.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from pathlib import Path
from typing import Any

from mscourse.controller import ControllerQuestion

_LOOK_PERIOD_S = 5.0

# A controller that works answers at once; a question that is lost is asked by another client.
_ANSWER_WITHIN_S = 30.0

#: EC2 charges the first minute in any case, and then each second.
LEAST_CHARGED_S = 60

#: A node whose master is gone for so long stops: whoever is cut off for a moment comes back.
WITHOUT_MASTER_S = 300.0

# To stop takes a while, which costs, too: the nodes miss their master first, then all shut down.
_STOPS_WITHIN_S = WITHOUT_MASTER_S + 120.0


def cost_usd(bill: list[dict[str, Any]], now_s: float) -> float:
    """Add up what the machines have cost.

    Parameters
    ----------
    bill : list of dict
        With "usd_per_hour", "from_s" and "to_s" of each machine, the latter None while it runs.
    now_s : float
        Of ``time.time``.
    """
    total_usd = 0.0
    for each in bill:
        end_s = now_s if each["to_s"] is None else each["to_s"]
        charged_s = max(end_s - each["from_s"], LEAST_CHARGED_S)
        total_usd += (each["usd_per_hour"] or 0.0) * charged_s / 3600
    return total_usd


class Usage:
    """Watches a controller and a bill.

    Parameters
    ----------
    connection : pathlib.Path
        The controller's file for clients.
    bill : pathlib.Path
        What machines there are and were; see `cost_usd`. Whoever starts machines writes it.
    in_use : pathlib.Path
        Written anew by whoever has other work for the machines, such as a copy of data.
    idle_stop_s : float
        The cluster stops after so long without work; 0: never.
    budget_usd : float or None
        The cluster stops before it has cost more.
    """

    def __init__(
        self,
        connection: Path,
        bill: Path,
        in_use: Path,
        *,
        idle_stop_s: float,
        budget_usd: float | None,
    ) -> None:
        self._connection = connection
        self._bill = bill
        self._in_use = in_use
        self._in_use_s: float | None = None
        self._idle_stop_s = idle_stop_s
        self._budget_usd = budget_usd
        self._active_s = time.monotonic()
        self._looked_s = float("-inf")
        self._figures: dict[str, Any] = {}
        self._client: Any = None
        self._asking: threading.Thread | None = None

    def look(self) -> None:
        """Ask the controller if it is time to; in a thread, since it may not answer."""
        now_s = time.monotonic()
        self._look_for_use(now_s)
        is_asking = self._asking is not None and self._asking.is_alive()
        if is_asking or now_s - self._looked_s < _LOOK_PERIOD_S:
            return
        self._looked_s = now_s
        self._asking = threading.Thread(target=self._ask, daemon=True)
        with contextlib.suppress(RuntimeError):  # there is no memory for one at the moment
            self._asking.start()

    def _ask(self) -> None:
        # While the controller starts, or is started again, there is no answer.
        with contextlib.suppress(Exception):
            if self._client is None:
                import ipyparallel as ipp

                self._client = ipp.Client(str(self._connection), timeout=10)
            connected = ControllerQuestion(self._client, "connection_request").wait(
                _ANSWER_WITHIN_S
            )
            status = ControllerQuestion(self._client).wait(_ANSWER_WITHIN_S)
            if connected is None or status is None:
                client, self._client = self._client, None
                client.close()
                return
            known = {key: each for key, each in status.items() if isinstance(key, int)}
            # Those that have died are listed for ever, with the work that they took along.
            alive = [known[key] for key in map(int, connected["engines"]) if key in known]
            before = self._figures.get("completed")
            self._figures = {
                "engines_in_all": len(alive),
                "queued": sum(each["queue"] + each["tasks"] for each in alive),
                "completed": sum(each["completed"] for each in known.values()),
            }
            if self._figures["queued"] or self._figures["completed"] != before:
                self._active_s = time.monotonic()

    def _look_for_use(self, now_s: float) -> None:
        written_s = None
        with contextlib.suppress(OSError):  # there was no such use so far
            written_s = self._in_use.stat().st_mtime
        if written_s != self._in_use_s:
            self._in_use_s, self._active_s = written_s, now_s

    def figures(self) -> dict[str, Any]:
        """Give what is known, for the status of the master."""
        return {
            **self._figures,
            "idle_s": time.monotonic() - self._active_s,
            "spent_usd": cost_usd(self._read_bill(), time.time()),
        }

    def reason_to_stop(self) -> str:
        """Say why the cluster should stop now; empty if it should not."""
        idle_s = time.monotonic() - self._active_s
        if self._idle_stop_s and idle_s > self._idle_stop_s:
            return f"it did nothing for {self._idle_stop_s / 60:g} minutes"
        if self._budget_usd is not None:
            bill = self._read_bill()
            soon_usd = cost_usd(bill, time.time() + _STOPS_WITHIN_S)
            if soon_usd > self._budget_usd:
                spent_usd = cost_usd(bill, time.time())
                budget = f"a budget of {self._budget_usd:g} (BUDGET_USD)"
                return f"it has cost {spent_usd:.2f} USD of {budget}"
        return ""

    def close_bill(self) -> None:
        """Note that all machines end now: what is stopped costs nothing until it starts again."""
        now_s, bill = time.time(), self._read_bill()
        closed = [{**each, "to_s": each["to_s"] or now_s} for each in bill]
        if closed == bill:
            return
        with contextlib.suppress(OSError):  # the disk may be full; then it costs too much at worst
            partial = self._bill.with_suffix(".new")
            partial.write_text(json.dumps(closed), encoding="utf-8")
            partial.replace(self._bill)

    def _read_bill(self) -> list[dict[str, Any]]:
        with contextlib.suppress(OSError, ValueError):
            content: list[dict[str, Any]] = json.loads(self._bill.read_text(encoding="utf-8"))
            return content
        return []
