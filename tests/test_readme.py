"""The commands in README and docs/ are valid."""

import ast
import functools
import os
import re
import runpy
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from absl import flags
from PIL import Image

import jaxnets
from benchmarks import suite
from jaxnets import config as config_lib
from jaxnets.commands import runner
from jaxnets.experiment.resolve import load_config
from jaxnets.training.callbacks import Callback
from studies.sweeps import row_names

REPOSITORY = Path(__file__).parents[1]
PAGES = (REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md")))
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
LUNG, OWN = "configs/lung_resnet.py:demo", "runs/image_folder-quick-s0"


def blocks(page: Path, language: str) -> list[str]:
    """Returns the fenced code blocks of one language; "" for commands and output."""
    return [text for found, text in FENCE.findall(page.read_text()) if found == language]


def commands() -> Iterator[tuple[str, list[str]]]:
    """Yields the page and the arguments of every `python scripts/NAME.py ...`."""
    for page in PAGES:
        for block in blocks(page, "") + blocks(page, "bash"):
            for line in block.replace("\\\n", " ").splitlines():
                for found in re.findall(r"\bpython (scripts/\w+\.py[^#&|]*)", line):
                    yield page.name, shlex.split(found)


@functools.cache
def flags_of(script: Path) -> flags.FlagValues:
    """Returns the flags that a script defines, including those of all scripts."""
    before = set(flags.FLAGS)
    runpy.run_path(str(script))
    shared = {flag.name for flag in flags.FLAGS.flags_by_module_dict()[runner.__name__]}
    own = set(flags.FLAGS) - before
    values = flags.FlagValues()
    for name in own | shared:
        values[name] = flags.FLAGS[name]
    for name in own:
        delattr(flags.FLAGS, name)  # another script may define the same name
    return values


def parse_command(arguments: Sequence[str]) -> tuple[str | None, dict[str, object]]:
    """Parses a command like its script and returns the config and the overrides.

    Raises absl's errors for unknown flags and invalid values.
    """
    script = REPOSITORY / arguments[0]
    assert script.is_file()
    config = [word for word in arguments if re.match(r"--config[.=]", word)]
    flags_of(script)([arguments[0], *(word for word in arguments[1:] if word not in config)])
    assert not config or "config" in flags_of(script)
    fields, config_path = {}, None
    for word in config:
        name, _, text = word.partition("=")
        path = name.removeprefix("--config").removeprefix(".")
        if path:
            fields[path] = value(path, text)
        else:
            config_path = text
    return config_path, fields


def value(path: str, text: str) -> object:
    return text if config_lib.FIELDS[path].type is str else ast.literal_eval(text)


@pytest.mark.parametrize(("page", "arguments"), list(commands()), ids=lambda part: str(part)[:60])
def test_commands_are_valid(page: str, arguments: list[str]) -> None:
    del page
    config_path, fields = parse_command(arguments)
    if config_path is not None:
        load_config(str(REPOSITORY / config_path), fields)
    suites = [word.partition("=")[2] for word in arguments if word.startswith("--suite=")]
    assert set(suites) <= set(suite.SUITES)


@pytest.mark.parametrize(
    "arguments",
    [
        ["scripts/train.py", "--noworkdir"],
        ["scripts/train.py", "--budget=3"],
        ["scripts/reproduce.py", "lung", "--budget=soon"],
        ["scripts/predict.py", "--config=configs/lung_resnet.py"],
    ],
)
def test_unknown_flags_and_values_raise(arguments: list[str]) -> None:
    with pytest.raises((flags.Error, AssertionError)):
        parse_command(arguments)


def test_rows_selected_with_only_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)
    reproduce_commands = [arguments for _, arguments in commands() if arguments[0].endswith("/reproduce.py")]
    chosen = 0
    for _, table, *given in reproduce_commands:
        only = [flag.partition("=")[2] for flag in given if flag.startswith("--only=")]
        names = row_names(Path("configs/sweeps") / f"{table}.py")
        for text in (text for texts in only for text in texts.split(",")):
            chosen += 1
            assert any(text in name for name in names), text
    assert chosen >= 5


def test_commands_and_snippets_are_found() -> None:
    assert len({arguments[0] for _, arguments in commands()}) >= 6
    assert len(blocks(PAGES[0], "python")) == 3


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Changes to an empty folder with links to scripts and configs."""
    for name in ("scripts", "configs"):
        (tmp_path / name).symlink_to(REPOSITORY / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_prediction_snippet(checkout: Path, trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = (code for code in blocks(PAGES[0], "python") if "jaxnets.load" in code)
    assert OWN in code
    assert len(code.strip().splitlines()) == 9
    (checkout / "runs").mkdir()
    (checkout / OWN).symlink_to(trained)
    for name in ("a.png", "b.jpg"):
        Image.new("RGB", (40, 30), (200, 120, 180)).save(name)
    names: dict[str, Any] = {}
    exec(compile(code, "README.md", "exec"), names)
    assert names["heat"].ndim == 3
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["a.png", "b.jpg"]
    assert all(re.fullmatch(r".+ \d+\.\d%", line) for line in lines)


def test_callback_snippet_calls_train(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr("jaxnets.train", lambda *given, **named: calls.append((given, named)))
    (code,) = (code for code in blocks(PAGES[0], "python") if "Callback" in code)
    exec(compile(code, "README.md", "exec"), {})
    (((config_path,), named),) = calls
    assert config_path == LUNG
    (callback,) = named["callbacks"]
    assert isinstance(callback, Callback)


def test_fine_tuning_snippet_calls_train(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr("jaxnets.train", lambda *given, **named: calls.append((given, named)))
    (code,) = (code for code in blocks(PAGES[0], "python") if "finetune" in code)
    exec(compile(code, "README.md", "exec"), {"jaxnets": jaxnets})
    (((config_path, overrides), named),) = calls
    config = load_config(str(REPOSITORY / config_path), overrides)
    assert config.transfer.weights == OWN
    assert Path(named["workdir"]).parts[0] == "runs"


@pytest.mark.slow
def test_callback_snippet_stops_a_run(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAXNETS_DATA", str(checkout / "data"))
    (code,) = (code for code in blocks(PAGES[0], "python") if "Callback" in code)
    easier = code.replace(LUNG, "configs/lung_resnet.py:smoke").replace("> 0.99", "> 0.0")
    exec(compile(easier, "README.md", "exec"), {})
    assert '"stopped_early": "good enough"' in (checkout / "runs/mine/result.json").read_text()


@pytest.mark.slow
def test_own_image_folder_commands(checkout: Path) -> None:
    """Train, evaluate and predict as documented, on five classes of mixed formats and sizes."""
    generator = np.random.default_rng(0)
    for number, name in enumerate(("blue", "green", "grey", "red", "yellow")):
        (checkout / "own" / name).mkdir(parents=True)
        for count in range(24):
            size = tuple(generator.integers(40, 90, 2))
            pixels = generator.integers(0, 60, (*size, 3)) + 30 * number * np.array([1, 2, 1])
            path = checkout / "own" / name / f"{count}.{('jpg', 'png', 'tif', 'webp')[count % 4]}"
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path)
    (block,) = (block for block in blocks(PAGES[0], "") if "data.path=DIR" in block)
    lines = block.replace("DIR", "own").replace("IMAGE_OR_FOLDER", "own").splitlines()
    assert [line.split()[1] for line in lines] == [
        f"scripts/{name}.py" for name in ("train", "evaluate", "predict")
    ]
    for line in lines:
        command = [sys.executable, *shlex.split(line)[1:]]
        environment = {**os.environ, "JAXNETS_DATA": str(checkout / "data")}
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    assert len((checkout / "predictions.csv").read_text().splitlines()) == 121
