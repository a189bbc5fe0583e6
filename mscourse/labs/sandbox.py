"""A place in which a lab runs, its clusters included, without a trace.

Kernels that are killed leave their clusters running, and nbval kills kernels. What a lab starts
is known by the environment it inherits: a profile folder (``IPYTHONDIR``) of its own. A cluster
that the learner runs elsewhere has another one, and is left alone.
"""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

#: How long a learner's cell may take. The solutions' cells take less than 10 s each.
CELL_TIMEOUT_S = 60.0

#: How long a whole notebook may take. The solutions take less than a minute each.
TOTAL_TIMEOUT_S = 600.0

#: A cluster is up once the engines have answered a heartbeat: 3 s apart by default, 0.3 s here.
_CONTROLLER_CONFIG = "c = get_config()\nc.HeartMonitor.period = 300\n"

#: Processes get this long to end by themselves before they are killed.
_GRACE_S = 3.0


@dataclass(frozen=True)
class Sandbox:
    """A temporary folder, and the environment variables for what runs in it."""

    folder: Path
    environment: dict[str, str]

    @property
    def working_folder(self) -> Path:
        """Where its notebooks run."""
        return self.folder / "work"

    def processes(self) -> list[psutil.Process]:
        """The processes started in the sandbox that are still running."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get("IPYTHONDIR") == self.environment["IPYTHONDIR"]:
                    found.append(process)
            except (psutil.Error, OSError):
                continue  # another user's, or gone
        return found

    def stop_processes(self) -> None:
        """Stop all that still runs. Repeated, since a dying process may have started another."""
        for _ in range(5):
            processes = self.processes()
            if not processes:
                return
            for process in processes:
                _signal(process, "terminate")
            _, alive = psutil.wait_procs(processes, timeout=_GRACE_S)
            for process in alive:
                _signal(process, "kill")
            psutil.wait_procs(alive, timeout=_GRACE_S)


def _signal(process: psutil.Process, name: str) -> None:
    with suppress(psutil.NoSuchProcess):
        getattr(process, name)()


@contextmanager
def sandbox() -> Iterator[Sandbox]:
    """Make a sandbox; on leaving, stop what runs in it and remove its files."""
    with tempfile.TemporaryDirectory(prefix="mscourse-lab-", ignore_cleanup_errors=True) as name:
        folder = Path(name).resolve()
        profile = folder / "ipython" / "profile_default"
        profile.mkdir(parents=True)
        (profile / "ipcontroller_config.py").write_text(_CONTROLLER_CONFIG, encoding="utf-8")
        environment = {
            **os.environ,
            "IPYTHONDIR": str(folder / "ipython"),
            "TMPDIR": str(folder / "tmp"),  # what is left there goes with the sandbox
            "IPP_NONINTERACTIVE": "1",  # no progress bars, whose text depends on the time
        }
        box = Sandbox(folder, environment)
        box.working_folder.mkdir()
        (folder / "tmp").mkdir()
        try:
            yield box
        finally:
            box.stop_processes()
