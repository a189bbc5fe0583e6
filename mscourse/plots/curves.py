"""Pictures of learning and validation curves; what is not done yet is left out."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from numpy.typing import NDArray

from mscourse.checks import check_rows
from mscourse.errors import ParameterError
from mscourse.plots.style import (
    BLUE,
    GREY,
    ORANGE,
    axes_or_new,
    candidate_labels,
    handle,
    is_number,
    legend_above,
    look,
    set_log_scale,
    wants_log_scale,
)
from mscourse.results import Mean, label, plain_value

if TYPE_CHECKING:
    from mscourse.curves import LearningCurve, ValidationCurve

Floats = NDArray[np.float64]

_ANY = "0.3"  # in a legend, what holds for curves of any colour
_TRAIN_STYLE: dict[str, Any] = {"linestyle": "--", "markerfacecolor": "white"}
_BAND = "\N{PLUS-MINUS SIGN} 1 standard error"
_EXTRAPOLATED = "extrapolated, 95 %"

# Beside a point, off the line through it: below one curve, above the next.
_BELOW: dict[str, Any] = {"xytext": (5, -4), "textcoords": "offset points", "va": "top"}
_ABOVE: dict[str, Any] = _BELOW | {"xytext": (-5, 4), "ha": "right", "va": "bottom"}

# Labels of points whose times differ by less than this factor would run into each other.
_LABEL_FACTOR = 1.6

# Enough for a smooth line.
_N_POINTS_OF_LAW = 50


def learning_curves(
    curve: LearningCurve, ax: Axes | None = None, extrapolate_to: int | None = None
) -> Axes:
    """Draw train and test score against the rows used: means over splits, and their errors.

    Two curves that have met say that more data will not help, but another model might; two that
    are still apart say that more data will.

    Parameters
    ----------
    curve : LearningCurve
        It may still be running.
    ax : matplotlib.axes.Axes, optional
        By default a new figure is made.
    extrapolate_to : int, optional
        Continue the test score to this many rows, with the 95 % interval of its mean. A candidate
        of which too little is done for that is drawn without.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ParameterError
        If there is nothing to draw, or nothing to extrapolate to.
    """
    now = int(curve.train_sizes[-1])
    if extrapolate_to is not None:
        check_rows("extrapolate_to", extrapolate_to)
        if extrapolate_to <= now:
            raise ParameterError(
                f"extrapolate_to must be above {now}, the most rows measured; it is "
                f"{extrapolate_to}."
            )
    tables = _tables(curve)
    ax = axes_or_new(ax)
    sizes = [float(size) for size in curve.train_sizes]
    drawn_sizes = sizes if extrapolate_to is None else [*sizes, extrapolate_to]
    if wants_log_scale(drawn_sizes):
        set_log_scale(ax, "x", drawn_sizes)
    looks = _draw_scores(ax, sizes, tables)
    handles = _score_legend(looks, candidate_labels(curve.candidates), curve.n_splits)
    colours = [test["color"] for test, _ in looks]
    if extrapolate_to is not None and _draw_score_laws(ax, curve, extrapolate_to, colours):
        ax.axvline(now, color=GREY, linewidth=1, zorder=0)
        colour = looks[0][0]["color"] if len(looks) == 1 else _ANY
        handles.append(Line2D([], [], linestyle=":", color=colour, label=_EXTRAPOLATED))
    ax.set_xlabel("rows used for training")
    ax.set_ylabel("score")
    legend_above(ax, handles)
    return ax


def fit_times(curve: LearningCurve, ax: Axes | None = None) -> Axes:
    """Draw the seconds of each fit against the rows used, with the power law that they follow.

    Parameters
    ----------
    curve : LearningCurve
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
    tables = _tables(curve)
    ax = axes_or_new(ax)
    names = candidate_labels(curve.candidates)
    sizes = np.asarray(curve.train_sizes, dtype=float)
    all_times = np.stack([table["fit_times"] for table in tables])
    handles = []
    for candidate, table in enumerate(tables):
        style = look(candidate)
        times = table["fit_times"]
        points = np.broadcast_to(sizes[:, np.newaxis], times.shape)
        ax.plot(points.ravel(), times.ravel(), **style, linestyle="", alpha=0.5)
        name = names[candidate] if len(names) > 1 else ""
        with contextlib.suppress(ParameterError):  # too little is done for a law
            law = curve.fit_time_law(candidate)
            ax.plot(sizes, [law.predict(size).value for size in sizes], color=style["color"])
            name = f"{name}: {law}" if name else str(law)
        handles.append(handle(style, linestyle="-", label=name or "fits"))
    set_log_scale(ax, "x", sizes)
    set_log_scale(ax, "y", all_times.ravel())
    ax.set_xlabel("rows used for training, n")
    ax.set_ylabel("fit time (s)")
    legend_above(ax, handles)
    return ax


def score_against_fit_time(curve: LearningCurve, ax: Axes | None = None) -> Axes:
    """Draw the test score against the seconds of the fit: what each candidate gives for its time.

    Parameters
    ----------
    curve : LearningCurve
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
    tables = _tables(curve)
    ax = axes_or_new(ax)
    names = candidate_labels(curve.candidates)
    drawn_times: list[float] = []
    for candidate, table in enumerate(tables):
        rows = np.flatnonzero(_any_done(table["test_scores"]))
        scores = [_mean(table["test_scores"][row]).mean for row in rows]
        times = [_mean(table["fit_times"][row]).mean for row in rows]
        drawn_times += times
        style = look(candidate)
        ax.plot(times, scores, **style, label=names[candidate])
        place = _ABOVE if candidate % 2 else _BELOW
        labelled_s = math.inf
        for row, time_s, score in reversed(list(zip(rows, times, scores, strict=True))):
            if time_s * _LABEL_FACTOR < labelled_s:
                size = str(curve.train_sizes[row])
                ax.annotate(size, (time_s, score), **place, color=style["color"])
                labelled_s = time_s
    set_log_scale(ax, "x", drawn_times)
    ax.margins(x=0.1, y=0.15)
    ax.set_xlabel("fit time (s), mean over splits")
    ax.set_ylabel("test score, mean over splits")
    if len(tables) > 1:
        legend_above(ax, ax.lines)
    return ax


def validation_curve(curve: ValidationCurve, ax: Axes | None = None) -> Axes:
    """Draw train and test score against one parameter: means over splits, and their errors.

    Parameters
    ----------
    curve : ValidationCurve
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
    table = curve.results()
    _check_any_done([table])
    ax = axes_or_new(ax)
    values = [plain_value(value) for value in curve.param_range]
    places = [float(value) for value in values if is_number(value)]
    if len(places) < len(values):
        places = [float(place) for place in range(len(values))]
        ax.set_xticks(places, [label(value) for value in values])
    elif wants_log_scale(places):
        set_log_scale(ax, "x", places)
    looks = _draw_scores(ax, places, [table])
    ax.set_xlabel(curve.param_name)
    ax.set_ylabel("score")
    legend_above(ax, _score_legend(looks, [""], curve.n_splits))
    return ax


def _draw_scores(
    ax: Axes, places: Sequence[float], tables: Sequence[dict[str, Any]]
) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Draw the train and test scores of each candidate; return how both look."""
    looks = []
    for candidate, table in enumerate(tables):
        test, train = look(candidate), look(candidate) | _TRAIN_STYLE
        if len(tables) == 1:  # what is tested on is orange, here as in the figures of the book
            test["color"], train["color"] = ORANGE, BLUE
        _draw_mean(ax, places, table["train_scores"], train)
        _draw_mean(ax, places, table["test_scores"], test)
        looks.append((test, train))
    return looks


def _draw_mean(ax: Axes, places: Sequence[float], scores: Floats, style: dict[str, Any]) -> None:
    rows = np.flatnonzero(_any_done(scores))
    x = np.asarray(places)[rows]
    means = [_mean(scores[row]) for row in rows]
    mean = np.array([each.mean for each in means])
    error = np.array([each.standard_error for each in means])
    ax.plot(x, mean, **style)
    ax.fill_between(x, mean - error, mean + error, color=style["color"], alpha=0.2, linewidth=0)


def _score_legend(
    looks: Sequence[tuple[dict[str, Any], dict[str, Any]]], names: Sequence[str], n_splits: int
) -> list[Any]:
    """Say what lines and bands are: for several candidates, colours and line styles apart."""
    handles: list[Any] = []
    test, train = looks[0]
    if len(looks) > 1:
        handles = [handle(style, label=name) for (style, _), name in zip(looks, names, strict=True)]
        test, train = test | {"color": _ANY}, train | {"color": _ANY}
        test["marker"] = train["marker"] = ""
    handles += [handle(test, label="test"), handle(train, label="train")]
    if n_splits > 1:
        handles.append(Patch(color=test["color"], alpha=0.2, linewidth=0, label=_BAND))
    return handles


def _draw_score_laws(
    ax: Axes, curve: LearningCurve, extrapolate_to: int, colours: Sequence[str]
) -> int:
    """Continue test scores beyond the last size, unless too little is done; return how many."""
    n = np.geomspace(curve.train_sizes[-1], extrapolate_to, _N_POINTS_OF_LAW)
    low, high = ax.get_ylim()
    n_drawn = 0
    for candidate, colour in enumerate(colours):
        try:
            law = curve.score_law(candidate)
        except ParameterError:
            continue
        n_drawn += 1
        of = [law.predict(each) for each in n]
        ax.plot(n, [each.value for each in of], ":", color=colour, linewidth=2)
        limits = [each.low for each in of], [each.high for each in of]
        ax.fill_between(n, *limits, color=colour, alpha=0.12, linewidth=0)
    # A law that nearly anything fits must not press what was measured into a flat line.
    wide_low, wide_high = ax.get_ylim()
    ax.set_ylim(max(wide_low, 2 * low - high), min(wide_high, 2 * high - low), auto=True)
    return n_drawn


def _any_done(table: Floats) -> NDArray[np.bool_]:
    return np.asarray(~np.isnan(table).all(axis=1))


def _mean(values: Floats) -> Mean:
    mean = Mean.of(values[~np.isnan(values)].tolist())
    # One split has no error, and its band no width.
    return Mean(mean.mean, 0.0 if math.isnan(mean.standard_error) else mean.standard_error)


def _tables(curve: LearningCurve) -> list[dict[str, Any]]:
    """Give the results of each candidate, of which one must have some."""
    tables = [curve.results(candidate) for candidate in range(len(curve.candidates))]
    _check_any_done(tables)
    return tables


def _check_any_done(tables: Sequence[dict[str, Any]]) -> None:
    if not any(_any_done(table["test_scores"]).any() for table in tables):
        raise ParameterError("There is nothing to draw yet: no evaluation has succeeded.")
