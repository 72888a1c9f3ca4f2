"""The cost of a leaking split: one config with a random and with a grouped split, and the drop between."""

import dataclasses
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from jaxnets import models, reported
from jaxnets.data.sources import TITLES
from jaxnets.evaluation import result as results
from jaxnets.evaluation import result_text
from jaxnets.evaluation.statistics import Interval
from jaxnets.experiment.run_directory import read_result
from studies.pages.markdown import NOT_RUN
from studies.pages.results_table import Group, groups, shorten_names
from studies.sweeps import row_names

HEADS = (
    *("network", "data", "published, random split", "ours, random: LEAKY", "ours, grouped"),
    *("drop, points [95 %]", "seeds"),
)
SPLITS = ("random", "grouped")
CLEAN = "clean"


@dataclasses.dataclass(frozen=True)
class Pair:
    """Runs of one config under a random split and under one by groups; None: not run."""

    random: Group | None
    grouped: Group | None

    @property
    def some(self) -> Group:
        """One of them, for what they share."""
        found = self.grouped or self.random
        assert found is not None
        return found

    @property
    def title(self) -> str:
        """The network, its size and epochs, and whose groups, if they are not those of the config."""
        run = self.some.first
        message = result_text.format_network(run, models.entry(run["model"]).title)
        grouping = result_text.format_grouping(run)
        groups_text = f", groups{grouping}" if grouping else ""
        return f"{message}, {run['image_size']} px, {run['epochs']:g} epochs{groups_text}"

    @property
    def _entry(self) -> Mapping[str, Any] | None:
        """The entry of the run's own, else one of the same network and data, trained in another way."""
        if self.some.entry is not None:
            return reported.entry(self.some.entry)
        wanted = tuple(self.some.first[field] for field in ("model", "data"))
        entries = (reported.entry(name) for name in reported.names())
        return next((e for e in entries if (e["model"], e["data"]) == wanted), None)

    @property
    def published_percent(self) -> float | None:
        """What the report prints, None where no report does."""
        return ((self._entry or {}).get("result") or {}).get("accuracy_percent")

    @property
    def published(self) -> str:
        """As text, with how the report trained, where that is not how the run was trained."""
        if self._entry is None or self.published_percent is None:
            return ""
        way = "" if self.some.entry is not None else f", {_way(self._entry)}"
        return f"{self.published_percent:g} % (report {self._entry['report']}{way})"


def pairs(folder: Path) -> list[Pair]:
    """The configs with finished runs in `folder` on data that hold copies, or under both splits."""
    found: dict[str, dict[str, list[Group]]] = {}
    for group in groups(folder, all_runs=True):
        if group.first["split"] in SPLITS and group.accuracies(CLEAN):
            of_config = found.setdefault(_but_for_the_split(group), {})
            of_config.setdefault(group.first["split"], []).append(group)
    made = [pair for of_config in found.values() for pair in _paired(of_config)]
    shown = [
        pair
        for pair in made
        if (pair.random and pair.grouped) or pair.some.first["data"] in results.DATASETS_WITH_DUPLICATES
    ]
    return sorted(shown, key=lambda pair: (pair.some.first["model"], pair.title))


def _paired(of_config: Mapping[str, list[Group]]) -> Iterator[Pair]:
    """The one random group with every grouped one; there are several where groupings differ."""
    (random, *_) = of_config.get("random", [None])
    for grouped in of_config.get("grouped", [None]):
        yield Pair(random, grouped)


def rows(folder: Path) -> list[tuple[str, ...]]:
    """A line a pair, by HEADS."""
    return [_format(pair) for pair in pairs(folder)]


def _way(entry: Mapping[str, Any]) -> str:
    return "transfer" if entry["config"].get("pretrained") else "from scratch"


def missing(folder: Path, table: Path) -> str:
    """One line that names the rows of a table that have no result in `folder`; "" where all have."""
    stems: dict[str, list[str]] = {}
    for name in row_names(table):
        if read_result(folder / name) is None:
            stems.setdefault(name.rpartition("-s")[0], []).append(name)
    message = ", ".join(f"`{shorten_names(names)}`" for _, names in sorted(stems.items()))
    return f"Not run yet of `scripts/reproduce.py {table.stem}`: {message}." if stems else ""


def _but_for_the_split(group: Group) -> str:
    """The same key for groups of one config."""
    free = ("data.split=", "data.groups=", "data.group_level=")
    return str([part for part in group.config if part not in SPLITS and not str(part).startswith(free)])


def _format(pair: Pair) -> tuple[str, ...]:
    both = (pair.random, pair.grouped)
    drop = ""
    if pair.random and pair.grouped:
        (leaky, leaky_interval), (clean, clean_interval) = map(measured, (pair.random, pair.grouped))
        low, high = difference_interval(leaky, leaky_interval, clean, clean_interval)
        drop = f"{leaky - clean:.1f} [{low:.1f}, {high:.1f}]"
    seeds = [len(group.runs) for group in both if group]
    return (
        pair.title,
        TITLES[pair.some.first["data"]],
        pair.published,
        *(NOT_RUN if group is None else _accuracy(group) for group in both),
        drop,
        str(seeds[0]) if len(set(seeds)) == 1 else " and ".join(map(str, seeds)),
    )


def difference_interval(
    first: float, first_interval: Interval, second: float, second_interval: Interval
) -> Interval:
    """The interval of `first` minus `second`, two estimates from different examples.

    Newcombe's square-and-add method (1998, method 10), for any two intervals of the same confidence (Zou and
    Donner 2008).
    """
    (low1, high1), (low2, high2) = first_interval, second_interval
    difference = first - second
    below = math.hypot(first - low1, high2 - second)
    above = math.hypot(high1 - first, second - low2)
    return difference - below, difference + above


def measured(group: Group) -> tuple[float, Interval]:
    """Mean accuracy over its seeds and its interval, in per cent."""
    return group.mean(CLEAN), group.interval(CLEAN)


def _accuracy(group: Group) -> str:
    """What was measured; a split by groups that leaks all the same is marked, as the heading marks random."""
    percent, (low, high) = measured(group)
    leaks = group.first["split"] != "random" and results.is_leaky(group.first)
    return f"{percent:.1f} % [{low:.1f}, {high:.1f}]" + (", LEAKY" if leaks else "")
