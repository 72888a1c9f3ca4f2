"""How other libraries name and lay out our arrays, whose paths are without the collection: "conv1/kernel"."""

import re
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from jaxnets.interop import keras_names, mobile_names, torch_names
from jaxnets.interop.names import Names, rename

DEPTHWISE = ("depthwise/kernel", "depthwise/conv/kernel")
"""The ends of the paths of depthwise kernels."""


class Layout(NamedTuple):
    """How one library names and lays out our arrays.

    `kernel` and `norm` are its names of a kernel and of a batch norm's arrays. With `transposes`, kernels are
    PyTorch's: [C_out, C_in, kh, kw] and [out, in], whose inputs after a flatten are in (C, H, W) order; else
    they are ours: [kh, kw, C_in, C_out] and [in, out], (H, W, C), except those of modules named "depthwise":
    [kh, kw, C, 1].
    """

    title: str
    networks: Mapping[str, Names]
    kernel: str = "kernel"
    norm: Mapping[str, str] = {}
    separator: str = "."
    transposes: bool = False
    can_export: bool = True

    def module_name(self, network: str, module: str) -> str | None:
        """The library's name of our module, such as "stage2_block1/conv1"; None if it has none."""
        name = rename(self.networks[network].rules, module)
        return None if name is None else name.replace("/", self.separator)

    def name(self, network: str, path: str) -> str | None:
        """The library's name of our array at `path`; None if it has none.

        A module's name may end with an underscore where the library has several kernels in one layer:
        "sepconv1/depthwise_" and "kernel" are "sepconv1/depthwise_kernel".
        """
        module, _, leaf = path.rpartition("/")
        names = self.norm if "norm" in module.rpartition("/")[2] else {"kernel": self.kernel}
        names = {**names, **self.networks[network].leaves}
        name = self.module_name(network, module)
        if name is None:
            return None
        separator = "" if name.endswith("_") else self.separator
        return f"{name}{separator}{names.get(leaf, leaf)}"

    def read(self, network: str, path: str, array: np.ndarray) -> np.ndarray:
        """The library's array, in our layout."""
        if path.endswith(self.networks[network].channel_maps) and array.shape[1:] == (1, 1):
            return array[:, 0, 0]
        if self.transposes and array.ndim == 4:
            return array.transpose(2, 3, 1, 0)
        if self.transposes and array.ndim == 2:
            channels = self.networks[network].flattened.get(path.removesuffix("/kernel"), 1)
            return _swap_axes_of_rows(array.T, channels, -1)
        return array if self.transposes else _swap_channels_if_depthwise(path, array)

    def write(self, network: str, path: str, array: np.ndarray) -> np.ndarray:
        """Our array, in the library's layout."""
        if path.endswith(self.networks[network].channel_maps):
            return array[:, None, None]
        if self.transposes and array.ndim == 4:
            return array.transpose(3, 2, 0, 1)
        if self.transposes and array.ndim == 2:
            channels = self.networks[network].flattened.get(path.removesuffix("/kernel"), 1)
            return _swap_axes_of_rows(array, -1, channels).T
        return array if self.transposes else _swap_channels_if_depthwise(path, array)


def _swap_channels_if_depthwise(path: str, array: np.ndarray) -> np.ndarray:
    """From [kh, kw, 1, C] to [kh, kw, C, 1] or back."""
    return array.swapaxes(2, 3) if path.endswith(DEPTHWISE) and array.ndim == 4 else array


def _swap_axes_of_rows(array: np.ndarray, outer: int, inner: int) -> np.ndarray:
    """Reorders rows from (outer, inner) to (inner, outer); an array that does not fit stays."""
    if len(array) % max(outer, inner):
        return array
    return array.reshape(outer, inner, array.shape[1]).transpose(1, 0, 2).reshape(array.shape)


TORCH = Layout(
    "torchvision or timm",
    {**torch_names.NETWORKS, **mobile_names.TORCH},
    kernel="weight",
    norm={"scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"},
    transposes=True,
)
TIMM = TORCH._replace(title="timm", networks={**torch_names.TIMM, **mobile_names.TIMM})
EFFICIENTNET_PYTORCH = TORCH._replace(
    title="EfficientNet-PyTorch", networks=mobile_names.EFFICIENTNET_PYTORCH
)
KERAS = Layout(
    "keras.applications",
    {**keras_names.NETWORKS, **mobile_names.KERAS},
    norm={"scale": "gamma", "bias": "beta", "mean": "moving_mean", "var": "moving_variance"},
    separator="/",
)
INCEPTION_2015 = Layout("TensorFlow, 2015-12-05", keras_names.INCEPTION_2015, can_export=False)
"""Batch norm is folded into the kernels: the names of our norms match nothing.

The last block pools by maximum, later versions by average: its layers are of a slightly different network.
"""

LAYOUTS = {
    "torch": TORCH,
    "timm": TIMM,
    "efficientnet_pytorch": EFFICIENTNET_PYTORCH,
    "keras": KERAS,
    "inception_2015": INCEPTION_2015,
}
"""By the value of --layout."""
EXPORTABLE = tuple(name for name, layout in LAYOUTS.items() if layout.can_export)
"""The values of --layout for an export."""
KNOWN = tuple(dict.fromkeys(network for layout in LAYOUTS.values() for network in layout.networks))
"""Networks that can be imported."""


def normalize_torch_names(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays as the libraries' own files name them today.

    Without the prefixes of DataParallel and torch.compile and DenseNet's old dots; timm's VGG has the names
    of torchvision's.
    """
    named = dict(arrays)
    for prefix in ("module.", "_orig_mod.") * 2:  # either may be outermost
        if named and all(name.startswith(prefix) for name in named):
            named = {name.removeprefix(prefix): array for name, array in named.items()}
    if "pre_logits.fc1.weight" in named:  # timm's VGG, whose dense layers are convolutions
        for theirs, place in (("pre_logits.fc1", 0), ("pre_logits.fc2", 3), ("head.fc", 6)):
            kernel, bias = named.pop(f"{theirs}.weight"), named.pop(f"{theirs}.bias")
            name = f"classifier.{place}"
            named |= {f"{name}.weight": kernel.reshape(len(kernel), -1), f"{name}.bias": bias}
    # torchvision's own files have norm.1 for norm1.
    old_densenet = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12])\.")
    return {old_densenet.sub(r"\1\2.", name): array for name, array in named.items()}
