"""find_duplicates: a folder of images to a table of near-duplicate groups."""

import csv
import dataclasses
import functools
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

import jaxnets
from jaxnets.commands.find_duplicates import find_duplicates
from jaxnets.data.groups import read_groups
from jaxnets.data.images import read_image
from jaxnets.data.near_duplicates import candidates, tasks
from jaxnets.data.near_duplicates.features import Settings, describe
from jaxnets.data.sources.synthetic_tissue import SyntheticTissue
from jaxnets.errors import CheckFailedError, ConfigError, DataError

pytest.importorskip("cv2")

SIZE = 144
SETTINGS = Settings(side=SIZE, neighbours=4, neighbours_across=4, words=128)


def _save(image: np.ndarray, path: Path, quality: int = 85) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path, quality=quality)


def _crop(field: np.ndarray, left: int, degrees: int = 0, mirror: bool = False) -> np.ndarray:
    """Returns a SIZE x SIZE crop at half height, rotated about its centre by `degrees`."""
    picture = Image.fromarray(field)
    centre = (left + SIZE / 2, field.shape[0] / 2)
    rotated = picture.rotate(degrees, Image.Resampling.BICUBIC, center=centre)
    box = (left, round(centre[1] - SIZE / 2), left + SIZE, round(centre[1] + SIZE / 2))
    crop = rotated.crop(box)
    return np.array(crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if mirror else crop)


def _write_duplicates(folder: Path, count: int) -> dict[str, set[str]]:
    """Writes five classes of synthetic images with near-duplicates; returns these by kind."""
    source = SyntheticTissue(count, 240, seed=11)
    for index in range(count):
        _save(_crop(source[index]["image"], 24), folder / f"c{index % 5}" / f"{index}.png")
    first, second = source[0]["image"], source[1]["image"]
    _save(_crop(first, 24, 137), folder / "c0" / "turned.jpg")
    _save(_crop(first, 24, 20, mirror=True), folder / "c0" / "mirrored.jpg")
    _save(_crop(second, 24, 75), folder / "c4" / "other_class.jpg")
    _save(_crop(second, 84), folder / "c1" / "beside.png")
    (folder / "c1" / "notes.txt").write_text("no image\n")
    _save(source[0]["image"], folder / "stray.png")
    return {
        "original": {"c0/0.png", "c0/turned.jpg", "c0/mirrored.jpg"},
        "across": {"c1/1.png", "c4/other_class.jpg"},
        "overlap": {"c1/1.png", "c4/other_class.jpg", "c1/beside.png"},
    }


def _groups(path: Path, column: int) -> list[set[str]]:
    """Returns the sets of two or more files with the same original (column 0) or group (column 1)."""
    sets: dict[str, set[str]] = {}
    for file, labels in read_groups(path).members.items():
        sets.setdefault(labels[column], set()).add(file)
    return sorted((files for files in sets.values() if len(files) > 1), key=min)


def test_rotated_mirrored_and_overlapping_copies_are_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    duplicates = _write_duplicates(tmp_path / "images", 10)
    out = tmp_path / "tables" / "groups.csv"
    search = lambda: find_duplicates(  # noqa: E731
        [str(tmp_path / "images")],
        out=str(out),
        json_path=str(tmp_path / "found.json"),
        workers=1,
        settings=SETTINGS,
    )
    search()
    assert _groups(out, 0) == [duplicates["original"], duplicates["across"]]
    assert _groups(out, 1) == [duplicates["original"], duplicates["overlap"]]
    report = json.loads((tmp_path / "found.json").read_text())
    assert report["overlaps"]["joined_across_classes"] + report["overlaps"]["joined"] >= 1
    assert report["settings"]["side"] == SIZE
    left_out = "1 other files skipped, 1 images outside of class folders skipped, as in training"
    assert f"14 in 5 classes, {left_out}" in capsys.readouterr().out
    text, task_files = out.read_bytes(), sorted(tmp_path.rglob("*.npy"))
    # Finished tasks are reused; a task whose file is missing runs again.
    times = {file: file.stat().st_mtime_ns for file in task_files}
    task_files[-1].unlink()
    search()
    assert out.read_bytes() == text
    assert {file for file in task_files if file.stat().st_mtime_ns != times[file]} == {task_files[-1]}
    (tmp_path / "images" / "c0" / "0.png").unlink()
    with pytest.raises(ConfigError, match="exists: give another"):
        search()
    assert out.read_bytes() == text
    out.rename(tmp_path / "mine.csv")
    with pytest.raises(ConfigError, match="duplicates.html exists"):
        search()


def _write_leak(folder: Path) -> None:
    """Writes training images and test images, one of which is a rotated training image."""
    source = SyntheticTissue(7, 240, seed=11)
    for index in range(7):
        part = "train" if index < 4 else "test"
        _save(_crop(source[index]["image"], 24), folder / part / f"{index}.png")
    _save(_crop(source[2]["image"], 24, 137), folder / "test" / "turned.jpg")


def test_leaked_test_images_are_found_and_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _write_leak(tmp_path)
    monkeypatch.chdir(tmp_path)
    options = {"against": ["test"], "out": "groups.csv", "workers": 1, "settings": SETTINGS}
    find_duplicates(["train"], **options)
    assert _groups(Path("groups.csv"), 1) == [{"train/2.png", "test/turned.jpg"}]
    assert "LEAKY: 1 of 4 test images (25.00 %) have a near-duplicate" in capsys.readouterr().out
    page = Path("duplicates.html").read_text()
    assert '<b data-number="test_fraction">25.00 %</b>' in page
    part = page.split("Test images with a near-duplicate in training</h2>")[1].split("<h2>")[0]
    assert part.count("data:image/jpeg;base64") == 4
    assert "test/turned.jpg" in part
    assert "<script" not in page
    assert "http" not in page.replace("http://www.w3.org", "")
    message = r"1 of 4 test images have .* \(test/turned.jpg is like train/2.png\)"
    with pytest.raises(CheckFailedError, match=message):
        find_duplicates(["train"], fail_on_leak=True, json_path="-", **options)
    numbers = json.loads(capsys.readouterr().out)
    assert numbers["leakage"]["test_files"] == {"test/turned.jpg": "train/2.png"}
    Path("test/turned.jpg").unlink()
    find_duplicates(["train"], fail_on_leak=True, **{**options, "out": "clean.csv", "html": "clean.html"})
    assert "0 of 3 test images (0.00 %) have" in capsys.readouterr().out


def test_the_current_folder_has_the_test_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _write_leak(tmp_path)
    monkeypatch.chdir(tmp_path / "test")
    for test in (".", "../test", tmp_path / "test"):
        found = jaxnets.find_duplicates("../train", against=test, workers=1, settings=SETTINGS)
        assert [Path(found.files[index]).name for index in found.leaked] == ["turned.jpg"]


def test_several_folders_from_python(tmp_path: Path) -> None:
    _write_leak(tmp_path)
    train, test = tmp_path / "train", tmp_path / "test"
    found = jaxnets.find_duplicates([train], against=test, workers=1, settings=SETTINGS)
    assert [found.files[index] for index in found.leaked] == [f"{test}/turned.jpg"]
    assert found.files[found.pairs[0]["first"]] == f"{train}/2.png"
    files = [train / "2.png", test / "turned.jpg", test / "5.png"]
    found = jaxnets.find_duplicates(files, workdir=tmp_path / "work", workers=1, settings=SETTINGS)
    assert found.files == tuple(map(str, files))
    assert found.groups.tolist() == found.originals.tolist() == [0, 0, 1]
    assert any((tmp_path / "work").iterdir())
    with pytest.raises(DataError, match="is listed twice"):
        jaxnets.find_duplicates([train, tmp_path / "train" / "2.png"], workers=1)


def test_small_and_large_images_are_searched_together(tmp_path: Path) -> None:
    source = SyntheticTissue(4, 240, seed=11)
    for index in range(4):
        image = _crop(source[index]["image"], 24)
        _save(image, tmp_path / "images" / f"large{index}.png")
        small = np.array(Image.fromarray(image).resize((32, 32), Image.Resampling.BICUBIC))
        _save(small, tmp_path / "images" / f"small{index}.png")
        _save(small[:, ::-1], tmp_path / "images" / f"small{index}mirrored.png")
    found = jaxnets.find_duplicates(tmp_path / "images", workers=1, settings=SETTINGS)
    group_of = dict(zip(found.files, found.groups.tolist(), strict=True))
    for index in range(4):
        assert group_of[f"small{index}.png"] == group_of[f"small{index}mirrored.png"]
    assert len(set(found.groups.tolist())) == 8


def test_many_small_copies_of_one_photograph_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More copies than `small_rank`, so that the next candidates of each are copies too."""
    source, generator = SyntheticTissue(8, 240, seed=11), np.random.default_rng(0)
    for index in range(8):
        for copy in range(30 if index == 0 else 1):
            left, top = 24 + generator.uniform(-8, 8, 2)
            picture = Image.fromarray(source[index]["image"])
            box = (left, top, left + 160, top + 160)
            small = np.array(picture.resize((32, 32), Image.Resampling.BICUBIC, box=box))
            _save(small[:, :: (-1) ** copy], tmp_path / "images" / f"{index}-{copy}.png")
    read = []
    monkeypatch.setattr(tasks, "read_image", lambda path, **options: read.append(path) or read_image(path))
    found = jaxnets.find_duplicates(tmp_path / "images", workdir=tmp_path / "work", workers=1)
    assert len(read) == len(set(read)) == 37  # each image is decoded once
    assert sum(file.stat().st_size for file in tmp_path.glob("work/*/describe-*.npy")) < 37 * 10_000
    photograph = [file.split("-")[0] for file in found.files]
    assert len(set(zip(photograph, found.groups.tolist(), strict=True))) == 8
    assert len(set(found.groups.tolist())) == 8


def test_few_small_drawings_are_not_joined(tmp_path: Path) -> None:
    """Strokes that correlate with each other by chance as strongly as copies of a photograph do."""
    for index in range(4):
        picture = Image.new("L", (32, 32))
        ImageDraw.Draw(picture).line((12 + 2 * index, 5, 15 + index, 27), fill=255, width=3)
        _save(np.array(picture), tmp_path / "images" / f"{index}.png")
    settings = Settings(small_drawings=0)
    joined = jaxnets.find_duplicates(tmp_path / "images", workers=1, settings=settings)
    assert len(set(joined.groups.tolist())) < 4  # what prevents it is the setting
    found = jaxnets.find_duplicates(tmp_path / "images", workers=1)
    assert len(set(found.groups.tolist())) == 4


def test_fewer_keypoints_than_a_visual_word_needs_are_no_error(tmp_path: Path) -> None:
    picture = Image.new("RGB", (SIZE, SIZE), (200, 200, 200))
    _save(np.array(picture), tmp_path / "images" / "plain.png")
    ImageDraw.Draw(picture).ellipse((47, 47, 53, 53), fill=(40, 40, 40))
    _save(np.array(picture), tmp_path / "images" / "dot.png")
    images = [read_image(path) for path in sorted((tmp_path / "images").iterdir())]
    keypoints = sum(int(describe(image, SETTINGS)["count"]) for image in images)
    assert 0 < keypoints < candidates.MIN_PER_WORD
    found = jaxnets.find_duplicates(tmp_path / "images", workers=1, settings=SETTINGS)
    assert found.groups.tolist() == [0, 1]
    assert found.too_plain.all()
    enough = dataclasses.replace(SETTINGS, overlap_inliers=keypoints)
    found = jaxnets.find_duplicates(tmp_path / "images", workers=1, settings=enough)
    assert found.too_plain.tolist() == [False, True]  # dot.png, plain.png


def test_output_inside_the_image_folder_raises(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _write_duplicates(tmp_path / "images", 10)
    monkeypatch.chdir(tmp_path / "images")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ConfigError, match="give a path outside"):
        find_duplicates(["."], out="groups.csv", workers=1, settings=SETTINGS)
    assert sorted(tmp_path.rglob("*")) == before


def test_unreadable_images_raise_and_write_nothing(tmp_path: Path) -> None:
    source = SyntheticTissue(3, 64)
    for index in range(3):
        _save(source[index]["image"], tmp_path / "images" / f"{index}.jpg")
    (tmp_path / "images" / "text.jpg").write_text("not an image")
    content = (tmp_path / "images" / "0.jpg").read_bytes()
    (tmp_path / "images" / "short.jpg").write_bytes(content[: len(content) // 2])
    out = tmp_path / "out" / "groups.csv"
    with pytest.raises(DataError, match=r"short.jpg: .*truncated.*\(also \S*text.jpg\)"):
        find_duplicates([str(tmp_path / "images")], out=str(out), workers=1, settings=SETTINGS)
    assert not [path for path in (tmp_path / "out").iterdir() if path.is_file()]


@pytest.mark.parametrize(
    ("arguments", "out", "message"), [([], "groups.csv", "give folders"), (["a"], "g.txt", ".csv")]
)
def test_invalid_arguments_raise(arguments: list[str], out: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        find_duplicates(arguments, out=out)


def test_files_of_others_are_not_overwritten(tmp_path: Path) -> None:
    for index in range(2):
        _save(np.full((40, 40, 3), 100 * index, np.uint8), tmp_path / "images" / f"{index}.png")
    images, work = [str(tmp_path / "images")], str(tmp_path / "work")
    out, html, numbers = (str(tmp_path / name) for name in ("a.csv", "a.html", "a.json"))
    for _ in range(2):  # the second search overwrites its own files
        find_duplicates(images, out=out, html=html, json_path=numbers, work_dir=work, workers=1)
    (tmp_path / "b.html").write_text("not ours")
    with pytest.raises(ConfigError, match=r"b.html exists: give another --html, or remove it"):
        find_duplicates(images, out=out, html=str(tmp_path / "b.html"), work_dir=work, workers=1)
    with pytest.raises(ConfigError, match=r"--out and --html are both .*c.csv: give each its own file"):
        find_duplicates(images, out=str(tmp_path / "c.csv"), html=str(tmp_path / "c.csv"), workers=1)


def test_test_images_inside_of_training_folders_raise(tmp_path: Path) -> None:
    for name in ("train/a.png", "train/b.png", "train/test/c.png"):
        _save(np.zeros((40, 40, 3), np.uint8), tmp_path / name)
    (tmp_path / "link").symlink_to(tmp_path / "train")
    for test in ("train/test", "train/../train", "link"):
        with pytest.raises(DataError, match=r"is listed twice, in .* and test images in a folder outside"):
            find_duplicates(
                [str(tmp_path / "train")],
                out=str(tmp_path / "groups.csv"),
                against=[str(tmp_path / test)],
                workers=1,
            )


def test_no_workers_raise(tmp_path: Path) -> None:
    for index in range(2):
        _save(np.zeros((40, 40, 3), np.uint8), tmp_path / f"{index}.png")
    with pytest.raises(ConfigError, match="workers=0: give at least 1"):
        jaxnets.find_duplicates(tmp_path, workers=0)


def test_leaking_exact_copies_without_keypoints_are_listed(tmp_path: Path) -> None:
    for name in ("train/white.png", "train/black.png", "test/same.png"):
        _save(np.full((80, 80, 3), 0 if "black" in name else 255, np.uint8), tmp_path / name)
    with pytest.raises(CheckFailedError, match=r"1 of 1 test images"):
        find_duplicates(
            [str(tmp_path / "train")],
            out=str(tmp_path / "groups.csv"),
            against=[str(tmp_path / "test")],
            fail_on_leak=True,
            workers=1,
        )
    page = (tmp_path / "duplicates.html").read_text()
    assert f'<th scope="row">{tmp_path}/test/same.png</th><td>{tmp_path}/train/white.png</td>' in page


def test_fail_on_leak_needs_test_images() -> None:
    with pytest.raises(ConfigError, match="needs the folder of test images: --against=TEST"):
        find_duplicates(["a"], out="groups.csv", fail_on_leak=True)


def test_missing_opencv_names_the_install_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(ConfigError, match="pip install opencv-python-headless"):
        find_duplicates(["anywhere"], out="groups.csv")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_killed_search_resumes_and_leaves_no_worker(repository: Path, tmp_path: Path) -> None:
    _write_duplicates(tmp_path / "images", 300)
    command = [sys.executable, "scripts/find_duplicates.py", str(tmp_path / "images"), "--workers=2"]
    killed = [*command, f"--out={tmp_path / 'killed.csv'}"]

    def started(count: int) -> Callable[[], bool]:
        return lambda: len(list(tmp_path.glob(".killed.work/*/*.npy"))) >= count

    for count in (1, 3, 4):
        process = subprocess.Popen(killed, cwd=repository, stdout=subprocess.DEVNULL, start_new_session=True)
        _wait(started(count), process)
        process.send_signal(signal.SIGKILL)
        process.wait()
        _wait(functools.partial(_has_no_workers, process.pid))
    assert not (tmp_path / "killed.csv").exists()
    done = subprocess.run(killed, cwd=repository, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "tasks reused" in done.stdout
    uninterrupted = [*command, f"--out={tmp_path / 'uninterrupted.csv'}"]
    subprocess.run(uninterrupted, cwd=repository, check=True, capture_output=True)
    assert (tmp_path / "killed.csv").read_bytes() == (tmp_path / "uninterrupted.csv").read_bytes()


def _wait(condition: Callable[[], bool], process: subprocess.Popen[bytes] | None = None) -> None:
    while not condition():
        assert process is None or process.poll() is None, "ended before it could be killed"
        time.sleep(0.05)


def _has_no_workers(parent: int) -> bool:
    """Returns whether every process of the session of `parent` has ended."""
    return subprocess.run(["pgrep", "--session", str(parent)], capture_output=True).returncode == 1


def test_table_is_valid_csv(tmp_path: Path) -> None:
    source = SyntheticTissue(2, 64)
    for index in range(2):
        _save(source[index]["image"], tmp_path / "images" / f"{index}.png")
    out = tmp_path / "groups.csv"
    find_duplicates([str(tmp_path / "images")], out=str(out), workers=1, settings=SETTINGS)
    with out.open() as file:
        rows = list(csv.DictReader(file))
    assert rows == [
        {"file": "0.png", "original": "0", "group": "0"},
        {"file": "1.png", "original": "1", "group": "1"},
    ]
