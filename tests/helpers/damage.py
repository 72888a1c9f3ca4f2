"""Damages the files of a run directory and classifies what happens when it is opened."""

import collections
import contextlib
import copy
import csv
import io
import json
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from jaxnets.config import to_json
from jaxnets.errors import JaxnetsError
from jaxnets.experiment.run_directory import open_run
from jaxnets.training.checkpoint import HOST_STATE, MANIFEST, SHAPES, Checkpoints

OUTCOMES = ("refused", "warned", "harmless", "silent", "tracebacks", "hangs")
SECONDS = 20
"""Opening a run directory for longer counts as a hang."""
WRONG = (None, True, -1, 0, 1.5, 10**400, "", "x", [], {}, [[1]], {"a": None})
HUGE = "[" * 100_000
Change = tuple[str, bytes | None]
"""A description of a change and the new content, or None if the file is deleted."""


class HangError(Exception):
    """The time limit was exceeded."""


def files_of(run: Path) -> list[Path]:
    """Returns every JSON and CSV file of a run and its checkpoints, except generated reports."""
    found = (path for path in run.rglob("*") if path.suffix in (".json", ".csv", ".jsonl"))
    excluded = ("report", "state")
    return sorted(path for path in found if not set(excluded) & set(path.relative_to(run).parts))


def flips(data: bytes) -> Iterator[Change]:
    """Yields every single bit flip."""
    for position in range(len(data)):
        for bit in range(8):
            yield f"bit {bit} of byte {position}", flipped(data, position, bit)


def flipped(data: bytes, position: int, bit: int) -> bytes:
    """Returns the data with one bit flipped."""
    changed = bytearray(data)
    changed[position] ^= 1 << bit
    return bytes(changed)


def mutations(path: Path) -> Iterator[Change]:
    """Yields structural changes of a file: of its full content, lines, cells, values and keys."""
    data = path.read_bytes()
    yield from _file_changes(data)
    if path.suffix == ".json":
        yield from _json_changes(json.loads(data))
    else:
        yield from _line_changes(data.splitlines(keepends=True))
    if path.suffix == ".csv":
        yield from _cell_changes(list(csv.reader(io.StringIO(data.decode()))))
    if path.suffix == ".jsonl":
        first, *rest = data.splitlines(keepends=True)
        for description, changed in _json_changes(json.loads(first)):
            line = b"" if changed is None else changed.replace(b"\n", b"") + b"\n"
            yield f"line 1: {description}", line + b"".join(rest)


def _file_changes(data: bytes) -> Iterator[Change]:
    yield "deleted", None
    for tenth in range(10):
        yield f"truncated to {tenth} tenths", data[: len(data) * tenth // 10]
    yield "last byte removed", data[:-1]
    yield "twice", data + data
    for name, text in (("null", "null"), ("list", "[]"), ("object", "{}"), ("number", "1")):
        yield f"a {name} instead", text.encode()
    yield "deep lists instead", HUGE.encode()
    yield "NaN instead", b"NaN"
    yield "a byte order mark", b"\xef\xbb\xbf" + data
    yield "not UTF-8", b"\xff" + data
    yield "zeros", bytes(len(data))
    yield "line feeds doubled", data.replace(b"\n", b"\n\n")
    yield "carriage returns", data.replace(b"\n", b"\r\n")


def _json_changes(content: Any) -> Iterator[Change]:
    for path in list(_paths(content)):
        name = "/".join(map(str, path)) or "all"
        value = _at(content, path)
        if path:
            yield (f"{name} deleted", _dumped(_changed(content, path, lambda box, key: box.pop(key))))
            for wrong in WRONG:
                if wrong is not value and type(wrong) is not type(value):
                    yield (f"{name} = {str(wrong)[:9]!r}", _dumped(_replaced(content, path, wrong)))
            for constant, text in (("NaN", "NaN"), ("1e999", "1e999"), ("-1e999", "-1e999")):
                marked = _dumped(_replaced(content, path, "@@")).replace(b'"@@"', text.encode())
                yield f"{name} = {constant}", marked
            deep = _dumped(_replaced(content, path, "@@")).replace(b'"@@"', HUGE.encode())
            yield f"{name} nested", deep
        if isinstance(value, bool):
            yield f"{name} negated", _dumped(_replaced(content, path, not value))
        elif isinstance(value, int | float):
            for number in (value + 1, -value, value * 2, 2**62, 1e300, float(value)):
                yield f"{name} = {number}", _dumped(_replaced(content, path, number))
        elif isinstance(value, str):
            for text in (value[:-1], value + "x", value.upper(), "../../" + value, "/dev/zero"):
                yield f"{name} = {text[:20]!r}", _dumped(_replaced(content, path, text))
        elif isinstance(value, list):
            for changed in (value[::-1], value + value[:1], value[1:], value * 2):
                yield f"{name} of other elements", _dumped(_replaced(content, path, changed))
        elif isinstance(value, dict):
            extended = _replaced(content, path, {**value, "extra": 1})
            yield f"{name} with another key", _dumped(extended)
            reordered = _replaced(content, path, dict(reversed(list(value.items()))))
            yield f"{name} reordered", _dumped(reordered)
            if value:
                key = next(iter(value))
                duplicated = {"@@": 0, **value}
                text = _dumped(_replaced(content, path, duplicated))
                yield f"{name} with a key twice", text.replace(b'"@@"', json.dumps(key).encode())


def _line_changes(lines: list[bytes]) -> Iterator[Change]:
    for number in range(len(lines)):
        before, here, after = lines[:number], lines[number : number + 1], lines[number + 1 :]
        yield f"line {number} deleted", b"".join([*before, *after])
        yield f"line {number} twice", b"".join([*before, *here, *here, *after])
        yield f"line {number} moved to the end", b"".join([*before, *after, *here])
        yield f"line {number} empty", b"".join([*before, b"\n", *after])
        yield f"line {number} nested", b"".join([*before, HUGE.encode(), b"\n", *after])


def _cell_changes(rows: list[list[str]]) -> Iterator[Change]:
    for number, row in enumerate(rows[:4]):
        for column in range(len(row)):
            for cell in ("", "-1", "nan", "x", "9" * 400, '"', "train", "test"):
                changed = copy.deepcopy(rows)
                changed[number][column] = cell
                yield f"cell {number}, {column} = {cell[:9]!r}", _csv(changed)
        yield f"row {number} longer", _csv([*rows[:number], [*row, "x"], *rows[number + 1 :]])
        yield f"row {number} shorter", _csv([*rows[:number], row[:-1], *rows[number + 1 :]])
    yield "columns reversed", _csv([row[::-1] for row in rows])


def _csv(rows: list[list[str]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()


def _paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    items: Any = ()
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value[:3])
    for key, inner in items:
        yield from _paths(inner, (*path, key))


def _at(content: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        content = content[key]
    return content


def _changed(content: Any, path: tuple[Any, ...], change: Callable[[Any, Any], Any]) -> Any:
    made = copy.deepcopy(content)
    change(_at(made, path[:-1]), path[-1])
    return made


def _replaced(content: Any, path: tuple[Any, ...], value: Any) -> Any:
    if not path:
        return value
    return _changed(content, path, lambda box, key: box.__setitem__(key, value))


def _dumped(content: Any) -> bytes:
    return (json.dumps(content, indent=1) + "\n").encode()


def observed(run: Path, *, ignore_damage: bool = False) -> tuple[Any, list[str]]:
    """Returns everything read from a run directory before a network is evaluated, and the warnings."""
    stderr = io.StringIO()
    with contextlib.redirect_stderr(stderr):
        opened = open_run(run, ignore_damage=ignore_damage)
        step, damaged = opened.checkpoints().latest_valid()
        if damaged or step is None:
            return None, damaged or ["no checkpoint"]
        metrics = opened.metrics(step)
    folder = run / "checkpoints" / f"{step:010d}"
    read = (
        to_json(opened.config),
        opened.manifest_or_none,
        opened.split,
        opened.result,
        metrics,
        step,
        *((folder / name).read_bytes() for name in (MANIFEST, HOST_STATE, SHAPES)),
    )
    return read, [*opened.warnings, *stderr.getvalue().splitlines()]


def outcome(run: Path, path: Path, expected: Any, *, ignore_damage: bool = False) -> str:
    """Returns the outcome, one of OUTCOMES, of opening a run directory whose file `path` may be damaged."""
    try:
        with _limited():
            if "checkpoints" in path.parts and _newest_is_damaged(run):
                return "warned"  # every command warns or raises
            read, warnings = observed(run, ignore_damage=ignore_damage)
    except JaxnetsError as error:
        return "refused" if len(str(error).splitlines()) == 1 else "tracebacks"
    except HangError:
        return "hangs"
    except Exception:
        return "tracebacks"
    if warnings:
        return "warned"
    return "harmless" if read == expected else "silent"


def _newest_is_damaged(run: Path) -> bool:
    step, damaged = Checkpoints(run / "checkpoints", keep=1).latest_valid()
    return step is None or bool(damaged)


@contextlib.contextmanager
def _limited() -> Iterator[None]:
    def stop(number: int, frame: Any) -> None:
        raise HangError

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


class Count:
    """Counts of outcomes by file, and the first changes with a bad outcome."""

    def __init__(self) -> None:
        self.counts: dict[str, collections.Counter[str]] = {}
        self.bad: list[str] = []

    def add(self, name: str, change: str, outcome: str) -> None:
        self.counts.setdefault(name, collections.Counter())[outcome] += 1
        if outcome in ("silent", "tracebacks", "hangs") and len(self.bad) < 40:
            self.bad.append(f"{name}: {change}: {outcome}")

    @property
    def total(self) -> collections.Counter[str]:
        return sum(self.counts.values(), collections.Counter())

    def table(self) -> str:
        """Returns a table with one line per file and the total."""
        rows: Mapping[str, Mapping[str, int]] = {**self.counts, "all": self.total}
        lines = [f"{'':<36}{''.join(f'{name:>12}' for name in OUTCOMES)}"]
        lines += [
            f"{name:<36}{''.join(f'{counts[each]:>12,}' for each in OUTCOMES)}"
            for name, counts in rows.items()
        ]
        return "\n".join([*lines, *self.bad])


def apply(path: Path, content: bytes | None) -> None:
    """Writes the new content of a file, or deletes it."""
    if content is None:
        path.unlink(missing_ok=True)
    else:
        path.write_bytes(content)


def try_all(
    run: Path, changes: Callable[[Path], Iterator[Change]], *, every: int = 1, ignore_damage: bool = False
) -> Count:
    """Opens a run directory after every n-th change, and restores it at the end."""
    expected, warnings = observed(run)
    assert not warnings
    count, number = Count(), 0
    for path in files_of(run):
        original = path.read_bytes()
        name = "/".join(part for part in path.relative_to(run).parts if not part.isdecimal())
        for description, content in changes(path):
            number += 1
            if number % every == 0 and content != original:
                apply(path, content)
                found = outcome(run, path, expected, ignore_damage=ignore_damage)
                count.add(name, description, found)
        path.write_bytes(original)
    assert observed(run) == (expected, [])
    return count


def copy_run(run: Path, target: Path) -> Path:
    """Copies a run directory, replacing an earlier copy."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(run, target)
    return target


class Command:
    """A script in a process that is started once."""

    def __init__(self, repository: Path, script: str, arguments: list[str], results: list[Path]):
        worker = Path(__file__).with_name("command_worker.py")
        self.arguments, self._results = arguments, results
        self._process = subprocess.Popen(
            [sys.executable, str(worker), str(repository / "scripts" / f"{script}.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=repository,
        )

    def run(self) -> tuple[Any, str, str, list[str]]:
        """Returns exit code, standard output, standard error and written files, without timings."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps(self.arguments), file=self._process.stdin, flush=True)
        code, out, err = json.loads(self._process.stdout.readline())
        written = [
            _without_times(path.read_text(errors="replace")) for path in self._results if path.is_file()
        ]
        return code, _without_times(out), err, written

    def close(self) -> None:
        """Ends the process."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


TIMES = (
    r"[\d,.]+ s\b",
    r"[\d,]+ images/s",
    r"waiting [\d.]+ %",
    r"\d+:\d\d:\d\d left",
    r'"(images_per_second|data_wait|seconds|finished)": \S+',
)
"""Timings, which differ between two runs of a command."""


def _without_times(text: str) -> str:
    text = re.sub(r"(?m)  [\d,.]+ s$", "", text)  # only slow phases show their time
    for pattern in TIMES:
        text = re.sub(pattern, "TIME", text)
    return text


def command_outcome(
    result: tuple[Any, str, str, list[str]], expected: tuple[Any, str, str, list[str]]
) -> str:
    """Returns the outcome, one of OUTCOMES, of a command on a damaged directory."""
    code, out, err, written = result
    if code == "hang":
        return "hangs"
    if "Traceback" in err or code == 1:
        return "tracebacks"
    if code != 0:
        assert code in (3, 4), err  # the data do not match, or the directory is damaged
        return "refused"
    if "warning" in err or "warning" in out:
        return "warned"
    return "harmless" if (out, written) == (expected[1], expected[3]) else "silent"
