"""The pictures. Imported only where one is drawn, since matplotlib takes a second.

All take the axes to draw on and return them, as matplotlib's own functions do; without axes they
make a new figure.
"""

from mscourse.plots.curves import (
    fit_times,
    learning_curves,
    score_against_fit_time,
    validation_curve,
)
from mscourse.plots.engines import engine_timeline, memory_over_time
from mscourse.plots.searches import halving_rungs, parameter_boxplots, score_heat_map
from mscourse.plots.style import BLUE, GREEN, ORANGE

__all__ = [
    "BLUE",
    "GREEN",
    "ORANGE",
    "engine_timeline",
    "fit_times",
    "halving_rungs",
    "learning_curves",
    "memory_over_time",
    "parameter_boxplots",
    "score_against_fit_time",
    "score_heat_map",
    "validation_curve",
]
