"""The measurements, to be asked for."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

REFERENCE = "sequential"
PEER = "scikit-learn"
OURS = "mscourse"
UNSHARED = "mscourse, nothing shared"

MB = 1e6

DONE = "done"


@dataclass(frozen=True)
class Spread:
    """The median of repeated measurements, and the least and the most of them."""

    median: float
    least: float
    most: float

    def scaled(self, factor: float) -> Spread:
        return Spread(self.median * factor, self.least * factor, self.most * factor)

    def show(self, decimals: int) -> str:
        """Show the median; the least and the most too if there are several measurements."""
        shown = f"{self.median:,.{decimals}f}"
        if self.least == self.most:
            return shown
        return f"{shown} ({self.least:,.{decimals}f}–{self.most:,.{decimals}f})"  # noqa: RUF001  # a dash between numbers


class Results:
    """The measurements, to be asked for.

    What was not measured is None; so is what a system did not come to the end of, even once.
    """

    def __init__(self, measurements: Iterable[Mapping[str, Any]]) -> None:
        self._measurements = list(measurements)

    def has(self, workload: str, n_workers: int, *, memory: bool = False) -> bool:
        """Whether anything was measured there."""
        return any(
            (m["workload"], m["n_workers"], m["memory"]) == (workload, n_workers, memory)
            for m in self._measurements
        )

    def seconds(self, workload: str, n_workers: int, system: str) -> Spread | None:
        """Find the wall-clock time of the evaluations that were run."""
        return _spread(m["elapsed_s"] for m in self._find(workload, n_workers, system, False))

    def seconds_each(self, workload: str, n_workers: int, system: str) -> Spread | None:
        """Find the time of a single evaluation, as a part of the whole."""
        seconds = self.seconds(workload, n_workers, system)
        n = self.n_evaluations(workload, n_workers, system)
        return seconds.scaled(1 / n) if seconds and n else None

    def n_evaluations(
        self, workload: str, n_workers: int, system: str, *, memory: bool = False
    ) -> int | None:
        found = self._find(workload, n_workers, system, memory)
        return found[0]["n_evaluations"] if found else None

    def growth_mb(self, workload: str, n_workers: int, system: str) -> Spread | None:
        """Find the growth of the memory: watched closely, or else in passing."""
        found = self._find(workload, n_workers, system, True)
        found = found or self._find(workload, n_workers, system, False)
        growth = _spread(m["growth_bytes"] if _outcome(m) == DONE else None for m in found)
        return None if growth is None else growth.scaled(1 / MB)

    def idle(self, workload: str, n_workers: int, system: str) -> Spread | None:
        """Find the part of the workers' time without a fit."""
        return _spread(m.get("idle") for m in self._find(workload, n_workers, system, False))

    def why_not(self, workload: str, n_workers: int, system: str) -> str:
        """Say why there is no time: "failed", or how much memory it would have needed."""
        for m in self._find(workload, n_workers, system, False):
            if _outcome(m) == "not run":
                return f"not run: ≈ {m['growth_bytes'] / MB:,.0f} MB"
            if _outcome(m) != DONE:
                return _outcome(m)
        return "–"  # noqa: RUF001  # a dash, as in all tables

    def score_difference(self, workload: str, system: str) -> float | None:
        """Find the largest difference of mean test scores; None if there is nothing to compare."""
        differences = [
            m["score_difference"]
            for m in self._measurements
            if (m["workload"], m["system"]) == (workload, system) and _outcome(m) == DONE
        ]
        known = [each for each in differences if each is not None]
        return max(known) if known else None

    def _find(
        self, workload: str, n_workers: int, system: str, memory: bool
    ) -> list[Mapping[str, Any]]:
        key = (workload, n_workers, system, memory)
        return [
            m
            for m in self._measurements
            if (m["workload"], m["n_workers"], m["system"], m["memory"]) == key
        ]


def _outcome(measurement: Mapping[str, Any]) -> str:
    # Older files do not have it.
    default = "failed" if measurement["elapsed_s"] is None else DONE
    outcome: str = measurement.get("outcome", default)
    return outcome


def median(spread: Spread | None) -> float | None:
    return None if spread is None else spread.median


def over(spread: Spread | None, to: float | None) -> float | None:
    """Divide the median."""
    return None if spread is None or not to else spread.median / to


def _spread(values: Iterable[float | None]) -> Spread | None:
    known = []
    for value in values:
        if value is None:
            return None
        known.append(value)
    return Spread(statistics.median(known), min(known), max(known)) if known else None
