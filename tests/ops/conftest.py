"""The C++ kernels, built once for all tests, and the tested precisions."""

import fcntl
import os
import shutil
from pathlib import Path

import jax.numpy as jnp
import pytest

from jaxnets.ops.cpu_kernels import Kernels, build, load

TOLERANCES = {"float64": 1e-11, "float32": 1e-5, "float16": 5e-3, "bfloat16": 3e-2}
"""The allowed error by dtype, relative to the largest value in double precision."""
OPTIMIZED = {"xla_backend_optimization_level": 3}
"""XLA's default; the tests otherwise compile without optimisation."""


@pytest.fixture(params=TOLERANCES)
def precision(request: pytest.FixtureRequest) -> tuple[jnp.dtype, float]:
    """Returns each dtype and its tolerance."""
    return jnp.dtype(request.param), TOLERANCES[request.param]


@pytest.fixture(scope="session")
def optimized() -> dict[str, int]:
    """Returns the options of `jax.jit` for the default optimisation."""
    return OPTIMIZED


@pytest.fixture(scope="session")
def compiler() -> str:
    """Returns the C++ compiler; without one, tests are skipped, or fail in CI."""
    found = next(filter(None, map(shutil.which, build.COMPILERS)), None)
    if found is None:
        assert not os.environ.get("CI"), "CI has no C++ compiler: install g++"
        pytest.skip("no C++ compiler")
    return found


@pytest.fixture(scope="session")
def built(compiler: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns the folder with the library and its `objects`, built by the first worker."""
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
    """Returns the kernels for each instruction set of this CPU, the fastest last, without enabling them."""
    return load(build.library_path(built))
