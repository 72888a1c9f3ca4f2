"""Whose names and shapes a file of weights has: PyTorch's libraries', Keras's, TensorFlow's of 2015, ours.

Paths are of arrays inside a collection, "conv1/kernel".
"""

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from jaxnets.interop import inception_2015, keras_names, torch_names, torch_state

Transform = Callable[[str, str, np.ndarray], np.ndarray]
"""(network, path, array) -> the array, laid out in another way."""

KERAS_LEAVES = {
    "kernel": "kernel",
    "scale": "gamma",
    "bias": "bias",
    "mean": "moving_mean",
    "var": "moving_variance",
}
OLD_DENSENET = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12])\.")
"""norm.1 for norm1, as torchvision's own files have it."""


def _as_it_is(network: str, path: str, array: np.ndarray) -> np.ndarray:
    del network, path
    return array


class Layout(NamedTuple):
    """How one library writes our arrays.

    `name` raises KeyError for what the library's network does not have. `read` and `write` turn arrays.
    `variants` says which variants of ours the library has, by network, the one that its files are taken for
    first; a network without variants has None. `written` is False where files are only read.
    `without_scale` has the networks whose batch normalisation has no gamma there.
    """

    title: str
    name: Callable[[str, str], str]
    read: Transform
    write: Transform
    variants: Mapping[str, tuple[str | None, ...]]
    without_scale: tuple[str, ...] = ()
    counted: str = "no such suffix"
    """Suffix of arrays that only count."""
    written: bool = True


def _torch_name(network: str, path: str) -> str:
    return torch_state.torch_name(network, path)


def _keras_name(network: str, path: str) -> str:
    module, _, leaf = path.rpartition("/")
    layer = keras_names.BY_NETWORK[network](module)
    name = "beta" if leaf == "bias" and _is_norm(module) else KERAS_LEAVES[leaf]
    return f"{layer}/{name}"


def _name_of_2015(network: str, path: str) -> str:
    if network != "inception_v3":
        raise KeyError(path)
    return inception_2015.array_name(path)


def _own_name(network: str, path: str) -> str:
    del network
    return path


OF_TORCH: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        **dict.fromkeys(
            ("resnet50", "inception_v1", "inception_v3", "densenet121"), ("torchvision",)
        ),
        "alexnet": ("pool3", "pool2"),
    }
)
"""LeNet-5 and AlexNet are the reports' own, which have PyTorch's names too."""

LAYOUTS: Mapping[str, Layout] = MappingProxyType(
    {
        "torch": Layout(
            "torchvision or timm",
            _torch_name,
            torch_state.transposed_from_torch,
            torch_state.transposed_to_torch,
            MappingProxyType(
                {network: OF_TORCH.get(network, (None,)) for network in torch_names.BY_NETWORK}
            ),
            counted="num_batches_tracked",
        ),
        "keras": Layout(
            "keras.applications",
            _keras_name,
            _as_it_is,
            _as_it_is,
            MappingProxyType(
                {
                    "resnet50": ("keras",),
                    "inception_v3": ("keras",),
                    "densenet121": ("keras",),
                    "inception_resnet_v2": (None,),
                }
            ),
            without_scale=keras_names.WITHOUT_SCALE,
        ),
        "inception_2015": Layout(
            "TensorFlow, 2015-12-05",
            _name_of_2015,
            _as_it_is,
            _as_it_is,
            MappingProxyType({"inception_v3": ("keras",)}),
            written=False,
        ),
    }
)
"""By the name that --layout takes."""
WRITTEN = tuple(name for name, form in LAYOUTS.items() if form.written)
"""Those that --layout of an export takes."""


WRAPPERS = ("module.", "_orig_mod.")
"""What DataParallel and torch.compile put before every name."""


def normalize_keys(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays under today's names: without a wrapper's prefixes and DenseNet's old dots."""
    named = dict(arrays)
    for prefix in WRAPPERS * 2:  # either may be around the other
        if named and all(name.startswith(prefix) for name in named):
            named = {name.removeprefix(prefix): array for name, array in named.items()}
    return {OLD_DENSENET.sub(r"\1\2.", name): array for name, array in named.items()}


def _is_norm(module: str) -> bool:
    return "norm" in module.rpartition("/")[2]
