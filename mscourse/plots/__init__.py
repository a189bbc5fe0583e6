"""The pictures. Imported only where one is drawn, since matplotlib takes a second.

All take the axes to draw on and return them, as matplotlib's own functions do; without axes they
make a new figure. Each is imported when it is first used: those of prices and plans, which the
commands draw, need no scikit-learn.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mscourse.plots.curves import (
        fit_times,
        learning_curves,
        score_against_fit_time,
        validation_curve,
    )
    from mscourse.plots.engines import engine_timeline, memory_over_time
    from mscourse.plots.searches import halving_rungs, parameter_boxplots, score_heat_map

_MODULE_OF_NAME = {
    "engine_timeline": "engines",
    "fit_times": "curves",
    "halving_rungs": "searches",
    "learning_curves": "curves",
    "memory_over_time": "engines",
    "parameter_boxplots": "searches",
    "score_against_fit_time": "curves",
    "score_heat_map": "searches",
    "validation_curve": "curves",
}

__all__ = [
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


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF_NAME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULE_OF_NAME[name]}"), name)
