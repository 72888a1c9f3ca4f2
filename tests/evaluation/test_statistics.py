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


def _coverage(runs: int, resamples: int, seed: int) -> tuple[float, float]:
    """Returns how often 95 % intervals contain the true accuracy, by groups and by images."""
    groups, size, accuracy = 60, 20, 0.9
    sums = _simulated(np.random.default_rng(seed), runs, groups, size, accuracy, correlation=0.3)
    sizes = np.full_like(sums, size)
    low, high = statistics.bootstrap_ratio(sums, sizes, resamples=resamples)
    by_groups = np.mean((low <= accuracy) & (accuracy <= high))
    pairs = [statistics.wilson_interval(int(each), groups * size) for each in sums.sum(axis=1)]
    by_images = np.mean([low <= accuracy <= high for low, high in pairs])
    return float(by_groups), float(by_images)


def test_group_intervals_cover_and_image_intervals_do_not() -> None:
    by_groups, by_images = _coverage(runs=250, resamples=400, seed=0)
    assert 0.90 <= by_groups <= 0.99
    assert by_images < 0.75


@pytest.mark.slow
def test_group_intervals_cover_95_percent() -> None:
    by_groups, by_images = _coverage(runs=3000, resamples=1999, seed=1)
    print(f"coverage of 95 % intervals: {by_groups:.3f} by groups, {by_images:.3f} by images")
    assert 0.925 <= by_groups <= 0.965
    assert by_images < 0.65


@pytest.mark.slow
@pytest.mark.parametrize(
    ("accuracy", "lowest", "highest"), [(0.92, 0.92, 0.98), (0.955, 0.92, 0.98), (0.985, 0.0, 0.91)]
)
def test_coverage_with_the_group_sizes_of_lc25000(accuracy: float, lowest: float, highest: float) -> None:
    """A test set of 105 groups, whose images are mostly correct or wrong together.

    At high accuracy only a few groups are wrong, too few to estimate the spread.
    """
    generator, runs = np.random.default_rng(2), 400
    shipped = shipped_groups("lc25000_lung")
    assert shipped is not None
    _, group_sizes = np.unique([group for _, group in shipped.members.values()], return_counts=True)
    covered = 0
    for _ in range(runs):
        sizes = generator.choice(group_sizes, size=105)
        right = _simulated(generator, 1, 105, sizes, accuracy, correlation=0.6)[0]
        correct_by_image = np.arange(sizes.max()) < right[:, None]
        exists = np.arange(sizes.max()) < sizes[:, None]
        groups = np.broadcast_to(np.arange(105)[:, None], exists.shape)
        low, high = statistics.group_interval(
            correct_by_image[exists].astype(float), groups[exists], resamples=999
        )
        covered += low <= accuracy <= high
    covered /= runs
    print(f"accuracy {accuracy}: the 95 % interval covers it {covered:.3f} of the time")
    assert lowest <= covered <= highest


def test_groups_of_one_match_the_wilson_interval() -> None:
    correct = np.arange(400) < 360
    low, high = statistics.group_interval(correct, np.arange(400))
    assert (low, high) == pytest.approx(statistics.wilson_interval(360, 400), abs=0.006)


def test_duplicates_do_not_narrow_the_interval() -> None:
    correct = np.random.default_rng(0).random(80) < 0.8
    once = statistics.group_interval(correct, np.arange(80))
    often = statistics.group_interval(np.repeat(correct, 25), np.repeat(np.arange(80), 25))
    assert often == pytest.approx(once)


@pytest.mark.parametrize("right", [True, False])
def test_all_correct_or_all_wrong_uses_wilson_over_groups(right: bool) -> None:
    correct = np.full(300, right)
    interval = statistics.group_interval(correct, np.repeat(np.arange(30), 10))
    assert interval == statistics.wilson_interval(30 * right, 30)


def test_too_few_groups_give_nan() -> None:
    assert np.isnan(statistics.group_interval(np.array([1, 0]), np.array([5, 5]))).all()
    halves = statistics.group_interval(np.array([1, 0, 1, 0]), np.array([0, 0, 7, 7]))
    assert np.isnan(halves).all()
    low, high = statistics.group_interval(np.array([1.0, 1, 0]), np.array([0, 1, 1]))
    assert 0 <= low < 2 / 3 < high <= 1


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
        np.testing.assert_allclose(statistics.with_temperature(sharp, temperature), probabilities, atol=0.05)

    def test_probabilities_of_exactly_one_are_accepted(self) -> None:
        certain = np.eye(3, dtype=np.float32)[[0, 1, 2, 0]]
        found = statistics.calibration(certain, np.array([0, 1, 2, 1]))
        assert found.error == pytest.approx(0.25)
        assert np.isfinite(statistics.fit_temperature(certain, np.array([0, 1, 2, 1])))
