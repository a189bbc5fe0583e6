"""Pictures of what engines did over time: their evaluations, and the memory they held."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from mscourse.errors import ParameterError
from mscourse.evaluation import Evaluation
from mscourse.plots.style import COLOURS, add_colour_bar, axes_or_new, legend_above

if TYPE_CHECKING:
    from mscourse.monitor import MemoryMonitor

Floats = NDArray[np.float64]
Process = tuple[str, int]  # host and pid

_WIDTH_IN = 6.4
_ROW_IN, _MARGINS_IN, _TALLEST_IN = 0.32, 1.1, 7.0
_LABEL_IN = 0.2  # what a row's label takes

_RIGHT_LABELS = 0.14  # what the labels on the right take, as a part of the axes' width

_BAR_HEIGHT = 0.8
# More bars than these would drown in their white edges.
_MOST_BARS_WITH_EDGES = 300

_MOST_NAMED = 12
_SHARED = "0.85"
_BYTES_PER_MB = 1_000_000


def engine_timeline(evaluations: Sequence[Evaluation], ax: Axes | None = None) -> Axes:
    """Draw when each engine was at work: a row for each engine, a bar for each evaluation.

    Parameters
    ----------
    evaluations : sequence of Evaluation
        Those that no engine lived to finish are left out. Their times are those of the engines'
        clocks: if those of two hosts differ, so do their rows.
    ax : matplotlib.axes.Axes, optional
        By default a new figure is made.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ParameterError
        If there is nothing to draw.
    """
    done = [e for e in evaluations if not math.isnan(e.started_at_s)]
    if not done:
        raise ParameterError("There is nothing to draw yet: no evaluation is done.")
    names = _process_names(done)
    row_of = {process: row for row, process in enumerate(names)}
    row = np.array([row_of[e.host, e.pid] for e in done])
    start_s = np.array([e.started_at_s for e in done])
    start_s -= start_s.min()
    busy_s = np.array([e.elapsed_s for e in done])
    length_s = float((start_s + busy_s).max())
    # Clocks that step back, or none at all, must not make it negative.
    idle = (1 - np.bincount(row, weights=busy_s) / (length_s or 1)).clip(0, 1)

    ax = axes_or_new(ax, (_WIDTH_IN, min(_MARGINS_IN + _ROW_IN * len(names), _TALLEST_IN)))
    candidate = np.array([e.candidate for e in done])
    corners = list(_bars(start_s, start_s + busy_s, row))
    bars = PolyCollection(corners, array=candidate, edgecolors="face")
    if len(done) <= _MOST_BARS_WITH_EDGES:
        bars.set(edgecolors="white", linewidths=0.5)
    ax.add_collection(bars)
    ax.set_xlim(0, length_s or 1)
    ax.set_ylim(len(names) - 0.4, -0.6)
    ax.set_xlabel("time since the first evaluation began (s)")
    _name_rows(ax, list(names.values()), [f"{100 * part:.0f} %" for part in idle])
    ax.set_title(f"all engines together: idle {100 * idle.mean():.0f} %", loc="left", fontsize=10)
    ax.grid(axis="y", visible=False)
    if len(set(candidate)) > 1:
        # Only a layout engine knows that there are labels on the right, too.
        room = {} if ax.figure.get_layout_engine() else {"pad": _RIGHT_LABELS}
        add_colour_bar(ax, bars, "candidate", ticks=MaxNLocator(4, integer=True), **room)
    return ax


def memory_over_time(monitor: MemoryMonitor, ax: Axes | None = None) -> Axes:
    """Draw the memory of each process over time, stacked, so that the top is what all hold.

    The coloured areas are anonymous memory: what each process holds by itself. The grey area is
    memory that belongs to files, such as the splits, and that processes share: it counts once, as
    the sum of their PSS says. A system that tells only the RSS has a line for each process
    instead, since shares of the same pages cannot be stacked.

    Parameters
    ----------
    monitor : MemoryMonitor
        It may still be running.
    ax : matplotlib.axes.Axes, optional
        By default a new figure is made.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ParameterError
        If there is nothing to draw.
    """
    frame = monitor.to_frame()
    if frame.empty:
        raise ParameterError("There is nothing to draw: no process has been seen.")
    ax = axes_or_new(ax)
    time_s = np.unique(frame["time_s"])
    processes = dict(list(frame.groupby(["host", "pid"])))
    known = frame[["host", "pid", "engine"]].drop_duplicates().itertuples(index=False, name=None)
    names = _names({(host, pid): engine for host, pid, engine in known})
    colours = _colours(len(names))

    def over_time(process: Process, column: str) -> Floats:
        """Give a column in MB at all times: nothing before a process is seen, and after its end."""
        part = processes[process]
        values = part[column].to_numpy(dtype=float) / _BYTES_PER_MB
        return np.asarray(np.interp(time_s, part["time_s"], values, left=0.0, right=0.0))

    entries = [
        Patch(color=colour, label=name)
        for colour, name in zip(colours, names.values(), strict=True)
    ]
    if len(names) > _MOST_NAMED:
        entries = [Patch(color=colours[0], label=f"each of {len(names)} processes")]
    if frame["anonymous_bytes"].isna().any():
        for process, colour in zip(names, colours, strict=True):
            ax.plot(time_s, over_time(process, "rss_bytes"), color=colour)
        ax.set_ylabel("RSS (MB), shared pages in each")
    else:
        own = [over_time(process, "anonymous_bytes") for process in names]
        pss = [over_time(process, "pss_bytes") for process in names]
        shared = np.maximum(0.0, np.sum(pss, axis=0) - np.sum(own, axis=0))
        ax.stackplot(time_s, *own, shared, colors=[*colours, _SHARED], linewidth=0)
        ax.set_ylabel("memory (MB)")
        entries.append(Patch(color=_SHARED, label="files, shared"))
    ax.set_xlim(0, time_s[-1])
    ax.set_ylim(bottom=0)
    ax.set_xlabel("time since the monitor began (s)")
    legend_above(ax, entries)
    return ax


def _process_names(evaluations: Sequence[Evaluation]) -> dict[Process, str]:
    """Name the processes that evaluations ran in, in the order of hosts and engines.

    The workers of an executor are mere places: which process an evaluation ran in tells its pid.
    """
    engines: dict[Process, set[Any]] = defaultdict(set)
    processes: dict[Any, set[Process]] = defaultdict(set)
    for e in evaluations:
        engines[e.host, e.pid].add(e.engine)
        processes[e.engine].add((e.host, e.pid))
    unique = all(len(each) == 1 for each in [*engines.values(), *processes.values()])
    return _names({each: engines[each].pop() if unique else None for each in engines})


def _names(engine_of: Mapping[Process, Any]) -> dict[Process, str]:
    """Name processes by their engine, or else their pid; and by their host if there are several."""
    several_hosts = len({host for host, _ in engine_of}) > 1
    names = {}
    for host, pid in sorted(engine_of, key=lambda each: (each[0], engine_of[each] or 0, each[1])):
        engine = engine_of[host, pid]
        name = f"pid {pid}" if engine is None else f"engine {engine}"
        names[host, pid] = f"{host.partition('.')[0]}: {name}" if several_hosts else name
    return names


def _colours(n: int) -> list[Any]:
    """Choose colours: from the palette if it has enough, else from a map."""
    if n <= len(COLOURS):
        return list(COLOURS[:n])
    return list(mpl.colormaps["viridis"](np.linspace(0, 1, n)))


def _bars(start_s: Floats, end_s: Floats, row: NDArray[np.int64]) -> Floats:
    """Give the corners of bars, shape (n_bars, 4, 2)."""
    x = np.stack([start_s, end_s, end_s, start_s], axis=1)
    y = row[:, np.newaxis] + _BAR_HEIGHT / 2 * np.array([-1, -1, 1, 1])
    return np.stack([x, y], axis=2)


def _name_rows(ax: Axes, names: Sequence[str], parts: Sequence[str]) -> None:
    """Label the rows on both sides, or every second, third, ... of them if they lie too close."""
    step = math.ceil(len(names) * _LABEL_IN / (ax.bbox.height / ax.figure.dpi))
    rows = range(0, len(names), step)
    ax.set_yticks(rows, names[::step])
    ax.tick_params(axis="y", length=0)
    ax.text(1.01, 1.02, "idle", transform=ax.transAxes)
    for row in rows:
        ax.text(1.01, row, parts[row], va="center", transform=ax.get_yaxis_transform())
