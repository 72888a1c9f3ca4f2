"""Ablations of LeNet-5 and of optimizers: python scripts/reproduce.py lenet_questions.

docs/lenet_and_alexnet.md is generated from these results. The rows of AlexNet, an epoch each, come last.
"""

from collections.abc import Mapping, Sequence
from typing import Any

CONFIG = "configs/lenet_questions.py"
CHANGES = (
    {},
    {"model.activation": "sigmoid"},
    {"model.activation": "tanh"},
    {"model.pooling": "average"},
    {"model.kernel_size": 3},
    {"model.kernel_size": 7},
    {"model.dropout": 0.5},
)
ALEXNET_CHANGES = (
    {},
    {"model.activation": "sigmoid"},
    {"model.activation": "tanh"},
    {"model.pooling": "average"},
    {"model.dropout": 0.0},
)
RATES = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1)


def get_rows() -> list[dict[str, Any]]:
    """Returns rows with one change each, and of optimizers, learning rates and exchanged data sets."""
    rows = _changed("mnist", CHANGES)
    rows += [
        {"config": f"{CONFIG}:{variant}", "overrides": {"optimizer.learning_rate": rate}}
        for variant in ("mnist", "mnist_sgd")
        for rate in RATES
        if (variant, rate) != ("mnist", 1e-3)  # the first row
    ]
    rows += [{"config": f"{CONFIG}:cifar10"}, {"config": f"{CONFIG}:alexnet_mnist"}]
    return [*rows, *_changed("alexnet_cifar10", ALEXNET_CHANGES)]


def _changed(variant: str, changes: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [{"config": f"{CONFIG}:{variant}", "overrides": change} for change in changes]
