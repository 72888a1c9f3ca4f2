"""Handling of SIGHUP, SIGINT and SIGTERM: they end a script, or request that the running code stops.

A Python signal handler runs in the main thread, not during a C function, and an exception that it raises may
be lost in a callback. Here the handlers do nothing: the interpreter writes each signal number to a pipe
(`signal.set_wakeup_fd`), and a thread that reads it ends the process.
"""

import atexit
import contextlib
import glob
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import NoReturn, TextIO

NUMBERS = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)
EXIT_CODE = 128  # plus the number of the signal, as in a shell
REPEAT_SECONDS = 0.5
"""A repeated signal within this time is ignored: timeout(1) and systemd signal the process and its group."""
PRINT_SECONDS, CLEAN_UP_SECONDS = 1.0, 5.0
"""How long an exiting process waits for a reader of its output, and for clean-ups, which may block too."""
CHILDREN = "/proc/self/task/*/children"  # Linux


class _State:
    """What this process does on a signal."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.installed, self.ending = False, False
        self.exit_code: int | None = None
        self.requests: list[list[Callable[[int], None]]] = []  # what the next signals call instead
        self.hints: list[str] = []
        self.clean_ups: list[Callable[[], None]] = []
        self.reader = -1


_state = _State()


def install() -> None:
    """Makes the signals that are not ignored (nohup, background jobs) end this process, after one line."""
    if _state.installed:
        return
    numbers = [number for number in NUMBERS if signal.getsignal(number) != signal.SIG_IGN]
    _state.installed = True
    _state.reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(numbers,), name="signals", daemon=True).start()
    for number in numbers:  # without a Python handler the interpreter does not write to the pipe
        signal.signal(number, lambda number, frame: None)
    # Registered first and so called last; the interpreter would lose signals after it.
    atexit.register(_exit)


@contextlib.contextmanager
def stoppable(on_signal: Callable[[int], None], *, signals: int = 1, hint: str = "") -> Iterator[None]:
    """In the block, the first `signals` signals call `on_signal(number)`; the next one ends the process.

    A script then prints `hint`. After the block the caller must exit if there was one. `on_signal` runs in
    another thread, or at any place of the main thread, and should only set a variable. Without `install`, in
    a user's program, the block has handlers of its own in the main thread, and none in others.
    """
    request = [on_signal] * signals
    is_main = threading.current_thread() is threading.main_thread()
    if not _state.installed:
        with _handlers(request) if is_main else contextlib.nullcontext():
            yield
        return
    with _state.lock:
        _state.requests.append(request)
        _state.hints.append(hint)
    try:
        yield
    finally:
        with _state.lock:
            _state.requests.pop()
            _state.hints.pop()


@contextlib.contextmanager
def clean_up(action: Callable[[], None]) -> Iterator[None]:
    """Calls `action`, in another thread, if a signal ends the process during the block."""
    _state.clean_ups.append(action)
    try:
        yield
    finally:
        _state.clean_ups.remove(action)


def wait_if_ending() -> None:
    """Blocks forever if a signal is ending this process, which must not exit with another code."""
    with _state.lock:
        ending = _state.ending
    if ending:
        threading.Event().wait()


def leave(code: int) -> NoReturn:
    """Exits without the interpreter's finalisation, which loses signals and crashes threads that compile."""
    _state.exit_code = code
    sys.exit(code)


def skip_exit_callbacks() -> None:
    """Skips the `atexit` callbacks that are registered so far."""
    if _state.installed:
        atexit.register(_exit)


def _exit() -> None:
    """Exits immediately with the code of `leave`, if that was called."""
    wait_if_ending()
    if _state.exit_code is None:
        return
    _flush(sys.stdout)
    _flush(sys.stderr)
    poll = select.poll()
    poll.register(_state.reader, select.POLLIN)
    time.sleep(0.002)  # the thread may have read a signal and be waiting for the GIL
    while poll.poll(0):
        time.sleep(0.002)
    wait_if_ending()
    os._exit(_state.exit_code)


def _is_repeat(number: int, times: dict[int, float]) -> bool:
    """True if the signal was received less than REPEAT_SECONDS ago; `times` has the last one by number."""
    now = time.monotonic()
    if now - times.get(number, -REPEAT_SECONDS) < REPEAT_SECONDS:
        return True  # repeats do not extend the window: a key that is pressed many times works
    times[number] = now
    return False


@contextlib.contextmanager
def _handlers(request: list[Callable[[int], None]]) -> Iterator[None]:
    """Installs Python handlers for a request; they are restored after its last signal."""
    times: dict[int, float] = {}
    found = {number: signal.getsignal(number) for number in NUMBERS}
    # None was set by C code and cannot be restored.
    before = {number: each for number, each in found.items() if each not in (signal.SIG_IGN, None)}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def handle(number: int, frame: FrameType | None) -> None:
        del frame
        if _is_repeat(number, times):
            return
        if request:
            request.pop()(number)
        else:
            restore()
            signal.raise_signal(number)

    for number in before:
        signal.signal(number, handle)
    try:
        yield
    finally:
        restore()


def _watch(numbers: list[int]) -> None:
    times: dict[int, float] = {}
    while True:
        for number in os.read(_state.reader, 64):
            if number in numbers and not _is_repeat(number, times):
                with contextlib.suppress(Exception):  # an error must not end this thread
                    _receive(number)


def _receive(number: int) -> None:
    if number == signal.SIGHUP:
        _leave_lost_terminal()
    with _state.lock:
        if _state.ending:
            os._exit(EXIT_CODE + number)
        if _state.requests and _state.requests[-1]:
            _state.requests[-1].pop()(number)
            return
        _state.ending = True
    # In a thread, so that a second signal can end the process.
    _start(lambda: _end(number))


def _end(number: int) -> None:
    _run_for(_clean_up, CLEAN_UP_SECONDS)
    for child in _children():
        with contextlib.suppress(OSError):
            os.kill(child, signal.SIGTERM)
    reason = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
    if hint := next(reversed(_state.hints), ""):
        reason = f"{reason}; {hint}"
    _run_for(lambda: _print_last_line(reason), PRINT_SECONDS)
    os._exit(EXIT_CODE + number)


def _children() -> list[int]:
    """The numbers of this process's children; [] if they cannot be found."""
    found: list[str] = []
    for path in glob.glob(CHILDREN):
        with contextlib.suppress(OSError), open(path) as children:
            found += children.read().split()
    if sys.platform != "linux":
        import subprocess

        with contextlib.suppress(OSError, subprocess.SubprocessError):
            command = ["pgrep", "-P", str(os.getpid())]
            found += subprocess.run(command, capture_output=True, text=True, timeout=1).stdout.split()
    return [int(child) for child in found]


def _clean_up() -> None:
    for clean_up in reversed(_state.clean_ups):
        with contextlib.suppress(Exception):
            clean_up()


def _run_for(action: Callable[[], None], seconds: float) -> None:
    """Calls `action` in a thread with a timeout, because it may block on a lock or a pipe."""
    if (thread := _start(action)) is not None:
        thread.join(seconds)


def _start(action: Callable[[], None]) -> threading.Thread | None:
    """Calls `action` in a thread or, if the interpreter is exiting (from Python 3.12 on), in this one."""
    thread = threading.Thread(target=action, daemon=True)
    try:
        thread.start()
    except RuntimeError:
        action()
        return None
    return thread


def _leave_lost_terminal() -> None:
    """Redirects output to /dev/null if its terminal is gone; writing would raise before the run is saved."""
    for stream in (1, 2):
        poll = select.poll()
        poll.register(stream, 0)
        if any(event & (select.POLLHUP | select.POLLERR) for _, event in poll.poll(0)):
            nothing = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nothing, stream)
            os.close(nothing)


def _print_last_line(reason: str) -> None:
    # The original streams: rich's progress bar replaces sys.stdout and sys.stderr.
    out, errors = sys.__stdout__, sys.__stderr__
    with contextlib.suppress(Exception):
        if out is not None and out.isatty():
            out.write("\r\x1b[2K\x1b[?25h")  # clears the line and shows the cursor
        _flush(out)
    with contextlib.suppress(Exception):
        print(f"{os.path.basename(sys.argv[0])}: stopped by {reason}", file=errors, flush=True)


def _flush(stream: TextIO | None) -> None:
    if stream is not None:
        with contextlib.suppress(Exception):
            stream.flush()
