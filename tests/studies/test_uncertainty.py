"""The figures of docs/uncertainty.md: measured on small networks, and compared with the text of the page."""

import json
from pathlib import Path
from typing import Any

import pytest

import jaxnets
from jaxnets.commands.cross_validate import Options, cross_validate, make_rows
from jaxnets.commands.evaluate import evaluate
from jaxnets.errors import ConfigError
from studies import uncertainty
from studies.pages import uncertainty_table

FOLDS, IMAGES = 3, 180


def test_the_figures_of_a_cross_validation(
    smoke_config: str, smoke_overrides: dict[str, Any], tmp_path: Path
) -> None:
    overrides = {**smoke_overrides, "data.num_examples": IMAGES}
    options = Options(workdir=str(tmp_path), folds=FOLDS)
    for row in make_rows(smoke_config, overrides, options):
        jaxnets.train(smoke_config, dict(row.overrides), workdir=tmp_path / row.name)
    with pytest.raises(ConfigError, match=r"has no result of scripts/cross_validate.py"):
        uncertainty.measure(tmp_path, tmp_path / "out.json")
    pooled = cross_validate(smoke_config, overrides, options)
    assert pooled is not None
    evaluate(tmp_path / "fold0-s0", ood=True)
    out = tmp_path / uncertainty_table.NUMBERS
    out.parent.mkdir()
    measured = uncertainty.measure(tmp_path, out, others=["synthetic_tissue"])
    assert json.loads(out.read_text()) == measured
    assert (measured["examples"], measured["groups"]) == (IMAGES, IMAGES)
    assert measured["accuracy"] == pooled["test_accuracy"]
    covered = [row["covered"] for row in measured["sets"]]
    assert covered == sorted(covered)
    for row in measured["sets"]:
        low, high = row["interval"]
        assert low <= row["covered"] <= high
        assert abs(row["covered"] - row["wanted"]) < 0.15
        assert 1 <= row["mean_size"] <= 3
    clean, *others = measured["images"]
    assert (clean["kind"], clean["examples"], clean["roc_auc"]) == ("clean", 15, 0.5)
    assert len(others) == sum(map(len, uncertainty.SHIFTS.values())) + 1
    colourless = next(row for row in others if row["kind"] == "saturation" and row["strength"] == 0)
    assert colourless["unlike"] > clean["unlike"]
    assert len(uncertainty_table.image_rows(tmp_path)) == len(measured["images"])


def test_a_damaged_file_of_figures_raises(tmp_path: Path) -> None:
    assert uncertainty_table.set_rows(tmp_path) == []
    path = tmp_path / uncertainty_table.NUMBERS
    path.parent.mkdir()
    path.write_text("[]")
    with pytest.raises(ConfigError, match="measure again"):
        uncertainty_table.set_rows(tmp_path)


def test_numbers_in_the_page(repository: Path) -> None:
    page = " ".join((repository / "docs" / "uncertainty.md").read_text().split())
    measured = json.loads((repository / "results" / uncertainty_table.NUMBERS).read_text())
    grey, hue = (
        next(row for row in measured["images"] if (row["kind"], row["strength"]) == shift)
        for shift in (("saturation", 0.0), ("hue", 0.1))
    )

    def percent(fraction: float, digits: int = 0) -> str:
        return f"{100 * fraction:.{digits}f}"

    examples = f"{measured['examples']:,} images in {measured['groups']} groups"
    assert f"{percent(measured['accuracy'], 1)} % of {examples} are right" in page
    before, after = measured["calibration_error"], measured["calibration_error_scaled"]
    assert f"calibration error from {percent(before, 1)} to {percent(after, 1)} %" in page
    covered = percent(grey["covered"])
    assert (
        f"the accuracy is {percent(grey['accuracy'])} %, the mean confidence still "
        f"{percent(grey['confidence'])} %, and the sets contain the class in {covered} % of images "
        "instead of 98 %" in page
    )
    assert f"The score marks {percent(grey['unlike'], 1)} % of these images." in page
    assert f"{percent(hue['accuracy'])} % are right, {percent(hue['unlike'])} % marked" in page
