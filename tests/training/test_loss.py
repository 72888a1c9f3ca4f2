"""Losses compared with values computed by hand; with PyTorch in test_parity.py."""

import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.utils.class_weight import compute_class_weight

from jaxnets import config as config_lib
from jaxnets.models.base import ModelOutput
from jaxnets.training.loss import (
    SQUARED_ERRORS,
    balanced_class_weights,
    cross_entropy,
    make_loss,
    mean_squared_error,
)


@pytest.mark.usefixtures("x64")
def test_cross_entropy_by_hand() -> None:
    logits = jnp.log(jnp.array([[0.5, 0.25, 0.25], [0.1, 0.1, 0.8]]))
    targets = jnp.eye(3)[jnp.array([0, 2])]
    total, weight_sum = cross_entropy(logits, targets, jnp.ones(2))
    np.testing.assert_allclose(total, -np.log(0.5) - np.log(0.8))
    assert weight_sum == 2


@pytest.mark.usefixtures("x64")
def test_smoothing_and_class_weights_by_hand() -> None:
    logits = jnp.log(jnp.array([[0.5, 0.25, 0.25]]))
    total, weight_sum = cross_entropy(
        logits, jnp.array([[1.0, 0, 0]]), jnp.ones(1), label_smoothing=0.3, class_weights=(2.0, 1, 1)
    )
    np.testing.assert_allclose(total, -(2 * 0.8 * np.log(0.5) + 2 * 0.1 * np.log(0.25)))
    assert weight_sum == 2


def test_balanced_class_weights_are_those_of_scikit_learn() -> None:
    labels = np.array([0] * 7 + [1] * 2 + [2])
    expected = compute_class_weight("balanced", classes=np.arange(3), y=labels)
    np.testing.assert_allclose(balanced_class_weights(np.bincount(labels)), expected, rtol=1e-12)
    assert balanced_class_weights(np.array([2, 0, 2])) == (4 / 6, 0.0, 4 / 6)
    config = config_lib.default_config().train
    config.class_weights = ("balanced",)
    logits, targets = jnp.array([[0.3, -1.0, 2.0]]), jnp.eye(3)[None, 1]
    terms = make_loss(config, class_counts=np.bincount(labels))(logits, targets, jnp.ones(1))
    given = cross_entropy(logits, targets, jnp.ones(1), class_weights=tuple(expected))
    np.testing.assert_array_equal(terms, given)
    with pytest.raises(ValueError, match="need class_counts"):
        make_loss(config)


def test_mean_squared_error_by_hand() -> None:
    total, weight_sum = mean_squared_error(
        jnp.array([[1.0, 2.0], [5.0, 5.0]]), jnp.array([[0.0, 4.0], [0.0, 0.0]]), jnp.array([1.0, 0])
    )
    assert (float(total), float(weight_sum)) == (5.0, 2.0)


@pytest.mark.parametrize(("name", "expected"), [("sum_squared_error", 5), ("half_squared_error", 2.5)])
def test_sums_of_squared_errors_have_no_weight_sum(name: str, expected: float) -> None:
    outputs, targets = jnp.array([[1.0, 2.0], [5.0, 5.0]]), jnp.array([[0.0, 4.0], [0.0, 0.0]])
    terms = SQUARED_ERRORS[name](outputs, targets, jnp.array([1.0, 0]))
    assert float(terms.total) == expected
    assert terms.weight_sum is None


def test_config_lists_the_same_losses() -> None:
    assert set(config_lib.SQUARED_ERRORS) == set(SQUARED_ERRORS)


@pytest.mark.parametrize(
    ("auxiliary_weight", "expected"), [(None, 5 + 0.3 * (1 + 2)), (0.5, 5 + 0.5 * (1 + 2)), (0.0, 5)]
)
def test_auxiliary_weight_is_the_default_or_from_the_config(auxiliary_weight, expected) -> None:
    config = config_lib.default_config().train
    config.loss, config.auxiliary_weight = "mean_squared_error", auxiliary_weight
    loss = make_loss(config, auxiliary_weight=0.3)
    targets, weight = jnp.zeros((2, 2)), jnp.array([1.0, 0.0])
    main, *others = (jnp.array([row, [9.0, 9.0]]) for row in ([1.0, 2.0], [0.0, 1.0], [1.0, 1.0]))
    terms = loss(ModelOutput(main, tuple(others)), targets, weight)
    np.testing.assert_allclose(terms.total, expected, rtol=1e-6)
    assert terms.weight_sum == 2
    assert loss(main, targets, weight).total == 5
