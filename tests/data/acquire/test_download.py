import contextlib
import errno
import hashlib
import io
import stat
import tarfile
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

import jaxnets.data.acquire.download as module
from jaxnets.data.acquire.download import download, extract, is_archive
from jaxnets.errors import DataError, MachineError

CONTENT = np.random.default_rng(0).integers(0, 256, 1_000_000, np.uint8).tobytes()
SHA256 = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"


class Host:
    """A served file and the faults of the server; `cuts` and `statuses` have one entry per request."""

    def __init__(self, server, content):
        self.url = f"http://127.0.0.1:{server.server_port}/file.bin"
        self.content = content
        self.supports_ranges = True
        self.sends_length = True
        self.wrong_start = None  # of the first range that is requested
        self.cuts = []  # bytes to send before closing the connection
        self.statuses = []  # HTTP errors to return
        self.ranges = []  # the Range header of each request


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        host = self.server.host
        requested = self.headers.get("Range")
        host.ranges.append(requested)
        status = host.statuses.pop(0) if host.statuses else None
        if status:
            self.send_error(status)
            return
        start = int(requested[len("bytes=") : -1]) if requested and host.supports_ranges else 0
        if start and start >= len(host.content):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(host.content)}")
            self.end_headers()
            return
        if start and host.wrong_start is not None:
            start, host.wrong_start = host.wrong_start, None
        body = host.content[start:]
        self.send_response(206 if start else 200)
        if start:
            last = len(host.content) - 1
            self.send_header("Content-Range", f"bytes {start}-{last}/{len(host.content)}")
        if host.sends_length:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.wfile.write(body[: host.cuts.pop(0)] if host.cuts else body)

    def log_message(self, *_):
        pass


@pytest.fixture
def start_host():
    servers = []

    def start(content=CONTENT):
        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.host = Host(server, content)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        servers.append(server)
        return server.host

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def host(start_host):
    return start_host()


@pytest.fixture
def target(tmp_path):
    return tmp_path / "below/file.bin"


def get(hosts, target, *, digest=SHA256, **options):
    urls = [host.url for host in hosts]
    return download(urls, target, digest, backoff=0.001, timeout=5, **options)


def part(target):
    return target.with_name(target.name + ".part")


def test_addresses_timeouts_and_failures_are_logged(host, target):
    messages = []
    host.cuts = [100]
    get([host], target, log=messages.append)
    assert messages[0] == f"{host.url} (timeout 5 s, 5 retries)"
    assert "after 100 " in messages[1]
    assert messages[1].endswith("; retry 1 of 5 in 0.001 s")
    assert len(messages) == 2


def test_download(host, target):
    seen = []
    got = get([host], target, progress=lambda done, total: seen.append((done, total)))
    assert got == target
    assert target.read_bytes() == CONTENT
    assert [path.name for path in target.parent.iterdir()] == ["file.bin"]
    assert host.ranges == [None]
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_interrupted_connections_are_resumed(host, target):
    host.cuts = [300_000, 200_000, 100_000]
    get([host], target)
    assert target.read_bytes() == CONTENT
    assert host.ranges == [None, "bytes=300000-", "bytes=500000-", "bytes=600000-"]


def test_progress_resets_the_retries(host, target):
    host.cuts = [50_000] * 12
    get([host], target, retries=1)
    assert target.read_bytes() == CONTENT
    assert len(host.ranges) == 13


def test_truncation_without_content_length_is_detected_by_the_digest(host, target):
    host.sends_length = False
    host.cuts = [300_000]
    with pytest.raises(DataError, match="wrong bytes"):
        get([host], target)
    assert get([host], target).read_bytes() == CONTENT


def test_partial_file_of_an_earlier_run_is_resumed(host, target):
    target.parent.mkdir()
    part(target).write_bytes(CONTENT[:400_000])
    get([host], target)
    assert target.read_bytes() == CONTENT
    assert host.ranges == ["bytes=400000-"]


def test_complete_part_file_is_only_renamed(host, target):
    target.parent.mkdir()
    part(target).write_bytes(CONTENT)
    get([host], target)
    assert target.read_bytes() == CONTENT
    assert not part(target).exists()


@pytest.mark.parametrize("leftover", [b"other" * 10, CONTENT + b"more"])
def test_wrong_part_file_is_deleted(host, target, leftover):
    target.parent.mkdir()
    part(target).write_bytes(leftover)
    get([host], target)
    assert target.read_bytes() == CONTENT


def test_server_without_range_support(host, target):
    host.supports_ranges = False
    host.cuts = [300_000]
    get([host], target)
    assert target.read_bytes() == CONTENT
    assert host.ranges == [None, "bytes=300000-"]


def test_server_sending_a_wrong_range(host, target):
    target.parent.mkdir()
    part(target).write_bytes(CONTENT[:300_000])
    host.wrong_start = 290_000
    get([host], target)
    assert target.read_bytes() == CONTENT
    assert host.ranges == ["bytes=300000-", None]


def test_temporary_failures_are_retried_and_missing_files_are_not(start_host, target):
    missing, busy = start_host(), start_host()
    missing.statuses = [404] * 9
    busy.statuses = [500, 503]
    get([missing, busy], target)
    assert target.read_bytes() == CONTENT
    assert len(missing.ranges) == 1
    assert len(busy.ranges) == 3


def test_failure_names_every_url_and_the_remedy(start_host, target):
    missing, broken = start_host(), start_host()
    missing.statuses = [404] * 9
    broken.statuses = [500] * 9
    with pytest.raises(DataError) as caught:
        get([missing, broken], target, retries=2)
    message = str(caught.value)
    assert f"{missing.url}: HTTP 404" in message
    assert f"{broken.url}: HTTP 500" in message
    assert message.startswith("file.bin cannot be downloaded")
    assert message.endswith("pass it with --from")
    assert "\n" not in message
    assert len(broken.ranges) == 3
    assert not target.exists()


def test_backoff_is_exponential(host, target, monkeypatch):
    waits = []
    monkeypatch.setattr(module.time, "sleep", waits.append)
    host.statuses = [500, 500, 500]
    download([host.url], target, SHA256, backoff=1.0)
    assert waits == [1.0, 2.0, 4.0]


def test_wrong_digest_raises_and_deletes_the_file(start_host, target):
    wrong, right = start_host(CONTENT[:-1] + b"?"), start_host()
    with pytest.raises(DataError, match=rf"wrong bytes, sha256 is [0-9a-f]+, not {SHA256[7:]}"):
        get([wrong], target)
    assert list(target.parent.iterdir()) == []
    assert wrong.ranges == [None]
    get([wrong, right], target)
    assert target.read_bytes() == CONTENT


def test_md5_digest(host, target):
    get([host], target, digest=f"md5:{hashlib.md5(CONTENT).hexdigest()}")
    with pytest.raises(DataError, match="wrong bytes, md5 is"):
        get([host], target, digest=f"md5:{'0' * 32}")


def test_no_connection_raises(target):
    for url in ("http://127.0.0.1:1/file", "http://no.such.host.invalid/file"):
        with pytest.raises(DataError, match="no connection"):
            download([url], target, SHA256, retries=1, backoff=0.001)


def test_other_protocols_raise(tmp_path, target):
    (tmp_path / "a").write_bytes(CONTENT)
    with pytest.raises(DataError, match="not an http address"):
        download([f"file://{tmp_path}/a"], target, SHA256)


def test_folder_that_cannot_be_created_raises(host, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(MachineError, match=r"file: cannot be written"):
        get([host], tmp_path / "file/a")


class FullDisk(io.BytesIO):
    def write(self, _):
        raise OSError(errno.ENOSPC, "No space left on device")


def test_full_disk_raises_machine_error(host, target, monkeypatch):
    monkeypatch.setattr(module.Path, "open", lambda *_: FullDisk())
    with pytest.raises(MachineError, match="No space left on device"):
        get([host], target)


FILES = {"a/b.txt": b"first", "a/c/d.txt": b"second" * 1000, "e.txt": b""}


def write_zip(path, files):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.mkdir("a/")
        for name, data in files.items():
            archive.writestr(name, data)


def write_tar(path, files, mode="w:gz"):
    with tarfile.open(path, mode) as archive:
        folder = tarfile.TarInfo("a")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))


WRITERS = {
    "zip": write_zip,
    "tar": lambda path, files: write_tar(path, files, "w"),
    "tar.gz": write_tar,
    "tar.xz": lambda path, files: write_tar(path, files, "w:xz"),
}


@pytest.fixture(params=WRITERS)
def archive(request, tmp_path):
    """Returns a function that writes an archive without a suffix."""

    def write(files):
        path = tmp_path / "archive"
        WRITERS[request.param](path, files)
        return path

    return write


def contents(folder):
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_extract_all_or_selected_members(archive, tmp_path):
    path = archive(FILES)
    assert is_archive(path)
    seen = []
    count = extract(path, tmp_path / "all", progress=lambda done, total: seen.append((done, total)))
    assert count == 3
    assert seen == [(1, None), (2, None), (3, None)]
    assert contents(tmp_path / "all") == FILES
    assert extract(path, tmp_path / "some", wanted=lambda name: name.endswith("b.txt")) == 1
    assert contents(tmp_path / "some") == {"a/b.txt": b"first"}


@pytest.mark.parametrize("name", ["../out.txt", "a/../../out.txt", "/out.txt", "c:/out.txt", "..\\o"])
def test_no_member_is_written_outside_the_target(archive, tmp_path, name):
    path, target = archive({name: b"evil"}), tmp_path / "below/target"
    with contextlib.suppress(DataError):
        extract(path, target)
    outside = [file for file in tmp_path.rglob("*") if file.is_file() and target not in file.parents]
    assert outside == [path]
    if not name.endswith("../out.txt") and (not zipfile.is_zipfile(path) or name != "/out.txt"):
        assert list(contents(target).values()) == [b"evil"]


def test_an_archive_that_leads_out_of_the_target_raises(archive, tmp_path):
    with pytest.raises(DataError, match="outside the destination; check its origin"):
        extract(archive({"../out.txt": b"evil"}), tmp_path / "target")


def test_two_members_of_the_same_path_raise(archive, tmp_path):
    with pytest.raises(DataError, match="it has two files a/b; check its origin"):
        extract(archive({"a/b": b"first", "a/./b": b"second"}), tmp_path / "target")


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_in_a_tar_are_skipped(tmp_path, kind):
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as archive:
        member = tarfile.TarInfo("link")
        member.type, member.linkname = kind, "/etc/passwd"
        archive.addfile(member)
    assert extract(path, tmp_path / "target") == 0


@pytest.mark.parametrize("mode", [stat.S_IFLNK, stat.S_IFIFO])
def test_links_and_devices_in_a_zip_raise(tmp_path, mode):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        member = zipfile.ZipInfo("link")
        member.external_attr = (mode | 0o777) << 16
        archive.writestr(member, "/etc/passwd")
    with pytest.raises(DataError, match="link is a link or device; check its origin"):
        extract(path, tmp_path / "target")
    assert extract(path, tmp_path / "target", wanted=lambda name: name != "link") == 0


def test_archive_larger_than_max_bytes_raises(archive, tmp_path):
    with pytest.raises(DataError, match="unpacks to over 100 bytes"):
        extract(archive(FILES), tmp_path / "target", max_bytes=100)


# A plain tar has no checksums, so changed bytes cannot be detected.
@pytest.mark.parametrize(
    ("kind", "damage"),
    [(kind, "truncated") for kind in WRITERS] + [(kind, "changed") for kind in WRITERS if kind != "tar"],
)
def test_damaged_archive_raises(tmp_path, kind, damage):
    path = tmp_path / "archive"
    WRITERS[kind](path, {"noise": CONTENT[:50_000]})
    original = path.read_bytes()
    changed = original[:20_000] + bytes(200) + original[20_200:]
    path.write_bytes(original[:40_000] if damage == "truncated" else changed)
    with pytest.raises(DataError, match=rf"^{path}: the archive is damaged or truncated"):
        extract(path, tmp_path / "target")


def test_other_files_are_not_archives(tmp_path):
    (tmp_path / "a.zip").write_text("text")
    assert not is_archive(tmp_path / "a.zip")
    assert not is_archive(tmp_path)
    assert not is_archive(tmp_path / "nowhere")
    with pytest.raises(DataError, match="damaged or truncated"):
        extract(tmp_path / "a.zip", tmp_path / "target")
