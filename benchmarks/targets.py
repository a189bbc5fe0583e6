"""What the project set out to reach, and what it has."""
# ruff: noqa: RUF001  # people read a multiplication sign more easily than an x

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import halving
from findings import MB, OURS, PEER, Results, median, over
from tables import N_NOTHINGS, half_of_sequential_s, table
from workloads import Workload

_WALL_TO_PEER = 0.9
_WALL_TO_HALF = 1.1
_GROWTH_TO_DATA = 1.7
_GROWTH_PER_WORKER_BYTES = 12e6
_NOTHINGS_S = 1.0
_WALL_TO_DASK = 0.9
_IDLE_PERCENT = 5
_NOTHING_MS = 0.1
_NOTHING_BYTES = 1_000
_MANY_TO_FEW = 1.5


@dataclass(frozen=True)
class Target:
    """A number that shall be small enough."""

    what: str
    measured: float
    at_most: float

    @property
    def is_reached(self) -> bool:
        return self.measured <= self.at_most


def as_table(raw: Mapping[str, Any], works: Mapping[str, Workload]) -> str:
    rows = []
    for target in targets(raw, works):
        decimals = 0 if target.at_most > 10 else 2
        verdict = "reached" if target.is_reached else "missed"
        numbers = (f"{number:,.{decimals}f}" for number in (target.at_most, target.measured))
        rows.append((target.what, *numbers, verdict))
    return table(("`mscourse`", "at most", "measured", ""), rows)


def targets(raw: Mapping[str, Any], works: Mapping[str, Workload]) -> list[Target]:
    """List the targets for which there are measurements."""
    results = Results(raw["measurements"])
    found = [*_of_times(results), *_of_memory(results, works), *_of_sharing(results)]
    idle = results.idle("mix", 2, OURS)
    if idle:
        what = "a mix of short and long fits: per cent of the workers' time idle"
        found.append(Target(what, 100 * idle.median, _IDLE_PERCENT))
    return [*found, *_of_nothings(results, raw), *_of_halving(raw)]


def _of_times(results: Results) -> Iterator[Target]:
    for workload, n_workers in (("large", 2), ("large", 8), ("small", 2)):
        ours = results.seconds(workload, n_workers, OURS)
        title = f"{workload} fits, {n_workers} workers: seconds"
        to_peer = over(ours, median(results.seconds(workload, n_workers, PEER)))
        if to_peer is not None:
            yield Target(f"{title} × {PEER}", to_peer, _WALL_TO_PEER)
        to_half = over(ours, half_of_sequential_s(results, workload))
        if to_half is not None:
            yield Target(f"{title} × (sequential / 2)", to_half, _WALL_TO_HALF)


def _of_memory(results: Results, works: Mapping[str, Workload]) -> Iterator[Target]:
    growth_mb = median(results.growth_mb("large", 8, OURS))
    if growth_mb is not None:
        bytes_ = _GROWTH_TO_DATA * works["large"].data_bytes + 8 * _GROWTH_PER_WORKER_BYTES
        yield Target("memory, 8 workers: MB", growth_mb, bytes_ / MB)


def _of_sharing(results: Results) -> Iterator[Target]:
    for workload, title in (("text", "pipelines on texts"), ("pca", "pipelines with PCA")):
        ours = results.seconds(workload, 2, OURS)
        ratio = over(ours, median(results.seconds(workload, 2, "dask-ml")))
        if ratio is not None:
            yield Target(f"{title}: seconds × dask-ml", ratio, _WALL_TO_DASK)


def _of_nothings(results: Results, raw: Mapping[str, Any]) -> Iterator[Target]:
    each_s = median(results.seconds_each("nothing", 2, OURS))
    if each_s is not None:
        title = f"{N_NOTHINGS:,} evaluations that do nothing: seconds"
        yield Target(title, each_s * N_NOTHINGS, _NOTHINGS_S)
    if "million" not in raw:
        return
    ms = [1e3 * row["elapsed_s"] / row["n_evaluations"] for row in raw["million"]]
    many = raw["million"][-1]
    title = f"{many['n_evaluations']:,} evaluations that do nothing"
    yield Target(f"{title}: ms each", ms[-1], _NOTHING_MS)
    yield Target(f"{title}: ms each × ms of a few", ms[-1] / ms[0], _MANY_TO_FEW)
    each_bytes = many["client_growth_bytes"] / many["n_evaluations"]
    yield Target(f"{title}: bytes of the client each", each_bytes, _NOTHING_BYTES)


def _of_halving(raw: Mapping[str, Any]) -> Iterator[Target]:
    for row in raw.get("halving", []):
        if row["system"] == halving.OURS:
            name = row["problem"].split(" (")[0]
            title = f"halving on {name}: fit seconds × exhaustive"
            yield Target(title, row["fit_time_ratio"], halving.MOST_FIT_TIME_RATIO)
            title = f"halving on {name}: per cent of the best score lost"
            lost, allowed = 1 - row["score_ratio"], 1 - halving.LEAST_SCORE_RATIO
            yield Target(title, 100 * lost, 100 * allowed)
