"""The table of networks compared with the colour baseline."""

from pathlib import Path

import made_results
import numpy as np

from jaxnets.evaluation.predictions import Predictions, predictions_path
from jaxnets.evaluation.statistics import compare_paired
from studies.colour_baseline import predictions_path_of
from studies.pages import colour_table


def make_predictions(wrong: int, first: int = 0) -> Predictions:
    """Returns predictions for 60 examples in 12 groups, the first `wrong` of them wrong."""
    is_wrong = np.arange(60) < wrong
    return Predictions(
        index=first + np.arange(60),
        label=np.zeros(60, np.int32),
        probabilities=np.eye(2, dtype=np.float32)[is_wrong.astype(int)],
        files=np.array([f"{number}.png" for number in range(first, first + 60)]),
        group=np.arange(60) // 5,
    )


def write_run(folder: Path, name: str, given: Predictions, split: str = "grouped") -> None:
    given.save(predictions_path(folder / name))
    entry = made_results.entry(float(given.correct.mean()), examples=60)
    made_results.write(folder / name, split=split, tests={"clean": entry})


def test_runs_with_the_same_test_images_are_sorted_by_accuracy(tmp_path: Path) -> None:
    assert colour_table.rows(tmp_path) == []
    make_predictions(12).save(predictions_path_of(tmp_path / colour_table.BASELINE, "grouped"))
    write_run(tmp_path, "worse", make_predictions(40))
    write_run(tmp_path, "better", make_predictions(6))
    write_run(tmp_path, "elsewhere", make_predictions(6, first=60))
    write_run(tmp_path, "leaky", make_predictions(0), split="random")
    better, worse = colour_table.rows(tmp_path)
    assert [better[-1], worse[-1]] == ["`better`", "`worse`"]
    assert better[:2] == ("ResNet-50, 64 px, 3 epochs", "90.0 %")
    found = compare_paired(
        make_predictions(6).correct, make_predictions(12).correct, make_predictions(6).group
    )
    assert better[2].startswith("+10.0 [")
    assert better[3] == f"{found.permutation_p:.2g}"
    assert len(better) == len(colour_table.HEADS)
