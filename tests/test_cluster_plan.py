"""What a plan foretells is what the scheduler does, and its choice is the right one."""

from __future__ import annotations

import argparse
import itertools
import math
import subprocess
import sys
import time

import numpy as np
import pytest

import mscourse
from mscourse.cli import main
from mscourse.cluster import simulation as module
from mscourse.cluster.plan import Plan, PlanRow, as_time, as_usd, measured_in, plan
from mscourse.cluster.plancli import add_plan_command
from mscourse.cluster.planprices import InstancePrice, ask_ec2, cost_usd
from mscourse.cluster.prices import OnDemandPrice
from mscourse.cluster.simulation import Simulation, simulate
from mscourse.cluster.virtual import NO_OVERHEADS, NodeLife, Overheads, SimulatedNode
from mscourse.errors import CloudError, JournalError, ParameterError
from mscourse.evaluation import Outcome
from mscourse.journalfile import evaluation_line, sealed_line, work_line
from mscourse.pools import pool_for
from mscourse.scheduler import Scheduler
from mscourse.source import Queue

MIXED = np.random.default_rng(0).lognormal(0.0, 1.0, 300)


# -- the simulation --------------------------------------------------------------------------------


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


# -- the plan --------------------------------------------------------------------------------------

PRICES = {
    "small": InstancePrice(2, 0.10, 0.03, 0.5),
    "large": InstancePrice(8, 0.40),
}


def test_a_plan_has_a_row_for_each_cluster_that_can_be():
    made = plan(MIXED, 1000, PRICES, sizes=(4, 1, 2, 2), n_rounds=1)
    assert [(row.instance_type, row.is_spot, row.n_nodes) for row in made.rows] == [
        *[("small", False, n) for n in (1, 2, 4)],
        *[("small", True, n) for n in (2, 4)],  # the master alone is no spot cluster
        *[("large", False, n) for n in (1, 2, 4)],
    ]
    assert [row.n_engines for row in made.rows] == [2, 4, 8, 4, 8, 8, 16, 32]
    assert made == plan(MIXED, 1000, PRICES, sizes=(1, 2, 4), n_rounds=1)
    assert made != plan(MIXED, 1000, PRICES, sizes=(1, 2, 4), n_rounds=1, seed=1)
    fewer = plan(MIXED, 1000, PRICES, sizes=[2], engines_per_node=1, n_rounds=1)
    assert {row.n_engines for row in fewer.rows} == {2}


def test_time_and_cost_are_those_of_boot_and_work():
    made = plan([10.0], 720, {"c5": InstancePrice(4, 0.17)}, sizes=(1, 3), overheads=NO_OVERHEADS)
    alone, three = made.rows
    assert alone.finish_s == pytest.approx(180 + 1800)
    assert three.finish_s == pytest.approx(180 + 600)
    assert alone.cost_usd == pytest.approx(0.17 * 1980 / 3600)
    assert three.cost_usd == pytest.approx(3 * 0.17 * 780 / 3600)
    assert (three.latest_s, three.most_usd) == (three.finish_s, pytest.approx(three.cost_usd))
    twice = {"c5": InstancePrice(4, 0.17, speed=2.0)}
    (fast,) = plan([10.0], 720, twice, sizes=[1], overheads=NO_OVERHEADS, boot_s=0.0).rows
    assert fast.finish_s == pytest.approx(900)


def test_spot_nodes_are_cheaper_and_the_master_is_on_demand():
    price = InstancePrice(4, 0.20, 0.05)
    on_demand, spot = plan([10.0], 400, {"c5": price}, sizes=[5]).rows
    assert spot.finish_s == on_demand.finish_s
    assert spot.cost_usd / on_demand.cost_usd == pytest.approx((0.20 + 4 * 0.05) / (5 * 0.20))
    often = InstancePrice(4, 0.20, 0.05, interruptions_per_hour=10)
    calm, interrupted = plan([10.0], 4000, {"c5": often}, sizes=[5]).rows
    assert interrupted.finish_s > calm.finish_s
    assert interrupted.n_interruptions > 0
    assert interrupted.n_rerun > 0
    assert interrupted.latest_s > interrupted.finish_s
    assert interrupted.most_usd > interrupted.cost_usd
    assert calm.n_interruptions == 0


def test_the_master_is_never_interrupted(monkeypatch):
    asked = []

    def note(durations_s, nodes, **options):
        asked.append([node.interruptions_per_hour for node in nodes])
        return simulate(durations_s, nodes, **options)

    monkeypatch.setattr("mscourse.cluster.plan.simulate", note)
    plan([1.0], 10, {"c5": InstancePrice(1, 1.0, 0.5, 0.25)}, sizes=[3], n_rounds=1)
    assert asked == [[0.0, 0.0, 0.0], [0.0, 0.25, 0.25]]


def test_machines_are_billed_by_the_second_and_for_a_minute_at_least():
    lives = (NodeLife(0, 0.0, 100.2), NodeLife(1, 0.0, 90.0), NodeLife(1, 90.0, 100.2))
    done = Simulation(100.2, 1.0, 0.0, 1, 1, 0, 0, 1, lives)
    price = InstancePrice(1, 36.0, 3.6)
    assert cost_usd(done, price, is_spot=False) == pytest.approx(0.01 * (101 + 90 + 60))
    assert cost_usd(done, price, is_spot=True) == pytest.approx(1.01 + 0.001 * (90 + 60))


def row(name, n_nodes, latest_s, most_usd, **changes):
    values = {
        "instance_type": name,
        "n_nodes": n_nodes,
        "n_engines": 4 * n_nodes,
        "is_spot": False,
        "finish_s": 0.9 * latest_s,
        "cost_usd": 0.9 * most_usd,
        "latest_s": latest_s,
        "most_usd": most_usd,
        "busy_fraction": 0.9,
        "client_fraction": 0.1,
        "n_interruptions": 0.0,
        "n_rerun": 0.0,
        "n_given_up": 0,
    }
    return PlanRow(**{**values, **changes})


SLOW, MIDDLE, QUICK = row("a", 1, 4000, 1.0), row("a", 4, 1200, 1.5), row("b", 8, 700, 4.0)
MADE = Plan((MIDDLE, SLOW, QUICK), 1000, 2.0, 0.01)


@pytest.mark.parametrize(
    ("deadline_s", "budget_usd", "chosen"),
    [
        (None, None, SLOW),
        (4000, None, SLOW),
        (3999, None, MIDDLE),
        (1199, None, QUICK),
        (None, 4.0, QUICK),
        (None, 3.9, MIDDLE),
        (None, 1.4, SLOW),
        (4000, 9.0, SLOW),
        (1200, 1.5, MIDDLE),
    ],
)
def test_the_cheapest_in_time_or_the_quickest_within_the_budget(deadline_s, budget_usd, chosen):
    assert MADE.choose(deadline_s=deadline_s, budget_usd=budget_usd) is chosen


@pytest.mark.parametrize(
    ("limits", "says"),
    [
        ({"deadline_s": 600}, ["within 10.0 min", "The quickest is 8 nodes b", "4.00 USD"]),
        ({"budget_usd": 0.5}, ["at most 0.50 USD", "The cheapest is 1 node a", "1.00 USD"]),
        (
            {"deadline_s": 900, "budget_usd": 2.0},
            [
                "within 15.0 min and costs at most 2.00 USD",
                "The quickest within the budget is 4 nodes a on demand: 20.0 min, 1.50 USD",
                "The cheapest in time is 8 nodes b on demand: 11.7 min, 4.00 USD",
            ],
        ),
        (
            {"deadline_s": 1, "budget_usd": 0.1},
            ["The quickest is 8 nodes b", "The cheapest is 1 node a"],
        ),
        ({"deadline_s": 0}, ["deadline_s must be above 0; it is 0"]),
        ({"budget_usd": -1}, ["budget_usd must be above 0; it is -1"]),
        ({"budget_usd": math.nan}, ["budget_usd must be above 0"]),
    ],
)
def test_if_none_will_do_the_nearest_is_named(limits, says):
    with pytest.raises(ParameterError) as caught:
        MADE.choose(**limits)
    for words in says:
        assert words in str(caught.value)


def test_a_plan_is_shown_as_a_table():
    head, names, *rows = repr(MADE).splitlines()
    assert head == "1,000 evaluations of 2 s"
    assert names.split()[:3] == ["type", "nodes", "engines"]
    assert rows[0].split() == [
        *("a", "4", "16", "on", "demand", "18.0", "min", "1.35", "20.0", "min", "1.50"),
        *("90%", "10%"),
    ]
    assert len(rows) == 3
    assert len({len(line) for line in (names, *rows)}) == 1
    assert str(MADE) == repr(MADE)


def test_remarks_tell_what_is_uncertain_or_bad():
    assert not list(MADE.remarks())
    limited = row("a", 99, 600, 9.0, client_fraction=0.95)
    given_up = row("a", 2, 900, 9.0, n_given_up=7, is_spot=True)
    said = " ".join(Plan((SLOW, limited, given_up), 1000, 2.0, 0.5).remarks())
    assert "known to about 25%" in said
    assert "From 396 engines on, the client is busy all the time" in said
    assert "up to 7 evaluations would be given up" in said
    assert "2 nodes a spot" in said
    (remark,) = plan([1.0], 5000, PRICES, sizes=[1], n_rounds=1).remarks()
    assert "Only one duration" in remark
    (remark,) = plan([1.0, 1.0], 170, PRICES, sizes=[1, 8], n_rounds=1).remarks()
    assert "One engine like those that were timed would be done in 2.8 min" in remark


def test_clusters_that_cost_next_to_nothing_look_different():
    shown = repr(Plan((row("a", 1, 200, 0.008), row("a", 2, 200, 0.012)), 10, 2.0, 0.0))
    assert [line.split()[7] for line in shown.splitlines()[2:]] == ["0.007", "0.011"]
    assert [line.split()[10] for line in shown.splitlines()[2:]] == ["0.008", "0.012"]
    assert [as_usd(usd) for usd in (0.0, 0.0084, 0.1, 12.3)] == [
        *("0.00 USD", "0.008 USD", "0.10 USD", "12.30 USD")
    ]


@pytest.mark.parametrize(
    ("seconds", "written"),
    [
        (4.25, "4.25 s"),
        (61, "61 s"),
        (600, "10.0 min"),
        (6000, "1 h 40 min"),
        (86399, "24 h 00 min"),
    ],
)
def test_times_are_written_as_people_do(seconds, written):
    assert as_time(seconds) == written


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"prices": {}}, "price of at least one type"),
        ({"sizes": []}, "at least one size"),
        ({"sizes": [0]}, "Each of sizes must be a number from 1 on; it is 0"),
        ({"n_rounds": 0}, "n_rounds"),
        ({"boot_s": -1.0}, "boot_s"),
        ({"n_evaluations": 0}, "n_evaluations"),
        ({"engines_per_node": 3}, "from 1 to 2, the cores of small; it is 3"),
        ({"durations_s": []}, "durations_s"),
    ],
)
def test_a_plan_that_cannot_be_is_refused(changes, says):
    arguments = {"durations_s": [1.0], "n_evaluations": 5, "prices": PRICES, **changes}
    with pytest.raises(ParameterError, match=says):
        plan(**arguments)


@pytest.mark.parametrize(
    "values",
    [(0, 1.0), (1, -1.0), (1, 1.0, -1.0), (1, 1.0, 1.0, math.inf), (1, 1.0, 1.0, 0.0, 0.0)],
)
def test_prices_that_cannot_be_are_refused(values):
    with pytest.raises(ParameterError):
        InstancePrice(*values)


# -- journals --------------------------------------------------------------------------------------


def write_journal(path, elapsed_s, n_total):
    """Write a journal of one split, in which candidates took so long."""
    session = {"host": "h", "pid": 1, "started_at_s": 0.0, "n_total": n_total, "n_splits": 1}
    lines = [work_line({}), sealed_line({"session": session})]
    for candidate, seconds in elapsed_s:
        failed = math.isnan(seconds)
        outcome = Outcome(
            n_train=10,
            metrics=() if failed else ("score",),
            test_scores=() if failed else (0.5,),
            train_scores=(),
            fit_time_s=seconds,
            score_time_s=0.0,
            error="died" if failed else None,
            error_traceback=None,
            started_at_s=0.0,
            elapsed_s=seconds,
            peak_anonymous_bytes=None,
            host="h",
            pid=1,
        )
        lines.append(evaluation_line(f'{{"C": {candidate}}}', 0, outcome, 0))
    path.write_bytes(b"".join(lines))
    return path


def test_a_journal_tells_durations_and_what_is_missing(tmp_path):
    path = write_journal(tmp_path / "j", [(1, 2.0), (2, math.nan), (3, 4.0), (3, 5.0)], 10)
    assert measured_in(path) == ([2.0, 5.0], 7, False)
    path = write_journal(tmp_path / "all", [(1, 2.0), (2, 3.0)], 2)
    assert measured_in(path) == ([2.0, 3.0], 2, True)


def test_a_journal_of_a_real_search_will_do(tmp_path, client):
    from sklearn.naive_bayes import GaussianNB

    X, y = np.random.default_rng(0).normal(size=(40, 3)), np.arange(40) % 2
    with mscourse.persist_cv_splits(X, y, cv=2, folder=None, name="small") as splits:
        grid = {"var_smoothing": [1e-9, 1e-8, 1e-7]}
        path = tmp_path / "search.journal"
        mscourse.grid_search(GaussianNB(), grid, splits, engines=client, journal=path).wait(
            progress_bar=False
        )
    durations_s, n_to_do, is_complete = measured_in(path)
    assert len(durations_s) == n_to_do == 6
    assert is_complete
    assert all(0 < seconds < 10 for seconds in durations_s)


def test_a_journal_without_results_is_refused(tmp_path):
    with pytest.raises(ParameterError, match="no evaluation that came back"):
        measured_in(write_journal(tmp_path / "none", [], 5))
    with pytest.raises(JournalError, match="missing"):
        measured_in(tmp_path / "missing")


# -- the command and its picture -------------------------------------------------------------------

PRICE = ["--price", "c5.xlarge:4:0.17:0.07:0.02"]


def command(*arguments):
    parser = argparse.ArgumentParser()
    add_plan_command(parser.add_subparsers())
    options = parser.parse_args(["plan", *arguments])
    return options.run(options)


def test_the_command_prints_a_plan(capsys):
    arguments = ["--seconds", "20", "30", "--evaluations", "500", "--sizes", "1", "4", *PRICE]
    assert command(*arguments, "--price", "m5.large:2:0.1") == 0
    shown = capsys.readouterr().out
    assert shown.startswith("500 evaluations of 25 s\n")
    assert [line.split()[:2] for line in shown.splitlines()[2:7]] == [
        ["c5.xlarge", "1"],
        ["c5.xlarge", "4"],
        ["c5.xlarge", "4"],
        ["m5.large", "1"],
        ["m5.large", "4"],
    ]
    assert "known to about 20%" in shown
    assert command(*arguments, "--seed", "1") == 0
    assert capsys.readouterr().out != shown


def test_the_command_chooses(capsys):
    arguments = ["--seconds", "20", "20", "--evaluations", "500", "--sizes", "1", "4", *PRICE]
    assert command(*arguments, "--deadline", "25") == 0
    assert "Chosen: 4 nodes c5.xlarge spot: " in capsys.readouterr().out
    assert command(*arguments, "--budget", "0.2", "--boot", "0", "--engines-per-node", "2") == 0
    assert "Chosen: 1 node c5.xlarge on demand: " not in capsys.readouterr().out
    assert command(*arguments, "--deadline", "1") == 1
    shown = capsys.readouterr()
    assert "500 evaluations" in shown.out
    assert shown.err.startswith("mscourse: None of these 3 clusters is done within 60 s. ")


def test_the_command_reads_a_journal(tmp_path, capsys):
    path = write_journal(tmp_path / "j", [(x, 2.0) for x in range(5)], 30)
    assert command("--journal", str(path), *PRICE) == 0
    shown = capsys.readouterr()
    assert shown.out.startswith("25 evaluations of 2 s\n")
    assert "are done" not in shown.err
    assert command("--journal", str(path), "--evaluations", "7", *PRICE) == 0
    assert capsys.readouterr().out.startswith("7 evaluations of 2 s\n")
    path = write_journal(tmp_path / "all", [(x, 2.0) for x in range(5)], 5)
    assert command("--journal", str(path), *PRICE) == 0
    assert capsys.readouterr().err.startswith("All 5 evaluations of the journal are done")


@pytest.fixture
def ec2(tmp_path, monkeypatch):
    from rig.ec2 import FakeEc2

    path = tmp_path / "cluster.ini"
    path.write_text("[global]\n")
    monkeypatch.setenv("MSCOURSE_CLUSTER_CONFIG", str(path))
    with FakeEc2() as ec2:
        yield ec2


TWENTY = ["cluster", "plan", "--seconds", "20", "20", "--evaluations", "500", "--sizes", "1", "4"]


def test_the_command_asks_ec2_for_prices(ec2, capsys, monkeypatch):
    asked = {}

    def note(durations_s, n_evaluations, prices, **options):
        asked.update(prices)
        return plan(durations_s, n_evaluations, prices, **options, n_rounds=1)

    monkeypatch.setattr("mscourse.cluster.plan.plan", note)
    ec2.on_demand_usd = {"c5.xlarge": 0.171}
    # In zone c it is cheapest, today and all week.
    ec2.spot_usd = {("c5.xlarge", "us-east-1c"): 0.02}
    assert main([*TWENTY, "--types", "c5.xlarge", "m5.xlarge", "--price", "mine:2:0.1"]) == 0
    assert list(asked) == ["mine", "c5.xlarge", "m5.xlarge"]
    c5 = asked["c5.xlarge"]
    assert (c5.cores, c5.on_demand_usd, c5.interruptions_per_hour) == (4, 0.171, 0.05)
    assert 0.01 < c5.spot_usd < 0.04
    assert asked["m5.xlarge"].on_demand_usd == 0.192
    assert asked["mine"] == InstancePrice(2, 0.1)
    shown = capsys.readouterr()
    assert "c5.xlarge: 4 cores, 0.171 USD per hour on demand in us-east-1 (AWS's price" in shown.err
    assert "(average of 7 days in us-east-1c)" in shown.err
    assert shown.out.count("c5.xlarge") == 3
    assert main([*TWENTY, "--types", "c5.xlarge", "--interruptions", "0.5"]) == 0
    assert asked["c5.xlarge"].interruptions_per_hour == 0.5


def test_what_ec2_does_not_tell_is_said(ec2, capsys):
    assert main([*TWENTY, "--types", "x9.odd"]) == 1
    assert "x9.odd" in capsys.readouterr().err
    ec2.fail("DescribeSpotPriceHistory", "UnauthorizedOperation")
    assert main([*TWENTY, "--types", "c5.xlarge"]) == 1
    shown = capsys.readouterr()
    assert "mscourse: " in shown.err
    assert "DescribeSpotPriceHistory" in shown.err
    assert not shown.out


class NoPriceList:
    """A provider in a region whose prices nobody has listed, without spot instances."""

    region = "ap-south-1"

    def cores(self, types):
        return dict.fromkeys(types, 4)

    def on_demand_prices(self, types):
        usd = {"known": 0.5, "unknown": None}
        return {name: OnDemandPrice(name, self.region, usd[name], "a list") for name in types}

    def spot_history(self, types, days):
        return []


def test_prices_that_nobody_knows_are_asked_for():
    with pytest.raises(CloudError, match=r"unknown costs on demand in ap-south-1.*unknown:4:USD$"):
        ask_ec2(NoPriceList(), ["known", "unknown"])
    price = ask_ec2(NoPriceList(), ["known"])["known"]
    assert (price.on_demand_usd, price.spot_usd) == (0.5, None)
    assert "not to be had as a spot instance" in price.source


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--seconds", "1", *PRICE], "--seconds needs --evaluations"),
        (["--evaluations", "1", *PRICE], "one of the arguments --journal --seconds"),
        (["--seconds", "1", "--evaluations", "1"], "one of --price and --types is needed"),
        (["--seconds", "1", "--evaluations", "1", *PRICE, *PRICE], "each type once"),
        (
            ["--seconds", "1", "--evaluations", "1", *PRICE, "--types", "c5.xlarge"],
            "each type once",
        ),
        (
            ["--seconds", "1", "--evaluations", "1", *PRICE, "--interruptions", "1"],
            "--interruptions is for --types",
        ),
        (["--seconds", "1", "--price", "c5:4"], "'c5:4' is not of the form TYPE:CORES:USD"),
        (["--seconds", "1", "--price", "c5:x:1"], "is not of the form"),
        (["--seconds", "1", "--price", ":4:1"], "is not of the form"),
        (["--seconds", "1", "--price", "c5:4:-1"], "on_demand_usd must be a number from 0 on"),
        (["--seconds", "1", "--price", "c5:4:1:1:1:1"], "three to five parts"),
    ],
)
def test_a_wrong_command_is_told(arguments, says, capsys):
    with pytest.raises(SystemExit) as caught:
        command(*arguments)
    assert caught.value.code == 2
    assert says in capsys.readouterr().err


def test_the_command_draws(tmp_path, capsys):
    arguments = ["--seconds", "20", "30", "--evaluations", "50", *PRICE]
    path = tmp_path / "plan.png"
    assert command(*arguments, "--picture", str(path), "--deadline", "90", "--budget", "9") == 0
    assert path.read_bytes().startswith(b"\x89PNG")
    assert f"Drew {path}." in capsys.readouterr().out
    for wrong in (tmp_path / "no" / "plan.png", tmp_path / "plan.docx"):
        with pytest.raises(ParameterError, match="cannot be written"):
            command(*arguments, "--picture", str(wrong))


def test_without_a_picture_nothing_heavy_is_imported():
    program = (
        "import sys; from mscourse.cluster import plan, plancli, planprices; "
        "print([m for m in ('matplotlib', 'boto3') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


@pytest.fixture
def ax():
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure()
    FigureCanvasAgg(figure)
    return figure.subplots()


def test_the_picture_has_a_line_for_each_kind_of_machine(ax):
    from mscourse.plots.plans import time_against_cost

    made = plan(MIXED, 3000, PRICES, sizes=(1, 2, 4), n_rounds=1)
    assert time_against_cost(made, ax, deadline_s=3600, budget_usd=0.3) is ax
    names = [text.get_text() for text in ax.get_legend().get_texts()]
    assert names == ["small, on demand", "small, spot", "large, on demand", "deadline and budget"]
    assert [text.get_text() for text in ax.texts] == ["1", "2", "4", "2", "4", "1", "2", "4"]
    small = next(line for line in ax.lines if len(line.get_xdata()) == 3)
    assert list(small.get_xdata()) == [each.finish_s / 60 for each in made.rows[:3]]
    assert list(small.get_ydata()) == [each.cost_usd for each in made.rows[:3]]
    assert ax.get_xlabel() == "time until the last result [minutes]"
    assert any(list(line.get_xdata()) == [60, 60] for line in ax.lines)
    assert any(list(line.get_ydata()) == [0.3, 0.3] for line in ax.lines)
    ax.figure.canvas.draw()


def test_a_limit_that_is_far_away_is_only_told(ax):
    from mscourse.plots.plans import time_against_cost

    made = Plan((row("a", 1, 600, 1.0), row("a", 2, 300, 1.1)), 1, 1.0, 0.0)
    time_against_cost(made, ax, deadline_s=1860, budget_usd=2)
    assert ax.get_xlabel() == "time until the last result [minutes; deadline: 31]"
    assert ax.get_ylabel() == "cost [USD]"
    assert ax.get_xlim()[1] < 12
    assert [text.get_text() for text in ax.get_legend().get_texts()][1:] == ["budget"]


@pytest.mark.parametrize(("seconds", "unit"), [(200, "s"), (9000, "minutes"), (20000, "hours")])
def test_the_axis_of_time_has_a_fitting_unit(ax, seconds, unit):
    from mscourse.plots.plans import time_against_cost

    time_against_cost(Plan((row("a", 1, seconds, 1.0),), 1, 1.0, 0.0), ax)
    assert ax.get_xlabel().endswith(f"[{unit}]")


def test_a_plan_without_rows_is_not_drawn(ax):
    from mscourse.plots.plans import time_against_cost

    with pytest.raises(ParameterError, match="nothing to draw"):
        time_against_cost(Plan((), 1, 1.0, 0.0), ax)
