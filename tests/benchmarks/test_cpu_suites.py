"""The ops, growth, profile and gpu suites at small sizes."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import conv_implementations, gpu, growth, layer_implementations, step_profile, suite
from benchmarks.comparisons import SUITES, BenchContext
from benchmarks.jax_model import make_config
from benchmarks.jax_workloads import forward_flops, matmul_rate
from benchmarks.measure import Comparison
from jaxnets import models
from jaxnets.errors import ConfigError, MachineError
from jaxnets.ops import cpu_kernels, cpu_passes
from studies.pages import growth_page, performance_page
from studies.pages.bench_table import PERFORMANCE_PAGE_PREFIXES


class FakeWorker:
    """A worker in this process."""

    def __init__(self, make: Any, shared: Any, **options: Any):
        del options
        self._workload = make(shared)

    def call(self, method: str, *arguments: Any) -> Any:
        return 2**30 if method == "peak_memory" else getattr(self._workload, method)(*arguments)

    def __enter__(self) -> "FakeWorker":
        return self

    def __exit__(self, *_: object) -> None:
        pass


def test_every_pass_has_a_row_with_the_chosen_implementation() -> None:
    shape = conv_implementations.Shape(10, 2, 3, 3, stride=2, padding=1, batch=2)
    rows = list(
        conv_implementations.measure(shape, rounds=2, seconds=1e-3, kernels=None, worker_class=FakeWorker)
    )
    assert [row["name"].split("/")[-1] for row in rows] == list(conv_implementations.PASSES)
    # 5 x 5 pixels and 3 channels.
    assert [row["chosen"] for row in rows] == [
        conv_implementations.COLUMNS,
        conv_implementations.COLUMNS,
        conv_implementations.LAX,
    ]
    for row in rows:
        assert row["ours"] == np.median(row["per_second"][row["chosen"]])
        assert len(row["per_second"][conv_implementations.LAX]) == 2
        assert min(row["per_second"][conv_implementations.PRODUCT]) > 0
    assert performance_page.sections({"here": rows})["ops"].count("\n") == 6


def test_a_rectangular_window_has_its_own_name() -> None:
    shape = conv_implementations.Shape(10, 2, 3, (1, 7), padding=(0, 3), batch=2)
    assert shape.name == "10px/2-3/1x7/1/2"
    assert conv_implementations.Shape(10, 2, 3, 7).name == "10px/2-3/7x7/1/16"
    workload = conv_implementations.ConvImplementations(None, shape=shape)
    assert workload.implementations().keys() == set(conv_implementations.PASSES)
    assert workload._flops == 2 * 7 * 2 * 3 * 2 * 10 * 10
    names = [each.name for each in conv_implementations.SHAPES]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    "layer",
    [
        layer_implementations.MaxPool(9, 2, 3, padding=1, batch=2),
        layer_implementations.BatchNorm(4, 3, batch=2),
    ],
)
def test_pooling_and_batch_norm_have_a_row(layer: layer_implementations.Layer) -> None:
    (row,) = layer_implementations.measure(
        layer, rounds=2, seconds=1e-3, kernels=None, worker_class=FakeWorker
    )
    assert row["name"] == layer.name
    assert row["ours"] == np.median(row["per_second"][layer_implementations.CUSTOM_VJP])
    assert row["theirs"] == np.median(row["per_second"][conv_implementations.LAX])
    made = performance_page.sections({"here": [row]})
    assert layer.name.removeprefix("layers/") in made["layers"]
    assert made["ops"] == performance_page.NOT_MEASURED


def test_a_step_is_profiled_by_kind() -> None:
    step = step_profile.Step("lenet5", 28, 16)
    (row,) = step_profile.measure(step, rounds=2, seconds=1e-3, kernels=None, worker_class=FakeWorker)
    assert row["name"] == f"{step.name}/jax"
    assert set(row["parts"]) == set(performance_page.PARTS)
    assert sum(row["parts"].values()) > 0
    # LeNet-5's 281,640 multiply-adds, forward and twice backward.
    assert row["operations"] == pytest.approx(16 * 3 * 2 * 281_640, rel=0.05)
    assert (
        "training, LeNet-5, 28 px, batch 16, in JAX" in performance_page.sections({"here": [row]})["profile"]
    )


def test_operations_do_not_depend_on_the_implementation() -> None:
    config = make_config("resnet50", 32, 16).model
    config.width, config.stage_sizes = 8, (1, 1, 1, 1)
    network = models.create(config)
    images = np.zeros((1, 32, 32, 3), np.float32)
    counts = {each: forward_flops(network.clone(implementation=each), images) for each in ("xla", "by_shape")}
    assert counts["xla"] == counts["by_shape"] > 0


def test_inference_is_profiled_by_kind() -> None:
    step = step_profile.Step("lenet5", 28, 16, trains=False)
    (row,) = step_profile.measure(step, rounds=2, seconds=1e-3, kernels=None, worker_class=FakeWorker)
    assert row["name"] == "profile/inference/lenet5/28/16/jax"
    assert row["parts"][step_profile.FORWARD] > 0
    assert row["parts"][step_profile.BACKWARD] == 0
    assert row["operations"] == pytest.approx(16 * 2 * 281_640, rel=0.05)


@pytest.mark.parametrize("function", cpu_kernels.FUNCTIONS)
def test_each_kernel_has_a_kind(function: str) -> None:
    call = (
        f'  %ffi_call.1 = f32[2]{{0}} custom-call(%x), custom_call_target="jaxnets_0123456789ab_{function}"'
    )
    assert step_profile.kinds_by_instruction(call)["ffi_call.1"] in performance_page.PARTS


def test_the_kind_of_an_instruction_is_that_of_its_last_operation() -> None:
    def instruction(name: str, path: str, more: str = "") -> str:
        return f'  {name} = f32[2]{{0}} an_operation(%x){more}, metadata={{op_name="jit(f)/{path}"}}'

    custom_call = ', custom_call_target="jaxnets_0123456789ab_kernel_gradient"'
    lines = [
        instruction("%ffi_call.1", "ffi_call", custom_call),
        instruction("%dot.7", "jvp(Net)/dense/dot_general"),
        instruction("ROOT %ynn_fusion.2", "transpose(jvp(Net))/conv/conv_general_dilated"),
        instruction("%fusion.9", "jvp(Net)/max"),
        instruction("%concatenate.1", "jvp(Net)/concatenate"),
    ]
    program = "\n".join(lines)
    assert step_profile.kinds_by_instruction(program) == {
        "ffi_call.1": step_profile.BACKWARD,
        "dot.7": step_profile.FORWARD,
        "ynn_fusion.2": step_profile.BACKWARD,
        "fusion.9": step_profile.OTHER,
        "concatenate.1": step_profile.CONCATENATION,
    }


def test_the_choice_follows_the_thresholds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu_passes, "MIN_SIZE_FOR_LAX_FORWARD", 5)
    monkeypatch.setattr(cpu_passes, "MIN_CHANNELS_FOR_TAPS_KERNEL_GRADIENT", 2)
    shape = conv_implementations.Shape(10, 2, 3, 3, stride=2, padding=1, batch=2)
    assert conv_implementations.ConvImplementations(None, shape=shape).chosen() == {
        "forward": conv_implementations.LAX,
        "input_gradient": conv_implementations.COLUMNS,
        "kernel_gradient": conv_implementations.TAPS,
    }


def test_growth_is_measured_and_drawn(tmp_path: Path) -> None:
    point = growth.Point("lenet5", 28, 16)
    (row,) = growth.measure(point, rounds=2, seconds=1e-3, kernels=None, worker_class=FakeWorker)
    assert row["name"] == point.name == growth.POINTS[0].name
    steps = [16 / speed for speed in row["images_per_second"]["ours"]]
    assert row["seconds_a_step"] == pytest.approx(np.median(steps))
    growth_page.draw(tmp_path / "growth.png", growth_page.drawn_data([row]))
    assert (tmp_path / "growth.png").read_bytes().startswith(b"\x89PNG")


def test_growth_rows_have_unique_names() -> None:
    names = [point.name for point in growth.POINTS]
    assert len(set(names)) == len(names)
    assert {(p.processes, p.devices) for p in growth.POINTS} == {(1, 1), (1, 2), (2, 1)}


@pytest.mark.slow
def test_several_devices_and_processes() -> None:
    for options in ({"devices": 2}, {"processes": 2}):
        point = growth.Point("lenet5", 28, 16, **options)
        (row,) = growth.measure(point, rounds=1, seconds=0.1, kernels=None)
        assert row["ours"] > 0


def test_every_row_is_reported_on_one_page() -> None:
    for name in (suite.OPS, suite.GROWTH, suite.PROFILE, suite.PROCESSES):
        assert all(
            row.startswith(PERFORMANCE_PAGE_PREFIXES) for row in suite.cpu_suite(name, suite.Options())
        )
    for rows in SUITES.values():
        assert not any(name.startswith(PERFORMANCE_PAGE_PREFIXES) for name in rows)


def test_a_missing_gpu_raises() -> None:
    with pytest.raises(MachineError, match="JAX finds no GPU"):
        suite.check_gpu("cpu", dry_run=False)
    suite.check_gpu("cpu", dry_run=True)
    suite.check_gpu("gpu", dry_run=False)
    with pytest.raises(ConfigError, match="no row 'x' in --suite=gpu"):
        suite.select({}, ("x",), suite.GPU)


def test_matmul_rate_is_positive() -> None:
    assert matmul_rate("bfloat16", size=64, seconds=1e-3) > 0


@pytest.mark.slow
@pytest.mark.oracle
def test_a_dry_run_measures_a_network(tmp_path: Path) -> None:
    names = tuple(name for name in gpu.comparisons(dry_run=True) if "/lenet5/" in name)
    options = suite.Options(rows=names, rounds=1, seconds=0.01, output=tmp_path / "dry.json", dry_run=True)
    rows = json.loads(suite.run(suite.GPU, options).read_text())["rows"]
    assert [row["name"] for row in rows] == list(names)
    for row in rows:
        assert row["baseline"] == gpu.BASELINE
        assert 0 < row["mfu"] < 1
        assert row["ratio"] > 0


def test_every_image_network_has_gpu_rows() -> None:
    images = [name for name, entry in models.REGISTRY.items() if entry.kind == "image"]
    assert len(gpu.comparisons()) == 2 * len(images) * len(gpu.BATCHES)
    for name, make in gpu.comparisons(dry_run=True).items():
        comparison = make(name, BenchContext(threads=2))
        assert isinstance(comparison, Comparison)
        assert comparison.name == name
