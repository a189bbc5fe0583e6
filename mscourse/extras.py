"""Packages that not everybody needs: what to install when one is missing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from mscourse.errors import MissingPackageError


@contextmanager
def comes_with(extra: str, what: str) -> Iterator[None]:
    """Tell whoever lacks the package that a block imports which extra brings it.

    Parameters
    ----------
    extra : str
        An extra of mscourse, such as ``"notebook"``.
    what : str
        What needs the package, to begin a sentence with: ``"Pictures"``.

    Raises
    ------
    MissingPackageError
        The block has raised a ModuleNotFoundError.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0] or "a package"
        raise MissingPackageError(
            f"{what} need {package}, which is not installed: pip install 'mscourse[{extra}]'"
        ) from error
