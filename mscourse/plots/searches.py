"""Pictures of what a search has found: scores against parameters, and the rungs of a halving."""

from __future__ import annotations

import itertools
import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from mscourse.errors import ParameterError
from mscourse.evaluation import Evaluation
from mscourse.plots.style import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    add_colour_bar,
    axes_or_new,
    handle,
    is_number,
    legend_above,
    set_log_scale,
    wants_log_scale,
)
from mscourse.results import label, plain

if TYPE_CHECKING:
    from mscourse.halving import HalvingSearch

# A box needs a place to stand; above this many values a point for each evaluation reads better.
_MOST_BOXES = 12

# More cells than this leave no room for a number in each.
_MOST_COLUMNS_WITH_NUMBERS, _MOST_ROWS_WITH_NUMBERS = 8, 12

# Between the lowest and the highest mean, the numbers in the cells tell apart as many as this.
_LEAST_STEPS = 20

# A search in which fewer cells than this are filled has drawn its values from distributions.
_LEAST_FILLED = 0.25

_HEAT_MAP_IN = (6.4, 4.2)
_PANEL_WIDTH_IN = 3.4
_PANEL_HEIGHT_IN = 3.0


def parameter_boxplots(
    evaluations: Sequence[Evaluation], axes: Axes | Sequence[Axes] | None = None
) -> NDArray[Any]:
    """Draw the test scores against the values of each parameter.

    A box shows how the scores of all evaluations with that value are spread, whatever the other
    parameters were: low and narrow rules a value out; high and wide says that another parameter
    matters too. A parameter with many values is drawn as points.

    Parameters
    ----------
    evaluations : sequence of Evaluation
        Failed ones are left out. A candidate that lacks a parameter is left out of its panel.
    axes : sequence of matplotlib.axes.Axes, optional
        One for each parameter, in any array. By default a new figure is made.

    Returns
    -------
    ndarray of matplotlib.axes.Axes, shape (n_parameters,)

    Raises
    ------
    ParameterError
        If there is nothing to draw, or not an axes for each parameter.
    """
    drawn = _scores(evaluations)
    names = list(dict.fromkeys(name for params, _ in drawn for name in params))
    if axes is None:
        size = (_PANEL_WIDTH_IN * len(names), _PANEL_HEIGHT_IN)
        _, panels = plt.subplots(
            1, len(names), figsize=size, sharey=True, squeeze=False, layout="constrained"
        )
        axes = list(panels[0])
    axes = list(np.asarray(axes, dtype=object).ravel())  # also of a single one
    if len(axes) != len(names):
        raise ParameterError(
            f"There are {len(names)} parameters ({', '.join(names)}), but {len(axes)} axes."
        )
    for ax, name in zip(axes, names, strict=True):
        pairs = [(params[name], score) for params, score in drawn if name in params]
        _draw_parameter(axes_or_new(ax), pairs)
        ax.set_xlabel(name)
    axes[0].set_ylabel("test score")
    return np.asarray(axes)


def score_heat_map(
    evaluations: Sequence[Evaluation],
    x: str | None = None,
    y: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw the mean test score against two parameters at a time.

    The mean is over all splits, and over the values of all other parameters. A pair of values that
    has no score yet is hatched. Values that were drawn from distributions hardly ever meet in a
    cell: then each candidate is a point.

    Parameters
    ----------
    evaluations : sequence of Evaluation
        Failed ones are left out, and so are candidates that lack one of the parameters.
    x, y : str, optional
        The parameters. By default those with the most values, of those that a candidate has both
        of.
    ax : matplotlib.axes.Axes, optional
        By default a new figure is made.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ParameterError
        If there is nothing to draw, there are no such parameters, or no candidate has both.
    """
    drawn = _scores(evaluations)
    x, y = _two_parameters([params for params, _ in drawn], x, y)
    scores_of: dict[tuple[Any, Any], list[float]] = defaultdict(list)
    values_x: dict[Any, Any] = {}
    values_y: dict[Any, Any] = {}
    for params, score in drawn:
        if x in params and y in params:
            cell = _key(params[x]), _key(params[y])
            scores_of[cell].append(score)
            values_x[cell[0]], values_y[cell[1]] = params[x], params[y]
    if not scores_of:
        raise ParameterError(f"No candidate has both {x} and {y}.")
    means = {cell: float(np.mean(scores)) for cell, scores in scores_of.items()}
    ax = axes_or_new(ax, _HEAT_MAP_IN)
    numbers = all(map(is_number, [*values_x.values(), *values_y.values()]))
    if numbers and len(means) < _LEAST_FILLED * len(values_x) * len(values_y):
        places = np.array([(values_x[in_x], values_y[in_y]) for in_x, in_y in means])
        picture = _draw_points(ax, places, list(means.values()))
    else:
        picture = _draw_cells(ax, values_x, values_y, means)
    ax.set_xlabel(x)
    ax.set_ylabel(y)
    add_colour_bar(ax, picture, "mean test score")
    return ax


def halving_rungs(search: HalvingSearch, ax: Axes | None = None) -> Axes:
    """Draw the score of each candidate at each rung of a halving search.

    Lines that cross show what halving risks: a candidate that was not promoted might have overtaken
    the others.

    Parameters
    ----------
    search : HalvingSearch
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
    rungs = search.rungs()
    paths: dict[int, list[tuple[int, float]]] = defaultdict(list)
    under_way: set[int] = set()
    for rung in rungs:
        under_way = (under_way - rung.scores.keys()) | rung.promoted
        for candidate, score in rung.scores.items():
            if not math.isnan(score):
                paths[candidate].append((rung.n_resources, score))
    if not paths:
        raise ParameterError("There is nothing to draw yet: no candidate has a score.")
    top = {each: score for each, score in rungs[-1].scores.items() if not math.isnan(score)}
    best = max(top, key=lambda candidate: top[candidate], default=None)

    ax = axes_or_new(ax)
    looks: dict[str, dict[str, Any]] = {
        "not promoted": {"color": "0.7", "linewidth": 1, "markersize": 3, "zorder": 2},
        "under way": {"color": GREEN, "linewidth": 1.5, "markersize": 4, "zorder": 3},
        "reached the top": {"color": BLUE, "linewidth": 1.5, "markersize": 4, "zorder": 3},
        "best": {"color": ORANGE, "linewidth": 2.5, "markersize": 6, "zorder": 4},
    }
    seen = set()
    for candidate, path in paths.items():
        fate = "under way" if candidate in under_way else "not promoted"
        if candidate in top:
            fate = "best" if candidate == best else "reached the top"
        seen.add(fate)
        ax.plot(*zip(*path, strict=True), marker="o", **looks[fate])
    resources = [rung.n_resources for rung in rungs]
    if len(resources) > 1:
        ax.set_xscale("log")
    ax.set_xticks(resources, [label(n) for n in resources])
    ax.minorticks_off()
    ax.set_xlabel("rows in the train set" if search.resource == "n_samples" else search.resource)
    ax.set_ylabel("mean test score")
    legend_above(ax, [handle(looks[f], marker="o", label=f) for f in looks if f in seen])
    return ax


def _scores(evaluations: Sequence[Evaluation]) -> list[tuple[dict[str, Any], float]]:
    """Give the parameters and the score of each evaluation that has both."""
    drawn = [
        (plain(e.params), e.test_score)
        for e in evaluations
        if e.params and not math.isnan(e.test_score)
    ]
    if not drawn:
        raise ParameterError(
            "There is nothing to draw yet: no evaluation with parameters has succeeded."
        )
    return drawn


def _two_parameters(
    candidates: Sequence[Mapping[str, Any]], x: str | None, y: str | None
) -> tuple[str, str]:
    """Complete the choice of two parameters by those with the most values that meet."""
    values: dict[str, set[Any]] = defaultdict(set)
    for params in candidates:
        for name, value in params.items():
            values[name].add(_key(value))
    there_are = f"There are: {', '.join(values)}."
    given = [name for name in (x, y) if name is not None]
    if not set(given) <= values.keys() or (x is not None and x == y):
        raise ParameterError(
            f"A heat map needs two different parameters, not x={x!r} and y={y!r}. {there_are}"
        )
    if x is not None and y is not None:
        return x, y
    together = set(map(frozenset, candidates))  # few, of however many candidates
    names = sorted(values, key=lambda name: -len(values[name]))
    for pair in itertools.permutations(names, 2):
        is_chosen = x in (None, pair[0]) and y in (None, pair[1])
        if is_chosen and any(each.issuperset(pair) for each in together):
            return pair
    lacks = (
        f"No candidate has {given[0]} and another parameter"
        if given
        else "A heat map needs two different parameters, and no candidate has two"
    )
    raise ParameterError(f"{lacks}. {there_are} plot_parameters() draws each by itself.")


def _draw_cells(
    ax: Axes,
    values_x: Mapping[Any, Any],
    values_y: Mapping[Any, Any],
    means: Mapping[tuple[Any, Any], float],
) -> Any:
    in_x = sorted(values_x, key=lambda key: _sort_key(values_x[key]))
    in_y = sorted(values_y, key=lambda key: _sort_key(values_y[key]))
    table = np.array([[means.get((key_x, key_y), np.nan) for key_x in in_x] for key_y in in_y])
    ax.grid(visible=False)
    ax.spines[:].set_visible(False)
    ax.patch.set(facecolor="0.95", edgecolor="0.75", hatch="///")  # shows where a cell is missing
    few = len(in_x) <= _MOST_COLUMNS_WITH_NUMBERS and len(in_y) <= _MOST_ROWS_WITH_NUMBERS
    picture = ax.pcolormesh(
        np.ma.masked_invalid(table), edgecolors="white", linewidth=1 if few else 0.3
    )
    _tick_labels(ax, "x", _labels([values_x[key] for key in in_x]))
    _tick_labels(ax, "y", _labels([values_y[key] for key in in_y]))
    finite = table[np.isfinite(table)]
    if few and len(finite):
        low, high = float(finite.min()), float(finite.max())
        # The same scores, added up in another order, may differ in their last digit.
        span = 0.0 if math.isclose(low, high, rel_tol=1e-9, abs_tol=1e-12) else high - low
        decimals = max(0, math.ceil(math.log10(_LEAST_STEPS / span))) if span else 2
        for (row, column), mean in np.ndenumerate(table):
            if math.isfinite(mean):
                ax.text(
                    column + 0.5,
                    row + 0.5,
                    f"{round(mean, decimals) + 0.0:.{decimals}f}",  # no minus before a zero
                    ha="center",
                    va="center",
                    color="white" if mean - low < 0.6 * span else "black",
                )
    return picture


def _tick_labels(ax: Axes, which: str, names: Sequence[str]) -> None:
    """Label cells in their middle; where there are many, not every one."""
    step = -(-len(names) // _MOST_BOXES)
    places = np.arange(len(names))[::step]
    axis = getattr(ax, f"{which}axis")
    axis.set_ticks(places + 0.5, [names[place] for place in places])
    axis.set_tick_params(length=0)


def _draw_points(ax: Axes, places: NDArray[Any], means: Sequence[float]) -> Any:
    picture = ax.scatter(places[:, 0], places[:, 1], c=means, s=40, edgecolors=GREY, linewidths=0.5)
    for which, values in zip("xy", places.T, strict=True):
        if wants_log_scale(values, drawn=True):
            set_log_scale(ax, which, values)
    return picture


def _draw_parameter(ax: Axes, pairs: list[tuple[Any, float]]) -> None:
    scores_of: dict[Any, list[float]] = {}
    value_of: dict[Any, Any] = {}
    for value, score in sorted(pairs, key=lambda pair: _sort_key(pair[0])):
        scores_of.setdefault(_key(value), []).append(score)
        value_of[_key(value)] = value
    if len(scores_of) > _MOST_BOXES and all(is_number(value) for value, _ in pairs):
        values = [value for value, _ in pairs]
        ax.plot(values, [score for _, score in pairs], "o", color=BLUE, alpha=0.5, markersize=4)
        if wants_log_scale(values, drawn=True):
            set_log_scale(ax, "x", values)
        return
    names = _labels(list(value_of.values()))
    boxes = ax.boxplot(
        list(scores_of.values()),
        tick_labels=names,
        patch_artist=True,
        medianprops={"color": ORANGE, "linewidth": 2},
        flierprops={"marker": ".", "markersize": 4},
    )
    for box in boxes["boxes"]:
        box.set(facecolor=BLUE, alpha=0.35)
    if max(map(len, names)) > 4:  # long labels would run into each other
        ax.tick_params(axis="x", rotation=45)


def _key(value: Any) -> Any:
    """Give what tells one value of a parameter from another."""
    return value if is_number(value) else label(value)


def _labels(values: Sequence[Any]) -> list[str]:
    """Label values: shortly, where that tells them apart."""
    short = [label(value) for value in values]
    n_of = Counter(short)
    return [
        str(value) if n_of[each] > 1 else each for value, each in zip(values, short, strict=True)
    ]


def _sort_key(value: object) -> tuple[bool, Any]:
    """Numbers in their order, then everything else by name."""
    return (False, value) if is_number(value) else (True, label(value))
