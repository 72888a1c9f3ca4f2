"""What goes to standard output, what to standard error, and what a phase shows while it runs."""

import io
import logging
import re
import subprocess
import sys
import time

import pytest
from rich.console import Console

from jaxnets.runtime import console


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """The display's output on a terminal of 100 columns."""
    file, display = io.StringIO(), console.display()
    assert display is not None
    monkeypatch.setattr(
        display, "output", Console(file=file, force_terminal=True, width=100, highlight=False, soft_wrap=True)
    )
    return file


def test_progress_and_warnings_in_a_pipe_go_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    with console.counter("predict") as progress:
        for done in range(0, 41, 8):
            progress(done, 40)
    console.log_progress("download", "https://example.org/a")
    console.log("saved", "here")
    console.warn("a first", "a second")
    printed = capsys.readouterr()
    assert printed.out == "saved     here\n"
    lines = printed.err.splitlines()
    assert lines[0] == "predict   8 of 40"
    assert lines[-3:] == ["download  https://example.org/a", "warning   a first", "warning   a second"]


def test_progress_and_warnings_on_a_terminal_go_to_standard_output(
    terminal: io.StringIO, capsys: pytest.CaptureFixture[str]
) -> None:
    console.log_progress("download", "a")
    console.warn("b")
    assert terminal.getvalue() == "download  a\nwarning   b\n"
    assert capsys.readouterr() == ("", "")


def test_a_silenced_log_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with console.silenced():
        console.log("a", "b")
        console.warn("b")
        with console.phase("a"), console.counter("a") as progress:
            progress(5, 10)
    assert capsys.readouterr() == ("", "")
    console.log("a", "b")
    assert capsys.readouterr().out == "a         b\n"


def test_the_library_prints_only_warnings_without_a_display() -> None:
    program = (
        "from jaxnets.runtime import console\n"
        "console.log('a', 'b')\nconsole.log_progress('a', 'b')\nconsole.warn('c')\n"
        "with console.phase('a'), console.counter('a') as progress: progress(5, 10)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("", "warning   c\n")


def test_a_displayed_line_appears_once(capfd: pytest.CaptureFixture[str]) -> None:
    program = (
        "from jaxnets.runtime import console\nconsole.show()\n"
        "from absl import logging\nlogging.vlog(1, 'x')\nconsole.log('a', 'b')\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
    assert capfd.readouterr() == ("a         b\n", "")


def test_log_lines_are_records_of_the_logger(monkeypatch: pytest.MonkeyPatch) -> None:
    records: list[logging.LogRecord] = []
    handler = logging.Handler()
    monkeypatch.setattr(handler, "emit", records.append)
    monkeypatch.setattr(console.logger, "handlers", [handler])
    console.log("saved", "50 %s")
    console.warn("a")
    levels = [(record.name, record.levelno, record.getMessage()) for record in records]
    assert levels == [
        ("jaxnets", logging.INFO, "saved     50 %s"),
        ("jaxnets", logging.WARNING, "warning   a"),
    ]


def test_control_characters_and_markup_are_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    console.log("saved", "\x1b[2J\na\x07")
    console.log_text("[bold]one\x9b\ntwo\u202e")
    console.warn("\x1b]0;owned\x07")
    printed = capsys.readouterr()
    assert printed.out == "saved     \\x1b[2J\\na\\x07\n[bold]one\\x9b\ntwo\\u202e\n"
    assert printed.err == "warning   \\x1b]0;owned\\x07\n"


def test_escape_sequences_in_text_are_removed_on_a_terminal(terminal: io.StringIO) -> None:
    console.log_text("a\x1b[31mb")
    assert "\x1b[31m" not in terminal.getvalue()


def test_phase_shows_elapsed_time_on_a_terminal(terminal: io.StringIO) -> None:
    with console.phase("compile") as phase:
        time.sleep(1.2)
        shown = terminal.getvalue()
        phase.text = "a step"
    assert re.search(r"compile .*0:00:01", shown)
    assert "a step  1." in terminal.getvalue()


def test_counter_inside_a_phase(terminal: io.StringIO) -> None:
    with console.phase("cache") as phase, console.counter("cache") as progress:
        progress(3, 10)
        phase.text = "10 images"
    assert "10 images" in terminal.getvalue()


def test_phase_prints_one_line_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    with console.phase("compile") as phase:
        phase.text = "a step"
        time.sleep(0.1)
    assert re.fullmatch(r"compile   a step  0\.\d s\n", capsys.readouterr().out)
    with console.phase("data") as phase:
        phase.text = "at once"
    assert capsys.readouterr().out == "data      at once\n"


LONG = f"99.5 % of {'many ' * 30}images are in /a/path/{'longer-than-' * 10}the-terminal"


def test_lines_wrap_between_words_on_a_terminal(terminal: io.StringIO) -> None:
    console.warn(LONG)
    console.log_text("accuracy  " + "12.5 % " * 20)
    lines = terminal.getvalue().splitlines()
    (path,) = (line for line in lines if "/a/path" in line)
    lines.remove(path)
    assert max(map(len, lines)) <= 100
    assert path.strip() == LONG.split()[-1]  # a word stays whole, so that it can be copied
    assert all(line.startswith((" " * 10, "warning   ", "accuracy  ")) for line in [*lines, path])
    assert " ".join(terminal.getvalue().split()).startswith(f"warning {LONG} accuracy 12.5 % 12.5 %")
    assert not any(line.endswith("12.5") for line in lines)


@pytest.mark.parametrize(
    ("command", "rest"),
    [
        ("python scripts/evaluate.py --workdir runs/lung_inception_resnet_v2-finetune-s0", ""),
        ("python scripts/prepare_data.py lc25000_lung --from=PATH", ""),
        ("python scripts/find_duplicates.py", " DIR and pass --config.data.groups=FILE"),
    ],
)
def test_commands_stay_on_one_line(terminal: io.StringIO, command: str, rest: str) -> None:
    for words in range(20):
        console.log("note", "word " * words + command + rest)
    assert terminal.getvalue().count(command) == 20


def test_lines_in_a_pipe_do_not_wrap(capsys: pytest.CaptureFixture[str]) -> None:
    console.log("saved", LONG)
    console.warn(LONG)
    printed = capsys.readouterr()
    assert printed.out == f"saved     {LONG}\n"
    assert printed.err == f"warning   {LONG}\n"
    assert console.wrap_error(LONG) == LONG


def test_errors_wrap_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("FORCE_COLOR", "1")  # for rich, standard error is a terminal
    lines = console.wrap_error("train.py: " + "some words " * 20).splitlines()
    assert len(lines) == 5
    assert max(map(len, lines)) <= 60
    assert lines[0].endswith("words") or lines[0].endswith("some")


def test_emoji_codes_are_not_replaced(terminal: io.StringIO) -> None:
    console.log("saved", "configs:fire:b")
    assert "configs:fire:b" in terminal.getvalue()
