"""The networks by name, and the one door to them."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import config_dict

from jaxnets.config import FIELDS, default_config, nearest, unused
from jaxnets.errors import ConfigError
from jaxnets.models import alexnet, densenet, inception_v1, inception_v3, resnet
from jaxnets.models.alexnet import AlexNet
from jaxnets.models.densenet import DenseNet
from jaxnets.models.inception_resnet_v2 import InceptionResNetV2
from jaxnets.models.inception_v1 import InceptionV1
from jaxnets.models.inception_v3 import InceptionV3
from jaxnets.models.init_eagerly import init_eqn_by_eqn
from jaxnets.models.lenet import LeNet5
from jaxnets.models.mlp import MLP, PUBLISHED
from jaxnets.models.resnet import ResNet

OVERRIDABLE_FIELDS = ("activation", "pooling", "kernel_size")
"""Fields of config.model that change one part of a network; a network without that part refuses them."""


@dataclasses.dataclass(frozen=True)
class Entry:
    """A network of the registry: its title, its constructor and what it takes.

    That is images of `smallest` pixels a side or more, or vectors (`kind` as in Source). Its variants are
    what --config.model.variant may be, the first what None means. Where it has auxiliary heads,
    `auxiliary_weight` is the published weight of each in the loss, and `auxiliary_size` the least pixels a
    side that they are trained on. `averages` says that its head begins with the mean over all pixels, and may
    be given the mean instead. Which fields of config.model it uses is said in jaxnets.config.fields.
    """

    title: str
    build: Callable[[config_dict.ConfigDict, dict[str, Any]], nn.Module]
    smallest: int = 1
    kind: str = "image"
    variants: tuple[str, ...] = ()
    auxiliary_weight: float = 0.0
    auxiliary_size: int = 1
    averages: bool = False


def _lenet5(config: config_dict.ConfigDict, shared: dict[str, Any]) -> nn.Module:
    shared.pop("axis_name")  # it has no batch statistics
    return LeNet5(
        activation=config.activation,
        pooling=config.pooling,
        kernel_size=config.kernel_size,
        **shared,
    )


def _alexnet(config: config_dict.ConfigDict, shared: dict[str, Any]) -> nn.Module:
    shared.pop("axis_name")  # it has no batch statistics
    return AlexNet(
        variant=config.variant or alexnet.POOL3,
        activation=config.activation,
        pooling=config.pooling,
        **shared,
    )


def _resnet50(config: config_dict.ConfigDict, shared: dict[str, Any]) -> nn.Module:
    return ResNet(
        stage_sizes=tuple(config.stage_sizes),
        width=config.width,
        variant=config.variant or resnet.TORCHVISION,
        **shared,
    )


def _inception_v1(config: config_dict.ConfigDict, shared: dict[str, Any]) -> nn.Module:
    return InceptionV1(
        variant=config.variant or inception_v1.VARIANTS[0],
        auxiliary_heads=config.auxiliary_heads,
        auxiliary_dropout=config.auxiliary_dropout,
        **shared,
    )


def _inception_v3(config: config_dict.ConfigDict, shared: dict[str, Any]) -> nn.Module:
    return InceptionV3(
        variant=config.variant or inception_v3.TORCHVISION,
        auxiliary_heads=config.auxiliary_heads,
        truncate_after=config.truncate_after,
        **shared,
    )


def _inception_resnet_v2(config: config_dict.ConfigDict, shared: dict[str, Any]) -> nn.Module:
    del config
    return InceptionResNetV2(**shared)


def _densenet121(config: config_dict.ConfigDict, shared: dict[str, Any]) -> nn.Module:
    return DenseNet(variant=config.variant or densenet.TORCHVISION, **shared)


def _mlp(config: config_dict.ConfigDict, shared: dict[str, Any]) -> nn.Module:
    if config.dropout:
        raise ConfigError(f"--config.model.dropout={config.dropout:g}: the MLP has no dropout")
    return MLP(
        layer_sizes=tuple(config.layer_sizes),
        activations=tuple(config.activations),
        **{name: shared[name] for name in ("init_scheme", "dtype", "compute_dtype")},
    )


REGISTRY = {
    "lenet5": Entry("LeNet-5", _lenet5, smallest=16),
    "alexnet": Entry(
        "AlexNet",
        _alexnet,
        smallest=15,
        variants=tuple(alexnet.VARIANTS),
    ),
    "resnet50": Entry(
        "ResNet-50", _resnet50, smallest=32, variants=tuple(resnet.VARIANTS), averages=True
    ),
    "inception_v1": Entry(
        "Inception v1",
        _inception_v1,
        smallest=15,
        variants=inception_v1.VARIANTS,
        auxiliary_weight=inception_v1.AUXILIARY_WEIGHT,
        averages=True,
    ),
    "inception_v3": Entry(
        "Inception v3",
        _inception_v3,
        smallest=75,
        variants=inception_v3.VARIANTS,
        auxiliary_weight=inception_v3.AUXILIARY_WEIGHT,
        auxiliary_size=inception_v3.AUXILIARY_SIZE,
        averages=True,
    ),
    "inception_resnet_v2": Entry(
        "Inception-ResNet v2", _inception_resnet_v2, smallest=75, averages=True
    ),
    "densenet121": Entry(
        "DenseNet-121",
        _densenet121,
        smallest=29,
        variants=tuple(densenet.EPSILONS),
        averages=True,
    ),
    "mlp": Entry("MLP", _mlp, kind="vector"),
}


def create(config: config_dict.ConfigDict, *, axis_name: str | None = None) -> nn.Module:
    """The network that `config.model` describes; `axis_name` is the axis of synchronised statistics.

    Raises ConfigError for a name that is not in the registry and for what the network does not have.
    """
    for problem in values_for_other_networks(config).values():
        raise ConfigError(problem)
    _check_changes(config)
    shared = {
        "num_classes": config.num_classes,
        "dropout": config.dropout,
        "init_scheme": config.init,
        "dtype": jnp.dtype(config.dtype),
        "compute_dtype": jnp.dtype(config.compute_dtype) if config.compute_dtype else None,
        "axis_name": axis_name if config.sync_batch_norm else None,
        "implementation": config.implementation,
    }
    return entry(config.name).build(config, shared)


def entry(name: str) -> Entry:
    """The registry's entry; raises ConfigError, naming the nearest, where there is none."""
    if name not in REGISTRY:
        raise ConfigError(
            f"no network {name!r}{nearest(name, REGISTRY)}; there are {', '.join(REGISTRY)}"
        )
    return REGISTRY[name]


def variant_of(config: config_dict.ConfigDict) -> str | None:
    """The variant that `config.model` means, the default by its name; None where there are none."""
    return config.variant or next(iter(entry(config.name).variants), None)


def truncation_blocks(name: str) -> tuple[str, ...]:
    """The values of config.model.truncate_after, from input to output; () if the network has none."""
    return inception_v3.LAST_BLOCKS if name == "inception_v3" else ()


def check_variant(name: str, variant: str | None, *, flag: str = "--config.model.variant") -> None:
    """Raises ConfigError, naming the `flag` that said it, for a variant that the network has not."""
    if problem := _variant_problem(name, variant, flag):
        raise ConfigError(problem)


def _variant_problem(name: str, variant: str | None, flag: str) -> str | None:
    variants = entry(name).variants
    if variant is None or variant in variants:
        return None
    listed = f"has the variants {', '.join(variants)}" if variants else "has no variants"
    return f"{flag}={variant}: {entry(name).title} {listed}{nearest(variant, variants)}"


def values_for_other_networks(config: config_dict.ConfigDict) -> dict[str, str]:
    """The fields of `config.model` whose values only other networks have, by path, and why, in words."""
    found = {
        "model.init": _init_problem(config),
        "model.variant": _variant_problem(config.name, config.variant, "--config.model.variant"),
        "model.truncate_after": _cut_problem(config),
    }
    return {path: problem for path, problem in found.items() if problem is not None}


def _init_problem(config: config_dict.ConfigDict) -> str | None:
    if config.init != PUBLISHED or config.name == "mlp":
        return None
    return (
        f"--config.model.init={PUBLISHED}: no report prints the weights of {config.name!r}, "
        "only those of 'mlp'"
    )


def _cut_problem(config: config_dict.ConfigDict) -> str | None:
    allowed = truncation_blocks(config.name)
    if config.truncate_after is None or config.truncate_after in allowed:
        return None
    listed = f"may be cut after {', '.join(allowed)}" if allowed else "cannot be cut"
    return (
        f"--config.model.truncate_after={config.truncate_after}: {entry(config.name).title} {listed}"
        f"{nearest(config.truncate_after, allowed)}"
    )


@functools.cache
def changes(name: str) -> tuple[str, ...]:
    """Which of CHANGES the network takes."""
    config = default_config()
    config.model.name = name
    skipped_aux_heads_note = unused(config)
    return tuple(
        change for change in OVERRIDABLE_FIELDS if f"model.{change}" not in skipped_aux_heads_note
    )


def _check_changes(config: config_dict.ConfigDict) -> None:
    for name in OVERRIDABLE_FIELDS:
        if name not in changes(config.name) and config[name] != FIELDS[f"model.{name}"].default:
            takers = ", ".join(other for other in REGISTRY if name in changes(other))
            raise ConfigError(
                f"--config.model.{name}={config[name]}: {entry(config.name).title} has it as published; "
                f"it can be changed in {takers}"
            )


def check_kind(name: str, kind: str) -> None:
    """Raises ConfigError where the network does not take examples of `kind`, "image" or "vector"."""
    if entry(name).kind != kind:
        takers = ", ".join(other for other, one in REGISTRY.items() if one.kind == kind)
        raise ConfigError(
            f"{entry(name).title} takes no examples of kind {kind!r}; "
            f"set --config.model.name to one of {takers}, or another --config.data.name"
        )


def check_lengths(config: config_dict.ConfigDict, inputs: int, outputs: int) -> None:
    """Raises ConfigError where the layers of `config.model` do not go from `inputs` to `outputs` numbers."""
    sizes = tuple(config.layer_sizes)
    for end, size, length in (("begin", sizes[0], inputs), ("end", sizes[-1], outputs)):
        if size != length:
            raise ConfigError(
                f"--config.model.layer_sizes={sizes} {end}s with {size}, but the examples have "
                f"{inputs} inputs and labels of length {outputs}: {end} with {length}"
            )


def check_image_size(name: str, image_size: int, *, flag: str = "--config.data.image_size") -> None:
    """Raises ConfigError where images of `image_size` pixels a side are too small; `flag` said it."""
    smallest = entry(name).smallest
    if image_size < smallest:
        raise ConfigError(
            f"{entry(name).title} takes images of {smallest} pixels or more; "
            f"{flag}={image_size} is too small"
        )


def initialize(model: nn.Module, key: jax.Array, shape: tuple[int, ...]) -> dict[str, Any]:
    """Variables {"params", "batch_stats"} for inputs [B, ...] of `shape`; no statistics give {}."""
    variables = init_eqn_by_eqn(lambda key: model.init(key, _dummy_input(model, shape)), key)
    return {"params": variables["params"], "batch_stats": variables.get("batch_stats", {})}


def head_modules(model: nn.Module, shape: tuple[int, ...]) -> frozenset[str]:
    """The names of the modules that `model.head` runs, for inputs [B, ...] of `shape`."""

    def init(key: jax.Array) -> Any:
        x = _dummy_input(model, shape)
        features, _ = model.init_with_output(key, x, train=False, method="features")
        return model.init(key, features, train=False, method="head")["params"]

    return frozenset(jax.eval_shape(init, jax.random.key(0)))


def _dummy_input(model: nn.Module, shape: tuple[int, ...]) -> jax.Array:
    return jnp.zeros((1, *shape[1:]), getattr(model, "dtype", jnp.float32))


def count_parameters(tree: Any) -> int:
    """The number of values in a tree of arrays or shapes."""
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def auxiliary_part(tree: Mapping[str, Any]) -> dict[str, Any]:
    """The auxiliary heads' modules of a tree of parameters or statistics; {} where there are none."""
    return {name: part for name, part in tree.items() if name.startswith("auxiliary")}


def skipped_aux_heads_note(config: config_dict.ConfigDict, image_size: int) -> str | None:
    """Says which heads of `config.model` training leaves out on images of that size, or None."""
    found = entry(config.name)
    if not config.auxiliary_heads or image_size >= found.auxiliary_size:
        return None
    return (
        f"{found.title}'s auxiliary head is left out: it needs {found.auxiliary_size} pixels, "
        f"and images have {image_size}"
    )
