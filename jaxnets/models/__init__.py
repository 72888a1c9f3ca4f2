"""Model registry and factory; checks of config.model; initial variables."""

import dataclasses
import functools
import importlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal, jaxpr_as_fun
from ml_collections import config_dict

from jaxnets.config import FIELDS, default_config, nearest, unused
from jaxnets.errors import ConfigError
from jaxnets.models.base import Entry

OVERRIDABLE_FIELDS = ("activation", "pooling", "kernel_size")
"""Fields of config.model that change one part of a network; a network without that part refuses them."""
PUBLISHED = "published"
"""The value of config.model.init for the weights that a report prints."""
_MODULES = {
    "lenet5": "lenet",
    "alexnet": "alexnet",
    "resnet50": "resnet",
    "inception_v1": "inception_v1",
    "inception_v3": "inception_v3",
    "inception_resnet_v2": "inception_resnet_v2",
    "densenet121": "densenet",
    "mlp": "mlp",
}
"""The module of jaxnets.models that defines each network as `ENTRY`; it is imported on first use."""


class _Registry(Mapping[str, Entry]):
    def __init__(self) -> None:
        self._entries: dict[str, Entry] = {}

    def __getitem__(self, name: str) -> Entry:
        if name not in self._entries:
            module = importlib.import_module(f"jaxnets.models.{_MODULES[name]}")
            self._entries[name] = module.ENTRY
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys([*_MODULES, *self._entries]))

    def __len__(self) -> int:
        return len(_MODULES.keys() | self._entries.keys())


REGISTRY = _Registry()
"""The networks by name."""


def register(name: str, entry: Entry) -> None:
    """Adds a network under a new name, so that --config.model.name may name it.

    Raises ValueError if the name is taken.
    """
    if name in REGISTRY:
        raise ValueError(f"a network named {name!r} is registered already")
    REGISTRY._entries[name] = entry


def create(config: config_dict.ConfigDict, *, axis_name: str | None = None) -> nn.Module:
    """The network that `config.model` describes; `axis_name` is the axis of synchronised statistics.

    Raises ConfigError for a name that is not in the registry and for values that the network does not have.
    """
    for problem in values_for_other_networks(config).values():
        raise ConfigError(problem)
    found, ignored = entry(config.name), _unused_fields(config.name)
    for name in OVERRIDABLE_FIELDS:
        if f"model.{name}" in ignored and config[name] != FIELDS[f"model.{name}"].default:
            takers = ", ".join(other for other in _MODULES if name in overridable_fields(other))
            raise ConfigError(
                f"--config.model.{name}={config[name]}: {found.title} has it as published; "
                f"it can be changed in {takers}"
            )
    accepted = {field.name for field in dataclasses.fields(found.factory)}
    if config.dropout and "dropout" not in accepted:
        raise ConfigError(f"--config.model.dropout={config.dropout:g}: {found.title} has no dropout")
    synchronises = config.sync_batch_norm and "model.sync_batch_norm" not in ignored
    given = {
        "num_classes": config.num_classes,
        "dropout": config.dropout,
        "init_scheme": config.init,
        "dtype": jnp.dtype(config.dtype),
        "compute_dtype": jnp.dtype(config.compute_dtype) if config.compute_dtype else None,
        "axis_name": axis_name if synchronises else None,
        "implementation": config.implementation,
        **{name: config[name] for name in found.fields if config[name] is not None},
    }
    return found.factory(**{name: value for name, value in given.items() if name in accepted})


def entry(name: str) -> Entry:
    """The registry's entry; raises ConfigError, naming the nearest, where there is none."""
    if name not in REGISTRY:
        raise ConfigError(f"no network {name!r}{nearest(name, REGISTRY)}; there are {', '.join(REGISTRY)}")
    return REGISTRY[name]


def variant_of(config: config_dict.ConfigDict) -> str | None:
    """The variant that `config.model` means, the default by its name; None where there are none."""
    return config.variant or next(iter(entry(config.name).variants), None)


def check_variant(name: str, variant: str | None, *, flag: str) -> None:
    """Raises ConfigError, naming the `flag` that said it, for a variant that the network has not."""
    if variant is not None and variant not in entry(name).variants:
        raise ConfigError(_variant_problem(entry(name), variant, flag))


def values_for_other_networks(config: config_dict.ConfigDict) -> dict[str, str]:
    """Error messages for fields of `config.model` whose values only other networks have, by path."""
    found, blocks = entry(config.name), entry(config.name).truncation_blocks
    problems = {}
    if config.init == PUBLISHED and config.name != "mlp":
        problems["model.init"] = (
            f"--config.model.init={PUBLISHED}: no report prints the weights of {config.name!r}, "
            "only those of 'mlp'"
        )
    if config.variant not in (None, *found.variants):
        problems["model.variant"] = _variant_problem(found, config.variant, "--config.model.variant")
    if config.truncate_after not in (None, *blocks):
        listed = f"can end after {', '.join(blocks)}" if blocks else "cannot be truncated"
        problems["model.truncate_after"] = (
            f"--config.model.truncate_after={config.truncate_after}: {found.title} {listed}"
            f"{nearest(config.truncate_after, blocks)}"
        )
    return problems


def _variant_problem(found: Entry, variant: str, flag: str) -> str:
    listed = f"has the variants {', '.join(found.variants)}" if found.variants else "has no variants"
    return f"{flag}={variant}: {found.title} {listed}{nearest(variant, found.variants)}"


@functools.cache
def _unused_fields(name: str) -> frozenset[str]:
    """The fields of the config that the network does not use, by path."""
    config = default_config()
    config.model.name = name
    return frozenset(unused(config))


def overridable_fields(name: str) -> tuple[str, ...]:
    """The OVERRIDABLE_FIELDS that the network uses."""
    return tuple(field for field in OVERRIDABLE_FIELDS if f"model.{field}" not in _unused_fields(name))


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
            f"{entry(name).title} takes images of {smallest} pixels or more; {flag}={image_size} is too small"
        )


def skipped_aux_heads_note(config: config_dict.ConfigDict, image_size: int) -> str | None:
    """Says which heads of `config.model` training leaves out on images of that size, or None."""
    found = entry(config.name)
    if not config.auxiliary_heads or image_size >= found.auxiliary_size:
        return None
    return (
        f"{found.title}'s auxiliary head is left out: it needs {found.auxiliary_size} pixels, "
        f"and images have {image_size}"
    )


def initialize(model: nn.Module, key: jax.Array, shape: tuple[int, ...]) -> dict[str, Any]:
    """Variables {"params", "batch_stats"} for inputs [B, ...] of `shape`; no statistics give {}."""
    variables = init_eqn_by_eqn(lambda key: model.init(key, _dummy_input(model, shape)), key)
    return {"params": variables["params"], "batch_stats": variables.get("batch_stats", {})}


def init_eqn_by_eqn(function: Callable[..., Any], *arguments: Any) -> Any:
    """Computes a jitted `function(*arguments)` without one program of it all; may be traced itself.

    XLA's time grows with a program, and a network's initial weights make a very long one; equations of one
    shape are compiled once, and those that the result does not need are left out. A jitted function inside
    is one equation, and rounds as it does within a larger program.
    """
    traced, shapes = jax.make_jaxpr(function, return_shape=True)(*arguments)
    needed = traced.jaxpr.replace(eqns=_needed_equations(traced.jaxpr))
    leaves = jaxpr_as_fun(ClosedJaxpr(needed, traced.consts))(*jax.tree.leaves(arguments))
    return jax.tree.unflatten(jax.tree.structure(shapes), leaves)


def _needed_equations(jaxpr: Jaxpr) -> list[Any]:
    wanted = {variable for variable in jaxpr.outvars if not isinstance(variable, Literal)}
    needed = []
    for equation in reversed(jaxpr.eqns):
        if wanted.intersection(equation.outvars):
            needed.append(equation)
            wanted.update(v for v in equation.invars if not isinstance(v, Literal))
    return needed[::-1]


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
