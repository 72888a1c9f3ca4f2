"""The numbers in the text of docs/lc25000.md match results/."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jaxnets.experiment.run_directory import read_result
from studies import stain_jitter as shifts
from studies.pages import stain_page

IMAGENET = "lung_inception_v3-139px-imagenet-grouped-s0"
AT_RANDOM = "lung_inception_v3-139px-random-body-grouped-s0"
EXCEPTION = "Inception-ResNet v2"


@pytest.fixture(scope="module")
def page(repository: Path) -> str:
    """The text on one line."""
    return " ".join((repository / "docs" / "lc25000.md").read_text().split())


def _measured(repository: Path) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    for path in sorted((repository / "results").glob(f"*/{stain_page.NUMBERS}")):
        result = read_result(path.parent)
        assert result is not None
        yield path.parent.name, result, json.loads(path.read_text())


def _cost(measured: dict[str, Any], kind: str, *, small: bool) -> float:
    """The most points that a step of a kind takes off the clean accuracy."""
    least, most = stain_page.SMALL[kind] if small else (-2.0, 2.0)
    rows = shifts.curve(measured, kind)
    lowest = min(row["accuracy"] for row in rows if least <= row["strength"] <= most)
    return 100 * (measured["clean"]["accuracy"] - lowest)


def _without_colour(measured: dict[str, Any]) -> float:
    rows = shifts.curve(measured, "saturation")
    return 100 * next(row["accuracy"] for row in rows if row["strength"] == 0)


def test_numbers_on_colour_shifts(repository: Path, page: str) -> None:
    found = list(_measured(repository))
    scratch = {name: message for name, result, message in found if result["weights"] is None}
    hue = {name: _cost(message, "hue", small=True) for name, message in scratch.items()}
    worst = max(hue, key=lambda name: hue[name])
    assert "inception_resnet_v2" in worst
    others = max(cost for name, cost in hue.items() if name != worst)
    saturation = [_cost(message, "saturation", small=True) for message in scratch.values()]
    left = [_without_colour(message) for message in scratch.values()]
    turned = [_cost(message, "hue", small=False) for message in scratch.values()]
    assert (
        f"small hue shifts cost up to {others:.0f} points ({EXCEPTION}: {hue[worst]:.0f}) and small "
        f"saturation shifts {min(saturation):.0f} to {max(saturation):.0f}. Without colour, the accuracy is "
        f"{min(left):.0f} to {max(left):.0f} %; a hue shift of a tenth of a turn costs "
        f"{min(turned):.0f} to {max(turned):.0f} points" in page
    )


def test_numbers_on_the_imagenet_backbone(repository: Path, page: str) -> None:
    found = {name: message for name, _, message in _measured(repository)}
    taught, drawn = found[IMAGENET], found[AT_RANDOM]
    kinds = [kind for kind in shifts.SHIFTS if kind != "saturation"]
    most = max(_cost(taught, kind, small=False) for kind in kinds)
    assert (
        f"no shift of hue, haematoxylin or eosin costs more than {most:.1f} points on the grouped split, and "
        f"without colour the accuracy is {_without_colour(taught):.1f} %; with random weights it loses "
        f"{_cost(drawn, 'hue', small=False):.0f} points under hue shifts" in page
    )
    frozen, tuned = (
        found[f"lung_efficientnet-224px-{name}-grouped-s0"] for name in ("imagenet", "finetuned")
    )
    assert (
        f"EfficientNet-Lite0, frozen, loses {_cost(frozen, 'hue', small=False):.0f} points under hue shifts, "
        f"and has {_without_colour(frozen):.1f} % without colour" in page
    )
    assert (
        f"Fine-tuned, it loses at most {_cost(tuned, 'hue', small=False):.1f} points under hue shifts, but "
        f"has {_without_colour(tuned):.1f} % without colour" in page
    )
