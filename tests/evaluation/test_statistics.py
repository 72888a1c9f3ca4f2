"""Statistics compared with scikit-learn, scipy and simulations."""

import numpy as np
import pytest
from scipy import special, stats
from sklearn import metrics

from jaxnets.data.groups import shipped_groups
from jaxnets.evaluation import statistics


def _simulated(
    generator: np.random.Generator,
    runs: int,
    groups: int,
    size: int | np.ndarray,
    accuracy: float,
    correlation: float,
) -> np.ndarray:
    """Simulates the correct predictions [runs, groups] of groups with Beta-distributed accuracies.

    `size` is the number of images per group; `correlation` is that of two images of a group.
    """
    strength = 1 / correlation - 1
    probability = generator.beta(accuracy * strength, (1 - accuracy) * strength, size=(runs, groups))
    return generator.binomial(size, probability)


def _coverage(accuracy: float, sizes: np.ndarray, correlation: float, runs: int) -> tuple[float, float]:
    """How often the interval contains the true accuracy, and its mean width."""
    generator = np.random.default_rng(int(1e4 * accuracy))
    sums = _simulated(generator, runs, len(sizes), sizes, accuracy, correlation)
    low, high = statistics.effective_wilson(sums, np.broadcast_to(sizes, sums.shape))
    return float(np.mean((low <= accuracy) & (accuracy <= high))), float(np.mean(high - low))


RANGES = ((0.80, 0.90), (0.90, 0.97), (0.97, 0.995))


def _group_sizes(groups: int | None) -> np.ndarray:
    """The images of LC25000's 717 groups, or of `groups` drawn ones."""
    shipped = shipped_groups("lc25000_lung")
    assert shipped is not None
    _, sizes = np.unique([group for _, group in shipped.members.values()], return_counts=True)
    return sizes if groups is None else np.random.default_rng(3).choice(sizes, groups)


@pytest.mark.parametrize(
    ("groups", "points", "runs"), [(None, 3, 400), pytest.param(None, 11, 4000, marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("correlation", [0.1, 0.3, 0.6, 0.9])
def test_group_intervals_cover_95_percent(
    groups: int | None, points: int, runs: int, correlation: float
) -> None:
    """With the groups of a cross-validation over LC25000, near 100 % too.

    `correlation` is that of two images of a group being right.
    """
    sizes, margin = _group_sizes(groups), 3 * (0.05 * 0.95 / runs) ** 0.5
    for start, end in RANGES:
        found = [_coverage(each, sizes, correlation, runs) for each in np.linspace(start, end, points)]
        covered, widths = zip(*found, strict=True)
        print(
            f"{start:.1%} to {end:.1%}: {np.mean(covered):.3f}, least {min(covered):.3f}, {max(widths):.3f}"
        )
        assert abs(np.mean(covered) - 0.95) < 0.01 + margin / points**0.5
        assert min(covered) > 0.93 - margin


@pytest.mark.parametrize("groups", [15, 103])
def test_intervals_of_few_groups_are_rather_too_wide_than_too_narrow(groups: int) -> None:
    for start, end in RANGES:
        accuracies = np.linspace(start, end, 5)
        covered = [_coverage(each, _group_sizes(groups), 0.6, 1000)[0] for each in accuracies]
        print(f"{groups} groups, {start:.1%} to {end:.1%}: {np.mean(covered):.3f}, least {min(covered):.3f}")
        assert 0.93 < np.mean(covered) < 0.985
        assert min(covered) > 0.91


def test_intervals_over_images_are_too_narrow() -> None:
    sizes, accuracy = np.full(60, 20), 0.9
    sums = _simulated(np.random.default_rng(0), 400, 60, sizes, accuracy, correlation=0.3)
    pairs = [statistics.wilson_interval(int(each), 1200) for each in sums.sum(axis=1)]
    covered = [low <= accuracy <= high for low, high in pairs]
    assert np.mean(covered) < 0.65


def test_the_bootstrap_of_a_difference_covers_95_percent() -> None:
    generator = np.random.default_rng(4)
    first, second = (_simulated(generator, 250, 60, 20, accuracy, 0.3) for accuracy in (0.9, 0.8))
    low, high = statistics.bootstrap_ratio(first - second, np.full_like(first, 20), resamples=400)
    assert 0.90 <= np.mean((low <= 0.1) & (high >= 0.1)) <= 0.99


def test_groups_of_one_match_the_wilson_interval() -> None:
    correct = np.arange(400) < 360
    low, high = statistics.group_interval(correct, np.arange(400))
    assert (low, high) == pytest.approx(statistics.wilson_interval(360, 400), abs=2e-4)


def test_duplicates_do_not_narrow_the_interval() -> None:
    correct = np.random.default_rng(0).random(80) < 0.8
    once = statistics.group_interval(correct, np.arange(80))
    often = statistics.group_interval(np.repeat(correct, 25), np.repeat(np.arange(80), 25))
    assert often == pytest.approx(once)


@pytest.mark.parametrize("right", [True, False])
def test_all_correct_or_all_wrong_counts_groups(right: bool) -> None:
    correct = np.full(300, right)
    interval = statistics.group_interval(correct, np.repeat(np.arange(30), 10))
    assert interval == pytest.approx(statistics.wilson_interval(30 * right, 30))


def test_one_group_counts_as_one_example() -> None:
    interval = statistics.group_interval(np.array([1, 0]), np.array([5, 5]))
    assert interval == pytest.approx((0.0546, 0.9454), abs=1e-4)  # Wilson's of half an example


def test_groups_that_balance_do_not_narrow_the_interval_below_that_of_images() -> None:
    halves = statistics.group_interval(np.tile([1, 0], 200), np.repeat(np.arange(200), 2))
    assert halves == pytest.approx(statistics.wilson_interval(200, 400))


def test_too_few_groups_give_no_interval_of_a_difference() -> None:
    assert np.isnan(statistics.difference_interval(np.array([1, 0]), np.array([5, 5]))).all()
    halves = statistics.difference_interval(np.array([1, 0, 1, 0]), np.array([0, 0, 7, 7]))
    assert np.isnan(halves).all()


def test_metric_intervals_by_groups() -> None:
    generator = np.random.default_rng(1)
    groups = np.repeat(np.arange(50), 4)
    labels = np.repeat(generator.integers(0, 2, 50), 4)
    scores = labels + generator.normal(0, 1, 50).repeat(4)

    correct = scores.round() == labels

    def compute(weights: np.ndarray) -> np.ndarray:
        """Returns ROC AUC, accuracy and an undefined metric, [R, 3]."""
        areas = [metrics.roc_auc_score(labels, scores, sample_weight=row) for row in weights]
        accuracies = weights @ correct / weights.sum(axis=1)
        return np.stack([areas, accuracies, np.full(len(weights), np.nan)], axis=1)

    low, high = statistics.metric_intervals(compute, groups, resamples=400)
    assert low[0] < metrics.roc_auc_score(labels, scores) < high[0]
    plain = low[1], high[1]
    assert plain == pytest.approx(statistics.group_interval(correct, groups), abs=0.03)
    assert np.isnan([low[2], high[2]]).all()


def test_wilson_interval_matches_scipy() -> None:
    low, high = statistics.wilson_interval(2202, 2250)
    expected = stats.binomtest(2202, 2250).proportion_ci(method="wilson")
    assert (low, high) == (expected.low, expected.high)
    assert low < 2202 / 2250 < high
    assert statistics.wilson_interval(10, 10)[1] == pytest.approx(1)


class TestPairedComparison:
    def test_single_images_match_mcnemar(self) -> None:
        first = np.array([1] * 60 + [1] * 14 + [0] * 4 + [0] * 22, bool)
        second = np.array([1] * 60 + [0] * 14 + [1] * 4 + [0] * 22, bool)
        found = statistics.compare_paired(first, second, np.arange(100))
        assert found.difference == pytest.approx(0.10)
        assert found.mcnemar_p == pytest.approx(stats.chi2.sf((14 - 4) ** 2 / 18, 1))
        exact = stats.binomtest(4, 18).pvalue
        assert found.permutation_p == pytest.approx(exact, abs=0.01)
        assert found.interval[0] < 0.10 < found.interval[1]

    def test_near_duplicates_count_once(self) -> None:
        first, second = np.zeros((2, 12), bool)
        first[:9], second[9:] = True, True
        copied = np.repeat(np.arange(12), 30)
        once = statistics.compare_paired(first, second, np.arange(12))
        often = statistics.compare_paired(first.repeat(30), second.repeat(30), copied)
        assert often.mcnemar_p == pytest.approx(once.mcnemar_p)
        assert often.permutation_p == pytest.approx(once.permutation_p)
        assert often.groups == 12
        naive = statistics.compare_paired(first.repeat(30), second.repeat(30), np.arange(360))
        assert naive.mcnemar_p < 1e-6 < once.mcnemar_p

    def test_interval_is_symmetric_if_one_run_is_always_right(self) -> None:
        right, wrong, groups = np.ones(20, bool), np.zeros(20, bool), np.arange(20)
        low, high = statistics.compare_paired(right, wrong, groups).interval
        assert 0.8 < low < high == 1
        assert statistics.compare_paired(wrong, right, groups).interval == (-high, -low)

    def test_identical_predictions_have_no_difference(self) -> None:
        same = np.arange(20) < 15
        found = statistics.compare_paired(same, same, np.arange(20) // 2)
        assert (found.difference, found.permutation_p, found.mcnemar_p) == (0, 1, 1)

    def test_false_positive_rate_is_the_level(self) -> None:
        generator = np.random.default_rng(2)
        groups, p = np.repeat(np.arange(40), 10), []
        for _ in range(60):
            probability = generator.beta(2, 0.5, size=(2, 40)).repeat(10, axis=1)
            first, second = generator.random((2, 400)) < probability
            found = statistics.compare_paired(first, second, groups, resamples=99)
            p.append((found.permutation_p, found.mcnemar_p))
        assert (np.mean(np.array(p) < 0.05, axis=0) <= 0.15).all()


class TestCalibration:
    def test_calibration_error_is_the_sum_over_bins(self) -> None:
        generator = np.random.default_rng(3)
        probabilities = generator.dirichlet((1, 1, 1), 500).astype(np.float32)
        labels = generator.integers(0, 3, 500)
        found = statistics.calibration(probabilities, labels, bins=10)
        top, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
        gaps = [
            abs(right[inside].mean() - top[inside].mean()) * inside.mean()
            for low in np.arange(10) / 10
            if (inside := (top > low) & (top <= low + 0.1)).any()
        ]
        assert found.error == pytest.approx(sum(gaps))
        assert found.count.sum() == 500
        assert len(found.count) == len(found.accuracy) == len(found.confidence) <= 10

    def test_labels_drawn_from_the_probabilities_are_calibrated(self) -> None:
        generator = np.random.default_rng(4)
        probabilities = generator.dirichlet((0.5, 0.5, 0.5), 20_000)
        labels = (generator.random(20_000)[:, None] > probabilities.cumsum(axis=1)).sum(axis=1)
        assert statistics.calibration(probabilities, labels).error < 0.02
        assert statistics.fit_temperature(probabilities, labels) == pytest.approx(1, abs=0.05)
        sharp = special.softmax(3 * np.log(probabilities), axis=1)
        assert statistics.calibration(sharp, labels).error > 0.05
        temperature = statistics.fit_temperature(sharp, labels)
        assert temperature == pytest.approx(3, rel=0.05)
        assert temperature is not None
        np.testing.assert_allclose(statistics.with_temperature(sharp, temperature), probabilities, atol=0.05)

    def test_probabilities_of_exactly_one_are_accepted(self) -> None:
        certain = np.eye(3, dtype=np.float32)[[0, 1, 2, 0]]
        found = statistics.calibration(certain, np.array([0, 1, 2, 1]))
        assert found.error == pytest.approx(0.25)
        temperature = statistics.fit_temperature(certain, np.array([0, 1, 2, 1]))
        assert temperature is not None
        assert np.isfinite(temperature)

    def test_a_temperature_must_help_groups_that_it_was_not_fitted_on(self) -> None:
        generator = np.random.default_rng(5)
        probabilities = generator.dirichlet((0.5, 0.5, 0.5), 2000)
        labels = (generator.random(2000)[:, None] > probabilities.cumsum(axis=1)).sum(axis=1)
        sharp = special.softmax(3 * np.log(probabilities), axis=1)
        by_image = statistics.cross_validated_temperature(sharp, labels, np.arange(2000))
        assert by_image == statistics.fit_temperature(sharp, labels)
        assert statistics.cross_validated_temperature(sharp, labels, np.zeros(2000, int)) is None
        # The errors of one group would lower the confidence in all others, which are right.
        sure = np.tile([0.9, 0.1], (100, 1))
        groups = np.repeat(np.arange(10), 10)
        one_is_wrong = (groups == 0).astype(int)
        assert statistics.cross_validated_temperature(sure, one_is_wrong, groups) is None
        one_in_ten_is_wrong = (np.arange(100) % 10 == 0).astype(int)
        over = np.tile([0.999, 0.001], (100, 1))
        assert statistics.cross_validated_temperature(over, one_in_ten_is_wrong, groups) == pytest.approx(
            np.log(999) / np.log(9), rel=0.01
        )

    def test_right_predictions_have_no_temperature(self) -> None:
        probabilities = np.array([[0.6, 0.4], [0.3, 0.7], [0.9, 0.1]])
        assert statistics.fit_temperature(probabilities, np.array([0, 1, 0])) is None
        assert statistics.fit_temperature(probabilities, np.array([0, 1, 1])) is not None
