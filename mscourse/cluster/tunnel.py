"""Reach a controller through one ssh process, which is started again when it ends.

::

    ipyparallel.Client ─→ 127.0.0.1:local ports ─→ ssh ═ port 22 ═→ master ─→ controller

ipyparallel's own tunnels are one ssh process for each port, and nobody looks after them.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from typing import IO, Any

from mscourse.cluster.nodes import Node
from mscourse.cluster.ssh import Ssh
from mscourse.errors import MSCourseError, NodeError

# The ports of a controller that a client speaks to, by their names in the connection file.
_PORTS = ("registration", "control", "mux", "task", "iopub", "notification", "broadcast")

_UP_WITHIN_S = 30.0
_LOOK_PERIOD_S = 0.05
_MOST_TRIES = 3

# A connection that was lost may stay away for a while; the host need not be asked all the time.
_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 15.0


class Tunnel:
    """Forwards the ports of a controller to this machine, until it is closed.

    While the connection is lost, what is sent waits, and goes on when it is back: the local ports
    stay the same.

    Parameters
    ----------
    ssh : Ssh
    node : Node
        The master.
    connection : mapping
        What the controller has written for its clients.
    before_retry : callable, optional
        Called each time before a lost connection is opened again.

    Attributes
    ----------
    connection : dict
        The same, for clients on this machine.
    n_restarts : int
        How often the connection was lost.
    """

    def __init__(
        self,
        ssh: Ssh,
        node: Node,
        connection: Mapping[str, Any],
        before_retry: Callable[[], None] | None = None,
    ) -> None:
        self._ssh = ssh
        self._node = node
        self._before_retry = before_retry
        self.n_restarts = 0
        self._is_closing = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        try:
            self._open_first(connection)
        except BaseException:
            self.close()
            raise
        self._thread = threading.Thread(target=self._supervise, name="mscourse-tunnel", daemon=True)
        self._thread.start()

    @property
    def is_open(self) -> bool:
        """Whether the connection stands now."""
        return self._process is not None and self._process.poll() is None

    def close(self) -> None:
        """Close it; a second time does nothing."""
        self._is_closing.set()
        process = self._process
        if process is not None:
            _close_input(process)
            process.kill()
            process.wait()

    def _open_first(self, given: Mapping[str, Any]) -> None:
        """Open it with ports that are free: another program may take one before ssh does."""
        for tries_left in reversed(range(_MOST_TRIES)):
            self._take_ports(given)
            try:
                self._open()
                return
            except NodeError as error:
                if not tries_left or "in use" not in str(error):
                    raise

    def _take_ports(self, given: Mapping[str, Any]) -> None:
        """Choose local ports, from now on."""
        host = str(given["interface"]).partition("://")[2]
        remote = [port for name in _PORTS for port in _listed(given[name])]
        local = dict(zip(remote, _free_ports(len(remote)), strict=True))
        self.connection = dict(given)
        for name in _PORTS:
            ports = [local[port] for port in _listed(given[name])]
            self.connection[name] = ports if isinstance(given[name], list) else ports[0]
        # A client on another host than "location" would want a tunnel of its own.
        self.connection |= {
            "interface": "tcp://127.0.0.1",
            "location": socket.gethostname(),
            "ssh": "",
        }
        ways = (f"127.0.0.1:{here}:{host}:{there}" for there, here in local.items())
        forwards = [word for way in ways for word in ("-L", way)]
        # It says a word when all ports are forwarded, for ssh runs nothing before. It ends with
        # what it reads: also if this process is killed.
        self._command = [
            *self._ssh.command(self._node, "-T", "-o", "ExitOnForwardFailure=yes", *forwards),
            "echo up; exec cat",
        ]

    def _open(self) -> None:
        """Start ssh, and wait until it forwards."""
        with tempfile.TemporaryFile() as said:
            self._process = process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=said,
                # Ctrl-C is for the notebook's cell, not for the connection.
                start_new_session=True,
            )
            assert process.stdout is not None
            with process.stdout:
                deadline_s = time.monotonic() + _UP_WITHIN_S
                while not self._is_closing.is_set():
                    if _has_spoken(process.stdout):
                        return
                    if process.poll() is not None or time.monotonic() > deadline_s:
                        process.kill()
                        process.wait()
                        _close_input(process)
                        said.seek(0)
                        text = said.read().decode(errors="replace").strip()
                        raise NodeError(f"{self._node}: No tunnel could be opened. {text}".strip())
        self.close()  # whoever has closed it may have seen the process before this one only

    def _supervise(self) -> None:
        pause_s = _FIRST_PAUSE_S
        while not self._is_closing.is_set():
            assert self._process is not None
            self._process.wait()
            _close_input(self._process)
            if self._is_closing.wait(pause_s):
                return
            self.n_restarts += 1
            try:
                if self._before_retry is not None:
                    self._before_retry()
                self._open()
                pause_s = _FIRST_PAUSE_S
            except (MSCourseError, OSError):  # such as: too many open files
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)


def _has_spoken(output: IO[bytes]) -> bool:
    """Wait for a moment until a process says something; tell whether it has."""
    with selectors.DefaultSelector() as selector:
        selector.register(output, selectors.EVENT_READ)
        return bool(selector.select(_LOOK_PERIOD_S)) and bool(output.read(1))


def _close_input(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None
    with contextlib.suppress(OSError):
        process.stdin.close()


def _listed(ports: int | list[int]) -> list[int]:
    return ports if isinstance(ports, list) else [ports]


def _free_ports(n: int) -> list[int]:
    """Find free ports of this machine; each is held until the last one is found, or two are one."""
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(n)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]
