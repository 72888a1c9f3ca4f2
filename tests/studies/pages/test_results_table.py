"""The table of results: grouping of runs into rows, and the verdict of each row."""

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


def clean_entry(percent: float) -> dict[str, Any]:
    return made_results.entry(percent / 100, examples=EXAMPLES)


def write_run(folder: Path, run: str, entry: str | None, percent: float = 98.7, **changes: Any) -> None:
    reported_entry = reported.entry(entry) if entry else {"model": "lenet5", "data": "mnist"}
    result = {
        "entry": entry,
        "model": reported_entry["model"],
        "data": reported_entry["data"],
        "split": "official",
        "image_size": 28,
        "epochs": 10,
        "batch_size": 64,
        "overrides": ["seed=0"],
        "tests": {"clean": clean_entry(percent)},
        **changes,
    }
    made_results.write(folder / run, **result)


def verdicts(folder: Path) -> list[str]:
    return [results_table.verdict(group) for group in results_table.groups(folder)]


def test_seeds_share_a_row_and_other_configs_do_not(tmp_path: Path) -> None:
    for seed, percent in enumerate((98.6, 98.8, 99.0)):
        write_run(tmp_path, f"a-s{seed}", "C/lenet5", percent, overrides=[f"seed={seed}"], seed=seed)
    write_run(tmp_path, "a-note", "C/lenet5", 98.0, overrides=["note='else'"], split="grouped")
    write_run(tmp_path, "b", "C/lenet5", 98.0, overrides=["optimizer.learning_rate=0.1", "seed=0"])
    write_run(tmp_path, "e", "E/lenet5")
    groups = results_table.groups(tmp_path)
    assert [list(group.runs) for group in groups] == [
        ["a-note"],
        ["a-s0", "a-s1", "a-s2"],
        ["b"],
        ["e"],
    ]
    row = results_table.rows(tmp_path)[3]
    assert (row["entry"], row["verdict"]) == (
        "B/densenet121",
        "not run; the report does not state its settings",
    )
    (row,) = (row for row in results_table.rows(tmp_path) if row.get("seeds") == 3)
    assert row["mean_percent"] == pytest.approx(98.8)
    assert row["spread_percent"] == pytest.approx(0.2)
    assert row["low_percent"] < 98.8 < row["high_percent"]
    cells = results_table.as_markdown([row])[0]
    assert cells[3].startswith("98.80 % [98.5")
    assert cells[3].endswith("], 3 seeds ± 0.20")
    assert cells[-1] == "`a-s0..2`"


@pytest.mark.parametrize(
    ("percent", "verdict"), [(98.66, "within"), (98.5, "within"), (99.1, "above"), (98.2, "below")]
)
def test_published_number_is_compared_with_the_interval(tmp_path: Path, percent: float, verdict: str) -> None:
    write_run(tmp_path, "run", "C/lenet5", percent)
    assert verdicts(tmp_path) == [verdict]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"epochs": 3}, "3 epochs, the report's 10"),
        ({"split": "grouped"}, "grouped split, the report's is random"),
        ({"overrides": ["train.batch_size=32", "data.threads=2"]}, ": train.batch_size=32"),
        ({"entry": "B/resnet50", "epochs": 100}, "from random weights"),
        (
            {**TRANSFERRED, "truncate_after": "mixed7a"},
            "not comparable: cut after mixed7a; the report does not state",
        ),
        (
            {**TRANSFERRED, "pretrained_on": "CIFAR-10"},
            ": body from CIFAR-10, the report's from ImageNet;",
        ),
        (
            {**TRANSFERRED, "pretrained_on": None},
            ": body from weights_a, of unknown origin, ",
        ),
        ({"entry": "E/alexnet"}, "the report tests augmented images, dropout on"),
    ],
)
def test_incomparable_runs_state_the_reason(tmp_path: Path, changes: dict[str, Any], reason: str) -> None:
    write_run(tmp_path, "run", changes.pop("entry", "C/lenet5"), **changes)
    (message,) = verdicts(tmp_path)
    assert message.startswith("not comparable: ")
    assert reason in message
    assert "data.threads" not in message


def test_reports_without_settings_are_not_compared(tmp_path: Path) -> None:
    """The report may have used another image size or optimizer."""
    write_run(tmp_path, "run", percent=99.9, **TRANSFERRED)
    assert verdicts(tmp_path) == ["not comparable: the report does not state its settings"]
    write_run(tmp_path, "other", "A/resnet50", 99.9, data="lc25000_lung", split="random", image_size=96)
    assert set(verdicts(tmp_path)) == {"not comparable: the report does not state its settings"}


def test_another_image_size_is_not_comparable(tmp_path: Path) -> None:
    write_run(tmp_path, "run", "C/lenet5", overrides=["data.image_size=64"], image_size=64)
    assert verdicts(tmp_path) == ["not comparable: data.image_size=64"]


def test_transfer_rows_state_why_they_are_not_comparable(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(repository)
    rows = [row for row in sweeps.read_table("lung_transfer") if row.config.entry]
    for row in rows:
        config = row.config
        changes = {
            "weights": config.transfer.weights,
            "pretrained_on": config.transfer.pretrained_on,
        }
        changes |= {
            "truncate_after": config.model.truncate_after,
            "split": config.data.split,
            "epochs": config.train.epochs,
        }
        write_run(tmp_path, row.name, config.entry, **changes)
    verdicts = {
        name: results_table.verdict(group) for group in results_table.groups(tmp_path) for name in group.runs
    }
    reasons = {
        "lung_inception_v3-139px-imagenet-random-s0": "cut after mixed7a",
        "lung_inception_v3-139px-random-body-random-s0": "cut after mixed7a; from random weights, "
        "the report's were trained before",
        "lung_resnet-64px-cifar10-random-s0": "body from CIFAR-10, the report's from ImageNet",
    }
    assert len(verdicts) == len(rows)
    for network in ("resnet", "inception_v3", "densenet"):
        message = verdicts[f"lung_{network}-224px-imagenet-random-s0"]
        assert message == "not comparable: the report does not state its settings"
        message = verdicts[f"lung_{network}-224px-imagenet-grouped-s0"]
        assert message.startswith("not comparable: grouped split, the report's is random;"), message
    for name, reason in reasons.items():
        assert verdicts[name] == f"not comparable: {reason}; the report does not state its settings"


def test_augmented_and_dropout_accuracies_are_compared_with_their_own(tmp_path: Path) -> None:
    tests = {"clean": clean_entry(81.0), "augmented_dropout": clean_entry(78.7)}
    write_run(tmp_path, "run", "E/alexnet", tests=tests, image_size=32)
    (message,) = verdicts(tmp_path)
    assert message == "within, tested as there (augmented images, dropout on); clean 81.00 %"
    assert "| 78.70 %" in "|".join(
        f" {cell}"
        for cell in results_table.as_markdown(
            [row for row in results_table.rows(tmp_path) if row.get("seeds")]
        )[0]
    )


def test_contradictions_of_a_report_are_stated(tmp_path: Path) -> None:
    write_run(tmp_path, "run", "C/alexnet", tests={"clean": clean_entry(64), "augmented": clean_entry(63)})
    assert verdicts(tmp_path)[0].endswith(
        "; the report contradicts itself: its text says 65.79 %, its own log 62.75 %"
    )
    assert results_table._contradiction("C/lenet5") == []  # "98 %" of 98.66 %
    assert "97.24" in results_table._contradiction("A/inception_v1")[0]


def test_own_configs_and_regressions_have_rows(tmp_path: Path) -> None:
    write_run(tmp_path, "best", None, 99.5, name="lenet_mnist:best")
    write_run(tmp_path, "other", None, 99.5, name="lenet_mnist:smoke")
    write_run(tmp_path, "mlp", "A/mlp_tanh", tests={"clean": {"loss": 0.1, "examples": 4}})
    rows = [row for row in results_table.rows(tmp_path) if row.get("seeds")]
    assert [row["runs"] for row in rows] == ["mlp", "best"]
    mlp, best = results_table.as_markdown(rows)
    assert (mlp[3], best[4]) == ("loss 0.1", "ours, beyond the reports")
    assert mlp[4].startswith("not comparable: the report prints no such number")


def test_csv_has_one_cell_per_column(tmp_path: Path) -> None:
    write_run(tmp_path, "run", "C/lenet5")
    lung = {"data": "lc25000_lung", "split": "random"}
    write_run(tmp_path, "measured", "A/resnet50", leakage={"test": 1.0}, **lung)
    write_run(tmp_path, "not measured", "A/resnet50", leakage={"test": None}, **lung, image_size=96)
    write_run(tmp_path, "grouped", "A/resnet50", **{**lung, "split": "grouped"}, leakage={"test": 0.0})
    lines = results_table.as_csv(results_table.rows(tmp_path))
    assert {len(line) for line in lines} == {len(results_table.CSV_HEADS)}
    assert ["C/lenet5", "recipe:variant"] in [line[:2] for line in lines]
    first, last = (results_table.CSV_HEADS.index(head) for head in ("leaky", "leak_test"))
    leakage = {line[-1]: (line[first], line[last]) for line in lines}
    assert leakage["measured"] == ("LEAKY", 1.0)
    assert leakage["not measured"] == ("LEAKY", "")
    assert leakage["grouped"] == ("clean", 0.0)
    assert leakage["run"] == ("", "")
