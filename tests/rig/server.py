"""A machine with files of its own that one logs in to with ssh.

It sees the system of this computer, as if both had been set up from the same image, and the Python
that runs the tests; but its home folders, configuration and temporary files are its own. They lie
on a pretend disk: a file system in memory that only a process of its own sees, so that nothing is
mounted on this computer, and nothing is left, whatever becomes of the tests.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from rig import imds, sshd
from rig.machine import Cable, Machine

HOME = "/home/root"
TEMPORARY = "/home/tmp"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

ENVIRONMENT = {
    "HOME": HOME,
    "USER": "root",
    "LOGNAME": "root",
    "SHELL": "/bin/bash",
    "LANG": "C.UTF-8",
    "PATH": PATH,
    "TMPDIR": TEMPORARY,
}

# What is on its disk. Of the rest of /var the programs of the system need what is there.
_OWN = ("/etc", "/home", "/mnt", "/srv", "/var/log", "/var/mail", "/var/tmp")

# The disk is made here, and is covered by the machine's own folder of this name at the end.
_DISK = "/mnt"


class Server(Machine):
    """A machine that has /etc, /home, /mnt, /run, /srv, /tmp and an sshd of its own.

    What is on its disk stays when it is powered off and on again, or vanishes; /run does not.

    Attributes
    ----------
    metadata : path or None
        The file, on this computer, that its instance metadata come from (see `rig.imds`). The
        machine does not see it.
    """

    def __init__(
        self,
        name: str,
        address: str,
        cable: Cable,
        *,
        authorized_key: str,
        metadata: Path | None,
        hidden: Sequence[Path],
        disk_bytes: int,
    ) -> None:
        super().__init__(name, address, cable)
        self.metadata = metadata
        self._authorized_key = authorized_key
        self._hidden = hidden
        self._disk_bytes = disk_bytes
        self._disk: subprocess.Popen[bytes] | None = None

    def path(self, path: str) -> Path:
        """Where this process finds a file of the machine's disk, also when the machine is off.

        Not for /run and /dev/shm, which go when it is powered off.
        """
        assert self._disk is not None, f"{self.name} has no disk yet"
        return Path(f"/proc/{self._disk.pid}/root{path}")

    @property
    def host_key(self) -> str:
        """The public key by which its sshd is known, as ``ssh-ed25519 AAAA...``."""
        text = self.path("/etc/ssh/ssh_host_ed25519_key.pub").read_text()
        return " ".join(text.split()[:2])

    def power_on(self) -> None:
        if self._disk is None:
            self._make_disk()
        super().power_on()
        if self.metadata is not None:
            self._start_metadata(self.metadata)
        self.call(sshd.command(), "-E", "/run/sshd.log")
        sshd.wait_for(self.address)

    def remove(self) -> None:
        super().remove()
        if self._disk is not None:
            self._disk.communicate()
            self._disk = None

    def _make_disk(self) -> None:
        self._disk = subprocess.Popen(
            ["unshare", "--mount", "sh", "-ec", self._disk_script()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        assert self._disk.stdout is not None
        if not self._disk.stdout.readline():
            raise OSError(f"{self.name} gets no disk: {self._disk.communicate()[1].decode()}")
        # What follows would otherwise change this computer.
        assert self.path("/etc").stat().st_dev != Path("/etc").stat().st_dev
        passwd = self.path("/etc/passwd")
        passwd.write_text(
            re.sub(r"^(root(?::[^:]*){4}):[^:]*:", rf"\1:{HOME}:", passwd.read_text(), flags=re.M)
        )
        self.path("/etc/hostname").write_text(f"{self.name}\n")
        self.path("/etc/hosts").write_text(
            f"127.0.0.1 localhost\n::1 localhost\n{self.address} {self.name}\n"
        )
        resolver = self.path("/etc/resolv.conf")
        resolver.unlink(missing_ok=True)  # it may be a link to a file in /run
        resolver.write_text("")
        sshd.configure(self.path("/etc"), self.name, ENVIRONMENT)
        keys = self.path(f"{HOME}/.ssh/authorized_keys")
        keys.parent.mkdir(mode=0o700, parents=True)
        keys.write_text(f"{self._authorized_key.strip()}\n")
        keys.chmod(0o600)

    def _disk_script(self) -> str:
        """Give the commands that lay its folders over those of this computer."""
        steps = [
            f"mount -t tmpfs -o size={self._disk_bytes},mode=755 disk {_DISK}",
            f"mkdir -p {' '.join(_DISK + own for own in _OWN)} {_DISK}/kept",
            f"mkdir -m 1777 {_DISK}{TEMPORARY}",
            f"chmod 1777 {_DISK}/var/tmp",
            f"cp -a /etc/. {_DISK}/etc",
        ]
        # This Python, where it would no longer be seen, is put back in the end.
        hidden = [folder.resolve() for folder in self._hidden]
        kept = _pythons_in([*map(Path, _OWN), Path("/tmp"), *hidden])
        places = {folder: f"{_DISK}/kept/{i}" for i, folder in enumerate(kept)}
        for folder, place in places.items():
            steps += [f"mkdir {place}", f"mount --bind {_quoted(folder)} {place}"]
        steps += [f"mount --bind {_DISK}{own} {own}" for own in _OWN if own != _DISK]
        steps += [f"mount --bind {TEMPORARY} /tmp"]
        for folder in hidden:
            access = "rw" if any(each.is_relative_to(folder) for each in kept) else "ro"
            mount = f"mount -t tmpfs -o size=64k,mode=755,{access} hidden {_quoted(folder)}"
            steps += [f"if [ -d {_quoted(folder)} ]; then {mount}; fi"]
        for folder, place in places.items():
            steps += [f"mkdir -p {_quoted(folder)}", f"mount --bind {place} {_quoted(folder)}"]
        return "\n".join([*steps, f"mount --bind {_DISK}{_DISK} {_DISK}", "echo", "exec cat"])

    def _start_metadata(self, metadata: Path) -> None:
        """Serve its metadata beside it: in its network, but not among its files."""
        self.call("ip", "address", "add", f"{imds.ADDRESS}/32", "dev", "lo")
        service = subprocess.Popen(
            [
                *("nsenter", "--target", self._first_process(), "--net", "--pid", "--"),
                *(sys.executable, "-IS", imds.__file__, str(metadata)),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
        )
        self._started.append(service)
        assert service.stdout is not None
        with service.stdout as output:
            assert output.readline(), f"{self.name} has no metadata service"

    def _before(self) -> list[str]:
        assert self._disk is not None
        return ["nsenter", "--target", str(self._disk.pid), "--mount", "--"]

    def _first_steps(self) -> list[str]:
        return [
            "mount -t tmpfs -o mode=755 run /run",
            f"mkdir -p {sshd.PRIVILEGE_FOLDER} /run/lock",
            "mount -t tmpfs -o mode=1777 shm /dev/shm",
        ]

    def _environment(self) -> Mapping[str, str]:
        return ENVIRONMENT

    def _inside(self) -> list[str]:
        return [*super()._inside(), "env", "--chdir", HOME]


def _pythons_in(folders: Sequence[Path]) -> list[Path]:
    """List the folders of this Python that lie in others."""
    prefixes = sorted({Path(sys.prefix), Path(sys.base_prefix)})
    return [each for each in prefixes if any(map(each.is_relative_to, folders))]


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))
