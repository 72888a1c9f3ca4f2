"""The comparisons of each suite, and the jaxnets workloads of pipelines and the MLP."""

import dataclasses
import functools
import importlib.util
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from benchmarks import baselines, comparisons, conditions, jax_model
from benchmarks.baselines import TUNED_ALLOCATOR
from benchmarks.jax_workloads import InferenceWorkload, PipelineWorkload, TrainingWorkload
from benchmarks.measure import check_outputs_match
from benchmarks.mlp_workloads import ScalarEngineWorkload, ScannedMlpWorkload
from jaxnets import models, ops, reported
from jaxnets.errors import ConfigError, DataError, MachineError

CONTEXT = comparisons.BenchContext(threads=2, images=Path("images"), data_root=Path("data"))


@pytest.fixture(scope="module")
def jpegs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bench") / "images"
    comparisons.write_jpegs(folder, count=30, size=32)
    return folder


@pytest.mark.parametrize(
    ("suite", "name"), [(s, n) for s in comparisons.SUITES for n in comparisons.SUITES[s]]
)
def test_every_comparison_has_its_name_and_baselines(
    suite: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conditions, "has_bfloat16", lambda: True)
    comparison = comparisons.SUITES[suite][name](name, CONTEXT)
    assert comparison.name == name
    assert comparison.title
    if not comparison.needs_torch:
        return
    layouts = {"PyTorch, contiguous", "PyTorch, channels_last"}
    expected = {
        "train": {*layouts, "torch.compile"},
        "inference": {*layouts, "torch.compile", "OpenVINO", "ONNX Runtime"},
        "train/mlp_tanh": {"PyTorch", "PyTorch, fused SGD"},
        "pipeline": {"DataLoader, 0 workers", "DataLoader, 2 workers"},
        "startup": {"PyTorch, channels_last"},
        "end_to_end": {"PyTorch, the report's script"},
    }
    kind, network = name.split("/")[:2]
    names = {found.removesuffix(TUNED_ALLOCATOR) for found in comparison.baselines}
    without = {"ONNX Runtime"} if name.endswith("/bfloat16") else set()
    assert names == expected.get(f"{kind}/{network}", expected[kind]) - without
    workload = comparison.ours.func if isinstance(comparison.ours, functools.partial) else None
    assert (comparison.loss_tolerance is not None) == (workload is TrainingWorkload)
    assert (comparison.tolerance is not None) == (workload is InferenceWorkload)
    if name.endswith("/bfloat16"):
        assert comparison.ours.keywords["compute_dtype"] == comparison.dtype == "bfloat16"
        assert "compute_dtype" not in comparison.in_float32.keywords
        assert all(baseline.make.keywords["bfloat16"] for baseline in comparison.baselines.values())


def test_bfloat16_needs_a_processor_with_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(conditions, "CPUINFO", tmp_path / "cpuinfo")
    name = "inference/resnet50/224/16/bfloat16"
    for flags in ("avx2 avx512f", "avx512_bf16"):
        conditions.CPUINFO.write_text(f"flags : fpu {flags}\n")
        assert conditions.has_bfloat16() == (flags == "avx512_bf16")
        if not conditions.has_bfloat16():
            with pytest.raises(MachineError, match="neither AMX nor AVX512-BF16"):
                comparisons.SUITES["cpu"][name](name, CONTEXT)


def test_every_network_has_rows() -> None:
    names = set(comparisons.SUITES["cpu"])
    for network, entry in models.REGISTRY.items():
        kinds = {name.split("/")[0] for name in names if name.split("/")[1] == network}
        if entry.kind == "image" and network not in jax_model.WITHOUT_PYTORCH:
            assert {"train", "inference"} <= kinds
    for network in comparisons.LUNG_NETWORKS:
        smallest = 75 if network.startswith("inception") else 64
        assert {f"train/{network}/{size}/16" for size in (smallest, 128, 224)} < names
        assert {f"inference/{network}/{size}/16" for size in (128, 224)} < names
    assert {"train/resnet50/64/16/bfloat16", "inference/densenet121/224/16/bfloat16"} < names
    for name in names:
        _, network, size, *_ = (*name.split("/"), "224")
        if network in models.REGISTRY and size.isdigit():
            assert int(size) >= models.entry(network).smallest or models.entry(network).kind == "vector"


def test_the_baselines_can_be_selected(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    name = "inference/resnet50/128/16"
    context = dataclasses.replace(CONTEXT, baselines=("openvino",))
    assert list(comparisons.SUITES["cpu"][name](name, context).baselines) == ["OpenVINO"]
    baselines.check_kinds(baselines.KINDS)
    with pytest.raises(ConfigError, match="did you mean openvino"):
        baselines.check_kinds(("openvin",))
    monkeypatch.setenv("CXX", "no-such-compiler")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "openvino" else object())
    assert baselines.available(("compile", "eager", "onnxruntime", "openvino")) == ("eager", "onnxruntime")
    shown = capsys.readouterr().out
    assert "without compile: no C++ compiler no-such-compiler" in shown
    assert "without openvino: openvino not installed" in shown


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


class Normalization(nn.Module):
    """A network that is one batch normalization."""

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        return ops.BatchNorm(name="norm")(x, train=train)


def test_the_statistics_of_the_batch_are_those_of_numpy() -> None:
    x = np.random.default_rng(0).normal(3.0, 1e-3, (4, 5, 5, 2)).astype(np.float32)
    workload = object.__new__(InferenceWorkload)
    workload.float32_model, workload.inputs = Normalization(), lambda: jnp.asarray(x)
    workload._variables = workload.float32_model.init(jax.random.key(0), x, train=False)
    found = workload._with_statistics_of_batch()["batch_stats"]["norm"]
    np.testing.assert_allclose(found["mean"], x.mean((0, 1, 2)), rtol=1e-6)
    np.testing.assert_allclose(found["var"], x.var((0, 1, 2), ddof=1), rtol=1e-3)


@pytest.mark.slow
def test_the_logits_of_inception_v1_depend_on_the_image() -> None:
    outputs = InferenceWorkload(None, network="inception_v1", image_size=32, batch_size=4).outputs()
    assert np.ptp(outputs, axis=0).max() > 0.01 * np.abs(outputs).max()


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
