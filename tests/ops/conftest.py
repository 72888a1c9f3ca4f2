"""The C++ kernels, built once for all tests, and the forms in which every operation must be the same."""

import fcntl
import os
import shutil
from pathlib import Path

import jax.numpy as jnp
import pytest

from jaxnets.ops.cpu_kernels import Kernels, build, load

CLOSE = {"float64": 1e-11, "float32": 1e-5, "float16": 5e-3, "bfloat16": 3e-2}
"""By type, how far from double precision a result may be, of the largest value."""
OPTIMIZED = {"xla_backend_optimization_level": 3}
"""As users compile; tests are compiled without optimisation."""


@pytest.fixture(params=CLOSE)
def precision(request: pytest.FixtureRequest) -> tuple[jnp.dtype, float]:
    """Each type, and how close to double precision it must come."""
    return jnp.dtype(request.param), CLOSE[request.param]


@pytest.fixture(scope="session")
def optimized() -> dict[str, int]:
    """Options of `jax.jit` for the compilation that users have."""
    return OPTIMIZED


@pytest.fixture(scope="session")
def compiler() -> str:
    """The C++ compiler; tests are skipped where there is none, but in CI there must be one."""
    found = next(filter(None, map(shutil.which, build.COMPILERS)), None)
    if found is None:
        assert not os.environ.get("CI"), "CI has no C++ compiler: install g++"
        pytest.skip("no C++ compiler")
    return found


@pytest.fixture(scope="session")
def built(compiler: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the library, and in `objects` what it was linked from; the first worker builds it."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "kernels"
    (folder / "objects").mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not build.library_path(folder).is_file():
            objects = build.compile_all(compiler, folder / "objects", build.FLAGS)
            build.link(compiler, objects, build.library_path(folder))
    return folder


@pytest.fixture(scope="session")
def kernels(built: Path) -> tuple[Kernels, ...]:
    """The library's forms that this CPU can run, the fastest last; `auto` does not take them."""
    return load(build.library_path(built))
