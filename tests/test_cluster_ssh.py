"""Clusters of machines that are there: on a pretend network, with real ssh and engines.

No file system is shared: the machines do not see the folder in which the tests' data lie.
"""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import cloudpickle
import psutil
import pytest
import sklearn
from helpers import require_system, wait_until
from rig.server import HOME
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.svm import SVC

import mscourse
from mscourse.cluster import connection
from mscourse.cluster import tunnel as tunnels
from mscourse.cluster.bootstrap import requirements
from mscourse.cluster.config import read_config
from mscourse.cluster.manager import Manager
from mscourse.cluster.settings import Config
from mscourse.errors import ClusterError, NodeError, ParameterError

GRID = {"C": [0.1, 1, 10], "gamma": [1e-3, 1e-2]}


class Lab:
    """A configuration of a few servers, and what its commands have said."""

    def __init__(self, folder: Path, network, login_key, n_servers: int, **settings: str) -> None:
        key, public = login_key
        names = [f"lab{number:02}" for number in range(1, n_servers + 1)]
        self.servers = [network.boot_server(name, authorized_key=public) for name in names]
        hosts = ", ".join(f"root@{server.address}" for server in self.servers)
        lines = {
            "PROVIDER": "ssh", "HOSTS": hosts, "KEYNAME": "lab", "ENGINES_PER_NODE": "1",
            "NODE_PYTHON": sys.executable, "START_TIMEOUT_S": "30", **settings,
        }  # fmt: skip
        text = "".join(f"{name} = {value}\n" for name, value in lines.items())
        self.path = folder / "cluster.ini"
        self.path.write_text(f"[key lab]\nKEY_LOCATION = {key}\n[cluster lab]\n{text}")
        self.said: list[str] = []

    @property
    def command(self) -> list[str]:
        return [sys.executable, "-m", "mscourse", "cluster", "--config", str(self.path)]

    @property
    def config(self) -> Config:
        return read_config(self.path)

    def manager(self) -> Manager:
        return Manager(self.config, self.said.append)

    def start(self, name: str = "room", size: int | None = None):
        manager = self.manager()
        return manager.start(manager.request(name, self.config.template(), size=size))

    def run(self, *words: str, status: int = 0) -> str:
        """Run a command of ``mscourse cluster``; give what it printed."""
        done = subprocess.run(
            [*self.command, *words], stdin=subprocess.DEVNULL, capture_output=True, text=True
        )
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout + (done.stderr if words[0] == "start" or status else "")

    def connect(self, name: str = "room"):
        return mscourse.cluster.connect(name, config=self.path, progress=self.said.append)


@pytest.fixture
def lab(tmp_path, network, login_key):
    return lambda n_servers, **settings: Lab(tmp_path, network, login_key, n_servers, **settings)


def test_a_search_on_hosts_is_the_same_as_here(lab, digits_splits, monkeypatch):
    lab = lab(2)
    nodes = lab.start()
    assert [node.name for node in nodes] == ["master", "node001"]
    here = mscourse.grid_search(SVC(), GRID, digits_splits, random_state=0)
    assert here.wait(60)
    with lab.connect() as cluster:
        cluster.client.wait_for_engines(2, timeout=60)
        sent = cluster.send(digits_splits)
        assert sorted(sent) == ["master", "node001"]
        hosts = mscourse.engine_hosts(cluster.client)
        assert sorted(hosts.values()) == ["lab01", "lab02"]
        search = mscourse.grid_search(
            SVC(), GRID, digits_splits, engines=cluster.client, random_state=0
        )
        assert search.wait(60)
        assert {e.host for e in search.evaluations()} == {"lab01", "lab02"}
        there = search.results()
        assert list(there["mean_test_score"]) == list(here.results()["mean_test_score"])
        # From here, nothing but ssh.
        addresses = {server.address for server in lab.servers}
        remote = {
            way.raddr.port
            for process in [psutil.Process(), *psutil.Process().children(recursive=True)]
            for way in process.net_connections("inet")
            if way.raddr and way.raddr.ip in addresses
        }
        assert remote == {22}
    # A controller that hangs: what its node says of it comes with the error.
    monkeypatch.setattr(connection, "_ANSWER_WITHIN_S", 1)
    lab.servers[0].call("pkill", "-STOP", "-f", "ipyparallel.controller")
    with pytest.raises(ClusterError, match=r"(?s)does not answer.*IPController"):
        lab.connect()
    lab.manager().terminate("room")
    assert not lab.manager().nodes()
    for server in lab.servers:
        assert "mscourse" not in server.call("ps", "-e", "-o", "args")
        assert not list(server.path(f"{HOME}/.mscourse/clusters").iterdir())


def test_a_cluster_grows_and_shrinks_under_a_search(lab, digits_splits, monkeypatch):
    monkeypatch.setattr("mscourse.lostanswers._ASK_PERIOD_S", 2)
    lab = lab(3)
    lab.start(size=2)
    free_ports = tunnels._free_ports
    with socket.create_server(("127.0.0.1", 0)) as thief:
        stolen = thief.getsockname()[1]
        ports = iter([lambda n: [stolen, *free_ports(n - 1)], free_ports])
        monkeypatch.setattr(tunnels, "_free_ports", lambda n: next(ports)(n))
        cluster = lab.connect()
    with cluster:
        cluster.client.wait_for_engines(2, timeout=60)
        cluster.send(digits_splits)
        search = slow_search(digits_splits, cluster.client, 300)
        [node] = cluster.add(1)
        assert node.name == "node002"
        assert wait_until(lambda: "lab03" in hosts_of(search))
        # The way to the master breaks, and what was in it is lost.
        [tunnel] = [each for each in psutil.Process().children() if each.name() == "ssh"]
        tunnel.kill()
        assert wait_until(lambda: cluster._tunnel.n_restarts == 1 and cluster._tunnel.is_open)
        # It got the data from the master, through here.
        version = digits_splits.folder_on_nodes
        assert lab.servers[2].path(f"{HOME}/data/{version}/manifest.json").exists()
        cluster.remove(["node001"])
        n_there = len([e for e in search.evaluations() if e.host == "lab02"])
        assert search.wait(60)
        evaluations = search.evaluations()
        assert len([e for e in evaluations if e.host == "lab02"]) == n_there > 0
        assert_complete(search)
        assert search.n_failed == 0
        assert [node.name for node in cluster.nodes()] == ["master", "node002"]
        assert not lab.servers[1].path(f"{HOME}/.mscourse/clusters/room").exists()
        with pytest.raises(ParameterError, match=r"no 'node02'.*Did you mean node002"):
            cluster.remove(["node02"])
        with pytest.raises(ParameterError, match="Without the master"):
            cluster.remove(["master"])
    lab.manager().terminate("room")


def test_what_vanishes_or_is_cut_off_loses_nothing(lab, digits_splits):
    lab = lab(3)
    lab.start()
    master, cut_off, vanishing = lab.servers
    with lab.connect() as cluster:
        cluster.client.wait_for_engines(3, timeout=60)
        cluster.send(digits_splits)
        search = slow_search(digits_splits, cluster.client, 200, seconds=0.3)
        assert wait_until(lambda: len(hosts_of(search)) == 3)
        vanishing.vanish()
        cut_off.cut()
        # Longer than the controller waits for a heart.
        assert wait_until(lambda: len(cluster.client.ids) == 1, 40)
        cut_off.heal()
        assert wait_until(lambda: len(cluster.client.ids) == 2, 40)  # another engine
        n_before = search.n_done
        # The way from here to the master is cut as well, and mended.
        master.cut()
        time.sleep(1)
        master.heal()
        assert search.wait(120)
        late = search.evaluations()[n_before:]
        assert {e.host for e in late} == {"lab01", "lab02"}
        assert_complete(search)
        reports = {each.node.name: each for each in cluster.report() if each.node.name != "node002"}
        assert all(each.status.state == "working" for each in reports.values())
    vanishing.power_on()
    lab.manager().terminate("room")
    assert not vanishing.path(f"{HOME}/.mscourse/clusters/room").exists()


def test_a_host_that_fails_does_not_fail_the_cluster(lab):
    lab = lab(3)
    lab.servers[1].power_off()
    lab.servers[2].path(f"{HOME}/.mscourse").write_text("no folder")
    manager = lab.manager()
    template = replace(lab.config.template(), start_timeout_s=4)  # it does not come back
    nodes = manager.start(manager.request("room", template))
    assert [node.name for node in nodes] == ["master"]
    said = "\n".join(lab.said)
    assert "node001 did not come" in said
    assert "cannot be reached by ssh" in said
    assert "node002 did not come" in said
    with pytest.raises(ClusterError, match=r"already, of 1 nodes?\..*addnode room"):
        lab.start()
    lab.manager().terminate("room")


def test_a_master_that_fails_ends_the_start(lab):
    lab = lab(2)
    lab.servers[0].path(f"{HOME}/.mscourse").write_text("no folder")
    with pytest.raises(NodeError, match=r"(?s)master.*Not a directory"):
        lab.start()
    lab.servers[0].path(f"{HOME}/.mscourse").unlink()
    assert not lab.manager().nodes()
    with pytest.raises(ClusterError, match=r"There is no cluster 'room'. There are none"):
        lab.connect()


@pytest.mark.parametrize("when", ["Setting up", "controller runs"])
def test_an_interrupted_start_leaves_nothing(lab, when):
    lab = lab(2)

    def interrupt(line: str) -> None:
        if when in line:
            raise KeyboardInterrupt

    manager = Manager(lab.config, interrupt)
    with pytest.raises(KeyboardInterrupt):
        manager.start(manager.request("room", lab.config.template()))
    assert not lab.manager().nodes()
    for server in lab.servers:
        assert "mscourse" not in server.call("ps", "-e", "-o", "args")


def test_the_commands(lab, tmp_path):
    lab = lab(2)
    assert "2 nodes of room work" in lab.run("start", "room")
    assert "addnode room" in lab.run("start", "room", status=1)
    listed = lab.run("listclusters")
    assert "node001  running" in listed
    assert "root@" in listed
    shown = lab.run("status", "room")
    assert shown.count("working") == 2
    assert lab.run("run", "room", "hostname").split() == [
        *("==", "master", "lab01"),
        *("==", "node001", "lab02"),
    ]
    assert "exit status 3" in lab.run("run", "--node", "node001", "room", "exit", "3", status=1)
    assert lab.run("run", "--node", "node001", "room", "echo a b | wc -w").split()[-1] == "2"
    (tmp_path / "results.txt").write_text("0.99")
    lab.run("put", "room", str(tmp_path / "results.txt"), "kept.txt")
    assert lab.run("sshmaster", "room", "cat", "kept.txt") == "0.99"
    lab.run("sshnode", "room", "node001", "test", "-e", "kept.txt", status=1)
    lab.run("get", "room", "kept.txt", str(tmp_path / "back.txt"))
    assert (tmp_path / "back.txt").read_text() == "0.99"
    assert "IPController" in lab.run("logs", "room", "--node", "master", "-n", "200")
    assert "of the 2 HOSTS of [cluster lab] 2 are nodes" in lab.run("addnode", "room", status=1)
    assert "Did you mean room?" in lab.run("status", "rom", status=1)
    assert "invalid choice: 'begin'" in lab.run("begin", "room", status=2)
    with subprocess.Popen(
        [*lab.command, "dashboard", "--every", "1", "room"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as dashboard:
        assert any("engines 2, queued or running 0" in line for line in dashboard.stdout)
        dashboard.send_signal(signal.SIGINT)
        assert dashboard.wait(20) == 130
    lab.run("removenode", "--force", "room")
    assert "node001" not in lab.run("list")
    planned = lab.run("addnode", "--dry-run", "room")
    assert f"Start engines on root@{lab.servers[1].address} as node001" in planned
    assert "Nothing was done" in planned
    lab.run("stop", "room")
    assert "stopped" in lab.run("list")
    assert "mscourse" not in lab.servers[0].call("ps", "-e", "-o", "args")
    lab.run("start", "room", "-s", "1")
    lab.servers[0].call("pkill", "-9", "-f", "mscourse.cluster.agent")
    lab.run("restart", "room")
    assert "working" in lab.run("status", "room")
    lab.run("terminate", "--yes", "room")
    assert lab.run("list") == "There are no clusters.\n"


def test_a_client_that_is_killed_leaves_no_ssh(lab):
    lab = lab(1)
    lab.start()
    code = (
        "import mscourse, os, time\n"
        f"cluster = mscourse.cluster.connect('room', config={str(lab.path)!r})\n"
        "print(len(cluster.client), flush=True)\n"
        "time.sleep(600)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as client:
        assert client.stdout.readline() == b"1\n"
        [tunnel] = [
            each
            for each in psutil.Process(client.pid).children(recursive=True)
            if each.name() == "ssh"
        ]
        client.kill()
    assert wait_until(lambda: not tunnel.is_running() or tunnel.status() == "zombie")
    lab.manager().terminate("room")


def test_nodes_install_from_a_folder_of_wheels(lab, tmp_path):
    wheels = tmp_path / "wheels"
    download = [sys.executable, "-m", "pip", "download", "--quiet", "--only-binary", ":all:"]
    got = subprocess.run(
        [*download, "--disable-pip-version-check", "--dest", wheels, *requirements(["wheel"])],
        capture_output=True,
        text=True,
    )
    require_system(f"no wheels can be had: {got.stderr[-300:]}" if got.returncode else None)
    lab = lab(1, WHEELS=str(wheels), NODE_PYTHON="none", PACKAGES="wheel", START_TIMEOUT_S="280")
    lab.start()
    with lab.connect() as cluster:
        view = cluster.client[:]
        # By a call: what is printed may be lost so soon, and `execute` would wait for it for ever.
        [python] = view.apply_sync(eval, "__import__('sys').executable")
        assert python.startswith(f"{HOME}/.mscourse/environments/")
        [version] = view.apply_sync(metadata.version, "scikit-learn")
        assert version == sklearn.__version__
        assert view.apply_sync(metadata.version, "wheel")
    lab.manager().terminate("room")


def slow_search(splits, client, n_evaluations, seconds=0.2):
    n_candidates = n_evaluations // len(splits)
    return mscourse.grid_search(
        Slow(seconds=seconds), {"value": range(n_candidates)}, splits, engines=client
    )


def hosts_of(search):
    return {e.host for e in search.evaluations()}


def assert_complete(search):
    done = [(e.params["value"], e.split) for e in search.evaluations()]
    assert len(done) == len(set(done)) == search.n_total
    assert all(e.test_score == e.params["value"] for e in search.evaluations())


class Slow(ClassifierMixin, BaseEstimator):
    """Takes its time, and scores what it is told to."""

    def __init__(self, seconds=0.0, value=0):
        self.seconds = seconds
        self.value = value

    def fit(self, X, y):
        time.sleep(self.seconds)
        self.classes_ = sorted(set(y))
        return self

    def score(self, X, y):
        return float(self.value)


# The nodes do not have this module.
cloudpickle.register_pickle_by_value(sys.modules[__name__])
