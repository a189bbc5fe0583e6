"""Clusters of pretend EC2 instances, from the command line to the last result.

The instances are machines of a pretend network, with real sshd, agents and engines. What answers
for AWS is moto with what it lacks in front; AWS itself is never asked.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import cloudpickle
import numpy as np
import pytest
from helpers import require_system, wait_until
from rig.cloud import Cloud
from rig.ec2 import FakeEc2
from rig.server import HOME
from rig.sshd import why_no_ssh
from sklearn.svm import SVC

import mscourse

# Machines boot, engines are given up, and all share two cores: two minutes on an idle computer.
pytestmark = pytest.mark.timeout(600)

HURRY = "hurry"
N_EVALUATIONS = 200
GRID = {"C": list(np.logspace(-2, 3, 10)), "gamma": list(np.logspace(-4, -1, 4))}


class SlowSVC(SVC):
    """Learns for real, and takes as long as it is told to, until its node is told to hurry."""

    def __init__(self, seconds=0.0, C=1.0, gamma="scale"):
        super().__init__(C=C, gamma=gamma)
        self.seconds = seconds

    def fit(self, X, y):
        if not (Path.home() / HURRY).exists():
            time.sleep(self.seconds)
        return super().fit(X, y)


# The instances do not have this module.
cloudpickle.register_pickle_by_value(sys.modules[__name__])


class Account:
    """An account at the pretend EC2, a configuration, and the command line."""

    def __init__(self, ec2: FakeEc2, cloud: Cloud, folder: Path, key: Path) -> None:
        self.ec2 = ec2
        self.cloud = cloud
        self.config = folder / "cluster.ini"
        self.config.write_text(
            f"[key course]\nKEY_LOCATION = {key}\n"
            "[cluster small]\nKEYNAME = course\nREGION = us-east-1\nCLUSTER_SIZE = 3\n"
            f"CLUSTER_USER = root\nNODE_PYTHON = {sys.executable}\nENGINES_PER_NODE = 1\n"
            "NODE_INSTANCE_TYPE = c5.xlarge\nSTART_TIMEOUT_S = 30\n"
        )

    def run(self, *words: str, given: str = "", status: int = 0) -> str:
        """Run a command of ``mscourse cluster``; give what it printed."""
        command = [sys.executable, "-m", "mscourse", "cluster", "--config", str(self.config)]
        done = subprocess.run(
            [*command, *words], input=given, capture_output=True, text=True, timeout=240
        )
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout + done.stderr

    def connect(self, **options):
        return mscourse.cluster.connect("mycluster", config=self.config, **options)

    def wait_for_engines(self, cluster, n_engines: int) -> None:
        """Wait until they are there; if they do not come, tell what their nodes say."""
        try:
            cluster.client.wait_for_engines(n_engines, timeout=60)
        except TimeoutError as error:
            raise AssertionError(self.run("logs", "mycluster", "--lines", "200")) from error


@pytest.fixture
def account(network, login_key, tmp_path):
    require_system(why_no_ssh())
    key, public = login_key
    with FakeEc2() as ec2:
        ec2.add_key("course")
        yield Account(ec2, Cloud(ec2, network, public, tmp_path), tmp_path, key)


def test_a_search_on_spot_instances_loses_nothing(account, digits_splits):
    ec2, cloud = account.ec2, account.cloud
    here = mscourse.grid_search(SlowSVC(), GRID, digits_splits)
    assert here.wait(120)

    said = account.run("start", "-c", "small", "-s", "3", "-b", "0.2", "mycluster")
    assert "3 nodes of mycluster work" in said
    master = ec2.alive()["master"]
    assert master.lifecycle != "spot"
    assert ec2.alive()["node001"].lifecycle == "spot"

    with account.connect() as cluster:
        account.wait_for_engines(cluster, 3)
        cluster.send(digits_splits)
        search = mscourse.grid_search(
            SlowSVC(seconds=1.5), GRID, digits_splits, engines=cluster.client
        )
        assert search.n_total == N_EVALUATIONS

        # It grows under way, from another process.
        account.run("addnode", "-s", "2", "-b", "0.2", "mycluster")
        assert wait_until(lambda: len(cluster.client.ids) == 5)
        assert wait_until(lambda: len(hosts(search)) == 5)

        # The nodes know each other by their names.
        for node in ("master", "node003"):
            known = account.run("sshnode", "mycluster", node, "getent", "hosts", "node001")
            address = cloud.servers["node001"].address
            assert known.split()[:2] == [address, "node001"]

        # One is taken away with a notice, long enough to finish what it is at.
        noticed = cloud.servers["node001"]
        ec2.interrupt(cloud.instance_id("node001"), after_s=25)
        assert wait_until(lambda: "will be taken away" in account.run("status", "mycluster"), 15)
        # One vanishes without a word.
        ec2.interrupt(cloud.instance_id("node002"), after_s=0, notice=False)
        # One is cut off for longer than the controller waits, and comes back.
        cut_off = cloud.servers["node003"]
        cut_off.cut()
        assert wait_until(lambda: len(cluster.client.ids) == 2, 40)
        cut_off.heal()
        assert wait_until(lambda: len(cluster.client.ids) == 3, 40)
        assert wait_until(lambda: not noticed.is_on, 40)  # its time is up after 25 s
        # One is removed, which waits for what it is at.
        account.run("removenode", "mycluster", "node004")
        assert sorted(ec2.alive("mycluster")) == ["master", "node003"]

        assert search.n_done < N_EVALUATIONS  # all of this was under way
        account.run("run", "mycluster", "touch", HURRY)
        assert search.wait(180)
        done = [(tuple(e.params.items()), e.split) for e in search.evaluations()]
        assert len(done) == len(set(done)) == N_EVALUATIONS
        assert search.n_failed == 0
        here_scores, there_scores = (
            {(e.params["C"], e.params["gamma"], e.split): e.test_score for e in each.evaluations()}
            for each in (here, search)
        )
        assert here_scores == there_scores

    account.run("put", "mycluster", str(account.config), "kept.ini")
    account.run("get", "mycluster", "kept.ini", str(account.config.with_name("back.ini")))
    assert account.config.with_name("back.ini").read_text() == account.config.read_text()

    said = account.run("terminate", "mycluster", given="my cluster\n", status=1)
    assert "Nothing was done" in said
    assert ec2.alive("mycluster")
    account.run("terminate", "mycluster", given="mycluster\n")
    assert not ec2.alive()
    assert "There are no clusters" in account.run("listclusters")
    assert "DeleteSecurityGroup" in ec2.actions()


def test_a_lost_node_is_replaced_and_a_cluster_is_stopped_and_started(account, monkeypatch):
    ec2, cloud = account.ec2, account.cloud
    monkeypatch.setattr("mscourse.cluster.connection._LOOK_PERIOD_S", 1)
    planned = account.run("start", "--dry-run", "-s", "2", "-b", "0.2", "mycluster")
    assert "RunInstances master: c5.xlarge" in planned
    assert "USD per hour" in planned
    assert not ec2.alive()
    account.run("start", "-s", "2", "-b", "0.2", "mycluster")
    with account.connect(replace_lost=True, progress=print) as cluster:
        account.wait_for_engines(cluster, 2)
        ec2.interrupt(cloud.instance_id("node001"), after_s=15)
        # The new one is asked for when the notice comes, and does not wait for the end.
        assert wait_until(lambda: "node002" in ec2.alive(), 15)
        assert wait_until(lambda: sorted(ec2.alive()) == ["master", "node002"], 30)
        assert wait_until(lambda: len(cluster.client) == 2, 30)
    account.run("stop", "mycluster")
    assert "master  stopped" in account.run("list")
    assert sorted(ec2.alive()) == ["master"]  # spot instances cannot be stopped
    with pytest.raises(mscourse.ClusterError, match=r"is stopped\. Start it"):
        account.connect()
    account.run("start", "-s", "2", "mycluster")  # this time on demand
    assert ec2.alive()["node001"].lifecycle != "spot"
    with account.connect() as cluster:
        account.wait_for_engines(cluster, 2)
    account.run("terminate", "--yes", "mycluster")
    assert not ec2.alive()


def test_an_image_without_the_account_gets_it(account):
    """The login key of an image's own user opens the account that the template names."""
    ec2, cloud = account.ec2, account.cloud
    text = account.config.read_text().replace("CLUSTER_USER = root", "CLUSTER_USER = learner")
    account.config.write_text(text)
    # This Python is root's, so that no engine can run; but the account is there.
    said = account.run("start", "-s", "1", "mycluster", status=1)
    assert "learner" in said
    server = next(iter(cloud.servers.values()))
    assert "learner" in server.path("/etc/passwd").read_text()
    keys = server.path("/home/learner/.ssh/authorized_keys")
    assert keys.read_text() == server.path(f"{HOME}/.ssh/authorized_keys").read_text()
    assert not ec2.alive()


def test_ctrl_c_takes_back_what_was_started(account):
    command = [sys.executable, "-m", "mscourse", "cluster", "--config", str(account.config)]
    with subprocess.Popen(
        [*command, "start", "-b", "0.2", "mycluster"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as starting:
        assert any("is ready" in line for line in starting.stdout)
        starting.send_signal(signal.SIGINT)
        said = starting.stdout.read()
        assert starting.wait(60) == 130, said
    assert "Taking 3 nodes back" in said
    assert "interrupted" in said
    assert not account.ec2.alive()
    assert "There are no clusters" in account.run("list")


def test_keys_and_prices(account, tmp_path):
    path = tmp_path / "keys" / "other.pem"
    said = account.run("createkey", "other", "-o", str(path))
    assert f"[key other]\nKEY_LOCATION = {path}" in said
    assert path.stat().st_mode & 0o777 == 0o600
    public = subprocess.run(["ssh-keygen", "-y", "-f", path], capture_output=True, text=True)
    assert public.stdout.startswith("ssh-ed25519 ")
    assert "There is a key pair other" in account.run(
        "createkey", "other", "-o", f"{path}.2", status=1
    )
    account.run("removekey", "other")
    picture = tmp_path / "prices.png"
    said = account.run("spothistory", "-d", "2", "c5.xlarge", "-p", str(picture))
    [row] = [line.split() for line in said.splitlines() if "us-east-1b" in line]
    now, most, average, on_demand = map(float, row[2:6])
    assert 0 < now <= most < on_demand
    assert average <= most
    assert picture.read_bytes().startswith(b"\x89PNG")
    said = account.run("spothistory", "c5.xlrage", status=1)
    assert "c5.xlrage" in said


def hosts(search):
    return {e.host for e in search.evaluations()}
