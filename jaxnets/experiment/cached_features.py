"""Computes the features of a frozen backbone once per image and caches them on disk."""

import dataclasses
import functools
import hashlib
import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import config_dict

from jaxnets import models, ops
from jaxnets.config import unused
from jaxnets.data.cache import CachedSource, FeatureSource, cached_memmap
from jaxnets.data.dataset import Dataset, eval_batches
from jaxnets.data.images import PIXELS
from jaxnets.experiment import environment
from jaxnets.experiment.data import cache_root
from jaxnets.experiment.network import Network
from jaxnets.runtime import console, xla
from jaxnets.training.preprocess import make_preprocess

BATCH_SIZE = 32
"""Does not follow the config: the bits of the features may depend on the batch size."""
NUMBER_OF_DEVICES = ("devices", "processes")
MODEL_FIELDS = ("name", "variant", "truncate_after", "stage_sizes", "width", "dtype", "compute_dtype")
CACHE_FEATURES = "transfer.cache_features"


def uses_cached_features(config: config_dict.ConfigDict) -> bool:
    """Whether an image has the same features in every epoch, and float32 can represent them."""
    return config.transfer.cache_features and CACHE_FEATURES not in unused(config)


def with_features(config: config_dict.ConfigDict, data: Dataset, network: Network) -> Dataset:
    """The data with features, recomputed if the machine, a version or a setting may change their bits.

    Unchanged unless the config caches features and the images are cached. Raises MachineError if the disk is
    full.
    """
    if not (uses_cached_features(config) and isinstance(data.source, CachedSource)):
        return data
    compute = xla.jit(_make_backbone_fn(config, network.model))
    first = next(_batches(data, 1))
    fold = functools.partial(models.fold_batch_norm, network.model)
    inputs = jnp.zeros((1, *data.shape), config.model.dtype)
    shape = jax.eval_shape(compute, network.variables, first).shape[1:]
    key = cache_key(config, data, network.backbone_sha256)
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
    root = cache_root(config)
    with console.phase("features") as phase, console.counter("features") as progress:

        def fill(features: np.ndarray) -> None:
            variables = xla.jit(fold)(network.variables, inputs)
            for batch in _batches(data, BATCH_SIZE):
                rows = batch["index"][batch["weight"] > 0]
                features[rows] = np.asarray(compute(variables, batch))[: len(rows)]
                progress(int(rows[-1]) + 1, len(features))

        features, seconds = cached_memmap(
            root / f"{data.source.name}-features-{digest[:16]}",
            "features",
            fill,
            shape=(len(data.source), *shape),
            dtype=np.float32,
            about=key,
        )
        size = " x ".join(map(str, shape))
        phase.text = f"{len(features):,} images as {size} features of the frozen backbone, in {root}"
    return dataclasses.replace(data, features=FeatureSource(data.source, features), features_seconds=seconds)


def cache_key(config: config_dict.ConfigDict, data: Dataset, backbone_sha256: str | None) -> dict[str, Any]:
    """Everything that the features' bits depend on: images, backbone, software and hardware."""
    fingerprint = environment.determinism_fingerprint(config=config, execution={})
    return {
        "source": data.source.name,
        "fingerprint": data.source.fingerprint,
        "backbone": backbone_sha256,
        "batch_norm": "folded",
        "model": backbone_fields(config.model),
        "image_size": config.data.image_size,
        "resize": config.data.resize,
        "mean": list(config.data.mean),
        "std": list(config.data.std),
        # Features are always computed on one device.
        **{name: value for name, value in fingerprint.items() if name not in NUMBER_OF_DEVICES},
        "pixels": PIXELS,
    }


def backbone_fields(model: config_dict.ConfigDict) -> dict[str, Any]:
    """The fields of `config.model` that the features depend on."""
    return {name: model[name] for name in (*MODEL_FIELDS, *models.overridable_fields(model.name))}


def _batches(data: Dataset, size: int) -> Any:
    indices = np.arange(len(data.source))
    return eval_batches(data.source, indices, batch_size=size, threads=data.batching.threads)


def _make_backbone_fn(config: config_dict.ConfigDict, model: Any) -> Any:
    """(variables, batch) -> [B, h, w, C]; h = w = 1 if the head starts with global average pooling."""
    preprocess = make_preprocess(config, train=False)
    pools = models.entry(config.model.name).averages

    def backbone(variables: dict[str, Any], batch: dict[str, Any]) -> jax.Array:
        inputs, _ = preprocess(batch, jax.random.key(0))
        features: Any = model.apply(variables, inputs, train=False, method="features")
        if pools:
            features = ops.global_average_pool(features)[:, None, None, :]
        return features.astype("float32")

    return backbone
