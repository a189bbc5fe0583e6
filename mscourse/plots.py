"""The pictures of a search. Imported only where one is drawn, since matplotlib takes a second."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from mscourse.errors import ParameterError
from mscourse.evaluation import Evaluation
from mscourse.results import plain

# From the palette of Okabe and Ito, whose colours keep apart for colour-blind readers.
BLUE, ORANGE, GREEN = "#0072B2", "#D55E00", "#009E73"

# A box needs a place to stand; above this many values a point for each evaluation reads better.
_MOST_BOXES = 12

# Values that span more than this factor were surely chosen on a logarithmic scale.
_LOG_SCALE_FROM = 50.0

_PANEL_WIDTH_IN = 3.4
_PANEL_HEIGHT_IN = 3.0


def parameter_boxplots(
    evaluations: Sequence[Evaluation], axes: Sequence[Axes] | None = None
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
        One for each parameter. By default a new figure is made.

    Returns
    -------
    ndarray of matplotlib.axes.Axes, shape (n_parameters,)

    Raises
    ------
    ParameterError
        If there is nothing to draw, or not an axes for each parameter.
    """
    drawn = [(plain(e.params), e.test_score) for e in evaluations if not math.isnan(e.test_score)]
    names = list(dict.fromkeys(name for params, _ in drawn for name in params))
    if not names:
        raise ParameterError(
            "There is nothing to draw yet: no evaluation with parameters has succeeded."
        )
    if axes is None:
        size = (_PANEL_WIDTH_IN * len(names), _PANEL_HEIGHT_IN)
        _, panels = plt.subplots(
            1, len(names), figsize=size, sharey=True, squeeze=False, layout="constrained"
        )
        axes = list(panels[0])
    if len(axes) != len(names):
        raise ParameterError(
            f"There are {len(names)} parameters ({', '.join(names)}), but {len(axes)} axes."
        )
    for ax, name in zip(axes, names, strict=True):
        pairs = [(params[name], score) for params, score in drawn if name in params]
        _draw_parameter(ax, pairs)
        ax.set_xlabel(name)
        ax.grid(axis="y", alpha=0.3)
    axes[0].set_ylabel("test score")
    return np.asarray(axes)


def _draw_parameter(ax: Axes, pairs: list[tuple[Any, float]]) -> None:
    scores_of: dict[str, list[float]] = {}
    for value, score in sorted(pairs, key=lambda pair: _sort_key(pair[0])):
        scores_of.setdefault(_label(value), []).append(score)
    if len(scores_of) > _MOST_BOXES and all(_is_number(value) for value, _ in pairs):
        values = [value for value, _ in pairs]
        ax.plot(values, [score for _, score in pairs], "o", color=BLUE, alpha=0.5, markersize=4)
        if min(values) > 0 and max(values) / min(values) > _LOG_SCALE_FROM:
            ax.set_xscale("log")
        return
    boxes = ax.boxplot(
        list(scores_of.values()),
        tick_labels=list(scores_of),
        patch_artist=True,
        medianprops={"color": ORANGE, "linewidth": 2},
        flierprops={"marker": ".", "markersize": 4},
    )
    for box in boxes["boxes"]:
        box.set(facecolor=BLUE, alpha=0.35)
    if max(map(len, scores_of)) > 4:  # long labels would run into each other
        ax.tick_params(axis="x", rotation=45)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _sort_key(value: object) -> tuple[bool, Any]:
    """Numbers in their order, then everything else by name."""
    return (False, value) if _is_number(value) else (True, _label(value))


def _label(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
