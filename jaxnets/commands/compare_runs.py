"""Two runs on the same examples: which is better, and how sure that is."""

from pathlib import Path

import numpy as np

from jaxnets.errors import ConfigError
from jaxnets.evaluation.predictions import (
    Predictions,
    load_predictions,
    predictions_path,
    read_predictions,
)
from jaxnets.evaluation.statistics import Comparison, compare_paired
from jaxnets.experiment.run_directory import open_run, print_warnings, read_verified
from jaxnets.runtime.console import Reporter


def compare_runs(
    first: Path, second: Path, *, part: str = "test", ignore_damage: bool = False
) -> Comparison:
    """Compares the kept answers of two runs on a part of their split; says so in one line.

    Each is a run directory or a file of predictions. Raises ConfigError where they are not of the same
    examples, CheckpointError where answers are missing or damaged; with `ignore_damage` what differs from its
    checksum is a warning.
    """
    ours, theirs = (_predictions(path, part, ignore_damage) for path in (first, second))
    found = compared(ours, theirs)
    if found is None:
        raise ConfigError(
            f"{first} and {second} were not tested on the same {part} examples: "
            "compare runs of one split (data.split, data.split_seed, data.groups, data.fold)"
        )
    group_ids = ours.groups_known or theirs.groups_known
    Reporter().print(_format(found, ours, theirs, group_ids=group_ids))
    return found


def compared(ours: Predictions, theirs: Predictions) -> Comparison | None:
    """By groups where either knows them, else by examples; None of answers to other examples."""
    if not _same_examples(ours, theirs):
        return None
    known = next((one for one in (ours, theirs) if one.groups_known), None)
    units = np.arange(len(ours.label)) if known is None else known.group
    return compare_paired(ours.correct, theirs.correct, units)


def _predictions(path: Path, part: str, ignore_damage: bool) -> Predictions:
    if path.suffix == ".npz":
        data = read_verified(
            path.parents[1], f"{path.parent.name}/{path.name}", ignore_damage=ignore_damage
        )
        return load_predictions(path) if data is None else read_predictions(data, path)
    run = open_run(path, ignore_damage=ignore_damage)
    print_warnings(run.warnings)
    return run.predictions(part) or load_predictions(predictions_path(path, part))


def _same_examples(ours: Predictions, theirs: Predictions) -> bool:
    return all(
        np.array_equal(getattr(ours, name), getattr(theirs, name))
        for name in ("index", "files", "label")
    )


def _format(found: Comparison, ours: Predictions, theirs: Predictions, *, group_ids: bool) -> str:
    low, high = found.interval
    units = "groups" if group_ids else "examples, no groups are known"
    return (
        f"difference  {100 * found.difference:+.2f} points [{100 * low:.2f}, {100 * high:.2f}], "
        f"{100 * ours.correct.mean():.2f} % less {100 * theirs.correct.mean():.2f} %; "
        f"p = {found.permutation_p:.2g} by permutation, which decides, "
        f"{found.mcnemar_p:.2g} by McNemar's test, "
        f"of {found.groups:,} {units}"
    )
