"""Inception v1 under other groupings of LC25000: what the choice of grouping does to the result.

    zcat jaxnets/data/lc25000_lung_groups.csv.gz |
      awk -F, -v OFS=, 'NR > 1 {$3 = $2} 1' > data/by_original.csv
    python scripts/reproduce.py lung_groupings

The first file has each photograph for itself: overlapping ones may be on both sides. data/lc25000_clean
holds LC25000-clean's final_clusters.csv, a file a class (https://github.com/GeorgeBatch/LC25000-clean);
they carry no licence and are not shipped. The row to compare with, our own groups, is in
configs/tables/lung.py.
"""

from typing import Any

GROUPINGS = {"by_original": "data/by_original.csv", "human": "data/lc25000_clean"}


def get_rows() -> list[dict[str, Any]]:
    """A row a grouping, the recipe of configs/tables/lung.py."""
    return [_row(name, path) for name, path in GROUPINGS.items()]


def _row(name: str, path: str) -> dict[str, Any]:
    return {
        "name": f"lung_inception_v1-75px-grouped_{name}-s0",
        "config": "configs/lung_inception_v1.py:scratch",
        "overrides": {
            "data.name": "lc25000_lung",
            "data.image_size": 75,
            "data.split": "grouped",
            "data.groups": path,
            "train.epochs": 3,
            "schedule.warmup_steps": 100,
            "note": "CPU-sized run: 75 px and 3 epochs; another grouping of the images than ours",
        },
        "seed": 0,
    }
