"""A signal stops a process wherever its main thread is, or calls a handler that was registered."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

START = "from jaxnets.runtime import signals\nsignals.install()\n"
READY = "import sys, time\nprint('ready', flush=True)\n"
IN_C = "import hashlib\nhashlib.pbkdf2_hmac('sha256', b'', b'', 10**9)\n"
IN_A_CALLBACK_OF_GC = """
import gc
gc.callbacks.append(lambda *_: time.sleep(60))  # exceptions raised here are only printed
gc.collect()
"""
IN_A_DESTRUCTOR = """
class Slow:
    def __del__(self):
        time.sleep(60)
slow = Slow()
del slow
"""
IN_AN_IMPORT = """
import importlib.abc
class Slow(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        time.sleep(60)
sys.meta_path.insert(0, Slow())
try:
    import anything
except BaseException:
    time.sleep(60)
"""
AT_EXIT = "import atexit\natexit.register(time.sleep, 60)\nsignals.leave(0)\n"
WITH_LOCKED_STREAM = """
import threading
threading.Thread(target=lambda: time.sleep(60)).start()
while True:
    print("x" * 65536, flush=True)  # nobody reads: the thread blocks and holds the lock
"""


def _start(program: str, *before: str, **options: object) -> "subprocess.Popen[str]":
    process = subprocess.Popen(
        [*before, sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,  # type: ignore[call-overload]
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def _wait(process: "subprocess.Popen[str]") -> tuple[int, str, str]:
    """Returns the exit code and the unread rest of both streams."""
    assert process.stdout is not None
    assert process.stderr is not None
    code = process.wait(timeout=5)
    with process.stdout as out, process.stderr as errors:  # a line may be in `out`'s buffer
        return code, out.read(), errors.read()


def _run_and_signal(program: str, number: int = signal.SIGTERM) -> tuple[int, str, str]:
    process = _start(START + READY + program)
    time.sleep(0.1)
    process.send_signal(number)
    return _wait(process)


@pytest.mark.parametrize(
    ("number", "reason"), [(signal.SIGTERM, "SIGTERM"), (signal.SIGINT, "Ctrl-C"), (signal.SIGHUP, "SIGHUP")]
)
def test_each_signal_has_its_message_and_exit_code(number: int, reason: str) -> None:
    assert _run_and_signal("time.sleep(60)", number) == (128 + number, "", f"-c: stopped by {reason}\n")


@pytest.mark.parametrize(
    "program",
    [IN_C, IN_A_CALLBACK_OF_GC, IN_A_DESTRUCTOR, IN_AN_IMPORT, AT_EXIT],
    ids=["in_c", "gc_callback", "destructor", "import", "at_exit"],
)
def test_signal_is_never_swallowed(program: str) -> None:
    assert _run_and_signal(program) == (143, "", "-c: stopped by SIGTERM\n")


def test_blocked_output_does_not_delay_the_exit() -> None:
    process = _start(START + READY + WITH_LOCKED_STREAM)
    time.sleep(0.3)
    start = time.monotonic()
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=5) == 143
    assert time.monotonic() - start < 4
    process.communicate()


def test_slow_cleanup_does_not_delay_the_exit() -> None:
    program = (
        "signals.CLEAN_UP_SECONDS = 0.3\nwith signals.clean_up(lambda: time.sleep(60)):\n    time.sleep(60)\n"
    )
    assert _run_and_signal(program) == (143, "", "-c: stopped by SIGTERM\n")


def test_repeated_ctrl_c_stops_the_process() -> None:
    """The save requested by the first Ctrl-C never ends; four more follow at 0.2 second intervals."""
    process = _start(START + READY + "with signals.stoppable(lambda number: None):\n    time.sleep(60)\n")
    for _ in range(5):
        process.send_signal(signal.SIGINT)
        time.sleep(0.2)
    assert _wait(process)[0] == 130


def test_leave_keeps_the_exit_code_and_runs_atexit_callbacks() -> None:
    program = "import atexit\natexit.register(print, 'last')\nsignals.leave(7)\n"
    process = _start(START + READY + program)
    assert _wait(process) == (7, "last\n", "")


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT])
def test_signals_ignored_at_the_start_stay_ignored(number: int) -> None:
    """Nohup ignores SIGHUP; a shell without job control ignores SIGINT in a background job."""
    ignore = f"import os, signal, sys; signal.signal({int(number)}, signal.SIG_IGN); "
    program = START + READY + "time.sleep(1.2)\nprint('done')\n"
    process = _start(program, sys.executable, "-c", ignore + "os.execv(sys.argv[1], sys.argv[1:])")
    process.send_signal(number)
    time.sleep(0.2)
    assert _wait(process) == (0, "done\n", "")


def test_nohup_and_background_jobs() -> None:
    sleeps = "time.sleep(1.5)\nprint('done')\n"
    process = _start(START + READY + sleeps, "nohup", stdin=subprocess.DEVNULL)
    process.send_signal(signal.SIGHUP)
    assert _wait(process)[:2] == (0, "done\n")
    shell = 'trap "" TERM; "$@" & pid=$!; sleep 0.7; kill -INT $pid; wait $pid'
    done = subprocess.run(
        ["sh", "-c", shell, "sh", sys.executable, "-c", START + READY + sleeps],
        capture_output=True,
        text=True,
        timeout=10,
    )
    assert (done.returncode, done.stdout) == (0, "ready\ndone\n")


STOPPABLE = """
import sys, time
taken = []
with signals.stoppable(taken.append, hint='resume it'):
    print("ready", flush=True)
    while not taken:
        time.sleep(0.01)
    print("asked to stop", flush=True)
    time.sleep({seconds})
print("stopped", taken, flush=True)
"""
EXIT = "sys.exit(taken[0])\n"


@pytest.mark.parametrize("installed", [True, False])
def test_first_signal_requests_a_stop_and_a_second_exits_at_once(installed: bool) -> None:
    start = START if installed else "from jaxnets.runtime import signals\n"
    process = _start(start + STOPPABLE.format(seconds=60))
    process.send_signal(signal.SIGTERM)
    assert process.stdout is not None
    assert process.stdout.readline() == "asked to stop\n"
    time.sleep(0.6)
    process.send_signal(signal.SIGINT if installed else signal.SIGTERM)
    if installed:
        assert _wait(process) == (130, "", "-c: stopped by Ctrl-C; resume it\n")
    else:
        assert _wait(process) == (-signal.SIGTERM, "", "")  # the default action


@pytest.mark.parametrize("installed", [True, False])
def test_signal_to_the_process_and_its_group_counts_once(installed: bool) -> None:
    """timeout(1) and systemd send both."""
    start = START if installed else "from jaxnets.runtime import signals\n"
    process = _start(start + STOPPABLE.format(seconds=0.5) + EXIT)
    for _ in range(2):
        process.send_signal(signal.SIGTERM)
        time.sleep(0.05)
    assert _wait(process) == (15, "asked to stop\nstopped [15]\n", "")


def test_stops_under_timeout_1() -> None:
    program = START + STOPPABLE.format(seconds=0.5) + EXIT
    process = _start(program, "timeout", "--preserve-status", "0.8")
    assert _wait(process) == (15, "asked to stop\nstopped [15]\n", "")


def test_previous_handlers_are_restored() -> None:
    program = """
import os, signal
from jaxnets.runtime import signals
signal.signal(signal.SIGHUP, signal.SIG_IGN)
before = [signal.getsignal(number) for number in signals.NUMBERS]
received = []
with signals.stoppable(received.append):
    os.kill(os.getpid(), signal.SIGHUP)
    os.kill(os.getpid(), signal.SIGTERM)
assert received == [signal.SIGTERM]
assert [signal.getsignal(number) for number in signals.NUMBERS] == before
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_cleanup_runs_before_the_exit(tmp_path: Path) -> None:
    file = tmp_path / "partial"
    program = (
        f"import pathlib\nwith signals.clean_up(pathlib.Path({str(file)!r}).touch):\n    time.sleep(60)\n"
    )
    assert _run_and_signal(program) == (143, "", "-c: stopped by SIGTERM\n")
    assert file.exists()


@pytest.mark.parametrize(
    "setting", ["", "signals.CHILDREN = ''; sys.platform = 'darwin'\n"], ids=["/proc", "pgrep"]
)
def test_child_processes_are_stopped(setting: str) -> None:
    program = (
        f"{setting}"
        "import subprocess\nchild = subprocess.Popen(['sleep', '60'])\n"
        "print(child.pid, flush=True)\nchild.wait()\ntime.sleep(60)\n"
    )
    process = _start(START + READY + program)
    assert process.stdout is not None
    child = int(process.stdout.readline())
    process.send_signal(signal.SIGTERM)
    assert _wait(process) == (143, "", "-c: stopped by SIGTERM\n")
    deadline = time.monotonic() + 5
    while Path(f"/proc/{child}").exists() and time.monotonic() < deadline:
        if "State:\tZ" in Path(f"/proc/{child}/status").read_text():
            break  # nobody reaps it
        time.sleep(0.02)
    else:
        assert not Path(f"/proc/{child}").exists()


def test_spinner_restores_the_cursor() -> None:
    """On a terminal, the last cursor sequence shows it."""
    import pty

    program = (
        START
        + "import time\nfrom jaxnets.runtime import console\nconsole.show()\nwith console.phase('compile'):\n"
        "    time.sleep(60)\n"
    )
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=theirs,
        stderr=subprocess.PIPE,
        env={**os.environ, "TERM": "xterm"},
    )
    os.close(theirs)
    shown = b""
    while b"\x1b[?25l" not in shown:
        shown += os.read(ours, 4096)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=5) == 143
    try:
        while more := os.read(ours, 4096):
            shown += more
    except OSError:
        pass  # the other end is closed
    assert shown.rfind(b"\x1b[?25h") > shown.rfind(b"\x1b[?25l")
    assert process.communicate()[1].decode().endswith("stopped by SIGTERM\n")


def test_run_saves_when_its_terminal_is_closed(tmp_path: Path) -> None:
    import pty

    file = tmp_path / "saved"
    terminal = """
import os, sys
terminal = os.open(sys.argv[1], os.O_RDWR)  # becomes the controlling terminal
os.dup2(terminal, 1)
os.dup2(terminal, 2)
"""
    save = f"""
print("output that nobody sees", flush=True)
open({str(file)!r}, "w").close()
print("an error line", file=sys.stderr, flush=True)
sys.exit(128 + taken[0])
"""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", START + terminal + STOPPABLE.format(seconds=0.1) + save, os.ttyname(theirs)],
        start_new_session=True,
    )
    shown = b""
    while not shown.endswith(b"ready\r\n"):
        shown += os.read(ours, 100)
    os.close(theirs)
    os.close(ours)
    assert process.wait(timeout=5) == 129
    assert file.exists()
