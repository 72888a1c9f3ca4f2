"""Downloads files over HTTP and extracts archives, trusting neither.

Tested against a local server that cuts connections, ignores ranges, fails and sends wrong bytes, but not
against the real hosts.
"""

import hashlib
import http.client
import lzma
import shutil
import stat
import tarfile
import time
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from jaxnets.data.sources.base import Progress
from jaxnets.errors import DataError, MachineError
from jaxnets.io import DISK_FULL, NOT_WRITABLE

_CHUNK = 1 << 18
# RuntimeError: encrypted, or a compression that zipfile does not support.
_DAMAGE = (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, RuntimeError)
_PERMANENT = (400, 401, 403, 404, 405, 410, 451)


def download(
    urls: Sequence[str],
    target: Path,
    digest: str,
    *,
    retries: int = 5,
    backoff: float = 1.0,
    timeout: float = 30.0,
    progress: Progress | None = None,
    log: Callable[[str], None] = lambda text: None,
) -> Path:
    """Downloads the first available of `urls` to `target`; `progress` counts bytes.

    The download is stored in TARGET.part and renamed after its digest, such as "md5:900150...", is verified.
    It resumes with HTTP Range requests after a lost connection and after a kill. Temporary failures are
    retried, up to `retries` times without any new bytes, with exponential `backoff` in seconds; `timeout` is
    the longest wait for data in seconds. `log` is called with a line of text before each request and after
    each failure. Raises DataError with the failure of each address if none works, and MachineError if the
    file cannot be written.
    """
    part = target.with_name(target.name + ".part")
    failures = []
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        for url in urls:
            log(f"{url} (timeout {timeout:g} s, {retries} retries)")
            most = attempt = 0
            while True:
                in_one_piece = not part.exists()
                try:
                    _fetch(url, part, timeout, progress)
                    _check(part, digest, final=in_one_piece)
                    return part.replace(target)
                except _FetchError as error:
                    size = _size(part)
                    # Only failures without any progress count.
                    attempt = 1 if size > most else attempt + 1
                    most = max(most, size)
                    if error.final or attempt > retries:
                        failures.append(f"{url}: {error}")
                        break
                    wait = backoff * 2 ** (attempt - 1)
                    log(f"{error}; retry {attempt} of {retries} in {wait:g} s")
                time.sleep(wait)
    except OSError as error:
        problem = f"{error.filename or part}: cannot be written ({error.strerror})"
        raise MachineError(f"{problem}; free disk space or choose another folder") from error
    remedy = "check the network, or download the file elsewhere and pass it with --from"
    raise DataError(f"{target.name} cannot be downloaded ({'; '.join(failures)}); {remedy}")


class _FetchError(Exception):
    """One address failed; with `final` a retry would not help."""

    def __init__(self, message: str, *, final: bool = False):
        super().__init__(message)
        self.final = final


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _fetch(url: str, part: Path, timeout: float, progress: Progress | None) -> None:
    """Appends the missing bytes to `part`; raises _FetchError if the connection ends early."""
    body = _request(url, part, timeout)
    if body is None:
        return
    done, total = 0, body.headers.get("Content-Length", "unknown")
    if body.status == http.HTTPStatus.PARTIAL_CONTENT:
        done, total = _size(part), body.headers["Content-Range"].rpartition("/")[2]
    total = int(total) if total.isdecimal() else None
    with body, part.open("r+b" if done else "wb") as out:
        out.seek(done)
        while block := _read(body, done):
            out.write(block)
            done += len(block)
            if progress:
                progress(done, total)
    if total is not None and done != total:
        raise _FetchError(f"the connection ended after {done:,} of {total:,} bytes")


def _read(body: http.client.HTTPResponse, done: int) -> bytes:
    try:
        return body.read(_CHUNK)
    except (OSError, http.client.HTTPException) as error:
        raise _FetchError(f"the connection broke after {done:,} bytes ({error})") from error


def _request(url: str, part: Path, timeout: float) -> http.client.HTTPResponse | None:
    """Requests the bytes that `part` lacks; None if it is already complete."""
    if not url.startswith(("http://", "https://")):
        raise _FetchError("not an http address", final=True)
    have = _size(part)
    headers = {"User-Agent": "jaxnets", "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    try:
        body = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=timeout)
    except urllib.error.HTTPError as error:
        with error:
            if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and have:
                if error.headers.get("Content-Range") == f"bytes */{have}":
                    return None
                part.unlink()
            raise _FetchError(f"HTTP {error.code} {error.reason}", final=error.code in _PERMANENT) from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise _FetchError(f"no connection ({error})") from error
    sent = body.headers.get("Content-Range", "none")  # such as "bytes 100-199/200"
    if body.status == http.HTTPStatus.PARTIAL_CONTENT and not sent.startswith(f"bytes {have}-"):
        body.close()
        part.unlink()
        raise _FetchError(f"the server sent another range ({sent}) than requested")
    return body


def _check(part: Path, digest: str, *, final: bool) -> None:
    """Verifies the digest; deletes wrong bytes, which resuming could not repair.

    `final` means that the bytes arrived in one piece, so that a retry would give the same.
    """
    kind, _, wanted = digest.partition(":")
    with part.open("rb") as file:
        found = hashlib.file_digest(file, kind).hexdigest()
    if found != wanted:
        part.unlink()
        raise _FetchError(f"wrong bytes, {kind} is {found}, not {wanted}", final=final)


def is_archive(path: Path) -> bool:
    """Whether the file is a zip or a tar, compressed or not, by its content."""
    return path.is_file() and (zipfile.is_zipfile(path) or tarfile.is_tarfile(path))


def extract(
    archive: Path,
    target: Path,
    *,
    wanted: Callable[[str], bool] = lambda name: True,
    max_bytes: int = 32 << 30,
    progress: Progress | None = None,
) -> int:
    """Extracts the regular files of a zip or tar into the folder `target`; returns their number.

    Only names and contents are used, not links, devices, owners or modes. `wanted` selects members by name;
    `progress` counts extracted files. Raises DataError for an archive that is damaged, has a wanted link,
    leads out of `target` or unpacks to more than `max_bytes`; MachineError if files cannot be written.
    """
    count = size = 0
    try:
        for member in _members(archive):
            if not wanted(member.name):
                continue
            path = target / _safe_name(archive, member)
            size += member.size
            if size > max_bytes:
                raise DataError(f"{archive}: unpacks to over {max_bytes:,} bytes; check its origin")
            path.parent.mkdir(parents=True, exist_ok=True)
            with member.open() as source, path.open("xb") as out:
                shutil.copyfileobj(source, out, _CHUNK)
            count += 1
            if progress:
                progress(count, None)
    except FileExistsError as error:
        raise DataError(f"{archive}: {error.filename} exists twice; check its origin") from error
    except (OSError, *_DAMAGE) as error:
        if isinstance(error, OSError) and error.errno in (*DISK_FULL, *NOT_WRITABLE):
            problem = f"cannot be written ({error.strerror}); free disk space or choose another"
            raise MachineError(f"{target}: {problem}") from error
        problem = f"the archive is damaged or truncated ({error}); copy or download it again"
        raise DataError(f"{archive}: {problem}") from error
    return count


class _Member(NamedTuple):
    """A member of an archive, and how to open it if it is regular."""

    name: str
    size: int
    is_regular: bool
    open: Callable[[], Any]


def _members(archive: Path) -> Iterator[_Member]:
    """Yields an archive's members except folders."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as zipped:
            for entry in zipped.infolist():
                is_regular = stat.S_IFMT(entry.external_attr >> 16) in (0, stat.S_IFREG)
                if not entry.is_dir():
                    yield _Member(entry.filename, entry.file_size, is_regular, partial(zipped.open, entry))
        return
    with tarfile.open(archive) as tarred:
        for info in tarred:
            if not info.isdir():
                yield _Member(info.name, info.size, info.isreg(), partial(tarred.extractfile, info))
        # Read to the end, where the compression's checksum is verified.
        while tarred.fileobj is not None and tarred.fileobj.read(_CHUNK):
            pass


def _safe_name(archive: Path, member: _Member) -> PurePosixPath:
    name = PurePosixPath(member.name.replace("\\", "/"))
    outside = not name.parts or name.is_absolute() or ".." in name.parts or ":" in name.parts[0]
    if outside or not member.is_regular:
        what = "leads out of its folder" if outside else "is a link or device"
        raise DataError(f"{archive}: its member {member.name!r} {what}; check its origin")
    return name
