"""Start, stop and ask what runs on the nodes of a cluster: their agents, from here.

A node keeps what belongs to a cluster in ``~/.mscourse/clusters/NAME``: what it is to do, what it
says of itself, its logs, and the keys of the controller.
"""

from __future__ import annotations

import json
import shlex
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from typing import Any

from mscourse.cluster import nodefiles
from mscourse.cluster.bootstrap import Ready
from mscourse.cluster.nodes import Node
from mscourse.cluster.settings import ClusterSettings
from mscourse.cluster.ssh import Ssh
from mscourse.errors import NodeError
from mscourse.manifest import MANIFEST

# The first import on a new machine reads everything from its disk.
_AGENT_WITHIN_S = 90

# The agent gives its engines 5 s.
_STOPPED_WITHIN_S = 20

_LOG_LINES = 15

# Less than the shortest time after which an idle cluster stops.
_IN_USE_PERIOD_S = 20.0

# What is printed before it is not ours: a .bashrc may greet whoever comes in.
_MARK = "-- mscourse --"

# All scripts begin with these. Hosts may share a home by NFS; then the folder is another node's.
_PRELUDE = f"""\
echo "{_MARK}"
folder=%(folder)s
{nodefiles.IS_ALIVE}
says() {{ grep -qxF " \\"$1\\": \\"$2\\"," "$folder/{nodefiles.ORDERS}"; }}
is_of_another_node() {{
    [ -e "$folder/{nodefiles.ORDERS}" ] && ! says node %(node)s && ! says host %(host)s
}}
"""

# Whoever writes to the folder asks this before.
_OURS = """\
if is_of_another_node; then
    grep -E '^ "(node|host)":' "$folder/node.json" >&2
    echo "~/.mscourse/clusters/$(basename "$folder") belongs to that node. Hosts that share a" \\
        "home folder (by NFS) cannot be nodes of one cluster: let HOSTS name only one of them," \\
        "or users whose homes are their own. If it is left from another time, remove it." >&2
    exit 1
fi
"""

_START = """\
if is_alive; then echo "An agent looks after this node already." >&2; exit 1; fi
mkdir -p "$folder/logs" "$folder/profile/security" %(data_folder)s
chmod 700 "$folder"
rm -f "$folder"/stop "$folder"/draining "$folder"/in-use "$folder"/busy-* "$folder"/status.json
rm -rf "$folder"/profile/log
cd ~
export PYTHONPATH=%(package)s
setsid nohup %(python)s -m mscourse.cluster.agent "$folder" \
    >>"$folder/logs/agent.log" 2>&1 </dev/null &
for _ in $(seq %(tries)d); do
    if grep -q '"state": "working"' "$folder/status.json" 2>/dev/null; then exit 0; fi
    if [ -e "$folder/status.json" ] && ! is_alive; then break; fi
    sleep 0.2
done
why=$(grep -o '"why": "[^"][^"]*"' "$folder/status.json" 2>/dev/null | cut -d '"' -f 4) || true
if [ -n "$why" ]; then echo "It has stopped: $why." >&2; fi
tail -n %(lines)d "$folder"/logs/*.log >&2
exit 1
"""

_STOP = """\
if is_of_another_node; then exit 0; fi
touch "$folder/stop" 2>/dev/null || exit 0
for _ in $(seq %(tries)d); do is_alive || exit 0; sleep 0.2; done
# It hangs, and so would what it has started live on: each child leads a group of its own.
children=$(ps -e -o ppid= -o pid= | awk -v agent="$pid" '$1 == agent { print $2 }')
kill -9 "$pid"
for child in $children; do kill -9 -- "-$child" 2>/dev/null || true; done
"""

# Only splits: other files may lie there, too, such as the lost+found of a volume.
_SENT = f"""\
cd %(data_folder)s 2>/dev/null || exit 0
for manifest in */{MANIFEST}; do if [ -e "$manifest" ]; then dirname "$manifest"; fi; done
"""

# The nodes of a cluster know each other by their names. What is replaced is our own lines only.
_NAMES = (
    nodefiles.AS_ROOT
    + """\
{ grep -v '# mscourse$' /etc/hosts || true; printf '%%s' %(lines)s; } >"$folder/hosts"
as_root cp "$folder/hosts" /etc/hosts
"""
)

# An image whose account is root may have no sudo.
_HALT = 'if [ "$(id -u)" = 0 ]; then exec shutdown -h now; else exec sudo -n shutdown -h now; fi'

_STATUS = """\
if is_alive; then cat "$folder/status.json"; else echo; fi
"""


def folder_of(cluster: str) -> str:
    """Name the folder of a cluster on a node, relative to the home folder."""
    return f".mscourse/clusters/{cluster}"


@dataclass(frozen=True)
class NodeReport:
    """A node, and what it says of itself.

    Attributes
    ----------
    node : Node
    status : Status or None
        None if nothing runs there, or it does not answer.
    error : str
        Why it does not answer; else empty.
    """

    node: Node
    status: nodefiles.Status | None
    error: str = ""


class Services:
    """What runs on the nodes of a cluster.

    Parameters
    ----------
    ssh : Ssh
    cluster : str
        Its name.
    """

    def __init__(self, ssh: Ssh, cluster: str) -> None:
        self._ssh = ssh
        self._folder = folder_of(cluster)

    def write_orders(self, node: Node, ready: Ready, settings: ClusterSettings) -> None:
        """Tell a node what it is to do, once it is started.

        Raises
        ------
        NodeError
            If its folder is another node's, since their hosts share a home.
        """
        rented = node.instance_type is not None
        orders = nodefiles.Orders(
            cluster=node.cluster,
            node=node.name,
            template=node.template,
            host=str(node.host),
            is_master=node.is_master,
            n_engines=settings.engines_per_node,
            address=ready.address,
            data_folder=settings.data_folder,
            python=ready.python,
            package_folder=ready.package_folder,
            idle_stop_s=60.0 * settings.idle_stop_minutes,
            budget_usd=settings.budget_usd,
            halts=("sh", "-c", _HALT) if rented else (),
            has_metadata=rented,
        )
        self._check_folder(node)
        # On the node, bash reads it, which knows of no escapes.
        content = json.dumps(asdict(orders), indent=1, ensure_ascii=False).encode()
        self._ssh.write(node, f"{self._folder}/{nodefiles.ORDERS}", content)

    def start(self, node: Node, ready: Ready, settings: ClusterSettings) -> None:
        """Have a node do its orders; a master has its controller when this returns.

        Raises
        ------
        NodeError
            With the ends of its logs, if it does not.
        """
        script = _START % {
            "data_folder": quoted_path(settings.data_folder),
            "package": shlex.quote(ready.package_folder),
            "python": shlex.quote(ready.python),
            "tries": _AGENT_WITHIN_S * 5,
            "lines": _LOG_LINES,
        }
        self._run(node, script, "its engines ran", timeout_s=_AGENT_WITHIN_S + 30)

    def stop(self, node: Node) -> None:
        """End the engines and the controller of a node; a second time does nothing."""
        script = _STOP % {"tries": _STOPPED_WITHIN_S * 5}
        self._run(node, script, "its engines ended")

    def drain(self, node: Node) -> None:
        """Have the engines of a node take nothing more, and end when they are done."""
        self._run(
            node,
            'is_of_another_node || touch "$folder/draining"',
            "it was told to take nothing more",
        )

    def remove(self, node: Node) -> None:
        """Remove what the cluster has on a node, once that is stopped."""
        script = 'is_of_another_node || rm -rf "$folder"'
        self._run(node, script, "its files were removed")

    def status(self, node: Node) -> nodefiles.Status | None:
        """Ask a node what it says of itself; None if nothing runs there."""
        printed = self._run(node, _STATUS, "it told its state", timeout_s=20).strip()
        with _readable(node, f"{self._folder}/{nodefiles.STATUS}"):
            return nodefiles.Status.read(printed) if printed else None

    def logs(self, node: Node, n_lines: int) -> str:
        """Fetch the last lines of each log of a node."""
        return self._run(node, f'tail -n {n_lines} "$folder"/logs/*.log', "it gave its logs")

    @contextmanager
    def in_use(self, master: Node) -> Iterator[None]:
        """Keep a cluster from counting as idle meanwhile: its controller knows of no copies."""
        is_over = threading.Event()

        def keep() -> None:
            while not is_over.wait(_IN_USE_PERIOD_S):
                with suppress(NodeError):  # whatever is at work has its own way to say so
                    self._run(master, f'touch "$folder/{nodefiles.IN_USE}"', "it took a note", 15)

        thread = threading.Thread(target=keep, name="mscourse-in-use", daemon=True)
        thread.start()
        try:
            yield
        finally:
            is_over.set()
            thread.join()

    def client_connection(self, master: Node) -> dict[str, Any]:
        """Fetch what a client needs to connect to the controller."""
        return self._connection(master, nodefiles.CLIENT_CONNECTION)

    def engine_connection(self, master: Node) -> dict[str, Any]:
        """Fetch what an engine needs to connect to the controller."""
        return self._connection(master, nodefiles.ENGINE_CONNECTION)

    def introduce(self, node: Node, connection: Mapping[str, Any]) -> None:
        """Give a node what its engines need to connect to the controller."""
        self._check_folder(node)
        content = json.dumps(connection).encode()
        self._ssh.write(node, f"{self._folder}/{nodefiles.ENGINE_CONNECTION}", content)

    def write_bill(self, master: Node, nodes: Iterable[Node]) -> None:
        """Tell the master what its machines cost; those that are gone stay on the bill."""
        printed = self._run(master, 'cat "$folder/bill.json" 2>/dev/null || echo "[]"', "it paid")
        path = f"{self._folder}/{nodefiles.BILL}"
        with _readable(master, path):
            bill = updated_bill(json.loads(printed), nodes, time.time())
        self._ssh.write(master, path, json.dumps(bill).encode())

    def write_names(self, node: Node, nodes: Iterable[Node]) -> None:
        """Let a rented node reach all nodes by their names: ``ssh node001``."""
        lines = "".join(f"{each.private_address} {each.name} # mscourse\n" for each in nodes)
        script = _NAMES % {"lines": shlex.quote(lines)}
        self._run(node, script, "it knew the names of the others")

    def sent(self, node: Node, data_folder: str) -> list[str]:
        """List the folders of splits that were sent to a node."""
        script = _SENT % {"data_folder": quoted_path(data_folder)}
        return self._run(node, script, "it listed its data").splitlines()

    def _connection(self, master: Node, path: str) -> dict[str, Any]:
        try:
            printed = self._run(master, f'cat "$folder"/{path}', "it told how to connect")
            content: dict[str, Any] = json.loads(printed)
        except (NodeError, ValueError) as error:
            raise NodeError(f"{master}: No controller runs there.\n{error}") from error
        return content

    def _run(self, node: Node, script: str, does: str, timeout_s: float = 60.0) -> str:
        prelude = _PRELUDE % {
            "folder": f"$HOME/{self._folder}",
            "node": shlex.quote(node.name),
            "host": shlex.quote(str(node.host)),
        }
        printed = self._ssh.run(node, prelude + script, does=does, timeout_s=timeout_s)
        return printed.partition(f"{_MARK}\n")[2]

    def _check_folder(self, node: Node) -> None:
        """Raise if the folder of the cluster is another node's; a rented one has its own disk."""
        if node.instance_type is None:
            self._run(node, _OURS, "its folder was found to be its own")


@contextmanager
def _readable(node: Node, path: str) -> Iterator[None]:
    """Say of what a node has written that it cannot be read, if so."""
    try:
        yield
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise NodeError(f"{node}: ~/{path} there is damaged: {error!r}") from error


def updated_bill(
    bill: Sequence[Mapping[str, Any]], nodes: Iterable[Node], now_s: float
) -> list[dict[str, Any]]:
    """Bring a bill up to date: who is new begins to cost, who is gone has ended.

    Parameters
    ----------
    bill : sequence of dict
        See `mscourse.cluster.usage.cost_usd`.
    nodes : iterable of Node
        Those that there are now.
    now_s : float
        Of ``time.time``.
    """
    running = {node.id: node for node in nodes if node.state in ("pending", "running")}
    updated = []
    for each in bill:
        has_ended = each["to_s"] is None and each["id"] not in running
        updated.append({**each, "to_s": now_s} if has_ended else dict(each))
    open_ids = {each["id"] for each in updated if each["to_s"] is None}
    for node in running.values():
        if node.id not in open_ids and node.usd_per_hour is not None:
            started = node.launched_at
            from_s = now_s if started is None else started.timestamp()
            # What was on the bill already, before it was stopped or its agent restarted.
            paid = [each["to_s"] for each in updated if each["id"] == node.id]
            entry = {"id": node.id, "usd_per_hour": node.usd_per_hour}
            updated.append({**entry, "from_s": max([from_s, *paid]), "to_s": None})
    return updated


def quoted_path(path: str) -> str:
    """Quote a path for bash, in which ~/ means the home folder."""
    return '"$HOME"/' + shlex.quote(path[2:]) if path.startswith("~/") else shlex.quote(path)
