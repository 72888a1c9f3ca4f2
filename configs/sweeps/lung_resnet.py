"""ResNet-50 on LC25000, random split, compared with report A: at 96 px, for CPUs, and at 224 px.

python scripts/reproduce.py lung_resnet --budget=60
"""

from typing import Any

CONFIG = "configs/lung_resnet.py:scratch"
RANDOM_SPLIT = {"data.name": "lc25000_lung", "data.split": "random"}
NOTE_96 = "96 px for want of a GPU; report A gives 10 epochs of 768 px originals, the other settings are ours"


def get_rows() -> list[dict[str, Any]]:
    """Returns the rows, the cheaper one first."""
    return [
        {
            "name": "lung_resnet-scratch-96px-s0",
            "config": CONFIG,
            "overrides": {**RANDOM_SPLIT, "data.image_size": 96, "note": NOTE_96},
            "seed": 0,
        },
        {"name": "lung_resnet-scratch-224px-s0", "config": CONFIG, "overrides": RANDOM_SPLIT, "seed": 0},
    ]
