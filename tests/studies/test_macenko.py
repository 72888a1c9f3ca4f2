"""Macenko's stain normalisation and the table of its effect."""

import json
from pathlib import Path

import numpy as np

from studies.macenko import TARGET, TARGET_DENSITIES, TRANSMITTED, macenko
from studies.pages.macenko_table import HEADS, KINDS, rows


def test_the_strength_of_the_stains_is_normalised() -> None:
    """Images by the law of Beer and Lambert, of two stains between which each pixel lies."""
    generator = np.random.default_rng(0)
    stains = np.array([[0.65, 0.70, 0.29], [0.20, 0.90, 0.38]])
    amounts = generator.uniform(0.3, 1.5, (64, 64, 1)) * generator.dirichlet((0.5, 0.5), (64, 64))
    weak, strong = (
        np.rint(TRANSMITTED * np.exp(-factor * amounts @ stains) - 1).astype(np.uint8)
        for factor in (0.7, 1.2)
    )
    first, second = (macenko(image).astype(float) for image in (weak, strong))
    assert np.abs(weak.astype(float) - strong).mean() > 20
    assert np.abs(first - second).mean() < 2
    density = -np.log((first.reshape(-1, 3) + 1) / TRANSMITTED)
    fitted = density @ np.linalg.pinv(TARGET)  # the amounts of the target's stains explain the image
    assert np.abs(fitted @ TARGET - density).mean() < 0.03
    np.testing.assert_allclose(np.percentile(fitted, 99, axis=0), TARGET_DENSITIES, rtol=0.05)


def test_images_without_tissue_are_unchanged() -> None:
    white = np.full((8, 8, 3), 250, np.uint8)
    np.testing.assert_array_equal(macenko(white), white)


def test_table_has_the_lowest_accuracy_of_each_kind(tmp_path: Path) -> None:
    assert rows(tmp_path) == []
    accuracies = {f"{kind} {strength}": 0.5 + strength / 10 for kind in KINDS for strength in (1, 2)}
    (tmp_path / "macenko.json").write_text(json.dumps({"scratch": {"clean": 0.9, **accuracies}}))
    ((title, *cells),) = rows(tmp_path)
    assert len(cells) + 1 == len(HEADS)
    assert (title, cells) == ("small ResNet from scratch", ["90.0 %"] + ["60.0 %"] * 4)
