"""What a run stores about its uncertainty: for prediction sets, and for images unlike the training images."""

import numpy as np

from jaxnets.data.dataset import Dataset
from jaxnets.errors import CheckpointError, DataError
from jaxnets.evaluation import conformal, ood
from jaxnets.evaluation import result as results
from jaxnets.evaluation.predictions import predictions_name
from jaxnets.experiment import workdir
from jaxnets.experiment.predictor import BATCH_SIZE, Predictor
from jaxnets.experiment.run_directory import RunDirectory
from jaxnets.io import command
from jaxnets.runtime import console


def minimum_probability(run: RunDirectory, step: int, coverage: float) -> float:
    """`conformal.minimum_probability` of the run's validation predictions, for its checkpoint `step`.

    Raises DataError if there are no validation images or too few groups, CheckpointError if the predictions
    are missing or of another checkpoint.
    """
    again = f"{command('evaluate')} --workdir={run.path} --split=validation"
    if run.result is None or run.result["step"] != step:
        raise CheckpointError(
            f"--coverage needs a finished run, and {run.path} was not tested at step {step}"
        )
    if run.result["validation_accuracy"] is None:
        raise no_validation_error(run, "--coverage")
    predictions = run.predictions("validation")
    if predictions is None:
        raise CheckpointError(f"{run.path / predictions_name('validation')} is missing: {again} writes it")
    _warn_of_validation(run, groups_known=predictions.groups_known)
    return conformal.minimum_probability(predictions, coverage)


def read_feature_distance(run: RunDirectory, step: int) -> ood.FeatureDistance:
    """The run's ood.npz, for its checkpoint `step`.

    Raises DataError if there are no validation images, CheckpointError if the file is missing, damaged or of
    another checkpoint.
    """
    if run.result is not None and run.result["validation_accuracy"] is None:
        raise no_validation_error(run, "--ood")
    path = run.path / ood.FILE
    again = f"{command('evaluate')} --workdir={run.path} --ood"
    data = run.read_file(ood.FILE)
    if data is None:
        raise CheckpointError(f"{path} is missing: {again} writes it")
    found = ood.read(data, path)
    if found.step != step:
        raise CheckpointError(f"{path} is of step {found.step}, not {step}: {again} writes it again")
    return found


def write_feature_distance(run: RunDirectory, data: Dataset, step: int, predictor: Predictor) -> None:
    """Fits the distance on the run's training and validation images, and writes ood.npz."""
    train, validation = data.split.train, data.split.validation
    indices = np.concatenate([train, validation])
    found = []
    with console.phase("features") as phase, console.counter("features") as progress:
        for images in data.images(indices, BATCH_SIZE):
            found.append(predictor.probabilities_and_features(images)[1])
            progress(min(BATCH_SIZE * len(found), len(indices)), len(indices))
        phase.text = f"{len(train):,} training and {len(validation):,} validation images"
    of_all = np.concatenate(found)
    groups = validation if data.group_ids is None else data.group_ids[validation]
    _warn_of_validation(run, groups_known=data.group_ids is not None)
    fitted = ood.FeatureDistance.fit(
        step, of_all[: len(train)], data.source.labels[train], of_all[len(train) :], groups
    )
    workdir.write_files(run.path, {ood.FILE: fitted.to_bytes()})
    console.log("saved", str(run.path / ood.FILE))


def no_validation_error(run: RunDirectory, flag: str) -> DataError:
    """The error of a run without validation images, for `flag`."""
    if run.result is not None and "cross_validation" in run.result:
        fold = run.path.parent / run.result["cross_validation"]["runs"][0]["name"]
        return DataError(
            f"{flag} needs images that the network was not trained on, and {run.path} was trained on all "
            f"images: use the network of a fold, such as --workdir={fold}"
        )
    return DataError(
        f"{flag} needs validation images, and {run.path} has none: train with a validation fraction, such as "
        '--config.data.fractions="(0.85, 0.15, 0.0)"'
    )


def _warn_of_validation(run: RunDirectory, *, groups_known: bool) -> None:
    """Warns if validation images say little about new images."""
    if run.result is not None and run.result["leakage"].get("validation"):
        relation = results.relation(given_groups=run.result.get("given_groups", False))
        console.warn(
            f"LEAKY: validation images of {run.path} have {relation} in training, so that prediction "
            "sets are too small, and scores of new images too high"
        )
    elif not groups_known:
        console.log("note", "no groups are known: each validation image counts as a group")
    config = run.config
    if config.eval.use_best or config.early_stopping.patience or config.plateau.patience:
        console.log(
            "note", "the checkpoint was chosen on these validation images: sets may be slightly too small"
        )
