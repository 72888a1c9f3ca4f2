"""The tables of docs/networks.md, made from the registry and the reports' entries."""

import functools
import inspect
import sys
from pathlib import Path

from jaxnets import models, reported
from jaxnets.commands.summary import Network, registry
from studies.pages import bench_table

HEADS = ("network", "`model.name`", "parameters", "multiply-adds", "input", "config")
SOURCE_HEADS = (
    "network",
    "paper",
    "reports",
    "compared with",
    "ImageNet weights",
    "speed: training, inference",
)
CONFIGS = {
    "resnet50": "lung_resnet",
    "densenet121": "lung_densenet",
    "inception_v1": "lung_inception_v1",
    "inception_v3": "lung_inception_v3",
    "inception_resnet_v2": "lung_inception_resnet_v2",
    "efficientnet_lite0": "lung_efficientnet",
    "alexnet": "alexnet_cifar10",
    "lenet5": "lenet_mnist",
    "mlp": "mlp_tanh",
}
"""The config files of the networks that have one, in the tables' order."""
TRAIN, INFERENCE = "train", "inference"
"""How the names of rows begin."""
OTHERS = "image_folder"
"""The config file of the other networks, by `--config.model.name`."""
PAPERS = {
    "alexnet": ("Krizhevsky et al. 2012", "https://papers.nips.cc/paper/4824"),
    "convnext": ("Liu et al. 2022", "https://arxiv.org/abs/2201.03545"),
    "densenet": ("Huang et al. 2016", "https://arxiv.org/abs/1608.06993"),
    "efficientnet": ("Tan and Le 2019", "https://arxiv.org/abs/1905.11946"),
    "inception_resnet_v2": ("Szegedy et al. 2016", "https://arxiv.org/abs/1602.07261"),
    "inception_v1": ("Szegedy et al. 2014", "https://arxiv.org/abs/1409.4842"),
    "inception_v3": ("Szegedy et al. 2015", "https://arxiv.org/abs/1512.00567"),
    "lenet": ("LeCun et al. 1998", "https://doi.org/10.1109/5.726791"),
    "mobilenet": ("Sandler et al. 2018", "https://arxiv.org/abs/1801.04381"),
    "nasnet": ("Zoph et al. 2017", "https://arxiv.org/abs/1707.07012"),
    "resnet": ("He et al. 2015", "https://arxiv.org/abs/1512.03385"),
    "vgg": ("Simonyan and Zisserman 2014", "https://arxiv.org/abs/1409.1556"),
    "xception": ("Chollet 2016", "https://arxiv.org/abs/1610.02357"),
}
"""Authors and address, by the module of jaxnets.models."""
LIBRARIES = {
    "alexnet": "the reports' PyTorch",
    "lenet5": "the reports' PyTorch",
    "mlp": "the report's numbers",
    "nasnet_mobile": "Keras",
    "xception": "Keras, timm",
    "inception_resnet_v2": "timm, Keras",
    **dict.fromkeys(("mobilenet_v2", "efficientnet_b0", "convnext_tiny"), "torchvision, timm, Keras"),
    **{f"efficientnet_lite{number}": "timm" for number in (0, 1, 2)},
    **dict.fromkeys(("resnet50", "resnet101", "resnet152"), "torchvision, Keras"),
    **dict.fromkeys(("vgg16", "inception_v3", "densenet121"), "torchvision, Keras"),
}
"""The libraries whose network has the same logits in the tests; the others have torchvision's."""


@functools.cache
def _networks() -> list[Network]:
    """The networks of the package, those with a config of their own first."""
    found = {network.name: network for network in registry()}
    return [found[name] for name in dict.fromkeys((*CONFIGS, *found))]


def rows() -> list[tuple[str, ...]]:
    """Returns a row per network: its size, and a config that trains it."""
    return [
        (
            f"[{network.title}](../{_file(network.name)})",
            f"`{network.name}`",
            f"{network.parameters:,}",
            _operations(network.multiply_adds),
            _pixels(network),
            f"`{CONFIGS.get(network.name, OTHERS)}.py`",
        )
        for network in _networks()
    ]


def source_rows(benches: Path) -> list[tuple[str, ...]]:
    """Returns a row per network: where it comes from, what it was compared with, its speed over PyTorch's.

    The speeds are those of the largest images, on the machine that was measured last, if at all.
    """
    return [
        (
            network.title,
            _paper(network.name),
            _reports(network.name),
            LIBRARIES.get(network.name, "torchvision"),
            f"`{network.weights}`" if network.weights else "",
            _speeds(network.name, benches),
        )
        for network in _networks()
    ]


def _file(name: str) -> str:
    file = inspect.getsourcefile(sys.modules[models.entry(name).factory.__module__])
    return f"jaxnets/models/{Path(str(file)).name}"


def _operations(count: int) -> str:
    return f"{count / 1e9:.2f} billion" if count >= 1e7 else f"{count:,}"


def _pixels(network: Network) -> str:
    if models.entry(network.name).kind == "vector":
        return "3 numbers"
    return f"{network.native_size} px, at least {network.smallest}"


def _paper(name: str) -> str:
    found = PAPERS.get(models.entry(name).factory.__module__.rpartition(".")[2])
    return "" if found is None else f"[{found[0]}]({found[1]})"


def _speeds(name: str, benches: Path) -> str:
    rows = bench_table.rows_of_last_machine(benches, TRAIN)
    ratios = []
    for kind in (TRAIN, INFERENCE):
        found = [row for row in rows if row["name"].startswith(f"{kind}/{name}/")]
        found = [row for row in found if row.get("dtype") != bench_table.BFLOAT16]
        largest = max(found, key=lambda row: int(row["name"].split("/")[2]), default={})
        ratios.append(f"{largest['ratio_eager_tuned']:.2f}" if largest else "-")
    return ", ".join(ratios) if rows and set(ratios) != {"-"} else ""


def _reports(name: str) -> str:
    entries = map(reported.entry, reported.names())
    return ", ".join(sorted({each["report"] for each in entries if each["model"] == name}))
