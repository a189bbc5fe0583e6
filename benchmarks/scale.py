"""Ten thousand and a million evaluations that do nothing: what each costs in time and in memory.

Called by run.py. ``python benchmarks/scale.py N`` measures N of them in this process, and prints a
JSON object: the seconds of the search and by how much the client's own memory grew.
"""

from __future__ import annotations

import argparse
import gc
import json
import time
from typing import Any

from pss import own_bytes
from workloads import CV, workloads

import mscourse

N_WORKERS = 2
FEW = 10_000


def sizes(*, quick: bool) -> tuple[int, int]:
    """How many evaluations: few and many."""
    many = workloads(quick=quick)["million"].n_evaluations
    return (many // 10 if quick else FEW), many


def measure(n_evaluations: int, *, quick: bool) -> dict[str, Any]:
    """Run a search in this process."""
    work = workloads(quick=quick)["million"]
    X, y = work.data()
    with (
        mscourse.local_cluster(N_WORKERS) as client,
        mscourse.persist_cv_splits(X, y, folder=None, name="nothing", cv=CV) as splits,
    ):

        def search(grid: Any) -> Any:
            running = mscourse.grid_search(
                work.estimator, grid, splits, engines=client, return_train_score=False
            )
            running.wait(progress_bar=False)
            return running

        search(work.warm_up().param_grid)
        gc.collect()
        before_bytes = own_bytes()
        start_s = time.perf_counter()
        done = search(work.first(n_evaluations).param_grid)
        elapsed_s = time.perf_counter() - start_s
        grown_bytes = own_bytes() - before_bytes
        n_done = done.n_done
    if n_done != n_evaluations:
        raise RuntimeError(f"{n_done} evaluations are done, not {n_evaluations}.")
    return {
        "n_evaluations": n_evaluations,
        "elapsed_s": elapsed_s,
        "client_growth_bytes": grown_bytes,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("n_evaluations", type=int)
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    print(json.dumps(measure(arguments.n_evaluations, quick=arguments.quick)))


if __name__ == "__main__":
    main()
