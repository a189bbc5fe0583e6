"""A pretend network: machines on one Linux computer, each a handful of namespaces.

::

    this process          laptop       node001      i-0123...
    10.77.n.1 ── bridge ── eth0 ...     eth0         eth0
                           10.77.n.10   10.77.n.11   172.31.n.12

A machine (`boot`) has its own network, host name and process tree; it shares the file system, as if
all machines had been set up from the same image. A server (`boot_server`) has files of its own as
well, and an sshd. The network of this process gets one more link, the bridge, with an address that
the machines reach. They reach nothing else.

Needs Linux, root, and the commands `ip`, `unshare` and `nsenter` (Debian: iproute2, util-linux);
for servers see `rig.sshd`.
"""

from __future__ import annotations

import ipaddress
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from rig.machine import Cable, Machine, call, ip
from rig.server import Server

__all__ = ["Machine", "Network", "Server", "why_not"]

# The addresses that EC2 gives in the network that everybody has there.
_CLOUD = "172.31.0.0/16"

# In memory, but only as much as there are files.
_DISK_BYTES = 1 << 30


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

    Parameters
    ----------
    hidden : sequence of path
        Folders of this computer that the servers find empty, so that a test can prove that
        nothing relies on a file system that all share.

    Attributes
    ----------
    address : str
        Where this process is on the network.
    """

    def __init__(self, *, hidden: Sequence[Path] = ()) -> None:
        self._hidden = hidden
        self._number = _free_number()
        self.bridge = f"mscourse{self._number}"
        self.address = self.address_of(1)
        self._machines: list[Machine] = []

    def __enter__(self) -> Network:
        ip("link", "add", self.bridge, "type", "bridge")
        ip("address", "add", f"{self.address}/24", "dev", self.bridge)
        ip("link", "set", self.bridge, "up")
        return self

    def __exit__(self, *exception: object) -> None:
        for machine in self._machines:
            machine.remove()
        ip("link", "delete", self.bridge)

    def address_of(self, place: int) -> str:
        return f"10.77.{self._number}.{place}"

    def cloud_address_of(self, place: int) -> str:
        """Give an address that an instance of EC2 could have, and no other run on this computer."""
        return f"172.31.{self._number}.{place}"

    def boot(self, name: str) -> Machine:
        """Add a machine with this host name."""
        machine = Machine(name, self._next_address(), self._next_cable())
        self._machines.append(machine)
        machine.power_on()
        return machine

    def boot_server(
        self,
        name: str,
        *,
        authorized_key: str,
        address: str | None = None,
        metadata: Path | None = None,
        disk_bytes: int = _DISK_BYTES,
    ) -> Server:
        """Add a server with this host name; come back when one can log in.

        Parameters
        ----------
        name : str
            Its host name.
        authorized_key : str
            The public key of who may log in as root.
        address : str, optional
            Where it is, if not at the next address of this network: in 172.31.0.0/16. Two runs on
            this computer cannot have the same one at the same time (see `cloud_address_of`).
        metadata : path, optional
            A file of instance metadata; with it, the machine has a service that tells them.
        disk_bytes : int
            How much it can store.
        """
        server = Server(
            name,
            address or self._next_address(),
            self._next_cable(),
            authorized_key=authorized_key,
            metadata=metadata,
            hidden=self._hidden,
            disk_bytes=disk_bytes,
        )
        if address is not None:
            self.keep_here(address)
        self._machines.append(server)
        server.power_on()
        return server

    def keep_here(self, address: str) -> None:
        """Let nobody outside answer for this address, whether it has a machine yet or not.

        Some networks, such as those of containers, accept each connection, and say nothing more.
        """
        assert ipaddress.ip_address(address) in ipaddress.ip_network(_CLOUD), address
        # Only this address: the computer's own network may be one of these as well.
        ip("route", "replace", f"{address}/32", "dev", self.bridge, "src", self.address)

    def _next_address(self) -> str:
        return self.address_of(10 + len(self._machines))

    def _next_cable(self) -> Cable:
        return Cable(
            self.bridge,
            link=f"ms{self._number}-{len(self._machines)}",
            networks=(self.address_of(0) + "/24", _CLOUD),
        )


def _free_number() -> int:
    """Choose a network that no other run on this computer uses."""
    links = call("ip", "-brief", "link")
    # Two that look at the same time should not find the same one.
    numbers = [100 + (os.getpid() + n) % 150 for n in range(150)]
    return next(n for n in numbers if f"mscourse{n} " not in links)
