"""The networks by name, and the one door to them."""

import dataclasses
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import config_dict

from jaxnets.config import nearest
from jaxnets.errors import ConfigError
from jaxnets.models.lenet import LeNet5
from jaxnets.models.resnet import ResNet


@dataclasses.dataclass(frozen=True)
class Entry:
    """A network of the registry: its title, its constructor and the smallest image that it takes."""

    title: str
    build: Callable[[config_dict.ConfigDict, dict[str, Any]], nn.Module]
    smallest: int


def _lenet5(config: config_dict.ConfigDict, shared: dict[str, Any]) -> nn.Module:
    del config
    shared.pop("axis_name")  # it has no batch statistics
    return LeNet5(**shared)


def _resnet50(config: config_dict.ConfigDict, shared: dict[str, Any]) -> nn.Module:
    return ResNet(stage_sizes=tuple(config.stage_sizes), width=config.width, **shared)


REGISTRY = {
    "lenet5": Entry("LeNet-5", _lenet5, smallest=16),
    "resnet50": Entry("ResNet-50", _resnet50, smallest=32),
}


def create(config: config_dict.ConfigDict, *, axis_name: str | None = None) -> nn.Module:
    """The network that `config.model` describes; `axis_name` is the axis of synchronised statistics.

    Raises ConfigError for a name that is not in the registry.
    """
    shared = {
        "num_classes": config.num_classes,
        "dropout": config.dropout,
        "init_style": config.init,
        "dtype": jnp.dtype(config.dtype),
        "compute_dtype": jnp.dtype(config.compute_dtype) if config.compute_dtype else None,
        "axis_name": axis_name if config.sync_batch_norm else None,
    }
    return entry(config.name).build(config, shared)


def entry(name: str) -> Entry:
    """The registry's entry; raises ConfigError, naming the nearest, where there is none."""
    if name not in REGISTRY:
        raise ConfigError(
            f"no network {name!r}{nearest(name, REGISTRY)}; there are {', '.join(REGISTRY)}"
        )
    return REGISTRY[name]


def check_image_size(name: str, image_size: int) -> None:
    """Raises ConfigError where images of `image_size` pixels a side are too small for the network."""
    smallest = entry(name).smallest
    if image_size < smallest:
        raise ConfigError(
            f"{entry(name).title} takes images of {smallest} pixels or more; "
            f"--config.data.image_size={image_size} is too small"
        )


def initialize(model: nn.Module, key: jax.Array, shape: tuple[int, ...]) -> dict[str, Any]:
    """Variables {"params", "batch_stats"} for inputs [B, H, W, C] of `shape`; no statistics give {}."""
    dtype = getattr(model, "dtype", jnp.float32)
    variables = jax.jit(lambda key: model.init(key, jnp.zeros((1, *shape[1:]), dtype)))(key)
    return {"params": variables["params"], "batch_stats": variables.get("batch_stats", {})}


def count_parameters(tree: Any) -> int:
    """The number of values in a tree of arrays or shapes."""
    return sum(leaf.size for leaf in jax.tree.leaves(tree))
