"""All config fields."""

from collections.abc import Mapping

from jaxnets.config import conditions as when
from jaxnets.config.field import Field, choice, duration, field, optional, period

FIELDS: Mapping[str, Field] = {
    "name": field("", "CONFIG:VARIANT, set by the config file"),
    "entry": optional(str, "the reported entry to compare with, e.g. A/resnet50"),
    "note": field("", "one line of comment, stored in the result"),
    "seed": field(0, "seed of weights, shuffling, augmentation and dropout", ge=0),
    # The network.
    "model.name": field("", "a name of jaxnets.models"),
    "model.num_classes": field(0, "number of classes; 0: as in the data", ge=0, used=when.IMAGES),
    "model.init": choice(
        "torch",
        ("torch", "flax", "published"),
        "initialisation: as in PyTorch, Flax's defaults, or (mlp) report A's 41 weights",
    ),
    "model.variant": optional(
        str,
        "architecture variant; None: the first named. alexnet: pool3 (report C), pool2 (report E); "
        "inception_v1: torchvision, paper (with its 5x5 branch); resnet50, 101, 152: torchvision, keras "
        "(biases, and the stride in the first 1x1); inception_v3: torchvision, keras (average pooling "
        "excludes padding); densenet121: torchvision, keras (another epsilon); mobilenet_v2, "
        "efficientnet_b0: torchvision, keras (asymmetric padding, another epsilon); xception: keras, timm "
        "(symmetric padding, another epsilon)",
        used=when.one_of(
            "model.name",
            *("alexnet", "resnet50", "resnet101", "resnet152", "inception_v1", "inception_v3"),
            *("densenet121", "xception", "mobilenet_v2", "efficientnet_b0"),
        ),
    ),
    "model.auxiliary_heads": field(
        True, "train the auxiliary heads", used=when.one_of("model.name", "inception_v1", "inception_v3")
    ),
    "model.auxiliary_dropout": field(
        0.7,
        "dropout rate in the auxiliary heads",
        ge=0.0,
        le=0.99,
        used=when.all_of(
            when.INCEPTION_V1, when.AUXILIARY_LOSS, description="inception_v1 trains its auxiliary heads"
        ),
    ),
    "model.truncate_after": optional(
        str, "last block of the backbone, e.g. mixed7a; None: mixed7c, the last", used=when.INCEPTION_V3
    ),
    "model.stage_sizes": field((3, 4, 6, 3), "blocks per stage", ge=1, used=when.RESNET),
    "model.width": field(64, "channels of the first stage", ge=1, used=when.RESNET),
    "model.layer_sizes": field((3, 4, 4, 1), "inputs, neurons of each layer, outputs", ge=1, used=when.MLP),
    "model.activations": choice(
        ("tanh", "tanh", "tanh"),
        ("tanh", "relu", "leaky_relu", "sigmoid", "identity"),
        "activation of each layer",
        used=when.MLP,
    ),
    "model.activation": choice(
        "relu", ("relu", "leaky_relu", "sigmoid", "tanh"), "activation function", used=when.LENET_OR_ALEXNET
    ),
    "model.pooling": choice(
        "max", ("max", "average"), "pooling after convolutions", used=when.LENET_OR_ALEXNET
    ),
    "model.kernel_size": field(5, "kernel size of both convolutions", ge=1, le=7, used=when.LENET),
    "model.dropout": field(0.0, "dropout rate before the classifier", ge=0.0, le=0.99, used=when.IMAGES),
    "model.stochastic_depth": field(
        0.0,
        "probability that training leaves the last residual block out; it grows with the depth",
        ge=0.0,
        le=0.99,
        used=when.STOCHASTIC_DEPTH,
    ),
    "model.dtype": choice("float32", ("float32", "float64"), "dtype of parameters, statistics and loss"),
    "model.compute_dtype": optional(
        str,
        "dtype of computation; None: model.dtype; bfloat16 is faster on GPUs and on CPUs with AVX512-BF16",
    ),
    "model.implementation": choice(
        "auto",
        ("auto", "xla"),
        "implementation of convolution, pooling and batch norm; xla: required for jvp",
        used=when.IMAGES,
    ),
    "model.sync_batch_norm": field(
        True,
        "compute batch statistics over all devices; False: per device, which is faster (docs/scale.md)",
        used=when.BATCH_NORM,
    ),
    # The data.
    "data.name": field(
        "auto", "a source of jaxnets.data.sources; auto: LC25000 if prepared, else the variant demo"
    ),
    "data.root": optional(str, "data folder; None: $JAXNETS_DATA, else ./data"),
    "data.cache_root": optional(
        str,
        "cache of decoded images; None: ROOT/cache, or the user's cache folder",
        used=when.positive("data.cache", True),
    ),
    "data.path": optional(
        str,
        "image_folder: the folder; table: the CSV file; tfds: the builder's folder",
        used=when.source_has("path"),
    ),
    "data.medical": field(
        False,
        "the images are medical: reports, predictions, model cards and web pages have a disclaimer",
        used=when.source_has("path"),
    ),
    "data.image_folders": field(
        (),
        "folders that contain the table's images; empty: the table's own folder",
        element_type=str,
        used=when.source_has("image_folders"),
    ),
    "data.classes": field(
        (),
        "class names in the order of their numbers; empty: the table's labels in alphabetical order",
        element_type=str,
        used=when.source_has("classes"),
    ),
    "data.image_size": field(224, "image height and width in pixels", ge=8, le=4096, used=when.IMAGES),
    "data.resize": choice("crop", ("crop", "stretch"), "how images are made square", used=when.IMAGES),
    "data.max_pixels": field(100_000_000, "maximum pixels of an image file", ge=1, used=when.IMAGES),
    "data.cache": field(True, "decode images once into a memory map", used=when.IMAGES),
    "data.on_device": choice(
        "auto", ("auto", "yes", "no"), "store all examples on the device; auto: if they fit"
    ),
    "data.num_examples": field(
        3000, "number of synthetic images", ge=30, used=when.source_has("num_examples")
    ),
    "data.synthetic_seed": field(
        0, "seed of the synthetic images", ge=0, used=when.source_has("synthetic_seed")
    ),
    "data.mean": field((0.5, 0.5, 0.5), "mean per channel, of pixels in [0, 1]", used=when.IMAGES),
    "data.std": field((0.5, 0.5, 0.5), "standard deviation per channel", ge=1e-6, used=when.IMAGES),
    "data.threads": field(0, "reader threads; 0: one per core", ge=0, le=256),
    "data.split": choice(
        "random",
        ("random", "official", "grouped"),
        "train/validation/test split; grouped: near-duplicates, or images of one group, are in one subset",
    ),
    "data.groups": optional(
        str,
        "CSV of groups (file,original,group, or of LC25000-clean); None: our groups of LC25000 and CIFAR-10",
        used=when.IMAGES,
    ),
    "data.group_pattern": optional(
        str,
        "regular expression whose brackets capture the group (such as the patient) in each file's path",
        used=when.source_has("group_pattern"),
    ),
    "data.find_groups": field(
        False,
        "search the image files for near-duplicates before the split (extra `duplicates`)",
        used=when.all_of(
            when.source_has("group_pattern"),
            when.field_is(
                "data.groups", lambda groups: groups is None, "data.groups is not set", "leave it out"
            ),
        ),
    ),
    "data.group_level": choice(
        "group",
        ("group", "original"),
        "what a group is: photographs that overlap, or one original photograph",
        used=when.any_of(
            when.one_of("data.name", "lc25000_lung", "cifar10"),
            when.given("data.groups", "FILE"),
            when.positive("data.find_groups", True),
        ),
    ),
    "data.folds": field(
        0, "number of folds of a cross-validation; 0: split by data.fractions", ge=0, used=when.RANDOM_SPLIT
    ),
    "data.fold": field(
        0, "the test fold; the next one is for validation", ge=0, used=when.positive("data.folds", 5)
    ),
    "data.allow_duplicates": field(
        False,
        "train even if test images, or images of their groups in an official split, are also in the training "
        "set",
        used=when.IMAGES,
    ),
    "data.split_seed": field(
        0,
        "seed of the split; independent of seed",
        ge=0,
        used=when.any_of(when.RANDOM_SPLIT, when.positive("data.validation_fraction", 0.1)),
    ),
    "data.fractions": field(
        (0.70, 0.15, 0.15),
        "train, validation and test fractions of a random or grouped split",
        ge=0.0,
        le=1.0,
        used=when.all_of(when.RANDOM_SPLIT, when.off("data.folds")),
    ),
    "data.validation_fraction": field(
        0.0, "fraction of the training set used for validation", ge=0.0, le=0.9, used=when.OFFICIAL_SPLIT
    ),
    # Augmentation, of training images, on the device.
    "augment.random_resized_crop": field(
        0.0,
        "random crop of at least this fraction of the area and an aspect ratio from 3/4 to 4/3, resized, as "
        "torchvision's RandomResizedCrop; 0: off",
        ge=0.0,
        le=1.0,
        used=when.IMAGES,
    ),
    "augment.flip_horizontal": field(False, "random horizontal flips", used=when.IMAGES),
    "augment.flip_vertical": field(False, "random vertical flips", used=when.IMAGES),
    "augment.right_angles": field(False, "random rotation by 0, 90, 180 or 270 degrees", used=when.IMAGES),
    "augment.rotation_degrees": field(
        0.0, "random rotation by up to this angle", ge=0.0, le=180.0, used=when.IMAGES
    ),
    "augment.crop_padding": field(0, "zero padding in pixels before a random crop", ge=0, used=when.IMAGES),
    "augment.brightness": field(0.0, "random factor in [1 - b, 1 + b]", ge=0.0, le=1.0, used=when.IMAGES),
    "augment.contrast": field(0.0, "random factor in [1 - c, 1 + c]", ge=0.0, le=1.0, used=when.IMAGES),
    "augment.saturation": field(0.0, "random factor in [1 - s, 1 + s]", ge=0.0, le=1.0, used=when.IMAGES),
    "augment.hue": field(0.0, "random hue rotation, in turns", ge=0.0, le=0.5, used=when.IMAGES),
    "augment.stain": field(
        0.0, "random factor of H&E densities in [1 - s, 1 + s]", ge=0.0, le=1.0, used=when.IMAGES
    ),
    "augment.mixup": field(
        0.0,
        "alpha of mixup's Beta distribution; 0: off",
        ge=0.0,
        used=when.all_of(when.IMAGES, when.CROSS_ENTROPY),
    ),
    "augment.cutmix": field(
        0.0,
        "alpha of CutMix's Beta distribution; 0: off; with mixup, each image gets one of both",
        ge=0.0,
        used=when.all_of(when.IMAGES, when.CROSS_ENTROPY),
    ),
    # Transfer learning.
    "transfer.weights": optional(
        str,
        "pretrained backbone: a weights folder, a run directory, a name in DATA/weights, "
        "imagenet:efficientnet_lite0 (or lite1, lite2), or random; None: train from scratch",
    ),
    "transfer.pretrained_on": optional(
        str, "the data set of the pretrained weights, for tables, such as ImageNet", used=when.WEIGHTS
    ),
    "transfer.freeze_backbone": field(False, "train only the head", used=when.WEIGHTS),
    "transfer.cache_features": field(
        True, "compute the features of a frozen backbone only once", used=when.CAN_CACHE_FEATURES
    ),
    **duration("transfer.head_only_", "train only the head before the full network", used=when.FINE_TUNES),
    "transfer.backbone_lr_multiplier": field(
        1.0, "learning rate of the backbone relative to the head", gt=0.0, le=1.0, used=when.FINE_TUNES
    ),
    # Training.
    "train.batch_size": field(32, "images per step, over all devices and processes", ge=1),
    **duration("train.", "training duration", ge=1),
    "train.drop_last": field(False, "drop an epoch's last incomplete batch"),
    "train.loss": choice(
        "cross_entropy",
        ("cross_entropy", *when.SQUARED_ERRORS),
        "the loss: sum_ and half_squared_error are sums over the batch, the others means",
    ),
    "train.label_smoothing": field(0.0, "label smoothing", ge=0.0, le=0.99, used=when.CROSS_ENTROPY),
    "train.class_weights": field(
        (),
        "loss weight per class; balanced: inverse to the class's training examples, as in scikit-learn; "
        "empty: none",
        gt=0.0,
        words=("balanced",),
        used=when.CROSS_ENTROPY,
    ),
    "train.balanced_sampling": field(
        False,
        "draw every class equally often, with replacement, as PyTorch's WeightedRandomSampler does",
        used=when.IMAGES,
    ),
    "train.auxiliary_weight": optional(
        float, "loss weight of each auxiliary head; None: that of the paper", ge=0.0, used=when.AUXILIARY_LOSS
    ),
    "train.grad_accum_steps": field(1, "number of microbatches per batch (gradient accumulation)", ge=1),
    "train.remat": field(
        False,
        "store the outputs of convolutions only and compute the other activations again in the backward "
        "pass: less memory, slower steps",
    ),
    "train.steps_per_execution": field(
        0, "maximum steps per call with data on the device; 0: automatic", ge=0, le=10_000
    ),
    "train.clip_grad_norm": optional(float, "maximum global gradient norm; None: no clipping", gt=0.0),
    "train.ema_decay": optional(float, "decay of the moving average of weights; None: off", gt=0.0, lt=1.0),
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
    "optimizer.learning_rate": field(0.1, "peak learning rate", gt=0.0),
    "optimizer.momentum": field(0.9, "momentum", ge=0.0, le=1.0, used=when.SGD),
    "optimizer.nesterov": field(False, "Nesterov momentum", used=when.positive("optimizer.momentum", 0.9)),
    "optimizer.beta1": field(0.9, "decay of the first moment", ge=0.0, lt=1.0, used=when.ADAM),
    "optimizer.beta2": field(0.999, "decay of the second moment", ge=0.0, lt=1.0, used=when.ADAM),
    "optimizer.epsilon": field(1e-8, "added outside the square root", gt=0.0, used=when.ADAM),
    "optimizer.weight_decay": field(0.0, "applied to all parameters, as in PyTorch", ge=0.0),
    "optimizer.decoupled_weight_decay": field(
        False, "decoupled weight decay (AdamW)", used=when.CAN_DECOUPLE_WEIGHT_DECAY
    ),
    "schedule.name": choice("constant", ("constant", "step", "cosine"), "schedule after warmup"),
    **duration("schedule.warmup_", "linear warmup from 0"),
    **period("schedule.decay_every_", "interval between decays", used=when.STEP),
    "schedule.decay_factor": field(0.1, "factor of each decay", gt=0.0, le=1.0, used=when.STEP),
    "schedule.final_fraction": field(
        0.0, "final rate relative to the peak", ge=0.0, le=1.0, used=when.COSINE
    ),
    # Callbacks.
    "plateau.patience": optional(
        int,
        "evaluations without improvement before a reduction, as in optax and Keras; None: off",
        ge=0,
        used=when.HAS_VALIDATION,
    ),
    "plateau.factor": field(0.1, "factor of each reduction", gt=0.0, le=1.0, used=when.PLATEAU),
    "plateau.cooldown": field(0, "evaluations to wait after a reduction", ge=0, used=when.PLATEAU),
    "plateau.min_delta": field(1e-4, "minimum relative improvement", gt=0.0, used=when.PLATEAU),
    "plateau.min_scale": field(0.0, "lower bound of the total factor", ge=0.0, used=when.PLATEAU),
    "early_stopping.patience": optional(
        int,
        "evaluations without improvement before stopping, as in Keras; None: off",
        ge=0,
        used=when.HAS_VALIDATION,
    ),
    "early_stopping.min_delta": field(
        0.0, "minimum improvement", ge=0.0, used=when.given("early_stopping.patience", 5)
    ),
    "monitor.metric": choice(
        "validation_loss",
        ("validation_loss", "validation_accuracy"),
        "metric of plateau, early stopping and the best checkpoint",
        used=when.HAS_VALIDATION,
    ),
    # Evaluation, checkpoints and the log.
    "eval.batch_size": field(0, "images per batch; 0: train.batch_size", ge=0),
    **period(
        "eval.every_",
        "interval between evaluations",
        used=when.any_of(when.HAS_VALIDATION, when.positive("eval.monitor_test", True)),
    ),
    "eval.ema": field(
        True, "evaluate the moving average of weights", used=when.given("train.ema_decay", 0.999)
    ),
    "eval.monitor_test": field(
        False,
        "evaluate the test set at every evaluation too (augmented if eval.augment is set); never used "
        "for model selection",
    ),
    "eval.augment": field(False, "also test on augmented images", used=when.AUGMENTS),
    "eval.dropout": field(
        False,
        "also test with dropout, as PyTorch without model.eval()",
        used=when.all_of(when.DROPOUT_ALONE, when.positive("model.dropout", 0.5)),
    ),
    "eval.use_best": field(False, "test the best checkpoint instead of the last", used=when.HAS_VALIDATION),
    **period("checkpoint.every_", "interval between checkpoints"),
    "checkpoint.keep": field(2, "number of newest checkpoints to keep, besides the best", ge=1),
    "log.every_steps": field(
        50, "steps between training records of metrics.jsonl; at least one per epoch", ge=1
    ),
    "log.tensorboard": field(True, "write TensorBoard event files"),
    **period(
        "log.histograms_every_",
        "interval between histograms of the weights for TensorBoard",
        used=when.positive("log.tensorboard", True),
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
