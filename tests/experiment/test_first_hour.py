"""configs/image_folder.py:scratch on small folders."""

import importlib
import json
import math
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import jaxnets
from jaxnets import config as configs
from jaxnets.data.images import read_image
from jaxnets.data.sources.image_folder import ImageFolder
from jaxnets.training.callbacks.loss_warnings import loss_warnings


@pytest.fixture
def small_folders() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parent))
        yield importlib.import_module("small_folders")


def test_small_folders_match_their_description(small_folders: ModuleType, tmp_path: Path) -> None:
    assert len(small_folders.FOLDERS) == 10
    assert {len(one.counts) for one in small_folders.FOLDERS.values()} >= {2, 3, 4, 5, 8, 10, 20}
    folder = small_folders.FOLDERS["three_wide"]
    source = ImageFolder(small_folders.draw("three_wide", tmp_path / "first"))
    assert len(source.classes) == 3
    assert len(source) == sum(folder.counts)
    assert {source[index]["image"].shape[:2] for index in range(9)} == {
        (height, width) for width, height in folder.sizes
    }
    again = small_folders.draw("three_wide", tmp_path / "second")
    for file in source.files[::29]:
        assert (again / file).read_bytes() == (source.root / file).read_bytes()
    grey = small_folders.draw("four_grey", tmp_path) / "class00" / "000.png"
    assert read_image(grey).shape[:2] == (80, 80)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", ["three_uneven", "five_of_40"])
def test_scratch_does_not_diverge(
    small_folders: ModuleType, repository: Path, tmp_path: Path, name: str
) -> None:
    """With SGD at a learning rate of 0.02 the validation loss on the second was 45 million."""
    spec = f"{repository}/configs/image_folder.py:scratch"
    overrides = {
        "data.path": str(small_folders.draw(name, tmp_path)),
        "data.cache_root": str(tmp_path / "cache"),
        "log.tensorboard": False,
    }
    result = jaxnets.train(spec, overrides, workdir=tmp_path / "run")
    lines = [json.loads(one) for one in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    losses = [line["values"]["loss"] for line in lines if line["split"] == "validation"]
    assert max(losses) < 10 * math.log(5)
    assert result["test_accuracy"] > 0.3
    config = configs.from_json((tmp_path / "run/config.json").read_text())
    assert not any("training loss is" in message for message in loss_warnings(config, lines))
