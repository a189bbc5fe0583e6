"""scikit-learn's own tests of its search classes, with the search classes of `mscourse.sklearn`.

The module is imported once more, with our classes in the place of scikit-learn's, and pytest runs
its functions from here, with their marks, parameters and fixtures.
"""

from __future__ import annotations

import importlib
import sys
from unittest import mock

import ipyparallel as ipp
import pytest
import sklearn.model_selection

import mscourse.sklearn

NAME = "sklearn.model_selection.tests.test_search"
OURS = (mscourse.sklearn.GridSearchCV, mscourse.sklearn.RandomizedSearchCV)

# What cannot hold if evaluations run in another process, nor does with scikit-learn's own classes
# and n_jobs=2. By the name of a test, or of one case of it; one that holds after all is an error.
ELSEWHERE = "It counts or registers what is called in this process, and that is another one."
EXCEPTED = {
    "test_searchcv_raise_warning_with_non_finite_score": ELSEWHERE,
    "test_multi_metric_search_forwards_metadata": ELSEWHERE,
    "test_search_callbacks_receive_search_instance[search0]": "An engine has a copy of the search.",
    "test_search_callbacks_receive_search_instance[search1]": "An engine has a copy of the search.",
    "test_search_callbacks_with_partial_fit_failures": "Its callback sends back, with plain "
    "pickle, an estimator whose class exists within the test only.",
}


def import_with_our_classes() -> dict[str, object]:
    sys.modules.pop(NAME, None)
    ours = {each.__name__: each for each in OURS}
    with mock.patch.multiple(sklearn.model_selection, **ours):
        return vars(importlib.import_module(NAME))


def with_lists(mark: pytest.Mark) -> pytest.Mark:
    """Give `parametrize` a list where it has a generator, which pytest warns of."""
    if mark.name != "parametrize":
        return mark
    names, values = mark.args
    return pytest.mark.parametrize(names, list(values), **mark.kwargs).mark


THEIRS = import_with_our_classes()
TESTS = {name: value for name, value in THEIRS.items() if name.startswith("test_")}
for each_test in TESTS.values():
    each_test.pytestmark = [with_lists(mark) for mark in getattr(each_test, "pytestmark", ())]
globals().update(TESTS)

# scikit-learn's tests warn at their ease, and are run so by scikit-learn.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(autouse=True)
def _our_classes_run_on_engines(
    client: ipp.Client, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    for each in OURS:
        monkeypatch.setitem(each.__init__.__kwdefaults__, "engines", client)
    if hasattr(request.node, "callspec"):  # its parameters may be searches, made at import
        for value in request.node.callspec.params.values():
            if isinstance(value, OURS):
                monkeypatch.setattr(value, "engines", client)
    reason = EXCEPTED.get(request.node.name) or EXCEPTED.get(request.node.originalname)
    if reason is not None:
        request.applymarker(pytest.mark.xfail(reason=reason, strict=True))


def test_our_classes_are_in_the_place_of_theirs() -> None:
    for each in OURS:
        assert THEIRS[each.__name__] is each
    assert len(TESTS) >= 80
    assert {name.partition("[")[0] for name in EXCEPTED} <= TESTS.keys()
