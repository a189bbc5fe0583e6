"""The lines of a journal: JSON, each with its checksum, so that a torn one costs itself alone.

::

    {"format": "mscourse journal", "format_version": 1, "work": {...}, "crc32": ...}
    {"session": {"host": ..., "pid": ..., "n_total": 120, ...}, "crc32": ...}
    {"params": {"C": 10}, "split": 0, "n_train": 480, "test": {"score": 0.97}, ..., "crc32": ...}
    {"params": {"C": 10}, "split": 1, ...}

A journal may come from anywhere. Whatever its bytes are, reading it gives what was written or says
that it is damaged; it is JSON, which is read and never run.
"""

from __future__ import annotations

import json
import math
import os
import zlib
from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from mscourse.errors import JournalError, ParameterError
from mscourse.evaluation import Outcome

FORMAT = "mscourse journal"
FORMAT_VERSION = 1

# How each line ends.
_CHECKSUM = b', "crc32": '

# A line that is longer was not written by this module: a candidate with 100,000 parameters.
LONGEST_LINE_BYTES = 16 * 2**20

# Damaged lines that are listed by their numbers; more are counted.
_MOST_LISTED = 5

# What the first line of a journal begins with, whatever comes after.
_BEGINNING = f'{{"format": "{FORMAT}"'.encode()


@dataclass(frozen=True)
class Entry:
    """One finished evaluation, as a journal has it.

    Attributes
    ----------
    params : dict
        A description of the candidate: see `mscourse.identity`.
    split : int
        Number of the split.
    outcome : Outcome
        What came of it.
    engine : int, str or None
        Where it ran, as the client knew it.
    """

    params: Mapping[str, Any]
    split: int
    outcome: Outcome
    engine: Hashable


@dataclass
class Content:
    """What stands in a journal, besides its evaluations.

    Attributes
    ----------
    work : dict or None
        What the evaluations have in common; None if no line tells.
    sessions : list of dict
        The launches, the latest last.
    damaged_lines : list of int
        Numbers of lines that cannot be read, from 1 on.
    n_torn_bytes : int
        Length of the last line if it was not written to its end.
    n_bytes : int
        Length of all lines that were.
    """

    work: dict[str, Any] | None = None
    sessions: list[dict[str, Any]] = field(default_factory=list)
    damaged_lines: list[int] = field(default_factory=list)
    n_torn_bytes: int = 0
    n_bytes: int = 0

    def damage(self) -> str | None:
        """Say what is lost, or None."""
        lines, torn = self.damaged_lines, self.n_torn_bytes
        said = []
        if lines:
            listed = ", ".join(map(str, lines[:_MOST_LISTED]))
            more = f" and {len(lines) - _MOST_LISTED} more" if len(lines) > _MOST_LISTED else ""
            said.append(f"line {listed}{more} cannot be read")
        if torn:
            said.append(f"the last line was not written to its end ({torn} bytes)")
        return "; ".join(said) or None


def checked_path(path: object) -> Path:
    """Give the path of a journal, or raise ParameterError if it can be none."""
    if not isinstance(path, str | os.PathLike) or not str(path):
        raise ParameterError(f"journal must be the path of a file, not {path!r}.")
    return Path(path)


def entries(
    file: IO[bytes], content: Content, path: Path | None = None
) -> Iterator[tuple[int, Entry]]:
    """Read the evaluations of a journal, each with its place in the file.

    What is not an evaluation, and what cannot be read, is noted in ``content``.

    Parameters
    ----------
    file : binary file
        The journal, open for reading.
    content : Content
        Takes what else stands in it.
    path : pathlib.Path, optional
        What an error calls it, if the file was opened by its descriptor and so has no name.

    Raises
    ------
    JournalError
        If this is no journal, or one of a newer version of the package.
    """
    name = file.name if path is None else path
    file.seek(0)
    offset = number = 0
    is_longer = False  # in the middle of a line that is too long
    while line := file.readline(LONGEST_LINE_BYTES):
        start, offset = offset, offset + len(line)
        number += not is_longer
        was_longer, is_longer = is_longer, not line.endswith(b"\n")
        if start == 0 and not _may_begin(line):
            raise JournalError(
                f"{name} is no journal of this package, and is left as it is. Name another file."
            )
        if is_longer and len(line) < LONGEST_LINE_BYTES:
            content.n_torn_bytes += len(line)
            break
        content.n_bytes, content.n_torn_bytes = offset, 0
        if is_longer or was_longer:
            if not was_longer:
                content.damaged_lines.append(number)
            continue
        parsed = parsed_line(line)
        try:
            if parsed is None:
                raise ValueError
            if "format" in parsed:
                _note_work(parsed, content, name)
            elif "session" in parsed:
                content.sessions.append(_session(parsed["session"]))
            else:
                yield start, as_entry(parsed)
        except (ValueError, KeyError, TypeError, OverflowError):
            content.damaged_lines.append(number)


def _may_begin(line: bytes) -> bool:
    """Whether a file that begins like this may be a journal, perhaps with some damage."""
    whole = line.endswith(b"\n")
    if not whole:  # torn while it was made: it ends within its first line
        return line.startswith(_BEGINNING) or _BEGINNING.startswith(line)
    return line.startswith(_BEGINNING) or _CHECKSUM in line


def _note_work(parsed: Mapping[str, Any], content: Content, name: str | Path) -> None:
    if parsed["format"] != FORMAT or not isinstance(parsed["work"], dict):
        raise ValueError
    version = parsed["format_version"]
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise JournalError(
            f"{name} is of format version {version}, written by a newer mscourse; this one reads "
            f"up to {FORMAT_VERSION}. Update mscourse."
        )
    content.work = parsed["work"]


def _session(session: Any) -> dict[str, Any]:
    known = {name: session[name] for name in ("host", "pid", "started_at_s", "n_total", "n_splits")}
    for name in ("pid", "n_total", "n_splits"):
        _check(known[name], int)
    _check(known["host"], str)
    known["started_at_s"] = float(known["started_at_s"])
    return known


def as_entry(parsed: Mapping[str, Any]) -> Entry:
    """Take an evaluation from its line.

    Raises
    ------
    ValueError, KeyError, TypeError, OverflowError
        If it cannot have been written by this module.
    """
    params = _check(parsed["params"], dict)
    error, traceback = parsed["error"], parsed["traceback"]
    test, train = _check(parsed["test"], dict), _check(parsed["train"], dict)
    metrics = tuple(test)
    if error is None and not metrics:
        raise ValueError
    if train and tuple(train) != metrics:
        raise ValueError
    peak_bytes = parsed["peak_anonymous_bytes"]
    engine = parsed["engine"]
    outcome = Outcome(
        n_train=_count(parsed["n_train"]),
        metrics=metrics,
        test_scores=tuple(map(_float, test.values())),
        train_scores=tuple(map(_float, train.values())),
        fit_time_s=_float(parsed["fit_time_s"]),
        score_time_s=_float(parsed["score_time_s"]),
        error=None if error is None else _check(error, str),
        error_traceback=None if traceback is None else _check(traceback, str),
        started_at_s=_float(parsed["started_at_s"]),
        elapsed_s=_float(parsed["elapsed_s"]),
        peak_anonymous_bytes=None if peak_bytes is None else _count(peak_bytes),
        host=_check(parsed["host"], str),
        pid=_count(parsed["pid"]),
        warnings=tuple(_check(each, str) for each in _check(parsed.get("warnings", []), list)),
    )
    if engine is not None and not isinstance(engine, int | str):
        raise TypeError
    return Entry(params, _count(parsed["split"]), outcome, engine)


def _check(value: Any, kind: type) -> Any:
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise TypeError
    return value


def _count(value: Any) -> int:
    number: int = _check(value, int)
    if not 0 <= number < 2**63:
        raise ValueError
    return number


def work_line(work: Mapping[str, Any]) -> bytes:
    """Write what all evaluations have in common."""
    return sealed_line({"format": FORMAT, "format_version": FORMAT_VERSION, "work": work})


def evaluation_line(params: str, split: int, outcome: Outcome, engine: Hashable) -> bytes:
    """Write an evaluation; its parameters are given as JSON."""
    content = {
        "split": split,
        "n_train": outcome.n_train,
        "test": _scores(outcome.metrics, outcome.test_scores),
        "train": _scores(outcome.metrics, outcome.train_scores),
        "fit_time_s": _number(outcome.fit_time_s),
        "score_time_s": _number(outcome.score_time_s),
        "started_at_s": _number(outcome.started_at_s),
        "elapsed_s": _number(outcome.elapsed_s),
        "peak_anonymous_bytes": outcome.peak_anonymous_bytes,
        "host": outcome.host,
        "pid": outcome.pid,
        "engine": engine if isinstance(engine, int | str | None) else repr(engine),
        "error": outcome.error,
        "traceback": outcome.error_traceback,
    }
    if outcome.warnings:  # most have none
        content["warnings"] = outcome.warnings
    return _sealed(f'{{"params": {params}, {json.dumps(content)[1:]}')


def _scores(metrics: Iterable[str], scores: Iterable[float]) -> dict[str, Any]:
    return {name: _number(score) for name, score in zip(metrics, scores, strict=False)}


def _number(value: float) -> float | str | None:
    """Write what JSON has no number for in another way."""
    if math.isnan(value):
        return None
    return value if math.isfinite(value) else repr(value)


def _float(value: Any) -> float:
    if value is None:
        return math.nan
    if value in ("inf", "-inf"):
        return float(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError
    return float(value)


def sealed_line(content: Mapping[str, Any]) -> bytes:
    return _sealed(json.dumps(content))


def _sealed(text: str) -> bytes:
    """Give the line of a JSON object, with its checksum as the last entry."""
    body = text[:-1].encode()
    return b"%b%b%d}\n" % (body, _CHECKSUM, zlib.crc32(body))


def parsed_line(line: bytes) -> dict[str, Any] | None:
    """Read the object of a line, without its checksum; None if it is damaged."""
    body, _, checksum = line.rpartition(_CHECKSUM)
    try:
        if checksum != b"%d}\n" % zlib.crc32(body):
            return None
        content = json.loads(body + b"}")
    except (ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None
