"""A computer of the pretend network: a handful of namespaces, and a cable to the bridge."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Cable:
    """What a machine is connected with.

    Attributes
    ----------
    bridge : str
        The network card of this computer that connects all machines.
    link : str
        The end of the cable that is in the bridge.
    networks : tuple of str
        Where others can be reached through it, as ``10.77.100.0/24``.
    """

    bridge: str
    link: str
    networks: tuple[str, ...]


class Machine:
    """A computer with a network, a host name and processes of its own, and the files of this one.

    Attributes
    ----------
    name, address : str
        Its host name, and where it is on the network.
    """

    def __init__(self, name: str, address: str, cable: Cable) -> None:
        self.name = name
        self.address = address
        self._cable = cable
        self._cord: subprocess.Popen[bytes] | None = None
        self._started: list[subprocess.Popen[bytes]] = []

    @property
    def is_on(self) -> bool:
        return self._cord is not None

    def power_on(self) -> None:
        # The first process of the machine, with which all others end. It takes away those that
        # have ended and have no parent any more, as a first process must: the shell does while it
        # waits for `cat`. It ends when its standard input does: also when this process is killed.
        self._cord = subprocess.Popen(
            [
                *self._before(),
                *("unshare", "--net", "--uts", "--pid", "--mount-proc", "--fork", "sh", "-c"),
                " && ".join([*self._first_steps(), f"hostname {self.name}", "echo", "cat"]) + "; :",
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # unshare complains when its child is killed
            start_new_session=True,
        )
        assert self._cord.stdout is not None
        assert self._cord.stdout.readline(), f"{self.name} does not start"
        first = self._first_process()
        # The others remember the card of an address, so it stays the same when it boots again.
        card = "02:00:" + ":".join(f"{int(part):02x}" for part in self.address.split("."))
        ip(
            *("link", "add", self._cable.link, "type", "veth"),
            *("peer", "name", "eth0", "address", card, "netns", first),
        )
        # Out of the bridge, this computer would still hear on it what the machine says.
        Path(f"/proc/sys/net/ipv4/conf/{self._cable.link}/rp_filter").write_text("1")
        self.heal()
        steps = [
            "ip link set lo up",
            f"ip address add {self.address}/32 dev eth0",
            "ip link set eth0 up",
            *(f"ip route add {network} dev eth0" for network in self._cable.networks),
        ]
        self.call("sh", "-c", " && ".join(steps))

    def power_off(self) -> None:
        """End all its processes at once. The network still gets to know: connections are closed."""
        if self._cord is None:
            return
        assert self._cord.stdin is not None
        assert self._cord.stdout is not None
        with contextlib.suppress(IndexError, ProcessLookupError):  # it has ended already
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
            ip("link", "delete", self._cable.link)

    def vanish(self) -> None:
        """Be gone without a word, as when the power fails or a spot instance is taken back."""
        if self.is_on:
            self.cut()
            self.power_off()

    def cut(self) -> None:
        """Cut its connection: what is sent is lost in silence, and nobody is told."""
        ip("link", "set", self._cable.link, "nomaster")

    def heal(self) -> None:
        """Connect it (again)."""
        ip("link", "set", self._cable.link, "master", self._cable.bridge, "up")

    def remove(self) -> None:
        """Power it off for good, and keep nothing of it."""
        self.power_off()

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
                env={**self._environment(), **environment},
            )
        self._started.append(process)
        return process

    def call(self, *command: str) -> str:
        """Run a command to its end and give what it printed."""
        return call(*self._inside(), *command, environment=self._environment())

    def _before(self) -> list[str]:
        """Give the command that runs the command that makes the namespaces."""
        return []

    def _first_steps(self) -> list[str]:
        """Give the commands that it runs when it starts, before it has a network."""
        return []

    def _environment(self) -> Mapping[str, str]:
        return os.environ

    def _inside(self) -> list[str]:
        return [
            *("nsenter", "--target", self._first_process()),
            *("--net", "--uts", "--pid", "--mount", "--"),
        ]

    def _first_process(self) -> str:
        assert self._cord is not None, f"{self.name} is off"
        children = Path(f"/proc/{self._cord.pid}/task/{self._cord.pid}/children")
        return children.read_text().split()[0]


def ip(*arguments: str) -> None:
    """Change the network of this computer."""
    call("ip", *arguments)


def call(*command: str, environment: Mapping[str, str] | None = None) -> str:
    """Run a command to its end and give what it printed."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise CommandError(done.returncode, command, done.stdout, done.stderr)
    return done.stdout


class CommandError(subprocess.CalledProcessError):
    """A command has failed; the message says what it has said."""

    def __str__(self) -> str:
        return f"{super().__str__()}\n{self.stderr}"
