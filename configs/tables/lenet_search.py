"""`lenet_mnist:best` beside its neighbours, to choose by validation accuracy alone, on a twelfth of train.

python scripts/reproduce.py lenet_search
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
    """A row a change."""
    held_out = {"data.validation_fraction": 1 / 12}
    return [
        {
            "config": "configs/lenet_mnist.py:best",
            "name": "-".join(
                ["lenet_search", *(f"{p.split('.')[1]}{v}" for p, v in change.items())]
            ),
            "overrides": {**held_out, **change},
        }
        for change in CHANGES
    ]
