"""Who trains, who validates, who tests."""

import csv
import dataclasses
import hashlib
import io
from collections.abc import Sequence

import numpy as np

from jaxnets.data.source import Source
from jaxnets.errors import DataError

PARTS = ("train", "validation", "test")


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
            writer.writerow((index, source.files[index], label, part, group))
        return text.getvalue()


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
                raise DataError(
                    f"class {label} has {len(members)} examples: too few for a share of "
                    f"{fraction:g} for {part}; add images or change --config.data.fractions"
                )
            parts[part].append(piece)
    return Split("random", **{part: np.sort(np.concatenate(parts[part])) for part in PARTS})


def official_split(source: Source, validation_fraction: float, seed: int) -> Split:
    """The publisher's train and test; validation is cut from train at random, by class.

    Raises DataError where the source has no split of its own.
    """
    official = source.official_split
    if official is None:
        raise DataError(f"{source.name} has no official split: use --config.data.split=random")
    train = official["train"]
    fractions = (1 - validation_fraction, validation_fraction, 0.0)
    cut = random_split(source.labels[train], fractions, seed)
    return Split("official", train[cut.train], train[cut.validation], np.sort(official["test"]))


def make_split(
    source: Source,
    kind: str,
    *,
    fractions: Sequence[float],
    validation_fraction: float,
    seed: int,
) -> Split:
    """The split that a recipe asks for: "random" or "official"."""
    if kind == "official":
        return official_split(source, validation_fraction, seed)
    return random_split(source.labels, fractions, seed)
