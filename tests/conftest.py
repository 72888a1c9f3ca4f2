"""Fixtures for all tests, such as double precision and a small trained run."""

import contextlib
import gc
import os
import signal
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

# Most of the time is compilation, so it is done without optimisation.
os.environ["XLA_FLAGS"] = f"--xla_backend_optimization_level=0 {os.environ.get('XLA_FLAGS', '')}"
os.environ["JAXNETS_BUILD_KERNELS"] = "0"  # in child processes too; tests of the build set it back

import jax
import pytest
from hypothesis import settings

from jaxnets.ops.cpu_kernels import build
from jaxnets.runtime import console
from jaxnets.training.devices import CompiledStep

# A shell's background jobs and nohup ignore these signals, and child processes would inherit that.
for number in (signal.SIGINT, signal.SIGHUP):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)

# No deadline, because workers share the cores; the same examples in every run.
settings.register_profile("suite", deadline=None, derandomize=True)
settings.load_profile("suite")

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

# JAX keeps many objects: collections of the usual frequency take a tenth of the time.
gc.set_threshold(200_000, 50, 1_000)

REPOSITORY = Path(__file__).parent.parent
SMOKE = {
    "model.name": "lenet5",
    "model.kernel_size": 3,
    "data.image_size": 16,
    "data.num_examples": 60,
    "log.tensorboard": False,
}
"""Overrides of configs/lung_resnet.py:smoke that compile in one or two seconds."""


def pytest_collection_finish() -> None:
    """Excludes imported modules from garbage collection."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def compile_once(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Sets a compilation cache that is shared by the workers of this session."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder = shared / "compiled"
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(folder)  # for child processes
    jax.config.update("jax_compilation_cache_dir", str(folder))
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)


@pytest.fixture(scope="session", autouse=True)
def no_implicit_transfers() -> Iterator[None]:
    """Makes transfers from the host within a compiled step errors, if there is one device.

    On CPUs JAX does not guard transfers from the device to the host, and `pmap` places a batch by itself.
    """
    call = CompiledStep.__call__

    def guarded(step: CompiledStep, state: Any, batch: Any) -> Any:
        step.compile(state, batch)  # tracing may transfer constants
        guard = jax.transfer_guard("disallow") if jax.device_count() == 1 else contextlib.nullcontext()
        with guard:
            return call(step, state, batch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CompiledStep, "__call__", guarded)
        yield


@pytest.fixture(scope="session", autouse=True)
def no_installed_kernels(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Hides the C++ kernels that the user has built, so that tests do not depend on them."""
    empty = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build, "user_cache_folder", lambda: empty)
        yield


@pytest.fixture(scope="session", autouse=True)
def displayed_log() -> None:
    """Displays the library's log, as scripts do."""
    console.show()


@pytest.fixture
def optax_promotion() -> Iterator[None]:
    """Enables NumPy's type promotion, which optax's Adam and reduce_on_plateau rely on."""
    with jax.numpy_dtype_promotion("standard"):
        yield


@pytest.fixture
def x64() -> Iterator[None]:
    """Enables double precision for one test."""
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", False)


@pytest.fixture(scope="session")
def repository() -> Path:
    """Returns the root of the repository."""
    return REPOSITORY


@pytest.fixture(scope="session")
def smoke_config() -> str:
    """Returns the config of small runs."""
    return str(REPOSITORY / "configs" / "lung_resnet.py") + ":smoke"


@pytest.fixture(scope="session")
def smoke_overrides(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """Returns overrides for small runs, with a separate data folder."""
    return {**SMOKE, "data.root": str(tmp_path_factory.mktemp("data"))}


@pytest.fixture(scope="session")
def trained(
    smoke_config: str, smoke_overrides: dict[str, object], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Returns the directory of a finished small run; tests must not change it."""
    import jaxnets

    workdir = tmp_path_factory.mktemp("runs") / "trained"
    jaxnets.train(smoke_config, smoke_overrides, workdir=workdir)
    return workdir


@pytest.fixture(scope="session")
def calibrated(
    smoke_config: str, smoke_overrides: dict[str, object], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Returns the directory of a run that learned enough for a temperature; tests must not change it."""
    import jaxnets

    workdir = tmp_path_factory.mktemp("runs") / "calibrated"
    overrides: dict[str, object] = {
        "data.num_examples": 120,
        "data.fractions": (0.4, 0.4, 0.2),
        "optimizer.name": "adam",
        "optimizer.learning_rate": 0.003,
        "train.epochs": 30,
    }
    with jax.numpy_dtype_promotion("standard"):  # for optax's Adam
        jaxnets.train(smoke_config, {**smoke_overrides, **overrides}, workdir=workdir)
    return workdir


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Returns the folder in $JAXNETS_DATA; skips the test if there is none."""
    folder = os.environ.get("JAXNETS_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("real data: set JAXNETS_DATA to a folder that holds it")
    return Path(folder)


class Page(HTMLParser):
    """A parsed HTML page: linked addresses, metrics, tags and text."""

    def __init__(self, html: str):
        super().__init__()
        self.addresses: list[str] = []
        self.figures: dict[tuple[str, str], str] = {}
        self.words = ""
        self._open: tuple[str, str] | None = None
        self.tags: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.tags.append(tag)
        self.addresses += [given[name] for name in ("src", "href", "srcset", "data") if name in given]
        if "data-metric" in given:
            self._open = (given.get("data-class", "all"), given["data-metric"])
        elif tag == "small":
            self._open = None

    def handle_data(self, data: str) -> None:
        self.words += data
        if self._open:
            self.figures[self._open] = data
            self._open = None


@pytest.fixture(scope="session")
def read_page() -> Callable[[str], Page]:
    """Returns a function that parses HTML."""
    return Page
