"""The commands in README and docs/ are valid."""

import ast
import csv
import functools
import json
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from absl import flags
from PIL import Image

from benchmarks import suite
from jaxnets import config as config_lib
from jaxnets import models
from jaxnets.commands import runner
from jaxnets.data import sources
from jaxnets.experiment.resolve import load_config
from studies.pages.colour_table import BASELINE
from studies.sweeps import row_names

REPOSITORY = Path(__file__).parents[1]
README = REPOSITORY / "README.md"
PAGES = (README, *sorted((REPOSITORY / "docs").glob("*.md")))
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)


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


@pytest.fixture
def registries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forgets what examples register."""
    monkeypatch.setattr(models.REGISTRY, "data", dict(models.REGISTRY.data))
    monkeypatch.setattr(sources, "TITLES", dict(sources.TITLES))
    monkeypatch.setattr(sources, "_registered", dict(sources._registered))


@pytest.mark.usefixtures("registries")
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
    assert len(blocks(README, "python")) == 1


def test_ci_runs_the_test_command() -> None:
    """Extracts the command as .ci/run does."""
    _, text = README.read_text().split("<!-- test-command -->\n```\n")
    command, _, _ = text.partition("```")
    subprocess.run(["bash", "-n", "-c", command], check=True)
    assert command.splitlines()[-1] == ".venv/bin/pytest"
    assert "-e '.[test]' -c constraints.txt" in command


def test_readme_is_short_and_its_links_exist() -> None:
    text = README.read_text()
    words = [word for word in text.split() if word.strip("|-")]
    assert len(words) <= 1300
    for target in re.findall(r"\]\(([^)#]+)", text):
        assert (REPOSITORY / target).exists(), target
    (picture,) = re.findall(r"!\[[^]]+\]\(([^)]+)\)", text)
    assert (REPOSITORY / picture).stat().st_size < 200_000
    assert "never run on a GPU" in text
    assert "fine-tune" in text


def test_readme_s_accuracies_are_those_of_its_table() -> None:
    text = README.read_text()
    rows = re.search(r"<!-- splits_short -->\n(.*)<!-- end of splits_short -->", text, re.DOTALL)
    assert rows
    for column, sentence in ((3, "accuracy is then {} to {} %"), (4, "then reach {} to {} %")):
        found = [float(line.split("|")[column].split()[0]) for line in rows[1].splitlines()[2:]]
        assert len(found) == 5
        assert sentence.format(min(found), max(found)) in " ".join(text.split())
    baseline = json.loads((REPOSITORY / "results" / BASELINE).read_text())["splits"]["5folds"]
    assert f"sees no shapes, {100 * baseline['accuracy']:.1f} %." in " ".join(text.split())


def test_readme_s_speed_is_that_of_the_benchmarks() -> None:
    table = (REPOSITORY / "docs" / "tables" / "benchmarks.csv").read_text()
    rows = list(csv.DictReader(table.splitlines()))
    trained = [row for row in rows if row["row"].startswith("train/")]
    images = [row for row in trained if row["unit"] == "images" and row["dtype"] == "float32"]
    images = [row for row in images if "/depthwise/" not in row["row"]]  # a network for this measurement only
    ratios = [float(row["ratio_eager"]) for row in images]
    memory = [float(row["ratio_memory"]) for row in images]
    assert len(ratios) > 20
    text = " ".join(README.read_text().split())
    assert f"it trains {min(ratios):.2f} to {max(ratios):.2f} times as fast as eager PyTorch" in text
    assert f"up to {max(memory):.1f} times the memory" in text


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Changes to an empty folder with links to scripts and configs."""
    for name in ("scripts", "configs"):
        (tmp_path / name).symlink_to(REPOSITORY / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_snippet(
    checkout: Path, trained: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls = []

    def train(config_path: str, overrides: dict[str, Any], *, workdir: str) -> None:
        calls.append(load_config(str(REPOSITORY / config_path), overrides))
        Path(workdir).parent.mkdir()
        Path(workdir).symlink_to(trained)

    monkeypatch.setattr("jaxnets.train", train)
    Image.new("RGB", (40, 30), (200, 120, 180)).save("photo.jpg")
    (code,) = blocks(README, "python")
    exec(compile(code, "README.md", "exec"), {})
    assert calls[0].data.path == "photos"
    (line,) = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r".+ \d+\.\d%", line)


@pytest.mark.slow
def test_own_image_folder_commands(checkout: Path) -> None:
    """Train, fine-tune and predict as documented, on five classes of mixed formats and sizes."""
    generator = np.random.default_rng(0)
    for number, name in enumerate(("blue", "green", "grey", "red", "yellow")):
        (checkout / "photos" / name).mkdir(parents=True)
        for count in range(24):
            size = tuple(generator.integers(40, 90, 2))
            pixels = generator.integers(0, 60, (*size, 3)) + 30 * number * np.array([1, 2, 1])
            path = checkout / "photos" / name / f"{count}.{('jpg', 'png', 'tif', 'webp')[count % 4]}"
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path)
    (block,) = (block for block in blocks(README, "") if "data.path=photos" in block)
    shutil.copy(checkout / "photos" / "blue" / "0.jpg", checkout / "photo.jpg")
    _, transfer, predict = filter(None, block.replace("\\\n", " ").splitlines())
    scratch = transfer.replace("image_folder.py", "image_folder.py:scratch")
    export = "python scripts/export.py --workdir=runs/image_folder-scratch-s0 --layout=torch --out=exported"
    rename = "cp exported/torch.safetensors resnet50.safetensors"
    imported = (
        "python scripts/import_weights.py resnet50.safetensors data/weights/resnet50 --preprocessing=imagenet"
    )
    weights = " --config.transfer.weights=resnet50 --config.model.name=resnet50"
    finetune = transfer.replace("image_folder.py", "image_folder.py:finetune") + weights
    short = " --config.train.epochs=2 --config.schedule.warmup_steps=1"
    small = f"{short} --config.data.image_size=64"
    lines = (transfer, predict, scratch + short, export, rename, imported, finetune + small)
    for line in lines:
        words = shlex.split(line)
        command = [sys.executable, *words[1:]] if words[0] == "python" else words
        environment = {**os.environ, "JAXNETS_DATA": str(checkout / "data")}
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert line != predict or "photo.jpg" in done.stdout
    assert list((checkout / "runs" / "image_folder-transfer-s0" / "gradcam").iterdir())
