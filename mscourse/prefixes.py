"""Fit the first steps of a pipeline once for all candidates that agree on them.

::

    tf-idf(1,1) ─→ SGD(alpha=1e-5)          tf-idf(1,1) ─┬→ SGD(alpha=1e-5)
    tf-idf(1,1) ─→ SGD(alpha=1e-4)    ⇒                  └→ SGD(alpha=1e-4)
    tf-idf(1,2) ─→ SGD(alpha=1e-5)          tf-idf(1,2) ───→ SGD(alpha=1e-5)

The client says which candidates agree, and how far: the *prefix* of an evaluation. The engine keeps
the fitted steps and the transformed data of the latest prefix only, since the queue lets the
evaluations that share one follow each other.
"""

from __future__ import annotations

import functools
import random
import secrets
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import cloudpickle
import numpy as np
from scipy import sparse
from sklearn.pipeline import Pipeline

from mscourse.engines import usable_cores
from mscourse.memory import host_memory
from mscourse.seeds import reseed

# For each depth that is shared, from the first to the last: how many steps, and which of all the
# ways to set them, as a token of the search and a number.
Key: TypeAlias = tuple[int, int]
Prefix: TypeAlias = tuple[tuple[int, Key], ...]

# A search that is over sends no word of it to the engines; they find out by themselves.
_FORGET_AFTER_S = 30.0
_LOOK_S = 3.0

# How much of a host's memory its engines may use together, unless they are told.
_HOST_PART = 0.25

# Keeps the seeds of a prefix apart from those of an evaluation.
_PREFIX = -1


# -- on the client ---------------------------------------------------------------------------------


class Prefixes:
    """Tells which candidates of a search share which prefix.

    Parameters
    ----------
    pipeline : Pipeline
        One for which `can_share` holds.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        self._step_of = {name: i for i, (name, _) in enumerate(pipeline.steps)}
        self._n_steps = len(pipeline.steps)
        self._token = secrets.randbits(48)
        self._numbers: dict[Any, int] = {}

    def of(self, candidates: Iterable[Mapping[str, Any]]) -> list[Prefix]:
        """Give the prefix of each candidate: empty where it shares none with another."""
        settings = [self._settings(params) for params in candidates]
        if any(each is None for each in settings):
            return [()] * len(settings)
        users: dict[Any, int] = defaultdict(int)
        for each in settings:
            for setting in each or ():
                users[setting] += 1
        prefixes = []
        for each in settings:
            prefix = []
            for depth, setting in enumerate(each or (), start=1):
                deeper = (each or ())[depth] if depth < self._n_steps - 1 else None
                # Where nobody parts, the deeper prefix serves them all.
                if users[setting] > 1 and (deeper is None or users[deeper] < users[setting]):
                    number = self._numbers.setdefault(setting, len(self._numbers))
                    prefix.append((depth, (self._token, number)))
            prefixes.append(tuple(prefix))
        return prefixes

    def _settings(self, params: Mapping[str, Any]) -> tuple[Any, ...] | None:
        """Give what decides on the first step, the first two, ... but not on all."""
        by_step: list[list[Any]] = [[] for _ in range(self._n_steps)]
        for name in sorted(params):
            step = self._step_of.get(name.partition("__")[0])
            if step is None:  # a parameter of the pipeline itself may change anything
                return None
            by_step[step].append((name, identity(params[name])))
        settings = []
        so_far: tuple[Any, ...] = ()
        for depth, choices in enumerate(by_step[:-1], start=1):
            so_far = (*so_far, *choices)
            settings.append((depth, so_far))
        return tuple(settings)


def can_share(estimator: Any) -> bool:
    """Whether the steps of an estimator may be fitted one after the other, by somebody else."""
    return (
        type(estimator) is Pipeline  # a subclass may do anything with its steps
        and len(estimator.steps) > 1
        and estimator.memory is None  # else the steps are shared already
        and getattr(estimator, "transform_input", None) is None
    )


def identity(value: Any) -> Any:
    """Give something hashable that is equal only for values that mean the same to an estimator."""
    plain = value.item() if isinstance(value, np.generic) else value
    if plain is None or isinstance(plain, bool | int | float | str | bytes):
        return type(plain), plain
    if isinstance(value, np.generic):  # made anew each time that it is taken out of an array
        return value.dtype, value.tobytes()
    if isinstance(value, tuple):
        return tuple, tuple(map(identity, value))
    return object, id(value)  # an array, an estimator, a function; the grid keeps it alive


# -- on the engine ---------------------------------------------------------------------------------


class Budget(Protocol):
    """What of an `Evaluator` matters here."""

    @property
    def seed(self) -> int: ...

    @property
    def prefix_cache_bytes(self) -> int | None: ...


@dataclass
class _Level:
    """The steps of a prefix from the depth of the level below to its own, fitted."""

    place: tuple[str, int, int]
    depth: int
    key: Key
    head: Pipeline
    fit_data: Any
    transformed: dict[str, Any]

    @property
    def n_bytes(self) -> int:
        return sum(map(_n_bytes, [self.fit_data, *self.transformed.values()]))


class Shared:
    """The fitted prefix of one evaluation."""

    def __init__(self, levels: Sequence[_Level], budget_bytes: int) -> None:
        self._levels = levels
        self._budget_bytes = budget_bytes

    @property
    def fit_data(self) -> Any:
        """The train set as the prefix gave it when it was fitted."""
        return _handed_out(self._levels[-1].fit_data)

    def rest(self, pipeline: Pipeline) -> Pipeline:
        """Give the steps of a pipeline that come after the prefix."""
        return Pipeline(pipeline.steps[self._levels[-1].depth :])

    def whole(self, rest: Pipeline) -> Pipeline:
        """Put fitted steps together again."""
        return Pipeline(
            [*(step for level in self._levels for step in level.head.steps), *rest.steps]
        )

    def transformed(self, part: str, X: Any) -> Any:
        """Transform the rows of a set, unless they have been.

        The train set too: a transformer may give other values when it is fitted than later.
        """
        for level in self._levels:
            if part in level.transformed:
                X = _handed_out(level.transformed[part])
                continue
            for _, step in level.head.steps:
                # Not by the pipeline, which asks whether its last step is fitted: one that keeps
                # nothing of its fit cannot tell.
                if step is not None and step != "passthrough":
                    X = step.transform(X)
            X = _read_only(X)
            if _n_bytes(X) + sum(each.n_bytes for each in self._levels) <= self._budget_bytes:
                level.transformed[part] = X
                X = _handed_out(X)
        return X


class _Latest(threading.local):
    """What a thread of this process has fitted last."""

    def __init__(self) -> None:
        self.levels: list[_Level] = []


_latest = _Latest()


def fitted(
    budget: Budget,
    place: tuple[str, int, int],
    pipeline: Pipeline,
    prefix: Prefix,
    X_train: Any,
    y_train: Any,
) -> Shared:
    """Fit the steps of a prefix, as far as they are not those of the evaluation before.

    Parameters
    ----------
    budget : Budget
        How much may be kept.
    place : tuple
        Names the train set: the dataset's token, the split, and the number of rows.
    pipeline : Pipeline
        Unfitted. Its first steps are fitted, or replaced by fitted ones.

    Raises
    ------
    DrawsError
        If a fitted step has a random generator: what it gives depends on how often it was asked.
    """
    _janitor.hold()
    known = _latest.levels
    levels: list[_Level] = []
    n_own = len(prefix)  # so many levels have data of their own
    X, from_depth = X_train, 0
    for i, (depth, key) in enumerate(prefix):
        if i < len(known) and (known[i].place, known[i].depth, known[i].key) == (place, depth, key):
            level = known[i]
        else:
            known = []
            _latest.levels = levels[:]  # what is of no more use makes room first
            head = Pipeline(pipeline.steps[from_depth:depth])
            reseed(budget.seed, _PREFIX, place[1], key[1])
            fit_data = head.fit_transform(X) if y_train is None else head.fit_transform(X, y_train)
            if _holds_generator(head):
                _drawing.add(key)
                raise DrawsError
            if _shares_memory(fit_data, X):
                n_own = min(n_own, i)
            level = _Level(place, depth, key, head, _read_only(fit_data), {})
        levels.append(level)
        X, from_depth = _handed_out(level.fit_data), depth
    budget_bytes = budget.prefix_cache_bytes
    if budget_bytes is None:
        budget_bytes = _default_budget_bytes()
    is_kept = sum(level.n_bytes for level in levels) <= budget_bytes
    _latest.levels = levels[:n_own] if is_kept else []
    return Shared(tuple(levels), budget_bytes if is_kept else 0)


class DrawsError(Exception):
    """These steps cannot be shared; see `draws`."""


_drawing: set[Key] = set()


def draws(prefix: Prefix) -> bool:
    """Whether steps of a prefix were found to have a random generator, so that none is shared."""
    return any(key in _drawing for _, key in prefix)


def _holds_generator(fitted_steps: Pipeline) -> bool:
    finder = _GeneratorFinder()
    try:
        finder.dump(fitted_steps)
    except Exception:  # noqa: BLE001  # whatever cannot be looked into may have one
        return True
    return finder.has_found


class _GeneratorFinder(cloudpickle.Pickler):  # type: ignore[misc]  # it is not typed
    """Looks at all that an object consists of, and writes nothing."""

    _KINDS = (np.random.RandomState, np.random.Generator, np.random.BitGenerator, random.Random)

    def __init__(self) -> None:
        super().__init__(_Nowhere(), protocol=5, buffer_callback=lambda _: None)
        self.has_found = False

    def persistent_id(self, obj: Any) -> None:
        # The global generators are seeded for each evaluation.
        if isinstance(obj, self._KINDS) and obj not in (np.random.mtrand._rand, random._inst):
            self.has_found = True


class _Nowhere:
    """A file that keeps nothing."""

    def write(self, data: Any) -> int:
        return len(data)


@functools.cache
def _default_budget_bytes() -> int:
    """Divide a part of this host's memory by its cores: of its engines there is one for each."""
    return int(_HOST_PART * host_memory().total_bytes / usable_cores())


def release() -> None:
    """Say that the evaluation is over, and that another one may not follow."""
    if _latest.levels:
        _janitor.expect(_latest.levels)


class _Janitor:
    """Lets go of levels that nobody has used for a while."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._released: dict[int, tuple[float, list[_Level]]] = {}  # by thread
        self._thread: threading.Thread | None = None

    def expect(self, levels: list[_Level]) -> None:
        """Let go of these levels, unless `hold` comes before."""
        with self._lock:
            self._released[threading.get_ident()] = time.monotonic(), levels
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._look, name="mscourse-prefixes", daemon=True
                )
                self._thread.start()

    def hold(self) -> None:
        with self._lock:
            self._released.pop(threading.get_ident(), None)

    def _look(self) -> None:
        while True:
            time.sleep(_LOOK_S)
            with self._lock:
                for thread, (released_s, levels) in list(self._released.items()):
                    if time.monotonic() - released_s > _FORGET_AFTER_S:
                        levels.clear()  # in place: its thread may never come again
                        del self._released[thread]
                if not self._released:
                    self._thread = None
                    return


_janitor = _Janitor()


def _read_only(X: Any) -> Any:
    """Protect transformed data from estimators that write into their input."""
    for part in _arrays(X):
        part.flags.writeable = False
    return X


def _handed_out(X: Any) -> Any:
    """Give what an estimator may write into: a copy, of what cannot be protected from that.

    scikit-learn makes the arrays of a data frame of pandas writeable again.
    """
    return X.copy() if hasattr(X, "memory_usage") else X


def _shares_memory(X: Any, source: Any) -> bool:
    """Whether some data are those that they were made of, as a transformer without a copy does it.

    Whatever is done to one of them is done to the other. Such steps save no time, anyway.
    """
    sources = _arrays(source)
    return any(np.may_share_memory(part, each) for part in _arrays(X) for each in sources)


def _arrays(X: Any) -> list[np.ndarray]:
    """Give the arrays that hold an array or a sparse matrix; of anything else, none."""
    if isinstance(X, np.ndarray):
        return [X]
    if sparse.issparse(X):
        parts = (getattr(X, name, None) for name in ("data", "indices", "indptr", "row", "col"))
        return [part for part in parts if isinstance(part, np.ndarray)]
    return []


def _n_bytes(X: Any) -> int:
    if isinstance(X, np.ndarray) or sparse.issparse(X):
        return sum(part.nbytes for part in _arrays(X))
    if hasattr(X, "memory_usage"):  # pandas
        return int(X.memory_usage(deep=True).sum())
    if hasattr(X, "estimated_size"):  # polars
        return int(X.estimated_size())
    return sys.getsizeof(X)
