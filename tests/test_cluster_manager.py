"""What becomes of machines whose start fails, whose template is gone, or that have lost others.

The machines are only said to be there; the ssh that reaches them runs scripts on this computer.
"""

from __future__ import annotations

import contextlib
import io
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from helpers import wait_until

from mscourse.cli import main
from mscourse.cluster import commands, connection, services, tunnel
from mscourse.cluster.bootstrap import Bootstrap, Ready
from mscourse.cluster.connection import Cluster
from mscourse.cluster.manager import Manager
from mscourse.cluster.nodefiles import Status
from mscourse.cluster.nodes import MASTER, Node
from mscourse.cluster.services import NodeReport, Services
from mscourse.cluster.settings import ClusterSettings, Config, Host
from mscourse.cluster.ssh import Ssh
from mscourse.cluster.usage import Usage
from mscourse.errors import CloudError, ClusterError, NodeError, ParameterError

SETTINGS = ClusterSettings("small", region="here", cluster_size=2)


def node(name: str, number: int, **changes: object) -> Node:
    return replace(
        Node("room", name, f"i-{number}", Host("nowhere"), "running", "small", instance_type="c5"),
        **changes,
    )


class Rented:
    """A provider whose machines are a list."""

    def __init__(self, *nodes: Node) -> None:
        self.there = {each.id: each for each in nodes}
        self.calls: list[str] = []
        self.fails: dict[str, BaseException] = {}
        self.left: list[str] = []
        self.refuses: Exception | None = None

    def states(self) -> dict[str, str]:
        return {each.id: each.state for each in self.there.values()}

    def _call(self, name: str) -> None:
        self.calls.append(name)
        if name in self.fails:
            raise self.fails.pop(name)

    def _put(self, nodes, state: str) -> list[Node]:
        put = [replace(each, state=state) for each in nodes]
        self.there |= {each.id: each for each in put}
        return put

    def nodes(self, cluster=None):
        if self.refuses is not None:
            raise self.refuses
        return list(self.there.values())

    def launch(self, request, progress):
        self._call("launch")
        return self._put([node(name, 100 + n) for n, name in enumerate(request.names)], "running")

    def start(self, nodes, progress):
        started = self._put(nodes, "running")
        self._call("start")
        return started

    def stop(self, nodes, progress):
        self._call("stop")
        self._put(nodes, "stopped")

    def terminate(self, nodes, progress):
        self._call("terminate")
        for each in nodes:
            self.there.pop(each.id, None)  # EC2 does not mind what it does not know
        progress("Terminating.")

    def clean_up(self, cluster, progress):
        self._call("clean_up")

    def attach_volumes(self, master, progress):
        self.calls.append(f"attach_volumes {master.name}")
        return ()

    def leftovers(self, cluster):
        self.calls.append("leftovers")
        return self.left

    def allow_me(self, cluster):
        self._call("allow_me")
        return "203.0.113.7/32"


class Said(Manager):
    """A manager of machines that are only said to be there; to set them up may be made to fail."""

    def __init__(self, folder: Path, *providers: Rented):
        names = ["small", "other"][: len(providers)]
        templates = {
            name: replace(SETTINGS, name=name, region=f"r{n}") for n, name in enumerate(names)
        }
        super().__init__(Config(folder / "cluster.ini", templates=templates), self._tell)
        self._providers = {f"ec2 r{n}": each for n, each in enumerate(providers)}
        self.lines: list[str] = []
        self.at_setting_up: BaseException | None = None
        self.ssh.run = lambda *_, **__: "[]"
        self.ssh.write = lambda *_: None

    def _tell(self, line: str) -> None:
        self.lines.append(line)

    def _set_up(self, nodes, settings, master):
        if self.at_setting_up is not None:
            raise self.at_setting_up
        return nodes

    def start_all(self, size: int = 2) -> list[Node]:
        return self.start(self.request("room", self.config.template("small"), size=size))


class Whole(Said):
    """A manager that sets its machines up; see `silent`."""

    _set_up = Manager._set_up


@pytest.fixture
def silent(monkeypatch):
    """The names of nodes that do not answer; all others do whatever they are asked."""
    names: set[str] = set()

    def prepare(self, node, deadline_s):
        if node.name in names:
            raise NodeError(f"{node}: It cannot be reached by ssh.")
        return Ready("/home", "/python", "/package", "10.0.0.1")

    monkeypatch.setattr(Bootstrap, "prepare", prepare)
    for name in ("write_orders", "start", "introduce", "write_names", "write_bill", "stop"):
        monkeypatch.setattr(Services, name, lambda *_: None)
    monkeypatch.setattr(Services, "engine_connection", lambda *_: {})
    monkeypatch.setattr(Services, "sent", lambda *_: [])
    return names


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An ssh whose every node is this computer, with a home of its own."""
    program = tmp_path / "bin" / "ssh"
    program.parent.mkdir()
    program.write_text('#!/bin/bash\nHOME="$NODE_HOME" exec bash -c "${@: -1}"\n')
    program.chmod(0o700)
    monkeypatch.setenv("NODE_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(program.parent), prepend=os.pathsep)
    return Ssh(tmp_path / "known_hosts")


# -- starts that fail ------------------------------------------------------------------------------


@pytest.mark.parametrize("problem", [NodeError("no ssh"), KeyboardInterrupt()])
def test_a_start_that_fails_ends_what_it_has_started(tmp_path, problem):
    rented = Rented()
    manager = Said(tmp_path, rented)
    manager.at_setting_up = problem
    with pytest.raises(type(problem)):
        manager.start_all()
    assert rented.there == {}
    assert rented.calls == ["launch", "terminate", "clean_up"]


@pytest.mark.parametrize("at", ["terminate", "clean_up"])
def test_ctrl_c_once_more_does_not_keep_it_from_ending_what_it_has_started(tmp_path, at):
    rented = Rented()
    manager = Said(tmp_path, rented)
    manager.at_setting_up = KeyboardInterrupt()
    rented.fails = {at: KeyboardInterrupt()}
    with pytest.raises(KeyboardInterrupt):
        manager.start_all()
    assert rented.there == {}
    assert rented.calls[-1] == "clean_up"


def test_what_cannot_be_taken_back_is_told_with_the_error(tmp_path):
    rented = Rented()
    manager = Said(tmp_path, rented)
    manager.at_setting_up = NodeError("no ssh")
    rented.fails = {"terminate": CloudError("no network")}
    with pytest.raises(ClusterError, match=r"(?s)no ssh.*no network.*i-100.*i-101.*terminate room"):
        manager.start_all()


def test_a_start_whose_reader_has_gone_ends_what_it_has_started(tmp_path):
    rented = Rented()
    manager = Said(tmp_path, rented)

    def break_off(line: str) -> None:
        raise BrokenPipeError

    manager._progress = break_off
    manager.at_setting_up = BrokenPipeError()
    with pytest.raises(BrokenPipeError):
        manager.start_all()
    assert rented.there == {}


@pytest.mark.parametrize("at", ["start", "launch", "set up"])
def test_a_stopped_cluster_that_does_not_start_is_stopped_again(tmp_path, at):
    rented = Rented(*(node(name, n, state="stopped") for n, name in enumerate((MASTER, "node001"))))
    manager = Said(tmp_path, rented)
    if at == "set up":
        manager.at_setting_up = NodeError("no ssh")
    else:
        rented.fails = {at: CloudError("no room")}
    with pytest.raises(ClusterError, match="no "):
        manager.start_all(size=3)
    # Its disks are kept, and it costs no more than before; what is new is ended.
    assert rented.states() == {"i-0": "stopped", "i-1": "stopped"}


def test_a_terminal_that_is_closed_is_an_interruption(monkeypatch, capsys):
    hangs_up = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # with nohup it would be ignored
    before = signal.getsignal(signal.SIGTERM)

    class Closed:
        def request_for(self, *_, **__):
            return self

        def start(self, request):
            os.kill(os.getpid(), signal.SIGHUP)
            time.sleep(5)

    monkeypatch.setattr(commands, "manager_of", lambda arguments: Closed())
    try:
        assert main(["cluster", "start", "room"]) == 130
    finally:
        signal.signal(signal.SIGHUP, hangs_up)
    assert signal.getsignal(signal.SIGTERM) is before


# -- machines that were there before ---------------------------------------------------------------


def three(**changes: object) -> list[Node]:
    return [node(name, n, **changes) for n, name in enumerate((MASTER, "node001", "node002"))]


def test_a_restart_gives_the_master_its_volumes_and_says_whether_all_came(
    tmp_path, silent, monkeypatch
):
    rented = Rented(*three())
    monkeypatch.setattr(commands, "manager_of", lambda arguments: Whole(tmp_path, rented))
    assert main(["cluster", "restart", "room"]) == 0
    assert rented.calls == [f"attach_volumes {MASTER}"]
    silent.add("node001")
    assert main(["cluster", "restart", "room"]) == 1


def test_a_restart_ends_no_machine_that_does_not_answer(tmp_path, silent):
    rented = Rented(*three())
    manager = Whole(tmp_path, rented)
    silent.add("node001")
    working, failed = manager.restart("room")
    assert [each.name for each in working] == [MASTER, "node002"]
    assert [each.name for each in failed] == ["node001"]
    assert set(rented.states().values()) == {"running"}
    assert len(rented.states()) == 3
    assert any("node001 stays as it is" in line for line in manager.lines)
    assert "2 nodes of room work." in manager.lines
    silent.add("node002")
    manager.restart("room")
    assert "1 node of room works." in manager.lines


def test_a_stopped_machine_that_does_not_answer_is_stopped_again(tmp_path, silent):
    """What is on its disk is not lost; one that is new is ended."""
    rented = Rented(*three(state="stopped"))
    manager = Whole(tmp_path, rented)
    silent |= {"node001", "node003"}
    assert [each.name for each in manager.start_all(size=5)] == [MASTER, "node002", "node004"]
    assert rented.states() == {
        "i-0": "running",
        "i-1": "stopped",
        "i-2": "running",
        "i-101": "running",  # node004
    }


def test_a_new_machine_that_does_not_answer_is_ended(tmp_path, silent):
    rented = Rented(node(MASTER, 0))
    manager = Whole(tmp_path, rented)
    silent.add("node001")
    assert [each.name for each in manager.add("room", 2)] == ["node002"]
    assert sorted(rented.states()) == ["i-0", "i-101"]


def test_a_start_of_a_stopped_cluster_uses_its_own_template(tmp_path):
    """Not the default one, whose nodes would be others, of another user."""
    rented = Rented(*(replace(each, template="other") for each in three(state="stopped")[::2]))
    manager = Said(tmp_path, Rented(), rented)
    manager.config = replace(
        manager.config, settings=replace(manager.config.settings, default_template="small")
    )
    request = manager.request_for("room")
    assert (request.settings.name, request.names) == ("other", [MASTER, "node002"])
    assert manager.request_for("room", size=4).names == [MASTER, "node002", "node001", "node003"]
    with pytest.raises(ClusterError, match=r"was started with \[cluster other\].*Leave -c out"):
        manager.request_for("room", "small")
    assert manager.request_for("room", "other").settings.name == "other"
    assert [each.does for each in manager.plan(request)] == [
        "Start master (i-0, nowhere) again",
        "Start node002 (i-2, nowhere) again",
    ]
    assert [each.name for each in manager.start(request)] == [MASTER, "node002"]
    assert rented.calls == ["start"]


def test_the_command_starts_what_was_stopped(tmp_path, monkeypatch, capsys):
    rented = Rented(*(replace(each, template="other") for each in three(state="stopped")))
    manager = Said(tmp_path, Rented(), rented)
    monkeypatch.setattr(commands, "manager_of", lambda arguments: manager)
    assert main(["cluster", "start", "room", "-c", "small"]) == 1
    assert "was started with [cluster other]" in capsys.readouterr().err
    assert main(["cluster", "start", "room"]) == 0
    assert "node002  running" in capsys.readouterr().out
    assert len(rented.there) == 3


def test_only_the_nodes_that_are_asked_for_start(tmp_path):
    rented = Rented(*three(state="stopped"))
    manager = Said(tmp_path, rented)
    assert [each.name for each in manager.start_all(size=2)] == [MASTER, "node001"]
    assert rented.states() == {"i-0": "running", "i-1": "running", "i-2": "stopped"}
    assert "Not asked for, so that it stays stopped: node002." in manager.lines


def test_what_a_failed_removal_has_left_can_be_removed_again(tmp_path, monkeypatch, capsys):
    """All machines have ended, but the security group was still in use."""
    rented = Rented(*three())
    manager = Said(tmp_path, rented)
    rented.fails = {"clean_up": CloudError("It is still in use. Do it again.")}
    rented.left = ["sg-1"]
    with pytest.raises(CloudError, match="Do it again"):
        manager.terminate("room")
    monkeypatch.setattr(commands, "manager_of", lambda arguments: manager)
    assert main(["cluster", "terminate", "room"]) == 0  # there is nothing to ask about
    assert rented.calls == ["terminate", "clean_up", "leftovers", "clean_up"]
    assert manager.lines[-1] == "room is gone."
    rented.left = []
    assert main(["cluster", "terminate", "room"]) == 1
    assert "There is no cluster 'room'" in capsys.readouterr().err


def test_machines_whose_start_was_interrupted_are_listed_anew_to_be_stopped(tmp_path):
    rented = Rented(*three(state="stopped"))
    manager = Said(tmp_path, rented)
    stopped: list[str] = []

    def start(nodes, progress):
        rented._put(nodes, "pending")
        raise KeyboardInterrupt

    def stop(nodes, progress):
        stopped.extend(each.state for each in nodes)
        rented._put(nodes, "stopped")

    rented.start, rented.stop = start, stop
    with pytest.raises(KeyboardInterrupt):
        manager.start_all(size=3)
    assert stopped == ["pending"] * 3
    assert set(rented.states().values()) == {"stopped"}


@pytest.mark.parametrize("problem", [NodeError("cut off"), ValueError("no JSON")])
@pytest.mark.parametrize("n_failures", [1, 2])
def test_nodes_that_work_stay_when_the_bill_cannot_be_written(
    tmp_path, silent, monkeypatch, problem, n_failures
):
    rented = Rented(node(MASTER, 0))
    manager = Whole(tmp_path, rented)
    monkeypatch.setattr("mscourse.cluster.manager._LOOK_PERIOD_S", 0.01)
    billed: list[list[str]] = []

    def write_bill(self, master, nodes):
        billed.append([each.name for each in nodes])
        if len(billed) <= n_failures:
            raise problem

    monkeypatch.setattr(Services, "write_bill", write_bill)
    assert len(manager.add("room", 2)) == 2
    assert billed == [[MASTER, "node001", "node002"]] * 2
    assert len(rented.there) == 3
    told = [line for line in manager.lines if "The bill could not be written" in line]
    assert len(told) == (n_failures == 2)


def test_a_cluster_that_grows_does_not_stop_as_idle(tmp_path, monkeypatch):
    """Copies of its data are no work that its controller knows of."""
    rented = Rented(node(MASTER, 0))
    manager = Said(tmp_path, rented)
    is_used: list[str] = []

    @contextlib.contextmanager
    def in_use(self, master):
        is_used.append(master.name)
        yield
        is_used.clear()

    monkeypatch.setattr(Services, "in_use", in_use)
    seen: list[str] = []
    monkeypatch.setattr(manager, "_set_up", lambda nodes, *_: seen.extend(is_used) or nodes)
    manager.add("room", 1)
    assert (seen, is_used) == ([MASTER], [])


# -- a provider that cannot be asked ---------------------------------------------------------------


def test_a_cluster_can_be_used_though_another_provider_refuses(tmp_path, monkeypatch, capsys):
    """Such as a classroom, without credentials for AWS."""
    rented, closed = Rented(node(MASTER, 0)), Rented()
    closed.refuses = CloudError("there are no credentials")
    manager = Said(tmp_path, rented, closed)
    assert [each.name for each in manager.members("room")] == [MASTER]
    monkeypatch.setattr(commands, "manager_of", lambda arguments: manager)
    assert main(["cluster", "list"]) == 0
    printed = capsys.readouterr()
    assert "master  running" in printed.out
    assert printed.err == "r1 could not be looked into. there are no credentials\n"
    manager.terminate("room")
    assert [each.name for each in manager.start_all()] == [MASTER, "node001"]
    assert "r1 could not be looked into. there are no credentials" in manager.lines


def test_a_dashboard_outlives_a_bad_minute_of_the_network(monkeypatch, capsys):
    bad_minute = CloudError("no route to the endpoint")
    answers = iter([[], bad_minute, [], KeyboardInterrupt(), bad_minute])

    class Watched:
        def report(self, cluster):
            answer = next(answers)
            if isinstance(answer, BaseException):
                raise answer
            return answer

        def budget_usd(self, nodes):
            return None

    monkeypatch.setattr(commands, "manager_of", lambda arguments: Watched())
    assert main(["cluster", "dashboard", "--every", "0.01", "room"]) == 130
    printed = capsys.readouterr().out
    assert printed.count("Ctrl-C ends it") == 3
    assert "Not known at the moment: no route to the endpoint" in printed
    # At the beginning it tells that something is set up wrongly.
    assert main(["cluster", "dashboard", "--every", "0.01", "room"]) == 1
    assert "no route" in capsys.readouterr().err


def test_what_cannot_be_known_is_an_error(tmp_path):
    rented, closed = Rented(), Rented()
    closed.refuses = CloudError("there are no credentials")
    manager = Said(tmp_path, closed, rented)
    for command in (manager.members, manager.stop, manager.terminate):
        with pytest.raises(ClusterError, match=r"(?s)not all could be asked.*no credentials"):
            command("room")
    with pytest.raises(CloudError, match="no credentials"):
        manager.start_all()  # there may be such a cluster already
    rented.refuses = CloudError("there is no network")
    with pytest.raises(CloudError, match="no credentials"):
        manager.nodes()
    assert closed.calls == []


# -- machines that nobody would end ----------------------------------------------------------------


def test_machines_of_one_name_are_all_listed_and_all_ended(tmp_path, monkeypatch):
    """Two people add a node at the same time, and both call it node001."""
    rented = Rented(node(MASTER, 0), node("node001", 1), node("node001", 2))
    manager = Said(tmp_path, rented)
    assert [each.id for each in manager.members("room")] == ["i-0", "i-1", "i-2"]
    monkeypatch.setattr(Services, "write_bill", lambda *_: None)
    manager.remove("room", ["node001"], force=True)
    assert list(rented.there) == ["i-0"]


def test_two_threads_that_add_choose_names_of_their_own(tmp_path):
    rented = Rented(node(MASTER, 0))
    manager = Said(tmp_path, rented)
    names: list[str] = []

    def launch(request, progress):
        time.sleep(0.2)  # it takes a while until a machine is listed
        return rented._put([node(name, len(rented.there)) for name in request.names], "running")

    rented.launch = launch
    threads = [
        threading.Thread(target=lambda: names.extend(n.name for n in manager.add("room", 1)))
        for _ in range(2)
    ]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert sorted(names) == ["node001", "node002"]


def test_a_cluster_ends_where_it_is_whatever_its_template_says_by_now(tmp_path):
    """The region of its template has been changed since, or the template was renamed."""
    empty, rented = Rented(), Rented(node(MASTER, 0), node("node001", 1))
    manager = Said(tmp_path, empty, rented)
    manager.terminate("room")
    assert rented.there == {}
    assert empty.calls == []
    assert rented.calls == ["terminate", "clean_up"]


@pytest.mark.parametrize("state", ["stopping", "stopped"])
def test_a_cluster_whose_master_does_not_run_gets_no_nodes(tmp_path, state):
    rented = Rented(node(MASTER, 0, state=state))
    manager = Said(tmp_path, rented)
    with pytest.raises(ClusterError, match=f"its master is {state}. Start it"):
        manager.add("room", 1)
    assert rented.calls == []
    with pytest.raises(ClusterError, match="is stopped"):
        manager.restart("room")
    rented.there |= {"i-1": node("node001", 1)}
    with pytest.raises(ClusterError, match="has lost its master"):
        manager.restart("room")


@pytest.mark.parametrize("command", ["stop", "restart"])
def test_machines_that_nothing_looks_after_are_told(tmp_path, command):
    """Their agents have ended, and AWS refuses, or they cannot be set up again."""
    rented = Rented(node(MASTER, 0), node("node001", 1))
    manager = Said(tmp_path, rented)
    rented.fails = {"stop": CloudError("it is busy")}
    manager.at_setting_up = NodeError("it is busy")
    with pytest.raises(
        ClusterError, match=r"(?s)it is busy.*of room may run on.*cluster stop room"
    ):
        getattr(manager, command)("room")


def test_an_interrupted_stop_stops_the_machines_all_the_same(tmp_path):
    rented = Rented(node(MASTER, 0), node("node001", 1))
    manager = Said(tmp_path, rented)
    manager.ssh.each = interrupted
    with pytest.raises(ClusterError, match="It was interrupted"):
        manager.stop("room")
    assert rented.states() == {"i-0": "stopped", "i-1": "stopped"}


def interrupted(*_):
    raise KeyboardInterrupt


def test_an_interrupted_removal_says_what_is_left(tmp_path, monkeypatch):
    manager = Said(tmp_path, Rented(node(MASTER, 0), node("node001", 1)))
    monkeypatch.setattr(Services, "status", interrupted)
    with pytest.raises(
        ClusterError, match=r"node001 may be there.*removenode --force room node001"
    ):
        manager.remove("room", ["node001"])


def test_what_came_during_a_removal_stays_on_the_bill(tmp_path, monkeypatch):
    rented = Rented(node(MASTER, 0), node("node001", 1))
    manager = Said(tmp_path, rented)
    billed: list[str] = []
    monkeypatch.setattr(
        Services, "write_bill", lambda self, master, nodes: billed.extend(n.name for n in nodes)
    )
    monkeypatch.setattr(
        manager, "_wait_until_drained", lambda *_: rented._put([node("node002", 2)], "running")
    )
    manager.remove("room", ["node001"])
    assert billed == [MASTER, "node002"]


def test_a_node_that_does_not_answer_for_a_moment_is_not_taken_for_idle(tmp_path, monkeypatch):
    manager = Said(tmp_path, Rented(node(MASTER, 0), node("node001", 1)))
    monkeypatch.setattr(Services, "write_bill", lambda *_: None)
    monkeypatch.setattr("mscourse.cluster.manager._LOOK_PERIOD_S", 0.01)
    answers = [NodeError("cut off"), Status(state="draining", n_busy=1), Status(state="drained")]
    monkeypatch.setattr(Services, "status", lambda *_: raised_or_given(answers.pop(0)))
    manager.remove("room", ["node001"])
    assert not answers
    waits = [line for line in manager.lines if "Waiting" in line]
    assert waits == ["Waiting for node001 (no answer)", "Waiting for node001 (1 at work)"]
    answers = [NodeError("it is gone")] * 99
    manager = Said(tmp_path, Rented(node(MASTER, 0), node("node001", 1)))
    monkeypatch.setattr("mscourse.cluster.manager._SILENT_FOR_S", 0.1)
    manager.remove("room", ["node001"])  # one that stays silent is not waited for
    assert answers


def raised_or_given(value):
    if isinstance(value, Exception):
        raise value
    return value


def test_a_start_of_a_cluster_that_runs_lets_a_new_address_in(tmp_path):
    rented = Rented(node(MASTER, 0))
    with pytest.raises(
        ClusterError, match=r"There is a cluster 'room' already.*address \(203\..*\) is let in"
    ):
        Said(tmp_path, rented).start_all()
    assert rented.calls == ["allow_me"]


def test_nodes_that_run_without_their_master_have_a_way_out(tmp_path):
    rented = Rented(node(MASTER, 0, state="stopped"), node("node001", 1))
    manager = Said(tmp_path, rented)
    for command in (manager.start_all, lambda: manager.add("room", 1)):
        with pytest.raises(ClusterError, match=r"node001 of 'room' run.*cluster stop room"):
            command()
    assert rented.calls == []


# -- nodes that are replaced -----------------------------------------------------------------------


def report(name: str, state: str | None = "working", **changes: object) -> NodeReport:
    status = None if state is None else Status(state=state, notice=changes.pop("notice", None))
    return NodeReport(node(name, 0, **changes), status)


@pytest.mark.parametrize(
    ("lost", "n_lost"),
    [
        ({"state": "working"}, 0),
        ({"state": "starting"}, 0),  # its engines start (again)
        ({"state": None}, 0),  # it is being set up, or cut off for the moment
        ({"state": "draining"}, 1),
        ({"state": "drained"}, 1),
        ({"state": "stopped"}, 1),
        ({"state": "working", "notice": {"action": "terminate"}}, 1),
    ],
)
def test_what_is_gone_or_will_be_is_replaced(lost, n_lost):
    reports = [report(MASTER), report("node001"), report("node002", **lost)]
    assert connection._n_lost(reports, 2) == n_lost
    assert connection._n_lost(reports[:2], 2) == 1
    gone = [*reports[:2], NodeReport(node("node002", 2, state="stopping"), None)]
    assert connection._n_lost(gone, 2) == 1


@pytest.mark.parametrize("state", [None, "stopped", "broken", "draining"])
def test_nothing_is_replaced_while_the_master_does_not_work(state):
    assert connection._n_lost([report(MASTER, state)], 2) == 0


class Counted(Cluster):
    """A cluster without a connection."""

    def __init__(self, manager: object) -> None:
        self.name = "room"
        self._manager = manager
        self._is_closing = threading.Event()
        self._n_wanted = 2
        self._removed: set[str] = set()
        self._replacer = None


def test_what_the_user_removes_is_not_replaced_and_what_he_adds_is(tmp_path):
    class Changes:
        def add(self, *_):
            return [node("node003", 3)]

        def remove(self, cluster, names, *, force):
            seen.append(cluster_of_user._n_wanted)
            if "master" in names:
                raise ParameterError("no")

    seen: list[int] = []
    cluster_of_user = Counted(Changes())
    cluster_of_user.add(1)
    assert cluster_of_user._n_wanted == 3
    cluster_of_user.remove(["node001", "node002", "node002"])
    assert seen == [1]  # already while they drain
    with pytest.raises(ParameterError):
        cluster_of_user.remove(["master"])
    assert cluster_of_user._n_wanted == 1


def test_what_never_comes_is_not_rented_for_ever(monkeypatch):
    class Fails:
        n_asked = 0

        def report(self, cluster):
            return [report(MASTER)]

        def add(self, cluster, n_nodes):
            self.n_asked += 1
            if self.n_asked % 2:
                raise NodeError("no packages")
            return []

    monkeypatch.setattr(connection, "_LOOK_PERIOD_S", 0.001)
    fails = Fails()
    with pytest.warns(UserWarning, match="replaced") as warned:
        Counted(fails)._replace_lost()
    assert fails.n_asked == connection._MOST_FAILURES
    assert "No node of room is replaced any more" in str(warned[-1].message)


def test_what_somebody_else_removes_is_not_replaced():
    cluster_of_user = Counted(None)
    drains = [report(MASTER), report("node001"), report("node002", "draining")]
    for _ in range(2):
        cluster_of_user._note_removed(drains)
        assert cluster_of_user._n_wanted == 1
    taken = report("node001", "draining", notice={"action": "terminate"})
    cluster_of_user._note_removed([taken])
    assert cluster_of_user._n_wanted == 1


@pytest.mark.parametrize("ends", ["cluster.close(); print('closed')", "print('ends')"])
def test_a_replacement_that_is_under_way_is_not_cut_off(tmp_path, ends):
    """Else a machine would be half started, and nobody would end it."""
    script = tmp_path / "script.py"
    script.write_text(
        "import threading, time\n"
        "from mscourse.cluster import connection\n"
        "connection._LOOK_PERIOD_S = 0.05\n"
        "connection._n_lost = lambda *_: 1\n"
        "begun = threading.Event()\n"
        "class Adds:\n"
        "    def report(self, name): return []\n"
        "    def add(self, name, n_nodes):\n"
        "        begun.set(); time.sleep(2); print('complete', flush=True); return []\n"
        "class Closed:\n"
        "    def close(self): pass\n"
        "cluster = connection.Cluster.__new__(connection.Cluster)\n"
        "cluster.name, cluster._manager, cluster._n_wanted = 'room', Adds(), 1\n"
        "cluster._removed, cluster._is_closing = set(), threading.Event()\n"
        "cluster._roll_call = cluster.client = cluster._tunnel = Closed()\n"
        "cluster._begin_replacing()\n"
        "begun.wait()\n"
        f"{ends}\n"
    )
    command = [sys.executable, "-W", "ignore", str(script)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert sorted(done.stdout.split()) == sorted(["complete", *ends.split("'")[1::2]])
    assert done.returncode == 0
    if "close" in ends:
        assert done.stdout.split() == ["complete", "closed"]


def test_nothing_is_sent_to_a_cluster_that_is_stopped():
    class Stopped:
        def members(self, cluster):
            return [node(MASTER, 0, state="stopped")]

    with pytest.raises(ClusterError, match="No node of 'room' is running"):
        Counted(Stopped()).send(None)


# -- commands --------------------------------------------------------------------------------------


@pytest.mark.parametrize("terminals", [("in", "out"), ("in",), ("out",), ()])
def test_a_terminal_is_asked_for_only_where_both_ends_are_one(tmp_path, monkeypatch, terminals):
    """It would change the ends of lines in ``mscourse cluster sshmaster room cat x > x``."""
    manager = Said(tmp_path, Rented(node(MASTER, 0)))
    monkeypatch.setattr(commands, "manager_of", lambda arguments: manager)
    for each in ("in", "out"):
        stream = io.StringIO()
        stream.isatty = lambda each=each: each in terminals
        monkeypatch.setattr(sys, f"std{each}", stream)
    asked: list[str] = []

    def run(command, check):
        asked.extend(command)
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(commands.subprocess, "run", run)
    assert main(["cluster", "sshmaster", "room", "cat", "x"]) == 0
    assert ("-t" in asked) == (terminals == ("in", "out"))


def test_a_cluster_whose_template_is_gone_tells_its_status(tmp_path, monkeypatch, capsys):
    manager = Said(tmp_path, Rented(node(MASTER, 0, template="gone", usd_per_hour=1.0)))
    status = Status(state="working", spent_usd=2.0)
    monkeypatch.setattr(Services, "status", lambda *_: status)
    monkeypatch.setattr(commands, "manager_of", lambda arguments: manager)
    assert main(["cluster", "status", "room"]) == 0
    assert "cost so far 2.00 USD, 1 USD per hour" in capsys.readouterr().out
    manager.config.templates["gone"] = replace(SETTINGS, budget_usd=5.0)
    assert main(["cluster", "status", "room"]) == 0
    assert "of a budget of 5," in capsys.readouterr().out


# -- what runs on nodes ----------------------------------------------------------------------------


def test_only_splits_are_taken_to_nodes_that_come_later(here, tmp_path):
    """A volume has a folder lost+found, and whoever likes puts other files beside the splits."""
    data = tmp_path / "data"
    assert Services(here, "room").sent(node(MASTER, 0), "~/data") == []
    for name in ("lost+found", "digits-1", "notes"):
        (data / name).mkdir(parents=True)
    (data / "digits-1" / "manifest.json").write_text("{}")
    (data / "results.csv").write_text("")
    assert Services(here, "room").sent(node(MASTER, 0), "~/data") == ["digits-1"]
    assert Services(here, "room").sent(node(MASTER, 0), str(data)) == ["digits-1"]


def test_an_agent_that_hangs_is_ended_with_its_engines(here, tmp_path, monkeypatch):
    monkeypatch.setattr(services, "_STOPPED_WITHIN_S", 0.2)
    folder = tmp_path / services.folder_of("room")
    folder.mkdir(parents=True)
    code = (
        "import subprocess, time\n"
        "child = subprocess.Popen(['sleep', '600'], start_new_session=True)\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    agent = subprocess.Popen(
        [sys.executable, "-c", code, "mscourse.cluster.agent", str(folder)],
        stdout=subprocess.PIPE,
        text=True,
    )
    with agent:
        try:
            engine = int(agent.stdout.readline())
            (folder / "agent.lock").write_text(str(agent.pid))
            Services(here, "room").stop(node(MASTER, 0))
            assert agent.wait(10) == -signal.SIGKILL
        finally:
            agent.kill()  # or it would be waited for
    assert wait_until(lambda: not Path(f"/proc/{engine}").exists() or is_zombie(engine))


def test_an_agent_of_another_cluster_is_left_alone(here, tmp_path):
    """After a reboot it may have the number that this cluster's agent had."""
    folder = tmp_path / services.folder_of("room")
    folder.mkdir(parents=True)
    command = ["sleep 600", "mscourse.cluster.agent", f"{folder}-2"]
    with subprocess.Popen(["sh", "-c", *command], start_new_session=True) as other:
        try:
            (folder / "agent.lock").write_text(str(other.pid))
            (folder / "status.json").write_text("{}")
            assert Services(here, "room").status(node(MASTER, 0)) is None
            Services(here, "room").stop(node(MASTER, 0))
            assert other.poll() is None
        finally:
            os.killpg(other.pid, signal.SIGKILL)


def test_a_node_that_stops_at_once_says_why(here, tmp_path):
    """Such as a cluster that had spent its budget, and is started again."""
    python = tmp_path / "python"
    python.write_text(
        '#!/bin/sh\necho \'{"state": "stopped", "why": "no money"}\' >"$3/status.json"\n'
    )
    python.chmod(0o700)
    ready = Ready(home=str(tmp_path), python=str(python), package_folder="", address="")
    with pytest.raises(NodeError, match="It has stopped: no money"):
        Services(here, "room").start(node(MASTER, 0), ready, SETTINGS)


def test_a_cluster_that_is_used_is_kept_from_stopping(here, tmp_path, monkeypatch):
    monkeypatch.setattr(services, "_IN_USE_PERIOD_S", 0.1)
    folder = tmp_path / services.folder_of("room")
    folder.mkdir(parents=True)
    usage = Usage(
        folder / "none", folder / "none", folder / "in-use", idle_stop_s=1.0, budget_usd=None
    )
    time.sleep(1.2)
    assert "did nothing" in usage.reason_to_stop()
    with Services(here, "room").in_use(node(MASTER, 0)):
        assert wait_until((folder / "in-use").exists)
        usage.look()
        assert not usage.reason_to_stop()
    time.sleep(1.2)
    usage.look()
    assert "did nothing" in usage.reason_to_stop()


def is_zombie(pid: int) -> bool:
    return " Z " in Path(f"/proc/{pid}/stat").read_text()


@pytest.mark.timeout(30)
def test_a_copy_that_complains_at_length_comes_to_its_end(here, tmp_path):
    script = "head -c 300000 /dev/zero | tr '\\0' x >&2; echo copied"
    here.relay(node(MASTER, 0), node("node001", 1), script, "cat >~/copy", does="it was copied")
    assert (tmp_path / "copy").read_text() == "copied\n"
    with pytest.raises(NodeError, match=r"(?s)master.*no such thing"):
        here.relay(
            node(MASTER, 0), node("node001", 1), "echo no such thing >&2; exit 3", "cat", does="it"
        )


# -- interruptions ---------------------------------------------------------------------------------


@pytest.mark.timeout(60)
def test_an_interruption_ends_waiting_for_machines_that_boot(here, tmp_path, monkeypatch):
    (tmp_path / "bin" / "ssh").write_text("#!/bin/sh\necho Connection refused >&2\nexit 255\n")
    bootstrap = Bootstrap(here, replace(SETTINGS, start_timeout_s=600))
    threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT)).start()
    began_s = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        here.each([node(MASTER, 0)], lambda each: bootstrap.prepare(each, time.monotonic() + 50))
    assert time.monotonic() - began_s < 20
    # It was that call alone: the next one waits for a machine again.
    answers = here.each(
        [node(MASTER, 0)],
        lambda each: here.run_when_up(each, "true", time.monotonic() + 1.5, does="it answered"),
    )
    assert isinstance(answers[node(MASTER, 0)], NodeError)
    assert not here.is_cancelled
    assert time.monotonic() - began_s > 2.4


def test_an_interruption_in_one_thread_leaves_what_others_do(here):
    done: list[dict[Node, object]] = []

    def work() -> None:
        done.append(
            here.each([node(MASTER, 0)], lambda each: here.run(each, "sleep 2; echo yes", does="x"))
        )

    other = threading.Thread(target=work)
    other.start()
    assert wait_until(lambda: len(here._running) == 1)

    def fail(each: Node) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        here.each([node("node001", 1)], fail)
    other.join()
    assert list(done[0].values()) == ["yes\n"]


# -- the tunnel ------------------------------------------------------------------------------------


def test_no_port_is_found_twice():
    assert len(set(tunnel._free_ports(500))) == 500


def test_a_tunnel_that_breaks_has_the_new_address_let_in_before_it_opens_again(
    here, tmp_path, monkeypatch
):
    (tmp_path / "bin" / "ssh").write_text("#!/bin/sh\necho up\nexec cat\n")
    monkeypatch.setattr(tunnel, "_FIRST_PAUSE_S", 0.01)
    connections = dict.fromkeys(tunnel._PORTS, 1) | {"interface": "tcp://10.0.0.1"}
    calls: list[int] = []

    def let_in() -> None:
        calls.append(way.n_restarts)
        if len(calls) == 1:
            raise CloudError("no network yet")

    way = tunnel.Tunnel(here, node(MASTER, 0), connections, before_retry=let_in)
    assert calls == []
    way._process.kill()
    assert wait_until(lambda: len(calls) == 2 and way.is_open)
    way.close()
    way._thread.join(10)


def test_a_tunnel_that_is_closed_while_it_opens_again_leaves_no_ssh(here, tmp_path, monkeypatch):
    (tmp_path / "bin" / "ssh").write_text("#!/bin/sh\nexec cat\n")
    connections = dict.fromkeys(tunnel._PORTS, 1) | {"interface": "tcp://10.0.0.1"}
    monkeypatch.setattr(tunnel.Tunnel, "_supervise", lambda self: None)
    opened = tunnel.Tunnel._open
    monkeypatch.setattr(tunnel.Tunnel, "_open", lambda self: None)
    way = tunnel.Tunnel(here, node(MASTER, 0), connections)
    way.close()
    opened(way)  # as when the other thread has just found that the connection is lost
    assert way._process.poll() is not None
