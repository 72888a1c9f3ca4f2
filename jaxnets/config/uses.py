"""The conditions of `jaxnets.config.fields`, and the known networks and sources.

tests/config/test_unused.py compares the latter with jaxnets.models and jaxnets.data.sources.
"""

from jaxnets.config.conditions import FieldIs, Unmet, all_of, any_of, given, none_of, off, one_of, positive

SQUARED_ERRORS = ("mean_squared_error", "sum_squared_error", "half_squared_error")
"""The losses for regression targets; a class is a value of 0 or 1."""

NETWORKS = (
    *("lenet5", "alexnet", "resnet50", "inception_v1", "inception_v3"),
    *("inception_resnet_v2", "densenet121", "mlp"),
)
"""The networks of jaxnets.models."""

SOURCES = (*("synthetic_tissue", "lc25000_lung", "mnist", "cifar10", "image_folder", "tfds", "points"),)
"""The sources of jaxnets.data.sources."""

AUXILIARY_SIZE = 299
"""The minimum image size for training Inception v3's auxiliary head, in pixels."""

AUTO = {"auto": ("lc25000_lung", "synthetic_tissue")}
"""The sources that data.name=auto may select when a run starts."""

IMAGES = all_of(
    none_of("data.name", "points", remedy="choose data of images"),
    none_of("model.name", "mlp", remedy="choose a network of images"),
    description="the examples are images",
)
BATCH_NORM = none_of(
    "model.name", "lenet5", "alexnet", "mlp", remedy="choose a network with batch normalisation"
)
MLP = one_of("model.name", "mlp")
RESNET = one_of("model.name", "resnet50")
SGD, ADAM = one_of("optimizer.name", "sgd"), one_of("optimizer.name", "adam")
CAN_DECOUPLE_WEIGHT_DECAY = all_of(  # for plain SGD both forms are the same
    positive("optimizer.weight_decay", 0.01), any_of(positive("optimizer.momentum", 0.9), ADAM)
)
STEP, COSINE = one_of("schedule.name", "step"), one_of("schedule.name", "cosine")
CROSS_ENTROPY = one_of("train.loss", "cross_entropy")
WEIGHTS = given("transfer.weights", "FOLDER")
BACKBONE_IS_TRAINED = off("transfer.freeze_backbone")
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
    BACKBONE_IS_TRAINED,
)
RANDOM_SPLIT = one_of("data.split", "random", "grouped")
HAS_VALIDATION = any_of(
    positive("data.validation_fraction", 0.1),
    FieldIs("data.fractions", lambda fractions: len(fractions) > 1 and fractions[1] > 0, "", ""),
    positive("data.folds", 5),
    description="there is a validation split",
    otherwise=Unmet(
        "there is no validation split",
        "set --config.data.validation_fraction=0.1 for an official split, or a validation fraction in "
        "--config.data.fractions for others",
    ),
)
AUGMENTATIONS = (
    *("flip_horizontal", "flip_vertical", "right_angles", "rotation_degrees", "crop_padding"),
    *("brightness", "contrast", "saturation", "hue", "stain"),
)
AUGMENTS = any_of(
    *(positive(f"augment.{name}", True) for name in AUGMENTATIONS),
    description="images are augmented",
    otherwise=Unmet("images are not augmented", "set --config.augment.flip_horizontal=True"),
)

CAN_CACHE_FEATURES = all_of(
    positive("transfer.freeze_backbone", True),
    *(off(f"augment.{name}") for name in (*AUGMENTATIONS, "mixup")),
    one_of("model.dtype", "float32"),
    positive("data.cache", True),
)
