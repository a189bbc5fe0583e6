"""A picture of a plan: time against cost, for each kind of cluster."""

from __future__ import annotations

from collections import defaultdict
from statistics import fmean
from typing import Any

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke

from mscourse.cluster.plan import Plan, PlanRow
from mscourse.errors import ParameterError
from mscourse.plots.style import (
    GREY,
    axes_or_new,
    handle,
    legend_above,
    look,
    set_log_scale,
    wants_log_scale,
)

# Higher than other pictures: both axes have something to tell, and the legend is long.
SIZE_IN = (6.4, 4.2)

# Seconds, and the unit that times up to so long are shown in.
_UNITS = ((300.0, 1.0, "s"), (3 * 3600.0, 60.0, "minutes"), (float("inf"), 3600.0, "hours"))

# Between a point and the number beside it, in points: above the line for the dearest type, below it
# for the next, since types with nearly the same price per core lie upon each other.
_BESIDE = ((4, 4), (-6, -13))

# A limit further away than so many times the longest time, or the highest cost, is only told: to
# show it would press all that is worth seeing into a corner.
_FAR = 3
_LIMIT_STYLE: dict[str, Any] = {"color": GREY, "linestyle": ":", "linewidth": 1.5}


def time_against_cost(
    plan: Plan,
    ax: Axes | None = None,
    *,
    deadline_s: float | None = None,
    budget_usd: float | None = None,
) -> Axes:
    """Draw how long a search takes and what it costs, a line for each kind of machine.

    The numbers beside the points are the nodes. What lies to the left of the deadline and below
    the budget will do; one of them that is far away from all points is only told. A thin line leads
    to the worst round that was simulated.

    Parameters
    ----------
    plan : Plan
    ax : matplotlib.axes.Axes, optional
        By default a new figure is made.
    deadline_s, budget_usd : float, optional
        What it may take, and cost.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ParameterError
        If there is nothing to draw.
    """
    if not plan.rows:
        raise ParameterError("There is nothing to draw: the plan has no rows.")
    ax = axes_or_new(ax, SIZE_IN)
    lines: dict[tuple[str, bool], list[PlanRow]] = defaultdict(list)
    for row in plan.rows:
        lines[row.instance_type, row.is_spot].append(row)
    times_s = [row.latest_s for row in plan.rows]
    _, unit_s, unit = next(each for each in _UNITS if max(times_s) <= each[0])
    types = list(dict.fromkeys(name for name, _ in lines))
    by_cost = sorted(types, key=lambda name: _mean_usd(plan, name), reverse=True)
    handles: list[Line2D] = []
    for (name, is_spot), rows in lines.items():
        # A type has one colour and one marker; spot is dashed, since it is less certain.
        style = {**look(types.index(name)), "linestyle": "--" if is_spot else "-"}
        style["markerfacecolor"] = "white" if is_spot else style["color"]
        rows = sorted(rows, key=lambda row: row.n_nodes)
        ax.plot([row.finish_s / unit_s for row in rows], [row.cost_usd for row in rows], **style)
        for row in rows:
            place = row.finish_s / unit_s, row.cost_usd
            worst = row.latest_s / unit_s, row.most_usd
            ax.plot(*zip(place, worst, strict=True), color=style["color"], linewidth=0.7)
            ax.annotate(
                f"{row.n_nodes}",
                place,
                xytext=_BESIDE[by_cost.index(name) % 2],
                textcoords="offset points",
                fontsize="small",
                color=style["color"],
                path_effects=[withStroke(linewidth=2, foreground="white")],  # it may lie on a line
            )
        handles.append(handle(style, label=f"{name}, {'spot' if is_spot else 'on demand'}"))
    times = [time_s / unit_s for time_s in times_s]
    deadline = None if deadline_s is None else deadline_s / unit_s
    costs_usd = [row.most_usd for row in plan.rows]
    limits = [
        *_set_axis(ax, "x", "time until the last result", unit, times, "deadline", deadline),
        *_set_axis(ax, "y", "cost", "USD", costs_usd, "budget", budget_usd),
    ]
    if limits:
        handles.append(handle(_LIMIT_STYLE, label=" and ".join(limits)))
    legend_above(ax, handles)
    return ax


def _set_axis(
    ax: Axes,
    which: str,
    what: str,
    unit: str,
    values: list[float],
    limit_name: str,
    limit: float | None,
) -> list[str]:
    """Label and scale an axis, and draw the limit on it; name that if it was not too far away."""
    drawn = []
    if limit is not None and limit > _FAR * max(values):
        unit += f"; {limit_name}: {limit:g}"
    elif limit is not None:
        (ax.axvline if which == "x" else ax.axhline)(limit, **_LIMIT_STYLE)
        values = [*values, limit]
        drawn = [limit_name]
    if wants_log_scale(values, drawn=True):
        set_log_scale(ax, which, values)
    else:
        getattr(ax, f"set_{which}lim")(0, 1.05 * max(values) or 1)  # 0: all may be for free
    getattr(ax, f"set_{which}label")(f"{what} ({unit})")
    return drawn


def _mean_usd(plan: Plan, name: str) -> float:
    return fmean(row.cost_usd for row in plan.rows if row.instance_type == name)
