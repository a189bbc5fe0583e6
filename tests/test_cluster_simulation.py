"""A simulated search does what the scheduler does, in the time that it would take."""

from __future__ import annotations

import itertools
import math
import time

import numpy as np
import pytest

from mscourse.cluster import simulation as module
from mscourse.cluster.simulation import simulate
from mscourse.cluster.virtual import NO_OVERHEADS, NodeLife, Overheads, SimulatedNode
from mscourse.errors import ParameterError
from mscourse.pools import pool_for
from mscourse.scheduler import Scheduler
from mscourse.source import Queue

MIXED = np.random.default_rng(0).lognormal(0.0, 1.0, 300)


def test_one_engine_takes_the_sum_of_all_durations():
    found = simulate([0.5, 3.0, 0.001, 2.0], [SimulatedNode(1)], overheads=NO_OVERHEADS)
    assert found.finish_s == pytest.approx(5.501)
    assert found.busy_fraction == pytest.approx(1.0)
    assert (found.n_evaluations, found.n_given_up, found.n_rerun) == (4, 0, 0)
    assert found.lives == (NodeLife(0, 0.0, found.finish_s),)
    assert found.node_hours == pytest.approx(5.501 / 3600)


@pytest.mark.parametrize("nodes", [[SimulatedNode(8)], [SimulatedNode(2)] * 4])
def test_many_engines_share_the_work(nodes):
    found = simulate(MIXED, nodes, overheads=NO_OVERHEADS)
    ideal_s = MIXED.sum() / 8
    # No schedule is better than that, and any that keeps engines busy ends within the longest one.
    assert ideal_s <= found.finish_s <= ideal_s + MIXED.max()
    assert found.busy_fraction == pytest.approx(ideal_s / found.finish_s)


def test_messages_are_as_large_as_the_scheduler_makes_them():
    assert simulate([1.0] * 50, [SimulatedNode(2)]).n_messages == 50
    # About 0.2 s each, but for the first two and the last few.
    assert 50 <= simulate([0.01] * 1000, [SimulatedNode(2)]).n_messages < 90
    assert simulate([0.0] * 10_000, [SimulatedNode(2)]).n_messages < 20


def test_the_seed_decides_everything():
    def run(seed):
        nodes = [SimulatedNode(2, boot_s=60, interruptions_per_hour=5)] * 4
        return simulate(MIXED, nodes, n_evaluations=5000, seed=seed)

    assert run(1) == run(1)
    assert run(1) != run(2)
    assert run(1).n_interruptions > 0


def test_engines_that_join_are_used_at_once():
    nodes = [SimulatedNode(1), SimulatedNode(1, launched_s=7.0, boot_s=3.0)]
    found = simulate([1.0] * 30, nodes, overheads=NO_OVERHEADS)
    assert found.finish_s == pytest.approx(20, abs=0.5)  # 10 alone, then 20 by two
    assert found.busy_fraction > 0.97
    assert [life.launched_s for life in found.lives] == [0.0, 7.0]


def test_nothing_is_done_until_a_node_has_booted():
    found = simulate([1.0] * 4, [SimulatedNode(4, boot_s=100.1)], overheads=NO_OVERHEADS)
    # The scheduler looks for engines four times a second.
    assert 101.1 <= found.finish_s <= 101.36
    assert found.node_hours == pytest.approx(found.finish_s / 3600)


def test_a_node_that_is_launched_too_late_costs_nothing():
    nodes = [SimulatedNode(1), SimulatedNode(1, launched_s=1000.0)]
    assert len(simulate([1.0], nodes).lives) == 1


def test_what_an_interrupted_node_had_is_run_again():
    nodes = [SimulatedNode(4), SimulatedNode(4, boot_s=60, interruptions_per_hour=20)]
    found = simulate([20.0], nodes, n_evaluations=500, overheads=NO_OVERHEADS, seed=3)
    assert found.n_interruptions >= 3
    assert found.n_evaluations == 500
    assert found.n_rerun == pytest.approx(4 * found.n_interruptions, abs=4)
    alone = simulate([20.0], nodes[:1], n_evaluations=500, overheads=NO_OVERHEADS)
    both = simulate([20.0], [nodes[0]] * 2, n_evaluations=500, overheads=NO_OVERHEADS)
    assert both.finish_s < found.finish_s < alone.finish_s
    assert found.busy_fraction < both.busy_fraction
    replaced = [life for life in found.lives if life.node == 1]
    assert len(replaced) == found.n_interruptions + 1
    for life, successor in itertools.pairwise(replaced):
        assert life.ended_s == successor.launched_s


def test_an_evaluation_that_outlives_no_engine_is_given_up():
    node = SimulatedNode(1, interruptions_per_hour=60)
    found = simulate([36000.0] * 2, [node])
    assert (found.n_evaluations, found.n_given_up) == (2, 2)
    assert found.n_interruptions == 6
    assert found.n_rerun == 6


def test_messages_take_the_time_of_engines_and_of_the_client():
    def finish_s(n_engines=1, **overheads):
        costs = Overheads(**{**vars(NO_OVERHEADS), **overheads})
        return simulate([1.0] * 100, [SimulatedNode(n_engines)], overheads=costs).finish_s

    # Nobody waits for the network, since a second batch waits on the engine.
    assert finish_s(latency_s=0.2) == pytest.approx(100.2)
    assert finish_s(engine_s_per_message=0.1) == pytest.approx(110)
    assert finish_s(engine_s_per_item=0.1) == pytest.approx(110)
    # A hundred engines wait for one client.
    assert finish_s(100, client_s_per_message=0.5) == pytest.approx(50, rel=0.05)
    assert finish_s(100, client_s_per_item=0.5) == pytest.approx(50, rel=0.05)
    assert finish_s(100, client_s_per_engine=0.005) >= 1.5  # to look once


def test_a_client_that_cannot_feed_its_engines_is_noticed():
    few = simulate([0.5], [SimulatedNode(4)] * 5, n_evaluations=3000)
    many = simulate([0.5], [SimulatedNode(4)] * 200, n_evaluations=3000)
    assert few.busy_fraction > 0.95
    assert few.client_fraction < 0.5
    assert many.busy_fraction < 0.3
    assert many.client_fraction > 0.9
    assert many.finish_s > 3000 * Overheads().client_s_per_message


@pytest.mark.parametrize(
    ("duration_s", "n_nodes", "rate", "error"),
    [(0.03, 2, 0.0, 0.01), (0.5, 20, 2.0, 0.01), (0.03, 60, 0.0, 0.15)],  # the last: client's limit
)
def test_what_is_skipped_would_not_have_changed_the_result(duration_s, n_nodes, rate, error):
    nodes = [SimulatedNode(4, boot_s=30, interruptions_per_hour=rate)] * n_nodes
    whole, skipped = (
        simulate(MIXED * duration_s, nodes, n_evaluations=100_000, skip=skip)
        for skip in (False, True)
    )
    assert skipped.finish_s == pytest.approx(whole.finish_s, rel=error)
    assert skipped.n_messages == pytest.approx(whole.n_messages, rel=0.1)
    assert skipped.busy_fraction == pytest.approx(whole.busy_fraction, rel=error)
    assert skipped.client_fraction == pytest.approx(whole.client_fraction, rel=0.05)
    assert skipped.n_evaluations == 100_000


def test_ten_million_evaluations_are_no_matter():
    nodes = [SimulatedNode(4)] * 20
    start_s = time.process_time()
    found = simulate([2.0], nodes, n_evaluations=10_000_000)
    assert time.process_time() - start_s < 60  # one by one: ten minutes
    assert found.n_evaluations == 10_000_000
    assert found.finish_s == pytest.approx(10_000_000 * 2.0 / 80, rel=0.01)
    small = [SimulatedNode(2)]
    assert simulate([0.0], small, n_evaluations=10**7).n_evaluations == 10**7
    timeless = simulate([0.0], small, n_evaluations=10**5, overheads=NO_OVERHEADS)
    assert (timeless.finish_s, timeless.n_evaluations) == (0.0, 10**5)


class _AllListed(module._SkippingMachine):
    """Shows the scheduler all engines, as real pools do, and each time as if they had changed."""

    def engines(self):
        super().engines()
        self.n_changes += 1
        return sorted(self._all)


@pytest.mark.parametrize("duration_s", [0.0, 0.01, 0.3])
def test_engines_that_are_not_listed_would_have_been_given_nothing(monkeypatch, duration_s):
    def run():
        nodes = [SimulatedNode(3, boot_s=5.0 * n, interruptions_per_hour=60) for n in range(6)]
        return simulate(MIXED * duration_s, nodes, n_evaluations=6000, seed=1)

    listed_with_room = run()
    monkeypatch.setattr(module, "_SkippingMachine", _AllListed)
    assert run() == listed_with_room


@pytest.mark.parametrize(
    ("durations_s", "nodes", "options", "says"),
    [
        ([], 1, {}, "at least one number"),
        ([1.0, -1.0], 1, {}, "not negative"),
        ([math.nan], 1, {}, "finite"),
        ([[1.0]], 1, {}, "at least one number"),
        ([1.0], 0, {}, "at least one node"),
        ([1.0], 1, {"n_evaluations": 0}, "n_evaluations must be a number from 1 on; it is 0"),
    ],
)
def test_what_cannot_be_simulated_is_refused(durations_s, nodes, options, says):
    with pytest.raises(ParameterError, match=says):
        simulate(durations_s, [SimulatedNode(1)] * nodes, **options)


@pytest.mark.parametrize(
    "arguments",
    [
        {"n_engines": 0},
        {"n_engines": 1, "boot_s": -1.0},
        {"n_engines": 1, "launched_s": math.inf},
        {"n_engines": 1, "interruptions_per_hour": 61},
    ],
)
def test_nodes_that_cannot_be_are_refused(arguments):
    with pytest.raises(ParameterError, match=list(arguments)[-1]):
        SimulatedNode(**arguments)


def test_overheads_are_not_negative():
    with pytest.raises(ParameterError, match="latency_s"):
        Overheads(latency_s=-1.0)


def test_it_foretells_a_real_search(client):
    """The requirement is 10 %, on a machine without other work: see the benchmark. Here, 25 %."""
    random = np.random.default_rng(0)
    naps_s = np.concatenate([random.lognormal(-3.0, 1.0, 40), random.uniform(0.2, 0.6, 6)])
    values = []

    def nap(number, seconds):  # in here, so that engines need not import this module
        start_s = time.perf_counter()
        time.sleep(seconds)
        return number, time.perf_counter() - start_s

    for items in ([(x, 0.0) for x in range(20)], list(enumerate(map(float, naps_s)))):
        values.clear()
        scheduler = Scheduler(
            nap,
            Queue(items),
            pool_for(client),
            lambda ended: values.extend(each.value for each in ended),
        )
        start_s = time.perf_counter()
        scheduler.start()
        assert scheduler.wait(60)
        real_s = time.perf_counter() - start_s
    measured_s = [seconds for _, seconds in sorted(values)]
    assert len(measured_s) == len(naps_s)
    assert simulate(measured_s, [SimulatedNode(2)]).finish_s == pytest.approx(real_s, rel=0.25)
