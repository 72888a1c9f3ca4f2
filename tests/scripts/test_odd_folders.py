"""Odd folders of images: each is trained on or refused in one line, and `predict` classifies what it can."""

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

CLASSES, PER_STEP = ("a", "b"), 14
DATA, DONE = 3, 0
UNSAFE = ("\x1b", "\x07", "\x9b", "\u202e", "\r")
"""Characters that no line on a terminal may have."""


class Case(NamedTuple):
    """What is done to a folder of two classes, and the exit codes of train and predict."""

    change: Callable[[Path], object]
    train: int
    predict: int


def _picture(seed: int, size: int = 20) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (size, size, 3), np.uint8)
    return Image.fromarray(pixels)


def _encoded(kind: str, image: Image.Image | None = None, **options: Any) -> bytes:
    file = io.BytesIO()
    (image or _picture(999)).save(file, kind, **options)
    return file.getvalue()


def _content(data: Callable[[], bytes], name: str = "a/odd.png") -> Callable[[Path], object]:
    return lambda root: (root / name).write_bytes(data())


def _bomb(side: int) -> bytes:
    """A PNG whose header alone claims a square of that side."""
    data = bytearray(_encoded("PNG"))
    data[16:24] = side.to_bytes(4, "big") * 2
    data[29:33] = zlib.crc32(bytes(data[12:29])).to_bytes(4, "big")
    return bytes(data)


def _flipped() -> bytes:
    data = bytearray(_encoded("PNG"))
    data[len(data) // 2] ^= 0xFF
    return bytes(data)


def _socket(root: Path) -> None:
    here = os.getcwd()
    os.chdir(root / "a")  # a socket's whole path has at most some 100 bytes
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind("odd.png")
    finally:
        os.chdir(here)


def _link(target: str, name: str = "a/odd.png") -> Callable[[Path], object]:
    return lambda root: (root / name).symlink_to(target)


def _rename(*names: str) -> Callable[[Path], object]:
    def rename(root: Path) -> None:
        for number, name in enumerate(names):
            (root / f"a/{number}.png").rename(root / "a" / name)

    return rename


def _rename_class(name: str) -> Callable[[Path], object]:
    return lambda root: (root / "a").rename(root / name)


def _keep(each: int) -> Callable[[Path], object]:
    def keep(root: Path) -> None:
        for path in root.glob("*/*.png"):
            if int(path.stem) >= each:
                path.unlink()

    return keep


def _remove(folder: Path) -> None:
    for path in folder.glob("*"):
        path.unlink()
    folder.rmdir()


def _remove_all(root: Path) -> None:
    for name in CLASSES:
        _remove(root / name)


def _same_image_in_both(root: Path) -> None:
    for number in range(PER_STEP):
        (root / f"b/{number}.png").write_bytes((root / f"a/{number}.png").read_bytes())


def _not_utf8(root: Path) -> None:
    (root / "a/0.png").rename(os.fsdecode(os.fsencode(root) + b"/a/caf\xe9.png"))


def _deep(root: Path) -> None:
    folder = root / "a" / "/".join(["deep"] * 60)
    folder.mkdir(parents=True)
    (root / "a/0.png").rename(folder / "0.png")


def _a_file(root: Path) -> None:
    _remove_all(root)
    root.rmdir()
    root.write_text("no folder")


def _missing(root: Path) -> None:
    _remove_all(root)
    root.rmdir()


def _other_kinds(root: Path) -> None:
    (root / "a/x.gif").write_bytes(_encoded("GIF"))
    (root / "a/y.bmp").write_bytes(_encoded("BMP"))


CASES: dict[str, Case] = {
    "plain": Case(lambda root: None, DONE, DONE),
    "a FIFO": Case(lambda root: os.mkfifo(root / "a/odd.png"), DATA, DATA),
    "a socket": Case(_socket, DATA, DATA),
    "a device": Case(_link("/dev/zero"), DATA, DATA),
    "a link to itself": Case(_link("odd.png"), DATA, DATA),
    "a link to nowhere": Case(_link("nowhere.png"), DATA, DATA),
    "a class linked to itself": Case(_link("loop", "loop"), DONE, DONE),
    "a class linked to its parent": Case(_link(".", "loop"), DATA, DONE),
    "a folder linked to its parent": Case(_link("..", "a/loop"), DONE, DONE),
    "a folder that is named as an image": Case(lambda root: (root / "a/x.png").mkdir(), DONE, DONE),
    "a file beside the classes": Case(_content(lambda: b"?", "notes.txt"), DONE, DONE),
    "0 bytes": Case(_content(lambda: b""), DATA, DATA),
    "text": Case(_content(lambda: b"no image"), DATA, DATA),
    "an HTML page": Case(_content(lambda: b"<!doctype html><p>gone"), DATA, DATA),
    "an SVG": Case(_content(lambda: b"<svg xmlns='http://www.w3.org/2000/svg'/>"), DATA, DATA),
    "a GIF named PNG": Case(_content(lambda: _encoded("GIF")), DATA, DATA),
    "a BMP named PNG": Case(_content(lambda: _encoded("BMP")), DATA, DATA),
    "half a JPEG": Case(_content(lambda: _encoded("JPEG")[:400]), DATA, DATA),
    "two bytes of a JPEG": Case(_content(lambda: b"\xff\xd8"), DATA, DATA),
    "a flipped byte in a PNG": Case(_content(_flipped), DATA, DATA),
    "20,000 px a side": Case(_content(lambda: _bomb(20_000)), DATA, DATA),
    "60,000 px a side": Case(_content(lambda: _bomb(60_000)), DATA, DATA),
    "a TIFF of floats": Case(
        _content(lambda: _encoded("TIFF", Image.fromarray(np.zeros((9, 9), "f4")))), DATA, DATA
    ),
    "a TIFF of 32-bit numbers": Case(
        _content(lambda: _encoded("TIFF", Image.fromarray(np.zeros((9, 9), "i4")))), DATA, DATA
    ),
    "16-bit grey": Case(
        _content(lambda: _encoded("PNG", Image.fromarray(np.zeros((9, 9), "u2")))), DONE, DONE
    ),
    "CMYK": Case(_content(lambda: _encoded("JPEG", Image.new("CMYK", (20, 20)))), DONE, DONE),
    "damaged EXIF": Case(
        _content(lambda: _encoded("JPEG", exif=b"Exif\0\0II*\0garbage"), "a/odd.jpg"), DONE, DONE
    ),
    "GIF and BMP beside the images": Case(_other_kinds, DONE, DONE),
    "an empty class": Case(lambda root: (root / "empty").mkdir(), DATA, DONE),
    "one class": Case(lambda root: _remove(root / "b"), DATA, DONE),
    "no class": Case(_remove_all, DATA, DATA),
    "one image a class": Case(_keep(1), DATA, DONE),
    "a file for a folder": Case(_a_file, DATA, DATA),
    "no folder": Case(_missing, DATA, DATA),
    "one image in two classes": Case(_same_image_in_both, DATA, DONE),
    "names that write on the terminal": Case(
        _rename("\x1b[2Jx.png", "\x07\r\nx.png", "\x9b31m.png", "\u202egnp.png"), DONE, DONE
    ),
    "a broken file whose name writes on the terminal": Case(
        _content(lambda: b"?", "a/\x1b[2J\x07\n.png"), DATA, DATA
    ),
    "a class whose name writes on the terminal": Case(_rename_class("\x1b[2J\x07\na"), DONE, DONE),
    "formulas for names": Case(_rename("=1+1.png", "+1.png", "-1.png", "@a.png"), DONE, DONE),
    "a formula for a class": Case(_rename_class("=cmd|' C'!A0"), DONE, DONE),
    "names in other scripts": Case(_rename("漢字.png", "صورة.png", "é é.png", "'\"<&>.png"), DONE, DONE),
    "a name that is not UTF-8": Case(_not_utf8, DATA, DONE),
    "the longest name": Case(_rename("x" * 251 + ".png"), DONE, DONE),
    "60 folders deep": Case(_deep, DONE, DONE),
}


def _make(root: Path, case: Case) -> Path:
    for number, name in enumerate(CLASSES):
        (root / name).mkdir(parents=True)
        for image in range(PER_STEP):
            _picture(100 * number + image).save(root / name / f"{image}.png")
    case.change(root)
    return root


@pytest.mark.filterwarnings("ignore:.*EXIF")
def test_every_odd_folder_is_read_or_refused_in_words(tmp_path: Path) -> None:
    assert len(CASES) >= 35
    wrong = []
    by_the_split = ("a class linked to its parent", "one image in two classes", "one image a class")
    for number, (name, case) in enumerate(CASES.items()):
        root = _make(tmp_path / str(number), case)
        try:
            source = ImageFolder(root)
            assert source.fingerprint
            for index in range(len(source)):
                assert source[index]["image"].dtype == np.uint8
            refused = False
        except DataError as error:
            refused = bool(str(error))
        if refused != (case.train == DATA and name not in by_the_split):
            wrong.append(f"{name}: {'refused' if refused else 'taken'}")
    assert not wrong


def test_predict_skips_unreadable_files_and_prints_no_control_character(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Several oddities in one folder, with tables and overlays."""
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


def _run(repository: Path, *words: str) -> tuple[int | None, str, str]:
    try:
        done = subprocess.run([sys.executable, *words], cwd=repository, capture_output=True, timeout=900)
    except subprocess.TimeoutExpired:
        return None, "", ""
    return done.returncode, done.stdout.decode(), done.stderr.decode()


@pytest.mark.slow
@pytest.mark.timeout(4000)
@pytest.mark.parametrize("script", ["train", "predict"])
def test_the_scripts_on_every_odd_folder(
    script: str,
    repository: Path,
    trained: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def words(number: int, root: Path) -> list[str]:
        if script == "train":
            return [
                *(
                    "--config=configs/image_folder.py:smoke",
                    f"--workdir={tmp_path / f'run{number}'}",
                ),
                *(f"--config.data.path={root}", f"--config.data.root={tmp_path / f'data{number}'}"),
                *("--config.model.name=lenet5", "--config.model.kernel_size=3"),
                *("--config.data.image_size=16", "--config.log.tensorboard=False"),
            ]
        return [
            *(f"--workdir={trained}", str(root), f"--csv={tmp_path / f'{number}.csv'}"),
            *("--gradcam", f"--gradcam_folder={tmp_path / f'overlays{number}'}"),
        ]

    def run(number: int) -> tuple[int | None, str, str]:
        return _run(repository, f"scripts/{script}.py", *words(number, roots[number]))

    roots = [_make(tmp_path / f"set{n}", case) for n, case in enumerate(CASES.values())]
    with ThreadPoolExecutor(2) as pool:
        ended = list(pool.map(run, range(len(roots))))
    wrong: dict[str, list[str]] = {"tracebacks": [], "hangs": [], "codes": [], "lines": []}
    for (name, case), (code, out, errors) in zip(CASES.items(), ended, strict=True):
        expected = case.train if script == "train" else case.predict
        own = [line for line in errors.split("\n") if line.startswith(f"{script}.py: ")]
        if code is None:
            wrong["hangs"].append(name)
        elif code != expected:
            wrong["codes"].append(f"{name}: {code}, not {expected}: {errors[-300:]}")
        if "Traceback" in errors:
            wrong["tracebacks"].append(name)
        if code is not None and (len(own) != (code != DONE) or set(UNSAFE) & set(out + errors)):
            wrong["lines"].append(f"{name}: {errors[-300:]!r}")
    with capsys.disabled():
        message = ", ".join(f"{len(found)} {kind}" for kind, found in wrong.items())
        print(f"\n{script} on {len(CASES)} folders; wrong: {message}")
        for found in (*wrong["codes"], *wrong["lines"]):
            print(found)
    assert not any(wrong.values())
