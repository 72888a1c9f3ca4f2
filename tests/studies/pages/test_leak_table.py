"""The accuracy drop from a random split to a grouped split or to all folds of a cross-validation."""

from pathlib import Path

import made_results
import numpy as np
import pytest

from jaxnets.errors import DataError
from jaxnets.evaluation.predictions import Predictions
from jaxnets.evaluation.statistics import group_interval, wilson_interval
from studies.colour_baseline import FOLDS as FOLDS_NAME
from studies.colour_baseline import RANDOM60, predictions_path_of
from studies.pages import leak_table, leakage_page
from studies.pages.colour_table import BASELINE
from studies.pages.leak_table import difference_interval

FOLDS, IMAGES = 5, 200
GROUPS = np.arange(IMAGES) // 4


def test_difference_interval_matches_newcombe_example() -> None:
    """56 of 70 and 48 of 80, method 10 of table II: 0.0524 to 0.3339."""
    first, second = (56 / 70, wilson_interval(56, 70)), (48 / 80, wilson_interval(48, 80))
    found = difference_interval(*first, *second)
    np.testing.assert_allclose(found, (0.0524, 0.3339), atol=5e-5)


def _rows(folder: Path) -> list[tuple[str, ...]]:
    return list(map(leak_table.format_pair, leak_table.pairs(folder)))


def _predictions(index: np.ndarray, correct: np.ndarray) -> Predictions:
    """Those of images of two classes, with a confidence of 90 % where they are correct, else 70 %."""
    label = (index % 2).astype(np.int32)
    right = np.where(correct, 0.9, 0.3)
    probabilities = np.stack([1 - right, right], axis=1)
    probabilities = np.where(label[:, None] == 1, probabilities, probabilities[:, ::-1]).astype(np.float32)
    files = np.array([f"{number}.png" for number in index])
    return Predictions(index, label, probabilities, files, GROUPS[index])


def _write_fold(results: Path, fold: int, seed: int = 0) -> np.ndarray:
    """Writes a run that is wrong on the first image of groups whose number ends in the seed."""
    index = np.flatnonzero(fold == GROUPS % FOLDS)
    correct = ~((index % 4 == 0) & (GROUPS[index] % 10 == seed))
    folder = results / f"network-fold{fold}-s{seed}"
    overrides = ["data.split='grouped'", f"data.folds={FOLDS}", f"data.fold={fold}", f"seed={seed}"]
    made_results.write(
        folder,
        tests={"clean": made_results.entry(correct.mean(), examples=len(index))},
        split="grouped",
        fold=[fold, FOLDS],
        leakage={"test": 0.0, "validation": 0.0},
        overrides=overrides,
        seed=seed,
    )
    made_results.write_predictions(folder, _predictions(index, correct))
    return correct


def test_folds_are_pooled_beside_the_random_split_with_as_many_training_images(tmp_path: Path) -> None:
    for name, fractions in (
        ("network-random60-s0", "(0.6, 0.2, 0.2)"),
        ("network-random70-s0", "(0.7, 0.1, 0.2)"),
    ):
        overrides = [f"data.fractions={fractions}", "data.split='random'", "seed=0"]
        made_results.write(tmp_path / name, overrides=overrides)
    correct = np.concatenate([_write_fold(tmp_path, fold) for fold in range(FOLDS - 1)])
    assert [row[3] for row in _rows(tmp_path)] == ["not run", "not run"]
    correct = np.concatenate([correct, _write_fold(tmp_path, FOLDS - 1)])
    with_sixty, with_seventy = sorted(_rows(tmp_path), key=lambda row: row[3])
    groups = np.concatenate([GROUPS[fold == GROUPS % FOLDS] for fold in range(FOLDS)])
    low, high = group_interval(correct, groups)
    assert with_sixty[3] == f"97.5 % [{100 * low:.1f}, {100 * high:.1f}], 5 folds"
    assert with_sixty[4].startswith("-7.5 [")
    assert with_seventy[3] == "not run"
    assert leak_table.rows(tmp_path) == []


def test_seeds_of_folds_are_averaged(tmp_path: Path) -> None:
    for seed in (0, 3):
        for fold in range(FOLDS):
            _write_fold(tmp_path, fold, seed)
    ((*_, grouped, _, seeds),) = _rows(tmp_path)
    assert grouped.startswith("97.5 %")
    assert seeds == "2"


def test_folds_without_predictions_raise(tmp_path: Path) -> None:
    for fold in range(FOLDS):
        _write_fold(tmp_path, fold)
    (tmp_path / "network-fold2-s0" / "predictions" / "test.npz").unlink()
    with pytest.raises(DataError, match="network-fold2-s0.*test.npz is missing: train this run again"):
        _rows(tmp_path)


def test_the_drop_is_that_of_the_same_images(tmp_path: Path) -> None:
    """The random split tests every fifth image; the folds are wrong on an eighth of those."""
    for fold in range(FOLDS):
        _write_fold(tmp_path, fold)
    index = np.arange(0, IMAGES, 5)
    overrides = ["data.fractions=(0.6, 0.2, 0.2)", "data.split='random'", "seed=0"]
    tests = {"clean": made_results.entry(1.0, examples=len(index))}
    made_results.write(tmp_path / "network-random60-s0", overrides=overrides, tests=tests)
    made_results.write_predictions(
        tmp_path / "network-random60-s0", _predictions(index, np.ones(len(index), bool))
    )
    wrong = ((index % 4 == 0) & (GROUPS[index] % 10 == 0)).mean()
    assert wrong == 0.125
    ((_, _, random, grouped, drop, seeds),) = leakage_page.rows(tmp_path)
    assert random.startswith("100.0 %")
    assert grouped.startswith("97.5 % [")
    assert drop.startswith("12.5 [")
    assert seeds == "1"
    (row,) = leakage_page.drawn_data(tmp_path)["rows"]
    assert row["random"][0] == pytest.approx(100)
    assert row["grouped"][0] == pytest.approx(97.5)
    ((_, *of_random, of_folds, error),) = leakage_page.calibration_rows(tmp_path)
    assert of_random == ["90.0 %", "100.0 %", "10.0 %"]
    assert of_folds == "89.5 %, 97.5 %"
    assert error == f"{100 * (0.975 * 0.1 + 0.025 * 0.7):.1f} %"


def test_the_short_table_prefers_folds_to_a_single_split(tmp_path: Path) -> None:
    for name, split in (("random", "random"), ("grouped", "grouped")):
        clean = {"test": float(split == "random"), "validation": 0.0}
        made_results.write(tmp_path / f"network-{name}-s0", split=split, overrides=["seed=0"], leakage=clean)
    ((title, *_, grouped),) = leak_table.short_rows(tmp_path)
    assert (title, "folds" in grouped) == ("ResNet-50, 64 px", False)
    for fold in range(FOLDS):
        _write_fold(tmp_path, fold)
    overrides = ["data.fractions=(0.6, 0.2, 0.2)", "data.split='random'", "seed=0"]
    made_results.write(tmp_path / "network-random60-s0", overrides=overrides)
    ((_, *_, grouped),) = leak_table.short_rows(tmp_path)
    assert grouped.startswith("97.5 % [")
    assert grouped.endswith(", 5 folds")


def test_the_colour_histogram_is_compared_on_all_folds(tmp_path: Path) -> None:
    """It is wrong on the images 0 to 19; the network on five others of 40 more groups."""
    for fold in range(FOLDS):
        _write_fold(tmp_path, fold)
    overrides = ["data.fractions=(0.6, 0.2, 0.2)", "data.split='random'", "seed=0"]
    made_results.write(tmp_path / "network-random60-s0", overrides=overrides)
    everything = _predictions(np.arange(IMAGES), np.ones(IMAGES, bool))
    made_results.write_predictions(tmp_path / "network-random60-s0", everything)
    assert leakage_page.colour_rows(tmp_path) == []
    for name, wrong in ((RANDOM60, 0), (FOLDS_NAME, 20)):
        path = predictions_path_of(tmp_path / BASELINE, name)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(_predictions(np.arange(IMAGES), np.arange(IMAGES) >= wrong).to_bytes())
    ((_, accuracy, difference, _),) = leakage_page.colour_rows(tmp_path)
    assert accuracy.startswith("97.5 % [")
    assert difference.startswith("+7.5 [")
    assert leakage_page.rows(tmp_path)[-1][2:4] == ("100.0 % [92.9, 100.0]", "90.0 % [78.5, 95.7]")


def test_the_plan_has_the_hours_of_finished_rows(tmp_path: Path) -> None:
    sweep = tmp_path / "sweep.py"
    names = [f"net-{part}-s{seed}" for seed in (0, 1) for part in ("random60", "fold0of5")]
    sweep.write_text(f"def get_rows():\n    return [{{'name': name}} for name in {names}]\n")
    first, total = leakage_page.plan_rows(tmp_path, sweep)
    assert first == ("`net`", "2", "4", "0", "", "about 0")
    assert total == ("all", "", "4", "0", "", "about 0")
    made_results.write(tmp_path / "net-random60-s0", seconds=1800.0, images_per_second=50.0)
    assert leakage_page.plan_rows(tmp_path, sweep)[0] == ("`net`", "2", "4", "1", "50", "2.0")
    *planned, _ = leakage_page.plan_rows(tmp_path, leakage_page.SWEEP)
    assert {hours.partition(" ")[0] for *_, hours in planned} == {"about"}
    assert "about 0" not in {hours for *_, hours in planned if hours}
