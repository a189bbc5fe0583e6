"""What a set of evaluations says: ranks that are fair, tables, and reports for people.

A mean over two splits does not compare with a mean over five: the two may have been the easy ones.
Candidates are therefore ranked only among those with as many splits done.
"""

from __future__ import annotations

import html
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from mscourse.evaluation import SINGLE_METRIC, Evaluation, Params


@dataclass(frozen=True)
class Mean:
    """A mean over splits, and its standard error (nan for one split)."""

    mean: float
    standard_error: float

    @classmethod
    def of(cls, scores: Sequence[float]) -> Mean:
        """Average some scores."""
        values = np.asarray(scores, dtype=float)
        if len(values) < 2:
            return cls(float(values.mean()), math.nan)
        return cls(float(values.mean()), float(values.std(ddof=1) / math.sqrt(len(values))))

    def __str__(self) -> str:
        if math.isnan(self.standard_error):
            return f"{self.mean:.5f}"
        return f"{self.mean:.5f} (+/-{self.standard_error:.5f})"


@dataclass(frozen=True)
class CandidateScore:
    """How one candidate has done so far.

    Attributes
    ----------
    params : dict
        The candidate.
    n_done, n_splits : int
        Splits it has been evaluated on, out of how many.
    n_failed : int
        Evaluations among them that failed.
    validation, train : Mean
        Scores on the test and on the train sets; the latter is None if it was not asked for.
    rung : str
        Where these scores are from, if the search has rungs.
    """

    params: Params
    n_done: int
    n_splits: int
    n_failed: int
    validation: Mean
    train: Mean | None
    rung: str = ""

    def __str__(self) -> str:
        train = "" if self.train is None else f" train: {self.train}"
        return f"validation: {self.validation}{train}:\n {plain(self.params)}"


@dataclass(frozen=True)
class Ranking:
    """Candidates that compare with each other, best first, and those that do not yet.

    Attributes
    ----------
    ranked : list of CandidateScore
        Those with the most splits done, best mean first; failed ones last.
    unranked : list of CandidateScore
        Those with fewer splits done, the most advanced first.
    """

    ranked: list[CandidateScore]
    unranked: list[CandidateScore]


def rank(
    candidates: Sequence[Params],
    n_splits: int,
    evaluations: Iterable[Evaluation],
) -> Ranking:
    """Rank candidates by their mean test score.

    Parameters
    ----------
    candidates : sequence of dict
        All candidates of the search.
    n_splits : int
        How many splits each is to be evaluated on.
    evaluations : iterable of Evaluation
        What is done.
    """
    done: dict[int, list[Evaluation]] = defaultdict(list)
    for evaluation in evaluations:
        done[evaluation.candidate].append(evaluation)
    scores = [candidate_score(candidates[i], n_splits, done[i]) for i in sorted(done)]
    most = max((score.n_done for score in scores), default=0)
    ranked = [score for score in scores if score.n_done == most]
    unranked = [score for score in scores if score.n_done < most]
    ranked.sort(key=lambda score: nan_last(-score.validation.mean))
    unranked.sort(key=lambda score: (-score.n_done, nan_last(-score.validation.mean)))
    return Ranking(ranked, unranked)


def candidate_score(
    params: Params, n_splits: int, done: Sequence[Evaluation], rung: str = ""
) -> CandidateScore:
    """Sum up the evaluations of one candidate."""
    train = [e.train_score for e in done if e.train_score is not None]
    return CandidateScore(
        params=params,
        n_done=len(done),
        n_splits=n_splits,
        n_failed=sum(e.error is not None for e in done),
        validation=Mean.of([e.test_score for e in done]),
        train=Mean.of(train) if train else None,
        rung=rung,
    )


def nan_last(value: float) -> float:
    """Key that sorts nan behind all numbers."""
    return math.inf if math.isnan(value) else value


def cv_results(
    candidates: Sequence[Params],
    n_splits: int,
    evaluations: Iterable[Evaluation],
    *,
    return_train_score: bool,
) -> dict[str, Any]:
    """Arrange evaluations as scikit-learn's ``cv_results_``, with the same keys and types.

    Candidates without any evaluation are left out. What is missing of the others is nan, and so
    are their means: a mean over fewer splits would not compare.
    """
    evaluations = sorted(evaluations, key=attrgetter("candidate"))
    metrics = metric_names(evaluations)
    table: dict[str, NDArray[np.float64]] = {
        key: np.full((len(candidates), n_splits), np.nan)
        for key in ("fit_time", "score_time", *_score_keys(metrics))
    }
    begun: list[int] = []
    for e in evaluations:
        i = e.candidate
        if i not in begun[-1:]:
            begun.append(i)
        table["fit_time"][i, e.split] = e.fit_time_s
        table["score_time"][i, e.split] = e.score_time_s
        for name in metrics:
            # One that failed may not know all metrics: a callable names them when it succeeds.
            table[f"test_{name}"][i, e.split] = e.test_scores.get(name, e.test_score)
            if e.train_scores is not None:
                table[f"train_{name}"][i, e.split] = e.train_scores.get(name, e.train_score)
    table = {key: values[begun] for key, values in table.items()}
    params = [dict(candidates[i]) for i in begun]

    results: dict[str, Any] = {}

    def store(key: str, *, splits: bool) -> None:
        if splits:
            for split in range(n_splits):
                results[f"split{split}_{key}"] = table[key][:, split]
        results[f"mean_{key}"] = np.average(table[key], axis=1)
        results[f"std_{key}"] = np.std(table[key], axis=1)

    store("fit_time", splits=False)
    store("score_time", splits=False)
    results.update(_parameter_columns(params))
    results["params"] = params
    for name in metrics:
        store(f"test_{name}", splits=True)
        results[f"rank_test_{name}"] = _ranks(results[f"mean_test_{name}"])
        if return_train_score:
            store(f"train_{name}", splits=True)
    return results


def metric_names(evaluations: Iterable[Evaluation]) -> list[str]:
    """List the metrics, first the one by which candidates are ranked."""
    names: dict[str, None] = {}
    failed: dict[str, None] = {}
    for e in evaluations:
        (names if e.error is None else failed).update(dict.fromkeys(e.test_scores))
    return list(names or failed or {SINGLE_METRIC: None})


def _score_keys(metrics: Iterable[str]) -> list[str]:
    return [f"{part}_{name}" for name in metrics for part in ("test", "train")]


def _ranks(means: NDArray[np.float64]) -> NDArray[np.int32]:
    worst = np.nanmin(means) - 1 if not np.isnan(means).all() else 0.0
    ranks: NDArray[np.int32] = rankdata(-np.nan_to_num(means, nan=worst), method="min").astype(
        np.int32
    )
    return ranks


def _parameter_columns(candidates: Sequence[Params]) -> dict[str, Any]:
    """One masked array per parameter, masked where a candidate does not have it."""
    names = dict.fromkeys(name for params in candidates for name in params)
    columns = {}
    for name in names:
        values = {i: params[name] for i, params in enumerate(candidates) if name in params}
        column = np.ma.MaskedArray(
            np.empty(len(candidates), dtype=_column_dtype(list(values.values()))), mask=True
        )
        for i, value in values.items():
            column[i] = value
        columns[f"param_{name}"] = column
    return columns


def _column_dtype(values: list[Any]) -> Any:
    try:
        array = np.array(values)
    except ValueError:  # sequences of different lengths
        return object
    # Text stays as it is, and a sequence is one value of a parameter, not several.
    return array.dtype if array.dtype.kind != "U" and array.ndim == 1 else object


def grouped_errors(evaluations: Iterable[Evaluation]) -> list[str]:
    """Say what failed, one line for each different error."""
    failed = [e for e in evaluations if e.error is not None]
    counts = Counter(e.error for e in failed)
    return [
        f"{n} failed: {error} (first: split {first.split} of {plain(first.params)})"
        for error, n in counts.most_common()
        for first in [next(e for e in failed if e.error == error)]
    ]


def text_report(headline: str, ranking: Ranking, errors: Sequence[str], n_top: int) -> str:
    """Report for a terminal."""
    lines = [headline, *errors]
    for number, score in enumerate(ranking.ranked[:n_top], start=1):
        lines += ["", f"Rank {number}{_so_far(score)}: {score}"]
    for score in ranking.unranked[:n_top]:
        lines += ["", f"Not ranked{_so_far(score)}: {score}"]
    more = len(ranking.ranked[n_top:]) + len(ranking.unranked[n_top:])
    if more:
        lines += ["", f"... and {more} more"]
    return "\n".join(lines)


def html_report(
    headline: str, fraction: float, ranking: Ranking, errors: Sequence[str], n_top: int
) -> str:
    """Report for a notebook: the same as a small table."""
    rows = [
        (str(number), score) for number, score in enumerate(ranking.ranked[:n_top], start=1)
    ] + [("not ranked", score) for score in ranking.unranked[:n_top]]
    body = "".join(
        f"<tr><td>{number}</td><td>{score.validation}</td><td>{score.train or ''}</td>"
        f"<td>{score.n_done} of {score.n_splits}{_html_rung(score)}</td>"
        f"<td style='text-align: left'><code>{html.escape(str(plain(score.params)))}</code></td>"
        "</tr>"
        for number, score in rows
    )
    notes = "".join(f"<div>{html.escape(error)}</div>" for error in errors)
    table = (
        "<table><thead><tr><th>Rank</th><th>Validation</th><th>Train</th><th>Splits</th>"
        f"<th style='text-align: left'>Parameters</th></tr></thead><tbody>{body}</tbody></table>"
        if rows
        else ""
    )
    return (
        f"<div>{html.escape(headline)} "
        f"<progress value='{fraction:.4f}' max='1' aria-label='progress'></progress></div>"
        f"{notes}{table}"
    )


def _html_rung(score: CandidateScore) -> str:
    return f" in {html.escape(score.rung)}" if score.rung else ""


def _so_far(score: CandidateScore) -> str:
    parts = [score.rung] if score.rung else []
    if score.n_done < score.n_splits:
        parts.append(f"{score.n_done} of {score.n_splits} splits")
    if score.n_failed:
        parts.append(f"{score.n_failed} failed")
    return f" ({', '.join(parts)})" if parts else ""


def plain(params: Params) -> dict[str, Any]:
    """Show numpy's numbers as numbers: ``0.001``, not ``np.float64(0.001)``."""
    return {name: plain_value(value) for name, value in params.items()}


def plain_value(value: Any) -> Any:
    """Turn a number of numpy into one of Python; leave everything else alone."""
    return value.item() if isinstance(value, np.generic) else value


def label(value: object) -> str:
    """Show one value of a parameter, short enough for a table or an axis."""
    value = plain_value(value)
    return f"{value:g}" if isinstance(value, float) else str(value)
