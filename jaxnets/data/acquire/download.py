"""Downloads files over HTTP and extracts archives, trusting neither.

Tested against a local server that cuts connections, ignores ranges, fails and sends wrong bytes, but not
against the real hosts.
"""

import collections
import contextlib
import hashlib
import http.client
import lzma
import posixpath
import stat
import tarfile
import time
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from jaxnets.data.sources.base import Progress
from jaxnets.errors import DataError, MachineError
from jaxnets.io import DISK_FULL, NOT_WRITABLE, printable

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
    """Appends the missing bytes to `part`; raises _FetchError if the connection fails or ends early."""
    if not url.startswith(("http://", "https://")):
        raise _FetchError("not an http address", final=True)
    done, total = _size(part), None
    headers = {"User-Agent": "jaxnets", "Accept-Encoding": "identity"}
    headers |= {"Range": f"bytes={done}-"} if done else {}
    try:
        body = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=timeout)
    except urllib.error.HTTPError as error:
        with error:
            if done and error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                return  # `part` is complete, or wrong, as its digest will show
            raise _FetchError(f"HTTP {error.code} {error.reason}", final=error.code in _PERMANENT) from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise _FetchError(f"no connection ({error})") from error
    done = done if body.status == http.HTTPStatus.PARTIAL_CONTENT else 0
    if (length := body.headers.get("Content-Length", "")).isdecimal():
        total = done + int(length)
    with body, part.open("ab" if done else "wb") as out:
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

    Links and devices in a tar are skipped. `wanted` selects members by name; `progress` counts extracted
    files. Raises DataError for an archive that is damaged, leads out of `target`, unpacks to more than
    `max_bytes` or has two members of the same path, and for a link or device in a zip; MachineError if files
    cannot be written.
    """
    try:
        with contextlib.ExitStack() as stack:
            files: list[tuple[str, int, Callable[[], object]]]
            if zipfile.is_zipfile(archive):
                zipped = stack.enter_context(zipfile.ZipFile(archive))
                entries = [
                    entry for entry in zipped.infolist() if not entry.is_dir() and wanted(entry.filename)
                ]
                _check_zip(archive, entries)
                files = [
                    (entry.filename, entry.file_size, partial(zipped.extract, entry, target))
                    for entry in entries
                ]
            else:
                tarred = stack.enter_context(tarfile.open(archive))
                files = [
                    (member.name, member.size, partial(tarred.extract, member, target, filter="data"))
                    for member in tarred
                    if member.isfile() and wanted(member.name)
                ]
                # Read to the end, where the compression's checksum is verified.
                while tarred.fileobj is not None and tarred.fileobj.read(_CHUNK):
                    pass
            paths = collections.Counter(posixpath.normpath(name.lstrip("/")) for name, *_ in files)
            if repeated := next((path for path, count in paths.items() if count > 1), None):
                raise DataError(f"{archive}: it has two files {printable(repeated)}; check its origin")
            if sum(size for _, size, _ in files) > max_bytes:
                raise DataError(f"{archive}: unpacks to over {max_bytes:,} bytes; check its origin")
            for count, (*_, extract_file) in enumerate(files, 1):
                extract_file()
                if progress:
                    progress(count, None)
            return len(files)
    except tarfile.OutsideDestinationError as error:
        raise DataError(f"{archive}: {error}; check its origin") from error
    except (OSError, *_DAMAGE) as error:
        if isinstance(error, OSError) and error.errno in (*DISK_FULL, *NOT_WRITABLE):
            problem = f"cannot be written ({error.strerror}); free disk space or choose another"
            raise MachineError(f"{target}: {problem}") from error
        problem = f"the archive is damaged or truncated ({error}); copy or download it again"
        raise DataError(f"{archive}: {problem}") from error


def _check_zip(archive: Path, entries: Sequence[zipfile.ZipInfo]) -> None:
    """Raises DataError for what zipfile would change: names out of the target, links and devices."""
    for entry in entries:
        if entry.filename.startswith("/") or ".." in entry.filename.split("/"):
            problem = "leads outside the destination"
        elif stat.S_IFMT(entry.external_attr >> 16) not in (0, stat.S_IFREG):
            problem = "is a link or device"
        else:
            continue
        raise DataError(f"{archive}: {printable(entry.filename)} {problem}; check its origin")
