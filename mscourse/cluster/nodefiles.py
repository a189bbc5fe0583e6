"""The files of a node's folder: what it is to do, and what it says of itself.

They are all that the agent of a node and the rest of the package have in common.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

# What the files of a node's folder are called.
ORDERS = "node.json"
STATUS = "status.json"
BILL = "bill.json"
STOP = "stop"
IN_USE = "in-use"
DRAINING = "draining"
LOCK = "agent.lock"
LOGS = "logs"
PROFILE = "profile"
ENGINE_CONNECTION = f"{PROFILE}/security/ipcontroller-engine.json"
CLIENT_CONNECTION = f"{PROFILE}/security/ipcontroller-client.json"

#: For bash: does something as root, on an image whose account is root or may become it.
AS_ROOT = 'as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi; }\n'

#: For bash: whether the agent lives whose folder is $folder, without a slash at its end; then its
#: number is $pid. After a reboot, another process may have this number, also the agent of another
#: cluster. A line of any length is wanted, else ps may cut it.
IS_ALIVE = f"""\
is_alive() {{
    pid=$(cat "$folder/{LOCK}" 2>/dev/null) && [ -n "$pid" ] &&
        case "$(ps -ww -p "$pid" -o args= 2>/dev/null)" in
            *"mscourse.cluster.agent $folder") true ;;
            *) false ;;
        esac
}}
"""


@dataclass(frozen=True)
class Orders:
    """What a node is to do: the content of ``node.json``, which whoever starts it writes.

    Attributes
    ----------
    cluster, node, template, host : str
        Its names.
    is_master : bool
    n_engines : int or None
        None: one per core.
    address : str
        Where the other nodes reach this one.
    data_folder : str
    python, package_folder : str
        What runs on the node, for whoever wants to run more there.
    idle_stop_s : float
        0: never.
    budget_usd : float or None
    halts : tuple of str
        The command that switches the machine off when the cluster stops by itself; empty: none.
    has_metadata : bool
        Whether this is an instance of EC2, whose service tells of interruptions.
    """

    cluster: str
    node: str
    template: str
    host: str
    is_master: bool
    n_engines: int | None
    address: str
    data_folder: str
    python: str
    package_folder: str
    idle_stop_s: float = 0.0
    budget_usd: float | None = None
    halts: tuple[str, ...] = ()
    has_metadata: bool = False

    @classmethod
    def read(cls, folder: Path) -> Orders:
        """Read them from a node's folder."""
        content = json.loads((folder / ORDERS).read_text(encoding="utf-8"))
        return cls(**content | {"halts": tuple(content["halts"])})


@dataclass
class Status:
    """What a node says of itself: the content of ``status.json``."""

    state: str = "starting"  # starting, working, draining, drained, broken, stopped
    why: str = ""
    pid: int = field(default_factory=os.getpid)
    at_s: float = 0.0
    n_engines: int = 0
    n_busy: int = 0
    n_restarts: int = 0
    load: float = 0.0
    n_cores: int = 0
    notice: dict[str, Any] | None = None
    rebalance: str | None = None
    # Of the master only.
    controller_pid: int | None = None
    engines_in_all: int | None = None
    queued: int | None = None
    completed: int | None = None
    idle_s: float | None = None
    spent_usd: float | None = None

    @classmethod
    def read(cls, text: str) -> Status:
        """Read what a node wrote; it may have another version, whose further fields are dropped."""
        known = {each.name for each in fields(cls)}
        return cls(**{name: value for name, value in json.loads(text).items() if name in known})
