"""What processes and hosts really hold in memory.

RSS, the number that `top` and `ps` show, counts a page that ten processes share ten times.
Data behind a memory map lies in the page cache, once per host: it is in the RSS of every process
that has read it, and costs each of them nothing. What a process holds *by itself* is its
anonymous memory. PSS shares out the rest: a page that ten processes map counts for a tenth in each,
so that the PSS of all processes add up to what they hold together.
"""

from __future__ import annotations

import contextlib
import operator
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

import ipyparallel as ipp
import psutil

from mscourse.engines import ask_engines, one_engine_per_host
from mscourse.errors import ParameterError

_BYTES_PER_MB = 1_000_000
_BYTES_PER_KIB = 1024

# A container sees its own control group here, a host the root of all, which has no limit.
_CGROUPS = Path("/sys/fs/cgroup")
_OWN_GROUPS = Path("/proc/self/cgroup")


class _PrintsInMB:
    """Show the fields of a record that end in ``_bytes`` as MB, as people read them."""

    def __repr__(self) -> str:
        shown = []
        for field in fields(self):  # type: ignore[arg-type]  # the subclasses are dataclasses
            value = getattr(self, field.name)
            name = field.name.removesuffix("_bytes")
            if name == field.name:
                shown.append(f"{name}={value!r}")
            elif value is None:
                shown.append(f"{name}=unknown")
            else:
                shown.append(f"{name}={value / _BYTES_PER_MB:.1f} MB")
        return f"{type(self).__name__}({', '.join(shown)})"


@dataclass(frozen=True, repr=False)
class ProcessMemory(_PrintsInMB):
    """What one process holds, in bytes.

    A figure that the operating system does not tell is None. Linux tells all of them, macOS and
    Windows only the RSS.

    Attributes
    ----------
    pid : int
        The process.
    rss_bytes : int
        All pages in RAM that the process has touched, shared or not.
    anonymous_bytes : int or None
        Pages that no file stands behind: what the process has allocated and written, and its
        private copies of pages of a memory map. This is what one more such process costs.
    file_backed_bytes : int or None
        The rest of the RSS: pages of files (data, programs, libraries) and of shared memory. For
        files they are the page cache itself, not a copy of it.
    shared_bytes : int or None
        Pages that at least one other process maps too.
    pss_bytes : int or None
        The proportional set size: each page counts as 1/n if n processes map it.
    """

    pid: int
    rss_bytes: int
    anonymous_bytes: int | None
    file_backed_bytes: int | None
    shared_bytes: int | None
    pss_bytes: int | None


@dataclass(frozen=True, repr=False)
class HostMemory(_PrintsInMB):
    """The memory of one host, in bytes.

    Attributes
    ----------
    host : str
        The host's name.
    total_bytes : int
        The RAM the host has; in a container with a limit, that limit.
    available_bytes : int
        What new data could take without swapping, or passing the limit of the container. The page
        cache counts as available, since it is given up when memory is asked for. This is the
        number to watch.
    free_bytes : int
        What nothing uses, not even the page cache. On a healthy host it is small.
    cached_bytes : int or None
        The page cache; None where the system does not tell.
    """

    host: str
    total_bytes: int
    available_bytes: int
    free_bytes: int
    cached_bytes: int | None


def process_memory(pid: int | None = None) -> ProcessMemory:
    """Measure what a process holds.

    Parameters
    ----------
    pid : int, optional
        The process; by default the one that calls.

    Returns
    -------
    ProcessMemory
        In bytes; printed in MB.

    Raises
    ------
    ParameterError
        If there is no such process.

    Examples
    --------
    >>> mscourse.process_memory()
    ProcessMemory(pid=..., rss=... MB, anonymous=..., file_backed=..., shared=..., pss=...)
    """
    try:
        pid = os.getpid() if pid is None else operator.index(pid)
        return _from_smaps(pid) or _from_psutil(pid)
    except (psutil.NoSuchProcess, ProcessLookupError, TypeError, ValueError) as error:
        raise ParameterError(f"There is no process {pid!r} on this host: {error}") from error


def engines_memory(client: ipp.Client) -> dict[int, ProcessMemory]:
    """Measure what each engine holds.

    Returns
    -------
    dict of int to ProcessMemory
        Engine id to memory. Engines that are busy answer after their current work.

    Raises
    ------
    NoEnginesError
        If the client has no engines.

    Examples
    --------
    >>> memory = mscourse.engines_memory(client)
    >>> list(memory)
    [0, 1]
    >>> memory[0]
    ProcessMemory(pid=..., rss=... MB, anonymous=..., file_backed=..., shared=..., pss=...)
    """
    return ask_engines(client, process_memory)


def hosts_memory(client: ipp.Client) -> dict[str, HostMemory]:
    """Measure the memory of each host that runs engines.

    Each host is asked once, through one of its engines, whatever the number of engines on it.

    Returns
    -------
    dict of str to HostMemory
        Host name to memory, in bytes; printed in MB.

    Raises
    ------
    NoEnginesError
        If the client has no engines.

    Examples
    --------
    >>> mscourse.hosts_memory(client)
    {'...': HostMemory(host='...', total=... MB, available=... MB, free=... MB, cached=...)}
    """
    answers = ask_engines(client, host_memory, targets=one_engine_per_host(client).values())
    return {memory.host: memory for memory in answers.values()}


def host_memory() -> HostMemory:
    """Measure the memory of this host, or what its container may use of it."""
    memory = psutil.virtual_memory()
    total, available, free = memory.total, memory.available, memory.free
    container = _container_memory()
    if container is not None and container.limit_bytes < total:
        total = container.limit_bytes
        available = min(available, max(0, total - container.needed_bytes))
        free = min(free, max(0, total - container.used_bytes))
    return HostMemory(
        host=socket.gethostname(),
        total_bytes=total,
        available_bytes=available,
        free_bytes=free,
        cached_bytes=getattr(memory, "cached", None),
    )


@dataclass(frozen=True)
class _ContainerMemory:
    limit_bytes: int
    used_bytes: int
    needed_bytes: int  # without the page cache that can be given up


def _container_memory() -> _ContainerMemory | None:
    """Read what the tightest control group of this process may use; None if there is no limit.

    Sources: "Control Group v2" and "Memory Resource Controller" in the documentation of Linux.
    """
    limited = []
    for root, kind, *names in (
        (_CGROUPS, "", "memory.max", "memory.current", ""),
        (_CGROUPS / "memory", "memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_"),
    ):
        # A limit holds for all groups below. A job of Slurm has its group far below the root.
        for folder in _own_groups(root, kind):
            with contextlib.suppress(OSError, ValueError, KeyError):
                limited.append(_group_memory(folder, *names))
    return min(limited, key=lambda each: each.limit_bytes - each.needed_bytes, default=None)


def _own_groups(root: Path, kind: str) -> Iterator[Path]:
    """Give the folders of control groups from the root down to that of this process.

    Groups of version 2 are of the kind "". A folder may not be there: a container may be told the
    path that its group has on the host.
    """
    yield root
    with contextlib.suppress(OSError):
        for line in _OWN_GROUPS.read_text().splitlines():
            _, kinds, path = line.split(":", 2)
            if kind in kinds.split(","):
                for part in path.split("/")[1:]:
                    root /= part
                    yield root


def _group_memory(folder: Path, limit: str, used: str, prefix: str) -> _ContainerMemory:
    limit_bytes = int((folder / limit).read_text())  # "max" if there is none
    used_bytes = int((folder / used).read_text())
    numbers = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
    # Active is what was read twice, such as mapped splits: it can be given up as well.
    cached_bytes = sum(int(numbers[f"{prefix}{age}active_file"]) for age in ("", "in"))
    return _ContainerMemory(limit_bytes, used_bytes, used_bytes - cached_bytes)


def _from_smaps(pid: int) -> ProcessMemory | None:
    """Read Linux's own account; None where there is none, or it is not ours to read."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except (FileNotFoundError, PermissionError):
        return None
    size_bytes: dict[str, int] = {}
    for line in text.splitlines()[1:]:  # the first line is the range of addresses
        name, value, *_ = line.split()
        size_bytes[name.rstrip(":")] = int(value) * _BYTES_PER_KIB
    rss_bytes = size_bytes["Rss"]
    return ProcessMemory(
        pid=pid,
        rss_bytes=rss_bytes,
        anonymous_bytes=size_bytes["Anonymous"],
        file_backed_bytes=rss_bytes - size_bytes["Anonymous"],
        shared_bytes=size_bytes["Shared_Clean"] + size_bytes["Shared_Dirty"],
        pss_bytes=size_bytes["Pss"],
    )


def _from_psutil(pid: int) -> ProcessMemory:
    return ProcessMemory(
        pid=pid,
        rss_bytes=psutil.Process(pid).memory_info().rss,
        anonymous_bytes=None,
        file_backed_bytes=None,
        shared_bytes=None,
        pss_bytes=None,
    )
