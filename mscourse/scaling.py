"""What more data would bring, and what it would cost: laws fitted to a learning curve.

The time of a fit grows as a power of the number of rows, ``a * n ** b``. A score approaches its
limit as an inverse power, ``limit - a * n ** -b`` (Cortes, Jackel, Solla, Vapnik & Denker, NIPS
1993). Both are fitted here with their uncertainty, since a curve of six points says less than it
seems to.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from mscourse.errors import ParameterError

Floats = NDArray[np.float64]

# The limits of the interval that is given with each prediction: 95 per cent.
_INTERVAL = (0.025, 0.975)

# Exponents of learning curves lie between these in practice; a smaller one cannot be told from a
# logarithm, and would put the limit at infinity.
_EXPONENTS = np.linspace(0.1, 2.0, 96)

# Curves drawn from the uncertainty of the points; enough for two digits of the interval.
_N_DRAWS = 500

# Limit, factor and exponent are three unknowns: fewer points leave nothing to judge the fit by.
_FEWEST_SIZES = 4


@dataclass(frozen=True)
class Prediction:
    """A value with its 95 % interval.

    Attributes
    ----------
    value, low, high : float
        The best guess, and the limits between which the truth should lie.
    """

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.4g} (95 %: {self.low:.4g} to {self.high:.4g})"


@dataclass(frozen=True)
class PowerLaw:
    """``coefficient * n ** exponent``, fitted to positive values.

    Attributes
    ----------
    coefficient : float
        The value at n = 1.
    exponent : float
        1: twice the rows take twice the time. 2: four times.
    exponent_error : float
        Standard error of the exponent.
    """

    coefficient: float
    exponent: float
    exponent_error: float
    _mean_log_n: float = field(repr=False)
    _mean_log_value: float = field(repr=False)
    _log_value_error: float = field(repr=False)
    _residual: float = field(repr=False)
    _degrees_of_freedom: int = field(repr=False)

    @classmethod
    def fit(cls, n: ArrayLike, values: ArrayLike) -> PowerLaw:
        """Fit a line to the logarithms, by least squares.

        Parameters
        ----------
        n, values : array-like, shape (n_points,)
            Positive numbers; at least three points with two different n.

        Raises
        ------
        ParameterError
            If there are too few points.
        """
        keep = np.asarray(values, dtype=float) > 0
        x = np.log(np.asarray(n, dtype=float)[keep])
        y = np.log(np.asarray(values, dtype=float)[keep])
        if len(x) < 3 or np.ptp(x) == 0:
            raise ParameterError(
                f"A power law needs at least three points of two sizes; there are {len(x)}."
            )
        line = stats.linregress(x, y)
        freedom = len(x) - 2
        residual = float(np.sqrt(np.sum((y - line.intercept - line.slope * x) ** 2) / freedom))
        return cls(
            coefficient=float(np.exp(line.intercept)),
            exponent=float(line.slope),
            exponent_error=float(line.stderr),
            _mean_log_n=float(x.mean()),
            _mean_log_value=float(y.mean()),
            _log_value_error=residual / float(np.sqrt(len(x))),
            _residual=residual,
            _degrees_of_freedom=freedom,
        )

    def predict(self, n: float) -> Prediction:
        """Predict one more value, with the interval in which it should lie."""
        distance = np.log(n) - self._mean_log_n
        log_value = self._mean_log_value + self.exponent * distance
        error = np.sqrt(
            self._residual**2 + self._log_value_error**2 + (self.exponent_error * distance) ** 2
        )
        reach = stats.t.ppf(_INTERVAL[1], self._degrees_of_freedom) * error
        return Prediction(
            float(np.exp(log_value)),
            float(np.exp(log_value - reach)),
            float(np.exp(log_value + reach)),
        )

    def __str__(self) -> str:
        return f"n ** {self.exponent:.2f} (+/-{self.exponent_error:.2f})"


@dataclass(frozen=True)
class ScoreLaw:
    """``limit - factor * n ** -exponent``, fitted to the mean scores at each size.

    Attributes
    ----------
    limit : float
        The score with any amount of data, if the law holds that far.
    factor : float
        How far below the limit the score is at n = 1.
    exponent : float
        How fast the score approaches it.
    """

    limit: float
    factor: float
    exponent: float
    # Limit, factor and exponent of other curves that fit too, shape (3, n_draws).
    _draws: Floats = field(repr=False)

    @classmethod
    def fit(cls, n: ArrayLike, scores: ArrayLike, *, random_state: int = 0) -> ScoreLaw:
        """Fit the law, and the spread of laws that the points allow.

        Parameters
        ----------
        n : array-like, shape (n_sizes,)
            Rows in the train set.
        scores : array-like, shape (n_sizes, n_splits)
            Test scores.

        Raises
        ------
        ParameterError
            If there are fewer than four sizes, or scores are missing.
        """
        n = np.asarray(n, dtype=float)
        scores = np.asarray(scores, dtype=float)
        if len(n) < _FEWEST_SIZES or np.isnan(scores).any():
            raise ParameterError(
                f"An extrapolation needs all scores of at least {_FEWEST_SIZES} sizes; "
                f"there are {len(n)} sizes, and {int(np.isnan(scores).sum())} scores are missing."
            )
        means = scores.mean(axis=1)
        errors = np.zeros(len(n))
        if scores.shape[1] > 1:
            errors = scores.std(axis=1, ddof=1) / np.sqrt(scores.shape[1])
        # Points without spread still have an error: that the law is not quite true.
        weights = 1 / np.maximum(errors, max(1e-12, 1e-3 * float(np.ptp(means)))) ** 2
        (best,) = _fit_all(n, means[np.newaxis], weights)
        misfit = means - (best[0] - best[1] * n ** -best[2])
        spread = np.maximum(errors, np.sqrt(np.sum(misfit**2) / (len(n) - 3)))
        rng = np.random.default_rng(random_state)
        others = means + spread * rng.standard_normal((_N_DRAWS, len(n)))
        limit, factor, exponent = map(float, best)
        return cls(limit, factor, exponent, _fit_all(n, others, weights).T)

    def __call__(self, n: ArrayLike) -> Floats:
        """Give the score at some sizes."""
        n = np.asarray(n, dtype=float)
        return np.asarray(self.limit - self.factor * n**-self.exponent)

    def predict(self, n: float) -> Prediction:
        """Predict the mean score at a size, with the interval in which it should lie."""
        limit, factor, exponent = self._draws
        low, high = np.quantile(limit - factor * n**-exponent, _INTERVAL)
        value = float(self(n))
        return Prediction(value, min(value, float(low)), max(value, float(high)))

    def gain(self, n_now: float, n: float) -> Prediction:
        """Predict by how much the score at ``n`` rows differs from that at ``n_now``.

        The interval is narrower than that of the score itself: the limit, which is the least
        certain, cancels.
        """
        _, factor, exponent = self._draws
        low, high = np.quantile(factor * (n_now**-exponent - n**-exponent), _INTERVAL)
        value = float(self(n) - self(n_now))
        return Prediction(value, min(value, float(low)), max(value, float(high)))

    def __str__(self) -> str:
        sign = "+" if self.factor < 0 else "-"  # a score may fall
        return f"{self.limit:.4g} {sign} {abs(self.factor):.4g} * n ** -{self.exponent:.2f}"


@dataclass(frozen=True)
class Extrapolation:
    """What more data would bring, and what it would cost.

    Attributes
    ----------
    n_train, n_train_now : int
        The rows asked about, and the most rows that were measured.
    score, fit_time_s : Prediction
        At ``n_train`` rows, with 95 % intervals.
    gain : Prediction
        What the score at ``n_train`` rows is above that at ``n_train_now``, both on the fitted law.
    score_now, fit_time_now_s : float
        The means that were measured.
    """

    n_train: int
    n_train_now: int
    score: Prediction
    gain: Prediction
    score_now: float
    fit_time_s: Prediction
    fit_time_now_s: float

    def __str__(self) -> str:
        return (
            f"With {self.n_train} rows instead of {self.n_train_now}:\n"
            f"  test score {self.score}, now {self.score_now:.4g}\n"
            f"  gain {self.gain}\n"
            f"  fit time {self.fit_time_s} s, now {self.fit_time_now_s:.4g} s\n"
            "An extrapolation: it holds as long as the curve keeps its shape."
        )

    __repr__ = __str__


def _fit_all(n: Floats, curves: Floats, weights: Floats) -> Floats:
    """Fit the law to each curve; return limit, factor and exponent, shape (n_curves, 3).

    For a given exponent the law is a straight line in ``n ** -exponent``, which has a closed
    solution. So all exponents are tried, and nothing can fail to converge.
    """
    x = n[np.newaxis, :] ** -_EXPONENTS[:, np.newaxis]  # (n_exponents, n_sizes)
    weights = weights / weights.sum()
    x_mean = x @ weights
    y_mean = curves @ weights
    x_centred = x - x_mean[:, np.newaxis]
    y_centred = curves - y_mean[:, np.newaxis]
    slope = ((y_centred * weights) @ x_centred.T) / (x_centred**2 @ weights)  # (curves, exponents)
    residual = y_centred[:, np.newaxis, :] - slope[:, :, np.newaxis] * x_centred
    best = np.argmin(residual**2 @ weights, axis=1)
    rows = np.arange(len(curves))
    limit = y_mean - slope[rows, best] * x_mean[best]
    return np.stack([limit, -slope[rows, best], _EXPONENTS[best]], axis=1)
