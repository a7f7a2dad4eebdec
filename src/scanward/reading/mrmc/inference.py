"""F, chi-squared, t and z: from an estimate and its standard error to tests and intervals."""

from __future__ import annotations

import math

from scipy import special

from scanward.errors import SettingsError
from scanward.reading.mrmc.results import Interval, Test

NAN = float("nan")


def check_level(level: float) -> None:
    """Refuse a confidence level that is not between 0 and 1.

    Raises
    ------
    SettingsError
    """
    if not 0 < level < 1:
        raise SettingsError(
            f"a confidence level of {level}", "level", "give one between 0 and 1, such as 0.95"
        )


def interval(
    of: str, estimate: float, variance: float, df: float, *, level: float, null: float | None
) -> Interval:
    """estimate +- t(1 - (1 - level)/2; df) sqrt(variance), and the two-sided test that it equals ``null``.

    Normal for infinite ``df``. NaN where the variance is negative or unknown. Without variance the interval is the
    estimate itself and there is a test only where the estimate is not ``null`` (p = 0).
    """
    se = math.sqrt(variance) if variance >= 0 else NAN
    shift = NAN if null is None else estimate - null
    if se == 0:
        value = math.copysign(math.inf, shift) if shift else NAN
        low = high = estimate
    else:
        value = shift / se
        half = se * _t_quantile(1 - (1 - level) / 2, df)
        low, high = estimate - half, estimate + half
    return Interval(
        of=of,
        estimate=float(estimate),
        se=float(se),
        df=float(df),
        low=float(low),
        high=float(high),
        level=level,
        null=NAN if null is None else null,
        statistic=float(value),
        p=_two_sided(value, df),
    )


def f_test(mean_square: float, error: float, df1: float, df2: float) -> Test:
    """F = mean square / error with (df1, df2) degrees of freedom; chi-squared / df1 for infinite ``df2``."""
    value = _over(mean_square, error)
    if math.isnan(value) or math.isnan(df2):
        p = NAN
    elif math.isinf(value):
        p = 0.0
    elif math.isinf(df2):
        p = float(special.chdtrc(df1, df1 * value))
    else:
        p = float(special.fdtrc(df1, df2, value))
    return Test(statistic="F", value=value, df1=float(df1), df2=float(df2), p=p)


def chi2_test(value_times_error: float, error: float, df: float) -> Test:
    """The chi-squared test of a quadratic form over its error variance, with ``df`` degrees of freedom."""
    value = _over(value_times_error, error)
    p = NAN if math.isnan(value) else float(special.chdtrc(df, value))
    return Test(statistic="chi2", value=value, df1=float(df), df2=None, p=p)


def satterthwaite(error: float, mean_square: float, df: float) -> float:
    """Degrees of freedom of ``error`` = mean square + constant: error^2 / (mean_square^2 / df).

    ddf_H of Hillis 2007 (doi:10.1002/sim.2532): only the mean square is taken for variable. Infinite where the mean
    square is 0, NaN where there is none.
    """
    if math.isnan(error) or math.isnan(mean_square) or df <= 0:
        return NAN
    return math.inf if mean_square <= 0 else error**2 / (mean_square**2 / df)


def _over(above: float, below: float) -> float:
    if math.isnan(above) or math.isnan(below) or below < 0 or (above == 0 and below == 0):
        return NAN
    return math.inf if below == 0 else above / below


def _t_quantile(probability: float, df: float) -> float:
    return float(special.ndtri(probability) if math.isinf(df) else special.stdtrit(df, probability))


def _two_sided(value: float, df: float) -> float:
    if math.isnan(value) or math.isnan(df):
        return NAN
    if math.isinf(value):
        return 0.0
    return 2.0 * float(special.ndtr(-abs(value)) if math.isinf(df) else special.stdtr(df, -abs(value)))
