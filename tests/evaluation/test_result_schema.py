"""The schema of result.json: every stored result fits it, and what does not is named."""

import json
import math
from pathlib import Path
from typing import Any

import made_results
import numpy as np
import pytest

from jaxnets.errors import CheckpointError
from jaxnets.evaluation import result_schema


def test_every_stored_result_is_read(repository: Path) -> None:
    paths = sorted((repository / "results").glob("*/result.json"))
    assert len(paths) >= 73
    for path in paths:
        result = result_schema.read(path.parent)
        assert result is not None, path
        assert result_schema.check(result) is None, path
        stored = json.loads(path.read_text())
        assert {name: result.get(name) for name in stored} == stored, path  # numbers stay
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
def test_what_is_not_of_the_schema_is_neither_read_nor_written(
    field: str, value: Any, tmp_path: Path
) -> None:
    result = {**made_results.made(), field: value}
    with pytest.raises(ValueError, match=field):
        result_schema.to_json(result)
    (tmp_path / "result.json").write_text(json.dumps(result))
    with pytest.raises(CheckpointError, match=r"result\.json is damaged") as caught:
        result_schema.read(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("field", made_results.made())
def test_every_field_is_required(field: str, tmp_path: Path) -> None:
    result = made_results.made()
    del result[field]
    problem = result_schema.check(result)
    assert problem is not None
    assert field in problem


@pytest.mark.parametrize("classes", [2, 100, 101, 700])
def test_a_confusion_matrix_comes_back(classes: int) -> None:
    matrix = np.zeros((classes, classes), np.int64)
    generator = np.random.default_rng(0)
    np.add.at(matrix, tuple(generator.integers(0, classes, (2, 900))), 1)
    stored = result_schema.stored_confusion(matrix)
    assert isinstance(stored, dict) == (classes > 100)
    text = json.dumps(stored)
    assert len(text) < max(40 * 900, 4 * classes**2)
    np.testing.assert_array_equal(result_schema.confusion_matrix({"confusion": json.loads(text)}), matrix)


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
def test_a_sparse_matrix_that_contradicts_is_refused(cells: list[list[int]], message: str) -> None:
    test = made_results.entry(0.9, confusion={"classes": 200, "counts": cells})
    assert message in str(result_schema.check(made_results.made(tests={"clean": test})))
    right = {"classes": 200, "counts": [[0, 0, 9_000], [5, 199, 1_000]]}
    test = made_results.entry(0.9, confusion=right)
    assert result_schema.check(made_results.made(tests={"clean": test})) is None
