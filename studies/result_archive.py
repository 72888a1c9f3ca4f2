"""Copies the small files of finished runs to results/, without anything specific to a machine."""

from pathlib import Path
from typing import Any, cast

from ml_collections import config_dict

from jaxnets import config as config_lib
from jaxnets.errors import MachineError
from jaxnets.evaluation import result as results
from jaxnets.evaluation.predictions import predictions_name
from jaxnets.evaluation.result import Result
from jaxnets.experiment import run_files, workdir
from jaxnets.experiment.sweep import Row, open_finished
from jaxnets.training.callbacks.logs import METRICS
from studies.sweeps import RUNS


def archive_result(row: Row, run: Path, target: Path, *, ignore_damage: bool = False) -> Result | None:
    """Copies the small files of a finished run and returns its result; None if it is not finished.

    These are config.json, metrics.jsonl, result.json and, if test examples have near-duplicates, the
    predictions, which comparisons by groups need. Paths of this machine are removed, and the command is the
    row's. result.json is written last and marks the copy as complete. Raises what `finished_result` raises,
    and MachineError if a file cannot be written.
    """
    opened = open_finished(run, row.config, ignore_damage=ignore_damage)
    if opened is None or opened.result is None:
        return None
    config = config_dict.ConfigDict(cast(Any, opened.config))
    for path in run_files.FIELDS_ALLOWED_TO_DIFFER:
        config_lib.set_field(config, path, config_lib.FIELDS[path].default)
    stored: Result = {
        **opened.result,
        "pretrained_on": row.config.transfer.pretrained_on or opened.result["pretrained_on"],
        "command": row.command(RUNS),
        "overrides": [f"{path}={value!r}" for path, value in row.overrides.items()],
    }
    contents: dict[str, str | bytes] = {workdir.CONFIG: config_lib.to_json(config), METRICS: opened.metrics()}
    predictions = opened.predictions()
    if predictions is not None and predictions.has_near_duplicates:
        contents[predictions_name()] = predictions.to_bytes()
    contents[results.RESULT] = results.to_json(stored)
    try:
        target.mkdir(parents=True, exist_ok=True)
        earlier = (results.RESULT, workdir.CONFIG, workdir.CHECKSUMS, predictions_name())
        for name in earlier:
            (target / name).unlink(missing_ok=True)
        workdir.write_files(target, contents)
        (target / workdir.CHECKSUMS_LOCK).unlink()
    except OSError as error:
        raise MachineError(
            f"{run} is complete, but {error.filename} cannot be used ({error.strerror}): "
            "fix that and run the same command again to copy its result"
        ) from error
    return stored
