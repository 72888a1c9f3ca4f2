"""Three small runs on synthetic tissue, for testing reproduce.py: python scripts/reproduce.py smoke."""

from typing import Any

SEEDS = (0, 1, 2)


def get_rows() -> list[dict[str, Any]]:
    """Returns one row per seed."""
    return [{"config": "configs/lung_resnet.py:smoke", "seed": seed} for seed in SEEDS]
