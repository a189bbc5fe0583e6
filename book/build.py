"""Build the book: run every chapter on a local ipyparallel cluster and write the pages.

::

    python book/build.py            # what `make book` calls
    python book/build.py --cold     # run every chapter again, whatever is cached

The pages go to ``book/_build/html``, and ``index.html`` there opens from the disk: nothing in it
needs a network. Warnings are errors. When a cell fails, its traceback is shown, the other chapters
are still tried, and the exit status is 1. At the end it says how long each page took to run.

What a chapter printed is kept from one build to the next as long as nothing changes that it may
depend on: its own cells, the sources of ``mscourse``, the figures' code, the pretend machines of
``tests/rig``, any installed package. The pages themselves are always written anew, so that a
warning does not vanish by building twice.

Chapters that measure speed or memory run one after the other. Those that mostly wait, for machines
that boot or for engines that die, run side by side before.

Where the pages and their repository will be is told by variables: see ``_ext/published.py``.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from importlib.metadata import distributions
from pathlib import Path
from types import FrameType
from typing import NoReturn

import psutil
import yaml

BOOK = Path(__file__).resolve().parent
ROOT = BOOK.parent
BUILD = BOOK / "_build"
HTML = BUILD / "html"
CACHE = BUILD / ".jupyter_cache"
FINGERPRINT = BUILD / "cache-fingerprint.txt"
RUN_TIMES = BUILD / "run-times.json"  # written by _ext/run_times.py

# Engines register after a heartbeat. With ipyparallel's own 3000 ms a cluster takes 6 s to start.
HEARTBEAT_PERIOD_MS = 300

# One thread an engine: the chapters compare 1 engine with 2, on as few as two cores.
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)

# Pages whose numbers depend little on what else the computer does: mostly, they wait. The longest
# comes first, and beside it one that computes and one that waits.
SIDE_BY_SIDE = (
    "06-clusters",
    "05-when-things-break",
    "01-primer",
    "07-capstone",
    "searches",
    "index",
    "setup",
    "benchmarks",
    "which-tool",
    "starcluster",
)

# How long processes may take to end by themselves, and after they were told to.
STOPPING_S = 10
GRACE_S = 5


def main(arguments: list[str] | None = None) -> int:
    """Build the book and return the exit status."""
    options = _parse(arguments)
    signal.signal(signal.SIGTERM, _exit_on_signal)
    started = time.monotonic()

    if options.cold:
        shutil.rmtree(BUILD, ignore_errors=True)
    BUILD.mkdir(exist_ok=True)
    _forget_stale_outputs()
    # Sphinx reads a page again only when its text changes. One that failed would pass next time.
    for stale in (HTML, BUILD / ".doctrees"):
        shutil.rmtree(stale, ignore_errors=True)

    with tempfile.TemporaryDirectory(prefix="mscourse-book-", ignore_cleanup_errors=True) as tmp:
        ipython_dir = Path(tmp)
        _write_profile(ipython_dir)
        environment = _environment(ipython_dir)
        _warm_up(environment)
        try:
            _run_side_by_side(environment)
            status = _run_jupyter_book(environment, verbose=options.verbose)
        finally:
            left_running = list(_stop_processes(ipython_dir))

    elapsed_s = time.monotonic() - started
    if status:
        _say(f"\nThe book was not built: see the messages above ({elapsed_s:.0f} s).")
        return 1
    if left_running:
        _say("\nThese processes were left running by a chapter, and have been stopped:")
        _say("\n".join(f"  {line}" for line in sorted(set(left_running))))
        _say("Each chapter stops the clusters that it starts.")
        shutil.rmtree(CACHE, ignore_errors=True)  # or the next build would not run it, and pass
        return 1
    _say(_run_times())
    _say(f"\nThe book is built ({elapsed_s:.0f} s). Open {HTML / 'index.html'}")
    return 0


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _run_times() -> str:
    """List how long each page took to run, the longest last."""
    times_s = json.loads(RUN_TIMES.read_text(encoding="utf-8"))
    lines = [f"  {time_s:6.1f} s  {page}" for page, time_s in sorted(times_s.items(), key=_second)]
    return "\n".join(["", *lines, f"  {sum(times_s.values()):6.1f} s  to run all pages"])


def _second(pair: tuple[str, float]) -> float:
    return pair[1]


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Run every chapter and write the pages.")
    parser.add_argument("--cold", action="store_true", help="run every chapter again")
    parser.add_argument("--verbose", action="store_true", help="show all that Sphinx says")
    return parser.parse_args(arguments)


def _exit_on_signal(number: int, frame: FrameType | None) -> NoReturn:
    """Turn a signal into an exception, so that what was started is stopped."""
    sys.exit(128 + number)


# --- what is kept between builds ---------------------------------------------------------------


def _forget_stale_outputs() -> None:
    """Drop the cached outputs if anything has changed that the cache does not look at."""
    current = _fingerprint()
    known = FINGERPRINT.read_text(encoding="utf-8") if FINGERPRINT.exists() else ""
    if current != known:
        shutil.rmtree(CACHE, ignore_errors=True)
        FINGERPRINT.write_text(current, encoding="utf-8")


def _fingerprint() -> str:
    """Digest what a chapter's outputs depend on besides its own cells."""
    digest = hashlib.sha256(sys.version.encode())
    for installed in sorted(f"{d.name}=={d.version}" for d in distributions()):
        digest.update(installed.encode())
    for source in sorted(_sources()):
        digest.update(str(source.relative_to(ROOT)).encode())
        digest.update(source.read_bytes())
    return digest.hexdigest()


def _sources() -> Iterator[Path]:
    """Give the files that a cell may read or import. The extensions change pages, not outputs."""
    yield BOOK / "build.py"
    yield ROOT / "benchmarks" / "results.json"
    for folder in ("mscourse", "tests/rig", "book/figures"):
        yield from (ROOT / folder).rglob("*.py")
    for folder in ("explorables", "data"):
        files = (BOOK / folder).rglob("*")
        yield from (path for path in files if path.is_file() and path.suffix != ".pyc")


# --- the surroundings of a chapter -------------------------------------------------------------


def _write_profile(ipython_dir: Path) -> None:
    """Write an IPython profile of our own, so that nobody's settings change what is published."""
    profile = ipython_dir / "profile_default"
    profile.mkdir()
    settings = {
        "ipcontroller_config.py": f"c.HeartMonitor.period = {HEARTBEAT_PERIOD_MS}",
        # Each kernel would warn that its messages are not encrypted. They stay on this machine.
        "ipython_kernel_config.py": "c.IPKernelApp.log_level = 'ERROR'",
    }
    for name, line in settings.items():
        (profile / name).write_text(f"c = get_config()\n{line}\n", encoding="utf-8")


def _environment(ipython_dir: Path) -> dict[str, str]:
    environment = dict(os.environ)
    environment.pop("MPLBACKEND", None)  # the kernel chooses the one that draws into the page
    environment |= dict.fromkeys(THREAD_VARIABLES, "1")
    environment |= {
        "IPYTHONDIR": str(ipython_dir),
        "IPP_NONINTERACTIVE": "1",  # %%px prints when it is done, so the order is always the same
        "JUPYTER_PREFER_ENV_PATH": "1",  # this environment's kernel, not one of the user's
        "JUPYTER_RUNTIME_DIR": str(ipython_dir / "runtime"),
        # A chapter that runs `ipcluster` or `mscourse` means the ones of this environment.
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), environment.get("PATH", "")]),
        "PYTHONUTF8": "1",
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",  # a debugger's warning that means nothing here
    }
    return environment


def _warm_up(environment: Mapping[str, str]) -> None:
    """Let matplotlib look for fonts once, here, where it may say so."""
    subprocess.run(
        [sys.executable, "-c", "import matplotlib.font_manager"], env=environment, check=True
    )


def _run_side_by_side(environment: Mapping[str, str]) -> None:
    """Run those of the pages that have changed, and put them into the cache.

    One that fails is run again when the pages are written, which tells what is wrong with it.
    """
    pages = [str(BOOK / f"{page}.md") for page in SIDE_BY_SIDE]
    command = [sys.executable, str(BOOK / "sidebyside.py"), str(CACHE), _timeout_s(), *pages]
    subprocess.run(command, env=environment, check=True)


def _timeout_s() -> str:
    """Give how long a cell may take, in seconds."""
    configuration = yaml.safe_load((BOOK / "_config.yml").read_text(encoding="utf-8"))
    return str(configuration["execute"]["timeout"])


def _run_jupyter_book(environment: Mapping[str, str], *, verbose: bool) -> int:
    command = [sys.executable, "-c", "from jupyter_book.cli.main import main; main()", "build"]
    command += ["-W", "-n", "--keep-going"] + ([] if verbose else ["-q"]) + [str(BOOK)]
    # Stopped with this process, whatever stops it: `with` waits, and Ctrl-C reaches both.
    return subprocess.run(command, env=environment, check=False, cwd=ROOT).returncode


def _stop_processes(ipython_dir: Path) -> Iterator[str]:
    """Stop what still runs in our IPython folder: kernels, controllers and engines.

    Yields the command line of each one.
    """
    # What has been told to stop may need a moment: an engine's nanny goes on for 3 s when the
    # controller, which it tells of the engine's end, is gone already.
    _, left_running = psutil.wait_procs(list(_processes_of(ipython_dir)), timeout=STOPPING_S)
    for process in left_running:
        try:
            line = " ".join(process.cmdline())
            process.terminate()
        except psutil.Error:
            continue
        yield line
    _, alive = psutil.wait_procs(left_running, timeout=GRACE_S)
    for process in alive:
        process.kill()


def _processes_of(ipython_dir: Path) -> Iterator[psutil.Process]:
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and (
                process.environ().get("IPYTHONDIR") == str(ipython_dir)
            ):
                yield process
        except (psutil.Error, OSError):
            continue  # gone, or somebody else's


if __name__ == "__main__":
    sys.exit(main())
