"""Learning and validation curves: scikit-learn's numbers, early, whatever happens to engines."""

from __future__ import annotations

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from sklearn.base import BaseEstimator
from sklearn.datasets import load_diabetes
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import KFold, ShuffleSplit, StratifiedKFold, TimeSeriesSplit
from sklearn.model_selection import learning_curve as sklearn_learning_curve
from sklearn.model_selection import validation_curve as sklearn_validation_curve
from sklearn.naive_bayes import GaussianNB
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier

import mscourse
from mscourse.engines import ask_engines
from mscourse.trainsizes import checked_sizes, missing_classes, spread

PATIENCE_S = 120
FRACTIONS = [0.1, 0.29, 0.6, 1.0]


@pytest.fixture(scope="module")
def block_splits(digits, tmp_path_factory):
    """Three random splits, which keep the order of their rows."""
    X, y = digits
    return mscourse.persist_cv_splits(
        X,
        y,
        cv=ShuffleSplit(3, test_size=0.25, random_state=0),
        folder=tmp_path_factory.mktemp("splits"),
        name="block",
    )


def pairs_of(splits):
    return [(split.train_indices, split.test_indices) for split in splits]


@pytest.mark.parametrize("estimator", [GaussianNB(), SVC(gamma=0.05), LogisticRegression()])
def test_the_scores_are_those_of_scikit_learn(digits, block_splits, client, estimator):
    X, y = digits
    curve = mscourse.learning_curve(estimator, block_splits, train_sizes=FRACTIONS, engines=client)
    assert curve.wait(PATIENCE_S)
    sizes, train, test = sklearn_learning_curve(
        estimator, X, y, train_sizes=FRACTIONS, cv=pairs_of(block_splits)
    )
    result = curve.results()
    np.testing.assert_array_equal(result["train_sizes"], sizes)
    np.testing.assert_allclose(result["train_scores"], train, rtol=0, atol=1e-12)
    np.testing.assert_allclose(result["test_scores"], test, rtol=0, atol=1e-12)
    assert result["fit_times"].shape == result["score_times"].shape == (4, 3)
    assert (result["fit_times"] > 0).all()


def test_series_and_regression_as_in_scikit_learn(tmp_path, client):
    X, y = load_diabetes(return_X_y=True)
    splits = mscourse.persist_cv_splits(
        X, y, cv=TimeSeriesSplit(4), folder=tmp_path, name="diabetes"
    )
    options = {"train_sizes": [20, 50, 80], "scoring": "neg_mean_absolute_error"}
    curve = mscourse.learning_curve(Ridge(0.1), splits, engines=client, **options)
    assert curve.wait(PATIENCE_S)
    _, train, test = sklearn_learning_curve(Ridge(0.1), X, y, cv=pairs_of(splits), **options)
    np.testing.assert_allclose(curve.results()["train_scores"], train, rtol=1e-12)
    np.testing.assert_allclose(curve.results()["test_scores"], test, rtol=1e-12)


def test_folds_need_a_fair_prefix_and_have_one(tmp_path, client):
    """Sorted classes would leave most of them out of a prefix of the rows in their own order."""
    y = np.repeat(np.arange(4), 100)
    X = np.random.default_rng(0).standard_normal((400, 5)) + y[:, None]
    splits = mscourse.persist_cv_splits(
        X, y, cv=StratifiedKFold(4), folder=tmp_path, name="sorted", random_state=0
    )
    curve = mscourse.learning_curve(GaussianNB(), splits, train_sizes=[40, 300], engines=client)
    assert curve.wait(PATIENCE_S)
    assert curve.missing_classes == []
    assert (curve.results()["test_scores"][0] > 0.6).all()


def test_several_candidates_are_several_curves(block_splits, client):
    params = [{"max_depth": depth} for depth in (1, 8)]
    tree = DecisionTreeClassifier(random_state=0)
    curve = mscourse.learning_curve(
        tree, block_splits, train_sizes=[100, 400], params=params, engines=client
    )
    assert curve.wait(PATIENCE_S)
    alone = mscourse.learning_curve(
        tree, block_splits, train_sizes=[100, 400], params=params[1], engines=client
    )
    assert alone.wait(PATIENCE_S)
    for key in ("train_scores", "test_scores"):
        np.testing.assert_array_equal(curve.results(1)[key], alone.results()[key])
    assert (curve.results(0)["test_scores"] < curve.results(1)["test_scores"]).all()
    assert list(curve.to_frame()["param_max_depth"].unique()) in ([1, 8], [8, 1])
    assert "{'max_depth': 1}" in repr(curve)


def test_a_fraction_means_the_rows_that_one_would_count():
    """0.29 * 100 is a little less than 29."""
    percent = np.arange(1, 101)
    assert checked_sizes([n / 100 for n in percent], 100).tolist() == percent.tolist()


@pytest.mark.parametrize("n", [1, 2, 3, 5, 6, 20])
def test_the_first_sizes_in_the_queue_are_spread_over_all(n):
    order = spread(n)
    assert sorted(order) == list(range(n))
    for k in range(2, n):
        gaps = np.diff(sorted(order[:k]))
        assert gaps.max() <= 2 * np.ceil((n - 1) / (k - 1)), order


def test_the_picture_is_there_early_and_sharpens_evenly(digits_splits):
    """Each size has one split before any has two."""
    with ThreadPoolExecutor(1) as one_by_one:
        curve = mscourse.learning_curve(
            GaussianNB(), digits_splits, train_sizes=[50, 100, 200, 400], engines=one_by_one
        )
        assert curve.wait(PATIENCE_S)
    order = [e.n_train for e in curve.evaluations()]
    assert order == [400, 50, 200, 100] * 5 or order == [400, 50, 100, 200] * 5
    assert [e.split for e in curve.evaluations()] == [split for split in range(5) for _ in "abcd"]


class Waits(BaseEstimator):
    """Takes its time."""

    def __init__(self, seconds=0.1):
        self.seconds = seconds

    def fit(self, X, y):
        time.sleep(self.seconds)
        return self

    def score(self, X, y):
        return 1 - 1 / len(X)


def test_it_returns_at_once_reports_while_it_runs_and_can_be_aborted(digits_splits, client):
    curve = mscourse.learning_curve(Waits(), digits_splits, train_sizes=FRACTIONS, engines=client)
    assert curve.n_done < curve.n_total == 20
    while curve.n_done < 3:
        time.sleep(0.02)
    report = repr(curve)
    assert report.startswith("Progress: ")
    assert report.count("\n") == 6  # a line above, a line of headings, one for each size
    curve.abort()
    assert not curve.wait()
    scores = curve.results()["test_scores"]
    assert np.isfinite(scores).sum() == curve.n_done < 20
    assert "aborted" in repr(curve)


@pytest.mark.long
def test_an_engine_killed_in_the_middle_changes_nothing(digits_splits):
    estimator = SVC(gamma=0.05)
    with mscourse.local_cluster(2) as client:
        whole = mscourse.learning_curve(
            estimator, digits_splits, train_sizes=FRACTIONS, engines=client
        )
        assert whole.wait(PATIENCE_S)
        pids = ask_engines(client, os.getpid)
        disturbed = mscourse.learning_curve(
            estimator, digits_splits, train_sizes=FRACTIONS, engines=client
        )
        while disturbed.n_done < 2:
            time.sleep(0.01)
        os.kill(pids[1], signal.SIGKILL)
        assert disturbed.wait(PATIENCE_S)
        assert disturbed.n_done == disturbed.n_total
        assert disturbed.n_failed == 0
    for key in ("train_scores", "test_scores"):
        np.testing.assert_array_equal(disturbed.results()[key], whole.results()[key])


def test_sizes_that_leave_out_a_class_are_reported_and_are_no_crash(tmp_path, client):
    X = np.random.default_rng(0).standard_normal((100, 3))
    y = np.repeat(["no", "yes"], 50)
    splits = mscourse.persist_cv_splits(
        X, y, cv=[(np.r_[0:40, 50:90], np.r_[40:50, 90:100])], folder=tmp_path, name="sorted"
    )
    curve = mscourse.learning_curve(SVC(), splits, train_sizes=[20, 80], engines=client)
    assert curve.wait(PATIENCE_S)
    assert curve.missing_classes == ["20 rows have no sample of class yes in split 0"]
    assert curve.n_failed == 1
    result = curve.results()
    assert np.isnan(result["test_scores"][0]).all()
    assert np.isnan(result["fit_times"][0]).all()
    assert np.isfinite(result["test_scores"][1]).all()
    assert "no sample of class yes" in repr(curve)
    assert "1 failed: ValueError" in repr(curve)


def test_the_answer_to_whether_more_data_would_help(digits_splits, client):
    curve = mscourse.learning_curve(
        SVC(gamma=0.05), digits_splits, train_sizes=[60, 120, 240, 360, 480], engines=client
    )
    assert curve.wait(PATIENCE_S)
    answer = curve.extrapolate()
    assert (answer.n_train, answer.n_train_now) == (960, 480)
    assert answer.score_now == pytest.approx(curve.results()["test_scores"][-1].mean())
    assert answer.score.low <= answer.score.value <= answer.score.high
    assert answer.gain == curve.score_law().gain(480, 960)
    assert answer.fit_time_s.low > 0
    assert curve.fit_time_law().exponent > 0
    for part in (
        "960 rows instead of 480",
        "test score",
        "gain",
        "fit time",
        "95 %",
        "extrapolation",
    ):
        assert part in str(answer)


def test_one_can_ask_for_rows_and_candidates_only(digits_splits, client):
    curve = mscourse.learning_curve(
        GaussianNB(), digits_splits, train_sizes=[60, 120, 240, 480], engines=client
    )
    assert curve.wait(PATIENCE_S)
    for wrong in (0, -5, "x", np.nan, np.inf):
        with pytest.raises(mscourse.ParameterError, match="n_train must be a number of rows"):
            curve.extrapolate(wrong)
    assert curve.extrapolate(1e6).n_train == 1_000_000
    for ask in (curve.results, curve.fit_time_law, curve.score_law):
        for wrong in (99, -1, "x", None):
            with pytest.raises(mscourse.ParameterError, match=r"no candidate .*there are 1, from"):
                ask(wrong)
    with pytest.raises(mscourse.ParameterError, match="no candidate 99"):
        curve.extrapolate(candidate=99)


class FailsOnMany(Waits):
    """Cannot take more than 300 rows, as if memory ran out."""

    def fit(self, X, y):
        if len(X) > 300:
            raise MemoryError
        return self


def test_an_extrapolation_starts_from_the_largest_size_that_is_done(digits_splits, client):
    curve = mscourse.learning_curve(
        FailsOnMany(), digits_splits, train_sizes=[60, 120, 240, 300, 480], engines=client
    )
    assert curve.wait(PATIENCE_S)
    answer = curve.extrapolate()
    assert (answer.n_train, answer.n_train_now) == (600, 300)
    assert answer.score_now == curve.results()["test_scores"][3].mean()
    assert answer.fit_time_now_s == curve.results()["fit_times"][3].mean()


def test_the_extrapolation_holds_on_data_where_the_truth_is_known(tmp_path, client):
    """Measured up to 1,600 rows; the truth is measured on 3,200 of 20,000 rows drawn alike."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((24_000, 30))
    y = (X[:, :10].sum(axis=1) + 3 * rng.standard_normal(len(X)) > 0).astype(int)
    splits = mscourse.persist_cv_splits(
        X[:4000],
        y[:4000],
        cv=ShuffleSplit(8, train_size=1600, test_size=2400, random_state=0),
        folder=tmp_path,
        name="known",
    )
    curve = mscourse.learning_curve(
        LogisticRegression(),
        splits,
        train_sizes=[100, 200, 400, 800, 1200, 1600],
        engines=client,
    )
    assert curve.wait(PATIENCE_S)
    prediction = curve.extrapolate(3200).score
    truth = np.mean(
        [
            LogisticRegression().fit(X[i : i + 3200], y[i : i + 3200]).score(X[-4000:], y[-4000:])
            for i in range(0, 19_000, 3200)
        ]
    )
    assert prediction.low - 0.01 < truth < prediction.high + 0.01  # the test set's own error
    assert abs(prediction.value - truth) < 0.015
    assert prediction.value > curve.extrapolate(3200).score_now


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"train_sizes": []}, "must be a list of numbers"),
        ({"train_sizes": 0.5}, "must be a list of numbers"),
        ({"train_sizes": ["all"]}, "must be a list of numbers"),
        ({"train_sizes": [0.5, 1.5]}, "above 0 and at most 1"),
        ({"train_sizes": [0.0, 0.5]}, "above 0 and at most 1"),
        ({"train_sizes": [float("nan")]}, "above 0 and at most 1"),
        ({"train_sizes": [10, 10_000]}, "between 1 and 480, the rows of the smallest"),
        ({"train_sizes": [0, 10]}, "between 1 and 480"),
        ({"train_sizes": [10], "params": []}, "at least one candidate"),
        ({"train_sizes": [10], "params": {"gama": 1}}, "gama"),
        ({"train_sizes": [10], "scoring": "acc"}, "acc"),
    ],
)
def test_bad_input_is_refused_before_anything_runs(digits_splits, arguments, says):
    with pytest.raises(mscourse.ParameterError, match=says):
        mscourse.learning_curve(SVC(), digits_splits, **arguments)
    with pytest.raises(mscourse.ParameterError, match="persist_cv_splits"):
        mscourse.learning_curve(SVC(), [([0], [1])], train_sizes=[1])


def lacking(folder, y, first_rows):
    """Persist a split for each list of rows, whose train set begins with these."""
    rows = np.arange(len(y) - 1)
    cv = [(np.r_[first, np.setdiff1d(rows, first)], [len(y) - 1]) for first in first_rows]
    return mscourse.persist_cv_splits(y[:, None], y, cv=cv, folder=folder, name="lacking")


def test_classes_are_named_with_the_splits_that_lack_them(tmp_path):
    y = np.tile([0, 1, 2], 5)
    splits = lacking(tmp_path, y, [[0, 1], [0, 2], [3, 4], [1, 2], [0, 3]])
    of_one, of_two = missing_classes(splits, np.array([1, 2, 14]))
    assert of_one == (
        "1 rows have no sample of class 1, 2 in split 0, 1, 2, 4; of class 0, 2 in split 3"
    )
    assert of_two == (
        "2 rows have no sample of class 2 in split 0, 2; of class 1 in split 1; of class 0 in "
        "split 3; of others in split 4"
    )


def test_many_splits_and_classes_that_are_missing_do_not_fill_the_report(tmp_path):
    y = np.tile(np.arange(30), 3)
    splits = lacking(tmp_path, y, [[0]] * 8 + [[i] for i in range(1, 20)])
    (line,) = missing_classes(splits, np.array([1, 89]))
    assert line == (
        "1 rows have no sample of class 1, 2, 3, 4, 5 and 24 more in split 0, 1, 2, 3, 4 and 3 "
        "more; of class 0, 2, 3, 4, 5 and 24 more in split 8; of class 0, 1, 3, 4, 5 and 24 more "
        "in split 9; of others in split 10, 11, 12, 13, 14 and 12 more"
    )


def test_a_validation_curve_gives_the_scores_of_scikit_learn(digits, block_splits, client):
    X, y = digits
    options = {"param_name": "gamma", "param_range": [1e-3, 1e-2, 1e-1, 1.0]}
    curve = mscourse.validation_curve(SVC(), block_splits, engines=client, **options)
    assert curve.wait(PATIENCE_S)
    train, test = sklearn_validation_curve(SVC(), X, y, cv=pairs_of(block_splits), **options)
    result = curve.results()
    assert result["param_range"] == options["param_range"]
    np.testing.assert_allclose(result["train_scores"], train, rtol=0, atol=1e-12)
    np.testing.assert_allclose(result["test_scores"], test, rtol=0, atol=1e-12)
    assert (result["fit_times"] > 0).all()
    report = repr(curve)
    assert "gamma" in report
    assert "0.001" in report


def test_a_validation_curve_takes_values_that_are_no_numbers(block_splits, client):
    curve = mscourse.validation_curve(
        SVC(), block_splits, param_name="kernel", param_range=["linear", "rbf"], engines=client
    )
    assert curve.wait(PATIENCE_S)
    assert "linear" in repr(curve)
    with pytest.raises(mscourse.ParameterError, match="param_range is empty"):
        mscourse.validation_curve(SVC(), block_splits, param_name="C", param_range=[])
    with pytest.raises(mscourse.ParameterError, match="kernle"):
        mscourse.validation_curve(SVC(), block_splits, param_name="kernle", param_range=[1])


def test_curves_of_a_score_without_targets(tmp_path, client):
    """A density has no y."""
    from sklearn.neighbors import KernelDensity

    X = np.random.default_rng(0).standard_normal((120, 2))
    splits = mscourse.persist_cv_splits(X, cv=KFold(3), folder=tmp_path, name="density")
    curve = mscourse.learning_curve(KernelDensity(), splits, train_sizes=[0.5, 1], engines=client)
    assert curve.wait(PATIENCE_S)
    assert np.isfinite(curve.results()["test_scores"]).all()
