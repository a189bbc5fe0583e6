"""Ranks are fair, and reports say what there is."""

from __future__ import annotations

import copy
import math
import pickle
import sys
import threading
import tracemalloc

import numpy as np
import pytest

from mscourse import results
from mscourse.evaluation import Evaluation, Outcome
from mscourse.log import Log, Records

CANDIDATES = [{"a": i} for i in range(4)]


def outcome(test_score, *, train_score=1.0, error=None):
    scores = {"test_scores": (test_score,), "train_scores": (train_score,)}
    return Outcome(
        n_train=10, metrics=("score",), **(scores if error is None else dict.fromkeys(scores, ())),
        fit_time_s=0.1, score_time_s=0.1, error=error, error_traceback=None,
        started_at_s=0.0, elapsed_s=0.2, peak_anonymous_bytes=None, host="here", pid=1,
    )  # fmt: skip


def log_of(*scores_of_candidates, candidates=CANDIDATES, return_train_score=True):
    log = Log(candidates.__getitem__, ["score"], return_train_score=return_train_score)
    for i, scores in enumerate(scores_of_candidates):
        for split, score in enumerate(scores):
            log.append(i, split, outcome(score), engine=0)
    return log


def done(*scores_of_candidates):
    return log_of(*scores_of_candidates).columns()


def test_a_lucky_first_split_does_not_win():
    ranking = results.rank(CANDIDATES, 3, done([0.9, 0.8, 0.7], [1.0], [0.8, 0.8, 0.9], []), 5)
    assert [score.params["a"] for score in ranking.ranked] == [2, 0]
    assert [score.params["a"] for score in ranking.unranked] == [1]
    assert ranking.unranked[0].n_done == 1


def test_before_any_is_complete_the_most_advanced_are_compared():
    ranking = results.rank(CANDIDATES, 5, done([0.5, 0.6], [0.7, 0.8], [1.0]), 5)
    assert [score.params["a"] for score in ranking.ranked] == [1, 0]
    report = results.text_report("Progress", ranking, [])
    assert "Rank 1 (2 of 5 splits): validation: 0.75000 (+/-0.05000)" in report
    assert "Not ranked (1 of 5 splits): validation: 1.00000 train" in report


def test_failed_candidates_come_last():
    ranking = results.rank(CANDIDATES, 2, done([math.nan, 0.9], [0.1, 0.2]), 5)
    assert [score.params["a"] for score in ranking.ranked] == [1, 0]


def test_mean_and_standard_error():
    mean = results.Mean.of([1.0, 2.0, 3.0])
    assert mean.mean == 2.0
    assert mean.standard_error == pytest.approx(1 / math.sqrt(3))
    assert str(mean) == "2.00000 (+/-0.57735)"
    assert str(results.Mean.of([0.5])) == "0.50000"


def test_incomplete_candidates_have_no_mean():
    table = results.cv_results(CANDIDATES, 2, done([0.5, 0.7], [0.9], [], [0.2, 0.2]))
    assert [params["a"] for params in table["params"]] == [0, 1, 3]
    np.testing.assert_array_equal(table["mean_test_score"], [0.6, math.nan, 0.2])
    np.testing.assert_array_equal(table["split1_test_score"], [0.7, math.nan, 0.2])
    assert table["rank_test_score"].tolist() == [1, 3, 2]


def test_before_anything_is_done_the_columns_are_empty():
    table = results.cv_results(CANDIDATES, 2, done())
    assert table["params"] == []
    assert {"mean_test_score", "std_train_score", "split1_test_score", "mean_fit_time"} <= set(
        table
    )
    assert all(len(column) == 0 for column in table.values())


def test_errors_are_grouped_and_counted():
    log = Log([{"C": np.float64(-1)}].__getitem__, ["score"])
    for split in (3, 4):
        log.append(0, split, outcome(math.nan, error="ValueError: C"), engine=0)
    log.append(0, 0, outcome(1.0), engine=0)
    assert results.grouped_errors(log) == [
        "2 failed: ValueError: C (first: split 3 of {'C': -1.0})"
    ]


def test_errors_that_all_differ_do_not_fill_the_report():
    log = Log([{"C": 1.0}].__getitem__, ["score"])
    for split in range(9):
        log.append(0, split, outcome(math.nan, error=f"LinAlgError: rcond=1e-{split}"), engine=0)
    lines = results.grouped_errors(log)
    assert len(lines) == results.MOST_ERRORS_SHOWN + 1
    assert lines[0].startswith("1 failed: LinAlgError: rcond=1e-0")
    assert lines[-1] == "4 failed: with 4 other errors, which `to_frame` has"


def test_only_the_best_are_shown_and_the_rest_counted():
    many = [{"a": i} for i in range(9)]
    ranking = results.rank(many, 1, log_of(*[[i / 10] for i in range(9)]).columns(), 5)
    report = results.text_report("Progress", ranking, [])
    assert "Rank 5" in report
    assert "Rank 6" not in report
    assert report.endswith("... and 4 more")
    page = results.html_report("Progress", 1.0, ranking, [])
    assert "... and 4 more" in page
    assert page.count("<th") == page.split("</tr>")[1].count("<td") + 1  # and <thead>


# -- the columns behind it -------------------------------------------------------------------------


def test_a_record_is_what_was_appended():
    log = Log(CANDIDATES.__getitem__, ["score"])
    came = outcome(0.5)._replace(peak_anonymous_bytes=7, host="there", pid=3)
    log.append(2, 1, came, engine="e")
    log.append(3, 0, outcome(0.25), engine=0, params={"a": 3, "rows": 10})
    first, second = Records(log, range(2))
    assert first == Evaluation(
        candidate=2, params={"a": 2}, split=1, n_train=10, train_scores={"score": 1.0},
        test_scores={"score": 0.5}, fit_time_s=0.1, score_time_s=0.1, error=None,
        error_traceback=None, started_at_s=0.0, elapsed_s=0.2, peak_anonymous_bytes=7,
        host="there", pid=3, engine="e",
    )  # fmt: skip
    assert second.params == {"a": 3, "rows": 10}
    assert second.peak_anonymous_bytes is None


def test_records_do_not_grow_and_can_be_sliced():
    log = log_of([0.1, 0.2, 0.3])
    records = Records(log, range(2))
    log.append(1, 0, outcome(0.9), engine=0)
    assert [e.test_score for e in records] == [0.1, 0.2]
    assert len(records) == 2
    assert records[-1].test_score == records[1:][0].test_score == 0.2
    with pytest.raises(IndexError):
        records[2]


def test_records_are_copied_and_pickled_as_a_list():
    log = log_of([0.1, 0.2, 0.3])
    log.append(1, 0, outcome(math.nan, error="E: no"), engine="e", params={"a": 7})
    records = Records(log, range(4))
    for part in (records, records[1:3], records[:0]):
        for copied in (pickle.loads(pickle.dumps(part)), copy.deepcopy(part), copy.copy(part)):
            assert type(copied) is list
            assert list(map(repr, copied)) == list(map(repr, part))


def test_the_latest_record_can_be_read_while_it_is_appended():
    log = Log(CANDIDATES.__getitem__, ["score"])
    came = outcome(0.5)
    torn = []
    is_over = threading.Event()

    def read():
        while not is_over.is_set():
            try:
                if n := len(log):
                    torn.extend(e for e in Records(log, range(n))[-1:] if e.test_score != 0.5)
            except (IndexError, RuntimeError) as error:
                torn.append(error)

    reader = threading.Thread(target=read)
    period_s = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # so that the threads take turns in the middle of things
    try:
        reader.start()
        for i in range(20_000):
            log.append(i % 4, 0, came, engine=i % 50)
    finally:
        is_over.set()
        reader.join()
        sys.setswitchinterval(period_s)
    assert torn == []


def test_metrics_that_are_named_late_are_as_if_they_had_always_been_there():
    log = Log(CANDIDATES.__getitem__, ["score"], error_score=-7.0)
    log.append(0, 0, outcome(0, error="E: no"), engine=0)
    assert log.columns().test_scores["score"].tolist() == [-7.0]
    two = {"metrics": ("f1", "auc"), "test_scores": (0.5, 0.6), "train_scores": (0.7, 0.8)}
    log.append(0, 1, outcome(0)._replace(**two), engine=0)
    one = {"metrics": ("auc",), "test_scores": (0.9,), "train_scores": (1.0,)}
    log.append(0, 2, outcome(0)._replace(**one), engine=0)
    log.append(0, 3, outcome(0, error="E: no"), engine=0)
    columns = log.columns()
    assert log.metrics == ("f1", "auc")
    np.testing.assert_array_equal(columns.test_scores["f1"], [-7, 0.5, math.nan, -7])
    np.testing.assert_array_equal(columns.train_scores["auc"], [-7, 0.8, 1.0, -7])
    assert columns.failed.tolist() == [True, False, False, True]
    assert log.record(0).test_scores == {"f1": -7.0, "auc": -7.0}
    assert log.n_failed == 2


def test_an_evaluation_takes_little_memory():
    log = Log(CANDIDATES.__getitem__, ["score"])
    came = outcome(0.5)
    tracemalloc.start()
    try:
        for i in range(10_000):
            log.append(i % 4, 0, came, engine=0)
        n_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert n_bytes / 10_000 < 150
