"""Split-conformal prediction by groups: coverage for new groups, refusals, p-values."""

import numpy as np
import pytest
from scipy import stats

from jaxnets.errors import DataError
from jaxnets.evaluation import conformal
from jaxnets.evaluation.predictions import Predictions

CLASSES = 3


def _predictions(generator: np.random.Generator, sizes: np.ndarray, *, groups: bool = True) -> Predictions:
    """Images of new groups; those of one group have one class and similar logits."""
    number = np.repeat(np.arange(len(sizes)), sizes)
    label = generator.integers(CLASSES, size=len(sizes))[number]
    logits = generator.normal(size=(len(sizes), CLASSES))[number] + 0.3 * generator.normal(
        size=(len(number), CLASSES)
    )
    logits[np.arange(len(number)), label] += 1.5
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return Predictions(
        index=np.arange(len(number)),
        label=label.astype(np.int32),
        probabilities=probabilities.astype(np.float32),
        files=np.array([f"{each}.png" for each in range(len(number))]),
        group=number if groups else np.full(len(number), -1),
    )


def _sizes(generator: np.random.Generator, groups: int) -> np.ndarray:
    """A few groups have most of the images."""
    return np.where(generator.random(groups) < 0.1, 60, generator.integers(1, 5, size=groups))


def _coverage(minimum: float, new: Predictions) -> float:
    """The mean over groups of the fraction of images whose set has the true class."""
    members = new.probabilities >= minimum
    covered = members[np.arange(len(new.label)), new.label]
    return float((np.bincount(new.group, weights=covered) / np.bincount(new.group)).mean())


def test_sets_cover_images_of_new_groups() -> None:
    generator = np.random.default_rng(0)
    found = []
    for _ in range(200):
        minimum = conformal.minimum_probability(_predictions(generator, _sizes(generator, 60)), 0.9)
        found.append(_coverage(minimum, _predictions(generator, _sizes(generator, 200))))
    standard_error = np.std(found) / np.sqrt(len(found))
    assert 0.9 - 2 * standard_error < np.mean(found) < 0.9 + 1 / 61 + 2 * standard_error


def test_groups_of_one_image_give_the_usual_quantile() -> None:
    """The textbook's rank is ceil((n + 1) coverage)."""
    predictions = _predictions(np.random.default_rng(1), np.ones(99, int))
    of_label = predictions.probabilities[np.arange(99), predictions.label]
    expected = np.sort(of_label)[::-1][89]  # the 90th of 99
    assert conformal.minimum_probability(predictions, 0.9) == pytest.approx(float(expected))
    without_groups = _predictions(np.random.default_rng(1), np.ones(99, int), groups=False)
    assert conformal.minimum_probability(without_groups, 0.9) == pytest.approx(float(expected))


def test_copies_of_an_image_do_not_count() -> None:
    generator = np.random.default_rng(2)
    one = _predictions(generator, np.ones(80, int))
    rows = np.repeat(np.arange(80), np.where(np.arange(80) < 5, 50, 1))
    copied = Predictions(
        **{name: getattr(one, name)[rows] for name in ("index", "label", "probabilities", "files", "group")}
    )
    assert conformal.minimum_probability(copied, 0.85) == conformal.minimum_probability(one, 0.85)


@pytest.mark.parametrize(
    ("groups", "coverage", "needed"), [(49, 0.9, 50), (50, 0.9, None), (98, 0.99, 99), (99, 0.99, None)]
)
def test_too_few_groups_raise(groups: int, coverage: float, needed: int | None) -> None:
    predictions = _predictions(np.random.default_rng(3), np.full(groups, 4))
    if needed is None:
        assert 0 < conformal.minimum_probability(predictions, coverage) < 1
        return
    with pytest.raises(
        DataError, match=f"needs {needed} groups of validation images, and there are {groups}"
    ):
        conformal.minimum_probability(predictions, coverage)


def test_a_set_has_the_most_probable_class() -> None:
    probabilities = np.array([[0.5, 0.3, 0.2], [0.9, 0.06, 0.04]])
    assert conformal.in_prediction_set(probabilities, 0.7).tolist() == [[True, False, False]] * 2
    assert conformal.in_prediction_set(probabilities, 0.25).tolist() == [
        [True, True, False],
        [True, False, False],
    ]


def test_p_values_are_uniform_for_new_groups_and_small_for_far_values() -> None:
    generator = np.random.default_rng(4)
    weights = conformal.group_weights(np.arange(99))
    found = np.concatenate(
        [
            conformal.p_values(generator.normal(size=20), generator.normal(size=99), weights)
            for _ in range(100)
        ]
    )
    assert stats.kstest(found, "uniform").statistic < 0.05
    assert (found <= 0.05).mean() < 0.065
    calibration = np.array([1.0, 2.0, 2.0, 3.0])
    weights = conformal.group_weights(np.array([0, 1, 1, 2]))
    values = conformal.p_values(np.array([0.5, 1.5, 2.0, 2.5, 9.0]), calibration, weights)
    np.testing.assert_allclose(values, [1.0, 0.75, 0.75, 0.5, 0.25])
