"""Keys are for their owner only, and a cluster that others can listen in on is told of."""

from __future__ import annotations

import logging
import re
import warnings
from contextlib import contextmanager
from pathlib import Path

import ipyparallel as ipp
import psutil
import pytest

from mscourse.engines import warn_if_insecure
from mscourse.errors import InsecureClusterWarning, NoEnginesError
from mscourse.pools import pool_for


def own_address():
    """Give an address of this computer that others can reach."""
    for addresses in psutil.net_if_addrs().values():
        for each in addresses:
            if each.family.name == "AF_INET" and not each.address.startswith("127."):
                return each.address
    return pytest.skip("this computer is on no network")


@contextmanager
def client_of_controller(folder, *arguments):
    """A client of a controller without engines."""
    cluster = ipp.Cluster(
        profile_dir=str(folder),
        cluster_file="",
        controller_args=list(arguments),
        log=logging.Logger("cluster", level=logging.CRITICAL),
    )
    try:
        cluster.start_controller_sync()
        with cluster.connect_client_sync() as client:
            yield client
    finally:
        cluster.stop_cluster_sync()


def test_files_with_keys_are_for_their_owner_only(client):
    security = Path(client.cluster.profile_dir) / "security"
    files = sorted(security.glob("ipcontroller-*.json"))
    assert [path.name.split("-")[-1] for path in files] == ["client.json", "engine.json"]
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}
    assert Path(client.cluster.profile_dir).stat().st_mode & 0o777 == 0o700


@contextmanager
def no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def test_of_a_local_cluster_nothing_is_told(client):
    with no_warning():
        warn_if_insecure(client)


@pytest.mark.parametrize("listens_at", ["one address", "all addresses"])
def test_of_an_open_controller_a_search_tells_once(tmp_path, listens_at):
    address = own_address()
    ip = address if listens_at == "one address" else "0.0.0.0"
    with client_of_controller(tmp_path, f"--ip={ip}") as client:
        with (
            pytest.warns(InsecureClusterWarning) as told,
            pytest.raises(NoEnginesError),
        ):
            pool_for(client)
        assert len(told) == 1
        text = str(told[0].message)
        assert re.search(r"listens at \d+\.\d+\.\d+\.\d+:\d+, beyond this computer", text)
        assert address in text or listens_at == "all addresses"
        assert "`c.IPController.enable_curve = True`" in text
        assert "ssh tunnel" in text
        with no_warning(), pytest.raises(NoEnginesError):
            pool_for(client)


def test_of_a_controller_that_encrypts_nothing_is_told(tmp_path):
    arguments = (f"--ip={own_address()}", "--IPController.enable_curve=True")
    with client_of_controller(tmp_path, *arguments) as client, no_warning():
        warn_if_insecure(client)


def test_of_a_client_in_an_ssh_tunnel_nothing_is_told(tmp_path, monkeypatch):
    with client_of_controller(tmp_path, f"--ip={own_address()}") as client, no_warning():
        monkeypatch.setattr(client, "_ssh", True)
        warn_if_insecure(client)
