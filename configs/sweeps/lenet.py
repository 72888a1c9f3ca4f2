"""LeNet-5 on MNIST, the configs of both reports, five seeds each: python scripts/reproduce.py lenet."""

from typing import Any

SEEDS = (0, 1, 2, 3, 4)


def get_rows() -> list[dict[str, Any]]:
    """Returns one row per config and seed."""
    return [
        {"config": f"configs/lenet_mnist.py:{variant}", "seed": seed}
        for variant in ("adam", "sgd")
        for seed in SEEDS
    ]
