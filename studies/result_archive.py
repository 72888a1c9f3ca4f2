"""Copies the small files of finished runs to results/, without anything specific to a machine."""

from pathlib import Path

from ml_collections import config_dict

from jaxnets import config as config_lib
from jaxnets.errors import ConfigError, MachineError
from jaxnets.evaluation import result as results
from jaxnets.evaluation.predictions import predictions_name
from jaxnets.evaluation.result import Result
from jaxnets.experiment import run_files, workdir
from jaxnets.experiment.run_directory import RunDirectory, open_run_if_exists, print_warnings
from jaxnets.training.callbacks.logs import METRICS
from studies.sweeps import Row


def finished(folder: Path, config: config_dict.ConfigDict, *, ignore_damage: bool = False) -> Result | None:
    """The complete result of a run directory or of a folder under results/; None where there is none.

    Raises ConfigError where it is of another config, CheckpointError where it is damaged; with
    `ignore_damage` what differs from its checksum is a warning.
    """
    opened = _finished(folder, config, ignore_damage=ignore_damage)
    return None if opened is None else opened.result


def _finished(folder: Path, config: config_dict.ConfigDict, *, ignore_damage: bool) -> RunDirectory | None:
    opened = open_run_if_exists(folder, ignore_damage=ignore_damage)
    if opened is None or opened.result is None:
        return None
    print_warnings(opened.warnings)
    changed = run_files.describe_config_diff(opened.config, config)
    if changed:
        raise ConfigError(
            f"{folder} holds a result of another config ({changed}): "
            "move it away, or give the row another 'name'"
        )
    return opened


def keep(row: Row, run: Path, target: Path, *, ignore_damage: bool = False) -> Result | None:
    """Copies config.json, metrics.jsonl and result.json of a finished run; None where it is not finished.

    If test examples have near-duplicates, predictions are copied too, since runs are compared by groups.
    The copies do not contain paths of this machine, and their command is the row's own.
    result.json is written last: a folder without it is not complete. Raises what `finished` raises, and
    MachineError where a file cannot be written.
    """
    opened = _finished(run, row.config, ignore_damage=ignore_damage)
    if opened is None or opened.result is None:
        return None
    config = opened.config
    for path in run_files.FIELDS_ALLOWED_TO_DIFFER:
        config_lib.set_field(config, path, config_lib.FIELDS[path].default)
    stored: Result = {
        **opened.result,
        "pretrained_on": row.config.transfer.pretrained_on,
        "command": row.command(),
        "overrides": [f"{path}={value!r}" for path, value in row.overrides.items()],
    }
    contents: dict[str, str | bytes] = {
        run_files.CONFIG: config_lib.to_json(config),
        METRICS: opened.metrics(),
    }
    answers = opened.predictions()
    if answers is not None and answers.has_near_duplicates:
        contents[predictions_name()] = answers.to_bytes()
    contents[results.RESULT] = results.to_json(stored)
    try:
        target.mkdir(parents=True, exist_ok=True)
        for name in (workdir.CHECKSUMS, predictions_name()):  # an earlier result's
            (target / name).unlink(missing_ok=True)
        workdir.write_files(target, contents)
        (target / workdir.CHECKSUMS_LOCK).unlink()
    except OSError as error:
        raise MachineError(
            f"{run} is complete, but {error.filename} cannot be used ({error.strerror}): "
            "fix that and run the same command again to copy its result"
        ) from error
    return stored
