"""The closing block: at most 12 lines, honest about what it compares."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from jaxnets import reported
from jaxnets.evaluation import result as results
from jaxnets.evaluation.metrics import ClassScores, Scores, evaluate
from jaxnets.evaluation.predictions import Predictions
from jaxnets.evaluation.statistics import wilson_interval
from jaxnets.training.step import PREDICTIONS


def _result(**changes: object) -> dict[str, object]:
    return {
        "name": "lung_resnet:scratch",
        "entry": "A/resnet50",
        "parameters": 23_514_179,
        "auxiliary_parameters": 0,
        "data": "lc25000_lung",
        "split": "random",
        "image_size": 224,
        "epochs": 10,
        "seed": 0,
        "test_accuracy": 0.9787,
        "test_interval": [0.972, 0.984],
        "tests": {},
        "images_per_second": 2310.4,
        "note": "",
        **changes,
    }


def _block(result: dict[str, object]) -> str:
    entry = result["entry"]
    return results.summary_text(
        result,
        title="ResNet-50",
        data_title="LC25000 lung",
        workdir=Path("runs/x"),
        reported=reported.entry(str(entry)) if entry else None,
    )


def test_the_reported_number_is_printed_next_to_ours() -> None:
    block = _block(_result(note="a note"))
    assert len(block.splitlines()) <= 12
    assert "97.9 % [97.2, 98.4]     98 %   report A, ResNet-50, random split" in block
    assert "optimizer settings not reported" in block
    assert "GPU Colab T4 16GB, about 2 h" in block
    assert "2,310 images/s" in block
    assert "LEAKY" in block


def test_a_frozen_run_prints_trained_parameters_and_the_kind_of_speed() -> None:
    frozen = {"freeze_backbone": True, "weights": "random", "trained_parameters": 6147}
    block = _block(_result(**frozen))
    assert "23,514,179 parameters, 6,147 of them trained, LC25000" in block
    assert "2,310 images/s (head only, cached features)" in block
    assert "by the head" not in _block(_result(**frozen, on_cached_features=False))
    assert "trained" not in _block(_result()).splitlines()[0]


def test_the_leaked_fraction_is_printed() -> None:
    leaky = _block(_result(leakage={"test": 0.998, "validation": 1.0}))
    assert (
        "split                 random, LEAKY: 99.8 % of test images have a near-duplicate in training "
        "(--config.data.split=grouped)" in leaky
    )
    assert "fraction not measured" in _block(_result(leakage={"test": None, "validation": None}))
    clean = _block(_result(split="grouped", leakage={"test": 0.0, "validation": 0.0}))
    assert "split                 grouped\n" in clean
    some = _block(_result(split="grouped", leakage={"test": 0.02, "validation": 0.0}))
    assert "grouped, LEAKY: 2.0 % of test images have a near-duplicate in training\n" in some


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "ResNet-50"),
        (
            {"weights": "random", "freeze_backbone": True},
            "ResNet-50 (backbone: random weights, frozen)",
        ),
        (
            {"weights": "runs/mine", "freeze_backbone": False},
            "ResNet-50 (backbone: mine, fine-tuned)",
        ),
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
def test_the_backbone_is_described_by_its_pretraining(fields: dict[str, object], message: str) -> None:
    assert results.format_network(fields, "ResNet-50") == message


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

    right = fields | {"probabilities": np.eye(2, dtype=np.float32)[np.zeros(120, int)]}
    by_groups, by_images = entry(np.arange(120) // 10), entry(np.arange(120))
    assert by_groups["interval_method"] == "group bootstrap"
    assert by_images["interval_method"] == "wilson"
    assert by_images == entry(np.full(120, -1)) == results.test_entry(scores, None)
    widths = [each["interval"][1] - each["interval"][0] for each in (by_groups, by_images)]  # type: ignore[index]
    assert widths[0] > 2 * widths[1]
    for alike in (
        np.zeros(120, np.int64),
        np.arange(120) % 3,
    ):  # one group, or 90 right of each 120
        known = entry(alike)
        assert known["interval_method"] == results.WILSON_BY_GROUP
        low, high = known["interval"]  # type: ignore[misc]
        assert 0 <= low < 0.75 < high <= 1
        assert high - low > 0.5
    all_right = dataclasses.replace(scores, accuracy=1.0, correct=120)
    alone = Predictions(**right, files=np.arange(120), group=np.zeros(120, np.int64))
    known = results.test_entry(all_right, alone)
    assert known["interval"][0] == pytest.approx(0.2065, abs=1e-4)  # Wilson's, 1 of 1


@pytest.mark.parametrize(
    ("fields", "short", "rest"),
    [
        ({"leakage": {"test": 0.0, "validation": 0.0}}, "grouped", ""),
        (
            {"leakage": {"test": 0.02, "validation": 0.1}},
            "grouped, LEAKY",
            ": 2.0 % of test images",
        ),
        (
            {"leakage": {"test": 0.0, "validation": 0.1}},
            "grouped, LEAKY",
            ": 10.0 % of validation im",
        ),
        ({"groups": "a:b.csv", "leakage": {}}, "grouped by a:b.csv", ""),
        ({"groups": "b.csv", "group_level": "original"}, "grouped by b.csv, original", ""),
        ({"split": "random"}, "random, LEAKY", ": its 15,000 images are augmented"),
        ({"split": "random", "data": "cifar10"}, "random", ""),
    ],
)
def test_the_leaking_part_of_a_split_is_named(fields: dict[str, object], short: str, rest: str) -> None:
    result = {"split": "grouped", "data": "lc25000_lung", **fields}
    assert results.format_split_kind(result) == short
    assert results.format_split(result).startswith(short + rest)
    assert results.is_leaky(result) is ("LEAKY" in short)


def test_different_epochs_are_printed() -> None:
    block = _block(_result(epochs=1))
    assert "1 epoch, seed 0" in block
    assert "random split, 10 epochs, optimizer settings" in block


def test_no_reported_number_without_a_comparable_entry() -> None:
    block = _block(_result(entry=None, data="synthetic_tissue"))
    assert "reported" not in block
    assert "LEAKY" not in block


@pytest.mark.parametrize("name", [n for n in reported.names() if "result" in reported.entry(n)])
def test_every_reported_entry_has_a_summary(name: str) -> None:
    assert str(reported.entry(name)["result"]["accuracy_percent"]) in _block(_result(entry=name))


def test_a_regression_has_a_loss_and_no_pixels() -> None:
    of_values = {"test_accuracy": None, "test_interval": None, "image_size": None}
    tests = {"tests": {"clean": results.test_entry(Scores(1.330307, 4), None)}}
    block = _block(_result(entry="A/mlp_tanh", data="points", epochs=5, **of_values, **tests))
    assert "test loss             1.33031                 report A prints no loss after" in block
    assert "LC25000 lung, 5 epochs" in block
    assert "2,310 examples/s" in block
    assert "accuracy" not in block
    assert "reported" in block
    assert results.test_entry(Scores(0.5, 4), None) == {"loss": 0.5, "examples": 4}


def test_wilson_equals_scipy_and_contains_the_proportion() -> None:
    low, high = wilson_interval(2202, 2250)
    expected = stats.binomtest(2202, 2250).proportion_ci(method="wilson")
    assert (low, high) == (expected.low, expected.high)
    assert low < 2202 / 2250 < high
    assert wilson_interval(10, 10)[1] == pytest.approx(1)


def test_a_miscount_stops_the_evaluation() -> None:
    sums = {
        "loss": np.float32(3.0),
        "weight_sum": np.float32(3.0),
        "correct": np.float32(2.0),
        "examples": np.float32(3.0),
        PREDICTIONS: np.array([[0, 0], [1, 1], [0, 1]], np.int32),
    }

    def step(state: object, batch: object) -> dict[str, np.ndarray]:
        return dict(sums)

    scores = evaluate(step, None, [None, None], expected=6, classes=2)
    assert isinstance(scores, ClassScores)
    expected = {"loss": 1.0, "examples": 6, "accuracy": 4 / 6, "correct": 4}
    assert scores == ClassScores(**expected, confusion=scores.confusion)
    assert scores.confusion.tolist() == [[2, 2], [0, 2]]
    with pytest.raises(AssertionError, match="6 examples were counted instead of 7"):
        evaluate(step, None, [None, None], expected=7, classes=2)


def test_a_loss_that_is_a_sum_is_not_divided() -> None:
    sums = {"loss": np.float32(3.0), "examples": np.float32(3.0)}
    assert evaluate(lambda state, batch: sums, None, [None] * 2, expected=6) == Scores(6.0, 6)
