"""A pretend EC2 whose instances are machines of the pretend network: one logs in, and runs things.

The protocol is that of `rig.ec2`; for each instance that runs there, a server boots at its private
address, with the metadata service that tells it of interruptions.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from rig.ec2 import FakeEc2
from rig.imds import update_metadata, write_metadata
from rig.network import Network
from rig.server import Server


class Cloud:
    """Boots and ends servers as instances come and go.

    Parameters
    ----------
    ec2 : FakeEc2
    network : Network
    public_key : str
        Who may log in to the instances.
    folder : path
        For the instances' metadata.

    Attributes
    ----------
    servers : dict of str to Server
        By the names of their nodes; of those that have ended, too.
    """

    def __init__(self, ec2: FakeEc2, network: Network, public_key: str, folder: Path) -> None:
        self._ec2 = ec2
        self._network = network
        self._public_key = public_key
        self._folder = folder
        self._by_id: dict[str, Server] = {}
        self._lock = threading.Lock()
        self.servers: dict[str, Server] = {}
        ec2.public_addresses = False
        ec2.on_pending = network.keep_here
        ec2.on_running = self._boot
        ec2.on_ended = self._end
        ec2.on_notice = self._tell

    def instance_id(self, node: str) -> str:
        """Tell the instance of a node that is alive."""
        return str(self._ec2.alive()[node].id)

    def _metadata(self, instance_id: str) -> Path:
        return self._folder / f"{instance_id}.json"

    def _boot(self, instance: Mapping[str, Any]) -> None:
        instance_id = str(instance["InstanceId"])
        with self._lock:  # the network counts its machines
            known = self._by_id.get(instance_id)
            if known is not None:
                known.power_on()
                return
            metadata = self._metadata(instance_id)
            write_metadata(metadata, {"instance-id": instance_id})
            address = str(instance["PrivateIpAddress"])
            for earlier in self._by_id.values():
                if earlier.address == address:  # it has ended, and its address is given anew
                    earlier.remove()
            server = self._network.boot_server(
                f"ip-{address.replace('.', '-')}",
                address=address,
                authorized_key=self._public_key,
                metadata=metadata,
            )
            self._by_id[instance_id] = server
            self.servers[instance["Tags"].get("mscourse:node", instance_id)] = server

    def _end(self, instance_id: str) -> None:
        with self._lock:
            server = self._by_id.get(instance_id)
            if server is not None and server.is_on:
                server.vanish()  # the last one says nothing

    def _tell(self, instance_id: str, when: datetime) -> None:
        notice = {"action": "terminate", "time": when.strftime("%Y-%m-%dT%H:%M:%SZ")}
        update_metadata(self._metadata(instance_id), {"spot/instance-action": notice})
