"""Names and array layouts of weight files: PyTorch's libraries, Keras, and TensorFlow's of 2015.

Paths do not include the collection, as in "conv1/kernel".
"""

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from jaxnets.interop import inception_2015, keras_names, torch_names, torch_state

Transform = Callable[[str, str, np.ndarray], np.ndarray]
"""(network, path, array) -> the array in the other layout."""

KERAS_LEAVES = {
    "kernel": "kernel",
    "scale": "gamma",
    "bias": "bias",
    "mean": "moving_mean",
    "var": "moving_variance",
}
OLD_DENSENET = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12])\.")
"""norm.1 for norm1, as in torchvision's own files."""
WRAPPERS = ("module.", "_orig_mod.")
"""Prefixes that DataParallel and torch.compile add to every name."""


def _identity(network: str, path: str, array: np.ndarray) -> np.ndarray:
    del network, path
    return array


class Layout(NamedTuple):
    """How one library names and lays out our arrays.

    `name` raises KeyError for arrays that the library's network does not have. `read` and `write` convert
    arrays. `variants` maps each network to our variants that the library supports; files are assumed to be
    of the first one, and a network without variants has None. `without_scale` lists the networks whose
    batch normalisation has no gamma. Arrays with the `counter_suffix` are counters and are ignored.
    """

    title: str
    name: Callable[[str, str], str]
    read: Transform
    write: Transform
    variants: Mapping[str, tuple[str | None, ...]]
    without_scale: tuple[str, ...] = ()
    counter_suffix: str = "no such suffix"
    can_export: bool = True


def _keras_name(network: str, path: str) -> str:
    module, _, leaf = path.rpartition("/")
    is_norm_bias = leaf == "bias" and "norm" in module.rpartition("/")[2]
    weight = "beta" if is_norm_bias else KERAS_LEAVES[leaf]
    return f"{keras_names.BY_NETWORK[network](module)}/{weight}"


def _inception_2015_name(network: str, path: str) -> str:
    if network != "inception_v3":
        raise KeyError(path)
    return inception_2015.array_name(path)


TORCH_VARIANTS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        **dict.fromkeys(("resnet50", "inception_v1", "inception_v3", "densenet121"), ("torchvision",)),
        "alexnet": ("pool3", "pool2"),
    }
)
"""LeNet-5 and AlexNet are the networks of the reports, which also use PyTorch's names."""

LAYOUTS: Mapping[str, Layout] = MappingProxyType(
    {
        "torch": Layout(
            "torchvision or timm",
            torch_state.torch_name,
            torch_state.transposed_from_torch,
            torch_state.transposed_to_torch,
            {network: TORCH_VARIANTS.get(network, (None,)) for network in torch_names.BY_NETWORK},
            counter_suffix="num_batches_tracked",
        ),
        "keras": Layout(
            "keras.applications",
            _keras_name,
            _identity,
            _identity,
            {
                "resnet50": ("keras",),
                "inception_v3": ("keras",),
                "densenet121": ("keras",),
                "inception_resnet_v2": (None,),
            },
            without_scale=keras_names.WITHOUT_SCALE,
        ),
        "inception_2015": Layout(
            "TensorFlow, 2015-12-05",
            _inception_2015_name,
            _identity,
            _identity,
            {"inception_v3": ("keras",)},
            can_export=False,
        ),
    }
)
"""By the value of --layout."""
EXPORTABLE = tuple(name for name, layout in LAYOUTS.items() if layout.can_export)
"""The values of --layout for an export."""


def normalize_keys(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays under current names: without wrapper prefixes and DenseNet's old dots."""
    named = dict(arrays)
    for prefix in WRAPPERS * 2:  # either may be outermost
        if named and all(name.startswith(prefix) for name in named):
            named = {name.removeprefix(prefix): array for name, array in named.items()}
    return {OLD_DENSENET.sub(r"\1\2.", name): array for name, array in named.items()}
