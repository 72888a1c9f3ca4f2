"""The scripts that build the kernels and train with and without them."""

import concurrent.futures
import json
import subprocess
import sys
from pathlib import Path

import pytest

SMOKE = (
    "--config=configs/lung_resnet.py:smoke",
    "--config.model.name=lenet5",
    "--config.data.image_size=16",
    "--config.data.num_examples=60",
    "--config.train.steps=2",
    "--config.log.tensorboard=False",
)


def _run(repository: Path, script: str, *flags: str) -> tuple[int, str, str]:
    command = [sys.executable, f"scripts/{script}.py", "--compilation_cache=none", *flags]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True, timeout=200)
    return done.returncode, done.stdout, done.stderr


def _train(repository: Path, kernels: Path, run: Path, *flags: str) -> tuple[int, str, str]:
    folders = (f"--kernels_folder={kernels}", f"--workdir={run}", f"--config.data.root={run}-data")
    return _run(repository, "train", *SMOKE, *folders, *flags)


@pytest.mark.slow
def test_run_reports_the_kernels(repository: Path, built: Path, tmp_path: Path) -> None:
    code, output, errors = _train(repository, built, tmp_path / "run")
    assert code == 0, errors
    assert "; operations: C++ kernels, " in output
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["implementation"].startswith("cpu: C++ kernels, ")


@pytest.mark.slow
def test_resuming_with_another_implementation_raises(repository: Path, built: Path, tmp_path: Path) -> None:
    code, output, errors = _train(repository, built, tmp_path / "run", "--nokernels")
    assert code == 0, errors
    assert "; operations: by shape" in output
    (tmp_path / "run" / "result.json").unlink()
    code, _, errors = _train(repository, built, tmp_path / "run", "--ignore_damage")
    assert code == 4
    assert "implementation: 'cpu: by shape' -> 'cpu: C++ kernels" in errors
    assert "--nokernels continues without the C++ kernels" in errors


@pytest.mark.slow
@pytest.mark.usefixtures("compiler")
def test_two_first_starts_build_the_library_once(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("JAXNETS_BUILD_KERNELS")
    folder = tmp_path / "kernels"
    with concurrent.futures.ThreadPoolExecutor() as pool:
        runs = [pool.submit(_train, repository, folder, tmp_path / name) for name in ("first", "second")]
        outputs = [run.result() for run in runs]
    assert [code for code, _, _ in outputs] == [0, 0], outputs
    assert sum("C++ kernels for CPUs, built in" in output for _, output, _ in outputs) == 1
    assert all("; operations: C++ kernels, " in output for _, output, _ in outputs)
    (library,) = folder.glob("*.so")
    before = library.read_bytes()
    assert _run(repository, "build_kernels", f"--kernels_folder={folder}")[0] == 0
    assert library.read_bytes() == before  # so a run resumes after the library is built again


@pytest.mark.slow
def test_build_kernels_builds_and_repairs_the_library(
    repository: Path, compiler: str, tmp_path: Path
) -> None:
    flags = (f"--compiler={compiler}", f"--kernels_folder={tmp_path}")
    code, output, errors = _run(repository, "build_kernels", *flags)
    assert code == 0, errors
    (library,) = tmp_path.iterdir()
    assert "portable" in output
    assert library.name in output.replace("\n", "")
    library.write_bytes(b"damaged")
    assert _run(repository, "predict", *flags[1:], "--workdir=none")[0] == 6
    assert _run(repository, "build_kernels", *flags)[0] == 0


def test_build_error_is_one_line(repository: Path, tmp_path: Path) -> None:
    flags = ("--compiler=none-such", f"--kernels_folder={tmp_path}")
    code, _, errors = _run(repository, "build_kernels", *flags)
    assert code == 6
    assert len(errors.strip().splitlines()) == 1
    assert "no C++ compiler (none-such)" in errors
