"""What all pictures have in common: colours, axes, legends, and numbers on logarithmic scales."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.cm import ScalarMappable
from matplotlib.legend import Legend
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from mscourse.errors import ParameterError
from mscourse.evaluation import Params
from mscourse.results import label

# From the palette of Okabe and Ito, whose colours keep apart for colour-blind readers.
BLUE, ORANGE, GREEN = "#0072B2", "#D55E00", "#009E73"
PINK, SKY, AMBER = "#CC79A7", "#56B4E9", "#E69F00"
GREY = "0.6"

COLOURS = (BLUE, ORANGE, GREEN, PINK, SKY, AMBER)
# As many as have no common divisor with the colours: 42 curves look different from each other.
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")

# As wide as a page's text. At half of it, 400 pixels, matplotlib's 10 points are still legible.
SIZE_IN = (6.4, 3.6)

# About what an entry of a legend takes: its mark, the space to the next one, and each character.
_ENTRY_IN, _CHARACTER_IN = 0.5, 0.075

# Values that span this factor were surely chosen on a logarithmic scale. A hair less than two
# powers of ten, since 1 / 0.01 may be one; less still if they were drawn, since draws hardly ever
# hit the ends of their range.
_LOG_SCALE_FROM = 99.9
_LOG_SCALE_FROM_IF_DRAWN = 20

# Above this many powers of ten, ticks at 1, 2 and 5 would run into each other.
_MOST_DECADES_WITH_2_AND_5 = 2.5

# On a logarithmic scale, numbers beyond these are written as powers of ten.
_LEAST_WRITTEN_OUT, _MOST_WRITTEN_OUT = 1e-3, 1e5


def axes_or_new(ax: Axes | None, size_in: tuple[float, float] = SIZE_IN) -> Axes:
    """Take the axes that are given, or make a figure with new ones; put them into our style."""
    if ax is None:
        _, ax = plt.subplots(figsize=size_in, layout="constrained")
    if not isinstance(ax, Axes):
        raise ParameterError(f"ax must be axes of matplotlib, or None, not {ax!r}.")
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color(GREY)
    ax.set_axisbelow(True)
    ax.grid(alpha=0.3)
    return ax


def look(number: int) -> dict[str, Any]:
    """Choose colour and marker of one of several curves."""
    return {
        "color": COLOURS[number % len(COLOURS)],
        "marker": _MARKERS[number % len(_MARKERS)],
        "markersize": 5,
    }


def legend_above(ax: Axes, handles: Sequence[Any]) -> Legend:
    """Put a legend above the axes, where it hides no data, in as many columns as they are wide."""
    width_in = ax.bbox.width / ax.figure.dpi
    entries_in = [_ENTRY_IN + _CHARACTER_IN * len(str(each.get_label())) for each in handles]
    all_fit = sum(entries_in) <= width_in
    return ax.legend(
        handles=list(handles),
        loc="lower left",
        bbox_to_anchor=(0.0, 1.0),
        ncols=len(handles) if all_fit else max(1, int(width_in / max(entries_in))),
        frameon=False,
        borderaxespad=0.2,
        columnspacing=1.5,
    )


def handle(style: Mapping[str, Any], **changes: Any) -> Line2D:
    """Make an entry for a legend."""
    return Line2D([], [], **{**style, **changes})


def add_colour_bar(ax: Axes, picture: ScalarMappable, name: str, **options: Any) -> None:
    """Say what the colours mean, to the right of the axes."""
    bar = ax.figure.colorbar(picture, ax=ax, label=name, **options)
    bar.outline.set_visible(False)


def candidate_labels(candidates: Sequence[Params]) -> list[str]:
    """Name candidates by what makes them differ: ``C=10, gamma=0.01``."""
    names = dict.fromkeys(name for params in candidates for name in params)
    shown = [
        {name: label(params[name]) for name in names if name in params} for params in candidates
    ]
    differing = [name for name in names if len({values.get(name) for values in shown}) > 1]
    return [
        ", ".join(f"{name}={values[name]}" for name in differing if name in values) or "default"
        for values in shown
    ]


def is_number(value: object) -> bool:
    """Whether a value has a place on a scale."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def wants_log_scale(values: Iterable[float], *, drawn: bool = False) -> bool:
    """Whether numbers are positive and span about two powers of ten."""
    values = list(values)
    least = _LOG_SCALE_FROM_IF_DRAWN if drawn else _LOG_SCALE_FROM
    return min(values) > 0 and max(values) / min(values) > least


def set_log_scale(ax: Axes, which: str, values: Iterable[float]) -> None:
    """Make the "x" or "y" axis logarithmic, with numbers that people read."""
    values = [value for value in values if value > 0]
    getattr(ax, f"set_{which}scale")("log")
    axis: Axis = getattr(ax, f"{which}axis")
    low, high = min(values), max(values)
    few = math.log10(high / low) <= _MOST_DECADES_WITH_2_AND_5
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if few else (1,)))
    as_they_are = low >= _LEAST_WRITTEN_OUT and high < _MOST_WRITTEN_OUT
    write = "{:g}".format if as_they_are else _power_of_ten
    axis.set_major_formatter(FuncFormatter(lambda value, _: write(value)))
    axis.set_minor_formatter(NullFormatter())


def _power_of_ten(value: float) -> str:
    digits, power = f"{value:.0e}".split("e")
    factor = "" if digits == "1" else rf"{digits} \times "
    return f"${factor}10^{{{int(power)}}}$"
