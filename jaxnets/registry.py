"""Where each network and each data source is defined; a run imports those that it uses.

To add one, write its module, list it here (a network without batch norm in WITHOUT_BATCH_NORM too), and
write a config. `jaxnets.models.register` and `jaxnets.data.sources.register` add those of other packages.
"""

from typing import NamedTuple

NETWORKS = {
    "lenet5": "lenet",
    "alexnet": "alexnet",
    "resnet18": "resnet:RESNET18",
    "resnet34": "resnet:RESNET34",
    "resnet50": "resnet",
    "resnet101": "resnet:RESNET101",
    "resnet152": "resnet:RESNET152",
    "vgg16": "vgg:VGG16",
    "vgg16_bn": "vgg:VGG16_BN",
    "inception_v1": "inception_v1",
    "inception_v3": "inception_v3",
    "inception_resnet_v2": "inception_resnet_v2",
    "densenet121": "densenet",
    "xception": "xception",
    "nasnet_mobile": "nasnet",
    "mobilenet_v2": "mobilenet",
    "efficientnet_b0": "efficientnet:B0",
    "efficientnet_lite0": "efficientnet:LITE0",
    "efficientnet_lite1": "efficientnet:LITE1",
    "efficientnet_lite2": "efficientnet:LITE2",
    "convnext_tiny": "convnext:TINY",
    "mlp": "mlp",
}
"""The values of config.model.name, with the module of jaxnets.models that defines the network as `ENTRY`.

"MODULE:NAME" is for a module of several networks: it defines this one as `NAME`.
"""

WITHOUT_BATCH_NORM = ("lenet5", "alexnet", "vgg16", "convnext_tiny", "mlp")
"""Networks for which config.model.sync_batch_norm has no meaning."""


class DataSource(NamedTuple):
    """A data source: its title and its class in jaxnets.data.sources.

    `fields` are fields of config.data: the arguments of the class, and allowed for this source. Reports and
    predictions of `medical` data have a disclaimer.
    """

    title: str
    path: str
    fields: tuple[str, ...] = ()
    medical: bool = False


SOURCES = {
    "synthetic_tissue": DataSource(
        "synthetic tissue",
        "synthetic_tissue:SyntheticTissue",
        fields=("num_examples", "image_size", "synthetic_seed"),
    ),
    "lc25000_lung": DataSource("LC25000 lung", "lc25000:LC25000Lung", medical=True),
    "mnist": DataSource("MNIST", "mnist:MNIST"),
    "cifar10": DataSource("CIFAR-10", "cifar10:CIFAR10"),
    "image_folder": DataSource(
        "image folder", "image_folder:ImageFolder", fields=("path", "max_pixels", "group_pattern")
    ),
    "table": DataSource(
        "table of images",
        "table:Table",
        fields=("path", "image_folders", "classes", "group_pattern", "max_pixels"),
    ),
    "tfds": DataSource("tensorflow-datasets", "tfds:TFDSSource", fields=("path",)),
    "points": DataSource("four points", "points:Points"),
}
"""The values of config.data.name; "auto" selects one of two when a run starts."""
