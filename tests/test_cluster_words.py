"""What is said of nodes: where they are, and what to do when a command fails there."""

from __future__ import annotations

import pytest

from mscourse.cli import main
from mscourse.cluster.nodefiles import Status
from mscourse.cluster.nodes import Node
from mscourse.cluster.settings import Host
from mscourse.cluster.ssh import failure
from mscourse.cluster.views import list_of_clusters

OWN = Node("room", "node001", "ada@lab01", Host("lab01", "ada"), "running", "classroom")
RENTED = Node("cloud", "node001", "i-0abc", Host("198.51.100.7", "ada"), "running", "small")


def test_a_host_that_is_its_own_id_is_named_once():
    assert str(OWN) == "node001 (ada@lab01)"
    assert str(RENTED) == "node001 (i-0abc, ada@198.51.100.7)"
    listed = "\n".join(list_of_clusters([OWN, RENTED]))
    assert listed.count("ada@lab01") == 1
    assert "i-0abc" in listed


@pytest.mark.parametrize(
    ("status", "said", "advice"),
    [
        (255, b"ada@lab01: Permission denied (publickey).", "see KEYNAME, and the user in HOSTS"),
        (255, b"ssh: connect to host lab01 port 22: Connection refused", "No ssh server answers"),
        (255, b"ssh: Could not resolve hostname lab01", "see HOSTS"),
        (1, b"ERROR: No matching distribution found for numpy==2.3.4", "WHEELS"),
    ],
)
def test_what_ssh_or_pip_says_comes_with_what_to_do(status, said, advice):
    message = str(failure(OWN, "the packages were installed", status, said))
    assert message.startswith("node001 (ada@lab01): ")
    assert advice in message.splitlines()[0]
    assert said.decode() in message


@pytest.mark.parametrize(
    "arguments",
    [
        ["dashboard", "--every", "-1", "room"],
        ["logs", "-n", "0", "room"],
        ["addnode", "-s", "-2", "room"],
        ["addnode", "-b", "0", "room"],
        ["removenode", "--within", "nan", "room"],
        ["run", "--timeout", "-5", "room", "hostname"],
    ],
)
def test_a_number_that_must_be_positive_is_refused_at_once(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        main(["cluster", *arguments])
    assert caught.value.code == 2
    assert f"{arguments[2]} is not a positive number" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["put", "room", "data.csv"], "Name the target behind data.csv"),
        (["get", "room", "results.csv"], "Name the target behind results.csv"),
        (["run", "room"], "which command?"),
        (["run", "room", "--node", "node001", "ls"], "Options stand before NAME"),
    ],
)
def test_what_would_do_nothing_or_something_else_is_refused(arguments, says, capsys):
    with pytest.raises(SystemExit) as caught:
        main(["cluster", *arguments])
    assert caught.value.code == 2
    assert says in capsys.readouterr().err


def test_the_state_of_a_node_with_another_version_can_be_read():
    status = Status.read('{"state": "working", "n_engines": 2, "colour_of_the_fan": "blue"}')
    assert (status.state, status.n_engines) == ("working", 2)
