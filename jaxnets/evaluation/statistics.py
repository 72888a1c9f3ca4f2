"""How sure a measured accuracy is, how two compare, and whether confidence is earned.

Images that come in groups (the copies of one photograph, photographs that overlap) are not independent:
what is resampled, permuted and counted here is groups.
"""

import dataclasses
import warnings
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import scipy  # its parts are imported when they are first used

RESAMPLES = 4999
_AT_A_TIME = 4_000_000
"""Weights in memory at a time: more examples, fewer resamples."""
Interval = tuple[float, float]


def wilson_interval(correct: int, total: int, confidence: float = 0.95) -> Interval:
    """Wilson's score interval of a share (Wilson 1927), which counts every example as independent."""
    interval = scipy.stats.binomtest(correct, total).proportion_ci(confidence, method="wilson")
    return float(interval.low), float(interval.high)


def group_sums(values: np.ndarray, groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """By group, the sum of `values` [N] and the number of its examples: two arrays [G]."""
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
    """The interval of the mean of `values` [N] (1 where right, for an accuracy) that resamples whole groups.

    scipy's bias-corrected and accelerated bootstrap (Efron 1987) of sums over sizes. Where all values are
    0 or all are 1 a bootstrap sees no spread, and Wilson's interval with a group for an example stands in.
    (nan, nan) of one group, which says nothing of others, and of groups that are all alike, where no
    resample shows a spread.
    """
    sums, sizes = group_sums(values, groups)
    if len(sums) < 2:
        return float("nan"), float("nan")
    share = float(values.mean())
    if share in (0.0, 1.0) and (values == share).all():
        return wilson_interval(int(share) * len(sums), len(sums), confidence)
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
    """Intervals of sum(sums) / sum(sizes) over resampled groups: [..., G] of each give low, high, [...]."""

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
    if np.isnan(
        low
    ).any():  # no resample below, or none above, what was measured: no bias to correct
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
    """Percentile intervals of metrics of weighted examples, over resampled groups: low and high, each [...].

    `metrics` takes weights float[R, N], how often each example was drawn, a row a resample, and gives
    [R, ...]. Resamples for which a metric is not a number (no example of a class) are left out of it; its
    interval is (nan, nan) where all are.
    """
    _, number = np.unique(groups, return_inverse=True)
    count = int(number.max()) + 1
    generator = np.random.default_rng(seed)
    drawn = generator.multinomial(count, np.full(count, 1 / count), size=resamples)
    blocks = np.array_split(drawn, max(1, resamples * len(number) // _AT_A_TIME))
    values = np.concatenate([metrics(block[:, number].astype(float)) for block in blocks])
    never = ~np.isfinite(values).any(axis=0)
    values = np.where(np.isfinite(values) | never, values, np.nan)
    values = np.where(never, 0, values)
    low, high = np.nanquantile(values, [(1 - confidence) / 2, (1 + confidence) / 2], axis=0)
    return np.where(never, np.nan, low), np.where(never, np.nan, high)


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Accuracy of the first minus that of the second on the same test examples, by groups.

    `permutation_p` and `mcnemar_p` are two-sided, of the hypothesis that the two are equally good.
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
    """Compares two runs by where each is right: bool[N] of the same examples, with their groups int[N].

    The interval is the group bootstrap's of the difference. The permutation test swaps the two runs in
    whole groups (scipy's). McNemar's test is the one for clustered pairs (Yang, Sun and Hardin 2010):
    the squared sum over groups of the net gain, over the sum of its squares, is chi-squared with one
    degree of freedom; where every group is one image it is McNemar's own.
    """
    gain = first.astype(float) - second.astype(float)
    sums, _ = group_sums(gain, groups)
    if not sums.any():
        interval = (0.0, 0.0)  # every group nets nothing, in every resample
        return Comparison(0.0, interval, 1.0, 1.0, len(sums))
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
        interval=group_interval(
            gain, groups, confidence=confidence, resamples=resamples, seed=seed
        ),
        permutation_p=float(tested.pvalue),
        mcnemar_p=float(scipy.stats.chi2.sf(sums.sum() ** 2 / (sums**2).sum(), 1)),
        groups=len(sums),
    )


def difference_interval(
    first: float, first_interval: Interval, second: float, second_interval: Interval
) -> Interval:
    """The interval of `first` minus `second`, two estimates of different examples.

    Newcombe's square-and-add method (1998, method 10), for any intervals of the same confidence (Zou and
    Donner 2008): each end lies as far from the difference as the ends of both that pull that way together.
    """
    (low1, high1), (low2, high2) = first_interval, second_interval
    difference = first - second
    below = np.hypot(first - low1, high2 - second)
    above = np.hypot(high1 - first, second - low2)
    return float(difference - below), float(difference + above)


@dataclasses.dataclass(frozen=True)
class SeedSummary:
    """How a value moves from seed to seed; `interval` is Student's, of the mean over seeds."""

    mean: float
    deviation: float
    least: float
    most: float
    interval: Interval
    count: int


def summarize_seeds(values: Sequence[float], confidence: float = 0.95) -> SeedSummary:
    """Mean, standard deviation (n - 1) and range over seeds; deviation and interval are nan for one seed."""
    given = np.asarray(values, float)
    deviation, interval = float("nan"), (float("nan"), float("nan"))
    if len(given) > 1:
        deviation = float(given.std(ddof=1))
        half = (
            scipy.stats.t.ppf((1 + confidence) / 2, len(given) - 1) * deviation / len(given) ** 0.5
        )
        interval = (float(given.mean() - half), float(given.mean() + half))
    return SeedSummary(
        float(given.mean()), deviation, float(given.min()), float(given.max()), interval, len(given)
    )


@dataclasses.dataclass(frozen=True)
class Calibration:
    """A reliability curve of the predicted class and its expected calibration error.

    `confidence`, `accuracy` and `count` are [bins] of the bins that hold an example, in rising order.
    """

    error: float
    confidence: np.ndarray
    accuracy: np.ndarray
    count: np.ndarray


def calibration(probabilities: np.ndarray, labels: np.ndarray, bins: int = 15) -> Calibration:
    """Reliability in `bins` equal parts of [0, 1], and the mean gap weighted by count (Guo et al. 2017).

    `probabilities` is [N, K], `labels` int[N].
    """
    from sklearn.calibration import calibration_curve  # a second to import

    shares = np.clip(probabilities.max(axis=1).astype(float), 0, 1)
    correct = probabilities.argmax(axis=1) == labels
    accuracy, confidence = calibration_curve(correct, shares, n_bins=bins)
    # As calibration_curve assigns them: a share on an edge belongs to the bin below it.
    number = np.searchsorted(np.linspace(0, 1, bins + 1)[1:-1], shares)
    count = np.bincount(number, minlength=bins)
    count = count[count > 0]
    error = float(np.sum(count * np.abs(accuracy - confidence)) / count.sum())
    return Calibration(error, confidence, accuracy, count)


def fit_temperature(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """The temperature that makes the labels most likely (Guo et al. 2017), within [0.01, 100].

    To be fitted on validation examples: `probabilities` [N, K], `labels` int[N].
    """
    logits = _logits(probabilities)
    rows = np.arange(len(labels))

    def loss(log_temperature: float) -> float:
        return -scipy.special.log_softmax(logits / np.exp(log_temperature), axis=1)[
            rows, labels
        ].mean()

    bounds = (np.log(0.01), np.log(100.0))
    return float(np.exp(scipy.optimize.minimize_scalar(loss, bounds=bounds, method="bounded").x))


def with_temperature(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """The shares [N, K] of logits divided by `temperature`."""
    return scipy.special.softmax(_logits(probabilities) / temperature, axis=1)


def _logits(probabilities: np.ndarray) -> np.ndarray:
    """Logits up to a constant; a share that was rounded to 0 is taken as float32's least."""
    given = np.asarray(probabilities, float)
    return np.log(np.maximum(given, np.finfo(np.float32).tiny))
