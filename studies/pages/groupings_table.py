"""How the result on LC25000 moves when groupings are exchanged: one network, one config, seed 0."""

from pathlib import Path

from jaxnets.evaluation import result as results
from jaxnets.evaluation import result_text
from jaxnets.experiment.run_directory import read_result
from studies.pages.markdown import NOT_RUN

HEADS = ("what stays on one side", "test accuracy [95 %]", "leak by our groups", "run")
RUNS = {
    "nothing: a random split": "lung_inception_v1-75px-random-s0",
    "copies of one photograph, ours": "lung_inception_v1-75px-grouped_by_original-s0",
    "copies and overlapping photographs, ours": "lung_inception_v1-75px-grouped-s0",
    "the human clusters of LC25000-clean": "lung_inception_v1-75px-grouped_human-s0",
}
"""Rows of configs/sweeps/lung.py and lung_groupings.py, by what each does not separate."""


def rows(folder: Path) -> list[tuple[str, ...]]:
    """A line a grouping, by HEADS; "not run" where `folder` has no result of it."""
    return [(grouping, *_format(read_result(folder / name)), f"`{name}`") for grouping, name in RUNS.items()]


def _format(result: results.Result | None) -> tuple[str, str]:
    if result is None:
        return NOT_RUN, ""
    accuracy = result_text.format_test(result["tests"]["clean"])
    share = (result.get("leakage") or {}).get("test")
    leak = "not measured" if share is None else f"{100 * share:.1f} % of test images"
    return accuracy, f"LEAKY: {leak}" if share else leak
