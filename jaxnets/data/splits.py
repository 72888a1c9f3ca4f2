"""Train/validation/test splits, and leakage between them: near-duplicates and exact duplicates."""

import dataclasses
import hashlib
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from jaxnets.data.sources.base import Source
from jaxnets.errors import ConfigError, DataError
from jaxnets.io import command, csv_table

PARTS = ("train", "validation", "test")
HELD_OUT = ("validation", "test")
_REMEDIES = {
    "random": "add images or change --config.data.fractions",
    "grouped": "groups are too large or have other classes: add images, or use --config.data.split=random",
}
NUM_TRIALS = 64  # random orders of the groups to try; the most even split wins


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
        rows: list[tuple[object, ...]] = [("index", "file", "label", "split", "group")]
        for index, part in sorted((int(i), part) for part, indices in self.parts().items() for i in indices):
            label = source.classes[source.labels[index]] if source.kind == "image" else ""
            group = "" if self.groups is None else self.groups[index]
            rows.append((index, source.files[index], label, part, group))
        return csv_table(rows)


class _TooFewError(DataError):
    """A class, by its number, that is too small to split, and why; `make_split` has its name."""

    def __str__(self) -> str:
        return f"class {self.args[0]} {self.args[1]}"


def sha256(text: str) -> str:
    """The sha256 of a text in UTF-8, in hex."""
    return hashlib.sha256(text.encode()).hexdigest()


def random_split(labels: np.ndarray, fractions: Sequence[float], seed: int) -> Split:
    """Splits each class at random by `fractions` (train, validation, test), which keeps classes balanced.

    Raises DataError if a class is too small to have an example in every requested split.
    """
    generator = np.random.default_rng(seed)
    part_of = np.zeros(len(labels), np.int64)
    for label in np.unique(labels):
        members = generator.permutation(np.flatnonzero(labels == label))
        bounds = np.rint(np.cumsum(fractions) * len(members)).astype(int)
        part_of[members] = np.searchsorted(bounds[:-1], np.arange(len(members)), side="right")
    return _split("random", labels, part_of, np.flatnonzero(fractions))


def _official_split(
    source: Source, validation_fraction: float, seed: int, groups: np.ndarray | None
) -> Split:
    """The source's own split; without its own validation examples, groups or examples of train are drawn."""
    official = source.official_split
    if official is None or not {"train", "test"} <= official.keys():
        found = f"train and test{', only ' + ', '.join(official) if official else ''}"
        other = f"use --config.data.split={'random' if groups is None else 'grouped'}"
        remedy = f"{source.split_remedy}, or {other}" if source.split_remedy else other
        raise DataError(f"{source.name} has no official {found}: {remedy}")
    train, validation, test = (official.get(part, np.zeros(0, np.int64)) for part in PARTS)
    _check_labels_are_trained(source, train, np.concatenate([validation, test]))
    if len(validation) and validation_fraction:
        raise ConfigError(f"{source.name} has validation examples: remove --config.data.validation_fraction")
    if validation_fraction:
        fractions, labels = (1 - validation_fraction, validation_fraction, 0.0), source.labels[train]
        if groups is None:
            inner = random_split(labels, fractions, seed)
        else:
            numbers = np.unique(groups[train], return_inverse=True)[1]
            inner = grouped_split(labels, numbers, fractions, seed)
        train, validation = train[inner.train], train[inner.validation]
    return Split("official", np.sort(train), np.sort(validation), np.sort(test))


def _check_labels_are_trained(source: Source, train: np.ndarray, held_out: np.ndarray) -> None:
    unknown = held_out[~np.isin(source.labels[held_out], source.labels[train])]
    if source.classes and len(unknown):
        place, label = source.locate_example(unknown[0]), source.classes[source.labels[unknown[0]]]
        more = f" (and {len(unknown) - 1:,} more)" if len(unknown) > 1 else ""
        raise DataError(
            f"{place}{more} has the label {label!r}, which no training example has; correct the labels or "
            "the split"
        )


def grouped_split(labels: np.ndarray, groups: np.ndarray, fractions: Sequence[float], seed: int) -> Split:
    """Splits groups by about `fractions` (train, validation, test), balancing each class.

    `labels` and `groups` are int[N]; a group may contain several classes. In a random order, each group goes
    to the split with the most room left for its classes; the most even result of several orders is used.
    (StratifiedGroupKFold only makes equal splits, and takes large groups first, so its seeds differ little.)
    Raises DataError if a class has fewer groups than splits.
    """
    parts = np.flatnonzero(fractions)
    targets = np.array(fractions)[parts]
    _check_groups(labels, groups, len(parts), "subset")
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
    part_of = parts[assigned[imbalance.argmin()]][groups]
    return _split("grouped", labels, part_of, parts)


def assign_folds(labels: np.ndarray, groups: np.ndarray | None, *, folds: int, seed: int) -> np.ndarray:
    """Assigns every example to one fold of a cross-validation, without dividing groups.

    The folds have about the same number of examples of each class. They depend on nothing but the arguments:
    those of LC25000 are fixed by a test.

    Args:
        labels: int[N], the class of each example.
        groups: int[N], equal for examples that must be in the same fold; None divides examples freely.
        folds: the number of folds.
        seed: the seed of the order in which groups are assigned.

    Returns:
        int64[N], the number of each example's fold, from 0 to `folds` - 1.

    Raises:
        DataError: a class has fewer groups than there are folds.

    References:
        scikit-learn's StratifiedGroupKFold, and StratifiedKFold without groups.
    """
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold  # slow to import

    _check_groups(labels, np.arange(len(labels)) if groups is None else groups, folds, "fold")
    make = StratifiedKFold if groups is None else StratifiedGroupKFold
    splitter = make(n_splits=folds, shuffle=True, random_state=seed)
    numbers = np.zeros(len(labels), np.int64)
    for number, (_, test) in enumerate(splitter.split(np.zeros(len(labels)), labels, groups)):
        numbers[test] = number
    return numbers


def fold_split(labels: np.ndarray, groups: np.ndarray | None, *, folds: int, fold: int, seed: int) -> Split:
    """One split of a cross-validation: `fold` is test, the next one validation, the others are train.

    Over all values of `fold` every example is tested once. Raises the errors of `assign_folds`, and DataError
    if a class is missing in a part.
    """
    numbers = assign_folds(labels, groups, folds=folds, seed=seed)
    part_of = np.zeros(len(labels), np.int64)
    part_of[numbers == fold] = PARTS.index("test")
    part_of[numbers == (fold + 1) % folds] = PARTS.index("validation")
    return _split("random" if groups is None else "grouped", labels, part_of, range(len(PARTS)))


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
    """Makes a split: "random", "official" (a validation fraction is drawn from train) or "grouped".

    "random" and "grouped" are one fold of a cross-validation if `folds` is not 0. `groups` is int64[N], equal
    for near-duplicates; every split records it. Raises ConfigError if required groups are unknown, DataError
    if the data cannot be split.
    """
    if kind == "grouped" and groups is None:
        problem = f"--config.data.split=grouped needs groups, and those of {source.name} are unknown"
        remedy = source.groups_remedy or (
            f"run {command('find_duplicates')} DIR and pass --config.data.groups=FILE"
        )
        raise ConfigError(f"{problem}: {remedy}, or use --config.data.split=random")
    try:
        if kind == "official":
            split = _official_split(source, validation_fraction, seed, groups)
        elif folds:
            undivided = groups if kind == "grouped" else None
            split = fold_split(source.labels, undivided, folds=folds, fold=fold, seed=seed)
        elif groups is None or kind == "random":
            split = random_split(source.labels, fractions, seed)
        else:
            split = grouped_split(source.labels, groups, fractions, seed)
    except _TooFewError as error:
        label, why = error.args
        name = f"class {source.classes[label]}" if source.classes else source.name
        raise DataError(f"{name} {why}") from error
    return dataclasses.replace(split, groups=groups)


def _check_groups(labels: np.ndarray, groups: np.ndarray, needed: int, unit: str) -> None:
    for label in np.unique(labels):
        count = len(np.unique(groups[labels == label]))
        if count < needed:
            why = f"has {count} group{'s' * (count != 1)}, but each of the {needed} {unit}s needs one"
            remedy = "add images of other groups, or change --config.data.split, .fractions or .folds"
            raise _TooFewError(label, f"{why}; {remedy}")


def _split(name: str, labels: np.ndarray, part_of: np.ndarray, parts: Iterable[int]) -> Split:
    """The split that has example i in part number `part_of[i]`, if each of `parts` has every class."""
    for number in parts:
        for label in np.setdiff1d(labels, labels[part_of == number]):
            count = (labels == label).sum()
            why = f"has {count} examples: too few for {PARTS[number]}"
            raise _TooFewError(label, f"{why}; {_REMEDIES[name]}")
    return Split(name, *(np.flatnonzero(part_of == number) for number in range(len(PARTS))))


def leaked_fractions(split: Split, group_ids: np.ndarray | None) -> dict[str, float | None]:
    """For validation and test, the fraction of examples with a near-duplicate in training.

    `group_ids` is int64[N] over the source, equal for near-duplicates. A fraction is None if the group ids
    are unknown or the split is empty.
    """
    fractions: dict[str, float | None] = dict.fromkeys(HELD_OUT)
    for part in HELD_OUT:
        indices = split.parts()[part]
        if group_ids is not None and len(indices):
            fractions[part] = float(np.isin(group_ids[indices], group_ids[split.train]).mean())
    return fractions


class ExactDuplicates(NamedTuple):
    """Numbers of validation and test examples with an exact copy in another split, and one such pair."""

    validation: int
    test: int
    pair: tuple[int, int]


def find_exact_duplicates(split: Split, contents: np.ndarray) -> ExactDuplicates | None:
    """Finds exact copies of validation examples in training, and of test examples in either; None if none.

    `contents` is [N] over the source, equal for equal examples.
    """

    def pairs(held: np.ndarray, seen: np.ndarray) -> list[tuple[int, int]]:
        """Pairs of different indices with equal contents, at most one per held index."""
        first = {contents[index]: index for index in reversed(seen.tolist())}
        found = [(index, first.get(contents[index], index)) for index in held.tolist()]
        return [(index, other) for index, other in found if index != other]

    validation = pairs(split.validation, split.train)
    test = pairs(split.test, np.concatenate([split.train, split.validation]))
    found = [*test, *validation]
    return ExactDuplicates(len(validation), len(test), found[0]) if found else None


class LabelConflicts(NamedTuple):
    """Number of examples that equal one with another label, and the first such pair."""

    count: int
    pair: tuple[int, int]


def find_label_conflicts(labels: np.ndarray, contents: np.ndarray) -> LabelConflicts | None:
    """Finds equal examples with different labels in any split; None if there are none.

    `labels` and `contents` are [N]; contents are equal for equal examples.
    """
    _, inverse = np.unique(contents, return_inverse=True)
    labels_of_contents = np.unique(np.stack([inverse, labels]), axis=1)
    conflicting = (np.bincount(labels_of_contents[0]) > 1)[inverse]
    if not conflicting.any():
        return None
    first = int(conflicting.argmax())
    other = int(np.flatnonzero((inverse == inverse[first]) & (labels != labels[first]))[0])
    return LabelConflicts(int(conflicting.sum()), (first, other))
