"""Model selection on many processes and machines, without copies of the data.

A name is imported when it is first used, since scikit-learn takes seconds and 100 MB: an engine
that is only asked for its memory should not need either.
"""

from __future__ import annotations

from importlib import import_module, metadata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mscourse.asha import Rung
    from mscourse.curves import (
        LearningCurve,
        ValidationCurve,
        learning_curve,
        validation_curve,
    )
    from mscourse.engines import engine_hosts, local_cluster, one_engine_per_host
    from mscourse.errors import (
        CheckerError,
        CloudError,
        ClusterConfigError,
        ClusterError,
        DamagedSplitsError,
        EvaluationError,
        InsecureClusterWarning,
        JournalError,
        JournalInUseError,
        JournalMismatchError,
        LabError,
        MissingPackageError,
        MSCourseError,
        NodeError,
        NoEnginesError,
        ParameterError,
        SplitsError,
        SplitsNotFoundError,
    )
    from mscourse.evaluation import Evaluation
    from mscourse.halving import HalvingSearch, halving_search
    from mscourse.handle import CandidateSearch, Search
    from mscourse.journalreport import JournalReport, read_journal
    from mscourse.memory import (
        HostMemory,
        ProcessMemory,
        engines_memory,
        hosts_memory,
        process_memory,
    )
    from mscourse.monitor import MemoryMonitor
    from mscourse.persist import persist_cv_splits
    from mscourse.scaling import Extrapolation
    from mscourse.search import grid_search, random_search
    from mscourse.split import Split
    from mscourse.splits import Splits, open_splits

_NAMES_OF_MODULE = {
    "asha": ("Rung",),
    "curves": (
        "LearningCurve",
        "ValidationCurve",
        "learning_curve",
        "validation_curve",
    ),
    "engines": ("engine_hosts", "local_cluster", "one_engine_per_host"),
    "errors": (
        "CheckerError",
        "CloudError",
        "ClusterConfigError",
        "ClusterError",
        "DamagedSplitsError",
        "EvaluationError",
        "InsecureClusterWarning",
        "JournalError",
        "JournalInUseError",
        "JournalMismatchError",
        "LabError",
        "MSCourseError",
        "MissingPackageError",
        "NoEnginesError",
        "NodeError",
        "ParameterError",
        "SplitsError",
        "SplitsNotFoundError",
    ),
    "evaluation": ("Evaluation",),
    "halving": ("HalvingSearch", "halving_search"),
    "handle": ("CandidateSearch", "Search"),
    "journalreport": ("JournalReport", "read_journal"),
    "memory": ("HostMemory", "ProcessMemory", "engines_memory", "hosts_memory", "process_memory"),
    "monitor": ("MemoryMonitor",),
    "persist": ("persist_cv_splits",),
    "scaling": ("Extrapolation",),
    "search": ("grid_search", "random_search"),
    "split": ("Split",),
    "splits": ("Splits", "open_splits"),
}
_MODULE_OF_NAME = {name: module for module, names in _NAMES_OF_MODULE.items() for name in names}

__all__ = [
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

__version__ = metadata.version("mscourse")


def __getattr__(name: str) -> Any:
    if name == "cluster":  # `mscourse.cluster.connect` without another import
        return import_module(f"{__name__}.cluster")
    if name not in _MODULE_OF_NAME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_MODULE_OF_NAME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
