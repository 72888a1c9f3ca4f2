"""Scores of a data set, and the predictions of its examples, which a run directory stores."""

import dataclasses
import io
import itertools
import zipfile
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxnets.data.sources.base import Source
from jaxnets.errors import CheckpointError
from jaxnets.evaluation import statistics
from jaxnets.io import command, read_regular
from jaxnets.training.step import PREDICTIONS, PROBABILITIES, add_metrics

FOLDER = "predictions"
_WRITER = f"{command('evaluate')} --workdir=RUN"
_FIELDS = ("index", "label", "probabilities", "files", "group")


@dataclasses.dataclass(frozen=True)
class Scores:
    """Loss over a data set and its number of examples; a regression has nothing else."""

    loss: float
    examples: int


@dataclasses.dataclass(frozen=True)
class ClassScores(Scores):
    """Scores of a classification, with confusion int64[label, prediction]."""

    accuracy: float
    correct: int
    confusion: np.ndarray
    probabilities: np.ndarray | None = None  # float[N, K] in the order of the examples

    @classmethod
    def of(cls, probabilities: np.ndarray, labels: np.ndarray, loss: float) -> "ClassScores":
        """The scores of probabilities [N, K] for labels int[N], whose loss is known."""
        count, classes = probabilities.shape
        confusion = np.zeros((classes, classes), np.int64)
        np.add.at(confusion, (labels, probabilities.argmax(axis=1)), 1)
        correct = int(np.trace(confusion))
        return cls(loss, count, correct / count, correct, confusion, probabilities)


def evaluate(
    step: Callable[[Any, Any], dict[str, jax.Array]],
    state: Any,
    batches: Iterable[Any],
    *,
    expected: int,
    classes: int = 0,
) -> Scores:
    """Runs an evaluation step over all batches, adds up its metrics and divides once at the end.

    The loss is not divided if the step returns no `weight_sum`. Returns ClassScores for examples with
    `classes` classes. Raises AssertionError unless exactly `expected` examples were counted.
    """
    sums: dict[str, Any] = {}
    by_example: dict[str, list[np.ndarray]] = {PROBABILITIES: [], PREDICTIONS: []}
    # Each output is fetched after dispatching the next step, so that the device never waits for the host.
    outputs = (step(state, batch) for batch in batches)
    for output, _ in itertools.pairwise(itertools.chain(outputs, (None,))):
        metrics = dict(jax.device_get(output))
        for name in by_example.keys() & metrics.keys():
            by_example[name].append(metrics.pop(name))
        sums = add_metrics(sums, metrics)
    counted = round(sums.get("examples", 0))
    if counted != expected:
        raise AssertionError(f"{counted} examples were counted instead of {expected}")
    loss = sums["loss"] / sums.get("weight_sum", 1)
    if "correct" not in sums:
        return Scores(loss, counted)
    confusion = np.zeros((classes, classes), np.int64)
    predictions, probabilities = by_example[PREDICTIONS], by_example[PROBABILITIES]
    np.add.at(confusion, tuple(np.concatenate(predictions)[:expected].T), 1)  # padding is last
    return ClassScores(
        loss=loss,
        examples=counted,
        accuracy=sums["correct"] / sums["examples"],
        correct=round(sums["correct"]),
        confusion=confusion,
        probabilities=np.concatenate(probabilities)[:expected] if probabilities else None,
    )


@dataclasses.dataclass(frozen=True)
class Predictions:
    """One row per example of a part of the split (train, validation or test), in the part's order."""

    index: np.ndarray  # int64[N]; the position in the source
    label: np.ndarray  # int32[N]; the true class
    probabilities: np.ndarray  # float32[N, K]; the softmax output
    files: np.ndarray  # str[N]; the name in the source
    group: np.ndarray  # int64[N]; the group of near-duplicates, -1 everywhere if no groups are known

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

    @property
    def units(self) -> np.ndarray:
        """The independent units, int64[N]: the groups; if they are unknown, the images."""
        return self.group if self.groups_known else self.index

    @property
    def has_dependent_examples(self) -> bool:
        """Whether several examples belong to one unit, as near-duplicates or predictions of one image."""
        return len(np.unique(self.units)) < len(self.units)

    def fit_temperature(self) -> float | None:
        """The temperature by which logits are divided so that confidences are calibrated (Guo 2017).

        None if all predictions are right, or if temperatures that are fitted on some groups do not lower the
        cross-entropy of the others, as with few groups.
        """
        return statistics.cross_validated_temperature(self.probabilities, self.label, self.units)

    def to_bytes(self) -> bytes:
        """The content of an .npz file."""
        packed = io.BytesIO()
        np.savez_compressed(packed, **{name: getattr(self, name) for name in _FIELDS})
        return packed.getvalue()


def predictions_name(part: str = "test") -> str:
    """The path of the predictions for a part of the split, relative to the run directory."""
    return f"{FOLDER}/{part}.npz"


def load_predictions(path: Path) -> Predictions:
    """Reads the file of `Predictions.to_bytes`; raises CheckpointError if it is missing or corrupt."""
    try:
        return read_predictions(read_regular(path), path)
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} is missing: {_WRITER} writes it") from error
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror})") from error


def read_predictions(data: bytes, path: Path) -> Predictions:
    """Parses the bytes of the file `path`; raises CheckpointError if they are corrupt."""
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            found = Predictions(**{name: arrays[name] for name in _FIELDS})
        count, probabilities = len(found.index), found.probabilities
        lengths = {len(getattr(found, name)) for name in _FIELDS}
        if lengths != {count} or probabilities.ndim != 2 or probabilities.shape[1] == 0:
            raise ValueError("its arrays have different lengths")
        if not ((probabilities >= 0) & (probabilities <= 1.001)).all():  # false for NaN too
            raise ValueError("a probability is not between 0 and 1")
        if count and not 0 <= found.label.min() <= found.label.max() < probabilities.shape[1]:
            raise ValueError("a label is not a class")
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise CheckpointError(f"{path} is damaged ({error}): {_WRITER} writes it again") from error
    return found
