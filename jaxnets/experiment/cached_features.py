"""What a frozen body gives, computed once for all images and kept beside the decoded ones."""

import dataclasses
import hashlib
import json
from typing import Any

import jax
import numpy as np
from ml_collections import config_dict

from jaxnets import models, ops
from jaxnets.config.unused import unused
from jaxnets.data.cache import CachedSource, FeatureSource
from jaxnets.data.cached_memmap import cached_memmap
from jaxnets.data.images import PIXELS
from jaxnets.experiment import environment
from jaxnets.experiment.data import Data, cache_root
from jaxnets.experiment.network import Network
from jaxnets.runtime import xla
from jaxnets.runtime.console import Reporter
from jaxnets.training.preprocess import make_preprocess

BATCH_SIZE = 32
"""Of the pass over all images, whatever the recipe's: the bits of the features may depend on it."""
NUMBER_OF_DEVICES = ("devices", "processes")
DEPENDS_ON = ("name", "variant", "truncate_after", "stage_sizes", "width", "dtype", "compute_dtype")


CACHE_FEATURES = "transfer.cache_features"


def can_cache_features(config: config_dict.ConfigDict, data: Data) -> bool:
    """True where a recipe's features can be kept and its images lie in the cache."""
    return uses_cached_features(config) and isinstance(data.source, CachedSource)


def uses_cached_features(config: config_dict.ConfigDict) -> bool:
    """True where an image gives the same features in every epoch, and float32 holds them."""
    return config.transfer.cache_features and CACHE_FEATURES not in unused(config)


def with_features(
    config: config_dict.ConfigDict, data: Data, network: Network, reporter: Reporter
) -> Data:
    """The data, read as what the body gives; computed unless the cache has them.

    They are computed again wherever another machine, version or setting could give other bits.

    Raises MachineError where the disk is full.
    """
    compute = xla.jit(_make_backbone_fn(config, network.model))
    first = next(_batches(data, 1))
    shape = jax.eval_shape(compute, network.variables, first).shape[1:]
    about = depends_on(config, data, network.backbone_sha256)
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()
    root = cache_root(config)
    with reporter.phase("features") as phase, reporter.counter("features") as progress:

        def fill(features: np.ndarray) -> None:
            for batch in _batches(data, BATCH_SIZE):
                rows = batch["index"][batch["weight"] > 0]
                features[rows] = np.asarray(compute(network.variables, batch))[: len(rows)]
                progress(int(rows[-1]) + 1, len(features))

        features, seconds = cached_memmap(
            root / f"{data.source.name}-features-{digest[:16]}",
            "features",
            fill,
            shape=(len(data.source), *shape),
            dtype=np.float32,
            about=about,
        )
        each = " x ".join(map(str, shape))
        phase.text = f"{len(features):,} images as {each} numbers, by the frozen body, in {root}"
    return dataclasses.replace(
        data, features=FeatureSource(data.source, features), features_seconds=seconds
    )


def depends_on(
    config: config_dict.ConfigDict, data: Data, backbone_sha256: str | None
) -> dict[str, Any]:
    """All that the features' bits depend on: the images, the backbone, and what computes."""
    conditions = environment.determinism_fingerprint(config=config, placement={})
    return {
        "source": data.source.name,
        "fingerprint": data.source.fingerprint,
        "body": backbone_sha256,
        "model": computed_by(config.model),
        "image_size": config.data.image_size,
        "resize": config.data.resize,
        "mean": list(config.data.mean),
        "std": list(config.data.std),
        # One program on one device computes them, however many there are.
        **{name: value for name, value in conditions.items() if name not in NUMBER_OF_DEVICES},
        "pixels": PIXELS,
    }


def computed_by(model: config_dict.ConfigDict) -> dict[str, Any]:
    """The fields of `config.model` that, beside the weights, decide what a body gives."""
    names = (*DEPENDS_ON, *models.overridable_fields(model.name))
    return {name: model[name] for name in names}


def _batches(data: Data, size: int) -> Any:
    from jaxnets.data.pipeline import eval_batches  # grain, which other runs may do without

    everything = np.arange(len(data.source))
    return eval_batches(data.source, everything, batch_size=size, threads=data.threads)


def _make_backbone_fn(config: config_dict.ConfigDict, model: Any) -> Any:
    """(variables, batch) -> [B, h, w, C], of which h = w = 1 where the head takes the mean first anyway."""
    preprocess = make_preprocess(config, train=False)
    averages = models.entry(config.model.name).averages

    def body(variables: dict[str, Any], batch: dict[str, Any]) -> jax.Array:
        inputs, _ = preprocess(batch, jax.random.key(0))
        features: Any = model.apply(variables, inputs, train=False, method="features")
        if averages:
            features = ops.global_average_pool(features)[:, None, None, :]
        return features.astype("float32")

    return body
