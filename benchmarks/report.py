"""Turn measurements into the tables of results.md, and into the one of the README."""
# ruff: noqa: RUF001  # people read a multiplication sign more easily than an x

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import halving
from workloads import Workload

Value = TypeVar("Value")

REFERENCE = "sequential"
PEER = "scikit-learn"
OURS = "mscourse"

_MB = 1e6

# What the project set out to reach.
_WALL_TO_PEER = 0.9
_WALL_TO_HALF = 1.1
_GROWTH_TO_DATA = 1.7
_GROWTH_PER_WORKER_BYTES = 12e6
_N_NOTHINGS = 10_000
_NOTHINGS_S = 1.0

_REPORT = """\
# The same work in mscourse and in its peers

Written by `make bench`; do not edit. Rounds of measurements: {rounds}. Each figure is their median,
with the least and the most in brackets. Smaller is better, except for scores.

## Targets

{targets}

## Large fits

{large}: settings of `SGDClassifier(max_iter=5, tol=None, random_state=0)`.

{large_2}

{large_8}

## Memory

The large fits once more: by how much the PSS of all processes together grew, at its peak.

{memory}

## Small fits

{small}: settings of `GaussianNB`. 2 workers.

{small_2}

## Evaluations that do nothing

The `fit` and `score` of this estimator return at once, so that what is left is the system's own
work. 2 workers. Where fewer evaluations were run, the seconds for {n_nothings:,} are extrapolated.

{nothings}

## Stopping early

Searches that give many candidates little data and few candidates all of it, beside the search that
gives all of them everything. Same candidates, same folds, 2 workers, one round. What each one
chose is judged by its score in the exhaustive search. The fit seconds are those of all fits
together.

{halving}

## Is it the same work?

The mean test scores of all candidates are compared with the sequential ones. `mscourse` stores the
rows of a fold in an order of its own, which changes a little what `SGDClassifier` learns; the rows
of each set are the same.

{same_work}

## How it was measured

- Every measurement runs in a fresh process. The systems take turns within each round, and each
  round begins with another one.
- When the clock starts there are data and workers, and a tiny search has warmed them up. All that a
  system does with the data is timed: persisting splits, dumping or sending arrays.
- What a system persists or dumps, it puts where it puts temporary files by itself. joblib prefers
  memory (`/dev/shm`), the others write to the folder for temporary files.
- Every process has one BLAS thread. The systems on ipyparallel use the same cluster, that of
  `mscourse.local_cluster`. None computes train scores, and none refits.
- "Sequential" is scikit-learn's `GridSearchCV(n_jobs=1)`. Half its time is what two cores could
  reach at best.
- "By hand" is the search that the course writes in thirty lines: a file for each split, dumped by
  joblib and mapped by the engines, and a message for each evaluation.
- Memory is measured in runs of its own, since measuring takes time: every 50 ms, for the client and
  all its descendants. PSS counts a page that n processes share as 1/n in each, so that the sum
  counts it once.

## The machine

{machine}
"""


@dataclass(frozen=True)
class Spread:
    """The median of repeated measurements, and the least and the most of them."""

    median: float
    least: float
    most: float

    def scaled(self, factor: float) -> Spread:
        return Spread(self.median * factor, self.least * factor, self.most * factor)

    def show(self, decimals: int) -> str:
        least, most = f"{self.least:,.{decimals}f}", f"{self.most:,.{decimals}f}"
        return f"{self.median:,.{decimals}f} ({least}–{most})"


class Results:
    """The measurements, to be asked for."""

    def __init__(self, measurements: Iterable[Mapping[str, Any]]) -> None:
        self._measurements = list(measurements)

    @property
    def systems(self) -> list[str]:
        return list(dict.fromkeys(m["system"] for m in self._measurements))

    def seconds(self, workload: str, n_workers: int, system: str) -> Spread | None:
        """Find the time; None if it was not measured, or the system failed once."""
        return _spread(m["elapsed_s"] for m in self._find(workload, n_workers, system, False))

    def seconds_each(self, workload: str, n_workers: int, system: str) -> Spread | None:
        """Find the time of a single evaluation."""
        seconds = self.seconds(workload, n_workers, system)
        if seconds is None:
            return None
        return seconds.scaled(1 / self.n_evaluations(workload, n_workers, system))

    def n_evaluations(self, workload: str, n_workers: int, system: str) -> int:
        n: int = self._find(workload, n_workers, system, False)[0]["n_evaluations"]
        return n

    def growth_mb(self, workload: str, n_workers: int, system: str) -> Spread | None:
        """Find the growth of the memory; None if it was not measured, or the system failed once."""
        growth = _spread(m["growth_bytes"] for m in self._find(workload, n_workers, system, True))
        return None if growth is None else growth.scaled(1 / _MB)

    def score_difference(self, workload: str, system: str) -> float | None:
        """Find the largest difference of mean test scores; None if there is nothing to compare."""
        spread = _spread(
            m["score_difference"]
            for m in self._measurements
            if (m["workload"], m["system"]) == (workload, system)
        )
        return None if spread is None else spread.most

    def _find(
        self, workload: str, n_workers: int, system: str, memory: bool
    ) -> list[Mapping[str, Any]]:
        key = (workload, n_workers, system, memory)
        return [
            m
            for m in self._measurements
            if (m["workload"], m["n_workers"], m["system"], m["memory"]) == key
        ]


def as_markdown(raw: Mapping[str, Any], works: Mapping[str, Workload]) -> str:
    """Write the report."""
    results = Results(raw["measurements"])
    return _REPORT.format(
        rounds=raw["rounds"],
        targets=_targets(results, works["large"], raw["halving"]),
        large=_described(works["large"]),
        large_2=_times(results, "large", 2),
        large_8=_times(results, "large", 8),
        memory=_memory(results, works["large"]),
        small=_described(works["small"]),
        small_2=_times(results, "small", 2),
        n_nothings=_N_NOTHINGS,
        nothings=_nothings(results),
        halving=halving.as_table(raw["halving"]),
        same_work=_same_work(results, works),
        machine=_table(("", ""), raw["machine"].items()),
    )


def as_summary(raw: Mapping[str, Any], works: Mapping[str, Workload]) -> str:
    """Write the table of the README: the large fits, in medians."""
    results = Results(raw["measurements"])
    work = works["large"]
    rows = []
    for system in results.systems:
        workers = (2, 2) if system == REFERENCE else (2, 8)
        seconds = [_median(results.seconds("large", n_workers, system)) for n_workers in workers]
        growth_mb = _median(results.growth_mb("large", workers[1], system))
        rows.append(
            (
                f"**{system}**" if system == OURS else system,
                *(_shown(s, "{:.1f} s".format) for s in seconds),
                _shown(growth_mb, "{:,.0f} MB".format),
            )
        )
    header = ("", "2 workers", "8 workers", "memory added by 8 workers")
    machine = raw["machine"]
    return (
        f"{work.n_samples:,} × {work.n_features} numbers ({work.data_bytes / _MB:.0f} MB), "
        f"{work.n_evaluations} evaluations of `SGDClassifier`, on a machine with "
        f"{machine['Cores']} cores:\n\n{_table(header, rows)}\n"
    )


def _described(work: Workload) -> str:
    return (
        f"{work.n_samples:,} × {work.n_features} float64 ({work.data_bytes / _MB:,.1f} MB), "
        f"5 stratified folds, {work.n_evaluations:,} evaluations of {len(work.values)} candidates"
    )


def _times(results: Results, workload: str, n_workers: int) -> str:
    peer_s = _median(results.seconds(workload, n_workers, PEER))
    half_s = _half_s(results, workload)
    rows = []
    for system in results.systems:
        seconds = results.seconds(workload, 2 if system == REFERENCE else n_workers, system)
        rows.append(
            (
                system,
                _shown(seconds, lambda s: s.show(1)),
                _shown(_over(seconds, peer_s), "{:.2f}".format),
                _shown(_over(seconds, half_s), "{:.2f}".format),
            )
        )
    header = (f"{n_workers} workers", "seconds", f"× {PEER}", "× (sequential / 2)")
    return _table(header, rows)


def _memory(results: Results, work: Workload) -> str:
    rows = []
    for system in results.systems:
        row = [system]
        for n_workers in (2, 8):
            growth = results.growth_mb("large", n_workers, system)
            row.append(_shown(growth, lambda g: g.show(0)))
            row.append(_shown(_over(growth, work.data_bytes / _MB), "{:.2f}".format))
        rows.append(row)
    header = ("growth", "2 workers, MB", "× the data", "8 workers, MB", "× the data")
    return _table(header, rows)


def _nothings(results: Results) -> str:
    peer_s = _median(results.seconds_each("nothing", 2, PEER))
    rows = []
    for system in results.systems:
        each = results.seconds_each("nothing", 2, system)
        rows.append(
            (
                system,
                f"{results.n_evaluations('nothing', 2, system):,}",
                _shown(each, lambda s: s.scaled(_N_NOTHINGS).show(2)),
                _shown(each, lambda s: f"{s.median * 1e3:.2f}"),
                _shown(_over(each, peer_s), "{:.2f}".format),
            )
        )
    header = ("", "evaluations run", f"seconds for {_N_NOTHINGS:,}", "ms each", f"× {PEER}")
    return _table(header, rows)


def _same_work(results: Results, works: Mapping[str, Workload]) -> str:
    rows = []
    for name, work in works.items():
        for system in results.systems:
            difference = results.score_difference(name, system)
            if difference is not None and system != REFERENCE:
                verdict = "yes" if difference <= work.tolerance else "NO"
                rows.append((name, system, f"{difference:.1e}", f"{work.tolerance:g}", verdict))
    return _table(("fits", "system", "largest difference", "allowed", "same"), rows)


def _targets(results: Results, large: Workload, halving_rows: Iterable[halving.Row]) -> str:
    rows = []

    def row(what: str, measured: float | None, at_most: float) -> None:
        if measured is None:
            return
        decimals = 0 if at_most > 10 else 2
        verdict = "reached" if measured <= at_most else "missed"
        rows.append((what, f"{at_most:.{decimals}f}", f"{measured:.{decimals}f}", verdict))

    for workload, n_workers in (("large", 2), ("large", 8), ("small", 2)):
        ours = results.seconds(workload, n_workers, OURS)
        peer_s = _median(results.seconds(workload, n_workers, PEER))
        title = f"{workload} fits, {n_workers} workers: seconds"
        row(f"{title} × {PEER}", _over(ours, peer_s), _WALL_TO_PEER)
        row(f"{title} × (sequential / 2)", _over(ours, _half_s(results, workload)), _WALL_TO_HALF)
    allowed_mb = (_GROWTH_TO_DATA * large.data_bytes + 8 * _GROWTH_PER_WORKER_BYTES) / _MB
    row("memory, 8 workers: MB", _median(results.growth_mb("large", 8, OURS)), allowed_mb)
    seconds_each = results.seconds_each("nothing", 2, OURS)
    title = f"{_N_NOTHINGS:,} evaluations that do nothing: seconds"
    row(title, _over(seconds_each, 1 / _N_NOTHINGS), _NOTHINGS_S)
    for each in halving_rows:
        if each["system"] == halving.OURS:
            name = each["problem"].split(" (")[0]
            row(
                f"halving on {name}: fit seconds × exhaustive",
                each["fit_time_ratio"],
                halving.MOST_FIT_TIME_RATIO,
            )
            row(
                f"halving on {name}: per cent of the best score lost",
                100 * (1 - each["score_ratio"]),
                100 * (1 - halving.LEAST_SCORE_RATIO),
            )
    return _table(("`mscourse`", "at most", "measured", ""), rows)


def _half_s(results: Results, workload: str) -> float | None:
    return _over(results.seconds(workload, 2, REFERENCE), 2)


def _spread(values: Iterable[float | None]) -> Spread | None:
    known = []
    for value in values:
        if value is None:
            return None
        known.append(value)
    return Spread(statistics.median(known), min(known), max(known)) if known else None


def _median(spread: Spread | None) -> float | None:
    return None if spread is None else spread.median


def _over(spread: Spread | None, to: float | None) -> float | None:
    return None if spread is None or to is None else spread.median / to


def _shown(value: Value | None, show: Callable[[Value], str]) -> str:
    return "–" if value is None else show(value)


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
