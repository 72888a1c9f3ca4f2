"""One device, eight devices and two processes give the same training steps."""

import importlib.util
import json
import mmap
import os
import socket
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnets.config import default_config
from jaxnets.errors import ConfigError, MachineError
from jaxnets.experiment.resolve import check_divisible
from jaxnets.runtime import xla
from jaxnets.training.devices import Devices, initialize_distributed
from jaxnets.training.step import all_reduce_sum

WORKER = str(Path(__file__).with_name("parallel_worker.py"))
COUNT_WORKER = str(Path(__file__).with_name("count_worker.py"))
COLLECTIVE_WORKER = str(Path(__file__).with_name("together_worker.py"))


def _start(devices: int, *arguments: str, worker: str = WORKER) -> "subprocess.Popen[str]":
    flags = f"--xla_force_host_platform_device_count={devices} {os.environ['XLA_FLAGS']}"
    environment = {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    xla.set_safe_flags(environment)  # like scripts
    return subprocess.Popen(
        [sys.executable, worker, *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def _train_in_a_process(
    out: Path, devices: int, dtype: str, *, sync: str = "sync", stages: int = 4
) -> dict[str, np.ndarray]:
    with _start(devices, str(out), dtype, sync, str(stages)) as process:
        output, _ = process.communicate(timeout=200)
    assert process.returncode == 0, output
    return dict(np.load(out))


def _load_worker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("parallel_worker", WORKER)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _largest_difference(first: dict, second: dict) -> float:
    """Returns the largest relative L2 difference of any array."""
    assert first.keys() == second.keys()
    return max(
        float(np.linalg.norm(first[k] - second[k]) / (np.linalg.norm(second[k]) + 1e-300)) for k in first
    )


def test_a_step_gets_its_arguments_on_the_device() -> None:
    """The suite runs every compiled step under a transfer guard (tests/conftest.py)."""
    devices = Devices.all()
    step = devices.compile_step(lambda state, batch: state + batch["weight"].sum(), donate=False)
    state, batch = devices.replicate(np.float32(1)), {"weight": np.ones(4, np.float32)}
    assert step(state, devices.shard_batch(batch)) == 5
    for arguments in ((np.float32(1), devices.shard_batch(batch)), (state, batch)):
        with pytest.raises(Exception, match="Disallowed host-to-device transfer"):
            step(*arguments)


@pytest.mark.parametrize("stages", [1, pytest.param(4, marks=pytest.mark.slow)])
def test_eight_devices_match_one(stages: int, tmp_path: Path) -> None:
    one = _train_in_a_process(tmp_path / "one.npz", 1, "float64", stages=stages)
    eight = _train_in_a_process(tmp_path / "eight.npz", 8, "float64", stages=stages)
    assert _largest_difference(eight, one) < 1e-9
    assert one["examples"] == sum(index % 5 != 0 for index in range(32, 48))  # each counted once


@pytest.mark.slow
def test_two_processes_match_one(tmp_path: Path) -> None:
    one = _train_in_a_process(tmp_path / "one.npz", 1, "float64")
    two = _train_in_two_processes(tmp_path / "two.npz", 4)
    assert _largest_difference(two, one) < 1e-9


def _train_in_two_processes(out: Path, stages: int) -> dict[str, np.ndarray]:
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    shared = (str(out), "float64", "sync", str(stages), f"localhost:{port}", "2")
    processes = [_start(2, *shared, str(number)) for number in range(2)]
    outputs = [process.communicate(timeout=200)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    return dict(np.load(out))


@pytest.mark.slow
def test_float32_differs_by_rounding_only(tmp_path: Path) -> None:
    one = _train_in_a_process(tmp_path / "one.npz", 1, "float32")
    eight = _train_in_a_process(tmp_path / "eight.npz", 8, "float32")
    difference = _largest_difference(eight, one)
    print(f"largest relative difference after three float32 steps: {difference:.2e}")
    assert 0 < difference < 0.05


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_per_device_batch_norm_averages_running_statistics(tmp_path: Path) -> None:
    """With two images per device, loss and statistics are means over eight batches of two."""
    eight = _train_in_a_process(tmp_path / "eight.npz", 8, "float64", sync="per_device")
    worker = _load_worker()
    state, step, _ = worker.build(worker.make_config("float64", "per_device", 4), None)
    batch, step = worker.batches()[0], jax.jit(step)
    losses, statistics = [], []
    for start in range(0, 16, 2):
        after, metrics = step(state, {k: v[start : start + 2] for k, v in batch.items()})
        losses.append(float(metrics["loss"] / metrics["weight_sum"]))
        statistics.append(worker.flat(after))
    np.testing.assert_allclose(eight["losses"][0], np.mean(losses), rtol=1e-12)
    names = [name for name in statistics[0] if name.startswith("batch_stats/")]
    assert names
    for name in names:
        mean = np.mean([each[name] for each in statistics], axis=0)
        np.testing.assert_allclose(eight[f"first/{name}"], mean, rtol=1e-9, atol=1e-13)


def test_collectives_of_a_compiled_step() -> None:
    """One all-reduce a step, and one collective per synchronised batch norm in each pass.

    XLA may merge two that do not depend on each other.
    """
    with _start(2, worker=COUNT_WORKER) as process:
        output, _ = process.communicate(timeout=200)
    assert process.returncode == 0, output
    found = json.loads(output.splitlines()[-1])
    assert found["per_device"] == [["all-reduce", found["reduced"]]]
    norms = found["norms"]
    forward = [size for name, size in found["sync"] if name == "all-gather"]
    backward = [size for name, size in found["sync"] if name == "all-reduce"]
    assert len(forward) + len(backward) == len(found["sync"])
    assert norms - 1 <= len(forward) <= norms
    assert norms <= len(backward) <= norms + 1
    assert max(backward) == found["reduced"]


def test_all_reduce_sum_preserves_structure_and_types() -> None:
    """On an axis of 3, with two dtypes."""
    tree = {"a": np.arange(12.0, dtype=np.float32).reshape(3, 2, 2), "b": [np.arange(3), np.zeros((3, 0))]}

    def reduce(tree):
        return all_reduce_sum(tree, "devices")

    summed = jax.vmap(reduce, axis_name="devices", out_axes=None)(tree)
    expected = jax.tree.map(lambda x: jnp.asarray(x).sum(axis=0), tree)
    chex.assert_trees_all_equal(summed, expected)
    chex.assert_trees_all_equal_dtypes(summed, expected)
    traced = jax.make_jaxpr(reduce, axis_env=[("devices", 3)])(tree)
    assert [each.primitive.name for each in traced.eqns].count("psum") == 2


def test_batch_size_not_divisible_by_devices_raises() -> None:
    devices = Devices(count=8, local_count=8, process_index=0, process_count=1)
    config = default_config()
    config.train.batch_size = 12
    message = "a batch of 12 is not divisible by 8 devices: change --config.train.batch_size"
    with pytest.raises(ConfigError, match=message):
        check_divisible(config, 24, devices)


def test_missing_coordinator_raises() -> None:
    with pytest.raises(MachineError, match="--coordinator=HOST:PORT"):
        initialize_distributed(None, None, None)


def test_collective_section_fails_in_both_processes() -> None:
    """With two real processes."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    processes = [
        subprocess.Popen(
            [sys.executable, COLLECTIVE_WORKER, address, str(number)],
            env={**os.environ, "JAX_PLATFORMS": "cpu"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(2)
    ]
    outputs = [process.communicate(timeout=100) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    stopped = "MachineError: another process failed (see its log): fix that and restart all processes"
    for number, (out, _) in enumerate(outputs):
        lines = [line for line in out.splitlines() if not line.startswith("[Gloo]")]
        errors = ["ConfigError: mine" if number == failing else stopped for failing in (1, 0)]
        assert lines == ["both continue", *errors]


@pytest.mark.parametrize("other_process", [None, 3])
def test_collective_section_reports_failures_to_all_processes(
    other_process: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    devices, done = Devices(2, 1, 1, 2), []
    monkeypatch.setattr(Devices, "all_reduce_max", lambda self, number: number or other_process)
    with pytest.raises(ConfigError, match="mine"), devices.collective_section():
        raise ConfigError("mine")
    reported: list[int | None] = []
    monkeypatch.setattr(
        Devices, "all_reduce_max", lambda self, number: reported.append(number) or other_process
    )
    with pytest.raises(OSError, match="no room"), devices.collective_section():
        raise OSError("no room")
    assert reported == [1]  # other exceptions are reported too
    monkeypatch.setattr(Devices, "all_reduce_max", lambda self, number: number or other_process)
    if other_process is not None:
        with pytest.raises(MachineError, match="another process failed"), devices.collective_section():
            done.append("the section runs to its end")
        assert done
    else:
        with devices.collective_section():
            done.append("nobody failed")
        assert done


def test_large_steps_run_one_at_a_time_and_return_freed_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def step(state: jax.Array, batch: dict[str, jax.Array]) -> tuple[jax.Array, jax.Array]:
        return state + batch["x"], (state + batch["x"]).sum()

    all_devices, returned, resident = Devices.all(), [], [1000]
    monkeypatch.setattr(xla, "return_freed_memory", lambda: returned.append(resident[0]))
    monkeypatch.setattr(xla, "resident_memory", lambda: resident[0])
    batch = all_devices.shard_batch({"x": np.ones(4, np.float32)})
    state, expected = all_devices.replicate(np.zeros(4, np.float32)), iter(range(4, 1000, 4))
    small = all_devices.compile_step(step, donate=True)
    small.compile(state, batch)
    monkeypatch.setattr("jaxnets.training.devices.LARGE_STEP", 0)
    large = all_devices.compile_step(step, donate=True)
    large.compile(state, batch)
    two, three = (1000 + number * large.memory() for number in (1, 2))  # more blocks of temporaries
    for resident[0], count in (
        *[(1000, number) for number in (1, 2, 3, 3, 3)],
        *[(two, 3), (three, 4), (1000, 4), (three, 5)],
    ):
        state, total = large(state, batch)
        assert float(total) == next(expected)
        assert len(returned) == count
    assert returned == [1000, 1000, 1000, three, three]
    small(state, batch)
    assert len(returned) == 5


@pytest.mark.skipif(not xla.STATM.is_file(), reason="no /proc here")
def test_resident_memory_grows_by_what_is_written_and_not_by_what_is_read(tmp_path: Path) -> None:
    size = 20 << 20
    content = b"1" * size
    new = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS  # never part of what malloc holds back
    with mmap.mmap(-1, size, flags=new) as pages:
        before = xla.resident_memory()
        pages.write(content)
        assert size * 0.9 < xla.resident_memory() - before < size * 1.5
    (tmp_path / "images.npy").write_bytes(content)  # as the cache of a data set
    cached = np.memmap(tmp_path / "images.npy", np.uint8, "r")
    before = xla.resident_memory()
    assert cached.max() == ord("1")
    assert xla.resident_memory() - before < size * 0.1
