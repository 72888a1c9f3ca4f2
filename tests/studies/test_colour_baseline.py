"""The colour baseline."""

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


def _write(folder: Path, *, apart: int) -> None:
    """Two classes of thirty noisy pictures in ten groups of three; their reds lie `apart`."""
    generator = np.random.default_rng(0)
    rows = ["file,original,group"]
    for label, name in enumerate("ab"):
        (folder / "set" / name).mkdir(parents=True)
        for number in range(30):
            red = 100 + apart * label
            pixels = generator.integers(red - 30, red + 30, (16, 16, 3), dtype=np.uint8)
            pixels[..., 1:] = generator.integers(60, 120, (16, 16, 2))
            Image.fromarray(pixels).save(folder / "set" / name / f"{number}.png")
            rows.append(f"{name}/{number}.png,{name}{number // 3},{name}{number // 3}")
    (folder / "groups.csv").write_text("\n".join(rows))


@pytest.mark.parametrize(("apart", "least", "most"), [(60, 1.0, 1.0), (0, 0.0, 0.9)])
def test_it_classifies_by_colour_only(
    repository: Path, tmp_path: Path, apart: int, least: float, most: float
) -> None:
    _write(tmp_path, apart=apart)
    overrides = {
        **{"data.path": str(tmp_path / "set"), "data.groups": str(tmp_path / "groups.csv")},
        **{"data.image_size": 64, "data.root": str(tmp_path)},
    }
    spec, out = str(repository / "configs" / "image_folder.py"), tmp_path / "out" / "colour.json"
    message = colour_baseline(spec, overrides, ["random", "grouped", "5folds"], out)
    assert json.loads(out.read_text()) == message
    assert message["splits"]["random"]["fits"][0]["leakage"]["test"] > 0.5
    for entry in message["splits"].values():
        assert least <= entry["accuracy"] <= most
        assert np.trace(entry["confusion"]) == round(entry["accuracy"] * entry["examples"])
    for name in ("grouped", "5folds"):
        assert all(fit["leakage"]["test"] == 0 for fit in message["splits"][name]["fits"])
        assert message["splits"][name]["interval_method"] == "wilson, by groups"
    assert message["splits"]["5folds"]["examples"] == 60
    assert len(message["splits"]["5folds"]["fits"]) == 5
    for name, entry in message["splits"].items():
        answers = load_predictions(predictions_path_of(out, name))
        assert answers.correct.mean() == pytest.approx(entry["accuracy"])


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
