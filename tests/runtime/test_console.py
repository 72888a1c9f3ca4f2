"""What goes to standard output, what to standard error, and what a phase shows while it runs."""

import io
import re
import time

import pytest
from rich.console import Console

from jaxnets.runtime.console import Reporter


def test_progress_in_a_pipe_is_on_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    reporter = Reporter()
    with reporter.counter("predict") as progress:
        for done in range(0, 41, 8):
            progress(done, 40)
    reporter.report_progress("download", "https://example.org/a")
    reporter.line("saved", "here")
    printed = capsys.readouterr()
    assert printed.out == "saved     here\n"
    lines = printed.err.splitlines()
    assert lines[0] == "predict   8 of 40"
    assert lines[-1] == "download  https://example.org/a"


def test_progress_on_a_terminal_is_where_the_lines_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # has rich take any output for a terminal
    reporter = Reporter()
    assert reporter.progress is reporter.console


def test_a_quiet_screen_shows_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    reporter = Reporter(quiet=True)
    reporter.line("a", "b")
    reporter.report_progress("a", "b")
    with reporter.counter("a") as progress:
        progress(5, 10)
    assert capsys.readouterr() == ("", "")


def test_names_write_nothing_on_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    reporter = Reporter()
    reporter.line("saved", "\x1b[2J\na\x07")
    reporter.print("[bold]one\x9b\ntwo\u202e")
    assert capsys.readouterr().out == ("saved     \\x1b[2J\\na\\x07\n[bold]one\\x9b\ntwo\\u202e\n")


def test_a_forced_terminal_gets_escapes_of_ours_alone() -> None:
    file = io.StringIO()
    reporter = Reporter()
    reporter.console = Console(file=file, force_terminal=True, highlight=False, soft_wrap=True)
    reporter.print("a\x1b[31mb")
    assert "\x1b[31m" not in file.getvalue()


def _screen(*, terminal: bool) -> tuple[Reporter, io.StringIO]:
    reporter, file = Reporter(), io.StringIO()
    reporter.console = Console(file=file, force_terminal=terminal, width=100, highlight=False)
    reporter.progress = reporter.console
    return reporter, file


def test_a_phase_shows_the_time_that_has_passed_on_a_terminal() -> None:
    reporter, file = _screen(terminal=True)
    with reporter.phase("compile") as phase:
        time.sleep(1.2)
        shown = file.getvalue()
        phase.text = "a step"
    assert re.search(r"compile .*0:00:01", shown)
    assert "a step  1." in file.getvalue()


def test_a_counter_may_run_inside_a_phase() -> None:
    reporter, file = _screen(terminal=True)
    with reporter.phase("cache") as phase, reporter.counter("cache") as progress:
        progress(3, 10)
        phase.text = "10 images"
    assert "10 images" in file.getvalue()


def test_elsewhere_a_phase_is_one_line() -> None:
    reporter, file = _screen(terminal=False)
    with reporter.phase("compile") as phase:
        phase.text = "a step"
    assert re.fullmatch(r"compile   a step  \d+\.\d s\n", file.getvalue())
