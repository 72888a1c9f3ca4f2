"""Train/validation/test splits."""

import csv
import dataclasses
import hashlib
import io
from collections.abc import Sequence

import numpy as np

from jaxnets.data.sources.base import Source
from jaxnets.errors import ConfigError, DataError
from jaxnets.text import csv_cell

PARTS = ("train", "validation", "test")
NUM_TRIALS = 64
"""Random orders of the groups to try; the most even split wins."""


@dataclasses.dataclass(frozen=True)
class Split:
    """Indices into a source, int64, ascending; `name` is how they were made.

    The splits are disjoint, except for official ones that are not (`points`: all four in train and in test).
    `groups` is int64[N] over the full source, equal for near-duplicates; None if unknown.
    """

    name: str
    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    groups: np.ndarray | None = None

    def parts(self) -> dict[str, np.ndarray]:
        """The three arrays by name."""
        return {part: getattr(self, part) for part in PARTS}

    def to_csv(self, source: Source) -> str:
        """CSV of `index,file,label,split,group` for every used example; `group` is empty if unknown."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(("index", "file", "label", "split", "group"))
        rows = [(int(index), part) for part, indices in self.parts().items() for index in indices]
        for index, part in sorted(rows):
            label = source.classes[source.labels[index]] if source.kind == "image" else ""
            group = "" if self.groups is None else self.groups[index]
            row = (index, source.files[index], label, part, group)
            writer.writerow(map(csv_cell, row))
        return text.getvalue()


class _TooFewError(DataError):
    """A class that is too small to split; `make_split` replaces its number by its name."""

    def __init__(self, label: int, message: str):
        super().__init__(f"class {label} {message}")
        self.label, self.reason = label, message


def sha256(text: str) -> str:
    """The sha256 of a text's UTF-8 bytes, in hex."""
    return hashlib.sha256(text.encode()).hexdigest()


def random_split(labels: np.ndarray, fractions: Sequence[float], seed: int) -> Split:
    """Splits each class at random by `fractions` (train, validation, test), which keeps classes balanced.

    Raises DataError if a class is too small to have an example in every requested split.
    """
    generator = np.random.default_rng(seed)
    parts: dict[str, list[np.ndarray]] = {part: [] for part in PARTS}
    for label in np.unique(labels):
        members = generator.permutation(np.flatnonzero(labels == label))
        bounds = np.rint(np.cumsum(fractions) * len(members)).astype(int)
        chunks = np.split(members, bounds[:-1])
        for part, chunk, fraction in zip(PARTS, chunks, fractions, strict=True):
            if fraction > 0 and len(chunk) == 0:
                raise _TooFewError(
                    label,
                    f"has {len(members)} examples: too few for a fraction of {fraction:g} for {part}; "
                    "add images or change --config.data.fractions",
                )
            parts[part].append(chunk)
    return Split("random", **{part: np.sort(np.concatenate(parts[part])) for part in PARTS})


def official_split(source: Source, validation_fraction: float, seed: int) -> Split:
    """The official train and test splits; validation is drawn from train at random, by class.

    Raises DataError if the source has no official split.
    """
    official = source.official_split
    if official is None or not {"train", "test"} <= official.keys():
        found = f", only {', '.join(official)}" if official else ""
        raise DataError(
            f"{source.name} has no official train and test{found}: use --config.data.split=random"
        )
    train = official["train"]
    fractions = (1 - validation_fraction, validation_fraction, 0.0)
    inner = random_split(source.labels[train], fractions, seed)
    return Split("official", train[inner.train], train[inner.validation], np.sort(official["test"]))


def grouped_split(labels: np.ndarray, groups: np.ndarray, fractions: Sequence[float], seed: int) -> Split:
    """Splits groups by about `fractions` (train, validation, test), balancing each class.

    `labels` and `groups` are int[N]; a group may contain several classes. In a random order, each group goes
    to the split with the most room left for its classes; the most even result of several orders is used.
    (scikit-learn's StratifiedGroupKFold, which `grouped_fold` uses, only makes equal splits, and takes large
    groups first, so its seeds differ little.) Raises DataError if a class has fewer groups than splits.
    """
    parts = [part for part, fraction in zip(PARTS, fractions, strict=True) if fraction > 0]
    targets = np.array([fraction for fraction in fractions if fraction > 0])
    _check_groups(labels, groups, len(parts), "split")
    # float[G, K]: the fraction of each class that each group contains.
    contents = np.zeros((groups.max() + 1, labels.max() + 1))
    np.add.at(contents, (groups, labels), 1)
    contents /= np.maximum(contents.sum(axis=0), 1)
    generator = np.random.default_rng(seed)
    orders = np.stack([generator.permutation(len(contents)) for _ in range(NUM_TRIALS)])
    trials = np.arange(NUM_TRIALS)
    assigned = np.zeros(orders.shape, np.int64)
    filled = np.zeros((NUM_TRIALS, len(parts), contents.shape[1]))
    for group in orders.T:  # one group for each trial
        room = 1 - filled / targets[:, None]
        part = np.einsum("tpk,tk->tp", room, contents[group]).argmax(axis=1)
        filled[trials, part] += contents[group]
        assigned[trials, group] = part
    imbalance = np.abs(filled / targets[:, None] - 1).max(axis=(1, 2))
    part_of = assigned[imbalance.argmin()][groups]
    indices = dict.fromkeys(PARTS, np.zeros(0, np.int64))
    indices |= {part: np.flatnonzero(part_of == number) for number, part in enumerate(parts)}
    return _checked(labels, groups, indices, parts)


def grouped_fold(labels: np.ndarray, groups: np.ndarray, *, folds: int, fold: int, seed: int) -> Split:
    """One fold of a cross-validation over groups: `fold` is test, the next one validation, the rest train.

    Uses scikit-learn's StratifiedGroupKFold; over all folds every example is tested once. Raises DataError
    if a class has fewer groups than there are folds.
    """
    from sklearn.model_selection import StratifiedGroupKFold  # slow to import

    _check_groups(labels, groups, folds, "fold")
    splitter = StratifiedGroupKFold(n_splits=folds, shuffle=True, random_state=seed)
    tests = [test for _, test in splitter.split(np.zeros(len(labels)), labels, groups)]
    held_out = (fold, (fold + 1) % folds)
    train = np.concatenate([test for number, test in enumerate(tests) if number not in held_out])
    parts = {"train": np.sort(train), "validation": tests[held_out[1]], "test": tests[held_out[0]]}
    return _checked(labels, groups, parts, PARTS)


def make_split(
    source: Source,
    kind: str,
    *,
    fractions: Sequence[float],
    validation_fraction: float,
    seed: int,
    groups: np.ndarray | None = None,
    folds: int = 0,
    fold: int = 0,
) -> Split:
    """Makes the split of a config: "random", "official" or "grouped", the latter with `folds` if not 0.

    `groups` is int64[N], equal for near-duplicates; every split records it, and "grouped" requires it.
    Raises ConfigError if required groups are unknown, DataError if the data cannot be split.
    """
    if kind == "grouped" and groups is None:
        raise ConfigError(
            f"--config.data.split=grouped needs groups, and those of {source.name} are unknown: find "
            "them with python scripts/find_duplicates.py DIR and give --config.data.groups=FILE, "
            "or use --config.data.split=random"
        )
    try:
        if kind == "official":
            split = official_split(source, validation_fraction, seed)
        elif groups is None or kind == "random":
            split = random_split(source.labels, fractions, seed)
        elif folds:
            split = grouped_fold(source.labels, groups, folds=folds, fold=fold, seed=seed)
        else:
            split = grouped_split(source.labels, groups, fractions, seed)
    except _TooFewError as error:
        raise DataError(f"class {source.classes[error.label]} {error.reason}") from error
    return dataclasses.replace(split, groups=groups)


def _check_groups(labels: np.ndarray, groups: np.ndarray, needed: int, unit: str) -> None:
    for label in np.unique(labels):
        count = len(np.unique(groups[labels == label]))
        if count < needed:
            raise _TooFewError(
                label,
                f"has {count} groups: too few for {needed}, at least one per {unit}; add images of "
                "other origin, or change --config.data.split, .fractions or .folds",
            )


def _checked(
    labels: np.ndarray, groups: np.ndarray, indices: dict[str, np.ndarray], parts: Sequence[str]
) -> Split:
    """The split, after checking that every class has examples in each of `parts`."""
    for part in parts:
        for label in np.setdiff1d(labels, labels[indices[part]]):
            raise _TooFewError(
                label,
                f"has no group for {part}: its groups are too large or contain other "
                "classes; add images of other origin, or use --config.data.split=random",
            )
    return Split("grouped", **indices, groups=groups)
