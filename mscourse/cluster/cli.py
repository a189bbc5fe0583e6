"""The command ``mscourse cluster``: its commands and their options.

What they do is in `mscourse.cluster.commands`, which is imported when one of them runs.
"""

from __future__ import annotations

import argparse
import importlib
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

from mscourse.arguments import positive
from mscourse.cluster.plancli import add_plan_command


def add_cluster_commands(subparsers: Any) -> None:
    """Add ``cluster`` and its commands to the subparsers of ``mscourse``.

    Each command sets ``run``, a function of the parsed arguments that returns the exit status.
    """
    cluster = subparsers.add_parser(
        "cluster",
        help="run clusters on EC2 or on machines that you reach by ssh",
        description="Run clusters on EC2 or on machines that you reach by ssh. The names of "
        "StarCluster's commands work as well. Exit status: 0 if all is well, 1 if something is "
        "wrong, 2 if the command itself was, 130 after Ctrl-C.",
    )
    cluster.set_defaults(run=lambda options: cluster.print_help() or 2)
    cluster.add_argument(
        "--config",
        metavar="FILE",
        help="the configuration (default: MSCOURSE_CLUSTER_CONFIG, or ~/.mscourse/cluster.ini)",
    )
    commands = cluster.add_subparsers(title="commands", metavar="COMMAND")
    _add_configuration(commands)
    _add_life(commands)
    _add_size(commands)
    _add_looks(commands)
    _add_work(commands)
    _add_aws(commands)
    add_plan_command(commands)


def _add_configuration(commands: Any) -> None:
    config = _add(
        commands,
        "config",
        "write_config",
        "write a configuration to begin with",
        "In it every setting is explained. Only you can read the file.",
    )
    config.add_argument("--force", action="store_true", help="replace a file that is there")
    config.add_argument(
        "-o",
        dest="output",
        metavar="FILE",
        help="where to write it, - to print it (default: --config)",
    )
    _add(
        commands,
        "check",
        "check_config",
        "check the configuration, and show what its templates mean",
        "Nothing is started, and nothing asked of the network.",
    )


def _add_life(commands: Any) -> None:
    start = _add(
        commands,
        "start",
        "start",
        "start a cluster, or one that was stopped again",
        "If it fails or is interrupted, what it has started is ended.",
    )
    _name(start)
    start.add_argument(
        "-c", "--template", metavar="TEMPLATE", help="which template (default: DEFAULT_TEMPLATE)"
    )
    start.add_argument(
        "-s",
        "--size",
        type=positive(int),
        metavar="N",
        help="nodes, the master included (CLUSTER_SIZE)",
    )
    _bid(start, "SPOT_BID")
    start.add_argument(
        "--force-spot-master",
        action="store_true",
        help="rent the master as a spot instance, too; if it is taken away, so is the cluster",
    )
    _dry_run(start)
    stop = _add(
        commands,
        "stop",
        "stop",
        "stop a cluster so that it can be started again",
        "Disks stay, and cost a little. Spot instances cannot be stopped: they end.",
    )
    _name(stop)
    terminate = _add(
        commands,
        "terminate",
        "terminate",
        "end a cluster for good, with what is on it",
        "Fetch your results before.",
    )
    _name(terminate)
    terminate.add_argument(
        "-y", "--yes", "-c", "--confirm", action="store_true", help="do not ask for the name"
    )
    _all_regions(terminate)
    restart = _add(
        commands,
        "restart",
        "restart",
        "start controller and engines of a cluster anew",
        "Its machines stay as they are. Clients must connect again. The exit status is 1 if a node "
        "does not come.",
        old=["rb"],
    )
    _name(restart)


def _add_size(commands: Any) -> None:
    add = _add(
        commands,
        "addnode",
        "add_node",
        "add nodes to a cluster",
        "A search that runs uses them at once.",
        old=["an"],
    )
    _name(add)
    add.add_argument(
        "-s", "--size", type=positive(int), default=1, metavar="N", help="how many (1)"
    )
    _bid(add, "as the cluster was started")
    _dry_run(add)
    remove = _add(
        commands,
        "removenode",
        "remove_node",
        "take nodes out of a cluster",
        "What they are at is finished first; nothing is lost.",
        old=["rn"],
    )
    _name(remove)
    remove.add_argument(
        "nodes", nargs="*", metavar="NODE", help="such as node002 (default: the last one)"
    )
    remove.add_argument(
        "-s",
        "--size",
        type=positive(int),
        default=1,
        metavar="N",
        help="how many of the last ones (1)",
    )
    remove.add_argument(
        "-f", "--force", action="store_true", help="at once: what runs there is done elsewhere"
    )
    remove.add_argument(
        "--within",
        type=positive(float),
        default=10,
        metavar="MINUTES",
        help="the longest wait (10)",
    )


def _add_looks(commands: Any) -> None:
    list_ = _add(
        commands,
        "list",
        "list_clusters",
        "list all clusters and their nodes",
        "",
        old=["listclusters", "lc"],
    )
    _all_regions(list_)
    status = _add(commands, "status", "status", "show what a cluster is doing", "Once.")
    _name(status)
    dashboard = _add(
        commands,
        "dashboard",
        "dashboard",
        "show what a cluster is doing, again and again",
        "Nodes, engines, queue, and cost so far. Ctrl-C ends it, and not the cluster.",
    )
    _name(dashboard)
    dashboard.add_argument(
        "--every", type=positive(float), metavar="SECONDS", help="(default: REFRESH_INTERVAL)"
    )
    logs = _add(commands, "logs", "logs", "show the ends of the logs of all nodes", "")
    _name(logs)
    logs.add_argument("--node", metavar="NODE", help="of this node only")
    logs.add_argument(
        "-n", "--lines", type=positive(int), default=20, metavar="N", help="how many (20)"
    )


def _add_work(commands: Any) -> None:
    for name, run, old in (("sshmaster", "ssh_master", "sm"), ("sshnode", "ssh_node", "sn")):
        where = "the master" if name == "sshmaster" else "a node"
        login = _add(
            commands, name, run, f"log in to {where}", "Or run a command there.", old=[old]
        )
        login.add_argument("-u", "--user", metavar="USER", help="as this user")
        login.add_argument(
            "-A",
            "--forward-agent",
            action="store_true",
            help="let it use the keys of your ssh agent, to reach other machines",
        )
        _name(login)
        if name == "sshnode":
            login.add_argument("node", metavar="NODE", help="such as node001")
        login.add_argument("command", metavar="COMMAND", nargs=argparse.REMAINDER)
    run_ = _add(commands, "run", "run", "run a command on all nodes at once", "")
    run_.add_argument("--node", metavar="NODE", help="on this node only")
    run_.add_argument(
        "--timeout",
        type=positive(float),
        default=600,
        metavar="S",
        help="the longest it may take (600)",
    )
    _name(run_)
    run_.add_argument("command", metavar="COMMAND", nargs=argparse.REMAINDER, action=_Command)
    for name, where in (
        ("put", "to the master, or to another node"),
        ("get", "from the master, or from another node"),
    ):
        more = "With rsync. The paths are FILES... TARGET."
        copy = _add(commands, name, name, f"copy files {where}", more)
        copy.add_argument("--node", metavar="NODE", help="another node than the master")
        _name(copy)
        copy.add_argument(
            "paths", metavar="PATH", nargs="+", action=_Paths, help="the last one is the target"
        )


def _add_aws(commands: Any) -> None:
    create = _add(
        commands,
        "createkey",
        "create_key",
        "make a key pair at EC2",
        "Its private half is written to a file that only you can read.",
        old=["ck"],
    )
    create.add_argument("name", metavar="NAME")
    create.add_argument("-o", "--output", required=True, metavar="FILE", help="the private key")
    remove = _add(commands, "removekey", "remove_key", "remove a key pair from EC2", "", old=["rk"])
    remove.add_argument("name", metavar="NAME")
    prices = _add(
        commands,
        "spothistory",
        "spot_history",
        "show what spot instances cost",
        "Now, at most and on average, in each zone.",
        old=["shi"],
    )
    prices.add_argument("types", metavar="TYPE", nargs="+", help="such as c5.xlarge")
    prices.add_argument("-d", "--days", type=float, default=7, help="how far back (7)")
    prices.add_argument("-r", "--region", metavar="REGION", help="another region")
    prices.add_argument("-p", "--plot", metavar="FILE.png", help="draw them, too")


def _add(
    commands: Any, name: str, run: str, help_: str, more: str, old: list[str] | None = None
) -> argparse.ArgumentParser:
    """Add a command; `run` is its function in `commands`, `old` its names at StarCluster."""
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        aliases=old or [],
        help=help_,
        description=f"{help_[0].upper()}{help_[1:]}. {more}".strip(),
    )
    parser.set_defaults(run=_later(run))
    return parser


class _Checked(argparse.Action):
    """An argument that is looked at as a whole before it is taken."""

    @abstractmethod
    def problem(self, values: Sequence[str]) -> str | None:
        """Say what is wrong with the values, and what to do; None if nothing is."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        problem = self.problem(values)
        if problem is not None:
            parser.error(problem)
        setattr(namespace, self.dest, values)


class _Command(_Checked):
    """A command for nodes. An empty one would succeed, and so would an option taken for it."""

    def problem(self, values: Sequence[str]) -> str | None:
        if not values:
            return "which command? It stands behind NAME, such as: df -h"
        if values[0].startswith("-"):
            return f"{values[0]} is no command. Options stand before NAME."
        return None


class _Paths(_Checked):
    """What to copy, and where to. With one path alone, rsync would list it and copy nothing."""

    def problem(self, values: Sequence[str]) -> str | None:
        if len(values) < 2:
            return f"where to? Name the target behind {values[0]}, such as: ."
        return None


def _later(name: str) -> Callable[[argparse.Namespace], int]:
    def run(arguments: argparse.Namespace) -> int:
        module = importlib.import_module("mscourse.cluster.commands")
        return int(getattr(module, name)(arguments))

    return run


def _name(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="the cluster's name")


def _bid(parser: argparse.ArgumentParser, default: str) -> None:
    parser.add_argument(
        "-b",
        "--bid",
        type=positive(float),
        metavar="USD",
        help=f"rent spot instances for at most so much per hour each (default: {default})",
    )


def _all_regions(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--all-regions",
        action="store_true",
        help="look in each region of the account, not only in those of the configuration",
    )


def _dry_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--dry-run", action="store_true", help="only tell what would be done, and what it costs"
    )
