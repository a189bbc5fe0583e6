# ruff: noqa: T201 (what is printed is for the chapter)
"""Where the chapter on clusters plays: a pretend EC2, or what is left of it on this computer.

::

    chapter ── !mscourse cluster ... ── a wrapper on the PATH ──► mscourse ──► pretend EC2, servers
            ── mscourse.cluster.connect ────────────────────────────────────────►  (rig.cloud)

Where machines cannot be pretended, without root or on another system than Linux, the same chapter
runs all the same: the wrapper says of each command that needs them that it is not run, and
`mscourse.cluster.connect` gives engines on this computer. That is decided here, and nowhere else.
"""

from __future__ import annotations

import atexit
import contextlib
import ipaddress
import logging
import os
import shlex
import shutil
import signal
import stat
import sys
import tempfile
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import ipyparallel as ipp
import psutil

import mscourse
from mscourse.draining import NODE_FOLDER_VARIABLE, busy_engines, drain

REGION = "us-west-2"

# What the book shows beside a column of this width would have to be scrolled.
_WIDTH = 84

# These ask nobody but the files of this computer.
_NEEDS_NO_MACHINE = ("config", "check", "plan")

# A drained engine is ended when its answer has travelled.
_ANSWER_TRAVELS_S = 1.0

# Long lines are wrapped, rows of tables are not; the learner's home is ~.
_FILTER = """\
import os, re, sys, textwrap
home = os.environ["HOME"]
for line in sys.stdin:
    line = line.rstrip("\\n").replace(home, "~")
    is_row = len(re.findall(r"\\S  +(?=\\S)", line)) >= 3
    if len(line) > WIDTH and not is_row:
        line = textwrap.fill(line, WIDTH, subsequent_indent="    ", break_on_hyphens=False)
    try:
        print(line, flush=True)
    except BrokenPipeError:  # as with `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
"""


class Stage:
    """Use it in a ``with`` block, or close it; else it is closed at the end of the process.

    Meanwhile the home folder is one of its own, and the environment knows no real AWS.

    Attributes
    ----------
    why_not : str or None
        Why machines cannot be pretended here.
    home : path
        The home folder of whoever reads the chapter.
    """

    def __init__(self) -> None:
        self._environment = dict(os.environ)
        self._connect = mscourse.cluster.connect
        self._ends = contextlib.ExitStack()
        self._here: Here | None = None
        self._is_open = True
        self._ends.callback(self._put_back)
        atexit.register(self.close)
        try:
            self.home = Path(tempfile.mkdtemp(prefix="mscourse-home-"))
            self._ends.callback(shutil.rmtree, self.home, ignore_errors=True)
            self.why_not = _why_not()
            if self.why_not is None:
                self._pretend_aws()
            else:
                mscourse.cluster.connect = self._connect_here
            self._set_environment()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Stage:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End all machines and engines, and put back what was changed; twice does nothing more."""
        if self._is_open:
            self._is_open = False
            atexit.unregister(self.close)
            self._ends.close()

    # What a chapter asks for

    def interrupt(self, node: str, *, notice_s: float | None = None) -> None:
        """Take a spot instance back as AWS does: so long after a notice, or without one."""
        if self.why_not is not None:
            assert self._here is not None, "nobody has connected"
            self._here.interrupt(node, notice_s)
        else:
            after_s = notice_s or 0.0
            instance_id = self._cloud.instance_id(node)
            self._ec2.interrupt(instance_id, after_s=after_s, notice=notice_s is not None)

    def sent_mb(self) -> float:
        """How much this computer has sent to the machines so far; to itself, if there are none."""
        cards = psutil.net_io_counters(pernic=True)
        if self.why_not is None:
            return cards[self._network.bridge].bytes_sent / 1e6
        return sum(card.bytes_sent for card in cards.values()) / 1e6

    def show(self, picture: Path | str) -> Any:
        """Give a picture, an SVG file that a command has drawn, for a notebook to display."""
        from IPython.display import SVG

        path = Path(picture).expanduser()
        if not path.exists() and self.why_not is not None:
            print(f"There is no picture: {_not_run(self.why_not)}")
            return None
        return SVG(filename=str(path))

    # How it is made

    def _pretend_aws(self) -> None:
        from rig.ec2 import FakeEc2
        from rig.network import Network

        self._network = self._ends.enter_context(Network(hidden=[self.home]))
        self._ec2 = self._ends.enter_context(FakeEc2(region=REGION))
        self._cloud = _cloud(self._ec2, self._network, self.home)

    def _set_environment(self) -> None:
        commands = self.home / ".stage"
        commands.mkdir(exist_ok=True)
        command = commands / "mscourse"
        command.write_text(self._wrapper())
        command.chmod(command.stat().st_mode | stat.S_IXUSR)
        # Else each process that draws would look for fonts anew.
        import matplotlib as mpl

        os.environ["MPLCONFIGDIR"] = mpl.get_configdir()
        os.environ["HOME"] = str(self.home)
        os.environ["PATH"] = os.pathsep.join([str(commands), os.environ.get("PATH", "")])
        os.environ.pop("MSCOURSE_CLUSTER_CONFIG", None)

    def _wrapper(self) -> str:
        python = shlex.quote(sys.executable)
        text = _FILTER.replace("WIDTH", str(_WIDTH))
        # Before the command, since it goes by the order of its lines.
        run = f"PYTHONUNBUFFERED=1 {python} -m mscourse \"$@\" 2>&1 | {python} -IS -c '{text}'"
        lines = ["#!/bin/sh"]
        if self.why_not is not None:
            allowed = "|".join(_NEEDS_NO_MACHINE)
            lines += [
                'command=$2; if [ "$2" = --config ]; then command=$4; fi',
                'if [ "$1" = cluster ]; then case "$command" in',
                f"  {allowed}) ;;",
                f"  *) echo {shlex.quote(_not_run(self.why_not))}; exit 0 ;;",
                "esac; fi",
            ]
        return "\n".join([*lines, run, ""])

    def _connect_here(self, name: str, **options: object) -> Here:
        assert self.why_not is not None
        print(f"mscourse.cluster.connect: {_not_run(self.why_not)}")
        print("Engines on this computer take their place.")
        if self._here is not None:
            self._here.close()
        self._here = Here(name, 3, self.home / ".stage")
        self._ends.callback(self._here.close)
        return self._here

    def _put_back(self) -> None:
        mscourse.cluster.connect = self._connect
        os.environ.clear()
        os.environ.update(self._environment)


def _why_not() -> str | None:
    """Say in plain words why there can be no pretend machines here, or None."""
    try:
        import rig.ec2  # noqa: F401  # it needs moto, which only those have who test
        from rig.network import why_not
        from rig.sshd import why_no_ssh
    except ImportError as error:
        return f"a pretend EC2 needs {error.name}"
    if sys.platform != "linux":
        return "a pretend network needs Linux and root"
    why = why_not() or why_no_ssh()
    return None if why is None else " ".join(why.split())


def _not_run(why: str) -> str:
    return f"(not run here: {why})"


def _cloud(ec2: Any, network: Any, home: Path) -> Any:
    """Make a cloud whose servers know the key that the chapter has had made."""
    from rig.cloud import Cloud

    class Keyed(Cloud):
        def _boot(self, instance: Any) -> None:
            # EC2 keeps the public half of each pair, and writes it into new instances.
            pair = ec2._backend.key_pairs[instance["KeyName"]]
            self._public_key = _as_text(pair.material_public)
            super()._boot(instance)

    folder = home / ".stage" / "metadata"
    folder.mkdir(parents=True)
    # Tests that run at the same time on this computer begin with the first address.
    skipped = int(ipaddress.ip_address(network.address)) >> 8 & 0xFF
    for subnets in ec2._backend.subnets.values():
        for subnet in subnets.values():
            for _ in range(10 * skipped):
                next(subnet._subnet_ip_generator)
    return Keyed(ec2, network, "", folder)


def _as_text(material: bytes | str) -> str:
    return material.decode() if isinstance(material, bytes) else material


@dataclass(frozen=True)
class _Node:
    """An engine of this computer that stands for a node."""

    name: str
    state: str = "running"


class Here:
    """Engines on this computer that stand for the nodes of a cluster, one each.

    It has what the chapter uses of `mscourse.cluster.Cluster`.
    """

    def __init__(self, name: str, n_nodes: int, folder: Path) -> None:
        self.name = name
        self._folder = folder
        self._pids: dict[str, int] = {}
        self._threads: list[threading.Thread] = []
        self._cluster = ipp.Cluster(n=0, log_level=logging.ERROR)
        self._cluster.start_controller_sync()
        self.client = self._cluster.connect_client_sync()
        try:
            self.add(n_nodes)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Here:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def nodes(self) -> list[_Node]:
        alive = [name for name, pid in self._pids.items() if psutil.pid_exists(pid)]
        return [_Node(name) for name in alive]

    def send(self, splits: Any) -> dict[str, Any]:
        """Send nothing: all read the same files."""
        return {}

    def add(self, n_nodes: int, *, spot_bid: float | None = None) -> list[_Node]:
        nodes = []
        for _ in range(n_nodes):
            number = len(self._pids)
            name = f"node{number:03}" if number else "master"
            folder = self._folder / name
            folder.mkdir(parents=True)
            before = set(self.client.ids)
            os.environ[NODE_FOLDER_VARIABLE] = str(folder)
            try:
                self._cluster.start_engines_sync(n=1)
            finally:
                del os.environ[NODE_FOLDER_VARIABLE]
            deadline_s = time.monotonic() + 60
            while not (new := set(self.client.ids) - before):
                assert time.monotonic() < deadline_s, "the engine has not come"
                time.sleep(0.02)
            self._pids[name] = self.client[new.pop()].apply_sync(os.getpid)
            nodes.append(_Node(name))
        return nodes

    def remove(self, names: Iterable[str], *, force: bool = False) -> None:
        for name in names:
            if not force:
                self._drain(name, None)
            self._kill(name)

    def interrupt(self, name: str, notice_s: float | None) -> None:
        if notice_s is None:
            self._kill(name)
            return
        # At once, since the chapter looks what it has done by then.
        drain(self._folder / name)
        thread = threading.Thread(target=self._go, args=(name, notice_s), daemon=True)
        self._threads.append(thread)
        thread.start()

    def _go(self, name: str, notice_s: float) -> None:
        self._drain(name, notice_s)
        self._kill(name)

    def _drain(self, name: str, within_s: float | None) -> None:
        """Come back when the engine is idle and its answer has arrived, or time is up."""
        folder = self._folder / name
        drain(folder)
        begun_s = time.monotonic()
        while busy_engines(folder) and time.monotonic() - begun_s < (within_s or 60):
            time.sleep(0.05)
        time.sleep(_ANSWER_TRAVELS_S)

    def _kill(self, name: str) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._pids[name], signal.SIGKILL)

    def close(self) -> None:
        for thread in self._threads:
            thread.join()
        self._threads.clear()
        with contextlib.suppress(Exception):  # twice
            self.client.close()
        with contextlib.suppress(Exception):
            self._cluster.stop_cluster_sync()
