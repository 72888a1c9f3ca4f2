"""All config fields."""

from collections.abc import Mapping

from jaxnets.config.conditions import all_of, any_of, given, off, one_of, positive
from jaxnets.config.field import (
    Field,
    choice,
    choices,
    duration,
    integer,
    nearest,
    number,
    numbers,
    period,
    switch,
    text,
)
from jaxnets.config.uses import (
    ADAM,
    AUGMENTS,
    AUXILIARY_LOSS,
    BACKBONE_IS_TRAINED,
    BATCH_NORM,
    CAN_CACHE_FEATURES,
    CAN_DECOUPLE_WEIGHT_DECAY,
    COSINE,
    CROSS_ENTROPY,
    HAS_VALIDATION,
    IMAGES,
    MLP,
    RANDOM_SPLIT,
    RESNET,
    SGD,
    SQUARED_ERRORS,
    STEP,
    WEIGHTS,
)
from jaxnets.errors import ConfigError

FIELDS: Mapping[str, Field] = {
    "name": text("", "CONFIG:VARIANT, set by the config file"),
    "entry": text(None, "the reported entry to compare with, e.g. A/resnet50"),
    "note": text("", "one line of comment, stored in the result"),
    "seed": integer(0, "seed of weights, shuffling, augmentation and dropout", ge=0),
    # The network.
    "model.name": text("", "a name of jaxnets.models"),
    "model.num_classes": integer(0, "number of classes; 0: that of the data", ge=0, used=IMAGES),
    "model.init": choice(
        "torch",
        ("torch", "flax", "published"),
        "initialisation: that of the PyTorch original, Flax's defaults, or (mlp) report A's 41 weights",
    ),
    "model.variant": text(
        None,
        "architecture variant, None: the default. alexnet: pool3 (report C) or pool2 (report E); "
        "others: torchvision; inception_v1: or paper, with its 5x5 branch; resnet50: or keras, with "
        "biases and the stride in the first 1x1; inception_v3: or keras, whose average pooling "
        "excludes padding; densenet121: or keras, with another epsilon",
        used=one_of("model.name", "alexnet", "resnet50", "inception_v1", "inception_v3", "densenet121"),
    ),
    "model.auxiliary_heads": switch(
        True, "train the auxiliary heads", used=one_of("model.name", "inception_v1", "inception_v3")
    ),
    "model.auxiliary_dropout": number(
        0.7,
        "dropout rate in the auxiliary heads",
        ge=0.0,
        le=0.99,
        used=all_of(one_of("model.name", "inception_v1"), AUXILIARY_LOSS),
    ),
    "model.truncate_after": text(
        None,
        "last block of the backbone, e.g. mixed7a; None: mixed7c, the last",
        used=one_of("model.name", "inception_v3"),
    ),
    "model.stage_sizes": Field((3, 4, 6, 3), tuple, "blocks per stage", ge=1, used=RESNET),
    "model.width": integer(64, "channels of the first stage", ge=1, used=RESNET),
    "model.layer_sizes": Field((3, 4, 4, 1), tuple, "inputs, neurons of each layer, outputs", ge=1, used=MLP),
    "model.activations": choices(
        ("tanh", "tanh", "tanh"),
        ("tanh", "relu", "leaky_relu", "sigmoid", "identity"),
        "activation of each layer",
        used=MLP,
    ),
    "model.activation": choice(
        "relu",
        ("relu", "leaky_relu", "sigmoid", "tanh"),
        "activation function",
        used=one_of("model.name", "lenet5", "alexnet"),
    ),
    "model.pooling": choice(
        "max",
        ("max", "average"),
        "pooling after convolutions",
        used=one_of("model.name", "lenet5", "alexnet"),
    ),
    "model.kernel_size": integer(
        5, "kernel size of both convolutions", ge=1, le=7, used=one_of("model.name", "lenet5")
    ),
    "model.dropout": number(0.0, "dropout rate before the classifier", ge=0.0, le=0.99, used=IMAGES),
    "model.dtype": choice("float32", ("float32", "float64"), "dtype of parameters, statistics and loss"),
    "model.compute_dtype": text(None, "dtype of computation; None: model.dtype; bfloat16 is faster on GPUs"),
    "model.implementation": choice(
        "auto",
        ("auto", "xla"),
        "implementation of convolution, pooling and batch norm; xla: required for jvp",
        used=IMAGES,
    ),
    "model.sync_batch_norm": switch(
        True, "compute batch statistics over all devices, not per device", used=BATCH_NORM
    ),
    # The data.
    "data.name": text("auto", "a source of jaxnets.data.sources, or auto for configs with a :demo variant"),
    "data.root": text(None, "data folder; None: $JAXNETS_DATA, else ./data"),
    "data.cache_root": text(
        None,
        "cache of decoded images; None: ROOT/cache, or the user's cache folder",
        used=positive("data.cache", True),
    ),
    "data.path": text(
        None,
        "image_folder: the folder; tfds: the builder's folder",
        used=one_of("data.name", "image_folder", "tfds"),
    ),
    "data.image_size": integer(224, "image height and width in pixels", ge=8, le=4096, used=IMAGES),
    "data.resize": choice("crop", ("crop", "stretch"), "how images are made square", used=IMAGES),
    "data.max_pixels": integer(100_000_000, "maximum pixels of an image file", ge=1, used=IMAGES),
    "data.cache": switch(True, "decode images once into a memory map", used=IMAGES),
    "data.on_device": choice(
        "auto", ("auto", "yes", "no"), "store all examples on the device; auto: if they fit"
    ),
    "data.num_examples": integer(
        3000, "number of synthetic images", ge=30, used=one_of("data.name", "synthetic_tissue")
    ),
    "data.synthetic_seed": integer(
        0, "seed of the synthetic images", ge=0, used=one_of("data.name", "synthetic_tissue")
    ),
    "data.split": choice(
        "random",
        ("random", "official", "grouped"),
        "train/validation/test split; grouped: near-duplicates are not separated",
    ),
    "data.groups": text(
        None,
        "CSV of groups (file,original,group, or LC25000-clean's); None: LC25000's own, if any",
        used=IMAGES,
    ),
    "data.group_level": choice(
        "group",
        ("group", "original"),
        "groups: overlapping photographs together, or each original photograph",
        used=any_of(one_of("data.name", "lc25000_lung"), given("data.groups", "FILE")),
    ),
    "data.folds": integer(
        0, "grouped: number of folds; 0: split by data.fractions", ge=0, used=one_of("data.split", "grouped")
    ),
    "data.fold": integer(
        0, "grouped: the test fold; the next one is for validation", ge=0, used=positive("data.folds", 5)
    ),
    "data.allow_duplicates": switch(
        False, "train even if test images are also in the training set", used=IMAGES
    ),
    "data.split_seed": integer(
        0,
        "seed of the split; independent of seed",
        ge=0,
        used=any_of(RANDOM_SPLIT, positive("data.validation_fraction", 0.1)),
    ),
    "data.fractions": numbers(
        (0.70, 0.15, 0.15),
        "train, validation and test fractions of a random or grouped split",
        ge=0.0,
        le=1.0,
        used=all_of(RANDOM_SPLIT, off("data.folds")),
    ),
    "data.validation_fraction": number(
        0.0,
        "fraction of the training set used for validation",
        ge=0.0,
        le=0.9,
        used=one_of("data.split", "official"),
    ),
    "data.mean": numbers((0.5, 0.5, 0.5), "mean per channel, of pixels in [0, 1]", used=IMAGES),
    "data.std": numbers((0.5, 0.5, 0.5), "standard deviation per channel", ge=1e-6, used=IMAGES),
    "data.threads": integer(0, "reader threads; 0: one per core", ge=0, le=256),
    # Augmentation, of training images, on the device.
    "augment.flip_horizontal": switch(False, "random horizontal flips", used=IMAGES),
    "augment.flip_vertical": switch(False, "random vertical flips", used=IMAGES),
    "augment.right_angles": switch(False, "random rotation by 0, 90, 180 or 270 degrees", used=IMAGES),
    "augment.rotation_degrees": number(
        0.0, "random rotation by up to this angle", ge=0.0, le=180.0, used=IMAGES
    ),
    "augment.crop_padding": integer(0, "zero padding in pixels before a random crop", ge=0, used=IMAGES),
    "augment.brightness": number(0.0, "random factor in [1 - b, 1 + b]", ge=0.0, le=1.0, used=IMAGES),
    "augment.contrast": number(0.0, "random factor in [1 - c, 1 + c]", ge=0.0, le=1.0, used=IMAGES),
    "augment.saturation": number(0.0, "random factor in [1 - s, 1 + s]", ge=0.0, le=1.0, used=IMAGES),
    "augment.hue": number(0.0, "random hue rotation, in turns", ge=0.0, le=0.5, used=IMAGES),
    "augment.stain": number(0.0, "H&E densities times [1 - s, 1 + s]", ge=0.0, le=1.0, used=IMAGES),
    "augment.mixup": number(
        0.0, "alpha of mixup's Beta distribution; 0: off", ge=0.0, used=all_of(IMAGES, CROSS_ENTROPY)
    ),
    # Transfer learning.
    "transfer.weights": text(
        None,
        "pretrained backbone: a weights folder, a run directory, the name of either under "
        "DATA/weights, or random; None: train from scratch",
    ),
    "transfer.pretrained_on": text(
        None, "the data set of the pretrained weights, for tables, such as ImageNet", used=WEIGHTS
    ),
    "transfer.freeze_backbone": switch(False, "train only the head", used=WEIGHTS),
    "transfer.cache_features": switch(
        True, "compute the features of a frozen backbone once, without augmentation", used=CAN_CACHE_FEATURES
    ),
    **duration(
        "transfer.head_only_",
        "train only the head before the full network",
        used=all_of(WEIGHTS, BACKBONE_IS_TRAINED),
    ),
    "transfer.backbone_lr_multiplier": number(
        1.0,
        "learning rate of the backbone relative to the head",
        gt=0.0,
        le=1.0,
        used=all_of(WEIGHTS, BACKBONE_IS_TRAINED),
    ),
    # Training.
    "train.batch_size": integer(32, "images per step, over all devices and processes", ge=1),
    **duration("train.", "training duration", ge=1),
    "train.drop_last": switch(False, "drop an epoch's last incomplete batch"),
    "train.loss": choice(
        "cross_entropy",
        ("cross_entropy", *SQUARED_ERRORS),
        "the loss: a mean, except that sum_ and half_squared_error are sums over the batch",
    ),
    "train.label_smoothing": number(0.0, "label smoothing", ge=0.0, le=0.99, used=CROSS_ENTROPY),
    "train.class_weights": numbers((), "loss weight per class; empty: none", gt=0.0, used=CROSS_ENTROPY),
    "train.auxiliary_weight": number(
        None, "loss weight of each auxiliary head; None: that of the paper", ge=0.0, used=AUXILIARY_LOSS
    ),
    "train.grad_accum_steps": integer(1, "number of microbatches per batch (gradient accumulation)", ge=1),
    "train.steps_per_execution": integer(
        0, "maximum steps per call with data on the device; 0: automatic", ge=0, le=10_000
    ),
    "train.clip_grad_norm": number(None, "maximum global gradient norm; None: no clipping", gt=0.0),
    "train.ema_decay": number(None, "decay of the moving average of weights; None: off", gt=0.0, lt=1.0),
    "optimizer.name": choice(
        "sgd",
        ("sgd", "adam"),
        "the optimizer",
        aliases=(
            (
                "adamw",
                "AdamW is adam with --config.optimizer.decoupled_weight_decay=True and a "
                "--config.optimizer.weight_decay",
            ),
        ),
    ),
    "optimizer.learning_rate": number(0.1, "peak learning rate", gt=0.0),
    "optimizer.momentum": number(0.9, "momentum", ge=0.0, le=1.0, used=SGD),
    "optimizer.nesterov": switch(False, "Nesterov momentum", used=positive("optimizer.momentum", 0.9)),
    "optimizer.beta1": number(0.9, "decay of the first moment", ge=0.0, lt=1.0, used=ADAM),
    "optimizer.beta2": number(0.999, "decay of the second moment", ge=0.0, lt=1.0, used=ADAM),
    "optimizer.epsilon": number(1e-8, "added outside the square root", gt=0.0, used=ADAM),
    "optimizer.weight_decay": number(0.0, "applied to all parameters, as in PyTorch", ge=0.0),
    "optimizer.decoupled_weight_decay": switch(
        False, "decoupled weight decay (AdamW)", used=CAN_DECOUPLE_WEIGHT_DECAY
    ),
    "schedule.name": choice("constant", ("constant", "step", "cosine"), "schedule after warmup"),
    **duration("schedule.warmup_", "linear warmup from 0"),
    **period("schedule.decay_every_", "interval between decays", used=STEP),
    "schedule.decay_factor": number(0.1, "factor of each decay", gt=0.0, le=1.0, used=STEP),
    "schedule.final_fraction": number(0.0, "final rate relative to the peak", ge=0.0, le=1.0, used=COSINE),
    # Callbacks.
    "plateau.patience": integer(
        None,
        "evaluations without improvement before a reduction, as in optax and Keras; None: off",
        ge=0,
        used=HAS_VALIDATION,
    ),
    "plateau.factor": number(
        0.1, "factor of each reduction", gt=0.0, le=1.0, used=given("plateau.patience", 2)
    ),
    "plateau.cooldown": integer(
        0, "evaluations to wait after a reduction", ge=0, used=given("plateau.patience", 2)
    ),
    "plateau.min_delta": number(
        1e-4, "minimum relative improvement", gt=0.0, used=given("plateau.patience", 2)
    ),
    "plateau.min_scale": number(
        0.0, "lower bound of the total factor", ge=0.0, used=given("plateau.patience", 2)
    ),
    "early_stopping.patience": integer(
        None,
        "evaluations without improvement before stopping, as in Keras; None: off",
        ge=0,
        used=HAS_VALIDATION,
    ),
    "early_stopping.min_delta": number(
        0.0, "minimum improvement", ge=0.0, used=given("early_stopping.patience", 5)
    ),
    "monitor.metric": choice(
        "validation_loss",
        ("validation_loss", "validation_accuracy"),
        "metric of plateau, early stopping and the best checkpoint",
        used=HAS_VALIDATION,
    ),
    # Evaluation, checkpoints and the log.
    "eval.batch_size": integer(0, "0: train.batch_size", ge=0),
    **period(
        "eval.every_",
        "interval between evaluations",
        used=any_of(HAS_VALIDATION, positive("eval.monitor_test", True)),
    ),
    "eval.ema": switch(True, "evaluate the moving average of weights", used=given("train.ema_decay", 0.999)),
    "eval.monitor_test": switch(
        False,
        "evaluate the test set at every evaluation too (augmented if eval.augment is set); never used "
        "for model selection",
    ),
    "eval.augment": switch(False, "also test on augmented images", used=AUGMENTS),
    "eval.dropout": switch(
        False,
        "also test with dropout, as PyTorch without model.eval()",
        used=all_of(one_of("model.name", "lenet5", "alexnet"), positive("model.dropout", 0.5)),
    ),
    "eval.use_best": switch(False, "test the best checkpoint instead of the last", used=HAS_VALIDATION),
    **period("checkpoint.every_", "interval between checkpoints"),
    "checkpoint.keep": integer(2, "number of newest checkpoints to keep, besides the best", ge=1),
    "log.every_steps": integer(
        50, "steps between training records of metrics.jsonl; at least one per epoch", ge=1
    ),
    "log.tensorboard": switch(True, "write TensorBoard event files"),
    **period(
        "log.histograms_every_",
        "interval between histograms of the weights for TensorBoard",
        used=positive("log.tensorboard", True),
    ),
}

DURATIONS = tuple(
    path.removesuffix("steps")
    for path in FIELDS
    if path.endswith("steps") and path.removesuffix("steps") + "epochs" in FIELDS
)
"""Prefixes of durations: "train.", "eval.every_", ..."""

RENAMED: Mapping[str, str] = {
    "model.cut": "model.truncate_after",
    "model.lowering": "model.implementation",
    "transfer.frozen": "transfer.freeze_backbone",
    "transfer.body_share": "transfer.backbone_lr_multiplier",
    "transfer.head_first_epochs": "transfer.head_only_epochs",
    "transfer.head_first_steps": "transfer.head_only_steps",
    "transfer.head_first_examples": "transfer.head_only_examples",
    "train.accumulate": "train.grad_accum_steps",
    "train.steps_per_call": "train.steps_per_execution",
    "train.clip_norm": "train.clip_grad_norm",
    "optimizer.decoupled": "optimizer.decoupled_weight_decay",
    "plateau.least_scale": "plateau.min_scale",
    "plateau.threshold": "plateau.min_delta",
    "early_stopping.least_gain": "early_stopping.min_delta",
    "eval.follow_test": "eval.monitor_test",
}
"""New names of fields of earlier versions."""


def check_field(path: str) -> None:
    """Raises ConfigError, with a suggestion, if there is no field with this path."""
    if path in FIELDS:
        return
    if new := RENAMED.get(path):
        raise ConfigError(f"--config.{path} was renamed to --config.{new}: use the new name")
    inside = next((field for field in FIELDS if field.startswith(path + ".")), None)
    if inside is not None:
        raise ConfigError(f"--config.{path} is a group of fields: set one of them, such as {inside}")
    same_name = [field for field in FIELDS if field.split(".")[-1] == path.split(".")[-1]]
    hint = nearest(path, FIELDS if "." in path else same_name) or nearest(path, FIELDS)
    raise ConfigError(f"unknown config field {path!r}{hint}; --print_config lists all fields")
