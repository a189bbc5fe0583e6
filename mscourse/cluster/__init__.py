"""Clusters of machines that one has (ssh) or rents (EC2): the command, and `connect` for Python.

The two names are imported when they are first used, since the command needs less than they do.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mscourse.cluster.connection import Cluster, connect

__all__ = ["Cluster", "connect"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.connection"), name)
