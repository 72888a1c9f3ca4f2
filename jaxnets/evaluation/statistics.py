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


def group_interval(correct: np.ndarray, groups: np.ndarray) -> Interval:
    """Wilson's interval of the mean of `correct` [N], 1 or 0 each, for its effective sample size N / D.

    D is the design effect (Kish 1965): the variance of the mean as groups show it, over that of independent
    examples. Near a mean of 0 or 1 few groups differ from the others, and D is estimated too low. So it is
    averaged with its largest value, that of groups which are wholly right or wholly wrong. The largest value
    counts as one group; the estimate counts as the groups with errors, or as those with correct examples if
    these are fewer. D is at least 1.

    Args:
        correct: 1 where an example is right, else 0: [N].
        groups: the group of each example: [N].

    References:
        Wilson 1927; Kish 1965, Survey Sampling; Korn and Graubard 1998, Survey Methodology 24, for intervals
        of proportions by effective sample size.
    """
    sums, sizes = _group_sums(correct, groups)
    low, high = effective_wilson(sums, sizes)
    return float(low), float(high)


def effective_wilson(sums: np.ndarray, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The intervals (low [...], high [...]) of `group_interval` from correct examples and sizes, [..., G]."""
    total, groups = sizes.sum(axis=-1), sizes.shape[-1]
    mean = sums.sum(axis=-1) / total
    largest = np.square(sizes).sum(axis=-1) / total
    spread = np.square(sums - mean[..., None] * sizes).sum(axis=-1) * groups / max(groups - 1, 1)
    independent = mean * (1 - mean) * total
    estimate = np.divide(spread, independent, out=np.ones_like(mean), where=independent > 0)
    informative = np.minimum((sums < sizes).sum(axis=-1), (sums > 0).sum(axis=-1)).clip(max=groups - 1)
    effect = np.maximum((informative * estimate + largest) / (informative + 1), 1)
    count, z = total / effect, scipy.special.ndtri((1 + CONFIDENCE) / 2)
    center = (mean + z**2 / (2 * count)) / (1 + z**2 / count)
    half = np.sqrt(mean * (1 - mean) / count + (z / (2 * count)) ** 2) * z / (1 + z**2 / count)
    return np.maximum(center - half, 0), np.minimum(center + half, 1)


def difference_interval(values: np.ndarray, groups: np.ndarray, *, resamples: int = RESAMPLES) -> Interval:
    """BCa bootstrap interval of the mean of `values` [N] (-1, 0 or 1), resampling groups (Efron 1987).

    If all values are 1 or all are -1, it ends where Wilson's interval over groups does. Returns (nan, nan)
    for a single group, and if all groups have the same mean.
    """
    if (values == -1).all():
        low, high = difference_interval(-values, groups, resamples=resamples)
        return -high, -low
    sums, sizes = _group_sums(values, groups)
    if len(sums) > 1 and (values == 1).all():
        return wilson_interval(len(sums), len(sums))
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
        interval=difference_interval(gain, groups, resamples=resamples),
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


def fit_temperature(probabilities: np.ndarray, labels: np.ndarray) -> float | None:
    """The temperature in [0.01, 100] that minimises the cross-entropy of validation examples (Guo 2017).

    None if all predictions are right: the cross-entropy then falls as the temperature approaches 0, where all
    confidences are 100 %.
    """
    if (probabilities.argmax(axis=1) == labels).all():
        return None
    logits, bounds = _logits(probabilities), (np.log(0.01), np.log(100.0))

    def loss(log_temperature: float) -> float:
        return _cross_entropy(logits, labels, np.exp(log_temperature)).mean()

    return float(np.exp(scipy.optimize.minimize_scalar(loss, bounds=bounds, method="bounded").x))


def cross_validated_temperature(
    probabilities: np.ndarray, labels: np.ndarray, groups: np.ndarray
) -> float | None:
    """The temperature of all examples if it helps on groups that it was not fitted on, else None.

    The best temperature of few groups is mostly chance. So groups are divided into ten parts, and each
    part's cross-entropy is measured with the temperature of the other parts.

    Args:
        probabilities: float[N, K].
        labels: int[N].
        groups: int[N], the independent units. Fewer than ten have a part each, fewer than two give None.
    """
    temperature = fit_temperature(probabilities, labels)
    ids, number = np.unique(groups, return_inverse=True)
    if temperature is None or len(ids) < 2:
        return None
    part = number % min(10, len(ids))
    change = 0.0
    for held_out in (part == index for index in np.unique(part)):
        fitted = fit_temperature(probabilities[~held_out], labels[~held_out])
        if fitted is None:
            return None
        there = (_logits(probabilities[held_out]), labels[held_out])
        change += (_cross_entropy(*there, fitted) - _cross_entropy(*there, 1.0)).sum()
    return temperature if change < 0 else None


def _cross_entropy(logits: np.ndarray, labels: np.ndarray, temperature: float) -> np.ndarray:
    """The cross-entropy float[N] of each example, its logits float[N, K] divided by `temperature`."""
    log_probabilities = scipy.special.log_softmax(logits / temperature, axis=1)
    return -log_probabilities[np.arange(len(labels)), labels]


def with_temperature(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Softmax of the logits divided by `temperature`."""
    return scipy.special.softmax(_logits(probabilities) / temperature, axis=1)


def _logits(probabilities: np.ndarray) -> np.ndarray:
    """Logits up to a constant; 0 is replaced by the smallest normal float32."""
    return np.log(np.maximum(probabilities.astype(float), np.finfo(np.float32).tiny))
