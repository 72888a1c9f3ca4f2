"""AlexNet on CIFAR-10, both reports' recipes: python scripts/reproduce.py alexnet --budget=MINUTES.

Hours a row on two cores: a seed of each recipe comes first.
"""

from typing import Any

SEEDS = (0, 1, 2)


def get_rows() -> list[dict[str, Any]]:
    """A row a recipe and seed."""
    return [
        {"config": f"configs/alexnet_cifar10.py:{variant}", "seed": seed}
        for seed in SEEDS
        for variant in ("adam", "sgd")
    ]
