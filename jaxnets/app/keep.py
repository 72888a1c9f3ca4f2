"""What is kept of a finished run: small files under results/, the same on every machine."""

from pathlib import Path

from ml_collections import config_dict

from jaxnets import config as recipes
from jaxnets.app import workdir
from jaxnets.app.tables import Row
from jaxnets.errors import ConfigError, MachineError
from jaxnets.evaluation import result as results
from jaxnets.evaluation.predictions import Predictions, load_predictions, predictions_path
from jaxnets.evaluation.result import Result
from jaxnets.files import write_whole
from jaxnets.training.hooks.writers import METRICS


def finished(folder: Path, recipe: config_dict.ConfigDict) -> Result | None:
    """The complete result of a run directory or of a folder under results/; None where there is none.

    Raises ConfigError where it is of another recipe, CheckpointError where it cannot be read.
    """
    result = results.read(folder)
    if result is not None:
        _require_same(folder, recipe)
    return result


def keep(row: Row, run: Path, target: Path) -> Result | None:
    """Copies config.json, metrics.jsonl and result.json of a finished run; None where it is not finished.

    Where test examples have siblings, the answers to them too: two runs are compared by groups of them. The
    copies do not say where data lay on this machine, and their command is the row's own.
    result.json is written last: a folder without it is not complete. Raises what `finished` raises, and
    MachineError where a file cannot be written.
    """
    result = finished(run, row.recipe)
    if result is None:
        return None
    config = workdir.read_config(run)
    for path in workdir.FREE_FIELDS:
        recipes.set_field(config, path, recipes.FIELDS[path].default)
    kept = {
        **result,
        "pretrained_on": row.recipe.transfer.pretrained_on,
        "command": row.command(),
        "overrides": [f"{path}={value!r}" for path, value in row.overrides.items()],
    }
    try:
        target.mkdir(parents=True, exist_ok=True)
        write_whole(target / workdir.CONFIG, recipes.to_json(config))
        write_whole(target / METRICS, (run / METRICS).read_text())
        predictions_path(target).unlink(missing_ok=True)  # an earlier result's
        if (run_answers := _answers_in_groups(run)) is not None:
            run_answers.save(predictions_path(target))
        write_whole(target / results.RESULT, results.to_json(kept))
    except OSError as error:
        raise MachineError(
            f"{run} is complete, but {error.filename} cannot be used ({error.strerror}): "
            "mend that, and the same command copies its result"
        ) from error
    return kept


def _answers_in_groups(run: Path) -> Predictions | None:
    """What a run said of its test examples, where some of these are siblings."""
    path = predictions_path(run)
    answers = load_predictions(path) if path.is_file() else None
    return answers if answers is not None and answers.has_siblings else None


def _require_same(folder: Path, recipe: config_dict.ConfigDict) -> None:
    there = workdir.read_config(folder)
    changed = workdir.told_differences(there, _with_what_weights_set(recipe, there))
    if changed:
        raise ConfigError(
            f"{folder} holds a result of another recipe ({changed}): "
            "move it away, or give the row another 'name'"
        )


def _with_what_weights_set(
    recipe: config_dict.ConfigDict, there: config_dict.ConfigDict
) -> config_dict.ConfigDict:
    """The recipe with what a run takes from the weights it begins with, as the run has it.

    That is the preprocessing, and the form of the network where the recipe leaves it open.
    """
    if recipe.transfer.weights in (None, "random"):
        return recipe
    settled = recipe.copy_and_resolve_references()
    workdir.take_what_weights_set(settled, there)
    return settled
