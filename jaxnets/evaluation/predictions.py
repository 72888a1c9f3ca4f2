"""Predicted probabilities of every example of a split, stored in the run directory."""

import dataclasses
import io
import zipfile
import zlib
from pathlib import Path

import numpy as np

from jaxnets.data.sources.base import Source
from jaxnets.errors import CheckpointError
from jaxnets.io import atomic_write, read_regular

FOLDER = "predictions"
_WRITER = "python scripts/evaluate.py --workdir=RUN"
_FIELDS = ("index", "label", "probabilities", "files", "group")


@dataclasses.dataclass(frozen=True)
class Predictions:
    """One row per example of a part of the split (train, validation or test), in the part's order.

    `index` int64[N] is the example's position in its source, `label` int32[N] its true class,
    `probabilities` float32[N, K] the softmax output, `files` str[N] its name in the source, and
    `group` int64[N] its group of near-duplicates, -1 everywhere if no groups are known.
    """

    index: np.ndarray
    label: np.ndarray
    probabilities: np.ndarray
    files: np.ndarray
    group: np.ndarray

    @classmethod
    def of(
        cls, source: Source, indices: np.ndarray, probabilities: np.ndarray, group_ids: np.ndarray | None
    ) -> "Predictions":
        """For the examples of `source` at `indices` [N]; `group_ids` is int64 over the source, or None."""
        return cls(
            index=indices.astype(np.int64),
            label=source.labels[indices].astype(np.int32),
            probabilities=probabilities.astype(np.float32),
            files=np.array([source.files[index] for index in indices], np.str_),
            group=np.full(len(indices), -1) if group_ids is None else group_ids[indices],
        )

    @property
    def predicted(self) -> np.ndarray:
        """int64[N]: the most probable class."""
        return self.probabilities.argmax(axis=1)

    @property
    def correct(self) -> np.ndarray:
        """bool[N]: where the prediction is right."""
        return self.predicted == self.label

    @property
    def groups_known(self) -> bool:
        """Whether groups are known, so that statistics can resample groups instead of images."""
        return bool((self.group >= 0).all())

    @property
    def has_near_duplicates(self) -> bool:
        """Whether groups are known and at least one has several examples here."""
        return self.groups_known and len(np.unique(self.group)) < len(self.group)

    def to_bytes(self) -> bytes:
        """The content of an .npz file."""
        packed = io.BytesIO()
        np.savez_compressed(packed, **{name: getattr(self, name) for name in _FIELDS})
        return packed.getvalue()

    def save(self, path: Path) -> None:
        """Writes an .npz file atomically; creates its folder."""
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(path, self.to_bytes())


def predictions_path(run_dir: Path, part: str = "test") -> Path:
    """RUN/predictions/PART.npz, the predictions of a part of the split."""
    return run_dir / predictions_name(part)


def predictions_name(part: str = "test") -> str:
    """The path of `predictions_path` relative to the run directory."""
    return f"{FOLDER}/{part}.npz"


def load_predictions(path: Path) -> Predictions:
    """Reads what `Predictions.save` wrote; raises CheckpointError if it is missing or corrupt."""
    try:
        return read_predictions(read_regular(path), path)
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} is missing: {_WRITER} writes it") from error
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror})") from error


def read_predictions(data: bytes, path: Path) -> Predictions:
    """Parses the bytes of the file `path`.

    Raises CheckpointError for a corrupt file: wrong shapes, values that are not probabilities.
    """
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            found = Predictions(**{name: arrays[name] for name in _FIELDS})
        _check_arrays(found)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise CheckpointError(f"{path} is damaged ({error}): {_WRITER} writes it again") from error
    return found


def _check_arrays(found: Predictions) -> None:
    """Raises ValueError unless each array has one row per example, with valid probabilities and labels."""
    count, probabilities = len(found.index), found.probabilities
    lengths = {len(getattr(found, name)) for name in _FIELDS}
    if lengths != {count} or probabilities.ndim != 2 or probabilities.shape[1] == 0:
        raise ValueError("its arrays have different lengths")
    if not ((probabilities >= 0) & (probabilities <= 1.001)).all():  # false for NaN too
        raise ValueError("a probability is not between 0 and 1")
    if count and not 0 <= found.label.min() <= found.label.max() < probabilities.shape[1]:
        raise ValueError("a label is not a class")
