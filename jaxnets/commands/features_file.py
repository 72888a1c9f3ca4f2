"""The features of images in a file of NumPy, with their labels and groups."""

import csv
import io
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxnets import config as config_lib
from jaxnets.data import sources
from jaxnets.data.sources.image_folder import ImageFiles
from jaxnets.errors import ConfigError, DataError
from jaxnets.experiment.run_directory import RunDirectory
from jaxnets.io import from_csv_cell

UNKNOWN = -1
"""The group of an image without a known one."""


class Known(NamedTuple):
    """What is known of an image: its class, "" if unknown, and its group or UNKNOWN."""

    label: str
    group: int


def known_examples(run: RunDirectory) -> dict[str, Known]:
    """The labels and groups in the run's split.csv, by the resolved path of each image file.

    Empty if the images are not files, or are no longer where they were when the run was trained.
    """
    try:
        source = sources.open_source(run.config.data, config_lib.data_root(run.config))
    except (ConfigError, DataError):
        return {}
    if not isinstance(source, ImageFiles):
        return {}
    root = os.path.realpath(source.root)
    return {
        os.path.realpath(os.path.join(root, from_csv_cell(row["file"]))): Known(
            from_csv_cell(row["label"]), int(row["group"] or UNKNOWN)
        )
        for row in csv.DictReader(io.StringIO(run.split or ""))
    }


def find(path: str, known: Mapping[str, Known], classes: Sequence[str]) -> Known:
    """What is known of an image; of one that is not in the run's data, its folder's name may be its class."""
    if (found := known.get(os.path.realpath(path))) is not None:
        return found
    folder = Path(path).absolute().parent.name
    return Known(folder if folder in classes else "", UNKNOWN)


def to_npz(rows: Iterable[Mapping[str, Any]], known: Mapping[str, Known], classes: Sequence[str]) -> bytes:
    """An .npz file of the rows of predictions that have features: paths, labels, groups, features.

    The arrays are str[N], str[N], int64[N] and float32[N, C]; their order is that of the rows.
    """
    read = [row for row in rows if row.get("features") is not None]
    found = [find(row["file"], known, classes) for row in read]
    content = io.BytesIO()
    np.savez_compressed(
        content,
        # File names may not be UTF-8.
        paths=np.array([row["file"].encode("utf-8", "backslashreplace").decode() for row in read], np.str_),
        labels=np.array([each.label for each in found], np.str_),
        groups=np.array([each.group for each in found], np.int64),
        features=np.array([row["features"] for row in read], np.float32),
    )
    return content.getvalue()
