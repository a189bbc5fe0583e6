"""What a plan foretells, what is chosen of it, and how it is shown."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mscourse.cluster.plan import Plan, PlanRow, as_time, as_usd, plan
from mscourse.cluster.planprices import InstancePrice, cost_usd
from mscourse.cluster.simulation import Simulation, simulate
from mscourse.cluster.virtual import NO_OVERHEADS, NodeLife
from mscourse.errors import ParameterError

MIXED = np.random.default_rng(0).lognormal(0.0, 1.0, 300)

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


# -- its picture ----------------------------------------------------------------------------------


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
    assert ax.get_xlabel() == "time until the last result (minutes)"
    assert any(list(line.get_xdata()) == [60, 60] for line in ax.lines)
    assert any(list(line.get_ydata()) == [0.3, 0.3] for line in ax.lines)
    ax.figure.canvas.draw()


def test_a_limit_that_is_far_away_is_only_told(ax):
    from mscourse.plots.plans import time_against_cost

    made = Plan((row("a", 1, 600, 1.0), row("a", 2, 300, 1.1)), 1, 1.0, 0.0)
    time_against_cost(made, ax, deadline_s=1860, budget_usd=2)
    assert ax.get_xlabel() == "time until the last result (minutes; deadline: 31)"
    assert ax.get_ylabel() == "cost (USD)"
    assert ax.get_xlim()[1] < 12
    assert [text.get_text() for text in ax.get_legend().get_texts()][1:] == ["budget"]


@pytest.mark.parametrize(("seconds", "unit"), [(200, "s"), (9000, "minutes"), (20000, "hours")])
def test_the_axis_of_time_has_a_fitting_unit(ax, seconds, unit):
    from mscourse.plots.plans import time_against_cost

    time_against_cost(Plan((row("a", 1, seconds, 1.0),), 1, 1.0, 0.0), ax)
    assert ax.get_xlabel().endswith(f"({unit})")


def test_a_plan_without_rows_is_not_drawn(ax):
    from mscourse.plots.plans import time_against_cost

    with pytest.raises(ParameterError, match="nothing to draw"):
        time_against_cost(Plan((), 1, 1.0, 0.0), ax)
