"""A client learns of engines that came or went while it was told nothing."""

from __future__ import annotations

import os
import threading
import time

import psutil
import pytest
from helpers import wait_until
from ipyparallel.error import RemoteError

import mscourse
from mscourse.cluster import rollcall
from mscourse.cluster.rollcall import RollCall
from mscourse.engines import ask_engines


@pytest.fixture
def deaf(monkeypatch):
    """A client of two engines that hears nothing of what its controller tells."""
    monkeypatch.setattr(rollcall, "_PERIOD_S", 0.2)
    with mscourse.local_cluster(2) as client:
        for notice in client._notification_handlers:
            client._notification_handlers[notice] = lambda message: None
        yield client


def test_engines_that_came_unheard_are_found(deaf):
    engines = deaf.ids
    deaf.cluster.start_engines_sync(n=1)
    assert not wait_until(lambda: len(deaf) > 2, 3)
    roll_call = RollCall(deaf)
    deaf.wait_for_engines(3, timeout=30, interactive=False)
    [new] = set(deaf.ids) - set(engines)
    assert deaf[new].apply_sync(pow, 2, 5) == 32
    roll_call.close()


def test_engines_that_died_unheard_are_given_up(deaf):
    victim, other = deaf.ids
    pids = ask_engines(deaf, os.getpid)
    waiting = deaf[victim].apply_async(time.sleep, 60)
    psutil.Process(pids[victim]).kill()
    assert not wait_until(lambda: victim not in deaf.ids, 3)
    roll_call = RollCall(deaf)
    with pytest.raises(RemoteError, match="EngineError"):
        waiting.get(30)
    assert deaf.ids == [other]
    assert deaf[other].apply_sync(pow, 2, 5) == 32
    roll_call.close()


def test_it_ends_when_it_is_closed(client):
    before = set(client.ids)
    roll_call = RollCall(client)
    roll_call.look()
    roll_call.look()
    assert set(client.ids) == before
    roll_call.close()
    assert wait_until(lambda: "mscourse-rollcall" not in thread_names(), 10)


def thread_names():
    return {each.name for each in threading.enumerate()}
