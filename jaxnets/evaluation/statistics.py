"""Confidence intervals, paired comparisons and calibration.

Images of one group (copies of a photograph, overlapping photographs) are not independent, so the functions
here resample, permute and count groups.
"""

import dataclasses
import warnings
from collections.abc import Callable
from typing import Literal

import numpy as np
import scipy  # submodules are imported lazily

CONFIDENCE, RESAMPLES = 0.95, 4999
_MAX_ELEMENTS = 4_000_000  # number of weights in memory at a time
Interval = tuple[float, float]


def wilson_interval(correct: int, total: int) -> Interval:
    """Wilson's score interval of a proportion (Wilson 1927); examples count as independent."""
    interval = scipy.stats.binomtest(correct, total).proportion_ci(CONFIDENCE, method="wilson")
    return float(interval.low), float(interval.high)


def group_interval(values: np.ndarray, groups: np.ndarray, *, resamples: int = RESAMPLES) -> Interval:
    """Bootstrap interval of the mean of `values` [N] (e.g. 1 where correct), resampling groups.

    Uses scipy's BCa bootstrap (Efron 1987); if all values are 0 or all are 1, Wilson's interval over groups.
    Returns (nan, nan) for a single group, and if all groups have the same mean.
    """
    if (values == -1).all():  # of a difference
        low, high = group_interval(-values, groups, resamples=resamples)
        return -high, -low
    sums, sizes = _group_sums(values, groups)
    mean = float(values.mean())
    if len(sums) > 1 and mean in (0.0, 1.0) and (values == mean).all():
        return wilson_interval(int(mean) * len(sums), len(sums))
    if len(sums) < 2 or np.ptp(sums / sizes) == 0:
        return float("nan"), float("nan")
    low, high = bootstrap_ratio(sums, sizes, resamples=resamples)
    return float(low), float(high)


def _group_sums(values: np.ndarray, groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The sum of `values` [N] and the number of examples by group: two arrays [G]."""
    _, number = np.unique(groups, return_inverse=True)
    return np.bincount(number, weights=values), np.bincount(number)


def bootstrap_ratio(
    sums: np.ndarray, sizes: np.ndarray, *, resamples: int = RESAMPLES
) -> tuple[np.ndarray, np.ndarray]:
    """Intervals (low [...], high [...]) of sum(sums) / sum(sizes), resampling groups: both are [..., G]."""

    def interval(method: Literal["BCa", "percentile"]) -> tuple[np.ndarray, np.ndarray]:
        found = scipy.stats.bootstrap(
            (sums, sizes),
            lambda sums, sizes, axis: sums.sum(axis=axis) / sizes.sum(axis=axis),
            paired=True,
            vectorized=True,
            axis=-1,
            confidence_level=CONFIDENCE,
            n_resamples=resamples,
            batch=max(1, 2_000_000 // sums.size),
            method=method,
            rng=np.random.default_rng(0),
        ).confidence_interval
        return np.asarray(found.low), np.asarray(found.high)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", scipy.stats.DegenerateDataWarning)
        low, high = interval("BCa")
    if np.isnan(low).any():  # BCa is undefined if all resamples lie on one side of the estimate
        low, high = np.where(np.isnan(low), interval("percentile"), (low, high))
    return low, high


def metric_intervals(
    metrics: Callable[[np.ndarray], np.ndarray], groups: np.ndarray, *, resamples: int
) -> tuple[np.ndarray, np.ndarray]:
    """Percentile bootstrap intervals (low [...], high [...]) of metrics, resampling groups.

    `metrics` maps weights float[R, N], how often each resample drew each example, to [R, ...]. Resamples for
    which a metric is NaN (a class without examples) are ignored; the interval is NaN if all of them are.
    """
    _, number = np.unique(groups, return_inverse=True)
    count = int(number.max()) + 1
    drawn = np.random.default_rng(0).multinomial(count, np.full(count, 1 / count), size=resamples)
    blocks = np.array_split(drawn, max(1, resamples * len(number) // _MAX_ELEMENTS))
    values = np.concatenate([metrics(block[:, number].astype(float)) for block in blocks])
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "All-NaN slice", RuntimeWarning)
        low, high = np.nanquantile(values, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2], axis=0)
    return low, high


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Accuracy of the first minus that of the second, by groups, with two-sided p-values."""

    difference: float
    interval: Interval
    permutation_p: float
    mcnemar_p: float
    groups: int


def compare_paired(
    first: np.ndarray, second: np.ndarray, groups: np.ndarray, *, resamples: int = RESAMPLES
) -> Comparison:
    """Compares where two runs are correct: bool[N] each, of the same examples, with their groups int[N].

    The interval is a group bootstrap of the difference. The permutation test swaps the runs group by group.
    McNemar's test is that for clustered pairs (Yang, Sun and Hardin 2010), the ordinary one without groups:
    the squared sum of the groups' net gains over the sum of their squares is chi-squared.
    """
    gain = first.astype(float) - second.astype(float)
    sums, _ = _group_sums(gain, groups)
    if not sums.any():
        return Comparison(0.0, (0.0, 0.0), 1.0, 1.0, len(sums))  # no difference in any group
    tested = scipy.stats.permutation_test(
        (sums, np.zeros_like(sums)),
        lambda a, b, axis: (a - b).sum(axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=resamples,
        batch=max(1, 2_000_000 // len(sums)),
        rng=np.random.default_rng(0),
    )
    return Comparison(
        difference=float(gain.mean()),
        interval=group_interval(gain, groups, resamples=resamples),
        permutation_p=float(tested.pvalue),
        mcnemar_p=float(scipy.stats.chi2.sf(sums.sum() ** 2 / (sums**2).sum(), 1)),
        groups=len(sums),
    )


@dataclasses.dataclass(frozen=True)
class Calibration:
    """A reliability curve of the predicted class, with an entry per nonempty bin, and its expected error."""

    error: float
    confidence: np.ndarray
    accuracy: np.ndarray
    count: np.ndarray


def calibration(probabilities: np.ndarray, labels: np.ndarray, bins: int = 15) -> Calibration:
    """The curve over `bins` equal bins of probabilities float[N, K] for labels int[N] (Guo et al. 2017)."""
    top = np.clip(probabilities.max(axis=1).astype(float), 0, 1)
    correct = probabilities.argmax(axis=1) == labels
    number = np.searchsorted(np.linspace(0, 1, bins + 1)[1:-1], top)  # an edge is in the bin below
    _, number, count = np.unique(number, return_inverse=True, return_counts=True)
    accuracy, confidence = (np.bincount(number, values) / count for values in (correct, top))
    error = float(np.sum(count * np.abs(accuracy - confidence)) / count.sum())
    return Calibration(error, confidence, accuracy, count)


def fit_temperature(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """The temperature in [0.01, 100] that minimises the cross-entropy of validation examples (Guo 2017)."""
    logits, rows = _logits(probabilities), np.arange(len(labels))

    def loss(log_temperature: float) -> float:
        log_probabilities = scipy.special.log_softmax(logits / np.exp(log_temperature), axis=1)
        return -log_probabilities[rows, labels].mean()

    bounds = (np.log(0.01), np.log(100.0))
    return float(np.exp(scipy.optimize.minimize_scalar(loss, bounds=bounds, method="bounded").x))


def with_temperature(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Softmax of the logits divided by `temperature`."""
    return scipy.special.softmax(_logits(probabilities) / temperature, axis=1)


def _logits(probabilities: np.ndarray) -> np.ndarray:
    """Logits up to a constant; 0 is replaced by the smallest normal float32."""
    return np.log(np.maximum(probabilities.astype(float), np.finfo(np.float32).tiny))
