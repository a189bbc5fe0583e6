"""What a journal costs: evaluations with and without one, and how fast a search goes on from it.

Called by run.py with ``--json``; by itself it prints the table. Evaluations that do nothing show
the cost of each line; short fits show what of it is felt. The journal lies in the current folder's
file system, since a temporary one may be kept in memory, where flushing costs nothing.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any
from unittest import mock

from tables import table
from workloads import CV, Workload, workloads

import mscourse
from mscourse import journal as journal_module

N_WORKERS = 2
N_NOTHINGS = 20_000
N_ROUNDS = 3


def measure(*, quick: bool) -> list[dict[str, Any]]:
    """Search with and without a journal, taking turns; then once more from the whole journal."""
    works = workloads(quick=quick)
    nothings = works["million"]
    n_nothings = min(N_NOTHINGS, nothings.n_evaluations)
    chosen = {"nothing": nothings.first(n_nothings), "small": works["small"]}
    return [_measure(name, work, 1 if quick else N_ROUNDS) for name, work in chosen.items()]


def _measure(name: str, work: Workload, n_rounds: int) -> dict[str, Any]:
    X, y = work.data()
    with ExitStack() as stack:
        client = stack.enter_context(mscourse.local_cluster(N_WORKERS))
        splits = stack.enter_context(
            mscourse.persist_cv_splits(X, y, folder=None, name=name, cv=CV, random_state=0)
        )
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=Path.cwd())))

        def search(path: Path | None) -> float:
            start_s = time.perf_counter()
            running = mscourse.grid_search(
                work.estimator, work.param_grid, splits, engines=client, journal=path
            )
            running.wait(progress_bar=False)
            return time.perf_counter() - start_s

        search(None)
        flushes_s: list[float] = []
        flush = journal_module._flush

        def timed_flush(descriptor: int) -> None:
            start_s = time.perf_counter()
            flush(descriptor)
            flushes_s.append(time.perf_counter() - start_s)

        stack.enter_context(mock.patch.object(journal_module, "_flush", timed_flush))
        without_s, with_s = [], []
        for round_ in range(n_rounds):
            without_s.append(search(None))
            with_s.append(search(folder / f"{round_}.journal"))
        n_bytes = (folder / "0.journal").stat().st_size
        again_s = search(folder / "0.journal")
    return {
        "workload": name,
        "n_evaluations": work.n_evaluations,
        "without_s": median(without_s),
        "with_s": median(with_s),
        "n_flushes": len(flushes_s) / n_rounds,
        "flush_s": median(flushes_s),
        "n_bytes": n_bytes,
        "again_s": again_s,
    }


def as_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Give what a journal costs, by workload."""
    header = (
        "evaluations", "without, s", "with, s", "with / without", "flushes", "ms each",
        "bytes per evaluation", "from the whole journal, s",
    )  # fmt: skip
    return table(
        header,
        [
            (
                f"{row['n_evaluations']:,} {row['workload']}",
                f"{row['without_s']:.2f}",
                f"{row['with_s']:.2f}",
                f"{row['with_s'] / row['without_s']:.2f}",
                f"{row['n_flushes']:.0f}",
                f"{1e3 * row['flush_s']:.2f}",
                f"{row['n_bytes'] / row['n_evaluations']:.0f}",
                f"{row['again_s']:.2f}",
            )
            for row in rows
        ],
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print JSON, for run.py")
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    found = measure(quick=arguments.quick)
    print(json.dumps(found) if arguments.json else as_table(found))


if __name__ == "__main__":
    main()
