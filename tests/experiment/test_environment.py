"""What is said of the kernels, and what the bits of a run are said to depend on."""

from pathlib import Path

import pytest

from jaxnets import config as recipes
from jaxnets.experiment import environment
from jaxnets.ops.cpu_kernels.load import Kernels
from jaxnets.runtime import hardware

BY_SHAPE, HALF = "cpu: by shape", "cpu: XLA's convolutions, pooling by taps"


@pytest.mark.parametrize(
    ("overrides", "without", "told"),
    [
        ({}, BY_SHAPE, "cpu: C++ kernels, AVX2"),
        ({"dtype": "float64"}, BY_SHAPE, BY_SHAPE),
        ({"compute_dtype": "bfloat16"}, HALF, HALF),
        ({"dtype": "float64", "compute_dtype": "float32"}, BY_SHAPE, "cpu: C++ kernels, AVX2"),
        ({"lowering": "reference"}, "reference", "reference"),
    ],
)
def test_kernels_are_named_where_they_are_used(
    monkeypatch: pytest.MonkeyPatch, overrides: dict[str, str], without: str, told: str
) -> None:
    config = recipes.recipe()
    config.model.update(overrides)
    assert environment.lowering(config) == without
    monkeypatch.setattr(environment, "in_use", lambda: Kernels("0123456789ab", "AVX2"))
    assert environment.lowering(config) == told
    bits = environment.bits(config=config, placement={"data_path": "memory"})
    assert bits["lowering"] == told
    # A library that was built anew may sum in another order: its bytes are among the conditions.
    assert bits.get("kernels") == ("0123456789ab" if "C++" in told else None)


@pytest.mark.parametrize(
    ("cpuinfo", "told"),
    [
        ("processor\t: 0\nmodel name\t: AMD EPYC\nflags\t\t: fpu avx avx2 fma\n", "AMD EPYC, AVX2"),
        ("model name\t: AMD EPYC\nflags\t: avx2 avx512f avx512vl\n", "AMD EPYC, AVX-512"),
        ("model name\t: Old\nflags\t: sse2\n", "Old"),
    ],
)
def test_hardware_names_the_widest_vectors(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cpuinfo: str, told: str
) -> None:
    path = tmp_path / "cpuinfo"
    path.write_text(cpuinfo)
    monkeypatch.setattr(hardware, "CPUINFO", path)
    monkeypatch.setattr(hardware, "cpu_threads", lambda: 2)
    assert hardware.description() == f"2 cores of {told}"
    bits = environment.bits(config=recipes.recipe(), placement={})
    assert bits["processor"] == told
