"""Two patterns that XLA miscompiles on CPUs by default, and the setting that avoids it."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnets.runtime import xla
from jaxnets.training.devices import Devices

UNSAFE = "this version of jaxlib computes wrong numbers"


def _matrix_vector_products(dtype: str) -> tuple[Callable[..., jax.Array], tuple[jax.Array, ...]]:
    """Returns a vmapped matrix-vector product and sum; the last rows come out too small."""
    rows = 16_385 if dtype == "float64" else 32_769
    first = jnp.arange(rows, dtype=dtype)
    x = jnp.stack((first, jnp.zeros_like(first), jnp.zeros_like(first)), axis=1)
    identity = jnp.eye(3, dtype=dtype)
    return jax.vmap(lambda row: jnp.sum((identity @ row) ** 2)), (x,)


def _batched_product(dtype: str) -> tuple[Callable[..., jax.Array], tuple[jax.Array, ...]]:
    """Returns a batched product with a broadcast operand, multiplied and summed; entirely wrong."""
    x = jnp.asarray(np.random.default_rng(0).standard_normal((5, 60, 60)), dtype)
    scale = jnp.asarray(0.37, dtype)
    return lambda x, scale: jnp.sum((x @ jnp.full_like(x, scale)) * x, axis=-1), (x, scale)


def _error(function: Callable[..., jax.Array], arguments: tuple[jax.Array, ...], **options: object) -> float:
    """Returns the largest error of the compiled function, relative to the largest value."""
    eager = np.asarray(function(*arguments))
    compiled = np.asarray(jax.jit(function, **options)(*arguments))
    return float(np.max(np.abs(compiled - eager)) / np.max(np.abs(eager)))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("pattern", [_matrix_vector_products, _batched_product])
def test_both_patterns_are_correct_with_the_safe_setting(
    pattern: Callable[[str], tuple[Callable[..., jax.Array], tuple[jax.Array, ...]]], dtype: str
) -> None:
    with jax.enable_x64(dtype == "float64"):
        function, arguments = pattern(dtype)
        eager = np.asarray(function(*arguments))
        limit = 1e-12 if dtype == "float64" else 1e-5
        for compiled in (
            xla.jit(function)(*arguments),
            Devices.all().compile_step(lambda state, batch: function(*state), donate=False)(arguments, {}),
        ):
            assert np.max(np.abs(compiled - eager)) <= limit * np.max(np.abs(eager))


PATTERNS = """
import sys
sys.path.insert(0, {folder!r})
import jax, test_xla
jax.config.update("jax_enable_x64", True)
for pattern in (test_xla._matrix_vector_products, test_xla._batched_product):
    print(test_xla._error(*pattern("float64")))
"""


def _errors_in_a_process(flags: str) -> list[float]:
    program = PATTERNS.format(folder=str(Path(__file__).parent))
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "XLA_FLAGS": flags},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return [float(line) for line in done.stdout.split()]


def test_both_patterns_are_correct_with_the_flag_of_scripts() -> None:
    environment: dict[str, str] = {}
    xla.set_safe_flags(environment)
    errors = _errors_in_a_process(environment.get("XLA_FLAGS", ""))
    assert all(error < 1e-12 for error in errors)


@pytest.mark.skipif(not xla.is_affected(), reason="this jaxlib is not affected")
def test_both_patterns_are_wrong_by_default() -> None:
    """If this fails, the bug is fixed in this jaxlib: exclude the version from `is_affected`."""
    assert not all(error < 1e-6 for error in _errors_in_a_process(""))  # NaN in some versions


def test_user_flags_are_retained() -> None:
    own = {"XLA_FLAGS": f"--xla_dump_to=x --{xla.FLAG}=dot"}
    before = dict(own)
    xla.set_safe_flags(own)
    assert own == before
    assert xla.fusions_in(own) == "dot"
    other = {"XLA_FLAGS": "--xla_dump_to=x"}
    xla.set_safe_flags(other)
    assert other["XLA_FLAGS"].startswith("--xla_dump_to=x")
    assert xla.fusions_in(other) == (xla.SAFE_FUSIONS if xla.is_affected() else None)


@pytest.mark.parametrize(
    ("version", "affected"),
    [
        ("0.9.2", False),
        ("0.10.1", False),
        ("0.10.2", True),
        ("0.11.2", True),
        ("0.12.0.1", True),
        ("0.13.0", False),
    ],
)
def test_affected_versions(version: str, affected: bool) -> None:
    assert xla.is_affected(version) is affected


def test_flag_and_compiler_options_compile_identical_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    """So a run started by a script can be resumed from Python, and vice versa."""
    x = jnp.ones((64, 64))  # XLA reads XLA_FLAGS once, here
    monkeypatch.setenv("XLA_FLAGS", "")
    from_python = xla.fusions()
    environment: dict[str, str] = {}
    xla.set_safe_flags(environment)
    monkeypatch.setenv("XLA_FLAGS", environment.get("XLA_FLAGS", ""))
    assert xla.fusions() == from_python
    programs = [
        jax.jit(lambda x: jnp.sum((x @ x) * x), compiler_options=options).lower(x).compile()
        for options in ({}, xla.compiler_options())
    ]
    assert len({program.as_text() for program in programs}) == (2 if xla.is_affected() else 1)
    monkeypatch.setenv("XLA_FLAGS", f"--{xla.FLAG}=dot")
    assert xla.compiler_options() == {}  # the user's own choice


def test_multi_process_runs_need_the_flag(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XLA_FLAGS", "")
    two = Devices(count=2, local_count=1, process_index=0, process_count=2)
    if xla.is_affected():
        with pytest.raises(Exception, match=f"--{xla.FLAG}="):
            two.compile_step(lambda state, batch: state, donate=False)
    monkeypatch.setenv("XLA_FLAGS", xla.SAFE_FLAG)
    two.compile_step(lambda state, batch: state, donate=False)


def test_only_exempt_modules_call_jax_jit(repository: Path) -> None:
    """Other modules must use `xla.jit`, which sets the compiler options."""
    exempt = {
        "jaxnets/runtime/xla.py",
        "jaxnets/training/devices.py",  # compiles ahead of time with the options
        "jaxnets/ops/initializers.py",  # random draws without products
        "jaxnets/ops/normalization.py",  # element-wise functions
        "jaxnets/training/on_device.py",  # traced inside of a step
        "jaxnets/commands/export.py",  # compiled where it is loaded
    }
    found = {
        str(path.relative_to(repository))
        for path in (repository / "jaxnets").rglob("*.py")
        if "jax.jit" in path.read_text() or "jax.pmap" in path.read_text()
        if "bench" not in path.parts  # runs in processes started by a script
    }
    assert found == exempt


def test_the_unsafe_default_is_logged_once_from_python() -> None:
    program = (
        "import logging, jaxnets\n"
        "from jaxnets.errors import JaxnetsError\n"
        "logging.basicConfig(level=logging.INFO)\n"
        "for _ in range(2):\n"
        "    try:\n"
        "        jaxnets.load('nowhere')\n"
        "    except JaxnetsError:\n"
        "        pass\n"
    )
    for flags, times in (("", 1), (xla.SAFE_FLAG if xla.is_affected() else "", 0)):
        done = subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "XLA_FLAGS": flags},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        assert done.stderr.count(UNSAFE) == (times if xla.is_affected() else 0), done.stderr
        if times and xla.is_affected():
            assert xla.SAFE_FLAG in done.stderr
