"""Inception v1 with other groupings of LC25000.

    python scripts/reproduce.py lung_groupings

One grouping has one group per photograph, so that overlapping photographs may be in different subsets. The
other has the clusters made by humans in LC25000-clean (https://github.com/GeorgeBatch/LC25000-clean), which
have no licence and are not included: put its final_clusters.csv, one file per class, into
data/lc25000_clean. Compare with our own groups in configs/sweeps/lung.py.
"""

from typing import Any

from ._cpu import cpu_row

GROUPINGS = {"by_original": {"data.group_level": "original"}, "human": {"data.groups": "data/lc25000_clean"}}


def get_rows() -> list[dict[str, Any]]:
    """Returns one row per grouping, with the settings of configs/sweeps/lung.py."""
    return [_row(name, changes) for name, changes in GROUPINGS.items()]


def _row(name: str, changes: dict[str, str]) -> dict[str, Any]:
    row = cpu_row("inception_v1", "grouped")
    note = "CPU-sized run: 75 px and 3 epochs; another grouping of the images than ours"
    return {
        **row,
        "name": f"lung_inception_v1-75px-grouped_{name}-s0",
        "overrides": {**row["overrides"], **changes, "note": note},
    }
