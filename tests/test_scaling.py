"""The laws fitted to learning curves, on curves whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from mscourse.errors import ParameterError
from mscourse.scaling import PowerLaw, ScoreLaw

SIZES = np.array([100, 200, 400, 800, 1600, 3200])


def test_a_power_law_is_found_exactly_where_there_is_no_noise():
    law = PowerLaw.fit(SIZES, 2e-6 * SIZES**1.7)
    assert law.coefficient == pytest.approx(2e-6)
    assert law.exponent == pytest.approx(1.7)
    assert law.exponent_error < 1e-9
    prediction = law.predict(6400)
    assert prediction.value == pytest.approx(2e-6 * 6400**1.7)
    assert prediction.low == pytest.approx(prediction.high)
    assert str(law) == "n ** 1.70 (+/-0.00)"


def test_the_error_of_the_exponent_and_the_interval_of_a_time_are_honest():
    """Nineteen of twenty intervals hold the truth, give or take what 400 tries allow."""
    n_in_error, n_in_interval = 0, 0
    n = np.repeat(SIZES, 5)
    reach = stats.t.ppf(0.975, len(n) - 2)
    for seed in range(400):
        rng = np.random.default_rng(seed)
        law = PowerLaw.fit(n, 1e-5 * n**1.3 * np.exp(0.2 * rng.standard_normal(len(n))))
        n_in_error += abs(law.exponent - 1.3) < reach * law.exponent_error
        prediction = law.predict(6400)
        n_in_interval += (
            prediction.low
            < 1e-5 * 6400**1.3 * np.exp(0.2 * rng.standard_normal())
            < prediction.high
        )
    assert 0.92 < n_in_error / 400 < 0.98
    assert 0.92 < n_in_interval / 400 < 0.98


@pytest.mark.parametrize(("n", "values"), [([1, 2], [1, 2]), ([5] * 9, range(1, 10))])
def test_a_power_law_of_too_little_is_refused(n, values):
    with pytest.raises(ParameterError, match="at least three points of two sizes"):
        PowerLaw.fit(n, values)


def test_times_of_zero_are_left_out():
    """A clock may not see a short fit, and zero has no logarithm."""
    assert PowerLaw.fit([1, *SIZES], [0.0, *SIZES]).exponent == pytest.approx(1)


def curve(exponent, noise, n_splits, seed):
    rng = np.random.default_rng(seed)
    return true_score(SIZES, exponent)[:, None] + noise * rng.standard_normal(
        (len(SIZES), n_splits)
    )


def true_score(n, exponent):
    return 0.95 - 0.5 * (np.asarray(n) / 25) ** -exponent


@pytest.mark.parametrize("exponent", [0.3, 0.5, 1.0])
def test_a_score_law_is_found_where_there_is_next_to_no_noise(exponent):
    law = ScoreLaw.fit(SIZES, curve(exponent, 1e-7, 5, 0))
    assert law.limit == pytest.approx(0.95, abs=1e-4)
    assert law.exponent == pytest.approx(exponent, abs=1e-3)
    prediction = law.predict(12800)
    assert prediction.value == pytest.approx(float(true_score(12800, exponent)), abs=1e-4)
    assert prediction.high - prediction.low < 1e-3


@pytest.mark.parametrize("exponent", [0.3, 0.5, 1.0])
@pytest.mark.parametrize("noise", [0.002, 0.01])
def test_nineteen_of_twenty_intervals_hold_the_score_at_twice_and_four_times_the_rows(
    exponent, noise
):
    held, gain_held = [], []
    now = true_score(3200, exponent)
    for seed in range(150):
        law = ScoreLaw.fit(SIZES, curve(exponent, noise, 5, seed))
        for n in (6400, 12800):
            prediction, gain = law.predict(n), law.gain(3200, n)
            held.append(prediction.low <= true_score(n, exponent) <= prediction.high)
            gain_held.append(gain.low <= true_score(n, exponent) - now <= gain.high)
            assert prediction.low <= prediction.value <= prediction.high
            assert gain.value == pytest.approx(law(n) - law(3200))
    assert 0.9 < np.mean(held) < 0.995
    assert np.mean(gain_held) > 0.9


def test_a_curve_that_has_levelled_off_promises_nothing():
    rng = np.random.default_rng(0)
    prediction = ScoreLaw.fit(SIZES, 0.8 + 0.01 * rng.standard_normal((6, 5))).predict(6400)
    assert prediction.low < 0.8 < prediction.high
    assert prediction.high - prediction.low < 0.05


def test_a_prediction_is_printed_with_its_interval():
    prediction = ScoreLaw.fit(SIZES, curve(0.5, 0.002, 5, 0)).predict(6400)
    assert str(prediction) == (
        f"{prediction.value:.4g} (95 %: {prediction.low:.4g} to {prediction.high:.4g})"
    )


def test_laws_are_shown_without_what_they_were_fitted_to():
    law = ScoreLaw.fit(SIZES, curve(0.5, 1e-7, 5, 0))
    assert str(law) == "0.95 - 2.5 * n ** -0.50"
    assert repr(law) == (
        f"ScoreLaw(limit={law.limit!r}, factor={law.factor!r}, exponent={law.exponent!r})"
    )
    assert str(ScoreLaw.fit(SIZES, 1 - curve(0.5, 1e-7, 5, 0))) == "0.05 + 2.5 * n ** -0.50"
    times = PowerLaw.fit(SIZES, 2e-6 * SIZES**1.7)
    assert repr(times) == (
        f"PowerLaw(coefficient={times.coefficient!r}, exponent={times.exponent!r}, "
        f"exponent_error={times.exponent_error!r})"
    )


def test_a_score_law_of_too_little_is_refused():
    with pytest.raises(ParameterError, match="at least 4 sizes; there are 3 sizes, and 0 scores"):
        ScoreLaw.fit(SIZES[:3], np.ones((3, 5)))
    scores = np.ones((6, 5))
    scores[2, 3] = np.nan
    with pytest.raises(ParameterError, match="6 sizes, and 1 scores are missing"):
        ScoreLaw.fit(SIZES, scores)
