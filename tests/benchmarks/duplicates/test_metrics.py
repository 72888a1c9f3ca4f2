"""Measures of pairs and groups, against hand-counted values and against scikit-learn."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import adjusted_rand_score, average_precision_score

from benchmarks.duplicates import metrics
from benchmarks.duplicates.scored_pairs import ScoredPairs, all_pairs, cosines, groups_of, hamming, pairs_of

TRUTH = np.array([0, 0, 0, 1, 1, 2])  # three true pairs and one
LABELS = st.lists(st.integers(0, 3), min_size=2, max_size=9)


def enumerate_pairs(groups: np.ndarray) -> set[tuple[int, int]]:
    return {
        (first, second)
        for first, second in itertools.combinations(range(len(groups)), 2)
        if groups[first] == groups[second]
    }


def relabelled(labels: list[int]) -> np.ndarray:
    return np.unique(labels, return_inverse=True)[1]


def test_pairs_by_hand() -> None:
    found = pairs_of([(1, 0, 0.9), (0, 2, 0.8), (4, 3, 0.7), (2, 3, 0.6), (5, 0, 0.5)])
    measures = metrics.count_pairs(found, TRUTH).measures()
    assert measures == {"reported": 5, "precision": 3 / 5, "recall": 3 / 4, "f1": 2 * 3 / (5 + 4)}
    precision, recall, score = metrics.precision_recall(found, TRUTH)
    np.testing.assert_allclose(precision, [1, 1, 1, 3 / 4, 3 / 5])
    np.testing.assert_allclose(recall, [1 / 4, 1 / 2, 3 / 4, 3 / 4, 3 / 4])
    assert metrics.average_precision(precision, recall) == pytest.approx(3 / 4)
    assert metrics.best_pair_threshold(found, TRUTH) == (pytest.approx(6 / 7), np.float32(0.7))
    assert score[-1] == np.float32(0.5)


def test_equal_scores_are_one_point() -> None:
    found = pairs_of([(0, 1, 0.5), (0, 3, 0.5), (0, 2, 0.1)])
    precision, recall, score = metrics.precision_recall(found, TRUTH)
    np.testing.assert_allclose(precision, [1 / 2, 2 / 3])
    np.testing.assert_allclose(recall, [1 / 4, 1 / 2])
    np.testing.assert_allclose(score, [0.5, 0.1])


def test_average_precision_is_that_of_scikit_learn() -> None:
    generator = np.random.default_rng(0)
    truth = generator.integers(0, 4, 12)
    first, second = np.triu_indices(12, k=1)
    score = generator.integers(0, 9, len(first)).astype(np.float32)
    found = ScoredPairs(first.astype(np.int32), second.astype(np.int32), score)
    precision, recall, _ = metrics.precision_recall(found, truth)
    expected = average_precision_score(truth[first] == truth[second], score)
    assert metrics.average_precision(precision, recall) == pytest.approx(expected)


@given(LABELS, st.data())
@settings(max_examples=60, deadline=None)
def test_pairs_of_groups_are_those_that_are_enumerated(labels: list[int], data: st.DataObject) -> None:
    groups = relabelled(labels)
    truth = relabelled(data.draw(st.lists(st.integers(0, 3), min_size=len(labels), max_size=len(labels))))
    reported, true = enumerate_pairs(groups), enumerate_pairs(truth)
    measures = metrics.count_group_pairs(groups, truth).measures()
    assert measures["reported"] == len(reported)
    assert measures["precision"] == (len(reported & true) / len(reported) if reported else 1.0)
    assert measures["recall"] == (len(reported & true) / len(true) if true else 1.0)
    as_pairs = pairs_of((first, second, 1.0) for first, second in reported)
    assert metrics.count_pairs(as_pairs, truth).measures() == measures


def test_intervals_resample_true_groups() -> None:
    """With one group that is missed and one that is found, recall is 0 or 1 in half of the resamples."""
    truth = np.array([0, 0, 1, 1])
    intervals = metrics.count_pairs(pairs_of([(0, 1, 1.0)]), truth).intervals()
    assert intervals["recall"] == [0.0, 1.0]
    assert intervals["precision"] == [1.0, 1.0]


def test_a_wrong_pair_counts_as_often_as_both_of_its_groups_are_drawn() -> None:
    counts = metrics.count_pairs(pairs_of([(0, 3, 1.0), (0, 1, 1.0)]), TRUTH)
    right, reported, true = counts._counts(np.array([2.0, 3.0, 0.0]))
    assert (right, reported, true) == (2, 2 + 2 * 3, 2 * 3 + 3 * 1)


def test_groups_by_hand() -> None:
    """Two of three, one of three, and a pair with a foreign image: B-cubed by image."""
    groups = np.array([0, 0, 1, 2, 2, 2])
    measures = metrics.group_measures(groups, TRUTH)
    assert measures["b_cubed_precision"] == pytest.approx((1 + 1 + 1 + 2 / 3 + 2 / 3 + 1 / 3) / 6)
    assert measures["b_cubed_recall"] == pytest.approx((2 / 3 + 2 / 3 + 1 / 3 + 1 + 1 + 1) / 6)
    assert (measures["groups"], measures["largest"]) == (3, 3)


def test_components_and_the_best_threshold() -> None:
    found = pairs_of([(0, 1, 0.9), (1, 2, 0.8), (3, 4, 0.7), (2, 3, 0.2)])
    np.testing.assert_array_equal(metrics.components(found, 6, 0.7), TRUTH)
    assert len(np.unique(metrics.components(found, 6, np.inf))) == 6
    assert metrics.best_group_threshold(found, TRUTH) == (1.0, np.float32(0.7))
    assert metrics.best_group_threshold(pairs_of([]), TRUTH) == (0.0, np.inf)


@given(LABELS, st.data())
@settings(max_examples=60, deadline=None)
def test_the_best_threshold_of_groups_is_that_of_trying_all(labels: list[int], data: st.DataObject) -> None:
    truth = relabelled(labels)
    every = list(itertools.combinations(range(len(truth)), 2))
    listed = data.draw(st.lists(st.sampled_from(every), unique=True, min_size=1))
    scores = [data.draw(st.sampled_from([-1.0, -0.5, 0.0, 0.25, 0.5, 0.75])) for _ in listed]
    found = pairs_of((first, second, score) for (first, second), score in zip(listed, scores, strict=True))
    tried = [
        adjusted_rand_score(truth, metrics.components(found, len(truth), score)) for score in set(scores)
    ]
    best = metrics.best_group_threshold(found, truth)
    assert best.value == pytest.approx(max(adjusted_rand_score(truth, np.arange(len(truth))), *tried))
    reached = adjusted_rand_score(truth, metrics.components(found, len(truth), best.threshold))
    assert reached == pytest.approx(best.value)


def test_hamming_uses_the_nearest_variant() -> None:
    bits = np.zeros((3, 2, 64), bool)
    bits[1, 0, :5] = True  # 5 from the first image; its variant 2
    bits[1, 1, :2] = True
    bits[2] = True
    found = hamming(bits)
    expected = {(0, 1): -2.0, (0, 2): -64.0, (1, 2): -59.0}
    assert dict(zip(zip(found.first, found.second, strict=True), found.score, strict=True)) == expected


def test_all_pairs_retains_the_best(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.duplicates.scored_pairs.MOST_PAIRS", 20)
    monkeypatch.setattr("benchmarks.duplicates.scored_pairs.ROWS", 3)
    features = np.random.default_rng(0).normal(size=(30, 4))
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    found = all_pairs(30, lambda rows: unit[rows] @ unit.T)
    best = found.best(20)
    every = cosines(features)
    order = np.argsort(-every.score)[:20]
    assert set(zip(best.first, best.second, strict=True)) == set(
        zip(every.first[order], every.second[order], strict=True)
    )


def test_a_level_of_equal_scores_is_not_divided() -> None:
    pairs = pairs_of([(0, 1, 3.0), (0, 2, 2.0), (0, 3, 2.0)])
    assert pairs.best(2).score.tolist() == [3.0]


def test_groups_of_found_sets() -> None:
    np.testing.assert_array_equal(groups_of(5, [[1, 3], [2, 4]]), [0, 1, 2, 1, 2])


@given(st.lists(st.lists(st.integers(0, 8), min_size=1, max_size=4), max_size=6))
@settings(max_examples=60, deadline=None)
def test_sets_that_overlap_are_one_group(found: list[list[int]]) -> None:
    joined = pairs_of((members[0], other, 1.0) for members in found for other in members[1:])
    expected = metrics.components(joined, 9, 1.0)
    assert enumerate_pairs(groups_of(9, found)) == enumerate_pairs(expected)


def test_the_order_of_overlapping_sets_does_not_matter() -> None:
    for found in itertools.permutations([[0, 1], [1, 2], [3, 4]]):
        assert enumerate_pairs(groups_of(6, found)) == {(0, 1), (0, 2), (1, 2), (3, 4)}
