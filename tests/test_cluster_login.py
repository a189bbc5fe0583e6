"""How ssh is called: whatever somebody has set up for it, and however many call at once."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from helpers import wait_until
from rig.server import HOME

from mscourse.cluster.nodes import Node
from mscourse.cluster.settings import Host, Key
from mscourse.cluster.ssh import Ssh
from mscourse.errors import NodeError

# What is usual in ~/.ssh/config, for sessions in a terminal.
FOR_TERMINALS = """\
Host *
    RequestTTY force
    RemoteCommand tmux new -A
    PermitLocalCommand yes
    LocalCommand echo hello from %h
    LocalForward 127.0.0.1:{port} 127.0.0.1:8888
    ExitOnForwardFailure yes
    ControlMaster auto
    ControlPath {folder}/%C
    ControlPersist 60
"""


def node(host: str, name: str = "master", key: Path | None = None) -> Node:
    login = None if key is None else Key("lab", key)
    return Node("room", name, name, Host(host, "root"), "running", "lab", key=login)


@pytest.fixture
def ssh(tmp_path):
    return Ssh(tmp_path / "known_hosts")


@pytest.fixture
def program(tmp_path, monkeypatch):
    """Have ssh be a script of bash; it finds a folder for its notes in $NOTES."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("NOTES", str(tmp_path))
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)

    def write(script: str) -> None:
        (folder / "ssh").write_text(f"#!/bin/bash\n{script}")
        (folder / "ssh").chmod(0o700)

    return write


@pytest.fixture
def own_config(tmp_path, program):
    """Write what takes the place of ~/.ssh/config; give its path."""

    def write(text: str) -> Path:
        path = tmp_path / "config"
        path.write_text(text)
        program(f'exec /usr/bin/ssh -F {path} "$@"\n')
        return path

    return write


# -- what is set up in ~/.ssh/config ---------------------------------------------------------------


def test_what_is_meant_for_a_terminal_harms_no_script_and_no_copy(
    ssh, network, login_key, own_config, tmp_path
):
    server = network.boot_server("lab01", authorized_key=login_key[1])
    own_config(FOR_TERMINALS.format(port=18881, folder=tmp_path))
    nodes = [node(server.address, f"node{n:03}", login_key[0]) for n in range(3)]
    script = "sleep 1; if tty >/dev/null; then echo a terminal; fi; echo one; echo two"
    said = ssh.each(nodes, lambda each: ssh.run(each, script, does="it spoke", timeout_s=20))
    assert list(said.values()) == ["one\ntwo\n"] * 3
    ssh.write(nodes[0], "a/b", b"\x00\n")
    assert server.path(f"{HOME}/a/b").read_bytes() == b"\x00\n"
    ssh.rsync(nodes[0], ["a/b"], str(tmp_path / "b"), to_node=False)
    assert (tmp_path / "b").read_bytes() == b"\x00\n"


def test_a_session_in_a_terminal_has_a_terminal_and_the_forwarded_ports(ssh, own_config, tmp_path):
    path = own_config(FOR_TERMINALS.format(port=18882, folder=tmp_path))
    session = ssh.command(node("lab01"), "-A", "-t")
    meant = subprocess.run(
        [*session[:1], "-G", "-F", str(path), *session[1:]], capture_output=True, text=True
    ).stdout.splitlines()
    assert "requesttty true" in meant
    assert "localforward [127.0.0.1]:18882 [127.0.0.1]:8888" in meant
    assert "controlmaster false" in meant


def test_a_host_behind_another_one_is_reached_as_its_owner_does(
    ssh, network, login_key, own_config, tmp_path
):
    gate, lab = (network.boot_server(each, authorized_key=login_key[1]) for each in ("gate", "lab"))
    own_config(
        f"Host behind\n  HostName {lab.address}\n  ProxyJump root@{gate.address}\n"
        f"Host *\n  IdentityFile {login_key[0]}\n  StrictHostKeyChecking no\n"
        f"  UserKnownHostsFile {tmp_path / 'known'}\n"
        "Host behind\n  RequestTTY force\n  RemoteCommand tmux\n  LocalForward 18883 [::1]:1\n"
    )
    came_from = ssh.run(node("behind"), "hostname; echo $SSH_CONNECTION", does="it spoke").split()
    assert came_from[:2] == ["lab", gate.address]


# -- many at once ----------------------------------------------------------------------------------

# It notes for how many others of the same host it finds itself at work.
COUNTED = """\
mkdir -p "$NOTES/now-$host" && touch "$NOTES/now-$host/$$"
ls "$NOTES/now-$host" | wc -l >"$NOTES/many-$host-$$"
sleep 0.4; rm "$NOTES/now-$host/$$"
"""
HOST = 'words=("$@"); host=${words[-2]}\n'

# As of sshd with its usual MaxStartups.
REFUSED = """\
echo "kex_exchange_identification: Connection closed by remote host" >&2
echo "Connection closed by 10.0.0.1 port 22" >&2
exit 255
"""


def test_no_host_has_many_connections_at_once(ssh, program, tmp_path):
    program(HOST + COUNTED)
    nodes = [node(host, f"node{n:03}") for n in range(16) for host in ("one", "two")]
    ssh.each(nodes, lambda each: ssh.run(each, "true", does="it answered"))
    for host in ("one", "two"):
        counts = [int(path.read_text()) for path in tmp_path.glob(f"many-{host}-*")]
        assert len(counts) == 16
        assert 1 < max(counts) <= 8


def test_a_long_copy_from_a_host_leaves_room_for_others(ssh, program, tmp_path):
    program(
        HOST + 'if [ $host = one ]; then echo x; fi; while [ -e "$NOTES/on" ]; do sleep 0.1; done'
    )
    (tmp_path / "on").touch()
    targets = [node(f"to{n}", f"node{n:03}") for n in range(10)]
    with ThreadPoolExecutor(1) as executor:
        copied = executor.submit(
            ssh.each, targets, lambda each: ssh.relay(node("one"), each, "a", "b", does="it came")
        )
        try:
            assert wait_until(lambda: len(ssh._running) == 20)
        finally:
            (tmp_path / "on").unlink()
        assert set(copied.result().values()) == {None}


@pytest.mark.parametrize("call", ["run", "relay from", "relay to"])
def test_a_host_that_refuses_a_connection_is_asked_again(ssh, program, tmp_path, call):
    program(
        f"{HOST}echo >>$NOTES/tries-$host; n=$(wc -l <$NOTES/tries-$host)\n"
        f"if [ $host = one ] && [ $n -lt 3 ]; then\n{REFUSED}fi\n"
        'exec bash -c "${@: -1}"\n'
    )
    one, two = node("one"), node("two", "node001")
    if call == "run":
        assert ssh.run(one, "echo yes", does="it answered") == "yes\n"
    else:
        source, target = (one, two) if call == "relay from" else (two, one)
        copy = tmp_path / "copy"
        ssh.relay(source, target, "echo yes", f"cat >{copy}; test -s {copy}", does="it came")
        assert copy.read_text() == "yes\n"
    assert (tmp_path / "tries-one").read_text() == "\n\n\n"


@pytest.mark.parametrize(
    "said",
    [
        "echo 'Connection to 10.0.0.1 closed by remote host.' >&2",
        "echo 'Read from remote host 10.0.0.1: Connection reset by peer' >&2",
        "echo 'Connection reset by 10.0.0.1 port 22' >&2",
        "echo begun; echo 'Connection closed by 10.0.0.1 port 22' >&2",
    ],
)
def test_a_script_that_may_have_begun_is_not_run_again(ssh, program, tmp_path, said):
    program(f"echo >>$NOTES/tries; {said}; exit 255\n")
    with pytest.raises(NodeError, match="cannot be reached"):
        ssh.run(node("one"), "shutdown", does="it was switched off")
    assert (tmp_path / "tries").read_text() == "\n"


@pytest.mark.parametrize("hangs", ["one", "two"])
def test_an_interruption_ends_both_sides_of_a_copy_from_node_to_node(ssh, program, hangs):
    """A reader on a network that is dead would take its time."""
    program(f"{HOST}if [ $host = {hangs} ]; then exec sleep 30; fi; echo x; exec cat\n")
    n_running = 2 if hangs == "two" else 1

    def interrupt() -> None:
        wait_until(lambda: len(ssh._running) == n_running)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    began_s = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        ssh.each([node("two")], lambda each: ssh.relay(node("one"), each, "a", "b", does="it came"))
    thread.join()
    assert time.monotonic() - began_s < 10
