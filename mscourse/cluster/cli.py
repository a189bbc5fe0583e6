# ruff: noqa: T201 (a command prints)
"""The command ``mscourse cluster``: write and check the configuration of clusters.

What only some commands need is imported when they run.
"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from mscourse.cluster.settings import ClusterSettings, Config


def add_cluster_commands(subparsers: Any) -> None:
    """Add ``cluster`` and its commands to the subparsers of ``mscourse``.

    Each command sets ``run``, a function of the parsed arguments that returns the exit status.
    """
    cluster = subparsers.add_parser(
        "cluster",
        help="run clusters on EC2 or on machines that you reach by ssh",
        description="Run clusters on EC2 or on machines that you reach by ssh.",
    )
    cluster.set_defaults(run=lambda options: cluster.print_help() or 2)
    cluster.add_argument(
        "--config",
        metavar="FILE",
        help="the configuration (default: MSCOURSE_CLUSTER_CONFIG, or ~/.mscourse/cluster.ini)",
    )
    commands = cluster.add_subparsers(title="commands", metavar="COMMAND")

    def add(
        name: str, run: Callable[[argparse.Namespace], int], help_: str, description: str
    ) -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = commands.add_parser(
            name, help=help_, description=description
        )
        parser.set_defaults(run=run)
        return parser

    config = add(
        "config",
        write_config,
        "write a configuration to begin with",
        "Write a configuration to begin with, in which every setting is explained. Only you can "
        "read the file.",
    )
    config.add_argument("--force", action="store_true", help="replace a file that is there")
    config.add_argument(
        "-o",
        dest="output",
        metavar="FILE",
        help="where to write it, - to print it (default: --config)",
    )
    add(
        "check",
        check_config,
        "check the configuration, and show what its templates mean",
        "Check the configuration, and show what its templates mean. Nothing is started, and "
        "nothing asked of the network.",
    )


def write_config(arguments: argparse.Namespace) -> int:
    """Write the template of a configuration."""
    from mscourse.cluster.config import find_config
    from mscourse.cluster.template import template, write_template

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
    for template in config.templates.values():
        print()
        print("\n".join(describe(template, is_default=template.name == config.default_template)))
    return 0


def load_config(arguments: argparse.Namespace) -> Config:
    """Read the configuration of the command line; its warnings go to standard error."""
    from mscourse.cluster.config import read_config

    config = read_config(arguments.config)
    for warning in config.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    return config


def describe(template: ClusterSettings, *, is_default: bool = False) -> list[str]:
    """Describe a template in lines, a setting each."""
    from mscourse.cluster.table import CLUSTER, as_text

    lines = [f"[cluster {template.name}]" + ("  (the default)" if is_default else "")]
    for setting in CLUSTER.settings:
        if setting.name in ("EXTENDS", "PLUGINS") or setting.only not in (None, template.provider):
            continue  # their meaning is in the other settings
        value = as_text(getattr(template, setting.attribute), setting.unset)
        lines.append(f"  {setting.name:<21} {value}")
    return lines
