"""A recipe's data, opened: which source, how divided, decoded or not."""

import dataclasses
import functools
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ml_collections import config_dict

from jaxnets import config as config_lib
from jaxnets import models, reported
from jaxnets.data.acquire import prepare
from jaxnets.data.cache import (
    CachedSource,
    FeatureSource,
    ResizedSource,
    gather,
    open_cache,
    writable_cache_root,
)
from jaxnets.data.groups import read_groups, shipped_groups
from jaxnets.data.sampler import EpochSampler, IndexBatches, padded_eval_batches
from jaxnets.data.sources import registry
from jaxnets.data.sources.base import FEATURES, Source
from jaxnets.data.sources.image_folder import ImageFolder
from jaxnets.data.sources.synthetic_tissue import SyntheticTissue
from jaxnets.data.splits import Split, make_split
from jaxnets.errors import ConfigError, DataError
from jaxnets.evaluation import result as results
from jaxnets.io import user_cache_folder
from jaxnets.runtime.console import Reporter
from jaxnets.runtime.hardware import cpu_threads
from jaxnets.training.devices import Devices

if TYPE_CHECKING:
    from jaxnets.data.pipeline import TrainBatches

AUTO, AUTO_SOURCE, DEMO = "auto", "lc25000_lung", "demo"


@dataclasses.dataclass(frozen=True)
class Data:
    """A source, at the recipe's size where it is cached, its split, and what a frozen body gives for it."""

    source: Source
    split: Split
    config: config_dict.ConfigDict
    group_ids: np.ndarray | None = None
    """int64[N] over the source, the same for siblings, overlapping photographs included; None: not known."""
    features: FeatureSource | None = None
    features_seconds: float | None = None

    @property
    def threads(self) -> int:
        """Reader threads."""
        return self.config.data.threads or cpu_threads()

    @property
    def path(self) -> str:
        """How a batch is read, which speed and bits depend on: "features", "cache", "decode" or "memory"."""
        if self.features is not None:
            return "features"
        if self.source.kind == "vector":
            return "memory"
        return "cache" if isinstance(self.source, CachedSource) else "decode"

    @functools.cached_property
    def shape(self) -> tuple[int, ...]:
        """The shape of one example's input, [H, W, C] or [D]."""
        example = self.source[0]
        return example["image" if "image" in example else "input"].shape

    @property
    def nbytes(self) -> int:
        """The size of all examples' inputs as steps read them."""
        read = self.features or self.source
        if isinstance(read, CachedSource):
            return read.images.nbytes
        example = read[0]
        return len(read) * example["image" if "image" in example else "input"].nbytes

    @functools.cached_property
    def split_csv(self) -> str:
        """What split.csv holds."""
        return self.split.to_csv(self.source)

    def format_split(self, leak: Mapping[str, float | None]) -> str:
        """How the examples were divided, in words, with the shares of held-out images that leak."""
        message = {"data": self.config.data.name, "split": self.split.name, "leakage": leak}
        return results.format_split(message | self.grouping)

    @property
    def grouping(self) -> dict[str, Any]:
        """The table and the level that a grouped split goes by, as in result.json."""
        given = self.config.data
        return {"groups": given.groups, "group_level": given.group_level}

    def examples(self) -> dict[str, np.ndarray]:
        """Every example by its place: inputs, or what a frozen body gives for them, and labels."""
        read = self.features or self.source
        if isinstance(read, CachedSource):
            name = FEATURES if isinstance(read, FeatureSource) else "image"
            return {name: read.images, "label": np.asarray(read.labels, np.int32)}
        whole = gather(read, np.arange(len(read)))
        return {name: values for name, values in whole.items() if name != "index"}

    def order(self, devices: Devices) -> EpochSampler:
        """Which training examples each step of this process takes."""
        return EpochSampler(
            self.split.train,
            batch_size=self.config.train.batch_size,
            seed=self.config.seed,
            drop_last=self.config.train.drop_last,
            shard=(devices.process_index, devices.process_count),
        )

    def train_batches(self, devices: Devices) -> "TrainBatches":
        """The endless training batches of this process, read by threads."""
        from jaxnets.data.pipeline import TrainBatches  # without it there is no need of grain

        source = self.features or self.source
        return TrainBatches(source, self.order(devices), threads=self.threads)

    def index_batches(self, devices: Devices, *, steps_per_execution: int) -> IndexBatches:
        """The same batches without their examples, for those that are on the device."""
        return IndexBatches(self.order(devices), steps_per_execution=steps_per_execution)

    def eval_batches(
        self,
        indices: np.ndarray,
        devices: Devices,
        more: Mapping[str, Any] | None = None,
        *,
        on_device: bool = False,
    ) -> Iterator[dict[str, Any]]:
        """Every one of `indices` once, padded, this process's part, on its devices.

        `more` is set beside every example, by name, the same for all. Without their examples where those are
        `on_device` already.
        """
        size = self.eval_batch_size(devices)
        shard = (devices.process_index, devices.process_count)
        if on_device:
            batches = padded_eval_batches(indices, batch_size=size, shard=shard)
        else:
            from jaxnets.data.pipeline import eval_batches

            source = self.features or self.source
            batches = eval_batches(
                source, indices, batch_size=size, threads=self.threads, shard=shard
            )

        def with_more(batch: dict[str, Any]) -> dict[str, Any]:
            rows = len(batch["weight"])
            fixed = {name: np.repeat(value, rows) for name, value in (more or {}).items()}
            return devices.shard_batch({**batch, **fixed})

        return map(with_more, batches)

    def eval_batch_size(self, devices: Devices) -> int:
        """The recipe's, rounded up to what the devices divide: padding is never counted."""
        wanted = self.config.eval.batch_size or self.config.train.batch_size
        return -(-wanted // devices.count) * devices.count


def resolve(spec: str, overrides: dict[str, Any], reporter: Reporter) -> config_dict.ConfigDict:
    """The recipe of a config file with data.name "auto" settled: LC25000 where it is prepared, else :demo.

    A name that was given never falls back.
    """
    config = load_config(spec, overrides)
    if config.data.name == AUTO and prepare.is_prepared(AUTO_SOURCE, config_lib.data_root(config)):
        config.data.name = AUTO_SOURCE
        _leave_out_unused(config, overrides)
    if config.data.name != AUTO:
        return config
    path = spec.partition(":")[0]
    root = config_lib.data_root(config)
    if (config.data.root or os.environ.get("JAXNETS_DATA")) and not root.is_dir():
        given = "--config.data.root" if config.data.root else "JAXNETS_DATA"
        raise DataError(f"{given}={root} is not a directory: correct it, or leave it out")
    wrong = prepare.describe_problem(AUTO_SOURCE, root)
    reason = f"LC25000 is not at {root}/" if wrong is None else f"LC25000 is not whole ({wrong})"
    try:
        demo = load_config(f"{path}:{DEMO}", overrides)
    except ConfigError as error:
        raise ConfigError(f"{reason}, so this is {path}:{DEMO}: {error}") from error
    reporter.line(
        "demo",
        f"{reason}, so this is {demo.name}, on drawn tissue, an easy task; "
        "the real images: python scripts/prepare_data.py lc25000_lung --from=PATH",
    )
    return demo


def load_config(spec: str, overrides: Mapping[str, Any]) -> config_dict.ConfigDict:
    """The recipe of a config file without what only other networks and data have.

    Raises ConfigError where the user asks for that, and what `jaxnets.config.load` raises.
    """
    config = config_lib.load_config(spec, overrides)
    _leave_out_unused(config, overrides)
    return config


def _leave_out_unused(config: config_dict.ConfigDict, overrides: Mapping[str, Any]) -> None:
    """Leaves out the fields that the run does not use, and values that its network does not have.

    The published entry is left out where network or data are not the entry's. A body that ends early or was
    trained on something else has it all the same: the verdict names both.
    """
    user_set = config_lib.user_set(overrides)
    config_lib.reset_unused(config, user_set)
    problems = models.values_for_other_networks(config.model)
    if config.data.name != AUTO and (differs := _differs_from_entry(config)):
        problems["entry"] = (
            f"--config.entry={config.entry} is not comparable with this run, as {differs}: leave it out"
        )
    for path, problem in problems.items():
        if path in user_set:
            raise ConfigError(problem)
        config_lib.set_field(config, path, config_lib.FIELDS[path].default)


def _differs_from_entry(config: config_dict.ConfigDict) -> str:
    """What of the network or the data is not the published entry's, in words; "" where all is alike."""
    if config.entry is None:
        return ""
    entry = reported.entry(config.entry)
    theirs = {"model.name": entry["model"], "data.name": reported.data_of(config.entry)}
    if entry["variant"] is not None:
        theirs["model.variant"] = entry["variant"]
    for name in (*models.OVERRIDABLE_FIELDS, "stage_sizes", "width", "layer_sizes", "activations"):
        theirs[f"model.{name}"] = entry.get(name, config_lib.FIELDS[f"model.{name}"].default)
    ours = {path: config_lib.get_field(config, path) for path in theirs}
    different = next((path for path in theirs if ours[path] != theirs[path]), None)
    if different is None:
        return ""
    return f"--config.{different}={ours[different]} and the entry's is {theirs[different]}"


def open_data(config: config_dict.ConfigDict, reporter: Reporter) -> Data:
    """What a recipe trains on, decoded; completes `config.model.num_classes`.

    Raises what `open_source` and `with_cache` raise.
    """
    return with_cache(open_source(config, reporter), reporter)


def open_source(config: config_dict.ConfigDict, reporter: Reporter) -> Data:
    """Opens the source and divides it; completes `config.model.num_classes`.

    Raises ConfigError where source, size and network do not fit, DataError where data cannot be used.
    """
    root = config_lib.data_root(config)
    with reporter.phase("data") as phase:
        source = registry.open_source(config.data, root)
        split, group_ids = divide(config, source)
        classes = f"{len(source.classes)} classes, " if source.kind == "image" else ""
        title = registry.TITLES[config.data.name]
        sizes = " / ".join(f"{len(part):,}" for part in split.parts().values())
        phase.text = f"{title}, {len(source):,} examples, {classes}{split.name} split {sizes}"
        if isinstance(source, ImageFolder) and source.skipped_files:
            phase.text += f", {source.describe_skipped()}"
    _fit(config, source)
    if source.kind == "image":
        _check_channels(config, source[0]["image"].shape[-1])
    return Data(source, split, config, group_ids)


def with_cache(data: Data, reporter: Reporter) -> Data:
    """The same at the recipe's size: decoded once, or at every reading where the recipe has no cache.

    Raises DataError for images that cannot be read.
    """
    config, source = data.config, data.source
    if source.kind != "image":
        return data
    if config.data.cache:
        sized: Source = _cached(config, source, data.threads, reporter)
    else:
        sized = ResizedSource(source, config.data.image_size, config.data.resize)
    return dataclasses.replace(data, source=sized)


def divide(config: config_dict.ConfigDict, source: Source) -> tuple[Split, np.ndarray | None]:
    """The recipe's split, and who are siblings: int64[N], or None where that is not known.

    Whatever table divides LC25000, its siblings are those of the table that is shipped: another one may
    have left overlapping photographs apart. Raises what `read_groups` and `make_split` raise.
    """
    shipped = shipped_groups(source.name)
    given = read_groups(Path(config.data.groups)) if config.data.groups else shipped
    groups = group_ids = None
    if given is not None:
        originals, overlapping = given.match(source.files)
        groups = originals if config.data.group_level == "original" else overlapping
        group_ids = overlapping if shipped is None else shipped.match(source.files)[1]
    elif isinstance(source, SyntheticTissue):
        groups = group_ids = np.arange(len(source))  # every picture is drawn by itself
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


def require_examples(split: Split) -> None:
    """Raises ConfigError where there is nothing to train on or nothing to test."""
    for part in ("train", "test"):
        if len(split.parts()[part]) == 0:
            raise ConfigError(
                f"the split leaves no {part} examples: change --config.data.fractions or data.split"
            )


def _fit(config: config_dict.ConfigDict, source: Source) -> None:
    models.check_kind(config.model.name, source.kind)
    if source.kind == "vector":
        _require_no_classes(config, source)
    classes = len(source.classes)
    if config.model.num_classes not in (0, classes):
        raise ConfigError(
            f"--config.model.num_classes={config.model.num_classes}, but {source.name} has "
            f"{classes} classes; 0 follows the data"
        )
    config.model.num_classes = classes
    if len(config.train.class_weights) not in (0, classes):
        raise ConfigError(
            f"--config.train.class_weights has {len(config.train.class_weights)} values, "
            f"but {source.name} has {classes} classes"
        )
    models.create(config.model)  # which refuses what the network does not have
    if source.kind == "image":
        models.check_image_size(config.model.name, config.data.image_size)
    else:
        models.check_lengths(config.model, len(source[0]["input"]), len(source[0]["label"]))


def _require_no_classes(config: config_dict.ConfigDict, source: Source) -> None:
    """Refuses what only images and classes have; image_size, mean and std are not looked at."""
    if config.train.loss not in config_lib.SQUARED_ERRORS:
        raise ConfigError(
            f"--config.train.loss={config.train.loss} needs classes, and {source.name} has values: "
            f"set it to one of {', '.join(config_lib.SQUARED_ERRORS)}"
        )
    if config.monitor.metric != "validation_loss":
        raise ConfigError(
            f"--config.monitor.metric={config.monitor.metric} needs classes, and {source.name} has "
            "values: set it to validation_loss"
        )


def _check_channels(config: config_dict.ConfigDict, channels: int) -> None:
    for name in ("mean", "std"):
        if len(config.data[name]) not in (1, channels):
            raise ConfigError(
                f"--config.data.{name} has {len(config.data[name])} values, "
                f"but the images have {channels} channels"
            )
    for name in ("hue", "stain"):
        if config.augment[name] and channels != 3:
            raise ConfigError(
                f"--config.augment.{name} needs colour, but the images have {channels} channel"
            )


def cache_root(config: config_dict.ConfigDict) -> Path:
    """The folder of decoded images and features; raises MachineError where none can be written."""
    root = config_lib.data_root(config) / "cache"
    return writable_cache_root(Path(config.data.cache_root or root), user_cache_folder())


def _cached(
    config: config_dict.ConfigDict, source: Source, threads: int, reporter: Reporter
) -> CachedSource:
    folder = cache_root(config)
    with reporter.phase("cache") as phase, reporter.counter("cache") as progress:
        cached = open_cache(
            source,
            folder,
            config.data.image_size,
            resize=config.data.resize,
            threads=threads,
            progress=progress,
        )
        phase.text = f"{cached.images.nbytes / 1e6:,.0f} MB of decoded images in {folder}"
    return cached
