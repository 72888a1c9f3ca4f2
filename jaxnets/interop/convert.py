"""Converts a file's arrays to a network's variables and back; reports what does not match."""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from ml_collections import config_dict

from jaxnets import models
from jaxnets.config import FIELDS
from jaxnets.errors import CheckpointError, ConfigError, suggest
from jaxnets.interop import weights
from jaxnets.interop.layouts import EXPORTABLE, KNOWN, LAYOUTS, TORCH
from jaxnets.interop.names import rename
from jaxnets.models.base import Network

Arrays = Mapping[str, np.ndarray]
NOT_ARCHITECTURE = ("variant", "auxiliary_heads", "auxiliary_dropout", "kernel_size")
"""Fields of networks that other libraries' forms may differ in."""


NOT_WEIGHTS = r"num_batches_tracked$|(^|_)normalization/(mean|variance|count)$"
"""A counter of PyTorch's batch norm, and the preprocessing in Keras's networks."""


class Converted(NamedTuple):
    """A network's arrays by path, those that the file lacks or only it has, and its folded norms."""

    arrays: dict[str, np.ndarray]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    folded: tuple[str, ...]


def recognise(arrays: Arrays, network: str | None, layout: str | None) -> tuple[str, str]:
    """Detects (network, layout) from the array names of a file; a given one is not detected.

    Raises ConfigError for an unknown network or layout, CheckpointError if the names belong to another
    network or to none of ours.
    """
    if layout is not None and layout not in LAYOUTS:
        raise ConfigError(f"--layout={layout}: choose one of {', '.join(LAYOUTS)}{suggest(layout, LAYOUTS)}")
    if network is not None and network not in KNOWN:
        raise ConfigError(f"--model={network}: choose one of {', '.join(KNOWN)}{suggest(network, KNOWN)}")
    named = [(name, form) for form, library in LAYOUTS.items() for name in library.networks]
    matches = [(name, form) for name, form in named if LAYOUTS[form].networks[name].match(arrays)]
    for name, form in matches:
        if network in (None, name) and layout in (None, form):
            return name, form
    if network is not None and layout is not None:
        return network, layout
    for name, form in matches:
        given = f"--model={network}" if network is not None else f"--layout={layout}"
        raise CheckpointError(
            f"the array names are those of {name} in the layout {form}, not {given}: omit that flag"
        )
    shown = ", ".join(list(arrays)[:3])
    raise CheckpointError(
        f"the file is not of a supported network (its arrays are {shown}, ...): supported are "
        f"{', '.join(KNOWN)}; if it is one of them, set --model and --layout"
    )


def from_layout(
    layout: str, arrays: Arrays, model: config_dict.ConfigDict, input_shape: tuple[int, ...]
) -> Converted:
    """Converts the arrays of a file to the variables of `model`.

    If the file lacks a norm but its convolution has a bias that ours does not, the norm was folded into the
    kernel. It then gets mean 0, scale 1, that bias, and the variance 1 - epsilon.
    Raises CheckpointError for an array with another shape or a non-float type.
    """
    form, network = LAYOUTS[layout], model.name
    expected = weights.structure(model, input_shape)

    def read(name: str, path: str) -> np.ndarray:
        """The file's array `name` as ours at `path`."""
        array = arrays[name]
        if array.dtype.kind != "f" and array.dtype.name != "bfloat16":
            raise CheckpointError(f"{name} holds {array.dtype}, not floating-point numbers")
        array = form.read(network, _inner_path(path), array)
        if array.shape != expected[path].shape:
            raise CheckpointError(
                f"the file is of another network: {name} is {list(array.shape)} in our layout, "
                f"and {path} of {network} is {list(expected[path].shape)}"
            )
        return np.ascontiguousarray(array, expected[path].dtype)

    names = {path: form.name(network, _inner_path(path)) for path in expected}
    found = {path: read(name, path) for path, name in names.items() if name in arrays}
    used, folded = {names[path] for path in found}, []
    for norm in norms(expected):
        convolution = convolution_of(norm)
        bias = convolution and form.name(network, f"{convolution}/bias")
        scale, shift = f"params/{norm}/scale", f"params/{norm}/bias"
        mean, var = f"batch_stats/{norm}/mean", f"batch_stats/{norm}/var"
        if bias in arrays and found.keys().isdisjoint((scale, shift, mean, var)):
            values = read(bias, shift)
            if f"params/{convolution}/bias" in expected:  # then the bias stays with the convolution
                values = np.zeros_like(values)
            ones, variance = np.ones_like(values), np.full_like(values, 1 - epsilon(model))
            found |= {scale: ones, shift: values, mean: np.zeros_like(values), var: variance}
            used.add(bias)
            folded.append(norm)
        elif shift in found and scale not in found and not form.networks[network].has_gamma:
            found[scale] = np.ones_like(found[shift])
    missing = tuple(sorted(expected.keys() - found))
    unused = (name for name in arrays.keys() - used if not re.search(NOT_WEIGHTS, name))
    unexpected = tuple(sorted(unused))
    return Converted(found, missing, unexpected, tuple(folded))


def to_layout(layout: str, given: weights.Weights) -> dict[str, np.ndarray]:
    """The arrays of a network under another library's names and in its layout.

    Raises ConfigError for a layout that cannot be exported, CheckpointError if that library lacks the
    network or has another: in its variant, or because it has no gamma and ours is not 1.
    """
    form, network, variant = LAYOUTS[layout], given.model.name, models.variant_of(given.model)
    if not form.can_export:
        raise ConfigError(f"--layout={layout} is import-only: choose {', '.join(EXPORTABLE)}")
    if network not in form.networks:
        raise CheckpointError(f"{form.title} has no {network}: it has {', '.join(form.networks)}")
    if variant not in (variants := form.networks[network].variants):
        raise CheckpointError(
            f"{form.title} has only the variant {', '.join(map(repr, variants))} of {network}, "
            f"and these weights are of {variant!r}"
        )
    arrays = {}
    for path, leaf in weights.flatten(given.variables).items():
        inner = _inner_path(path)
        if inner.endswith("/scale") and not form.networks[network].has_gamma:
            if not np.all(leaf == 1):
                raise CheckpointError(f"{form.title} has no gamma in {network}, but {inner} is not all ones")
            continue
        name = form.name(network, inner)
        if name is None:
            raise CheckpointError(f"{form.title} does not have {inner}")
        arrays[name] = np.ascontiguousarray(form.write(network, inner, np.asarray(leaf)))
    return arrays


def to_torch(network: str, tree: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Converts one collection (parameters, gradients, optimizer moments or batch statistics) to PyTorch's."""
    return {
        str(TORCH.name(network, path)): TORCH.write(network, path, np.asarray(leaf)).copy()
        for path, leaf in weights.flatten(tree).items()
    }


def check_published_form(layout: str, model: config_dict.ConfigDict) -> None:
    """Raises CheckpointError if the architecture was modified; other libraries only have the original."""
    for name in models.entry(model.name).fields:
        if name not in NOT_ARCHITECTURE and model[name] != FIELDS[f"model.{name}"].default:
            raise CheckpointError(
                f"{LAYOUTS[layout].title} only has the published {model.name}, and these weights are of "
                f"one with {name} {model[name]}: omit --layout={layout}"
            )


def epsilon(model: config_dict.ConfigDict) -> float:
    """The epsilon of the network's batch norms."""
    network = models.create(model)
    assert isinstance(network, Network)
    return network.epsilon


def norms(expected: Mapping[str, Any]) -> list[str]:
    """Paths of the batch norms."""
    return [_inner_path(path).removesuffix("/mean") for path in expected if path.endswith("/mean")]


def convolution_of(norm: str) -> str | None:
    """The convolution directly before a norm; None if there is not one, as in DenseNet's norm1."""
    return rename(
        (
            (r"^transition|norm5$|^dense_block\d+/layer\d+/norm1$", None),
            ("^(dense_block.+)/norm2$", r"\1/conv1"),
            ("projection_norm$", "projection"),
            (r"norm(\d*)$", r"conv\1"),
        ),
        norm,
    )


def _inner_path(path: str) -> str:
    return path.partition("/")[2]
