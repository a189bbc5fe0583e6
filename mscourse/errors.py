"""The exceptions of the package, in one tree.

::

    MSCourseError
    ├── ParameterError (ValueError)        an argument that cannot be right; nothing was run
    ├── SplitsError                        splits on disk
    │   ├── SplitsNotFoundError (FileNotFoundError)
    │   └── DamagedSplitsError             files that differ from what was written
    ├── JournalError                       a journal that cannot be read or written
    │   ├── JournalInUseError              another search writes to it
    │   └── JournalMismatchError           it is of other data, another estimator or scoring
    ├── ClusterError                       engines and controllers
    │   ├── NoEnginesError                 there is nothing to run on
    │   ├── ClusterConfigError             a configuration of clusters that cannot be right
    │   ├── NodeError                      a machine that cannot be reached or set up
    │   └── CloudError                     machines that cannot be rented, stopped or found
    ├── MissingPackageError (ModuleNotFoundError)
    │                                      what only some need is not installed
    ├── EvaluationError                    a fit or a score raised, and the caller wants to know
    └── LabError                           labs and solutions
        └── CheckerError                   the checker itself did not run: no verdict

    UserWarning
    └── InsecureClusterWarning             others on the network could listen in

A message says what was wrong, where, what is allowed, and what to do next.
"""


class MSCourseError(Exception):
    """Whatever goes wrong in this package; catch it to catch everything."""


class ParameterError(MSCourseError, ValueError):
    """An argument cannot be right. Nothing has been run or written yet."""


class SplitsError(MSCourseError):
    """Persisted splits cannot be written or read."""


class SplitsNotFoundError(SplitsError, FileNotFoundError):
    """No persisted splits are where they were looked for."""


class DamagedSplitsError(SplitsError):
    """A file of persisted splits is not what was written."""


class JournalError(MSCourseError):
    """A journal cannot be read or written."""


class JournalInUseError(JournalError):
    """Another search writes to the journal."""


class JournalMismatchError(JournalError):
    """The journal is of other work: other data, another estimator, another scoring."""


class ClusterError(MSCourseError):
    """A cluster does not start, or does not answer."""


class NoEnginesError(ClusterError):
    """There is no engine to run on."""


class ClusterConfigError(ClusterError):
    """A configuration of clusters cannot be right: each line has a file, a line, and an error."""


class NodeError(ClusterError):
    """A machine of a cluster cannot be reached, or does not do what it is asked to."""


class CloudError(ClusterError):
    """Machines cannot be rented, stopped or found: the message has the provider's own words."""


class MissingPackageError(MSCourseError, ModuleNotFoundError):
    """A package that only some users need is not installed; the message names the extra."""


class EvaluationError(MSCourseError):
    """A fit or a score raised, and ``error_score="raise"`` was asked for."""


class LabError(MSCourseError):
    """A lab or its solution is not what the course expects."""


class CheckerError(LabError):
    """The checker did not run to its end, so there is no verdict on the lab."""


class InsecureClusterWarning(UserWarning):
    """A cluster is open to its network: what travels to and from it can be read there."""
