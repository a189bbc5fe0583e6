"""A picture of a plan: time against cost, for each kind of cluster."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from matplotlib.axes import Axes
from matplotlib.lines import Line2D

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

# Between a point and the number beside it, in points: above the line for one type, below it for the
# next, since types with the same price per core lie upon each other.
_BESIDE = ((5, 4), (-3, -12))


def time_against_cost(
    plan: Plan,
    ax: Axes | None = None,
    *,
    deadline_s: float | None = None,
    budget_usd: float | None = None,
) -> Axes:
    """Draw how long a search takes and what it costs, a line for each kind of machine.

    The numbers beside the points are the nodes. What lies to the left of the deadline and below
    the budget will do. A thin line leads to the worst round that was simulated.

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
                xytext=_BESIDE[types.index(name) % 2],
                textcoords="offset points",
                fontsize="small",
                color=style["color"],
            )
        handles.append(handle(style, label=f"{name}, {'spot' if is_spot else 'on demand'}"))
    shown_s, shown_usd = times_s, [row.most_usd for row in plan.rows]
    limit: dict[str, Any] = {"color": GREY, "linestyle": ":", "linewidth": 1.5}
    if deadline_s is not None:
        ax.axvline(deadline_s / unit_s, **limit)
        shown_s = [*shown_s, deadline_s]
    if budget_usd is not None:
        ax.axhline(budget_usd, **limit)
        shown_usd = [*shown_usd, budget_usd]
    if deadline_s is not None or budget_usd is not None:
        given = [
            name
            for name, value in (("deadline", deadline_s), ("budget", budget_usd))
            if value is not None
        ]
        handles.append(handle(limit, label=" and ".join(given)))
    for which, values in (("x", [each / unit_s for each in shown_s]), ("y", shown_usd)):
        if wants_log_scale(values, drawn=True):
            set_log_scale(ax, which, values)
        else:
            getattr(ax, f"set_{which}lim")(**{"left" if which == "x" else "bottom": 0})
    ax.set_xlabel(f"time until the last result [{unit}]")
    ax.set_ylabel("cost [USD]")
    legend_above(ax, handles)
    return ax
