"""Make machines nodes that work: what they need, the controller, their engines, and the splits."""

from __future__ import annotations

import time
from collections.abc import Sequence

from mscourse.cluster.bootstrap import Bootstrap, Ready
from mscourse.cluster.inventory import Inventory
from mscourse.cluster.nodes import Node, Progress, counted
from mscourse.cluster.settings import ClusterSettings
from mscourse.cluster.transfer import relay_splits
from mscourse.cluster.volumes import mount_volume
from mscourse.errors import NodeError


def set_up(
    inventory: Inventory,
    nodes: Sequence[Node],
    settings: ClusterSettings,
    master: Node | None,
    progress: Progress,
) -> list[Node]:
    """Make machines nodes; give those that work. Of the others, `progress` tells.

    Parameters
    ----------
    inventory : Inventory
    nodes : sequence of Node
        Machines that run.
    settings : ClusterSettings
    master : Node or None
        Who has the controller already; None if it is one of `nodes`, and gets it now.
    progress : callable

    Raises
    ------
    NodeError
        If a master does not work: without it, the others have nothing to do.
    """
    ssh, services = inventory.ssh, inventory.services(nodes[0].cluster)
    bootstrap = Bootstrap(ssh, settings)
    deadline_s = time.monotonic() + settings.start_timeout_s
    progress(f"Setting up {counted(nodes)} ...")

    def prepare(node: Node) -> Ready:
        node_is = bootstrap.prepare(node, deadline_s)
        progress(f"{node.name} is ready.")
        return node_is

    prepared = ssh.each(nodes, prepare)
    ready = {node: each for node, each in prepared.items() if isinstance(each, Ready)}
    failed = {node: each for node, each in prepared.items() if isinstance(each, NodeError)}
    new_master = next((node for node in nodes if node.is_master), None)
    if new_master is not None:
        if new_master in failed:
            raise failed[new_master]
        for volume in inventory.provider(settings).attach_volumes(new_master, progress):
            mount_volume(ssh, new_master, volume, settings.cluster_user)
        services.write_orders(new_master, ready[new_master], settings)
        services.start(new_master, ready[new_master], settings)
        progress("The controller runs on the master.")
    master = new_master or master
    assert master is not None
    connection = services.engine_connection(master)
    names = set(services.sent(master, settings.data_folder)) if new_master is None else set()

    def join(node: Node) -> None:
        services.introduce(node, connection)
        services.write_orders(node, ready[node], settings)
        if names:
            missing = names - set(services.sent(node, settings.data_folder))
            relay_splits(ssh, master, node, sorted(missing), settings.data_folder)
        services.start(node, ready[node], settings)

    others = [node for node in ready if not node.is_master]
    joined = ssh.each(others, join)
    failed |= {node: each for node, each in joined.items() if isinstance(each, NodeError)}
    for node, error in failed.items():
        progress(f"{node.name} did not come: {error}")
    return [node for node in nodes if node not in failed]
