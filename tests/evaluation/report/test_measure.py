"""Per-class metrics compared with scikit-learn, with weights, ties and empty classes."""

import warnings

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics
from sklearn.exceptions import UndefinedMetricWarning

from jaxnets.evaluation.report.measure import NAMES, class_metrics


def _predictions(examples: int, classes: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    label = generator.integers(0, classes, examples)
    probabilities = generator.dirichlet(np.ones(classes), examples)
    probabilities[np.arange(examples), label] += 0.3
    return (
        label,
        np.round(probabilities / probabilities.sum(1, keepdims=True), 2),
        generator.poisson(1.0, examples),
    )


def _sklearn(label: np.ndarray, probabilities: np.ndarray, weights: np.ndarray) -> dict[str, list[float]]:
    predicted, found = probabilities.argmax(1), {name: [] for name in NAMES}
    for k in range(probabilities.shape[1]):
        is_k, predicted_k = label == k, predicted == k
        shared = {"sample_weight": weights, "zero_division": np.nan}
        found["precision"].append(sklearn_metrics.precision_score(is_k, predicted_k, **shared))
        found["recall"].append(sklearn_metrics.recall_score(is_k, predicted_k, **shared))
        found["specificity"].append(sklearn_metrics.recall_score(~is_k, ~predicted_k, **shared))
        found["f1"].append(sklearn_metrics.f1_score(is_k, predicted_k, **shared))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UndefinedMetricWarning)
            area = sklearn_metrics.roc_auc_score(is_k, probabilities[:, k], sample_weight=weights)
        found["roc_auc"].append(area)
    return found


@pytest.mark.parametrize(("examples", "classes"), [(60, 2), (80, 5), (9, 7)])
def test_class_metrics_match_scikit_learn(examples: int, classes: int) -> None:
    label, probabilities, weights = _predictions(examples, classes, seed=examples)
    rows = np.stack([np.ones(examples), weights])
    found = class_metrics(label, probabilities, rows)
    for row, row_weights in enumerate(rows):
        for number, (name, expected) in enumerate(_sklearn(label, probabilities, row_weights).items()):
            np.testing.assert_allclose(found[row, number, :-1], expected, rtol=1e-12, err_msg=name)


def test_undefined_metrics_are_nan() -> None:
    label, probabilities = (np.array([0, 0, 1]), np.array([[0.6, 0.4, 0], [0.9, 0.1, 0], [0.8, 0.2, 0]]))
    (values,) = class_metrics(label, probabilities, np.ones((1, 3)))
    found = dict(zip(NAMES, values, strict=True))
    assert np.isnan(found["precision"][[1, 2]]).all()
    assert np.isnan(found["recall"][2])
    assert np.isnan(found["roc_auc"][2])
    assert found["recall"][1] == 0
    assert found["specificity"][2] == 1
    assert found["recall"][-1] == pytest.approx(0.5)


def test_weights_equal_repeated_examples() -> None:
    label, probabilities, weights = _predictions(40, 3, seed=0)
    copies = np.repeat(np.arange(40), weights)
    weighted = class_metrics(label, probabilities, weights[None].astype(float))
    ones = np.ones((1, len(copies)))
    copied = class_metrics(label[copies], probabilities[copies], ones)
    np.testing.assert_allclose(weighted, copied, rtol=1e-12)
