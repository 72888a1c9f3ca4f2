"""What all tests share: double precision on request, and one small trained run."""

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

# Most of the suite's time is XLA's, and most of that LLVM's: what is tested runs for a blink.
os.environ["XLA_FLAGS"] = f"--xla_backend_optimization_level=0 {os.environ.get('XLA_FLAGS', '')}"

import jax
import pytest
from hypothesis import settings

from jaxnets.training.devices import CompiledStep

# In the background of a shell and under nohup these are ignored, and so they are in the processes of tests.
for number in (signal.SIGINT, signal.SIGHUP):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)

# Two workers share the cores, so an example may take long; the same ones every time.
settings.register_profile("suite", deadline=None, derandomize=True)
settings.load_profile("suite")

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

REPOSITORY = Path(__file__).parent.parent
SMOKE = {
    "model.name": "lenet5",
    "model.kernel_size": 3,
    "data.image_size": 16,
    "data.num_examples": 60,
    "log.tensorboard": False,
}
"""Overrides of configs/lung_resnet.py:smoke that compile in a second or two."""


@pytest.fixture(scope="session", autouse=True)
def compile_once(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Programs that several tests need are compiled by the first of them; nothing outlives the session."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder = shared / "compiled"
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(folder)  # for processes that tests start
    jax.config.update("jax_compilation_cache_dir", str(folder))
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)


@pytest.fixture(scope="session", autouse=True)
def no_implicit_transfers() -> Iterator[None]:
    """On one device every argument of a compiled step is there already: a step copies nothing from the host.

    On CPUs JAX does not guard copies from the device to the host, and `pmap` places a batch by itself.
    """
    call = CompiledStep.__call__

    def guarded(step: CompiledStep, state: Any, batch: Any) -> Any:
        step.compile(state, batch)  # constants may be copied as a program is traced
        guard = jax.transfer_guard("disallow") if jax.device_count() == 1 else contextlib.nullcontext()
        with guard:
            return call(step, state, batch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CompiledStep, "__call__", guarded)
        yield


@pytest.fixture
def optax_promotion() -> Iterator[None]:
    """NumPy's rules of types, which optax's Adam and plateau rely on: a float to the power of an integer."""
    with jax.numpy_dtype_promotion("standard"):
        yield


@pytest.fixture
def x64() -> Iterator[None]:
    """Double precision for one test."""
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", False)


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the checkout."""
    return REPOSITORY


@pytest.fixture(scope="session")
def smoke_config() -> str:
    """The config file of the small runs."""
    return str(REPOSITORY / "configs" / "lung_resnet.py") + ":smoke"


@pytest.fixture(scope="session")
def smoke_overrides(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """Overrides that make a run small, with a data folder of its own."""
    return {**SMOKE, "data.root": str(tmp_path_factory.mktemp("data"))}


@pytest.fixture(scope="session")
def trained(
    smoke_config: str, smoke_overrides: dict[str, object], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The directory of a finished small run; tests must not change it."""
    import jaxnets

    workdir = tmp_path_factory.mktemp("runs") / "trained"
    jaxnets.train(smoke_config, smoke_overrides, workdir=workdir)
    return workdir


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder that $JAXNETS_DATA names; the test is skipped where there is none."""
    folder = os.environ.get("JAXNETS_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("real data: set JAXNETS_DATA to a folder that holds it")
    return Path(folder)


class Page(HTMLParser):
    """What a test looks at: addresses that a browser would fetch, measured figures, all text."""

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
    """From HTML to a Page."""
    return Page
