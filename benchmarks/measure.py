"""Measure one system on one workload, in a process of its own. Called by run.py.

The last line of the output is a JSON object: the seconds, the growth of the memory if it was asked
for, how idle the workers were if the estimator tells, and the mean test scores, which show that the
work was done.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import os
import tempfile
import time
from pathlib import Path

from pss import Growth, watched_growth
from systems import SYSTEMS
from workloads import LOG_VARIABLE, workloads


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("system", choices=SYSTEMS)
    parser.add_argument("workload")
    parser.add_argument("n_workers", type=int)
    parser.add_argument("n_evaluations", type=int)
    parser.add_argument("--watch", choices=("closely", "gently"), help="measure the memory, too")
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()

    work = workloads(quick=arguments.quick)[arguments.workload].first(arguments.n_evaluations)
    X, y = work.data()
    watched = watched_growth(gently=arguments.watch == "gently")
    with tempfile.TemporaryDirectory() as log, contextlib.ExitStack() as stack:
        os.environ[LOG_VARIABLE] = log  # before the workers start, who inherit it
        search = stack.enter_context(SYSTEMS[arguments.system](arguments.n_workers))
        warm_up = work.warm_up()
        search(warm_up, *warm_up.data())
        gc.collect()
        with watched if arguments.watch else contextlib.nullcontext(Growth()) as growth:
            start_s = time.perf_counter()
            scores = search(work, X, y)
            elapsed_s = time.perf_counter() - start_s
        idle = _idle(Path(log), arguments.n_workers)
    found = {
        "elapsed_s": elapsed_s,
        "growth_bytes": growth.n_bytes,
        "idle": idle,
        "scores": scores.tolist(),
    }
    print()
    print(json.dumps(found))


def _idle(log: Path, n_workers: int) -> float | None:
    """Find the part of the workers' time without a fit, from the first start to the last end."""
    lines = [line for file in log.glob("*.txt") for line in file.read_text().splitlines()]
    if not lines:
        return None
    spans = [tuple(map(float, line.split())) for line in lines]
    length_s = max(end for _, end in spans) - min(start for start, _ in spans)
    return 1 - sum(end - start for start, end in spans) / (n_workers * length_s)


if __name__ == "__main__":
    main()
