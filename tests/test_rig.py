"""The pretend servers are what the tests of clusters take them for: computers of their own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from helpers import wait_until
from rig.imds import update_metadata, write_metadata
from rig.machine import CommandError, call
from rig.network import Network
from rig.server import HOME

IMDS = "http://169.254.169.254/latest"


class Ssh:
    """Logs in to servers, with a list of host keys of its own."""

    def __init__(self, login_key, folder):
        self.login_key = login_key
        self.known_hosts = folder / "known_hosts"
        self.options = [
            *("-F", "none", "-i", str(login_key[0])),
            *("-o", "BatchMode=yes", "-o", "ConnectTimeout=1"),
            *("-o", f"UserKnownHostsFile={self.known_hosts}"),
        ]

    def know(self, *servers):
        with self.known_hosts.open("a") as file:
            file.writelines(f"{server.address} {server.host_key}\n" for server in servers)

    def run(self, server, command, *, user="root"):
        return subprocess.run(
            ["ssh", *self.options, f"{user}@{server.address}", command],
            capture_output=True,
            text=True,
            check=False,
            timeout=20,
        )

    def __call__(self, server, command, **options):
        done = self.run(server, command, **options)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()


@pytest.fixture
def ssh(login_key, tmp_path):
    return Ssh(login_key, tmp_path)


@pytest.fixture
def boot(ssh, network):
    """Boots a server whose host key is known."""

    def boot(name, **options):
        server = network.boot_server(name, authorized_key=ssh.login_key[1], **options)
        ssh.know(server)
        return server

    return boot


def test_one_logs_in_to_a_computer_of_its_own(boot, ssh):
    server = boot("node001")
    assert ssh(server, "hostname; cat /etc/hostname; whoami; pwd; echo $HOME") == "\n".join(
        ["node001", "node001", "root", HOME, HOME]
    )
    # Its first process, those of the login, and no other of this computer.
    pids = [int(pid) for pid in ssh(server, "ls /proc | grep '^[0-9]'").split()]
    assert 1 in pids
    assert len(pids) < 15
    assert ssh(server, "cat /etc/hosts").splitlines()[-1] == f"{server.address} node001"
    assert ssh(server, "getent hosts node001").startswith(server.address)
    assert ssh(server, "getent hosts elsewhere || echo unknown") == "unknown"
    links = ssh(server, "ip -brief link").splitlines()
    assert [line.split()[0].partition("@")[0] for line in links] == ["lo", "eth0"]


def test_it_is_ready_in_a_moment(boot):
    durations_s = []
    for i in range(3):
        start_s = time.monotonic()
        boot(f"node{i}")
        durations_s.append(time.monotonic() - start_s)
    assert min(durations_s) < 1


def test_only_the_owner_of_the_key_gets_in_and_only_if_he_knows_the_host(boot, ssh, tmp_path):
    server = boot("node001")
    stranger = Ssh((tmp_path / "no_key", ""), tmp_path)
    assert "Permission denied (publickey)" in stranger.run(server, "true").stderr
    ssh.known_hosts.write_text(f"{server.address} {ssh.login_key[1]}\n")
    assert "Host key verification failed" in ssh.run(server, "true").stderr


def test_the_environment_of_a_login_is_that_of_a_machine(boot, ssh):
    server = boot("node001")
    show = 'echo "$PATH:$TMPDIR:$HOME"; ls -d "$TMPDIR"; command -v ip'
    assert ssh(server, show) == server.call("sh", "-c", show).strip()
    assert str(os.environ["TMPDIR"]) not in ssh(server, "env")


def test_files_are_those_of_one_server(boot, ssh, tmp_path):
    one, two = boot("node001"), boot("node002")
    assert one.host_key != two.host_key
    folders = f"{HOME} /home /etc /srv /mnt /run /tmp /var/tmp /dev/shm"
    files = " ".join(f"{folder}/mscourse-rig" for folder in folders.split())
    ssh(one, f"for file in {files}; do echo mine > $file; done")
    assert set(ssh(one, f"cat {files}").split()) == {"mine"}
    assert ssh(two, f"cat {files} 2>/dev/null || true") == ""
    assert not any(Path(file).exists() for file in files.split())
    assert one.path(f"{HOME}/mscourse-rig").read_text() == "mine\n"


def test_hidden_folders_are_empty(boot, ssh, tmp_path, tmp_path_factory):
    server = boot("node001")
    (tmp_path / "secret").write_text("of this computer")
    assert "No such file" in ssh.run(server, f"cat {tmp_path}/secret").stderr
    assert ssh(server, f"ls {tmp_path_factory.getbasetemp()} 2>/dev/null || true") == ""


@pytest.mark.parametrize("folder", [sys.prefix, sys.base_prefix, str(Path(sys.prefix).parent)])
def test_the_python_of_the_tests_runs_even_where_all_around_it_is_hidden(ssh, login_key, folder):
    with Network(hidden=[Path(folder)]) as network:
        server = network.boot_server("node001", authorized_key=login_key[1])
        ssh.know(server)
        code = "import numpy, sys; print(sys.prefix)"
        assert ssh(server, f"{sys.executable} -c '{code}'") == sys.prefix
        if folder not in (sys.prefix, sys.base_prefix):
            assert ssh(server, f"ls -A {folder}") == Path(sys.prefix).name


def test_rsync_copies_to_it_and_back(boot, ssh, tmp_path):
    server = boot("node001")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "X.npy").write_bytes(os.urandom(100_000))
    shell = " ".join(["ssh", *ssh.options])

    def rsync(*between):
        subprocess.run(["rsync", "-a", "-e", shell, *between], check=True, timeout=20)

    rsync(f"{tmp_path}/data/", f"root@{server.address}:data/")
    rsync(f"root@{server.address}:data/", f"{tmp_path}/back/")
    sent = (tmp_path / "data" / "X.npy").read_bytes()
    assert (tmp_path / "back" / "X.npy").read_bytes() == sent
    assert server.path(f"{HOME}/data/X.npy").read_bytes() == sent


@pytest.mark.parametrize("end", ["power_off", "vanish"])
def test_the_disk_stays_when_it_is_off_and_processes_do_not(boot, ssh, end):
    server = boot("node001")
    ssh(server, "echo kept > kept; echo gone > /run/gone")
    ssh(server, "nohup sleep 1000 >/dev/null 2>&1 & echo")
    assert ssh(server, "pgrep -c sleep") == "1"
    getattr(server, end)()
    assert not server.is_on
    assert server.path(f"{HOME}/kept").read_text() == "kept\n"
    assert ssh.run(server, "true").returncode == 255
    server.power_on()
    assert ssh(server, "cat kept; ls /run/gone 2>/dev/null; pgrep -c sleep || true") == "kept\n0"


def test_one_that_vanishes_closes_no_connection(boot):
    for end, is_told in [("power_off", True), ("vanish", False)]:
        server = boot(end.replace("_", "-"))
        with socket.create_connection((server.address, 22), timeout=1) as connection:
            assert connection.recv(4) == b"SSH-"
            getattr(server, end)()
            try:
                while connection.recv(1000):
                    pass
                assert is_told
            except ConnectionResetError:
                assert is_told
            except TimeoutError:
                assert not is_told


def test_a_connection_is_cut_and_healed(boot, ssh):
    server = boot("node001")
    server.cut()
    assert "timed out" in ssh.run(server, "true").stderr
    server.heal()
    # A neighbour that did not answer may be taken for absent a little longer.
    assert wait_until(lambda: ssh.run(server, "echo again").stdout.strip() == "again")


def test_servers_log_in_to_each_other_and_reach_machines(boot, ssh, network, login_key):
    laptop = network.boot("laptop")
    instance = boot("instance", address=network.cloud_address_of(7))
    node = boot("node001")
    assert instance.address.startswith("172.31.")
    assert ssh(instance, "echo $SSH_CLIENT").split()[0] == network.address
    node.path(f"{HOME}/.ssh/id_ed25519").write_text(login_key[0].read_text())
    node.path(f"{HOME}/.ssh/id_ed25519").chmod(0o600)
    to_instance = f"ssh -o BatchMode=yes -o StrictHostKeyChecking=accept-new {instance.address}"
    assert ssh(node, f"{to_instance} 'hostname; echo $SSH_CLIENT'").split()[:2] == [
        "instance",
        node.address,
    ]
    for here, there in [(laptop, instance), (laptop, node), (instance, node)]:
        code = f"import socket; print(socket.create_connection(('{there.address}', 22), 5).recv(4))"
        assert here.call(sys.executable, "-Ic", code) == "b'SSH-'\n"


def test_users_and_hosts_can_be_added(boot, ssh):
    before = {
        name: Path(name).read_bytes() for name in ("/etc/passwd", "/etc/shadow", "/etc/hosts")
    }
    server = boot("node001")
    ssh(server, "useradd --create-home --shell /bin/bash rig-user")
    ssh(server, "echo 10.77.0.1 master >> /etc/hosts")
    assert ssh(server, "getent passwd rig-user").split(":")[5] == "/home/rig-user"
    assert ssh(server, "getent hosts master").split()[0] == "10.77.0.1"
    assert (
        ssh(server, "su rig-user -c 'touch ~/file'; stat -c %U /home/rig-user/file") == "rig-user"
    )
    assert {name: Path(name).read_bytes() for name in before} == before
    assert not Path("/home/rig-user").exists()


def test_a_disk_can_be_full(boot, ssh):
    server = boot("node001", disk_bytes=16_000_000)
    done = ssh.run(server, "head -c 20000000 /dev/zero > big")
    assert "No space left on device" in done.stderr
    assert ssh(server, "rm big; echo there is room > small; cat small") == "there is room"


def test_processes_without_a_parent_are_taken_away(boot, ssh):
    server = boot("node001")
    ssh(server, "(sleep 0.01 &) ; sleep 0.3")
    assert "Z" not in ssh(server, "ps -e -o stat=")


def test_what_is_started_there_ends_with_it(boot, tmp_path):
    server = boot("node001")
    process = server.start(
        ["sh", "-c", "hostname; echo $COLOUR $HOME; sleep 1000"],
        environment={"COLOUR": "blue"},
        log=tmp_path / "log",
    )
    assert wait_until(lambda: (tmp_path / "log").read_text().split() == ["node001", "blue", HOME])
    server.power_off()
    assert process.poll() is not None


def test_eight_run_at_the_same_time(boot, ssh):
    servers = [boot(f"node{i:03}") for i in range(8)]
    logins = [
        subprocess.Popen(
            ["ssh", *ssh.options, "-o", "ConnectTimeout=10", f"root@{each.address}", "hostname"],
            stdout=subprocess.PIPE,
            text=True,
        )
        for each in servers
    ]
    assert [each.communicate(timeout=30)[0].strip() for each in logins] == [
        each.name for each in servers
    ]


def curl(server, path, *, token=None, method="GET", **headers):
    """Ask the metadata service; give the status and the text."""
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    if token is not None:
        headers["X-aws-ec2-metadata-token"] = token
    code = f"""
import urllib.error, urllib.request
request = urllib.request.Request({IMDS + path!r}, headers={headers!r}, method={method!r})
try:
    with urllib.request.urlopen(request, timeout=5) as answer:
        print(answer.status, answer.read().decode())
except urllib.error.HTTPError as error:
    print(error.code)
    error.close()
"""
    status, _, text = server.call(sys.executable, "-Ic", code).strip().partition(" ")
    return int(status), text


def token_of(server, ttl="60"):
    status, token = curl(
        server, "/api/token", method="PUT", X_aws_ec2_metadata_token_ttl_seconds=ttl
    )
    assert status == 200
    return token


def test_an_instance_is_told_about_itself_and_of_its_end(boot, network, tmp_path):
    metadata = tmp_path / "metadata.json"
    write_metadata(
        metadata,
        {
            "instance-id": "i-0123456789abcdef0",
            "instance-life-cycle": "spot",
            "placement/region": "eu-central-1",
        },
    )
    server = boot("instance", address=network.cloud_address_of(7), metadata=metadata)
    assert curl(server, "/meta-data/instance-id") == (401, "")
    assert curl(server, "/meta-data/instance-id", token="made up") == (401, "")
    assert curl(server, "/api/token", method="PUT") == (400, "")

    token = token_of(server)
    assert curl(server, "/meta-data/instance-id", token=token) == (200, "i-0123456789abcdef0")
    assert curl(server, "/meta-data/placement/region", token=token) == (200, "eu-central-1")
    assert curl(server, "/meta-data/instance-life-cycle", token=token) == (200, "spot")
    for notice in ("spot/instance-action", "events/recommendations/rebalance"):
        assert curl(server, f"/meta-data/{notice}", token=token) == (404, "")

    time_text = datetime(2030, 1, 1, tzinfo=UTC).isoformat()
    action = {"action": "terminate", "time": time_text}
    update_metadata(metadata, {"spot/instance-action": action})
    update_metadata(metadata, {"events/recommendations/rebalance": {"noticeTime": time_text}})
    status, text = curl(server, "/meta-data/spot/instance-action", token=token)
    assert (status, text) == (200, f'{{"action": "terminate", "time": "{time_text}"}}')
    assert curl(server, "/meta-data/events/recommendations/rebalance", token=token)[0] == 200
    update_metadata(metadata, {"spot/instance-action": None})
    assert curl(server, "/meta-data/spot/instance-action", token=token) == (404, "")

    short = token_of(server, ttl="1")
    assert wait_until(lambda: curl(server, "/meta-data/instance-id", token=short)[0] == 401, 5)
    server.power_off()
    server.power_on()
    assert curl(server, "/meta-data/instance-id", token=token) == (401, "")


def test_a_server_without_metadata_has_no_such_service(boot):
    server = boot("node001")
    with pytest.raises(CommandError, match="Network is unreachable"):
        curl(server, "/meta-data/instance-id")


def test_nothing_is_left_of_a_network(login_key, ssh, network, tmp_path):
    def seen():
        mounts = Path("/proc/self/mounts").read_text()
        routes = subprocess.run(["ip", "route"], capture_output=True, text=True, check=True).stdout
        links = subprocess.run(
            ["ip", "-brief", "link"], capture_output=True, text=True, check=True
        ).stdout
        of_others = [line for line in links.splitlines() if network.bridge not in line]
        return (
            mounts,
            network.cloud_address_of(7) in routes,
            f"ms{network._number}-" in str(of_others),
        )

    before = seen()
    server = network.boot_server(
        "node001",
        authorized_key=login_key[1],
        address=network.cloud_address_of(7),
        metadata=tmp_path / "metadata.json",
    )
    ssh.know(server)
    ssh(server, "nohup sleep 1000 >/dev/null 2>&1 & echo")
    assert seen() == (before[0], True, True)
    disk = server._disk
    server.remove()
    assert disk.poll() is not None
    assert not Path(f"/proc/{disk.pid}").exists()
    assert seen()[::2] == before[::2]


def test_nobody_outside_answers_for_an_instance_that_boots(network):
    """Or each start would wait for a greeting where a network accepts every connection."""
    address = network.cloud_address_of(99)
    network.keep_here(address)
    assert f"dev {network.bridge} " in call("ip", "route", "get", address)
