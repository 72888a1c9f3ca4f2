"""Where the fields of a recipe are used: the conditions that `jaxnets.config.fields` names.

The networks and sources are those that have fields of their own here; what they are is said in
jaxnets.models and jaxnets.data.sources.registry. tests/config/test_unused.py compares both
with what is said here.
"""

from jaxnets.config.conditions import (
    FieldIs,
    Unmet,
    all_of,
    any_of,
    given,
    none_of,
    off,
    one_of,
    positive,
)

SQUARED_ERRORS = ("mean_squared_error", "sum_squared_error", "half_squared_error")
"""The losses that take values; classes are one value each, 0 or 1."""

NETWORKS = (
    *("lenet5", "alexnet", "resnet50", "inception_v1", "inception_v3"),
    *("inception_resnet_v2", "densenet121", "mlp"),
)
"""The networks of jaxnets.models whose fields stand here."""

SOURCES = (
    *("synthetic_tissue", "lc25000_lung", "mnist", "cifar10", "image_folder", "tfds", "points"),
)
"""The sources of jaxnets.data.sources.registry whose fields stand here."""

AUXILIARY_SIZE = 299
"""The least pixels a side that Inception v3's auxiliary head is trained on."""

AUTO = {"auto": ("lc25000_lung", "synthetic_tissue")}
"""What data.name may become when a run begins."""

IMAGES = all_of(
    none_of("data.name", "points", remedy="choose data of images"),
    none_of("model.name", "mlp", remedy="choose a network of images"),
    words="the examples are images",
)
BATCH_NORM = none_of(
    "model.name", "lenet5", "alexnet", "mlp", remedy="choose a network with batch normalisation"
)
MLP = one_of("model.name", "mlp")
RESNET = one_of("model.name", "resnet50")
SGD, ADAM = one_of("optimizer.name", "sgd"), one_of("optimizer.name", "adam")
DECAY_HAS_TWO_PLACES = (
    all_of(  # the gradient and the update, which plain gradient descent treats alike
        positive("optimizer.weight_decay", 0.01), any_of(positive("optimizer.momentum", 0.9), ADAM)
    )
)
STEP, COSINE = one_of("schedule.name", "step"), one_of("schedule.name", "cosine")
CROSS_ENTROPY = one_of("train.loss", "cross_entropy")
WEIGHTS = given("transfer.weights", "FOLDER")
WHOLE_NETWORK = off("transfer.freeze_backbone")
AUXILIARY_LOSS = all_of(
    positive("model.auxiliary_heads", True),
    any_of(
        FieldIs(
            "data.image_size",
            lambda size: size >= AUXILIARY_SIZE,
            f"data.image_size is at least {AUXILIARY_SIZE}",
            f"set --config.data.image_size={AUXILIARY_SIZE}",
        ),
        one_of("model.name", "inception_v1"),
    ),
    WHOLE_NETWORK,
)
DIVIDED_AT_RANDOM = one_of("data.split", "random", "grouped")
VALIDATES = any_of(
    positive("data.validation_fraction", 0.1),
    FieldIs("data.fractions", lambda shares: len(shares) > 1 and shares[1] > 0, "", ""),
    positive("data.folds", 5),
    words="a part of the data validates",
    otherwise=Unmet(
        "no part of the data validates",
        "set --config.data.validation_fraction=0.1 for an official split, or a validation share in "
        "--config.data.fractions for others",
    ),
)
AUGMENTATIONS = (
    *("flip_horizontal", "flip_vertical", "right_angles", "rotation_degrees", "crop_padding"),
    *("brightness", "contrast", "saturation", "hue", "stain"),
)
AUGMENTS = any_of(
    *(positive(f"augment.{name}", True) for name in AUGMENTATIONS),
    words="images are augmented",
    otherwise=Unmet("no image is augmented", "set --config.augment.flip_horizontal=True"),
)

FEATURES_STAY = all_of(
    positive("transfer.freeze_backbone", True),
    *(off(f"augment.{name}") for name in (*AUGMENTATIONS, "mixup")),
    one_of("model.dtype", "float32"),
    positive("data.cache", True),
)
