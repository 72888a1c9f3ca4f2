"""The comparisons of each suite, and the jaxnets workloads of pipelines and the MLP."""

import functools
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks import comparisons
from benchmarks.jax_workloads import PipelineWorkload, TrainingWorkload
from benchmarks.measure import check_outputs_match
from benchmarks.mlp_workloads import ScalarEngineWorkload, ScannedMlpWorkload
from jaxnets import models, reported
from jaxnets.errors import DataError

CONTEXT = comparisons.BenchContext(threads=2, images=Path("images"), data_root=Path("data"))


@pytest.fixture(scope="module")
def jpegs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bench") / "images"
    comparisons.write_jpegs(folder, count=30, size=32)
    return folder


@pytest.mark.parametrize(
    ("suite", "name"), [(s, n) for s in comparisons.SUITES for n in comparisons.SUITES[s]]
)
def test_every_comparison_has_its_name_and_baselines(suite: str, name: str) -> None:
    comparison = comparisons.SUITES[suite][name](name, CONTEXT)
    assert comparison.name == name
    assert comparison.title
    expected = {
        "train": {"contiguous", "channels_last"},
        "inference": {"contiguous", "channels_last"},
        "train/mlp_tanh": {"eager", "eager, fused SGD"},
        "pipeline": {"0 workers", "2 workers"},
        "startup": {"channels_last"},
        "end_to_end": {"the report's script"},
    }
    is_network = isinstance(comparison.ours, functools.partial) and comparison.ours.func is TrainingWorkload
    assert (comparison.loss_tolerance is not None) == is_network
    if comparison.needs_torch:
        kind, network = name.split("/")[:2]
        assert set(comparison.baselines) == expected.get(f"{kind}/{network}", expected[kind])


def test_every_image_network_has_rows() -> None:
    names = list(comparisons.SUITES["cpu"])
    for network, entry in models.REGISTRY.items():
        kinds = {name.split("/")[0] for name in names if name.split("/")[1] == network}
        if entry.kind == "image":
            assert {"train", "inference"} <= kinds
    assert {f"train/resnet50/{size}/16" for size in (64, 128, 224)} < set(names)
    assert {"train/mlp_tanh/4", "train/mlp_tanh/4/scalar_engine"} < set(names)


def test_the_pipeline_suite_has_its_rows() -> None:
    assert list(comparisons.SUITES["pipeline"]) == [
        "pipeline/jpeg_vs_jpeg",
        "pipeline/cache_vs_memmap",
        "pipeline/cache_vs_jpeg",
    ]


def test_synthetic_jpegs_have_one_folder_per_class(jpegs: Path) -> None:
    files = sorted(jpegs.rglob("*.jpg"))
    assert len(files) == 30
    assert len({file.parent for file in files}) == 3
    with Image.open(files[0]) as image:
        assert (image.format, image.size) == ("JPEG", (32, 32))


@pytest.mark.parametrize("cache", [False, True])
def test_the_pipeline_reads_the_same_pixels_as_pillow(jpegs: Path, cache: bool) -> None:
    workload = PipelineWorkload(None, images=jpegs, image_size=32, batch_size=5, cache=cache)
    files = sorted(jpegs.rglob("*.jpg"))[: len(workload.outputs())]
    expected = np.stack([np.array(Image.open(file)) for file in files])
    np.testing.assert_array_equal(workload.outputs(), expected)
    shared = workload.shared_data()
    assert shared["batch_size"] == 5
    if cache:
        np.testing.assert_array_equal(np.load(shared["memory_map"])[: len(expected)], expected)
    else:
        assert shared["files"][: len(files)] == [str(file) for file in files]
    assert workload.measure(0.05) > 0


def test_images_of_several_sizes_raise(tmp_path: Path) -> None:
    folder = tmp_path / "images"
    comparisons.write_jpegs(folder, count=30, size=32)
    for file in list(folder.rglob("*.jpg"))[::2]:
        Image.new("RGB", (40, 32)).save(file)
    with pytest.raises(DataError, match="one size"):
        PipelineWorkload(None, images=folder, image_size=32, batch_size=15, cache=False)


def test_a_given_folder_is_read_and_not_changed(jpegs: Path) -> None:
    before = sorted(jpegs.parent.rglob("*"))
    with comparisons.pipeline_images(jpegs) as images:
        workload = PipelineWorkload(None, images=images, image_size=32, batch_size=5, cache=True)
        assert len(workload.outputs()) > 0
    assert not images.exists()
    assert [path for path in sorted(jpegs.parent.rglob("*")) if "-cache" not in str(path)] == [
        path for path in before if "-cache" not in str(path)
    ]


def test_the_mlp_and_the_scalar_engine_match_report_a() -> None:
    ours = ScannedMlpWorkload(None)
    theirs = ScalarEngineWorkload(ours.shared_data())
    outputs = ours.outputs(), theirs.outputs()
    printed = reported.document("mlp_tanh")["micrograd"]
    updated = [each["value"] for each in printed["updated_parameters"]]
    for output, tolerance in zip(outputs, (1e-6, 1e-7), strict=True):  # from weights in float32
        np.testing.assert_allclose(output, [*printed["predictions"], *updated], rtol=0, atol=tolerance)
    check_outputs_match("train/mlp_tanh/4", "the scalar engine", *outputs)
    assert ours.measure(0.01) > 0
    assert theirs.measure(0.01) > 0
