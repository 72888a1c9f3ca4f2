"""The comparison with the colour baseline."""

from pathlib import Path

import made_results
import numpy as np

from jaxnets.evaluation.predictions import Predictions
from jaxnets.evaluation.statistics import compare_paired
from studies.colour_baseline import predictions_path_of
from studies.pages import colour_table


def answers(wrong: int, first: int = 0) -> Predictions:
    """Of 60 examples in 12 groups, `wrong` of them wrong."""
    message = np.arange(60) < wrong
    return Predictions(
        index=first + np.arange(60),
        label=np.zeros(60, np.int32),
        probabilities=np.eye(2, dtype=np.float32)[message.astype(int)],
        files=np.array([f"{number}.png" for number in range(first, first + 60)]),
        group=np.arange(60) // 5,
    )


def keep(folder: Path, name: str, given: Predictions, split: str = "grouped") -> None:
    entry = made_results.entry(float(given.correct.mean()), examples=60)
    made_results.write(folder / name, split=split, tests={"clean": entry})
    made_results.write_predictions(folder / name, given)


def test_runs_on_the_same_images_are_sorted(tmp_path: Path) -> None:
    assert colour_table.rows(tmp_path) == []
    baseline = predictions_path_of(tmp_path / colour_table.BASELINE, "grouped")
    baseline.parent.mkdir(parents=True)
    baseline.write_bytes(answers(12).to_bytes())
    keep(tmp_path, "worse", answers(40))
    keep(tmp_path, "better", answers(6))
    keep(tmp_path, "elsewhere", answers(6, first=60))
    keep(tmp_path, "leaky", answers(0), split="random")
    better, worse = colour_table.rows(tmp_path)
    assert [better[-1], worse[-1]] == ["`better`", "`worse`"]
    assert better[:2] == ("ResNet-50, 64 px, 3 epochs", "90.0 %")
    found = compare_paired(answers(6).correct, answers(12).correct, answers(6).group)
    assert better[2].startswith("+10.0 [")
    assert better[3] == f"{found.permutation_p:.2g}"
    assert len(better) == len(colour_table.HEADS)
