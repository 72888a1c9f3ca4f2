"""Exit codes and one-line errors of scripts."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from jaxnets.data.sources import cifar10, mnist

TRAIN, CONFIG = "scripts/train.py", "--config=configs/lung_resnet.py"
slow = pytest.mark.slow  # similar to other cases
MLP = "--config=configs/mlp_tanh.py"


def _run(repository: Path, *command: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, *command], cwd=repository, capture_output=True, text=True, timeout=120
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
    ("command", "code", "message"),
    [
        ([TRAIN], 2, "--config=NAME[:VARIANT] is missing"),
        ([TRAIN, "--config=configs/lung_resnt.py"], 2, "did you mean configs/lung_resnet.py"),
        ([TRAIN, f"{CONFIG}:dmo"], 2, "did you mean demo"),
        ([TRAIN, CONFIG, "--config.optimiser.learning_rate=1"], 2, "optimizer.learning_rate"),
        ([TRAIN, CONFIG, "--config.train.epochs=ten"], 2, "it must be an integer, or None"),
        ([TRAIN, CONFIG, "--config.optimizer.beta1=0.9"], 2, "set --config.optimizer.name=adam"),
        pytest.param([TRAIN, f"{CONFIG}:transfer"], 2, "import_weights.py hub:", marks=slow),
        pytest.param([TRAIN, "--config=configs/no.py"], 2, "configs/ contains alexnet_cifar10, ", marks=slow),
        pytest.param([TRAIN, CONFIG, "--config.data.cache=None"], 2, "True or False", marks=slow),
        ([TRAIN, CONFIG, "--config.train.batch_size=0"], 2, "at least 1"),
        pytest.param(
            [TRAIN, MLP, "--config.model.activations=tanh,tanh,relu"],
            2,
            "\"('tanh','tanh','relu')\"",
            marks=slow,
        ),
        ([TRAIN, CONFIG, "--workdri=x"], 2, "did you mean workdir"),
        pytest.param([TRAIN, CONFIG, "stray"], 2, "'stray'", marks=slow),
        ([TRAIN, CONFIG, "--config.data.name=mnist", "--config.data.root=/nowhere"], 3, "prepare_data"),
        (["scripts/predict.py", "--workdir=/nowhere", "x.png"], 4, "is not a run directory"),
        pytest.param(["scripts/evaluate.py"], 2, "usage", marks=slow),
        (["scripts/cross_validate.py", CONFIG, "--folds=2"], 2, "--folds=2: 2 is not integer >= 3"),
        pytest.param(["scripts/cross_validate.py", f"{CONFIG}:smoke", "--shard=3/2"], 2, "I/N", marks=slow),
        (["scripts/prepare_data.py", "lc2500_lung"], 2, "did you mean lc25000_lung"),
        pytest.param(["scripts/reproduce.py", "lung_resent"], 2, "did you mean", marks=slow),
        (["scripts/verify_mlp.py", "--slip"], 2, "did you mean slips"),
        (["scripts/bench.py", "--suite=cpus"], 2, "cpu|pipeline|startup|"),
    ],
)
def test_invalid_command_prints_one_line(
    repository: Path, tmp_path: Path, command: list[str], code: int, message: str
) -> None:
    if command[0] == TRAIN:
        command = [*command, f"--workdir={tmp_path / 'run'}"]
    returned, _, errors = _run(repository, *command)
    assert returned == code, errors
    assert message in errors
    assert len(errors.strip().splitlines()) == 1, errors
    assert "Traceback" not in errors


def test_none_unsets_a_field(repository: Path) -> None:
    unset = ("--config.entry=None", "--config.schedule.warmup_epochs=None")
    code, printed, errors = _run(repository, TRAIN, CONFIG, *unset, "--print_config")
    assert code == 0, errors
    config = json.loads(printed)
    assert (config["entry"], config["schedule"]["warmup_epochs"]) == (None, None)
    assert json.loads(_run(repository, TRAIN, CONFIG, "--print_config")[1])["entry"] == "A/resnet50"


@pytest.mark.parametrize("name", ["mnist", "cifar10"])
def test_truncated_data_file_is_named_with_a_fix(repository: Path, tmp_path: Path, name: str) -> None:
    config = {"mnist": "lenet_mnist", "cifar10": "alexnet_cifar10"}[name]
    files = {
        "mnist": [file.name for file in mnist.FILES.values()],
        "cifar10": [f"{batch}.bin" for batch in cifar10.BATCHES],
    }[name]
    for file in files:
        (tmp_path / file).write_bytes(b"\0" * 100)
    code, _, errors = _run(
        repository,
        *(TRAIN, f"--config=configs/{config}.py", f"--config.data.root={tmp_path}"),
        f"--workdir={tmp_path / 'run'}",
    )
    assert code == 3, errors
    assert errors.count("\n") == 1
    assert f"{tmp_path / files[0]}: " in errors
    assert f"python scripts/prepare_data.py {name}" in errors


def test_invalid_command_fails_before_importing_jax(repository: Path) -> None:
    for argument in (f"{CONFIG}:dmo", "--workdri=x", "--help"):
        program = (
            "import runpy, sys\n"
            f"sys.argv = ['{TRAIN}', '{argument}']\n"
            "try:\n"
            f"    runpy.run_path('{TRAIN}', run_name='__main__')\n"
            "except SystemExit as done:\n"
            "    print(done.code, 'jax' in sys.modules)\n"
        )
        _, output, _ = _run(repository, "-c", program)
        assert output.splitlines()[-1] == f"{0 if argument == '--help' else 2} False"


def test_traceback_flag_shows_the_traceback(repository: Path) -> None:
    code, _, errors = _run(repository, TRAIN, f"{CONFIG}:dmo", "--traceback")
    assert code == 2
    assert "Traceback" in errors


def test_help_lists_the_flags(repository: Path) -> None:
    code, output, errors = _run(repository, "scripts/predict.py", "--help")
    assert code == 0, errors
    assert "--csv" in output


def test_print_config_prints_all_fields(repository: Path) -> None:
    code, output, errors = _run(
        repository, TRAIN, f"{CONFIG}:demo", "--config.train.steps=7", "--print_config"
    )
    assert code == 0, errors
    config = json.loads(output)
    assert config["train"] | {"steps": 7, "epochs": None} == config["train"]
    assert config["optimizer"]["learning_rate"] == 0.005
