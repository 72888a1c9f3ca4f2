"""How a script ends: one line and a code for what has a known cause, a traceback for a fault of ours."""

import errno
import os
import signal
import sys
import warnings
from collections.abc import Iterator, Sequence

import jax
import pytest

from jaxnets.commands import runner
from jaxnets.errors import ConfigError, DataError, InterruptedRunError


@pytest.fixture
def quiet_flags(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Flags that change nothing in the process of the tests."""
    flags = ["--nokeep_memory", "--compilation_cache=none"]
    monkeypatch.setattr(sys, "argv", ["scripts/try.py", *flags])
    monkeypatch.setenv("XLA_FLAGS", os.environ.get("XLA_FLAGS", ""))  # which a script adds to

    cached = jax.config.jax_enable_compilation_cache  # type: ignore[attr-defined]
    with warnings.catch_warnings():  # a script hides some of those of others
        yield
    jax.config.update("jax_enable_compilation_cache", cached)


@pytest.mark.usefixtures("quiet_flags")
@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (ConfigError("wrong flag"), 2, "try.py: wrong flag"),
        (DataError("wrong file"), 3, "try.py: wrong file"),
        (InterruptedRunError("saved", signal.SIGTERM), 143, "try.py: saved"),
        (MemoryError(), 6, "out of memory: try a smaller"),
        (RuntimeError("RESOURCE_EXHAUSTED: 9 GB"), 6, "out of memory: try a smaller"),
        (OSError(errno.ENOSPC, "full", "/x"), 6, "the disk is full (/x): make room"),
        (OSError(errno.EFBIG, "large", "/x"), 6, "the disk is full (/x): make room"),
        (OSError(errno.EROFS, "Read-only file system", "/x"), 6, "Read-only file system (/x)"),
    ],
)
def test_a_known_cause_is_one_line(
    error: BaseException, code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def main(arguments: Sequence[str]) -> None:
        raise error

    with pytest.raises(SystemExit) as left:
        runner.execute(main, with_kernels=False)
    assert left.value.code == code
    printed = capsys.readouterr().err
    assert message in printed
    assert printed.count("\n") == 1


@pytest.mark.usefixtures("quiet_flags")
@pytest.mark.parametrize("error", [DataError("\x1b[2Ja\nb\x07"), ValueError("\x1b[2Ja\nb\x07")])
def test_no_message_writes_on_the_terminal(error: Exception, capsys: pytest.CaptureFixture[str]) -> None:
    def main(arguments: Sequence[str]) -> None:
        raise error

    with pytest.raises(SystemExit):
        runner.execute(main, with_kernels=False)
    printed = capsys.readouterr().err
    assert r"\x1b[2Ja" in printed
    assert not {"\x1b", "\x07"} & set(printed)


@pytest.mark.usefixtures("quiet_flags")
@pytest.mark.parametrize("error", [ValueError("ours"), OSError(errno.EIO, "broken")])
def test_anything_else_is_a_fault_with_its_traceback(
    error: Exception, capsys: pytest.CaptureFixture[str]
) -> None:
    def main(arguments: Sequence[str]) -> None:
        raise error

    with pytest.raises(SystemExit) as left:
        runner.execute(main, with_kernels=False)
    assert left.value.code == 1
    printed = capsys.readouterr().err
    assert "Traceback" in printed
    assert "please report it" in printed


@pytest.mark.usefixtures("quiet_flags")
def test_a_job_that_is_done_leaves_with_0() -> None:
    seen: list[Sequence[str]] = []
    with pytest.raises(SystemExit) as left:
        runner.execute(seen.append, with_kernels=False)
    assert left.value.code == 0
    assert seen == [[]]
