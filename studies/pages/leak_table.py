"""The accuracy drop of each config from a random (leaking) split to a grouped split."""

import dataclasses
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from jaxnets import models, reported
from jaxnets.data.sources import TITLES
from jaxnets.evaluation import result as results
from jaxnets.evaluation.statistics import Interval
from jaxnets.experiment.run_directory import read_result
from studies.pages.markdown import NOT_RUN
from studies.pages.results_table import Group, format_precision, groups, shorten_names
from studies.sweeps import row_names

HEADS = (
    *("network", "reported, random split", "random split: LEAKY", "grouped split"),
    *("drop, points [95 %]", "seeds"),
)
SHORT_HEADS = ("network, image size", "reported", "random split, leaks", "grouped split")
"""Columns of README's table."""
SPLITS = ("random", "grouped")
CLEAN = "clean"
FRACTIONS = "data.fractions="


@dataclasses.dataclass(frozen=True)
class Pair:
    """Runs of one config with a random and with a grouped split; None if not run."""

    random: Group | None
    grouped: Group | None

    @property
    def either(self) -> Group:
        """A group of the pair, for fields that both share."""
        group = self.grouped or self.random
        assert group is not None
        return group

    @property
    def has_folds(self) -> bool:
        """Whether the grouped runs are a cross-validation, or the random one has as many training images."""
        if self.grouped is not None:
            return "cross_validation" in self.grouped.first
        return any(str(part).startswith(FRACTIONS) for part in self.either.config)

    @property
    def title(self) -> str:
        """Network, image size, epochs, and the grouping if it is not the default."""
        run = self.either.first
        grouping = results.format_grouping(run)
        groups_text = f", groups{grouping}" if grouping else ""
        return f"{self.short_title}, {run['epochs']:g} epochs{format_precision(run)}{groups_text}"

    @property
    def short_title(self) -> str:
        """Network, data set unless it has duplicates, and image size."""
        run = self.either.first
        network = results.format_network(run, models.entry(run["model"]).title)
        data = "" if run["data"] in results.DATASETS_WITH_DUPLICATES else f", {TITLES[run['data']]}"
        return f"{network}{data}, {run['image_size']} px"

    @property
    def _entry(self) -> Mapping[str, Any] | None:
        """The entry of the runs, or else one of the same network and data."""
        if self.either.entry is not None:
            return reported.entry(self.either.entry)
        wanted = tuple(self.either.first[field] for field in ("model", "data"))
        entries = (reported.entry(name) for name in reported.names())
        return next((e for e in entries if (e["model"], e["data"]) == wanted), None)

    @property
    def reported_percent(self) -> float | None:
        """The reported accuracy; None if there is none."""
        return ((self._entry or {}).get("result") or {}).get("accuracy_percent")

    @property
    def reported(self) -> str:
        """The reported accuracy as text, with the report's kind of training if it differs from the runs'."""
        if self._entry is None or self.reported_percent is None:
            return ""
        training = "" if self.either.entry is not None else f", {_kind_of_training(self._entry)}"
        return f"{self.reported_percent:g} % (report {self._entry['report']}{training})"


def pairs(folder: Path) -> list[Pair]:
    """Returns the configs with finished runs on data with duplicates, or with both splits."""
    by_config: dict[str, dict[str, list[Group]]] = {}
    for group in groups(folder, all_runs=True):
        if group.first["split"] in SPLITS and group.accuracies(CLEAN):
            by_split = by_config.setdefault(_key_without_split(group), {})
            by_split.setdefault(group.first["split"], []).append(group)
    made = [pair for by_split in by_config.values() for pair in _make_pairs(by_split)]
    shown = [
        pair
        for pair in made
        if (pair.random and pair.grouped) or pair.either.first["data"] in results.DATASETS_WITH_DUPLICATES
    ]
    return sorted(shown, key=lambda pair: (pair.either.first["model"], pair.title))


def _make_pairs(by_split: Mapping[str, list[Group]]) -> Iterator[Pair]:
    """Yields the random group with each grouped one; there are several if groupings differ."""
    (random, *_) = by_split.get("random", [None])
    for grouped in by_split.get("grouped", [None]):
        yield Pair(random, grouped)


def single_splits(folder: Path) -> list[Pair]:
    """Returns the pairs without cross-validation."""
    return [pair for pair in pairs(folder) if not pair.has_folds]


def rows(folder: Path) -> list[tuple[str, ...]]:
    """Returns the cells of each of `single_splits`."""
    return [format_pair(pair) for pair in single_splits(folder)]


def short_rows(folder: Path) -> list[tuple[str, ...]]:
    """Returns the cells of `short_pairs`, by `SHORT_HEADS`."""
    return [(pair.short_title, *format_pair(pair)[1 : len(SHORT_HEADS)]) for pair in short_pairs(folder)]


def short_pairs(folder: Path) -> list[Pair]:
    """Returns a pair per network that was trained from scratch.

    It is the cross-validated one, or else the float32 one with the fewest epochs.
    """
    best: dict[str, Pair] = {}
    for pair in sorted(pairs(folder), key=lambda pair: (not pair.has_folds, pair.either.first["epochs"])):
        run = pair.either.first
        if pair.random is None or pair.grouped is None or run.get("weights"):
            continue
        if (pair.has_folds or not format_precision(run)) and not results.is_leaky(pair.grouped.first):
            best.setdefault(run["model"], pair)
    return sorted(best.values(), key=lambda pair: (pair.either.first["model"], pair.title))


def _kind_of_training(entry: Mapping[str, Any]) -> str:
    return "transfer" if entry["config"].get("pretrained") else "from scratch"


def missing(folder: Path, table: Path) -> str:
    """Returns a line that lists the rows of a table without a result; "" if there are none."""
    stems: dict[str, list[str]] = {}
    for name in row_names(table):
        if read_result(folder / name) is None:
            stems.setdefault(name.rpartition("-s")[0], []).append(name)
    names_text = ", ".join(f"`{shorten_names(names)}`" for _, names in sorted(stems.items()))
    return f"`scripts/reproduce.py {table.stem}` trains {names_text}." if stems else ""


def _key_without_split(group: Group) -> str:
    """Returns a key that is the same for all splits of one config with as many training images."""
    ignored = ("data.split=", "data.groups=", "data.group_level=", "data.folds=", FRACTIONS)
    fractions = [part for part in group.config if str(part).startswith(FRACTIONS)]
    if pooled := group.first.get("cross_validation"):
        one = 1 / pooled["folds"]
        fractions = [f"{FRACTIONS}{((pooled['folds'] - 2) / pooled['folds'], one, one)!r}"]
    parts = [part for part in group.config if part not in SPLITS and not str(part).startswith(ignored)]
    return str([*parts, *fractions])


def format_pair(pair: Pair) -> tuple[str, ...]:
    both = (pair.random, pair.grouped)
    drop = ""
    if pair.random and pair.grouped:
        (leaky, leaky_interval), (clean, clean_interval) = map(mean_and_interval, (pair.random, pair.grouped))
        low, high = difference_interval(leaky, leaky_interval, clean, clean_interval)
        drop = f"{leaky - clean:.1f} [{low:.1f}, {high:.1f}]"
    seeds = [len(group.runs) for group in both if group]
    return (
        pair.title,
        pair.reported,
        *(NOT_RUN if group is None else _accuracy(group) for group in both),
        drop,
        str(seeds[0]) if len(set(seeds)) == 1 else " and ".join(map(str, seeds)),
    )


def difference_interval(
    first: float, first_interval: Interval, second: float, second_interval: Interval
) -> Interval:
    """Returns the interval of `first` - `second`, two estimates from different examples.

    Newcombe's square-and-add method (1998, method 10), for any two intervals of the same confidence (Zou and
    Donner 2008).
    """
    (low1, high1), (low2, high2) = first_interval, second_interval
    difference = first - second
    below = math.hypot(first - low1, high2 - second)
    above = math.hypot(high1 - first, second - low2)
    return difference - below, difference + above


def mean_and_interval(group: Group) -> tuple[float, Interval]:
    """Returns the mean accuracy over seeds and its interval in percent."""
    return group.mean(CLEAN), group.interval(CLEAN)


def _accuracy(group: Group) -> str:
    """Formats the accuracy, and marks grouped splits that leak."""
    percent, (low, high) = mean_and_interval(group)
    leaks = group.first["split"] != "random" and results.is_leaky(group.first)
    pooled = group.first.get("cross_validation")
    folds = f", {pooled['folds']} folds" if pooled else ""
    return f"{percent:.1f} % [{low:.1f}, {high:.1f}]{folds}{', LEAKY' if leaks else ''}"
