"""Five networks on LC25000, three epochs from scratch at sizes that a CPU holds, seed by seed.

    python scripts/reproduce.py lung --budget=60

One recipe for all rows: batch 32, 100 steps of warm-up, then a cosine; all training images. The last row
is report B's Inception v1: its 10 epochs and batch of 32.
"""

from typing import Any

DATA = "lc25000_lung"
NETWORKS = {
    "resnet": 64,
    "inception_v1": 75,
    "inception_v3": 75,
    "inception_resnet_v2": 75,
    "densenet": 64,
}
"""Pixels a side by network; 75 is the least that Inception v3 and Inception-ResNet v2 take."""
SPLITS = ("random", "grouped")
SEEDS = (0, 1, 2)


def get_rows() -> list[dict[str, Any]]:
    """Seed 0 of every network and split first, then the others."""
    rows = [
        _row(network, split, seed) for seed in SEEDS for split in SPLITS for network in NETWORKS
    ]
    return [*rows, _report_b()]


def _row(network: str, split: str, seed: int) -> dict[str, Any]:
    pixels = NETWORKS[network]
    return {
        "name": f"lung_{network}-{pixels}px-{split}-s{seed}",
        "config": f"configs/lung_{network}.py:scratch",
        "overrides": {
            "data.name": DATA,
            "data.image_size": pixels,
            "data.split": split,
            "train.epochs": 3,
            "schedule.warmup_steps": 100,
            "note": f"CPU-sized run: {pixels} px and 3 epochs, for want of a GPU; the recipe is ours",
        },
        "seed": seed,
    }


def _report_b() -> dict[str, Any]:
    row = _row("inception_v1", "random", 0)
    note = "CPU-sized run: 75 px; batch 32 and 10 epochs are report B's, the rest of the recipe is ours"
    more = {"entry": "B/inception_v1", "train.epochs": 10, "note": note}
    return {
        **row,
        "name": "lung_inception_v1-75px-10epochs-random-s0",
        "overrides": {**row["overrides"], **more},
    }
