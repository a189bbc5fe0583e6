"""Go on from a journal: what is done is not run again.

The journal is asked by what an evaluation *is*: the parameters, the split, and the rows of its
train set. So it does not matter in which order, or in which search, it was done.
"""

from __future__ import annotations

import hashlib
import json
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mscourse.errors import ParameterError
from mscourse.evaluator import Evaluator
from mscourse.identity import described, described_scorer
from mscourse.journal import Journal, open_journal
from mscourse.pools import EngineId
from mscourse.source import Item, Source
from mscourse.splits import Splits


def journal_of(
    evaluator: Evaluator,
    path: str | Path | None,
    *,
    random_state: int | None = 0,
    retry_failed: bool = False,
) -> Journal | None:
    """Open the journal of a search or a curve, if it is to have one."""
    if path is None:
        if retry_failed:
            raise ParameterError("retry_failed is about a journal; name one with journal=.")
        return None
    return open_journal(path, described_work(evaluator, random_state), retries_failed=retry_failed)


def described_work(evaluator: Evaluator, random_state: int | None) -> dict[str, Any]:
    """Describe what all evaluations of a search have in common, as far as it matters to them."""
    return {
        "data": _described_data(evaluator.splits),
        "estimator": described(evaluator.estimator),
        "scoring": described_scorer(evaluator.scorer),
        "return_train_score": evaluator.return_train_score,
        # Of estimators that draw from the global generators.
        "random_state": None if random_state is None else evaluator.seed,
        "fit_metadata": dict(evaluator.fit_metadata),
        "score_metadata": dict(evaluator.score_metadata),
    }


def _described_data(splits: Splits) -> dict[str, Any]:
    stored = json.dumps(splits.description(), sort_keys=True)
    return {
        "samples": splits.n_samples,
        "splits": len(splits),
        "sha256": hashlib.sha256(stored.encode()).hexdigest()[:16],
    }


class ReplayingSource:
    """A source whose items are not handed out if they are done.

    Parameters
    ----------
    source : Source
        Where the items come from.
    replay : callable
        Called with an item; takes in what came of it and returns True if it is done.
    """

    def __init__(self, source: Source, replay: Callable[[Item], bool]) -> None:
        self._source = source
        self._replay = replay
        self._held: deque[Item] = deque()  # found not to be done; they come first

    @property
    def n_waiting(self) -> int:
        return len(self._held) + self._source.n_waiting

    @property
    def is_open(self) -> bool:
        return self._source.is_open

    def replay_ahead(self, *, all_of_them: bool) -> None:
        """Replay what is done before anything is handed out.

        What a source gives may depend on what has come back. Then no more is asked of it once an
        item is not done; the rest is replayed as it is taken.
        """
        while self._source.n_waiting and (all_of_them or not self._held):
            taken = self._source.take(1, None, [None], ahead=False)
            if not taken:
                return
            self._held.extend(item for item in taken if not self._replay(item))

    def take(
        self, n: int, engine: EngineId, engines: Sequence[EngineId], *, ahead: bool
    ) -> Sequence[Item]:
        if self._held:
            return [self._held.popleft() for _ in range(min(n, len(self._held)))]
        while True:
            taken = self._source.take(n, engine, engines, ahead=ahead)
            fresh = [item for item in taken if not self._replay(item)]
            # Not asked again for what it gives once these are done, which it may want to know.
            if fresh or not taken:
                return fresh
