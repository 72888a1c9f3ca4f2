import dataclasses
import gzip
import json
import os
import subprocess
import sys
import tarfile
import threading
import types
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import jaxnets.data.acquire.prepare as module
from jaxnets.data.acquire.prepare import SOURCES, prepare
from jaxnets.data.sources.cifar10 import BATCHES, CIFAR10
from jaxnets.data.sources.lc25000 import FOLDERS, LC25000Lung
from jaxnets.data.sources.mnist import FILES, MNIST
from jaxnets.errors import ConfigError, DataError, MachineError

PER_CLASS = 4
PER_BATCH = 3
MNIST_COUNTS = {"train": 20, "test": 5}
NAMES = ("lc25000_lung", "mnist", "cifar10")


def write_lc25000(folder):
    for name, stem in FOLDERS.items():
        (folder / name).mkdir(parents=True)
        for number in range(1, PER_CLASS + 1):
            (folder / name / f"{stem}{number}.jpeg").write_text(f"{name} {number}")


def write_mnist(folder):
    folder.mkdir(parents=True)
    for (split, part), file in FILES.items():
        shape = (MNIST_COUNTS[split], 28, 28) if part == "images" else (MNIST_COUNTS[split],)
        header = bytes([0, 0, 8, len(shape)]) + b"".join(n.to_bytes(4, "big") for n in shape)
        pixels = np.arange(np.prod(shape)) % 10
        data = gzip.compress(header + pixels.astype(np.uint8).tobytes())
        (folder / f"{file.name}.gz").write_bytes(data)


def write_cifar10(folder):
    folder.mkdir(parents=True)
    for batch in BATCHES:
        rows = np.arange(PER_BATCH * 3073).reshape(PER_BATCH, 3073) % 10
        (folder / f"{batch}.bin").write_bytes(rows.astype(np.uint8).tobytes())


WRITERS = {"lc25000_lung": write_lc25000, "mnist": write_mnist, "cifar10": write_cifar10}
EXAMPLES = {"lc25000_lung": 3 * PER_CLASS, "mnist": 25, "cifar10": 6 * PER_BATCH}


@pytest.fixture(autouse=True)
def small_sets(monkeypatch):
    """Replaces the sources by small ones that do not check digests."""

    class Lung(LC25000Lung):
        def __init__(self, root):
            super().__init__(root, images_per_class=PER_CLASS)

    class Digits(MNIST):
        def __init__(self, root):
            super().__init__(root, counts=MNIST_COUNTS, check_bytes=False)

    class Photographs(CIFAR10):
        def __init__(self, root):
            super().__init__(root, images_per_batch=PER_BATCH, check_bytes=False)

    small = (Lung, Digits, Photographs)
    monkeypatch.setattr(module, "SOURCES", {source.name: source for source in small})


@pytest.fixture
def root(tmp_path):
    return tmp_path / "data"


@pytest.fixture(params=NAMES)
def name(request):
    return request.param


@pytest.fixture
def origin(name, tmp_path):
    folder = tmp_path / "origin/set"
    WRITERS[name](folder)
    return folder


def is_prepared(name, root):
    return module.SOURCES[name].locate(root) is not None


def open_prepared(name, root):
    return module.SOURCES[name].open(root)


def hashes(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def test_prepare_from_a_folder(name, origin, root):
    assert not is_prepared(name, root)
    seen = []
    prepared = prepare(name, root, from_path=origin, progress=lambda done, total: seen.append((done, total)))
    assert prepared.examples == EXAMPLES[name] == sum(prepared.examples_per_class.values())
    assert (prepared.name, prepared.path, prepared.already) == (name, str(root / name), False)
    assert prepared.origin == str(origin)
    assert seen[-1][0] == seen[-1][1] == len(seen)
    source = open_prepared(name, root)
    assert len(source) == EXAMPLES[name]
    assert source.fingerprint == prepared.fingerprint
    record = json.loads((root / name / "prepared.json").read_text())
    assert to_record(prepared) == record
    # No other files are left, and the origin is unchanged.
    assert os.listdir(root) == [name]
    assert is_prepared(name, root)
    assert len(list(origin.rglob("*.*"))) >= len(seen)


def to_record(prepared):
    record = dataclasses.asdict(prepared)
    del record["path"], record["already"]
    return record


def test_second_run_changes_nothing(name, origin, root):
    first = prepare(name, root, from_path=origin)
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    for options in ({}, {"from_path": origin}):
        again = prepare(name, root, **options)
        assert again == dataclasses.replace(first, already=True)
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before


def test_files_are_linked_or_copied(name, origin, root, monkeypatch):
    prepare(name, root, from_path=origin)
    linked = [path for path in (root / name).rglob("*") if path.is_file() and path.stat().st_nlink == 2]
    expected = len(list(path for path in origin.rglob("*") if path.is_file()))
    assert len(linked) == expected

    def fail(*_):
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(module.os, "link", fail)
    other = root.with_name("other")
    copied = prepare(name, other, from_path=origin)
    assert copied.fingerprint == open_prepared(name, root).fingerprint
    assert hashes(other) == hashes(root)
    assert all(path.stat().st_nlink == 1 for path in other.rglob("*") if path.is_file())


def pack(folder, path):
    files = [file for file in folder.parent.rglob("*") if file.is_file()]
    names = ["top/" + file.relative_to(folder.parent).as_posix() for file in files]
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            for file, member in zip(files, names, strict=True):
                archive.write(file, member)
    else:
        with tarfile.open(path, "w:gz") as archive:
            for file, member in zip(files, names, strict=True):
                archive.add(file, member)


# The folder of the files inside an archive.
ARCHIVE_FOLDERS = {"lc25000_lung": "lung_image_sets", "mnist": "raw", "cifar10": "cifar-10-batches-bin"}


@pytest.mark.parametrize("kind", ["set.zip", "set.tar.gz"])
def test_prepare_from_an_archive(name, kind, tmp_path, root):
    folder = tmp_path / "origin" / ARCHIVE_FOLDERS[name]
    WRITERS[name](folder)
    colon = folder.parent / "colon_image_sets/colon_n/colonn1.jpeg"
    colon.parent.mkdir(parents=True)
    colon.write_text("not wanted")
    pack(folder, tmp_path / kind)
    prepared = prepare(name, root, from_path=tmp_path / kind)
    assert prepared.examples == EXAMPLES[name]
    assert prepared.fingerprint == open_prepared(name, root).fingerprint
    assert not [path for path in hashes(root) if "colon" in path]
    assert os.listdir(root) == [name]


def test_prepare_from_one_of_the_files(tmp_path, root):
    write_mnist(tmp_path / "set")
    prepare("mnist", root, from_path=tmp_path / "set/t10k-images-idx3-ubyte.gz")
    assert len(open_prepared("mnist", root)) == 25


def test_incomplete_set_raises_and_leaves_no_files(name, origin, root):
    files = sorted(path for path in origin.rglob("*") if path.is_file())
    files[-1].unlink()
    with pytest.raises(DataError, match=r"expected .*python scripts/prepare_data\.py"):
        prepare(name, root, from_path=origin)
    assert os.listdir(root) == []
    assert not is_prepared(name, root)


@pytest.mark.parametrize("name", ["mnist", "cifar10"], indirect=True)
def test_damaged_files_raise_and_leave_no_files(name, origin, root):
    path = sorted(origin.iterdir())[0]
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match="copy it again"):
        prepare(name, root, from_path=origin)
    assert os.listdir(root) == []


def test_official_digests_are_required(tmp_path, root, monkeypatch):
    monkeypatch.setattr(module, "SOURCES", SOURCES)
    for name in NAMES:
        WRITERS[name](tmp_path / name)
        with pytest.raises(DataError):
            prepare(name, root, from_path=tmp_path / name)
    assert os.listdir(root) == []


def test_invalid_origin_raises(name, tmp_path, root):
    (tmp_path / "a.zip").write_text("half a zip")
    with pytest.raises(DataError, match=r"a\.zip: is neither a folder nor a valid zip or tar"):
        prepare(name, root, from_path=tmp_path / "a.zip")
    with pytest.raises(DataError, match=r"nowhere: does not exist; give"):
        prepare(name, root, from_path=tmp_path / "nowhere")
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as archive:
        archive.writestr("a.txt", "nothing of the set")
    with pytest.raises(DataError, match=r"; expected "):
        prepare(name, root, from_path=tmp_path / "b.zip")


def test_unmarked_files_are_found_without_writing(name, root):
    WRITERS[name](root / name)
    before = hashes(root)
    assert is_prepared(name, root)
    assert len(open_prepared(name, root)) == EXAMPLES[name]
    assert hashes(root) == before
    prepared = prepare(name, root)
    assert (prepared.already, prepared.origin) == (True, "already there")
    assert hashes(root) == sorted([*before, f"{name}/prepared.json"])
    assert prepare(name, root) == prepared


@pytest.mark.parametrize(
    ("name", "below"),
    [
        ("lc25000_lung", "lung_colon_image_set/lung_image_sets"),
        ("mnist", "MNIST/raw"),
        ("cifar10", "cifar-10-batches-bin"),
    ],
)
def test_unmarked_files_under_other_names_are_found(name, below, root):
    WRITERS[name](root / below)
    before = hashes(root)
    assert is_prepared(name, root)
    assert len(open_prepared(name, root)) == EXAMPLES[name]
    assert prepare(name, root).already
    assert hashes(root) == before


def test_read_only_root(name, root):
    WRITERS[name](root / name)
    (root / name).chmod(0o555)
    try:
        assert is_prepared(name, root)
        assert len(open_prepared(name, root)) == EXAMPLES[name]
        assert prepare(name, root).examples == EXAMPLES[name]
    finally:
        (root / name).chmod(0o755)


def test_marked_set_with_missing_files_raises(name, origin, root):
    prepare(name, root, from_path=origin)
    files = [path for path in (root / name).rglob("*") if path.is_file()]
    next(path for path in files if path.name != "prepared.json").unlink()
    assert is_prepared(name, root)
    for use in (open_prepared, prepare):
        with pytest.raises(DataError, match=r"; expected "):
            use(name, root)


def test_existing_incomplete_set_is_not_overwritten(name, origin, root):
    (root / name).mkdir(parents=True)
    (root / name / "mine.txt").write_text("precious")
    with pytest.raises(DataError, match=r"contains files, but not a complete .*; move it away"):
        prepare(name, root, from_path=origin)
    assert hashes(root) == [name, f"{name}/mine.txt"]


def test_killed_between_rename_and_marker(name, origin, root, monkeypatch):
    def die(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, "_write_marker", die)
        with pytest.raises(KeyboardInterrupt):
            prepare(name, root, from_path=origin)
    assert is_prepared(name, root)
    assert prepare(name, root, from_path=origin).examples == EXAMPLES[name]
    assert (root / name / "prepared.json").is_file()


def test_interrupt_leaves_no_files(name, origin, root):
    def interrupt(done, total):
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(name, root, from_path=origin, progress=interrupt)
    assert os.listdir(root) == []
    assert prepare(name, root, from_path=origin).examples == EXAMPLES[name]


def test_leftovers_of_a_killed_process_are_removed(name, origin, root):
    (root / f".{name}.partial" / "ready").mkdir(parents=True)
    (root / f".{name}.partial" / "ready" / "half").write_text("half")
    (root / f".{name}.lock").write_text("")
    assert prepare(name, root, from_path=origin).examples == EXAMPLES[name]
    assert os.listdir(root) == [name]


def test_second_process_waits_for_the_first(name, origin, root):
    reached, resume, messages = threading.Event(), threading.Event(), []

    def hold(done, total):
        reached.set()
        assert resume.wait(30)

    def log(text):
        messages.append(text)
        resume.set()  # the first finishes only when the second waits

    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(prepare, name, root, from_path=origin, progress=hold)
        assert reached.wait(30)
        second = threads.submit(prepare, name, root, from_path=origin, log=log)
        assert [first.result(30).already, second.result(30).already] == [False, True]
    assert messages == [f"another process is preparing {name} in {root}: waiting for it"]
    assert os.listdir(root) == [name]


KILLED = """
import os, sys
from jaxnets.data.acquire.prepare import prepare
prepare("mnist", sys.argv[2], from_path=sys.argv[1], progress=lambda done, total: os.kill(os.getpid(), 9))
"""


@pytest.mark.parametrize("name", ["mnist"], indirect=True)
def test_killed_process_does_not_block_the_next(name, origin, root):
    killed = subprocess.run([sys.executable, "-c", KILLED, str(origin), str(root)])
    assert killed.returncode == -9
    assert f".{name}.partial" in os.listdir(root)
    assert prepare(name, root, from_path=origin).examples == EXAMPLES[name]
    assert os.listdir(root) == [name]


def test_damaged_marker_raises(name, origin, root):
    prepare(name, root, from_path=origin)
    for text in ("", "[]", '{"name": "x"}'):
        (root / name / "prepared.json").write_text(text)
        with pytest.raises(DataError, match="not a valid record of a prepared data set"):
            prepare(name, root)
    assert len(open_prepared(name, root)) == EXAMPLES[name]


def test_root_that_cannot_be_created_raises(name, origin, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(MachineError, match=r"file.*; free disk space, fix the permissions"):
        prepare(name, tmp_path / "file/data", from_path=origin)


def test_error_names_the_prepare_command(name, root):
    with pytest.raises(DataError, match=rf"python scripts/prepare_data\.py {name}"):
        open_prepared(name, root)


def test_unknown_name_raises(root):
    with pytest.raises(DataError, match=r"'imagenet' .*choose one of lc25000_lung, mnist, cifar10"):
        prepare("imagenet", root)


def test_downloads_are_prepared_and_removed(tmp_path, root, monkeypatch):
    write_mnist(tmp_path / "host")
    write_cifar10(tmp_path / "origin/cifar-10-batches-bin")
    pack(tmp_path / "origin/cifar-10-batches-bin", tmp_path / "host/cifar-10-binary.tar.gz")
    requests = []

    def from_host(urls, target, digest, *, progress=None, log=None):
        requests.append((urls, digest))
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((tmp_path / "host" / urls[0].rpartition("/")[2]).read_bytes())
        return target

    monkeypatch.setattr(module, "download", from_host)
    assert prepare("mnist", root).origin.startswith("https://storage.googleapis.com/")
    assert prepare("cifar10", root).origin.startswith("https://www.cs.toronto.edu/")
    assert sorted(os.listdir(root)) == ["cifar10", "mnist"]
    assert len(requests) == 5
    assert [(len(urls), digest.partition(":")[0]) for urls, digest in requests] == [
        *[(2, "sha256")] * 4,
        (1, "md5"),
    ]


def test_lc25000_error_names_both_ways_to_get_it(root):
    with pytest.raises(DataError, match=r"--from PATH.* --kaggle \(after pip install kagglehub\)"):
        prepare("lc25000_lung", root)


def test_two_origins_raise(root):
    with pytest.raises(ConfigError, match="--from and --kaggle are two sources"):
        prepare("lc25000_lung", root, from_path="lc25000.zip", kaggle=True)


def test_prepare_from_kaggle(tmp_path, root, monkeypatch):
    write_lc25000(tmp_path / "cache/lung_colon_image_set/lung_image_sets")
    monkeypatch.setitem(sys.modules, "kagglehub", None)
    with pytest.raises(ConfigError, match="pip install kagglehub"):
        prepare("lc25000_lung", root, kaggle=True)
    hub = types.ModuleType("kagglehub")
    monkeypatch.setitem(sys.modules, "kagglehub", hub)
    hub.dataset_download = lambda name: 1 / 0
    with pytest.raises(DataError, match=r"kagglehub cannot download .*manually"):
        prepare("lc25000_lung", root, kaggle=True)
    hub.dataset_download = lambda name: str(tmp_path / "cache")
    prepared = prepare("lc25000_lung", root, kaggle=True)
    assert prepared.origin == "kaggle:andrewmvd/lung-and-colon-cancer-histopathological-images"
    assert prepared.examples == 3 * PER_CLASS
    with pytest.raises(ConfigError, match="omit --kaggle"):
        prepare("mnist", root, kaggle=True)


def test_real_mnist_is_found_unmarked(monkeypatch):
    data = Path(os.environ.get("JAXNETS_DATA", "nowhere"))
    if not (data / "mnist").is_dir():
        pytest.skip("JAXNETS_DATA has no mnist")
    monkeypatch.setattr(module, "SOURCES", SOURCES)
    assert is_prepared("mnist", data)
    assert len(open_prepared("mnist", data)) == 70_000
