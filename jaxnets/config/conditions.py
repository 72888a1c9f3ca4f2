"""Conditions under which a run uses a config field.

`jaxnets.config.fields` declares them and `jaxnets.config.loading` evaluates them.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

from jaxnets.registry import NETWORKS, SOURCES, WITHOUT_BATCH_NORM

KNOWN = {"model.name": tuple(NETWORKS), "data.name": tuple(SOURCES)}
"""The known networks and sources; others may use every field."""


class Unmet(NamedTuple):
    """Why a condition does not hold (the text after "because") and how to satisfy it."""

    state: str
    remedy: str


@dataclasses.dataclass(frozen=True)
class Values:
    """The value of each field of a config, and the condition under which the field is used."""

    value: Callable[[str], Any]
    used: Callable[[str], "Condition"]

    def possible(self, path: str) -> tuple[Any, ...]:
        """Returns the possible values of a field when the run starts: usually only the config's."""
        value, known = self.value(path), KNOWN.get(path)
        if path == "data.name" and value in AUTO:
            return AUTO[value]
        return (value,) if known is None or value in known else known

    def unmet(self, path: str) -> Unmet | None:
        """Returns why the run does not use a field, or None."""
        return self.used(path).unmet(self)


@dataclasses.dataclass(frozen=True)
class Condition:
    """A condition on a config; `unmet` returns why it does not hold, or None."""

    unmet: Callable[[Values], Unmet | None]
    description: str


ALWAYS = Condition(lambda values: None, "always")


def field_is(
    path: str, test: Callable[[Any], bool], description: str, remedy: str, *, if_unused: bool = False
) -> Condition:
    """Holds if the field's value passes `test`; for a field that the run does not use, `if_unused`."""

    def unmet(values: Values) -> Unmet | None:
        unused = values.unmet(path)
        if unused is not None:
            return None if if_unused else unused
        possible = values.possible(path)
        return None if any(map(test, possible)) else Unmet(f"--config.{path}={possible[0]}", remedy)

    return Condition(unmet, description)


def one_of(path: str, *choices: Any) -> Condition:
    """Holds if the field has one of `choices`."""
    description = f"{path} is {_one_of(choices)}"
    *others, last = map(str, choices)
    either = f"{', '.join(others)} or {last}" if others else last
    return field_is(path, lambda value: value in choices, description, f"set --config.{path}={either}")


def none_of(path: str, *choices: Any, remedy: str) -> Condition:
    """Holds if the field has a value other than `choices`."""
    return field_is(path, lambda value: value not in choices, f"{path} is not {_one_of(choices)}", remedy)


def given(path: str, example: Any) -> Condition:
    """Holds if an optional field is set; `example` is a possible value."""
    remedy = f"set --config.{path}={example}"
    return field_is(path, lambda value: value is not None, f"{path} is set", remedy)


def positive(path: str, example: Any) -> Condition:
    """Holds if a number is above 0 or a flag is True; `example` is such a value."""
    description = f"{path} is {'on' if example is True else 'above 0'}"
    return field_is(path, bool, description, f"set --config.{path}={example}")


def off(path: str) -> Condition:
    """Holds if a flag is False or not used."""
    remedy = f"set --config.{path}=False"
    return field_is(path, lambda value: not value, f"{path} is off", remedy, if_unused=True)


def all_of(*parts: Condition, description: str = "") -> Condition:
    """Holds if all `parts` hold; otherwise the reason is that of the first part that does not."""

    def unmet(values: Values) -> Unmet | None:
        found = (part.unmet(values) for part in parts)
        return next((reason for reason in found if reason is not None), None)

    texts = [f"({part.description})" if " or " in part.description else part.description for part in parts]
    return Condition(unmet, description or " and ".join(texts))


def any_of(*parts: Condition, otherwise: Unmet | None = None, description: str = "") -> Condition:
    """Holds if one of `parts` holds; otherwise the reason is `otherwise`, or that of the first part."""

    def unmet(values: Values) -> Unmet | None:
        found = [part.unmet(values) for part in parts]
        return None if None in found else otherwise or found[0]

    return Condition(unmet, description or " or ".join(part.description for part in parts))


def source_has(field: str) -> Condition:
    """Holds for the data sources that are made from `data.FIELD`."""
    return one_of("data.name", *(name for name, source in SOURCES.items() if field in source.fields))


def _one_of(choices: tuple[Any, ...]) -> str:
    listed = ", ".join(map(str, choices))
    return f"one of {listed}" if len(choices) > 1 else listed


SQUARED_ERRORS = ("mean_squared_error", "sum_squared_error", "half_squared_error")
"""The losses for regression targets; a class is a value of 0 or 1."""

AUXILIARY_SIZE = 299
"""The minimum image size for training Inception v3's auxiliary head, in pixels."""

AUTO = {"auto": ("lc25000_lung", "synthetic_tissue")}
"""The sources that data.name=auto may select when a run starts."""

IMAGES = all_of(
    none_of("data.name", "points", remedy="choose data of images"),
    none_of("model.name", "mlp", remedy="choose a network of images"),
    description="the examples are images",
)
BATCH_NORM = none_of("model.name", *WITHOUT_BATCH_NORM, remedy="choose a network with batch normalisation")
MLP = one_of("model.name", "mlp")
RESNET = one_of("model.name", "resnet50")
INCEPTION_V1, INCEPTION_V3 = one_of("model.name", "inception_v1"), one_of("model.name", "inception_v3")
STOCHASTIC_DEPTH = one_of(
    "model.name", *(name for name in NETWORKS if name.startswith(("efficientnet", "convnext")))
)
LENET, LENET_OR_ALEXNET = one_of("model.name", "lenet5"), one_of("model.name", "lenet5", "alexnet")
DROPOUT_ALONE = one_of("model.name", "lenet5", "alexnet", "vgg16")  # no batch norm beside the dropout
OFFICIAL_SPLIT = one_of("data.split", "official")
SGD, ADAM = one_of("optimizer.name", "sgd"), one_of("optimizer.name", "adam")
CAN_DECOUPLE_WEIGHT_DECAY = all_of(  # for plain SGD both forms are the same
    positive("optimizer.weight_decay", 0.01), any_of(positive("optimizer.momentum", 0.9), ADAM)
)
STEP, COSINE = one_of("schedule.name", "step"), one_of("schedule.name", "cosine")
CROSS_ENTROPY = one_of("train.loss", "cross_entropy")
WEIGHTS = given("transfer.weights", "FOLDER")
BACKBONE_IS_TRAINED = off("transfer.freeze_backbone")
FINE_TUNES = all_of(WEIGHTS, BACKBONE_IS_TRAINED)
PLATEAU = given("plateau.patience", 2)
AUXILIARY_LOSS = all_of(
    positive("model.auxiliary_heads", True),
    any_of(
        field_is(
            "data.image_size",
            lambda size: size >= AUXILIARY_SIZE,
            f"data.image_size is at least {AUXILIARY_SIZE}",
            f"set --config.data.image_size={AUXILIARY_SIZE}",
        ),
        one_of("model.name", "inception_v1"),
    ),
    BACKBONE_IS_TRAINED,
    description="auxiliary heads are trained (inception_v1; inception_v3 from 299 px)",
)
RANDOM_SPLIT = one_of("data.split", "random", "grouped")
HAS_VALIDATION = any_of(
    positive("data.validation_fraction", 0.1),
    field_is("data.fractions", lambda fractions: len(fractions) > 1 and fractions[1] > 0, "", ""),
    positive("data.folds", 5),
    all_of(one_of("data.name", "table"), OFFICIAL_SPLIT),  # its rows may be of a validation split
    description="there is a validation split",
    otherwise=Unmet(
        "there is no validation split",
        "set --config.data.validation_fraction=0.1 for an official split, or a validation fraction in "
        "--config.data.fractions for others",
    ),
)
AUGMENTATIONS = (
    *("random_resized_crop", "flip_horizontal", "flip_vertical", "right_angles"),
    *("rotation_degrees", "crop_padding"),
    *("brightness", "contrast", "saturation", "hue", "stain"),
)
AUGMENTS = any_of(
    *(positive(f"augment.{name}", True) for name in AUGMENTATIONS),
    description="images are augmented",
    otherwise=Unmet("images are not augmented", "set --config.augment.flip_horizontal=True"),
)

CAN_CACHE_FEATURES = all_of(
    positive("transfer.freeze_backbone", True),
    *(off(f"augment.{name}") for name in (*AUGMENTATIONS, "mixup", "cutmix")),
    one_of("model.dtype", "float32"),
    positive("data.cache", True),
    description="the backbone is frozen, nothing is augmented, data.cache is on, model.dtype is float32",
)
