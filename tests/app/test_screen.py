"""What goes to standard output, and what to standard error."""

import io

import pytest
from rich.console import Console

from jaxnets.app.screen import Screen


def test_progress_in_a_pipe_is_on_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    screen = Screen()
    with screen.counter("predict") as progress:
        for done in range(0, 41, 8):
            progress(done, 40)
    screen.report_progress("download", "https://example.org/a")
    screen.line("saved", "here")
    printed = capsys.readouterr()
    assert printed.out == "saved     here\n"
    lines = printed.err.splitlines()
    assert lines[0] == "predict   8 of 40"
    assert lines[-1] == "download  https://example.org/a"


def test_progress_on_a_terminal_is_where_the_lines_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # has rich take any output for a terminal
    screen = Screen()
    assert screen.progress is screen.console


def test_a_quiet_screen_shows_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    screen = Screen(quiet=True)
    screen.line("a", "b")
    screen.report_progress("a", "b")
    with screen.counter("a") as progress:
        progress(5, 10)
    assert capsys.readouterr() == ("", "")


def test_names_write_nothing_on_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    screen = Screen()
    screen.line("saved", "\x1b[2J\na\x07")
    screen.say("[bold]one\x9b\ntwo\u202e")
    assert capsys.readouterr().out == ("saved     \\x1b[2J\\na\\x07\n[bold]one\\x9b\ntwo\\u202e\n")


def test_a_forced_terminal_gets_escapes_of_ours_alone() -> None:
    file = io.StringIO()
    screen = Screen()
    screen.console = Console(file=file, force_terminal=True, highlight=False, soft_wrap=True)
    screen.say("a\x1b[31mb")
    assert "\x1b[31m" not in file.getvalue()
