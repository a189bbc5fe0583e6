"""Measure one system on one workload, in a process of its own. Called by run.py.

The last line of the output is a JSON object: the seconds, the growth of the memory if it was asked
for, and the mean test scores, which show that the work was done.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import time

from pss import Growth, watched_growth
from systems import SYSTEMS
from workloads import workloads


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("system", choices=SYSTEMS)
    parser.add_argument("workload")
    parser.add_argument("n_workers", type=int)
    parser.add_argument("n_evaluations", type=int)
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()

    work = workloads(quick=arguments.quick)[arguments.workload].first(arguments.n_evaluations)
    X, y = work.data()
    with SYSTEMS[arguments.system](arguments.n_workers) as search:
        warm_up = work.warm_up()
        search(warm_up, *warm_up.data())
        gc.collect()
        with watched_growth() if arguments.memory else contextlib.nullcontext(Growth()) as growth:
            start_s = time.perf_counter()
            scores = search(work, X, y)
            elapsed_s = time.perf_counter() - start_s
    print()
    print(
        json.dumps(
            {"elapsed_s": elapsed_s, "growth_bytes": growth.n_bytes, "scores": scores.tolist()}
        )
    )


if __name__ == "__main__":
    main()
