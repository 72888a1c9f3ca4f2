"""Counts the modules of jaxnets that an image, or the value of a flag, passes through in a training run.

    python -m studies.trace_files

Trains configs/image_folder.py:smoke through scripts/train.py on a small folder of images while a profiler
looks at every function of the package. A module counts for the image if one of its functions has the image's
file, its pixels, a batch, a feature map or its predictions among its variables; for the flag, if it has the
value of --config.optimizer.learning_rate, a number that occurs nowhere else, before the training loop begins.
"""

import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

import jax
import numpy as np
from PIL import Image

from jaxnets import config as config_lib
from jaxnets.commands import runner

PACKAGE = str(Path(config_lib.__file__).parents[1]) + "/"
MARKED, RATE = "marked.png", 0.0123456
INITIALIZATION = "initialize"  # kernels are arrays of four axes too, but not images
IMAGE_KEYS = {"image", "features"}
IMAGE_CLASSES = {"Predictions", "ClassScores"}


def is_image(value: Any) -> bool:
    """Returns whether a value is the image, or a batch or result that contains it."""
    if isinstance(value, str | Path):
        return str(value).endswith(MARKED)
    if isinstance(value, Mapping):
        return bool(IMAGE_KEYS & set(map(str, value)))
    if isinstance(value, np.ndarray | jax.Array):
        return value.ndim >= 3
    return type(value).__name__ in IMAGE_CLASSES


def is_rate(value: Any) -> bool:
    """Returns whether a value is that of the flag, as text or number."""
    if isinstance(value, str):
        return str(RATE) in value
    if isinstance(value, Mapping):
        return any(is_rate(each) for each in value.values())
    if isinstance(value, list | tuple):
        return any(isinstance(each, str | float) and is_rate(each) for each in value)
    return isinstance(value, float) and value == RATE


class Tracer:
    """Collects the modules whose functions have a value that a test accepts."""

    def __init__(self, tests: Mapping[str, Callable[[Any], bool]]):
        self.modules: dict[str, set[str]] = {name: set() for name in tests}
        self._tests = tests

    def __call__(self, frame: FrameType, event: str, argument: Any) -> None:
        """Profile function; checks the values of a function when it returns."""
        code = frame.f_code
        module = code.co_filename.removeprefix(PACKAGE)
        if event == "call" and (module, code.co_name) == ("training/loop.py", "train"):
            self._tests = {name: test for name, test in self._tests.items() if test is not is_rate}
        if event != "return" or not code.co_filename.startswith(PACKAGE):
            return
        values = [*frame.f_locals.values(), argument]
        for name, test in self._tests.items():
            if module not in self.modules[name] and not _initializes(frame) and any(map(test, values)):
                self.modules[name].add(module)


def _initializes(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_name == INITIALIZATION:
            return True
        frame = frame.f_back
    return False


def write_images(folder: Path) -> None:
    """Writes two classes of 16 images each; one file is `MARKED`."""
    generator = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (folder / name).mkdir(parents=True)
        for number in range(16):
            pixels = generator.integers(0, 255, (40, 40, 3), np.uint8)
            file = MARKED if (name, number) == ("cat", 0) else f"{number}.png"
            Image.fromarray(pixels).save(folder / name / file)


def trace(repository: Path) -> Mapping[str, Iterable[str]]:
    """Returns the modules by "image" and "flag"."""
    script = config_lib.import_file(repository / "scripts" / "train.py")
    tracer = Tracer({"image": is_image, "flag": is_rate})
    with tempfile.TemporaryDirectory() as folder:
        images = Path(folder) / "images"
        write_images(images)
        sys.argv = [
            *("train.py", f"--config={repository / 'configs' / 'image_folder.py'}:smoke"),
            *(f"--config.data.path={images}", f"--config.data.root={folder}", f"--workdir={folder}/run"),
            f"--config.optimizer.learning_rate={RATE}",
        ]
        threading.setprofile(tracer)
        sys.setprofile(tracer)
        try:
            script.main(runner.parse_flags(sys.argv)[1:])
        finally:
            sys.setprofile(None)
            threading.setprofile(None)  # type: ignore[arg-type]
    return {name: sorted(modules) for name, modules in tracer.modules.items()}


if __name__ == "__main__":
    for name, modules in trace(Path(__file__).parents[1]).items():
        print(f"{name}: {len(list(modules))} modules", *modules, sep="\n  ")
