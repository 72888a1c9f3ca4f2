"""Opens the data of a config: source, split and caches."""

import dataclasses
from pathlib import Path

import numpy as np
from ml_collections import config_dict

from jaxnets import config as config_lib
from jaxnets import models
from jaxnets.data import sources
from jaxnets.data.cache import ResizedSource, open_cache, writable_cache_root
from jaxnets.data.dataset import Batching, Dataset
from jaxnets.data.sources.base import Source
from jaxnets.data.splits import Split, make_split
from jaxnets.errors import ConfigError
from jaxnets.io import user_cache_folder
from jaxnets.runtime import console, xla


def open_dataset(config: config_dict.ConfigDict) -> Dataset:
    """Opens and splits the source of a config.

    Raises ConfigError if the source cannot be split so, DataError if it is missing or cannot be used.
    """
    with console.phase("data") as phase:
        source = sources.open_source(config.data, config_lib.data_root(config))
        split, group_ids = split_source(config, source)
        kind = f"images of {len(source.classes)} classes" if source.kind == "image" else "examples"
        title = sources.TITLES[config.data.name]
        sizes = "/".join(f"{len(part):,}" for part in split.parts().values())
        phase.text = f"{title}, {len(source):,} {kind}, {split.name} split {sizes}"
        if skipped := source.describe_skipped():
            phase.text += f", {skipped}"
        if source.name == "table" and source.official_split and split.name != "official":
            phase.text += "; its column split is not used (--config.data.split=official uses it)"
    batching = Batching(
        batch_size=config.train.batch_size,
        eval_batch_size=config.eval.batch_size or config.train.batch_size,
        seed=config.seed,
        drop_last=config.train.drop_last,
        threads=config.data.threads or xla.cpu_threads(),
        balanced=config.train.balanced_sampling,
    )
    return Dataset(source, split, batching, group_ids)


def with_cache(config: config_dict.ConfigDict, data: Dataset) -> Dataset:
    """The data with images at the config's size: decoded once into a cache, or each time they are read.

    A note names the first image if it is smaller than the network's smallest input.
    Raises DataError for images that cannot be read.
    """
    source, size, resize = data.source, config.data.image_size, config.data.resize
    if source.kind != "image":
        return data
    network, side = models.entry(config.model.name), min(source[0]["image"].shape[:2])
    if side < network.smallest:
        limit = f"{network.title} takes {network.smallest} or more"
        console.log("note", f"{source.locate_example(0)} has {side} px, {limit}: enlarged to {size} px")
    if not config.data.cache:
        return dataclasses.replace(data, source=ResizedSource(source, size, resize))
    folder, threads = cache_root(config), data.batching.threads
    with console.phase("cache") as phase, console.counter("cache") as progress:
        cached = open_cache(source, folder, size, resize=resize, threads=threads, progress=progress)
        phase.text = f"{cached.images.nbytes / 1e6:,.1f} MB of decoded images in {folder}"
    return dataclasses.replace(data, source=cached)


def split_source(config: config_dict.ConfigDict, source: Source) -> tuple[Split, np.ndarray | None]:
    """The config's split, and the group ids: int64[N], or None if unknown.

    Group ids of LC25000 and CIFAR-10 always come from the shipped tables, whichever table defines the split:
    another one may separate overlapping photographs. Raises the errors of `read_groups`, of
    `jaxnets.experiment.duplicates.find_groups` and of `make_split`.
    """
    groups = group_ids = source.groups
    given = "groups" if config.data.groups else "find_groups"
    if groups is not None and config.data[given]:
        raise ConfigError(f"the groups of {source.name} are known: remove --config.data.{given}")
    if config.data.groups or config.data.find_groups or source.ships_groups:
        from jaxnets.data.groups import read_groups, shipped_groups  # most data have none

        shipped = shipped_groups(source.name, source.files) if source.ships_groups else None
        if config.data.find_groups:
            from jaxnets.experiment.duplicates import find_groups

            table = find_groups(source, cache_root(config) / "near_duplicates")
        else:
            table = read_groups(Path(config.data.groups)) if config.data.groups else shipped
        assert table is not None
        originals, overlapping = table.match(source.files)
        groups = originals if config.data.group_level == "original" else overlapping
        group_ids = overlapping if shipped is None else shipped.match(source.files)[1]
    split = make_split(
        source,
        config.data.split,
        fractions=config.data.fractions,
        validation_fraction=config.data.validation_fraction,
        seed=config.data.split_seed,
        groups=groups,
        folds=config.data.folds,
        fold=config.data.fold,
    )
    return split, group_ids


def cache_root(config: config_dict.ConfigDict) -> Path:
    """The folder of cached images and features; raises MachineError if it cannot be written."""
    root = config_lib.data_root(config) / "cache"
    return writable_cache_root(Path(config.data.cache_root or root), user_cache_folder())
