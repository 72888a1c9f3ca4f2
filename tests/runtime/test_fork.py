"""Using the package in a child forked after JAX has started raises; it would hang or abort."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import json, os, sys, warnings
import numpy as np
import jaxnets
from jaxnets.errors import ConfigError

run, image, config_path = sys.argv[1:]
warnings.simplefilter("ignore")  # JAX warns about fork
{before}

def child(use):
    reader, writer = os.pipe()
    if not os.fork():
        try:
            use()
            message = "no error"
        except ConfigError as error:
            message = str(error)
        os.write(writer, message.encode())
        os._exit(0)
    os.close(writer)
    message = os.fdopen(reader).read()
    os.wait()
    return message

pixels = np.zeros((16, 16, 3), np.uint8)
print(json.dumps([child(use) for use in ({uses},)]))
"""
EVERY_USE = """
    lambda: network.predict(pixels),
    lambda: network.probabilities(pixels[None]),
    lambda: network.gradcam(pixels[None], [0]),
    lambda: jaxnets.load(run),
    lambda: jaxnets.train(config_path, workdir=run + "-other")
"""


def _messages_of_children(trained: Path, config_path: str, before: str, uses: str) -> list[str]:
    program = PROGRAM.format(before=before, uses=uses.strip().rstrip(","))
    done = subprocess.run(
        [sys.executable, "-c", program, str(trained), "x.png", config_path],
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_every_use_in_a_forked_child_raises(trained: Path, smoke_config: str) -> None:
    before = "network = jaxnets.load(run); network.predict(np.zeros((16, 16, 3), np.uint8))"
    messages = _messages_of_children(trained, smoke_config, before, EVERY_USE)
    assert len(messages) == 5
    for message in messages:
        assert 'multiprocessing.get_context("spawn")' in message
        assert "\n" not in message


@pytest.mark.slow
def test_child_forked_before_jax_starts_can_load(trained: Path, smoke_config: str) -> None:
    use = "lambda: jaxnets.load(run).predict(pixels)"
    assert _messages_of_children(trained, smoke_config, "", use) == ["no error"]
