"""Comparison of stored runs with the colour baseline on the same test images, by groups."""

from pathlib import Path

from jaxnets import models
from jaxnets.commands.evaluate import paired_comparison
from jaxnets.evaluation import result as results
from jaxnets.evaluation.predictions import load_predictions, predictions_name, read_predictions
from jaxnets.experiment.run_directory import read_result, read_verified
from studies.colour_baseline import predictions_path_of
from studies.pages.results_table import format_precision

BASELINE = Path("lc25000") / "colour_baseline.json"
"""Relative to the results folder."""
SPLIT = "grouped"
HEADS = ("network", "test accuracy", "difference from colour, points [95 %]", "p", "run")


def rows(folder: Path) -> list[tuple[str, ...]]:
    """Returns a row per run with stored predictions of the same images, best first.

    p is from a permutation test by groups. Empty if the baseline's predictions are missing.
    """
    stored = predictions_path_of(folder / BASELINE, SPLIT)
    if not stored.is_file():
        return []
    baseline = load_predictions(stored)
    found = []
    for path in sorted(folder.glob(f"*/{results.RESULT}")):
        result = read_result(path.parent)
        if result is None or result["split"] != SPLIT or result["test_accuracy"] is None:
            continue
        predictions = read_verified(path.parent, predictions_name())
        if predictions is None:
            continue
        comparison = paired_comparison(
            read_predictions(predictions, path.parent / predictions_name()), baseline
        )
        if comparison is None:
            continue
        low, high = (100 * end for end in comparison.interval)
        network = results.format_network(result, models.entry(result["model"]).title)
        row = (
            f"{network}, {result['image_size']} px, {result['epochs']:g} epochs{format_precision(result)}",
            f"{100 * result['test_accuracy']:.1f} %",
            f"{100 * comparison.difference:+.1f} [{low:+.1f}, {high:+.1f}]",
            f"{comparison.permutation_p:.2g}",
            f"`{path.parent.name}`",
        )
        found.append((result["test_accuracy"], row))
    return [row for _, row in sorted(found, key=lambda each: (-each[0], each[1]))]
