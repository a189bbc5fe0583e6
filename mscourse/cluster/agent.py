"""The process that looks after a node: it runs there, and needs nobody's laptop.

::

    node.json ──► agent ──► controller (on the master), one engine per core
    stop, draining ──►  │
                        └──► status.json, logs/

It starts the engines again that die, ends them one after the other when the node is to go, and
stops a cluster that is idle or has spent its budget. All files lie in the node's folder of the
cluster. Run as ``python -m mscourse.cluster.agent FOLDER``.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from mscourse.cluster.metadata import Metadata, Notice
from mscourse.cluster.nodefiles import (
    BILL,
    CLIENT_CONNECTION,
    DRAINING,
    ENGINE_CONNECTION,
    IN_USE,
    LOCK,
    LOGS,
    PROFILE,
    STATUS,
    STOP,
    Orders,
    Status,
)
from mscourse.cluster.usage import WITHOUT_MASTER_S, Usage
from mscourse.draining import NODE_FOLDER_VARIABLE, busy_engines, drain
from mscourse.engines import THREAD_VARIABLES, usable_cores
from mscourse.splits import DATA_FOLDER_VARIABLE

_LOOK_PERIOD_S = 1.0

# An answer is on its way for a moment after the engine has written it.
_ANSWER_TRAVELS_S = 1.0

# Engines that do not end by themselves are killed.
_PATIENCE_S = 5.0

# Before the machine is taken away, what still runs is given up, so that others get it at once.
_GIVE_UP_BEFORE_S = 10.0

# If it cannot be switched off, it is tried again for a while.
_MOST_HALTS = 10
_HALT_PERIOD_S = 30.0

# When memory runs out, the system is to end an engine, and neither the agent nor the controller.
_ENDS_FIRST = b"500"

# A child that ends sooner than this has something wrong; it is not started in a hurry.
_SHORT_LIFE_S = 10.0
_LONGEST_PAUSE_S = 30.0

_MASTER_LOOK_PERIOD_S = 10.0

# The controller takes 18 ports of these. Other clusters of the same host take the next ones.
_FIRST_PORT = 10101
_PORTS_EACH = 20
_MOST_CLUSTERS = 50

# The controller calls an engine dead after 12 s of silence; an engine that hears nothing for 9 s
# (it looks every 1.5 s) ends, and is started again: one that the controller has given up would
# never get work again.
_HEARTBEAT_PERIOD_MS = 1000
_CONTROLLER_MISSES = 12
_ENGINE_MISSES = 6


class Child:
    """A process that is started again when it ends, unless it is not wanted, but in no hurry.

    Parameters
    ----------
    command : list of str
    environment : dict
    log : pathlib.Path
        Where its output goes.
    ends_first : bool
        Whether the system is to end this one first when memory runs out.
    """

    def __init__(
        self,
        command: list[str],
        environment: dict[str, str],
        log: Path,
        *,
        ends_first: bool = False,
    ) -> None:
        self._command = command
        self._ends_first = ends_first
        self._environment = environment
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None
        self._started_s = 0.0
        self._not_before_s = 0.0
        self._pause_s = 0.0
        self.n_starts = 0
        self.is_wanted = True
        self.idle_since_s: float | None = None

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    def look(self) -> None:
        """Take note if it has ended, and start it if it is wanted."""
        now_s = time.monotonic()
        if self._process is not None and self._process.poll() is not None:
            self._kill_the_rest()
            self._process = None
            self._put_off(was_short=now_s - self._started_s < _SHORT_LIFE_S)
        if self._process is None and self.is_wanted and now_s >= self._not_before_s:
            try:
                self._start()
            except OSError as error:  # such as: no memory, which engines may give back
                print(f"Not started: {error}", file=sys.stderr)  # noqa: T201 (that is its log)
                self._put_off(was_short=True)
                return
            self._started_s = now_s
            self.n_starts += 1

    def _start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._environment,
                start_new_session=True,  # what it has started is ended with it
            )
        if self._ends_first:
            with contextlib.suppress(OSError):  # not Linux, or it has ended already
                Path(f"/proc/{self._process.pid}/oom_score_adj").write_bytes(_ENDS_FIRST)

    def _put_off(self, *, was_short: bool) -> None:
        """Put off the next start, the longer the more often it has lived for a short time only."""
        self._pause_s = min(max(1.0, 2 * self._pause_s), _LONGEST_PAUSE_S) if was_short else 0.0
        self._not_before_s = time.monotonic() + self._pause_s

    def end(self) -> None:
        """Tell it to end; it is not started again."""
        self.is_wanted = False
        if self._process is not None and self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGTERM)

    def kill(self) -> None:
        """End it at once, with what it has left behind."""
        self.is_wanted = False
        if self._process is not None:
            self._kill_the_rest()
            # What waits for a broken disk cannot even be killed; the rest is to end all the same.
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_PATIENCE_S)

    def _kill_the_rest(self) -> None:
        # A controller that was killed leaves its schedulers, which keep the ports.
        assert self._process is not None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def has_ended(self) -> bool:
        return self._process is None or self._process.poll() is not None


class Agent:
    """Looks after a node until it is told to stop, or has a reason of its own to.

    Parameters
    ----------
    folder : pathlib.Path
        The node's folder of the cluster.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._orders = Orders.read(folder)
        self._status = Status(n_cores=usable_cores())
        self._engines: list[Child] = []
        self._controller: Child | None = None
        self._metadata = Metadata() if self._orders.has_metadata else None
        self._usage: Usage | None = None
        self._notice: Notice | None = None
        self._master_seen_s = self._master_asked_s = time.monotonic()
        self._is_told = False

    def run(self) -> None:
        """Work until the end."""
        for each in (signal.SIGTERM, signal.SIGINT):
            signal.signal(each, lambda *_: setattr(self, "_is_told", True))
        (self._folder / LOGS).mkdir(exist_ok=True)
        if self._orders.is_master:
            self._start_controller()
        n_engines = self._orders.n_engines or usable_cores()
        self._engines = [self._engine(number) for number in range(n_engines)]
        # Should this fail, nobody would look at what the machine costs any more.
        why, halts = "the agent has failed", True
        try:
            why, halts = self._look_until_the_end()
        finally:
            try:
                self._end()
                self._status.state, self._status.why = "stopped", why
                self._write_status()
            finally:
                if halts and self._orders.halts:
                    self._halt()

    def _halt(self) -> None:
        for _ in range(_MOST_HALTS):
            with contextlib.suppress(OSError):
                if subprocess.run(self._orders.halts, check=False).returncode == 0:
                    return
            time.sleep(_HALT_PERIOD_S)

    def _look_until_the_end(self) -> tuple[str, bool]:
        while True:
            self._look()
            self._write_status()
            why, halts = self._reason_to_stop()
            if why:
                return why, halts
            time.sleep(_LOOK_PERIOD_S)

    # -- what it starts --------------------------------------------------------------------------

    def _start_controller(self) -> None:
        ports = _free_ports()
        first = ports[0]
        orders = self._orders
        command = [
            *(sys.executable, "-m", "ipyparallel.controller"),
            f"--profile-dir={self._folder / PROFILE}",
            f"--ip={orders.address}",
            f"--location={orders.address}",
            # What travels is encrypted, and only who has the controller's file comes in.
            "--IPController.enable_curve=True",
            f"--IPController.engine_ports={first}-{first + 8}",
            f"--IPController.client_ports={first + 9}-{first + 14}",
            f"--IPController.ports={first + 15}-{first + 17}",
            "--IPController.monitor_ip=127.0.0.1",
            f"--HeartMonitor.period={_HEARTBEAT_PERIOD_MS}",
            f"--HeartMonitor.max_heartmonitor_misses={_CONTROLLER_MISSES}",
            "--nodb",  # the task database would keep a copy of every message
        ]
        log = self._folder / LOGS / "controller.log"
        self._controller = Child(command, dict(os.environ), log)
        self._usage = Usage(
            self._folder / CLIENT_CONNECTION,
            self._folder / BILL,
            self._folder / IN_USE,
            idle_stop_s=orders.idle_stop_s,
            budget_usd=orders.budget_usd,
        )

    def _engine(self, number: int) -> Child:
        environment = {
            **os.environ,
            **dict.fromkeys(THREAD_VARIABLES, "1"),  # there is an engine for each core
            NODE_FOLDER_VARIABLE: str(self._folder),
            DATA_FOLDER_VARIABLE: str(Path(self._orders.data_folder).expanduser()),
        }
        command = [
            *(sys.executable, "-m", "ipyparallel.engine"),
            f"--file={self._folder / ENGINE_CONNECTION}",
            f"--profile-dir={self._folder / PROFILE}",
            f"--IPEngine.max_heartbeat_misses={_ENGINE_MISSES}",
            "--IPEngine.timeout=20",
        ]
        log = self._folder / LOGS / f"engine-{number}.log"
        return Child(command, environment, log, ends_first=True)

    # -- looking ---------------------------------------------------------------------------------

    def _look(self) -> None:
        if self._controller is not None:
            self._look_after_controller(self._controller)
        if (self._folder / ENGINE_CONNECTION).exists():
            for engine in self._engines:
                engine.look()
        self._look_for_notices()
        if self._is_draining():
            self._drain()

    def _look_after_controller(self, controller: Child) -> None:
        if controller.n_starts and controller.has_ended() and controller.is_wanted:
            # Another one would know nothing of what this one had, and a search that waits for
            # that would never hear that it is lost. From silence it does.
            controller.kill()
            for engine in self._engines:
                engine.end()
            self._status.why = "the controller has died: `mscourse cluster restart`"
        controller.look()

    def _look_for_notices(self) -> None:
        if self._metadata is None:
            return
        self._metadata.look()
        self._status.rebalance = self._metadata.rebalance_at
        notice = self._metadata.notice
        if notice is not None and self._notice is None:
            self._notice = notice
            self._status.notice = asdict(notice) | {"at": notice.at.isoformat()}
            # The disk may be full; then what is at work in the end is lost, and done elsewhere.
            with contextlib.suppress(OSError):
                drain(self._folder)

    def _is_draining(self) -> bool:
        return (self._folder / DRAINING).exists()

    def _drain(self) -> None:
        """End each engine as soon as it is idle, and all of them when time is up."""
        now_s = time.monotonic()
        busy = busy_engines(self._folder)
        is_late = (
            self._notice is not None
            and (self._notice.at - datetime.now(UTC)).total_seconds() < _GIVE_UP_BEFORE_S
        )
        for engine in self._engines:
            if engine.pid in busy and not is_late:
                engine.idle_since_s = None
                engine.is_wanted = False
            elif is_late or engine.has_ended():
                engine.end()
            elif engine.idle_since_s is None:
                engine.idle_since_s = now_s
            elif now_s - engine.idle_since_s > _ANSWER_TRAVELS_S:
                engine.end()

    def _reason_to_stop(self) -> tuple[str, bool]:
        """Say why all is to end here, if it is, and whether the machine is then switched off."""
        if self._is_told or (self._folder / STOP).exists():
            return "it was told to", False
        if self._usage is not None:
            self._usage.look()
            if why := self._usage.reason_to_stop():
                return why, True
        elif self._is_without_master():
            return f"the master has been away for {WITHOUT_MASTER_S / 60:.0f} minutes", True
        return "", False

    def _is_without_master(self) -> bool:
        now_s = time.monotonic()
        if now_s - self._master_asked_s > _MASTER_LOOK_PERIOD_S:
            self._master_asked_s = now_s
            with contextlib.suppress(OSError, ValueError, KeyError):
                text = (self._folder / ENGINE_CONNECTION).read_text(encoding="utf-8")
                connection = json.loads(text)
                host = connection["interface"].partition("://")[2]
                socket.create_connection((host, connection["registration"]), 5).close()
                self._master_seen_s = now_s
        return now_s - self._master_seen_s > WITHOUT_MASTER_S

    def _write_status(self) -> None:
        status = self._status
        busy = busy_engines(self._folder)
        alive = [engine for engine in self._engines if not engine.has_ended()]
        status.at_s = time.time()
        status.n_engines = len(alive)
        status.n_busy = len(busy & {engine.pid for engine in alive})
        status.n_restarts = sum(max(0, engine.n_starts - 1) for engine in self._engines)
        status.load = os.getloadavg()[0]
        if status.state != "stopped":
            if self._controller is not None and not self._controller.is_wanted:
                status.state = "broken"
            elif self._is_draining():
                status.state = "draining" if alive else "drained"
            else:
                status.state = "working" if alive else "starting"
        if self._controller is not None:
            status.controller_pid = self._controller.pid
        if self._usage is not None:
            for name, value in self._usage.figures().items():
                setattr(status, name, value)
        path = self._folder / STATUS
        with contextlib.suppress(OSError):  # the disk may be full, and the engines go on
            partial = path.with_suffix(".new")
            partial.write_text(json.dumps(asdict(status)), encoding="utf-8")
            partial.replace(path)

    def _end(self) -> None:
        children = [*self._engines, *([self._controller] if self._controller else [])]
        for child in children:
            child.end()
        deadline_s = time.monotonic() + _PATIENCE_S
        while time.monotonic() < deadline_s and not all(child.has_ended() for child in children):
            time.sleep(0.05)
        for child in children:
            child.kill()
        if self._usage is not None:
            self._usage.close_bill()


def _free_ports() -> range:
    """Find ports that no other cluster of this host has."""
    for number in range(_MOST_CLUSTERS):
        first = _FIRST_PORT + number * _PORTS_EACH
        ports = range(first, first + _PORTS_EACH)
        if all(_is_free(port) for port in ports):
            return ports
    raise RuntimeError(f"No {_PORTS_EACH} ports are free from {_FIRST_PORT} on.")


def _is_free(port: int) -> bool:
    with socket.socket() as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind(("", port))
        except OSError:
            return False
        return True


def main() -> int:
    """Look after the node whose folder is named on the command line."""
    folder = Path(sys.argv[1])
    with (folder / LOCK).open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("An agent looks after this node already.", file=sys.stderr)  # noqa: T201 (its log)
            return 1
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        Agent(folder).run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
