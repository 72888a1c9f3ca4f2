"""Five networks on LC25000, three epochs from scratch at sizes for CPUs; three seeds of Inception v1.

    python scripts/reproduce.py lung --budget=60

All rows use the same settings: batch size 32, 100 steps of warmup, then a cosine schedule, all training
images. The last two rows are report B's Inception v1 with its 10 epochs and batch size 32, with both splits.
"""

from typing import Any

from ._cpu import PIXELS, cpu_row

SPLITS = ("random", "grouped")
MORE_SEEDS = (1, 2)


def get_rows() -> list[dict[str, Any]]:
    """Returns the rows: seed 0 of every network and split, more of Inception v1, then report B's."""
    return [
        *(cpu_row(network, split) for split in SPLITS for network in PIXELS),
        *(cpu_row("inception_v1", split, seed) for seed in MORE_SEEDS for split in SPLITS),
        *map(_report_b, SPLITS),
    ]


def _report_b(split: str) -> dict[str, Any]:
    row = cpu_row("inception_v1", split)
    note = "CPU-sized run: 75 px; batch 32 and 10 epochs are report B's, the other settings are ours"
    more = {"entry": "B/inception_v1", "train.epochs": 10, "note": note}
    return {
        **row,
        "name": f"lung_inception_v1-75px-10epochs-{split}-s0",
        "overrides": {**row["overrides"], **more},
    }
