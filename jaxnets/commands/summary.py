"""A network's layers, parameters and multiply-adds, computed from shapes."""

import dataclasses
import functools
import math
import shutil
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from flax import traverse_util
from ml_collections import config_dict

from jaxnets import config as config_lib
from jaxnets import models, reported
from jaxnets.errors import ConfigError
from jaxnets.runtime.console import Reporter

WIDE = 100
"""Minimum terminal width to show input shapes."""


@dataclasses.dataclass(frozen=True)
class Layer:
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
    """Prints a network's layer table and totals, and the report's parameter table if there is one.

    Raises ConfigError for an unknown network or variant, and for too small images.
    """
    model = config_lib.default_config().model
    model.name, model.variant = name, variant
    entry = models.entry(name)
    model.num_classes = num_classes or (3 if entry.channels == 3 else 10)
    if entry.kind != "image" and (num_classes or image_size):
        raise ConfigError(f"{entry.title} takes no images: --num_classes and --image_size do not apply")
    models.check_variant(name, variant, flag="--variant")
    size = image_size or entry.native_size
    shape: tuple[int, ...] = (model.layer_sizes[0],)
    if entry.kind == "image":
        models.check_image_size(name, size, flag="--image_size")
        shape = (size, size, entry.channels)
    layers = layers_of(model, shape)
    reporter = Reporter()
    lines = [
        *table(layers, shutil.get_terminal_size((WIDE, 24)).columns),
        "",
        *_totals(layers, entry.title, model, shape),
        *_reported_formulas(layers, name),
    ]
    for line in lines:
        reporter.print(line)
    return layers


def layers_of(model: config_dict.ConfigDict, shape: tuple[int, ...]) -> list[Layer]:
    """The layers in order of computation for one input of `shape`, including auxiliary heads."""
    network = models.create(model)
    calls: list[tuple[str, str, tuple[int, ...], tuple[int, ...]]] = []

    def record(following: Any, args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
        y = following(*args, **kwargs)
        if context.method_name == "__call__" and args and hasattr(y, "shape"):
            path, kind = "/".join(context.module.path), type(context.module).__name__
            calls.append((path, kind, args[0].shape[1:], y.shape[1:]))
        return y

    with nn.intercept_methods(record):
        x = jax.ShapeDtypeStruct((1, *shape), np.float32)
        variables = jax.eval_shape(functools.partial(network.init, jax.random.key(0)), x)
    own: dict[str, dict[str, dict[str, Any]]] = {"params": {}, "batch_stats": {}}
    for collection, found in own.items():
        flat = traverse_util.flatten_dict(dict(variables.get(collection, {})), sep="/")
        for path, leaf in flat.items():
            module, _, name = path.rpartition("/")
            found.setdefault(module, {})[name] = leaf
    return [
        Layer(
            path,
            kind,
            inputs,
            outputs,
            _count(own["params"][path]),
            _count(own["batch_stats"].get(path, {})),
            _multiply_adds(own["params"][path], outputs),
        )
        for path, kind, inputs, outputs in calls
        if path in own["params"]
    ]


def table(layers: Sequence[Layer], width: int) -> list[str]:
    """Table lines of at most `width`; input shapes are omitted and paths shortened if necessary."""
    rows = [("layer", "kind", "input", "output", "parameters", "multiply-adds")]
    rows += [
        (
            layer.path,
            layer.kind,
            _format_shape(layer.inputs),
            _format_shape(layer.outputs),
            f"{layer.parameters:,}",
            f"{layer.multiply_adds:,}" if layer.multiply_adds else "",
        )
        for layer in layers
    ]
    if width < WIDE:
        rows = [(row[0], *row[3:]) for row in rows]
    sizes = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    sizes[0] = max(8, min(sizes[0], width - sum(sizes[1:]) - 2 * (len(sizes) - 1)))
    first_number = len(sizes) - 2
    return [
        "  ".join(
            cell.rjust(size) if i >= first_number else _shortened(cell, size).ljust(size)
            for i, (cell, size) in enumerate(zip(row, sizes, strict=True))
        ).rstrip()
        for row in rows
    ]


def _totals(
    layers: Sequence[Layer], title: str, model: config_dict.ConfigDict, shape: tuple[int, ...]
) -> list[str]:
    heads = [layer for layer in layers if layer.path.startswith("auxiliary")]
    main = [layer for layer in layers if layer not in heads]
    classes = "" if model.name == "mlp" else f", {model.num_classes} classes"
    variant = f" ({model.variant})" if model.variant else ""
    lines = [
        f"{title}{variant}, input {_format_shape(shape)}{classes}",
        f"parameters            {sum(layer.parameters for layer in main):>14,}",
        f"auxiliary_parameters  {sum(layer.parameters for layer in heads):>14,}",
        f"batch statistics      {sum(layer.statistics for layer in main):>14,}",
        f"multiply-adds         {sum(layer.multiply_adds for layer in main):>14,}",
    ]
    note = models.skipped_aux_heads_note(model, shape[0]) if len(shape) == 3 else None
    return [*lines, note] if note else lines


def _reported_formulas(layers: Sequence[Layer], name: str) -> list[str]:
    """Report A's parameter formulas of the network, and our counts by block."""
    entries = reported.document("lung")["entries"]
    formulas = entries.get(f"A/{name}", {}).get("parameter_formulas")
    if formulas is None:
        return []
    lines = ["", "report A's table of formulas, which does not describe this network:"]
    for row in formulas["rows"]:
        wrong = "" if row.get("agrees", True) else f"  (gives {row['formula_gives_computed']:,})"
        lines.append(f"{row['layer']:<26}{row['total']:>13,}  {row['formula']}{wrong}")
    blocks: dict[str, int] = {}
    for layer in layers:
        block = layer.path.partition("/")[0]
        blocks[block] = blocks.get(block, 0) + layer.parameters
    lines += [
        f"{'sum':<26}{formulas['sum_of_totals_computed']:>13,}",
        "",
        "our parameters by block:",
    ]
    lines += [f"{block:<26}{count:>13,}" for block, count in blocks.items()]
    heads = sum(models.auxiliary_part(blocks).values())
    lines += [f"{'sum':<26}{sum(blocks.values()) - heads:>13,}"]
    return lines + ([f"{'auxiliary heads':<26}{heads:>13,}"] if heads else [])


def _count(leaves: dict[str, Any]) -> int:
    return sum(leaf.size for leaf in leaves.values())


def _multiply_adds(leaves: dict[str, Any], outputs: tuple[int, ...]) -> int:
    """Multiply-adds of a convolution or dense layer: kernel size times output positions."""
    return leaves["kernel"].size * math.prod(outputs[:-1]) if "kernel" in leaves else 0


def _format_shape(shape: tuple[int, ...]) -> str:
    return "x".join(str(side) for side in shape)


def _shortened(text: str, size: int) -> str:
    return text if len(text) <= size else f"...{text[-(size - 3) :]}"
