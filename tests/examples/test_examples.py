"""The examples run as their docstrings say."""

import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

Run = Callable[..., str]


@pytest.fixture
def run(repository: Path, tmp_path: Path) -> Run:
    """Returns a function that runs a Python program of the repository and returns its output."""

    def run_program(program: str, *arguments: str, exit_code: int = 0, path: str = "") -> str:
        command = [sys.executable, program, *arguments]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(repository), path])}
        done = subprocess.run(command, cwd=repository, env=environment, capture_output=True, text=True)
        assert done.returncode == exit_code, done.stderr
        return done.stdout if exit_code == 0 else done.stderr

    return run_program


def test_minimal_learns_the_digits_with_few_modules(repository: Path) -> None:
    program = (
        "import runpy, sys; runpy.run_path('examples/minimal.py')\n"
        "print(sum(name.startswith('jaxnets') for name in sys.modules))"
    )
    command = [sys.executable, "-c", program]
    optimized = {**os.environ, "XLA_FLAGS": ""}  # without optimisation it takes a minute
    done = subprocess.run(command, cwd=repository, env=optimized, capture_output=True, text=True, check=True)
    *_, last, modules = done.stdout.splitlines()
    assert float(last.split()[-2]) > 95
    assert int(modules) < 25


@pytest.mark.slow
def test_own_network_is_trained_and_evaluated(run: Run, tmp_path: Path) -> None:
    file, workdir = "examples/own_network.py", f"--workdir={tmp_path / 'run'}"
    small = [
        f"--config.{field}" for field in ("data.num_examples=60", "train.epochs=1", "data.image_size=16")
    ]
    command = ("scripts/train.py", f"--config={file}", workdir, f"--config.data.root={tmp_path}", *small)
    assert f"evaluate.py --workdir {tmp_path / 'run'} --import={file}" in run(*command)
    assert "holds this run already: nothing was trained" in run(*command)
    assert json.loads((tmp_path / "run" / "result.json").read_text())["model"] == "small"
    assert "pass --import=FILE" in run("scripts/evaluate.py", workdir, exit_code=4)
    assert "report" in run("scripts/evaluate.py", workdir, f"--import={file}")


@pytest.mark.slow
def test_own_data_is_read_from_a_csv_file(run: Run, tmp_path: Path) -> None:
    rows = []
    for number in range(30):
        shade = 40 + 150 * (number % 2) + number
        Image.fromarray(np.full((32, 32, 3), shade, np.uint8)).save(tmp_path / f"{number}.png")
        rows.append({"file": f"{number}.png", "label": "bright" if number % 2 else "dark"})
    with (tmp_path / "images.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["file", "label"])
        writer.writeheader()
        writer.writerows(rows)
    run(
        *(
            "scripts/train.py",
            "--config=examples/own_data.py",
            f"--config.data.path={tmp_path / 'images.csv'}",
        ),
        *(f"--workdir={tmp_path / 'run'}", f"--config.data.root={tmp_path}", "--config.train.epochs=1"),
    )
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert manifest["classes"] == ["bright", "dark"]


@pytest.mark.slow
def test_a_callback_is_named_on_the_command_line(run: Run, tmp_path: Path, repository: Path) -> None:
    easy = (repository / "examples" / "custom_callback.py").read_text().replace("= 0.99", "= -1.0")
    (tmp_path / "easy_callback.py").write_text(easy)
    small = [
        f"--config.{field}" for field in ("data.num_examples=60", "data.image_size=16", "train.epochs=5")
    ]
    shared = ("scripts/train.py", "--config=configs/lung_resnet.py:smoke", f"--config.data.root={tmp_path}")
    network = ("--config.model.name=lenet5", "--config.model.kernel_size=3", f"--workdir={tmp_path / 'run'}")
    run(*shared, *network, *small, "--callbacks=easy_callback:StopWhenGood", path=str(tmp_path))
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["stopped_early"] == "accuracy above -1.0 at two evaluations"
    assert result["epochs"] == 2


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere:Callback", "ModuleNotFoundError: No module named 'nowhere'"),
        ("examples.custom_callback:Missing", "has no attribute 'Missing'"),
        ("pathlib:Path", "is not a subclass of jaxnets.training.callbacks.Callback"),
    ],
)
def test_a_wrong_callback_raises(
    name: str, message: str, monkeypatch: pytest.MonkeyPatch, repository: Path
) -> None:
    from jaxnets.errors import ConfigError
    from jaxnets.training.callbacks import import_callbacks

    monkeypatch.chdir(repository)
    monkeypatch.setattr(sys, "path", list(sys.path))
    with pytest.raises(ConfigError) as raised:
        import_callbacks([name])
    assert message in str(raised.value)
    assert f"--callbacks={name}" in str(raised.value)


@pytest.mark.slow
def test_an_error_in_an_own_network_names_its_line(run: Run, repository: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.py"
    source = (repository / "examples" / "own_network.py").read_text()
    broken.write_text(source.replace("self.convs, self.norms", "self.convz, self.norms"))
    workdir, root = f"--workdir={tmp_path / 'run'}", f"--config.data.root={tmp_path}"
    message = run("scripts/train.py", f"--config={broken}", workdir, root, exit_code=1)
    last = message.splitlines()[-1]
    assert "AttributeError in" in last
    assert "broken.py, line " in last
    assert "internal error" not in message
