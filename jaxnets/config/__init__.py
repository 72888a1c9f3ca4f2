"""The recipe of a run: every field with its default, its meaning and its range.

A config file builds a complete recipe with `recipe()`, changes what it wants, and derives nothing:
steps, class counts and paths are worked out when a run starts, from the resolved recipe.
"""

import importlib.util
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections import config_dict

from jaxnets.config.fields import DURATIONS, FIELDS, SQUARED_ERRORS, UNITS, Field, nearest
from jaxnets.errors import ConfigError

__all__ = [
    "DURATIONS",
    "FIELDS",
    "SQUARED_ERRORS",
    "UNITS",
    "Field",
    "choose",
    "data_root",
    "differences",
    "from_json",
    "get_field",
    "load",
    "nearest",
    "recipe",
    "require_field",
    "set_field",
    "steps",
    "to_json",
    "validate",
]


def recipe() -> config_dict.ConfigDict:
    """A complete recipe with every field at its default, locked against unknown names."""
    config = config_dict.ConfigDict()
    for path, field in FIELDS.items():
        *sections, name = path.split(".")
        place = config
        for section in sections:
            if section not in place:
                place[section] = config_dict.ConfigDict()
            place = place[section]
        place[name] = (
            config_dict.placeholder(field.type) if field.default is None else field.default
        )
    return config.lock()


def choose(
    config: config_dict.ConfigDict,
    name: str,
    variant: str,
    variants: Mapping[str, Callable[[config_dict.ConfigDict], None]],
) -> config_dict.ConfigDict:
    """Applies one variant of a config file, and names the recipe NAME:VARIANT.

    Raises ConfigError for a variant that the file does not have.
    """
    if variant not in variants:
        raise ConfigError(
            f"configs/{name}.py has no variant {variant!r}{nearest(variant, variants)}; "
            f"it has {', '.join(variants)}"
        )
    variants[variant](config)
    config.name = f"{name}:{variant}"
    return config


def require_field(path: str) -> None:
    """Raises ConfigError, naming the nearest, where no field has this path."""
    if path in FIELDS or any(field.startswith(path + ".") for field in FIELDS):
        return
    twins = [field for field in FIELDS if field.split(".")[-1] == path.split(".")[-1]]
    hint = nearest(path, FIELDS if "." in path else twins) or nearest(path, FIELDS)
    raise ConfigError(f"unknown config field {path!r}{hint}; --print_config lists all fields")


def load(spec: str, overrides: Mapping[str, Any] | None = None) -> config_dict.ConfigDict:
    """The validated recipe of a config file, `PATH` or `PATH:VARIANT`, with overrides by dotted path.

    An override of a duration in one unit takes the place of the file's in another.
    Raises ConfigError where the file, the variant, a field or a value is wrong.
    """
    overrides = dict(overrides or {})
    path, _, variant = spec.partition(":")
    config = _import_config(path, variant)
    for field in overrides:
        require_field(field)
    _replace_units(config, overrides)
    try:
        config.update_from_flattened_dict(overrides)
    except (TypeError, ValueError, KeyError) as error:
        raise ConfigError(f"{spec}: {' '.join(str(error).split())}") from error
    validate(config)
    return config


def _import_config(path: str, variant: str) -> config_dict.ConfigDict:
    if not Path(path).is_file():
        beside = [str(p) for p in sorted(Path(path).parent.glob("*.py"))] if path else []
        raise ConfigError(f"no config file {path!r}{nearest(path, beside)}; see configs/")
    module_spec = importlib.util.spec_from_file_location(Path(path).stem, path)
    assert module_spec is not None
    assert module_spec.loader is not None
    module = importlib.util.module_from_spec(module_spec)
    try:
        module_spec.loader.exec_module(module)
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(f"{path} is no valid config: {type(error).__name__}: {error}") from error
    if not hasattr(module, "get_config"):
        raise ConfigError(f"{path} is no config file: it has no get_config()")
    return module.get_config(variant) if variant else module.get_config()


def _replace_units(config: config_dict.ConfigDict, overrides: Mapping[str, Any]) -> None:
    for prefix in DURATIONS:
        given = [unit for unit in UNITS if overrides.get(f"{prefix}{unit}") is not None]
        if len(given) == 1:
            for unit in UNITS:
                set_field(config, f"{prefix}{unit}", None)


def get_field(config: config_dict.ConfigDict, path: str) -> Any:
    """The value at a dotted path."""
    value: Any = config
    for name in path.split("."):
        value = value[name]
    return value


def set_field(config: config_dict.ConfigDict, path: str, value: Any) -> None:
    """Sets the value at a dotted path."""
    *sections, name = path.split(".")
    for section in sections:
        config = config[section]
    config[name] = value


def validate(config: config_dict.ConfigDict) -> None:
    """Raises ConfigError for the first value that is out of range or contradicts another."""
    for path, field in FIELDS.items():
        value = get_field(config, path)
        problem = field.problem(value)
        if problem:
            raise ConfigError(f"--config.{path}={value!r} is out of range: {problem}")
    for prefix in DURATIONS:
        given = [f"{prefix}{u}" for u in UNITS if get_field(config, f"{prefix}{u}") is not None]
        if len(given) > 1:
            raise ConfigError(
                f"--config.{given[0]} and --config.{given[1]} give one duration twice: keep one"
            )
    _validate_together(config)


def _validate_together(config: config_dict.ConfigDict) -> None:
    if all(config.train[unit] is None for unit in UNITS):
        raise ConfigError("how long to train is not given: set --config.train.epochs, for example")
    if config.model.compute_dtype not in (None, "float32", "float64", "bfloat16"):
        raise ConfigError(
            f"--config.model.compute_dtype={config.model.compute_dtype!r} is out of range: "
            "it must be None, float32, float64 or bfloat16"
        )
    if len(config.data.fractions) != 3 or abs(sum(config.data.fractions) - 1) > 1e-6:
        raise ConfigError(
            f"--config.data.fractions={config.data.fractions} must be three shares that add up to 1"
        )
    if config.data.fractions[0] <= 0:
        raise ConfigError("--config.data.fractions leaves nothing to train on")
    _validate_folds(config.data)
    if config.train.batch_size % config.train.accumulate:
        raise ConfigError(
            f"--config.train.batch_size={config.train.batch_size} is no multiple of "
            f"--config.train.accumulate={config.train.accumulate}"
        )
    if config.schedule.name == "step" and all(
        config.schedule[f"decay_every_{unit}"] is None for unit in UNITS
    ):
        raise ConfigError("--config.schedule.name=step needs --config.schedule.decay_every_epochs")
    if (
        config.optimizer.name == "sgd"
        and config.optimizer.nesterov
        and not config.optimizer.momentum
    ):
        raise ConfigError(
            "--config.optimizer.nesterov=True needs a momentum: set --config.optimizer.momentum, "
            "or --config.optimizer.nesterov=False"
        )
    _validate_loss(config)
    _validate_tests(config)
    _validate_transfer(config)


def _validate_transfer(config: config_dict.ConfigDict) -> None:
    """Refuses what only a body that was trained before can have, and what a frozen one cannot."""
    transfer = config.transfer
    head_first = [unit for unit in UNITS if transfer[f"head_first_{unit}"] is not None]
    wants = ["frozen"] if transfer.frozen else []
    wants += [f"head_first_{unit}" for unit in head_first]
    wants += ["body_share"] if transfer.body_share != 1 else []
    if wants and transfer.weights is None:
        raise ConfigError(
            f"--config.transfer.{wants[0]} needs --config.transfer.weights: a folder that "
            "scripts/import_weights.py made, a run directory, or random"
        )
    if transfer.frozen and len(wants) > 1:
        raise ConfigError(
            f"--config.transfer.{wants[1]} has no meaning where the body is frozen: "
            "set --config.transfer.frozen=False, or leave it out"
        )


def _validate_folds(data: config_dict.ConfigDict) -> None:
    if data.folds and data.split != "grouped":
        raise ConfigError(
            f"--config.data.folds needs --config.data.split=grouped, not {data.split}"
        )
    if data.folds in (1, 2):
        raise ConfigError(
            f"--config.data.folds={data.folds} is out of range: one fold tests, one validates, "
            "so it must be 3 or more, or 0"
        )
    if data.fold >= max(data.folds, 1):
        raise ConfigError(
            f"--config.data.fold={data.fold} is out of range: it must be below "
            f"--config.data.folds={data.folds}"
        )


def _validate_loss(config: config_dict.ConfigDict) -> None:
    """Refuses what only cross entropy knows, beside a squared error that would leave it out."""
    if config.train.loss not in SQUARED_ERRORS:
        return
    for field in ("train.class_weights", "train.label_smoothing", "augment.mixup"):
        if get_field(config, field):
            raise ConfigError(
                f"--config.{field} needs --config.train.loss=cross_entropy, not {config.train.loss}"
            )


def _validate_tests(config: config_dict.ConfigDict) -> None:
    """Refuses a further test that would be the clean one under another name."""
    augments = any(value for name, value in config.augment.items() if name != "mixup")
    if config.eval.augment and not augments:
        raise ConfigError(
            "--config.eval.augment=True, but no image is augmented: "
            "set --config.augment.flip_horizontal, for example, or leave it out"
        )
    if config.eval.dropout and not config.model.dropout:
        raise ConfigError(
            "--config.eval.dropout=True, but nothing is dropped: set --config.model.dropout, "
            "or leave it out"
        )


def steps(config: config_dict.ConfigDict, prefix: str, steps_per_epoch: int) -> int | None:
    """A duration in steps, rounded up; None where the recipe does not give it."""
    given, epochs, examples = (get_field(config, f"{prefix}{unit}") for unit in UNITS)
    if given is not None:
        return given
    if epochs is not None:
        return epochs * steps_per_epoch
    return None if examples is None else -(-examples // config.train.batch_size)


def data_root(config: config_dict.ConfigDict) -> Path:
    """The data folder: config.data.root, else $JAXNETS_DATA, else ./data."""
    return Path(config.data.root or os.environ.get("JAXNETS_DATA") or "data")


def to_json(config: config_dict.ConfigDict) -> str:
    """The recipe as JSON, fields sorted, for config.json and for comparing two recipes."""
    return json.dumps(config.to_dict(), indent=1, sort_keys=True) + "\n"


def from_json(text: str) -> config_dict.ConfigDict:
    """The recipe that `to_json` wrote. Fields that it lacks keep their defaults.

    Raises ConfigError for fields that this version does not know.
    """
    config = recipe()
    flat = dict(_flatten(json.loads(text)))
    for path, value in flat.items():
        require_field(path)
        set_field(config, path, tuple(value) if isinstance(value, list) else value)
    return config


def differences(
    first: config_dict.ConfigDict, second: config_dict.ConfigDict
) -> dict[str, tuple[Any, Any]]:
    """The fields in which two recipes differ, with both values."""
    pairs = {path: (get_field(first, path), get_field(second, path)) for path in FIELDS}
    return {path: pair for path, pair in pairs.items() if pair[0] != pair[1]}


def _flatten(tree: Mapping[str, Any], prefix: str = "") -> Sequence[tuple[str, Any]]:
    rows: list[tuple[str, Any]] = []
    for name, value in tree.items():
        path = f"{prefix}{name}"
        rows.extend(_flatten(value, path + ".") if isinstance(value, Mapping) else [(path, value)])
    return rows
