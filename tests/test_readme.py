"""What README and the pages of docs/ tell a reader to type is what the program understands."""

import ast
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxnets import config as recipes
from jaxnets.app.tables import row_names
from jaxnets.bench import suite
from jaxnets.training.hooks import Hook

REPOSITORY = Path(__file__).parents[1]
PAGES = (REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md")))
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
LUNG, OWN = "configs/lung_resnet.py:demo", "runs/image_folder-quick-s0"


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of one language; "" for commands and their output."""
    return [text for found, text in FENCE.findall(page.read_text()) if found == language]


def commands() -> Iterator[tuple[str, list[str]]]:
    """Every `python scripts/NAME.py ...`: the page's name, and the words after `python`."""
    for page in PAGES:
        for block in blocks(page, "") + blocks(page, "bash"):
            for line in block.replace("\\\n", " ").splitlines():
                for command in re.findall(r"\bpython (scripts/\w+\.py[^#&|]*)", line):
                    yield page.name, shlex.split(command)


def flags_of(script: Path) -> set[str]:
    """The names of a script's flags, those of every script included."""
    both = script.read_text() + (REPOSITORY / "jaxnets" / "app" / "command.py").read_text()
    return set(re.findall(r'DEFINE_\w+\(\s*"(\w+)"', both))


def value(path: str, text: str) -> object:
    return text if recipes.FIELDS[path].type is str else ast.literal_eval(text)


@pytest.mark.parametrize(("page", "words"), list(commands()), ids=lambda part: str(part)[:60])
def test_a_command_is_understood(page: str, words: list[str]) -> None:
    del page
    script = REPOSITORY / words[0]
    assert script.is_file()
    known = flags_of(script)
    given = [re.fullmatch(r"--([\w.]+)(?:=(.*))?", word) for word in words if word[:2] == "--"]
    fields = {}
    for match in given:
        assert match
        name, text = match.groups()
        if name.startswith("config."):
            path = name.removeprefix("config.")
            fields[path] = value(path, text)
        else:
            assert name.removeprefix("no") in known or name in known
            assert name != "suite" or text in suite.SUITES
    spec = next((match[2] for match in given if match and match[1] == "config"), None)
    if spec is not None:
        recipes.load(str(REPOSITORY / spec), fields)


def test_rows_that_pages_ask_for_are_in_their_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)
    asked = [words for _, words in commands() if words[0].endswith("/reproduce.py")]
    chosen = 0
    for _, table, *flags in asked:
        only = [flag.partition("=")[2] for flag in flags if flag.startswith("--only=")]
        names = row_names(Path("configs/tables") / f"{table}.py")
        for text in (text for texts in only for text in texts.split(",")):
            chosen += 1
            assert any(text in name for name in names), text
    assert chosen >= 5


def test_there_are_commands_and_snippets() -> None:
    assert len({words[0] for _, words in commands()}) >= 6
    assert len(blocks(PAGES[0], "python")) == 2


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder with the repository's scripts and configs, to stand in."""
    for name in ("scripts", "configs"):
        (tmp_path / name).symlink_to(REPOSITORY / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_snippet_that_predicts(
    checkout: Path, trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (code,) = (code for code in blocks(PAGES[0], "python") if "jaxnets.load" in code)
    assert OWN in code
    assert len(code.strip().splitlines()) == 6
    (checkout / "runs").mkdir()
    (checkout / OWN).symlink_to(trained)
    for name in ("a.png", "b.jpg"):
        Image.new("RGB", (40, 30), (200, 120, 180)).save(name)
    exec(compile(code, "README.md", "exec"), {})
    told = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in told] == ["a.png", "b.jpg"]
    assert all(re.fullmatch(r".+ \d+\.\d%", line) for line in told)


def test_the_hook_snippet_is_a_hook_and_a_call(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr("jaxnets.train", lambda *given, **named: calls.append((given, named)))
    (code,) = (code for code in blocks(PAGES[0], "python") if "Hook" in code)
    exec(compile(code, "README.md", "exec"), {})
    (((spec,), named),) = calls
    assert spec == LUNG
    (hook,) = named["hooks"]
    assert isinstance(hook, Hook)


@pytest.mark.slow
def test_the_hook_snippet_stops_a_run(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAXNETS_DATA", str(checkout / "data"))
    (code,) = (code for code in blocks(PAGES[0], "python") if "Hook" in code)
    easier = code.replace(LUNG, "configs/lung_resnet.py:smoke").replace("> 0.99", "> 0.0")
    exec(compile(easier, "README.md", "exec"), {})
    assert '"stopped_early": "good enough"' in (checkout / "runs/mine/result.json").read_text()


@pytest.mark.slow
def test_own_images_as_printed(checkout: Path) -> None:
    """Train, evaluate and predict, word for word, on five classes of mixed formats and sizes."""
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
