"""What can be done with a search under way: add, give up, listen, limit, refit."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import psutil
import pytest
from helpers import wait_until
from sklearn import config_context, get_config, set_config
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.datasets import load_diabetes, load_iris
from sklearn.dummy import DummyClassifier
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import accuracy_score, get_scorer, make_scorer
from sklearn.model_selection import (
    GridSearchCV,
    KFold,
    LeaveOneGroupOut,
    ShuffleSplit,
    StratifiedKFold,
)
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier
from sklearn.utils.validation import check_is_fitted
from test_search import PATIENCE_S, Sleeper, until_some_are_done

import mscourse
from mscourse import timelimit
from mscourse.engines import ask_engines

X, Y = load_iris(return_X_y=True)
WEIGHTS = np.random.default_rng(0).uniform(0.1, 3.0, len(Y))


class Hungry(ClassifierMixin, BaseEstimator):
    """Holds some memory during its fit."""

    def __init__(self, n_mb=0):
        self.n_mb = n_mb

    def fit(self, X, y):
        held = np.ones(self.n_mb * 1_000_000, dtype=np.uint8)
        time.sleep(0.05)
        self.classes_ = np.unique(y + 0 * int(held[:1].sum()))
        return self

    def predict(self, X):
        return np.zeros(len(X))


class Stubborn(ClassifierMixin, BaseEstimator):
    """Takes long, and does not listen to any signal; or kills its process."""

    def __init__(self, seconds=0.0, kills=False):
        self.seconds = seconds
        self.kills = kills

    def fit(self, X, y):
        if self.kills:
            os.kill(os.getpid(), signal.SIGKILL)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM):
            signal.signal(number, signal.SIG_IGN)
        time.sleep(self.seconds)
        self.classes_ = np.unique(y)
        return self

    def predict(self, X):
        return np.zeros(len(X))


class Lucky(ClassifierMixin, BaseEstimator):
    """Draws its score from the global generator."""

    def __init__(self, a=0):
        self.a = a

    def fit(self, X, y):
        self.draws_ = np.random.random(), np.random.default_rng(np.random.randint(2**31)).random()
        return self

    def score(self, X, y):
        return sum(self.draws_)


@pytest.fixture
def iris_splits(tmp_path):
    return mscourse.persist_cv_splits(
        X, Y, cv=ShuffleSplit(3, random_state=0), folder=tmp_path, name="iris"
    )


# -- more and fewer candidates ---------------------------------------------------------------------


def test_candidates_are_added_while_it_runs(iris_splits, client):
    search = mscourse.grid_search(
        Sleeper(seconds=0.05), {"score": [0.1, 0.2]}, iris_splits, engines=client
    )
    assert search.add({"score": [0.2, 0.9, np.float64(0.1)]}) == 1
    assert search.n_total == 9
    assert search.wait(PATIENCE_S)
    assert search.n_done == 9
    assert search.best_params == {"score": 0.9}
    assert list(search.candidates) == [{"score": 0.1}, {"score": 0.2}, {"score": 0.9}]
    assert [params["score"] for params in search.results()["params"]] == [0.1, 0.2, 0.9]


def test_a_search_that_is_over_goes_on_with_what_is_added(iris_splits, client):
    search = mscourse.grid_search(GaussianNB(), {}, iris_splits, engines=client)
    assert search.wait(PATIENCE_S)
    assert search.add({"var_smoothing": [1e-3, 1e-1]}) == 2
    assert search.wait(PATIENCE_S)
    assert search.n_done == search.n_total == 9
    assert search.add({"var_smoothing": [1e-3]}) == 0
    assert search.progress == 1.0


def test_adding_at_the_very_end_loses_nothing(iris_splits, client):
    search = mscourse.grid_search(GaussianNB(), {}, iris_splits, engines=client)
    for exponent in range(1, 40):
        assert search.add({"var_smoothing": [10.0**-exponent]}) == 1
        time.sleep(0.005 * (exponent % 4))
    assert search.wait(PATIENCE_S)
    assert search.n_done == search.n_total == 120


def test_what_cannot_be_added_is_refused_and_nothing_changes(iris_splits, client):
    search = mscourse.grid_search(
        Sleeper(seconds=0.05), {"score": [0.1, 0.2]}, iris_splits, engines=client
    )
    with pytest.raises(mscourse.ParameterError, match="no parameter 'scor'"):
        search.add({"scor": [1]})
    with pytest.raises(mscourse.ParameterError, match="not a grid"):
        search.add({"score": 1})
    assert search.n_total == 6
    search.abort()
    with pytest.raises(mscourse.MSCourseError, match="was aborted"):
        search.add({"score": [0.5]})


def test_a_candidate_is_given_up(iris_splits, client):
    grid = {"score": np.arange(10) / 10}
    search = mscourse.grid_search(
        Sleeper(seconds=0.1), grid, iris_splits, engines=client, order="grid"
    )
    search.abort(9)
    search.abort({"score": 0.8})
    assert search.n_total == 24
    search.abort(9)
    assert search.n_total == 24
    for wrong in (10, -1, {"score": 7}, {}, "0.1", 1.0, True):
        with pytest.raises(mscourse.ParameterError, match="no candidate"):
            search.abort(wrong)
    assert search.wait(PATIENCE_S)
    assert search.n_done == 24
    assert search.best_params == {"score": 0.7}


@pytest.mark.filterwarnings("ignore:divide by zero")
def test_candidates_whose_values_are_arrays_are_told_apart(iris_splits, client):
    priors = [np.array([1.0, 0.0, 0.0]), np.array([1, 1, 1]) / 3, None]
    search = mscourse.grid_search(GaussianNB(), {"priors": priors[:1]}, iris_splits, engines=client)
    assert search.wait(PATIENCE_S)
    first = search.best_estimator
    assert first is search.best_estimator
    np.testing.assert_array_equal(first.priors, priors[0])
    search.add({"priors": priors[1:]})
    search.abort({"priors": None})
    assert search.wait(PATIENCE_S)
    np.testing.assert_array_equal(search.best_estimator.priors, priors[1])


# -- listening -------------------------------------------------------------------------------------


def test_a_callback_hears_of_each_evaluation(iris_splits, client):
    heard = []
    search = mscourse.grid_search(
        GaussianNB(),
        {"var_smoothing": [1e-9, 1e-1]},
        iris_splits,
        engines=client,
        on_evaluation=heard.append,
    )
    assert search.wait(PATIENCE_S)
    assert heard == list(search.evaluations())
    halving = mscourse.halving_search(
        GaussianNB(), {"var_smoothing": [1e-9, 1e-1]}, iris_splits, engines=client,
        on_evaluation=heard.append,
    )  # fmt: skip
    assert halving.wait(PATIENCE_S)
    assert len(heard) == 6 + halving.n_done


def test_a_callback_that_raises_is_told_of_and_ends_nothing(iris_splits, client):
    def stumble(evaluation):
        raise ValueError("the log is full")

    search = mscourse.grid_search(
        GaussianNB(), {}, iris_splits, engines=client, on_evaluation=stumble
    )
    with pytest.warns(RuntimeWarning, match="raised 3 times: ValueError: the log is full"):
        assert search.wait(PATIENCE_S)
    assert search.n_done == 3
    assert "on_evaluation has raised 3 times: ValueError: the log is full" in repr(search)


def test_what_a_callback_raised_is_told_before_the_end_too(iris_splits, client):
    told = threading.Event()

    def stumble(evaluation):
        told.set()
        raise ValueError("the log is full")

    search = mscourse.grid_search(
        Sleeper(seconds=0.5), {}, iris_splits, engines=client[0], on_evaluation=stumble
    )
    assert told.wait(PATIENCE_S)
    for over in (False, True):
        with pytest.warns(RuntimeWarning, match="the log is full"):
            assert search.wait(PATIENCE_S if over else 0.1) is over


def test_the_bar_tells_engines_and_the_best(iris_splits, client, capsys):
    search = mscourse.grid_search(
        Sleeper(seconds=0.1), {"score": [0.25, 0.75]}, iris_splits, engines=client
    )
    assert search.wait(PATIENCE_S, progress_bar=True)
    shown = capsys.readouterr().err
    assert "engines=2" in shown
    assert "best=0.7500" in shown


# -- arguments of its methods ----------------------------------------------------------------------


@pytest.mark.parametrize("n_top", ["x", 1.5, -1, 0, None])
def test_the_best_are_counted_by_positive_integers(iris_splits, client, n_top):
    search = mscourse.grid_search(DummyClassifier(), {}, iris_splits, engines=client)
    assert search.wait(PATIENCE_S)
    with pytest.raises(mscourse.ParameterError, match="n_top must be a positive integer"):
        search.best(n_top)


@pytest.mark.parametrize(
    "arguments", [{"timeout_s": "x"}, {"timeout_s": np.nan}, {"patience_s": "x"}]
)
def test_a_wait_is_a_number_of_seconds(iris_splits, client, arguments):
    search = mscourse.grid_search(DummyClassifier(), {}, iris_splits, engines=client)
    with pytest.raises(mscourse.ParameterError, match=f"{next(iter(arguments))} must be a number"):
        search.wait(**arguments)
    assert search.wait(np.float32(PATIENCE_S), patience_s=np.inf)


def test_candidates_are_given_up_in_two_threads_at_once(iris_splits, client, monkeypatch):
    search = mscourse.grid_search(
        Sleeper(), {"seconds": np.linspace(1, 2, 20)}, iris_splits, engines=client, order="grid"
    )
    drop = search._queue.drop

    def drop_slowly(number):
        n_dropped = drop(number)
        time.sleep(0.2)
        return n_dropped

    monkeypatch.setattr(search._queue, "drop", drop_slowly)
    threads = [threading.Thread(target=search.abort, args=(number,)) for number in (18, 19)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert search.n_total == 18 * 3
    search.abort()


def test_candidates_are_added_in_two_threads_at_once(iris_splits, client, monkeypatch):
    search = mscourse.grid_search(Sleeper(), {"seconds": [1.0]}, iris_splits, engines=client)
    offer = search._scheduler.offer

    def offer_late(put):
        time.sleep(0.2)
        return offer(put)

    monkeypatch.setattr(search._scheduler, "offer", offer_late)
    threads = [
        threading.Thread(target=search.add, args=({"seconds": [seconds]},))
        for seconds in (0.01, 0.02)
    ]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert search.wait(PATIENCE_S)
    counts = Counter(e.params["seconds"] for e in search.evaluations())
    assert counts == {1.0: 3, 0.01: 3, 0.02: 3}


def test_a_callback_that_waits_for_its_own_search_is_told_so(iris_splits, client):
    started = threading.Event()

    def wait(evaluation):
        started.wait(PATIENCE_S)
        search.wait()

    search = mscourse.grid_search(GaussianNB(), {}, iris_splits, engines=client, on_evaluation=wait)
    started.set()
    with pytest.warns(RuntimeWarning, match="it would wait for itself"):
        assert search.wait(PATIENCE_S)


# -- limits ----------------------------------------------------------------------------------------


def test_what_is_timed_ends_with_its_engine(iris_splits):
    """Nobody else would stop a fit that hangs."""
    with mscourse.local_cluster(1) as client:
        (pid,) = ask_engines(client, os.getpid).values()
        search = mscourse.grid_search(
            Stubborn(), {"seconds": [60.0]}, iris_splits, engines=client, timeout_s=50
        )
        engine = psutil.Process(pid)
        wait_until(lambda: any("LokyProcess" in " ".join(c.cmdline()) for c in engine.children()))
        children = engine.children(recursive=True)
        engine.kill()
        _, alive = psutil.wait_procs(children, timeout=20)
        assert alive == []
        search.abort()


def test_an_evaluation_that_takes_too_long_is_stopped_and_its_engine_goes_on(iris_splits):
    with mscourse.local_cluster(2) as client:
        pids = ask_engines(client, os.getpid)
        search = mscourse.grid_search(
            Stubborn(), {"seconds": [0.0, 60.0, 0.01]}, iris_splits, engines=client, timeout_s=1
        )
        assert search.wait(PATIENCE_S)
        assert ask_engines(client, os.getpid) == pids
        assert (search.n_done, search.n_failed) == (9, 3)
        for e in search.evaluations():
            assert e.pid not in pids.values() or e.error
            if e.params["seconds"] == 60.0:
                assert e.error == "TimeoutError: not done after 1 s, the timeout_s of an evaluation"
                assert 1 <= e.elapsed_s < 20
                assert np.isnan(e.test_score)
            else:
                assert e.error is None
        assert "3 failed: TimeoutError: not done after 1 s" in repr(search)
        children = [each for pid in pids.values() for each in psutil.Process(pid).children(True)]
        assert children
    _, alive = psutil.wait_procs(children, timeout=20)
    assert alive == []


def test_a_notebook_shows_which_candidates_failed(iris_splits, client):
    search = mscourse.grid_search(
        LogisticRegression(), {"C": [1.0, -1.0]}, iris_splits, engines=client
    )
    assert search.wait(PATIENCE_S)
    assert search.n_failed == 3
    shown = search._repr_html_()
    assert shown.count("<td>3 of 3, 3 failed</td>") == 1
    assert shown.count("<td>3 of 3</td>") == 1


@pytest.mark.long
def test_one_that_kills_its_process_spares_the_engine(iris_splits, client):
    pids = ask_engines(client, os.getpid)
    search = mscourse.grid_search(
        Stubborn(), {"kills": [False, True]}, iris_splits, engines=client, timeout_s=60
    )
    assert search.wait(PATIENCE_S)
    assert ask_engines(client, os.getpid) == pids
    assert (search.n_done, search.n_failed) == (6, 3)
    assert "The process that ran this has died" in repr(search)


def test_a_limit_that_is_not_reached_changes_nothing(iris_splits, client):
    estimator = make_pipeline(StandardScaler(), LogisticRegression())
    grid = {"logisticregression__C": [0.1, 1.0]}
    plain = mscourse.grid_search(estimator, grid, iris_splits, engines=client)
    limited = mscourse.grid_search(estimator, grid, iris_splits, engines=client, timeout_s=60)
    with ThreadPoolExecutor(2) as threads:
        in_threads = mscourse.grid_search(
            estimator, grid, iris_splits, engines=threads, timeout_s=60
        )
        for search in (plain, limited, in_threads):
            assert search.wait(PATIENCE_S)
            assert not search.n_failed
            np.testing.assert_array_equal(
                search.results()["mean_test_score"], plain.results()["mean_test_score"]
            )


def raise_timeout():
    raise TimeoutError("its own")


class RaisesWhenRead:
    """As a function whose module waits in vain for something when it is imported."""

    def __reduce__(self):
        return raise_timeout, ()


@pytest.mark.parametrize("function", [raise_timeout, RaisesWhenRead()])
def test_a_timeout_of_the_functions_own_is_not_the_limit(function):
    with pytest.raises(TimeoutError, match="its own"):
        timelimit.call(function, (), 60)


def test_the_first_that_takes_too_long_ends_a_search_that_raises(iris_splits, client):
    search = mscourse.grid_search(
        Stubborn(), {"seconds": [30.0]}, iris_splits, engines=client, timeout_s=0.5,
        error_score="raise",
    )  # fmt: skip
    with pytest.raises(mscourse.EvaluationError, match=r"not done after 0\.5 s"):
        search.wait(PATIENCE_S)


# -- memory and luck -------------------------------------------------------------------------------


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="Only Linux tells.")  # noqa: PTH110
def test_an_evaluation_tells_the_peak_of_its_memory(iris_splits, client):
    search = mscourse.grid_search(Hungry(), {"n_mb": [0, 200]}, iris_splits, engines=client)
    assert search.wait(PATIENCE_S)
    peaks = {0: [], 200: []}
    for e in search.evaluations():
        peaks[e.params["n_mb"]].append(e.peak_anonymous_bytes)
    assert 180e6 < min(peaks[200]) - min(peaks[0]) < 260e6
    assert search.to_frame()["peak_anonymous_bytes"].max() == max(peaks[200])


def test_luck_depends_on_candidate_and_split_alone(iris_splits, client):
    grid = {"a": list(range(5))}
    runs = [
        mscourse.grid_search(Lucky(), grid, iris_splits, engines=engines, **arguments)
        for engines, arguments in [
            (client, {}),
            (client[1], {"order": "grid"}),
            (client, {"timeout_s": 60}),
        ]
    ]
    tables = []
    for search in runs:
        assert search.wait(PATIENCE_S)
        table = search.results()
        tables.append([table[f"split{i}_test_score"].tolist() for i in range(3)])
    assert tables[0] == tables[1] == tables[2]
    assert len({score for split in tables[0] for score in split}) == 15
    other = mscourse.grid_search(Lucky(), grid, iris_splits, engines=client, random_state=1)
    assert other.wait(PATIENCE_S)
    assert other.results()["split0_test_score"].tolist() != tables[0][0]
    fresh = [
        mscourse.grid_search(Lucky(), grid, iris_splits, engines=client, random_state=None)
        for _ in range(2)
    ]
    assert all(search.wait(PATIENCE_S) for search in fresh)
    scores = [sorted(search.results()["mean_test_score"]) for search in fresh]
    assert scores[0] != scores[1]


def test_the_generators_of_a_process_are_left_as_they_were(iris_splits):
    np.random.seed(3)
    expected = np.random.random(2).tolist()
    np.random.seed(3)
    drawn = [np.random.random()]
    with ThreadPoolExecutor(2) as threads:  # in this very process
        search = mscourse.grid_search(Lucky(), {"a": [1, 2, 3]}, iris_splits, engines=threads)
        assert search.wait(PATIENCE_S)
    drawn.append(np.random.random())
    assert drawn == expected


# -- the best --------------------------------------------------------------------------------------


def test_the_best_estimator_predicts(iris_splits, client):
    search = mscourse.grid_search(
        DecisionTreeClassifier(random_state=0), {"max_depth": [1, 3]}, iris_splits, engines=client
    )
    assert search.wait(PATIENCE_S)
    best = search.best_estimator
    assert best is search.best_estimator
    assert best.get_params()["max_depth"] == search.best_params["max_depth"] == 3
    assert accuracy_score(Y, best.predict(X)) > 0.9


def test_another_metric_or_a_rule_chooses_what_is_refitted(tmp_path, client):
    X, y = load_diabetes(return_X_y=True)
    splits = mscourse.persist_cv_splits(X, y, cv=KFold(3), folder=tmp_path, name="diabetes")
    grid = {"alpha": [0.001, 0.1, 10.0]}
    search = mscourse.grid_search(
        Ridge(), grid, splits, engines=client, scoring=["r2", "neg_max_error"]
    )
    assert search.wait(PATIENCE_S)
    for metric in ("r2", "neg_max_error"):
        theirs = GridSearchCV(
            Ridge(), grid, cv=KFold(3), scoring=["r2", "neg_max_error"], refit=metric
        ).fit(X, y)
        assert search.refit(metric).alpha == theirs.best_params_["alpha"]

    def stiffest(table):
        return int(np.argmax(table["param_alpha"]))

    assert search.refit(stiffest).alpha == 10.0
    with pytest.raises(mscourse.ParameterError, match="no metric 'f1'; there are: r2, neg_max_"):
        search.refit("f1")
    for wrong in (3, -1, "first", None):
        with pytest.raises(mscourse.ParameterError, match="number of a candidate"):
            search.refit(lambda table, wrong=wrong: wrong)


# -- metadata --------------------------------------------------------------------------------------


def weighted(tmp_path, **metadata):
    return mscourse.persist_cv_splits(
        X, Y, cv=StratifiedKFold(3), folder=tmp_path, name="weighted", metadata=metadata
    )


def test_sample_weights_are_used_as_in_scikit_learn(tmp_path, client):
    splits = weighted(tmp_path, sample_weight=WEIGHTS)
    grid = {"var_smoothing": [1e-9, 0.3]}
    theirs = GridSearchCV(GaussianNB(), grid, cv=StratifiedKFold(3), return_train_score=True)
    theirs.fit(X, Y, sample_weight=WEIGHTS)
    ours = mscourse.grid_search(GaussianNB(), grid, splits, engines=client)
    assert ours.wait(PATIENCE_S)
    for key in ("mean_test_score", "std_test_score", "mean_train_score"):
        np.testing.assert_allclose(ours.results()[key], theirs.cv_results_[key], rtol=1e-12)
    best = ours.best_estimator
    np.testing.assert_allclose(best.theta_, theirs.best_estimator_.theta_)
    plain = mscourse.persist_cv_splits(X, Y, cv=StratifiedKFold(3), folder=tmp_path, name="plain")
    unweighted = mscourse.grid_search(GaussianNB(), grid, plain, engines=client)
    assert unweighted.wait(PATIENCE_S)
    assert unweighted.results()["mean_test_score"][1] != ours.results()["mean_test_score"][1]


def test_weights_reach_curves_and_halving_too(tmp_path, client):
    splits = weighted(tmp_path, sample_weight=WEIGHTS)
    curve = mscourse.learning_curve(GaussianNB(), splits, train_sizes=[40, 100], engines=client)
    halving = mscourse.halving_search(
        GaussianNB(), {"var_smoothing": [1e-9, 1.0]}, splits, engines=client, min_resources=50
    )
    assert curve.wait(PATIENCE_S)
    assert halving.wait(PATIENCE_S)
    assert curve.n_failed == halving.n_failed == 0
    train, test = splits[0].load_metadata(n_train=40)
    X_train, y_train, X_test, y_test = splits[0].load(n_train=40)
    expected = (
        GaussianNB()
        .fit(X_train, y_train, **train)
        .score(X_test, y_test, sample_weight=test["sample_weight"])
    )
    assert curve.results()["test_scores"][0, 0] == expected


def test_metadata_are_routed_as_in_scikit_learn(tmp_path, client):
    groups = np.arange(len(Y)) % 3
    set_config(enable_metadata_routing=True)
    try:
        estimator = GaussianNB().set_fit_request(sample_weight=True)
        scorer = make_scorer(accuracy_score).set_score_request(sample_weight=False)
        grid = {"var_smoothing": [1e-9, 0.3]}
        theirs = GridSearchCV(estimator, grid, cv=LeaveOneGroupOut(), scoring=scorer)
        theirs.fit(X, Y, sample_weight=WEIGHTS, groups=groups)
        splits = mscourse.persist_cv_splits(
            X, Y, cv=LeaveOneGroupOut(), groups=groups, folder=tmp_path, name="routed",
            metadata={"sample_weight": WEIGHTS},
        )  # fmt: skip
        ours = mscourse.grid_search(estimator, grid, splits, scoring=scorer, engines=client)
        assert ours.wait(PATIENCE_S)
        assert ours.n_failed == 0, repr(ours)
        np.testing.assert_allclose(
            ours.results()["mean_test_score"], theirs.cv_results_["mean_test_score"], rtol=1e-12
        )
        with pytest.raises(mscourse.ParameterError, match=r"sample_weight.* cannot be routed"):
            mscourse.grid_search(GaussianNB(), grid, splits, engines=client)
    finally:
        set_config(enable_metadata_routing=False)


def test_metadata_are_routed_under_other_names(tmp_path, client):
    ones = np.ones(len(Y))
    metadata = {"of_fit": WEIGHTS, "sample_weight": ones}
    cv = ShuffleSplit(3, random_state=0)
    set_config(enable_metadata_routing=True)
    try:
        estimator = GaussianNB().set_fit_request(sample_weight="of_fit")
        scorer = make_scorer(accuracy_score).set_score_request(sample_weight="sample_weight")
        theirs = GridSearchCV(estimator, {}, cv=cv, scoring=scorer).fit(X, Y, **metadata)
        splits = mscourse.persist_cv_splits(
            X, Y, cv=cv, folder=tmp_path, name="routed", metadata=metadata
        )
        ours = mscourse.grid_search(estimator, {}, splits, scoring=scorer, engines=client)
        assert ours.wait(PATIENCE_S)
        np.testing.assert_array_equal(
            ours.results()["mean_test_score"], theirs.cv_results_["mean_test_score"]
        )
        np.testing.assert_allclose(ours.best_estimator.theta_, theirs.best_estimator_.theta_)
    finally:
        set_config(enable_metadata_routing=False)


def test_an_estimator_that_does_not_take_the_metadata_says_so(tmp_path):
    with pytest.raises(mscourse.ParameterError, match=r"DummyClassifier\.fit takes no 'colour'"):
        mscourse.grid_search(DummyClassifier(), {}, weighted(tmp_path, colour=WEIGHTS))


def test_a_search_in_the_background_leaves_no_thread(iris_splits, client):
    search = mscourse.grid_search(GaussianNB(), {}, iris_splits, engines=client)
    assert search.wait(PATIENCE_S)
    deadline_s = time.monotonic() + 10
    while time.monotonic() < deadline_s:
        if not [t for t in threading.enumerate() if t.name == "mscourse-scheduler"]:
            break
        time.sleep(0.01)
    assert not [t for t in threading.enumerate() if t.name == "mscourse-scheduler"]
    until_some_are_done(search)
    assert get_scorer("accuracy")(search.best_estimator, X, Y) > 0.9


def test_a_journal_of_metadata_that_were_routed_elsewhere_is_of_other_work(tmp_path):
    other = np.where(Y == 0, 1e-6, 1.0)
    splits = mscourse.persist_cv_splits(
        X, Y, cv=3, folder=tmp_path, name="routed", metadata={"w": WEIGHTS, "v": other}
    )

    def launch(of_fit, of_score, engine):
        scorer = make_scorer(accuracy_score).set_score_request(sample_weight=of_score)
        return mscourse.grid_search(
            GaussianNB().set_fit_request(sample_weight=of_fit),
            *({}, splits),
            scoring=scorer,
            engines=engine,
            journal=tmp_path / "routed.journal",
        )

    with config_context(enable_metadata_routing=True), ThreadPoolExecutor(1) as engine:
        assert launch("w", "v", engine).wait(PATIENCE_S)
        again = launch("w", "v", engine)
        assert again.n_done == 3
        assert again.wait(PATIENCE_S)
        with pytest.raises(mscourse.JournalMismatchError, match="fit_metadata"):
            launch("v", "w", engine)


# -- what evaluations find, and what they leave ----------------------------------------------------


class Dicer(ClassifierMixin, BaseEstimator):
    """Draws its score from Python's own generator."""

    def __init__(self, a=0):
        self.a = a

    def fit(self, X, y):
        self.score_ = random.random()
        return self

    def score(self, X, y):
        return self.score_


def test_luck_of_pythons_own_depends_on_candidate_and_split_alone(iris_splits, client):
    tables = []
    for engines in (client, client[1]):
        search = mscourse.grid_search(Dicer(), {"a": range(4)}, iris_splits, engines=engines)
        assert search.wait(PATIENCE_S)
        table = search.results()
        tables.append([table[f"split{i}_test_score"].tolist() for i in range(3)])
    assert tables[0] == tables[1]
    assert len({score for split in tables[0] for score in split}) == 12


def test_pythons_own_generator_is_left_as_it_was(iris_splits):
    random.seed(3)
    expected = [random.random(), random.random()]
    random.seed(3)
    drawn = [random.random()]
    with ThreadPoolExecutor(2) as threads:  # in this very process
        search = mscourse.grid_search(Dicer(), {"a": [1, 2]}, iris_splits, engines=threads)
        assert search.wait(PATIENCE_S)
    drawn.append(random.random())
    assert drawn == expected


class Configured(ClassifierMixin, BaseEstimator):
    """Scores a setting of scikit-learn."""

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        return self

    def score(self, X, y):
        return get_config()["working_memory"]


def test_engines_are_configured_as_scikit_learn_is_here(iris_splits, client):
    with config_context(working_memory=7):
        search = mscourse.grid_search(Configured(), {}, iris_splits, engines=client)
    assert search.wait(PATIENCE_S)
    assert {e.test_score for e in search.evaluations()} == {7}


def _never(estimator, X, y):
    raise ValueError("never")


def test_no_candidate_is_refitted_by_a_metric_that_none_has(iris_splits, client):
    search = mscourse.grid_search(
        SVC(), {"C": [1e-6, 1]}, iris_splits, engines=client,
        scoring={"accuracy": "accuracy", "second": _never},
    )  # fmt: skip
    with pytest.warns(RuntimeWarning, match="6 failed"):
        search.wait(PATIENCE_S)
    assert search.refit("accuracy").C == 1
    with pytest.raises(mscourse.MSCourseError, match="no best candidate by second yet"):
        search.refit("second")


def _depth(estimator, X, y):
    return {"hits": estimator.score(X, y), "score": -estimator.get_depth()}


@pytest.mark.parametrize(
    "scoring", [_depth, {"hits": "accuracy", "score": lambda e, X, y: -e.get_depth()}]
)
def test_a_metric_that_is_called_score_can_rank(iris_splits, client, scoring):
    """That is also what a metric without a name is called."""
    search = mscourse.grid_search(
        DecisionTreeClassifier(random_state=0), {"max_depth": [1, 2, 4]}, iris_splits,
        engines=client, scoring=scoring, rank_by="score",
    )  # fmt: skip
    assert search.wait(PATIENCE_S)
    assert search.best_params == {"max_depth": 1}
    assert list(search.evaluations()[0].test_scores) == ["score", "hits"]


def test_the_refit_leaves_candidates_as_they_were(iris_splits, client):
    values = [DecisionTreeClassifier(), GaussianNB()]
    pipeline = Pipeline([("clf", DummyClassifier())])
    search = mscourse.grid_search(pipeline, {"clf": values}, iris_splits, engines=client)
    assert search.wait(PATIENCE_S)
    check_is_fitted(search.best_estimator)
    for each in values:
        with pytest.raises(NotFittedError):
            check_is_fitted(each)


@pytest.mark.parametrize("where", ["engines", "threads"])
def test_an_estimator_that_is_a_value_is_new_for_each_split(iris_splits, client, where):
    class Remembers(ClassifierMixin, BaseEstimator):
        """Scores how often it was fitted; of the script alone."""

        def fit(self, X, y):
            self.classes_ = np.unique(y)
            self.n_fits_ = getattr(self, "n_fits_", 0) + 1
            return self

        def score(self, X, y):
            return self.n_fits_

    value = Remembers()
    pipeline = Pipeline([("clf", DummyClassifier())])
    with ThreadPoolExecutor(1) as threads:
        engines = threads if where == "threads" else client[0]
        search = mscourse.grid_search(pipeline, {"clf": [value]}, iris_splits, engines=engines)
        assert search.wait(PATIENCE_S)
    assert not search.n_failed
    assert {e.test_score for e in search.evaluations()} == {1}
    assert not hasattr(value, "n_fits_")


def test_steps_that_get_metadata_are_fitted_with_them_for_each_candidate(tmp_path, client):
    """What candidates share is fitted without any."""
    splits = weighted(tmp_path, sample_weight=WEIGHTS)
    grid = {"gaussiannb__var_smoothing": [0.1, 0.3]}
    with config_context(enable_metadata_routing=True):
        pipeline = make_pipeline(
            StandardScaler().set_fit_request(sample_weight=True),
            GaussianNB().set_fit_request(sample_weight=True),
        )
        scorer = get_scorer("neg_log_loss").set_score_request(sample_weight=False)
        ours = mscourse.grid_search(pipeline, grid, splits, scoring=scorer, engines=client)
        assert ours.wait(PATIENCE_S)
        theirs = GridSearchCV(pipeline, grid, cv=StratifiedKFold(3), scoring=scorer)
        theirs.fit(X, Y, sample_weight=WEIGHTS)
    assert ours.n_failed == 0
    np.testing.assert_allclose(
        ours.results()["mean_test_score"], theirs.cv_results_["mean_test_score"], rtol=1e-9
    )
