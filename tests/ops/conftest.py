"""The C++ kernels, built once for all tests, and the forms in which every operation must be the same."""

import fcntl
import os
import shutil
from pathlib import Path

import pytest

from jaxnets.ops.kernels import build
from jaxnets.ops.kernels.load import Kernels, load


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
