"""Turn measurements into results.md, and into the table of the README.

::

    results.json ─→ findings.py ─→ tables.py, targets.py ─→ report.py ─→ results.md
"""
# ruff: noqa: RUF001  # people read a multiplication sign more easily than an x

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import copies
import halving
import journal
import tables
import targets
from findings import MB, OURS, REFERENCE, Results, median
from plan import ALL, TABLES
from tables import shown, table
from workloads import Workload

_HEAD = """\
# The same work in mscourse and in its peers

Written by `make bench`; do not edit. Smaller is better, except for scores.

Rounds of measurements: {rounds}. Where there were several, each figure is their median, with the
least and the most in brackets.
"""

_SUMMARY = """\
Seconds for the same work, divided by those of scikit-learn's own search with as many workers. The
smallest of a row is bold. What a dash stands for was not run: it says nothing there, or needs too
much memory. The details are below.
"""

_WINS = """\
What was faster by more than 2 per cent, or took less memory, and what each of these spares.
"""

_MEMORY = """\
The large fits once more: by how much the PSS of all processes together grew, at its peak. With 2
and 8 workers it was watched closely, in runs of {n_2} and {n_8} evaluations that were not timed;
with other numbers in passing. With one worker joblib starts none: it is the sequential search.
"""

_SIZES = """\
The large fits on a tenth of the data and on ten times as much. On the large data only two
candidates are fitted, 10 evaluations. A system that would need more memory there than the machine
has, judged by its growth with 160 MB, is not run. One that takes so much that less than 2 GB are
left is ended, as "out of memory". The memory is watched in passing.
"""

_LIGHT = """\
{light} Such a fit takes little longer than it takes to read the data, so that it counts what a
system does to hand them over.
"""

_NOTHING = """\
The `fit` and `score` of this estimator return at once, so that what is left is the system's own
work. 2 workers. Where fewer evaluations were run, the seconds for {n_nothings:,} are extrapolated.
"""

_MILLION = """\
`mscourse` alone, from the start of the search until all is done. The grid is given as ranges. The
memory is that of the client by itself, at the end of the search and before it.
"""

_JOURNAL = """\
The same search with and without ``journal=``, by turns. What comes back together is written and
flushed to the disk together. The last column is a launch that finds everything done.
"""

_SHARING = """\
Two settings of the first step and ten of the second, on five folds: 100 evaluations, but only 10
different first steps. "memory" is scikit-learn's `Pipeline(memory=...)`, which keeps fitted steps
on disk. dask-ml and `mscourse` share them by themselves; "nothing shared" is
`prefix_cache_bytes=0`. Ray runs scikit-learn's search, through joblib. Times with ≈ are
extrapolated from fewer evaluations, as these systems fit each pipeline as a whole.
"""

_MIX = """\
15 candidates whose fits take from 0.05 s to 5 s, evenly spread over the logarithms, on five splits:
what two workers can do in 40 s. The estimator keeps a core busy for the set time and writes down
when. Idle is the part of the workers' time without a fit, between the first start and the last end.
"""

_HALVING = """\
Searches that give many candidates little data and few candidates all of it, beside the search that
gives all of them everything. Same candidates, same folds, 2 workers, one round. What each one
chose is judged by its score in the exhaustive search. The fit seconds are those of all fits
together.
"""

_COPIES = """\
Each estimator is fitted once on the train set of a persisted split, stored as float64 and as
float32. Watched from outside: by how much the process grew that fits it, in pages that belong to no
file, as a multiple of the train set as it is stored. 0 means that it works on the shared map.
"""

_SAME_WORK = """\
The mean test scores of the candidates are compared with the sequential ones, or with those of
scikit-learn where there was no sequential search. `mscourse` stores the rows of a fold in an order
of its own, which changes a little what `SGDClassifier` learns; the rows of each set are the same.
"""

_METHOD = """\
- Every measurement runs in a fresh process. The systems take turns within each round, and each
  round begins with another one.
- When the clock starts there are data and workers, and a tiny search has warmed them up. All that a
  system does with the data is timed: persisting splits, dumping or sending arrays. Ray's joblib
  backend starts its workers anew for each search, which takes seconds: they are timed, too.
- What a system persists or dumps, it puts where it puts temporary files by itself. joblib prefers
  memory (`/dev/shm`), as does Ray; the others write to the folder for temporary files.
- Every process has one BLAS thread. The systems on ipyparallel use the same cluster, that of
  `mscourse.local_cluster`. None computes train scores, and none refits.
- "Sequential" is scikit-learn's `GridSearchCV(n_jobs=1)`. Half its time is what two cores could
  reach at best.
- "By hand" is the search that the course writes in thirty lines: a file for each split, dumped by
  joblib and mapped by the engines, and a message for each evaluation.
- Memory is summed over the client and all its descendants, daemons included. PSS counts a page that
  n processes share as 1/n in each, so that the sum counts it once. Closely means every 50 ms, in
  runs whose time does not count. In passing means that looking takes a twentieth of one core at the
  most, in the run that is timed.
"""


_LATER = """\
These parts were measured anew after the others. What they compare with each other was measured
together, and on one machine.
"""


def as_markdown(raw: Mapping[str, Any], works: Mapping[str, Workload]) -> str:
    """Write the report; what was not measured is left out."""
    results = Results(raw["measurements"])
    sections = [
        ("In one table", (_SUMMARY, tables.summary(results))),
        ("Where something else needs less", (_WINS, tables.peer_wins(results))),
        ("Targets", (targets.as_table(raw, works),)),
        ("Large fits", _large(results, works)),
        ("Memory", _memory(results, works)),
        ("Data of three sizes", (_SIZES, tables.sizes(results, works))),
        (
            "Light fits on large data",
            _of(results, works, "light", _LIGHT.format(light=_described(works["light"]))),
        ),
        ("Heavy fits", _of(results, works, "heavy", _described(works["heavy"]))),
        ("Small fits", _of(results, works, "small", _described(works["small"]))),
        (
            "Evaluations that do nothing",
            (_NOTHING.format(n_nothings=tables.N_NOTHINGS), tables.nothings(results)),
        ),
        ("A million evaluations", (_MILLION, _if_there(raw, "million", tables.million))),
        ("What a journal costs", (_JOURNAL, _if_there(raw, "journal", journal.as_table))),
        ("Steps that pipelines share", _sharing(results, works)),
        ("A mix of short and long fits", (_MIX, tables.idle(results))),
        ("Stopping early", (_HALVING, _if_there(raw, "halving", halving.as_table))),
        ("What estimators copy", (_COPIES, _if_there(raw, "copies", copies.as_table))),
        ("Is it the same work?", (_SAME_WORK, tables.same_work(results, works))),
        ("How it was measured", (_METHOD,)),
        ("The machine", (table(("", ""), raw["machine"].items()),)),
        ("Measured later", _measured_later(raw)),
    ]
    written = [_section(title, parts) for title, parts in sections if None not in parts]
    return "\n".join([_HEAD.format(rounds=_rounds(raw["measurements"])), *written])


def _measured_later(raw: Mapping[str, Any]) -> Sequence[str | None]:
    """Say which parts were measured anew since, and where."""
    names = ("Date", "Commit", "CPU", "Cores")
    later = raw.get("measured_later", {})
    rows = [(part, *(machine[name] for name in names)) for part, machine in later.items()]
    return (_LATER, table(("part", *(name.lower() for name in names)), rows) if rows else None)


def _rounds(measurements: Sequence[Mapping[str, Any]]) -> str:
    """Say how often each table was measured; a part may have been measured anew, and more often."""
    names: dict[int, list[str]] = {}
    for each in TABLES:
        n_rounds = max((m["round"] + 1 for m in measurements if each.has(m)), default=0)
        names.setdefault(n_rounds, []).append(each.name)
    names.pop(0, None)
    by_size = sorted(names.items(), key=lambda item: len(item[1]), reverse=True)
    usual, *others = [str(n_rounds) for n_rounds, _ in by_size] or ["0"]
    of_others = (f", of {', '.join(names[int(n_rounds)])} {n_rounds}" for n_rounds in others)
    return usual + "".join(of_others)


def as_summary(raw: Mapping[str, Any], works: Mapping[str, Workload]) -> str:
    """Write the table of the README: the large fits, in medians."""
    results = Results(raw["measurements"])
    work = works["large"]
    rows = []
    for system in ALL:
        workers = (2, 2) if system == REFERENCE else (2, 8)
        seconds = [median(results.seconds("large", n_workers, system)) for n_workers in workers]
        growth_mb = median(results.growth_mb("large", workers[1], system))
        if seconds == [None, None]:
            continue
        rows.append(
            (
                f"**{system}**" if system == OURS else system,
                *(shown(s, "{:.1f} s".format) for s in seconds),
                shown(growth_mb, "{:,.0f} MB".format),
            )
        )
    header = ("", "2 workers", "8 workers", "memory added by 8 workers")
    machine = raw["machine"]
    return (
        f"{work.n_samples:,} × {work.n_features} numbers ({work.data_bytes / MB:.0f} MB), "
        f"{work.n_evaluations} evaluations of `SGDClassifier`, on a machine with "
        f"{machine['Cores']} cores:\n\n{table(header, rows)}\n"
    )


def _section(title: str, parts: Sequence[str | None]) -> str:
    return "\n\n".join([f"## {title}", *(part.strip() for part in parts if part)]) + "\n"


def _large(results: Results, works: Mapping[str, Workload]) -> tuple[str | None, ...]:
    found = [
        tables.times(results, works["large"], "large", n_workers) for n_workers in (1, 2, 4, 8)
    ]
    measured = [each for each in found if each is not None]
    return (_described(works["large"]), *measured) if measured else (None,)


def _of(
    results: Results, works: Mapping[str, Workload], workload: str, text: str
) -> tuple[str | None, ...]:
    return text, tables.times(results, works[workload], workload, 2)


def _memory(results: Results, works: Mapping[str, Workload]) -> tuple[str | None, ...]:
    n_2, n_8 = (results.n_evaluations("large", n, OURS, memory=True) for n in (2, 8))
    return _MEMORY.format(n_2=n_2, n_8=n_8), tables.memory(results, works["large"])


def _sharing(results: Results, works: Mapping[str, Workload]) -> tuple[str | None, ...]:
    found: list[str] = []
    for name in ("text", "pca"):
        measured = tables.times(results, works[name], name, 2, with_memory=True)
        if measured is not None:
            found += [_described(works[name]), measured]
    return (_SHARING, *found) if found else (None,)


def _if_there(raw: Mapping[str, Any], name: str, show: Any) -> str | None:
    return show(raw[name]) if name in raw else None


def _described(work: Workload) -> str:
    estimator = work.shown_as or " ".join(str(work.estimator).split())
    return (
        f"{work.shape} ({work.data_bytes / MB:,.1f} MB), 5 stratified folds, "
        f"{work.n_evaluations:,} evaluations of {work.n_candidates} candidates: settings of "
        f"`{estimator}`."
    )
