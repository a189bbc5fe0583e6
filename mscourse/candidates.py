"""The candidates of a search: listed, drawn, or made when they are asked for.

A grid of a million candidates takes no memory: the n-th is computed from n, as the digits of a
number are.
"""

from __future__ import annotations

import bisect
import itertools
import math
from abc import abstractmethod
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias, overload

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import ParameterGrid, ParameterSampler

from mscourse.checks import check_count, checked_seed
from mscourse.errors import ParameterError
from mscourse.evaluation import Params
from mscourse.prefixes import identity

Grid: TypeAlias = Mapping[str, Sequence[Any]] | Sequence[Mapping[str, Sequence[Any]]]


# An evaluation takes at least a millisecond, and so many of them more than a day on one engine. The
# order of the candidates, which is kept, takes 8 bytes for each.
_MOST_CANDIDATES = 100_000_000


class _Lazy(Sequence[Params]):
    """A sequence that equals a list of the same candidates."""

    @abstractmethod
    def _at(self, index: int) -> Params: ...

    @overload
    def __getitem__(self, index: int) -> Params: ...

    @overload
    def __getitem__(self, index: slice) -> list[Params]: ...

    def __getitem__(self, index: int | slice) -> Params | list[Params]:
        if isinstance(index, slice):
            return [self._at(i) for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(f"There are {len(self)} candidates; there is no number {index}.")
        return self._at(index % len(self))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence):
            return NotImplemented
        return len(self) == len(other) and all(map(are_same, self, other))

    __hash__ = None  # type: ignore[assignment]  # as a list

    def __repr__(self) -> str:
        shown = ", ".join(map(repr, itertools.islice(self, 3)))
        return f"[{shown}, ...] ({len(self)} candidates)" if len(self) > 3 else f"[{shown}]"


def are_same(one: object, other: object) -> bool:
    """Whether two candidates have equal parameters; a value may be an array."""
    if not isinstance(one, Mapping) or not isinstance(other, Mapping):
        return False
    return one.keys() == other.keys() and all(_are_equal(one[name], other[name]) for name in one)


def _are_equal(one: object, other: object) -> bool:
    if one is other:
        return True
    if isinstance(one, np.ndarray) or isinstance(other, np.ndarray):
        return np.array_equal(one, other)  # type: ignore[arg-type]  # it takes anything
    if isinstance(one, list | tuple) and type(one) is type(other):
        return len(one) == len(other) and all(map(_are_equal, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return are_same(one, other)
    try:
        return bool(one == other)
    except (TypeError, ValueError):  # a data frame, of which each value is equal or not
        return False


class _OneGrid(_Lazy):
    """All combinations of some values; the last name in the alphabet changes fastest."""

    def __init__(self, values: Mapping[str, Sequence[Any]]) -> None:
        self._names = sorted(values)
        self._values = [values[name] for name in self._names]
        self.n = math.prod(map(len, self._values))  # may be more than len() can tell

    def __len__(self) -> int:
        return self.n

    def _at(self, index: int) -> Params:
        digits = []
        for values in reversed(self._values):
            index, digit = divmod(index, len(values))
            digits.append(values[digit])
        return dict(zip(self._names, reversed(digits), strict=True))


class Candidates(_Lazy):
    """Candidates from several sources, one after the other; more may be added."""

    def __init__(self, *parts: Sequence[Params]) -> None:
        self._parts: list[Sequence[Params]] = []
        self._ends: list[int] = []
        for part in parts:
            self.extend(part)

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def _at(self, index: int) -> Params:
        part = bisect.bisect_right(self._ends, index)
        start = self._ends[part - 1] if part else 0
        return self._parts[part][index - start]

    def __iter__(self) -> Iterator[Params]:
        return itertools.chain.from_iterable(self._parts)

    def examples(self) -> list[Params]:
        """Give candidates that have all the names of parameters there are."""
        return [
            params
            for part in self._parts
            for params in (part[:1] if isinstance(part, _OneGrid) else part)
        ]

    def extend(self, part: Sequence[Params]) -> None:
        """Add candidates at the end."""
        if len(part):
            self._parts.append(part)
            self._ends.append(len(self) + len(part))


def grid_candidates(param_grid: Grid) -> Candidates:
    """Give all candidates of a grid, in the order of `sklearn.model_selection.ParameterGrid`."""
    try:
        grids = ParameterGrid(param_grid).param_grid  # checks it
        parts = list(map(_OneGrid, grids))  # which sorts the names
    except (TypeError, ValueError) as error:
        raise ParameterError(f"param_grid is not a grid: {error}") from error
    n_candidates = sum(part.n for part in parts)
    if not 1 <= n_candidates <= _MOST_CANDIDATES:
        raise ParameterError(
            f"param_grid has {n_candidates} candidates; there can be 1 to {_MOST_CANDIDATES}. Draw "
            "some of a large grid: random_search."
        )
    return Candidates(*parts)


def drawn_candidates(
    param_distributions: Mapping[str, Any] | Sequence[Mapping[str, Any]],
    n_iter: int,
    random_state: int | None,
) -> Candidates:
    """Draw candidates as scikit-learn does."""
    check_count("n_iter", n_iter)
    checked_seed(random_state)
    try:
        if not param_distributions:
            raise ValueError("it is empty.")
        drawn = ParameterSampler(param_distributions, n_iter, random_state=random_state)
        return Candidates(list(drawn))
    except (TypeError, ValueError, OverflowError) as error:
        raise ParameterError(f"param_distributions cannot be drawn from: {error}") from error


def drawn_order(
    param_distributions: Mapping[str, Any] | Sequence[Mapping[str, Any]], n: int, seed: int
) -> NDArray[np.int64]:
    """Give the order in which to evaluate drawn candidates, so that the first are a fair sample.

    What is drawn of lists alone is drawn without replacement, and comes more or less in the order
    of the grid: exactly so if all of it is drawn. Other draws are in random order as they are.
    """
    one_or_more = param_distributions
    several = [one_or_more] if isinstance(one_or_more, Mapping) else one_or_more
    if any(hasattr(values, "rvs") for each in several for values in each.values()):
        return np.arange(n)
    return random_order(n, seed)


def random_order(n: int, seed: int) -> NDArray[np.int64]:
    """Give the numbers of candidates in random order."""
    return np.random.default_rng(seed).permutation(n)


def new_ones(candidates: Sequence[Params], known: Sequence[Params]) -> Sequence[Params]:
    """Leave out the candidates that are among those known already."""
    seen = set(map(_identity, known))
    alike: dict[Any, list[Params]] = defaultdict(list)
    for params in known:
        alike[_outline(_identity(params))].append(params)

    def is_known(params: Params) -> bool:
        full = _identity(params)
        if full in seen:
            return True
        outline = _outline(full)
        # Lists, dictionaries and arrays may be equal without being the same object.
        return outline != full and any(are_same(params, each) for each in alike[outline])

    fresh = [params for params in candidates if not is_known(params)]
    return candidates if len(fresh) == len(candidates) else fresh


def _identity(params: Params) -> tuple[Any, ...]:
    return tuple((name, identity(params[name])) for name in sorted(params))


def _outline(identified: Any) -> Any:
    """Leave out of an identity which objects it is made of."""
    if not isinstance(identified, tuple):
        return identified
    if identified and identified[0] is object:
        return (object,)
    return tuple(map(_outline, identified))
