"""Distributed training: if a process is stopped, fails or is killed, the others exit too."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from jaxnets.errors import MachineError
from jaxnets.experiment import workdir
from jaxnets.runtime import distributed

SECONDS = 60
"""The other processes must exit within this time."""


def _start_two_processes(repository: Path, *flags: str) -> list["subprocess.Popen[str]"]:
    """Starts the two processes of a small training job."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    command = [
        *(sys.executable, "scripts/train.py", "--config=configs/lung_resnet.py:smoke"),
        *("--config.model.name=lenet5", "--config.data.image_size=16", "--distributed"),
        *("--config.train.batch_size=16", "--num_processes=2"),
        *(f"--coordinator=localhost:{port}", "--config.log.every_steps=1", *flags),
    ]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    return [
        subprocess.Popen(
            [*command, f"--process_id={number}"],
            cwd=repository,
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(2)
    ]


def _wait_for_exit(processes: list["subprocess.Popen[str]"]) -> tuple[list[int], list[str]]:
    """Returns the exit codes and standard errors."""
    errors = [process.communicate(timeout=240)[1] for process in processes]
    return [process.returncode for process in processes], errors


@pytest.mark.slow
def test_two_processes_stop_together_and_resume(repository: Path, tmp_path: Path) -> None:
    flags = (
        *(f"--config.data.root={tmp_path}", f"--workdir={tmp_path / 'run'}"),
        "--config.train.epochs=400",
    )
    processes = _start_two_processes(repository, *flags)
    _wait_for_a_save(processes, tmp_path / "run")
    processes[1].send_signal(signal.SIGTERM)  # to one process; both save and exit
    assert _wait_for_exit(processes)[0] == [143, 143]
    assert _wait_for_exit(_start_two_processes(repository, *flags))[0] == [0, 0]
    assert json.loads((tmp_path / "run" / "result.json").read_text())["epochs"] == 400


@pytest.mark.slow
def test_if_one_process_fails_the_other_exits(repository: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    with workdir.lock_workdir(tmp_path / "run"):  # only process 0 locks it
        processes = _start_two_processes(
            repository, f"--config.data.root={tmp_path}", f"--workdir={tmp_path / 'run'}"
        )
        codes, errors = _wait_for_exit(processes)
    assert codes == [6, 6]
    assert "is in use by another process" in errors[0]
    assert "another process failed" in errors[1]


def _wait_for_a_save(processes: list["subprocess.Popen[str]"], run: Path) -> None:
    while not list(run.glob("checkpoints/*/manifest.json")):
        assert processes[0].poll() is None
        time.sleep(0.1)


def _training_child(parent: int) -> int:
    """Returns the child of a process with --distributed, which trains."""
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    assert len(children) == 1
    return int(children[0])


@pytest.mark.slow
@pytest.mark.parametrize("killed", [0, 1])
@pytest.mark.parametrize("kill_parent", [True, False], ids=["parent", "child"])
def test_if_one_process_is_killed_the_other_exits_and_both_resume(
    repository: Path, tmp_path: Path, killed: int, kill_parent: bool
) -> None:
    """SIGKILL to the parent process, or to its training child only, as when memory runs out."""
    flags = (
        *(f"--config.data.root={tmp_path}", f"--workdir={tmp_path / 'run'}"),
        "--config.train.epochs=200",
    )
    processes = _start_two_processes(repository, *flags)
    _wait_for_a_save(processes, tmp_path / "run")
    victim, other = processes[killed], processes[1 - killed]
    os.kill(victim.pid if kill_parent else _training_child(victim.pid), signal.SIGKILL)
    start = time.monotonic()
    errors = other.communicate(timeout=SECONDS)[1]
    print(f"process {killed} killed: {other.returncode} after {time.monotonic() - start:.1f} s")
    # Either process may fill the cache and print its progress.
    lines = [line for line in errors.splitlines() if not line.startswith(("[Gloo]", "cache "))]
    assert other.returncode == 6, errors
    assert len(lines) == 1, errors
    assert lines[0].startswith(f"train.py: {distributed.LOST}")
    errors = victim.communicate(timeout=SECONDS)[1]
    if kill_parent:
        assert victim.returncode == -signal.SIGKILL
    else:
        assert victim.returncode == 6
        assert "killed by SIGKILL (out of memory?)" in errors.splitlines()[-1]
    assert _wait_for_exit(_start_two_processes(repository, *flags))[0] == [0, 0]
    assert json.loads((tmp_path / "run" / "result.json").read_text())["epochs"] == 200


STACK = """
import os, sys
print("a warning", file=sys.stderr)
print("E1129 00:41:37.123456  77 client.cc:1] heartbeat timeout", file=sys.stderr)
print("*** SIGABRT received by PID 77 ***", file=sys.stderr, flush=True)
{end}
"""


def _run(end: str, *, with_traceback: bool = False) -> None:
    command = [sys.executable, "-c", STACK.format(end=end)]
    distributed.run_in_child(command, with_traceback=with_traceback)


@pytest.fixture
def _no_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(distributed.PARENT, "")  # and removed after the test


@pytest.mark.usefixtures("_no_parent")
@pytest.mark.parametrize("with_traceback", [False, True])
def test_abort_is_a_one_line_error_without_its_stack(
    with_traceback: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(MachineError, match=f"{distributed.LOST}: JAX aborted this one; start") as e:
        _run("os.abort()", with_traceback=with_traceback)
    assert e.value.exit_code == 6
    shown = capfd.readouterr().err
    assert "a warning" in shown
    assert ("SIGABRT received" in shown) == with_traceback


@pytest.mark.usefixtures("_no_parent")
@pytest.mark.parametrize("end", ["os.abort()", "sys.exit(6)"])
def test_reported_cause_is_not_repeated(end: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_info:
        _run(f"print({distributed.LOST!r}, file=sys.stderr, flush=True); {end}")
    assert exit_info.value.code == 6
    assert capfd.readouterr().err == f"a warning\n{distributed.LOST}\n"


@pytest.mark.usefixtures("_no_parent")
def test_other_exit_codes_are_passed_on(capfd: pytest.CaptureFixture[str]) -> None:
    for code in (0, 3, 143):
        with pytest.raises(SystemExit) as exit_info:
            _run(f"sys.exit({code})")
        assert exit_info.value.code == code
        assert "SIGABRT received" in capfd.readouterr().err  # logged, but the process did not abort
    with pytest.raises(MachineError, match="killed by SIGKILL"):
        _run("os.kill(os.getpid(), 9)")


@pytest.mark.usefixtures("_no_parent")
def test_nested_run_in_child_returns(capfd: pytest.CaptureFixture[str]) -> None:
    nested = (
        "from jaxnets.runtime import distributed; distributed.run_in_child(['false'], with_traceback=False)"
    )
    with pytest.raises(SystemExit) as exit_info:
        distributed.run_in_child([sys.executable, "-c", f"{nested}; print('trains')"], with_traceback=False)
    assert (exit_info.value.code, capfd.readouterr().out) == (0, "trains\n")


@pytest.mark.parametrize(
    "error",
    [
        ValueError("UNKNOWN: Gloo AllGather failed: Read error: Connection reset by peer"),
        RuntimeError("UNAVAILABLE: the coordination service has stopped"),
    ],
)
def test_failed_collective_reports_a_lost_process(error: Exception) -> None:
    with pytest.raises(MachineError, match=distributed.LOST), distributed.lost_processes():
        raise error
    with pytest.raises(ValueError, match="ours"), distributed.lost_processes():
        raise ValueError("ours")
