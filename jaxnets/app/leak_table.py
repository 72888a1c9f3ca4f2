"""What a leaking split is worth: the same recipe divided at random and by groups, and the drop between."""

import statistics
from collections.abc import Mapping
from pathlib import Path

from jaxnets import models, published
from jaxnets.app.results_table import Group, groups
from jaxnets.data.catalog import TITLES
from jaxnets.evaluation.result import told_network
from jaxnets.evaluation.statistics import Interval, difference_interval

HEADS = (
    *("network", "data", "published, random split", "ours, random: LEAKY", "ours, grouped"),
    *("drop, points [95 %]", "seeds"),
)
SPLITS = ("random", "grouped")
CLEAN = "clean"


def rows(folder: Path) -> list[tuple[str, ...]]:
    """A line a recipe of which finished runs under both splits stand in `folder`, by HEADS."""
    pairs: dict[str, dict[str, Group]] = {}
    for group in groups(folder, unpublished=True):
        if group.first["split"] in SPLITS and group.accuracies(CLEAN):
            pairs.setdefault(_but_for_the_split(group), {})[group.first["split"]] = group
    whole = [pair for pair in pairs.values() if len(pair) == len(SPLITS)]
    return [_told(**pair) for pair in sorted(whole, key=lambda pair: pair["random"].first["model"])]


def _but_for_the_split(group: Group) -> str:
    """Alike for groups of one recipe."""
    return str(
        [part for part in group.recipe if part not in SPLITS and "data.split=" not in str(part)]
    )


def _told(random: Group, grouped: Group) -> tuple[str, ...]:
    run = random.first
    title = told_network(run, models.entry(run["model"]).title)
    percent = _published(random)
    leaky, clean = (statistics.fmean(group.accuracies(CLEAN)) for group in (random, grouped))
    leaky_interval, clean_interval = (group.interval(CLEAN) for group in (random, grouped))
    low, high = difference_interval(leaky, leaky_interval, clean, clean_interval)
    seeds = [len(group.runs) for group in (random, grouped)]
    return (
        f"{title}, {run['image_size']} px, {run['epochs']:g} epochs",
        TITLES[run["data"]],
        percent,
        _accuracy(leaky, leaky_interval),
        _accuracy(clean, clean_interval),
        f"{leaky - clean:.1f} [{low:.1f}, {high:.1f}]",
        str(seeds[0]) if len(set(seeds)) == 1 else " and ".join(map(str, seeds)),
    )


def _published(group: Group) -> str:
    if group.entry is None:
        return ""
    result: Mapping[str, float] = published.entry(group.entry).get("result") or {}
    percent = result.get("accuracy_percent")
    return "" if percent is None else f"{percent:g} % (report {group.entry[0]})"


def _accuracy(percent: float, interval: Interval) -> str:
    return f"{percent:.1f} % [{interval[0]:.1f}, {interval[1]:.1f}]"
