"""What a network said of each example of a part: kept in the run directory, read by report and statistics."""

import dataclasses
import io
import zipfile
from pathlib import Path

import numpy as np

from jaxnets.data.source import Source
from jaxnets.errors import CheckpointError
from jaxnets.files import write_whole

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
        siblings: np.ndarray | None,
    ) -> "Predictions":
        """Those of a source's examples at `indices` [N]; `siblings` is int64 over all of it, or None."""
        return cls(
            index=indices.astype(np.int64),
            label=source.labels[indices].astype(np.int32),
            probabilities=probabilities.astype(np.float32),
            files=np.array([source.files[index] for index in indices], np.str_),
            group=np.full(len(indices), -1) if siblings is None else siblings[indices],
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
    def has_siblings(self) -> bool:
        """Whether groups are known and one of them has more than one example here."""
        return self.groups_known and len(np.unique(self.group)) < len(self.group)

    def save(self, path: Path) -> None:
        """Writes an .npz file, whole or not at all; makes its folder."""
        path.parent.mkdir(parents=True, exist_ok=True)
        arrays = {name: getattr(self, name) for name in _FIELDS}
        packed = io.BytesIO()
        np.savez_compressed(packed, **arrays)
        write_whole(path, packed.getvalue())


def predictions_path(run_dir: Path, part: str = "test") -> Path:
    """Where a run directory keeps the predictions of a part: RUN/predictions/PART.npz."""
    return run_dir / FOLDER / f"{part}.npz"


def load_predictions(path: Path) -> Predictions:
    """Reads what `Predictions.save` wrote.

    Raises CheckpointError where it is not there or damaged.
    """
    try:
        with path.open("rb") as file, np.load(file) as arrays:
            return Predictions(**{name: arrays[name] for name in _FIELDS})
    except FileNotFoundError as error:
        raise CheckpointError(
            f"{path} is not there: python scripts/evaluate.py --workdir=RUN writes it"
        ) from error
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise CheckpointError(
            f"{path} is damaged ({error}): python scripts/evaluate.py --workdir=RUN writes it anew"
        ) from error
