"""LeNet-5 on MNIST beyond the reports, five seeds: python scripts/reproduce.py lenet_best."""

from typing import Any

SEEDS = (0, 1, 2, 3, 4)


def get_rows() -> list[dict[str, Any]]:
    """Returns one row per seed."""
    return [{"config": "configs/lenet_mnist.py:best", "seed": seed} for seed in SEEDS]
