"""What the tests share: one cluster of two engines, started when the first test asks for it."""

from __future__ import annotations

from collections.abc import Iterator

import ipyparallel as ipp
import numpy as np
import pytest
from sklearn.datasets import load_digits

import mscourse


@pytest.fixture(scope="session")
def client() -> Iterator[ipp.Client]:
    """Two engines; a test that harms them starts its own."""
    with mscourse.local_cluster(2) as client:
        yield client


@pytest.fixture(scope="session")
def digits() -> tuple[np.ndarray, np.ndarray]:
    """The first 600 digits, scaled to 0..1."""
    X, y = load_digits(return_X_y=True)
    return X[:600] / 16, y[:600]


@pytest.fixture(scope="session")
def digits_splits(
    digits: tuple[np.ndarray, np.ndarray], tmp_path_factory: pytest.TempPathFactory
) -> mscourse.Splits:
    """The digits in five stratified folds, as a ring."""
    X, y = digits
    folder = tmp_path_factory.mktemp("splits")
    return mscourse.persist_cv_splits(X, y, folder=folder, name="digits", random_state=0)
