"""Opens the data of a config: source, split and caches."""

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


def _input_of(example: Mapping[str, np.ndarray]) -> np.ndarray:
    return example["image" if "image" in example else "input"]


@dataclasses.dataclass(frozen=True)
class Data:
    """A source, its split and, if the backbone is frozen, its cached features.

    If images are cached, `source` has them at the config's size.
    """

    source: Source
    split: Split
    config: config_dict.ConfigDict
    group_ids: np.ndarray | None = None
    """int64[N] over the source, equal for near-duplicates and overlapping photographs; None if unknown."""
    features: FeatureSource | None = None
    features_seconds: float | None = None

    @property
    def threads(self) -> int:
        """The number of reader threads."""
        return self.config.data.threads or cpu_threads()

    @property
    def read_from(self) -> str:
        """Where batches come from ("features", "cache", "decode" or "memory"): part of the fingerprint."""
        if self.features is not None:
            return "features"
        if self.source.kind == "vector":
            return "memory"
        return "cache" if isinstance(self.source, CachedSource) else "decode"

    @functools.cached_property
    def shape(self) -> tuple[int, ...]:
        """The shape of one example's input, [H, W, C] or [D]."""
        return _input_of(self.source[0]).shape

    @property
    def nbytes(self) -> int:
        """The size of all inputs (or features) in bytes."""
        source = self.features or self.source
        if isinstance(source, CachedSource):
            return source.images.nbytes
        return len(source) * _input_of(source[0]).nbytes

    @functools.cached_property
    def split_csv(self) -> str:
        """The content of split.csv."""
        return self.split.to_csv(self.source)

    def format_split(self, leakage: Mapping[str, float | None]) -> str:
        """The split's name, with the fraction of held-out images that leak."""
        config = self.config.data
        return results.format_split(
            {
                "data": config.name,
                "split": self.split.name,
                "leakage": leakage,
                "groups": config.groups,
                "group_level": config.group_level,
            }
        )

    def examples(self) -> dict[str, np.ndarray]:
        """All examples in the source's order: inputs (or features) and labels."""
        source = self.features or self.source
        if isinstance(source, CachedSource):
            name = FEATURES if isinstance(source, FeatureSource) else "image"
            return {name: source.images, "label": np.asarray(source.labels, np.int32)}
        gathered = gather(source, np.arange(len(source)))
        return {name: values for name, values in gathered.items() if name != "index"}

    def sampler(self, devices: Devices) -> EpochSampler:
        """The order of this process's training examples."""
        return EpochSampler(
            self.split.train,
            batch_size=self.config.train.batch_size,
            seed=self.config.seed,
            drop_last=self.config.train.drop_last,
            shard=(devices.process_index, devices.process_count),
        )

    def train_batches(self, devices: Devices) -> "TrainBatches":
        """The endless training batches of this process, read by threads."""
        from jaxnets.data.pipeline import TrainBatches  # imports grain, which not every run needs

        source = self.features or self.source
        return TrainBatches(source, self.sampler(devices), threads=self.threads)

    def index_batches(self, devices: Devices, *, steps_per_execution: int) -> IndexBatches:
        """Training batches of indices only, for examples that are stored on the device."""
        return IndexBatches(self.sampler(devices), steps_per_execution=steps_per_execution)

    def eval_batches(
        self,
        indices: np.ndarray,
        devices: Devices,
        extra: Mapping[str, Any] | None = None,
        *,
        on_device: bool = False,
    ) -> Iterator[dict[str, Any]]:
        """Padded batches of this process's part of `indices`, each index once, placed on its devices.

        Args:
            indices: int64[N], positions in the source.
            devices: where batches are placed.
            extra: values that are repeated for each example, by name.
            on_device: leave out the examples themselves, which are stored on the device.
        """
        # Rounded up to a multiple of the number of devices; padding is not counted.
        wanted = self.config.eval.batch_size or self.config.train.batch_size
        size = -(-wanted // devices.count) * devices.count
        shard = (devices.process_index, devices.process_count)
        if on_device:
            batches = padded_eval_batches(indices, batch_size=size, shard=shard)
        else:
            from jaxnets.data.pipeline import eval_batches

            source = self.features or self.source
            batches = eval_batches(source, indices, batch_size=size, threads=self.threads, shard=shard)
        for batch in batches:
            rows = len(batch["weight"])
            repeated = {name: np.repeat(value, rows) for name, value in (extra or {}).items()}
            yield devices.shard_batch({**batch, **repeated})


def resolve(spec: str, overrides: dict[str, Any], reporter: Reporter) -> config_dict.ConfigDict:
    """The config of a file, with data.name "auto" replaced: LC25000 if it is prepared, else variant :demo.

    There is no fallback for data that are named explicitly.
    """
    config = load_config(spec, overrides)
    if config.data.name != AUTO:
        return config
    root = config_lib.data_root(config)
    if prepare.is_prepared(AUTO_SOURCE, root):
        config.data.name = AUTO_SOURCE
        _reset_unused(config, overrides)
        return config
    path = spec.partition(":")[0]
    if (config.data.root or os.environ.get("JAXNETS_DATA")) and not root.is_dir():
        flag = "--config.data.root" if config.data.root else "JAXNETS_DATA"
        raise DataError(f"{flag}={root} is not a directory: correct it, or leave it out")
    problem = prepare.describe_problem(AUTO_SOURCE, root)
    reason = f"LC25000 not found at {root}/" if problem is None else f"LC25000 is incomplete ({problem})"
    try:
        demo = load_config(f"{path}:{DEMO}", overrides)
    except ConfigError as error:
        raise ConfigError(f"{reason}, falling back to {path}:{DEMO}: {error}") from error
    reporter.line(
        "demo",
        f"{reason}, falling back to {demo.name}: an easy task on synthetic images; "
        "for the real images: python scripts/prepare_data.py lc25000_lung --from=PATH",
    )
    return demo


def load_config(spec: str, overrides: Mapping[str, Any]) -> config_dict.ConfigDict:
    """The config of a file; fields that its network and data do not use are reset to their defaults.

    Raises ConfigError if the user set such a field, and the errors of `jaxnets.config.load_config`.
    """
    config = config_lib.load_config(spec, overrides)
    _reset_unused(config, overrides)
    return config


def _reset_unused(config: config_dict.ConfigDict, overrides: Mapping[str, Any]) -> None:
    """Resets unused fields, values that the network does not have, and an entry of another network or data.

    The entry is retained if only the pretraining data or `truncate_after` differ: the verdict names both.
    """
    user_set = config_lib.user_set(overrides)
    config_lib.reset_unused(config, user_set)
    problems = models.values_for_other_networks(config.model)
    if config.data.name != AUTO and (difference := _difference_from_entry(config)):
        problems["entry"] = (
            f"--config.entry={config.entry} is not comparable with this run, as {difference}: leave it out"
        )
    for path, problem in problems.items():
        if path in user_set:
            raise ConfigError(problem)
        config_lib.set_field(config, path, config_lib.FIELDS[path].default)


def _difference_from_entry(config: config_dict.ConfigDict) -> str:
    """The first difference of network or data from the reported entry; "" if there is none."""
    if config.entry is None:
        return ""
    entry = reported.entry(config.entry)
    expected = {"model.name": entry["model"], "data.name": entry["data"]}
    if entry["variant"] is not None:
        expected["model.variant"] = entry["variant"]
    for name in (*models.OVERRIDABLE_FIELDS, "stage_sizes", "width", "layer_sizes", "activations"):
        expected[f"model.{name}"] = entry.get(name, config_lib.FIELDS[f"model.{name}"].default)
    for path, value in expected.items():
        if (actual := config_lib.get_field(config, path)) != value:
            return f"--config.{path}={actual} and the entry's is {value}"
    return ""


def open_data(config: config_dict.ConfigDict, reporter: Reporter) -> Data:
    """Opens and caches the data of a config; sets `config.model.num_classes`.

    Raises the errors of `open_source` and `with_cache`.
    """
    return with_cache(open_source(config, reporter), reporter)


def open_source(config: config_dict.ConfigDict, reporter: Reporter) -> Data:
    """Opens and splits the source; sets `config.model.num_classes`.

    Raises ConfigError if source, image size and network do not fit together, DataError if the data cannot
    be used.
    """
    root = config_lib.data_root(config)
    with reporter.phase("data") as phase:
        source = registry.open_source(config.data, root)
        split, group_ids = split_source(config, source)
        classes = f"{len(source.classes)} classes, " if source.kind == "image" else ""
        title = registry.TITLES[config.data.name]
        sizes = " / ".join(f"{len(part):,}" for part in split.parts().values())
        phase.text = f"{title}, {len(source):,} examples, {classes}{split.name} split {sizes}"
        if isinstance(source, ImageFolder) and source.skipped_files:
            phase.text += f", {source.describe_skipped()}"
    _check_model_fits(config, source)
    return Data(source, split, config, group_ids)


def with_cache(data: Data, reporter: Reporter) -> Data:
    """The data with images at the config's size: decoded once into a cache, or each time they are read.

    Raises DataError for images that cannot be read.
    """
    config, source = data.config, data.source
    if source.kind != "image":
        return data
    if not config.data.cache:
        resized = ResizedSource(source, config.data.image_size, config.data.resize)
        return dataclasses.replace(data, source=resized)
    folder = cache_root(config)
    with reporter.phase("cache") as phase, reporter.counter("cache") as progress:
        cached = open_cache(
            source,
            folder,
            config.data.image_size,
            resize=config.data.resize,
            threads=data.threads,
            progress=progress,
        )
        phase.text = f"{cached.images.nbytes / 1e6:,.0f} MB of decoded images in {folder}"
    return dataclasses.replace(data, source=cached)


def split_source(config: config_dict.ConfigDict, source: Source) -> tuple[Split, np.ndarray | None]:
    """The config's split, and the group ids of near-duplicates: int64[N], or None if unknown.

    Group ids of LC25000 always come from the shipped table, whichever table defines the split: another one
    may separate overlapping photographs. Raises the errors of `read_groups` and `make_split`.
    """
    shipped = shipped_groups(source.name)
    table = read_groups(Path(config.data.groups)) if config.data.groups else shipped
    groups = group_ids = None
    if table is not None:
        originals, overlapping = table.match(source.files)
        groups = originals if config.data.group_level == "original" else overlapping
        group_ids = overlapping if shipped is None else shipped.match(source.files)[1]
    elif isinstance(source, SyntheticTissue):
        groups = group_ids = np.arange(len(source))  # images are drawn independently
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


def check_not_empty(split: Split) -> None:
    """Raises ConfigError if there are no training or no test examples."""
    for part in ("train", "test"):
        if len(split.parts()[part]) == 0:
            raise ConfigError(
                f"the split leaves no {part} examples: change --config.data.fractions or data.split"
            )


def _check_model_fits(config: config_dict.ConfigDict, source: Source) -> None:
    """Raises ConfigError if network, loss and preprocessing do not fit the source; sets num_classes."""
    models.check_kind(config.model.name, source.kind)
    if source.kind == "vector":
        _check_regression(config, source)
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
    models.create(config.model)  # raises for values that the network does not support
    if source.kind == "image":
        models.check_image_size(config.model.name, config.data.image_size)
        _check_channels(config, source[0]["image"].shape[-1])
    else:
        models.check_lengths(config.model, len(source[0]["input"]), len(source[0]["label"]))


def _check_regression(config: config_dict.ConfigDict, source: Source) -> None:
    if config.train.loss not in config_lib.SQUARED_ERRORS:
        raise ConfigError(
            f"--config.train.loss={config.train.loss} needs classes, but {source.name} has real-valued "
            f"targets: set it to one of {', '.join(config_lib.SQUARED_ERRORS)}"
        )
    if config.monitor.metric != "validation_loss":
        raise ConfigError(
            f"--config.monitor.metric={config.monitor.metric} needs classes, but {source.name} has "
            "real-valued targets: set it to validation_loss"
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
            raise ConfigError(f"--config.augment.{name} needs colour, but the images have {channels} channel")


def cache_root(config: config_dict.ConfigDict) -> Path:
    """The folder of cached images and features; raises MachineError if it cannot be written."""
    root = config_lib.data_root(config) / "cache"
    return writable_cache_root(Path(config.data.cache_root or root), user_cache_folder())
