"""What is measured: which systems do which work, with how many workers.

One round takes a little less than half an hour on two cores, if they have nothing else to do. To
stay within that, not everything is combined with everything: all systems run with 2 workers on
160 MB. From there one axis leads through the number of workers, one through the size of the data,
and one through the kind of work. Along the axes run those systems that say something there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from findings import OURS, PEER, REFERENCE, UNSHARED
from workloads import Workload

_IN_FILES = "scikit-learn, memory"  # makes a difference to pipelines only
_DASK, _RAY = "dask-ml", "Ray"
_JOBLIB, _OUR_JOBLIB, _BY_HAND = "joblib on ipyparallel", "joblib on mscourse", "by hand"

PEERS = (PEER, _DASK, _RAY, _JOBLIB, _OUR_JOBLIB, _BY_HAND, OURS)
ALL = (REFERENCE, *PEERS)

# The order in which systems are shown.
SYSTEMS = (
    REFERENCE, PEER, _IN_FILES, _DASK, _RAY, _JOBLIB, _OUR_JOBLIB, _BY_HAND, UNSHARED, OURS
)  # fmt: skip

# Peers that need milliseconds for an evaluation that does nothing are given a tenth of them.
_FEWER_NOTHINGS = 1_000
# Systems that fit each pipeline as a whole need as long for each one: a part of them is enough.
_FEWER_PIPELINES = 20

Watch = Literal["closely", "gently"] | None


@dataclass(frozen=True)
class Measurement:
    """One system, once, on one workload.

    Attributes
    ----------
    memory : bool
        Whether the growth of the memory was watched closely. That costs time, so that the seconds
        of such a run do not count.
    n_evaluations : int
        How many evaluations it did.
    outcome : str
        "done", "failed", "out of time", "out of memory", or "not run" if it would have needed more
        memory than there was.
    elapsed_s : float or None
        Wall-clock seconds; None if it did not come to its end.
    growth_bytes : int or None
        The most that all its processes held together over what they held before; what they would
        have held if it was not run for that.
    score_difference : float or None
        The largest difference between its mean test scores and those of the reference.
    idle : float or None
        The part of the workers' time without a fit, if the estimator wrote that down.
    """

    workload: str
    n_workers: int
    system: str
    memory: bool
    n_evaluations: int
    round: int
    outcome: str = "done"
    elapsed_s: float | None = None
    growth_bytes: int | None = None
    score_difference: float | None = None
    idle: float | None = None


@dataclass(frozen=True)
class Table:
    """Systems side by side on the same work.

    Attributes
    ----------
    name : str
        What ``--only`` calls it.
    watch : {"closely", "gently"} or None
        Whether to measure the memory: in runs whose time does not count, or in passing.
    n_evaluations : int, optional
        How many of the workload's evaluations to do; by default all.
    fewer : dict of str to int
        Systems that are given fewer, and how many.
    small_sibling : str, optional
        The same work on a tenth of the data. What a system needs there tells whether it can be run.
    """

    name: str
    workload: str
    n_workers: int
    systems: Sequence[str]
    watch: Watch = None
    n_evaluations: int | None = None
    fewer: Mapping[str, int] = field(default_factory=dict)
    small_sibling: str | None = None

    @property
    def key(self) -> tuple[str, int, bool]:
        """What its measurements have in common, and no others have."""
        return self.workload, self.n_workers, self.watch == "closely"

    def has(self, measurement: Mapping[str, Any]) -> bool:
        """Whether a measurement belongs to this table."""
        return self.key == tuple(measurement[name] for name in ("workload", "n_workers", "memory"))

    def measurements(self, work: Workload, round_: int) -> Iterator[Measurement]:
        """List what is to be measured. Each round begins with another system."""
        workload, n_workers, memory = self.key
        most = min(self.n_evaluations or work.n_evaluations, work.n_evaluations)
        for i in range(len(self.systems)):
            system = self.systems[(i + round_) % len(self.systems)]
            n = min(self.fewer.get(system, most), most)
            yield Measurement(workload, n_workers, system, memory, n, round_)


_ALL_BUT_RAY = tuple(system for system in ALL if system != _RAY)
_FEWER_OF_PEERS = dict.fromkeys(ALL[:-1], _FEWER_NOTHINGS)
_SHARERS = (PEER, _IN_FILES, _DASK, _RAY, UNSHARED, OURS)
_FEWER_SHARERS = dict.fromkeys((_RAY, UNSHARED), _FEWER_PIPELINES)

TABLES = (
    Table("large-2", "large", 2, ALL),
    Table("large-8", "large", 8, PEERS),
    # With one worker joblib starts none, on loky or on Ray: it is the sequential search.
    Table("large-1", "large", 1, (_DASK, OURS), "gently"),
    Table("large-4", "large", 4, (PEER, _DASK, _RAY, OURS), "gently"),
    # The peak is there as soon as each worker has an evaluation under way.
    Table("memory-2", "large", 2, ALL, "closely", n_evaluations=10),
    Table("memory-8", "large", 8, PEERS, "closely", n_evaluations=20),
    Table("15MB", "large 15 MB", 2, (REFERENCE, PEER, _DASK, _RAY, OURS), "gently"),
    Table(
        "1.5GB", "large 1.5 GB", 2, (PEER, _DASK, _RAY, _JOBLIB, _BY_HAND, OURS), "gently",
        small_sibling="large",
    ),
    Table("light", "light", 2, ALL),
    Table("heavy", "heavy", 2, (REFERENCE, PEER, _DASK, _RAY, OURS)),
    Table("small", "small", 2, ALL),
    # Ray starts its workers anew for each search: their seconds would be those of nothing.
    Table("nothing", "nothing", 2, _ALL_BUT_RAY, fewer=_FEWER_OF_PEERS),
    Table("text", "text", 2, _SHARERS, "gently", fewer=_FEWER_SHARERS),
    Table("pca", "pca", 2, _SHARERS, "gently", fewer=_FEWER_SHARERS),
    Table("mix", "mix", 2, (PEER, OURS)),
)  # fmt: skip

# What has a program of its own.
PROGRAMS = ("million", "journal", "halving", "copies")

# What `--quick` runs: every system and every program, with as few starts of workers as will do.
QUICK = {
    "memory-2": ALL,
    "nothing": (PEER, OURS),
    "text": (PEER, _IN_FILES, _DASK, UNSHARED, OURS),
    "mix": (OURS,),
}
