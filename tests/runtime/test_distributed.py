"""Several processes train together; where one ends by a signal, an error or a kill, no other waits."""

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
"""Within these the others end."""


def _two_processes(repository: Path, *more: str) -> list["subprocess.Popen[str]"]:
    """Two processes of one small training job."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    command = [
        *(sys.executable, "scripts/train.py", "--config=configs/lung_resnet.py:smoke"),
        *("--config.model.name=lenet5", "--config.data.image_size=16", "--distributed"),
        *("--config.train.batch_size=16", "--num_processes=2"),
        *(f"--coordinator=localhost:{port}", "--config.log.every_steps=1", *more),
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


def _ended(processes: list["subprocess.Popen[str]"]) -> tuple[list[int], list[str]]:
    """Exit codes and standard errors, when all have ended."""
    message = [process.communicate(timeout=240)[1] for process in processes]
    return [process.returncode for process in processes], message


@pytest.mark.slow
def test_two_processes_train_together_and_go_on_after_a_stop(repository: Path, tmp_path: Path) -> None:
    flags = (
        *(f"--config.data.root={tmp_path}", f"--workdir={tmp_path / 'run'}"),
        "--config.train.epochs=400",
    )
    processes = _two_processes(repository, *flags)
    _wait_for_a_save(processes, tmp_path / "run")
    processes[1].send_signal(signal.SIGTERM)  # one is told, both save and leave
    assert _ended(processes)[0] == [143, 143]
    assert _ended(_two_processes(repository, *flags))[0] == [0, 0]
    assert json.loads((tmp_path / "run" / "result.json").read_text())["epochs"] == 400


@pytest.mark.slow
def test_where_one_process_is_refused_the_other_does_not_wait(repository: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    with workdir.lock_workdir(tmp_path / "run"):  # only the first process would write there
        processes = _two_processes(
            repository, f"--config.data.root={tmp_path}", f"--workdir={tmp_path / 'run'}"
        )
        codes, message = _ended(processes)
    assert codes == [6, 6]
    assert "is in use by another process" in message[0]
    assert "another process failed" in message[1]


def _wait_for_a_save(processes: list["subprocess.Popen[str]"], run: Path) -> None:
    while not list(run.glob("checkpoints/*/manifest.json")):
        assert processes[0].poll() is None
        time.sleep(0.1)


def _trainer_of(parent: int) -> int:
    """The child of a process with --distributed, which trains."""
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    assert len(children) == 1
    return int(children[0])


@pytest.mark.slow
@pytest.mark.parametrize("killed", [0, 1])
@pytest.mark.parametrize("whole", [True, False], ids=["both", "trainer_alone"])
def test_where_one_is_killed_the_others_end_and_the_same_command_resumes(
    repository: Path, tmp_path: Path, killed: int, whole: bool
) -> None:
    """SIGKILL to the process that was started, or to its child alone, as where memory runs out."""
    flags = (
        *(f"--config.data.root={tmp_path}", f"--workdir={tmp_path / 'run'}"),
        "--config.train.epochs=200",
    )
    processes = _two_processes(repository, *flags)
    _wait_for_a_save(processes, tmp_path / "run")
    victim, other = processes[killed], processes[1 - killed]
    os.kill(victim.pid if whole else _trainer_of(victim.pid), signal.SIGKILL)
    start = time.monotonic()
    errors = other.communicate(timeout=SECONDS)[1]
    print(f"process {killed} killed: {other.returncode} after {time.monotonic() - start:.1f} s")
    # The process that gets the lock of the cache first writes it; only process 0 prints how far it is.
    lines = [line for line in errors.splitlines() if not line.startswith(("[Gloo]", "cache "))]
    assert other.returncode == 6, errors
    assert len(lines) == 1, errors
    assert lines[0].startswith(f"train.py: {distributed.LOST}")
    errors = victim.communicate(timeout=SECONDS)[1]
    if whole:
        assert victim.returncode == -signal.SIGKILL
    else:
        assert victim.returncode == 6
        assert "killed by SIGKILL (out of memory?)" in errors.splitlines()[-1]
    assert _ended(_two_processes(repository, *flags))[0] == [0, 0]
    assert json.loads((tmp_path / "run" / "result.json").read_text())["epochs"] == 200


STACK = """
import os, sys
print("a warning of ours", file=sys.stderr)
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
def test_an_abort_is_one_line_and_its_stack_is_hidden(
    with_traceback: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(MachineError, match=f"{distributed.LOST}: JAX aborted this one; start") as e:
        _run("os.abort()", with_traceback=with_traceback)
    assert e.value.exit_code == 6
    shown = capfd.readouterr().err
    assert "a warning of ours" in shown
    assert ("SIGABRT received" in shown) == with_traceback


@pytest.mark.usefixtures("_no_parent")
@pytest.mark.parametrize("end", ["os.abort()", "sys.exit(6)"])
def test_a_process_that_has_said_why_is_not_said_again(end: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        _run(f"print({distributed.LOST!r}, file=sys.stderr, flush=True); {end}")
    assert left.value.code == 6
    assert capfd.readouterr().err == f"a warning of ours\n{distributed.LOST}\n"


@pytest.mark.usefixtures("_no_parent")
def test_other_ends_are_passed_on(capfd: pytest.CaptureFixture[str]) -> None:
    for code in (0, 3, 143):
        with pytest.raises(SystemExit) as left:
            _run(f"sys.exit({code})")
        assert left.value.code == code
        assert "SIGABRT received" in capfd.readouterr().err  # an error that was logged, and no abort
    with pytest.raises(MachineError, match="killed by SIGKILL"):
        _run("os.kill(os.getpid(), 9)")


@pytest.mark.usefixtures("_no_parent")
def test_a_child_trains_itself(capfd: pytest.CaptureFixture[str]) -> None:
    starts = (
        "from jaxnets.runtime import distributed; distributed.run_in_child(['false'], with_traceback=False)"
    )
    with pytest.raises(SystemExit) as left:
        distributed.run_in_child([sys.executable, "-c", f"{starts}; print('trains')"], with_traceback=False)
    assert (left.value.code, capfd.readouterr().out) == (0, "trains\n")


@pytest.mark.parametrize(
    "error",
    [
        ValueError("UNKNOWN: Gloo AllGather failed: Read error: Connection reset by peer"),
        RuntimeError("UNAVAILABLE: the coordination service has stopped"),
    ],
)
def test_a_collective_that_fails_says_that_a_process_is_gone(error: Exception) -> None:
    with pytest.raises(MachineError, match=distributed.LOST), distributed.lost_processes():
        raise error
    with pytest.raises(ValueError, match="ours"), distributed.lost_processes():
        raise ValueError("ours")
