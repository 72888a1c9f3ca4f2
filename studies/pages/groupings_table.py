"""Results on LC25000 with different groupings: one network, one config, seed 0."""

from pathlib import Path

from jaxnets.evaluation import result as results
from jaxnets.experiment.run_directory import read_result
from studies.pages.markdown import NOT_RUN

HEADS = ("what stays in one subset", "test accuracy [95 %]", "leakage by our groups", "run")
RUNS = {
    "nothing: a random split": "lung_inception_v1-75px-random-s0",
    "copies of one photograph, ours": "lung_inception_v1-75px-grouped_by_original-s0",
    "copies and overlapping photographs, ours": "lung_inception_v1-75px-grouped-s0",
    "the human clusters of LC25000-clean": "lung_inception_v1-75px-grouped_human-s0",
}
"""Rows of configs/sweeps/lung.py and lung_groupings.py, by what stays in one subset."""


def rows(folder: Path) -> list[tuple[str, ...]]:
    """Returns a row per grouping."""
    return [(grouping, *_format(read_result(folder / name)), f"`{name}`") for grouping, name in RUNS.items()]


def _format(result: results.Result | None) -> tuple[str, str]:
    if result is None:
        return NOT_RUN, ""
    accuracy = results.format_test(result["tests"]["clean"])
    fraction = (result.get("leakage") or {}).get("test")
    leak = "not measured" if fraction is None else f"{100 * fraction:.1f} % of test images"
    return accuracy, f"LEAKY: {leak}" if fraction else leak
