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
