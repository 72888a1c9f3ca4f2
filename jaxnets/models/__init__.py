"""Model registry and factory; checks of config.model; initial variables."""

import collections
import dataclasses
import importlib
import inspect
import os
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal, jaxpr_as_fun
from jax.extend.core.primitives import broadcast_in_dim_p
from ml_collections import config_dict

from jaxnets import ops
from jaxnets.errors import ConfigError, suggest
from jaxnets.models.base import Entry
from jaxnets.registry import NETWORKS, WITHOUT_BATCH_NORM

OVERRIDABLE_FIELDS = ("activation", "pooling", "kernel_size")
"""Fields of config.model that change one part of a network; loading a config refuses them for others."""


class _Registry(collections.UserDict[str, Any]):
    """Networks by name; until its first use, "MODULE" or "MODULE:NAME" stands for an entry of that module."""

    def __getitem__(self, key: str) -> Entry:
        if isinstance(self.data[key], str):
            module, _, name = self.data[key].partition(":")
            self.data[key] = getattr(importlib.import_module(f"jaxnets.models.{module}"), name or "ENTRY")
        return self.data[key]


REGISTRY = _Registry(NETWORKS)
_FILES: dict[str, str] = {}  # that registered networks


def register(name: str, entry: Entry) -> None:
    """Adds a network under a new name, so that --config.model.name may name it.

    Raises ValueError for a name of one of the package's networks.
    """
    if name in NETWORKS:
        raise ValueError(f"{name!r} is a network of jaxnets: choose another name")
    REGISTRY[name] = entry
    _FILES[name] = inspect.stack(context=0)[1].filename  # of the caller


def registered_in(name: str) -> str | None:
    """The file that registered a network; None for those of the package, and without a file (a notebook)."""
    file = _FILES.get(name, "")
    return os.path.relpath(file) if os.path.isfile(file) else None


def entry(name: str) -> Entry:
    """The registry's entry; raises ConfigError, with the nearest name, if there is none."""
    if name not in REGISTRY:
        raise ConfigError(f"no network {name!r}{suggest(name, REGISTRY)}; there are {', '.join(REGISTRY)}")
    return REGISTRY[name]


def create(config: config_dict.ConfigDict, *, axis_name: str | None = None) -> nn.Module:
    """Makes the network that a config describes.

    Args:
        config: the section `model`.
        axis_name: the axis of the devices over which batch norm is synchronised.

    Returns:
        A Flax module: `model.apply(variables, images, train=False)` gives logits [B, num_classes].

    Raises:
        ConfigError: an unknown name, or a value that the network does not have.
    """
    for problem in values_for_other_networks(config).values():
        raise ConfigError(problem)
    found = entry(config.name)
    accepted = {field.name for field in dataclasses.fields(found.factory)}
    if config.dropout and "dropout" not in accepted:
        raise ConfigError(f"--config.model.dropout={config.dropout:g}: {found.title} has no dropout")
    synchronises = config.sync_batch_norm and config.name not in WITHOUT_BATCH_NORM
    given = {
        "num_classes": config.num_classes,
        "dropout": config.dropout,
        "init_scheme": config.init,
        "dtype": jnp.dtype(config.dtype),
        "compute_dtype": jnp.dtype(config.compute_dtype) if config.compute_dtype else None,
        "axis_name": axis_name if synchronises else None,
        "implementation": config.implementation,
        **{name: config[name] for name in found.fields if config[name] is not None},
        **found.settings,
    }
    return found.factory(**{name: value for name, value in given.items() if name in accepted})


def fold_batch_norm(model: nn.Module, variables: dict[str, Any], inputs: jax.Array) -> dict[str, Any]:
    """Folds each batch normalisation that follows a convolution into it, for faster inference.

    Args:
        model: a network, such as `create` makes.
        variables: its "params" and "batch_stats".
        inputs: images [B, H, W, C] of any size that the network accepts; only their shape and dtype matter.

    Returns:
        Variables for `model.apply(..., train=False)` in this process. Kernels are packed for the C++ kernels
        if these are enabled. A network without `jaxnets.ops.conv_norm` gets its variables unchanged.
    """
    _, updates = model.apply(variables, inputs, train=False, mutable=[ops.FOLDED])
    folded = traverse_util.flatten_dict(updates.get(ops.FOLDED, {}))
    replaced = {path for path in folded if path[-1] == "kernel"}
    params = traverse_util.flatten_dict(variables["params"])
    remaining = {path: value for path, value in params.items() if path not in replaced}
    params, folded = traverse_util.unflatten_dict(remaining), traverse_util.unflatten_dict(folded)
    return {**variables, "params": params, ops.FOLDED: folded}


def variant_of(config: config_dict.ConfigDict) -> str | None:
    """The variant that `config.model` means, by default the first; None if there are none."""
    return config.variant or next(iter(entry(config.name).variants), None)


def values_for_other_networks(
    config: config_dict.ConfigDict, *, prefix: str = "--config.model."
) -> dict[str, str]:
    """Error messages for fields of `config.model` whose values only other networks have, by path.

    `prefix` and a field's name are its flag.
    """
    found, problems = entry(config.name), {}
    if config.init == "published" and config.name != "mlp":
        problems["model.init"] = (
            f"{prefix}init=published: no report prints the weights of {config.name!r}, only those of 'mlp'"
        )
    for name, values, some, none in (
        ("variant", found.variants, "has the variants", "has no variants"),
        ("truncate_after", found.truncation_blocks, "can end after", "cannot be truncated"),
    ):
        value = config[name]
        if value not in (None, *values):
            listed = f"{some} {', '.join(values)}" if values else none
            problems[f"model.{name}"] = (
                f"{prefix}{name}={value}: {found.title} {listed}{suggest(value, values)}"
            )
    return problems


def overridable_fields(name: str) -> tuple[str, ...]:
    """The OVERRIDABLE_FIELDS that the network uses."""
    return tuple(field for field in OVERRIDABLE_FIELDS if field in entry(name).fields)


def check_kind(name: str, kind: str) -> None:
    """Raises ConfigError if the network does not take examples of `kind`, "image" or "vector"."""
    if entry(name).kind != kind:
        compatible = ", ".join(other for other, one in REGISTRY.items() if one.kind == kind)
        raise ConfigError(
            f"{entry(name).title} does not accept examples of kind {kind!r}; "
            f"set --config.model.name to one of {compatible}, or another --config.data.name"
        )


def check_lengths(config: config_dict.ConfigDict, inputs: int, outputs: int) -> None:
    """Raises ConfigError if the layers of `config.model` do not go from `inputs` to `outputs` numbers."""
    sizes = tuple(config.layer_sizes)
    for end, size, length in (("begin", sizes[0], inputs), ("end", sizes[-1], outputs)):
        if size != length:
            raise ConfigError(
                f"--config.model.layer_sizes={sizes} {end}s with {size}, but the examples have "
                f"{inputs} inputs and labels of length {outputs}: {end} with {length}"
            )


def check_image_size(name: str, image_size: int, *, flag: str = "--config.data.image_size") -> None:
    """Raises ConfigError if images of `image_size` pixels a side are too small; `flag` names the option."""
    found = entry(name)
    if image_size < found.smallest:
        raise ConfigError(
            f"{found.title} takes images of {found.smallest} pixels or more; {flag}={image_size} is too small"
        )


def skipped_aux_heads_note(config: config_dict.ConfigDict, image_size: int) -> str | None:
    """Says which heads of `config.model` training leaves out on images of that size, or None."""
    found = entry(config.name)
    needed = f"it needs {found.auxiliary_size} pixels, and images have {image_size}"
    is_skipped = config.auxiliary_heads and image_size < found.auxiliary_size
    return f"{found.title}'s auxiliary head is left out: {needed}" if is_skipped else None


def initialize(model: nn.Module, key: jax.Array, shape: tuple[int, ...]) -> dict[str, Any]:
    """Draws the initial variables of a network.

    Args:
        model: the network.
        key: a key of `jax.random`.
        shape: of a batch, such as (1, 224, 224, 3).

    Returns:
        {"params": ..., "batch_stats": ...}; the latter is {} without batch norm.
    """
    variables = init_eqn_by_eqn(lambda key: model.init(key, _dummy_input(model, shape)), key)
    return {"params": variables["params"], "batch_stats": variables.get("batch_stats", {})}


def init_eqn_by_eqn(function: Callable[..., Any], *arguments: Any) -> Any:
    """Computes a jitted `function(*arguments)` without one program of it all; may be traced itself.

    XLA's time grows with a program, and a network's initial weights make a very long one; equations of one
    shape are compiled once, constant arrays not at all, and equations that the result does not need are left
    out. A jitted function inside is one equation, and rounds as it does within a larger program.
    """
    leaves = jax.tree.leaves(arguments)
    if any(isinstance(leaf, jax.core.Tracer) for leaf in leaves):
        return function(*arguments)
    traced, shapes = jax.make_jaxpr(function, return_shape=True)(*arguments)
    constants = dict(zip(traced.jaxpr.constvars, traced.consts, strict=True))
    equations = []
    for equation in _needed_equations(traced.jaxpr):
        value = equation.invars[0]
        if equation.primitive is broadcast_in_dim_p and isinstance(value, Literal):
            array = np.broadcast_to(value.val, equation.params["shape"])
            constants[equation.outvars[0]] = jax.device_put(array)
        else:
            equations.append(equation)
    needed = traced.jaxpr.replace(eqns=equations, constvars=list(constants))
    results = jaxpr_as_fun(ClosedJaxpr(needed, list(constants.values())))(*leaves)
    return jax.tree.unflatten(jax.tree.structure(shapes), results)


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
    """The auxiliary heads' modules of a tree of parameters or statistics; {} if there are none."""
    return {name: part for name, part in tree.items() if name.startswith("auxiliary")}
