"""All config fields."""

from collections.abc import Mapping

from jaxnets.config.data_fields import DATA_FIELDS
from jaxnets.config.field import Field, field, optional
from jaxnets.config.model_fields import MODEL_FIELDS
from jaxnets.config.training_fields import TRAINING_FIELDS

FIELDS: Mapping[str, Field] = {
    "name": field("", "CONFIG:VARIANT, set by the config file"),
    "entry": optional(str, "the reported entry to compare with, e.g. A/resnet50"),
    "note": field("", "one line of comment, stored in the result"),
    "seed": field(0, "seed of weights, shuffling, augmentation and dropout", ge=0),
    **MODEL_FIELDS,
    **DATA_FIELDS,
    **TRAINING_FIELDS,
}

DURATIONS = tuple(
    path.removesuffix("steps")
    for path in FIELDS
    if path.endswith("steps") and path.removesuffix("steps") + "epochs" in FIELDS
)
"""Prefixes of durations: "train.", "eval.every_", ..."""
