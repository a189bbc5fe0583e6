"""What is done, in columns: 100 bytes for an evaluation instead of the 1,000 of an object.

Records are made when somebody looks at them. What concerns all of them at once, such as ranks, is
computed on the columns.
"""

from __future__ import annotations

import math
import threading
from array import array
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from mscourse.evaluation import Evaluation, Outcome, Params

_UNKNOWN = -1  # stands for None in a column of integers


@dataclass(frozen=True)
class Columns:
    """Evaluations side by side; all arrays have one element for each.

    Attributes
    ----------
    candidate, split, n_train : ndarray of int
    fit_time_s, score_time_s : ndarray of float
    failed : ndarray of bool
    test_scores, train_scores : dict of str to ndarray of float
        By metric, first the one by which candidates are ranked; no train scores if they were not
        asked for.
    """

    candidate: NDArray[np.int64]
    split: NDArray[np.int64]
    n_train: NDArray[np.int64]
    fit_time_s: NDArray[np.float64]
    score_time_s: NDArray[np.float64]
    failed: NDArray[np.bool_]
    test_scores: Mapping[str, NDArray[np.float64]]
    train_scores: Mapping[str, NDArray[np.float64]]

    def __len__(self) -> int:
        return len(self.candidate)

    def take(self, rows: NDArray[Any] | Sequence[int]) -> Columns:
        """Select some evaluations."""
        chosen = np.asarray(rows, dtype=np.intp) if not isinstance(rows, np.ndarray) else rows

        def part(value: Any) -> Any:
            if isinstance(value, Mapping):
                return {name: each[chosen] for name, each in value.items()}
            return value[chosen]

        return Columns(**{name: part(value) for name, value in vars(self).items()})


class Log:
    """All that has come back of a run, in the order in which it did.

    Parameters
    ----------
    params_of : callable
        Gives the parameters of a candidate by its number.
    metrics : sequence of str
        Names of the metrics as far as they are known.
    return_train_score : bool
        Whether there are train scores.
    error_score : float
        Score of an evaluation that fails.
    """

    def __init__(
        self,
        params_of: Callable[[int], Params],
        metrics: Sequence[str],
        *,
        return_train_score: bool = True,
        error_score: float = math.nan,
    ) -> None:
        self._params_of = params_of
        self._return_train_score = return_train_score
        self._error_score = error_score
        self._lock = threading.Lock()
        self._candidate = array("q")
        self._split = array("q")
        self._n_train = array("q")
        self._times = [array("d") for _ in range(4)]  # fit, score, started at, elapsed
        self._peak_bytes = array("q")
        self._place = array("q")
        self._number_of_place: dict[tuple[str, int, Hashable], int] = {}
        self._places: list[tuple[str, int, Hashable]] = []
        self._errors: dict[int, tuple[str, str | None]] = {}
        self._known_errors: dict[tuple[str, str | None], tuple[str, str | None]] = {}
        self._warnings: dict[int, tuple[str, ...]] = {}
        self._known_warnings: dict[tuple[str, ...], tuple[str, ...]] = {}
        self._own_params: dict[int, Params] = {}
        self._planned_metrics = tuple(metrics)
        self._metrics: tuple[str, ...] = ()  # as they came, once one has succeeded
        self._test: dict[str, array[float]] = {}
        self._train: dict[str, array[float]] = {}

    def __len__(self) -> int:
        return len(self._candidate)

    @property
    def n_failed(self) -> int:
        return len(self._errors)

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics, first the one by which candidates are ranked."""
        return self._metrics or self._planned_metrics

    def append(
        self,
        candidate: int,
        split: int,
        outcome: Outcome,
        engine: Hashable,
        params: Params | None = None,
    ) -> int:
        """Add an evaluation; return its row. ``params`` if they are not the candidate's."""
        with self._lock:
            row = len(self._candidate)
            if outcome.error is not None:
                error = outcome.error, outcome.error_traceback
                self._errors[row] = self._known_errors.setdefault(error, error)
                if outcome.test_scores:  # some of several metrics; which there are is planned
                    self._note_metrics(self._planned_metrics)
            elif outcome.metrics != self._metrics:
                self._note_metrics(outcome.metrics)
            if outcome.warnings:
                told = outcome.warnings
                self._warnings[row] = self._known_warnings.setdefault(told, told)
            if params is not None:
                self._own_params[row] = params
            place = outcome.host, outcome.pid, engine
            self._candidate.append(candidate)
            self._split.append(split)
            self._n_train.append(outcome.n_train)
            for column, value in zip(
                self._times,
                (outcome.fit_time_s, outcome.score_time_s, outcome.started_at_s, outcome.elapsed_s),
                strict=True,
            ):
                column.append(value)
            peak_bytes = outcome.peak_anonymous_bytes
            self._peak_bytes.append(_UNKNOWN if peak_bytes is None else peak_bytes)
            if place not in self._number_of_place:
                self._number_of_place[place] = len(self._places)
                self._places.append(place)
            self._place.append(self._number_of_place[place])
            for columns, scores in (
                (self._test, outcome.test_scores),
                (self._train, outcome.train_scores),
            ):
                if outcome.error is None and outcome.metrics == self._metrics:
                    for column, score in zip(columns.values(), scores, strict=True):
                        column.append(score)
                else:
                    found = dict(zip(outcome.metrics, scores, strict=False))
                    missing = math.nan if outcome.error is None else self._error_score
                    for name, column in columns.items():
                        column.append(found.get(name, missing))
            return row

    def _note_metrics(self, metrics: Sequence[str]) -> None:
        """Make columns for metrics that are new, as if they had always been there."""
        n_done = len(self._candidate)
        for name in metrics:
            if name not in self._metrics:
                earlier = array("d", [math.nan]) * n_done
                for row in self._errors:
                    if row < n_done:
                        earlier[row] = self._error_score
                self._test[name] = earlier
                if self._return_train_score:
                    self._train[name] = earlier[:]
                self._metrics = (*self._metrics, name)

    def columns(self) -> Columns:
        """Copy what is done so far."""
        with self._lock:
            test, train = self._test, self._train
            if not self._metrics:  # none has succeeded
                failed = array("d", [self._error_score]) * len(self._candidate)
                test = dict.fromkeys(self._planned_metrics, failed)
                train = test if self._return_train_score else {}
            failed_rows = np.zeros(len(self._candidate), dtype=bool)
            failed_rows[list(self._errors)] = True
            return Columns(
                candidate=_copied(self._candidate),
                split=_copied(self._split),
                n_train=_copied(self._n_train),
                fit_time_s=_copied(self._times[0]),
                score_time_s=_copied(self._times[1]),
                failed=failed_rows,
                test_scores={name: _copied(column) for name, column in test.items()},
                train_scores={name: _copied(column) for name, column in train.items()},
            )

    def errors(self) -> list[tuple[int, str]]:
        """List the row and the error of each evaluation that failed."""
        with self._lock:
            return [(row, error) for row, (error, _) in self._errors.items()]

    def warnings(self) -> list[tuple[int, str]]:
        """List the row and the text of each warning."""
        with self._lock:
            return [(row, text) for row, texts in self._warnings.items() for text in texts]

    def record(self, row: int) -> Evaluation:
        """Make the record of one evaluation."""
        with self._lock:  # the latest may be there in some columns and not yet in others
            candidate = self._candidate[row]
            own = self._own_params.get(row)
            fit_time_s, score_time_s, started_at_s, elapsed_s = (each[row] for each in self._times)
            host, pid, engine = self._places[self._place[row]]
            error, error_traceback = self._errors.get(row, (None, None))
            peak_bytes = self._peak_bytes[row]
            return Evaluation(
                candidate=candidate,
                params=self._params_of(candidate) if own is None else own,
                split=self._split[row],
                n_train=self._n_train[row],
                train_scores=self._scores(self._train, row) if self._return_train_score else None,
                test_scores=self._scores(self._test, row),
                fit_time_s=fit_time_s,
                score_time_s=score_time_s,
                error=error,
                error_traceback=error_traceback,
                started_at_s=started_at_s,
                elapsed_s=elapsed_s,
                peak_anonymous_bytes=None if peak_bytes == _UNKNOWN else peak_bytes,
                host=host,
                pid=pid,
                engine=engine,
                warnings=self._warnings.get(row, ()),
            )

    def _scores(self, columns: Mapping[str, array[float]], row: int) -> dict[str, float]:
        if not columns:
            return dict.fromkeys(self.metrics, self._error_score)
        return {name: column[row] for name, column in columns.items()}


class Records(Sequence[Evaluation]):
    """The evaluations that were done at some moment: a list whose elements are made when read.

    Copied or pickled, it is a plain list.
    """

    def __init__(self, log: Log, rows: range) -> None:
        self._log = log
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> Evaluation: ...

    @overload
    def __getitem__(self, index: slice) -> Records: ...

    def __getitem__(self, index: int | slice) -> Evaluation | Records:
        if isinstance(index, slice):
            return Records(self._log, self._rows[index])
        return self._log.record(self._rows[index])

    def __iter__(self) -> Iterator[Evaluation]:
        return map(self._log.record, self._rows)

    def __repr__(self) -> str:
        return f"<{len(self)} evaluations>"

    def __reduce__(self) -> tuple[type[list[Evaluation]], tuple[list[Evaluation]]]:
        # The log has a lock, and more than these.
        return list, (list(self),)


def _copied(column: array[Any]) -> NDArray[Any]:
    # A view of the array would keep it from growing.
    return np.array(column)
