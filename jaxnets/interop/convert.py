"""Converts a file's arrays to a network's variables and back; reports what does not match."""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from ml_collections import config_dict

from jaxnets import models
from jaxnets.config import FIELDS
from jaxnets.errors import CheckpointError, ConfigError
from jaxnets.interop import weights
from jaxnets.interop.layouts import EXPORTABLE, LAYOUTS, Layout, normalize_keys
from jaxnets.models import densenet, resnet

Arrays = Mapping[str, np.ndarray]
INCEPTION_EPSILON = 1e-3
ARCHITECTURE_FIELDS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "lenet5": ("activation", "pooling"),
        "alexnet": ("activation", "pooling"),
        "resnet50": ("stage_sizes", "width"),
        "inception_v3": ("truncate_after",),
    }
)
"""By network, the fields of config.model that must have their default for other libraries."""


class Converted(NamedTuple):
    """A network's arrays by path, and the names without a counterpart.

    `missing` are paths of ours ("params/classifier/kernel"), `unexpected` are names of the file, and
    `folded` are the norms that were folded into their convolutions.
    """

    arrays: dict[str, np.ndarray]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    folded: tuple[str, ...]


def from_layout(
    layout: str, arrays: Arrays, model: config_dict.ConfigDict, input_shape: tuple[int, ...]
) -> Converted:
    """Converts the arrays of a file to the variables of `model`.

    If the file lacks a norm but its convolution has a bias that ours does not, the norm was folded into the
    kernel. It then gets mean 0, scale 1, that bias, and the variance 1 - epsilon.
    Raises CheckpointError for an array with another shape or a non-float type.
    """
    form, network = LAYOUTS[layout], model.name
    arrays = normalize_keys(arrays) if layout == "torch" else arrays
    expected = weights.structure(model, input_shape)
    found: dict[str, np.ndarray] = {}
    used: set[str] = set()
    for path, leaf in expected.items():
        name = _name(form, network, path)
        if name in arrays:
            array = form.read(network, _inner_path(path), _check_float(name, arrays[name]))
            _check_shape(name, array, path, leaf.shape)
            found[path] = np.ascontiguousarray(array, leaf.dtype)
            used.add(name)
    folded = [
        norm
        for norm in norms(expected)
        if _fill_folded(norm, found, used, form, network, arrays, expected, epsilon(model))
    ]
    if network in form.without_scale:
        for norm in norms(expected):
            scale = f"params/{norm}/scale"
            if scale not in found and f"params/{norm}/bias" in found:
                found[scale] = np.ones(expected[scale].shape, expected[scale].dtype)
    counters = {name for name in arrays if name.endswith(form.counter_suffix)}
    return Converted(
        found,
        tuple(sorted(set(expected) - set(found))),
        tuple(sorted(set(arrays) - used - counters)),
        tuple(folded),
    )


def to_layout(layout: str, given: weights.Weights) -> dict[str, np.ndarray]:
    """The arrays of a network under another library's names and in its layout.

    Raises ConfigError for a layout that cannot be exported, CheckpointError if that library's network
    differs: in its variant, or because it has no gamma and ours is not 1.
    """
    form, network = LAYOUTS[layout], given.model.name
    if not form.can_export:
        raise ConfigError(f"--layout={layout} is import-only: choose {', '.join(EXPORTABLE)}")
    check_same_network(layout, given.model)
    arrays = {}
    for path, leaf in weights.flatten(given.variables).items():
        inner = _inner_path(path)
        if inner.endswith("/scale") and network in form.without_scale:
            if not np.all(leaf == 1):
                raise CheckpointError(f"{form.title} has no gamma in {network}, but {inner} is not all ones")
            continue
        name = _name(form, network, path)
        if name is None:
            raise CheckpointError(f"{form.title} does not have {inner}")
        arrays[name] = np.ascontiguousarray(form.write(network, inner, np.asarray(leaf)))
    return arrays


def check_same_network(layout: str, model: config_dict.ConfigDict) -> None:
    """Raises CheckpointError if the library of `layout` lacks this network or this variant of it."""
    form, network = LAYOUTS[layout], model.name
    if network not in form.variants:
        raise CheckpointError(f"{form.title} has no {network}: it has {', '.join(form.variants)}")
    variants = form.variants[network]
    if models.variant_of(model) not in variants:
        raise CheckpointError(
            f"{form.title} has only the variant {', '.join(map(repr, variants))} of {network}, "
            f"and these weights are of {models.variant_of(model)!r}"
        )


def check_published_form(layout: str, model: config_dict.ConfigDict) -> None:
    """Raises CheckpointError if the architecture was modified; other libraries only have the original."""
    for name in ARCHITECTURE_FIELDS.get(model.name, ()):
        if model[name] != FIELDS[f"model.{name}"].default:
            raise CheckpointError(
                f"{LAYOUTS[layout].title} only has the published {model.name}, and these weights are of "
                f"one with {name} {model[name]}: omit --layout={layout}"
            )


def epsilon(model: config_dict.ConfigDict) -> float:
    """The epsilon of the network's batch norms."""
    if model.name == "resnet50":
        return resnet.VARIANTS[model.variant or resnet.TORCHVISION].epsilon
    if model.name == "densenet121":
        return densenet.EPSILONS[model.variant or densenet.TORCHVISION]
    return INCEPTION_EPSILON


def _name(form: Layout, network: str, path: str) -> str | None:
    try:
        return form.name(network, _inner_path(path))
    except KeyError:
        return None


def norms(expected: Mapping[str, Any]) -> list[str]:
    """Paths of the batch norms."""
    return [_inner_path(path).removesuffix("/mean") for path in expected if path.endswith("/mean")]


def _fill_folded(
    norm: str,
    found: dict[str, np.ndarray],
    used: set[str],
    form: Layout,
    network: str,
    arrays: Arrays,
    expected: Mapping[str, Any],
    epsilon: float,
) -> bool:
    """If the norm was folded into its convolution, adds its arrays to `found` and returns True."""
    convolution = convolution_of(norm)
    bias = convolution and _name(form, network, f"params/{convolution}/bias")
    paths = [f"params/{norm}/{leaf}" for leaf in ("scale", "bias")]
    paths += [f"batch_stats/{norm}/{leaf}" for leaf in ("mean", "var")]
    if bias is None or bias not in arrays or any(path in found for path in paths):
        return False
    shape, dtype = expected[paths[0]].shape, expected[paths[0]].dtype
    values = _check_float(bias, arrays[bias])
    _check_shape(bias, values, paths[1], shape)
    if f"params/{convolution}/bias" in expected:  # then the bias stays with the convolution
        values = np.zeros(shape)
    filling = (np.ones(shape), values, np.zeros(shape), np.full(shape, 1 - epsilon))
    found |= {path: value.astype(dtype) for path, value in zip(paths, filling, strict=True)}
    used.add(bias)
    return True


def convolution_of(norm: str) -> str | None:
    """The convolution directly before a norm; None if there is not one, as in DenseNet's norm1."""
    module, _, name = norm.rpartition("/")
    in_dense_block = module.startswith("dense_block")
    if module.startswith("transition") or name == "norm5" or (in_dense_block and name == "norm1"):
        return None
    if in_dense_block:
        other = "conv1"
    elif name == "projection_norm":
        other = "projection"
    else:
        other = re.sub("norm", "conv", name)
    return f"{module}/{other}" if module else other


def _inner_path(path: str) -> str:
    return path.partition("/")[2]


def _check_float(name: str, array: np.ndarray) -> np.ndarray:
    if array.dtype.kind != "f" and array.dtype.name != "bfloat16":
        raise CheckpointError(f"{name} holds {array.dtype}, not floating-point numbers")
    return array


def _check_shape(name: str, array: np.ndarray, path: str, shape: tuple[int, ...]) -> None:
    if array.shape != shape:
        raise CheckpointError(
            f"the file is of another network: {name} is {list(array.shape)} in our layout, "
            f"and {path} is {list(shape)}"
        )
