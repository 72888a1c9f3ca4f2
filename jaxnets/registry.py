"""Where each network and each data source is defined; a run imports those that it uses.

To add one, write its module, list it here, and write a config. `jaxnets.models.register` and
`jaxnets.data.sources.register` add those that other packages define.
"""

NETWORKS = {
    "lenet5": "lenet",
    "alexnet": "alexnet",
    "resnet50": "resnet",
    "inception_v1": "inception_v1",
    "inception_v3": "inception_v3",
    "inception_resnet_v2": "inception_resnet_v2",
    "densenet121": "densenet",
    "mlp": "mlp",
}
"""The values of config.model.name, with the module of jaxnets.models that defines the network as `ENTRY`."""

WITHOUT_BATCH_NORM = ("lenet5", "alexnet", "mlp")

SOURCES: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "synthetic_tissue": (
        "synthetic tissue",
        "synthetic_tissue:SyntheticTissue",
        ("num_examples", "image_size", "synthetic_seed"),
    ),
    "lc25000_lung": ("LC25000 lung", "lc25000:LC25000Lung", ()),
    "mnist": ("MNIST", "mnist:MNIST", ()),
    "cifar10": ("CIFAR-10", "cifar10:CIFAR10", ()),
    "image_folder": ("image folder", "image_folder:ImageFolder", ("path", "max_pixels")),
    "tfds": ("tensorflow-datasets", "tfds:TFDSSource", ("path",)),
    "points": ("four points", "points:Points", ()),
}
"""The values of config.data.name, with the title of the source, its module and class in jaxnets.data.sources,
and the fields of config.data that the class is made from."""
