"""Who trains, who validates, who tests."""

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
SPLIT_METHODS = 64
"""Random orders of the groups that are tried; the one that divides them most evenly counts."""


@dataclasses.dataclass(frozen=True)
class Split:
    """Indices into a source, int64, ascending; `name` says how they were made.

    The parts are disjoint, unless a publisher's own are not (`points`: all four train, all four test).
    `groups` is int64[N] over the whole source, the same number for siblings; None where none are known.
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
        """`index,file,label,split,group` for every example in use; `group` is empty where none is known."""
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
    """A class that cannot be divided; known by its number until `make_split` gives its name."""

    def __init__(self, label: int, message: str):
        super().__init__(f"class {label} {message}")
        self.label, self.description = label, message


def sha256(text: str) -> str:
    """The sha256 of a text's UTF-8 bytes, in hex."""
    return hashlib.sha256(text.encode()).hexdigest()


def random_split(labels: np.ndarray, fractions: Sequence[float], seed: int) -> Split:
    """Divides each class at random by `fractions` (train, validation, test), so that classes stay balanced.

    Raises DataError where a class is too small to have an example in every part that is asked for.
    """
    generator = np.random.default_rng(seed)
    parts: dict[str, list[np.ndarray]] = {part: [] for part in PARTS}
    for label in np.unique(labels):
        members = generator.permutation(np.flatnonzero(labels == label))
        bounds = np.rint(np.cumsum(fractions) * len(members)).astype(int)
        pieces = np.split(members, bounds[:-1])
        for part, piece, fraction in zip(PARTS, pieces, fractions, strict=True):
            if fraction > 0 and len(piece) == 0:
                raise _TooFewError(
                    label,
                    f"has {len(members)} examples: too few for a share of {fraction:g} for {part}; "
                    "add images or change --config.data.fractions",
                )
            parts[part].append(piece)
    return Split("random", **{part: np.sort(np.concatenate(parts[part])) for part in PARTS})


def official_split(source: Source, validation_fraction: float, seed: int) -> Split:
    """The publisher's train and test; validation is cut from train at random, by class.

    Raises DataError where the source has no split of its own.
    """
    official = source.official_split
    if official is None or not {"train", "test"} <= official.keys():
        there = f", it has {', '.join(official)} alone" if official else ""
        raise DataError(
            f"{source.name} has no official train and test{there}: use --config.data.split=random"
        )
    train = official["train"]
    fractions = (1 - validation_fraction, validation_fraction, 0.0)
    cut = random_split(source.labels[train], fractions, seed)
    return Split("official", train[cut.train], train[cut.validation], np.sort(official["test"]))


def grouped_split(
    labels: np.ndarray, groups: np.ndarray, fractions: Sequence[float], seed: int
) -> Split:
    """Divides whole groups by about `fractions` (train, validation, test), every class by itself.

    `labels` and `groups` are int[N]; a group may hold several classes. In a random order each group goes
    where most of its classes' share is still free; of several orders the most even division is taken.
    scikit-learn's StratifiedGroupKFold, which `grouped_fold` uses, cuts equal parts alone, and takes large
    groups first, so that its seeds differ little. Raises DataError where a class has fewer groups than
    there are parts.
    """
    parts = [part for part, fraction in zip(PARTS, fractions, strict=True) if fraction > 0]
    wanted = np.array([fraction for fraction in fractions if fraction > 0])
    _require_groups(labels, groups, len(parts), "a part")
    shares = _shares(labels, groups)
    generator = np.random.default_rng(seed)
    orders = np.stack([generator.permutation(len(shares)) for _ in range(SPLIT_METHODS)])
    tries = np.arange(SPLIT_METHODS)
    placed = np.zeros(orders.shape, np.int64)
    filled = np.zeros((SPLIT_METHODS, len(parts), shares.shape[1]))
    for groups_now in orders.T:
        room = 1 - filled / wanted[:, None]
        where = np.einsum("tpk,tk->tp", room, shares[groups_now]).argmax(axis=1)
        filled[tries, where] += shares[groups_now]
        placed[tries, groups_now] = where
    off = np.abs(filled / wanted[:, None] - 1).max(axis=(1, 2))
    part_of = placed[off.argmin()][groups]
    indices = {part: np.flatnonzero(part_of == number) for number, part in enumerate(parts)}
    return _checked(labels, groups, {part: indices.get(part, _NONE) for part in PARTS}, parts)


def grouped_fold(
    labels: np.ndarray, groups: np.ndarray, *, folds: int, fold: int, seed: int
) -> Split:
    """One of `folds` divisions of whole groups: `fold` tests, the next one validates, the others train.

    The folds are scikit-learn's StratifiedGroupKFold's: over all of them every example is tested once.
    Raises DataError where a class has fewer groups than there are folds.
    """
    from sklearn.model_selection import StratifiedGroupKFold  # a second to import

    _require_groups(labels, groups, folds, "a fold")
    cutter = StratifiedGroupKFold(n_splits=folds, shuffle=True, random_state=seed)
    tested = [test for _, test in cutter.split(np.zeros(len(labels)), labels, groups)]
    used = (fold, (fold + 1) % folds)
    train = np.concatenate([part for number, part in enumerate(tested) if number not in used])
    parts = {"train": np.sort(train), "validation": tested[used[1]], "test": tested[used[0]]}
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
    """The split that a recipe asks for: "random", "official" or "grouped", in `folds` where these are not 0.

    `groups` is int64[N], siblings alike; it travels with every split, and "grouped" needs it.
    Raises ConfigError where it is needed and not known, DataError where the data cannot be so divided.
    """
    if kind == "grouped" and groups is None:
        raise ConfigError(
            f"--config.data.split=grouped needs groups, and those of {source.name} are not known: find "
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
        raise DataError(f"class {source.classes[error.label]} {error.description}") from error
    return dataclasses.replace(split, groups=groups)


_NONE = np.zeros(0, np.int64)


def _shares(labels: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """float[G, K]: how much of each class every group holds."""
    counts = np.zeros((groups.max() + 1, labels.max() + 1))
    np.add.at(counts, (groups, labels), 1)
    return counts / np.maximum(counts.sum(axis=0), 1)


def _require_groups(labels: np.ndarray, groups: np.ndarray, needed: int, each: str) -> None:
    for label in np.unique(labels):
        count = len(np.unique(groups[labels == label]))
        if count < needed:
            raise _TooFewError(
                label,
                f"has {count} groups: too few for {needed}, one {each} at least; add images of "
                "other origin, or divide otherwise (--config.data.split, .fractions, .folds)",
            )


def _checked(
    labels: np.ndarray, groups: np.ndarray, indices: dict[str, np.ndarray], parts: Sequence[str]
) -> Split:
    """The split, where every class has examples in each of `parts`."""
    for part in parts:
        for label in np.setdiff1d(labels, labels[indices[part]]):
            raise _TooFewError(
                label,
                f"has no group that can go into {part}: its groups are too large or hold other "
                "classes too; add images of other origin, or use --config.data.split=random",
            )
    return Split("grouped", **indices, groups=groups)
