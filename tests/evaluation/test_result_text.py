"""The summary printed at the end of a run."""

from pathlib import Path

import made_results
import pytest

from jaxnets import reported
from jaxnets.evaluation import result as results
from jaxnets.evaluation import result_text
from jaxnets.evaluation.metrics import Scores


def _result(**changes: object) -> dict[str, object]:
    clean = made_results.entry(0.9787, interval=[0.972, 0.984])
    fields = {"name": "lung_resnet:scratch", "entry": "A/resnet50", "tests": {"clean": clean}}
    fields |= {"image_size": 224, "epochs": 10, "images_per_second": 2310.4}
    return made_results.make_result(**{**fields, **changes})


def _block(result: dict[str, object]) -> str:
    entry = result["entry"]
    return result_text.summary_text(
        result,
        title="ResNet-50",
        data_title="LC25000 lung",
        workdir=Path("runs/x"),
        reported=reported.entry(str(entry)) if entry else None,
    )


def test_reported_accuracy_is_printed_next_to_ours() -> None:
    block = _block(_result(note="a note"))
    assert len(block.splitlines()) <= 12
    assert "97.9 % [97.2, 98.4]     98 %   report A, ResNet-50, random split" in block
    assert "optimizer settings not reported" in block
    assert "GPU Colab T4 16GB, about 2 h" in block
    assert "2,310 images/s" in block
    assert "LEAKY" in block


def test_frozen_run_prints_trained_parameters_and_head_speed() -> None:
    frozen = {"freeze_backbone": True, "weights": "random", "trained_parameters": 6147}
    block = _block(_result(**frozen, on_cached_features=None))  # version 1 lacks the field
    assert "23,514,179 parameters, 6,147 of them trained, LC25000" in block
    assert "2,310 images/s (head only, cached features)" in block
    assert "head only" in _block(_result(**frozen, on_cached_features=True))
    assert "head only" not in _block(_result(**frozen, on_cached_features=False))
    assert "trained" not in _block(_result()).splitlines()[0]


def test_leaked_fraction_is_printed() -> None:
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
def test_backbone_is_described_by_its_pretraining(fields: dict[str, object], message: str) -> None:
    assert result_text.format_network(_result(**fields), "ResNet-50") == message


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
def test_leaking_part_of_a_split_is_named(fields: dict[str, object], short: str, rest: str) -> None:
    result = _result(**{"split": "grouped", **fields})
    assert result_text.format_split_kind(result) == short
    assert result_text.format_split(result).startswith(short + rest)
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


def test_regression_prints_loss_and_examples_per_second() -> None:
    tests = {"clean": results.test_entry(Scores(1.330307, 4), None)}
    block = _block(_result(entry="A/mlp_tanh", data="points", epochs=5, image_size=None, tests=tests))
    assert "test loss             1.33031                 report A prints no loss after" in block
    assert "LC25000 lung, 5 epochs" in block
    assert "2,310 examples/s" in block
    assert "accuracy" not in block
    assert "reported" in block
