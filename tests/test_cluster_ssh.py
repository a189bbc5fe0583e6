"""Clusters of machines that are there: on a pretend network, with real ssh and engines.

No file system is shared: the machines do not see the folder in which the tests' data lie.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import psutil
import pytest
from helpers import wait_until
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.svm import SVC

import mscourse
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
    def config(self) -> Config:
        return read_config(self.path)

    def manager(self) -> Manager:
        return Manager(self.config, self.said.append)

    def start(self, name: str = "room", size: int | None = None):
        manager = self.manager()
        return manager.start(manager.request(name, self.config.template(), size=size))

    def connect(self, name: str = "room"):
        return mscourse.cluster.connect(name, config=self.path, progress=self.said.append)


@pytest.fixture
def lab(tmp_path, network, login_key):
    return lambda n_servers, **settings: Lab(tmp_path, network, login_key, n_servers, **settings)


def test_a_search_on_hosts_is_the_same_as_here(lab, digits_splits):
    lab = lab(2)
    nodes = lab.start()
    assert [node.name for node in nodes] == ["master", "node001"]
    here = mscourse.grid_search(SVC(), GRID, digits_splits, random_state=0)
    assert here.wait(60)
    with lab.connect() as cluster:
        cluster.client.wait_for_engines(2, timeout=20)
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
        remote = {
            connection.raddr.port
            for process in [psutil.Process(), *psutil.Process().children(recursive=True)]
            for connection in process.net_connections("inet")
            if connection.raddr and not connection.raddr.ip.startswith("127.")
        }
        assert remote == {22}
    lab.manager().terminate("room")
    assert not lab.manager().nodes()
    for server in lab.servers:
        assert "mscourse" not in server.call("ps", "-e", "-o", "args")
        assert not list(server.path("/home/root/.mscourse/clusters").iterdir())
