"""Colour shifts of stored runs: table and picture."""

import json
from pathlib import Path
from typing import Any

import made_results
import pytest

from jaxnets.errors import ConfigError
from studies import stain_jitter as shifts
from studies.pages import curves, stain_page

RESULT = {"split": "grouped", "leakage": {"test": 0.0, "validation": 0.0}}


def entry(strength: float, accuracy: float) -> dict[str, Any]:
    return {"strength": strength, "accuracy": accuracy, "interval": [0.0, 1.0]}


def keep(folder: Path, name: str, **changes: Any) -> None:
    made_results.write(folder / name, **{**RESULT, **changes})
    worse = {
        kind: [entry(strength, 0.9 if low <= strength <= high else 0.5) for strength in strengths]
        for (kind, strengths), (low, high) in zip(
            shifts.SHIFTS.items(), stain_page.SMALL.values(), strict=True
        )
    }
    measured = {"clean": {"accuracy": 0.95, "interval": [0.0, 1.0]}, "shifts": worse}
    (folder / name / stain_page.NUMBERS).write_text(json.dumps(measured))


def test_a_run_has_a_row_with_its_lowest_accuracies(tmp_path: Path) -> None:
    keep(tmp_path, "b", split="random", leakage={"test": 1.0})
    keep(tmp_path, "a")
    first, second = stain_page.rows(tmp_path)
    four = ("90.0 / 50.0",) * 4
    assert first == ("ResNet-50, 64 px, 3 epochs, grouped", "95.0 %", *four)
    assert second[0].endswith(", random, LEAKY")
    keep(tmp_path, "c", group_level="original", leakage={"test": 0.06, "validation": 0.0})
    *_, third = stain_page.rows(tmp_path)
    assert third[0].endswith(", grouped by original, LEAKY")
    drawn = stain_page.drawn_data(tmp_path)
    assert [drawn[name]["split"] for name in "abc"] == [
        "grouped",
        "random, LEAKY",
        "grouped by original, LEAKY",
    ]
    rows = stain_page.csv_rows(tmp_path)
    assert ("a", "ResNet-50, 64 px, 3 epochs", "grouped", "hue", shifts.NEUTRAL["hue"], 95.0) in rows
    assert {len(row) for row in rows} == {len(stain_page.CSV_HEADS)}
    assert len(first) == len(stain_page.HEADS)


def test_the_picture_includes_the_original_images(tmp_path: Path) -> None:
    keep(tmp_path, "a")
    data = stain_page.drawn_data(tmp_path)
    for kind, curve in data["a"]["curves"].items():
        assert [shifts.NEUTRAL[kind], 95.0] in curve
        assert curve == sorted(curve)
        assert len(curve) == 1 + len(shifts.SHIFTS[kind])
    picture = tmp_path / "stain.png"
    stain_page.draw(picture, data)
    assert curves.is_current(picture, data)


def test_missing_and_broken_files(tmp_path: Path) -> None:
    assert stain_page.rows(tmp_path) == []
    keep(tmp_path, "a")
    (tmp_path / "a" / stain_page.NUMBERS).write_text("{}")
    with pytest.raises(ConfigError, match="is not a file of shifts"):
        stain_page.rows(tmp_path)
