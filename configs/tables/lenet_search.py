"""What `lenet_mnist:best` was chosen from, by validation accuracy alone, on a twelfth of train.

python scripts/reproduce.py lenet_search

The first row is where it began; each other changes one thing. The learning rate of 0.004 was taken.
"""

from typing import Any

OVERRIDABLE_FIELDS = (
    {},
    {"augment.rotation_degrees": 15.0},
    {"augment.crop_padding": 3},
    {"optimizer.learning_rate": 0.004},
    {"train.epochs": 30},
    {"model.dropout": 0.2},
)


def get_rows() -> list[dict[str, Any]]:
    """A row a change."""
    begun_with = {"data.validation_fraction": 1 / 12, "optimizer.learning_rate": 0.002}
    return [
        {
            "config": "configs/lenet_mnist.py:best",
            "name": "-".join(
                ["lenet_search", *(f"{p.split('.')[1]}{v}" for p, v in change.items())]
            ),
            "overrides": {**begun_with, **change},
        }
        for change in OVERRIDABLE_FIELDS
    ]
