"""Fit one candidate on one split, and score it. Runs on the engine."""

from __future__ import annotations

import contextlib
import functools
import itertools
import math
import numbers
import os
import pickle
import socket
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeGuard

import sklearn
from sklearn.base import clone

from mscourse import footprint, prefixes, surroundings, timelimit
from mscourse.errors import DamagedSplitsError
from mscourse.evaluation import SINGLE_METRIC, Outcome, Params
from mscourse.prefixes import Prefix
from mscourse.seeds import own_generators, reseed
from mscourse.split import Split
from mscourse.splits import Splits
from mscourse.warned import Filter, caught, current_filters


@dataclass(frozen=True)
class Evaluator:
    """Everything that the evaluations of a search have in common; sent to each engine.

    Attributes
    ----------
    estimator : estimator
        Cloned for each evaluation.
    splits : Splits
        Travels as a path.
    scorer : callable
        Called as ``scorer(estimator, X, y)``; gives a number, or a dict of them, one per metric.
    metrics : tuple of str
        Names of the metrics as far as they are known before one is computed, first the one by which
        candidates are ranked.
    return_train_score : bool
        Whether to score the train set too.
    error_score : float
        Score of an evaluation that fails.
    seed : int
        What the global random generators are seeded with, together with candidate and split.
    fit_metadata, score_metadata : dict of str to str
        For the arguments of ``fit`` and of the scorer: the name of the persisted metadata that
        each is given. They differ where somebody routes metadata under another name.
    config : dict
        The configuration of scikit-learn, as the client has it.
    filters : tuple of Filter
        The filters of warnings, as the client has them.
    timeout_s : float or None
        How long an evaluation may take.
    prefix_cache_bytes : int or None
        How much an engine may keep of what candidates share. None leaves it to the engine.
    scores_by_predictions : bool
        Whether the scorer sees only what the estimator predicts, so that it may be given the last
        steps of a pipeline with transformed data.
    """

    estimator: Any
    splits: Splits
    scorer: Callable[..., float | Mapping[str, float]]
    metrics: tuple[str, ...] = (SINGLE_METRIC,)
    return_train_score: bool = True
    error_score: float = math.nan
    seed: int = 0
    fit_metadata: Mapping[str, str] = field(default_factory=dict)
    score_metadata: Mapping[str, str] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=sklearn.get_config)
    filters: tuple[Filter, ...] = field(default_factory=current_filters)
    timeout_s: float | None = None
    prefix_cache_bytes: int | None = 0
    scores_by_predictions: bool = False
    _latest: tuple[Params | None, bytes] = field(
        default=(None, b""), init=False, repr=False, compare=False
    )

    def __call__(
        self,
        candidate: int,
        params: Params,
        split: int,
        n_train: int | None = None,
        prefix: Prefix = (),
    ) -> Outcome:
        """Evaluate one candidate on one split, or on the first ``n_train`` rows of its train set.

        An evaluation that raises becomes a record with its error. The arrays are mapped anew each
        time, copy-on-write, so that what an estimator does to them ends with the evaluation.

        Raises
        ------
        DamagedSplitsError
            If the data are not what was written. Then no evaluation can be what it should.
        """
        if self.timeout_s is None:
            return self._evaluate(candidate, params, split, n_train, prefix)
        started_at_s = time.time()
        try:
            outcome: Outcome = timelimit.call(
                self._evaluate, (candidate, params, split, n_train, prefix), self.timeout_s
            )
            return outcome
        except timelimit.StoppedError as stopped:
            return self.failed(str(stopped), split, n_train, started_at_s, stopped.elapsed_s)

    def _evaluate(
        self, candidate: int, params: Params, split: int, n_train: int | None, prefix: Prefix
    ) -> Outcome:
        started_at_s = time.time()
        began_s = time.perf_counter()
        chosen = self.splits[split]
        work = _Work(self, candidate, chosen, n_train)
        watch = footprint.watch()
        error = error_traceback = None
        try:
            with (
                caught(self.filters) as warned,
                surroundings.restored(),
                own_generators,
                sklearn.config_context(**self.config),
            ):
                work.do(params, prefix)
        except DamagedSplitsError:
            raise  # no fault of the candidate: it must not be counted as its failure
        # Whatever it is, it is recorded: what is no `Exception`, such as a panic of an extension in
        # Rust or an interrupt of the engine, would else end the whole search.
        except BaseException as raised:  # noqa: BLE001
            error = f"{type(raised).__name__}: {raised}"
            error_traceback = traceback.format_exc()
        finally:  # also if it is raised: nobody else would end the watch
            peak_bytes = watch.end()
        if error is None and work.failures:
            error, error_traceback = _told(work.failures, len(work.test_scores))
        self.splits.check_unchanged()  # else it may have read anything, and nobody would know
        host, pid = _here()
        return Outcome(
            n_train=chosen.n_train if n_train is None else n_train,
            metrics=tuple(work.test_scores) or self.metrics,
            test_scores=tuple(work.test_scores.values()),
            train_scores=tuple(work.train_scores.values()),
            fit_time_s=work.fit_time_s,
            score_time_s=work.score_time_s,
            error=error,
            error_traceback=error_traceback,
            started_at_s=started_at_s,
            elapsed_s=time.perf_counter() - began_s,
            peak_anonymous_bytes=peak_bytes,
            host=host,
            pid=pid,
            warnings=tuple(warned),
        )

    def unfitted(self, params: Params) -> Any:
        """Give an unfitted estimator with these parameters.

        The splits of a candidate follow each other, and to copy its estimator by pickle takes a
        tenth of the time of clone and set_params, which inspect signatures: 10 us, not 110.
        """
        known, pickled = self._latest
        if known is not params:
            # The values are cloned too: one may be an estimator that the fit would change.
            estimator = clone(self.estimator).set_params(**clone(dict(params), safe=False))
            try:
                pickled = pickle.dumps(estimator)
            except (pickle.PicklingError, AttributeError, TypeError):
                return estimator  # of a class that lives in a notebook
            object.__setattr__(self, "_latest", (params, pickled))
        return pickle.loads(pickled)

    def failed(
        self,
        error: str,
        split: int,
        n_train: int | None = None,
        started_at_s: float = math.nan,
        elapsed_s: float = math.nan,
    ) -> Outcome:
        """Record an evaluation that did not come to its end, so that it could not say anything."""
        host, pid = ("", 0) if math.isnan(started_at_s) else _here()
        return Outcome(
            n_train=self.splits[split].n_train if n_train is None else n_train,
            metrics=self.metrics,
            test_scores=(),
            train_scores=(),
            fit_time_s=math.nan,
            score_time_s=math.nan,
            error=error,
            error_traceback=None,
            started_at_s=started_at_s,
            elapsed_s=elapsed_s,
            peak_anonymous_bytes=None,
            host=host,
            pid=pid,
        )

    def scores(
        self, estimator: Any, X: Any, y: Any, metadata: Mapping[str, Any], failures: dict[str, str]
    ) -> dict[str, float]:
        """Score by all metrics, first by the one that ranks.

        Of several metrics, those that raise are left out; ``failures`` gets their tracebacks.
        """
        targets = () if y is None else (y,)
        found = self.scorer(estimator, X, *targets, **metadata)
        several = found if isinstance(found, Mapping) else {SINGLE_METRIC: found}
        by_name = {name: _unwrapped(score) for name, score in several.items()}
        for name, score in by_name.items():
            if name in self.metrics and _is_traceback(score):
                failures[name] = score
            elif not isinstance(score, numbers.Number):
                raise TypeError(f"scoring must give a number, not {name}={score!r}.")
        first = self.metrics[0]
        if first == SINGLE_METRIC and first not in by_name and by_name:
            first = next(iter(by_name))  # a callable names them only now
        if first not in by_name:
            raise TypeError(f"scoring gives {', '.join(by_name)}, but not {first!r} to rank by.")
        names = dict.fromkeys([first, *by_name])
        return {name: float(by_name[name]) for name in names if name not in failures}


class _Work:
    """One evaluation as far as it has come: what it has found when something raises counts too."""

    def __init__(
        self, evaluator: Evaluator, candidate: int, split: Split, n_train: int | None
    ) -> None:
        self._evaluator = evaluator
        self._candidate = candidate
        self._split = split
        self._n_train = n_train
        self.fit_time_s = self.score_time_s = 0.0
        self.test_scores: dict[str, float] = {}
        self.train_scores: dict[str, float] = {}
        self.failures: dict[str, str] = {}  # of several metrics, those that raised: tracebacks

    def do(self, params: Params, prefix: Prefix) -> None:
        if prefix and not prefixes.draws(prefix):
            try:
                self._fit_and_score(self._evaluator.unfitted(params), prefix)
                if not self.failures:
                    return
            except Exception:  # noqa: BLE001, S110  # whatever it is, it may be the sharing
                # Data that are shared cannot be written to, and an estimator may want to. So it is
                # done once more by itself, and what is raised then is its own.
                pass
            finally:
                prefixes.release()
            self.test_scores, self.train_scores, self.failures = {}, {}, {}
        self._fit_and_score(self._evaluator.unfitted(params), ())

    def _fit_and_score(self, estimator: Any, prefix: Prefix) -> None:
        evaluator = self._evaluator
        X_train, y_train, X_test, y_test = self._split.load(n_train=self._n_train)
        in_train, in_test = self._metadata()
        of_fit = as_arguments(evaluator.fit_metadata, in_train)
        of_test = as_arguments(evaluator.score_metadata, in_test)

        start_s = time.perf_counter()
        shared = None
        if prefix:
            place = (self._split.splits.token, self._split.index, self._n_train or 0)
            shared = prefixes.fitted(evaluator, place, estimator, prefix, X_train, y_train)
            fitted, X_fit = shared.rest(estimator), shared.fit_data
        else:
            fitted, X_fit = estimator, X_train
        reseed(evaluator.seed, self._candidate, self._split.index)
        try:
            fitted.fit(X_fit, **of_fit) if y_train is None else fitted.fit(X_fit, y_train, **of_fit)
        finally:
            self.fit_time_s = time.perf_counter() - start_s

        def score(part: str, X: Any, y: Any, metadata: Mapping[str, Any]) -> dict[str, float]:
            if shared is None:
                return evaluator.scores(estimator, X, y, metadata, self.failures)
            if evaluator.scores_by_predictions:
                X = shared.transformed(part, X)
                return evaluator.scores(fitted, X, y, metadata, self.failures)
            return evaluator.scores(shared.whole(fitted), X, y, metadata, self.failures)

        train_scores: dict[str, float] = {}
        start_s = time.perf_counter()
        test_scores = score("test", X_test, y_test, of_test)
        self.score_time_s = time.perf_counter() - start_s
        if evaluator.return_train_score:
            of_train = as_arguments(evaluator.score_metadata, in_train)
            train_scores = score("train", X_train, y_train, of_train)
        # A metric that fails on one of the two sets has failed.
        self.test_scores = _without(self.failures, test_scores)
        self.train_scores = _without(self.failures, train_scores)

    def _metadata(self) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        if not self._evaluator.fit_metadata and not self._evaluator.score_metadata:
            return {}, {}
        return self._split.load_metadata(n_train=self._n_train)


def _unwrapped(score: Any) -> Any:
    """Take a number out of an array that holds nothing else, as scikit-learn does."""
    if hasattr(score, "item"):
        with contextlib.suppress(ValueError):  # it holds more
            return score.item()
    return score


def _is_traceback(score: Any) -> TypeGuard[str]:
    """Whether this is what scikit-learn gives instead of a score, of a metric that has raised."""
    return isinstance(score, str) and score.startswith("Traceback ")


def _without(failures: Mapping[str, str], scores: Mapping[str, float]) -> dict[str, float]:
    return {name: score for name, score in scores.items() if name not in failures}


def _told(failures: Mapping[str, str], n_succeeded: int) -> tuple[str, str]:
    """Say which metrics failed and why, and where.

    Raises
    ------
    DamagedSplitsError
        If the data are to blame. It was taken for a failure of the metric.
    """
    names_of: dict[str, list[str]] = {}
    for name, text in failures.items():
        names_of.setdefault(_raised(text), []).append(name)
    for raised in names_of:
        if raised.startswith(f"{DamagedSplitsError.__name__}: "):
            raise DamagedSplitsError(raised.partition(": ")[2])
    errors = [f"{raised} (metric: {', '.join(names)})" for raised, names in names_of.items()]
    if not n_succeeded and len(names_of) == 1:  # it is no fault of the metrics
        errors = list(names_of)
    return "; ".join(errors), "\n".join(dict.fromkeys(failures.values()))


def _raised(text: str) -> str:
    """Take the type and the message of an exception out of its traceback."""
    # Its last place is told by lines that are indented.
    lines = text.rstrip().rpartition('\n  File "')[2].splitlines()
    lines = list(itertools.dropwhile(lambda line: line.startswith(" "), lines[1:]))
    kind, colon, message = "\n".join(lines).partition(": ")
    return kind.rpartition(".")[2] + colon + message


def as_arguments(routed: Mapping[str, str], metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Give each argument the metadata that are routed to it."""
    return {argument: metadata[name] for argument, name in routed.items()}


def _here() -> tuple[str, int]:
    return _host_name(), os.getpid()


@functools.cache
def _host_name() -> str:
    """Name the host; asked once, since a look-up takes long."""
    return socket.gethostname()
