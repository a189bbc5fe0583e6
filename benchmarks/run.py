"""Run the same work in mscourse and in its peers, and write benchmarks/results.md.

::

    run.py ─→ measure.py (a process for each system, workload and round) ─┬→ results.json
          └─→ halving.py (searches that stop candidates early) ───────────┘      │
    results.md and the table in README.md ←─ report.py ←─────────────────────────┘

``--quick`` shows in a minute that everything runs, and writes nothing. The numbers of a full run
are worth something on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from machine import describe_machine
from report import OURS, PEER, REFERENCE, as_markdown, as_summary
from workloads import Workload, workloads

FOLDER = Path(__file__).resolve().parent

SYSTEMS = (
    REFERENCE,
    PEER,
    "dask-ml",
    "joblib on ipyparallel",
    "joblib on mscourse",
    "by hand",
    OURS,
)

# What `make bench` writes stands between these in README.md.
MARKS = ("<!-- written by make bench -->", "<!-- end -->")

# Peers that need milliseconds for an evaluation that does nothing are given a tenth of them.
_FEWER_EVALUATIONS = 1_000

_TIME_LIMIT_S = 900

# Workers side by side must not compete for cores with threads of their own.
_ONE_THREAD = dict.fromkeys(
    (
        "OMP_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
        "MKL_NUM_THREADS",
        "BLIS_NUM_THREADS",
        "VECLIB_MAXIMUM_THREADS",
    ),
    "1",
)


@dataclass(frozen=True)
class Measurement:
    """One system, once, on one workload.

    Attributes
    ----------
    memory : bool
        Whether the growth of the memory was measured. That costs time, so that either the memory
        or the time of a measurement counts, never both.
    n_evaluations : int
        How many evaluations it did.
    elapsed_s : float or None
        Wall-clock seconds; None if it did not come to its end.
    growth_bytes : int or None
        The most that all its processes held together over what they held before.
    score_difference : float or None
        The largest difference between its mean test scores and those of the reference.
    """

    workload: str
    n_workers: int
    system: str
    memory: bool
    n_evaluations: int
    round: int
    elapsed_s: float | None = None
    growth_bytes: int | None = None
    score_difference: float | None = None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="only show that everything runs")
    parser.add_argument("--rounds", type=int, default=3, help="how often to measure (default: 3)")
    parser.add_argument("--report", action="store_true", help="only write results.md anew")
    arguments = parser.parse_args()

    if arguments.report:
        results = json.loads((FOLDER / "results.json").read_text(encoding="utf-8"))
    else:
        n_rounds = 1 if arguments.quick else arguments.rounds
        machine = describe_machine()
        plan = list(_plan(n_rounds, quick=arguments.quick))
        measurements = [asdict(each) for each in _measure_all(plan, quick=arguments.quick)]
        results = {
            "machine": machine,
            "rounds": n_rounds,
            "measurements": measurements,
            "halving": _measure_halving(quick=arguments.quick),
        }
    works = workloads(quick=arguments.quick)
    text = as_markdown(results, works)
    if arguments.quick:
        print(f"\n{text}\nA quick run: nothing was written, and the numbers say nothing.")
    else:
        (FOLDER / "results.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        (FOLDER / "results.md").write_text(text, encoding="utf-8")
        _write_into_readme(as_summary(results, works))
        print("Wrote results.json and results.md in benchmarks/, and the table in README.md.")
    sys.exit(_complaint(results, works))


def _plan(n_rounds: int, *, quick: bool) -> Iterator[Measurement]:
    """List the measurements round by round, so that a busy minute does not hit one system alone."""
    tables = [
        ("large", 2, False),
        ("large", 8, False),
        ("large", 2, True),
        ("large", 8, True),
        ("small", 2, False),
        ("nothing", 2, False),
    ]
    if quick:
        tables = [("large", 2, True), ("nothing", 2, False)]
    works = workloads(quick=quick)
    for round_ in range(n_rounds):
        for workload, n_workers, memory in tables:
            n_evaluations = works[workload].n_evaluations
            for i in range(len(SYSTEMS)):
                system = SYSTEMS[(i + round_) % len(SYSTEMS)]
                if system == REFERENCE and n_workers > 2:
                    continue  # it has no workers: once is enough
                n = n_evaluations
                if workload == "nothing" and system != OURS:
                    n = min(n, _FEWER_EVALUATIONS)
                yield Measurement(workload, n_workers, system, memory, n, round_)


def _measure_all(plan: Iterable[Measurement], *, quick: bool) -> list[Measurement]:
    plan = list(plan)
    done = []
    all_scores = []
    for i, planned in enumerate(plan, start=1):
        what = "memory" if planned.memory else "time"
        print(
            f"[{i}/{len(plan)}] {planned.workload}, {planned.n_workers} workers, {what}: "
            f"{planned.system} ...",
            end=" ",
            flush=True,
        )
        measurement, scores = _measure(planned, quick=quick)
        seconds = "failed" if measurement.elapsed_s is None else f"{measurement.elapsed_s:.2f} s"
        growth = f", {(measurement.growth_bytes or 0) / 1e6:.0f} MB" if planned.memory else ""
        print(seconds + growth, flush=True)
        done.append(measurement)
        all_scores.append(scores)
    references = {
        measurement.workload: scores
        for measurement, scores in zip(done, all_scores, strict=True)
        if measurement.system == REFERENCE and scores is not None
    }
    return [
        replace(each, score_difference=_difference(scores, references.get(each.workload)))
        for each, scores in zip(done, all_scores, strict=True)
    ]


def _measure(planned: Measurement, *, quick: bool) -> tuple[Measurement, list[float] | None]:
    """Measure in a process of its own; also return the mean test scores."""
    command = [
        *(sys.executable, str(FOLDER / "measure.py")),
        *(planned.system, planned.workload),
        *(str(planned.n_workers), str(planned.n_evaluations)),
        *(["--memory"] if planned.memory else []),
        *(["--quick"] if quick else []),
    ]
    # The workers of all systems find the estimators of workloads.py by their path.
    environment = os.environ | _ONE_THREAD | {"PYTHONPATH": str(FOLDER)}
    os.sync()  # what the previous one wrote must not be written to the disk at our expense
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            output, errors = process.communicate(timeout=_TIME_LIMIT_S)
        except subprocess.TimeoutExpired:
            print(f"not done after {_TIME_LIMIT_S} s", end=" ")
            return planned, None
        finally:
            if process.poll() is None:
                _kill_with_children(process.pid)
    if process.returncode != 0:
        print(f"exit status {process.returncode}\n{errors[-2000:]}")
        return planned, None
    found = json.loads(output.splitlines()[-1])
    scores = found.pop("scores")
    return replace(planned, **found), scores


def _measure_halving(*, quick: bool) -> list[dict[str, Any]]:
    """Measure the searches that stop candidates early, in a process of their own."""
    print("halving ...", end=" ", flush=True)
    command = [
        sys.executable,
        str(FOLDER / "halving.py"),
        "--json",
        *(["--quick"] if quick else []),
    ]
    environment = os.environ | _ONE_THREAD
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    print("done", flush=True)
    rows: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return rows


def _write_into_readme(summary: str) -> None:
    readme = FOLDER.parent / "README.md"
    before, rest = readme.read_text(encoding="utf-8").split(MARKS[0])
    _, after = rest.split(MARKS[1])
    readme.write_text(f"{before}{MARKS[0]}\n{summary}{MARKS[1]}{after}", encoding="utf-8")


def _complaint(results: Mapping[str, Any], works: Mapping[str, Workload]) -> str | None:
    """Say which systems failed or did other work than the rest."""
    wrong = {
        f"{m['system']} on {m['workload']} fits with {m['n_workers']} workers"
        for m in results["measurements"]
        if m["score_difference"] is None or m["score_difference"] > works[m["workload"]].tolerance
    }
    return f"Failed, or not the same work: {'; '.join(sorted(wrong))}." if wrong else None


def _kill_with_children(pid: int) -> None:
    process = psutil.Process(pid)
    for each in [*process.children(recursive=True), process]:
        each.kill()


def _difference(scores: list[float] | None, reference: list[float] | None) -> float | None:
    if scores is None or reference is None:
        return None
    n = min(len(scores), len(reference))  # some were given fewer candidates, the first ones
    return float(np.max(np.abs(np.subtract(scores[:n], reference[:n]))))


if __name__ == "__main__":
    main()
