"""Tables of docs/uncertainty.md from results/lc25000/uncertainty.json."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxnets.errors import ConfigError

NUMBERS = Path("lc25000") / "uncertainty.json"
"""Written by scripts/uncertainty.py, in results/."""
SET_HEADS = (
    "coverage wanted",
    "measured [95 %]",
    "mean size",
    "sets of one class",
    "mistakes in a set of one class",
)
IMAGE_HEADS = (
    "images",
    "accuracy",
    "mean confidence",
    "sets contain the class",
    "score of 0.95 or more",
    "ROC-AUC",
)


def set_rows(folder: Path) -> list[tuple[str, ...]]:
    """Returns a row per coverage; none if nothing was measured."""
    measured = _read(folder)
    return [_set_row(row) for row in measured["sets"]] if measured else []


def image_rows(folder: Path) -> list[tuple[str, ...]]:
    """Returns a row per shift and per other data set; none if nothing was measured."""
    measured = _read(folder)
    return [_image_row(row) for row in measured["images"]] if measured else []


def _read(folder: Path) -> Mapping[str, Any] | None:
    path = folder / NUMBERS
    if not path.is_file():
        return None
    try:
        measured = json.loads(path.read_text())
        assert {"sets", "images"} <= measured.keys()
    except (ValueError, AttributeError, AssertionError) as error:
        raise ConfigError(f"{path} is not a file of scripts/uncertainty.py: measure again") from error
    return measured


def _set_row(row: Mapping[str, Any]) -> tuple[str, ...]:
    low, high = row["interval"]
    return (
        f"{100 * row['wanted']:.0f} %",
        f"{_percent(row['covered'])} [{100 * low:.1f}, {100 * high:.1f}]",
        f"{row['mean_size']:.2f}",
        _percent(row["one_class"]),
        _percent(row["mistakes_with_one_class"]),
    )


def _image_row(row: Mapping[str, Any]) -> tuple[str, ...]:
    strength = "" if row["strength"] is None else f" {row['strength']:g}"
    return (
        f"{row['kind']}{strength}",
        _percent(row.get("accuracy")),
        _percent(row["confidence"]),
        _percent(row.get("covered")),
        _percent(row["unlike"]),
        f"{row['roc_auc']:.3f}",
    )


def _percent(fraction: float | None) -> str:
    return "" if fraction is None else f"{100 * fraction:.1f} %"
