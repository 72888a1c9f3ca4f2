"""A network's layers, parameters and multiply-adds, computed from shapes."""

import contextlib
import functools
import math
import shutil
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np
from flax import traverse_util
from ml_collections import config_dict

from jaxnets import config as config_lib
from jaxnets import models
from jaxnets.config import loading
from jaxnets.errors import ConfigError
from jaxnets.interop import imagenet
from jaxnets.runtime import console

WIDE = 100
"""Minimum terminal width to show input shapes."""


class Layer(NamedTuple):
    """A layer with parameters: shapes without the batch, counts, and multiply-adds per example."""

    path: str
    kind: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    parameters: int
    statistics: int
    multiply_adds: int


def summarize(
    name: str, *, num_classes: int | None, image_size: int | None, variant: str | None = None
) -> list[Layer]:
    """Prints a network's layer table and totals.

    Raises ConfigError for an unknown network or variant, and for too small images.
    """
    model, entry = config_lib.default_config().model, models.entry(name)
    model.name, model.variant = name, variant
    model.num_classes = num_classes or (3 if entry.channels == 3 else 10)
    for problem in models.values_for_other_networks(model, prefix="--").values():
        raise ConfigError(problem)
    if entry.kind == "image":
        size = image_size or entry.native_size
        models.check_image_size(name, size, flag="--image_size")
        shape = (size, size, entry.channels)
    elif num_classes or image_size:
        raise ConfigError(f"{entry.title} takes no images: --num_classes and --image_size do not apply")
    else:
        shape = (model.layer_sizes[0],)
    layers = layers_of(model, shape)
    width = shutil.get_terminal_size((WIDE, 24)).columns
    for line in (*table(layers, width), "", *_totals(layers, entry.title, model, shape)):
        console.log_text(line)
    return layers


class Network(NamedTuple):
    """A network of the registry at its native size, without auxiliary heads; `weights` are ImageNet's."""

    name: str
    title: str
    parameters: int
    multiply_adds: int
    native_size: int
    smallest: int
    weights: str | None


def registry() -> list[Network]:
    """Every network, with 1,000 classes, or 10 where the original's images have 32 pixels or fewer."""
    return [_network(name) for name in models.REGISTRY]


def _network(name: str) -> Network:
    entry, model = models.entry(name), config_lib.default_config().model
    model.name = name
    model.num_classes = 1000 if entry.native_size > 32 else 10
    size = entry.native_size
    shape = (size, size, entry.channels) if entry.kind == "image" else (model.layer_sizes[0],)
    layers = [layer for layer in layers_of(model, shape) if not layer.path.startswith("auxiliary")]
    return Network(
        name,
        entry.title,
        sum(layer.parameters for layer in layers),
        sum(layer.multiply_adds for layer in layers),
        size,
        entry.smallest,
        imagenet.PREFIX + name if name in imagenet.NETWORKS else loading.ON_HUB.get(name),
    )


def print_registry() -> None:
    """Prints a line for each network."""
    heads = ("model.name", "parameters", "multiply-adds", "pixels", "smallest", "ImageNet weights")
    rows: list[tuple[str, ...]] = [heads]
    for network in registry():
        counts = f"{network.parameters:,}", f"{network.multiply_adds:,}"
        is_image = models.entry(network.name).kind == "image"
        sizes = (f"{network.native_size}", f"{network.smallest}") if is_image else ("", "")
        rows.append((network.name, *counts, *sizes, network.weights or ""))
    others = "docs/networks.md has papers, the libraries that each network was compared with, and speeds."
    console.log_text("\n".join((*console.table(rows, right=range(1, 5)), "", others)))


def layers_of(model: config_dict.ConfigDict, shape: tuple[int, ...]) -> list[Layer]:
    """The layers in order of computation for one input of `shape`, including auxiliary heads."""
    init = functools.partial(models.create(model).init, jax.random.key(0))
    with recorded_calls() as calls:
        variables = jax.eval_shape(init, jax.ShapeDtypeStruct((1, *shape), np.float32))
    params, statistics = (_sizes_by_module(variables.get(name, {})) for name in ("params", "batch_stats"))
    return [
        Layer(
            path,
            type(module).__name__,
            x.shape[1:],
            y.shape[1:],
            parameters=sum(params[path].values()),
            statistics=sum(statistics.get(path, {}).values()),
            multiply_adds=params[path].get("kernel", 0) * math.prod(y.shape[1:-1]),
        )
        for path, module, x, y in calls
        if path in params
    ]


@contextlib.contextmanager
def recorded_calls() -> Iterator[list[tuple[str, nn.Module, Any, Any]]]:
    """Yields (path, module, input, output) of the calls within the block, in order of computation."""
    calls: list[tuple[str, nn.Module, Any, Any]] = []

    def record(following: Any, args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
        y = following(*args, **kwargs)
        if context.method_name == "__call__":
            calls.append(("/".join(context.module.path), context.module, args[0], y))
        return y

    with nn.intercept_methods(record):
        yield calls


def _sizes_by_module(tree: Any) -> dict[str, dict[str, int]]:
    """The sizes of the arrays of every module with arrays of its own, by its path and their names."""
    modules: dict[str, dict[str, int]] = {}
    leaves: dict[tuple[str, ...], Any] = traverse_util.flatten_dict(dict(tree))
    for (*module, name), leaf in leaves.items():
        modules.setdefault("/".join(module), {})[name] = leaf.size
    return modules


def table(layers: Sequence[Layer], width: int) -> list[str]:
    """Table lines of at most `width`; input shapes are omitted and paths shortened if necessary."""
    rows = [("layer", "kind", "input", "output", "parameters", "multiply-adds")]
    for layer in layers:
        shapes = _format_shape(layer.inputs), _format_shape(layer.outputs)
        multiply_adds = f"{layer.multiply_adds:,}" if layer.multiply_adds else ""
        rows.append((layer.path, layer.kind, *shapes, f"{layer.parameters:,}", multiply_adds))
    if width < WIDE:
        rows = [(row[0], *row[3:]) for row in rows]
    others = sum(max(map(len, column)) + 2 for column in list(zip(*rows, strict=True))[1:])
    longest = max(8, width - others)
    shown = [(path if len(path) <= longest else f"...{path[3 - longest :]}", *cells) for path, *cells in rows]
    return console.table(shown, right=(len(rows[0]) - 2, len(rows[0]) - 1))


def _totals(
    layers: Sequence[Layer], title: str, model: config_dict.ConfigDict, shape: tuple[int, ...]
) -> list[str]:
    heads = [layer for layer in layers if layer.path.startswith("auxiliary")]
    main = [layer for layer in layers if layer not in heads]
    classes = "" if models.entry(model.name).kind == "vector" else f", {model.num_classes} classes"
    variant = f" ({model.variant})" if model.variant else ""
    note = models.skipped_aux_heads_note(model, shape[0]) if len(shape) == 3 else None
    return [
        f"{title}{variant}, input {_format_shape(shape)}{classes}",
        f"parameters            {sum(layer.parameters for layer in main):>14,}",
        f"auxiliary_parameters  {sum(layer.parameters for layer in heads):>14,}",
        f"batch statistics      {sum(layer.statistics for layer in main):>14,}",
        f"multiply-adds         {sum(layer.multiply_adds for layer in main):>14,}",
        *filter(None, [note]),
    ]


def _format_shape(shape: tuple[int, ...]) -> str:
    return "x".join(str(side) for side in shape)
