"""What a person types: build the kernels, train with them, train without."""

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
    places = (f"--kernels_folder={kernels}", f"--workdir={run}", f"--config.data.root={run}-data")
    return _run(repository, "train", *SMOKE, *places, *flags)


@pytest.mark.slow
def test_a_run_says_that_it_uses_them(repository: Path, built: Path, tmp_path: Path) -> None:
    code, message, errors = _train(repository, built, tmp_path / "run")
    assert code == 0, errors
    assert "training step, cpu: C++ kernels, " in message
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["implementation"].startswith("cpu: C++ kernels, ")


@pytest.mark.slow
def test_a_run_goes_on_with_the_kernels_that_it_began_with(
    repository: Path, built: Path, tmp_path: Path
) -> None:
    code, message, errors = _train(repository, built, tmp_path / "run", "--nokernels")
    assert code == 0, errors
    assert "training step, cpu: by shape" in message
    (tmp_path / "run" / "result.json").unlink()
    code, _, errors = _train(repository, built, tmp_path / "run")
    assert code == 4
    assert "lowering: 'cpu: by shape' then, 'cpu: C++ kernels" in errors


@pytest.mark.slow
def test_one_command_builds_them(repository: Path, compiler: str, tmp_path: Path) -> None:
    flags = (f"--compiler={compiler}", f"--kernels_folder={tmp_path}")
    code, message, errors = _run(repository, "build_kernels", *flags)
    assert code == 0, errors
    (library,) = tmp_path.iterdir()
    assert "portable" in message
    assert library.name in message.replace("\n", "")
    library.write_bytes(b"damaged")
    assert _run(repository, "predict", *flags[1:], "--workdir=none")[0] == 6
    assert _run(repository, "build_kernels", *flags)[0] == 0


def test_what_is_wrong_is_one_line(repository: Path, tmp_path: Path) -> None:
    flags = ("--compiler=none-such", f"--kernels_folder={tmp_path}")
    code, _, errors = _run(repository, "build_kernels", *flags)
    assert code == 6
    assert len(errors.strip().splitlines()) == 1
    assert "no C++ compiler (none-such)" in errors
