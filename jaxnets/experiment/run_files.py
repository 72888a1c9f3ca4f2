"""The files of a run directory: their names, and how they are read and validated."""

import csv
import io
from pathlib import Path
from typing import Annotated, Any, NotRequired, TypedDict

from ml_collections import config_dict

from jaxnets import config as config_lib
from jaxnets import models
from jaxnets.data.splits import PARTS
from jaxnets.errors import CheckpointError, ConfigError
from jaxnets.evaluation.result import Result, from_json
from jaxnets.experiment.workdir import CONFIG, MANIFEST
from jaxnets.io import from_csv_cell
from jaxnets.schema import Length, Range, Sha256, parse
from jaxnets.training.checkpoint import FileRecord, record_of

SPLIT_COLUMNS = ["index", "file", "label", "split", "group"]
UNUSABLE = "restore it from a backup"
FIELDS_ALLOWED_TO_DIFFER = (
    *("data.root", "data.cache_root", "data.threads", "data.path", "data.image_folders", "data.on_device"),
    *("train.steps_per_execution", "transfer.pretrained_on", "note"),
)
"""Fields that may differ on resume: they do not change what is computed."""


class Manifest(TypedDict):
    """The content of manifest.json, which is written when a run starts."""

    command: str
    versions: dict[str, str]
    hardware: str
    git_commit: str | None
    data: str
    classes: list[str]
    input_shape: Annotated[list[Annotated[int, Range(1, 2**20)]], Length(1, 3)]
    data_fingerprint: str
    backbone_sha256: NotRequired[Sha256 | None]
    split_sha256: Sha256


def _damaged(path: Path, reason: object) -> CheckpointError:
    return CheckpointError(f"{path} is damaged ({reason}): {UNUSABLE}")


def read_config(path: Path, data: bytes) -> config_dict.ConfigDict:
    """The config; CheckpointError unless each value has its field's type and range and the model exists."""
    try:
        if not isinstance(parse(data), dict):
            raise ValueError("not an object")
        config = config_lib.from_json(data.decode())
        for name, field in config_lib.FIELDS.items():
            value = config_lib.get_field(config, name)
            if value is not None and not _is_of_type(value, field.type):
                raise ValueError(f"{name} is {value!r}")
        if (name := config.model.name) not in models.REGISTRY:
            raise CheckpointError(
                f"{path} has the network {name!r}, which is not registered: "
                "pass --import=FILE, the file that registers it"
            )
        config_lib.validate(config)
        models.create(config.model)
        if models.entry(config.model.name).kind == "image":
            models.check_image_size(config.model.name, config.data.image_size)
    except (ConfigError, ValueError, TypeError, KeyError, AttributeError, ArithmeticError) as error:
        raise _damaged(path, " ".join(str(error).split())[:200]) from error
    return config_dict.FrozenConfigDict(config)


def _is_of_type(value: Any, expected: type) -> bool:
    if expected is tuple:
        return isinstance(value, tuple) and not any(isinstance(each, bool) for each in value)
    if expected is float:
        return type(value) in (int, float)
    return type(value) is expected


def read_manifest(directory: Path, data: bytes, config: config_dict.ConfigDict) -> Manifest:
    path = directory / MANIFEST
    try:
        manifest: Manifest = parse(data, Manifest)
    except ValueError as error:
        raise _damaged(path, error) from error
    if found := _mismatch(manifest, config):
        raise _damaged(path, found)
    return manifest


def _mismatch(manifest: Manifest, config: config_dict.ConfigDict) -> str | None:
    """How a manifest contradicts its config, or None."""
    shape, classes, model = manifest["input_shape"], manifest["classes"], config.model
    if models.entry(model.name).kind == "vector":
        if shape != [model.layer_sizes[0]] or classes:
            return f"input_shape {shape} and {len(classes)} classes do not match {CONFIG}"
        return None
    size = config.data.image_size
    if len(shape) != 3 or shape[:2] != [size, size] or shape[2] not in (1, 3):
        return f"input_shape is {shape}, but data.image_size of {CONFIG} is {size}"
    if len(classes) != model.num_classes:
        return f"{len(classes)} classes, but {CONFIG} has {model.num_classes}"
    if len(set(classes)) < len(classes):
        return "two classes have the same name"
    for name in ("mean", "std"):
        if len(config.data[name]) not in (1, shape[2]):
            return f"data.{name} of {CONFIG} must have 1 or {shape[2]} numbers"
    return None


def read_split(path: Path, data: bytes) -> str:
    """The text of split.csv; CheckpointError if a line is invalid."""
    try:
        text = data.decode()
        rows = csv.reader(io.StringIO(text, newline=""), strict=True)
        if next(rows, None) != SPLIT_COLUMNS:
            raise ValueError("unexpected header")
        for number, row in enumerate(rows, 2):
            if len(row) != len(SPLIT_COLUMNS) or not row[0].isdecimal() or row[3] not in PARTS:
                raise ValueError(f"line {number}")
    except (ValueError, csv.Error) as error:
        raise _damaged(path, error) from error
    return text


def read_result(path: Path, data: bytes, config: config_dict.ConfigDict) -> Result:
    result = from_json(data, path)
    expected: dict[str, object] = {"name": config.name, "model": config.model.name, "data": config.data.name}
    expected |= {"seed": config.seed, "batch_size": config.train.batch_size}
    for name, value in expected.items():
        if result[name] != value:  # type: ignore[literal-required]
            raise _damaged(path, f"{name} does not match {CONFIG}")
    return result


def metrics_damage(path: Path, data: bytes, recorded: FileRecord | None) -> str | None:
    """How metrics.jsonl differs from a checkpoint's record of its first bytes, or None."""
    if recorded is None:
        return None
    if len(data) < recorded["bytes"]:
        return f"{path} is shorter than the checkpoint recorded: lines are missing"
    if record_of(data[: recorded["bytes"]]) != recorded:
        return f"{path} has changed since the checkpoint was saved"
    return None


def split_assignment(text: str) -> list[list[str]]:
    """The rows of a split.csv without the last column, the group; cells may be escaped for spreadsheets."""
    rows = csv.reader(io.StringIO(text, newline=""))
    return [[from_csv_cell(cell) for cell in row[:-1]] for row in rows]


def describe_config_diff(stored: config_dict.ConfigDict, new: config_dict.ConfigDict) -> str:
    """The relevant differences between two configs; "" if there are none.

    Ignores fields that neither run uses, and those of `new` that are resolved when a run starts:
    model.num_classes=0 follows the data, preprocessing and variant follow the pretrained weights.
    """
    stored, new = config_lib.used_fields(stored), config_lib.used_fields(new)
    ignored = {*FIELDS_ALLOWED_TO_DIFFER}
    if new.model.num_classes == 0:
        ignored.add("model.num_classes")
    if new.transfer.weights not in (None, "random") and new.transfer.weights == stored.transfer.weights:
        ignored |= {"data.mean", "data.std"} | ({"model.variant"} if new.model.variant is None else set())
    return ", ".join(
        f"{path}: {before!r} -> {after!r}"
        for path, (before, after) in config_lib.differences(stored, new).items()
        if path not in ignored
    )
