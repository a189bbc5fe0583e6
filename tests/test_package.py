"""The public names, what an import costs, and the command line."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module

import pytest

import mscourse
from mscourse import cli, doctor


def test_the_public_names():
    assert mscourse.__all__ == [
        "CandidateSearch",
        "CheckerError",
        "CloudError",
        "ClusterConfigError",
        "ClusterError",
        "DamagedSplitsError",
        "Evaluation",
        "EvaluationError",
        "Extrapolation",
        "HalvingSearch",
        "HostMemory",
        "InsecureClusterWarning",
        "JournalError",
        "JournalInUseError",
        "JournalMismatchError",
        "JournalReport",
        "LabError",
        "LearningCurve",
        "MSCourseError",
        "MemoryMonitor",
        "MissingPackageError",
        "NoEnginesError",
        "NodeError",
        "ParameterError",
        "ProcessMemory",
        "Rung",
        "Search",
        "Split",
        "Splits",
        "SplitsError",
        "SplitsNotFoundError",
        "ValidationCurve",
        "engine_hosts",
        "engines_memory",
        "grid_search",
        "halving_search",
        "hosts_memory",
        "learning_curve",
        "local_cluster",
        "one_engine_per_host",
        "open_splits",
        "persist_cv_splits",
        "process_memory",
        "random_search",
        "read_journal",
        "validation_curve",
    ]
    assert sorted(mscourse._MODULE_OF_NAME) == mscourse.__all__
    for name in mscourse.__all__:
        value = getattr(mscourse, name)
        assert value.__doc__
        assert value is getattr(import_module(value.__module__), name)
    assert set(mscourse.__all__) <= set(dir(mscourse))
    with pytest.raises(AttributeError, match="no attribute 'gridsearch'"):
        _ = mscourse.gridsearch


def test_every_error_is_below_the_root():
    for name in mscourse.__all__:
        if name.endswith("Error"):
            assert issubclass(getattr(mscourse, name), mscourse.MSCourseError)


@pytest.mark.parametrize(
    ("statement", "unwanted"),
    [
        ("import mscourse", ["sklearn", "pandas", "matplotlib", "ipyparallel", "boto3"]),
        ("import mscourse; mscourse.engines_memory", ["sklearn", "pandas", "matplotlib"]),
        ("import mscourse; mscourse.read_journal", ["sklearn", "pandas", "scipy.stats"]),
        ("import mscourse.cluster.commands", ["sklearn", "pandas", "ipyparallel", "boto3"]),
        ("import mscourse; mscourse.grid_search", ["matplotlib", "boto3"]),
    ],
)
def test_an_import_brings_no_more_than_is_needed(statement, unwanted):
    code = f"{statement}; import sys; print(*(m for m in {unwanted!r} if m in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_the_arrows_between_modules_point_down():
    """What knows nothing of ipyparallel or scikit-learn imports neither."""
    for module, unwanted in [
        ("layout", ["ipyparallel", "sklearn"]),
        ("arrayfile", ["ipyparallel", "sklearn"]),
        ("scheduler", ["sklearn"]),
        ("memory", ["sklearn"]),
    ]:
        code = (
            f"import mscourse.{module}, sys; print(*(m for m in {unwanted!r} if m in sys.modules))"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        )
        assert done.stdout.split() == [], module


def run(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "mscourse", *arguments], capture_output=True, text=True, check=False
    )


def test_the_command_line_says_what_there_is():
    assert run("--version").stdout.strip() == f"mscourse {mscourse.__version__}"
    help_ = run()
    assert help_.returncode == 2
    assert "doctor" in help_.stdout
    typo = run("docter")
    assert typo.returncode == 2
    assert "Did you mean doctor?" in typo.stderr
    assert "Did you mean addnode?" in run("cluster", "addnod", "room").stderr
    assert "Did you mean" not in run("xyz").stderr
    too_much = run("lab", "open", "01", "02")
    assert too_much.returncode == 2
    assert "usage: mscourse lab open" in too_much.stderr
    assert "unrecognized arguments: 02" in too_much.stderr


@pytest.mark.parametrize("arguments", [["completion", "bash"], ["doctor"]])
def test_who_has_read_enough_gets_no_traceback(arguments):
    """As with ``mscourse ... | head``."""
    command = subprocess.Popen(
        [sys.executable, "-m", "mscourse", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    command.stdout.close()
    assert command.communicate()[1] == ""
    assert command.returncode == 141


def test_the_doctor_finds_this_machine_well(capsys):
    assert cli.main(["doctor"]) == 0
    report = capsys.readouterr().out
    for subject in (
        "Python", "packages", "course", "bytecode", "cores", "memory", "disk", "ports", "cluster",
    ):  # fmt: skip
        assert subject in report
    assert "ready" in report


@pytest.mark.parametrize(
    ("is_forbidden", "advice"),
    [(True, "unset PYTHONDONTWRITEBYTECODE"), (False, "compileall -q /nowhere/site-packages")],
)
def test_the_doctor_sees_that_each_engine_compiles_again(monkeypatch, is_forbidden, advice):
    monkeypatch.setattr(doctor.psutil, "__file__", "/nowhere/site-packages/psutil/__init__.py")
    monkeypatch.setattr(doctor.sys, "dont_write_bytecode", is_forbidden)
    finding = doctor._bytecode()
    assert finding.is_good  # it is slow, and works
    assert advice in finding.says


def test_the_doctor_says_what_to_mend(monkeypatch, capsys):
    needs = ["numpy>=99", "no-such-package-here", "joblib", "other; extra == 'unrelated'"]
    needs += ["no-such-notebook; extra == 'labs'", "no-such-book; extra == 'book'"]
    needs += ["no-such-notebook; extra == 'notebook'"]
    monkeypatch.setattr(doctor.metadata, "requires", lambda _: needs)
    monkeypatch.setattr(doctor, "_NEEDED_MEMORY_BYTES", 10**18)
    monkeypatch.setattr(doctor, "_NEEDED_DISK_BYTES", 10**18)
    monkeypatch.setattr(doctor.socket.socket, "bind", _no_port, raising=False)
    monkeypatch.setattr(doctor, "_cluster", lambda: doctor.Finding("cluster", True, ""))
    assert cli.main(["doctor"]) == 1
    report = capsys.readouterr().out
    for advice in (
        "numpy is ", "not >=99", "no-such-package-here is missing; install mscourse again",
        "BAD  course    no-such-notebook is missing; in the folder of the course: make setup",
        "close other programs", "TMPDIR", "BAD  ports", "5 to mend",
    ):  # fmt: skip
        assert advice in report
    assert "joblib" not in report
    assert "no-such-book" not in report
    assert "other" not in report.replace("close other", "")


@pytest.mark.parametrize(
    ("package", "use"),
    [
        ("matplotlib", "search.plot_parameters()"),
        ("pandas", "search.to_frame()"),
    ],
)
def test_without_an_extra_it_says_what_to_install(package, use):
    """Tried without an import of anything before: what is imported does not lack."""
    program = f"""
import sys

class NotInstalled:
    def find_spec(self, name, path=None, target=None):
        if name == {package!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, NotInstalled())
from concurrent.futures import ThreadPoolExecutor
from sklearn.datasets import load_iris
from sklearn.naive_bayes import GaussianNB
import mscourse

X, y = load_iris(return_X_y=True)
with (
    ThreadPoolExecutor(1) as engines,
    mscourse.persist_cv_splits(X, y, folder=None, name="iris", cv=3) as splits,
):
    search = mscourse.grid_search(
        GaussianNB(), {{"var_smoothing": [1e-9, 1.0]}}, splits, engines=engines
    )
    search.wait(progress_bar=False)
    try:
        {use}
    except mscourse.MissingPackageError as error:
        print(error)
"""
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert f"need {package}" in ended.stdout
    assert "pip install 'mscourse[notebook]'" in ended.stdout


def _no_port(self, address):
    raise OSError("none left")
