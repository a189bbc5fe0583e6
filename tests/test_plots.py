"""The pictures show what they say, and look as they did when somebody last looked at them.

If a picture is meant to change, draw its baseline anew and look at it::

    MSCOURSE_DRAW_BASELINES=1 python -m pytest tests/test_plots.py
"""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.testing.compare import compare_images

import mscourse
from mscourse import plots
from mscourse.asha import Rung
from mscourse.curves import LearningCurve, ValidationCurve
from mscourse.evaluation import Evaluation
from mscourse.monitor import MemoryMonitor
from mscourse.plots.style import BLUE, GREEN, ORANGE

BASELINES = Path(__file__).parent / "baseline"

# Root mean square of the difference of the pixels, 0 to 255. What may be missing of these pictures
# makes from 0.6, a point of 3 pixels, and 1, a band, to 70.
TOLERANCE = 0.5


@pytest.fixture(autouse=True)
def _no_window() -> Iterator[None]:
    mpl.use("agg")
    with mpl.rc_context():
        mpl.rcdefaults()
        yield
    plt.close("all")


# -- made-up results -----------------------------------------------------------------------------


def evaluation(params, split, test_score, *, candidate=0, error=None):
    return Evaluation(
        candidate=candidate, params=params, split=split, n_train=10,
        train_scores={"score": 1.0}, test_scores={"score": test_score},
        fit_time_s=0.1, score_time_s=0.1, error=error, error_traceback=None,
        started_at_s=0.0, elapsed_s=0.2, peak_anonymous_bytes=None, host="here", pid=1, engine=0,
    )  # fmt: skip


SIZES = (50, 100, 200, 300, 400, 500)


def fit(candidate, params, split, n_train, test_score, train_score, fit_time_s=0.1):
    return Evaluation(
        candidate=candidate, params=params, split=split, n_train=n_train,
        train_scores={"score": train_score}, test_scores={"score": test_score},
        fit_time_s=fit_time_s, score_time_s=0.01, error=None, error_traceback=None,
        started_at_s=0.0, elapsed_s=fit_time_s + 0.02, peak_anonymous_bytes=None,
        host="here", pid=1, engine=0,
    )  # fmt: skip


def learning_curve(candidates=({},), sizes=SIZES, n_splits=5, done=lambda n_train, split: True):
    """Scores approach 0.95 - 0.1 * candidate; times grow as n_train ** 2, or less."""
    curve = LearningCurve.__new__(LearningCurve)
    curve.candidates = list(candidates)
    curve.train_sizes = np.array(sizes)
    curve.n_splits = n_splits
    evaluations = [
        fit(
            candidate,
            params,
            split,
            n_train,
            test_score=0.95 - 0.1 * candidate - (2 - candidate) * n_train**-0.6 + 0.01 * wobble,
            train_score=0.99 - 0.05 * candidate * n_train / max(sizes) + 0.005 * wobble,
            fit_time_s=1e-6 * n_train ** (2 - 0.5 * candidate) * math.exp(0.2 * wobble),
        )
        for candidate, params in enumerate(curve.candidates)
        for n_train in sizes
        for split in range(n_splits)
        if done(n_train, split)
        for wobble in [math.sin(7 * split + n_train + candidate)]
    ]
    curve.evaluations = lambda: evaluations
    return curve


def validation_curve(name, values):
    curve = ValidationCurve.__new__(ValidationCurve)
    curve.param_name, curve.param_range, curve.n_splits = name, list(values), 3
    evaluations = [
        fit(place, {name: value}, split, 90, 0.9 - 0.02 * (place - 2) ** 2 + 0.01 * split,
            0.9 + 0.02 * place + 0.005 * split)
        for place, value in enumerate(values)
        for split in range(3)
    ]  # fmt: skip
    curve.evaluations = lambda: evaluations
    return curve


TWO = ({"C": 1, "gamma": np.float64(0.001)}, {"C": 1, "gamma": np.float64(0.1)})


def grid():
    """Score 1 at C = 10 and gamma = 0.01, and less the further from it; one cell is missing."""
    return [
        evaluation({"C": 10.0**c, "gamma": 10.0**g, "k": k}, split, score)
        for c in range(-1, 3)
        for g in range(-5, 0)
        for k in ("rbf", "poly")
        for split in range(2)
        for score in [1 - (c - 1) ** 2 / 9 - (g + 2) ** 2 / 16]
        if (c, g) != (-1, -1)
    ]


def schedule(n_engines=2, n_each=6, hosts=("here",)):
    """Engine 0 works without a pause; engine i pauses for i tenths of the time."""
    return [
        Evaluation(
            candidate=n_engines * i + engine, params={}, split=0, n_train=9,
            train_scores={"score": 1.0}, test_scores={"score": 0.5}, fit_time_s=0.8 * busy_s,
            score_time_s=0.1 * busy_s, error=None, error_traceback=None,
            started_at_s=1e9 + i, elapsed_s=busy_s, peak_anonymous_bytes=None,
            host=hosts[engine % len(hosts)], pid=100 + engine, engine=engine,
        )
        for engine in range(n_engines)
        for busy_s in [1 - engine / 10]
        for i in range(n_each)
    ]  # fmt: skip


def halving(n_rungs=3, resource="n_samples"):
    """Nine candidates, of which three and then one are promoted; number 8 is the best."""
    rungs = [
        Rung(60 * 3**rung, {i: 0.5 + 0.02 * i + 0.1 * rung for i in range(first, 9)}, promoted)
        for rung, (first, promoted) in enumerate(
            [(0, frozenset({6, 7, 8})), (6, frozenset({7, 8})), (7, frozenset())]
        )
    ]
    rungs[n_rungs:] = [Rung(rung.n_resources, {}, frozenset()) for rung in rungs[n_rungs:]]
    return SimpleNamespace(rungs=lambda: rungs, resource=resource)


def monitored(*, only_rss=False):
    """Two engines that take up to 100 MB each, one of which ends early, and 50 MB in a file."""
    rows = []
    for i in range(21):
        own = {0: 20e6 + 4e6 * i, 1: 100e6 if i in range(5, 15) else 20e6}
        for engine in (0, 1) if i < 18 else (0,):
            n_sharing = 2 if i < 18 else 1
            rows.append(
                {
                    "time_s": 0.1 * i, "host": "here", "engine": engine, "pid": 10 + engine,
                    "rss_bytes": own[engine] + 50e6,
                    "anonymous_bytes": None if only_rss else own[engine],
                    "pss_bytes": None if only_rss else own[engine] + 50e6 / n_sharing,
                }
            )  # fmt: skip
    return SimpleNamespace(to_frame=lambda: pd.DataFrame(rows))


# -- what they look like -------------------------------------------------------------------------

PICTURES = {
    "learning-curve": lambda ax: plots.learning_curves(learning_curve(), ax, extrapolate_to=900),
    "learning-curves": lambda ax: plots.learning_curves(learning_curve(TWO), ax),
    "fit-times": lambda ax: plots.fit_times(learning_curve(TWO), ax),
    "score-against-fit-time": lambda ax: plots.score_against_fit_time(learning_curve(TWO), ax),
    "validation-curve": lambda ax: plots.validation_curve(
        validation_curve("gamma", np.logspace(-5, 0, 6)), ax
    ),
    "boxplots": lambda ax: plots.parameter_boxplots(
        [evaluation({"C": e.params["C"]}, 0, e.test_score) for e in grid()],
        None if ax is None else [ax],
    ),
    "heat-map": lambda ax: plots.score_heat_map(grid(), ax=ax),
    "timeline": lambda ax: plots.engine_timeline(schedule(), ax),
    "rungs": lambda ax: plots.halving_rungs(halving(), ax),
    "memory": lambda ax: plots.memory_over_time(monitored(), ax),
}


def axes_on_paper():
    """Axes whose place does not depend on the size of the letters around them."""
    figure = plt.figure(figsize=(6.4, 3.8), dpi=60)
    return figure.add_axes((0.15, 0.15, 0.7, 0.65))


def save_without_text(ax, path):
    """Letters look different with each version of the font library; other tests read them."""
    for text in ax.figure.findobj(mpl.text.Text):
        text.set_alpha(0)
    if ax.get_legend() is not None:  # its columns are as wide as the letters
        ax.get_legend().set_visible(False)
    ax.figure.savefig(path, metadata={"Software": None})


def difference(ax, name, folder):
    path = folder / f"{name}.png"
    save_without_text(ax, path)
    # It writes its picture of the difference beside the one that it is given.
    expected = Path(shutil.copy(BASELINES / path.name, folder / f"{name}-expected.png"))
    return compare_images(str(expected), str(path), TOLERANCE)


@pytest.mark.parametrize("name", PICTURES)
def test_it_looks_as_it_did(name, tmp_path):
    ax = axes_on_paper()
    PICTURES[name](ax)
    if os.environ.get("MSCOURSE_DRAW_BASELINES"):
        BASELINES.mkdir(exist_ok=True)
        save_without_text(ax, BASELINES / f"{name}.png")
    assert difference(ax, name, tmp_path) is None


@pytest.mark.parametrize(
    ("name", "forget"),
    [
        ("learning-curve", lambda ax: ax.lines[-2]),  # the extrapolation
        ("learning-curves", lambda ax: ax.collections[0]),  # a band
        ("fit-times", lambda ax: ax.lines[1]),
        ("heat-map", lambda ax: ax.collections[0]),
        ("timeline", lambda ax: ax.collections[0]),
        ("rungs", lambda ax: ax.lines[0]),
    ],
)
def test_it_would_be_noticed_if_something_were_missing(name, forget, tmp_path):
    ax = axes_on_paper()
    PICTURES[name](ax)
    forget(ax).remove()
    assert difference(ax, name, tmp_path) is not None


# -- what they say -------------------------------------------------------------------------------


def labels(ax, which="x"):
    return [text.get_text() for text in getattr(ax, f"get_{which}ticklabels")()]


def legend(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def title(ax):
    return ax.get_title(loc="left")


def x_of(line):
    return np.asarray(line.get_xdata()).tolist()


@pytest.mark.parametrize("name", PICTURES)
def test_axes_are_taken_labelled_and_given_back(name):
    ax = axes_on_paper()
    returned = PICTURES[name](ax)
    assert np.ravel(returned)[0] is ax
    assert ax.get_xlabel()
    assert plt.get_fignums() == [1]
    assert min(text.get_fontsize() for text in ax.figure.findobj(mpl.text.Text)) >= 8


@pytest.mark.parametrize("name", PICTURES)
def test_without_axes_there_is_a_new_figure_and_nothing_else_changes(name):
    before = dict(mpl.rcParams)
    ax = np.ravel(PICTURES[name](None))[0]
    assert ax.figure.get_layout_engine() is not None
    assert plt.get_fignums() == [1]
    assert dict(mpl.rcParams) == before


def test_a_learning_curve_has_test_train_band_and_extrapolation():
    ax = plots.learning_curves(learning_curve(), extrapolate_to=900)
    assert legend(ax) == ["test", "train", "\u00b1 1 standard error", "extrapolated, 95 %"]
    train, test, law, _ = ax.lines
    assert (train.get_linestyle(), test.get_linestyle(), law.get_linestyle()) == ("--", "-", ":")
    assert x_of(test) == list(SIZES)
    assert (x_of(law)[0], x_of(law)[-1]) == (500, pytest.approx(900))
    assert law.get_ydata()[-1] == pytest.approx(learning_curve().score_law()(900))
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("rows used for training", "score")


def test_several_learning_curves_are_told_apart_by_what_differs():
    ax = plots.learning_curves(learning_curve(TWO))
    assert legend(ax) == ["gamma=0.001", "gamma=0.1", "test", "train", "\u00b1 1 standard error"]
    first_train, first_test, second_train, second_test = ax.lines
    assert first_train.get_color() == first_test.get_color() == BLUE
    assert second_train.get_color() == second_test.get_color() == ORANGE


def test_what_is_not_done_is_left_out_and_what_cannot_be_told_is_not_drawn():
    curve = learning_curve(done=lambda n_train, split: n_train in (50, 500) and split == 0)
    ax = plots.learning_curves(curve, extrapolate_to=900)
    assert [x_of(line) for line in ax.lines] == [[50, 500], [50, 500]]
    assert "extrapolated, 95 %" not in legend(ax)
    ax = plots.fit_times(curve)
    assert len(ax.lines) == 1  # the points
    assert legend(ax) == ["fits"]
    ax = plots.score_against_fit_time(curve)
    assert [text.get_text() for text in ax.texts] == ["500", "50"]


def test_an_uncertain_extrapolation_does_not_flatten_what_was_measured():
    curve = learning_curve(sizes=SIZES[:4], n_splits=3)
    measured = np.ptp(plots.learning_curves(curve).get_ylim())
    ax = plots.learning_curves(curve, extrapolate_to=10**9)
    assert np.ptp(ax.get_ylim()) <= 3 * measured + 1e-9
    assert ax.get_xscale() == "log"


def test_one_cannot_extrapolate_to_what_was_measured():
    with pytest.raises(mscourse.ParameterError, match="above 500, the most rows measured; it is 5"):
        plots.learning_curves(learning_curve(), extrapolate_to=500)
    for wrong in ("x", math.nan, math.inf):
        with pytest.raises(
            mscourse.ParameterError, match="extrapolate_to must be a number of rows"
        ):
            plots.learning_curves(learning_curve(), extrapolate_to=wrong)


def test_fit_times_tell_their_law():
    ax = plots.fit_times(learning_curve(TWO))
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
    laws = [learning_curve(TWO).fit_time_law(candidate) for candidate in (0, 1)]
    assert legend(ax) == [f"gamma=0.001: {laws[0]}", f"gamma=0.1: {laws[1]}"]
    assert laws[0].exponent == pytest.approx(2, abs=0.2)
    assert ax.get_ylabel() == "fit time (s)"


def test_scores_against_fit_times_name_the_sizes():
    ax = plots.score_against_fit_time(learning_curve())
    (line,) = ax.lines
    assert x_of(line) == sorted(x_of(line))
    assert [text.get_text() for text in ax.texts] == ["500", "300", "200", "100", "50"]


@pytest.mark.parametrize(
    ("values", "scale", "ticks"),
    [
        (np.logspace(-3, 0, 4), "log", [0.001, 0.01, 0.1, 1]),
        ([0.01, 0.1, 1], "log", [0.01, 0.1, 1]),
        ([1, 5, 20], "linear", [1, 5, 20]),
        ([0, 10, 1000], "linear", [0, 10, 1000]),
        (["linear", "rbf", None], "linear", [0, 1, 2]),
        ([True, False], "linear", [0, 1]),
    ],
)
def test_a_validation_curve_has_the_axis_that_its_values_need(values, scale, ticks):
    ax = plots.validation_curve(validation_curve("p", values))
    assert (ax.get_xscale(), ax.get_xlabel()) == (scale, "p")
    assert x_of(ax.lines[0]) == pytest.approx(ticks)
    if not isinstance(values[0], int | float) or isinstance(values[0], bool):
        assert labels(ax) == [str(value) for value in values]


def test_numbers_on_a_log_scale_are_written_as_people_do():
    ax = plots.validation_curve(validation_curve("p", [0.01, 0.1, 1.0]))
    assert {"0.01", "0.02", "0.05", "0.1", "0.5", "1"} <= set(labels(ax))
    ax = plots.validation_curve(validation_curve("p", [1e-5, 1e-3, 1.0]))
    assert {"$10^{-5}$", "$10^{0}$"} <= set(labels(ax))


def test_a_heat_map_has_the_means_of_its_cells():
    ax = plots.score_heat_map(grid())  # gamma has the most values, then C
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("gamma", "C")
    assert labels(ax) == ["1e-05", "0.0001", "0.001", "0.01", "0.1"]
    assert labels(ax, "y") == ["0.1", "1", "10", "100"]
    means = ax.collections[0].get_array()
    assert means.shape == (4, 5)
    assert means.mask.sum() == 1
    assert means.mask[0, 4]
    assert means[2, 3] == 1
    assert len(ax.texts) == 19
    assert "1.00" in [text.get_text() for text in ax.texts]
    assert ax.figure.axes[1].get_ylabel() == "mean test score"


def test_a_heat_map_of_chosen_parameters():
    ax = plots.score_heat_map(grid(), x="k")
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("k", "gamma")
    ax = plots.score_heat_map(grid(), "C", "k")
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("C", "k")
    with pytest.raises(mscourse.ParameterError, match=r"x='D' and y=None. There are: C, gamma, k"):
        plots.score_heat_map(grid(), x="D")
    with pytest.raises(mscourse.ParameterError, match="two different"):
        plots.score_heat_map([evaluation({"a": i}, 0, 0.5) for i in range(3)])


def test_a_heat_map_chooses_among_parameters_that_occur_together():
    apart = [{"a": i} for i in range(5)]
    apart += [{"b": i, "c": j, "d": 0} for i in range(4) for j in range(3)]
    evaluations = [evaluation(params, 0, 0.5) for params in apart]
    for chosen, drawn in (
        ({}, ("b", "c")),
        ({"x": "d"}, ("d", "b")),
        ({"y": "b"}, ("c", "b")),
    ):
        ax = plots.score_heat_map(evaluations, **chosen)
        assert (ax.get_xlabel(), ax.get_ylabel()) == drawn
    with pytest.raises(mscourse.ParameterError, match="has both a and b"):
        plots.score_heat_map(evaluations, "a", "b")
    for chosen in ({"x": "a"}, {"y": "a"}):
        with pytest.raises(
            mscourse.ParameterError, match=r"No candidate has a and another parameter\..*plot_param"
        ):
            plots.score_heat_map(evaluations, **chosen)
    alone = [evaluation({name: i}, 0, 0.5) for name in "ab" for i in range(3)]
    with pytest.raises(
        mscourse.ParameterError, match=r"two different.*no candidate has two.*plot_parameters\(\)"
    ):
        plots.score_heat_map(alone)
    assert len(plt.get_fignums()) == 3


def test_values_that_are_written_alike_are_still_different():
    values = [1e6 + 1, 1e6 + 2, 1e6 + 3]
    evaluations = [evaluation({"a": a, "b": b}, 0, b / 4) for a in values for b in (1, 2)]
    ax = plots.score_heat_map(evaluations, "a", "b")
    assert labels(ax) == ["1000001.0", "1000002.0", "1000003.0"]
    assert len(ax.texts) == 6
    ax = plots.parameter_boxplots(evaluations)[0]
    assert labels(ax) == ["1000001.0", "1000002.0", "1000003.0"]


def test_a_heat_map_bears_an_infinite_score():
    evaluations = [evaluation({"a": a, "b": b}, 0, b / a) for a in (1, 2) for b in (1, 2)]
    evaluations[0] = evaluation({"a": 1, "b": 1}, 0, -math.inf)
    assert len(plots.score_heat_map(evaluations).texts) == 3
    alone = [evaluation({"a": a, "b": b}, 0, -math.inf) for a in (1, 2) for b in (1, 2)]
    assert len(plots.score_heat_map(alone).texts) == 0


def test_a_heat_map_of_scores_that_differ_by_rounding_only():
    scores = {(1, 1): [0.1, 0.2, 0.3], (1, 2): [0.3, 0.2, 0.1], (2, 1): [0.2], (2, 2): [0.2]}
    ax = plots.score_heat_map(
        [
            evaluation({"a": a, "b": b}, split, score)
            for (a, b), each in scores.items()
            for split, score in enumerate(each)
        ]
    )
    assert {text.get_text() for text in ax.texts} == {"0.20"}
    assert len({text.get_color() for text in ax.texts}) == 1


def test_values_from_distributions_are_points_in_the_plane():
    rng = np.random.default_rng(0)
    draws = 10 ** rng.uniform(-3, 3, (30, 2))
    ax = plots.score_heat_map([evaluation({"a": a, "b": b}, 0, a) for a, b in draws])
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
    assert len(ax.collections[0].get_offsets()) == 30
    narrower = [evaluation({"a": a, "b": 1 / a}, 0, a) for a in np.geomspace(0.02, 0.9, 30)]
    ax = plots.score_heat_map(narrower)
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
    (panel,) = plots.parameter_boxplots([evaluation({"a": e.params["a"]}, 0, 1) for e in narrower])
    assert panel.get_xscale() == "log"


def test_a_timeline_tells_how_long_engines_idled():
    ax = plots.engine_timeline(schedule(n_engines=3))
    assert labels(ax, "y") == ["engine 0", "engine 1", "engine 2"]
    assert [text.get_text() for text in ax.texts] == ["idle", "0 %", "10 %", "20 %"]
    assert title(ax) == "all engines together: idle 10 %"
    assert ax.get_xlim() == (0, pytest.approx(6))
    (bars,) = ax.collections
    assert len(bars.get_paths()) == 18
    x, y = bars.get_paths()[-1].vertices.T
    assert (x.min(), x.max(), y.mean().round()) == (pytest.approx(5), pytest.approx(5.8), 2)


def test_engines_of_several_hosts_and_workers_of_an_executor_are_named():
    ax = plots.engine_timeline(schedule(hosts=("node1.cluster", "node2.cluster")))
    assert labels(ax, "y") == ["node1: engine 0", "node2: engine 1"]
    places = [mscourse.Evaluation(**{**vars(e), "engine": 0}) for e in schedule()]
    assert labels(plots.engine_timeline(places), "y") == ["pid 100", "pid 101"]


def test_a_thousand_evaluations_on_many_engines_are_one_artist_and_legible():
    ax = plots.engine_timeline(schedule(n_engines=10, n_each=100), axes_on_paper())
    assert len(ax.collections) == 1
    many = [
        mscourse.Evaluation(**{**vars(e), "engine": i, "pid": i})
        for i in range(100)
        for e in schedule(n_engines=1, n_each=3)
    ]
    ax = plots.engine_timeline(many, axes_on_paper())
    assert 10 < len(labels(ax, "y")) < 20


def test_an_evaluation_that_no_engine_finished_is_not_in_the_timeline():
    lost = mscourse.Evaluation(
        **{**vars(schedule()[0]), "started_at_s": math.nan, "elapsed_s": math.nan, "pid": 0}
    )
    assert len(plots.engine_timeline([*schedule(), lost]).collections[0].get_paths()) == 12


def test_the_rungs_show_what_became_of_each_candidate():
    ax = plots.halving_rungs(halving())
    assert legend(ax) == ["not promoted", "reached the top", "best"]
    assert labels(ax) == ["60", "180", "540"]
    assert ax.get_xlabel() == "rows in the train set"
    assert plots.halving_rungs(halving(resource="max_iter")).get_xlabel() == "max_iter"
    assert [len(x_of(line)) for line in ax.lines] == [1] * 6 + [2, 3, 3]
    assert [line.get_color() for line in ax.lines[6:]] == ["0.7", BLUE, ORANGE]


def test_the_rungs_of_a_search_under_way():
    ax = plots.halving_rungs(halving(n_rungs=2))
    assert legend(ax) == ["not promoted", "under way"]
    assert labels(ax) == ["60", "180", "540"]
    assert [line.get_color() for line in ax.lines[6:]] == ["0.7", GREEN, GREEN]


def test_memory_is_stacked_and_files_count_once():
    ax = plots.memory_over_time(monitored())
    assert legend(ax) == ["engine 0", "engine 1", "files, shared"]
    tops_mb = [area.get_paths()[0].vertices[:, 1].max() for area in ax.collections]
    assert tops_mb == pytest.approx([100, 176, 226])
    assert (ax.get_ylabel(), ax.get_ylim()[0]) == ("memory (MB)", 0)


def test_memory_where_the_system_tells_only_the_rss():
    ax = plots.memory_over_time(monitored(only_rss=True))
    assert legend(ax) == ["engine 0", "engine 1"]
    assert ax.get_ylabel() == "RSS (MB), shared pages in each"
    assert ax.lines[0].get_ydata()[0] == pytest.approx(70)


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
    medians = [line.get_ydata()[0] for line in c.lines if line.get_color() == ORANGE]
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


def test_an_axes_for_each_parameter():
    _, axes = plt.subplots(1, 2)
    evaluations = [evaluation({"a": 1, "b": 2}, 0, 0.5)]
    assert list(plots.parameter_boxplots(evaluations, axes=axes)) == list(axes)
    with pytest.raises(mscourse.ParameterError, match=r"2 parameters \(a, b\), but 1 axes"):
        plots.parameter_boxplots(evaluations, axes=axes[:1])
    one = [evaluation({"a": 1}, 0, 0.5)]
    assert list(plots.parameter_boxplots(one, axes=axes[0])) == [axes[0]]
    with pytest.raises(mscourse.ParameterError, match="ax must be axes of matplotlib"):
        plots.parameter_boxplots(one, axes=3)


@pytest.mark.parametrize(
    ("draw", "nothing"),
    [
        (plots.learning_curves, learning_curve(done=lambda n_train, split: False)),
        (plots.fit_times, learning_curve(done=lambda n_train, split: False)),
        (plots.score_against_fit_time, learning_curve(done=lambda n_train, split: False)),
        (plots.validation_curve, validation_curve("p", [])),
        (plots.parameter_boxplots, [evaluation({"a": 1}, 0, math.nan, error="x")]),
        (plots.score_heat_map, [evaluation({"a": 1}, 0, math.nan, error="x")]),
        (plots.engine_timeline, []),
        (plots.halving_rungs, halving(n_rungs=0)),
        (plots.memory_over_time, MemoryMonitor()),
    ],
)
def test_nothing_to_draw_is_told_and_leaves_no_figure(draw, nothing):
    with pytest.raises(mscourse.ParameterError, match="nothing to draw"):
        draw(nothing)
    assert not plt.get_fignums()


def test_the_methods_of_a_search_draw_it(client, digits_splits):
    from sklearn.svm import SVC

    params = {"C": [1, 10], "gamma": [0.01, 0.1]}
    search = mscourse.grid_search(
        SVC(), params, digits_splits, engines=client, return_train_score=False
    )
    search.wait(progress_bar=False)
    assert search.plot_heat_map().get_xlabel() == "C"
    assert search.plot_heat_map("gamma", "C").get_xlabel() == "gamma"
    timeline = search.plot_timeline()
    assert labels(timeline, "y") == ["engine 0", "engine 1"]
    assert len(timeline.collections[0].get_paths()) == 20
