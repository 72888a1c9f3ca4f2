"""The colour histogram baseline."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxnets.data.cache import CachedSource
from jaxnets.data.dataset import Dataset
from jaxnets.data.sources.synthetic_tissue import SyntheticTissue
from jaxnets.data.splits import random_split
from jaxnets.evaluation.predictions import load_predictions
from studies.colour_baseline import LEVELS, colour_baseline, colour_histograms, predictions_path_of


def _write_images(folder: Path, *, red_difference: int) -> None:
    """Writes two classes of 30 noisy images, in groups of 3, whose red values differ by `red_difference`."""
    generator = np.random.default_rng(0)
    rows = ["file,original,group"]
    for label, name in enumerate("ab"):
        (folder / "set" / name).mkdir(parents=True)
        for number in range(30):
            red = 100 + red_difference * label
            pixels = generator.integers(red - 30, red + 30, (16, 16, 3), dtype=np.uint8)
            pixels[..., 1:] = generator.integers(60, 120, (16, 16, 2))
            Image.fromarray(pixels).save(folder / "set" / name / f"{number}.png")
            rows.append(f"{name}/{number}.png,{name}{number // 3},{name}{number // 3}")
    (folder / "groups.csv").write_text("\n".join(rows))


@pytest.mark.parametrize(("red_difference", "min_accuracy", "max_accuracy"), [(60, 1.0, 1.0), (0, 0.0, 0.9)])
def test_baseline_separates_classes_only_by_colour(
    repository: Path, tmp_path: Path, red_difference: int, min_accuracy: float, max_accuracy: float
) -> None:
    _write_images(tmp_path, red_difference=red_difference)
    overrides = {
        **{"data.path": str(tmp_path / "set"), "data.groups": str(tmp_path / "groups.csv")},
        **{"data.image_size": 64, "data.root": str(tmp_path)},
    }
    config_path, out = str(repository / "configs" / "image_folder.py"), tmp_path / "out" / "colour.json"
    report = colour_baseline(config_path, overrides, ["random", "grouped"], out)
    assert json.loads(out.read_text()) == report
    assert report["splits"]["random"]["leakage"]["test"] > 0.5
    assert report["splits"]["grouped"]["leakage"]["test"] == 0
    for entry in report["splits"].values():
        assert min_accuracy <= entry["accuracy"] <= max_accuracy
        assert np.trace(entry["confusion"]) == round(entry["accuracy"] * entry["examples"])
    method = report["splits"]["grouped"]["interval_method"]
    assert method == ("wilson, a group for an example" if min_accuracy == 1 else "group bootstrap")
    for name, entry in report["splits"].items():
        predictions = load_predictions(predictions_path_of(out, name))
        assert predictions.correct.mean() == pytest.approx(entry["accuracy"])


def test_histograms_count_colours() -> None:
    images = np.zeros((3, 4, 4, 3), np.uint8)
    images[1] = 255
    images[2, :2] = (0, 0, 255)
    source = CachedSource(SyntheticTissue(3, 8), images)
    split = random_split(np.repeat(np.arange(3), 10), (0.7, 0.15, 0.15), 0)
    rows = colour_histograms(Dataset(source, split, None)) ** 2  # type: ignore[arg-type]
    np.testing.assert_allclose(rows.sum(axis=1), 1, rtol=1e-6)
    assert rows[0, 0] == 1
    assert rows[1, LEVELS**3 - 1] == 1
    np.testing.assert_allclose(rows[2, [0, LEVELS - 1]], 0.5, rtol=1e-6)
