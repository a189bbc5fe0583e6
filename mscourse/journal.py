"""Finished evaluations on the disk: what a search that was cut off goes on from.

A journal is one file of lines that is only ever appended to (see `mscourse.journalfile`). The first
line tells what work it is of: data, estimator, scoring. Each launch writes a session, and each
finished evaluation is a line.

What is written has been handed to the disk (``fsync``) before `Journal.append` returns: it outlives
the end of this process by any signal, and a power cut as far as the disk keeps its word. Lines that
come back together are flushed together.

SQLite was considered. It needs three files, which do not work on network file systems; reading
while another process writes touches them; and of a damaged database much less is left.
"""

from __future__ import annotations

import contextlib
import fcntl
import io
import json
import os
import socket
import threading
import time
import weakref
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import mscourse
from mscourse.durable import flush, flush_folder
from mscourse.errors import (
    JournalError,
    JournalInUseError,
    JournalMismatchError,
)
from mscourse.evaluation import Outcome, Params
from mscourse.identity import described_params, differences, key_of
from mscourse.journalfile import (
    LONGEST_LINE_BYTES,
    Content,
    Entry,
    as_entry,
    checked_path,
    entries,
    evaluation_line,
    parsed_line,
    sealed_line,
    work_line,
)


class Journal:
    """A journal that is open for one search: what is done already, and where more is written.

    Made by `open_journal`. Only one search has it at a time.

    Attributes
    ----------
    path : pathlib.Path
        The file.
    content : Content
        What stood in it when it was opened.
    """

    def __init__(self, path: Path, file: io.BufferedRandom, *, retries_failed: bool) -> None:
        self.path = path
        self.content = Content()
        self._file = file
        self._lock = threading.Lock()
        self._offsets: dict[bytes, dict[tuple[int, int], int]] = {}
        self._latest: tuple[Params | None, str] = (None, "")
        failed: set[tuple[bytes, int, int]] = set()
        for offset, entry in entries(file, self.content, path):
            key = key_of(entry.params)
            place = entry.split, entry.outcome.n_train
            known = self._offsets.setdefault(key, {})
            is_failed = entry.outcome.error is not None
            if place not in known or (key, *place) in failed:  # a success stays
                if is_failed and retries_failed:
                    continue
                known[place] = offset
                (failed.add if is_failed else failed.discard)((key, *place))
        self._end = self.content.n_bytes

    def __len__(self) -> int:
        """How many evaluations have been read from it that nobody has asked for."""
        return sum(map(len, self._offsets.values()))

    def places(self, params: Params) -> dict[tuple[int, int], int]:
        """Tell which evaluations of a candidate are done.

        Returns
        -------
        dict
            By split and ``n_train``: where `read` finds it.
        """
        if not self._offsets:
            return {}
        return self._offsets.get(key_of(described_params(params)), {})

    def read(self, offset: int) -> Entry:
        """Read an evaluation."""
        with self._lock:
            self._file.seek(offset)
            line = self._file.readline(LONGEST_LINE_BYTES)
        content = parsed_line(line)
        if content is None:
            raise JournalError(f"{self.path} was changed while it was in use.")
        return as_entry(content)

    def take(self, params: Params, split: int, n_train: int) -> Entry | None:
        """Read an evaluation if it is done; it is given once."""
        offset = self.places(params).pop((split, n_train), None)
        return None if offset is None else self.read(offset)

    def write_work(self, work: Mapping[str, Any]) -> None:
        """Write the first line."""
        self._write([work_line(work)])

    def begin(self, n_total: int, n_splits: int) -> None:
        """Note a launch, and what is planned."""
        session = {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "started_at_s": time.time(),
            "n_total": n_total,
            "n_splits": n_splits,
            "mscourse": mscourse.__version__,
        }
        self._write([sealed_line({"session": session})])

    def append(self, done: Sequence[tuple[Params, int, Outcome, Hashable]]) -> None:
        """Write evaluations, and have them on the disk before this returns.

        Parameters
        ----------
        done : sequence of (params, split, outcome, engine)
            What has come back.

        Raises
        ------
        JournalError
            If they cannot be written. What was there before is whole.
        """
        self._write(
            [
                evaluation_line(self._described(params), split, outcome, engine)
                for params, split, outcome, engine in done
            ]
        )

    def close(self) -> None:
        """Leave it to others; a second time does nothing."""
        with self._lock:
            _release(self._file)

    def reopen(self) -> None:
        """Take it again after `close`; nothing is done if it is open.

        Raises
        ------
        JournalInUseError
            If another search has it.
        JournalError
            If another search has had it meanwhile, or it is gone.
        """
        if not self._file.closed:
            return
        try:
            file = self.path.open("r+b")
        except OSError as error:
            raise JournalError(f"The journal {self.path} cannot be opened: {error}.") from error
        try:
            _lock(file, self.path)
            if os.fstat(file.fileno()).st_size != self._end:
                raise JournalError(
                    f"{self.path} was changed by another search meanwhile. Launch this one again."
                )
        except BaseException:
            _release(file)
            raise
        self._file = file

    def _described(self, params: Params) -> str:
        # The splits of a candidate follow each other.
        if self._latest[0] is not params:
            self._latest = params, json.dumps(described_params(params))
        return self._latest[1]

    def _write(self, lines: Sequence[bytes]) -> None:
        text = b"".join(lines)
        with self._lock:
            descriptor = self._file.fileno()
            try:
                if not os.fstat(descriptor).st_nlink:
                    raise FileNotFoundError("it has been deleted")
                n_written = 0
                while n_written < len(text):
                    n_written += os.pwrite(descriptor, text[n_written:], self._end + n_written)
                flush(descriptor)
            except OSError as error:
                with contextlib.suppress(OSError):
                    # Half a line would be taken for a torn one, and said to be.
                    os.ftruncate(descriptor, self._end)
                raise JournalError(
                    f"The journal {self.path} cannot be written to: {error}. What was journalled "
                    "before is whole. Mend that, and launch again with the same journal: only what "
                    "is missing is run."
                ) from error
            self._end += len(text)


def open_journal(
    path: str | Path, work: Mapping[str, Any], *, retries_failed: bool = False
) -> Journal:
    """Open a journal for writing, and make it if there is none.

    Parameters
    ----------
    path : path
        The file.
    work : dict
        Describes what all evaluations have in common. It must be that of the journal.
    retries_failed : bool
        Whether evaluations that failed count as not done.

    Raises
    ------
    JournalInUseError
        If another search has it.
    JournalMismatchError
        If it is of other work.
    JournalError
        If it is no journal, or cannot be read or written.
    """
    path = checked_path(path).absolute()
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except (OSError, ValueError) as error:
        raise JournalError(f"The journal {path} cannot be opened: {error}.") from error
    try:
        file = os.fdopen(descriptor, "r+b")
    except OSError as error:  # such as a pipe, which has no beginning to go back to
        with contextlib.suppress(OSError):  # it may be closed already
            os.close(descriptor)
        raise JournalError(f"The journal {path} is no file that can be written anew.") from error
    try:
        _lock(file, path)
        journal = Journal(path, file, retries_failed=retries_failed)
        _check_work(journal, work)
        if journal.content.n_torn_bytes:
            os.ftruncate(descriptor, journal.content.n_bytes)
        if not journal.content.n_bytes:
            journal.write_work(work)
            flush_folder(path.parent)
    except OSError as error:
        _release(file)
        raise JournalError(f"The journal {path} cannot be opened: {error}.") from error
    except BaseException:
        _release(file)
        raise
    return journal


def _check_work(journal: Journal, work: Mapping[str, Any]) -> None:
    there = journal.content.work
    if there is None:
        if journal.content.n_bytes:
            raise JournalError(
                f"The first line of {journal.path} is damaged, so that nothing tells what its "
                "evaluations are of. Name another file, or put a copy of it in its place."
            )
        return
    here = json.loads(json.dumps(work))
    if there != here:
        lines = "\n".join(f"  {line}" for line in differences(there, here))
        if there.get("data") != here["data"]:
            lines += "\n  (persisted again, data are the same only with the same random_state)"
        raise JournalMismatchError(
            f"{journal.path} is the journal of other work. What differs:\n{lines}\n"
            "Launch the same search again, or name another file."
        )


def _lock(file: io.BufferedRandom, path: Path) -> None:
    """Take the file for this search; the lock ends with the process, however that ends."""
    _taken.add(file)
    try:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        content = Content()
        for _ in entries(file, content, path):
            pass
        who = "another search"
        if content.sessions:
            latest = content.sessions[-1]
            who += f" (process {latest['pid']} on {latest['host']})"
        raise JournalInUseError(
            f"{path} is in use by {who}. Wait until that is over, abort it, or name another file."
        ) from None


def _release(file: io.BufferedRandom) -> None:
    """Close a file, and end its lock, which forked processes may hold."""
    if not file.closed:
        with contextlib.suppress(OSError):
            fcntl.flock(file.fileno(), fcntl.LOCK_UN)
        file.close()


_taken: weakref.WeakSet[io.BufferedRandom] = weakref.WeakSet()


def _release_in_child() -> None:
    """Leave the journals of the parent to it: their locks are to end with the parent."""
    for file in list(_taken):
        file.raw.close()  # another thread may have held the buffer, for good


os.register_at_fork(after_in_child=_release_in_child)
