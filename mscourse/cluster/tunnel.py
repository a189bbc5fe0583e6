"""Reach a controller through one ssh process, which is started again when it ends.

::

    ipyparallel.Client ─→ 127.0.0.1:local ports ─→ ssh ═ port 22 ═→ master ─→ controller

ipyparallel's own tunnels are one ssh process for each port, and nobody looks after them.
"""

from __future__ import annotations

import contextlib
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping
from typing import Any

from mscourse.cluster.nodes import Node
from mscourse.cluster.ssh import Ssh
from mscourse.errors import NodeError

# The ports of a controller that a client speaks to, by their names in the connection file.
_PORTS = ("registration", "control", "mux", "task", "iopub", "notification", "broadcast")

_UP_WITHIN_S = 30.0
_LOOK_PERIOD_S = 0.05

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

    Attributes
    ----------
    connection : dict
        The same, for clients on this machine.
    n_restarts : int
        How often the connection was lost.
    """

    def __init__(self, ssh: Ssh, node: Node, connection: Mapping[str, Any]) -> None:
        self._node = node
        host = str(connection["interface"]).partition("://")[2]
        given = {name: connection[name] for name in _PORTS}
        remote = [port for each in given.values() for port in _listed(each)]
        local = dict(zip(remote, _free_ports(len(remote)), strict=True))
        ways = (f"127.0.0.1:{here}:{host}:{there}" for there, here in local.items())
        forwards = [word for way in ways for word in ("-L", way)]
        self.connection = dict(connection)
        for name, each in given.items():
            ports = [local[port] for port in _listed(each)]
            self.connection[name] = ports if isinstance(each, list) else ports[0]
        # A client on another host than "location" would want a tunnel of its own.
        self.connection |= {
            "interface": "tcp://127.0.0.1",
            "location": socket.gethostname(),
            "ssh": "",
        }
        # It ends with what it reads: also if this process is killed.
        self._command = [
            *ssh.command(node, "-T", "-o", "ExitOnForwardFailure=yes", *forwards),
            "exec cat",
        ]
        self.n_restarts = 0
        self._is_closing = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        try:
            self._open()
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

    def _open(self) -> None:
        """Start ssh, and wait until it forwards."""
        with tempfile.TemporaryFile() as said:
            self._process = process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=said,
                # Ctrl-C is for the notebook's cell, not for the connection.
                start_new_session=True,
            )
            port = self.connection["registration"]
            deadline_s = time.monotonic() + _UP_WITHIN_S
            while not self._is_closing.is_set():
                with contextlib.suppress(OSError):
                    socket.create_connection(("127.0.0.1", port), 1).close()
                    return
                if process.poll() is not None or time.monotonic() > deadline_s:
                    process.kill()
                    process.wait()
                    said.seek(0)
                    text = said.read().decode(errors="replace").strip()
                    raise NodeError(f"{self._node}: No tunnel could be opened. {text}".strip())
                time.sleep(_LOOK_PERIOD_S)
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
                self._open()
                pause_s = _FIRST_PAUSE_S
            except (NodeError, OSError):  # such as: too many open files
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)


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
