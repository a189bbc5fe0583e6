"""The flights: what is in the matrix is what the tables of the package say."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError

import numpy as np
import pandas as pd
import pytest

from mscourse import datasets
from mscourse.datasets import Flights, flights_folder, load_flights


@pytest.fixture(scope="module")
def flights() -> Flights:
    return load_flights()


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return pd.read_csv(flights_folder() / "flights.csv.zip")


def column(flights: Flights, name: str) -> np.ndarray:
    return flights.X[:, flights.feature_names.index(name)]


def test_each_flight_that_arrived_is_there_once(flights: Flights, table: pd.DataFrame) -> None:
    arrived = table.dropna(subset="arr_delay")
    assert flights.X.shape == (len(arrived), len(flights.feature_names))
    assert flights.X.dtype == np.float32
    assert flights.X.flags.c_contiguous
    assert flights.y.sum() == (arrived["arr_delay"] >= 15).sum()
    for carrier, n_flights in arrived["carrier"].value_counts().items():
        assert column(flights, f"carrier_{carrier}").sum() == n_flights
    late_of_united = flights.y[column(flights, "carrier_UA") == 1].sum()
    assert late_of_united == (arrived[arrived["carrier"] == "UA"]["arr_delay"] >= 15).sum()


def test_they_are_in_the_order_of_departure(flights: Flights, table: pd.DataFrame) -> None:
    assert (np.diff(flights.day) >= 0).all()
    assert (flights.day[0], flights.day[-1]) == (1, 365)
    new_year = table[(table["month"] == 1) & (table["day"] == 1)]
    assert (flights.day == 1).sum() == new_year["arr_delay"].notna().sum()


def test_the_numbers_are_scaled_and_none_is_missing(flights: Flights) -> None:
    assert np.isfinite(flights.X).all()
    numbers = flights.X[:, : flights.feature_names.index("month_1")].astype(np.float64)
    assert numbers.mean(axis=0) == pytest.approx(0, abs=1e-3)
    assert numbers.std(axis=0) == pytest.approx(1, abs=1e-3)


def test_a_flight_has_the_weather_of_its_hour(flights: Flights) -> None:
    weather = pd.read_csv(flights_folder() / "weather.csv")
    coldest = weather.loc[weather["temp"].idxmin()]
    at_that_time = flights.X[column(flights, "temp") == column(flights, "temp").min()]
    months = [i for i, name in enumerate(flights.feature_names) if name == f"month_{coldest.month}"]
    assert len(at_that_time)
    assert (at_that_time[:, months] == 1).all()


def test_it_says_how_to_get_them(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(datasets, "distribution", missing)
    with pytest.raises(ModuleNotFoundError, match="pip install 'mscourse\\[data\\]'"):
        load_flights()
