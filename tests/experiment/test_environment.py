"""Implementation names and determinism fingerprints."""

import platform
import subprocess
import sys
from pathlib import Path

import pytest

from jaxnets import config as config_lib
from jaxnets import models
from jaxnets.experiment import environment
from jaxnets.ops.cpu_kernels import Kernels
from jaxnets.runtime import xla

BY_SHAPE, HALF = "cpu: by shape", "cpu: XLA's convolutions, pooling by taps"


@pytest.mark.parametrize(
    ("overrides", "without", "message"),
    [
        ({}, BY_SHAPE, "cpu: C++ kernels, AVX2"),
        ({"dtype": "float64"}, BY_SHAPE, BY_SHAPE),
        ({"compute_dtype": "bfloat16"}, HALF, "cpu: C++ kernels, AVX2"),
        ({"dtype": "float64", "compute_dtype": "float32"}, BY_SHAPE, "cpu: C++ kernels, AVX2"),
        ({"implementation": "xla"}, "xla", "xla"),
    ],
)
def test_kernels_are_named_if_used(
    monkeypatch: pytest.MonkeyPatch, overrides: dict[str, str], without: str, message: str
) -> None:
    config = config_lib.default_config()
    config.model.name = "lenet5"
    config.model.update(overrides)
    assert environment.implementation(config) == without
    monkeypatch.setattr(environment, "in_use", lambda: Kernels("0123456789ab", "AVX2"))
    assert environment.implementation(config) == message
    determinism_fingerprint = environment.determinism_fingerprint(
        config=config, execution={"data_path": "memory"}
    )
    assert determinism_fingerprint["implementation"] == message
    # A rebuilt library may sum in another order.
    assert determinism_fingerprint.get("kernels") == ("0123456789ab" if "C++" in message else None)


def test_networks_of_vectors_do_not_use_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """They would wait for a build without need."""
    monkeypatch.setattr(environment, "in_use", lambda: Kernels("0123456789ab", "AVX2"))
    config = config_lib.default_config()
    config.model.name = "mlp"
    assert environment.implementation(config) == BY_SHAPE


@pytest.mark.parametrize(
    ("cpuinfo", "message"),
    [
        ("processor\t: 0\nmodel name\t: AMD EPYC\nflags\t\t: fpu avx avx2 fma\n", "AMD EPYC, AVX2"),
        ("model name\t: AMD EPYC\nflags\t: avx2 avx512f avx512vl\n", "AMD EPYC, AVX-512"),
        ("model name\t: Old\nflags\t: sse2\n", "Old"),
    ],
)
def test_hardware_names_the_simd_level(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cpuinfo: str, message: str
) -> None:
    path = tmp_path / "cpuinfo"
    path.write_text(cpuinfo)
    monkeypatch.setattr(xla, "CPUINFO", path)
    monkeypatch.setattr(xla, "cpu_threads", lambda: 2)
    assert xla.hardware() == f"2 cores of {message}"
    config = config_lib.default_config()
    config.model.name = "lenet5"
    determinism_fingerprint = environment.determinism_fingerprint(config=config, execution={})
    assert determinism_fingerprint["processor"] == message


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"brand_string": "Intel(R) Core(TM) i7", "leaf7_features": "RDWRFSGS AVX2"},
            "Intel(R) Core(TM) i7, AVX2",
        ),
        ({"brand_string": "Apple M4"}, "Apple M4"),
    ],
)
def test_the_processor_of_macos(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, values: dict[str, str], message: str
) -> None:
    """Its kernel answers `sysctl`; this test draws the answers."""

    def run(command: list[str], **options: object) -> "subprocess.CompletedProcess[str]":
        names = [name.removeprefix("machdep.cpu.") for name in command[2:]]
        found = "".join(f"{values[name]}\n" for name in names if name in values)
        return subprocess.CompletedProcess(command, 0 if found else 1, found)

    monkeypatch.setattr(xla, "CPUINFO", tmp_path / "missing")
    assert xla.processor() == (platform.processor() or platform.machine())
    elsewhere = xla.cache_conditions()
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(xla.subprocess, "run", run)
    assert xla.processor() == message
    assert xla.cache_conditions() != elsewhere


def test_the_fingerprint_changes_with_the_file_of_a_registered_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So a run is not resumed with another network of the same shapes."""
    monkeypatch.setattr(models.REGISTRY, "data", dict(models.REGISTRY.data))
    monkeypatch.setattr(models, "_FILES", {})
    file, config, found = tmp_path / "own.py", config_lib.default_config(), []
    config.model.name = "own"
    for comment in ("first", "second"):
        file.write_text(
            f"from jaxnets import models\nmodels.register('own', models.entry('lenet5'))  # {comment}\n"
        )
        config_lib.import_file(file)
        found.append(environment.determinism_fingerprint(config=config, execution={}))
    assert found[0]["network_file"] != found[1]["network_file"]
    config.model.name = "lenet5"
    assert "network_file" not in environment.determinism_fingerprint(config=config, execution={})
