"""How other libraries name and lay out our arrays, whose paths are without the collection: "conv1/kernel"."""

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from jaxnets.models import inception_resnet_v2, inception_v3
from jaxnets.models.inception import STEM, Branches

Rules = tuple[tuple[str, str | Callable[[re.Match[str]], str] | None], ...]
"""Arguments of re.sub, applied in order to a module's path; None marks modules that the library lacks."""


class Names(NamedTuple):
    """The naming of one network.

    An array named `key` identifies its files, which are assumed to be of the first of `variants`: ours that
    the library supports, (None,) for a network without variants. `flattened`: the channels of the feature map
    before each dense layer that follows a flatten. `has_gamma`: the batch norms have one.
    """

    rules: Rules
    key: str
    variants: tuple[str | None, ...] = (None,)
    flattened: Mapping[str, int] = {}
    has_gamma: bool = True


class Layout(NamedTuple):
    """How one library names and lays out our arrays.

    `kernel` and `norm` are its names of a kernel and of a batch norm's arrays. With `transposes`, kernels are
    PyTorch's: [C_out, C_in, kh, kw] and [out, in], whose inputs after a flatten are in (C, H, W) order; else
    they are ours: [kh, kw, C_in, C_out] and [in, out], (H, W, C).
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
        """The library's name of our array at `path`; None if it has none."""
        module, _, leaf = path.rpartition("/")
        names = self.norm if "norm" in module.rpartition("/")[2] else {"kernel": self.kernel}
        name = self.module_name(network, module)
        return None if name is None else f"{name}{self.separator}{names.get(leaf, leaf)}"

    def read(self, network: str, path: str, array: np.ndarray) -> np.ndarray:
        """The library's array, in our layout."""
        if self.transposes and array.ndim == 4:
            return array.transpose(2, 3, 1, 0)
        if self.transposes and array.ndim == 2:
            channels = self.networks[network].flattened.get(path.removesuffix("/kernel"), 1)
            return _swap_axes_of_rows(array.T, channels, -1)
        return array

    def write(self, network: str, path: str, array: np.ndarray) -> np.ndarray:
        """Our array, in the library's layout."""
        if self.transposes and array.ndim == 4:
            return array.transpose(3, 2, 0, 1)
        if self.transposes and array.ndim == 2:
            channels = self.networks[network].flattened.get(path.removesuffix("/kernel"), 1)
            return _swap_axes_of_rows(array, -1, channels).T
        return array


def _swap_axes_of_rows(array: np.ndarray, outer: int, inner: int) -> np.ndarray:
    """Reorders rows from (outer, inner) to (inner, outer); an array that does not fit stays."""
    if len(array) % max(outer, inner):
        return array
    return array.reshape(outer, inner, array.shape[1]).transpose(1, 0, 2).reshape(array.shape)


def rename(rules: Rules, path: str) -> str | None:
    """Applies the rules to the path of a module."""
    for pattern, replacement in rules:
        if replacement is not None:
            path = re.sub(pattern, replacement, path)
        elif re.search(pattern, path):
            return None
    return path


TORCHVISION = ("torchvision",)
TORCH = Layout(
    "torchvision or timm",
    {
        "resnet50": Names(
            (
                ("^classifier$", "fc"),
                (r"^stage(\d+)_block(\d+)/", lambda found: f"layer{found[1]}.{int(found[2]) - 1}/"),
                ("projection_norm", "downsample.1"),
                ("projection", "downsample.0"),
                ("norm", "bn"),
            ),
            key="layer4.2.conv3.weight",
            variants=TORCHVISION,
        ),
        "densenet121": Names(
            (
                ("^(?!classifier)", "features."),
                (r"dense_block(\d+)/layer(\d+)/", r"denseblock\1.denselayer\2."),
            ),
            key="features.denseblock4.denselayer16.conv2.weight",
            variants=TORCHVISION,
        ),
        "inception_v1": Names(
            (
                ("^classifier$", "fc"),
                (r"^auxiliary(\d)/dense$", r"aux\1.fc1"),
                (r"^auxiliary(\d)/classifier$", r"aux\1.fc2"),
                ("^auxiliary", "aux"),
                ("^conv2/", "conv3/"),
                ("^conv2_reduce/", "conv2/"),
                ("conv1x1", "branch1"),
                ("reduce3x3", "branch2.0"),
                ("conv3x3", "branch2.1"),
                ("reduce5x5", "branch3.0"),
                ("conv5x5", "branch3.1"),
                ("pool_projection", "branch4.1"),
                ("norm", "bn"),
            ),
            key="inception5b.branch4.1.conv.weight",
            variants=TORCHVISION,
            flattened={"auxiliary1/dense": 128, "auxiliary2/dense": 128},
        ),
        "inception_v3": Names(
            (
                ("^conv3b/", "Conv2d_3b_1x1/"),
                (r"^conv(\d[ab])/", r"Conv2d_\1_3x3/"),
                ("^mixed", "Mixed_"),
                ("^auxiliary", "AuxLogits"),
                ("classifier$", "fc"),
                ("norm$", "bn"),
            ),
            key="Mixed_7c.branch_pool.conv.weight",
            variants=TORCHVISION,
        ),
        "inception_resnet_v2": Names(
            (
                (r"^conv(\d[ab])/", r"conv2d_\1/"),
                ("^mixed5b", "mixed_5b"),
                (r"^inception_resnet_a(\d+)", lambda found: f"repeat.{int(found[1]) - 1}"),
                (r"^inception_resnet_b(\d+)", lambda found: f"repeat_1.{int(found[1]) - 1}"),
                ("^inception_resnet_c10", "block8"),
                (r"^inception_resnet_c(\d+)", lambda found: f"repeat_2.{int(found[1]) - 1}"),
                (r"^reduction_b/branch(\d)_conv(\d)", r"mixed_7a/branch\1.\2"),
                ("^reduction_a", "mixed_6a"),
                ("branch0_conv0", "branch0"),  # a single convolution is not in a Sequential
                (r"branch(\d)_conv(\d)", r"branch\1.\2"),
                ("pooled_conv", "branch3.1"),
                ("projection", "conv2d"),
                ("classifier", "classif"),
                ("norm$", "bn"),
            ),
            key="mixed_7a.branch2.2.conv.weight",
        ),
        "alexnet": Names(  # two Sequentials, as in reports C and E and in torchvision
            (
                ("classifier", "classifier.6"),
                ("dense1", "classifier.1"),
                ("dense2", "classifier.4"),
                (r"conv(\d)", lambda found: f"features.{(0, 3, 6, 8, 10)[int(found[1]) - 1]}"),
            ),
            key="features.10.weight",
            variants=("pool3", "pool2"),
            flattened={"dense1": 256},
        ),
        "lenet5": Names(  # as in the reports
            (("dense", "fc"), ("classifier", "fc3")), key="fc3.weight", flattened={"dense1": 16}
        ),
    },
    kernel="weight",
    norm={"scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"},
    transposes=True,
)


def _convolutions(block: str, branches: Branches, *others: str) -> list[str]:
    names = [layer.name for branch in branches for layer in branch]
    return [f"{block}/{name}" for name in (*names, *others)]


def _inception_v3_order() -> list[str]:
    order = list(STEM)
    for block, (branches, pool_features) in inception_v3.BLOCKS.items():
        order += _convolutions(block, branches, *(("branch_pool",) if pool_features else ()))
    return order


def _inception_resnet_v2_order() -> list[str]:
    blocks: Any = inception_resnet_v2.InceptionResNetV2(num_classes=1000).bind({}).blocks
    order = [*STEM, *_convolutions("mixed5b", inception_resnet_v2.MIXED_5B, "pooled_conv")]
    return order + [name for block in blocks for name in _convolutions(block.name, block.branches)]


def _number_convolutions(order: list[str]) -> Callable[[re.Match[str]], str]:
    """Keras's names of a convolution or its norm, numbered in the order in which Keras creates them."""
    kinds = {"conv": "conv2d", "norm": "batch_normalization"}
    return lambda found: _numbered(kinds[found[2]], order.index(found[1]))


def _numbered(name: str, number: int) -> str:
    return f"{name}_{number}" if number else name


KERAS = Layout(
    "keras.applications",
    {
        "resnet50": Names(
            (
                ("^classifier$", "predictions"),
                ("^conv1$", "conv1_conv"),
                ("^norm1$", "conv1_bn"),
                (r"^stage(\d+)_block(\d+)/", lambda found: f"conv{int(found[1]) + 1}_block{found[2]}_"),
                ("projection_norm", "0_bn"),
                ("projection", "0_conv"),
                (r"conv(\d)$", r"\1_conv"),
                (r"norm(\d)$", r"\1_bn"),
            ),
            key="conv5_block3_3_conv/kernel",
            variants=("keras",),
        ),
        "densenet121": Names(
            (
                ("^classifier$", "predictions"),
                ("^conv0$", "conv1_conv"),
                ("^norm0$", "conv1_bn"),
                ("^norm5$", "bn"),
                (r"^dense_block(\d+)/layer(\d+)/", lambda found: f"conv{int(found[1]) + 1}_block{found[2]}_"),
                (r"^transition(\d+)/", lambda found: f"pool{int(found[1]) + 1}_"),
                ("norm$", "bn"),
                ("norm1$", "0_bn"),
                ("norm2$", "1_bn"),
                (r"conv(\d)$", r"\1_conv"),
            ),
            key="conv5_block16_2_conv/kernel",
            variants=("keras",),
        ),
        "inception_resnet_v2": Names(
            (
                ("^classifier$", "predictions"),
                (r"^inception_resnet_a(\d+)/projection$", r"block35_\1_conv"),
                (r"^inception_resnet_b(\d+)/projection$", r"block17_\1_conv"),
                (r"^inception_resnet_c(\d+)/projection$", r"block8_\1_conv"),
                ("^conv7b/conv$", "conv_7b"),
                ("^conv7b/norm$", "conv_7b_bn"),
                ("^(.+)/(conv|norm)$", _number_convolutions(_inception_resnet_v2_order())),
            ),
            key="conv_7b/kernel",
            has_gamma=False,
        ),
        "inception_v3": Names(
            (
                ("^auxiliary/", None),
                ("^classifier$", "predictions"),
                ("^(.+)/(conv|norm)$", _number_convolutions(_inception_v3_order())),
            ),
            key="conv2d_93/kernel",
            variants=("keras",),
            has_gamma=False,
        ),
    },
    norm={"scale": "gamma", "bias": "beta", "mean": "moving_mean", "var": "moving_variance"},
    separator="/",
)
"""Where Keras numbers layers, the numbers start at the network's own first layer."""

_BLOCKS = list(inception_v3.BLOCKS)
INCEPTION_2015 = Layout(
    "TensorFlow, 2015-12-05",
    {
        "inception_v3": Names(
            (
                ("^auxiliary/", None),
                ("^classifier$", "softmax"),
                # Towers are numbered in the order in which they appear in the block.
                ("^mixed6a/branch3x3dbl", "mixed6a/tower"),
                ("branch(3x3dbl|7x7dbl|7x7x3)", "tower_1"),
                ("branch(3x3|5x5|7x7)_", "tower_"),
                (r"branch\dx\d/", "conv/"),
                ("branch_pool", "tower_2_conv"),
                (r"_(\d)/", lambda found: f"_{_numbered('conv', int(found[1]) - 1)}/"),
                (r"_\da/", "_mixed_conv/"),
                (r"_\db/", "_mixed_conv_1/"),
                ("^(mixed..)/", lambda found: f"{_numbered('mixed', _BLOCKS.index(found[1]))}_"),
                ("^(conv..)/", lambda found: f"{_numbered('conv', list(STEM).index(found[1]))}/"),
                ("/conv$", ""),
            ),
            key="mixed_10_conv.kernel",
            variants=("keras",),
        )
    },
    can_export=False,
)
"""Batch norm is folded into the kernels: the names of our norms match nothing.

The last block pools by maximum, later versions by average: its layers are of a slightly different network.
"""

LAYOUTS = {"torch": TORCH, "keras": KERAS, "inception_2015": INCEPTION_2015}
"""By the value of --layout."""
EXPORTABLE = tuple(name for name, layout in LAYOUTS.items() if layout.can_export)
"""The values of --layout for an export."""
KNOWN = tuple(dict.fromkeys(network for layout in LAYOUTS.values() for network in layout.networks))
"""Networks that can be imported."""


def normalize_torch_names(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays without the prefixes of DataParallel and torch.compile and DenseNet's old dots."""
    named = dict(arrays)
    for prefix in ("module.", "_orig_mod.") * 2:  # either may be outermost
        if named and all(name.startswith(prefix) for name in named):
            named = {name.removeprefix(prefix): array for name, array in named.items()}
    # torchvision's own files have norm.1 for norm1.
    old_densenet = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12])\.")
    return {old_densenet.sub(r"\1\2.", name): array for name, array in named.items()}
