"""The table of docs/deployment.md on ONNX files, from results/bench/onnx_exports.json."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxnets import models
from jaxnets.errors import ConfigError

NUMBERS = Path("bench") / "onnx_exports.json"
"""Written by benchmarks.onnx_exports, in results/."""
HEADS = ("network", "size", "operations", "speed for 1 image", "for 16 images")


def rows(folder: Path) -> list[tuple[str, ...]]:
    """Returns a row of `HEADS` for each network; none if nothing was measured."""
    path = folder / NUMBERS
    if not path.is_file():
        return []
    try:
        return [_row(row) for row in json.loads(path.read_text())["rows"]]
    except (ValueError, TypeError, KeyError) as error:
        raise ConfigError(f"{path} is not a file of benchmarks.onnx_exports: measure again") from error


def _row(row: Mapping[str, Any]) -> tuple[str, ...]:
    size = " / ".join(f"{size / 1e6:.1f}" for size in row["bytes"])
    operations = " / ".join(map(str, row["operations"]))
    return models.entry(row["network"]).title, f"{size} MB", operations, *map(_ratio, row["batches"].values())


def _ratio(measured: Mapping[str, Any]) -> str:
    low, high = measured["quartiles"]
    return f"{measured['ratio']:.2f} [{low:.2f}, {high:.2f}]"
