"""Machines and connections fail in the middle of a search, on a pretend network."""

from __future__ import annotations

import logging
import signal
import sys
import time
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import ipyparallel as ipp
import numpy as np
import pytest
from helpers import wait_until
from sklearn.svm import SVC

import mscourse

# An engine that misses so many beats of this period is taken for dead: 2 s, or 9 s.
BEAT_MS = 200
DEAD_AFTER_2_S = 10
DEAD_AFTER_9_S = 45

GRID = {"C": [0.1, 10.0], "gamma": [1e-2, 1e-1]}
N_EVALUATIONS = 20


class SlowSVC(SVC):
    """Takes a while, so that a search is not over before something happens to it."""

    def fit(self, X, y):
        time.sleep(0.2)
        return super().fit(X, y)


@pytest.fixture(scope="module")
def expected(client, digits_splits):
    """What comes of a search that nobody disturbs."""
    search = mscourse.grid_search(SVC(), GRID, digits_splits, engines=client)
    assert search.wait()
    return search.results()


class Lab:
    """A controller on this machine, and engines on the machines of a network."""

    def __init__(self, network, folder, cluster, client):
        self.network = network
        self.client = client
        self.machines = {}
        self._folder = folder
        self._cluster = cluster

    def start_engine(self, host):
        if host not in self.machines:
            self.machines[host] = self.network.boot(host)
        connection_file = self._cluster.controller.connection_files["engine"]
        return self.machines[host].start(
            [sys.executable, "-m", "ipyparallel.engine", f"--file={connection_file}"],
            environment={
                "IPYTHONDIR": str(self._folder / host),
                "OMP_NUM_THREADS": "1",
                "PYTHONPATH": str(Path(__file__).parent),
            },
            log=self._folder / f"{host}.log",
        )

    def start_engines(self, *hosts):
        processes = [self.start_engine(host) for host in hosts]
        self.client.wait_for_engines(len(hosts), timeout=30, interactive=False)
        return processes


@contextmanager
def lab(network, folder, misses):
    log = logging.Logger("lab", level=logging.CRITICAL)
    cluster = ipp.Cluster(
        profile_dir=str(folder / "profile"),
        cluster_file="",
        controller_ip=network.address,
        controller_args=[
            f"--HeartMonitor.period={BEAT_MS}",
            f"--HeartMonitor.max_heartmonitor_misses={misses}",
            "--IPController.enable_curve=True",
            "--nodb",
        ],
        log=log,
    )
    try:
        cluster.start_controller_sync()
        with cluster.connect_client_sync() as client:
            yield Lab(network, folder, cluster, client)
    finally:
        cluster.stop_cluster_sync()


def start_search(lab, splits):
    """Begin a search, and come back when some evaluations are done and others under way."""
    search = mscourse.grid_search(SlowSVC(), GRID, splits, engines=lab.client)
    assert wait_until(lambda: search.n_done >= 4)
    assert search.n_done < N_EVALUATIONS
    return search


def check_results(search, expected):
    assert search.wait(30), f"{search.n_done} of {search.n_total}"
    counts = Counter((e.candidate, e.split) for e in search.evaluations())
    assert len(counts) == N_EVALUATIONS
    assert set(counts.values()) == {1}
    assert search.n_failed == 0
    for i in range(5):
        key = f"split{i}_test_score"
        np.testing.assert_array_equal(search.results()[key], expected[key])


def hosts_since(search, n_done):
    return {e.host for e in search.evaluations()[n_done:]}


def test_machines_have_names_addresses_and_connections_that_can_be_cut(network):
    one, two = network.boot("node001"), network.boot("node002")
    assert [machine.call("hostname").strip() for machine in (one, two)] == ["node001", "node002"]

    def reaches(machine, address):
        code = f"import socket; socket.create_connection(({address!r}, 9), 0.3)"
        error = machine.call(
            "sh", "-c", f'{sys.executable} -Ic "{code}" 2>&1 || true'
        ).splitlines()[-1]
        return {"ConnectionRefusedError": True, "TimeoutError": False}[error.split(":")[0]]

    assert reaches(one, two.address)
    assert reaches(one, network.address)
    one.cut()
    assert not reaches(one, two.address)
    assert not reaches(two, one.address)
    one.heal()
    assert reaches(two, one.address)
    two.vanish()
    assert not reaches(one, two.address)
    two.power_on()
    assert reaches(one, two.address)


def test_what_a_machine_had_that_vanished_is_done_elsewhere(
    network, tmp_path, digits_splits, expected
):
    with lab(network, tmp_path, DEAD_AFTER_2_S) as here:
        here.start_engines("node001", "node002")
        search = start_search(here, digits_splits)
        n_done = search.n_done
        here.machines["node001"].vanish()
        check_results(search, expected)
        assert len(here.client) == 1
        assert "node002" in hosts_since(search, n_done)
        assert mscourse.engine_hosts(here.client).keys() == set(here.client.ids)


@pytest.mark.long
def test_a_short_cut_loses_nothing_and_no_engine(network, tmp_path, digits_splits, expected):
    with lab(network, tmp_path, DEAD_AFTER_9_S) as here:
        here.start_engines("node001", "node002")
        engines = mscourse.engine_hosts(here.client)
        search = start_search(here, digits_splits)
        here.machines["node001"].cut()
        time.sleep(2)
        here.machines["node001"].heal()
        n_done = search.n_done
        check_results(search, expected)
        assert hosts_since(search, n_done) == {"node001", "node002"}
        assert mscourse.engine_hosts(here.client) == engines


def test_an_engine_cut_off_for_long_counts_once_and_ends(
    network, tmp_path, digits_splits, expected, capfd
):
    with lab(network, tmp_path, DEAD_AFTER_2_S) as here:
        cut_off, _ = here.start_engines("node001", "node002")
        search = start_search(here, digits_splits)
        here.machines["node001"].cut()
        assert wait_until(lambda: len(here.client) == 1)
        assert cut_off.poll() is None
        here.machines["node001"].heal()
        check_results(search, expected)
        # It is told as soon as it hears again, so that whoever started it can start another.
        assert wait_until(lambda: cut_off.poll() is not None)
        here.start_engine("node001")
        assert wait_until(lambda: len(here.client) == 2)
        assert set(mscourse.engine_hosts(here.client).values()) == {"node001", "node002"}
        assert not here.client.results
    assert "stale result" not in capfd.readouterr().out


@pytest.mark.long
def test_a_host_may_lose_its_last_engine_and_get_another(
    network, tmp_path, digits_splits, expected
):
    with lab(network, tmp_path, DEAD_AFTER_9_S) as here:
        here.start_engines("node001", "node002")
        of_host = {host: engine for engine, host in mscourse.engine_hosts(here.client).items()}
        search = start_search(here, digits_splits)
        here.client.send_signal(signal.SIGKILL, of_host["node001"], block=False)
        assert wait_until(lambda: here.client.ids == [of_host["node002"]], timeout_s=2)
        assert mscourse.one_engine_per_host(here.client) == {"node002": of_host["node002"]}
        assert list(mscourse.hosts_memory(here.client)) == ["node002"]
        here.start_engine("node001")
        check_results(search, expected)
        # On a slow machine that search may be over before the new engine is there.
        here.client.wait_for_engines(2, timeout=30)
        again = mscourse.grid_search(SlowSVC(), GRID, digits_splits, engines=here.client)
        check_results(again, expected)
        assert hosts_since(again, 0) == {"node001", "node002"}
