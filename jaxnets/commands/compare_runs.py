"""Compare the accuracy of two runs on the same test examples."""

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


def compare_runs(first: Path, second: Path, *, part: str = "test", ignore_damage: bool = False) -> Comparison:
    """Compares the stored predictions of two runs on a part of their split and prints one line.

    Each is a run directory or a predictions file. Raises ConfigError if their examples differ,
    CheckpointError if predictions are missing or corrupt. `ignore_damage` makes checksum errors warnings.
    """
    ours, theirs = (_predictions(path, part, ignore_damage) for path in (first, second))
    found = paired_comparison(ours, theirs)
    if found is None:
        raise ConfigError(
            f"{first} and {second} were not tested on the same {part} examples: "
            "compare runs on the same split (data.split, data.split_seed, data.groups, data.fold)"
        )
    Reporter().print(_format(found, ours, theirs))
    return found


def paired_comparison(ours: Predictions, theirs: Predictions) -> Comparison | None:
    """Compares by groups if either run has them, else by examples; None if the examples differ."""
    fields = ("index", "files", "label")
    if not all(np.array_equal(getattr(ours, name), getattr(theirs, name)) for name in fields):
        return None
    known = next((one for one in (ours, theirs) if one.groups_known), None)
    units = np.arange(len(ours.label)) if known is None else known.group
    return compare_paired(ours.correct, theirs.correct, units)


def _predictions(path: Path, part: str, ignore_damage: bool) -> Predictions:
    if path.suffix == ".npz":
        data = read_verified(path.parents[1], f"{path.parent.name}/{path.name}", ignore_damage=ignore_damage)
        return load_predictions(path) if data is None else read_predictions(data, path)
    run = open_run(path, ignore_damage=ignore_damage)
    print_warnings(run.warnings)
    return run.predictions(part) or load_predictions(predictions_path(path, part))


def _format(found: Comparison, ours: Predictions, theirs: Predictions) -> str:
    low, high = found.interval
    has_groups = ours.groups_known or theirs.groups_known
    units = "groups" if has_groups else "examples (no groups known)"
    return (
        f"difference  {100 * found.difference:+.2f} points [{100 * low:.2f}, {100 * high:.2f}], "
        f"{100 * ours.correct.mean():.2f} % - {100 * theirs.correct.mean():.2f} %; "
        f"p = {found.permutation_p:.2g} (permutation test), "
        f"{found.mcnemar_p:.2g} (McNemar), {found.groups:,} {units}"
    )
