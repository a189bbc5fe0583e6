"""A picture of spot prices over time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes

from mscourse.cluster.prices import SpotPrices
from mscourse.errors import ParameterError
from mscourse.plots.style import COLOURS, axes_or_new, handle, legend_above

# Zones of a type have its colour, and these lines.
_LINES = ("-", "--", ":", "-.")


def spot_prices(
    prices: Sequence[SpotPrices],
    ax: Axes | None = None,
    *,
    on_demand_usd: Mapping[str, float] | None = None,
) -> Axes:
    """Draw what spot instances cost over time, a line for each type and zone.

    Parameters
    ----------
    prices : sequence of SpotPrices
    ax : matplotlib.axes.Axes, optional
        By default a new figure is made.
    on_demand_usd : mapping of str to float, optional
        What types cost per hour on demand, for comparison.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ParameterError
        If there is nothing to draw.
    """
    if not prices:
        raise ParameterError("There is nothing to draw: there are no prices.")
    ax = axes_or_new(ax)
    types = list(dict.fromkeys(each.instance_type for each in prices))
    handles = []
    n_zones: dict[str, int] = {}
    for each in prices:
        number = n_zones.get(each.instance_type, 0)
        n_zones[each.instance_type] = number + 1
        style: dict[str, Any] = {
            "color": COLOURS[types.index(each.instance_type) % len(COLOURS)],
            "linestyle": _LINES[number % len(_LINES)],
        }
        times = [*(max(time, each.since) for time in each.times), each.until]
        days = [(time - each.until).total_seconds() / 86400 for time in times]
        # A price holds until the next one.
        ax.step(days, [*each.usd_per_hour, each.current_usd], where="post", **style)
        handles.append(handle(style, label=f"{each.instance_type}, {each.zone}"))
    for name, usd_per_hour in (on_demand_usd or {}).items():
        if name in types:
            colour = COLOURS[types.index(name) % len(COLOURS)]
            ax.axhline(usd_per_hour, color=colour, linewidth=0.8)
            ax.annotate(
                f"{name} on demand",
                (1.0, usd_per_hour),
                xycoords=("axes fraction", "data"),
                xytext=(0, 3),
                textcoords="offset points",
                ha="right",
                fontsize="small",
                color=colour,
            )
    ax.set_ylim(bottom=0)
    ax.set_xlabel("days from now")
    ax.set_ylabel("price (USD per hour)")
    legend_above(ax, handles)
    return ax
