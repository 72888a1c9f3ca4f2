"""Writes results/lc25000/splits.csv, the groups, splits and folds of our results, for use in other libraries.

    python -m studies.lc25000_splits

LC25000 has to be prepared (scripts/prepare_data.py).
"""

from pathlib import Path

import numpy as np

from jaxnets.data.groups import shipped_groups
from jaxnets.data.splits import assign_folds
from jaxnets.experiment.data import open_dataset
from jaxnets.experiment.resolve import load_config
from jaxnets.io import atomic_write, csv_table

ROOT = Path(__file__).parents[1]
PATH = ROOT / "results" / "lc25000" / "splits.csv"
HEADS = ("file", "original", "group", "random", "grouped", "fold")
FOLDS = 5


def main() -> None:
    """Splits LC25000 as configs/lung_resnet.py does, at random and by groups, and into five folds."""
    spec = str(ROOT / "configs" / "lung_resnet.py")
    columns = []
    for split in ("random", "grouped"):
        config = load_config(spec, {"data.name": "lc25000_lung", "data.split": split})
        data = open_dataset(config)
        names = np.empty(len(data.source), dtype="<U10")
        for part, indices in data.split.parts().items():
            names[indices] = part
        columns.append(names)
    source, groups, shipped = data.source, data.group_ids, shipped_groups("lc25000_lung")
    assert groups is not None
    folds = assign_folds(source.labels, groups, folds=FOLDS, seed=config.data.split_seed)
    rows = zip(source.files, *columns, folds, strict=True)
    atomic_write(PATH, csv_table([HEADS, *((file, *shipped.members[file], *rest) for file, *rest in rows)]))


if __name__ == "__main__":
    main()
