"""Macenko's stain normalisation and the table of its effect."""

import json
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from jaxnets.data.sources.synthetic_tissue import SyntheticTissue
from jaxnets.training.preprocess import scale_stains
from studies.macenko import macenko
from studies.pages.macenko_table import HEADS, KINDS, rows


def test_normalised_images_depend_little_on_the_strength_of_the_stains() -> None:
    image = SyntheticTissue(3, 64)[0]["image"]
    stained = scale_stains(jnp.asarray(image / 255, jnp.float32), jnp.array([0.7, 1.3]))
    other = np.rint(255 * np.asarray(stained)).astype(np.uint8)
    first, second = macenko(image).astype(float), macenko(other).astype(float)
    before = np.abs(image.astype(float) - other).mean()
    assert before > 3
    assert np.abs(first - second).mean() < before / 2
    assert first.std() > 10


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
