"""What the tests share: one cluster of two engines, started when the first test asks for it.

After each test, whatever it has started must be gone.
"""

from __future__ import annotations

import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import ipyparallel as ipp
import numpy as np
import pytest
from helpers import require_system
from leftovers import Watch
from rig.network import Network, why_not
from rig.sshd import ssh_key, why_no_ssh
from sklearn.datasets import load_digits

import mscourse


@pytest.fixture(scope="session", autouse=True)
def _watch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watch]:
    """Let all processes of this run use a temporary folder of its own, and watch that."""
    # As short as it can be: sockets lie in it, and their paths are limited to about 100 characters.
    folder = tmp_path_factory.mktemp("t")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(folder))
        patch.setattr(tempfile, "tempdir", str(folder))
        yield Watch(folder)


@pytest.fixture(scope="session", autouse=True)
def _interruptible() -> Iterator[None]:
    """Let Ctrl-C interrupt here, and in what is started here, also where tests run with nohup."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(autouse=True)
def _nothing_is_left_behind(_watch: Watch) -> Iterator[None]:
    """Fail a test that leaves a process, a temporary file, shared memory or a thread behind.

    What a fixture of several tests has started is there before: such fixtures come first.
    """
    before = _watch.look()
    yield
    left = _watch.left_since(before)
    assert not left, "The test has left behind:\n" + "\n".join(left)


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


@pytest.fixture
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    """A pretend network of machines. Its servers do not see the temporary files of the tests."""
    require_system(why_not())
    with Network(hidden=[tmp_path_factory.getbasetemp()]) as network:
        yield network


@pytest.fixture(scope="session")
def login_key(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A key to log in to servers with: the file of its private part, and its public part."""
    require_system(why_no_ssh())
    return ssh_key(tmp_path_factory.mktemp("key"))
