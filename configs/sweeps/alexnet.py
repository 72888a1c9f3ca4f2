"""AlexNet on CIFAR-10, the configs of both reports: python scripts/reproduce.py alexnet --budget=MINUTES.

Each row takes hours on two cores: one seed of each config comes first.
"""

from typing import Any

SEEDS = (0, 1, 2)


def get_rows() -> list[dict[str, Any]]:
    """Returns one row per config and seed."""
    return [
        {"config": f"configs/alexnet_cifar10.py:{variant}", "seed": seed}
        for seed in SEEDS
        for variant in ("adam", "sgd")
    ]
