"""The schema of result.json."""

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import made_results
import numpy as np
import pytest

from jaxnets.errors import CheckpointError
from jaxnets.evaluation import result as results
from jaxnets.evaluation.metrics import ClassScores, Scores
from jaxnets.evaluation.predictions import Predictions
from jaxnets.experiment.run_directory import read_result


def test_stored_results_match_the_schema(repository: Path) -> None:
    paths = sorted((repository / "results").glob("*/result.json"))
    assert len(paths) >= 73
    for path in paths:
        result = read_result(path.parent)
        assert result is not None, path
        assert results.check(result) is None, path
        stored = json.loads(path.read_text())
        assert {name: result.get(name) for name in stored} == stored, path  # values are unchanged
        added = {name: value for name, value in result.items() if name not in stored}
        added.pop("schema_version", None)
        assert set(added.values()) <= {None}, path


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("test_accuracy", math.nan),
        ("test_accuracy", 1.1),
        ("validation_accuracy", math.inf),
        ("leakage", {"test": -0.1}),
        ("parameters", -1),
        ("parameters", 1.5),
        ("seed", True),
        ("epochs", "3"),
        ("split_sha256", "x"),
        ("finished", "yesterday"),
        ("complete", False),
        ("fold", [1]),
        ("tests", {}),
        ("test_examples", 9),
        ("schema_version", 3),
        ("images_per_second", math.nan),
        ("unknown", 1),
    ],
)
def test_invalid_fields_raise_when_read_or_written(field: str, value: Any, tmp_path: Path) -> None:
    result = {**made_results.make_result(), field: value}
    with pytest.raises(ValueError, match=field):
        results.to_json(result)
    path = tmp_path / "result.json"
    with pytest.raises(CheckpointError, match=r"result\.json is damaged") as caught:
        results.from_json(json.dumps(result).encode(), path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("field", made_results.make_result())
def test_every_field_is_required(field: str, tmp_path: Path) -> None:
    result = made_results.make_result()
    del result[field]
    problem = results.check(result)
    assert problem is not None
    assert field in problem


@pytest.mark.parametrize("classes", [2, 100, 101, 700])
def test_confusion_matrix_round_trip(classes: int) -> None:
    matrix = np.zeros((classes, classes), np.int64)
    generator = np.random.default_rng(0)
    np.add.at(matrix, tuple(generator.integers(0, classes, (2, 900))), 1)
    stored = results.stored_confusion(matrix)
    assert isinstance(stored, dict) == (classes > 100)
    text = json.dumps(stored)
    assert len(text) < max(40 * 900, 4 * classes**2)
    np.testing.assert_array_equal(results.confusion_matrix({"confusion": json.loads(text)}), matrix)


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ([[0, 200, 1]], "outside of 200 classes"),
        ([[0, 1, 1], [0, 1, 2]], "twice"),
        ([[0, 0, 1]], "counts 1 examples"),
        ([[0, 1, 10_000]], "accuracy is not that"),
        ([[0, 1]], "has 2 elements"),
        ([[0, 1, -1]], "below 0"),
    ],
)
def test_inconsistent_sparse_matrix_is_invalid(cells: list[list[int]], message: str) -> None:
    test = made_results.entry(0.9, confusion={"classes": 200, "counts": cells})
    assert message in str(results.check(made_results.make_result(tests={"clean": test})))
    consistent = {"classes": 200, "counts": [[0, 0, 9_000], [5, 199, 1_000]]}
    test = made_results.entry(0.9, confusion=consistent)
    assert results.check(made_results.make_result(tests={"clean": test})) is None


def test_near_duplicates_widen_the_interval() -> None:
    wrong = (np.arange(120) // 10) % 4 == 0  # 3 of 12 groups
    probabilities = np.eye(2, dtype=np.float32)[wrong.astype(int)]
    fields = {
        "index": np.arange(120),
        "label": np.zeros(120, np.int32),
        "probabilities": probabilities,
    }
    scores = ClassScores(0.1, 120, 0.75, 90, np.array([[90, 30], [0, 0]]))

    def entry(group: np.ndarray) -> dict[str, object]:
        return results.test_entry(scores, Predictions(**fields, files=np.arange(120), group=group))

    all_correct = fields | {"probabilities": np.eye(2, dtype=np.float32)[np.zeros(120, int)]}
    by_groups, by_images = entry(np.arange(120) // 10), entry(np.arange(120))
    assert by_groups["interval_method"] == "group bootstrap"
    assert by_images["interval_method"] == "wilson"
    assert by_images == entry(np.full(120, -1)) == results.test_entry(scores, None)
    widths = [each["interval"][1] - each["interval"][0] for each in (by_groups, by_images)]  # type: ignore[index]
    assert widths[0] > 2 * widths[1]
    for group in (np.zeros(120, np.int64), np.arange(120) % 3):  # one group, or equal accuracies
        known = entry(group)
        assert known["interval_method"] == results.WILSON_BY_GROUP
        low, high = known["interval"]  # type: ignore[misc]
        assert 0 <= low < 0.75 < high <= 1
        assert high - low > 0.5
    all_right = dataclasses.replace(scores, accuracy=1.0, correct=120)
    one_group = Predictions(**all_correct, files=np.arange(120), group=np.zeros(120, np.int64))
    known = results.test_entry(all_right, one_group)
    assert known["interval"][0] == pytest.approx(0.2065, abs=1e-4)  # Wilson's, 1 of 1


def test_regression_entry_has_loss_and_count() -> None:
    assert results.test_entry(Scores(0.5, 4), None) == {"loss": 0.5, "examples": 4}
