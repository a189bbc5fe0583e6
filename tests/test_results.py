"""Ranks are fair, and reports say what there is."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mscourse import results
from mscourse.evaluation import Evaluation


def evaluation(params, split, test_score, *, candidate=0, train_score=1.0, error=None):
    return Evaluation(
        candidate=candidate, params=params, split=split, n_train=10,
        train_scores={"score": train_score}, test_scores={"score": test_score},
        fit_time_s=0.1, score_time_s=0.1, error=error, error_traceback=None,
        started_at_s=0.0, elapsed_s=0.2, host="here", pid=1, engine=0,
    )  # fmt: skip


CANDIDATES = [{"a": i} for i in range(4)]


def done(*scores_of_candidates):
    return [
        evaluation(CANDIDATES[i], split, score, candidate=i)
        for i, scores in enumerate(scores_of_candidates)
        for split, score in enumerate(scores)
    ]


def test_a_lucky_first_split_does_not_win():
    ranking = results.rank(CANDIDATES, 3, done([0.9, 0.8, 0.7], [1.0], [0.8, 0.8, 0.9], []))
    assert [score.params["a"] for score in ranking.ranked] == [2, 0]
    assert [score.params["a"] for score in ranking.unranked] == [1]
    assert ranking.unranked[0].n_done == 1


def test_before_any_is_complete_the_most_advanced_are_compared():
    ranking = results.rank(CANDIDATES, 5, done([0.5, 0.6], [0.7, 0.8], [1.0]))
    assert [score.params["a"] for score in ranking.ranked] == [1, 0]
    report = results.text_report("Progress", ranking, [], 5)
    assert "Rank 1 (2 of 5 splits): validation: 0.75000 (+/-0.05000)" in report
    assert "Not ranked (1 of 5 splits): validation: 1.00000 train" in report


def test_failed_candidates_come_last():
    ranking = results.rank(CANDIDATES, 2, done([math.nan, 0.9], [0.1, 0.2]))
    assert [score.params["a"] for score in ranking.ranked] == [1, 0]


def test_mean_and_standard_error():
    mean = results.Mean.of([1.0, 2.0, 3.0])
    assert mean.mean == 2.0
    assert mean.standard_error == pytest.approx(1 / math.sqrt(3))
    assert str(mean) == "2.00000 (+/-0.57735)"
    assert str(results.Mean.of([0.5])) == "0.50000"


def test_incomplete_candidates_have_no_mean():
    table = results.cv_results(
        CANDIDATES, 2, done([0.5, 0.7], [0.9], [], [0.2, 0.2]), return_train_score=False
    )
    assert [params["a"] for params in table["params"]] == [0, 1, 3]
    np.testing.assert_array_equal(table["mean_test_score"], [0.6, math.nan, 0.2])
    np.testing.assert_array_equal(table["split1_test_score"], [0.7, math.nan, 0.2])
    assert table["rank_test_score"].tolist() == [1, 3, 2]


def test_errors_are_grouped_and_counted():
    evaluations = [
        evaluation({"C": np.float64(-1)}, split, math.nan, error="ValueError: C")
        for split in (3, 4)
    ]
    assert results.grouped_errors([*evaluations, evaluation({}, 0, 1.0)]) == [
        "2 failed: ValueError: C (first: split 3 of {'C': -1.0})"
    ]


def test_only_the_best_are_shown_and_the_rest_counted():
    many = [{"a": i} for i in range(9)]
    ranking = results.rank(many, 1, [evaluation(many[i], 0, i / 10, candidate=i) for i in range(9)])
    report = results.text_report("Progress", ranking, [], 5)
    assert "Rank 5" in report
    assert "Rank 6" not in report
    assert report.endswith("... and 4 more")
