"""The handle on evaluations that are under way: what searches and curves have in common."""

from __future__ import annotations

import math
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from typing import Any

from IPython.core.getipython import get_ipython

from mscourse import results
from mscourse.checks import check_seconds, warn_if_large
from mscourse.errors import EvaluationError, NoEnginesError
from mscourse.evaluation import Evaluation, Outcome, Params
from mscourse.evaluator import Evaluator
from mscourse.extras import comes_with
from mscourse.journal import Journal
from mscourse.journalfile import Entry
from mscourse.log import Log, Records
from mscourse.pools import EngineId, Engines, pool_for
from mscourse.resume import ReplayingSource
from mscourse.scheduler import Scheduler
from mscourse.source import Ended, Item, Source

# How often a progress bar looks: often enough to seem smooth.
_BAR_PERIOD_S = 0.1

# Engines that are restarted need this long to come back; after that nobody seems to see to it.
PATIENCE_S = 60.0

# What stands behind it takes a look at all that is done.
_BAR_FACTS_PERIOD_S = 1.0


class Run:
    """Evaluations under way or over; look at them at any time.

    Parameters
    ----------
    evaluator : Evaluator
        What all evaluations have in common.
    candidates : sequence of dict
        What is evaluated.
    source : Source of (candidate, params, split[, n_train[, prefix]])
        The evaluations to do.
    n_total : int
        How many there will be.
    engines : Client, view, Executor or None
        Where to do them.
    raise_errors : bool
        End with the first evaluation that fails.
    keeps_params : bool
        Whether the parameters of an evaluation may differ from those of its candidate.
    learn : callable, optional
        Called as ``learn(candidate, split, outcome, engine)`` with what comes back, from the
        scheduler's thread.
    on_evaluation : callable, optional
        Called with each `Evaluation` that is done, from the scheduler's thread.
    journal : Journal, optional
        What is done already, and where more is written. It is closed when all is over.
    """

    def __init__(
        self,
        evaluator: Evaluator,
        candidates: Sequence[Params],
        source: Source,
        n_total: int,
        engines: Engines,
        *,
        raise_errors: bool = False,
        keeps_params: bool = False,
        learn: Callable[[int, int, Outcome, EngineId], None] | None = None,
        on_evaluation: Callable[[Evaluation], object] | None = None,
        journal: Journal | None = None,
    ) -> None:
        self.candidates = candidates
        self.n_splits = len(evaluator.splits)
        self._evaluator = evaluator
        self._source = source
        self._engines = engines
        self._n_total = n_total
        self._raise_errors = raise_errors
        self._keeps_params = keeps_params
        self._learn = learn
        self._on_evaluation = on_evaluation
        self._callback_errors: Counter[str] = Counter()
        self._log = Log(
            candidates.__getitem__,
            evaluator.metrics,
            return_train_score=evaluator.return_train_score,
            error_score=evaluator.error_score,
        )
        self._aborted = False
        self._first_error: Evaluation | None = None
        self._journal = journal
        try:
            if journal is not None:
                self._resume(journal)
            self._n_resumed = self.n_done
            self._launch()
        except BaseException:
            self._leave_journal()
            raise

    def _launch(self) -> None:
        self._scheduler = Scheduler(
            self._evaluator,
            self._source,
            pool_for(self._engines),
            self._take_in,
            self._leave_journal,
        )
        warn_if_large(self._scheduler.n_bytes, each_time=isinstance(self._engines, Executor))
        if self._journal is not None:
            self._journal.begin(self.n_total, self.n_splits)
        self._n_done_before = self.n_done
        self._started_s = time.monotonic()
        self._scheduler.start()

    @property
    def n_total(self) -> int:
        """Evaluations that are planned."""
        return self._n_total

    @property
    def n_done(self) -> int:
        """Evaluations that are done, failed ones included."""
        return len(self._log)

    @property
    def n_failed(self) -> int:
        """Evaluations that failed."""
        return self._log.n_failed

    @property
    def progress(self) -> float:
        """The part of the evaluations that is done, 0 to 1."""
        return self.n_done / self.n_total if self.n_total else 1.0

    def evaluations(self) -> Sequence[Evaluation]:
        """Give what is done, in the order in which it came back.

        Returns
        -------
        sequence of Evaluation
            What is done now; it does not grow. An evaluation is read from the columns of the log
            when it is asked for.
        """
        return Records(self._log, range(len(self._log)))

    def wait(
        self,
        timeout_s: float | None = None,
        *,
        progress_bar: bool | None = None,
        patience_s: float = PATIENCE_S,
    ) -> bool:
        """Wait until all is done. Interrupting the wait leaves the evaluations running.

        Parameters
        ----------
        timeout_s : float, optional
            Wait no longer than this. By default as long as it takes.
        progress_bar : bool, optional
            Show a bar. By default if somebody can see it: in a terminal and in a notebook.
        patience_s : float
            How long to wait for new engines when there are none. That there are none is said at
            once, by a warning.

        Returns
        -------
        bool
            True if all evaluations are done; False if the time is up or they were aborted.

        Raises
        ------
        ParameterError
            If ``timeout_s`` or ``patience_s`` is no number of seconds.
        EvaluationError
            If an evaluation failed and ``error_score="raise"``.
        NoEnginesError
            If there has been no engine for ``patience_s``. It goes on if engines join.
        ClusterError
            If the engines cannot run evaluations at all.
        DamagedSplitsError
            If the persisted data have been deleted or altered.
        JournalError
            If the journal cannot be written any more.

        Warns
        -----
        RuntimeWarning
            While there is no engine; and at the end if all evaluations have failed, or some have
            warned, a line for each different message. What the filters of this process ignored at
            the launch is not told, and what they made an error of was one there.
        """
        if timeout_s is not None:
            check_seconds("timeout_s", timeout_s)
        check_seconds("patience_s", patience_s)
        deadline_s = math.inf if timeout_s is None else time.monotonic() + timeout_s
        show = sys.stderr.isatty() or _is_in_notebook() if progress_bar is None else progress_bar
        with _bar(self.n_total, show=show) as bar:
            over = False
            facts_due_s = 0.0
            has_engines = True
            while not over:
                left_s = deadline_s - time.monotonic()
                over = self._scheduler.wait(max(0.0, min(_BAR_PERIOD_S, left_s)))
                has_engines = self._check_engines(patience_s, warn=has_engines)
                if show and (over or time.monotonic() >= facts_due_s):
                    facts_due_s = time.monotonic() + _BAR_FACTS_PERIOD_S
                    bar.set_postfix(self._bar_facts(), refresh=False)
                bar.total = self.n_total
                bar.update(self.n_done - bar.n)
                if left_s <= 0:
                    break
        if self._first_error is not None:
            e = self._first_error
            raise EvaluationError(
                f"Split {e.split} of {results.plain(e.params)} failed on engine {e.engine} "
                f"({e.host}, pid {e.pid}): {e.error}\n{e.error_traceback or ''}"
            )
        lines = self._callback_notes()
        if over:
            # Of a few the report tells. If all fail, nothing is as it should be.
            told = results.grouped_errors(self._log) if self.n_failed == self.n_done else []
            told += results.grouped_warnings(self._log)
            lines += [f"Of {self.n_done} evaluations {each}" for each in told]
        for line in lines:
            warnings.warn(line, RuntimeWarning, stacklevel=2)
        return over and not self._aborted

    def _check_engines(self, patience_s: float, *, warn: bool) -> bool:
        """Tell whether there are engines; warn if there are none, raise if that has been long."""
        lack = self._scheduler.without_engines()
        if lack is None:
            return True
        for_s, what_to_do = lack
        if for_s > patience_s:
            raise NoEnginesError(
                f"There has been no engine for {for_s:.0f} s, and not all is done. {what_to_do}"
            )
        if warn:
            warnings.warn(
                f"There is no engine left, and {self.n_total - self.n_done} evaluations are still "
                f"to be done. {what_to_do} They are waited for, {patience_s:.0f} s at the most.",
                RuntimeWarning,
                stacklevel=3,
            )
        return False

    def watch(self, *, period_s: float = 0.5) -> bool:
        """Show the report in a notebook, and renew it in its place until all is done.

        Interrupting it leaves the evaluations running. In a terminal it is `wait`.

        Parameters
        ----------
        period_s : float
            Seconds between two looks.

        Returns
        -------
        bool
            As from `wait`, which raises the same errors.
        """
        check_seconds("period_s", period_s)
        if not _is_in_notebook():
            return self.wait()
        from IPython.display import display

        view = display(self, display_id=True)  # type: ignore[no-untyped-call]  # IPython's
        over = False
        has_engines = True
        while not over:
            over = self._scheduler.wait(period_s)
            has_engines = self._check_engines(PATIENCE_S, warn=has_engines)
            view.update(self)
        return self.wait(progress_bar=False)

    def abort(self) -> None:
        """End it. What is done is kept; what is running is forgotten."""
        was_over = self._scheduler.is_over
        self._scheduler.abort()
        self._aborted = self._aborted or not was_over

    def to_frame(self) -> Any:
        """Arrange what is done as a `pandas.DataFrame`, a row for each evaluation.

        Columns are the fields of `Evaluation`, with a column ``param_NAME`` for each parameter, and
        ``test_METRIC`` and ``train_METRIC`` for each metric: ``test_score`` if there is one.
        """
        with comes_with("notebook", "Tables"):
            import pandas as pd

        rows = []
        for e in self.evaluations():
            row = {"candidate": e.candidate}
            row |= {f"param_{name}": value for name, value in results.plain(e.params).items()}
            for name, value in vars(e).items():
                if name in ("train_scores", "test_scores"):
                    scores: Mapping[str, Any] = value or dict.fromkeys(e.test_scores)
                    part = name.removesuffix("_scores")
                    row |= {f"{part}_{metric}": score for metric, score in scores.items()}
                elif name != "params":
                    row[name] = value
            rows.append(row)
        return pd.DataFrame(rows)

    def plot_timeline(self, ax: Any = None) -> Any:
        """Draw when each engine was at work, and how long it idled; call it while it runs, too.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
            By default a new figure is made.

        Returns
        -------
        matplotlib.axes.Axes
        """
        with comes_with("notebook", "Pictures"):
            from mscourse.plots import engine_timeline

        return engine_timeline(self.evaluations(), ax=ax)

    def _headline(self) -> str:
        n_done, n_total = self.n_done, self.n_total
        state = ", aborted" if self._aborted else ""
        percent = int(100 * self.progress + 1e-9)  # 100 * 0.29 is a little less than 29
        return f"Progress: {percent:02d}% ({n_done}/{n_total}){state}"

    def _state_notes(self) -> list[str]:
        """Say how fast it is, as long as it runs, or what keeps it from running."""
        lack = self._scheduler.without_engines()
        if lack is not None:
            return [f"There has been no engine for {lack[0]:.0f} s. {lack[1]}"]
        return self._pace()

    def _pace(self) -> list[str]:
        from tqdm import tqdm

        n_done, n_total = self.n_done - self._n_done_before, self.n_total - self._n_done_before
        elapsed_s = time.monotonic() - self._started_s
        if self._scheduler.is_over or not n_done:
            return []
        n_engines = self._scheduler.n_engines
        engines = "1 engine" if n_engines == 1 else f"{n_engines} engines"
        left = tqdm.format_interval(elapsed_s * (n_total - n_done) / n_done)
        return [f"{n_done / elapsed_s:.3g} evaluations a second on {engines}, about {left} left"]

    def _bar_facts(self) -> dict[str, Any]:
        """Say what stands behind a progress bar."""
        return {"engines": self._scheduler.n_engines}

    def _callback_notes(self) -> list[str]:
        return [
            f"on_evaluation has raised {n} times: {error}"
            for error, n in self._callback_errors.most_common(results.MOST_ERRORS_SHOWN)
        ]

    def _outcome_notes(self) -> list[str]:
        """Say which evaluations failed, and what the others warned of."""
        return [*results.grouped_errors(self._log), *results.grouped_warnings(self._log)]

    def _journal_notes(self) -> list[str]:
        """Say what the journal has brought, and what of it is lost."""
        journal = self._journal
        if journal is None:
            return []
        notes = [f"{self._n_resumed} were done before: {journal.path}"] if self._n_resumed else []
        damage = journal.content.damage()
        return [*notes, *([f"The journal is damaged: {damage}"] if damage else [])]

    def _take_in(self, ended: Sequence[Ended]) -> None:
        """Keep what came of evaluations. Called from the scheduler's thread."""
        done = []
        for item, value, failure, engine in ended:
            candidate, params, split, *rest = item
            n_train = rest[0] if rest else None
            outcome = value or self._evaluator.failed(str(failure), split, n_train)
            done.append((candidate, params, split, outcome, engine))
        if self._journal is not None:
            self._journal.append([each[1:] for each in done])
        for each in done:
            row = self._keep(*each)
            if self._on_evaluation is not None:
                try:
                    self._on_evaluation(self._log.record(row))
                except BaseException as error:  # noqa: BLE001  # somebody else's: this goes on
                    self._callback_errors[f"{type(error).__name__}: {error}"] += 1
        if self._first_error is not None:
            self._aborted = True
            self._scheduler.abort()

    def _keep(
        self, candidate: int, params: Params, split: int, outcome: Outcome, engine: EngineId
    ) -> int:
        """Show an evaluation, and learn from it; return its row in the log."""
        own_params = params if self._keeps_params else None
        row = self._log.append(candidate, split, outcome, engine, own_params)
        if self._learn is not None:
            self._learn(candidate, split, outcome, engine)
        if self._raise_errors and outcome.error is not None and self._first_error is None:
            self._first_error = self._log.record(row)
        return row

    # -- the journal -----------------------------------------------------------------------------

    def _resume(self, journal: Journal) -> None:
        """Take in what is done already."""
        source = ReplayingSource(self._source, self._replay)
        source.replay_ahead(all_of_them=self._learn is None)
        self._source = source

    def _replay(self, item: Item) -> bool:
        """Take in what came of an evaluation if it is in the journal; return whether it is."""
        assert self._journal is not None
        candidate, params, split, *rest = item
        n_train = (rest[0] if rest else None) or self._evaluator.splits[split].n_train
        entry = self._journal.take(params, split, n_train)
        if entry is None:
            return False
        self._keep_again(candidate, params, entry)
        return True

    def _keep_again(self, candidate: int, params: Params, entry: Entry) -> None:
        outcome = entry.outcome.ranked_by(self._evaluator.metrics[0])
        self._keep(candidate, params, entry.split, outcome, entry.engine)

    def _leave_journal(self) -> None:
        if self._journal is not None:
            self._journal.close()


def _is_in_notebook() -> bool:
    return hasattr(get_ipython(), "kernel")  # IPython in a terminal has none


def _bar(n_total: int, *, show: bool) -> Any:
    from tqdm.auto import tqdm

    return tqdm(total=n_total, unit="evaluation", disable=not show)
