"""What the tests share: one cluster of two engines, started when the first test asks for it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import ipyparallel as ipp
import numpy as np
import psutil
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


def cluster_processes() -> set[int]:
    """Controllers and engines that this process has started."""
    return {
        process.pid
        for process in psutil.Process(os.getpid()).children(recursive=True)
        if process.is_running() and "ipyparallel" in " ".join(process.cmdline())
    }


def files_below(folder: Path) -> set[str]:
    """Names of all files in a folder, relative to it."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
