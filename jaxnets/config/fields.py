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
    "seed": integer(0, "seed of weights, order, augmentation and dropout", least=0),
    # The network.
    "model.name": text("", "a name of jaxnets.models"),
    "model.num_classes": integer(0, "0 follows the data", least=0, used=IMAGES),
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
        least=0.0,
        most=0.99,
        used=all_of(one_of("model.name", "inception_v1"), AUXILIARY_LOSS),
    ),
    "model.cut": text(
        None,
        "the block that its body ends with, e.g. mixed7a; None: mixed7c, the last",
        used=one_of("model.name", "inception_v3"),
    ),
    "model.stage_sizes": Field((3, 4, 6, 3), tuple, "blocks a stage", least=1, used=RESNET),
    "model.width": integer(64, "channels of the first stage", least=1, used=RESNET),
    "model.layer_sizes": Field(
        (3, 4, 4, 1), tuple, "inputs, neurons of each layer, outputs", least=1, used=MLP
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
        least=1,
        most=7,
        used=one_of("model.name", "lenet5"),
    ),
    "model.dropout": number(0.0, "rate before the classifier", least=0.0, most=0.99, used=IMAGES),
    "model.dtype": choice(
        "float32", ("float32", "float64"), "parameters, statistics and loss; float64 for proofs"
    ),
    "model.compute_dtype": text(None, "None computes in model.dtype; bfloat16 saves time on GPUs"),
    "model.lowering": choice(
        "auto",
        ("auto", "reference"),
        "form of convolution, pooling, batch norm: auto by machine; reference: XLA's, which jvp needs",
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
    "data.image_size": integer(
        224, "pixels a side, after decoding", least=8, most=4096, used=IMAGES
    ),
    "data.resize": choice(
        "crop", ("crop", "stretch"), "how other shapes become square", used=IMAGES
    ),
    "data.max_pixels": integer(100_000_000, "largest image that is decoded", least=1, used=IMAGES),
    "data.cache": switch(
        True, "decode once into a memory map; False decodes every time", used=IMAGES
    ),
    "data.on_device": choice(
        "auto", ("auto", "yes", "no"), "keep all examples on the device; auto where they fit"
    ),
    "data.num_examples": integer(
        3000, "how many are drawn", least=30, used=one_of("data.name", "synthetic_tissue")
    ),
    "data.synthetic_seed": integer(
        0, "seed of the pictures", least=0, used=one_of("data.name", "synthetic_tissue")
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
        least=0,
        used=one_of("data.split", "grouped"),
    ),
    "data.fold": integer(
        0,
        "grouped: the fold that tests; the next one validates",
        least=0,
        used=positive("data.folds", 5),
    ),
    "data.allow_duplicates": switch(
        False, "train although a test image is in training, too", used=IMAGES
    ),
    "data.split_seed": integer(
        0,
        "seed of the division; the same for every run seed",
        least=0,
        used=any_of(DIVIDED_AT_RANDOM, positive("data.validation_fraction", 0.1)),
    ),
    "data.fractions": numbers(
        (0.70, 0.15, 0.15),
        "train, validation and test shares of a random or grouped split",
        least=0.0,
        most=1.0,
        used=all_of(DIVIDED_AT_RANDOM, off("data.folds")),
    ),
    "data.validation_fraction": number(
        0.0,
        "share of train that becomes validation",
        least=0.0,
        most=0.9,
        used=one_of("data.split", "official"),
    ),
    "data.mean": numbers(
        (0.5, 0.5, 0.5), "subtracted from pixels in [0, 1], by channel", used=IMAGES
    ),
    "data.std": numbers((0.5, 0.5, 0.5), "then divided by, by channel", least=1e-6, used=IMAGES),
    "data.threads": integer(0, "reader threads; 0 is one a core", least=0, most=256),
    # Augmentation, of training images, on the device.
    "augment.flip_horizontal": switch(False, "mirror left and right half of the time", used=IMAGES),
    "augment.flip_vertical": switch(False, "mirror up and down half of the time", used=IMAGES),
    "augment.right_angles": switch(False, "turn by 0, 90, 180 or 270 degrees", used=IMAGES),
    "augment.rotation_degrees": number(
        0.0, "turn by up to this much", least=0.0, most=180.0, used=IMAGES
    ),
    "augment.crop_padding": integer(0, "pad by this many pixels, crop back", least=0, used=IMAGES),
    "augment.brightness": number(0.0, "factor in [1 - b, 1 + b]", least=0.0, most=1.0, used=IMAGES),
    "augment.contrast": number(0.0, "factor in [1 - c, 1 + c]", least=0.0, most=1.0, used=IMAGES),
    "augment.saturation": number(0.0, "factor in [1 - s, 1 + s]", least=0.0, most=1.0, used=IMAGES),
    "augment.hue": number(0.0, "turn of the hue circle, up to", least=0.0, most=0.5, used=IMAGES),
    "augment.stain": number(
        0.0, "H&E strengths times [1 - s, 1 + s]", least=0.0, most=1.0, used=IMAGES
    ),
    "augment.mixup": number(
        0.0,
        "alpha of the Beta distribution; 0 is off",
        least=0.0,
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
    "transfer.frozen": switch(
        False, "the body stays as it is: only the head is trained", used=WEIGHTS
    ),
    "transfer.cache_features": switch(
        True,
        "what a frozen body gives is computed once, where nothing is augmented",
        used=FEATURES_STAY,
    ),
    **duration(
        "transfer.head_first_",
        "train the head alone before all of the network",
        used=all_of(WEIGHTS, WHOLE_NETWORK),
    ),
    "transfer.body_share": number(
        1.0,
        "the body's learning rate as a share of the head's",
        above=0.0,
        most=1.0,
        used=all_of(WEIGHTS, WHOLE_NETWORK),
    ),
    # Training.
    "train.batch_size": integer(32, "images a step, all devices and processes together", least=1),
    **duration("train.", "how long to train", least=1),
    "train.drop_last": switch(False, "leave out an epoch's last short batch"),
    "train.loss": choice(
        "cross_entropy",
        ("cross_entropy", *SQUARED_ERRORS),
        "what is minimised: a mean; the sum and half the sum are of the batch, not divided",
    ),
    "train.label_smoothing": number(
        0.0, "share given to all classes", least=0.0, most=0.99, used=CROSS_ENTROPY
    ),
    "train.class_weights": numbers(
        (), "loss weight by class; empty for none", above=0.0, used=CROSS_ENTROPY
    ),
    "train.auxiliary_weight": number(
        None,
        "of each auxiliary head in the loss; None: as the network was published",
        least=0.0,
        used=AUXILIARY_LOSS,
    ),
    "train.accumulate": integer(1, "parts a batch is computed in, one after another", least=1),
    "train.steps_per_call": integer(
        0, "at most, with the data on the device; 0 as measured best", least=0, most=10_000
    ),
    "train.clip_norm": number(None, "largest global gradient norm; None for no limit", above=0.0),
    "train.ema_decay": number(
        None, "moving average of weights; None for none", above=0.0, below=1.0
    ),
    "optimizer.name": choice(
        "sgd",
        ("sgd", "adam"),
        "which rule",
        elsewhere=(
            (
                "adamw",
                "AdamW is adam with --config.optimizer.decoupled=True and a "
                "--config.optimizer.weight_decay",
            ),
        ),
    ),
    "optimizer.learning_rate": number(0.1, "the peak rate", above=0.0),
    "optimizer.momentum": number(
        0.9, "share of the last update that stays in the next", least=0.0, most=1.0, used=SGD
    ),
    "optimizer.nesterov": switch(
        False, "look one step ahead", used=positive("optimizer.momentum", 0.9)
    ),
    "optimizer.beta1": number(0.9, "decay of the first moment", least=0.0, below=1.0, used=ADAM),
    "optimizer.beta2": number(0.999, "decay of the second moment", least=0.0, below=1.0, used=ADAM),
    "optimizer.epsilon": number(1e-8, "added outside the root", above=0.0, used=ADAM),
    "optimizer.weight_decay": number(0.0, "on every parameter, as PyTorch does", least=0.0),
    "optimizer.decoupled": switch(
        False,
        "weight decay beside the gradient (AdamW), not in it",
        used=DECAY_HAS_TWO_PLACES,
    ),
    "schedule.name": choice("constant", ("constant", "step", "cosine"), "after the warm-up"),
    **duration("schedule.warmup_", "linear rise from 0"),
    **period("schedule.decay_every_", "time between two decays", used=STEP),
    "schedule.decay_factor": number(0.1, "times this, each time", above=0.0, most=1.0, used=STEP),
    "schedule.final_fraction": number(0.0, "ends at this share", least=0.0, most=1.0, used=COSINE),
    # Hooks.
    "plateau.patience": integer(
        None,
        "evaluations without gain before a cut, as in optax and Keras; None is off",
        least=0,
        used=VALIDATES,
    ),
    "plateau.factor": number(
        0.1, "the rate times this", above=0.0, most=1.0, used=given("plateau.patience", 2)
    ),
    "plateau.cooldown": integer(
        0, "evaluations to wait after a cut", least=0, used=given("plateau.patience", 2)
    ),
    "plateau.threshold": number(
        1e-4, "the least relative gain that counts", above=0.0, used=given("plateau.patience", 2)
    ),
    "plateau.least_scale": number(
        0.0, "the rate is never cut below this share", least=0.0, used=given("plateau.patience", 2)
    ),
    "early_stopping.patience": integer(
        None,
        "evaluations without gain before the stop, as in Keras; None is off",
        least=0,
        used=VALIDATES,
    ),
    "early_stopping.least_gain": number(
        0.0, "the least gain that counts", least=0.0, used=given("early_stopping.patience", 5)
    ),
    "monitor.metric": choice(
        "validation_loss",
        ("validation_loss", "validation_accuracy"),
        "what plateau, early stopping and the best checkpoint watch",
        used=VALIDATES,
    ),
    # Evaluation, checkpoints and the log.
    "eval.batch_size": integer(0, "0 is train.batch_size", least=0),
    **period(
        "eval.every_",
        "time between two evaluations",
        used=any_of(VALIDATES, positive("eval.follow_test", True)),
    ),
    "eval.ema": switch(
        True, "evaluate the moving average where there is one", used=given("train.ema_decay", 0.999)
    ),
    "eval.follow_test": switch(
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
    "checkpoint.keep": integer(2, "newest checkpoints kept, the best one beside", least=1),
    "log.every_steps": integer(
        50, "steps between two lines of metrics.jsonl; at least one an epoch is written", least=1
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
