"""Exit codes of scripts: one line for a known cause, a traceback for an internal error."""

import errno
import os
import signal
import subprocess
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import pytest

from jaxnets.commands import runner
from jaxnets.errors import ConfigError, DataError, InterruptedRunError


@pytest.fixture
def quiet_flags(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Sets flags that leave the test process unchanged."""
    flags = ["--nokeep_freed_memory", "--compilation_cache=none"]
    monkeypatch.setattr(sys, "argv", ["scripts/try.py", *flags])
    monkeypatch.setenv("XLA_FLAGS", os.environ.get("XLA_FLAGS", ""))  # which scripts append to

    cached = jax.config.jax_enable_compilation_cache  # type: ignore[attr-defined]
    with warnings.catch_warnings():  # scripts filter some
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
def test_known_error_prints_one_line(
    error: BaseException, code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def main(arguments: Sequence[str]) -> None:
        raise error

    with pytest.raises(SystemExit) as exit_info:
        runner.execute(main, with_kernels=False)
    assert exit_info.value.code == code
    printed = capsys.readouterr().err
    assert message in printed
    assert printed.count("\n") == 1


@pytest.mark.usefixtures("quiet_flags")
@pytest.mark.parametrize("error", [DataError("\x1b[2Ja\nb\x07"), ValueError("\x1b[2Ja\nb\x07")])
def test_control_characters_in_errors_are_escaped(
    error: Exception, capsys: pytest.CaptureFixture[str]
) -> None:
    def main(arguments: Sequence[str]) -> None:
        raise error

    with pytest.raises(SystemExit):
        runner.execute(main, with_kernels=False)
    printed = capsys.readouterr().err
    assert r"\x1b[2Ja" in printed
    assert not {"\x1b", "\x07"} & set(printed)


@pytest.mark.usefixtures("quiet_flags")
@pytest.mark.parametrize("error", [ValueError("ours"), OSError(errno.EIO, "broken")])
@pytest.mark.parametrize("is_ours", [True, False])
def test_unknown_error_prints_a_traceback(
    error: Exception, is_ours: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    scope = {"error": error.with_traceback(None)}
    file = runner.__file__ if is_ours else __file__  # where the error is raised
    exec(compile("def main(arguments):\n    raise error\n", file, "exec"), scope)
    main: Any = scope["main"]
    with pytest.raises(SystemExit) as exit_info:
        runner.execute(main, with_kernels=False)
    assert exit_info.value.code == 1
    printed = capsys.readouterr().err
    assert "Traceback" in printed
    assert ("internal error: please report it" in printed) is is_ours
    assert ("test_runner.py, line 2: " in printed) is not is_ours


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--epochs=3", "unknown flag --epochs (did you mean --config.train.epochs?)"),
        ("--wokdir=x", "unknown flag --wokdir (did you mean workdir?)"),
        ("--config.train.epochs", "--config.train.epochs has no value: options are given as --name=value"),
    ],
)
def test_invalid_flags_are_explained(argument: str, message: str, repository: Path) -> None:
    command = [sys.executable, "scripts/train.py", "--config=configs/lung_resnet.py:smoke", argument]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True)
    assert done.returncode == 2
    assert message in done.stderr


@pytest.mark.usefixtures("quiet_flags")
def test_success_exits_with_0() -> None:
    seen: list[Sequence[str]] = []
    with pytest.raises(SystemExit) as exit_info:
        runner.execute(seen.append, with_kernels=False)
    assert exit_info.value.code == 0
    assert seen == [[]]
