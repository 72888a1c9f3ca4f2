"""The rows: their names, what they read, and our sides of the pipelines."""

import functools
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks import rows
from benchmarks.jax_workloads import PipelineSide, TrainingSide
from benchmarks.measure import check_same
from benchmarks.mlp_sides import ScalarSide, ScannedSide
from jaxnets import models, reported
from jaxnets.errors import DataError
from jaxnets.runtime.console import Reporter

SETTING = rows.BenchContext(threads=2, images=Path("images"), data_root=Path("data"))


@pytest.fixture(scope="module")
def jpegs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bench") / "images"
    rows.draw_jpegs(folder, count=30, size=32)
    return folder


@pytest.mark.parametrize(("suite", "name"), [(s, n) for s in rows.ROWS for n in rows.ROWS[s]])
def test_every_row_knows_its_name_and_its_opponents(suite: str, name: str) -> None:
    row = rows.choose(suite, [name])[name](name, SETTING)
    assert row.name == name
    assert row.title
    expected = {
        "train": {"contiguous", "channels_last"},
        "inference": {"contiguous", "channels_last"},
        "train/mlp_tanh": {"eager", "eager, fused SGD"},
        "pipeline": {"0 workers", "2 workers"},
        "startup": {"channels_last"},
        "end_to_end": {"the report's script"},
    }
    is_network = isinstance(row.ours, functools.partial) and row.ours.func is TrainingSide
    assert (row.loss_tolerance is not None) == is_network
    if row.needs_torch:
        kind, network = name.split("/")[:2]
        assert set(row.theirs) == expected.get(f"{kind}/{network}", expected[kind])


def test_every_network_that_takes_images_has_its_rows() -> None:
    names = list(rows.ROWS["cpu"])
    for network, entry in models.REGISTRY.items():
        kinds = {name.split("/")[0] for name in names if name.split("/")[1] == network}
        if entry.kind == "image":
            assert {"train", "inference"} <= kinds
    assert {f"train/resnet50/{size}/16" for size in (64, 128, 224)} < set(names)
    assert {"train/mlp_tanh/4", "train/mlp_tanh/4/scalar_engine"} < set(names)


def test_the_pipelines_rows_are_there() -> None:
    assert list(rows.ROWS["pipeline"]) == [
        "pipeline/jpeg_vs_jpeg",
        "pipeline/cache_vs_memmap",
        "pipeline/cache_vs_jpeg",
    ]


def test_drawn_jpegs_are_a_folder_a_class(jpegs: Path) -> None:
    files = sorted(jpegs.rglob("*.jpg"))
    assert len(files) == 30
    assert len({file.parent for file in files}) == 3
    with Image.open(files[0]) as image:
        assert (image.format, image.size) == ("JPEG", (32, 32))


@pytest.mark.parametrize("cache", [False, True])
def test_our_pipeline_reads_what_pillow_reads(jpegs: Path, cache: bool) -> None:
    side = PipelineSide(None, images=jpegs, image_size=32, batch_size=5, cache=cache)
    files = sorted(jpegs.rglob("*.jpg"))[: len(side.answer())]
    expected = np.stack([np.array(Image.open(file)) for file in files])
    np.testing.assert_array_equal(side.answer(), expected)
    shared = side.share()
    assert shared["batch_size"] == 5
    if cache:
        np.testing.assert_array_equal(np.load(shared["memory_map"])[: len(expected)], expected)
    else:
        assert shared["files"][: len(files)] == [str(file) for file in files]
    assert side.measure(0.05) > 0


def test_images_of_several_sizes_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "images"
    rows.draw_jpegs(folder, count=30, size=32)
    for file in list(folder.rglob("*.jpg"))[::2]:
        Image.new("RGB", (40, 32)).save(file)
    with pytest.raises(DataError, match="one size"):
        PipelineSide(None, images=folder, image_size=32, batch_size=15, cache=False)


def test_a_given_folder_is_read_and_nothing_is_left_in_or_beside_it(jpegs: Path) -> None:
    before = sorted(jpegs.parent.rglob("*"))
    with rows.setting("pipeline", jpegs, 2, Reporter(quiet=True)) as setting:
        side = PipelineSide(None, images=setting.images, image_size=32, batch_size=5, cache=True)
        assert len(side.answer()) > 0
    assert not setting.images.exists()
    assert [path for path in sorted(jpegs.parent.rglob("*")) if "-cache" not in str(path)] == [
        path for path in before if "-cache" not in str(path)
    ]


def test_our_mlp_and_the_scalar_engine_answer_as_report_a_prints() -> None:
    ours = ScannedSide(None)
    theirs = ScalarSide(ours.share())
    answers = ours.answer(), theirs.answer()
    printed = reported.document("mlp_tanh")["micrograd"]
    updated = [each["value"] for each in printed["updated_parameters"]]
    for answer, tolerance in zip(answers, (1e-6, 1e-7), strict=True):  # from weights in float32
        np.testing.assert_allclose(answer, [*printed["predictions"], *updated], rtol=0, atol=tolerance)
    check_same("train/mlp_tanh/4", "the scalar engine", *answers)
    assert ours.measure(0.01) > 0
    assert theirs.measure(0.01) > 0


def test_training_rows_draw_no_images() -> None:
    with rows.setting("cpu", None, 2, Reporter(quiet=True)) as setting:
        assert setting.images is None
