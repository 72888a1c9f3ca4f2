"""The numbers in the prose of docs/lc25000.md match the stored results."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jaxnets.experiment.run_directory import read_result
from studies import stain_jitter as shifts
from studies.pages import stain_page

IMAGENET = "lung_inception_v3-139px-imagenet-grouped-s0"
RANDOM_BACKBONE = "lung_inception_v3-139px-random-body-grouped-s0"
EXCEPTION = "Inception-ResNet v2"


@pytest.fixture(scope="module")
def page(repository: Path) -> str:
    """Returns the page's text on one line."""
    return " ".join((repository / "docs" / "lc25000.md").read_text().split())


def _measured(repository: Path) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    for path in sorted((repository / "results").glob(f"*/{stain_page.NUMBERS}")):
        result = read_result(path.parent)
        assert result is not None
        yield path.parent.name, result, json.loads(path.read_text())


def _max_drop(measured: dict[str, Any], kind: str, *, small: bool) -> float:
    """Returns the largest drop from the clean accuracy under one kind of shift, in points."""
    low, high = stain_page.SMALL[kind] if small else (-2.0, 2.0)
    rows = shifts.curve(measured, kind)
    lowest = min(row["accuracy"] for row in rows if low <= row["strength"] <= high)
    return 100 * (measured["clean"]["accuracy"] - lowest)


def _accuracy_without_colour(measured: dict[str, Any]) -> float:
    rows = shifts.curve(measured, "saturation")
    return 100 * next(row["accuracy"] for row in rows if row["strength"] == 0)


def test_accuracy_of_scratch_runs_under_colour_shifts(repository: Path, page: str) -> None:
    found = list(_measured(repository))
    scratch = {name: shift for name, result, shift in found if result["weights"] is None}
    hue = {name: _max_drop(shift, "hue", small=True) for name, shift in scratch.items()}
    worst = max(hue, key=lambda name: hue[name])
    assert "inception_resnet_v2" in worst
    others = max(cost for name, cost in hue.items() if name != worst)
    saturation = [_max_drop(shift, "saturation", small=True) for shift in scratch.values()]
    grey = [_accuracy_without_colour(shift) for shift in scratch.values()]
    large_hue = [_max_drop(shift, "hue", small=False) for shift in scratch.values()]
    assert (
        f"small hue shifts cost up to {others:.0f} points ({EXCEPTION}: {hue[worst]:.0f}) and small "
        f"saturation shifts {min(saturation):.0f} to {max(saturation):.0f}. Without colour "
        f"{min(grey):.0f} to {max(grey):.0f} % are left; a hue shift of a tenth of a turn costs "
        f"{min(large_hue):.0f} to {max(large_hue):.0f} points" in page
    )


def test_accuracy_of_frozen_backbones_under_colour_shifts(repository: Path, page: str) -> None:
    found = {name: shift for name, _, shift in _measured(repository)}
    pretrained, random = found[IMAGENET], found[RANDOM_BACKBONE]
    kinds = [kind for kind in shifts.SHIFTS if kind != "saturation"]
    most = max(_max_drop(pretrained, kind, small=False) for kind in kinds)
    assert (
        f"no shift of hue, haematoxylin or eosin costs it more than {most:.1f} points, and "
        f"{_accuracy_without_colour(pretrained):.1f} % are left without colour" in page
    )
    assert (
        f"with random weights loses {_max_drop(random, 'hue', small=False):.0f} points under hue shifts, and "
        f"{_accuracy_without_colour(random):.0f} % are left without colour" in page
    )
