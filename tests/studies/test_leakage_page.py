"""The numbers in the text of docs/leakage.md match results/."""

import json
from pathlib import Path
from typing import Any

import pytest

from studies import learning_curve
from studies.pages import leak_table, leakage_page
from studies.pages.colour_table import BASELINE

LITE0 = "EfficientNet-Lite0 (backbone: ImageNet, frozen), 224 px, 100 epochs"


@pytest.fixture(scope="module")
def page(repository: Path) -> str:
    """The text on one line."""
    return " ".join((repository / "docs" / "leakage.md").read_text().split())


@pytest.fixture(scope="module")
def lite0(repository: Path) -> leak_table.Pair:
    pairs = leakage_page.pairs(repository / "results")
    return next(pair for pair in pairs if pair.title == LITE0)


def test_the_answer(repository: Path, page: str, lite0: leak_table.Pair) -> None:
    rows = {row[0]: row[1:] for row in leakage_page.rows(repository / "results")}
    _, random, grouped, drop, _ = rows[LITE0]
    colour_drop, _, _ = rows[leakage_page.COLOUR][3].partition(" ")
    points = float(drop.partition(" ")[0])
    assert lite0.random is not None
    errors = 100 - lite0.random.mean(leak_table.CLEAN)
    assert f"right on {random.partition(' [')[0]} of the test images of a random split" in page
    assert (
        f"and on {grouped} over the folds. On the same images the drop is {drop.replace(' [', ' points [')}"
        in page
    )
    assert f"the random split hides {100 * points / (points + errors):.0f} % of the errors" in page
    assert f"drops by {colour_drop} points too" in page


def test_every_drop_is_above_zero(repository: Path, page: str, lite0: leak_table.Pair) -> None:
    rows = leakage_page.rows(repository / "results")
    assert all(float(row[4].partition("[")[2].partition(",")[0]) > 0 for row in rows)
    widths = [_half_width(row[3]) for row in rows]
    single = [pair.grouped for pair in leak_table.single_splits(repository / "results") if pair.grouped]
    unbiased = [group for group in single if group.first["leakage"]["test"] == 0]
    widest = max((high - low) / 2 for low, high in (group.interval(leak_table.CLEAN) for group in unbiased))
    text = f"at most {max(widths):.1f} points wide on each side, those of a single grouped split up to"
    assert f"{text} {widest:.1f}" in page
    assert lite0.grouped is not None
    folds = [100 * run["accuracy"] for run in lite0.grouped.first["cross_validation"]["runs"]]
    assert f"The folds range from {min(folds):.1f} to {max(folds):.1f} %" in page


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
    rows = {row[0]: row[1:] for row in leakage_page.calibration_rows(repository / "results")}
    confident, accurate, _, of_folds, _ = rows[LITE0]
    assert confident == accurate
    confidence, accuracy = of_folds.split(", ")
    assert f"its confidence and its accuracy are both {accurate}" in page
    assert f"as confident, {confidence}, but right on {accuracy}" in page


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
