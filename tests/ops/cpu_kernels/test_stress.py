"""A stress test of the C++ kernels over random shapes and thread pools, also with sanitizers."""

import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from jaxnets.ops.cpu_kernels import build

PROGRAM = Path(__file__).with_name("stress.cc")
SANITIZERS = {
    "memory": ("-fsanitize=address,undefined", "-fno-sanitize-recover=all"),
    "threads": ("-fsanitize=thread",),
}


def _link(compiler: str, flags: Sequence[str], objects: Sequence[Path], program: Path) -> None:
    plain = [str(path) for path in objects if path.name != "ffi.o"]
    sources = ["-I", str(build.SOURCE), str(PROGRAM), *plain]
    command = [compiler, "-std=c++17", "-O1", "-pthread", *flags, *sources, "-o", str(program)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def _run(program: Path, cases: int) -> None:
    done = subprocess.run([str(program), str(cases)], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{cases} cases" in done.stdout


def test_every_kernel_on_every_thread_pool(compiler: str, built: Path, tmp_path: Path) -> None:
    _link(compiler, (), sorted((built / "objects").iterdir()), tmp_path / "stress")
    _run(tmp_path / "stress", 100)


@pytest.mark.slow
@pytest.mark.parametrize("faults", SANITIZERS)
def test_sanitizers_report_nothing(compiler: str, tmp_path: Path, faults: str) -> None:
    flags = ("-g1", *SANITIZERS[faults])
    objects = build.compile_all(
        compiler, tmp_path, ("-std=c++17", "-O1", "-pthread", "-ffp-contract=fast", *flags)
    )
    _link(compiler, flags, objects, tmp_path / "stress")
    _run(tmp_path / "stress", 100)
