"""Halving: the rules of promotion, and a search that finds the best with a part of the work."""

from __future__ import annotations

import itertools
import math
import os
import signal
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from scipy.stats import loguniform
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.datasets import load_diabetes, load_digits, load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.experimental import enable_halving_search_cv  # noqa: F401  # enables it
from sklearn.linear_model import Ridge, SGDClassifier
from sklearn.model_selection import HalvingGridSearchCV, KFold, TimeSeriesSplit
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

import mscourse
from mscourse.asha import Asha, Ladder, Promotions
from mscourse.engines import ask_engines
from mscourse.resources import rung_steps

PATIENCE_S = 120

IRIS = load_iris(return_X_y=True)
GRID = {"C": [0.1, 1.0, 10.0], "gamma": [0.001, 0.01, 0.1]}


class Climber(ClassifierMixin, BaseEstimator):
    """Scores its quality, and less with few steps; takes a time that nobody knows before."""

    def __init__(self, quality=0.5, steps=1, gain=0.1, seconds=0.0, fails_from=math.inf):
        self.quality = quality
        self.steps = steps
        self.gain = gain
        self.seconds = seconds
        self.fails_from = fails_from

    def fit(self, X, y):
        if self.steps >= self.fails_from:
            raise ValueError("too many steps")
        time.sleep(np.random.default_rng().uniform(0, self.seconds))
        return self

    def score(self, X, y):
        return self.quality - self.gain / self.steps


def climb(splits, client, n_candidates=9, **arguments):
    """Search for the highest quality, by steps."""
    given = {
        "estimator": Climber(),
        "param_grid": {"quality": [i / n_candidates for i in range(n_candidates)]},
        "resource": "steps",
        "min_resources": 1,
        "max_resources": 9,
    }
    return mscourse.halving_search(splits=splits, engines=client, **(given | arguments))


@pytest.fixture(scope="module")
def iris_splits(tmp_path_factory):
    X, y = IRIS
    folder = tmp_path_factory.mktemp("iris")
    return mscourse.persist_cv_splits(X, y, cv=3, folder=folder, name="iris", random_state=0)


# -- the rules, without any engine ----------------------------------------------------------------


class Watched:
    """Runs the rules as so many engines would, and checks every decision against the paper."""

    def __init__(self, scores, n_engines, factor, seed):
        self.scores = scores  # of each candidate in each rung
        self.n_engines = n_engines
        self.factor = factor
        self.rng = np.random.default_rng(seed)
        self.n_rungs = scores.shape[1]
        self.asha = Asha(self.rng.permutation(len(scores)).tolist(), self.n_rungs, factor)
        self.done = [{} for _ in range(self.n_rungs)]
        self.went = [[] for _ in range(self.n_rungs)]
        self.n_last_resorts = 0

    def run(self):
        under_way = []
        while True:
            while len(under_way) < self.n_engines:
                n_ready = self.asha.n_ready
                n_expected = self.asha.n_expected
                chosen = self.asha.begin_next()
                assert (n_ready == 0) == (chosen is None)
                if chosen is None:
                    break
                assert n_expected >= sum(map(len, self.went)) + n_ready
                self.check(*chosen, is_idle=not under_way)
                under_way.append(chosen)
            if not under_way:
                return self
            for _ in range(self.rng.integers(1, len(under_way) + 1)):
                candidate, rung = under_way.pop(int(self.rng.integers(len(under_way))))
                self.done[rung][candidate] = self.scores[candidate, rung]
                self.asha.record(candidate, rung, self.scores[candidate, rung])

    def check(self, candidate, rung, *, is_idle):
        assert candidate not in self.went[rung]
        promotable = [self.promotable(k) for k in range(self.n_rungs - 1)]
        highest = max((k for k, found in enumerate(promotable) if found), default=None)
        if highest is not None:
            assert rung == highest + 1
            assert candidate in promotable[highest]
        elif len(self.went[0]) < len(self.scores):
            assert rung == 0
        else:
            assert is_idle
            assert not self.at_the_top()
            self.n_last_resorts += 1
        if rung:
            score = self.done[rung - 1][candidate]
            assert not math.isnan(score)
            left = [c for c in self.done[rung - 1] if c not in self.went[rung]]
            assert score == np.nanmax([self.done[rung - 1][c] for c in left])
        self.went[rung].append(candidate)

    def promotable(self, rung):
        done = self.done[rung]
        ranked = sorted((c for c in done if not math.isnan(done[c])), key=lambda c: -done[c])
        top = ranked[: int(len(done) // self.factor)]
        return [c for c in top if c not in self.went[rung + 1]]

    def at_the_top(self):
        return [c for c, score in self.done[-1].items() if not math.isnan(score)]


@pytest.mark.parametrize("n_engines", [1, 2, 8])
@pytest.mark.parametrize(
    ("n_candidates", "n_rungs", "factor"),
    [(1, 1, 3), (1, 3, 3), (2, 4, 3), (9, 3, 3), (27, 4, 3), (30, 3, 2), (31, 2, 3), (20, 4, 1.5)],
)
def test_each_decision_is_that_of_the_paper(n_candidates, n_rungs, factor, n_engines):
    for seed in range(20):
        rng = np.random.default_rng(seed)
        scores = rng.random(n_candidates)[:, None] + 0.3 * rng.random((n_candidates, n_rungs))
        scores[rng.random(scores.shape) < rng.choice([0, 0.3, 1])] = np.nan
        run = Watched(scores, n_engines, factor, seed).run()
        assert sorted(run.went[0]) == list(range(n_candidates))
        assert run.asha.n_expected == sum(map(len, run.went))
        if not run.at_the_top():  # then everyone has been tried, as far as it could go
            for rung, above in zip(run.done, run.went[1:], strict=False):
                assert {c for c, score in rung.items() if not math.isnan(score)} == set(above)
            assert np.isnan(list(run.done[-1].values())).all()


def test_one_engine_promotes_as_soon_as_a_third_is_known():
    asha = Asha(range(9), 3, 3)
    went = []
    while (chosen := asha.begin_next()) is not None:
        went.append(chosen)
        asha.record(*chosen, score=[4, 3, 2, 7, 6, 5, 1, 9, 8][chosen[0]])
    assert went == [
        *[(0, 0), (1, 0), (2, 0), (0, 1)],
        *[(3, 0), (3, 1)],  # overtakes 0, which has been promoted for nothing
        *[(4, 0), (5, 0), (4, 1), (3, 2)],  # three in rung 1: its best goes to the top
        *[(6, 0), (7, 0), (7, 1), (7, 2), (8, 0), (8, 1)],
    ]


def test_equal_scores_are_promoted_no_more_than_the_part_says():
    asha = Watched(np.ones((27, 4)), 3, 3, seed=0).run().asha
    assert [len(rung.scores) for rung in asha.rungs] == [27, 9, 3, 1]


def test_the_best_goes_on_if_else_nobody_were_at_the_top():
    run = Watched(np.array([[0.1, 0.1, 0.1], [0.2, 0.2, 0.2]]), 2, 3, seed=0).run()
    assert [sorted(went) for went in run.went] == [[0, 1], [1], [1]]
    assert run.n_last_resorts == 2
    failing = np.array([[0.1, 0.1, 0.1], [0.2, 0.2, np.nan], [0.3, np.nan, 1.0]])
    run = Watched(failing, 2, 3, seed=0).run()
    assert [sorted(went) for went in run.went] == [[0, 1, 2], [0, 1, 2], [0, 1]]


@pytest.mark.parametrize(
    ("least", "most", "factor", "expected"),
    [
        (53, 1437, 3, (53, 160, 479, 1437)),
        (54, 1437, 3, (160, 479, 1437)),
        (1, 243, 3, (1, 3, 9, 27, 81, 243)),
        (5, 5, 3, (5,)),
        (1, 100, 2.5, (1, 3, 6, 16, 40, 100)),
        (1, 5, 1.3, (1, 2, 3, 4, 5)),
    ],
)
def test_the_resources_of_the_rungs(least, most, factor, expected):
    assert rung_steps(least, most, factor) == expected


# -- what the scheduler is handed -----------------------------------------------------------------


def promotions(n_candidates=9, steps=(10, 30, 90), n_splits=2):
    candidates = [{"a": i} for i in range(n_candidates)]
    asha = Asha(range(n_candidates), len(steps), 3)
    return Promotions(asha, candidates, Ladder("n_samples", steps, (90,) * n_splits))


def finish(source, items, score=0.5):
    for candidate, _, split, _ in items:
        source.learn(candidate, split, score)


def take(source, n, engines=(0,)):
    return source.take(n, 0, engines, ahead=False)


def test_a_lone_engine_gets_the_next_candidate_when_one_is_done():
    source = promotions()
    items = list(take(source, 100))
    assert [item[0] for item in items] == [0, 0]
    assert source.n_waiting == 0
    finish(source, items[:1])
    assert source.n_waiting == 0
    finish(source, items[1:])
    assert source.n_waiting == 16
    assert len(take(source, 1)) == 1
    assert source.n_waiting == 1  # the other split may wait at the engine: it decides nothing


def test_from_the_second_engine_on_nobody_waits():
    source = promotions()
    items = [*take(source, 2, engines=(0, 1))]
    assert source.n_waiting == 16  # or the scheduler would not ask for more
    assert len([*items, *take(source, 100, engines=(0, 1))]) == 18


FOUR = threading.Barrier(4, timeout=20)
N_CAME = itertools.count()


class Meeting(DecisionTreeClassifier):
    def fit(self, X, y):
        if next(N_CAME) < 4:
            FOUR.wait()
        return super().fit(X, y)


def test_all_engines_are_busy_at_once(digits, tmp_path):
    """The first four wait for each other: with two splits, these are of two candidates."""
    splits = mscourse.persist_cv_splits(*digits, cv=2, folder=tmp_path, name="two")
    with ThreadPoolExecutor(4) as threads:
        search = mscourse.halving_search(
            Meeting(), {"max_depth": [1, 2, 3, 4]}, splits, min_resources=60, engines=threads
        )
        assert search.wait(timeout_s=60)
    assert search.n_failed == 0


def test_a_batch_is_no_more_work_than_asked_for():
    source = promotions()
    take(source, 2, engines=(0, 1))
    bottom = take(source, 6)
    assert [item[0] for item in bottom] == [1, 1, 2, 2, 3, 3]
    finish(source, bottom)
    assert [item[3] for item in take(source, 6)] == [30, 30]  # these are worth three each
    assert [item[3] for item in take(source, 1)] == [10]


def test_a_mean_does_not_depend_on_which_split_is_done_first():
    """To the last bit, so that one engine and many promote the same candidates."""
    means = []
    for order in ((0, 1, 2), (2, 1, 0)):
        source = promotions(1, n_splits=3)
        take(source, 3)
        for split in order:
            source.learn(0, split, (0.1, 0.2, 0.3)[split])
        means.append(source.rungs()[0].scores[0])
    assert means[0] == means[1]


@pytest.mark.parametrize("n_engines", [1, 3])
def test_progress_never_goes_back_and_is_whole_only_at_the_end(n_engines):
    for seed in range(30):
        rng = np.random.default_rng(seed)
        source = promotions(20)
        under_way, seen = [], []
        while True:
            while len(under_way) < n_engines and (items := take(source, 1)):
                under_way += items
            if not under_way:
                break
            assert 0 <= source.progress < 1
            seen.append(source.progress)
            item = under_way.pop(int(rng.integers(len(under_way))))
            finish(source, [item], score=rng.random() if rng.random() < 0.8 else math.nan)
            assert source.n_total >= len(seen)
        assert seen == sorted(seen)
        assert source.progress == 1
        assert source.n_total == len(seen)
        assert source.n_waiting == 0


# -- on engines -----------------------------------------------------------------------------------


def test_it_finds_the_best_on_the_digits_with_a_third_of_the_rows(tmp_path, client):
    X, y = load_digits(return_X_y=True)
    grid = {"C": np.logspace(-1, 2, 4), "gamma": np.logspace(-5, -1, 7)}
    splits = mscourse.persist_cv_splits(X, y, cv=2, folder=tmp_path, name="digits", random_state=0)
    search = mscourse.halving_search(SVC(), grid, splits, min_resources=33, engines=client)
    exhaustive = mscourse.grid_search(SVC(), grid, splits, engines=client)
    assert search.wait(PATIENCE_S)
    assert exhaustive.wait(PATIENCE_S)
    assert [rung.n_resources for rung in search.rungs()] == [33, 100, 300, 899]
    score_of = exhaustive.results()
    chosen = score_of["params"].index(search.best_params)
    scores = score_of["mean_test_score"]
    assert scores[chosen] >= 0.995 * scores.max()
    rows, rows_of_all = (sum(e.n_train for e in s.evaluations()) for s in (search, exhaustive))
    assert rows <= rows_of_all / 3
    assert {e.engine for e in search.evaluations()} == set(client.ids)
    # In the top rung it is the same work, to the last bit.
    for rank in search.best(100):
        assert rank.validation.mean == scores[score_of["params"].index(rank.params)]


def test_what_it_gives(digits_splits, client):
    search = mscourse.halving_search(
        SVC(), GRID, digits_splits, min_resources=53, engines=client, return_train_score=True
    )
    assert isinstance(search, mscourse.HalvingSearch)
    assert search.wait(PATIENCE_S)
    rungs = search.rungs()
    assert [rung.n_resources for rung in rungs] == [53, 160, 480]
    assert set(rungs[0].scores) == set(range(9))
    for rung, above in itertools.pairwise(rungs):
        assert set(above.scores) == rung.promoted <= set(rung.scores)
    assert not rungs[-1].promoted

    table = search.results()
    theirs = HalvingGridSearchCV(SVC(), {"C": [1, 2], "gamma": [1, 2]}, return_train_score=True)
    assert list(table) == [key for key in theirs.fit(*IRIS).cv_results_ if key != "_"]
    assert table["params"] == search.candidates
    for candidate in range(9):
        highest = max(k for k, rung in enumerate(rungs) if candidate in rung.scores)
        assert table["iter"][candidate] == highest
        assert table["n_resources"][candidate] == rungs[highest].n_resources
        assert table["mean_test_score"][candidate] == pytest.approx(
            rungs[highest].scores[candidate]
        )
    by_rank = np.argsort(table["rank_test_score"], kind="stable")
    keys = [(table["iter"][i], table["mean_test_score"][i]) for i in by_rank]
    assert keys == sorted(keys, reverse=True)
    assert table["rank_test_score"].min() == 1

    frame = search.to_frame()
    assert len(frame) == search.n_done == search.n_total
    top = frame[frame["iter"] == 2]
    assert set(top["candidate"]) == set(rungs[2].scores)
    assert (top["n_train"] == 480).all()
    assert (frame["n_train"] == frame["n_resources"]).all()
    assert [score.params for score in search.best(99)] == [
        search.candidates[i] for i in by_rank if table["iter"][i] == 2
    ]
    assert search.best_params == search.best(1)[0].params


def test_several_metrics_rank_within_a_rung_only(iris_splits, client):
    search = mscourse.halving_search(
        SVC(), GRID, iris_splits, min_resources=33, engines=client,
        scoring=["accuracy", "f1_macro"], rank_by="f1_macro",
    )  # fmt: skip
    assert search.wait(PATIENCE_S)
    table = search.results()
    for metric in ("accuracy", "f1_macro"):
        by_rank = np.argsort(table[f"rank_test_{metric}"], kind="stable")
        keys = [(table["iter"][i], table[f"mean_test_{metric}"][i]) for i in by_rank]
        assert keys == sorted(keys, reverse=True)
        assert table["param_C"][by_rank[0]] == search.refit(metric).C
    assert search.best_params == table["params"][int(np.argmin(table["rank_test_f1_macro"]))]


def test_a_rung_counts_when_it_is_complete_and_a_higher_one_counts_more(
    iris_splits, client, monkeypatch
):
    search = climb(iris_splits, client, estimator=Climber(gain=-1.0))  # less at the top
    assert search.wait(PATIENCE_S)
    frame = search.to_frame()
    columns = search._log.columns()
    for n_done in range(1, search.n_done + 1):
        monkeypatch.setattr(search._log, "columns", lambda n=n_done: columns.take(range(n)))
        counts = frame[:n_done].groupby(["candidate", "iter"]).size()
        complete = [each for each, n in counts.items() if n == 3]
        highest = {candidate: 0 for candidate, _ in counts.index} | dict(sorted(complete))
        table = search.results()
        assert table["iter"].tolist() == [highest[i] for i in sorted(highest)]
        by_rank = np.argsort(table["rank_test_score"], kind="stable")
        assert (np.diff(table["iter"][by_rank]) <= 0).all()
        in_top = [candidate for candidate, k in complete if k == 2]
        assert sorted(each.params["quality"] for each in search.best(99)) == [
            candidate / 9 for candidate in sorted(in_top)
        ]


def test_the_reports_say_who_is_in_which_rung(digits_splits, client):
    search = mscourse.halving_search(SVC(), GRID, digits_splits, min_resources=53, engines=client)
    assert search.wait(PATIENCE_S)
    counts = [(len(rung.scores), len(rung.promoted)) for rung in search.rungs()]
    lines = repr(search).splitlines()
    assert lines[0] == f"Progress: 100% ({search.n_total}/{search.n_total})"
    assert lines[1] == (
        f"Rungs by n_samples: 53: 9 done, {counts[0][1]} promoted; "
        f"160: {counts[1][0]} done, {counts[1][1]} promoted; 480: {counts[2][0]} done, 0 promoted"
    )
    assert "Rank 1 (rung 2, n_samples=480): validation: 0.9" in repr(search)
    assert "Not ranked (rung 1, n_samples=160): validation: 0." in repr(search)
    page = search._repr_html_()
    assert "Rungs by n_samples: 53: 9 done" in page
    assert "5 of 5 in rung 2, n_samples=480" in page


def test_a_parameter_as_the_resource(iris_splits, client):
    forest = RandomForestClassifier(random_state=0)
    grid = {"max_depth": [1, 2, 3], "max_features": [1, 2, 3]}
    search = mscourse.halving_search(
        forest, grid, iris_splits, resource="n_estimators", max_resources=18, engines=client
    )
    assert search.wait(PATIENCE_S)
    assert [rung.n_resources for rung in search.rungs()] == [2, 6, 18]
    assert search.best_params["n_estimators"] == 18
    table = search.results()
    assert table["n_resources"].tolist() == table["param_n_estimators"].tolist()
    frame = search.to_frame()
    assert (frame["param_n_estimators"] == frame["n_resources"]).all()
    assert (frame["n_train"] == 100).all()
    assert "n_estimators=18" in repr(search)
    single = {name: [value] for name, value in search.best_params.items()}
    same = mscourse.grid_search(forest, single, iris_splits, engines=client)
    assert same.wait(PATIENCE_S)
    assert same.results()["mean_test_score"] == [search.best(1)[0].validation.mean]


def test_the_report_names_the_classes_that_lower_rungs_do_not_see(client, tmp_path):
    X, y = np.arange(120.0).reshape(60, 2), np.repeat([0, 1], 30)
    folds = [(np.arange(60), np.arange(60)), (np.arange(60)[::-1], np.arange(60))]
    splits = mscourse.persist_cv_splits(X, y, cv=folds, folder=tmp_path, name="sorted")
    search = mscourse.halving_search(
        DecisionTreeClassifier(),
        {"max_depth": [1, 2, 3]},
        splits,
        min_resources=20,
        max_resources=60,
        engines=client,
    )
    lines = ["20 rows have no sample of class 1 in split 0; of class 0 in split 1"]
    assert search.missing_classes == lines
    assert search.wait(PATIENCE_S)
    assert lines[0] in repr(search)
    for other in (
        climb(splits, client),  # rungs of another resource
        mscourse.halving_search(
            DecisionTreeRegressor(), {"max_depth": [1, 2, 3]}, splits, min_resources=20,
            max_resources=60, engines=client,
        ),
    ):  # fmt: skip
        assert other.missing_classes == []
        other.abort()


def test_pictures_compare_what_compares(iris_splits, client, monkeypatch):
    drawn = {}
    monkeypatch.setattr("mscourse.plots.parameter_boxplots", lambda e, axes: drawn.update(boxes=e))
    monkeypatch.setattr("mscourse.plots.halving_rungs", lambda s, ax: drawn.update(rungs=s.rungs()))
    search = climb(iris_splits, client)
    assert search.wait(PATIENCE_S)
    search.plot_parameters()
    search.plot_rungs()
    assert Counter(e.candidate for e in drawn["boxes"]) == dict.fromkeys(range(9), 3)
    assert all(e.test_score == e.params["quality"] - 0.1 for e in drawn["boxes"])
    assert all(set(e.params) == {"quality"} for e in drawn["boxes"])
    assert drawn["rungs"] == search.rungs()


def test_one_engine_gives_the_same_promotions_every_time(iris_splits):
    def order(random_state=0):
        with ThreadPoolExecutor(1) as executor:
            search = climb(
                iris_splits, executor, 20, estimator=Climber(seconds=0.004),
                random_state=random_state,
            )  # fmt: skip
            assert search.wait(PATIENCE_S)
        frame = search.to_frame()
        return list(zip(frame["candidate"], frame["split"], frame["iter"], strict=True))

    first = order()
    assert first == order()
    assert first != order(random_state=1)
    asha = Asha(np.random.default_rng(0).permutation(20).tolist(), 3, 3)
    expected = []
    while (chosen := asha.begin_next()) is not None:
        expected.append(chosen)
        asha.record(*chosen, score=chosen[0] / 20)
    assert first == [(candidate, split, k) for candidate, k in expected for split in range(3)]


def test_candidates_are_drawn_as_in_random_search(iris_splits, client):
    distributions = {"alpha": loguniform(1e-6, 1), "penalty": ["l1", "l2"]}
    estimator = SGDClassifier(random_state=0)
    search = mscourse.halving_search(
        estimator, distributions, iris_splits, n_iter=7, random_state=3, engines=client
    )
    reference = mscourse.random_search(
        estimator, distributions, iris_splits, n_iter=7, random_state=3, engines=client
    )
    assert search.wait(PATIENCE_S)
    assert reference.wait(PATIENCE_S)
    assert search.candidates == reference.candidates
    best = reference.candidates.index(search.best_params)
    top = search.best(1)[0].validation.mean
    assert reference.results()["mean_test_score"][best] == pytest.approx(top)


def test_all_of_a_grid_is_drawn_in_random_order(iris_splits):
    """In the order of the grid, each would be better than all before it, and go on."""
    qualities = [i / 27 for i in range(27)]
    began = []
    for random_state in (0, 0, 1):
        with ThreadPoolExecutor(1) as executor:
            search = climb(
                iris_splits, executor, param_grid={"quality": qualities}, n_iter=27,
                random_state=random_state,
            )  # fmt: skip
            assert search.wait(PATIENCE_S)
        assert [params["quality"] for params in search.candidates] == qualities
        assert search.best_params["quality"] == qualities[-1]
        assert len(search.rungs()[1].scores) < 18
        began.append(list(dict.fromkeys(search.to_frame()["candidate"])))
    assert began[0] == began[1] != began[2]


@pytest.mark.parametrize(
    ("cv", "estimator", "max_resources", "expected"),
    [
        (KFold(4), Ridge(), None, [37, 111, 331, 332]),  # 442 rows: the folds are not equal
        (TimeSeriesSplit(3), Ridge(), None, [37, 111, 112, 222, 332]),
        (KFold(4), Ridge(), 90, [10, 30, 90]),
    ],
)
def test_rows_of_splits_that_differ(tmp_path, client, cv, estimator, max_resources, expected):
    X, y = load_diabetes(return_X_y=True)
    splits = mscourse.persist_cv_splits(X, y, cv=cv, folder=tmp_path, name="d")
    search = mscourse.halving_search(
        estimator, {"alpha": np.logspace(-3, 2, 9)}, splits, max_resources=max_resources,
        engines=client,
    )  # fmt: skip
    assert search.wait(PATIENCE_S)
    assert search.n_failed == 0
    assert sorted({e.n_train for e in search.evaluations()}) == expected


def test_classifiers_get_two_rows_for_each_split_and_class(iris_splits, client):
    tree = DecisionTreeClassifier(random_state=0)
    search = mscourse.halving_search(
        tree, {"max_depth": list(range(1, 82))}, iris_splits, engines=client
    )
    assert search.wait(PATIENCE_S)
    assert [rung.n_resources for rung in search.rungs()] == [33, 100]  # 11 would be less than 18
    assert len(search.rungs()[0].scores) == 81


# -- failures -------------------------------------------------------------------------------------


def test_a_candidate_that_fails_goes_no_further(iris_splits, client):
    grid = {"C": [-1.0] * 5 + [0.01, 0.1, 1.0, 10.0]}
    search = mscourse.halving_search(SVC(), grid, iris_splits, min_resources=30, engines=client)
    assert search.wait(PATIENCE_S)
    assert search.n_failed == 15
    assert not search.rungs()[0].promoted & set(range(5))
    assert all(math.isnan(search.rungs()[0].scores[i]) for i in range(5))
    assert search.best_params["C"] > 0
    assert search.results()["rank_test_score"][:5].tolist() == [5] * 5
    assert "15 failed: InvalidParameterError" in repr(search)


def test_if_all_fail_it_ends_and_says_why(iris_splits, client):
    search = climb(iris_splits, client, estimator=Climber(fails_from=0))
    with pytest.warns(RuntimeWarning, match="Of 27 evaluations 27 failed"):
        assert search.wait(PATIENCE_S)
    assert search.progress == 1
    assert search.n_total == search.n_failed == 27
    with pytest.raises(mscourse.MSCourseError, match=r"(?s)no evaluation.*too many steps"):
        _ = search.best_params


def test_if_all_fail_at_the_top_there_is_no_best(iris_splits, client):
    search = climb(iris_splits, client, estimator=Climber(fails_from=9))
    assert search.wait(PATIENCE_S)
    assert search.progress == 1
    assert len(search.rungs()[2].scores) == 9  # one after the other, the best first
    with pytest.raises(mscourse.MSCourseError, match="too many steps"):
        _ = search.best_params


def test_the_first_failure_may_end_the_search(iris_splits, client):
    search = climb(iris_splits, client, estimator=Climber(fails_from=3), error_score="raise")
    with pytest.raises(mscourse.EvaluationError, match="too many steps"):
        search.wait(PATIENCE_S)
    with pytest.raises(mscourse.MSCourseError, match="steps=9"):
        _ = search.best_params
    assert search.best() == []
    assert "Not ranked (rung 0, steps=1" in repr(search)


def test_an_abort_keeps_what_is_done(iris_splits, client):
    search = climb(iris_splits, client, 200, estimator=Climber(seconds=0.1))
    deadline_s = time.monotonic() + PATIENCE_S
    while not search.n_done and time.monotonic() < deadline_s:
        time.sleep(0.01)
    search.abort()
    n_done = search.n_done
    assert 0 < n_done < search.n_total
    assert search.progress < 1
    assert not search.wait(5)
    assert len(search.to_frame()) == search.n_done == n_done
    assert len(search.results()["params"]) == len({e.candidate for e in search.evaluations()})
    assert "aborted" in repr(search)


def test_an_abort_before_anything_is_done_leaves_empty_columns(iris_splits):
    may_begin = threading.Event()
    with ThreadPoolExecutor(1) as executor:
        executor.submit(may_begin.wait)
        search = climb(iris_splits, executor)
        search.abort()
        may_begin.set()
    assert search.n_done == 0
    table = search.results()
    assert {"iter", "n_resources", "mean_test_score", "rank_test_score"} <= set(table)
    assert all(len(column) == 0 for column in table.values())


@pytest.mark.long
def test_an_engine_killed_in_the_middle_loses_nothing(iris_splits):
    with mscourse.local_cluster(2) as own:
        pids = ask_engines(own, os.getpid)
        search = climb(iris_splits, own, estimator=Climber(seconds=0.1))
        deadline_s = time.monotonic() + PATIENCE_S
        while search.n_done < 5 and time.monotonic() < deadline_s:
            time.sleep(0.01)
        os.kill(pids[0], signal.SIGKILL)
        assert search.n_done < 27, "the engine was killed too late for this test"
        assert search.wait(PATIENCE_S)
    assert search.n_failed == 0
    assert search.n_done == search.n_total
    assert search.best_params == {"quality": 8 / 9, "steps": 9}
    frame = search.to_frame()
    assert not frame.duplicated(["candidate", "split", "iter"]).any()
    assert len(frame) == 3 * sum(len(rung.scores) for rung in search.rungs())


class Aliased(Climber):
    """Takes its steps under another name too, which it does not list, as some libraries do."""

    def set_params(self, **params):
        if "rounds" in params:
            params["steps"] = params.pop("rounds")
        return super().set_params(**params)


class AliasedInteger(Aliased):
    """Takes an integer only."""

    def set_params(self, **params):
        return super().set_params(**{name: value + 0 for name, value in params.items()})


@pytest.mark.parametrize("estimator", [Aliased(), AliasedInteger()])
def test_a_resource_may_have_a_name_that_is_taken_but_not_listed(iris_splits, estimator):
    with ThreadPoolExecutor(1) as threads:
        search = climb(iris_splits, threads, estimator=estimator, resource="rounds")
        assert search.wait(PATIENCE_S)
    assert search.n_failed == 0
    assert search.best_params == {"quality": 8 / 9, "rounds": 9}
    assert search.best(1)[0].validation.mean == pytest.approx(8 / 9 - 0.1 / 9)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"factor": 1}, "factor must be a number of at least 1.1"),
        ({"factor": -3}, "factor must be"),
        ({"factor": math.inf}, "factor must be"),
        ({"factor": math.nan}, "factor must be"),
        ({"factor": "3"}, "factor must be"),
        ({"factor": True}, "factor must be"),
        ({"min_resources": 0}, "min_resources must be a positive integer"),
        ({"min_resources": 10.5}, "min_resources must be a positive integer"),
        ({"min_resources": 101}, "min_resources must be at most max_resources, which is 100"),
        ({"min_resources": 60, "max_resources": 50}, "which is 50; it is 60"),
        ({"max_resources": 101}, "max_resources must be at most 100, the rows"),
        ({"max_resources": 0}, "max_resources must be a positive integer"),
        ({"max_resources": 2.5}, "max_resources must be a positive integer"),
        ({"resource": "max_itr", "max_resources": 5}, "'n_samples' or a .*Did you mean 'max_iter'"),
        ({"resource": "kernel", "max_resources": 5}, "an integer, such as .*'kernel' is 'rbf'"),
        ({"resource": "shrinking", "max_resources": 5}, "'shrinking' is True"),
        ({"resource": 5}, "the name of a parameter, not 5"),
        ({"resource": "max_iter"}, "max_resources must say which max_iter"),
        ({"resource": "max_iter", "max_resources": "all"}, "max_resources must be a positive"),
        ({"resource": "max_iter", "max_resources": 5, "param_grid": {"max_iter": [1]}},
         "take it out of param_grid"),
        ({"param_grid": {"C": loguniform(1, 2)}}, "set n_iter"),
        ({"param_grid": {"C": 1}}, "not a grid"),
        ({"param_grid": {"gama": [1]}}, "Did you mean 'gamma'"),
        ({"n_iter": 0}, "n_iter must be a positive integer"),
        ({"splits": IRIS}, "persist_cv_splits or open_splits"),
        ({"estimator": SVC}, "estimator must be an object"),
        ({"scoring": "acuracy"}, "acuracy"),
        ({"error_score": "ignore"}, "'raise'"),
        ({"engines": "local"}, "engines must be"),
    ],
)  # fmt: skip
def test_bad_input_is_refused_before_anything_runs(iris_splits, arguments, says):
    given = {"estimator": SVC(), "param_grid": {"C": [1, 2]}, "splits": iris_splits} | arguments
    with pytest.raises(mscourse.ParameterError, match=says):
        mscourse.halving_search(
            given.pop("estimator"), given.pop("param_grid"), given.pop("splits"), **given
        )
