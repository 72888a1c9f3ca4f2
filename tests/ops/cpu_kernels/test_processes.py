"""The kernels with several devices, several processes and different numbers of cores."""

import importlib.util
import os
import socket
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

WORKER = str(Path(__file__).with_name("worker.py"))


def _start(devices: int, *arguments: str) -> "subprocess.Popen[str]":
    flags = f"--xla_force_host_platform_device_count={devices} {os.environ['XLA_FLAGS']}"
    return subprocess.Popen(
        [sys.executable, "-W", "error", WORKER, *arguments],
        env={**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def _gradient(*processes: "subprocess.Popen[str]", out: Path) -> list[np.ndarray]:
    outputs = [process.communicate(timeout=200)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes), outputs
    return list(np.load(out).values())


@pytest.fixture(scope="module")
def expected() -> list[jax.Array]:
    """Returns the gradient without the kernels."""
    spec = importlib.util.spec_from_file_location("kernels_worker", WORKER)
    assert spec is not None
    assert spec.loader is not None
    worker = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(worker)
    weights, x = worker.inputs()
    return jax.jit(jax.grad(worker.loss))(weights, x)


def _check(ours: list[np.ndarray], expected: list[jax.Array]) -> None:
    for mine, other in zip(ours, expected, strict=True):
        assert np.abs(mine - other).max() <= 1e-5 * np.abs(other).max()


def test_eight_devices(built: Path, expected: list[jax.Array], tmp_path: Path) -> None:
    out = tmp_path / "eight.npz"
    _check(_gradient(_start(8, str(built), str(out)), out=out), expected)


@pytest.mark.slow
def test_two_processes(built: Path, expected: list[jax.Array], tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    out = tmp_path / "two.npz"
    arguments = (str(built), str(out), address, "2")
    processes = [_start(2, *arguments, str(number)) for number in range(2)]
    _check(_gradient(*processes, out=out), expected)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="cores cannot be chosen here")
def test_one_core_and_all_cores_give_identical_results(built: Path, tmp_path: Path) -> None:
    cores, results = os.sched_getaffinity(0), []
    try:
        for chosen in ({min(cores)}, cores):
            os.sched_setaffinity(0, chosen)
            out = tmp_path / f"{len(chosen)}.npz"
            results.append(_gradient(_start(1, str(built), str(out)), out=out))
    finally:
        os.sched_setaffinity(0, cores)
    for one, many in zip(*results, strict=True):
        np.testing.assert_array_equal(one, many)
