"""Training, loading and predicting from Python do not change global state and print nothing."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

PROGRAM = """
import json, locale, logging, os, random, signal, sys, threading, warnings
import numpy as np
import jax
{imports}
warnings.simplefilter("default")
warnings.filterwarnings("error", message="the user's own")
logging.basicConfig(level=logging.WARNING)
logging.captureWarnings(False)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
os.environ["OF_THE_USER"] = "1"


def state():
    loggers = [logging.getLogger(), *(logging.getLogger(name) for name in logging.root.manager.loggerDict)]
    return {{
        "warning filters": [repr(entry) for entry in warnings.filters],
        "showwarning": repr(warnings.showwarning),
        "environment": dict(os.environ),
        "signal handlers": [repr(signal.getsignal(number)) for number in sorted(signal.valid_signals())],
        "loggers": {{
            logger.name: [logger.level, logger.propagate, logger.disabled, list(map(repr, logger.handlers))]
            for logger in loggers
        }},
        "logging": [logging.root.manager.disable, repr(logging.getLoggerClass())],
        "numpy": [repr(np.geterr()), repr(np.get_printoptions())],
        "random": [repr(random.getstate()), repr(np.random.get_state())],
        "excepthook": [repr(sys.excepthook), repr(threading.excepthook)],
        "folder and umask": [os.getcwd(), os.umask(os.umask(0))],
        "locale": locale.setlocale(locale.LC_ALL),
        "jax": {{name: repr(value) for name, value in jax.config.values.items() if name != "{except_for}"}},
    }}


import jaxnets
before = state()
{action}
after = state()
for logger in set(after["loggers"]) - set(before["loggers"]):  # of modules imported meanwhile
    del after["loggers"][logger]
print(json.dumps({{name: [before[name], after[name]] for name in before if before[name] != after[name]}}))
"""
IMPORTS = "import grain, orbax.checkpoint, flax, optax, absl.logging, PIL.Image, rich"
"""Packages that jaxnets imports: side effects of their imports are not tested."""


@pytest.fixture
def images(tmp_path: Path) -> list[str]:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (20, 20)).save(tmp_path / "plain.png")
    Image.new("RGB", (20, 20)).save(tmp_path / "odd.jpg", exif=exif.tobytes()[:17])
    Image.new("L", (20, 20)).save(tmp_path / "grey.tif")
    return sorted(map(str, tmp_path.iterdir()))


def changed_by(action: str, *arguments: object) -> dict[str, Any]:
    """Runs Python code in a new, silent process; returns the global state that it changes."""
    program = PROGRAM.format(imports=IMPORTS, action=action, except_for="jax_enable_x64")
    command = [sys.executable, "-c", program, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "PIL" in done.stderr or done.stderr == ""  # Pillow warns of odd metadata
    return json.loads(done.stdout)  # the only line


def test_loading_and_predicting_do_not_change_global_state(trained: Path, images: list[str]) -> None:
    assert changed_by("jaxnets.load(sys.argv[1]).predict(sys.argv[2:])", trained, *images) == {}


def test_training_is_silent_and_does_not_change_global_state(
    smoke_config: str, smoke_overrides: dict[str, Any], tmp_path: Path
) -> None:
    overrides = {**smoke_overrides, "train.epochs": 1, "log.tensorboard": True}
    action = f"jaxnets.train(sys.argv[1], {overrides!r}, workdir=sys.argv[2])"
    assert changed_by(action, smoke_config, tmp_path / "run") == {}
    assert (tmp_path / "run" / "result.json").is_file()
