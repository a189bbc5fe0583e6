"""How well a plan foretells: the scheduler in virtual time beside real searches on engines.

::

    .venv/bin/python benchmarks/cluster_plan.py        # about eight minutes; --quick takes three

It is not part of run.py, and writes nothing: what it measures are the constants of
`mscourse.cluster.virtual.Overheads` and of `mscourse.scheduler`. Run it on a machine that does
nothing else, after a change to the scheduler, to `mscourse.pools` or to the simulation.

First it measures what a message and an item cost the client, the controller and an engine. Then
engines sleep for as long as evaluations of mixed length would take, and the same is simulated. At
last, what the client would be able to feed: ten million evaluations on up to 4,000 engines.
``--only scaling`` does that alone, with the constants as they are.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from statistics import mean, median
from typing import Any

import cloudpickle
import numpy as np
import psutil

import mscourse
from mscourse.cluster.simulation import simulate
from mscourse.cluster.virtual import Overheads, SimulatedNode
from mscourse.pools import pool_for
from mscourse.scheduler import Scheduler
from mscourse.source import Queue

N_ENGINES = (1, 2, 4)
N_ROUNDS = 3
N_MESSAGES, N_ITEMS = 2_000, 200_000
N_TRIPS = 100
N_SCANNED = 4_000

N_EVALUATIONS = 10_000_000
ENGINES_PER_NODE = 4


def nothing(number: int) -> None:
    pass


def nap(number: int, seconds: float) -> tuple[int, float]:
    """Sleep, and tell how long it really was."""
    start_s = time.perf_counter()
    time.sleep(seconds)
    return number, time.perf_counter() - start_s


class Singly(Queue):
    """A queue that never hands out more than one."""

    def take(self, n: int, *arguments: Any, **options: Any) -> Any:
        return super().take(1, *arguments, **options)


def run(
    client: Any, function: Callable[..., Any], queue: Queue, n_wanted: int
) -> tuple[float, list[Any]]:
    """Run a queue on real engines; give the seconds and what came back."""
    values: list[Any] = []
    scheduler = Scheduler(
        function, queue, pool_for(client), lambda ended: values.extend(e.value for e in ended)
    )
    start_s = time.perf_counter()
    scheduler.start()
    scheduler.wait()
    elapsed_s = time.perf_counter() - start_s
    if len(values) != n_wanted:
        raise RuntimeError(f"{len(values)} came back, not {n_wanted}.")
    return elapsed_s, values


def cpu_s(processes: Sequence[psutil.Process]) -> np.ndarray:
    return np.array([each.cpu_times().user + each.cpu_times().system for each in processes])


def calibrate(*, quick: bool) -> tuple[Overheads, dict[str, float]]:
    """Measure what messages and items cost, by the CPU time of all that takes part."""
    n_messages, n_items = (N_MESSAGES // 4, N_ITEMS // 4) if quick else (N_MESSAGES, N_ITEMS)
    with mscourse.local_cluster(2) as client:
        engines = [psutil.Process(pid) for pid in client[:].apply_sync(os.getpid)]
        controller = psutil.Process(client.cluster.controller.pid)
        parts = [controller, *controller.children(recursive=True)]
        run(client, nothing, Queue([(x,) for x in range(2000)]), 2000)

        def measure(queue: Queue, n: int) -> tuple[float, float, float, float]:
            """Client, the busiest process of the controller, engines (all of them), and clock."""
            before = time.process_time(), cpu_s(parts), cpu_s(engines)
            elapsed_s, _ = run(client, nothing, queue, n)
            client_s = time.process_time() - before[0]
            return (
                client_s,
                float((cpu_s(parts) - before[1]).max()),
                float((cpu_s(engines) - before[2]).sum()),
                elapsed_s,
            )

        singly = measure(Singly([(x,) for x in range(n_messages)]), n_messages)
        batched = measure(Queue([(x,) for x in range(n_items)]), n_items)
        trips_s = round_trips_s(client)
    client_s, controller_s, engine_s = (each / n_messages for each in singly[:3])
    overheads = Overheads(
        latency_s=max(0.0, median(trips_s) - client_s - engine_s),
        client_s_per_message=max(client_s, controller_s),
        client_s_per_item=batched[0] / n_items,
        client_s_per_engine=scan_s(),
        engine_s_per_message=engine_s,
        engine_s_per_item=batched[2] / n_items,
    )
    return overheads, {
        "client CPU per message, s": client_s,
        "controller's busiest process per message, s": controller_s,
        "engine CPU per message, s": engine_s,
        "round trip of one no-op, s": median(trips_s),
        "messages per second, singly, 2 engines": n_messages / singly[3],
        "items per second, batched, 2 engines": n_items / batched[3],
    }


def round_trips_s(client: Any) -> list[float]:
    """Seconds from sending a message with nothing to do to having its answer, one at a time."""
    function = cloudpickle.dumps(nothing)
    trips_s = []
    with pool_for(client) as pool:
        for _ in range(N_TRIPS):
            start_s = time.perf_counter()
            future = pool.send(client.ids[0], function, [(1,)])
            future.result()
            trips_s.append(time.perf_counter() - start_s)
            pool.forget(future)
    return trips_s


class _FullPool:
    """Engines that have enough to do."""

    def engines(self) -> list[int]:
        return list(range(N_SCANNED))

    def is_gone(self) -> bool:
        return False


def scan_s() -> float:
    """Time of one look at all engines, for each of them."""
    scheduler = Scheduler(nothing, Queue([(1,)] * N_SCANNED), nullcontext(), print)
    scheduler._under_way = {engine: [None, None] for engine in range(N_SCANNED)}
    times_s = []
    for _ in range(20):
        start_s = time.perf_counter()
        scheduler._send_to(_FullPool())
        times_s.append(time.perf_counter() - start_s)
    return median(times_s) / N_SCANNED


def workloads(*, quick: bool) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    part = 0.4 if quick else 1.0
    return {
        "mixed, 60 ms": random.lognormal(np.log(0.06) - 0.5, 1.0, int(250 * part)),
        "short, 4 ms": random.uniform(0.002, 0.006, int(3000 * part)),
        "long, 0.7 s": random.uniform(0.4, 1.0, int(25 * part)),
    }


def beside(overheads: Overheads, *, quick: bool) -> None:
    """Print real searches beside simulated ones."""
    print(
        f"{'workload':<14} {'engines':>7} {'round':>5} {'real s':>8} {'simulated s':>11} "
        f"{'error':>7} {'from a fifth':>12} {'error':>7}"
    )
    errors: dict[int, list[float]] = {}
    for n_engines in N_ENGINES:
        with mscourse.local_cluster(n_engines) as client:
            run(client, nap, Queue([(x, 0.001) for x in range(200)]), 200)
            for name, naps_s in workloads(quick=quick).items():
                queue = [(number, float(nap_s)) for number, nap_s in enumerate(naps_s)]
                known_s: np.ndarray | None = None
                for number in range(2 if quick else N_ROUNDS + 1):
                    real_s, values = run(client, nap, Queue(queue), len(queue))
                    if known_s is not None:  # the round before is what was measured
                        nodes = [SimulatedNode(n_engines)]
                        foretold_s = simulate(known_s, nodes, overheads=overheads).finish_s
                        drawn_s = mean(
                            simulate(
                                known_s[::5],
                                nodes,
                                n_evaluations=len(queue),
                                overheads=overheads,
                                seed=seed,
                            ).finish_s
                            for seed in range(5)
                        )
                        error, drawn = foretold_s / real_s - 1, drawn_s / real_s - 1
                        errors.setdefault(n_engines, []).append(abs(error))
                        print(
                            f"{name:<14} {n_engines:>7} {number:>5} {real_s:>8.2f} "
                            f"{foretold_s:>11.2f} {error:>+7.1%} {drawn_s:>12.2f} {drawn:>+7.1%}",
                            flush=True,
                        )
                    known_s = np.array([seconds for _, seconds in sorted(values)])
    for n_engines, each in errors.items():
        print(f"{n_engines} engines: error {mean(each):.1%} on average, {max(each):.1%} at most")


def scaling(overheads: Overheads) -> None:
    """Print what many engines bring."""
    print(f"\n{N_EVALUATIONS:,} evaluations, {ENGINES_PER_NODE} engines per node")
    print(
        f"{'each s':>7} {'nodes':>6} {'ideal':>11} {'simulated':>11} {'busy':>6} {'client':>7} "
        f"{'messages':>11} {'simulated in':>12}  limit"
    )
    for each_s in (0.05, 0.5, 5.0):
        for n_nodes in (10, 100, 1000):
            start_s = time.perf_counter()
            # Evaluations are never equally long; half of the mean as standard deviation.
            durations_s = np.random.default_rng(0).gamma(4.0, each_s / 4, 100_000)
            durations_s *= each_s / durations_s.mean()
            found = simulate(
                durations_s,
                [SimulatedNode(ENGINES_PER_NODE)] * n_nodes,
                n_evaluations=N_EVALUATIONS,
                overheads=overheads,
            )
            ideal_s = N_EVALUATIONS * each_s / (ENGINES_PER_NODE * n_nodes)
            print(
                f"{each_s:>7} {n_nodes:>6} {ideal_s / 3600:>9.2f} h "
                f"{found.finish_s / 3600:>9.2f} h {found.busy_fraction:>6.1%} "
                f"{found.client_fraction:>7.1%} {found.n_messages:>11,} "
                f"{time.perf_counter() - start_s:>10.1f} s  "
                f"{'client' if found.client_fraction > 0.9 else 'engines'}",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer evaluations and rounds")
    parser.add_argument("--only", choices=["scaling"], help="what needs no engines")
    arguments = parser.parse_args()
    if arguments.only:
        scaling(Overheads())
        return
    overheads, measured = calibrate(quick=arguments.quick)
    for name, value in {**measured, **asdict(overheads)}.items():
        print(f"{name:<45} {value:.3g}")
    print()
    beside(overheads, quick=arguments.quick)
    scaling(overheads)


if __name__ == "__main__":
    main()
