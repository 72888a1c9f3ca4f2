"""AlexNet on CIFAR-10, the configs of both reports: python scripts/reproduce.py alexnet --budget=MINUTES.

A row takes about 40 minutes on two cores with AVX-512: one seed of each config comes first, then a second
one, then tanh in place of ReLU.
"""

from typing import Any

SEEDS = (0, 1)
VARIANTS = ("adam", "sgd")


def get_rows() -> list[dict[str, Any]]:
    """Returns one row per config and seed, and one of each config with tanh."""
    configs = [f"configs/alexnet_cifar10.py:{variant}" for variant in VARIANTS]
    return [
        *({"config": config, "seed": seed} for seed in SEEDS for config in configs),
        *({"config": config, "overrides": {"model.activation": "tanh"}, "seed": 0} for config in configs),
    ]
