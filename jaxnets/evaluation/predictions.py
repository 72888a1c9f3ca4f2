"""What a network said of each example of a part: kept in the run directory, read by report and statistics."""

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
_FIELDS = ("index", "label", "probabilities", "files", "group")


@dataclasses.dataclass(frozen=True)
class Predictions:
    """One row an example of a part of the split, in the part's order.

    `index` int64[N] is each example's place in its source, `label` int32[N] its true class,
    `probabilities` float32[N, K] the network's share of every class, `files` str[N] what the source
    calls it, and `group` int64[N] its group (siblings share one), -1 everywhere where none are known.
    """

    index: np.ndarray
    label: np.ndarray
    probabilities: np.ndarray
    files: np.ndarray
    group: np.ndarray

    @classmethod
    def of(
        cls,
        source: Source,
        indices: np.ndarray,
        probabilities: np.ndarray,
        group_ids: np.ndarray | None,
    ) -> "Predictions":
        """Those of a source's examples at `indices` [N]; `group_ids` is int64 over all of it, or None."""
        return cls(
            index=indices.astype(np.int64),
            label=source.labels[indices].astype(np.int32),
            probabilities=probabilities.astype(np.float32),
            files=np.array([source.files[index] for index in indices], np.str_),
            group=np.full(len(indices), -1) if group_ids is None else group_ids[indices],
        )

    @property
    def predicted(self) -> np.ndarray:
        """int64[N]: the class with the largest share."""
        return self.probabilities.argmax(axis=1)

    @property
    def correct(self) -> np.ndarray:
        """bool[N]: where the predicted class is the true one."""
        return self.predicted == self.label

    @property
    def groups_known(self) -> bool:
        """Whether siblings are known, so that statistics can count groups and not images."""
        return bool((self.group >= 0).all())

    @property
    def has_near_duplicates(self) -> bool:
        """Whether groups are known and one of them has more than one example here."""
        return self.groups_known and len(np.unique(self.group)) < len(self.group)

    def to_bytes(self) -> bytes:
        """The content of an .npz file."""
        arrays = {name: getattr(self, name) for name in _FIELDS}
        packed = io.BytesIO()
        np.savez_compressed(packed, **arrays)
        return packed.getvalue()

    def save(self, path: Path) -> None:
        """Writes an .npz file, whole or not at all; makes its folder."""
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(path, self.to_bytes())


def predictions_path(run_dir: Path, part: str = "test") -> Path:
    """Where a run directory keeps the predictions of a part: RUN/predictions/PART.npz."""
    return run_dir / predictions_name(part)


def predictions_name(part: str = "test") -> str:
    """The same, relative to the run directory."""
    return f"{FOLDER}/{part}.npz"


def load_predictions(path: Path) -> Predictions:
    """Reads what `Predictions.save` wrote.

    Raises CheckpointError where it is not there or damaged.
    """
    try:
        return read_predictions(read_regular(path), path)
    except FileNotFoundError as error:
        raise CheckpointError(
            f"{path} is not there: python scripts/evaluate.py --workdir=RUN writes it"
        ) from error
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror})") from error


def read_predictions(data: bytes, path: Path) -> Predictions:
    """What the bytes of the file `path` hold.

    Raises CheckpointError where they are damaged: arrays of other shapes, shares that are not finite.
    """
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            found = Predictions(**{name: arrays[name] for name in _FIELDS})
        _require_fitting(found)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise CheckpointError(
            f"{path} is damaged ({error}): python scripts/evaluate.py --workdir=RUN writes it anew"
        ) from error
    return found


def _require_fitting(found: Predictions) -> None:
    """Raises ValueError unless there is one row an example, with finite shares of classes that exist."""
    count, shares = len(found.index), found.probabilities
    lengths = {len(getattr(found, name)) for name in _FIELDS}
    if lengths != {count} or shares.ndim != 2 or shares.shape[1] == 0:
        raise ValueError("its arrays do not fit one another")
    if not np.isfinite(shares).all() or shares.min(initial=0) < 0 or shares.max(initial=0) > 1.001:
        raise ValueError("a probability is not between 0 and 1")
    if count and not 0 <= found.label.min() <= found.label.max() < shares.shape[1]:
        raise ValueError("a label is not a class")
