"""A picture in a file, for the commands: no window opens, and what others draw is not touched."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mscourse.errors import ParameterError
from mscourse.plots.style import SIZE_IN

_DPI = 150


@contextmanager
def picture(path: str, size_in: tuple[float, float] = SIZE_IN) -> Iterator[Axes]:
    """Give axes to draw on; what is there at the end of the block is written into a file.

    Parameters
    ----------
    path : str
        Its ending says of what kind: png, svg, pdf and others of matplotlib's.
    size_in : (float, float)
        Width and height in inches.

    Yields
    ------
    matplotlib.axes.Axes

    Raises
    ------
    ParameterError
        The file cannot be written.
    """
    figure = Figure(figsize=size_in, layout="constrained")
    yield figure.subplots()
    try:
        figure.savefig(path, dpi=_DPI)
    except (OSError, ValueError) as error:
        raise ParameterError(
            f"The picture {path} cannot be written: {error}. Name a file in a folder that exists, "
            "with an ending such as .png, .svg or .pdf."
        ) from error
