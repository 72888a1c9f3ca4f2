"""The search for `lenet_mnist:best`, by validation accuracy on a twelfth of the training set.

python scripts/reproduce.py lenet_search

The first row is the baseline; each other row changes one setting. The learning rate 0.004 was selected.
"""

from typing import Any

CHANGES = (
    {},
    {"augment.rotation_degrees": 15.0},
    {"augment.crop_padding": 3},
    {"optimizer.learning_rate": 0.004},
    {"train.epochs": 30},
    {"model.dropout": 0.2},
)


def get_rows() -> list[dict[str, Any]]:
    """Returns one row per change."""
    base = {"data.validation_fraction": 1 / 12, "optimizer.learning_rate": 0.002}
    return [
        {
            "config": "configs/lenet_mnist.py:best",
            "name": "-".join(["lenet_search", *(f"{p.split('.')[1]}{v}" for p, v in change.items())]),
            "overrides": {**base, **change},
        }
        for change in CHANGES
    ]
