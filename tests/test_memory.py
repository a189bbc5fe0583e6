"""The probes tell private memory from shared, and ask each host once."""

from __future__ import annotations

import mmap
import os
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest

import mscourse
from mscourse import memory

MB = 1_000_000
linux_only = pytest.mark.skipif(
    sys.platform != "linux", reason="only Linux tells anonymous memory from mapped files"
)


@pytest.mark.parametrize("pid", [2**22 + 1, "x", "self", 1.5])
def test_a_process_that_does_not_exist(client, pid):
    with pytest.raises(mscourse.ParameterError, match="no process"):
        mscourse.process_memory(pid)


@linux_only
def test_own_pages_are_anonymous():
    before = mscourse.process_memory()
    # Not np.ones: the allocator may have kept so much of what earlier tests have freed.
    mine = np.frombuffer(mmap.mmap(-1, 20 * MB, flags=mmap.MAP_PRIVATE))
    mine[:] = 1
    after = mscourse.process_memory()
    assert after.anonymous_bytes - before.anonymous_bytes == pytest.approx(mine.nbytes, rel=0.1)
    assert after.file_backed_bytes - before.file_backed_bytes < MB


@linux_only
def test_pages_of_a_mapped_file_are_not(tmp_path):
    np.save(tmp_path / "x.npy", np.ones(20 * MB // 8))
    before = mscourse.process_memory()
    shared = np.load(tmp_path / "x.npy", mmap_mode="r")
    mapped = mscourse.process_memory()
    assert mapped.rss_bytes - before.rss_bytes < MB  # nothing has been read yet
    shared.sum()
    after = mscourse.process_memory()
    assert after.rss_bytes - before.rss_bytes == pytest.approx(shared.nbytes, rel=0.1)
    assert after.file_backed_bytes - before.file_backed_bytes == pytest.approx(
        shared.nbytes, rel=0.1
    )
    assert after.anonymous_bytes - before.anonymous_bytes < MB


@linux_only
def test_pages_that_two_engines_map_count_half_for_each(tmp_path, client):
    np.save(tmp_path / "x.npy", np.ones(40 * MB // 8))
    view = client[:]
    view.block = True
    view.execute("import numpy")
    before = mscourse.engines_memory(client)
    view.execute(f"x = numpy.load({str(tmp_path / 'x.npy')!r}, 'r'); x.sum()")
    try:
        after = mscourse.engines_memory(client)
    finally:
        view.execute("del x")
    for engine in client.ids:
        grown = {
            field: getattr(after[engine], field) - getattr(before[engine], field)
            for field in ("rss_bytes", "pss_bytes", "shared_bytes", "anonymous_bytes")
        }
        assert grown["rss_bytes"] > 39 * MB
        assert grown["shared_bytes"] > 39 * MB
        assert 15 * MB < grown["pss_bytes"] < 25 * MB
        assert grown["anonymous_bytes"] < 5 * MB


def test_where_the_system_does_not_tell_there_is_none_and_no_wrong_number(monkeypatch):
    monkeypatch.setattr(memory, "_from_smaps", lambda pid: None)
    record = mscourse.process_memory()
    assert record.rss_bytes > MB
    assert record.anonymous_bytes is record.file_backed_bytes is None
    assert record.shared_bytes is record.pss_bytes is None
    assert "anonymous=unknown" in repr(record)


def test_records_print_in_mb():
    record = mscourse.ProcessMemory(7, 12_345_678, 2_000_000, 10_345_678, 0, None)
    assert repr(record) == (
        "ProcessMemory(pid=7, rss=12.3 MB, anonymous=2.0 MB, file_backed=10.3 MB, "
        "shared=0.0 MB, pss=unknown)"
    )


def test_each_host_is_asked_once(client, tmp_path, monkeypatch):
    asked = []
    ask = memory.ask_engines

    def count(client, function, *args, targets=None):
        asked.append(list(targets))
        return ask(client, function, *args, targets=targets)

    monkeypatch.setattr(memory, "ask_engines", count)
    hosts = mscourse.hosts_memory(client)
    assert asked == [[0]]
    (host,) = hosts.values()
    assert host.total_bytes >= host.available_bytes > 0
    assert host.free_bytes > 0
    if sys.platform == "linux":
        total_kib = int(Path("/proc/meminfo").read_text().split()[1])
        assert host.total_bytes == total_kib * 1024
        assert host.cached_bytes > 0


def test_engines_are_measured_not_the_client(client):
    records = mscourse.engines_memory(client)
    assert list(records) == client.ids
    pids = {record.pid for record in records.values()}
    assert len(pids) == 2
    assert os.getpid() not in pids


@pytest.mark.parametrize(
    ("folder", "limit", "used", "prefix"),
    [
        (".", "memory.max", "memory.current", ""),
        ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_"),
    ],
    ids=["version 2", "version 1"],
)
def test_a_container_has_what_its_limit_leaves(tmp_path, monkeypatch, folder, limit, used, prefix):
    """The page cache counts as available, also what was read twice, such as mapped splits."""
    cache = f"{prefix}inactive_file 30000\n{prefix}active_file 70000"
    monkeypatch.setattr(memory, "_CGROUPS", tmp_path)
    files = {limit: "1000000", used: "700000", "memory.stat": f"anon 5\n{cache}\nfile 7"}
    (tmp_path / folder).mkdir(exist_ok=True)
    for name, text in files.items():
        (tmp_path / folder / name).write_text(text + "\n")
    host = memory.host_memory()
    assert (host.total_bytes, host.available_bytes, host.free_bytes) == (10**6, 400_000, 300_000)


@pytest.mark.parametrize("limit", ["max", str(2**63 - 4096), "nonsense"])
def test_a_container_without_a_limit_has_what_the_host_has(tmp_path, monkeypatch, limit):
    monkeypatch.setattr(memory, "_CGROUPS", tmp_path)
    for name, text in {
        "memory.max": limit,
        "memory.current": "5",
        "memory.stat": "inactive_file 1\nactive_file 0",
    }.items():
        (tmp_path / name).write_text(text)
    assert memory.host_memory().total_bytes == psutil.virtual_memory().total


@pytest.mark.parametrize(
    ("folder", "limit", "used", "prefix", "line"),
    [
        (".", "memory.max", "memory.current", "", "0::/{}"),
        ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_", "4:memory,cpu:/{}"),
    ],
    ids=["version 2", "version 1"],
)
def test_a_job_has_what_the_tightest_group_above_it_leaves(
    tmp_path, monkeypatch, folder, limit, used, prefix, line
):
    """As under Slurm, whose jobs have groups of their own, far below the root."""
    monkeypatch.setattr(memory, "_CGROUPS", tmp_path)
    monkeypatch.setattr(memory, "_OWN_GROUPS", tmp_path / "own")
    (tmp_path / "own").write_text("9:name=systemd:/\n" + line.format("slurm/job_1/step_0") + "\n")
    limits = {"slurm": "5000000", "slurm/job_1": "2000000", "slurm/job_1/step_0": "max"}
    for group, text in {**limits, "slurm/job_2": "1000"}.items():
        path = tmp_path / folder / group
        path.mkdir(parents=True)
        (path / limit).write_text(text)
        (path / used).write_text("600000")
        (path / "memory.stat").write_text(f"{prefix}inactive_file 50000\n{prefix}active_file 50000")
    host = memory.host_memory()
    assert (host.total_bytes, host.available_bytes) == (2_000_000, 1_500_000)
