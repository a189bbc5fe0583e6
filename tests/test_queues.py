"""What is evaluated next: everything once, the longest first at the end, groups kept together."""

from __future__ import annotations

import heapq
import itertools
import math
import time
from collections import Counter

import numpy as np
import pytest

from mscourse.evaluation import Outcome
from mscourse.prefixes import Prefixes
from mscourse.prefixqueue import PrefixQueue
from mscourse.queues import CandidateQueue

CANDIDATES = [{"a": i} for i in range(12)]


def outcome(elapsed_s, pid=1):
    return Outcome(
        n_train=1, metrics=("score",), test_scores=(0.5,), train_scores=(), fit_time_s=elapsed_s,
        score_time_s=0.0, error=None, error_traceback=None, started_at_s=0.0, elapsed_s=elapsed_s,
        peak_anonymous_bytes=None, host="here", pid=pid,
    )  # fmt: skip


def take(queue, n=1, engine=0, engines=(0, 1), *, ahead=False):
    return [(item[0], item[2]) for item in queue.take(n, engine, engines, ahead=ahead)]


def run(queue, seconds, n_engines=2):
    """Let engines work one by one; give who did what when, and when each was done."""
    done, free_at = [], [0.0] * n_engines
    under_way = []  # end, engine, candidate, split
    idle = set(range(n_engines))
    now = 0.0
    while True:
        for engine in sorted(idle):
            for candidate, split in take(queue, 1, engine, range(n_engines)):
                idle.discard(engine)
                lasts = seconds(candidate, split, engine)
                heapq.heappush(under_way, (now + lasts, engine, candidate, split, lasts))
        if not under_way:
            assert queue.n_waiting == 0
            return done, free_at
        now, engine, candidate, split, lasts = heapq.heappop(under_way)
        queue.learn(candidate, split, outcome(lasts, pid=engine), engine)
        done.append((candidate, split, engine))
        free_at[engine] = now
        idle.add(engine)


def know(queue, *durations):
    """Tell how long candidates take; the first evaluation of a process does not count."""
    queue.learn(0, 0, outcome(99.0), 0)
    for candidate, seconds in durations:
        queue.learn(candidate, 0, outcome(seconds), 0)


# -- candidates ------------------------------------------------------------------------------------


def candidate_queue(n_candidates=4, n_splits=3, **arguments):
    return CandidateQueue(CANDIDATES, np.arange(n_candidates), n_splits, **arguments)


def test_the_splits_of_a_candidate_follow_each_other_in_the_order_asked_for():
    queue = CandidateQueue(CANDIDATES, np.array([2, 0, 1]), 2)
    assert queue.n_waiting == 6
    assert take(queue, 4) == [(2, 0), (2, 1), (0, 0), (0, 1)]
    assert queue.n_waiting == 2
    assert take(queue, 9) == [(1, 0), (1, 1)]
    assert take(queue, 9) == []


def test_the_parameters_travel_once_for_all_splits():
    items = candidate_queue().take(3, 0, [0], ahead=False)
    assert items[0][1] is items[2][1]
    assert items[0][1] == {"a": 0}


def test_a_budget_ends_in_the_middle_of_a_candidate():
    queue = candidate_queue(n_most=4)
    assert queue.n_waiting == 4
    assert take(queue, 99) == [(0, 0), (0, 1), (0, 2), (1, 0)]
    assert queue.n_waiting == 0


def test_a_batch_has_no_more_known_work_than_a_fifth_of_a_second():
    queue = candidate_queue(n_candidates=12)
    know(queue, (0, 0.01), (1, 0.15), (2, 0.001))
    assert take(queue, 99)[-1] == (1, 1)  # 3 x 0.01 + 2 x 0.15


def test_the_longest_go_first_at_the_end_after_those_that_are_unknown():
    queue = candidate_queue(n_candidates=5, n_splits=2)
    assert len(take(queue, 4)) == 4  # of candidates 0 and 1
    know(queue, (0, 0.1), (1, 3.0))
    assert take(queue) == [(2, 0)]
    queue.learn(2, 0, outcome(2.0), 0)
    assert take(queue) == [(3, 0)]
    queue.learn(3, 0, outcome(0.5), 0)
    assert take(queue) == [(4, 0)]
    queue.learn(4, 0, outcome(1.0), 0)
    assert [take(queue) for _ in range(3)] == [[(2, 1)], [(4, 1)], [(3, 1)]]


def test_a_candidate_that_killed_its_engines_is_as_long_as_it_was_before():
    queue = candidate_queue(n_candidates=5, n_splits=2)
    assert len(take(queue, 4)) == 4
    know(queue, (0, 0.1), (1, 3.0), (1, math.nan))
    assert queue._durations.of(1) == 3.0
    assert take(queue) == [(2, 0)]
    queue.learn(2, 0, outcome(2.0), 0)
    assert take(queue) == [(3, 0)]  # the order at the end is that of known durations


def test_before_the_end_the_order_is_kept():
    queue = candidate_queue(n_candidates=12, n_splits=5)
    assert len(take(queue, 10)) == 10
    know(queue, (0, 1.0), (1, 1.1))  # 50 are left, 25 s for each engine: far from 3 x 1.1 s
    assert take(queue) == [(2, 0)]


def test_nothing_long_waits_behind_another_at_the_end():
    queue = candidate_queue(n_candidates=2, n_splits=2)
    know(queue, (0, 1.0), (1, 1.0))
    assert take(queue, ahead=True) == []
    assert len(take(queue)) == 1


@pytest.mark.parametrize("seed", range(5))
def test_engines_are_idle_for_little_of_the_time(seed):
    rng = np.random.default_rng(seed)
    seconds = np.exp(rng.uniform(math.log(0.05), math.log(5), 12))
    queue = candidate_queue(n_candidates=12, n_splits=5)
    done, free_at = run(queue, lambda candidate, split, engine: seconds[candidate])
    assert Counter(done_[:2] for done_ in done) == Counter(itertools.product(range(12), range(5)))
    busy_s = 5 * seconds.sum()
    assert 1 - busy_s / (2 * max(free_at)) < 0.05


def test_candidates_may_come_and_go():
    queue = candidate_queue(n_candidates=3, n_splits=2)
    assert take(queue, 3) == [(0, 0), (0, 1), (1, 0)]
    assert queue.drop(1) == 1
    assert queue.drop(1) == 0
    assert queue.add([5, 3]) == 4
    assert queue.drop(5) == 2
    assert queue.n_waiting == 4
    assert take(queue, 99) == [(2, 0), (2, 1), (3, 0), (3, 1)]
    assert queue.drop(0) == 0


def test_candidates_may_come_and_go_at_the_end():
    queue = candidate_queue(n_candidates=3, n_splits=2)
    know(queue, (0, 1.0), (1, 2.0), (2, 3.0))
    assert take(queue) == [(2, 0)]
    assert queue.drop(1) == 2
    assert queue.drop(1) == 0
    assert queue.n_waiting == 3
    assert queue.add([4]) == 2
    assert queue.n_waiting == 5
    assert sorted(take(queue)[0] for _ in range(5)) == [(0, 0), (0, 1), (2, 1), (4, 0), (4, 1)]
    assert queue.n_waiting == 0


def test_what_a_budget_left_out_stays_left_out():
    queue = candidate_queue(n_candidates=3, n_splits=2, n_most=2)
    queue.add([7])
    assert take(queue, 99) == [(0, 0), (0, 1), (7, 0), (7, 1)]


@pytest.mark.parametrize("n_taken", [0, 2, 4])
def test_so_does_the_rest_of_a_candidate_that_a_budget_has_cut(n_taken):
    queue = candidate_queue(n_candidates=3, n_splits=3, n_most=4)
    first = take(queue, n_taken)
    assert queue.add([7]) == 3
    assert queue.n_waiting == 7 - n_taken
    assert first + take(queue, 99) == [(0, 0), (0, 1), (0, 2), (1, 0), (7, 0), (7, 1), (7, 2)]
    assert queue.n_waiting == 0
    assert queue.drop(1) == 0


# -- groups that share a prefix --------------------------------------------------------------------


def key(number):
    return ((1, (0, number)),)


def prefix_queue(prefixes, n_splits=2):
    return PrefixQueue(CANDIDATES, dict(enumerate(prefixes)), range(len(prefixes)), n_splits)


def test_an_engine_stays_with_a_group():
    queue = prefix_queue([key(0), key(1), key(0), key(1)])
    assert queue.n_waiting == 8
    assert take(queue, 1, engine=0) == [(0, 0)]
    assert take(queue, 1, engine=1) == [(1, 0)]
    assert take(queue, 5, engine=0) == [(2, 0)]
    assert take(queue, 5, engine=0, ahead=True) == []  # it is asked again when it is free


def test_items_say_which_prefix_they_have():
    (item,) = prefix_queue([key(0), key(0)]).take(1, 0, [0], ahead=False)
    assert item == (0, {"a": 0}, 0, None, key(0))


def test_the_groups_of_a_dead_engine_go_to_others():
    queue = prefix_queue([key(0)] * 4, n_splits=1)
    assert take(queue, 1, engine=0) == [(0, 0)]
    assert take(queue, 9, engine=1, engines=[1]) == [(1, 0), (2, 0), (3, 0)]


def test_an_idle_engine_takes_over_what_saves_time():
    queue = prefix_queue([key(0)] * 12, n_splits=1)
    assert take(queue, 1, engine=0) == [(0, 0)]
    assert take(queue, 1, engine=1) == []  # nothing is known of this prefix
    queue.learn(0, 0, outcome(3.0), 0)
    take(queue, 1, engine=0)
    queue.learn(1, 0, outcome(1.0), 0)  # so the prefix takes 2 s
    assert take(queue, 99, engine=1) == [(i, 0) for i in (8, 9, 10, 11)]  # (10 - 2 / 1) / 2
    assert take(queue, 99, engine=0) == [(i, 0) for i in range(2, 8)]


def test_what_a_dead_engine_had_finished_keeps_nobody_from_that():
    queue = prefix_queue([*[key(0)] * 11, key(1)], n_splits=1)
    assert take(queue, 1, engine=0) == [(0, 0)]
    assert take(queue, 1, engine=1) == [(11, 0)]
    queue.learn(11, 0, outcome(3.0), 1)
    queue.learn(0, 0, outcome(3.0), 0)
    take(queue, 1, engine=0)
    queue.learn(1, 0, outcome(1.0), 0)
    assert take(queue, 99, engine=2, engines=[0, 2]) == [(i, 0) for i in (8, 9, 10)]


def test_nothing_is_learnt_of_what_killed_its_engines():
    queue = prefix_queue([key(0)] * 12, n_splits=1)
    for seconds in (3.0, 1.0, math.nan):
        ((candidate, split),) = take(queue, 1, engine=0)
        queue.learn(candidate, split, outcome(seconds), 0)
    assert take(queue, 99, engine=1) == [(i, 0) for i in (9, 10, 11)]  # (9 - 2 / 1) / 2


def test_an_idle_engine_leaves_alone_what_the_other_finishes_sooner():
    queue = prefix_queue([key(0)] * 12, n_splits=1)
    take(queue, 1, engine=0)
    queue.learn(0, 0, outcome(13.0), 0)
    take(queue, 1, engine=0)
    queue.learn(1, 0, outcome(1.0), 0)
    assert take(queue, 99, engine=1) == []


def test_unknown_kinds_are_tried_first_and_then_the_longest_groups():
    queue = prefix_queue([key(0), key(0), key(1), key(1)], n_splits=3)
    assert take(queue, 2, engine=0) == [(0, 0), (1, 0)]
    assert take(queue, 2, engine=1) == [(2, 0), (3, 0)]
    for candidate, seconds, engine in ((0, 1, 0), (1, 1, 0), (2, 5, 1), (3, 1, 1)):
        queue.learn(candidate, 0, outcome(seconds), engine)
    assert take(queue, 2, engine=0) == [(2, 1), (3, 1)]
    assert take(queue, 2, engine=1) == [(2, 2), (3, 2)]
    assert take(queue, 2, engine=1) == [(0, 1), (1, 1)]


@pytest.mark.parametrize("n_engines", [1, 2, 3, 5])
def test_everything_is_done_once_and_prefixes_seldom_twice(n_engines):
    fitted = Counter()
    at = {}

    def seconds(candidate, split, engine):
        prefix = candidate % 2, split
        if at.get(engine) == prefix:
            return 0.1
        at[engine] = prefix
        fitted[prefix] += 1
        return 2.1

    queue = prefix_queue([key(i % 2) for i in range(12)], n_splits=5)
    done, free_at = run(queue, seconds, n_engines)
    assert Counter(each[:2] for each in done) == Counter(itertools.product(range(12), range(5)))
    assert sum(fitted.values()) <= 10 + n_engines
    assert max(free_at) <= (10 * 2 + 60 * 0.1) / n_engines + 2.1 + 1.2


def test_a_budget_limits_the_groups():
    queue = PrefixQueue(CANDIDATES, dict.fromkeys(range(4), key(0)), [3, 1, 0, 2], 2, n_most=5)
    done, _ = run(queue, lambda candidate, split, engine: 1.0)
    assert sorted(each[:2] for each in done) == [(0, 0), (1, 0), (1, 1), (3, 0), (3, 1)]


def test_groups_may_grow_and_shrink():
    queue = prefix_queue([key(0), key(0), key(1), key(1)], n_splits=1)
    take(queue, 1, engine=0)
    assert queue.drop(1) == 1
    assert queue.drop(3) == 1
    queue.know({4: key(1), 5: key(0)})
    assert queue.add([4, 5]) == 2
    assert queue.n_waiting == 3
    left = [item for _ in range(4) for item in take(queue, 1, engine=0)]
    assert sorted(left) == [(2, 0), (4, 0), (5, 0)]


def test_candidates_without_a_prefix_are_groups_of_their_own():
    queue = prefix_queue([(), key(0), (), key(0)], n_splits=1)
    done, _ = run(queue, lambda candidate, split, engine: 1.0)
    assert sorted(each[0] for each in done) == [0, 1, 2, 3]


def test_many_candidates_take_little_time():
    n = 1500
    prefixes = {i: key(i // 8) if i % 8 < 2 else () for i in range(n)}
    queue = PrefixQueue(range(n), prefixes, range(n), 5)
    start_s = time.monotonic()
    done, _ = run(queue, lambda candidate, split, engine: 0.1 + candidate / n)
    assert time.monotonic() - start_s < 10  # of minutes, where each step looks at all groups
    assert len({each[:2] for each in done}) == len(done) == 5 * n


# -- who shares what -------------------------------------------------------------------------------


def prefixes_of(*candidates):
    from sklearn.decomposition import PCA
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import StandardScaler

    steps = [("s", StandardScaler()), ("pca", PCA()), ("clf", LogisticRegression())]
    found = Prefixes(Pipeline(steps)).of(candidates)
    return [[(depth, number) for depth, (_, number) in prefix] for prefix in found]


def test_candidates_that_agree_on_the_first_steps_share_them():
    grid = [{"pca__n_components": k, "clf__C": c} for k in (1, 2) for c in (1, 10)]
    assert prefixes_of(*grid) == [
        [(1, 0), (2, 1)],
        [(1, 0), (2, 1)],
        [(1, 0), (2, 2)],
        [(1, 0), (2, 2)],
    ]


def test_where_nobody_parts_the_deepest_prefix_serves_all():
    assert prefixes_of({"clf__C": 1}, {"clf__C": 2}) == [[(2, 0)], [(2, 0)]]


def test_a_step_that_is_replaced_counts_as_a_setting():
    from sklearn.decomposition import PCA

    one, other = PCA(1), PCA(1)
    candidates = [{"pca": one, "clf__C": c} for c in (1, 2)] + [{"pca": other}]
    shared = prefixes_of(*candidates)
    assert shared[0] == shared[1] == [(1, 0), (2, 1)]
    assert shared[2] == [(1, 0)]


def test_nothing_is_shared_if_nobody_agrees_or_the_pipeline_itself_changes():
    assert prefixes_of({"s__with_mean": True}, {"s__with_mean": False}) == [[], []]
    assert prefixes_of({"clf__C": 1, "memory": None}, {"clf__C": 2, "memory": None}) == [[], []]
    assert prefixes_of({"pca__n_components": 1}, {"pca__n_components": True}) == [[(1, 0)]] * 2
