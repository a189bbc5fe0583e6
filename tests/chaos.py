"""Harm a search at random until it is over, and see whether anything is lost.

::

    monkey (this program) ──starts, kills, starts again──→ client ──→ controller, engines
           │                                                 │
           └──harms engines, controller, data, journal       └──→ journal

A search of thousands of evaluations runs in a client process with a cluster of its own. The monkey
does to it what happens to long searches: engines die, hang and join, the controller dies, the
client is killed or interrupted, the disk is full, data are deleted or cut, the journal is torn.
Whenever the client ends without having finished, it is started again. At the end all scores must
equal those of a search that nobody disturbed, each evaluation counted once.

The seed decides which faults come in which order, and on whom. When exactly they hit depends on the
machine.

    python tests/chaos.py --seed 7 --faults 500
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.datasets import load_digits

import mscourse
from mscourse.journalfile import Content, entries

N_SPLITS = 3
N_ENGINES = 3

# How a client ends that has to be started again.
_TO_BE_CONTINUED = 75

# Short ones, so that the silence of a controller and of an engine are noticed within seconds.
_HEARTBEAT_MISSES = 8
_ASK_AFTER_SILENCE_S = 1.5
_ANSWER_WITHIN_S = 3.0

# Asked ten times a second while a client starts.
_HIT_AT_THE_START = 0.003

# Heartbeats of a hanging engine are missed for longer than the limit, or for less.
_LONG_HANG_S = 5.0
_SHORT_HANG_S = 1.0


class Subject(ClassifierMixin, BaseEstimator):
    """A nearest-mean classifier with some luck, which now and then harms its own engine.

    It does so the first time that an unlucky setting is fitted, and leaves a mark. Its score
    depends on the data, the setting and the global random generator, so that whatever goes wrong
    with any of them shows.
    """

    def __init__(
        self, setting: int = 0, other: int = 0, marks: str | None = None, seconds: float = 0.0
    ) -> None:
        self.setting = setting
        self.other = other
        self.marks = marks
        self.seconds = seconds

    def fit(self, X: NDArray[Any], y: NDArray[Any]) -> Subject:
        deed = self._deed(len(X))
        match deed:
            case 0:
                os.kill(os.getpid(), signal.SIGKILL)  # as if memory had run out
            case 1:
                os.kill(os.getpid(), signal.SIGSEGV)
            case 2:
                os._exit(1)
            case 3:
                print("x" * 10_000_000)
        time.sleep(self.seconds)
        self.classes_ = np.unique(y)
        weights = np.random.rand(X.shape[1]) + self.setting / 10 + self.other / 100
        self.weights_ = weights
        self.means_ = np.array([(X[y == c] * weights).mean(axis=0) for c in self.classes_])
        match deed:  # after what depends on it: the next one should not feel it
            case 4:
                os.chdir("/")
                np.random.seed(0)
                np.seterr(all="raise")
            case 5:
                X[:] = y[:] = 0
        return self

    def predict(self, X: NDArray[Any]) -> NDArray[Any]:
        distances = ((X * self.weights_)[:, np.newaxis] - self.means_) ** 2
        return self.classes_[distances.sum(axis=2).argmin(axis=1)]

    def score(self, X: NDArray[Any], y: NDArray[Any]) -> float:
        return float((self.predict(X) == y).mean() + self.weights_.sum() / 1000)

    def _deed(self, n_rows: int) -> int | None:
        """Choose what to do, if this has not been fitted before."""
        deed = (self.setting * 31 + self.other * 7 + n_rows) % 151
        if self.marks is None or deed > 5:
            return None
        mark = Path(self.marks) / f"{self.setting}-{self.other}-{n_rows}"
        try:
            mark.touch(exist_ok=False)
        except FileExistsError:
            return None
        return deed


def grid(n_evaluations: int) -> dict[str, list[int]]:
    """Give a grid of about so many evaluations."""
    return {"setting": list(range(max(1, n_evaluations // N_SPLITS // 10))), "other": [*range(10)]}


# -- the client ------------------------------------------------------------------------------------


def client(folder: Path, n_evaluations: int, seconds: float) -> int:
    """Run the search, or what is left of it; tell by the exit status how it ended."""
    from mscourse import controller, engines

    engines._HEARTBEAT_MISSES = _HEARTBEAT_MISSES
    controller._ASK_AFTER_SILENCE_S = _ASK_AFTER_SILENCE_S
    controller._ANSWER_WITHIN_S = _ANSWER_WITHIN_S
    warnings.simplefilter("ignore", RuntimeWarning)  # that there are no engines for a moment
    with contextlib.ExitStack() as stack:
        try:
            cluster = stack.enter_context(mscourse.local_cluster(N_ENGINES))
            search = mscourse.grid_search(
                Subject(marks=str(folder / "marks"), seconds=seconds),
                grid(n_evaluations),
                mscourse.open_splits(folder, "digits"),
                engines=cluster,
                journal=folder / "search.journal",
                return_train_score=False,
            )
        except KeyboardInterrupt:
            return _TO_BE_CONTINUED
        except mscourse.MSCourseError as error:
            print(f"    client: {_first_line(error)}", flush=True)
            return _TO_BE_CONTINUED
        print(f"    client: goes on from {search.n_done} of {search.n_total}", flush=True)
        (folder / "under-way").write_text(str(os.getpid()))
        while True:
            try:
                if search.wait(2.0, patience_s=4.0, progress_bar=False):
                    return 0
                if len(cluster.ids) < 2:
                    cluster.cluster.start_engines_sync(n=2)
            except KeyboardInterrupt:
                print("    client: interrupted, waits again", flush=True)
            except Exception as error:  # whatever it is: the journal has what is done
                print(f"    client: {_first_line(error)}", flush=True)
                return _TO_BE_CONTINUED


def _first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".partition("\n")[0][:160]


# -- the monkey ------------------------------------------------------------------------------------


class Monkey:
    """Does harm, one fault after the other, and says to whom."""

    def __init__(self, folder: Path, seed: int, command: list[str]) -> None:
        self._folder = folder
        self._random = random.Random(seed)
        self._command = command
        self._journal = folder / "search.journal"
        self._client: subprocess.Popen[bytes] | None = None
        self._stopped: dict[psutil.Process, float] = {}  # and when they may go on
        self._joined: list[psutil.Process] = []
        self._data = {path: path.read_bytes() for path in (folder / "digits").iterdir()}
        self._started_s = time.monotonic()
        self.faults: Counter[str] = Counter()
        self.n_launches = 0

    def run(self, n_faults: int, gap_s: float, give_up_s: float) -> bool:
        """Do so much harm, then leave the search alone until it is over; return whether it was."""
        weights = self._kinds()
        try:
            while time.monotonic() - self._started_s < give_up_s:
                status = self._look_after_client()
                if status == 0:
                    return True
                self._wake_up()
                if sum(self.faults.values()) < n_faults and self._may_begin():
                    (fault,) = self._random.choices(list(weights), list(weights.values()))
                    name = fault.__name__.strip("_")
                    told = fault()
                    if told is not None:
                        self.faults[name] += 1
                        self._tell(f"{sum(self.faults.values()):4}  {name}: {told}")
                    time.sleep(self._random.expovariate(1 / gap_s))
                else:
                    time.sleep(0.1)
            return False
        finally:
            self._end()

    def _may_begin(self) -> bool:
        """Whether the client has launched the search; now and then it is hit before."""
        assert self._client is not None
        note = self._folder / "under-way"
        is_under_way = note.exists() and note.read_text() == str(self._client.pid)
        return is_under_way or self._random.random() < _HIT_AT_THE_START

    def _kinds(self) -> dict[Callable[[], str | None], int]:
        return {
            self._kill_an_engine: 40,
            self._kill_all_engines: 3,
            self._hang_an_engine_for_a_moment: 12,
            self._hang_an_engine_for_long: 4,
            self._have_an_engine_join: 15,
            self._interrupt_the_client: 8,
            self._kill_the_client: 3,
            self._kill_the_client_and_tear_the_journal: 3,
            self._kill_the_client_and_damage_the_journal: 3,
            self._kill_the_controller: 2,
            self._fill_the_disk: 3,
            self._delete_data: 2,
            self._truncate_data: 2,
        }

    # Each fault returns whom it hit, or None if there was nobody.

    def _kill_an_engine(self) -> str | None:
        engine = self._any_engine()
        return engine and self._signal(engine, signal.SIGKILL)

    def _kill_all_engines(self) -> str | None:
        told = [self._signal(engine, signal.SIGKILL) for engine in self._engines()]
        return ", ".join(filter(None, told)) or None

    def _hang_an_engine_for_a_moment(self) -> str | None:
        return self._hang(_SHORT_HANG_S)

    def _hang_an_engine_for_long(self) -> str | None:
        return self._hang(_LONG_HANG_S)

    def _have_an_engine_join(self) -> str | None:
        example = self._any_engine()
        if example is None or len(self._engines()) > 2 * N_ENGINES:
            return None
        try:
            command, environment = example.cmdline(), example.environ()
            joined = subprocess.Popen(
                command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                start_new_session=True,
            )  # fmt: skip
        except (psutil.Error, OSError):
            return None
        self._joined.append(psutil.Process(joined.pid))
        return f"pid {joined.pid}"

    def _interrupt_the_client(self) -> str | None:
        return self._signal(self._client_process(), signal.SIGINT)

    def _kill_the_client(self) -> str | None:
        return self._end_client()

    def _kill_the_client_and_tear_the_journal(self) -> str | None:
        told = self._end_client()
        header, length = self._journal_bytes()
        if told is None or length <= header:
            return told
        n_lost = self._random.randint(1, min(600, length - header))
        os.truncate(self._journal, length - n_lost)
        return f"{told}, {n_lost} bytes torn off"

    def _kill_the_client_and_damage_the_journal(self) -> str | None:
        told = self._end_client()
        header, length = self._journal_bytes()
        if told is None or length <= header:
            return told
        position = self._random.randrange(header, length)
        with self._journal.open("r+b") as file:
            file.seek(position)
            byte = file.read(1)[0]
            file.seek(position)
            file.write(bytes([byte ^ 1 << self._random.randrange(8)]))
        return f"{told}, a bit of byte {position} turned"

    def _kill_the_controller(self) -> str | None:
        controllers = self._processes("ipyparallel.controller")
        told = [self._signal(each, signal.SIGKILL) for each in controllers]
        return ", ".join(filter(None, told)) or None

    def _fill_the_disk(self) -> str | None:
        client = self._client_process()
        if client is None or not self._journal.exists():
            return None
        limit = self._journal.stat().st_size + self._random.randint(0, 200)
        with contextlib.suppress(ProcessLookupError):
            # The file takes a part of the next write and no more.
            resource.prlimit(client.pid, resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
            return f"no file beyond {limit} bytes for pid {client.pid}"
        return None

    def _delete_data(self) -> str | None:
        path = self._random.choice(sorted(self._data))
        path.unlink(missing_ok=True)
        return self._harmed(path)

    def _truncate_data(self) -> str | None:
        path = self._random.choice(sorted(self._data))
        if not path.exists() or not path.stat().st_size:
            return None
        os.truncate(path, self._random.randrange(path.stat().st_size))
        return self._harmed(path)

    # -- what faults are made of -------------------------------------------------------------------

    def _harmed(self, path: Path) -> str:
        """Leave the data harmed for a while, then have somebody mend them."""
        time.sleep(self._random.uniform(0.0, 3.0))
        mended = path.with_suffix(".mended")
        mended.write_bytes(self._data[path])
        mended.replace(path)
        return path.name

    def _hang(self, seconds: float) -> str | None:
        engine = self._any_engine()
        if engine is None or engine in self._stopped:
            return None
        self._stopped[engine] = time.monotonic() + seconds
        return self._signal(engine, signal.SIGSTOP)

    def _wake_up(self, *, all_of_them: bool = False) -> None:
        for process, due_s in list(self._stopped.items()):
            if all_of_them or time.monotonic() > due_s:
                del self._stopped[process]
                self._signal(process, signal.SIGCONT)

    def _signal(self, process: psutil.Process | None, number: int) -> str | None:
        try:
            if process is None:
                return None
            process.send_signal(number)
        except psutil.Error:
            return None
        return f"pid {process.pid}"

    def _client_process(self) -> psutil.Process | None:
        if self._client is None or self._client.poll() is not None:
            return None
        return psutil.Process(self._client.pid)

    def _processes(self, kind: str) -> list[psutil.Process]:
        client = self._client_process()
        found = []
        with contextlib.suppress(psutil.Error):
            for process in client.children(recursive=True) if client is not None else ():
                with contextlib.suppress(psutil.Error):
                    if kind in " ".join(process.cmdline()) and process.status() != "zombie":
                        found.append(process)
        return found

    def _engines(self) -> list[psutil.Process]:
        return self._processes("ipyparallel.engine") + [p for p in self._joined if _lives(p)]

    def _any_engine(self) -> psutil.Process | None:
        engines = self._engines()
        return self._random.choice(engines) if engines else None

    def _journal_bytes(self) -> tuple[int, int]:
        """Tell the length of the first line, without which nothing counts, and of the whole."""
        if not self._journal.exists():
            return 0, 0
        with self._journal.open("rb") as file:
            return len(file.readline()), self._journal.stat().st_size

    def _end_client(self) -> str | None:
        told = self._signal(self._client_process(), signal.SIGKILL)
        if told is not None:
            assert self._client is not None
            self._client.wait()
        return told

    def _look_after_client(self) -> int | None:
        """Start the client, again if it has ended; return its exit status if that was the last."""
        status = None if self._client is None else self._client.poll()
        if status == 0:
            return 0
        if self._client is None or status is not None:
            self.n_launches += 1
            self._client = subprocess.Popen(self._command, cwd=Path(__file__).parent)
        return None

    def _end(self) -> None:
        self._wake_up(all_of_them=True)
        if self._client is not None and self._client.poll() is None:
            self._client.kill()
        if self._client is not None:
            self._client.wait()
        for process in self._joined:
            self._signal(process, signal.SIGKILL)
            with contextlib.suppress(psutil.Error, ChildProcessError):
                process.wait(5)

    def _tell(self, text: str) -> None:
        print(f"{time.monotonic() - self._started_s:7.1f} s  {text}", flush=True)


def _lives(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        return process.is_running() and process.status() != "zombie"
    return False


# -- the comparison --------------------------------------------------------------------------------


def undisturbed(folder: Path, n_evaluations: int) -> dict[str, Any]:
    """Search the same where nobody does harm."""
    splits = mscourse.open_splits(folder, "digits")
    with ThreadPoolExecutor(1) as executor:  # the generators are those of a process
        search = mscourse.grid_search(
            Subject(), grid(n_evaluations), splits, engines=executor, return_train_score=False
        )
        assert search.wait(progress_bar=False)
    return _scores(search.results())


def _scores(table: dict[str, Any]) -> dict[str, Any]:
    return {name: column for name, column in table.items() if "test_score" in name}


def judge(folder: Path, n_evaluations: int, seconds: float) -> list[str]:
    """Say what is not as it should be."""
    wrong = []
    search_of = {
        "journal": folder / "search.journal",
        "return_train_score": False,
    }
    known = mscourse.read_journal(folder / "search.journal")
    if known.n_done != known.n_total:
        wrong.append(f"{known.n_total - known.n_done} evaluations are not in the journal")
    estimator = Subject(marks=str(folder / "marks"), seconds=seconds)
    splits = mscourse.open_splits(folder, "digits")
    with ThreadPoolExecutor(1) as executor:
        # An innocent evaluation that was on three engines when they died is taken for the cause.
        search = mscourse.grid_search(
            estimator, grid(n_evaluations), splits, engines=executor, retry_failed=True, **search_of
        )
        n_found = search.n_done
        assert search.wait(progress_bar=False)
    n_total = search.n_total
    print(f"In the journal: {n_found} of {n_total}; run again now: {n_total - n_found}")
    places = [(e.candidate, e.split) for e in search.evaluations()]
    if len(places) != search.n_total:
        wrong.append(f"{search.n_total - len(places)} evaluations are lost")
    if len(set(places)) != len(places):
        wrong.append(f"{len(places) - len(set(places))} evaluations are counted twice")
    lines: Counter[str] = Counter()
    with (folder / "search.journal").open("rb") as file:
        for _, entry in entries(file, Content()):
            if entry.outcome.error is None:
                lines[json.dumps([entry.params, entry.split])] += 1
    if (n_doubled := sum(n - 1 for n in lines.values())) > 0:
        wrong.append(f"{n_doubled} evaluations are twice in the journal")
    found, expected = _scores(search.results()), undisturbed(folder, n_evaluations)
    for name, column in expected.items():
        if not np.array_equal(found[name], column):
            wrong.append(f"{name} differs in {int(np.sum(found[name] != column))} places")
    return wrong


@contextmanager
def laboratory() -> Iterator[Path]:
    """Make a folder with the digits as splits."""
    folder = Path(tempfile.mkdtemp(prefix="mscourse-chaos-"))
    try:
        X, y = load_digits(return_X_y=True)
        mscourse.persist_cv_splits(
            X[:300] / 16, y[:300], folder=folder, name="digits", cv=N_SPLITS, random_state=0
        )
        (folder / "marks").mkdir()
        yield folder
    finally:
        shutil.rmtree(folder)


def main() -> int:
    """Run the monkey; 0 if nothing was lost or counted twice, and all scores are the same."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, help="which faults come (default: another each time)")
    parser.add_argument("--faults", type=int, default=500, help="how many (default: 500)")
    parser.add_argument("--evaluations", type=int, help="how many (default: enough for the faults)")
    parser.add_argument("--gap", type=float, default=1.0, help="mean seconds between two faults")
    parser.add_argument("--seconds", type=float, default=0.02, help="that an evaluation sleeps")
    parser.add_argument("--client", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    n_evaluations = options.evaluations or max(900, 20 * options.faults)
    if options.client:
        return client(options.client, n_evaluations, options.seconds)
    seed = random.randrange(10**6) if options.seed is None else options.seed
    print(f"Seed {seed}: {options.faults} faults, {n_evaluations} evaluations", flush=True)
    with laboratory() as folder:
        command = [
            *(sys.executable, __file__, "--client", str(folder)),
            *("--evaluations", str(n_evaluations), "--seconds", str(options.seconds)),
        ]
        monkey = Monkey(folder, seed, command)
        give_up_s = 120 + 10 * options.faults * max(1.0, options.gap)
        is_over = monkey.run(options.faults, options.gap, give_up_s)
        n_faults = sum(monkey.faults.values())
        for name, n in monkey.faults.most_common():
            print(f"{n:5}  {name}")
        print(f"{n_faults} faults, {monkey.n_launches} launches of the client")
        if not is_over:
            print(f"The search was not over after {give_up_s:.0f} s. Seed {seed}.")
            return 1
        wrong = judge(folder, n_evaluations, options.seconds)
    if n_faults < options.faults:
        wrong.append(f"it was over after {n_faults} faults: give it more evaluations")
    for line in wrong:
        print(f"WRONG: {line}. Seed {seed}.")
    if not wrong:
        print(f"{n_faults} faults survived, 0 evaluations lost, 0 doubled, all scores the same")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
