"""Building the kernels at the first start: once, only where needed, and without them if it fails."""

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from training_runs import SignalAfterStep

import jaxnets
from jaxnets.errors import CheckpointError, InterruptedRunError, MachineError
from jaxnets.ops import convolution, cpu_kernels
from jaxnets.ops.cpu_kernels import background, build

COMPILER = """#!/bin/sh
echo "$@" >> '{log}'
{action}
for last; do :; done
case "$*" in *-shared*) cp '{library}' "$last";; esac
"""
"""A compiler that writes its arguments to `log` and copies a library instead of linking."""


@pytest.fixture
def compiler_at(built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Returns a function that makes a compiler with an action the default one, and returns its log."""
    monkeypatch.delenv(background.VARIABLE)
    library, log = build.library_path(built), tmp_path / "log"

    def make(action: str = "") -> Path:
        path = tmp_path / "compiler"
        path.write_text(COMPILER.format(log=log, action=action, library=library))
        path.chmod(0o755)
        monkeypatch.setenv("CXX", str(path))
        log.write_text("")
        return log

    return make


@pytest.fixture
def records(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """Returns the log, from INFO on."""
    monkeypatch.setattr(logging.getLogger("jaxnets"), "propagate", True)
    caplog.set_level(logging.INFO, "jaxnets")
    return caplog


def _used(folder: Path) -> cpu_kernels.Kernels | None:
    with background.enabled(folder):
        return cpu_kernels.in_use()


def test_the_first_program_waits_for_the_library(
    compiler_at: Callable[..., Path], tmp_path: Path, records: pytest.LogCaptureFixture
) -> None:
    log, folder = compiler_at(), tmp_path / "kernels"
    with background.enabled(folder):
        assert not folder.exists()  # nothing has needed it
        program = jax.jit(convolution).lower(jnp.ones((1, 4, 4, 2)), jnp.ones((3, 3, 2, 2)))
        assert "jaxnets_" in program.as_text()
    assert cpu_kernels.in_use() is None
    path = build.library_path(folder)
    assert [record.getMessage() for record in records.records] == [
        f"kernels   C++ kernels for CPUs, built in 0 s: {path}; --nokernels runs without them"
    ]
    log.write_text("")
    records.clear()
    assert _used(folder) == cpu_kernels.load(path)[-1]
    assert (log.read_text(), records.records) == ("", [])


def test_accelerators_need_no_kernels(
    compiler_at: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = compiler_at()
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    with background.enabled(tmp_path / "kernels"):
        cpu_kernels.start_build()
        assert cpu_kernels.in_use() is None
    assert log.read_text() == ""


def test_the_environment_can_forbid_building(
    compiler_at: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = compiler_at()
    monkeypatch.setenv(background.VARIABLE, "0")
    assert _used(tmp_path / "kernels") is None
    assert log.read_text() == ""


def test_of_two_builds_the_second_waits(compiler_at: Callable[..., Path], tmp_path: Path) -> None:
    log = compiler_at("sleep 0.1")
    two = [background.BackgroundBuild(tmp_path / "kernels") for _ in range(2)]
    for each in two:
        each.start()
    assert [each.wait() for each in two] == [build.library_path(tmp_path / "kernels")] * 2
    assert log.read_text().count("-shared") == 1


def test_a_missing_compiler_is_said_once(
    compiler_at: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    records: pytest.LogCaptureFixture,
) -> None:
    compiler_at()
    with_compiler = os.environ["CXX"]
    monkeypatch.setenv("CXX", "none-such")
    for _ in range(2):
        assert _used(tmp_path / "kernels") is None
    (message,) = [record.getMessage() for record in records.records]
    assert message.startswith("note      no C++ compiler (none-such): install one")
    monkeypatch.setenv("CXX", with_compiler)
    assert _used(tmp_path / "kernels") is not None


def test_a_compiler_that_failed_is_not_tried_again(
    compiler_at: Callable[..., Path], tmp_path: Path, records: pytest.LogCaptureFixture
) -> None:
    folder, log = tmp_path / "kernels", compiler_at("echo 'error: too old' >&2; exit 1")
    messages = []
    for runs in (True, False):
        assert _used(folder) is None
        assert bool(log.read_text()) == runs
        (record,) = records.records
        messages.append((record.levelname, record.getMessage()))
        log.write_text("")
        records.clear()
    assert messages[0] == messages[1]
    assert messages[0][0] == "WARNING"
    assert "build_kernels.py tries again" in messages[0][1]
    assert "refused the kernels (error: too old)" in messages[0][1]
    with pytest.raises(MachineError, match="too old"):
        build.build(folder)  # as scripts/build_kernels.py does
    assert log.read_text()
    compiler_at()  # another compiler
    assert _used(folder) is not None


def test_a_folder_that_cannot_be_written_is_one_warning(
    compiler_at: Callable[..., Path], tmp_path: Path, records: pytest.LogCaptureFixture
) -> None:
    log = compiler_at()
    (tmp_path / "file").write_text("")
    assert _used(tmp_path / "file" / "kernels") is None
    (record,) = records.records
    assert record.levelname == "WARNING"
    assert f"{tmp_path}/file/kernels cannot be written (Not a directory)" in record.getMessage()
    assert log.read_text() == ""


def test_an_unneeded_build_is_stopped(compiler_at: Callable[..., Path], tmp_path: Path) -> None:
    log, folder = compiler_at("sleep 100"), tmp_path / "kernels"
    start = time.monotonic()
    with background.enabled(folder):
        cpu_kernels.start_build()
        while not log.read_text():
            time.sleep(0.01)
    assert time.monotonic() - start < 30
    assert [path.name for path in folder.iterdir()] == [".lock"]
    compiler_at()
    assert _used(folder) is not None  # it is not remembered as a failure


def test_train_builds_and_load_does_not(
    compiler_at: Callable[..., Path],
    trained: Path,
    smoke_config: str,
    smoke_overrides: dict[str, object],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    log = compiler_at()
    monkeypatch.setattr(build, "user_cache_folder", lambda: tmp_path)
    jaxnets.load(trained)
    assert log.read_text() == ""
    options = {"workdir": tmp_path / "without"}
    assert jaxnets.train(smoke_config, smoke_overrides, kernels=False, **options)["implementation"] == (
        "cpu: by shape"
    )
    assert log.read_text() == ""
    result = jaxnets.train(smoke_config, smoke_overrides, workdir=tmp_path / "run")
    assert result["implementation"].startswith("cpu: C++ kernels")
    assert build.find() == build.library_path(tmp_path / "kernels")


def test_a_resume_continues_with_the_kernels_of_its_beginning(
    compiler_at: Callable[..., Path],
    smoke_config: str,
    smoke_overrides: dict[str, object],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    compiler_at()
    monkeypatch.setattr(build, "user_cache_folder", lambda: tmp_path)

    def train(name: str, **options: Any) -> Any:
        return jaxnets.train(smoke_config, smoke_overrides, workdir=tmp_path / name, **options)

    for name, kernels in (("without", False), ("with", True)):
        with pytest.raises(InterruptedRunError):
            train(name, kernels=kernels, callbacks=[SignalAfterStep(2, signal.SIGTERM)])
    with pytest.raises(CheckpointError, match="not be bit-exact .* --nokernels continues without"):
        train("without")
    assert train("without", kernels=False)["implementation"] == "cpu: by shape"
    with pytest.raises(CheckpointError, match="began with the C[+][+] kernels: leave out --nokernels"):
        train("with", kernels=False)
    assert train("with")["implementation"].startswith("cpu: C++ kernels")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_compilers(
    compiler_at: Callable[..., Path],
    number: signal.Signals,
    repository: Path,
    smoke_config: str,
    smoke_overrides: dict[str, object],
    tmp_path: Path,
) -> None:
    children, scratch = tmp_path / "children", tmp_path / "scratch"
    log = compiler_at(f"sleep 100 & echo $! >> '{children}'; wait")
    children.write_text("")
    scratch.mkdir()
    fields = [f"--config.{name}={value}" for name, value in smoke_overrides.items()]
    folders = (f"--kernels_folder={tmp_path}/kernels", f"--workdir={tmp_path}/run")
    process = subprocess.Popen(
        [sys.executable, "scripts/train.py", f"--config={smoke_config}", *fields, *folders],
        cwd=repository,
        env={**os.environ, "TMPDIR": str(scratch)},
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        while not children.read_text():
            assert process.poll() is None, process.communicate()
            time.sleep(0.05)
        process.send_signal(number)
        errors = process.communicate(timeout=60)[1]
    finally:
        process.kill()
    assert process.returncode == 128 + number, errors
    assert "Traceback" not in errors
    assert [path.name for path in (tmp_path / "kernels").iterdir()] == [".lock"]
    assert list(scratch.iterdir()) == []
    assert "-shared" not in log.read_text()
    for identifier in children.read_text().split():
        state = subprocess.run(["ps", "-o", "stat=", "-p", identifier], capture_output=True, text=True).stdout
        assert state.strip()[:1] in ("", "Z"), state  # gone, or not yet collected
