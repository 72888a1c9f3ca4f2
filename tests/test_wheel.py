"""The wheel, installed into an empty environment, trains in an empty folder."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

CONTENT = (
    "jaxnets",
    "configs",
    "scripts",
    "pyproject.toml",
    "setup.py",
    "MANIFEST.in",
    "README.md",
    "LICENSE",
)
SMALL = ("train.epochs=1", "data.num_examples=60", "data.image_size=32")


def _run(folder: Path, *command: object, exit_code: int = 0) -> str:
    hidden = ("PYTHONPATH", "JAXNETS_DATA", "XLA_FLAGS")
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    done = subprocess.run(
        [*map(str, command)], cwd=folder, env=environment, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == exit_code, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def wheel(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns the wheel, built from a copy of the repository: pip leaves files in the folder."""
    copy = tmp_path_factory.mktemp("source")
    for name in CONTENT:
        path = repository / name
        ignored = shutil.ignore_patterns("__pycache__", "_configs", "_scripts")
        if path.is_dir():
            shutil.copytree(path, copy / name, ignore=ignored)
        else:
            shutil.copy(path, copy)
    _run(copy, sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", copy / "dist", copy)
    return next((copy / "dist").glob("*.whl"))


@pytest.mark.slow
def test_wheel_contains_configs_and_the_scripts_of_the_package(wheel: Path, repository: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {f"jaxnets/_configs/{path.name}" for path in (repository / "configs").glob("*.py")} <= names
    scripts = {name.removeprefix("jaxnets/_scripts/") for name in names if "_scripts/" in name}
    assert scripts == {
        *("train.py", "evaluate.py", "predict.py", "export.py", "import_weights.py", "prepare_data.py"),
        *("find_duplicates.py", "split.py", "summary.py", "build_kernels.py", "cross_validate.py"),
    }
    assert not any(name.startswith(("studies", "benchmarks", "tests")) for name in names)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_wheel_trains_in_an_empty_environment_and_folder(
    wheel: Path, repository: Path, tmp_path: Path
) -> None:
    environment, folder = tmp_path / "environment", tmp_path / "empty"
    folder.mkdir()
    _run(tmp_path, sys.executable, "-m", "venv", environment)
    _run(tmp_path, environment / "bin/pip", "install", "-q", wheel, "-c", repository / "constraints.txt")
    jaxnets, python = environment / "bin/jaxnets", environment / "bin/python"
    overrides = [f"--config.{override}" for override in SMALL]
    output = _run(folder, jaxnets, "train", "--config=lung_resnet:demo", "--workdir=run", *overrides)
    assert "next" in output
    assert "jaxnets evaluate --workdir run" in output
    result = json.loads((folder / "run" / "result.json").read_text())
    assert result["name"] == "lung_resnet:demo"
    assert result["command"].startswith("jaxnets train --config=lung_resnet:demo")
    assert "report" in _run(folder, python, "-m", "jaxnets", "evaluate", "--workdir=run")
    assert "parameters" in _run(folder, jaxnets, "summary", "lenet5")
    assert "jaxnets split" in _run(folder, jaxnets, "split", "--help")
    assert "did you mean train?" in _run(folder, jaxnets, "trian", exit_code=2)
    assert "did you mean lung_resnet?" in _run(folder, jaxnets, "train", "--config=lung_resent", exit_code=2)
