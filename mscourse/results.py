"""What a set of evaluations says: ranks that are fair, tables, and reports for people.

A mean over two splits does not compare with a mean over five: the two may have been the easy ones.
Candidates are therefore ranked only among those with as many splits done.
"""

from __future__ import annotations

import html
import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mscourse.evaluation import Params
from mscourse.log import Columns, Log

#: Of errors that differ, and of warnings, so many are told: each may have a number of its own in
#: its message.
MOST_ERRORS_SHOWN = 5


@dataclass(frozen=True)
class Mean:
    """A mean over splits, and its standard error (nan for one split)."""

    mean: float
    standard_error: float

    @classmethod
    def of(cls, scores: Sequence[float] | NDArray[np.float64]) -> Mean:
        """Average some scores."""
        values = np.asarray(scores, dtype=float)
        with np.errstate(invalid="ignore", over="ignore"):  # of scores without end
            mean = float(values.mean())
            if len(values) < 2:
                return cls(mean, math.nan)
            return cls(mean, float(values.std(ddof=1) / math.sqrt(len(values))))

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
    n_more : int
        How many there are beyond these.
    """

    ranked: list[CandidateScore]
    unranked: list[CandidateScore]
    n_more: int = 0


def rank(candidates: Sequence[Params], n_splits: int, done: Columns, n_top: int) -> Ranking:
    """Rank candidates by their mean test score.

    Parameters
    ----------
    candidates : sequence of dict
        All candidates of the search.
    n_splits : int
        How many splits each is to be evaluated on.
    done : Columns
        What is done.
    n_top : int
        Name no more than so many ranked ones, and as many unranked ones.
    """
    if not len(done):
        return Ranking([], [])
    begun, row = np.unique(done.candidate, return_inverse=True)
    scores = np.full((len(begun), n_splits), np.nan)
    is_done = np.zeros(scores.shape, dtype=bool)
    scores[row, done.split] = next(iter(done.test_scores.values()))
    is_done[row, done.split] = True
    n_done = is_done.sum(axis=1)
    means = np.where(is_done, scores, 0.0).sum(axis=1) / n_done
    by_mean = np.argsort(-means, kind="stable")  # nan comes last
    is_complete = n_done[by_mean] == n_done.max()
    ranked, others = by_mean[is_complete], by_mean[~is_complete]
    unranked = others[np.argsort(-n_done[others], kind="stable")]

    def score(i: int) -> CandidateScore:
        return candidate_score(candidates[int(begun[i])], n_splits, done.take(row == i))

    n_more = max(0, len(ranked) - n_top) + max(0, len(unranked) - n_top)
    return Ranking([score(i) for i in ranked[:n_top]], [score(i) for i in unranked[:n_top]], n_more)


def candidate_score(params: Params, n_splits: int, done: Columns, rung: str = "") -> CandidateScore:
    """Sum up the evaluations of one candidate."""
    train = next(iter(done.train_scores.values()), None)
    return CandidateScore(
        params=params,
        n_done=len(done),
        n_splits=n_splits,
        n_failed=int(done.failed.sum()),
        validation=Mean.of(next(iter(done.test_scores.values()))),
        train=None if train is None else Mean.of(train),
        rung=rung,
    )


def nan_last(value: float) -> float:
    """Key that sorts nan behind all numbers."""
    return math.inf if math.isnan(value) else value


def cv_results(candidates: Sequence[Params], n_splits: int, done: Columns) -> dict[str, Any]:
    """Arrange evaluations as scikit-learn's ``cv_results_``, with the same keys and types.

    Candidates without any evaluation are left out. What is missing of the others is nan, and so
    are their means: a mean over fewer splits would not compare.
    """
    columns = {"fit_time": done.fit_time_s, "score_time": done.score_time_s}
    columns |= {f"test_{name}": scores for name, scores in done.test_scores.items()}
    columns |= {f"train_{name}": scores for name, scores in done.train_scores.items()}
    begun, row = np.unique(done.candidate, return_inverse=True)
    table = {key: np.full((len(begun), n_splits), np.nan) for key in columns}
    for key, values in columns.items():
        table[key][row, done.split] = values
    params = [dict(candidates[i]) for i in begun.tolist()]

    results: dict[str, Any] = {}

    def store(key: str, *, splits: bool) -> None:
        if splits:
            for split in range(n_splits):
                results[f"split{split}_{key}"] = table[key][:, split]
        results[f"mean_{key}"] = np.mean(table[key], axis=1)
        results[f"std_{key}"] = np.std(table[key], axis=1)

    store("fit_time", splits=False)
    store("score_time", splits=False)
    results.update(_parameter_columns(params))
    results["params"] = params
    for name in done.test_scores:
        store(f"test_{name}", splits=True)
        results[f"rank_test_{name}"] = _ranks(results[f"mean_test_{name}"])
        if name in done.train_scores:
            store(f"train_{name}", splits=True)
    return results


def _ranks(means: NDArray[np.float64]) -> NDArray[np.int32]:
    from scipy.stats import rankdata  # half a second, and the report of a journal has no ranks

    if not len(means):
        return np.zeros(0, dtype=np.int32)
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


def grouped_errors(log: Log) -> list[str]:
    """Say what failed, one line for each different error, the most frequent ones only."""
    return _grouped(log, log.errors(), "failed", "errors")


def grouped_warnings(log: Log) -> list[str]:
    """Say who warned of what, one line for each different warning, the most frequent ones only.

    The first line of a warning stands for it: what follows is advice.
    """
    shortened = ((row, first_line(text)) for row, text in log.warnings())
    return _grouped(log, dict.fromkeys(shortened), "warned", "warnings")


def first_line(text: str) -> str:
    """Give the first line of a message, whatever it announces."""
    return text.partition("\n")[0].removesuffix(":")


def _grouped(log: Log, texts: Iterable[tuple[int, str]], did: str, what: str) -> list[str]:
    first: dict[str, tuple[int, str]] = {}
    counts: Counter[str] = Counter()
    for row, text in texts:
        # A set is written in another order by each engine.
        alike = re.sub(r"\{[^{}]*\}", _in_order, text)
        first.setdefault(alike, (row, text))
        counts[alike] += 1
    lines = []
    for alike, n in counts.most_common(MOST_ERRORS_SHOWN):
        row, text = first[alike]
        where = log.record(row)
        lines.append(f"{n} {did}: {text} (first: split {where.split} of {plain(where.params)})")
        del counts[alike]
    if counts:
        others = f"{len(counts)} other {what}, which `to_frame` has"
        lines.append(f"{counts.total()} {did}: with {others}")
    return lines


def _in_order(braces: re.Match[str]) -> str:
    return ", ".join(sorted(braces[0][1:-1].split(", ")))


def text_report(headline: str, ranking: Ranking, errors: Sequence[str]) -> str:
    """Report for a terminal."""
    lines = [headline, *errors]
    for number, score in enumerate(ranking.ranked, start=1):
        lines += ["", f"Rank {number}{_so_far(score)}: {score}"]
    for score in ranking.unranked:
        lines += ["", f"Not ranked{_so_far(score)}: {score}"]
    if ranking.n_more:
        lines += ["", f"... and {ranking.n_more} more"]
    return "\n".join(lines)


def html_report(headline: str, fraction: float, ranking: Ranking, errors: Sequence[str]) -> str:
    """Report for a notebook: the same as a small table."""
    rows = [(str(number), score) for number, score in enumerate(ranking.ranked, start=1)] + [
        ("not ranked", score) for score in ranking.unranked
    ]
    # Where no evaluation has a train score, a column of them would take the room of the parameters.
    has_train = any(score.train for _, score in rows)

    def row(number: str, score: CandidateScore) -> str:
        cells = [number, str(score.validation), *([str(score.train or "")] * has_train)]
        failed = f", {score.n_failed} failed" if score.n_failed else ""
        cells.append(f"{score.n_done} of {score.n_splits}{_html_rung(score)}{failed}")
        params = html.escape(str(plain(score.params)))
        return (
            f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}"
            f"<td style='text-align: left'><code>{params}</code></td></tr>"
        )

    body = "".join(row(*each) for each in rows)
    heads = ["Rank", "Validation", *(["Train"] * has_train), "Splits"]
    notes = "".join(f"<div>{html.escape(error)}</div>" for error in errors)
    table = (
        f"<table><thead><tr>{''.join(f'<th>{head}</th>' for head in heads)}"
        f"<th style='text-align: left'>Parameters</th></tr></thead><tbody>{body}</tbody></table>"
        if rows
        else ""
    )
    more = f"<div>... and {ranking.n_more} more</div>" if ranking.n_more else ""
    return (
        f"<div>{html.escape(headline)} "
        f"<progress value='{fraction:.4f}' max='1' aria-label='progress'></progress></div>"
        f"{notes}{table}{more}"
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
