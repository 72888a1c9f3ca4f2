"""The results table: its rows and verdicts."""

from pathlib import Path
from typing import Any

import made_results
import pytest

from jaxnets import reported
from studies import sweeps
from studies.pages import results_table

EXAMPLES = 10_000
TRANSFERRED = {
    "entry": "B/inception_v3",
    "split": "random",
    "epochs": 100,
    "weights": "runs/weights_a",
    "pretrained_on": "ImageNet",
}


def scored(percent: float) -> dict[str, Any]:
    return made_results.entry(percent / 100, examples=EXAMPLES)


def write_result(folder: Path, run: str, entry: str | None, percent: float = 98.7, **changes: Any) -> None:
    entry_data = reported.entry(entry) if entry else {"model": "lenet5", "data": "mnist"}
    result = {
        "entry": entry,
        "model": entry_data["model"],
        "data": entry_data["data"],
        "split": "official",
        "image_size": 28,
        "epochs": 10,
        "batch_size": 64,
        "overrides": ["seed=0"],
        "tests": {"clean": scored(percent)},
        **changes,
    }
    made_results.write(folder / run, **result)


def verdicts(folder: Path) -> list[str]:
    return [results_table.verdict(group) for group in results_table.groups(folder)]


def test_seeds_share_a_row(tmp_path: Path) -> None:
    for seed, percent in enumerate((98.6, 98.8, 99.0)):
        write_result(tmp_path, f"a-s{seed}", "C/lenet5", percent, overrides=[f"seed={seed}"], seed=seed)
    write_result(tmp_path, "a-note", "C/lenet5", 98.0, overrides=["note='else'"], split="grouped")
    write_result(tmp_path, "b", "C/lenet5", 98.0, overrides=["optimizer.learning_rate=0.1", "seed=0"])
    write_result(tmp_path, "e", "E/lenet5")
    made = results_table.groups(tmp_path)
    assert [list(group.runs) for group in made] == [["a-note"], ["a-s0", "a-s1", "a-s2"], ["b"], ["e"]]
    row = results_table.rows(tmp_path)[3]
    assert (row["entry"], row["verdict"]) == (
        "B/densenet121",
        "not run; the report does not state its settings",
    )
    (row,) = (row for row in results_table.rows(tmp_path) if row.get("seeds") == 3)
    assert row["mean_percent"] == pytest.approx(98.8)
    assert row["spread_percent"] == pytest.approx(0.2)
    assert row["low_percent"] < 98.8 < row["high_percent"]
    message = results_table.markdown_row(row)
    assert message[3].startswith("98.80 % [98.5")
    assert message[3].endswith("], 3 seeds ± 0.20")
    assert message[-1] == "`a-s0..2`"


@pytest.mark.parametrize(
    ("percent", "word"), [(98.66, "within"), (98.5, "within"), (99.1, "above"), (98.2, "below")]
)
def test_the_verdict_compares_the_reported_number_with_the_interval(
    tmp_path: Path, percent: float, word: str
) -> None:
    write_result(tmp_path, "run", "C/lenet5", percent)
    assert verdicts(tmp_path) == [word]


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"epochs": 3}, "3 epochs, the report's 10"),
        ({"split": "grouped"}, "grouped split, the report's is random"),
        ({"overrides": ["train.batch_size=32", "data.threads=2"]}, ": train.batch_size=32"),
        ({"entry": "B/resnet50", "epochs": 100}, "random backbone"),
        (
            {**TRANSFERRED, "truncate_after": "mixed7a"},
            "not comparable: truncated after mixed7a; the report does not state",
        ),
        (
            {**TRANSFERRED, "pretrained_on": "CIFAR-10"},
            ": backbone pretrained on CIFAR-10, the report's on ImageNet;",
        ),
        ({**TRANSFERRED, "pretrained_on": None}, ": backbone pretrained on unknown data (weights_a), "),
        ({"entry": "E/alexnet"}, "the report tests augmented images, dropout on"),
    ],
)
def test_not_comparable_results_have_a_reason(tmp_path: Path, changes: dict[str, Any], why: str) -> None:
    write_result(tmp_path, "run", changes.pop("entry", "C/lenet5"), **changes)
    (message,) = verdicts(tmp_path)
    assert message.startswith("not comparable: ")
    assert why in message
    assert "data.threads" not in message


def test_unknown_settings_are_not_comparable(tmp_path: Path) -> None:
    """The report may have used another image size or optimizer."""
    write_result(tmp_path, "run", percent=99.9, **TRANSFERRED)
    assert verdicts(tmp_path) == ["not comparable: the report does not state its settings"]
    write_result(tmp_path, "other", "A/resnet50", 99.9, data="lc25000_lung", split="random", image_size=96)
    assert set(verdicts(tmp_path)) == {"not comparable: the report does not state its settings"}


def test_another_image_size_is_not_comparable(tmp_path: Path) -> None:
    write_result(tmp_path, "run", "C/lenet5", overrides=["data.image_size=64"], image_size=64)
    assert verdicts(tmp_path) == ["not comparable: data.image_size=64"]


def test_the_transfer_runs_have_reasons(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(repository)
    rows = [row for row in sweeps.read_table("lung_transfer") if row.config.entry]
    for row in rows:
        message = row.config
        changes = {"weights": message.transfer.weights, "pretrained_on": message.transfer.pretrained_on}
        changes |= {
            "truncate_after": message.model.truncate_after,
            "split": message.data.split,
            "epochs": message.train.epochs,
        }
        write_result(tmp_path, row.name, message.entry, **changes)
    verdicts = {
        name: results_table.verdict(group) for group in results_table.groups(tmp_path) for name in group.runs
    }
    reasons = {
        "lung_inception_v3-139px-imagenet-random-s0": "truncated after mixed7a",
        "lung_inception_v3-139px-random-body-random-s0": "truncated after mixed7a; random backbone, "
        "the report's is pretrained",
        "lung_resnet-64px-cifar10-random-s0": "backbone pretrained on CIFAR-10, the report's on ImageNet",
    }
    assert len(verdicts) == len(rows)
    for network in ("resnet", "inception_v3", "densenet"):
        message = verdicts[f"lung_{network}-224px-imagenet-random-s0"]
        assert message == "not comparable: the report does not state its settings"
        message = verdicts[f"lung_{network}-224px-imagenet-grouped-s0"]
        assert message.startswith("not comparable: grouped split, the report's is random;"), message
    for name, reason in reasons.items():
        assert verdicts[name] == f"not comparable: {reason}; the report does not state its settings"


def test_the_report_s_test_conditions_are_compared(tmp_path: Path) -> None:
    tests = {"clean": scored(81.0), "augmented_dropout": scored(78.7)}
    write_result(tmp_path, "run", "E/alexnet", tests=tests, image_size=32)
    (message,) = verdicts(tmp_path)
    assert message == "within, tested as in the report (augmented images, dropout on); clean 81.00 %"
    (row,) = (row for row in results_table.rows(tmp_path) if row.get("seeds"))
    assert results_table.markdown_row(row)[3].startswith("78.70 %")


def test_a_contradiction_in_a_report_is_noted(tmp_path: Path) -> None:
    write_result(tmp_path, "run", "C/alexnet", tests={"clean": scored(64), "augmented": scored(63)})
    assert verdicts(tmp_path)[0].endswith(
        "; the report contradicts itself: its text says 65.79 %, its own log 62.75 %"
    )
    assert results_table._contradiction("C/lenet5") == []  # "98 %" of 98.66 %
    assert "97.24" in results_table._contradiction("A/inception_v1")[0]


def test_our_configs_and_regressions_have_rows(tmp_path: Path) -> None:
    write_result(tmp_path, "best", None, 99.5, name="lenet_mnist:best")
    write_result(tmp_path, "other", None, 99.5, name="lenet_mnist:smoke")
    write_result(tmp_path, "mlp", "A/mlp_tanh", tests={"clean": {"loss": 0.1, "examples": 4}})
    rows = [row for row in results_table.rows(tmp_path) if row.get("seeds")]
    assert [row["runs"] for row in rows] == ["mlp", "best"]
    mlp, best = map(results_table.markdown_row, rows)
    assert (mlp[3], best[4]) == ("loss 0.1", "not in the reports")
    assert mlp[4].startswith("not comparable: the report prints no such number")


def test_the_csv_has_one_cell_per_head(tmp_path: Path) -> None:
    write_result(tmp_path, "run", "C/lenet5")
    lung = {"data": "lc25000_lung", "split": "random"}
    write_result(tmp_path, "measured", "A/resnet50", leakage={"test": 1.0}, **lung)
    write_result(tmp_path, "not measured", "A/resnet50", leakage={"test": None}, **lung, image_size=96)
    write_result(tmp_path, "grouped", "A/resnet50", **{**lung, "split": "grouped"}, leakage={"test": 0.0})
    lines = [results_table.csv_row(row) for row in results_table.rows(tmp_path)]
    assert {len(line) for line in lines} == {len(results_table.CSV_HEADS)}
    assert ["C/lenet5", "config:variant"] in [line[:2] for line in lines]
    first, last = (results_table.CSV_HEADS.index(head) for head in ("leaky", "leak_test"))
    leaks = {line[-1]: (line[first], line[last]) for line in lines}
    assert leaks["measured"] == ("LEAKY", 1.0)
    assert leaks["not measured"] == ("LEAKY", None)
    assert leaks["grouped"] == ("clean", 0.0)
    assert leaks["run"] == ("", None)
