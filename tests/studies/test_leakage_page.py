"""The numbers in the text of docs/leakage.md match results/."""

import json
from pathlib import Path
from typing import Any

import pytest

from studies import learning_curve
from studies.pages import leak_table, leakage_page
from studies.pages.colour_table import BASELINE

RESNET = "ResNet-50, 128 px, 10 epochs, bfloat16"
INCEPTION = "Inception v1, 75 px, 10 epochs"
LITE0 = "EfficientNet-Lite0 (backbone: ImageNet, frozen), 224 px, 100 epochs"


@pytest.fixture(scope="module")
def page(repository: Path) -> str:
    """The text on one line."""
    return " ".join((repository / "docs" / "leakage.md").read_text().split())


@pytest.fixture(scope="module")
def pairs(repository: Path) -> dict[str, leak_table.Pair]:
    """Random splits and folds by title."""
    return {pair.title: pair for pair in leakage_page.pairs(repository / "results")}


def test_the_answer(repository: Path, page: str, pairs: dict[str, leak_table.Pair]) -> None:
    rows = {row[0]: row[1:] for row in leakage_page.rows(repository / "results")}
    reported, random, grouped, drop, _ = rows[RESNET]
    points = {
        title: rows[title][3].partition(" ")[0] for title in (RESNET, INCEPTION, LITE0, leakage_page.COLOUR)
    }
    random_runs = pairs[RESNET].random
    assert random_runs is not None
    errors = 100 - random_runs.mean(leak_table.CLEAN)
    hidden = 100 * float(points[RESNET]) / (float(points[RESNET]) + errors)
    assert f"right on {random.partition(' [')[0]} of the test images of a random split" in page
    assert f"{reported.partition(' (')[0]} in report A" in page
    assert f"and on {grouped} over the folds" in page
    assert f"On the same images the drop is {drop.replace(' [', ' points [')}" in page
    assert f"the random split hides {hidden:.0f} % of the errors" in page
    assert points[INCEPTION] == points[LITE0]
    assert f"EfficientNet-Lite0 both drop by {points[LITE0]} points" in page
    assert f"which sees no shapes, by {points[leakage_page.COLOUR]}." in page


def test_every_drop_is_above_zero(repository: Path, page: str, pairs: dict[str, leak_table.Pair]) -> None:
    rows = leakage_page.rows(repository / "results")
    assert all(float(row[4].partition("[")[2].partition(",")[0]) > 0 for row in rows)
    widths = [_half_width(row[3]) for row in rows]
    single = [pair.grouped for pair in leak_table.single_splits(repository / "results") if pair.grouped]
    unbiased = [group for group in single if group.first["leakage"]["test"] == 0]
    widest = max((high - low) / 2 for low, high in (group.interval(leak_table.CLEAN) for group in unbiased))
    text = f"is at most {max(widths):.1f} points, and up to {widest:.1f} points for a single grouped split"
    assert f"The half-width of an interval over all 717 groups {text}" in page
    for title, beginning in (
        (LITE0, "Its folds range"),
        (RESNET, "those of ResNet-50"),
        (INCEPTION, "those of Inception v1"),
    ):
        grouped = pairs[title].grouped
        assert grouped is not None
        folds = [100 * run["accuracy"] for run in grouped.first["cross_validation"]["runs"]]
        assert f"{beginning} from {min(folds):.1f} to {max(folds):.1f} %" in page


def test_what_the_drop_depends_on(repository: Path, page: str) -> None:
    drops = {row[0]: float(row[4].partition(" ")[0]) for row in leakage_page.rows(repository / "results")}
    frozen = [drop for title, drop in drops.items() if "ImageNet, frozen" in title]
    text = f"ResNet-50 from scratch drops by {drops[RESNET]} points, Inception v1 by {drops[INCEPTION]} and"
    assert text in page
    assert f"ImageNet's weights by {min(frozen)} to {max(frozen)}." in page


def _half_width(cell: str) -> float:
    low, high = cell.partition("[")[2].rstrip("]").split(", ")
    return (float(high) - float(low)) / 2


def test_colour_and_calibration(repository: Path, page: str) -> None:
    folds = json.loads((repository / "results" / BASELINE).read_text())["splits"]["5folds"]
    low, high = (100 * end for end in folds["interval"])
    assert (
        f"Colour alone is right on {100 * folds['accuracy']:.1f} % [{low:.1f}, {high:.1f}] of all images"
        in page
    )
    compared = {row[0]: row[1:] for row in leakage_page.colour_rows(repository / "results")}
    (_, first, p1), (_, second, p2) = (compared[LITE0.replace("Lite0", name)] for name in ("Lite1", "Lite2"))
    points = {text.partition(" ")[0].removeprefix("+") for text in (first, second)}
    assert f"better than colour by {' '.join(points)} points (p = {p1} and {p2};" in page
    assert len(compared) == 6  # the page says six comparisons
    for title, name in ((INCEPTION, "Inception v1"), (RESNET, "ResNet-50")):
        assert f"{compared[title][1].replace(' [', ' points [')} ({name})" in page
    rows = {row[0]: row[1:] for row in leakage_page.calibration_rows(repository / "results")}
    (first, right, _, first_folds, _), (second, correct, _, second_folds, _) = rows[LITE0], rows[RESNET]
    assert (
        f"(confidence {first}, accuracy {right}) and ResNet-50 ({second}, {correct}) are calibrated" in page
    )
    confidences, accuracies = zip(first_folds.split(", "), second_folds.split(", "), strict=True)
    text = f"their confidence is {' and '.join(confidences)}, but their accuracy {' and '.join(accuracies)}."
    assert text in page


def test_the_learning_curve(repository: Path, page: str) -> None:
    stored = json.loads((repository / "results" / learning_curve.RESULTS).read_text())["rows"]
    found: dict[tuple[int, str], dict[str, Any]] = {
        (row["groups"], row["kind"]): row for row in stored if row["features"] == "efficientnet_lite0"
    }
    everything, one, half = found[430, "all"], found[430, "one"], found[192, "all"]
    percent = lambda row: f"{100 * row['accuracy']:.1f} %"  # noqa: E731
    images = f"{everything['images']:,} images"
    assert f"One image of each of 430 groups is enough for {percent(one)}; all {images}" in page
    text = f"of these groups give {percent(everything)}, and the {half['images']:,} images of 192 groups"
    assert f"{text} {percent(half)}" in page
    gains = [100 * (found[count, "all"]["accuracy"] - found[count, "one"]["accuracy"]) for count in (12, 430)]
    assert f"they gain {gains[0]:.0f} points with 12 groups and {gains[1]:.1f} with 430" in page
    assert f"from 192 to 430 by {100 * (everything['accuracy'] - half['accuracy']):.1f} points" in page
