"""Fetching a file over HTTP, and unpacking an archive, without trusting either.

Tried against a local server that cuts connections, ignores ranges, fails and sends wrong bytes;
untried against the real hosts.
"""

import errno
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
from typing import IO, NamedTuple

from jaxnets.data.sources.image_folder import Progress
from jaxnets.errors import DataError, MachineError

_CHUNK = 1 << 18
_DAMAGE = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    RuntimeError,  # an encrypted zip, or a compression unknown to zipfile
)
_FOR_GOOD = (400, 401, 403, 404, 405, 410, 451)
_RANGE_NOT_SATISFIABLE = 416


def download(
    urls: Sequence[str],
    target: Path,
    *,
    sha256: str | None = None,
    md5: str | None = None,
    retries: int = 5,
    backoff: float = 1.0,
    timeout: float = 30.0,
    progress: Progress | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> Path:
    """Downloads the first of `urls` that can be had to `target`; `progress` counts bytes.

    `say` is given a line for a person: each address before it is asked, and each failure.

    What has come so far lies in TARGET.part and is gone on with by HTTP Range, after a cut
    connection and, where a digest is given to judge the whole by, after a kill. After a failure
    that may pass an address is tried again, up to `retries` times without a byte gained, waiting
    `backoff` seconds, then twice that, and so on; `timeout` is the longest silence in seconds.
    TARGET.part is renamed once its digest is right. Raises DataError, with each address's
    failure, where none gives the file, and MachineError where it cannot be written.
    """
    part = target.with_name(target.name + ".part")
    failures = []
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        for url in urls:
            if sha256 is None and md5 is None:
                part.unlink(missing_ok=True)
            say(f"{url} (given up after {timeout:g} s of silence, {retries} retries)")
            most = 0
            attempt = 0
            while True:
                steps_per_execution = not part.exists()
                try:
                    _fetch(url, part, timeout, progress)
                    _check(part, sha256, md5, final=steps_per_execution)
                    part.replace(target)
                    return target
                except _FetchError as error:
                    have = part.stat().st_size if part.exists() else 0
                    # A connection that is cut again and again but gets on is not given up.
                    attempt = 1 if have > most else attempt + 1
                    most = max(most, have)
                    if error.final or attempt > retries:
                        failures.append(f"{url}: {error}")
                        break
                    wait = backoff * 2 ** (attempt - 1)
                    say(f"{error}; again in {wait:g} s ({attempt} of {retries})")
                time.sleep(wait)
    except OSError as error:
        raise MachineError(
            f"{error.filename or part}: cannot be written ({error.strerror}); "
            "free space there or give another folder"
        ) from error
    raise DataError(
        f"{target.name} cannot be downloaded ({'; '.join(failures)}); check the network, or "
        "fetch the file by other means and give it with --from"
    )


class _FetchError(Exception):
    """One address did not give the file; `final` where asking again would not help."""

    def __init__(self, message: str, *, final: bool = False):
        super().__init__(message)
        self.final = final


class _Reply(NamedTuple):
    body: http.client.HTTPResponse
    start: int  # the place in the file of the body's first byte
    total: int | None


def _fetch(url: str, part: Path, timeout: float, progress: Progress | None) -> None:
    """Adds to `part` what it lacks; _FetchError where the connection ends before the file does."""
    have = part.stat().st_size if part.exists() else 0
    reply = _request(url, have, part, timeout)
    if reply is None:
        return
    with reply.body, part.open("r+b" if reply.start else "wb") as out:
        out.seek(reply.start)
        done = reply.start
        while True:
            try:
                block = reply.body.read(_CHUNK)
            except (OSError, http.client.HTTPException) as error:
                raise _FetchError(f"the connection broke after {done:,} bytes ({error})") from error
            if not block:
                break
            out.write(block)
            done += len(block)
            if progress:
                progress(done, reply.total)
    if reply.total is not None and done != reply.total:
        raise _FetchError(f"the connection ended after {done:,} of {reply.total:,} bytes")


def _request(url: str, have: int, part: Path, timeout: float) -> _Reply | None:
    """Asks for the file from byte `have` on; None where `part` is whole already."""
    if not url.startswith(("http://", "https://")):
        raise _FetchError("not an http address", final=True)
    headers = {"User-Agent": "jaxnets", "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    try:
        body = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=timeout)
    except urllib.error.HTTPError as error:
        with error:
            if error.code == _RANGE_NOT_SATISFIABLE and have:
                if error.headers.get("Content-Range") == f"bytes */{have}":
                    return None
                part.unlink()
            raise _FetchError(
                f"HTTP {error.code} {error.reason}", final=error.code in _FOR_GOOD
            ) from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise _FetchError(f"no connection ({error})") from error
    length = body.headers.get("Content-Length")
    if body.status != http.HTTPStatus.PARTIAL_CONTENT:
        return _Reply(body, 0, int(length) if length else None)
    # "bytes 100-199/200": a server may begin elsewhere than it was asked to.
    unit, _, rest = body.headers.get("Content-Range", "").partition(" ")
    span, _, total = rest.partition("/")
    if unit != "bytes" or not span.startswith(f"{have}-"):
        body.close()
        part.unlink()
        raise _FetchError(f"the server sent another range ({rest or 'none'}) than asked for")
    return _Reply(body, have, int(total) if total.isdecimal() else None)


def _check(part: Path, sha256: str | None, md5: str | None, *, final: bool) -> None:
    """Compares digests; wrong bytes are thrown away, as going on from them never helps.

    `final` says that they came in one piece, and would come again.
    """
    for name, wanted in (("sha256", sha256), ("md5", md5)):
        if wanted is None:
            continue
        with part.open("rb") as file:
            found = hashlib.file_digest(file, name).hexdigest()
        if found != wanted:
            part.unlink()
            raise _FetchError(f"wrong bytes, {name} is {found}, not {wanted}", final=final)


def is_archive(path: Path) -> bool:
    """Whether the file is a zip or a tar, compressed or not; by content, not by name."""
    return path.is_file() and (zipfile.is_zipfile(path) or tarfile.is_tarfile(path))


def extract(
    archive: Path,
    target: Path,
    *,
    wanted: Callable[[str], bool] = lambda name: True,
    max_bytes: int = 32 << 30,
    progress: Progress | None = None,
) -> int:
    """Unpacks a zip or tar's plain files into the folder `target`; returns how many.

    Of the archive only names and contents are taken: no links, devices, owners or modes.
    `wanted` picks members by name; `progress` counts the files unpacked. Raises DataError for
    an archive that is damaged, cut short, holds a wanted link, leads out of `target` or
    unpacks to more than `max_bytes`; MachineError where the files cannot be written.
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
        raise DataError(
            f"{archive}: {error.filename} is there twice; check the archive's origin"
        ) from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EDQUOT):
            raise MachineError(
                f"{target}: cannot be written ({error.strerror}); free space or choose another"
            ) from error
        raise _damaged(archive, error) from error
    except _DAMAGE as error:
        raise _damaged(archive, error) from error
    return count


class _Member(NamedTuple):
    name: str
    size: int
    is_plain: bool
    open: Callable[[], IO[bytes]]


def _members(archive: Path) -> Iterator[_Member]:
    """Yields an archive's members, but for folders."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as zipped:
            for entry in zipped.infolist():
                kind = stat.S_IFMT(entry.external_attr >> 16)
                if not entry.is_dir():
                    is_plain = kind in (0, stat.S_IFREG)
                    opener = partial(zipped.open, entry)
                    yield _Member(entry.filename, entry.file_size, is_plain, opener)
        return
    with tarfile.open(archive) as tarred:
        for info in tarred:
            if not info.isdir():
                opener = partial(_open_in_tar, tarred, info)
                yield _Member(info.name, info.size, info.isreg(), opener)
        # The compression's own checksum is compared at the file's end, which lies beyond tar's.
        while tarred.fileobj is not None and tarred.fileobj.read(_CHUNK):
            pass


def _open_in_tar(tarred: tarfile.TarFile, info: tarfile.TarInfo) -> IO[bytes]:
    file = tarred.extractfile(info)
    if file is None:
        raise tarfile.ExtractError(f"{info.name} has no content")
    return file


def _safe_name(archive: Path, member: _Member) -> PurePosixPath:
    name = PurePosixPath(member.name.replace("\\", "/"))
    outside = not name.parts or name.is_absolute() or ".." in name.parts or ":" in name.parts[0]
    if outside or not member.is_plain:
        what = "leads out of its folder" if outside else "is a link or device"
        raise DataError(f"{archive}: its member {member.name!r} {what}; check its origin")
    return name


def _damaged(archive: Path, error: Exception) -> DataError:
    return DataError(
        f"{archive}: the archive is damaged or cut short ({error}); copy or download it again"
    )
