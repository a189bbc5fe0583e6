"""The tables of results.md. One whose numbers were not measured is None."""
# ruff: noqa: RUF001  # people read a multiplication sign more easily than an x

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from findings import MB, OURS, PEER, REFERENCE, UNSHARED, Results, Spread, median, over
from plan import SYSTEMS
from workloads import Workload

Value = TypeVar("Value")

N_NOTHINGS = 10_000

# Two times that differ by less than this are called equal: a run takes that much more or less.
_AS_FAST = 1.02

# What a system does not do that mscourse does: the reason if it is the faster one.
_REASONS = {
    REFERENCE: "it hands no data to anybody, writes no files, and holds only what one fit needs.",
    PEER: (
        "it writes the data once into memory that its workers map, where `mscourse` writes the "
        "rows of all splits to files, 1.6 times the data for five folds. That pays when many fits "
        "read them. Its workers record only scores and times."
    ),
    "scikit-learn, memory": (
        "it keeps fitted steps on disk, where every worker finds them, without any plan of who "
        "fits what."
    ),
    "dask-ml": (
        "it knows the whole search as one graph before it begins, so that each step that "
        "candidates share is fitted once and stays in the memory of a worker."
    ),
    "Ray": "its store holds the data in shared memory, and nothing is written to files.",
    "joblib on ipyparallel": (
        "it sends the data along with the evaluations. While they are small, that is less work "
        "than to write files and to open them."
    ),
    "joblib on mscourse": "it writes the data once, as they are, not the rows of all splits.",
    "by hand": "it sends no batches and keeps no record: there is nothing to wait for but fits.",
    UNSHARED: "where steps are cheap beside what it takes to store them, sharing costs time.",
}

# Work, its workload, and its number of workers: the rows of the summary.
_WORKS = (
    ("large fits, 1 worker", "large", 1),
    ("large fits, 2 workers", "large", 2),
    ("large fits, 4 workers", "large", 4),
    ("large fits, 8 workers", "large", 8),
    ("large fits, a tenth of the data", "large 15 MB", 2),
    ("large fits, ten times the data", "large 1.5 GB", 2),
    ("light fits on the same data", "light", 2),
    ("heavy fits", "heavy", 2),
    ("small fits", "small", 2),
    ("evaluations that do nothing", "nothing", 2),
    ("pipelines on texts", "text", 2),
    ("pipelines with PCA", "pca", 2),
    ("a mix of short and long fits", "mix", 2),
)


def summary(results: Results) -> str | None:
    """Give all times as ratios to scikit-learn, and the memory too."""
    rows = []
    for title, workload, n_workers in _WORKS:
        if not results.has(workload, n_workers):
            continue
        ratios = {s: _ratio(results, workload, n_workers, s) for s in SYSTEMS}
        rows.append((title, *_with_best(ratios)))
    for n_workers in (2, 8):
        if results.has("large", n_workers, memory=True):
            peer = median(results.growth_mb("large", n_workers, PEER))
            ratios = {s: over(results.growth_mb("large", n_workers, s), peer) for s in SYSTEMS}
            if n_workers > 2:
                ratios[REFERENCE] = None
            rows.append((f"memory of large fits, {n_workers} workers", *_with_best(ratios)))
    return table((f"× {PEER}", *SYSTEMS), rows) if rows else None


def peer_wins(results: Results) -> str:
    """Say where a peer was faster than mscourse, or took less memory, and why that can be."""
    lines = []
    winners: set[str] = set()
    for title, workload, n_workers in _WORKS:
        # With one worker some of them are the sequential search, which is named once.
        every = {
            system: median(_each(results, workload, n_workers, system))
            for system in SYSTEMS
            if system == REFERENCE or _at(system, n_workers)[0] == system
        }
        parts = _less_than_ours(every, 1 / _AS_FAST)
        winners |= parts.keys()
        if parts:
            shown_parts = (f"{system} in {part:.2f} of the time" for system, part in parts.items())
            lines.append(f"- {title}: {', '.join(shown_parts)}")
    for n_workers in (2, 8):
        every = {s: median(results.growth_mb("large", n_workers, s)) for s in SYSTEMS}
        parts = _less_than_ours(every, 1.0)
        winners |= parts.keys()
        if parts:
            shown_parts = (f"{system} with {part:.2f} of it" for system, part in parts.items())
            lines.append(f"- memory of large fits, {n_workers} workers: {', '.join(shown_parts)}")
    reasons = [f"- {system}: {_REASONS[system]}" for system in SYSTEMS if system in winners]
    return "\n".join([*lines, "", *reasons] if lines else ["Nowhere, in these measurements."])


def _less_than_ours(every: Mapping[str, float | None], factor: float) -> dict[str, float]:
    """Name the systems that need less, and what part of what mscourse needs."""
    ours = every[OURS]
    if not ours:
        return {}
    parts = {system: each / ours for system, each in every.items() if each and system != OURS}
    return {system: part for system, part in parts.items() if part < factor}


def times(
    results: Results,
    work: Workload,
    workload: str,
    n_workers: int,
    *,
    with_memory: bool = False,
) -> str | None:
    """Give seconds, and what they are beside scikit-learn and beside the ideal."""
    if not results.has(workload, n_workers):
        return None
    half_s = half_of_sequential_s(results, workload)
    rows = []
    for system in SYSTEMS:
        seconds = _whole_s(results, work, workload, n_workers, system)
        if seconds is None and results.why_not(workload, n_workers, system) == "–":
            continue  # nobody meant to measure it
        row = [
            system,
            _seconds(results, work, workload, n_workers, system),
            shown(_ratio(results, workload, n_workers, system), "{:.2f}".format),
        ]
        if half_s:
            row.append(shown(over(seconds, half_s), "{:.2f}".format))
        if with_memory:
            growth = results.growth_mb(workload, n_workers, system)
            row.append(shown(growth, lambda g: g.show(0)))
        rows.append(row)
    header = [f"{n_workers} worker{'s' * (n_workers > 1)}", "seconds", f"× {PEER}"]
    header += ["× (sequential / 2)"] * bool(half_s) + ["memory, MB"] * with_memory
    return table(header, rows)


def memory(results: Results, work: Workload) -> str | None:
    """Give the growth of the memory for each number of workers, as a multiple of the data."""
    numbers = [n for n in (1, 2, 4, 8) if results.growth_mb("large", n, OURS)]
    if not numbers:
        return None
    rows = []
    for system in SYSTEMS:
        growths = [_growth_mb(results, n_workers, system) for n_workers in numbers]
        if any(growths):
            row = [system]
            for growth in growths:
                row.append(shown(growth, lambda g: g.show(0)))
                row.append(shown(over(growth, work.data_bytes / MB), "{:.2f}".format))
            rows.append(row)
    header = ["growth"]
    for n in numbers:
        header += [f"{n} worker{'s' * (n > 1)}, MB", "× the data"]
    return table(header, rows)


def sizes(results: Results, works: Mapping[str, Workload]) -> str | None:
    """Give milliseconds for each evaluation and MB, for each size of the data."""
    names = ["large 15 MB", "large", "large 1.5 GB"]
    if not (results.has(names[0], 2) and results.has(names[-1], 2)):
        return None
    rows = []
    for system in SYSTEMS:
        row = [system]
        for name in names:
            each = results.seconds_each(name, 2, system)
            row.append(f"{each.median * 1e3:,.0f}" if each else results.why_not(name, 2, system))
            growth = results.growth_mb(name, 2, system)
            row.append(shown(over(growth, works[name].data_bytes / MB), "{:.2f}".format))
        if set(row[1:]) != {"–"}:
            rows.append(row)
    header = ["2 workers"]
    for name in names:
        header += [f"{works[name].data_bytes / MB:,.0f} MB: ms each", "memory × the data"]
    return table(header, rows)


def nothings(results: Results) -> str | None:
    """Give what each system needs for an evaluation by itself."""
    if not results.has("nothing", 2):
        return None
    peer_s = median(results.seconds_each("nothing", 2, PEER))
    rows = []
    for system in SYSTEMS:
        n = results.n_evaluations("nothing", 2, system)
        if n is None:
            continue
        each = results.seconds_each("nothing", 2, system)
        rows.append(
            (
                system,
                f"{n:,}",
                shown(each, lambda s: s.scaled(N_NOTHINGS).show(2)),
                shown(each, lambda s: f"{s.median * 1e3:.2f}"),
                shown(over(each, peer_s), "{:.2f}".format),
            )
        )
    header = ("", "evaluations run", f"seconds for {N_NOTHINGS:,}", "ms each", f"× {PEER}")
    return table(header, rows)


def million(rows: Iterable[Mapping[str, Any]]) -> str:
    """Give what an evaluation costs in a search with few and with many of them."""
    header = ("evaluations", "seconds", "ms each", "bytes of the client's memory each")
    return table(
        header,
        [
            (
                f"{row['n_evaluations']:,}",
                f"{row['elapsed_s']:.1f}",
                f"{1e3 * row['elapsed_s'] / row['n_evaluations']:.3f}",
                f"{row['client_growth_bytes'] / row['n_evaluations']:,.0f}",
            )
            for row in rows
        ],
    )


def idle(results: Results) -> str | None:
    """Give the part of the time in which workers had nothing to do."""
    if not results.has("mix", 2):
        return None
    rows = [
        (
            system,
            shown(results.seconds("mix", 2, system), lambda s: s.show(1)),
            shown(found, lambda part: part.scaled(100).show(1)),
        )
        for system in SYSTEMS
        if (found := results.idle("mix", 2, system))
    ]
    return table(("2 workers", "seconds", "idle, %"), rows)


def same_work(results: Results, works: Mapping[str, Workload]) -> str:
    """Compare the scores, which show that the work was done."""
    rows = []
    for name, work in works.items():
        for system in SYSTEMS:
            difference = results.score_difference(name, system)
            if difference is not None and system != REFERENCE:
                verdict = "yes" if difference <= work.tolerance else "NO"
                rows.append((name, system, f"{difference:.1e}", f"{work.tolerance:g}", verdict))
    return table(("fits", "system", "largest difference", "allowed", "same"), rows)


def half_of_sequential_s(results: Results, workload: str) -> float | None:
    """Find what two cores could reach at best."""
    return over(results.seconds(workload, 2, REFERENCE), 2)


def shown(value: Value | None, show: Callable[[Value], str]) -> str:
    return "–" if value is None else show(value)


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _at(system: str, n_workers: int) -> tuple[str, int]:
    """Say which system and how many workers stand for what was not run because it is the same.

    The sequential search has no workers, and with one worker joblib starts none.
    """
    if system == REFERENCE or (system in (PEER, "Ray") and n_workers == 1):
        return REFERENCE, 2
    return system, n_workers


def _each(results: Results, workload: str, n_workers: int, system: str) -> Spread | None:
    system, n_workers = _at(system, n_workers)
    return results.seconds_each(workload, n_workers, system)


def _ratio(results: Results, workload: str, n_workers: int, system: str) -> float | None:
    peer_s = median(_each(results, workload, n_workers, PEER))
    return over(_each(results, workload, n_workers, system), peer_s)


def _whole_s(
    results: Results, work: Workload, workload: str, n_workers: int, system: str
) -> Spread | None:
    each = _each(results, workload, n_workers, system)
    return each.scaled(work.n_evaluations) if each else None


def _seconds(results: Results, work: Workload, workload: str, n_workers: int, system: str) -> str:
    """Show the seconds for all evaluations, and say if fewer were run."""
    whole = _whole_s(results, work, workload, n_workers, system)
    if whole is None:
        return results.why_not(workload, n_workers, system)
    system, n_workers = _at(system, n_workers)
    few = (results.n_evaluations(workload, n_workers, system) or 0) < work.n_evaluations
    return f"{'≈ ' * few}{whole.show(1)}"


def _growth_mb(results: Results, n_workers: int, system: str) -> Spread | None:
    if system == REFERENCE and n_workers > 1:
        n_workers = 2 if n_workers == 2 else 0  # it has no workers: once is enough
    elif n_workers == 1:
        system, n_workers = _at(system, n_workers)
    return results.growth_mb("large", n_workers, system)


def _with_best(ratios: Mapping[str, float | None]) -> list[str]:
    """Show ratios, the smallest in bold."""
    known = [ratio for ratio in ratios.values() if ratio is not None]
    return [
        "–" if ratio is None else f"**{ratio:.2f}**" if ratio == min(known) else f"{ratio:.2f}"
        for ratio in ratios.values()
    ]
