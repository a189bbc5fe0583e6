"""A pretend network: machines on one Linux computer, each a handful of namespaces.

::

    this process          laptop       node001      node002
    10.77.n.1 ── bridge ── eth0 ...     eth0         eth0
                           10.77.n.10   10.77.n.11   10.77.n.12

A machine has its own network, host name and process tree; it shares the file system, as if all
machines had been set up from the same image. The network of this process gets one more link, the
bridge, with an address that the machines reach. They reach nothing else.

Needs Linux, root, and the commands `ip`, `unshare` and `nsenter` (Debian: iproute2, util-linux).
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

_START_TIMEOUT_S = 10


def why_not() -> str | None:
    """Say what is missing here for a pretend network, or None."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        return "a pretend network needs Linux and root"
    missing = [name for name in ("ip", "unshare", "nsenter") if shutil.which(name) is None]
    if missing:
        return f"a pretend network needs {', '.join(missing)} (Debian: iproute2, util-linux)"
    tried = subprocess.run(
        ["unshare", "--net", "--uts", "--pid", "--fork", "--mount-proc", "ip", "link"],
        capture_output=True,
        text=True,
        check=False,
    )
    return f"no namespaces can be made here: {tried.stderr}" if tried.returncode else None


class Network:
    """A bridge and the machines on it; use it in a ``with`` block.

    Attributes
    ----------
    address : str
        Where this process is on the network.
    """

    def __init__(self) -> None:
        self._number = _free_number()
        self.bridge = f"mscourse{self._number}"
        self.address = self.address_of(1)
        self._machines: list[Machine] = []

    def __enter__(self) -> Network:
        _ip("link", "add", self.bridge, "type", "bridge")
        _ip("address", "add", f"{self.address}/24", "dev", self.bridge)
        _ip("link", "set", self.bridge, "up")
        return self

    def __exit__(self, *exception: object) -> None:
        for machine in self._machines:
            machine.power_off()
        _ip("link", "delete", self.bridge)

    def address_of(self, place: int) -> str:
        return f"10.77.{self._number}.{place}"

    def boot(self, name: str) -> Machine:
        """Add a machine with this host name."""
        place = len(self._machines)
        link = f"ms{self._number}-{place}"
        machine = Machine(name, self.address_of(10 + place), self.bridge, link)
        self._machines.append(machine)
        machine.power_on()
        return machine


class Machine:
    """A computer of the pretend network."""

    def __init__(self, name: str, address: str, bridge: str, link: str) -> None:
        self.name = name
        self.address = address
        self._bridge = bridge
        self._link = link  # the end of its cable that is in the bridge
        self._cord: subprocess.Popen[bytes] | None = None
        self._started: list[subprocess.Popen[bytes]] = []

    def power_on(self) -> None:
        # The first process of the machine, with which all others end. It ends itself when its
        # standard input does: also when this process is killed.
        self._cord = subprocess.Popen(
            [
                *("unshare", "--net", "--uts", "--pid", "--mount-proc", "--fork"),
                *("sh", "-c", f"hostname {self.name} && echo && exec cat"),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # unshare complains when its child is killed
            start_new_session=True,
        )
        assert self._cord.stdout is not None
        self._cord.stdout.readline()
        first = self._first_process()
        # The others remember the card of an address, so it stays the same when it boots again.
        card = "02:00:" + ":".join(f"{int(part):02x}" for part in self.address.split("."))
        _ip(
            *("link", "add", self._link, "type", "veth"),
            *("peer", "name", "eth0", "address", card, "netns", first),
        )
        self.heal()
        self.call("ip", "address", "add", f"{self.address}/24", "dev", "eth0")
        self.call("ip", "link", "set", "lo", "up")
        self.call("ip", "link", "set", "eth0", "up")

    def power_off(self) -> None:
        """End all its processes at once. The network still gets to know: connections are closed."""
        if self._cord is None:
            return
        assert self._cord.stdin is not None
        assert self._cord.stdout is not None
        os.kill(int(self._first_process()), 9)
        self._cord.stdin.close()
        self._cord.wait()
        self._cord.stdout.close()
        self._cord = None
        for process in self._started:
            process.wait()
        self._started.clear()
        # The kernel takes its end of the cable away a little later; a boot must not find it.
        with contextlib.suppress(subprocess.CalledProcessError):
            _ip("link", "delete", self._link)

    def vanish(self) -> None:
        """Be gone without a word, as when the power fails or a spot instance is taken back."""
        self.cut()
        self.power_off()

    def cut(self) -> None:
        """Cut its connection: what is sent is lost in silence, and nobody is told."""
        _ip("link", "set", self._link, "nomaster")

    def heal(self) -> None:
        """Connect it (again)."""
        _ip("link", "set", self._link, "master", self._bridge, "up")

    def start(
        self, command: Sequence[str], *, environment: Mapping[str, str], log: Path
    ) -> subprocess.Popen[bytes]:
        """Start a command in the background; it ends with the machine, or before."""
        with log.open("ab") as output:
            process = subprocess.Popen(
                [*self._inside(), *command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, **environment},
            )
        self._started.append(process)
        return process

    def call(self, *command: str) -> str:
        """Run a command to its end and give what it printed."""
        return _call(*self._inside(), *command)

    def _inside(self) -> list[str]:
        return [
            *("nsenter", "--target", self._first_process()),
            *("--net", "--uts", "--pid", "--mount", "--"),
        ]

    def _first_process(self) -> str:
        assert self._cord is not None, f"{self.name} is off"
        children = Path(f"/proc/{self._cord.pid}/task/{self._cord.pid}/children")
        return children.read_text().split()[0]


def _ip(*arguments: str) -> None:
    _call("ip", *arguments)


def _call(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise subprocess.CalledProcessError(done.returncode, command, done.stdout, done.stderr)
    return done.stdout


def _free_number() -> int:
    """Choose a network that no other run on this computer uses."""
    links = _call("ip", "-brief", "link")
    return next(n for n in range(100, 250) if f"mscourse{n} " not in links)
