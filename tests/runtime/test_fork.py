"""A child made by os.fork() after JAX has started is refused in one line; it would hang or abort."""

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

run, image, spec = sys.argv[1:]
warnings.simplefilter("ignore")  # JAX warns of fork, and is right
{before}

def child(use):
    reader, writer = os.pipe()
    if not os.fork():
        try:
            use()
            said = "no error"
        except ConfigError as error:
            said = str(error)
        os.write(writer, said.encode())
        os._exit(0)
    os.close(writer)
    said = os.fdopen(reader).read()
    os.wait()
    return said

pixels = np.zeros((16, 16, 3), np.uint8)
print(json.dumps([child(use) for use in ({uses},)]))
"""
EVERY_USE = """
    lambda: network.predict(pixels),
    lambda: network.probabilities(pixels[None]),
    lambda: network.gradcam(pixels[None], [0]),
    lambda: jaxnets.load(run),
    lambda: jaxnets.train(spec, workdir=run + "-other")
"""


def _said(trained: Path, spec: str, before: str, uses: str) -> list[str]:
    program = PROGRAM.format(before=before, uses=uses.strip().rstrip(","))
    done = subprocess.run(
        [sys.executable, "-c", program, str(trained), "x.png", spec],
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_every_use_in_a_forked_child_is_refused(trained: Path, smoke_config: str) -> None:
    before = "network = jaxnets.load(run); network.predict(np.zeros((16, 16, 3), np.uint8))"
    said = _said(trained, smoke_config, before, EVERY_USE)
    assert len(said) == 5
    for line in said:
        assert 'multiprocessing.get_context("spawn")' in line
        assert "\n" not in line


@pytest.mark.slow
def test_a_child_forked_before_jax_starts_may_load(trained: Path, smoke_config: str) -> None:
    said = _said(trained, smoke_config, "", "lambda: jaxnets.load(run).predict(pixels)")
    assert said == ["no error"]
