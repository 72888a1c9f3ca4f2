"""Every field of a recipe: its default, its type, what it means, what it may be, and when it is used."""

from collections.abc import Mapping

from jaxnets.config.conditions import all_of, any_of, given, off, one_of, positive
from jaxnets.config.field import (
    Field,
    choice,
    duration,
    integer,
    number,
    numbers,
    period,
    switch,
    text,
    words,
)
from jaxnets.config.uses import (
    ADAM,
    AUGMENTS,
    AUXILIARY_LOSS,
    BATCH_NORM,
    COSINE,
    CROSS_ENTROPY,
    DECAY_HAS_TWO_PLACES,
    DIVIDED_AT_RANDOM,
    FEATURES_STAY,
    IMAGES,
    MLP,
    RESNET,
    SGD,
    SQUARED_ERRORS,
    STEP,
    VALIDATES,
    WEIGHTS,
    WHOLE_NETWORK,
)

FIELDS: Mapping[str, Field] = {
    "name": text("", "CONFIG:VARIANT, set by the config file"),
    "entry": text(None, "the published entry to compare with, e.g. A/resnet50; None for none"),
    "note": text("", "one line that travels with the result"),
    "seed": integer(0, "seed of weights, order, augmentation and dropout", ge=0),
    # The network.
    "model.name": text("", "a name of jaxnets.models"),
    "model.num_classes": integer(0, "0 follows the data", ge=0, used=IMAGES),
    "model.init": choice(
        "torch",
        ("torch", "flax", "published"),
        "initialisation: as the PyTorch original, Flax's defaults, or mlp: report A's 41 weights",
    ),
    "model.variant": text(
        None,
        "whose form, None: the network's first; alexnet: pool3 or pool2, of report C and E; "
        "others: torchvision's; inception_v1: or paper, with its 5x5 branch; "
        "resnet50: or keras, with biases and strides on the first 1x1; inception_v3: or keras, whose "
        "average pooling leaves padding out; densenet121: or keras, of another epsilon",
        used=one_of(
            "model.name", "alexnet", "resnet50", "inception_v1", "inception_v3", "densenet121"
        ),
    ),
    "model.auxiliary_heads": switch(
        True,
        "train auxiliary heads where the network has them",
        used=one_of("model.name", "inception_v1", "inception_v3"),
    ),
    "model.auxiliary_dropout": number(
        0.7,
        "rate in the auxiliary heads",
        ge=0.0,
        le=0.99,
        used=all_of(one_of("model.name", "inception_v1"), AUXILIARY_LOSS),
    ),
    "model.truncate_after": text(
        None,
        "the block that its body ends with, e.g. mixed7a; None: mixed7c, the last",
        used=one_of("model.name", "inception_v3"),
    ),
    "model.stage_sizes": Field((3, 4, 6, 3), tuple, "blocks a stage", ge=1, used=RESNET),
    "model.width": integer(64, "channels of the first stage", ge=1, used=RESNET),
    "model.layer_sizes": Field(
        (3, 4, 4, 1), tuple, "inputs, neurons of each layer, outputs", ge=1, used=MLP
    ),
    "model.activations": words(
        ("tanh", "tanh", "tanh"),
        ("tanh", "relu", "leaky_relu", "sigmoid", "identity"),
        "one a layer",
        used=MLP,
    ),
    "model.activation": choice(
        "relu",
        ("relu", "leaky_relu", "sigmoid", "tanh"),
        "between the layers",
        used=one_of("model.name", "lenet5", "alexnet"),
    ),
    "model.pooling": choice(
        "max",
        ("max", "average"),
        "after convolutions",
        used=one_of("model.name", "lenet5", "alexnet"),
    ),
    "model.kernel_size": integer(
        5,
        "side of both convolutions, in pixels",
        ge=1,
        le=7,
        used=one_of("model.name", "lenet5"),
    ),
    "model.dropout": number(0.0, "rate before the classifier", ge=0.0, le=0.99, used=IMAGES),
    "model.dtype": choice(
        "float32", ("float32", "float64"), "parameters, statistics and loss; float64 for proofs"
    ),
    "model.compute_dtype": text(None, "None computes in model.dtype; bfloat16 saves time on GPUs"),
    "model.implementation": choice(
        "auto",
        ("auto", "xla"),
        "form of convolution, pooling, batch norm: auto by machine; xla: XLA's, which jvp needs",
        used=IMAGES,
    ),
    "model.sync_batch_norm": switch(
        True, "batch statistics over all devices, not per device", used=BATCH_NORM
    ),
    # The data.
    "data.name": text(
        "auto", "a source of jaxnets.data.sources.registry, or auto where a config has a :demo"
    ),
    "data.root": text(None, "data folder; None takes $JAXNETS_DATA, else ./data"),
    "data.cache_root": text(
        None,
        "decoded images; None: ROOT/cache, or the user's cache folder",
        used=positive("data.cache", True),
    ),
    "data.path": text(
        None,
        "image_folder: the folder; tfds: the builder's folder",
        used=one_of("data.name", "image_folder", "tfds"),
    ),
    "data.image_size": integer(224, "pixels a side, after decoding", ge=8, le=4096, used=IMAGES),
    "data.resize": choice(
        "crop", ("crop", "stretch"), "how other shapes become square", used=IMAGES
    ),
    "data.max_pixels": integer(100_000_000, "largest image that is decoded", ge=1, used=IMAGES),
    "data.cache": switch(
        True, "decode once into a memory map; False decodes every time", used=IMAGES
    ),
    "data.on_device": choice(
        "auto", ("auto", "yes", "no"), "keep all examples on the device; auto where they fit"
    ),
    "data.num_examples": integer(
        3000, "how many are drawn", ge=30, used=one_of("data.name", "synthetic_tissue")
    ),
    "data.synthetic_seed": integer(
        0, "seed of the pictures", ge=0, used=one_of("data.name", "synthetic_tissue")
    ),
    "data.split": choice(
        "random",
        ("random", "official", "grouped"),
        "how examples are divided; grouped: siblings on one side",
    ),
    "data.groups": text(
        None,
        "table of groups, file,original,group or LC25000-clean's; None: LC25000's own, or none",
        used=IMAGES,
    ),
    "data.group_level": choice(
        "group",
        ("group", "original"),
        "kept whole: photographs that overlap, or each by itself",
        used=any_of(one_of("data.name", "lc25000_lung"), given("data.groups", "FILE")),
    ),
    "data.folds": integer(
        0,
        "grouped: number of folds; 0 cuts by fractions",
        ge=0,
        used=one_of("data.split", "grouped"),
    ),
    "data.fold": integer(
        0,
        "grouped: the fold that tests; the next one validates",
        ge=0,
        used=positive("data.folds", 5),
    ),
    "data.allow_duplicates": switch(
        False, "train although a test image is in training, too", used=IMAGES
    ),
    "data.split_seed": integer(
        0,
        "seed of the division; the same for every run seed",
        ge=0,
        used=any_of(DIVIDED_AT_RANDOM, positive("data.validation_fraction", 0.1)),
    ),
    "data.fractions": numbers(
        (0.70, 0.15, 0.15),
        "train, validation and test shares of a random or grouped split",
        ge=0.0,
        le=1.0,
        used=all_of(DIVIDED_AT_RANDOM, off("data.folds")),
    ),
    "data.validation_fraction": number(
        0.0,
        "share of train that becomes validation",
        ge=0.0,
        le=0.9,
        used=one_of("data.split", "official"),
    ),
    "data.mean": numbers(
        (0.5, 0.5, 0.5), "subtracted from pixels in [0, 1], by channel", used=IMAGES
    ),
    "data.std": numbers((0.5, 0.5, 0.5), "then divided by, by channel", ge=1e-6, used=IMAGES),
    "data.threads": integer(0, "reader threads; 0 is one a core", ge=0, le=256),
    # Augmentation, of training images, on the device.
    "augment.flip_horizontal": switch(False, "mirror left and right half of the time", used=IMAGES),
    "augment.flip_vertical": switch(False, "mirror up and down half of the time", used=IMAGES),
    "augment.right_angles": switch(False, "turn by 0, 90, 180 or 270 degrees", used=IMAGES),
    "augment.rotation_degrees": number(
        0.0, "turn by up to this much", ge=0.0, le=180.0, used=IMAGES
    ),
    "augment.crop_padding": integer(0, "pad by this many pixels, crop back", ge=0, used=IMAGES),
    "augment.brightness": number(0.0, "factor in [1 - b, 1 + b]", ge=0.0, le=1.0, used=IMAGES),
    "augment.contrast": number(0.0, "factor in [1 - c, 1 + c]", ge=0.0, le=1.0, used=IMAGES),
    "augment.saturation": number(0.0, "factor in [1 - s, 1 + s]", ge=0.0, le=1.0, used=IMAGES),
    "augment.hue": number(0.0, "turn of the hue circle, up to", ge=0.0, le=0.5, used=IMAGES),
    "augment.stain": number(0.0, "H&E strengths times [1 - s, 1 + s]", ge=0.0, le=1.0, used=IMAGES),
    "augment.mixup": number(
        0.0,
        "alpha of the Beta distribution; 0 is off",
        ge=0.0,
        used=all_of(IMAGES, CROSS_ENTROPY),
    ),
    # Transfer: a body that was trained before, and a new head.
    "transfer.weights": text(
        None,
        "where the body comes from: a weights folder, a run directory, the name of either under "
        "DATA/weights, or random; None: nowhere, train from scratch",
    ),
    "transfer.pretrained_on": text(
        None,
        "what the body was trained on, in words for the tables, such as ImageNet; None: not told",
        used=WEIGHTS,
    ),
    "transfer.freeze_backbone": switch(
        False, "the body stays as it is: only the head is trained", used=WEIGHTS
    ),
    "transfer.cache_features": switch(
        True,
        "what a frozen body gives is computed once, where nothing is augmented",
        used=FEATURES_STAY,
    ),
    **duration(
        "transfer.head_only_",
        "train the head alone before all of the network",
        used=all_of(WEIGHTS, WHOLE_NETWORK),
    ),
    "transfer.backbone_lr_multiplier": number(
        1.0,
        "the body's learning rate as a share of the head's",
        gt=0.0,
        le=1.0,
        used=all_of(WEIGHTS, WHOLE_NETWORK),
    ),
    # Training.
    "train.batch_size": integer(32, "images a step, all devices and processes together", ge=1),
    **duration("train.", "how long to train", ge=1),
    "train.drop_last": switch(False, "leave out an epoch's last short batch"),
    "train.loss": choice(
        "cross_entropy",
        ("cross_entropy", *SQUARED_ERRORS),
        "what is minimised: a mean; the sum and half the sum are of the batch, not divided",
    ),
    "train.label_smoothing": number(
        0.0, "share given to all classes", ge=0.0, le=0.99, used=CROSS_ENTROPY
    ),
    "train.class_weights": numbers(
        (), "loss weight by class; empty for none", gt=0.0, used=CROSS_ENTROPY
    ),
    "train.auxiliary_weight": number(
        None,
        "of each auxiliary head in the loss; None: as the network was published",
        ge=0.0,
        used=AUXILIARY_LOSS,
    ),
    "train.grad_accum_steps": integer(1, "parts a batch is computed in, one after another", ge=1),
    "train.steps_per_execution": integer(
        0, "at most, with the data on the device; 0 as measured best", ge=0, le=10_000
    ),
    "train.clip_grad_norm": number(None, "largest global gradient norm; None for no limit", gt=0.0),
    "train.ema_decay": number(None, "moving average of weights; None for none", gt=0.0, lt=1.0),
    "optimizer.name": choice(
        "sgd",
        ("sgd", "adam"),
        "which rule",
        elsewhere=(
            (
                "adamw",
                "AdamW is adam with --config.optimizer.decoupled_weight_decay=True and a "
                "--config.optimizer.weight_decay",
            ),
        ),
    ),
    "optimizer.learning_rate": number(0.1, "the peak rate", gt=0.0),
    "optimizer.momentum": number(
        0.9, "share of the last update that stays in the next", ge=0.0, le=1.0, used=SGD
    ),
    "optimizer.nesterov": switch(
        False, "look one step ahead", used=positive("optimizer.momentum", 0.9)
    ),
    "optimizer.beta1": number(0.9, "decay of the first moment", ge=0.0, lt=1.0, used=ADAM),
    "optimizer.beta2": number(0.999, "decay of the second moment", ge=0.0, lt=1.0, used=ADAM),
    "optimizer.epsilon": number(1e-8, "added outside the root", gt=0.0, used=ADAM),
    "optimizer.weight_decay": number(0.0, "on every parameter, as PyTorch does", ge=0.0),
    "optimizer.decoupled_weight_decay": switch(
        False,
        "weight decay beside the gradient (AdamW), not in it",
        used=DECAY_HAS_TWO_PLACES,
    ),
    "schedule.name": choice("constant", ("constant", "step", "cosine"), "after the warm-up"),
    **duration("schedule.warmup_", "linear rise from 0"),
    **period("schedule.decay_every_", "time between two decays", used=STEP),
    "schedule.decay_factor": number(0.1, "times this, each time", gt=0.0, le=1.0, used=STEP),
    "schedule.final_fraction": number(0.0, "ends at this share", ge=0.0, le=1.0, used=COSINE),
    # Hooks.
    "plateau.patience": integer(
        None,
        "evaluations without gain before a cut, as in optax and Keras; None is off",
        ge=0,
        used=VALIDATES,
    ),
    "plateau.factor": number(
        0.1, "the rate times this", gt=0.0, le=1.0, used=given("plateau.patience", 2)
    ),
    "plateau.cooldown": integer(
        0, "evaluations to wait after a cut", ge=0, used=given("plateau.patience", 2)
    ),
    "plateau.min_delta": number(
        1e-4, "the least relative gain that counts", gt=0.0, used=given("plateau.patience", 2)
    ),
    "plateau.min_scale": number(
        0.0, "the rate is never cut below this share", ge=0.0, used=given("plateau.patience", 2)
    ),
    "early_stopping.patience": integer(
        None,
        "evaluations without gain before the stop, as in Keras; None is off",
        ge=0,
        used=VALIDATES,
    ),
    "early_stopping.min_delta": number(
        0.0, "the least gain that counts", ge=0.0, used=given("early_stopping.patience", 5)
    ),
    "monitor.metric": choice(
        "validation_loss",
        ("validation_loss", "validation_accuracy"),
        "what plateau, early stopping and the best checkpoint watch",
        used=VALIDATES,
    ),
    # Evaluation, checkpoints and the log.
    "eval.batch_size": integer(0, "0 is train.batch_size", ge=0),
    **period(
        "eval.every_",
        "time between two evaluations",
        used=any_of(VALIDATES, positive("eval.monitor_test", True)),
    ),
    "eval.ema": switch(
        True, "evaluate the moving average where there is one", used=given("train.ema_decay", 0.999)
    ),
    "eval.monitor_test": switch(
        False,
        "score the test set at every evaluation too, for its curve: augmented where eval.augment is; "
        "nothing is chosen by it",
    ),
    "eval.augment": switch(
        False,
        "test on augmented images too, beside the clean test; a draw of the seed",
        used=AUGMENTS,
    ),
    "eval.dropout": switch(
        False,
        "test with dropout on too, as PyTorch does where eval() is forgotten",
        used=all_of(one_of("model.name", "lenet5", "alexnet"), positive("model.dropout", 0.5)),
    ),
    "eval.use_best": switch(
        False, "final test of the best checkpoint, not of the last", used=VALIDATES
    ),
    **period("checkpoint.every_", "time between two saves"),
    "checkpoint.keep": integer(2, "newest checkpoints kept, the best one beside", ge=1),
    "log.every_steps": integer(
        50, "steps between two lines of metrics.jsonl; at least one an epoch is written", ge=1
    ),
    "log.tensorboard": switch(True, "write event files"),
    **period(
        "log.histograms_every_",
        "weights' histograms for TensorBoard; none for never",
        used=positive("log.tensorboard", True),
    ),
}

DURATIONS = tuple(
    path.removesuffix("steps")
    for path in FIELDS
    if path.endswith("steps") and path.removesuffix("steps") + "epochs" in FIELDS
)
"""Prefixes of the durations: "train.", "eval.every_", ..."""

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
"""Fields of earlier versions, with the names that replaced them."""
