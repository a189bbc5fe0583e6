"""Describe the machine that the numbers come from."""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path

import numpy  # noqa: F401  # loads the BLAS that is described
import psutil
from threadpoolctl import threadpool_info

_PACKAGES = (
    "numpy",
    "scipy",
    "scikit-learn",
    "joblib",
    "ipyparallel",
    "dask",
    "distributed",
    "dask-ml",
    "ray",
    "mscourse",
)


def describe_machine() -> dict[str, str]:
    """Name what the times depend on, and how busy the machine was already."""
    load = f"{os.getloadavg()[0]:.2f}"
    return {
        "Date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "Commit": _commit(),
        "CPU": _cpu(),
        "Cores": str(len(psutil.Process().cpu_affinity()) if _is_linux() else os.cpu_count()),
        "RAM": f"{psutil.virtual_memory().total / 1e9:.0f} GB",
        "System": _system(),
        "Load before the start": load,
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
        "BLAS": _blas(),
        "Packages": ", ".join(f"{name} {metadata.version(name)}" for name in _PACKAGES),
    }


def _is_linux() -> bool:
    return platform.system() == "Linux"


def _commit() -> str:
    return _output("git", "describe", "--always", "--dirty", "--exclude=*")


def _cpu() -> str:
    if not _is_linux():
        return _output("sysctl", "-n", "machdep.cpu.brand_string")
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _system() -> str:
    if not _is_linux():
        return platform.platform()
    return f"{platform.freedesktop_os_release()['PRETTY_NAME']}, Linux {platform.release()}"


def _blas() -> str:
    for library in threadpool_info():
        if library["user_api"] == "blas":
            kernel = library.get("architecture", "unknown")
            return f"{library['internal_api']} {library['version']}, kernel {kernel}, one thread"
    return "unknown"


def _output(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
