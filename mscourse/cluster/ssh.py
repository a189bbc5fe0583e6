"""Reach nodes with the OpenSSH of this machine: run scripts there, and copy files.

One connection per call, and no password is ever asked for. Every call has a deadline, but for
copies of data, which take as long as they take: ssh ends when the other side is silent for 20 s.
What ``~/.ssh/config`` says of how hosts are reached holds here too.
"""

from __future__ import annotations

import contextlib
import io
import math
import random
import re
import selectors
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
from typing import IO, NamedTuple, TypeVar

from mscourse.cluster.nodes import Node
from mscourse.cluster.settings import Host
from mscourse.errors import NodeError

Result = TypeVar("Result")

# A host that is there answers within a second or two, also on another continent.
_CONNECT_WITHIN_S = 10

# What most commands take is far less; what takes longer says so.
_COMMAND_WITHIN_S = 60.0

# Each is a process of its own, and waits more than it works.
_MOST_AT_ONCE = 32

# To one host: sshd refuses some as soon as ten have not logged in yet (its MaxStartups).
_MOST_TO_ONE_HOST = 8

# What ssh says when it was refused before it had logged in, so that nothing has run there yet. A
# mere "Connection reset by" is not among these: that may also end a script that is under way.
_REFUSED = re.compile(rb"exchange_identification: |^Connection closed by \S+ port ", re.MULTILINE)
_AGAIN_AFTER_S = (0.5, 1.0, 2.0, 4.0)

# What somebody has set up for sessions in a terminal would break scripts and copies, or let them
# share a connection, on which our own options do not hold.
_NOT_A_TERMINAL = {
    "RequestTTY": "no",  # -t has its way all the same
    "RemoteCommand": "none",
    "PermitLocalCommand": "no",
    "ControlMaster": "no",
    "ControlPath": "none",
}

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


class _Ended(NamedTuple):
    """A command that has ended on a node."""

    node: Node
    printed: bytes
    said: bytes
    status: int

    @property
    def was_refused(self) -> bool:
        """Whether ssh was turned away before it had logged in, and may be let in a moment later."""
        is_ssh = self.status == _SSH_FAILED and not self.printed
        # With ProxyJump, the host behind the one on the way may not answer.
        return is_ssh and bool(_REFUSED.search(self.said)) and b"timed out" not in self.said


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
        self._places: dict[tuple[str, int | None], threading.Semaphore] = {}
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
        """Make the beginning of a command line, the host included, for a terminal or a tunnel.

        Ports that somebody forwards in ``~/.ssh/config`` are forwarded.

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

    def _command(self, node: Node, user: str | None = None) -> list[str]:
        """Make the beginning of a command line for a script or a copy."""
        # A port can be forwarded but once, and there are many of these at the same time.
        return self.command(node, "-o", "ClearAllForwardings=yes", user=user)

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
            **_NOT_A_TERMINAL,
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
        command = [*self._command(node, user), "exec bash -s"]
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
        command = [*self._command(node), f"sh -c {shlex.quote(script)}"]
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
        script = f"mkdir -p {where} && tar -xzf - -C {where} && touch {where}/complete"
        command = [*self._command(node), script]
        self._call(node, command, stream.getvalue(), f"{folder} was filled", 5 * _COMMAND_WITHIN_S)

    def relay(self, source: Node, target: Node, script: str, reader: str, *, does: str) -> None:
        """Pipe what a command on one node prints into a command on another one, through here.

        Both are run again if one of the hosts refuses the connection.
        """
        self._until_let_in(lambda: self._relay_once(source, target, script, reader), does)

    def _relay_once(self, source: Node, target: Node, script: str, reader: str) -> _Ended:
        with tempfile.TemporaryFile() as errors, contextlib.ExitStack() as ends:
            # A pipe that nobody reads yet would fill up, but not this file.
            with self._place_at(source):
                sends = ends.enter_context(
                    self._process([*self._command(source), script], None, errors)
                )
                assert sends.stdout is not None
                with selectors.DefaultSelector() as selector:
                    selector.register(sends.stdout, selectors.EVENT_READ)
                    selector.select()  # from then on it is logged in, or has ended
            takes = ends.enter_context(
                self._process([*self._command(target), reader], sends.stdout, subprocess.PIPE)
            )
            sends.stdout.close()  # it ends if nobody reads
            taken = _Ended(target, *takes.communicate(), takes.returncode)
            status = sends.wait()
            errors.seek(0)
            sent = _Ended(source, b"", errors.read(), status)
        # Whom nobody lets in reads nothing, and then the sender fails, too.
        return sent if sent.status and not taken.was_refused else taken

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
        *shell, _, host = self._command(node)
        there = f"[{host}]" if ":" in host else host
        # Before a colon, rsync would look for a host.
        if to_node:
            places = [*(re.sub("^(?!/)", "./", each) for each in sources), f"{there}:{target}"]
        else:
            places = [*(f"{there}:{each}" for each in sources), re.sub("^(?!/)", "./", target)]
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
    def _process(
        self, command: Sequence[str], given: int | IO[bytes] | None, complaints: int | IO[bytes]
    ) -> Iterator[subprocess.Popen[bytes]]:
        """Start a process that is killed when the call of `each` is interrupted, or this ends."""
        stdin = subprocess.DEVNULL if given is None else given
        with subprocess.Popen(
            command, stdin=stdin, stdout=subprocess.PIPE, stderr=complaints
        ) as process:
            with self._lock:
                self._running[process] = self._cancelled()
                if self.is_cancelled:
                    process.kill()
            try:
                yield process
            finally:
                process.kill()  # else an error would wait for it
                with self._lock:
                    del self._running[process]

    @contextlib.contextmanager
    def _place_at(self, node: Node) -> Iterator[None]:
        """Wait until there are not too many connections to a host."""
        host = node.host or Host(node.id)
        with self._lock:
            place = self._places.setdefault(
                (host.name, host.port), threading.Semaphore(_MOST_TO_ONE_HOST)
            )
        with place:
            yield

    def _until_let_in(
        self, attempt: Callable[[], _Ended], does: str, deadline_s: float = math.inf
    ) -> bytes:
        """Give what a command printed; one that was refused a connection is tried again."""
        pauses = iter(_AGAIN_AFTER_S)
        while (ended := attempt()).status:
            # Not all at the same time again.
            pause_s = random.uniform(0.5, 1.0) * next(pauses, math.inf)
            tries_again = ended.was_refused and time.monotonic() + pause_s < deadline_s
            if not tries_again or (self._cancelled() or threading.Event()).wait(pause_s):
                raise failure(ended.node, does, ended.status, ended.said)
        return ended.printed

    def _call(
        self, node: Node, command: Sequence[str], given: bytes | None, does: str,
        timeout_s: float | None,
    ) -> bytes:  # fmt: skip
        # What takes as long as it takes would keep the others waiting.
        with contextlib.nullcontext() if timeout_s is None else self._place_at(node):
            deadline_s = time.monotonic() + (timeout_s or math.inf)

            def attempt() -> _Ended:
                within_s = None if timeout_s is None else deadline_s - time.monotonic()
                stdin = None if given is None else subprocess.PIPE
                with self._process(command, stdin, subprocess.PIPE) as process:
                    printed, said = process.communicate(given, within_s)
                return _Ended(node, printed, said, process.returncode)

            try:
                return self._until_let_in(attempt, does, deadline_s)
            except subprocess.TimeoutExpired:
                raise NodeError(
                    f"{node}: It took longer than {timeout_s:.0f} s until {does}."
                ) from None


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
