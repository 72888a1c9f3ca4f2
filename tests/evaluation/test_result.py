"""The schema of result.json, and the summary printed at the end of a run."""

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import made_results
import numpy as np
import pytest

from jaxnets import reported
from jaxnets.errors import CheckpointError
from jaxnets.evaluation import result as results
from jaxnets.evaluation.predictions import ClassScores, Predictions, Scores
from jaxnets.evaluation.summary import summary_text
from jaxnets.experiment.run_directory import read_result


def test_stored_results_match_the_schema(repository: Path) -> None:
    paths = sorted((repository / "results").glob("*/result.json"))
    assert len(paths) >= 73
    for path in paths:
        result = read_result(path.parent)
        assert result is not None, path
        assert results.check(result) is None, path
        stored = json.loads(path.read_text())
        assert result == stored, path


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
    fields = {"index": np.arange(120), "label": np.zeros(120, np.int32), "probabilities": probabilities}
    scores = ClassScores(0.1, 120, 0.75, 90, np.array([[90, 30], [0, 0]]))

    def entry(group: np.ndarray) -> dict[str, object]:
        return results.test_entry(scores, Predictions(**fields, files=np.arange(120), group=group))

    all_correct = fields | {"probabilities": np.eye(2, dtype=np.float32)[np.zeros(120, int)]}
    by_groups, by_images = entry(np.arange(120) // 10), entry(np.arange(120))
    assert by_groups["interval_method"] == results.WILSON_BY_GROUP
    assert by_images["interval_method"] == results.WILSON
    assert entry(np.full(120, -1)) == {**by_images, "interval_method": results.WILSON_GROUPS_UNKNOWN}
    assert by_images == results.test_entry(scores, None)
    widths = [each["interval"][1] - each["interval"][0] for each in (by_groups, by_images)]  # type: ignore[index]
    assert widths[0] > 2 * widths[1]
    low, high = entry(np.zeros(120, np.int64))["interval"]  # type: ignore[misc]
    assert 0 <= low < 0.75 < high <= 1
    assert high - low > 0.5
    all_right = dataclasses.replace(scores, accuracy=1.0, correct=120)
    one_group = Predictions(**all_correct, files=np.arange(120), group=np.zeros(120, np.int64))
    known = results.test_entry(all_right, one_group)
    assert known["interval"][0] == pytest.approx(0.2065, abs=1e-4)  # Wilson's, 1 of 1


def test_regression_entry_has_loss_and_count() -> None:
    assert results.test_entry(Scores(0.5, 4), None) == {"loss": 0.5, "examples": 4}


def _result(**changes: object) -> dict[str, object]:
    clean = made_results.entry(0.9787, interval=[0.972, 0.984])
    fields = {"name": "lung_resnet:scratch", "entry": "A/resnet50", "tests": {"clean": clean}}
    fields |= {"image_size": 224, "epochs": 10, "images_per_second": 2310.4}
    return made_results.make_result(**{**fields, **changes})


def _block(result: dict[str, object]) -> str:
    return summary_text(result, workdir=Path("runs/x"), next_command="python scripts/evaluate.py")


def test_reported_accuracy_is_printed_next_to_ours() -> None:
    block = _block(_result(note="a note"))
    assert len(block.splitlines()) <= 12
    assert "test accuracy  97.9 % [97.2, 98.4] (95 % interval, " in block
    assert (
        "reported       98 % (report A, ResNet-50, random split, optimizer settings not reported)\n" in block
    )
    assert "speed          2,310 images/s (report: GPU Colab T4 16GB, about 2 h)\n" in block
    assert "LEAKY" in block


def test_frozen_run_prints_trained_parameters_and_head_speed() -> None:
    frozen = {"freeze_backbone": True, "weights": "random", "trained_parameters": 6147}
    block = _block(_result(**frozen, on_cached_features=True))
    assert (
        "network        ResNet-50 (backbone: random weights, frozen), 23,514,179 parameters, 6,147 of"
        in block
    )
    assert "2,310 images/s (head only, cached features)" in block
    assert "head only" in _block(_result(**frozen, on_cached_features=True))
    assert "head only" not in _block(_result(**frozen, on_cached_features=False))
    assert "trained" not in _block(_result())


def test_leaked_fraction_is_printed() -> None:
    leaky = _block(_result(leakage={"test": 0.998, "validation": 1.0}))
    assert (
        "split          random, LEAKY: 99.8 % of test images have a near-duplicate in training "
        "(--config.data.split=grouped)" in leaky
    )
    assert "fraction not measured" in _block(_result(leakage={"test": None, "validation": None}))
    clean = _block(_result(split="grouped", leakage={"test": 0.0, "validation": 0.0}))
    assert "split          grouped\n" in clean
    some = _block(_result(split="grouped", leakage={"test": 0.02, "validation": 0.0}))
    assert "grouped, LEAKY: 2.0 % of test images have a near-duplicate in training\n" in some
    patients = _block(_result(given_groups=True, data="table", leakage={"test": 0.5, "validation": 0.0}))
    assert "LEAKY: 50.0 % of test images have images of their group in training" in patients


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "ResNet-50"),
        ({"weights": "random", "freeze_backbone": True}, "ResNet-50 (backbone: random weights, frozen)"),
        ({"weights": "runs/mine", "freeze_backbone": False}, "ResNet-50 (backbone: mine, fine-tuned)"),
        (
            {
                "weights": "runs/mine",
                "pretrained_on": "CIFAR-10",
                "freeze_backbone": True,
                "truncate_after": "stage3",
            },
            "ResNet-50 up to stage3 (backbone: CIFAR-10, frozen)",
        ),
    ],
)
def test_backbone_is_described_by_its_pretraining(fields: dict[str, object], message: str) -> None:
    assert results.format_network(_result(**fields), "ResNet-50") == message


@pytest.mark.parametrize(
    ("fields", "short", "rest"),
    [
        ({"leakage": {"test": 0.0, "validation": 0.0}}, "grouped", ""),
        ({"leakage": {"test": 0.02, "validation": 0.1}}, "grouped, LEAKY", ": 2.0 % of test images"),
        ({"leakage": {"test": 0.0, "validation": 0.1}}, "grouped, LEAKY", ": 10.0 % of validation im"),
        ({"groups": "a:b.csv", "leakage": {}}, "grouped by a:b.csv", ""),
        ({"groups": "b.csv", "group_level": "original"}, "grouped by b.csv, original", ""),
        ({"split": "random"}, "random, LEAKY", ": its 15,000 images are augmented"),
        ({"split": "random", "data": "cifar10"}, "random", ""),
    ],
)
def test_leaking_part_of_a_split_is_named(fields: dict[str, object], short: str, rest: str) -> None:
    result = _result(**{"split": "grouped", **fields})
    assert results.format_split_kind(result) == short
    assert results.format_split(result).startswith(short + rest)
    assert results.is_leaky(result) is ("LEAKY" in short)


def test_different_epochs_are_printed() -> None:
    block = _block(_result(epochs=1))
    assert "1 epoch, seed 0" in block
    assert "random split, 10 epochs, optimizer settings" in block


def test_lines_of_the_summary_fit_80_columns() -> None:
    block = _block(_result(entry=None, data="synthetic_tissue", note="a note", stopped_early="a reason"))
    assert max(map(len, block.splitlines())) <= 80


def test_no_reported_number_without_a_comparable_entry() -> None:
    block = _block(_result(entry=None, data="synthetic_tissue"))
    assert "reported" not in block
    assert "LEAKY" not in block


@pytest.mark.parametrize("name", [n for n in reported.names() if "result" in reported.entry(n)])
def test_every_reported_entry_has_a_summary(name: str) -> None:
    assert str(reported.entry(name)["result"]["accuracy_percent"]) in _block(_result(entry=name))


def test_regression_prints_loss_and_examples_per_second() -> None:
    tests = {"clean": results.test_entry(Scores(1.330307, 4), None)}
    block = _block(_result(entry="A/mlp_tanh", data="points", epochs=5, image_size=None, tests=tests))
    assert "test loss      1.33031\nreported       report A prints no loss after training\n" in block
    assert ", 5 epochs, seed 0\n" in block
    assert "2,310 examples/s" in block
    assert "accuracy" not in block
    assert "reported" in block
