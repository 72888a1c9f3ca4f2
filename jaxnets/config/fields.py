"""Every field of a recipe: its default, its type, what it means and what it may be."""

import dataclasses
import difflib
import math
from collections.abc import Mapping, Sequence
from typing import Any

UNITS = ("steps", "epochs", "examples")
"""The units of a duration. A recipe gives each duration in at most one of them."""

SQUARED_ERRORS = ("mean_squared_error", "sum_squared_error", "half_squared_error")
"""The losses that take values; classes are one value each, 0 or 1."""


@dataclasses.dataclass(frozen=True)
class Field:
    """One field of a recipe: its default, its type, what it means and what it may be."""

    default: Any
    type: type
    about: str
    choices: tuple[str, ...] = ()
    least: float | None = None
    most: float | None = None
    above: float | None = None
    below: float | None = None

    def problem(self, value: Any) -> str | None:
        """Says what is wrong with `value`, or None."""
        if value is None:
            return None if self.default is None else "it may not be None"
        if isinstance(value, (list, tuple)):
            check = self._choice_problem if self.choices else self._element_problem
            return next((problem for problem in map(check, value) if problem), None)
        return self._choice_problem(value) if self.choices else self._number_problem(value)

    def _choice_problem(self, value: Any) -> str | None:
        if value in self.choices:
            return None
        listed = ", ".join(self.choices)
        if self.type is not tuple:
            return f"it must be one of {listed}{nearest(value, self.choices)}"
        if isinstance(value, str) and "," in value:  # what a shell makes of tanh,tanh
            return "write it with quotes and brackets: \"('" + "','".join(value.split(",")) + "')\""
        return f"{value!r} is none of {listed}{nearest(value, self.choices)}"

    def _element_problem(self, value: Any) -> str | None:
        if not isinstance(value, (int, float)):
            return "it must hold numbers alone"
        if self.default and isinstance(self.default[0], int) and not isinstance(value, int):
            return "it must hold whole numbers"
        return self._number_problem(value)

    def _number_problem(self, value: Any) -> str | None:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return None
        if not math.isfinite(value):
            return "it must be a finite number"
        if self.least is not None and value < self.least:
            return f"it must be at least {self.least:g}"
        if self.most is not None and value > self.most:
            return f"it must be at most {self.most:g}"
        if self.above is not None and value <= self.above:
            return f"it must be above {self.above:g}"
        if self.below is not None and value >= self.below:
            return f"it must be below {self.below:g}"
        return None


def _text(default: str | None, about: str) -> Field:
    return Field(default, str, about)


def _choice(default: str, choices: Sequence[str], about: str) -> Field:
    return Field(default, str, about, choices=tuple(choices))


def _switch(default: bool, about: str) -> Field:
    return Field(default, bool, about)


def _integer(default: int | None, about: str, **limits: Any) -> Field:
    return Field(default, int, about, **limits)


def _number(default: float | None, about: str, **limits: Any) -> Field:
    return Field(default, float, about, **limits)


def _numbers(default: tuple[float, ...], about: str, **limits: Any) -> Field:
    return Field(default, tuple, about, **limits)


def _words(default: tuple[str, ...], choices: Sequence[str], about: str) -> Field:
    return Field(default, tuple, about, choices=tuple(choices))


def _duration(prefix: str, about: str, least: int = 0) -> dict[str, Field]:
    return {f"{prefix}{unit}": _integer(None, f"{about}, in {unit}", least=least) for unit in UNITS}


def _period(prefix: str, about: str) -> dict[str, Field]:
    """The time between two events: never 0, which could mean at every step as well as never."""
    return _duration(prefix, about, least=1)


FIELDS: Mapping[str, Field] = {
    "name": _text("", "CONFIG:VARIANT, set by the config file"),
    "entry": _text(None, "the published entry to compare with, e.g. A/resnet50; None for none"),
    "note": _text("", "one line that travels with the result"),
    "seed": _integer(0, "seed of weights, order, augmentation and dropout", least=0),
    # The network.
    "model.name": _text("", "a name of jaxnets.models"),
    "model.num_classes": _integer(0, "0 follows the data", least=0),
    "model.init": _choice(
        "torch",
        ("torch", "flax", "published"),
        "initialisation: as the PyTorch original, Flax's defaults, or mlp: report A's 41 weights",
    ),
    "model.variant": _text(
        None,
        "whose form, None: the network's first; alexnet: pool3 or pool2, of report C and E; "
        "others: torchvision's; inception_v1: or paper, with its 5x5 branch; "
        "resnet50: or keras, with biases and strides on the first 1x1; inception_v3: or keras, whose "
        "average pooling leaves padding out; densenet121: or keras, of another epsilon",
    ),
    "model.auxiliary_heads": _switch(True, "train auxiliary heads where the network has them"),
    "model.auxiliary_dropout": _number(
        0.7, "inception_v1: rate in the auxiliary heads", least=0.0, most=0.99
    ),
    "model.cut": _text(
        None,
        "inception_v3: the block that its body ends with, e.g. mixed7a; None: mixed7c, the last",
    ),
    "model.stage_sizes": Field((3, 4, 6, 3), tuple, "ResNet: blocks a stage", least=1),
    "model.width": _integer(64, "ResNet: channels of the first stage", least=1),
    "model.layer_sizes": Field(
        (3, 4, 4, 1), tuple, "mlp: inputs, neurons of each layer, outputs", least=1
    ),
    "model.activations": _words(
        ("tanh", "tanh", "tanh"),
        ("tanh", "relu", "leaky_relu", "sigmoid", "identity"),
        "mlp: one a layer",
    ),
    "model.activation": _choice(
        "relu", ("relu", "leaky_relu", "sigmoid", "tanh"), "lenet5, alexnet: between the layers"
    ),
    "model.pooling": _choice("max", ("max", "average"), "lenet5, alexnet: after convolutions"),
    "model.kernel_size": _integer(
        5, "lenet5: side of both convolutions, in pixels", least=1, most=7
    ),
    "model.dropout": _number(0.0, "rate before the classifier", least=0.0, most=0.99),
    "model.dtype": _choice(
        "float32", ("float32", "float64"), "parameters, statistics and loss; float64 for proofs"
    ),
    "model.compute_dtype": _text(None, "None computes in model.dtype; bfloat16 saves time on GPUs"),
    "model.lowering": _choice(
        "auto",
        ("auto", "reference"),
        "form of convolution, pooling, batch norm: auto by machine; reference: XLA's, which jvp needs",
    ),
    "model.sync_batch_norm": _switch(True, "batch statistics over all devices, not per device"),
    # The data.
    "data.name": _text(
        "auto", "a source of jaxnets.data.catalog, or auto where a config has a :demo"
    ),
    "data.root": _text(None, "data folder; None takes $JAXNETS_DATA, else ./data"),
    "data.cache_root": _text(None, "decoded images; None: ROOT/cache, or the user's cache folder"),
    "data.path": _text(None, "image_folder: the folder; tfds: the builder's folder"),
    "data.image_size": _integer(224, "pixels a side, after decoding", least=8, most=4096),
    "data.resize": _choice("crop", ("crop", "stretch"), "how other shapes become square"),
    "data.max_pixels": _integer(100_000_000, "largest image that is decoded", least=1),
    "data.cache": _switch(True, "decode once into a memory map; False decodes every time"),
    "data.on_device": _choice(
        "auto", ("auto", "yes", "no"), "keep all examples on the device; auto where they fit"
    ),
    "data.num_examples": _integer(3000, "synthetic_tissue: how many are drawn", least=30),
    "data.synthetic_seed": _integer(0, "synthetic_tissue: seed of the pictures", least=0),
    "data.split": _choice(
        "random",
        ("random", "official", "grouped"),
        "how examples are divided; grouped: siblings on one side",
    ),
    "data.groups": _text(
        None,
        "table of groups, file,original,group or LC25000-clean's; None: LC25000's own, or none",
    ),
    "data.group_level": _choice(
        "group", ("group", "original"), "kept whole: photographs that overlap, or each by itself"
    ),
    "data.folds": _integer(0, "grouped: number of folds; 0 cuts by fractions", least=0),
    "data.fold": _integer(0, "grouped: the fold that tests; the next one validates", least=0),
    "data.allow_duplicates": _switch(False, "train although a test image is in training, too"),
    "data.split_seed": _integer(0, "seed of the division; the same for every run seed", least=0),
    "data.fractions": _numbers(
        (0.70, 0.15, 0.15),
        "train, validation and test shares of a random or grouped split",
        least=0.0,
        most=1.0,
    ),
    "data.validation_fraction": _number(
        0.0, "official split: share of train that becomes validation", least=0.0, most=0.9
    ),
    "data.mean": _numbers((0.5, 0.5, 0.5), "subtracted from pixels in [0, 1], by channel"),
    "data.std": _numbers((0.5, 0.5, 0.5), "then divided by, by channel", above=0.0),
    "data.threads": _integer(0, "reader threads; 0 is one a core", least=0, most=256),
    # Augmentation, of training images, on the device.
    "augment.flip_horizontal": _switch(False, "mirror left and right half of the time"),
    "augment.flip_vertical": _switch(False, "mirror up and down half of the time"),
    "augment.right_angles": _switch(False, "turn by 0, 90, 180 or 270 degrees"),
    "augment.rotation_degrees": _number(0.0, "turn by up to this much", least=0.0, most=180.0),
    "augment.crop_padding": _integer(0, "pad by this many pixels, crop back", least=0),
    "augment.brightness": _number(0.0, "factor in [1 - b, 1 + b]", least=0.0, most=1.0),
    "augment.contrast": _number(0.0, "factor in [1 - c, 1 + c]", least=0.0, most=1.0),
    "augment.saturation": _number(0.0, "factor in [1 - s, 1 + s]", least=0.0, most=1.0),
    "augment.hue": _number(0.0, "turn of the hue circle, up to", least=0.0, most=0.5),
    "augment.stain": _number(0.0, "H&E strengths times [1 - s, 1 + s]", least=0.0, most=1.0),
    "augment.mixup": _number(0.0, "alpha of the Beta distribution; 0 is off", least=0.0),
    # Transfer: a body that was trained before, and a new head.
    "transfer.weights": _text(
        None,
        "where the body comes from: a weights folder, a run directory, the name of either under "
        "DATA/weights, or random; None: nowhere, train from scratch",
    ),
    "transfer.pretrained_on": _text(
        None,
        "what the body was trained on, in words for the tables, such as ImageNet; None: not told",
    ),
    "transfer.frozen": _switch(False, "the body stays as it is: only the head is trained"),
    "transfer.cache_features": _switch(
        True, "what a frozen body gives is computed once, where nothing is augmented"
    ),
    **_duration("transfer.head_first_", "train the head alone before all of the network"),
    "transfer.body_share": _number(
        1.0, "the body's learning rate as a share of the head's", above=0.0, most=1.0
    ),
    # Training.
    "train.batch_size": _integer(32, "images a step, all devices and processes together", least=1),
    **_duration("train.", "how long to train", least=1),
    "train.drop_last": _switch(False, "leave out an epoch's last short batch"),
    "train.loss": _choice(
        "cross_entropy",
        ("cross_entropy", *SQUARED_ERRORS),
        "what is minimised: a mean; the sum and half the sum are of the batch, not divided",
    ),
    "train.label_smoothing": _number(0.0, "share given to all classes", least=0.0, most=0.99),
    "train.class_weights": _numbers((), "loss weight by class; empty for none", above=0.0),
    "train.auxiliary_weight": _number(
        None, "of each auxiliary head in the loss; None: as the network was published", least=0.0
    ),
    "train.accumulate": _integer(1, "parts a batch is computed in, one after another", least=1),
    "train.steps_per_call": _integer(
        0, "at most, with the data on the device; 0 as measured best", least=0, most=10_000
    ),
    "train.clip_norm": _number(None, "largest global gradient norm; None for no limit", above=0.0),
    "train.ema_decay": _number(
        None, "moving average of weights; None for none", above=0.0, below=1.0
    ),
    "optimizer.name": _choice("sgd", ("sgd", "adam"), "which rule"),
    "optimizer.learning_rate": _number(0.1, "the peak rate", above=0.0),
    "optimizer.momentum": _number(0.9, "sgd", least=0.0, most=1.0),
    "optimizer.nesterov": _switch(False, "sgd"),
    "optimizer.beta1": _number(0.9, "adam", least=0.0, below=1.0),
    "optimizer.beta2": _number(0.999, "adam", least=0.0, below=1.0),
    "optimizer.epsilon": _number(1e-8, "adam, outside the root", above=0.0),
    "optimizer.weight_decay": _number(0.0, "on every parameter, as PyTorch does", least=0.0),
    "optimizer.decoupled": _switch(False, "weight decay beside the gradient (AdamW), not in it"),
    "schedule.name": _choice("constant", ("constant", "step", "cosine"), "after the warm-up"),
    **_duration("schedule.warmup_", "linear rise from 0"),
    **_period("schedule.decay_every_", "step: time between two decays"),
    "schedule.decay_factor": _number(0.1, "step: times this, each time", above=0.0, most=1.0),
    "schedule.final_fraction": _number(0.0, "cosine: ends at this share", least=0.0, most=1.0),
    # Hooks.
    "plateau.patience": _integer(
        None, "evaluations without gain before a cut, as in optax and Keras; None is off", least=0
    ),
    "plateau.factor": _number(0.1, "the rate times this", above=0.0, most=1.0),
    "plateau.cooldown": _integer(0, "evaluations to wait after a cut", least=0),
    "plateau.threshold": _number(1e-4, "the least relative gain that counts", above=0.0),
    "plateau.least_scale": _number(0.0, "the rate is never cut below this share", least=0.0),
    "early_stopping.patience": _integer(
        None, "evaluations without gain before the stop, as in Keras; None is off", least=0
    ),
    "early_stopping.least_gain": _number(0.0, "the least gain that counts", least=0.0),
    "monitor.metric": _choice(
        "validation_loss",
        ("validation_loss", "validation_accuracy"),
        "what plateau, early stopping and the best checkpoint watch",
    ),
    # Evaluation, checkpoints and the log.
    "eval.batch_size": _integer(0, "0 is train.batch_size", least=0),
    **_period("eval.every_", "time between two evaluations"),
    "eval.ema": _switch(True, "evaluate the moving average where there is one"),
    "eval.follow_test": _switch(
        False,
        "score the test set at every evaluation too, for its curve: augmented where eval.augment is; "
        "nothing is chosen by it",
    ),
    "eval.augment": _switch(
        False, "test on augmented images too, beside the clean test; a draw of the seed"
    ),
    "eval.dropout": _switch(
        False, "test with dropout on too, as PyTorch does where eval() is forgotten"
    ),
    "eval.use_best": _switch(False, "final test of the best checkpoint, not of the last"),
    **_period("checkpoint.every_", "time between two saves"),
    "checkpoint.keep": _integer(2, "newest checkpoints kept, the best one beside", least=1),
    "log.every_steps": _integer(
        50, "steps between two lines of metrics.jsonl; at least one an epoch is written", least=1
    ),
    "log.tensorboard": _switch(True, "write event files"),
    **_period("log.histograms_every_", "weights' histograms for TensorBoard; none for never"),
}

DURATIONS = tuple(
    path.removesuffix("steps")
    for path in FIELDS
    if path.endswith("steps") and path.removesuffix("steps") + "epochs" in FIELDS
)
"""Prefixes of the durations: "train.", "eval.every_", ..."""


def nearest(name: Any, names: Sequence[str] | Mapping[str, Any]) -> str:
    """A hint at the one of `names` that is nearest to `name`, or nothing."""
    found = difflib.get_close_matches(str(name), list(names), n=1, cutoff=0.5)
    return f" (did you mean {found[0]}?)" if found else ""
