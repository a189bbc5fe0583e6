"""The agent of a node: what it starts again, and when it stops by itself."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from http.server import ThreadingHTTPServer
from pathlib import Path

import ipyparallel as ipp
import psutil
import pytest
from helpers import wait_until
from rig import imds
from rig.imds import update_metadata, write_metadata

from mscourse.cluster import nodefiles
from mscourse.cluster.agent import Child
from mscourse.cluster.metadata import Metadata
from mscourse.cluster.nodes import Node
from mscourse.cluster.services import updated_bill
from mscourse.cluster.usage import WITHOUT_MASTER_S, Usage, cost_usd
from mscourse.draining import drain

MINUTE_S = 60


class Running:
    """An agent that runs here as it would on a node."""

    def __init__(self, folder: Path, **orders: object) -> None:
        self.folder = folder
        self.halted = folder / "halted"
        content = nodefiles.Orders(
            **{
                "cluster": "room", "node": "master", "template": "lab", "host": "here",
                "is_master": True, "n_engines": 1, "address": "127.0.0.1",
                "data_folder": str(folder), "python": sys.executable, "package_folder": "",
                "halts": ("touch", str(self.halted)), **orders,
            }
        )  # fmt: skip
        (folder / nodefiles.ORDERS).write_text(json.dumps(asdict(content)))
        (folder / nodefiles.PROFILE / "security").mkdir(parents=True)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "mscourse.cluster.agent", str(folder)], cwd=folder
        )

    @property
    def status(self) -> nodefiles.Status:
        try:
            return nodefiles.Status.read((self.folder / nodefiles.STATUS).read_text())
        except FileNotFoundError:
            return nodefiles.Status()

    def client(self) -> ipp.Client:
        return ipp.Client(str(self.folder / nodefiles.CLIENT_CONNECTION))

    def stop(self) -> None:
        if self.process.poll() is None:
            (self.folder / nodefiles.STOP).touch()
        self.process.wait(30)


@contextmanager
def served(file: Path) -> Iterator[str]:
    """Serve instance metadata here; give the address."""
    handler = type("Handler", (imds._Handler,), {"file": file})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/latest/"
        server.shutdown()
        thread.join()


@pytest.fixture
def start(tmp_path):
    running: list[Running] = []

    def start(**orders: object) -> Running:
        running.append(Running(tmp_path, **orders))
        return running[-1]

    yield start
    for each in running:
        each.stop()


def test_engines_that_die_are_started_again(start):
    node = start()
    assert wait_until(lambda: node.status.engines_in_all == 1, 40)
    with node.client() as client:
        client.wait_for_engines(1, timeout=60)
        pid = client[0].apply_sync(os.getpid)
        assert client[0].apply_sync(os.getenv, "OMP_NUM_THREADS") == "1"
        for _ in range(2):
            client[0].apply_async(time.sleep, 600)
        assert wait_until(lambda: node.status.queued == 2)
        os.kill(pid, signal.SIGKILL)
        assert wait_until(lambda: node.status.n_restarts == 1)
        assert wait_until(lambda: client.ids == [1])
        assert client[1].apply_sync(os.getpid) != pid
        # What the dead engine had counts no more, or the cluster would never be idle again.
        assert wait_until(lambda: node.status.queued == 0 and node.status.engines_in_all == 1)
        if sys.platform == "linux":
            badness = client[1].apply_sync(Path("/proc/self/oom_score_adj").read_text)
            assert int(badness) == 500
            assert Path(f"/proc/{node.process.pid}/oom_score_adj").read_text().strip() == "0"
    node.stop()
    assert node.status.state == "stopped"
    assert not node.halted.exists()


def test_a_controller_that_dies_is_not_replaced_in_silence(start):
    node = start(idle_stop_s=15.0)
    assert wait_until(lambda: node.status.engines_in_all == 1, 40)
    os.kill(node.status.controller_pid, signal.SIGKILL)
    assert wait_until(lambda: node.status.state == "broken")
    assert "mscourse cluster restart" in node.status.why
    assert wait_until(lambda: node.status.n_engines == 0)
    assert node.process.poll() is None  # whoever restarts it finds it
    assert wait_until(lambda: node.process.poll() is not None, 60)  # but it does not cost for ever
    assert node.halted.exists()


def test_a_second_agent_is_refused(start, tmp_path):
    node = start()
    assert wait_until(lambda: (tmp_path / nodefiles.LOCK).exists() and node.status.state != "")
    assert wait_until(lambda: (tmp_path / nodefiles.LOCK).read_text() == str(node.process.pid))
    second = subprocess.run(
        [sys.executable, "-m", "mscourse.cluster.agent", str(tmp_path)],
        capture_output=True,
        text=True,
    )
    assert second.returncode == 1
    assert "already" in second.stderr


def test_an_idle_cluster_stops_and_switches_the_machine_off(start):
    node = start(idle_stop_s=15.0)
    assert wait_until(lambda: node.status.engines_in_all == 1, 40)
    with node.client() as client:
        client.wait_for_engines(1, timeout=60)
        client[0].apply_sync(time.sleep, 18)  # work is no idle time, however long
        assert node.process.poll() is None
    assert wait_until(lambda: node.process.poll() is not None, 60)
    assert node.status.state == "stopped"
    assert "did nothing for 0.25 minutes" in node.status.why
    assert node.halted.exists()


def test_a_cluster_stops_before_its_budget_is_spent(start, tmp_path):
    ago_s = time.time() - 30 * MINUTE_S
    bill = [{"id": "i-1", "usd_per_hour": 1.0, "from_s": ago_s, "to_s": None}]
    (tmp_path / "bill.json").write_text(json.dumps(bill))
    node = start(budget_usd=0.52)  # 0.50 is spent, and to stop takes a few minutes
    assert wait_until(lambda: node.process.poll() is not None, 40)
    assert "it has cost 0.50 USD of a budget of 0.52" in node.status.why
    assert node.halted.exists()


def test_a_budget_covers_what_the_other_nodes_cost_until_they_miss_their_master(tmp_path):
    bill = [
        {"id": f"i-{number}", "usd_per_hour": 1.0, "from_s": time.time() - 3600, "to_s": None}
        for number in range(10)
    ]
    (tmp_path / "bill.json").write_text(json.dumps(bill))
    last_usd = cost_usd(bill, time.time() + WITHOUT_MASTER_S)
    bill_path, none = tmp_path / "bill.json", tmp_path / "none"
    usage = Usage(none, bill_path, none, idle_stop_s=0.0, budget_usd=last_usd)
    assert "it has cost 10.00 USD" in usage.reason_to_stop()


def test_an_agent_that_fails_switches_the_machine_off(start, tmp_path):
    """Nobody else would look at what it costs."""
    (tmp_path / "bill.json").write_text('[{"id": "i-1"}]')
    node = start()
    assert wait_until(lambda: node.process.poll() is not None, 40)
    assert node.process.returncode != 0
    assert node.halted.exists()


def test_what_cannot_be_started_for_the_moment_is_tried_again(tmp_path, monkeypatch, capsys):
    child = Child(["sleep", "600"], dict(os.environ), tmp_path / "log")
    really_start = child._start

    def has_no_memory() -> None:
        monkeypatch.setattr(child, "_start", really_start)
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr(child, "_start", has_no_memory)
    child.look()
    assert (child.pid, child.n_starts) == (None, 0)
    assert "Cannot allocate memory" in capsys.readouterr().err
    child.look()
    assert child.pid is None  # in no hurry
    time.sleep(1.1)
    child.look()
    assert child.n_starts == 1
    child.kill()


def test_a_draining_node_ends_its_engines_when_they_are_idle(start, tmp_path):
    node = start(n_engines=2)
    assert wait_until(lambda: node.status.engines_in_all == 2, 40)
    with node.client() as client:
        client.wait_for_engines(2, timeout=60)
        busy, idle = (client[each].apply_sync(os.getpid) for each in (0, 1))
        mark = tmp_path / f"busy-{busy}"
        mark.touch()
        drain(tmp_path)
        assert wait_until(lambda: not psutil.pid_exists(idle))
        assert node.status.state == "draining"
        time.sleep(2)
        assert psutil.pid_exists(busy)
        mark.unlink()
        assert wait_until(lambda: node.status.state == "drained")
        assert not psutil.pid_exists(busy)
        assert node.status.n_restarts == 0


def test_the_metadata_service_is_asked_for_notices(tmp_path, monkeypatch):
    monkeypatch.setattr("mscourse.cluster.metadata._LOOK_PERIOD_S", 0)
    file = tmp_path / "metadata.json"
    write_metadata(file, {"instance-id": "i-1"})
    with served(file) as address:
        metadata = Metadata(address)
        metadata.look()
        assert metadata.notice is None
        assert metadata.rebalance_at is None
        update_metadata(
            file, {"events/recommendations/rebalance": {"noticeTime": "2030-01-01T11:58:00Z"}}
        )
        metadata.look()
        assert metadata.rebalance_at == "2030-01-01T11:58:00Z"
        for odd in ({"action": "stop"}, {"action": "stop", "time": "soon"}, ["stop"]):
            update_metadata(file, {"spot/instance-action": odd})
            metadata.look()
            assert metadata.notice is None
        action = {"action": "stop", "time": "2030-01-01T12:00:00Z"}
        update_metadata(file, {"spot/instance-action": action})
        metadata._token = "of another service, or expired"
        metadata.look()
        assert metadata.notice.action == "stop"
        assert metadata.notice.at == datetime(2030, 1, 1, 12, tzinfo=UTC)
    silent = Metadata("http://127.0.0.1:9/latest/")
    silent.look()
    assert silent.notice is None


def test_no_proxy_is_between_an_instance_and_what_it_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setattr("urllib.request._opener", None)  # which remembers the environment
    file = tmp_path / "metadata.json"
    action = {"action": "stop", "time": "2030-01-01T12:00:00Z"}
    write_metadata(file, {"spot/instance-action": action})
    with served(file) as address:
        metadata = Metadata(address)
        metadata.look()
    assert metadata.notice is not None


def test_a_bill_has_all_machines_and_charges_a_minute_at_least():
    noon = datetime(2030, 1, 1, 12, tzinfo=UTC)
    nodes = [
        Node("room", name, f"i-{name}", None, "running", "lab", usd_per_hour=usd, launched_at=noon)
        for name, usd in (("master", 0.2), ("node001", 0.1))
    ]
    at_s = noon.timestamp()
    bill = updated_bill([], nodes, at_s)
    assert cost_usd(bill, at_s) == pytest.approx(0.3 / 60)
    assert cost_usd(bill, at_s + 1800) == pytest.approx(0.15)
    bill = updated_bill(bill, nodes[:1], at_s + 1800)  # the node has gone
    assert updated_bill(bill, nodes[:1], at_s + 9000) == bill
    assert cost_usd(bill, at_s + 3600) == pytest.approx(0.2 + 0.05)
    back = updated_bill(bill, [nodes[0], *later(nodes[1:])], at_s + 3600)
    assert cost_usd(back, at_s + 7200) == pytest.approx(0.4 + 0.05 + 0.1)


def test_while_a_cluster_is_stopped_its_bill_does_not_grow(start, tmp_path):
    """Else it would stop again at once, for a budget that is not spent."""
    noon = datetime(2030, 1, 1, 12, tzinfo=UTC)
    [master] = nodes = [
        Node("room", "master", "i-1", None, "running", "lab", usd_per_hour=1.0, launched_at=noon)
    ]
    at_s = noon.timestamp()
    bill = updated_bill([], nodes, at_s)
    bill[0]["to_s"] = at_s + 3600  # the agent has ended
    again = [replace(master, launched_at=noon + timedelta(hours=10))]
    bill = updated_bill(bill, again, at_s + 36000)
    assert cost_usd(bill, at_s + 36000 + 1800) == pytest.approx(1.5)
    # An agent that is restarted has gone on costing all the same, and once only.
    bill[1]["to_s"] = at_s + 36000 + 1800
    bill = updated_bill(bill, again, at_s + 36000 + 1900)
    assert cost_usd(bill, at_s + 36000 + 3600) == pytest.approx(2.0)

    ago_s = time.time() - 3600
    open_bill = [{"id": "i-1", "usd_per_hour": 1.0, "from_s": ago_s, "to_s": None}]
    (tmp_path / "bill.json").write_text(json.dumps(open_bill))
    node = start()
    assert wait_until(lambda: node.status.state == "working", 40)
    node.stop()
    [entry] = json.loads((tmp_path / "bill.json").read_text())
    assert entry["to_s"] == pytest.approx(time.time(), abs=20)


def later(nodes):
    return [replace(each, launched_at=each.launched_at + timedelta(hours=1)) for each in nodes]
