"""scikit-learn's own search classes, with their evaluations on engines.

::

    from mscourse.sklearn import GridSearchCV  # instead of sklearn.model_selection

    search = GridSearchCV(SVC(), params, engines=client).fit(X, y)

It is scikit-learn that fits: its checks, its splits, its random numbers, its refit, its messages.
Only the evaluations run elsewhere, so that what comes out is the same bit for bit.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

import joblib
import numpy as np
import sklearn.model_selection
from joblib.parallel import get_active_backend
from sklearn.model_selection._search import BaseSearchCV

from mscourse.engines import local_cluster, usable_cores
from mscourse.errors import ParameterError
from mscourse.joblib import EnginesBackend
from mscourse.pools import Engines
from mscourse.sklearn_splits import PersistedData
from mscourse.splits import Splits


# scikit-learn has no types, and in a mixin mypy cannot know what `super()` is: so each line that
# touches either has a `type: ignore`.
class _OnEngines:
    """What the search classes share: scikit-learn's fit, with its evaluations on engines."""

    cv: Any
    engines: Engines
    estimator: Any
    n_jobs: int | None
    splits: Splits | None

    def fit(self, X: Any = None, y: Any = None, **params: Any) -> Any:
        """Evaluate all candidates on the engines, and refit the best one in this process.

        Parameters
        ----------
        X : array-like or sparse matrix, shape (n_samples, n_features)
            The data. With ``splits`` the data that were persisted, or None to read them from there.
        y : array-like, shape (n_samples,) or (n_samples, n_outputs), optional
            The targets. With ``splits`` both X and y, or neither: then the metadata that were
            persisted, such as ``sample_weight``, are parameters too.
        **params
            As in scikit-learn, for the estimator's ``fit``, the splitter and the scorer. Those
            with a value for each row are split like X; with ``splits`` they are in the order of
            the data that were persisted.

        Returns
        -------
        self

        Raises
        ------
        ParameterError
            If the engines are none, or the splits are not of these data.
        NoEnginesError, ClusterError
            If there are no engines, or they cannot run the evaluations.
        """
        if self.splits is None:
            if X is None:
                raise ParameterError("fit needs X, unless the search has splits= to read it from.")
            return self._fit_on_engines(X, y, params)
        data = PersistedData(self, X, y, params)
        cv, self.cv = self.cv, data
        try:
            return self._fit_on_engines(data.X, data.y, data.params, data.stand_ins)
        finally:
            self.cv = cv

    def _fit_on_engines(
        self, X: Any, y: Any, params: Mapping[str, Any], stand_ins: Mapping[int, object] = {}
    ) -> Any:
        with _Place(stand_ins) as self._place:
            try:
                return super().fit(X, y, **params)  # type: ignore[misc]  # of scikit-learn
            finally:
                del self._place

    def _get_routed_params_for_fit(self, params: Mapping[str, Any]) -> Any:
        # The place is entered as soon as the parameters have been checked, and left as soon as
        # scikit-learn has made its joblib.Parallel: the refit runs as it would without engines.
        routed = super()._get_routed_params_for_fit(params)  # type: ignore[misc]
        if isinstance(self.cv, PersistedData):
            self.cv.stand_in_for_params(routed.estimator.fit, routed.scorer.score)
        self._place.enter(self.engines, self.n_jobs)
        return routed

    @functools.wraps(BaseSearchCV._run_search)  # scikit-learn looks at the signature
    def _run_search(self, *args: Any, **kwargs: Any) -> None:
        self._place.leave()
        super()._run_search(*args, **kwargs)  # type: ignore[misc]

    def __sklearn_clone__(self) -> Any:
        bare = copy.copy(self)
        bare.engines = bare.splits = None  # they cannot be copied, and need not be
        clone = super(_OnEngines, bare).__sklearn_clone__()  # type: ignore[misc]
        clone.engines, clone.splits = self.engines, self.splits
        return clone

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = {**super().__getstate__(), "engines": None}  # type: ignore[dict-item]
        if isinstance(state.get("_checked_cv_orig"), PersistedData):
            # It is fitted, and may be on its way to somebody who has none of the data.
            del state["_checked_cv_orig"]
            state["splits"] = None
        if state.pop("_place", None) is not None:
            # On its way to an engine, as the caller of an evaluation that has its split: splitters
            # may be large, and some cannot be pickled.
            state.pop("_checked_cv_orig", None)
            state["cv"] = state["splits"] = None
        return state


class GridSearchCV(_OnEngines, sklearn.model_selection.GridSearchCV):  # type: ignore[misc]
    """scikit-learn's `GridSearchCV` with its evaluations on engines.

    All parameters, attributes and methods of `sklearn.model_selection.GridSearchCV` are here, and
    do the same. What differs:

    - The evaluations run on ``engines``, unless ``n_jobs=1``: then they run in this process. Any
      other ``n_jobs`` means all the engines. An engine may die or join meanwhile.
    - X, y and the other arrays of at least 1 MB are written to a temporary file once, and all
      engines of a host map it. Smaller ones travel with each evaluation.
    - What evaluations print and warn of is printed and warned of here, as it comes in.
    - A clone has the same engines, a copy and a pickle have none. Once it is fitted, they have no
      ``splits`` either, so that a model can be used where the data are not.

    Parameters
    ----------
    estimator, param_grid, scoring, n_jobs, refit, cv, verbose, pre_dispatch, error_score, \
return_train_score
        As in scikit-learn.
    engines : ipyparallel Client or view, concurrent.futures.Executor, or None
        Where the evaluations run; the engines must see the temporary folder of this process. With
        None a local cluster is started for the fit, of ``n_jobs`` engines (one for each core
        unless told otherwise), and stopped after it. It is not started within a task of joblib's,
        nor where `joblib.parallel_config` names another backend than joblib's default: there
        joblib decides, as it does for scikit-learn.
    splits : Splits, optional
        The same data as `mscourse.persist_cv_splits` wrote them. They are used instead of ``cv``,
        and each train and test set is a slice of a file that all engines of a host map; without
        them each engine has a copy of the sets that it works on. Rows come in the order in which
        they are stored: in the ring layout that is not scikit-learn's order, which some estimators
        (`SGDClassifier`) react to.

    See Also
    --------
    mscourse.grid_search : Runs in the background, can be watched, aborted and resumed.

    Examples
    --------
    >>> search = mscourse.sklearn.GridSearchCV(SVC(), {"C": [1, 10]}, engines=client)
    >>> search.fit(X, y).best_params_
    {'C': 10}
    """

    def __init__(
        self,
        estimator: Any,
        param_grid: Any,
        *,
        scoring: Any = None,
        n_jobs: int | None = None,
        refit: Any = True,
        cv: Any = None,
        verbose: Any = 0,
        pre_dispatch: Any = "2*n_jobs",
        error_score: Any = np.nan,
        return_train_score: bool = False,
        engines: Engines = None,
        splits: Splits | None = None,
    ) -> None:
        super().__init__(
            estimator,
            param_grid,
            scoring=scoring,
            n_jobs=n_jobs,
            refit=refit,
            cv=cv,
            verbose=verbose,
            pre_dispatch=pre_dispatch,
            error_score=error_score,
            return_train_score=return_train_score,
        )
        self.engines = engines
        self.splits = splits


class RandomizedSearchCV(
    _OnEngines,
    sklearn.model_selection.RandomizedSearchCV,  # type: ignore[misc]
):
    """scikit-learn's `RandomizedSearchCV` with its evaluations on engines.

    It differs from `sklearn.model_selection.RandomizedSearchCV` as `GridSearchCV` does from
    scikit-learn's.

    Parameters
    ----------
    estimator, param_distributions, n_iter, scoring, n_jobs, refit, cv, verbose, pre_dispatch, \
random_state, error_score, return_train_score
        As in scikit-learn.
    engines, splits
        As for `GridSearchCV`.

    See Also
    --------
    mscourse.random_search : Runs in the background, can be watched, aborted and resumed.

    Examples
    --------
    >>> distributions = {"C": scipy.stats.loguniform(1e-2, 1e3)}
    >>> search = mscourse.sklearn.RandomizedSearchCV(
    ...     SVC(), distributions, n_iter=4, engines=client, random_state=0
    ... )
    >>> len(search.fit(X, y).cv_results_["params"])
    4
    """

    def __init__(
        self,
        estimator: Any,
        param_distributions: Any,
        *,
        n_iter: int = 10,
        scoring: Any = None,
        n_jobs: int | None = None,
        refit: Any = True,
        cv: Any = None,
        verbose: Any = 0,
        pre_dispatch: Any = "2*n_jobs",
        random_state: Any = None,
        error_score: Any = np.nan,
        return_train_score: bool = False,
        engines: Engines = None,
        splits: Splits | None = None,
    ) -> None:
        super().__init__(
            estimator,
            param_distributions,
            n_iter=n_iter,
            scoring=scoring,
            n_jobs=n_jobs,
            refit=refit,
            cv=cv,
            verbose=verbose,
            pre_dispatch=pre_dispatch,
            random_state=random_state,
            error_score=error_score,
            return_train_score=return_train_score,
        )
        self.engines = engines
        self.splits = splits


class _Place(ExitStack):
    """Where the evaluations of a fit run."""

    def __init__(self, stand_ins: Mapping[int, object]) -> None:
        super().__init__()
        self._stand_ins = stand_ins
        self._backend = ExitStack()

    def enter(self, engines: Engines, n_jobs: int | None) -> None:
        """Have the `joblib.Parallel` that is made next run on the engines."""
        self.push(self._backend)
        if n_jobs in (0, 1):  # of none, joblib says what is wrong with it
            return
        if engines is None:
            active, told_n_jobs = get_active_backend()
            if active.nesting_level or type(active) is not type(_default_backend()):
                return
            n_engines = n_jobs or told_n_jobs
            if n_engines == 1:
                return
            if n_engines is not None and n_engines < 0:  # -1: all cores, -2: all but one
                n_engines = max(1, usable_cores() + 1 + n_engines)
            engines = self.enter_context(local_cluster(n_engines))
        backend = EnginesBackend(engines, stand_ins=self._stand_ins)
        self._backend.enter_context(joblib.parallel_config(backend))

    def leave(self) -> None:
        """Have whatever else is made run where it would anyway."""
        self._backend.close()


def _default_backend() -> Any:
    return joblib.parallel.BACKENDS[joblib.parallel.DEFAULT_BACKEND]()
