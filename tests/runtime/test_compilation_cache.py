"""Compiled programs are cached, found again, and give the same bits."""

import os
import subprocess
import sys
from pathlib import Path

from jaxnets.runtime import xla

PROGRAM = """
import sys
import jax
from jaxnets.runtime import xla

xla.enable_compilation_cache(sys.argv[1])
events = []
jax.monitoring.register_event_listener(lambda name, **_: events.append(name))
print(jax.jit(lambda x: (x * x.T).sum() ** 0.3)(jax.numpy.arange(9.0).reshape(3, 3)).item().hex())
print(events.count("/jax/compilation_cache/cache_hits"))
"""


def _run(place: str, home: Path, **more: str) -> tuple[str, int]:
    """The bits of a program's result, and how many programs were found."""
    environment = {**os.environ, "HOME": str(home), "JAX_PLATFORMS": "cpu", **more}
    if "JAX_COMPILATION_CACHE_DIR" not in more:
        environment.pop("JAX_COMPILATION_CACHE_DIR", None)
    command = [sys.executable, "-c", PROGRAM, place]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    bits, hits = done.stdout.split()
    return bits, int(hits)


def test_the_second_start_finds_the_program_and_gives_the_same_bits(tmp_path: Path) -> None:
    (first, none), (second, some) = _run("auto", tmp_path), _run("auto", tmp_path)
    assert first == second
    assert none == 0 < some
    folder = tmp_path / ".cache" / "jaxnets" / "compiled"
    assert [path.name for path in folder.iterdir()] == [xla.cache_conditions()]


def test_a_folder_that_cannot_be_written_is_no_fault(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert _run(str(tmp_path / "file"), tmp_path)[1] == 0
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_cache_folder_that_jax_has_already_is_used(tmp_path: Path) -> None:
    _run("auto", tmp_path, JAX_COMPILATION_CACHE_DIR=str(tmp_path / "mine"))
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_none_disables_the_cache(tmp_path: Path) -> None:
    _run("none", tmp_path, JAX_COMPILATION_CACHE_DIR=str(tmp_path / "mine"))
    assert not list(tmp_path.iterdir())
