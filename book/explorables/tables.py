"""The numbers behind the explorables, computed by `mscourse` itself.

The pages have no kernel. What a reader's browser computes there, it computes from these tables, and
`tests/test_explorables.py` holds it against the functions below.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from mscourse import scheduler
from mscourse.cluster.simulation import _VirtualScheduler
from mscourse.cluster.virtual import (
    _NEWS_OF_DEATH_S,
    Batch,
    Engine,
    Evaluations,
    Machine,
    Overheads,
    SimulatedNode,
)
from mscourse.layout import Layout, plan_layout
from mscourse.trainsizes import checked_sizes

FOLDS = range(2, 11)

# Every number of folds from 2 to 10 divides it.
N_SAMPLES = 2520

# Parts of a train set, in percent.
PERCENT = range(10, 101, 10)

N_CANDIDATES = 100  # more evaluations than workers
N_ENGINES = 4


# --- the ring and the copies --------------------------------------------------------------------


def ring(n_folds: int) -> Layout:
    """Lay out the rows as `persist_cv_splits` does for so many folds of equal size."""
    rows = np.arange(N_SAMPLES)
    # Not in the data's own order, in which two folds would be a line as well.
    folds = [rows[i::n_folds] for i in range(n_folds)]
    return plan_layout([(np.setdiff1d(rows, fold), fold) for fold in folds], N_SAMPLES)


def ring_table(n_folds: int) -> dict[str, Any]:
    """Tell where the splits lie in the file, and which fold is at which place of it."""
    layout = ring(n_folds)
    n_each = N_SAMPLES // n_folds
    n_train = layout.ranges[0].train_stop - layout.ranges[0].train_start
    return {
        "nStored": len(layout.rows),
        "folds": (layout.rows[::n_each] % n_folds).tolist(),
        "splits": [list(each) for each in layout.ranges],
        "nTrain": [int(checked_sizes([each / 100], n_train)[0]) for each in PERCENT],
    }


STRATEGIES = {
    "task": "arrays sent with each task",
    "push": "one copy sent to each worker",
    "loky": "scikit-learn: a map, rows copied",
    "ring": "mscourse: a map of the ring",
}


@dataclass(frozen=True)
class Held:
    """Copies of the data that all hosts hold together, and that go through the controller."""

    shared: float
    private: float
    sent: float


def copies(n_workers: int, n_hosts: int, n_folds: int) -> dict[str, Held]:
    """Count the copies of the data that so many workers on each of the hosts hold.

    All workers are busy. One that selects the rows of a train set and of a test set holds these as
    well: one copy more. The copy that the client has is left out.
    """
    layout = ring(n_folds)
    each = layout.ranges[0]
    selected = (each.train_stop - each.train_start + each.test_stop - each.test_start) / N_SAMPLES
    n_all = n_workers * n_hosts
    return {
        "task": Held(0.0, n_all * selected, N_CANDIDATES * n_folds * selected),
        "push": Held(0.0, n_all * (1 + selected), float(n_all)),
        "loky": Held(float(n_hosts), n_all * selected, 0.0),
        "ring": Held(n_hosts * len(layout.rows) / N_SAMPLES, 0.0, 0.0),
    }


# --- the scheduler ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Action:
    """What a reader does to the engines: one is added, or one dies."""

    at_s: float
    kind: Literal["add", "kill"]
    engine: int = -1  # the one that dies


@dataclass(frozen=True)
class Bar:
    """A batch on an engine.

    Attributes
    ----------
    engine, first, n : int
        Where it ran, its first evaluation, and how many.
    start_s, end_s : float
        When its evaluations ran; to the death of the engine, if that came first. A batch that was
        still waiting then has never started: its end is not after its start.
    died : bool
        Whether the engine died before it was done.
    """

    engine: int
    first: int
    n: int
    start_s: float
    end_s: float
    died: bool


@dataclass(frozen=True)
class Replay:
    """What became of a search.

    Attributes
    ----------
    bars : tuple of Bar
        All batches that were sent, in their order.
    finish_s : float
        When the client had the last result.
    engine_s : float
        How long the engines were there, all together.
    busy_fraction, n_messages, n_ended, n_rerun, n_given_up
        As of `mscourse.cluster.simulation.Simulation`.
    """

    bars: tuple[Bar, ...]
    finish_s: float
    engine_s: float
    busy_fraction: float
    n_messages: int
    n_ended: int
    n_rerun: int
    n_given_up: int


def scenarios() -> dict[str, list[float]]:
    """Durations of evaluations in seconds, made up."""
    random = np.random.default_rng(0)
    # Twenty candidates on five splits, in the order of a grid whose last ones take the longest.
    uneven = np.repeat(np.geomspace(0.2, 1.6, 20), 5) * random.uniform(0.85, 1.15, 100)
    alike = random.uniform(0.55, 0.65, 100)
    short = random.uniform(0.02, 0.06, 600)
    return {
        name: np.round(durations_s, 3).tolist()
        for name, durations_s in (("uneven", uneven), ("alike", alike), ("short", short))
    }


class _ScriptedMachine(Machine):
    """A machine whose engines join and die when they are told to, each a node of its own."""

    def __init__(self, evaluations: Evaluations, n_engines: int, actions: Sequence[Action]) -> None:
        joins_s = [0.0] * n_engines + [each.at_s for each in actions if each.kind == "add"]
        self._dies_s = {each.engine: each.at_s for each in actions if each.kind == "kill"}
        self.sent: list[Batch] = []
        self.cut_s: dict[int, float] = {}  # of batches, by their place in `sent`
        nodes = [SimulatedNode(1, launched_s=at_s) for at_s in joins_s]
        super().__init__(evaluations, nodes, Overheads(), np.random.default_rng(0))

    def _launch(self, number: int, at_s: float) -> None:
        if number not in self._launched:  # nothing replaces what has died
            super()._launch(number, at_s)

    def _happen(self) -> bool:
        number = self._events[0][1]
        has_joined = super()._happen()
        if has_joined and number in self._dies_s:
            engines = [self._all[number]]
            self._events.append((self._dies_s[number], number, 1, engines))
            self._events.sort(key=lambda event: event[:3])
        return has_joined

    def _kill(self, engine: Engine, at_s: float) -> None:
        super()._kill(engine, at_s)
        for place, batch in enumerate(self.sent):
            if batch.engine is engine and batch.error is not None:
                self.cut_s[place] = at_s

    def send(self, engine: Any, function: bytes, items: Any) -> Any:
        batch = super().send(engine, function, items)
        self.sent.append(batch)  # type: ignore[arg-type]  # to a scheduler it is a mere future
        return batch


def replay(durations_s: Sequence[float], n_engines: int, actions: Sequence[Action]) -> Replay:
    """Let the real scheduler do a search in virtual time, while engines join and die."""
    evaluations = Evaluations(np.asarray(durations_s), len(durations_s))
    machine = _ScriptedMachine(evaluations, n_engines, actions)
    _VirtualScheduler(evaluations, machine).run()
    finish_s = machine.end()
    bars = []
    for place, batch in enumerate(machine.sent):
        cut_s = machine.cut_s.get(place)
        end_s = batch.end_s if cut_s is None else cut_s
        bars.append(
            Bar(batch.engine.number, batch.first, batch.n, batch.start_s, end_s, cut_s is not None)
        )
    return Replay(
        bars=tuple(bars),
        finish_s=finish_s,
        engine_s=machine.engine_s,
        busy_fraction=machine.work_s / machine.engine_s,
        n_messages=machine.n_messages,
        n_ended=evaluations.n_ended,
        n_rerun=machine.n_rerun,
        n_given_up=evaluations.n_given_up,
    )


@dataclass(frozen=True)
class Static:
    """What becomes of evaluations that are shared out beforehand, a part to each engine."""

    bars: tuple[Bar, ...]
    finish_s: float
    n_done: int


def static_split(durations_s: Sequence[float], n_engines: int, actions: Sequence[Action]) -> Static:
    """Share out the evaluations beforehand, as evenly as their number allows.

    What an engine has done when it dies counts; nobody does the rest. Messages cost nothing.
    """
    dies_s = {each.engine: each.at_s for each in actions if each.kind == "kill"}
    bars = []
    for engine, part in enumerate(np.array_split(np.arange(len(durations_s)), n_engines)):
        at_s = 0.0
        for number in part.tolist():
            start_s, at_s = at_s, at_s + durations_s[number]
            if engine in dies_s and dies_s[engine] < at_s:
                if dies_s[engine] > start_s:
                    bars.append(Bar(engine, number, 1, start_s, dies_s[engine], True))
                break
            bars.append(Bar(engine, number, 1, start_s, at_s, False))
    done = [bar for bar in bars if not bar.died]
    return Static(tuple(bars), max((bar.end_s for bar in done), default=0.0), len(done))


# --- for the browser ----------------------------------------------------------------------------


def tables() -> dict[str, Any]:
    """Give all that the scripts know of the package."""
    return {
        "nSamples": N_SAMPLES,
        "nCandidates": N_CANDIDATES,
        "nEngines": N_ENGINES,
        "percent": list(PERCENT),
        "strategies": list(STRATEGIES.items()),
        "rings": {str(n_folds): ring_table(n_folds) for n_folds in FOLDS},
        "scenarios": scenarios(),
        "overheads": asdict(Overheads()),
        "scheduler": {
            "batchTargetS": scheduler.BATCH_TARGET_S,
            "clientSPerMessage": scheduler._CLIENT_S_PER_MESSAGE,
            "batchLeast": scheduler._BATCH_LEAST,
            "batchMostItems": scheduler._BATCH_MOST_ITEMS,
            "latestWeight": scheduler._LATEST_WEIGHT,
            "mostDeaths": scheduler.MOST_DEATHS,
            "lookForEnginesS": scheduler._LOOK_FOR_ENGINES_S,
            "newsOfDeathS": _NEWS_OF_DEATH_S,
        },
    }


def script() -> str:
    """Write the tables as a script, which a page that is opened from the disk may load."""
    return (
        f"globalThis.explorables = {{ tables: {json.dumps(tables(), separators=(',', ':'))} }};\n"
    )
