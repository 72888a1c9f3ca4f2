"""Our own AlexNet configs: 30 epochs, two hours on two cores; then 200, for a GPU.

python scripts/reproduce.py alexnet_best --only=best30
"""

from typing import Any


def get_rows() -> list[dict[str, Any]]:
    """Returns both rows."""
    return [{"config": f"configs/alexnet_cifar10.py:{variant}", "seed": 0} for variant in ("best30", "best")]
