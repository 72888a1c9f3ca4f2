"""Confidence intervals, paired comparisons and calibration.

Images of one group (copies of a photograph, overlapping photographs) are not independent, so the functions
here resample, permute and count groups.
"""

import dataclasses
import warnings
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import scipy  # submodules are imported lazily

RESAMPLES = 4999
_MAX_ELEMENTS = 4_000_000
"""Number of weights in memory at a time."""
Interval = tuple[float, float]


def wilson_interval(correct: int, total: int, confidence: float = 0.95) -> Interval:
    """Wilson's score interval of a proportion (Wilson 1927); examples count as independent."""
    interval = scipy.stats.binomtest(correct, total).proportion_ci(confidence, method="wilson")
    return float(interval.low), float(interval.high)


def group_sums(values: np.ndarray, groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The sum of `values` [N] and the number of examples by group: two arrays [G]."""
    _, number = np.unique(groups, return_inverse=True)
    return np.bincount(number, weights=values), np.bincount(number)


def group_interval(
    values: np.ndarray,
    groups: np.ndarray,
    *,
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Bootstrap interval of the mean of `values` [N] (e.g. 1 where correct), resampling groups.

    Uses scipy's BCa bootstrap (Efron 1987). If all values are 0 or all are 1 the bootstrap is degenerate, and
    Wilson's interval over groups is returned. Returns (nan, nan) for a single group, and if all groups have
    the same mean.
    """
    sums, sizes = group_sums(values, groups)
    if len(sums) < 2:
        return float("nan"), float("nan")
    mean = float(values.mean())
    if mean in (0.0, 1.0) and (values == mean).all():
        return wilson_interval(int(mean) * len(sums), len(sums), confidence)
    if np.ptp(sums / sizes) == 0:
        return float("nan"), float("nan")
    low, high = bootstrap_ratio(sums, sizes, confidence=confidence, resamples=resamples, seed=seed)
    return float(low), float(high)


def bootstrap_ratio(
    sums: np.ndarray,
    sizes: np.ndarray,
    *,
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """Intervals (low [...], high [...]) of sum(sums) / sum(sizes), resampling groups: both are [..., G]."""

    def interval(method: Literal["BCa", "percentile"]) -> tuple[np.ndarray, np.ndarray]:
        found = scipy.stats.bootstrap(
            (sums, sizes),
            _ratio,
            paired=True,
            vectorized=True,
            axis=-1,
            confidence_level=confidence,
            n_resamples=resamples,
            batch=max(1, 2_000_000 // sums.size),
            method=method,
            rng=np.random.default_rng(seed),
        ).confidence_interval
        return np.asarray(found.low), np.asarray(found.high)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", scipy.stats.DegenerateDataWarning)
        low, high = interval("BCa")
    if np.isnan(low).any():  # BCa is undefined if all resamples lie on one side of the estimate
        plain = interval("percentile")
        low, high = np.where(np.isnan(low), plain, (low, high))
    return low, high


def _ratio(sums: np.ndarray, sizes: np.ndarray, axis: int = -1) -> np.ndarray:
    return sums.sum(axis=axis) / sizes.sum(axis=axis)


def metric_intervals(
    metrics: Callable[[np.ndarray], np.ndarray],
    groups: np.ndarray,
    *,
    confidence: float = 0.95,
    resamples: int = 999,
    seed: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """Percentile bootstrap intervals (low [...], high [...]) of metrics, resampling groups.

    `metrics` maps weights float[R, N], how often each resample drew each example, to [R, ...]. Resamples for
    which a metric is NaN (a class without examples) are ignored; the interval is NaN if all of them are.
    """
    _, number = np.unique(groups, return_inverse=True)
    count = int(number.max()) + 1
    generator = np.random.default_rng(seed)
    drawn = generator.multinomial(count, np.full(count, 1 / count), size=resamples)
    blocks = np.array_split(drawn, max(1, resamples * len(number) // _MAX_ELEMENTS))
    values = np.concatenate([metrics(block[:, number].astype(float)) for block in blocks])
    never = ~np.isfinite(values).any(axis=0)
    values = np.where(np.isfinite(values) | never, values, np.nan)
    values = np.where(never, 0, values)
    low, high = np.nanquantile(values, [(1 - confidence) / 2, (1 + confidence) / 2], axis=0)
    return np.where(never, np.nan, low), np.where(never, np.nan, high)


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Accuracy of the first minus that of the second on the same test examples, by groups.

    The p-values are two-sided; the null hypothesis is that both are equally accurate.
    """

    difference: float
    interval: Interval
    permutation_p: float
    mcnemar_p: float
    groups: int


def compare_paired(
    first: np.ndarray,
    second: np.ndarray,
    groups: np.ndarray,
    *,
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Comparison:
    """Compares where two runs are correct: bool[N] each, of the same examples, with their groups int[N].

    The interval is a group bootstrap of the difference. The permutation test (scipy's) swaps the runs group
    by group. McNemar's test is the variant for clustered pairs (Yang, Sun and Hardin 2010): the squared sum
    of the groups' net gains over the sum of their squares is chi-squared with one degree of freedom. With one
    image per group it is the ordinary test.
    """
    gain = first.astype(float) - second.astype(float)
    sums, _ = group_sums(gain, groups)
    if not sums.any():
        return Comparison(0.0, (0.0, 0.0), 1.0, 1.0, len(sums))  # no difference in any group
    tested = scipy.stats.permutation_test(
        (sums, np.zeros_like(sums)),
        lambda a, b, axis: (a - b).sum(axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=resamples,
        batch=max(1, 2_000_000 // len(sums)),
        rng=np.random.default_rng(seed),
    )
    return Comparison(
        difference=float(gain.mean()),
        interval=group_interval(gain, groups, confidence=confidence, resamples=resamples, seed=seed),
        permutation_p=float(tested.pvalue),
        mcnemar_p=float(scipy.stats.chi2.sf(sums.sum() ** 2 / (sums**2).sum(), 1)),
        groups=len(sums),
    )


def difference_interval(
    first: float, first_interval: Interval, second: float, second_interval: Interval
) -> Interval:
    """The interval of `first` minus `second`, two estimates from different examples.

    Newcombe's square-and-add method (1998, method 10), for any two intervals of the same confidence (Zou and
    Donner 2008).
    """
    (low1, high1), (low2, high2) = first_interval, second_interval
    difference = first - second
    below = np.hypot(first - low1, high2 - second)
    above = np.hypot(high1 - first, second - low2)
    return float(difference - below), float(difference + above)


@dataclasses.dataclass(frozen=True)
class SeedSummary:
    """Statistics over seeds; `interval` is Student's t interval of the mean."""

    mean: float
    std: float
    min: float
    max: float
    interval: Interval
    count: int


def summarize_seeds(values: Sequence[float], confidence: float = 0.95) -> SeedSummary:
    """Mean, sample standard deviation and range over seeds; `std` and `interval` are NaN for one seed."""
    given = np.asarray(values, float)
    mean, count = float(given.mean()), len(given)
    std = half = float("nan")
    if count > 1:
        std = float(given.std(ddof=1))
        half = float(scipy.stats.t.ppf((1 + confidence) / 2, count - 1) * std / count**0.5)
    interval = (mean - half, mean + half)
    return SeedSummary(mean, std, float(given.min()), float(given.max()), interval, count)


@dataclasses.dataclass(frozen=True)
class Calibration:
    """A reliability curve of the predicted class and its expected calibration error.

    `confidence`, `accuracy` and `count` have one entry per nonempty bin, in increasing order.
    """

    error: float
    confidence: np.ndarray
    accuracy: np.ndarray
    count: np.ndarray


def calibration(probabilities: np.ndarray, labels: np.ndarray, bins: int = 15) -> Calibration:
    """The reliability curve over `bins` equal bins and its expected error (Guo et al. 2017).

    `probabilities` is float[N, K] and `labels` int[N].
    """
    from sklearn.calibration import calibration_curve  # slow to import

    top = np.clip(probabilities.max(axis=1).astype(float), 0, 1)
    correct = probabilities.argmax(axis=1) == labels
    accuracy, confidence = calibration_curve(correct, top, n_bins=bins)
    # Like calibration_curve, which puts a value on an edge into the bin below.
    number = np.searchsorted(np.linspace(0, 1, bins + 1)[1:-1], top)
    count = np.bincount(number, minlength=bins)
    count = count[count > 0]
    error = float(np.sum(count * np.abs(accuracy - confidence)) / count.sum())
    return Calibration(error, confidence, accuracy, count)


def fit_temperature(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """The temperature in [0.01, 100] that minimises the cross-entropy (Guo et al. 2017).

    To be fitted on validation examples: `probabilities` is float[N, K] and `labels` int[N].
    """
    logits = _logits(probabilities)
    rows = np.arange(len(labels))

    def loss(log_temperature: float) -> float:
        log_probabilities = scipy.special.log_softmax(logits / np.exp(log_temperature), axis=1)
        return -log_probabilities[rows, labels].mean()

    bounds = (np.log(0.01), np.log(100.0))
    return float(np.exp(scipy.optimize.minimize_scalar(loss, bounds=bounds, method="bounded").x))


def with_temperature(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Softmax of the logits divided by `temperature`, float[N, K]."""
    return scipy.special.softmax(_logits(probabilities) / temperature, axis=1)


def _logits(probabilities: np.ndarray) -> np.ndarray:
    """Logits up to a constant; 0 is replaced by the smallest normal float32."""
    given = np.asarray(probabilities, float)
    return np.log(np.maximum(given, np.finfo(np.float32).tiny))
