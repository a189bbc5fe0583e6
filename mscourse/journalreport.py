"""What a journal tells to people: how far its search has come, and who leads."""

from __future__ import annotations

import json
import math
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from tqdm import tqdm

from mscourse.errors import JournalError
from mscourse.identity import as_shown
from mscourse.journalfile import Content, Entry, checked_path, entries
from mscourse.results import MOST_ERRORS_SHOWN, Mean, first_line

_N_TOP = 5

# The splits of a candidate may have a row more or less: so much less counts as as many.
_AS_MANY = 0.9


@dataclass(frozen=True)
class Standing:
    """Where a candidate stands.

    Attributes
    ----------
    params : dict
        The candidate, as its parameters were described.
    n_train : int
        The most rows of a train set that it was evaluated on.
    test : Mean
        Of the test scores there, by the metric that comes first in the journal.
    n_splits : int
        How many splits these are.
    """

    params: Mapping[str, Any]
    n_train: int
    test: Mean
    n_splits: int


@dataclass(frozen=True)
class JournalReport:
    """What stands in a journal now.

    Attributes
    ----------
    path : pathlib.Path
        The file.
    n_done, n_failed : int
        Evaluations in it; each counts once.
    n_total : int or None
        How many the latest launch planned.
    n_launches : int
        How often a search was launched with it.
    leaders : list of Standing
        The best candidates, among those with the most rows and splits.
    latest_s : float or None
        When the latest evaluation began, in seconds since the epoch.
    errors, warnings : dict of str to int
        How often which error came, and which warning: the first line of each.
    damage : str or None
        What of it cannot be read.
    """

    path: Path
    n_done: int
    n_failed: int
    n_total: int | None
    n_launches: int
    leaders: list[Standing]
    latest_s: float | None
    errors: Mapping[str, int]
    warnings: Mapping[str, int]
    damage: str | None

    def __str__(self) -> str:
        n_done, n_total = self.n_done, self.n_total
        if n_total is not None and n_done <= n_total:
            done = f"{int(100 * n_done / max(1, n_total))}% ({n_done}/{n_total})"
        else:  # launches with other candidates have used it too
            done = f"{n_done} evaluations done"
        launches = "1 launch" if self.n_launches == 1 else f"{self.n_launches} launches"
        lines = [f"{self.path}: {done}, {launches}"]
        if self.latest_s is not None:
            ago = tqdm.format_interval(max(0.0, time.time() - self.latest_s))
            lines.append(f"The latest began {ago} ago.")
        lines += _counted("failed", self.errors) + _counted("warned", self.warnings)
        if self.damage:
            lines.append(f"Damaged: {self.damage}. These evaluations are run again.")
        for rank, each in enumerate(self.leaders, start=1):
            splits = "1 split" if each.n_splits == 1 else f"{each.n_splits} splits"
            shown = {
                name: as_shown(value, [other.params.get(name) for other in self.leaders])
                for name, value in each.params.items()
            }
            where = f"{splits}, {each.n_train} rows"
            lines.append(f"\nRank {rank}: validation: {each.test} on {where}:\n {shown}")
        return "\n".join(lines)


def _counted(did: str, counts: Mapping[str, int]) -> list[str]:
    most = Counter(counts).most_common()
    lines = [f"{n} {did}: {text}" for text, n in most[:MOST_ERRORS_SHOWN]]
    if others := most[MOST_ERRORS_SHOWN:]:
        lines.append(f"{sum(n for _, n in others)} {did}: with {len(others)} other messages")
    return lines


def read_journal(path: str | Path) -> JournalReport:
    """Look into a journal, also while a search writes to it. The file is only read.

    Parameters
    ----------
    path : path
        The file.

    Raises
    ------
    ParameterError
        If it can be no path.
    JournalError
        If it is no journal, or cannot be read.

    Examples
    --------
    >>> search = mscourse.grid_search(
    ...     SVC(), {"C": [1, 10]}, splits, engines=client, journal="digits.journal"
    ... )
    >>> search.wait()
    True
    >>> report = mscourse.read_journal("digits.journal")
    >>> report.n_done, report.n_total
    (10, 10)
    """
    path = checked_path(path)
    try:
        with path.open("rb") as file:
            return report_on(file, path)
    except (OSError, ValueError) as error:
        raise JournalError(f"The journal {path} cannot be read: {error}.") from error


def report_on(file: IO[bytes], path: Path) -> JournalReport:
    """Look into a journal that is open for reading."""
    content = Content()
    evaluations: dict[tuple[str, int, int], Entry] = {}
    for _, entry in entries(file, content):
        place = json.dumps(entry.params), entry.split, entry.outcome.n_train
        known = evaluations.get(place)
        if known is None or known.outcome.error is not None:
            evaluations[place] = entry
    content.n_torn_bytes = 0  # a line that is being written
    errors: Counter[str] = Counter()
    warnings: Counter[str] = Counter()
    for entry in evaluations.values():
        if entry.outcome.error is not None:
            errors[first_line(entry.outcome.error)] += 1
        warnings.update(set(map(first_line, entry.outcome.warnings)))
    starts = [entry.outcome.started_at_s for entry in evaluations.values()]
    known_starts = [start for start in starts if not math.isnan(start)]
    return JournalReport(
        path=path,
        n_done=len(evaluations),
        n_failed=errors.total(),
        n_total=content.sessions[-1]["n_total"] if content.sessions else None,
        n_launches=len(content.sessions),
        leaders=_leaders(evaluations),
        latest_s=max(known_starts, default=None),
        errors=errors,
        warnings=warnings,
        damage=content.damage(),
    )


def _ranking_metric(entries: Iterable[Entry]) -> str | None:
    """Name the metric that comes first, from the first entry that has all of them."""
    succeeded = (entry.outcome for entry in entries if entry.outcome.error is None)
    return next((outcome.metrics[0] for outcome in succeeded), None)


def _leaders(evaluations: Mapping[tuple[str, int, int], Entry]) -> list[Standing]:
    """Rank candidates by their mean test score where they have the most rows, best first."""
    by_candidate: dict[str, dict[int, list[Entry]]] = defaultdict(lambda: defaultdict(list))
    metric = _ranking_metric(reversed(list(evaluations.values())))
    for (params, _, n_train), entry in evaluations.items():
        if metric in entry.outcome.metrics:  # of several, another one may have failed
            by_candidate[params][n_train].append(entry)
    standings = []
    for by_rows in by_candidate.values():
        n_train = max(by_rows)
        chosen = [e for n, each in by_rows.items() if n >= _AS_MANY * n_train for e in each]
        scores = [
            entry.outcome.test_scores[entry.outcome.metrics.index(metric)] for entry in chosen
        ]
        standings.append(Standing(chosen[0].params, n_train, Mean.of(scores), len(scores)))
    if not standings:
        return []
    most_rows = max(each.n_train for each in standings)
    n_most = max(each.n_splits for each in standings if each.n_train >= _AS_MANY * most_rows)
    comparable = [
        each
        for each in standings
        if each.n_train >= _AS_MANY * most_rows
        and each.n_splits == n_most
        and not math.isnan(each.test.mean)
    ]
    return sorted(comparable, key=lambda each: -each.test.mean)[:_N_TOP]
