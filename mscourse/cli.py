"""The command ``mscourse``, also ``python -m mscourse``."""

from __future__ import annotations

import argparse
import difflib
import os
import signal
import sys
from collections.abc import Sequence
from typing import Any

from mscourse import __version__
from mscourse.errors import MSCourseError
from mscourse.extras import comes_with


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit status.

    0: all is well. 1: something is wrong, and was said on standard error (or, for a check, on
    standard output). 2: the command itself was wrong. 130: it was interrupted. 141: nobody reads
    what it says any more.
    """
    try:
        try:
            return _run(arguments)
        finally:
            sys.stdout.flush()  # at the end of Python, nobody could catch what fails
    except BrokenPipeError:
        # As in `mscourse ... | head`. What Python still has to say at its end goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE


def _run(arguments: Sequence[str] | None) -> int:
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.run is None:
        parser.print_help()
        return 2
    try:
        return int(options.run(options))
    except MSCourseError as error:
        print(f"mscourse: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("mscourse: interrupted", file=sys.stderr)
        return 130


class _Parser(argparse.ArgumentParser):
    """A parser whose commands, and theirs, complain with their own usage of what is too much."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        # Otherwise what a command does not know comes back to the parser of all commands, whose
        # usage helps nobody.
        options, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return options, unknown

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        # Python proposes something itself from 3.14 on, if asked to.
        try:
            super()._check_value(action, value)
        except argparse.ArgumentError as error:
            similar = difflib.get_close_matches(str(value), map(str, action.choices or ()), n=1)
            meant = f". Did you mean {similar[0]}?" if similar else ""
            raise argparse.ArgumentError(action, f"{error.message}{meant}") from error


def _parser() -> argparse.ArgumentParser:
    from mscourse.cluster.cli import add_cluster_commands
    from mscourse.labs.cli import add_lab_commands

    parser = _Parser(
        prog="mscourse",
        description="Distributed model selection and assessment: the course's tool.",
    )
    parser.add_argument("--version", action="version", version=f"mscourse {__version__}")
    parser.set_defaults(run=None)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    doctor = commands.add_parser(
        "doctor",
        help="check that this machine can run the course",
        description="Check versions, cores, memory, disk and ports, and start a cluster.",
    )
    doctor.set_defaults(run=_doctor)
    _add_search_commands(commands)
    add_lab_commands(commands)
    add_cluster_commands(commands)
    completion = commands.add_parser(
        "completion",
        help="print what a shell needs to complete these commands",
        description="Print what a shell needs to complete these commands. For bash: "
        'eval "$(mscourse completion bash)" in ~/.bashrc; for zsh: `mscourse completion zsh` into '
        "a file _mscourse of a folder in $fpath.",
    )
    completion.add_argument("shell", choices=["bash", "zsh", "tcsh"])
    completion.set_defaults(run=_completion)
    return parser


def _add_search_commands(commands: Any) -> None:
    search = commands.add_parser(
        "search",
        help="look into the journal of a search",
        description="Look into the journal of a search, also while it runs.",
    )
    search.set_defaults(run=lambda options: search.print_help() or 2)
    actions = search.add_subparsers(title="commands", metavar="COMMAND")
    status = actions.add_parser(
        "status",
        help="show how far it has come, and the best candidates so far",
        description="Show how far a search has come, and the best candidates so far. The journal "
        "is only read.",
    )
    status.add_argument("journal", metavar="FILE", help="the journal: what was given as journal=")
    status.set_defaults(run=_search_status)


def _search_status(options: argparse.Namespace) -> int:
    from mscourse.journalreport import read_journal

    print(read_journal(options.journal))
    return 0


def _completion(options: argparse.Namespace) -> int:
    with comes_with("cluster", "Completions"):
        import shtab
    print(shtab.complete(_parser(), options.shell))
    return 0


def _doctor(options: argparse.Namespace) -> int:
    from mscourse import doctor

    n_bad = 0
    for finding in doctor.examine():
        n_bad += not finding.is_good
        mark = "ok " if finding.is_good else "BAD"
        print(f"{mark}  {finding.subject:<9} {finding.says}", flush=True)
    print("This machine is ready." if not n_bad else f"{n_bad} to mend, see above.")
    return 1 if n_bad else 0
