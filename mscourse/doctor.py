"""Tell what is wrong with this machine before a course or a search finds out."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from importlib.util import cache_from_source
from pathlib import Path

import psutil
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from mscourse.engines import ask_engines, local_cluster, usable_cores
from mscourse.errors import ClusterError
from mscourse.memory import host_memory

# What the chapters and labs take, with room for a browser beside them.
_NEEDED_MEMORY_BYTES = 2 * 10**9
_NEEDED_DISK_BYTES = 2 * 10**9
_RECOMMENDED_CORES = 2

# A controller with two engines listens on about this many ports of the loopback address.
_NEEDED_PORTS = 20

# To run the chapters and the labs. Those that publish the pages need more, from `make setup`.
_EXTRAS_OF_THE_COURSE = ("notebook", "labs")


@dataclass(frozen=True)
class Finding:
    """What one check found.

    Attributes
    ----------
    subject : str
        What was looked at.
    is_good : bool
        Whether it will do.
    says : str
        What was found, and if it will not do, what to do.
    """

    subject: str
    is_good: bool
    says: str


def examine() -> Iterator[Finding]:
    """Look at everything the course needs, one finding after the other."""
    checks: tuple[Callable[[], Finding], ...] = (
        _python,
        _packages,
        _course_packages,
        _bytecode,
        _cores,
        _memory,
        _disk,
        _ports,
        _cluster,
    )
    for check in checks:
        yield check()


def _python() -> Finding:
    version = sys.version.split()[0]
    required = metadata.metadata("mscourse")["Requires-Python"]
    release = ".".join(map(str, sys.version_info[:3]))
    is_good = SpecifierSet(required).contains(release)
    advice = "" if is_good else f"; {required} is needed: make PYTHON=python3.12 clean setup"
    return Finding("Python", is_good, f"{version} in {sys.prefix}{advice}")


def _packages() -> Finding:
    names, wrong = _wrong_packages(_is_for_mscourse)
    if wrong:
        return Finding("packages", False, f"{'; '.join(wrong)}; install mscourse again with pip")
    return Finding("packages", True, f"the {len(names)} of mscourse are there, and fit")


def _course_packages() -> Finding:
    names, wrong = _wrong_packages(_is_for_the_course)
    if wrong:
        return Finding(
            "course",
            False,
            f"{'; '.join(wrong)}; in the folder of the course: make setup (mscourse alone, without "
            "chapters and labs, needs none of them)",
        )
    return Finding("course", True, f"its {len(names)} packages are there, and fit")


def _wrong_packages(is_needed: Callable[[Requirement], bool]) -> tuple[set[str], list[str]]:
    """Name the packages that are needed, and say which of them will not do, and why."""
    names: set[str] = set()
    wrong: dict[str, None] = {}  # in order, and each once: several extras may ask for the same
    for requirement in map(Requirement, metadata.requires("mscourse") or []):
        if requirement.name == "mscourse" or not is_needed(requirement):
            continue
        names.add(requirement.name)
        try:
            version = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            wrong[f"{requirement.name} is missing"] = None
            continue
        if not requirement.specifier.contains(version, prereleases=True):
            wrong[f"{requirement.name} is {version}, not {requirement.specifier}"] = None
    return names, list(wrong)


def _is_for_mscourse(requirement: Requirement) -> bool:
    return requirement.marker is None or requirement.marker.evaluate({"extra": ""})


def _is_for_the_course(requirement: Requirement) -> bool:
    marker = requirement.marker
    return marker is not None and any(
        marker.evaluate({"extra": extra}) for extra in _EXTRAS_OF_THE_COURSE
    )


def _bytecode() -> Finding:
    compiled = Path(cache_from_source(psutil.__file__))  # of a package that was just imported
    if compiled.exists():
        return Finding("bytecode", True, "Python keeps what it has compiled")
    advice = (
        "unset PYTHONDONTWRITEBYTECODE"
        if sys.dont_write_bytecode
        else f"whoever may write there: python -m compileall -q {compiled.parents[2]}"
    )
    return Finding(
        "bytecode",
        True,
        f"not kept: everything runs, but each engine compiles its packages again; {advice}",
    )


def _cores() -> Finding:
    usable = usable_cores()
    if usable < _RECOMMENDED_CORES:
        return Finding(
            "cores", True, f"{usable}: everything runs, but two engines are no faster than one"
        )
    return Finding("cores", True, f"{usable}")


def _memory() -> Finding:
    available = host_memory().available_bytes
    is_good = available >= _NEEDED_MEMORY_BYTES
    advice = "" if is_good else "; 2.0 GB are needed: close other programs"
    return Finding("memory", is_good, f"{available / 1e9:.1f} GB available{advice}")


def _disk() -> Finding:
    folder = tempfile.gettempdir()
    free = shutil.disk_usage(folder).free
    is_good = free >= _NEEDED_DISK_BYTES
    advice = "" if is_good else "; 2.0 GB are needed: free some, or set TMPDIR to a larger disk"
    return Finding("disk", is_good, f"{free / 1e9:.1f} GB free in {folder}{advice}")


def _ports() -> Finding:
    n_free = 0
    with contextlib.ExitStack() as held:  # all at once, as a cluster has them
        try:
            for _ in range(_NEEDED_PORTS):
                held.enter_context(socket.socket()).bind(("127.0.0.1", 0))
                n_free += 1
        except OSError as error:
            says = f"only {n_free} of {_NEEDED_PORTS} on 127.0.0.1: {error}"
            return Finding("ports", False, says)
    return Finding("ports", True, f"{_NEEDED_PORTS} are free on 127.0.0.1")


def _cluster() -> Finding:
    start_s = time.perf_counter()
    try:
        with local_cluster(2) as client:
            pids = ask_engines(client, os.getpid)
    except ClusterError as error:
        return Finding("cluster", False, f"{error}; a firewall may block 127.0.0.1")
    took_s = time.perf_counter() - start_s
    return Finding("cluster", True, f"{len(pids)} engines started and stopped in {took_s:.1f} s")
