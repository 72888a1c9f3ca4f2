"""What a phase shows while it runs, and when it has ended."""

import io
import re
import time

from rich.console import Console

from jaxnets.app.screen import Screen


def _screen(*, terminal: bool) -> tuple[Screen, io.StringIO]:
    screen, file = Screen(), io.StringIO()
    screen.console = Console(file=file, force_terminal=terminal, width=100, highlight=False)
    return screen, file


def test_a_phase_shows_the_time_that_has_passed_on_a_terminal() -> None:
    screen, file = _screen(terminal=True)
    with screen.phase("compile") as phase:
        time.sleep(1.2)
        shown = file.getvalue()
        phase.text = "a step"
    assert re.search(r"compile .*0:00:01", shown)
    assert "a step  1." in file.getvalue()


def test_a_counter_may_run_inside_a_phase() -> None:
    screen, file = _screen(terminal=True)
    with screen.phase("cache") as phase, screen.counter("cache") as progress:
        progress(3, 10)
        phase.text = "10 images"
    assert "10 images" in file.getvalue()


def test_elsewhere_a_phase_is_one_line() -> None:
    screen, file = _screen(terminal=False)
    with screen.phase("compile") as phase:
        phase.text = "a step"
    assert re.fullmatch(r"compile   a step  \d+\.\d s\n", file.getvalue())
