"""The command that plans: journals, prices that are given or asked for, and what it prints."""

from __future__ import annotations

import argparse
import math
import subprocess
import sys

import numpy as np
import pytest

import mscourse
from mscourse.cli import main
from mscourse.cluster.plan import measured_in, plan
from mscourse.cluster.plancli import add_plan_command
from mscourse.cluster.planprices import InstancePrice, ask_ec2
from mscourse.cluster.prices import OnDemandPrice
from mscourse.errors import CloudError, JournalError, ParameterError
from mscourse.evaluation import Outcome
from mscourse.journalfile import evaluation_line, sealed_line, work_line

# Where `ec2` comes from.
pytest_plugins = ["rig.rent"]


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


# -- the command -----------------------------------------------------------------------------------

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
def account(ec2, tmp_path, monkeypatch):
    """The pretend EC2, and a configuration that leaves all to it."""
    path = tmp_path / "cluster.ini"
    path.write_text("[global]\n")
    monkeypatch.setenv("MSCOURSE_CLUSTER_CONFIG", str(path))
    return ec2


TWENTY = ["cluster", "plan", "--seconds", "20", "20", "--evaluations", "500", "--sizes", "1", "4"]


def test_the_command_asks_ec2_for_prices(account, capsys, monkeypatch):
    asked = {}

    def note(durations_s, n_evaluations, prices, **options):
        asked.update(prices)
        return plan(durations_s, n_evaluations, prices, **options, n_rounds=1)

    monkeypatch.setattr("mscourse.cluster.plan.plan", note)
    account.on_demand_usd = {"c5.xlarge": 0.171}
    # In zone c it is cheapest, today and all week.
    account.spot_usd = {("c5.xlarge", "us-east-1c"): 0.02}
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


def test_what_ec2_does_not_tell_is_said(account, capsys):
    assert main([*TWENTY, "--types", "x9.odd"]) == 1
    assert "x9.odd" in capsys.readouterr().err
    account.fail("DescribeSpotPriceHistory", "UnauthorizedOperation")
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


@pytest.mark.parametrize(
    ("imported", "unwanted"),
    [
        ("from mscourse.cluster import plan, plancli, planprices", ("matplotlib", "boto3")),
        ("from mscourse.plots import plans, prices", ("sklearn", "scipy")),  # for the pictures
    ],
)
def test_nothing_heavy_is_imported_that_is_not_needed(imported, unwanted):
    program = f"import sys; {imported}; print([m for m in {unwanted} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
