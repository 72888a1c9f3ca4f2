"""Accuracy with and without Macenko's stain normalisation: a table of docs/lc25000.md."""

import json
from collections.abc import Mapping
from pathlib import Path

FILE = "macenko.json"
KINDS = ("hue", "saturation", "haematoxylin", "eosin")
HEADS = ("network", "clean", *KINDS)
TITLES = {
    "frozen": "frozen EfficientNet-Lite0",
    "frozen, normalised": "the same, normalised",
    "scratch": "small ResNet from scratch",
    "scratch, normalised": "the same, normalised",
    "scratch, augmented": "the same, augmented",
    "scratch, augmented, normalised": "the same, augmented and normalised",
}


def rows(folder: Path) -> list[tuple[str, ...]]:
    """Returns a row per network: accuracy, and the lowest accuracy under the shifts of each kind."""
    path = folder / FILE
    measured = json.loads(path.read_text()) if path.is_file() else {}
    return [(title, *_cells(measured[name])) for name, title in TITLES.items() if name in measured]


def _cells(accuracies: Mapping[str, float]) -> list[str]:
    lowest = [min(value for name, value in accuracies.items() if name.startswith(kind)) for kind in KINDS]
    return [f"{100 * value:.1f} %" for value in (accuracies["clean"], *lowest)]
