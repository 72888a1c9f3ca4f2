"""Forms by shape, growth, and a card's campaign, at the smallest sizes."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import gpu, growth, layer_forms, ops_forms, step_profile, suite, suites
from benchmarks.jax_workloads import product_rate
from benchmarks.measure import Row, summary
from benchmarks.rows import ROWS
from jaxnets import models
from jaxnets.errors import ConfigError, MachineError
from jaxnets.experiment import environment
from jaxnets.ops import cpu
from jaxnets.runtime.console import Reporter
from studies.compare import REPORTED_ELSEWHERE
from studies.pages import growth_page, performance_page


class _Here:
    """A worker that is no process of its own."""

    def __init__(self, make: Any, shared: Any, **options: Any):
        del options
        self._side = make(shared)

    def call(self, method: str, *arguments: Any) -> Any:
        return 2**30 if method == "peak_memory" else getattr(self._side, method)(*arguments)

    def __enter__(self) -> "_Here":
        return self

    def __exit__(self, *_: object) -> None:
        pass


def test_every_pass_has_a_row_with_what_was_taken() -> None:
    shape = ops_forms.Shape(10, 2, 3, 3, stride=2, padding=1, batch=2)
    rows = list(ops_forms.measure(shape, rounds=2, seconds=1e-3, kernels=None, start=_Here))
    assert [row["name"].split("/")[-1] for row in rows] == list(ops_forms.PASSES)
    # 5 pixels a side, and 3 channels.
    assert [row["chosen"] for row in rows] == [ops_forms.COLUMNS, ops_forms.COLUMNS, ops_forms.LAX]
    for row in rows:
        assert row["ours"] == np.median(row["per_second"][row["chosen"]])
        assert len(row["per_second"][ops_forms.LAX]) == 2
        assert min(row["per_second"][ops_forms.PRODUCT]) > 0
    assert performance_page.sections({"here": rows})["ops"].count("\n") == 6


def test_a_window_that_is_no_square_has_its_own_row() -> None:
    shape = ops_forms.Shape(10, 2, 3, (1, 7), padding=(0, 3), batch=2)
    assert shape.name == "10px/2-3/1x7/1/2"
    assert ops_forms.Shape(10, 2, 3, 7).name == "10px/2-3/7x7/1/16"
    side = ops_forms.Forms(None, shape=shape)
    assert side.forms().keys() == set(ops_forms.PASSES)  # they agree
    assert side._operations == 2 * 7 * 2 * 3 * 2 * 10 * 10
    names = [each.name for each in ops_forms.SHAPES]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    "layer",
    [layer_forms.MaxPool(9, 2, 3, padding=1, batch=2), layer_forms.BatchNorm(4, 3, batch=2)],
)
def test_pooling_and_batch_norm_have_a_row(layer: layer_forms.Layer) -> None:
    (row,) = layer_forms.measure(layer, rounds=2, seconds=1e-3, kernels=None, start=_Here)
    assert row["name"] == layer.name
    assert row["ours"] == np.median(row["per_second"][layer_forms.WRITTEN])
    assert row["theirs"] == np.median(row["per_second"][ops_forms.LAX])
    made = performance_page.sections({"here": [row]})
    assert layer.name.removeprefix("layers/") in made["layers"]
    assert made["ops"] == performance_page.NOT_MEASURED


def test_a_step_is_profiled_by_kind() -> None:
    step = step_profile.Step("lenet5", 28, 16)
    (row,) = step_profile.measure(step, rounds=2, seconds=1e-3, kernels=None, start=_Here)
    assert row["name"] == f"{step.name}/jax"
    assert set(row["parts"]) == set(performance_page.PARTS)
    assert sum(row["parts"].values()) > 0
    # LeNet-5's 281,640 multiply-adds, forward and twice backward.
    assert row["operations"] == pytest.approx(16 * 3 * 2 * 281_640, rel=0.05)
    assert (
        "training, LeNet-5, 28 px, batch 16, in JAX" in performance_page.sections({"here": [row]})["profile"]
    )


def test_inference_is_profiled_by_kind() -> None:
    step = step_profile.Step("lenet5", 28, 16, trains=False)
    (row,) = step_profile.measure(step, rounds=2, seconds=1e-3, kernels=None, start=_Here)
    assert row["name"] == "profile/inference/lenet5/28/16/jax"
    assert row["parts"][step_profile.FORWARD] > 0
    assert row["parts"][step_profile.BACKWARD] == 0
    assert row["operations"] == pytest.approx(16 * 2 * 281_640, rel=0.05)


def test_the_kind_of_an_instruction_is_that_of_its_last_operation() -> None:
    def instruction(name: str, path: str, more: str = "") -> str:
        return f'  {name} = f32[2]{{0}} an_operation(%x){more}, metadata={{op_name="jit(f)/{path}"}}'

    of_kernels = ', custom_call_target="jaxnets_0123456789ab_kernel_gradient"'
    lines = [
        instruction("%ffi_call.1", "ffi_call", of_kernels),
        instruction("%dot.7", "jvp(Net)/dense/dot_general"),
        instruction("ROOT %ynn_fusion.2", "transpose(jvp(Net))/conv/conv_general_dilated"),
        instruction("%fusion.9", "jvp(Net)/max"),
        instruction("%concatenate.1", "jvp(Net)/concatenate"),
    ]
    program = "\n".join(lines)
    assert step_profile.kinds_of(program) == {
        "ffi_call.1": step_profile.BACKWARD,
        "dot.7": step_profile.FORWARD,
        "ynn_fusion.2": step_profile.BACKWARD,
        "fusion.9": step_profile.REST,
        "concatenate.1": step_profile.JOINING,
    }


def test_what_is_taken_follows_the_thresholds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "MIN_SIZE_FOR_LAX_FORWARD", 5)
    monkeypatch.setattr(cpu, "MIN_SIZE_FOR_COLUMNS_KERNEL_GRADIENT", 3)
    shape = ops_forms.Shape(10, 2, 3, 3, stride=2, padding=1, batch=2)
    assert ops_forms.Forms(None, shape=shape).chosen() == {
        "forward": ops_forms.LAX,
        "input_gradient": ops_forms.COLUMNS,
        "kernel_gradient": ops_forms.COLUMNS,
    }


def test_growth_is_measured_and_drawn(tmp_path: Path) -> None:
    point = growth.Point("lenet5", 28, 16)
    row = growth.measure(point, rounds=2, seconds=1e-3, kernels=None, start=_Here)
    assert row["name"] == point.name == growth.POINTS[0].name
    steps = [16 / speed for speed in row["images_per_second"]["ours"]]
    assert row["seconds_a_step"] == pytest.approx(np.median(steps))
    growth_page.draw(tmp_path / "growth.png", growth_page.drawn_data([row]))
    assert (tmp_path / "growth.png").read_bytes().startswith(b"\x89PNG")


def test_the_names_of_growth_are_its_own() -> None:
    names = [point.name for point in growth.POINTS]
    assert len(set(names)) == len(names)
    assert {(p.processes, p.devices) for p in growth.POINTS} == {(1, 1), (1, 2), (2, 1)}


@pytest.mark.slow
def test_devices_and_processes_take_the_same_steps() -> None:
    for options in ({"devices": 2}, {"processes": 2}):
        point = growth.Point("lenet5", 28, 16, **options)
        row = growth.measure(point, rounds=1, seconds=0.1, kernels=None)
        assert row["ours"] > 0


def test_a_campaign_has_every_network_and_goes_on(tmp_path: Path) -> None:
    images = [name for name, entry in models.REGISTRY.items() if entry.kind == "image"]
    assert len(gpu.rows()) == 2 * len(images) * len(gpu.BATCHES)
    done: list[str] = []

    def row(name: str) -> Any:
        def measured() -> list[dict[str, Any]]:
            done.append(name)
            return [{**summary(name, {"ours": [1.0]}), "title": name, "unit": "images"}]

        return measured

    def both_passes_of_b() -> list[dict[str, Any]]:
        (entry,) = row("b")()
        return [{**entry, "name": "b/forward"}, {**entry, "name": "b/backward"}]

    path, rows = tmp_path / "bench.json", {name: row(name) for name in "abc"}
    rows["b"] = both_passes_of_b
    arguments = (path, "one card", {}, Reporter(quiet=True))
    suites.measure_all({"a": rows["a"]}, *arguments, message=suite.as_text)
    suites.measure_all(rows, *arguments, message=suite.as_text, budget=0.0)
    assert done == ["a"]
    suites.measure_all(rows, *arguments, message=suite.as_text, budget=10.0)
    assert done == ["a", "b", "c"]
    suites.measure_all(rows, *arguments, message=suite.as_text, budget=10.0)
    assert done == ["a", "b", "c"]
    found = json.loads(path.read_text())["rows"]
    assert [row["name"] for row in found] == ["a", "b/forward", "b/backward", "c"]
    assert all(row["code"] == environment.code_version() for row in found)


def test_rows_of_other_code_are_measured_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    done: list[str] = []

    def measured() -> list[dict[str, Any]]:
        done.append("a")
        return [{**summary("a", {"ours": [1.0]}), "title": "a", "unit": "images"}]

    for version in ("one", "one", "other"):
        monkeypatch.setattr(environment, "code_version", lambda version=version: version)
        suites.measure_all(
            {"a": measured},
            tmp_path / "b.json",
            "m",
            {},
            Reporter(),
            message=suite.as_text,
            budget=9.0,
        )
    assert done == ["a", "a"]
    options = {"message": suite.as_text, "budget": 9.0, "kernels": tmp_path / "kernels.so"}
    suites.measure_all({"a": measured}, tmp_path / "b.json", "m", {}, Reporter(), **options)
    assert done == ["a", "a", "a"]
    assert "other code or kernels gave a: measured again" in capsys.readouterr().out


def test_docs_have_the_rows_of_campaigns_and_readme_those_of_a_suite() -> None:
    for rows in suite.ON_CPUS.values():
        assert all(name.startswith(REPORTED_ELSEWHERE) for name in rows(5, 1.0, None))
    for rows in ROWS.values():
        assert not any(name.startswith(REPORTED_ELSEWHERE) for name in rows)


def test_where_there_is_no_card_that_is_said() -> None:
    with pytest.raises(MachineError, match="JAX sees no GPU here"):
        suites.require_gpu("cpu", dry=False)
    suites.require_gpu("cpu", dry=True)
    suites.require_gpu("gpu", dry=False)
    with pytest.raises(ConfigError, match="no row 'x' in --suite=gpu"):
        suites.choose({}, ("x",), suites.GPU)


def test_a_product_has_a_speed() -> None:
    assert product_rate("bfloat16", side=64, seconds=1e-3) > 0


@pytest.mark.slow
@pytest.mark.oracle
def test_a_dry_campaign_measures_a_network(tmp_path: Path) -> None:
    names = tuple(name for name in gpu.rows(dry=True) if "/lenet5/" in name)
    options = suite.Options(rows=names, rounds=1, seconds=0.01, output=tmp_path / "dry.json", dry_run=True)
    rows = json.loads(suite.run(suites.GPU, options).read_text())["rows"]
    assert [row["name"] for row in rows] == list(names)
    for row in rows:
        assert row["opponent"] == gpu.OPPONENT
        assert 0 < row["mfu"] < 1
        assert row["ratio"] > 0


def test_a_row_of_a_card_is_a_row() -> None:
    for make in gpu.rows(dry=True).values():
        assert isinstance(make(2), Row)
