"""From a file's arrays to a network's variables and back, nothing dropped in silence."""

import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from ml_collections import config_dict

from jaxnets import models
from jaxnets.config import FIELDS
from jaxnets.errors import CheckpointError, ConfigError
from jaxnets.interop import weights
from jaxnets.interop.layouts import LAYOUTS, WRITTEN, Layout, normalize_keys
from jaxnets.models import densenet, resnet

Arrays = Mapping[str, np.ndarray]
INCEPTIONS_EPSILON = 1e-3
OWN_FORMS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "lenet5": ("activation", "pooling"),
        "alexnet": ("activation", "pooling"),
        "resnet50": ("stage_sizes", "width"),
        "inception_v3": ("truncate_after",),
    }
)
"""Fields of config.model by network whose defaults alone other libraries have."""


class Converted(NamedTuple):
    """A network's arrays by path, and the names that found no counterpart on either side.

    `missing` are ours ("params/classifier/kernel"), `unexpected` the file's, `folded` the norms whose
    convolutions have them in their kernels and biases.
    """

    arrays: dict[str, np.ndarray]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    folded: tuple[str, ...]


def from_layout(
    layout: str, arrays: Arrays, model: config_dict.ConfigDict, input_shape: tuple[int, ...]
) -> Converted:
    """The variables of `model` from the arrays of a file.

    A norm that the file lacks, beside a bias of its convolution that ours lacks, was folded into the
    kernel: mean 0, scale 1, the bias, and the variance that with epsilon gives 1.
    Raises CheckpointError for an array of another shape or of another type than numbers.
    """
    form, network = LAYOUTS[layout], model.name
    arrays = normalize_keys(arrays) if layout == "torch" else arrays
    expected = weights.structure(model, input_shape)
    found: dict[str, np.ndarray] = {}
    used: set[str] = set()
    for path, leaf in expected.items():
        name = _name(form, network, path)
        if name in arrays:
            turned = form.read(network, _inside(path), _numbers(name, arrays[name]))
            _check_shape(name, turned, path, leaf.shape)
            found[path] = np.ascontiguousarray(turned, leaf.dtype)
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
    counters = {name for name in arrays if name.endswith(form.counted)}
    return Converted(
        found,
        tuple(sorted(set(expected) - set(found))),
        tuple(sorted(set(arrays) - used - counters)),
        tuple(folded),
    )


def to_layout(layout: str, given: weights.Weights) -> dict[str, np.ndarray]:
    """The arrays of a network under another library's names and shapes.

    Raises ConfigError for a layout that is only read, CheckpointError where that library's network is
    another one: by its variant, or for a gamma that is not 1 where Keras has none.
    """
    form, network = LAYOUTS[layout], given.model.name
    if not form.written:
        raise ConfigError(f"--layout={layout} is read, never written: take {', '.join(WRITTEN)}")
    check_same_network(layout, given.model)
    arrays = {}
    for path, leaf in weights.flatten(given.variables).items():
        inside = _inside(path)
        if inside.endswith("/scale") and network in form.without_scale:
            if not np.all(leaf == 1):
                raise CheckpointError(
                    f"{form.title} has no gamma in {network}, and {inside} is not 1 throughout"
                )
            continue
        name = _name(form, network, path)
        if name is None:
            raise CheckpointError(f"{form.title} has no place for {inside}")
        arrays[name] = np.ascontiguousarray(form.write(network, inside, np.asarray(leaf)))
    return arrays


def check_same_network(layout: str, model: config_dict.ConfigDict) -> None:
    """Raises CheckpointError where the library of `layout` has not this network, or has another variant."""
    form, network = LAYOUTS[layout], model.name
    if network not in form.variants:
        raise CheckpointError(f"{form.title} has no {network}: it has {', '.join(form.variants)}")
    variants = form.variants[network]
    if models.variant_of(model) not in variants:
        raise CheckpointError(
            f"{form.title} computes {network} otherwise: it has the variant {_listed(variants)}, "
            f"and these weights are of {models.variant_of(model)!r}"
        )


def check_published_form(layout: str, model: config_dict.ConfigDict) -> None:
    """Raises CheckpointError where the network is cut, narrower or changed: no library builds such a one."""
    for name in OWN_FORMS.get(model.name, ()):
        if model[name] != FIELDS[f"model.{name}"].default:
            raise CheckpointError(
                f"{LAYOUTS[layout].title} has {model.name} whole and as published, and these weights are of "
                f"one with {name} {model[name]}: leave --layout={layout} out"
            )


def epsilon(model: config_dict.ConfigDict) -> float:
    """Of the network's batch normalisations."""
    if model.name == "resnet50":
        return resnet.VARIANTS[model.variant or resnet.TORCHVISION].epsilon
    if model.name == "densenet121":
        return densenet.EPSILONS[model.variant or densenet.TORCHVISION]
    return INCEPTIONS_EPSILON


def _listed(variants: Sequence[str | None]) -> str:
    return ", ".join(repr(variant) for variant in variants)


def _name(form: Layout, network: str, path: str) -> str | None:
    try:
        return form.name(network, _inside(path))
    except KeyError:
        return None


def norms(expected: Mapping[str, Any]) -> list[str]:
    """Paths of the batch normalisations."""
    return [_inside(path).removesuffix("/mean") for path in expected if path.endswith("/mean")]


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
    """Fills in the norm at that path if its convolution holds it; says whether."""
    convolution = convolution_of(norm)
    bias = convolution and _name(form, network, f"params/{convolution}/bias")
    paths = [f"params/{norm}/{leaf}" for leaf in ("scale", "bias")]
    paths += [f"batch_stats/{norm}/{leaf}" for leaf in ("mean", "var")]
    if bias is None or bias not in arrays or any(path in found for path in paths):
        return False
    shape, dtype = expected[paths[0]].shape, expected[paths[0]].dtype
    values = _numbers(bias, arrays[bias])
    _check_shape(bias, values, paths[1], shape)
    if f"params/{convolution}/bias" in expected:  # it stays there, as it is in the file
        values = np.zeros(shape)
    filling = (np.ones(shape), values, np.zeros(shape), np.full(shape, 1 - epsilon))
    found |= {path: value.astype(dtype) for path, value in zip(paths, filling, strict=True)}
    used.add(bias)
    return True


def convolution_of(norm: str) -> str | None:
    """The convolution right before a norm; None where something else is (DenseNet's layers begin so)."""
    place, _, name = norm.rpartition("/")
    in_dense_block = place.startswith("dense_block")
    if place.startswith("transition") or name == "norm5" or (in_dense_block and name == "norm1"):
        return None
    if in_dense_block:
        other = "conv1"
    elif name == "projection_norm":
        other = "projection"
    else:
        other = re.sub("norm", "conv", name)
    return f"{place}/{other}" if place else other


def _inside(path: str) -> str:
    return path.partition("/")[2]


def _numbers(name: str, array: np.ndarray) -> np.ndarray:
    if array.dtype.kind != "f" and array.dtype.name != "bfloat16":
        raise CheckpointError(f"{name} holds {array.dtype}, not floating-point numbers")
    return array


def _check_shape(name: str, array: np.ndarray, path: str, shape: tuple[int, ...]) -> None:
    if array.shape != shape:
        raise CheckpointError(
            f"the file is of another network: {name} is {list(array.shape)}, laid out as ours, "
            f"and {path} is {list(shape)}"
        )
