"""Unusual image folders: training works or raises a one-line error, and predict skips unreadable files."""

import csv
import io
import os
import socket
import subprocess
import sys
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from PIL import Image

from jaxnets.commands.predict import predict_files
from jaxnets.data.sources.image_folder import ImageFolder
from jaxnets.errors import DataError

CLASSES, IMAGES_PER_CLASS = ("a", "b"), 14
DATA_ERROR, SUCCESS = 3, 0
UNSAFE = ("\x1b", "\x07", "\x9b", "\u202e", "\r")
"""Control characters that must not be printed."""


class Case(NamedTuple):
    """A change of a folder of two classes, and the exit codes of train and predict."""

    change: Callable[[Path], object]
    train: int
    predict: int


def _image(seed: int, size: int = 20) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (size, size, 3), np.uint8)
    return Image.fromarray(pixels)


def _encoded(kind: str, image: Image.Image | None = None, **options: Any) -> bytes:
    file = io.BytesIO()
    (image or _image(999)).save(file, kind, **options)
    return file.getvalue()


def _content(data: Callable[[], bytes], name: str = "a/odd.png") -> Callable[[Path], object]:
    return lambda root: (root / name).write_bytes(data())


def _bomb(side: int) -> bytes:
    """Returns a PNG whose header declares a large square image."""
    data = bytearray(_encoded("PNG"))
    data[16:24] = side.to_bytes(4, "big") * 2
    data[29:33] = zlib.crc32(bytes(data[12:29])).to_bytes(4, "big")
    return bytes(data)


def _flipped() -> bytes:
    data = bytearray(_encoded("PNG"))
    data[len(data) // 2] ^= 0xFF
    return bytes(data)


def _socket(root: Path) -> None:
    cwd = os.getcwd()
    os.chdir(root / "a")  # the path of a socket is limited to about 100 bytes
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind("odd.png")
    finally:
        os.chdir(cwd)


def _link(target: str, name: str = "a/odd.png") -> Callable[[Path], object]:
    return lambda root: (root / name).symlink_to(target)


def _rename(*names: str) -> Callable[[Path], object]:
    def rename(root: Path) -> None:
        for number, name in enumerate(names):
            (root / f"a/{number}.png").rename(root / "a" / name)

    return rename


def _rename_class(name: str) -> Callable[[Path], object]:
    return lambda root: (root / "a").rename(root / name)


def _limit(count: int) -> Callable[[Path], object]:
    def limit(root: Path) -> None:
        for path in root.glob("*/*.png"):
            if int(path.stem) >= count:
                path.unlink()

    return limit


def _remove(folder: Path) -> None:
    for path in folder.glob("*"):
        path.unlink()
    folder.rmdir()


def _remove_all(root: Path) -> None:
    for name in CLASSES:
        _remove(root / name)


def _same_image_in_both(root: Path) -> None:
    for number in range(IMAGES_PER_CLASS):
        (root / f"b/{number}.png").write_bytes((root / f"a/{number}.png").read_bytes())


def _not_utf8(root: Path) -> None:
    (root / "a/0.png").rename(os.fsdecode(os.fsencode(root) + b"/a/caf\xe9.png"))


def _deep(root: Path) -> None:
    folder = root / "a" / "/".join(["deep"] * 60)
    folder.mkdir(parents=True)
    (root / "a/0.png").rename(folder / "0.png")


def _replace_by_a_file(root: Path) -> None:
    _remove_all(root)
    root.rmdir()
    root.write_text("not a folder")


def _missing(root: Path) -> None:
    _remove_all(root)
    root.rmdir()


def _other_formats(root: Path) -> None:
    (root / "a/x.gif").write_bytes(_encoded("GIF"))
    (root / "a/y.bmp").write_bytes(_encoded("BMP"))


CASES: dict[str, Case] = {
    "plain": Case(lambda root: None, SUCCESS, SUCCESS),
    "a FIFO": Case(lambda root: os.mkfifo(root / "a/odd.png"), DATA_ERROR, DATA_ERROR),
    "a socket": Case(_socket, DATA_ERROR, DATA_ERROR),
    "a device": Case(_link("/dev/zero"), DATA_ERROR, DATA_ERROR),
    "a link to itself": Case(_link("odd.png"), DATA_ERROR, DATA_ERROR),
    "a link to nowhere": Case(_link("nowhere.png"), DATA_ERROR, DATA_ERROR),
    "a class linked to itself": Case(_link("loop", "loop"), SUCCESS, SUCCESS),
    "a class linked to its parent": Case(_link(".", "loop"), DATA_ERROR, SUCCESS),
    "a folder linked to its parent": Case(_link("..", "a/loop"), SUCCESS, SUCCESS),
    "a folder named like an image": Case(lambda root: (root / "a/x.png").mkdir(), SUCCESS, SUCCESS),
    "a file next to the classes": Case(_content(lambda: b"?", "notes.txt"), SUCCESS, SUCCESS),
    "0 bytes": Case(_content(lambda: b""), DATA_ERROR, DATA_ERROR),
    "text": Case(_content(lambda: b"not an image"), DATA_ERROR, DATA_ERROR),
    "an HTML page": Case(_content(lambda: b"<!doctype html><p>gone"), DATA_ERROR, DATA_ERROR),
    "an SVG": Case(_content(lambda: b"<svg xmlns='http://www.w3.org/2000/svg'/>"), DATA_ERROR, DATA_ERROR),
    "a GIF named PNG": Case(_content(lambda: _encoded("GIF")), DATA_ERROR, DATA_ERROR),
    "a BMP named PNG": Case(_content(lambda: _encoded("BMP")), DATA_ERROR, DATA_ERROR),
    "half a JPEG": Case(_content(lambda: _encoded("JPEG")[:400]), DATA_ERROR, DATA_ERROR),
    "two bytes of a JPEG": Case(_content(lambda: b"\xff\xd8"), DATA_ERROR, DATA_ERROR),
    "a flipped byte in a PNG": Case(_content(_flipped), DATA_ERROR, DATA_ERROR),
    "20,000 x 20,000 pixels": Case(_content(lambda: _bomb(20_000)), DATA_ERROR, DATA_ERROR),
    "60,000 x 60,000 pixels": Case(_content(lambda: _bomb(60_000)), DATA_ERROR, DATA_ERROR),
    "a TIFF of floats": Case(
        _content(lambda: _encoded("TIFF", Image.fromarray(np.zeros((9, 9), "f4")))), DATA_ERROR, DATA_ERROR
    ),
    "a TIFF of 32-bit numbers": Case(
        _content(lambda: _encoded("TIFF", Image.fromarray(np.zeros((9, 9), "i4")))), DATA_ERROR, DATA_ERROR
    ),
    "16-bit grey": Case(
        _content(lambda: _encoded("PNG", Image.fromarray(np.zeros((9, 9), "u2")))), SUCCESS, SUCCESS
    ),
    "CMYK": Case(_content(lambda: _encoded("JPEG", Image.new("CMYK", (20, 20)))), SUCCESS, SUCCESS),
    "damaged EXIF": Case(
        _content(lambda: _encoded("JPEG", exif=b"Exif\0\0II*\0garbage"), "a/odd.jpg"), SUCCESS, SUCCESS
    ),
    "GIF and BMP files": Case(_other_formats, SUCCESS, SUCCESS),
    "an empty class": Case(lambda root: (root / "empty").mkdir(), DATA_ERROR, SUCCESS),
    "one class": Case(lambda root: _remove(root / "b"), DATA_ERROR, SUCCESS),
    "no class": Case(_remove_all, DATA_ERROR, DATA_ERROR),
    "one image per class": Case(_limit(1), DATA_ERROR, SUCCESS),
    "a file instead of a folder": Case(_replace_by_a_file, DATA_ERROR, DATA_ERROR),
    "no folder": Case(_missing, DATA_ERROR, DATA_ERROR),
    "one image in two classes": Case(_same_image_in_both, DATA_ERROR, SUCCESS),
    "names with control characters": Case(
        _rename("\x1b[2Jx.png", "\x07\r\nx.png", "\x9b31m.png", "\u202egnp.png"), SUCCESS, SUCCESS
    ),
    "a broken file whose name has control characters": Case(
        _content(lambda: b"?", "a/\x1b[2J\x07\n.png"), DATA_ERROR, DATA_ERROR
    ),
    "a class whose name has control characters": Case(_rename_class("\x1b[2J\x07\na"), SUCCESS, SUCCESS),
    "names that are formulas": Case(_rename("=1+1.png", "+1.png", "-1.png", "@a.png"), SUCCESS, SUCCESS),
    "a class name that is a formula": Case(_rename_class("=cmd|' C'!A0"), SUCCESS, SUCCESS),
    "names in other scripts": Case(
        _rename("漢字.png", "صورة.png", "é é.png", "'\"<&>.png"), SUCCESS, SUCCESS
    ),
    "a name that is not UTF-8": Case(_not_utf8, DATA_ERROR, SUCCESS),
    "the longest name": Case(_rename("x" * 251 + ".png"), SUCCESS, SUCCESS),
    "60 folders deep": Case(_deep, SUCCESS, SUCCESS),
}


def _make(root: Path, case: Case) -> Path:
    for number, name in enumerate(CLASSES):
        (root / name).mkdir(parents=True)
        for image in range(IMAGES_PER_CLASS):
            _image(100 * number + image).save(root / name / f"{image}.png")
    case.change(root)
    return root


@pytest.mark.filterwarnings("ignore:.*EXIF")
def test_every_odd_folder_is_read_or_raises_data_error(tmp_path: Path) -> None:
    assert len(CASES) >= 35
    wrong = []
    fails_in_the_split = ("a class linked to its parent", "one image in two classes", "one image per class")
    for number, (name, case) in enumerate(CASES.items()):
        root = _make(tmp_path / str(number), case)
        try:
            source = ImageFolder(root)
            assert source.fingerprint
            for index in range(len(source)):
                assert source[index]["image"].dtype == np.uint8
            failed = False
        except DataError as error:
            failed = bool(str(error))
        if failed != (case.train == DATA_ERROR and name not in fails_in_the_split):
            wrong.append(f"{name}: {'failed' if failed else 'accepted'}")
    assert not wrong


def test_predict_skips_unreadable_files_and_prints_no_control_character(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Several odd files in one folder, with a table and overlays."""
    root = _make(tmp_path / "odd", CASES["a FIFO"])
    CASES["a class linked to itself"].change(root)
    _rename("\x1b[2Jx.png", "\x07\r\nx.png", "=1+1.png", "-1.png")(root)
    (root / "b/link.png").symlink_to("link.png")
    files = [str(root), str(root / "loop")]
    (tmp_path / "at").symlink_to("at")
    with pytest.raises(DataError, match=r"4 of 32 files could not be read; the others are predicted"):
        predict_files(
            str(trained),
            [*files, str(tmp_path / "at")],
            csv_path=str(tmp_path / "p.csv"),
            gradcam_folder=tmp_path / "overlays",
        )
    printed = capsys.readouterr()
    assert not set(UNSAFE) & set(printed.out + printed.err)
    assert "it is a FIFO" in printed.err
    assert r"\x1b[2Jx.png" in printed.out
    with (tmp_path / "p.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert all(float(row["confidence"]) > 0 for row in rows if not row["error"])


def _run(repository: Path, *command: str) -> tuple[int | None, str, str]:
    try:
        done = subprocess.run([sys.executable, *command], cwd=repository, capture_output=True, timeout=900)
    except subprocess.TimeoutExpired:
        return None, "", ""
    return done.returncode, done.stdout.decode(), done.stderr.decode()


@pytest.mark.slow
@pytest.mark.timeout(4000)
@pytest.mark.parametrize("script", ["train", "predict"])
def test_scripts_on_every_odd_folder(
    script: str, repository: Path, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def arguments(number: int, root: Path) -> list[str]:
        if script == "train":
            return [
                *("--config=configs/image_folder.py:smoke", f"--workdir={tmp_path / f'run{number}'}"),
                *(f"--config.data.path={root}", f"--config.data.root={tmp_path / f'data{number}'}"),
                *("--config.model.name=lenet5", "--config.model.kernel_size=3"),
                *("--config.data.image_size=16", "--config.log.tensorboard=False"),
            ]
        return [
            *(f"--workdir={trained}", str(root), f"--csv={tmp_path / f'{number}.csv'}"),
            *("--gradcam", f"--gradcam_folder={tmp_path / f'overlays{number}'}"),
        ]

    def run(number: int) -> tuple[int | None, str, str]:
        return _run(repository, f"scripts/{script}.py", *arguments(number, roots[number]))

    roots = [_make(tmp_path / f"set{n}", case) for n, case in enumerate(CASES.values())]
    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(run, range(len(roots))))
    wrong: dict[str, list[str]] = {"tracebacks": [], "hangs": [], "codes": [], "lines": []}
    for (name, case), (code, out, errors) in zip(CASES.items(), results, strict=True):
        expected = case.train if script == "train" else case.predict
        lines = [line for line in errors.split("\n") if line.startswith(f"{script}.py: ")]
        if code is None:
            wrong["hangs"].append(name)
        elif code != expected:
            wrong["codes"].append(f"{name}: {code}, not {expected}: {errors[-300:]}")
        if "Traceback" in errors:
            wrong["tracebacks"].append(name)
        if code is not None and (len(lines) != (code != SUCCESS) or set(UNSAFE) & set(out + errors)):
            wrong["lines"].append(f"{name}: {errors[-300:]!r}")
    with capsys.disabled():
        summary = ", ".join(f"{len(found)} {kind}" for kind, found in wrong.items())
        print(f"\n{script} on {len(CASES)} folders; wrong: {summary}")
        for found in (*wrong["codes"], *wrong["lines"]):
            print(found)
    assert not any(wrong.values())
