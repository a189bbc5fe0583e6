"""What is brought to nodes and read from them, where a node is not quite as one likes it.

The nodes are only said to be there; the ssh that reaches them runs scripts on this computer.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import mscourse
from mscourse.cluster import bootstrap, nodefiles, services, transfer
from mscourse.cluster.bootstrap import Bootstrap, Ready
from mscourse.cluster.nodes import MASTER, Node
from mscourse.cluster.services import Services
from mscourse.cluster.settings import ClusterSettings, Host
from mscourse.cluster.ssh import Ssh
from mscourse.cluster.transfer import relay_splits, send_splits
from mscourse.errors import NodeError

SETTINGS = ClusterSettings("lab", start_timeout_s=60)
READY = Ready(home="/home/müller", python="/home/müller/py", package_folder="p", address="a")

# It answers for all nodes; what each has lies in a folder of its own, or in one that all share.
PROGRAM = """\
#!/bin/bash
until [ "$1" = lab01 ] || [ "$1" = lab02 ] || [ "$1" = 10.0.0.9 ]; do shift; done
host=$1; shift
export HOME="$NODES/$host" SSH_CONNECTION="10.0.0.1 1000 10.0.0.9 22"
if [ -d "$NODES/shared" ]; then HOME="$NODES/shared"; fi
mkdir -p "$HOME"; cd "$HOME"
export PATH="$NODES/bin:$PATH"
if [ -e "$NODES/greeting" ]; then cat "$NODES/greeting"; fi
exec bash -c "$*"
"""


def node(name: str, host: str, **changes: object) -> Node:
    return replace(Node("room", name, host, Host(host), "running", "lab"), **changes)


LAB01, LAB02 = node(MASTER, "lab01"), node("node001", "lab02")
RENTED = node(MASTER, "10.0.0.9", instance_type="c5.large", private_address="10.0.0.5")


@pytest.fixture
def there(tmp_path, monkeypatch):
    """A folder in which nodes have their home folders, each called as its host, and programs."""
    program(tmp_path, "ssh", PROGRAM)
    monkeypatch.setenv("NODES", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
    return tmp_path


@pytest.fixture
def ssh(there):
    return Ssh(there / "known_hosts")


def program(folder: Path, name: str, text: str) -> None:
    path = folder / "bin" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    path.chmod(0o700)


def folder_of(home: Path) -> Path:
    return home / services.folder_of("room")


# -- homes that hosts share ------------------------------------------------------------------------


def test_what_another_node_has_in_a_shared_home_is_left_alone(ssh, there):
    (there / "shared").mkdir()
    room = Services(ssh, "room")
    room.write_orders(LAB01, READY, SETTINGS)
    room.introduce(LAB01, {"of": "the master"})
    folder = folder_of(there / "shared")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    for write in (
        lambda: room.write_orders(LAB02, READY, SETTINGS),
        lambda: room.introduce(LAB02, {"of": "another"}),
    ):
        with pytest.raises(NodeError, match=r"(?s)node001.*master.*lab01.*share a home") as raised:
            write()
        assert "~/.mscourse/clusters/room belongs to that node" in str(raised.value)
    for harm in (room.drain, room.stop, room.remove):
        harm(LAB02)
        assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    room.stop(LAB01)
    assert (folder / nodefiles.STOP).exists()
    room.remove(LAB01)
    assert not folder.exists()


def test_a_host_may_become_another_node_than_it_was(ssh, there):
    room = Services(ssh, "room")
    room.write_orders(LAB02, READY, SETTINGS)
    room.write_orders(replace(LAB02, name="node007"), READY, SETTINGS)
    room.write_orders(replace(LAB02, name="node007", host=Host("lab02", "ann")), READY, SETTINGS)
    orders = nodefiles.Orders.read(folder_of(there / "lab02"))
    assert (orders.node, orders.host) == ("node007", "ann@lab02")


# -- what it does not say as it should -------------------------------------------------------------


def test_a_greeting_is_no_answer(ssh, there):
    room = Services(ssh, "room")
    (there / "greeting").write_text("Welcome to lab01\n{}\n")
    assert room.status(LAB01) is None
    assert room.sent(LAB01, "~/data") == []
    room.write_orders(LAB01, READY, SETTINGS)
    room.write_bill(LAB01, [replace(LAB01, usd_per_hour=1.0)])
    [entry] = json.loads((folder_of(there / "lab01") / nodefiles.BILL).read_text())
    assert entry["id"] == "lab01"
    folder = folder_of(there / "lab01") / nodefiles.PROFILE / "security"
    folder.mkdir(parents=True)
    (folder / "ipcontroller-client.json").write_text('{"key": "secret"}')
    assert room.client_connection(LAB01) == {"key": "secret"}


@pytest.mark.parametrize("content", ['{"state": "work', "[]", "3"])
def test_a_file_that_is_damaged_is_named(ssh, there, content, monkeypatch):
    monkeypatch.setattr(services, "_STATUS", services._STATUS.replace("is_alive", "true"))
    folder = folder_of(there / "lab01")
    folder.mkdir(parents=True)
    (folder / nodefiles.STATUS).write_text(content)
    (folder / nodefiles.BILL).write_text(content.replace("[]", '[{"id": 1}]'))
    room = Services(ssh, "room")
    with pytest.raises(
        NodeError, match=r"master \(lab01\): ~/.*/room/status.json there is damaged"
    ):
        room.status(LAB01)
    with pytest.raises(NodeError, match=r"master \(lab01\): ~/.*/room/bill.json there is damaged"):
        room.write_bill(LAB01, [LAB01])


# -- orders ----------------------------------------------------------------------------------------


def test_orders_are_read_by_bash_as_they_are(ssh, there):
    Services(ssh, "room").write_orders(LAB01, READY, SETTINGS)
    said = transfer._CHECK.splitlines()[0] % {"orders": f"{services.folder_of('room')}/node.json"}
    assert ssh.run(LAB01, f"{said}\nsaid python", does="it read") == "/home/müller/py\n"
    assert nodefiles.Orders.read(folder_of(there / "lab01")).python == READY.python


@pytest.mark.parametrize("number", [0, 1000])
def test_only_who_is_not_root_needs_sudo_to_halt(ssh, there, number):
    Services(ssh, "room").write_orders(RENTED, READY, SETTINGS)
    halts = nodefiles.Orders.read(folder_of(there / RENTED.id)).halts
    program(there, "id", f"#!/bin/sh\necho {number}\n")
    program(there, "shutdown", '#!/bin/sh\necho halts "$@"\n')
    program(there, "sudo", '#!/bin/sh\necho sudo "$@"\n')
    printed = subprocess.run(halts, capture_output=True, text=True, check=True).stdout
    assert printed == ("sudo -n shutdown -h now\n" if number else "halts -h now\n")


# -- splits ----------------------------------------------------------------------------------------


@pytest.fixture
def splits(tmp_path):
    X = np.random.default_rng(0).random((200, 10))
    return mscourse.persist_cv_splits(
        X, np.arange(200) % 2, folder=tmp_path / "here", name="two", cv=2
    )


def write_here(ssh: Ssh, node: Node) -> None:
    package = str(Path(mscourse.__file__).parents[1])
    ready = replace(READY, python=sys.executable, package_folder=package)
    Services(ssh, "room").write_orders(node, ready, SETTINGS)


def test_splits_count_as_sent_when_they_are_whole(ssh, there, splits, monkeypatch):
    calls: list[list[str]] = []
    rsync = ssh.rsync

    def cut_off(*arguments: object, **options: object) -> str:
        if calls:
            raise NodeError("cut off")
        calls.append(options["options"])
        return rsync(*arguments, **options)

    write_here(ssh, LAB01)
    room = Services(ssh, "room")
    with monkeypatch.context() as patch:
        patch.setattr(ssh, "rsync", cut_off)
        with pytest.raises(NodeError, match="cut off"):
            send_splits(ssh, LAB01, splits, "~/data")
    data = there / "lab01" / "data" / splits.folder_on_nodes
    assert len(list(data.iterdir())) == len(list(splits.folder.iterdir())) - 1
    assert room.sent(LAB01, "~/data") == []
    send_splits(ssh, LAB01, splits, "~/data")
    assert room.sent(LAB01, "~/data") == [splits.folder_on_nodes]


def test_a_copy_from_node_to_node_counts_when_it_is_whole(ssh, there, splits):
    for each in (LAB01, LAB02):
        write_here(ssh, each)
    send_splits(ssh, LAB01, splits, "~/data")
    name = splits.folder_on_nodes
    room = Services(ssh, "room")
    # The sender is cut off after the manifest, and between two files: tar finds nothing wrong.
    program(
        there,
        "tar",
        '#!/bin/sh\nif [ $1 = -cf ]; then exec /bin/tar -cf - -C "$4" ./manifest.json; fi\n'
        'exec /bin/tar "$@"\n',
    )
    with pytest.raises(NodeError, match=r"before .* was found to be whole"):
        relay_splits(ssh, LAB01, LAB02, [name], "~/data")
    assert room.sent(LAB02, "~/data") == []
    (there / "bin" / "tar").unlink()
    # What an earlier version of this package has left is replaced.
    (there / "lab02" / "data" / name).mkdir()
    (there / "lab02" / "data" / name / "rows.half").touch()
    relay_splits(ssh, LAB01, LAB02, [name], "~/data")
    assert room.sent(LAB02, "~/data") == [name]
    files = [sorted(path.name for path in (there / lab / "data" / name).iterdir())
             for lab in ("lab01", "lab02")]  # fmt: skip
    assert files[0] == files[1]
    assert [path.name for path in (there / "lab02" / "data").iterdir()] == [name]


@pytest.mark.parametrize("name", ["a:b.csv", "./c", "-d"])
def test_files_here_may_be_called_as_one_likes(ssh, there, monkeypatch, name):
    (there / "work").mkdir()
    monkeypatch.chdir(there / "work")
    Path(name).write_text("1")
    ssh.rsync(LAB01, [name], ".", to_node=True)
    assert (there / "lab01" / name).read_text() == "1"
    ssh.rsync(LAB01, [name.removeprefix("./")], "x:y", to_node=False)
    assert Path("x:y").read_text() == "1"


# -- addresses, and Python -------------------------------------------------------------------------


@pytest.fixture
def prepare(ssh, there, monkeypatch):
    """Make a node ready, but for the packages; give the interpreter that would be taken, too."""
    script = f"echo %(python)s >{there}/taken"
    monkeypatch.setattr(bootstrap, "_ENVIRONMENT", script)
    program(there, "sudo", '#!/bin/sh\nshift; exec "$@"\n')

    def prepare(each: Node, **changes: object) -> tuple[Ready, str]:
        ready = Bootstrap(ssh, replace(SETTINGS, **changes)).prepare(each, time.monotonic() + 20)
        taken = there / "taken"
        return ready, taken.read_text().strip() if taken.exists() else ""

    return prepare


def test_a_host_is_where_it_is_today(prepare):
    assert prepare(replace(LAB01, private_address="10.0.0.200"))[0].address == "10.0.0.9"


def test_a_rented_machine_is_where_its_owner_says(prepare):
    assert prepare(RENTED)[0].address == "10.0.0.5"


def test_of_another_python_on_a_host_is_told(prepare, monkeypatch):
    monkeypatch.setattr(bootstrap, "_version_here", lambda: "3.99")
    with pytest.warns(UserWarning, match="and here is 3.99: functions and classes"):
        prepare(LAB01)
    with pytest.warns(UserWarning, match="and here is 3.99: functions and classes"):
        prepare(LAB01, node_python=sys.executable)


def test_a_rented_machine_gets_the_python_of_here(prepare, there, monkeypatch):
    monkeypatch.setattr(bootstrap, "_version_here", lambda: "3.99")
    program(
        there,
        "apt-get",
        f'#!/bin/sh\necho "$*" >>{there}/installed\ncase "$*" in *"python3.99 python3.99-venv"*)'
        f" ln -sf {sys.executable} {there}/bin/python3.99;; esac\n",
    )
    _, taken = prepare(RENTED)
    assert taken == f"{there}/bin/python3.99"


def test_a_rented_machine_that_cannot_have_it_does_with_another(prepare, there, monkeypatch):
    monkeypatch.setattr(bootstrap, "_version_here", lambda: "3.99")
    program(there, "apt-get", "#!/bin/sh\nexit 0\n")
    uv = there / RENTED.id / ".mscourse" / "uv" / "bin" / "uv"
    uv.parent.mkdir(parents=True)
    uv.write_text("#!/bin/sh\necho no network >&2; exit 1\n")
    uv.chmod(0o700)
    with pytest.warns(UserWarning, match="and here is 3.99: functions and classes"):
        _, taken = prepare(RENTED)
    assert taken
    uv.write_text(f"#!/bin/sh\nif [ $2 = find ]; then echo {sys.executable}; fi\n")
    assert prepare(RENTED)[1] == sys.executable
