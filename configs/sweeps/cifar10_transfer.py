"""A new head on EfficientNet-Lite0 for CIFAR-10.

python scripts/reproduce.py cifar10_transfer --budget=60
"""

from typing import Any


def get_rows() -> list[dict[str, Any]]:
    """Returns the row."""
    name = "efficientnet_cifar10-224px-imagenet-s0"
    return [{"name": name, "config": "configs/efficientnet_cifar10.py", "overrides": {}, "seed": 0}]
