"""The reporter: standard output and error, progress, and escaping."""

import io
import re
import time

import pytest
from rich.console import Console

from jaxnets.runtime.console import Reporter


def test_progress_in_a_pipe_goes_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
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


def test_progress_on_a_terminal_uses_the_console(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich treats any output as a terminal
    reporter = Reporter()
    assert reporter.progress is reporter.console


def test_quiet_reporter_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    reporter = Reporter(quiet=True)
    reporter.line("a", "b")
    reporter.report_progress("a", "b")
    with reporter.counter("a") as progress:
        progress(5, 10)
    assert capsys.readouterr() == ("", "")


def test_control_characters_and_markup_are_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    reporter = Reporter()
    reporter.line("saved", "\x1b[2J\na\x07")
    reporter.print("[bold]one\x9b\ntwo\u202e")
    assert capsys.readouterr().out == ("saved     \\x1b[2J\\na\\x07\n[bold]one\\x9b\ntwo\\u202e\n")


def test_escape_sequences_in_text_are_removed_on_a_terminal() -> None:
    file = io.StringIO()
    reporter = Reporter()
    reporter.console = Console(file=file, force_terminal=True, highlight=False, soft_wrap=True)
    reporter.print("a\x1b[31mb")
    assert "\x1b[31m" not in file.getvalue()


def _reporter(*, terminal: bool) -> tuple[Reporter, io.StringIO]:
    reporter, file = Reporter(), io.StringIO()
    reporter.console = Console(file=file, force_terminal=terminal, width=100, highlight=False)
    reporter.progress = reporter.console
    return reporter, file


def test_phase_shows_elapsed_time_on_a_terminal() -> None:
    reporter, file = _reporter(terminal=True)
    with reporter.phase("compile") as phase:
        time.sleep(1.2)
        shown = file.getvalue()
        phase.text = "a step"
    assert re.search(r"compile .*0:00:01", shown)
    assert "a step  1." in file.getvalue()


def test_counter_inside_a_phase() -> None:
    reporter, file = _reporter(terminal=True)
    with reporter.phase("cache") as phase, reporter.counter("cache") as progress:
        progress(3, 10)
        phase.text = "10 images"
    assert "10 images" in file.getvalue()


def test_phase_prints_one_line_in_a_pipe() -> None:
    reporter, file = _reporter(terminal=False)
    with reporter.phase("compile") as phase:
        phase.text = "a step"
    assert re.fullmatch(r"compile   a step  \d+\.\d s\n", file.getvalue())
