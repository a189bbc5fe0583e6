"""What evaluations print costs neither the client nor the controller anything."""

from __future__ import annotations

import logging
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from helpers import wait_until

import mscourse
from mscourse.engines import ask_engines
from mscourse.pools import pool_for
from mscourse.scheduler import Scheduler
from mscourse.source import Queue

MB = 2**20
MUCH_MB = 100


@pytest.fixture(scope="module")
def cluster():
    """Engines as users have them: under pytest, ipykernel leaves file descriptors alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("PYTEST_CURRENT_TEST")
        with mscourse.local_cluster(2) as client:
            yield client


def print_much(how, n_mb):
    line = "x" * 99 + "\n"
    if how in ("stdout", "stderr"):
        for _ in range(n_mb * MB // 10_000):
            print(line * 100, end="", file=getattr(sys, how))
    else:
        for _ in range(n_mb * MB // 10_000):
            os.write(int(how), line.encode() * 100)
    return how


def log_through_a_handler_of_the_first_call():
    logger = logging.getLogger("test_engine_output")
    if not logger.handlers:
        logger.addHandler(logging.StreamHandler())
    logger.error("logged")
    return len(logger.handlers)


def run(client, function, items):
    values = []
    scheduler = Scheduler(
        function,
        Queue(items),
        pool_for(client),
        lambda ended: values.extend(each.value for each in ended),
    )
    scheduler.start()
    try:
        assert scheduler.wait(60)
    finally:
        scheduler.abort()
    return values


def rss_bytes(client):
    """What this process, the controller and its parts hold."""
    controller = psutil.Process(client.cluster.controller.pid)
    processes = [psutil.Process(), controller, *controller.children(recursive=True)]
    return sum(process.memory_info().rss for process in processes)


@pytest.mark.parametrize("how", ["stdout", "stderr", "1", "2"])
def test_an_evaluation_that_prints_100_mb_costs_nothing(cluster, how):
    ask_engines(cluster, os.getpid)
    before = rss_bytes(cluster)
    assert run(cluster, print_much, [(how, MUCH_MB), (how, 0), (how, 0)]) == [how] * 3
    ask_engines(cluster, os.getpid)  # comes after all that was sent before
    assert rss_bytes(cluster) - before < 10 * MB
    assert wait_until(lambda: set(cluster.metadata) <= {"submitted"})  # no text is kept
    logs = Path(cluster.cluster.profile_dir, "log").iterdir()
    assert sum(path.stat().st_size for path in logs) < MB


def test_what_others_print_on_the_engines_is_shown_as_ever(cluster):
    run(cluster, print_much, [("stdout", 1)])
    answer = cluster[0].apply_async(print, "shown")
    answer.wait(20)
    answer.wait_for_output(20)
    assert answer.stdout == "shown\n"


def test_a_log_handler_of_one_evaluation_serves_the_next(cluster):
    assert run(cluster[0], log_through_a_handler_of_the_first_call, [(), ()]) == [1, 1]


def test_what_is_printed_in_threads_of_this_process_is_shown(capfd):
    with ThreadPoolExecutor(1) as executor:
        run(executor, print, [("in a thread",)])
    assert capfd.readouterr().out == "in a thread\n"
