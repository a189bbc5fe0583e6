"""Run the same work in mscourse and in its peers, and write benchmarks/results.md.

::

    run.py ─→ measure.py (a process for each system, workload and round) ─┬→ results.json
          ├─→ scale.py (a million evaluations) ───────────────────────────┤      │
          ├─→ journal.py (what it costs to keep one) ─────────────────────┤      │
          ├─→ halving.py (searches that stop candidates early) ───────────┤      │
          └─→ copies.py (what estimators copy by themselves) ─────────────┘      │
    results.md and the table in README.md ←─ report.py ←─────────────────────────┘

``--quick`` shows in two minutes that everything runs, and writes nothing; with ``--output FOLDER``
it writes there. ``--only NAME,...`` measures a part anew and keeps the rest; plan.py has the names.
The numbers of a full run are worth something on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import scale
from findings import PEER, REFERENCE, Results
from guard import Ended, run_guarded
from machine import describe_machine
from plan import PROGRAMS, QUICK, TABLES, Measurement, Table
from report import as_markdown, as_summary
from workloads import Workload, workloads

FOLDER = Path(__file__).resolve().parent

# What `make bench` writes stands between these in README.md.
MARKS = ("<!-- written by make bench -->", "<!-- end -->")

# Scores of this many candidates are kept, to compare with what is measured another time.
_MOST_SCORES = 200

# A system that needs less than this much of what is left is tried on the large data.
_LEFT_FOR_OTHERS_BYTES = 3_000_000_000

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

Found = dict[str, Any]


def main() -> None:
    # An exception, so that what was started is ended.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    arguments = _arguments()
    quick: bool = arguments.quick
    works = workloads(quick=quick)
    folder = arguments.output or (None if quick else FOLDER)
    results = _results_so_far(arguments)
    if not arguments.report:
        tables = [table for table in TABLES if table.name in arguments.only]
        if quick and arguments.everything:
            tables = [replace(t, systems=QUICK[t.name]) for t in tables if t.name in QUICK]
        programs = [name for name in PROGRAMS if name in arguments.only]
        for _ in _measured(results, tables, programs, works, arguments.rounds, quick=quick):
            if folder is not None:  # whatever stops it, what is measured is kept
                _write(results, folder)
    text = as_markdown(results, works)
    if quick:
        print(f"\n{text}\nA quick run: the numbers say nothing.")
    if folder is None:
        print("Nothing was written.")
    else:
        _write(results, folder)
        (folder / "results.md").write_text(text, encoding="utf-8")
        print(f"Wrote results.json and results.md in {os.path.relpath(folder)}/.")
        if folder == FOLDER:
            _write_into_readme(as_summary(results, works))
            print("Wrote the table in README.md.")
    sys.exit(_complaint(results, works))


def _arguments() -> argparse.Namespace:
    names = (*(table.name for table in TABLES), *PROGRAMS)
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], epilog=f"NAMES: {', '.join(names)}"
    )
    parser.add_argument("--quick", action="store_true", help="only show that everything runs")
    parser.add_argument("--rounds", type=int, default=1, help="how often to measure (default: 1)")
    parser.add_argument("--only", metavar="NAMES", help="measure these anew, separated by commas")
    parser.add_argument("--output", type=Path, metavar="FOLDER", help="write there, not here")
    parser.add_argument("--report", action="store_true", help="only write the report anew")
    arguments = parser.parse_args()
    arguments.everything = arguments.only is None
    arguments.only = names if arguments.everything else tuple(arguments.only.split(","))
    unknown = set(arguments.only) - set(names)
    if unknown:
        parser.error(f"--only: there is no {', '.join(sorted(unknown))}; there are {names}")
    if arguments.quick:
        arguments.rounds = 1
    return arguments


def _results_so_far(arguments: argparse.Namespace) -> Found:
    """Read what is kept, or begin anew."""
    folder = arguments.output or FOLDER
    path = folder / "results.json"
    keep = arguments.report or not arguments.everything
    if keep and path.exists() and not (arguments.quick and folder == FOLDER):
        results: Found = json.loads(path.read_text(encoding="utf-8"))
        return results
    return {"machine": {}, "references": {}, "measurements": []}


def _measured(
    results: Found,
    tables: Iterable[Table],
    programs: Iterable[str],
    works: Mapping[str, Workload],
    rounds: int,
    *,
    quick: bool,
) -> Iterator[str]:
    """Measure, and put what is found in the place of what was there; yield after each part."""
    start_s = time.monotonic()
    machine = describe_machine()
    # What is measured anew alone may have had another machine than the rest.
    later = results.setdefault("measured_later", {}) if results["machine"] else {}
    results["machine"] = results["machine"] or machine
    references = results.setdefault("references", {})
    for table in tables:
        found = []
        for round_ in range(rounds):
            for planned in table.measurements(works[table.workload], round_):
                found.append(_measure(planned, table, results, works, quick=quick))
        _remember_scores(found, references)
        results["measurements"] = [m for m in results["measurements"] if not table.has(m)]
        results["measurements"] += [
            asdict(replace(m, score_difference=_difference(scores, references.get(m.workload))))
            for m, scores in found
        ]
        later[table.name] = machine
        _say_time(start_s)
        yield table.name
    options = ["--quick"] if quick else []
    for name in programs:
        if name == "million":
            sizes = scale.sizes(quick=quick)
            results[name] = [_run_program("scale.py", str(n), *options) for n in sizes]
        else:
            results[name] = _run_program(f"{name}.py", "--json", *options)
        later[name] = machine
        _say_time(start_s)
        yield name


def _measure(
    planned: Measurement,
    table: Table,
    results: Found,
    works: Mapping[str, Workload],
    *,
    quick: bool,
) -> tuple[Measurement, list[float] | None]:
    """Measure in a process of its own; also return the mean test scores."""
    print(f"{table.name}: {planned.system} ...", end=" ", flush=True)
    needed_bytes = _needed_bytes(planned, table, results, works)
    if needed_bytes > psutil.virtual_memory().available:
        print(f"not run: it would need about {needed_bytes / 1e9:.1f} GB", flush=True)
        needed = needed_bytes - _LEFT_FOR_OTHERS_BYTES - works[planned.workload].data_bytes
        return replace(planned, outcome="not run", growth_bytes=int(needed)), None
    command = [
        *(sys.executable, str(FOLDER / "measure.py")),
        *(planned.system, planned.workload),
        *(str(planned.n_workers), str(planned.n_evaluations)),
        *(["--watch", table.watch] if table.watch else []),
        *(["--quick"] if quick else []),
    ]
    try:
        output = run_guarded(command, _environment())
    except Ended as why:
        print(why, flush=True)
        return replace(planned, outcome=why.outcome), None
    found = json.loads(output.splitlines()[-1])
    scores = found.pop("scores")
    growth = f", {(found['growth_bytes'] or 0) / 1e6:.0f} MB" if table.watch else ""
    print(f"{found['elapsed_s']:.2f} s{growth}", flush=True)
    return replace(planned, **found), scores


def _needed_bytes(
    planned: Measurement, table: Table, results: Found, works: Mapping[str, Workload]
) -> float:
    """Foresee what a system needs, from what it needed with less data; 0 if nothing is known."""
    if table.small_sibling is None:
        return 0.0
    known = Results(results["measurements"])
    growth_mb = known.growth_mb(table.small_sibling, planned.n_workers, planned.system)
    if growth_mb is None:
        return 0.0
    data_bytes = works[planned.workload].data_bytes
    times_the_data = growth_mb.median * 1e6 / works[table.small_sibling].data_bytes
    return (times_the_data + 1) * data_bytes + _LEFT_FOR_OTHERS_BYTES


def _run_program(*command: str) -> Any:
    """Run one of the programs that measure by themselves; the last line that it prints is JSON."""
    print(f"{' '.join(command)} ...", end=" ", flush=True)
    program, *arguments = command
    try:
        output = run_guarded([sys.executable, str(FOLDER / program), *arguments], _environment())
    except Ended as why:
        sys.exit(f"{program}: {why}")
    print("done", flush=True)
    return json.loads(output.splitlines()[-1])


def _environment() -> dict[str, str]:
    # The workers of all systems find the estimators of workloads.py by their path.
    path = os.pathsep.join([str(FOLDER), *filter(None, [os.environ.get("PYTHONPATH")])])
    return os.environ | _ONE_THREAD | {"PYTHONPATH": path}


def _remember_scores(
    found: Sequence[tuple[Measurement, list[float] | None]], references: dict[str, str]
) -> None:
    """Keep the scores of the sequential search, or of scikit-learn's where there is none."""
    for system in (PEER, REFERENCE):
        for measurement, scores in found:
            if measurement.system == system and scores is not None:
                # In one line: as a list it would fill the file.
                kept = " ".join(f"{score!r}" for score in scores[:_MOST_SCORES])
                references[measurement.workload] = kept


def _difference(scores: list[float] | None, reference: str | None) -> float | None:
    if scores is None or reference is None:
        return None
    known = [float(score) for score in reference.split()]
    n = min(len(scores), len(known))  # some were given fewer candidates, the first ones
    return float(np.max(np.abs(np.subtract(scores[:n], known[:n]))))


def _write(results: Found, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    stored = json.dumps(results, indent=1) + "\n"
    (folder / "results.json").write_text(stored, encoding="utf-8")


def _say_time(start_s: float) -> None:
    print(f"    {time.monotonic() - start_s:.0f} s so far", flush=True)


def _write_into_readme(summary: str) -> None:
    readme = FOLDER.parent / "README.md"
    before, rest = readme.read_text(encoding="utf-8").split(MARKS[0])
    _, after = rest.split(MARKS[1])
    readme.write_text(f"{before}{MARKS[0]}\n{summary}{MARKS[1]}{after}", encoding="utf-8")


def _complaint(results: Mapping[str, Any], works: Mapping[str, Workload]) -> str | None:
    """Say which systems failed or did other work than the rest."""
    wrong = sorted(set(_wrong(results, works)))
    return f"Failed, or not the same work: {'; '.join(wrong)}." if wrong else None


def _wrong(results: Mapping[str, Any], works: Mapping[str, Workload]) -> Iterator[str]:
    for m in results["measurements"]:
        # A lack of memory is a result, too.
        failed = m.get("outcome", "done") in ("failed", "out of time")
        difference = m["score_difference"]
        if failed or (difference or 0.0) > works[m["workload"]].tolerance:
            yield f"{m['system']} on {m['workload']} with {m['n_workers']} workers"


if __name__ == "__main__":
    main()
