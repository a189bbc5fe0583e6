"""What a server of the pretend network is logged in to with: keys, and the configuration of sshd.

Debian: openssh-server, openssh-client, rsync.
"""

from __future__ import annotations

import os
import shutil
import socket
import time
from collections.abc import Mapping
from pathlib import Path

from rig.machine import call

PRIVILEGE_FOLDER = "/run/sshd"

_START_TIMEOUT_S = 10

# Often not in the search path of a user.
_SYSTEM_FOLDERS = "/usr/sbin:/sbin"


def why_no_ssh() -> str | None:
    """Say which command for servers is missing here, or None."""
    missing = [name for name in ("ssh", "ssh-keygen", "rsync") if shutil.which(name) is None]
    if _find() is None:
        missing.append("sshd")
    if missing:
        return f"servers need {', '.join(missing)} (Debian: openssh-server, openssh-client, rsync)"
    return None


def ssh_key(folder: Path) -> tuple[Path, str]:
    """Make a key; give the file of its private part, and the text of its public part."""
    private = folder / "id_ed25519"
    _make_key(private, "tests")
    return private, private.with_suffix(".pub").read_text().strip()


def command() -> str:
    """Give sshd's path; it insists on being called by that."""
    found = _find()
    assert found is not None
    return found


def configure(etc: Path, host: str, environment: Mapping[str, str]) -> None:
    """Write the configuration of a host's sshd, and give it a key of its own."""
    folder = etc / "ssh"
    for copied in folder.glob("ssh_host_*"):
        copied.unlink()
    _make_key(folder / "ssh_host_ed25519_key", host)
    variables = " ".join(f"{name}={value}" for name, value in environment.items())
    (folder / "sshd_config").write_text(
        f"""\
Port 22
HostKey /etc/ssh/ssh_host_ed25519_key
PidFile /run/sshd.pid
LogLevel VERBOSE
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
PrintLastLog no
SetEnv {variables}
Subsystem sftp internal-sftp
"""
    )


def wait_for(address: str) -> None:
    """Wait until an sshd answers."""
    deadline_s = time.monotonic() + _START_TIMEOUT_S
    while True:
        try:
            with socket.create_connection((address, 22), timeout=1) as connection:
                if connection.recv(4) == b"SSH-":
                    return
        except OSError as error:
            if time.monotonic() > deadline_s:
                raise TimeoutError(f"No sshd answers at {address}.") from error
        time.sleep(0.01)


def _find() -> str | None:
    return shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:{_SYSTEM_FOLDERS}")


def _make_key(file: Path, comment: str) -> None:
    call("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(file))
