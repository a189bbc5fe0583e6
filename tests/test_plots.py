"""The boxplots show every parameter, its values in order, and the scores that were found."""

from __future__ import annotations

import math
from collections.abc import Iterator

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
from test_results import evaluation

import mscourse
from mscourse import plots


@pytest.fixture(autouse=True)
def _no_window() -> Iterator[None]:
    mpl.use("agg")
    yield
    plt.close("all")


def labels(ax):
    return [text.get_text() for text in ax.get_xticklabels()]


def test_a_box_for_each_value_of_each_parameter():
    evaluations = [
        evaluation({"C": np.float64(c), "kernel": kernel}, 0, c / 100 + (kernel == "rbf") / 10)
        for c in (10.0, 0.1, 1.0)
        for kernel in ("rbf", "linear")
    ]
    c, kernel = plots.parameter_boxplots(evaluations)
    assert (c.get_xlabel(), kernel.get_xlabel(), c.get_ylabel()) == ("C", "kernel", "test score")
    assert labels(c) == ["0.1", "1", "10"]
    assert labels(kernel) == ["linear", "rbf"]
    medians = [line.get_ydata()[0] for line in c.lines if line.get_color() == plots.ORANGE]
    np.testing.assert_allclose(medians, [0.051, 0.06, 0.15])


def test_a_list_of_grids_and_failures():
    evaluations = [
        evaluation({"kernel": "rbf", "gamma": 0.1}, 0, 0.5),
        evaluation({"kernel": "linear"}, 0, 0.6),
        evaluation({"kernel": "poly"}, 0, math.nan, error="ValueError"),
        evaluation({"kernel": None}, 0, 0.7),
    ]
    kernel, gamma = plots.parameter_boxplots(evaluations)
    assert labels(kernel) == ["None", "linear", "rbf"]
    assert labels(gamma) == ["0.1"]


def test_many_numbers_are_points_on_a_scale_that_fits():
    evaluations = [
        evaluation({"C": 10.0**i, "depth": i}, 0, i / 20) for i in np.linspace(-3, 3, 20)
    ]
    c, depth = plots.parameter_boxplots(evaluations)
    assert (c.get_xscale(), depth.get_xscale()) == ("log", "linear")
    assert len(c.lines[0].get_xdata()) == 20


def test_axes_are_taken_and_given_back():
    _, axes = plt.subplots(1, 2)
    evaluations = [evaluation({"a": 1, "b": 2}, 0, 0.5)]
    assert list(plots.parameter_boxplots(evaluations, axes=axes)) == list(axes)
    with pytest.raises(mscourse.ParameterError, match=r"2 parameters \(a, b\), but 1 axes"):
        plots.parameter_boxplots(evaluations, axes=axes[:1])


def test_nothing_to_draw_is_told():
    with pytest.raises(mscourse.ParameterError, match="nothing to draw yet"):
        plots.parameter_boxplots([evaluation({"a": 1}, 0, math.nan, error="x")])
