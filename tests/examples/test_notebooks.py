"""The notebooks run from top to bottom, and print what their text says."""

import os
import re
import sys
from pathlib import Path

import nbformat
import pytest

NOTEBOOKS = Path(__file__).parents[2] / "examples" / "notebooks"
NAMES = sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb"))


@pytest.fixture
def environment(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel and its commands use this Python, compile with optimisation and write below `tmp_path`."""
    folders = [str(Path(sys.executable).parent), os.environ["PATH"]]
    for name, value in {
        "PATH": os.pathsep.join(folders),
        "PYTHONPATH": str(repository),
        "XLA_FLAGS": "",
        "TMPDIR": str(tmp_path),
        "IPYTHONDIR": str(tmp_path / "ipython"),
        "JUPYTER_RUNTIME_DIR": str(tmp_path / "jupyter"),
    }.items():
        monkeypatch.setenv(name, value)


def _execute(name: str) -> tuple[str, list[str]]:
    """Runs a notebook in its folder; returns the text that its cells print, and the HTML that they show."""
    from nbclient import NotebookClient

    path = NOTEBOOKS / f"{name}.ipynb"
    notebook = nbformat.read(path, as_version=4)
    resources = {"metadata": {"path": str(path.parent)}}
    NotebookClient(notebook, timeout=1500, kernel_name="python3", resources=resources).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    text = "".join(output.get("text", "") for output in outputs)
    shown = (output.get("data", {}).get("text/html") for output in outputs)
    return text, [html for html in shown if html is not None]


@pytest.mark.parametrize("name", NAMES)
def test_notebooks_are_valid_and_stored_without_outputs(name: str) -> None:
    notebook = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
    nbformat.validate(notebook)
    assert notebook.cells[0].cell_type == "markdown"
    assert all(not cell.get("outputs") for cell in notebook.cells)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.usefixtures("environment")
def test_a_folder_is_trained_from_imagenet_weights() -> None:
    text, (page,) = _execute("train_on_a_folder")
    assert "Most confident mistakes" in page
    (accuracy, images) = re.findall(r"test accuracy ([\d.]+) % \[.+\] on (\d+) images", text)[0]
    assert float(accuracy) > 80
    assert 85 <= int(images) <= 95
    assert len(re.findall(r"digit \d: recall", text)) == 3
    assert int(re.findall(r"(\d+) of 10 are right", text)[0]) >= 7


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.usefixtures("environment")
def test_duplicates_are_found_and_the_leak_shows() -> None:
    text, (page, *maps) = _execute("duplicates_and_leaks")
    assert "Near-duplicates in" in page
    assert len(maps) == 2
    assert "480 files, 40 groups" in text
    found = re.findall(r"(\w+) split: (\d+) % .+accuracy ([\d.]+) %", text)
    (_, leak, high), (_, no_leak, chance) = found
    assert [name for name, *_ in found] == ["random", "grouped"]
    assert int(leak) == 100
    assert int(no_leak) == 0
    assert float(high) > 80
    assert float(chance) < 75
    assert "random split: crosses" in text
    assert "grouped split: no crosses" in text
