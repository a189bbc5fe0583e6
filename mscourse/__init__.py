"""Model selection on many processes and machines, without copies of the data."""

from importlib.metadata import version

from mscourse.engines import engine_hosts, local_cluster, one_engine_per_host
from mscourse.errors import (
    CheckerError,
    ClusterError,
    DamagedSplitsError,
    EvaluationError,
    LabError,
    MSCourseError,
    NoEnginesError,
    ParameterError,
    SplitsError,
    SplitsNotFoundError,
)
from mscourse.memory import (
    HostMemory,
    ProcessMemory,
    engines_memory,
    hosts_memory,
    process_memory,
)
from mscourse.persist import persist_cv_splits
from mscourse.splits import Split, Splits, open_splits

__version__ = version("mscourse")
