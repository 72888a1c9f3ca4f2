"""Our own AlexNet config, about an hour on a GPU: python scripts/reproduce.py alexnet_best."""

from typing import Any


def get_rows() -> list[dict[str, Any]]:
    """Returns one row."""
    return [{"config": "configs/alexnet_cifar10.py:best", "seed": 0}]
