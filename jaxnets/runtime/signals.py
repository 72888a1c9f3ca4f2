"""SIGHUP, SIGINT and SIGTERM end a script at any moment, or ask the code that it runs to stop.

A handler written in Python runs in the main thread between two of its bytecodes: not while a C function
computes, and wherever the thread is then, so that an exception raised by it is lost in a callback or turned
into another one. Here the handlers do nothing. The interpreter's C code writes the number of each signal to
a pipe (`signal.set_wakeup_fd`), and a thread that reads it ends the process.
"""

import atexit
import contextlib
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, NoReturn, TextIO

NUMBERS = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)
EXIT_CODE = 128
"""What the exit code of a signal begins at, as in a shell."""
REPEAT_SECONDS = 0.5
"""The same signal again within this time is the same request.

timeout(1) and systemd send it to the process and to its group.
"""
PRINT_SECONDS = 1.0
"""How long an ending process waits for a reader of its output."""
CLEAN_UP_SECONDS = 5.0
"""How long it waits for clean-ups, which may write to a pipe that nobody reads."""
CLEAR_LINE, SHOW_CURSOR = "\r\x1b[2K", "\x1b[?25h"


class _Repeats:
    """Says of each signal whether it only repeats the last one."""

    def __init__(self) -> None:
        self._last, self._time = 0, 0.0

    def is_repeat(self, number: int) -> bool:
        """True where the signal before was the same, less than REPEAT_SECONDS ago."""
        now = time.monotonic()
        if number == self._last and now - self._time < REPEAT_SECONDS:
            return True  # the window does not move: a key that is hit again and again is heard
        self._last, self._time = number, now
        return False


class Request:
    """A request to stop: `number` is its first signal, None while there was none."""

    number: int | None = None

    def __init__(self, on_signal: Callable[[int], None], signals: int):
        self._on_signal, self._left = on_signal, signals

    def deliver(self, number: int) -> bool:
        """Passes a signal on; False where it has had all that it asked for."""
        if not self._left:
            return False
        self._left -= 1
        self.number = self.number or number
        self._on_signal(number)
        return True


class _Watcher:
    """The thread that hears of signals, and what it then does."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.clean_ups: list[Callable[[], None]] = []
        self.lock = threading.Lock()
        self.exit_code: int | None = None
        self._ending = False
        self._repeats = _Repeats()
        self._numbers = tuple(number for number in NUMBERS if not _is_ignored(number))
        self._reader, self._writer = os.pipe()

    def start(self) -> None:
        """Takes the signals over; those that were ignored stay so (nohup, a shell's background job)."""
        os.set_blocking(self._writer, False)
        signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        threading.Thread(target=self._watch, name="signals", daemon=True).start()
        for number in self._numbers:
            signal.signal(number, _leave_to_watcher)
        # Registered first and so called last. What the interpreter does after it would lose signals.
        atexit.register(self.exit)

    def wait_if_ending(self) -> None:
        """Never returns in a process that is ending: it must not print or exit with another code."""
        with self.lock:
            ending = self._ending
        if ending:
            threading.Event().wait()

    def _watch(self) -> None:
        while True:
            for number in os.read(self._reader, 64):
                if number in self._numbers and not self._repeats.is_repeat(number):
                    # An error must not end this thread: no later signal would be handled.
                    with contextlib.suppress(Exception):
                        self._receive(number)

    def _receive(self, number: int) -> None:
        if number == signal.SIGHUP:
            _leave_lost_terminal()
        with self.lock:
            if self._ending:
                os._exit(EXIT_CODE + number)
            if self.requests and self.requests[-1].deliver(number):
                return
            self._ending = True
        # In a thread, so that a second signal ends the process whatever this one waits for.
        threading.Thread(target=self._end, args=(number,), daemon=True).start()

    def _end(self, number: int) -> None:
        _run_for(self._clean_up, CLEAN_UP_SECONDS)
        _terminate_children()
        reason = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
        _run_for(lambda: _print_last_line(reason), PRINT_SECONDS)
        os._exit(EXIT_CODE + number)

    def _clean_up(self) -> None:
        for clean_up in reversed(self.clean_ups):
            with contextlib.suppress(Exception):
                clean_up()

    def exit(self) -> None:
        """Exits at once with the code that was set; does nothing where none was."""
        self.wait_if_ending()
        if self.exit_code is not None:
            _flush(sys.stdout)
            _flush(sys.stderr)
            self._let_watcher_read()
            self.wait_if_ending()
            os._exit(self.exit_code)

    def _let_watcher_read(self) -> None:
        """Waits while there are signals that the thread has not acted on."""
        poll = select.poll()
        poll.register(self._reader, select.POLLIN)
        time.sleep(0.002)  # the thread may have read one and want the GIL
        while poll.poll(0):
            time.sleep(0.002)


_watcher: _Watcher | None = None


def install() -> None:
    """From now on each of NUMBERS ends this process with 128 plus its number, after one line.

    For the first statement of a script, in the main thread.
    """
    global _watcher
    if _watcher is None:
        _watcher = _Watcher()
        _watcher.start()


@contextlib.contextmanager
def stoppable(on_signal: Callable[[int], None], *, signals: int = 1) -> Iterator[Request]:
    """Code that a signal asks to stop, through `on_signal(number)`; a second one ends the process.

    After the block the caller looks at the request's `number`: where it is set, nothing else will end the
    process. `on_signal` is called in another thread or between two bytecodes of the main one, and only
    leaves a note. It takes the first of `signals` signals. Where `install` was not called, in a user's
    program, handlers are set for the time of the block; in another than its main thread no signal
    is heard.
    """
    request = Request(on_signal, signals)
    if _watcher is not None:
        with _watcher.lock:
            _watcher.requests.append(request)
        try:
            yield request
        finally:
            with _watcher.lock:
                _watcher.requests.remove(request)
    elif threading.current_thread() is threading.main_thread():
        with _handlers(request):
            yield request
    else:
        yield request


@contextlib.contextmanager
def clean_up(action: Callable[[], None]) -> Iterator[None]:
    """Code after which `action` must be called also where a signal ends the process in the block.

    It is then called in another thread; after a block that ends otherwise it is not called.
    """
    if _watcher is None:
        yield
        return
    _watcher.clean_ups.append(action)
    try:
        yield
    finally:
        _watcher.clean_ups.remove(action)


def wait_if_ending() -> None:
    """Never returns where a signal is ending this process; the main thread calls it before it exits."""
    if _watcher is not None:
        _watcher.wait_if_ending()


def set_exit_code(code: int) -> None:
    """Says how this process exits, which it then does without the interpreter's own last steps.

    In these signals would be lost, and threads of XLA that still compile would crash.
    """
    if _watcher is not None:
        _watcher.exit_code = code


def leave(code: int) -> NoReturn:
    """Exits with `code`, as `set_exit_code` says."""
    set_exit_code(code)
    sys.exit(code)


def skip_exit_callbacks() -> None:
    """Has this process exit without the callbacks of `atexit` that are registered by now."""
    if _watcher is not None:
        atexit.register(_watcher.exit)


@contextlib.contextmanager
def _handlers(request: Request) -> Iterator[None]:
    """Has Python's handlers serve a request; they are as before once it has had its signals."""
    before: dict[int, Any] = {}
    repeats = _Repeats()

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def handle(number: int, frame: FrameType | None) -> None:
        del frame
        if not repeats.is_repeat(number) and not request.deliver(number):
            restore()
            signal.raise_signal(number)

    for number in NUMBERS:
        handler = signal.getsignal(number)
        if handler not in (signal.SIG_IGN, None):  # None: set by C code, and could not be restored
            before[number] = handler
            signal.signal(number, handle)
    try:
        yield
    finally:
        restore()


def _run_for(action: Callable[[], None], seconds: float) -> None:
    """Calls `action` in a thread: the main thread may hold a lock, the reader of a pipe may sleep."""
    thread = threading.Thread(target=action, daemon=True)
    thread.start()
    thread.join(seconds)


def _is_ignored(number: int) -> bool:
    return signal.getsignal(number) == signal.SIG_IGN


def _leave_to_watcher(number: int, frame: FrameType | None) -> None:
    """The handler in Python that C code wants before it writes a number to the pipe."""


def _leave_lost_terminal() -> None:
    """Has output end in nothing where its terminal is gone: a write would raise, before the run is saved."""
    for stream in (1, 2):
        poll = select.poll()
        poll.register(stream, 0)
        if any(event & (select.POLLHUP | select.POLLERR) for _, event in poll.poll(0)):
            nothing = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nothing, stream)
            os.close(nothing)


def _terminate_children() -> None:
    """Sends SIGTERM to the processes that this one started (Linux)."""
    threads = "/proc/self/task"
    for thread in os.listdir(threads) if os.path.isdir(threads) else ():
        with contextlib.suppress(OSError), open(f"{threads}/{thread}/children") as children:
            for child in children.read().split():
                os.kill(int(child), signal.SIGTERM)


def _print_last_line(reason: str) -> None:
    # The process's own streams: a progress bar of rich puts others in the place of sys.stdout and sys.stderr.
    out, errors = sys.__stdout__, sys.__stderr__
    with contextlib.suppress(Exception):
        if out is not None and out.isatty():  # a bar or a spinner may have hidden the cursor
            out.write(CLEAR_LINE + SHOW_CURSOR)
        _flush(out)
    with contextlib.suppress(Exception):
        print(f"{os.path.basename(sys.argv[0])}: stopped by {reason}", file=errors)
        _flush(errors)


def _flush(stream: TextIO | None) -> None:
    if stream is not None:
        with contextlib.suppress(Exception):
            stream.flush()
