"""Runs of the lung networks at a size and length for CPUs."""

from typing import Any

PIXELS = {"resnet": 64, "inception_v1": 75, "inception_v3": 75, "inception_resnet_v2": 75, "densenet": 64}
"""Image sizes; 75 is the minimum of Inception v3 and Inception-ResNet v2."""


def cpu_row(network: str, split: str, seed: int = 0) -> dict[str, Any]:
    """Returns a row: configs/lung_NETWORK.py:scratch, three epochs at the size of `PIXELS`."""
    pixels = PIXELS[network]
    return {
        "name": f"lung_{network}-{pixels}px-{split}-s{seed}",
        "config": f"configs/lung_{network}.py:scratch",
        "overrides": {
            "data.name": "lc25000_lung",
            "data.image_size": pixels,
            "data.split": split,
            "train.epochs": 3,
            "schedule.warmup_steps": 100,
            "note": f"CPU-sized run: {pixels} px and 3 epochs, for want of a GPU; the settings are ours",
        },
        "seed": seed,
    }
