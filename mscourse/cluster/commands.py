# ruff: noqa: T201 (commands print)
"""What the commands of ``mscourse cluster`` do. Results go to standard output, news to error."""

from __future__ import annotations

import argparse
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from mscourse.cluster import views
from mscourse.cluster.config import find_config, read_config
from mscourse.cluster.manager import Manager
from mscourse.cluster.nodes import MASTER, Node
from mscourse.cluster.settings import ClusterSettings, Config
from mscourse.cluster.table import CLUSTER, as_text
from mscourse.cluster.template import template, write_template
from mscourse.errors import CloudError, ClusterError, NodeError, ParameterError
from mscourse.extras import comes_with


def load_config(arguments: argparse.Namespace) -> Config:
    """Read the configuration of the command line; its warnings go to standard error."""
    config = read_config(arguments.config)
    for warning in config.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    return config


def manager_of(arguments: argparse.Namespace) -> Manager:
    """Make a manager that tells what goes on."""
    start_s = time.monotonic()

    def tell(line: str) -> None:
        print(f"[{time.monotonic() - start_s:5.1f} s] {line}", file=sys.stderr, flush=True)

    return Manager(load_config(arguments), tell)


def write_config(arguments: argparse.Namespace) -> int:
    """Write the template of a configuration."""
    if arguments.output == "-":
        print(template(), end="")
        return 0
    path = find_config(arguments.config if arguments.output is None else arguments.output)
    write_template(path, overwrite=arguments.force)
    print(f"Wrote {path}. Edit it, then run `mscourse cluster check`.")
    return 0


def check_config(arguments: argparse.Namespace) -> int:
    """Check the configuration, and print what its templates mean."""
    config = load_config(arguments)
    print(config.path)
    for each in config.templates.values():
        print()
        print("\n".join(describe(each, is_default=each.name == config.default_template)))
    without_wheels = [
        each
        for each in config.templates.values()
        if each.wheels is not None and not any(each.wheels.glob("*.whl"))
    ]
    for each in without_wheels:
        print(
            f"[cluster {each.name}]: there are no wheels in {each.wheels} (WHEELS). Fill it before "
            "you start the cluster, or its nodes cannot install anything.",
            file=sys.stderr,
        )
    return 1 if without_wheels else 0


def describe(settings: ClusterSettings, *, is_default: bool = False) -> list[str]:
    """Describe a template in lines, a setting each."""
    lines = [f"[cluster {settings.name}]" + ("  (the default)" if is_default else "")]
    for setting in CLUSTER.settings:
        if setting.name in ("EXTENDS", "PLUGINS") or setting.only not in (None, settings.provider):
            continue  # their meaning is in the other settings
        value = as_text(getattr(settings, setting.attribute), setting.unset)
        lines.append(f"  {setting.name:<21} {value}")
    return lines


def start(arguments: argparse.Namespace) -> int:
    """Start a cluster."""
    manager = manager_of(arguments)
    request = manager.request_for(
        arguments.name,
        arguments.template,
        size=arguments.size,
        spot_bid=arguments.bid,
        force_spot_master=arguments.force_spot_master,
    )
    if arguments.dry_run:
        print("\n".join(views.steps(manager.plan(request))))
        return 0
    with _ends_like_ctrl_c():
        nodes = manager.start(request)
    print("\n".join(views.list_of_clusters(nodes)))
    print(f"Use it in Python: mscourse.cluster.connect({arguments.name!r})")
    missing = len(request.names) - len(nodes)
    return 1 if missing > 0 else 0


def stop(arguments: argparse.Namespace) -> int:
    """Stop a cluster."""
    manager_of(arguments).stop(arguments.name)
    return 0


def terminate(arguments: argparse.Namespace) -> int:
    """End a cluster for good."""
    manager = manager_of(arguments)
    if arguments.all_regions:
        manager.look_in_all_regions()
    nodes = manager.alive(arguments.name)
    if nodes and not arguments.yes:
        print("\n".join(views.list_of_clusters(nodes)), file=sys.stderr)
        print(f"To end it for good, type its name ({arguments.name}): ", end="", file=sys.stderr)
        sys.stderr.flush()
        answer = sys.stdin.readline()
        if answer.strip() != arguments.name:
            print("\nNothing was done. (--yes does not ask.)", file=sys.stderr)
            return 1
    manager.terminate(arguments.name)
    return 0


def restart(arguments: argparse.Namespace) -> int:
    """Start all again that runs on the nodes."""
    nodes, failed = manager_of(arguments).restart(arguments.name)
    print("\n".join(views.list_of_clusters(nodes)))
    return 1 if failed else 0


def list_clusters(arguments: argparse.Namespace) -> int:
    """List all clusters."""
    manager = manager_of(arguments)
    if arguments.all_regions:
        manager.look_in_all_regions()
    print("\n".join(views.list_of_clusters(manager.nodes())))
    for line in manager.silent():
        print(line, file=sys.stderr)
    return 0


def status(arguments: argparse.Namespace) -> int:
    """Show what a cluster is doing, once."""
    manager = manager_of(arguments)
    reports = manager.report(arguments.name)
    budget_usd = manager.budget_usd([each.node for each in reports])
    print("\n".join(views.dashboard(arguments.name, reports, budget_usd)))
    return 1 if any(each.error for each in reports) else 0


def dashboard(arguments: argparse.Namespace) -> int:
    """Show what a cluster is doing, again and again."""
    manager = manager_of(arguments)
    period_s = arguments.every or manager.config.settings.refresh_interval_s
    clears = "\x1b[2J\x1b[H" if sys.stdout.isatty() else ""
    is_first = True
    while True:
        try:
            reports = manager.report(arguments.name)
            budget_usd = manager.budget_usd([each.node for each in reports])
            lines = views.dashboard(arguments.name, reports, budget_usd)
        except CloudError as error:
            if is_first:
                raise
            lines = [f"Not known at the moment: {error}"]  # who watches for days meets a bad minute
        print(clears + "\n".join([*lines, f"(every {period_s} s; Ctrl-C ends it)"]), flush=True)
        is_first = False
        time.sleep(period_s)


def add_node(arguments: argparse.Namespace) -> int:
    """Add nodes."""
    manager = manager_of(arguments)
    if arguments.dry_run:
        there = manager.members(arguments.name)
        request = manager.growth(there, arguments.size, arguments.bid)
        print("\n".join(views.steps(manager.plan(request))))
        return 0
    with _ends_like_ctrl_c():
        nodes = manager.add(arguments.name, arguments.size, arguments.bid)
    print("\n".join(views.list_of_clusters(nodes)))
    return 0 if len(nodes) == arguments.size else 1


def remove_node(arguments: argparse.Namespace) -> int:
    """Take nodes out."""
    manager = manager_of(arguments)
    names = list(arguments.nodes)
    if not names:
        nodes = [node.name for node in manager.members(arguments.name) if not node.is_master]
        names = nodes[len(nodes) - arguments.size :] if arguments.size <= len(nodes) else []
        if not names:
            raise ParameterError(
                f"{arguments.size} nodes cannot be removed: besides the master there are "
                f"{len(nodes)}."
            )
    manager.remove(arguments.name, names, force=arguments.force, within_s=60.0 * arguments.within)
    return 0


def ssh_master(arguments: argparse.Namespace) -> int:
    """Log in to the master."""
    arguments.node = MASTER
    return ssh_node(arguments)


def ssh_node(arguments: argparse.Namespace) -> int:
    """Log in to a node, or run a command there in this terminal."""
    manager = manager_of(arguments)
    members = manager.members(arguments.name)
    node = _node(members, arguments.node)
    options = ["-A"] if arguments.forward_agent else []
    # A terminal there changes the ends of lines, which a file here must not get.
    options += ["-t"] if sys.stdin.isatty() and sys.stdout.isatty() else []
    command = manager.ssh.command(node, *options, user=arguments.user)
    with manager.in_use(members):
        return subprocess.run([*command, *arguments.command], check=False).returncode


def run(arguments: argparse.Namespace) -> int:
    """Run a command on all nodes, and show what each says."""
    manager = manager_of(arguments)
    members = manager.members(arguments.name)
    nodes = _running(members, arguments.node)
    # A single word is a line for the shell there, as with ssh: `run NAME 'ls | wc -l'`.
    words = arguments.command
    script = words[0] if len(words) == 1 else shlex.join(words)
    within_s = arguments.timeout
    with manager.in_use(members):
        results = manager.ssh.each(
            nodes, lambda node: manager.ssh.run(node, script, does="it ended", timeout_s=within_s)
        )
    for node, result in results.items():
        print(f"== {node.name}")
        print(str(result).rstrip(), file=sys.stderr if isinstance(result, NodeError) else None)
    return 1 if any(isinstance(each, NodeError) for each in results.values()) else 0


def put(arguments: argparse.Namespace) -> int:
    """Copy files to nodes."""
    manager = manager_of(arguments)
    *sources, target = arguments.paths
    members = manager.members(arguments.name)
    nodes = _running(members, arguments.node or MASTER)
    with manager.in_use(members):
        results = manager.ssh.each(
            nodes, lambda node: manager.ssh.rsync(node, sources, target, to_node=True)
        )
    return _say_failures(list(results.values()))


def get(arguments: argparse.Namespace) -> int:
    """Copy files from a node."""
    manager = manager_of(arguments)
    *sources, target = arguments.paths
    members = manager.members(arguments.name)
    node = _node(members, arguments.node or MASTER)
    with manager.in_use(members):
        manager.ssh.rsync(node, sources, target, to_node=False)
    return 0


def logs(arguments: argparse.Namespace) -> int:
    """Show the ends of the logs of a node, or of all."""
    manager = manager_of(arguments)
    services = manager.services(arguments.name)
    nodes = _running(manager.members(arguments.name), arguments.node)
    results = manager.ssh.each(nodes, lambda node: services.logs(node, arguments.lines))
    for node, result in results.items():
        print(f"== {node.name}\n{str(result).rstrip()}")
    return 1 if any(isinstance(each, NodeError) for each in results.values()) else 0


def create_key(arguments: argparse.Namespace) -> int:
    """Make a key pair at EC2."""
    from mscourse.cluster.ec2 import Ec2Provider

    path = Path(arguments.output).expanduser()
    config = load_config(arguments)
    Ec2Provider(config, None).create_key(arguments.name, path)
    print(f"Wrote {path}. Name it in {config.path}:")
    print(f"[key {arguments.name}]\nKEY_LOCATION = {arguments.output}")
    return 0


def remove_key(arguments: argparse.Namespace) -> int:
    """Remove a key pair from EC2; the file here stays."""
    from mscourse.cluster.ec2 import Ec2Provider

    Ec2Provider(load_config(arguments), None).remove_key(arguments.name)
    print(f"EC2 has no key {arguments.name} any more. The file on this machine is still there.")
    return 0


def spot_history(arguments: argparse.Namespace) -> int:
    """Show what spot instances cost."""
    from mscourse.cluster.ec2 import Ec2Provider

    config = load_config(arguments)
    settings = config.templates.get(config.default_template or "", ClusterSettings(""))
    if arguments.region is not None:
        settings = replace(settings, region=arguments.region)
    provider = Ec2Provider(config, settings)
    prices = provider.spot_history(arguments.types, arguments.days)
    on_demand = provider.on_demand_prices(arguments.types)
    print("\n".join(views.spot_prices(prices, on_demand)))
    missing = [name for name in arguments.types if name not in {e.instance_type for e in prices}]
    for name in missing:
        print(f"{name}: no spot instances in {provider.region}.", file=sys.stderr)
    if arguments.plot and prices:
        with comes_with("notebook", "Pictures"):
            from mscourse.plots.picture import picture
            from mscourse.plots.prices import spot_prices

        usd = {name: each.usd_per_hour for name, each in on_demand.items() if each.usd_per_hour}
        with picture(arguments.plot) as ax:
            spot_prices(prices, ax, on_demand_usd=usd)
        print(f"Drew {arguments.plot}.")
    return 1 if missing else 0


@contextmanager
def _ends_like_ctrl_c() -> Iterator[None]:
    """Let a terminal that is closed interrupt a block: what it has started has to end then, too."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    # What is ignored stays so, as with nohup.
    ends = [s for s in (signal.SIGHUP, signal.SIGTERM) if signal.getsignal(s) is signal.SIG_DFL]
    for each in ends:
        signal.signal(each, interrupt)
    try:
        yield
    finally:
        for each in ends:
            signal.signal(each, signal.SIG_DFL)


def _node(members: Sequence[Node], name: str) -> Node:
    nodes = {node.name: node for node in members}
    if name not in nodes:
        cluster, there = members[0].cluster, ", ".join(nodes)
        raise ParameterError(f"There is no {name!r} in {cluster!r}. There are: {there}.")
    if nodes[name].state != "running":
        raise ClusterError(f"{nodes[name]} is {nodes[name].state}.")
    return nodes[name]


def _running(members: Sequence[Node], name: str | None) -> list[Node]:
    if name is not None:
        return [_node(members, name)]
    nodes = [node for node in members if node.state == "running"]
    if not nodes:
        raise ClusterError(f"No node of {members[0].cluster!r} is running.")
    return nodes


def _say_failures(results: Sequence[object]) -> int:
    failures = [each for each in results if isinstance(each, NodeError)]
    for each in failures:
        print(each, file=sys.stderr)
    return 1 if failures else 0
