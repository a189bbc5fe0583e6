"""Reach nodes with the OpenSSH of this machine: run scripts there, and copy files.

One connection per call, and no password is ever asked for. Every call has a deadline, but for
copies of data, which take as long as they take: ssh ends when the other side is silent for 20 s.
What somebody has set up in ``~/.ssh/config`` holds here too.
"""

from __future__ import annotations

import contextlib
import io
import shlex
import shutil
import subprocess
import tarfile
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import TypeVar

from mscourse.cluster.nodes import Node
from mscourse.errors import NodeError

Result = TypeVar("Result")

# A host that is there answers within a second or two, also on another continent.
_CONNECT_WITHIN_S = 10

# What most commands take is far less; what takes longer says so.
_COMMAND_WITHIN_S = 60.0

# Each is a process of its own, and waits more than it works.
_MOST_AT_ONCE = 32

# Exit status of ssh itself, when it is not that of the command.
_SSH_FAILED = 255

_UNREACHABLE = "It cannot be reached by ssh."

_LINES_SHOWN = 12

_HINTS = (
    ("No matching distribution", ("If it reaches no package index, name a folder of WHEELS, or a "
     "NODE_PYTHON on the nodes that has all packages.")),
    ("Permission denied", "The host refuses the key: see KEYNAME, and the user in HOSTS."),
    ("timed out", ("Is it switched on, and does a firewall let you in? Your address may have "
     "changed: `mscourse cluster start` again lets the new one in.")),
    ("Connection refused", "No ssh server answers there (yet)."),
    ("REMOTE HOST IDENTIFICATION HAS CHANGED", ("If the machine was set up anew, remove its line "
     "from the file that is named above.")),
    ("Could not resolve", "There is no host of this name: see HOSTS."),
    ("bad permissions", "Only you may be able to read a private key: chmod 600 it."),
)  # fmt: skip


class Ssh:
    """Runs ssh, scp and rsync.

    Parameters
    ----------
    known_hosts : pathlib.Path
        Where the keys of new hosts are noted. A host whose key has changed is refused. Those in
        ``~/.ssh/known_hosts`` are known, too.
    """

    def __init__(self, known_hosts: Path) -> None:
        self._known_hosts = known_hosts
        # Processes, each with what cancels it: each call of `each` is interrupted by itself.
        self._running: dict[subprocess.Popen[bytes], threading.Event | None] = {}
        self._lock = threading.Lock()
        self._in_thread = threading.local()

    @property
    def is_cancelled(self) -> bool:
        """Whether the call of `each` that this thread works for was interrupted."""
        cancelled = self._cancelled()
        return cancelled is not None and cancelled.is_set()

    def _cancelled(self) -> threading.Event | None:
        return getattr(self._in_thread, "cancelled", None)

    def command(self, node: Node, *options: str, user: str | None = None) -> list[str]:
        """Make the beginning of a command line, the host included.

        Parameters
        ----------
        node : Node
            It must have a host.
        *options : str
            Further options of ssh.
        user : str or None
            Who logs in; None: as its host says.
        """
        if node.host is None:
            raise NodeError(f"{node} has no address (it is {node.state}).")
        words = ["ssh", *self._options(node), *options]
        if node.host.port is not None:
            words += ["-p", str(node.host.port)]
        who = user or node.host.user
        if who is not None:
            words += ["-l", who]
        return [*words, "--", node.host.name]

    def _options(self, node: Node) -> list[str]:
        files = f'"{self._known_hosts}" ~/.ssh/known_hosts'
        options = {
            "BatchMode": "yes",  # never ask
            "ConnectTimeout": str(_CONNECT_WITHIN_S),
            "ServerAliveInterval": "5",
            "ServerAliveCountMax": "4",
            "StrictHostKeyChecking": "accept-new",
            "UserKnownHostsFile": files,
            "LogLevel": "ERROR",
        }
        if node.instance_type is not None:
            # Rented machines get the addresses of earlier ones; their ids are never used again.
            options["HostKeyAlias"] = node.id
        words = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
        if node.key is not None:
            words += ["-i", str(node.key.key_location), "-o", "IdentitiesOnly=yes"]
        return words

    def run(
        self,
        node: Node,
        script: str,
        *,
        does: str,
        timeout_s: float = _COMMAND_WITHIN_S,
        user: str | None = None,
    ) -> str:
        """Run a script of bash on a node; give what it printed.

        Parameters
        ----------
        node : Node
        script : str
            Travels through standard input, so that no shell reads it but bash.
        does : str
            What it does, for errors: "the controller was started".
        timeout_s : float
        user : str or None
            Who logs in; None: as its host says.

        Raises
        ------
        NodeError
            If it cannot be reached, the script fails, or does not end in time.
        """
        command = [*self.command(node, user=user), "exec bash -s"]
        return self._call(node, command, ("set -eu\n" + script).encode(), does, timeout_s).decode(
            errors="replace"
        )

    def write(self, node: Node, path: str, content: bytes) -> None:
        """Write a file that only its owner can read; it has its name when it is whole.

        Its folder is made if it is missing.

        Parameters
        ----------
        path : str
            On the node; relative to the home folder.
        """
        name, folder = shlex.quote(path), shlex.quote(str(PurePosixPath(path).parent))
        script = f"umask 077; mkdir -p {folder} && cat > {name}.new && mv {name}.new {name}"
        command = [*self.command(node), f"sh -c {shlex.quote(script)}"]
        self._call(node, command, content, f"{path} was written", _COMMAND_WITHIN_S)

    def unpack(self, node: Node, folder: str, files: Mapping[str, bytes]) -> None:
        """Copy files in one stream, for a node that may have no rsync yet.

        The file ``complete`` in the folder comes last.

        Parameters
        ----------
        folder : str
            On the node; relative to the home folder.
        files : mapping of str to bytes
            Their content, by their names in that folder.
        """
        stream = io.BytesIO()
        with tarfile.open(fileobj=stream, mode="w:gz", compresslevel=6) as archive:
            for name, content in files.items():
                entry = tarfile.TarInfo(name)
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
        where = shlex.quote(folder)
        command = [
            *self.command(node),
            f"mkdir -p {where} && tar -xzf - -C {where} && touch {where}/complete",
        ]
        self._call(node, command, stream.getvalue(), f"{folder} was filled", 5 * _COMMAND_WITHIN_S)

    def relay(self, source: Node, target: Node, script: str, reader: str, *, does: str) -> None:
        """Pipe what a command on one node prints into a command on another one, through here."""
        with tempfile.TemporaryFile() as errors:  # a pipe that nobody reads yet would fill up
            sends = subprocess.Popen(
                [*self.command(source), script],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
            )
            with sends, self._registered(sends):
                takes = subprocess.run(
                    [*self.command(target), reader], stdin=sends.stdout, capture_output=True
                )
                assert sends.stdout is not None
                sends.stdout.close()  # it ends if nobody reads
                sends.wait()
            errors.seek(0)
            said = errors.read()
        if sends.returncode:
            raise failure(source, does, sends.returncode, said)
        if takes.returncode:
            raise failure(target, does, takes.returncode, takes.stderr)

    def rsync(
        self,
        node: Node,
        sources: Sequence[str],
        target: str,
        *,
        to_node: bool,
        options: Sequence[str] = (),
        timeout_s: float | None = None,
    ) -> str:
        """Copy files with rsync: what is there already and has not changed is not sent.

        Parameters
        ----------
        node : Node
        sources : sequence of str
            Paths here if `to_node`, else there.
        target : str
            Path there if `to_node`, else here.
        to_node : bool
            The direction.
        options : sequence of str
            Of rsync, besides ``-a``.
        timeout_s : float or None
            None: as long as it takes, as long as the connection lives.
        """
        if shutil.which("rsync") is None:
            raise NodeError("There is no rsync on this machine. Install it to copy files.")
        *shell, _, host = self.command(node)
        there = f"[{host}]" if ":" in host else host
        if to_node:
            places = [*sources, f"{there}:{target}"]
        else:
            places = [*(f"{there}:{source}" for source in sources), target]
        command = ["rsync", "-a", "-e", shlex.join(shell), *options, "--", *places]
        does = f"{', '.join(sources)} came to {target}"
        return self._call(node, command, None, does, timeout_s).decode(errors="replace")

    def run_when_up(
        self, node: Node, script: str, deadline_s: float, *, does: str, user: str | None = None
    ) -> str:
        """Run a script as soon as one can log in; give what it printed.

        Parameters
        ----------
        node : Node
        script, does, user : str
            As of `run`.
        deadline_s : float
            Of ``time.monotonic``.

        Raises
        ------
        NodeError
            If it does not answer until then; with what it said last.
        """
        while True:
            try:
                return self.run(node, script, does=does, timeout_s=20, user=user)
            except NodeError as error:
                may_come = _UNREACHABLE in str(error) and "HAS CHANGED" not in str(error)
                if not may_come or time.monotonic() > deadline_s or self.is_cancelled:
                    raise
            time.sleep(0.5)

    def each(
        self, nodes: Iterable[Node], function: Callable[[Node], Result]
    ) -> dict[Node, Result | NodeError]:
        """Call a function for all nodes at once; give for each what it returned, or its error.

        An interruption ends what is under way, and what a function would still begin.
        """
        nodes = list(nodes)
        cancelled = threading.Event()
        n_threads = min(_MOST_AT_ONCE, max(1, len(nodes)))
        with ThreadPoolExecutor(
            n_threads, initializer=setattr, initargs=(self._in_thread, "cancelled", cancelled)
        ) as executor:
            futures = {node: executor.submit(function, node) for node in nodes}
            results: dict[Node, Result | NodeError] = {}
            try:
                for node, future in futures.items():
                    try:
                        results[node] = future.result()
                    except NodeError as error:
                        results[node] = error
            except BaseException:
                self._cancel(cancelled)
                for future in futures.values():
                    future.cancel()
                raise
        return results

    def _cancel(self, cancelled: threading.Event) -> None:
        with self._lock:
            cancelled.set()
            for process, by in self._running.items():
                if by is cancelled:
                    process.kill()

    @contextlib.contextmanager
    def _registered(self, process: subprocess.Popen[bytes]) -> Iterator[None]:
        with self._lock:
            self._running[process] = self._cancelled()
            if self.is_cancelled:
                process.kill()
        try:
            yield
        finally:
            with self._lock:
                del self._running[process]

    def _call(
        self, node: Node, command: Sequence[str], given: bytes | None, does: str,
        timeout_s: float | None,
    ) -> bytes:  # fmt: skip
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL if given is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        with process, self._registered(process):
            try:
                printed, said = process.communicate(given, timeout_s)
            except subprocess.TimeoutExpired:
                raise NodeError(
                    f"{node}: It took longer than {timeout_s:.0f} s until {does}."
                ) from None
            finally:
                process.kill()
        if process.returncode:
            raise failure(node, does, process.returncode, said)
        return printed


def failure(node: Node, does: str, status: int, said: bytes) -> NodeError:
    """Say that a command has failed on a node, before what, its last words, and what to do."""
    lines = [line for line in said.decode(errors="replace").splitlines() if line.strip()]
    text = "\n".join(f"  {line}" for line in lines[-_LINES_SHOWN:])
    hint = next((hint for sign, hint in _HINTS if sign in text), "")
    if status == _SSH_FAILED:
        what = _UNREACHABLE
    else:
        what = f"A command failed (exit status {status}) before {does}."
    return NodeError(f"{node}: {what} {hint}".rstrip() + (f"\n{text}" if text else ""))
