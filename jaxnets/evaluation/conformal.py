"""Split-conformal prediction by groups: sets of classes, and p-values, with a guarantee for new groups.

Images of one group are not exchangeable with those of others, groups are. So all images of a group together
weigh as much as one new group: 1 / (G + 1) with G groups (hierarchical conformal prediction). What is said
about an image holds on average over groups that are drawn like those of calibration, and only for those.

References:
    Lee, Barber and Willett (2023), Distribution-free inference with hierarchical data, arXiv:2306.06342
    Sadinle, Lei and Wasserman (2019), Least ambiguous set-valued classifiers
"""

import math

import numpy as np

from jaxnets.errors import DataError
from jaxnets.evaluation.predictions import Predictions

MIN_GROUPS = 50
"""With fewer calibration groups the coverage varies by more than 4 points between calibration sets."""


def group_weights(groups: np.ndarray) -> np.ndarray:
    """The weights float64[N] of examples with groups int[N]; those of each group add up to 1 / (G + 1)."""
    _, number, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    return 1 / (sizes[number] * (len(sizes) + 1))


def minimum_probability(validation: Predictions, coverage: float) -> float:
    """The smallest uncalibrated probability with which a class is in the prediction set of an image.

    The set of all classes at or above it contains the true class of at least `coverage` of the images of new
    groups, on average. Without known groups each image counts as a group. Probabilities are uncalibrated
    because the temperature is fitted on the same images.

    Args:
        validation: predictions of images that the network was not trained on.
        coverage: between 0 and 1.

    Raises:
        DataError: there are fewer than 50 groups, or too few for this coverage.
    """
    groups = validation.units
    count = len(np.unique(groups))
    needed = max(MIN_GROUPS, math.ceil(coverage / (1 - coverage) - 1e-9))
    if count < needed:
        raise DataError(
            f"--coverage={coverage:g} needs {needed} groups of validation images, and there are {count}: "
            "train with a larger validation fraction, --config.data.fractions"
        )
    of_label = validation.probabilities[np.arange(len(groups)), validation.label]
    order = np.argsort(-of_label, kind="stable")
    reached = np.cumsum(group_weights(groups)[order]) >= coverage - 1e-9
    return float(of_label[order[reached.argmax()]])


def in_prediction_set(probabilities: np.ndarray, minimum: float) -> np.ndarray:
    """bool[N, K]: the classes of each set, those with at least `minimum` and the most probable one."""
    top = probabilities.argmax(axis=1)[:, None] == np.arange(probabilities.shape[1])
    return (probabilities >= minimum) | top


def p_values(values: np.ndarray, calibration: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The p-value of each of `values` [N], in the hypothesis that they are like the calibration examples.

    It is at least the probability that an example of a new group has a value as large.

    Args:
        values: the values to judge.
        calibration: float[M], the values of calibration examples.
        weights: float[M], their `group_weights`.
    """
    order = np.argsort(calibration, kind="stable")
    at_least = np.append(np.cumsum(weights[order][::-1])[::-1], 0.0)
    own = 1 - weights.sum()  # 1 / (G + 1), the weight of the new group itself
    return at_least[np.searchsorted(calibration[order], values, side="left")] + own
