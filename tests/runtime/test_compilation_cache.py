"""The persistent compilation cache."""

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


def _run(cache: str, home: Path, **variables: str) -> tuple[str, int]:
    """Returns a program's result as hex and the number of cache hits."""
    environment = {**os.environ, "HOME": str(home), "JAX_PLATFORMS": "cpu", **variables}
    if "JAX_COMPILATION_CACHE_DIR" not in variables:
        environment.pop("JAX_COMPILATION_CACHE_DIR", None)
    command = [sys.executable, "-c", PROGRAM, cache]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    result, hits = done.stdout.split()
    return result, int(hits)


def test_second_process_hits_the_cache_with_identical_results(tmp_path: Path) -> None:
    (first, first_hits), (second, second_hits) = _run("auto", tmp_path), _run("auto", tmp_path)
    assert first == second
    assert first_hits == 0 < second_hits
    folder = tmp_path / ".cache" / "jaxnets" / "compiled"
    assert [path.name for path in folder.iterdir()] == [xla.cache_conditions()]


def test_unwritable_cache_folder_is_ignored(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert _run(str(tmp_path / "file"), tmp_path)[1] == 0
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_cache_folder_from_the_environment_is_used(tmp_path: Path) -> None:
    _run("auto", tmp_path, JAX_COMPILATION_CACHE_DIR=str(tmp_path / "mine"))
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_none_disables_the_cache(tmp_path: Path) -> None:
    _run("none", tmp_path, JAX_COMPILATION_CACHE_DIR=str(tmp_path / "mine"))
    assert not list(tmp_path.iterdir())
