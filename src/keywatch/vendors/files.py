"""Files as streams of numbered lines: what a file is, its first bytes tell, not its name.

Plain, gzip, zstd, bzip2, lz4 and xz; local, in a zip, from a pipe or on an object store.
"""

from __future__ import annotations

import glob
import hashlib
import io
import json
import lzma
import os
import stat
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, TYPE_CHECKING, NamedTuple, TypeVar, cast

import numpy as np
import pyarrow as pa

from keywatch.errors import InputError
from keywatch.lake import utc_now

if TYPE_CHECKING:
    import pyarrow.fs as pafs

MAX_LINE_BYTES = 16 * 1024 * 1024
BLOCK_BYTES = 8 * 1024 * 1024
MOST_LINES = 100_000
"""Of `Lines`: however short they are, what is made of them in Python stays small."""
_COMPRESSIONS = {
    b"\x1f\x8b": "gzip",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"BZh": "bz2",
    b"\x04\x22\x4d\x18": "lz4",
}
_XZ = b"\xfd7zXZ\x00"
_LONGEST_MARK_BYTES = 8
_HEAD_BYTES = 256 * 1024
_TOLD_BYTES = 64 * 1024
"""Of a line that is too long: where its key is looked for."""
_BLANK = b" \t\r\n"
_WHITESPACE = np.frombuffer(_BLANK, dtype=np.uint8)
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
_UTF8_MARK = b"\xef\xbb\xbf"
_Bytes = TypeVar("_Bytes", bytes, bytearray)
_READ_ERRORS = (
    OSError, EOFError, pa.ArrowInvalid, lzma.LZMAError, zipfile.BadZipFile, zlib.error,
    # What zipfile says of an encrypted member and of a compression it does not know.
    RuntimeError, NotImplementedError,
)  # fmt: skip
_WRITTEN_ON = timedelta(days=1)
"""A file that was written to this recently may go on: the line that it breaks off in waits."""
_QUIET = timedelta(minutes=10)
"""After so long a last line without its end is whole where only a newline would tell."""
_LAKE_FILES = {"key-hash.secret", "writer.lock"}


class Unread(NamedTuple):
    """A line that the reader already knows to be no event.

    `text` is its beginning, `size_bytes` of it all, `key_id` whose it is where that can be told;
    `lines_worth` is how many lines it stands for where its size is all that is known.
    """

    number: int
    reason: str
    text: str
    size_bytes: int
    key_id: str | None = None
    lines_worth: int = 1


class Lines(NamedTuple):
    """Consecutive lines of a file: their numbers (from 1) and texts, of equal length."""

    numbers: pa.Array
    texts: pa.Array
    unread: tuple[Unread, ...] = ()

    def parts(self) -> Iterator[Lines]:
        """These lines, at most `MOST_LINES` at a time."""
        yield Lines(self.numbers[:MOST_LINES], self.texts[:MOST_LINES], self.unread)
        for first in range(MOST_LINES, len(self.numbers), MOST_LINES):
            end = first + MOST_LINES
            yield Lines(self.numbers[first:end], self.texts[first:end])


class Contents(NamedTuple):
    """What a file held when it was read: bytes as stored, and 64 hex digits over them."""

    size_bytes: int
    sha256: str


@dataclass
class LogFile:
    """A file to load; `path` as the user can find it again, `size_bytes` as listed.

    Attributes:
        modified_at: UTC, as listed.
        contents: Known once the file has been read to its end.
        named: By the user, so that what is wrong with it is an error; else it was found in a
            folder, a glob, an archive or a bucket, and is left out.
        location: What to open, where `path` is not it: a name that is no UTF-8, an archive.
        member: Its name in the zip at `location`.
        pipe: What can be read once only.
        trouble: Why it can't be read, where the listing shows it.
        packed: Whether it is compressed, as its first bytes tell; known once it has been opened.
        waits_until: Where it broke off in a line that a later load will read: when that line is
            taken as it is, should nothing follow. UTC.
    """

    path: str
    size_bytes: int
    filesystem: pafs.FileSystem | None = None
    modified_at: datetime | None = field(default=None, compare=False)
    contents: Contents | None = field(default=None, compare=False)
    named: bool = field(default=True, compare=False)
    location: str | None = None
    member: str | None = None
    pipe: _Pipe | None = field(default=None, compare=False)
    trouble: str = field(default="", compare=False)
    packed: bool = field(default=False, compare=False)
    waits_until: datetime | None = field(default=None, compare=False)

    @property
    def quiet(self) -> timedelta:
        """How long after its last change it grows no more; what the user names is whole."""
        return timedelta(0) if self.named else _QUIET

    def grows_until(self, quiet: timedelta) -> datetime | None:
        """Until when somebody may be writing to it, if not now: None for what is whole.

        That is `quiet` after its last change; only a plain file grows.
        """
        plain = not (self.filesystem or self.member or self.pipe or self.packed)
        return self.modified_at + quiet if plain and self.modified_at is not None else None

    def sha256(self) -> str:
        """64 hex digits over the stored bytes; reads the file.

        Raises:
            InputError: the file can't be read.
        """
        with self.guarded(), self._open_stored() as stream:
            return hashlib.file_digest(cast("io.RawIOBase", stream), "sha256").hexdigest()

    def head(self) -> bytes:
        """The first bytes, decompressed.

        Raises:
            InputError: the file can't be read or its compression is damaged.
        """
        with self.guarded(), _Stored(self._open_stored()) as stored:
            stream, self.packed = _decompressed(stored)
            parts = b""
            while len(parts) < _HEAD_BYTES and (part := stream.read(_HEAD_BYTES - len(parts))):
                parts += part
            return parts

    @contextmanager
    def open(self, on_bytes: Callable[[int], None] = lambda _: None) -> Iterator[IO[bytes]]:
        """The decompressed bytes; `on_bytes` hears of stored bytes as they are read.

        Raises:
            InputError: the file can't be read or its compression is damaged.
        """
        with self.guarded(), _Stored(self._open_stored(again=False), on_bytes) as stored:
            stream, packed = _decompressed(stored)
            if packed:
                self.packed = True
            yield stream
            while stored.read(BLOCK_BYTES):  # what may follow the compressed stream
                pass
            self.contents = stored.contents

    @contextmanager
    def open_at_random(self, on_bytes: Callable[[int], None] | None = None) -> Iterator[IO[bytes]]:
        """The stored bytes, of which any can be sought: for a file whose directory is at its end.

        With `on_bytes`, which hears of stored bytes as they are hashed, `contents` is known then.

        Raises:
            InputError: the file can't be read, or is a pipe.
        """
        if self.pipe is not None:
            raise InputError(
                f"{self.path}: is Parquet or Arrow, which no pipe can give; name a file"
            )
        with self.guarded():
            with self._open_stored() as stream:
                yield stream
            if on_bytes is None:
                return
            with _Stored(self._open_stored(), on_bytes) as stored:
                while stored.read(BLOCK_BYTES):
                    pass
                self.contents = stored.contents

    def _open_stored(self, *, again: bool = True) -> IO[bytes]:
        """The stored bytes; what comes through a pipe is kept as long as it is read `again`."""
        if self.pipe is not None:
            return cast("IO[bytes]", self.pipe.from_start(again=again))
        place = self.location or self.path
        if self.filesystem is not None:
            stored = self.filesystem.open_input_file(place.partition("://")[2])
        else:
            stored = Path(place).open("rb", buffering=0)  # noqa: SIM115 — its reader closes it
        if self.member is None:
            return cast("IO[bytes]", stored)
        return cast("IO[bytes]", _Member(stored, self.member))

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """Say of what a read raises which file it is, and the mend."""
        try:
            yield
        except _READ_ERRORS as e:
            raise InputError(
                f"{self.path}: can't be read to its end ({e}); "
                "is it there, readable and complete? Fetch the file again"
            ) from e


def _decompressed(stored: _Stored) -> tuple[IO[bytes], bool]:
    """What is in it, and whether it was compressed, as its first bytes tell."""
    mark = stored.peek(_LONGEST_MARK_BYTES)
    if mark.startswith(_XZ):
        return cast("IO[bytes]", lzma.LZMAFile(cast("IO[bytes]", stored))), True
    for first, kind in _COMPRESSIONS.items():
        if mark.startswith(first):
            packed = pa.PythonFile(stored, mode="r")
            return cast("IO[bytes]", pa.CompressedInputStream(packed, kind)), True
    return cast("IO[bytes]", stored), False


class _Stored(io.RawIOBase):
    """A readable stream that tells how much was read, and hashes it."""

    def __init__(self, stream: IO[bytes], on_bytes: Callable[[int], None] = lambda _: None) -> None:
        super().__init__()
        self._stream = stream
        self._on_bytes = on_bytes
        self._size = 0
        self._sha256 = hashlib.sha256()
        self._peeked = b""

    @property
    def contents(self) -> Contents:
        return Contents(self._size, self._sha256.hexdigest())

    def peek(self, count: int) -> bytes:
        """The next bytes, fewer at the end only; they are read again."""
        while len(self._peeked) < count and (more := self._stream.read(count - len(self._peeked))):
            self._peeked += more
        return self._peeked[:count]

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        if self._peeked:
            count = min(len(buffer), len(self._peeked))
            memoryview(buffer)[:count] = self._peeked[:count]
            self._peeked = self._peeked[count:]
        else:
            count = self._stream.readinto(buffer)  # type: ignore[attr-defined]
        self._sha256.update(memoryview(buffer)[:count])
        self._size += count
        self._on_bytes(count)
        return count

    def close(self) -> None:
        self._stream.close()
        super().close()


class _Pipe(io.RawIOBase):
    """What can be read once: its beginning is kept in memory while the format is looked for.

    It never goes to the disk, for it may hold full keys.
    """

    def __init__(self, stream: IO[bytes]) -> None:
        super().__init__()
        self._stream = stream
        self._kept = bytearray()
        self._at = 0
        self._keeping = True

    def from_start(self, *, again: bool) -> _Pipe:
        if not self._keeping:
            raise OSError("a pipe can be read only once")
        self._keeping, self._at = again, 0
        return self

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        if self._at < len(self._kept):
            count = min(len(buffer), len(self._kept) - self._at)
            memoryview(buffer)[:count] = self._kept[self._at : self._at + count]
        else:
            if not self._keeping:
                self._kept, self._at = bytearray(), 0
            count = self._stream.readinto(buffer) or 0  # type: ignore[attr-defined]
            if self._keeping:
                self._kept += memoryview(buffer)[:count]
        self._at += count
        return count

    def close(self) -> None:
        """It stays open while the format is looked for."""
        if not self._keeping and self._stream is not sys.stdin.buffer:
            self._stream.close()


class _Member(io.RawIOBase):
    """A file in a zip, which is closed with it."""

    def __init__(self, stored: IO[bytes], name: str) -> None:
        super().__init__()
        self._stored = stored
        try:
            self._stream = zipfile.ZipFile(stored).open(name)  # noqa: SIM115 — closed with it
        except BaseException:
            stored.close()
            raise

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        count: int = self._stream.readinto(buffer)  # type: ignore[attr-defined]
        return count

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        return self._stream.seek(offset, whence)

    def tell(self) -> int:
        return self._stream.tell()

    def close(self) -> None:
        if not self.closed:
            self._stream.close()
            self._stored.close()
        super().close()


def find_files(paths: list[str], *, named: bool = True) -> list[LogFile]:
    """The files under `paths` (files, folders, globs, ``s3://…``, ``-``), sorted, each once.

    Of a folder that is every file but hidden ones (a dot comes first) and a lake's own: what it is,
    its content tells. Without `named` even a path to a file was found, not named by the user.

    Raises:
        InputError: a path leads to nothing.
    """
    found: dict[tuple[str, str | None], LogFile] = {}
    for path in paths:
        files = list(_remote(path) if "://" in path else _local(path))
        if not files:
            raise InputError(f"{path}: no log file found")
        for file in files:
            file.named = file.named and named
            for one in _members(file):
                found[(one.location or one.path, one.member)] = one
    return sorted(found.values(), key=lambda file: (file.path, file.location or ""))


def _local(path: str) -> Iterator[LogFile]:
    if path == "-":
        yield LogFile("-", 0, pipe=_Pipe(sys.stdin.buffer))
    elif Path(path).is_dir():
        yield from _in_folder(path)
    elif os.path.lexists(path):
        yield _listed(path, named=True)
    else:
        for name in glob.glob(path, recursive=True):  # noqa: PTH207 — Path.glob can't take an absolute pattern
            if not Path(name).is_dir():
                yield _listed(name, named=False)


def _in_folder(folder: str) -> Iterator[LogFile]:
    troubles: list[OSError] = []
    for root, folders, names in os.walk(folder, onerror=troubles.append):
        if set(names) >= _LAKE_FILES:
            folders.clear()
            continue
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            if not name.startswith("."):
                yield _listed(os.path.join(root, name), named=False)  # noqa: PTH118 — keeps the folder as it was named
    for trouble in troubles:
        name = _shown(str(trouble.filename))
        yield LogFile(name, 0, named=False, trouble=f"can't be listed ({trouble.strerror})")


def _listed(name: str, *, named: bool) -> LogFile:
    """The file, with what the file system says of it; a pipe that was named is opened."""
    file = LogFile(_shown(name), 0, named=named, location=name)
    try:
        listed = Path(name).stat()
        if stat.S_ISREG(listed.st_mode):
            file.size_bytes = listed.st_size
            file.modified_at = datetime.fromtimestamp(listed.st_mtime, UTC).replace(tzinfo=None)
        elif named:
            pipe = Path(name).open("rb", buffering=0)  # noqa: SIM115 — open as long as it is read
            file.pipe = _Pipe(cast("IO[bytes]", pipe))
        else:
            file.trouble = "is not a regular file; name it explicitly to read it"
    except (OSError, ValueError, OverflowError) as e:
        file.trouble = f"can't be read ({getattr(e, 'strerror', None) or e})"
    return file


def _shown(name: str) -> str:
    """A name that may be no UTF-8 as text."""
    return os.fsencode(name).decode(errors="backslashreplace")


def _members(file: LogFile) -> Iterator[LogFile]:
    """The files in a zip, each as found; any other file is itself."""
    if file.pipe is not None or file.trouble or not file.path.lower().endswith(".zip"):
        yield file
        return
    try:
        with file.guarded(), file._open_stored() as stored:
            infos = zipfile.ZipFile(stored).infolist()
    except InputError as e:
        file.trouble = str(e).removeprefix(f"{file.path}: ")
        yield file
        return
    for info in infos:
        inside = Path(info.filename)
        hidden = any(part.startswith(".") or part == "__MACOSX" for part in inside.parts)
        if not info.is_dir() and not hidden:
            yield LogFile(
                f"{file.path}/{info.filename.encode(errors='replace').decode()}",
                info.file_size,
                file.filesystem,
                file.modified_at,
                named=False,
                location=file.location or file.path,
                member=info.filename,
            )


def _remote(uri: str) -> Iterator[LogFile]:
    import pyarrow.fs as pafs

    try:
        filesystem, path = pafs.FileSystem.from_uri(uri)
        info = filesystem.get_file_info(path)
        if whole := info.type == pafs.FileType.File:
            infos = [info]
        else:
            infos = filesystem.get_file_info(pafs.FileSelector(path, recursive=True))
    except (OSError, pa.ArrowInvalid, pa.ArrowNotImplementedError) as e:
        raise InputError(f"{uri}: can't be listed: {e}") from e
    scheme = uri.partition("://")[0]
    return (
        LogFile(f"{scheme}://{info.path}", info.size, filesystem, _utc(info.mtime), named=whole)
        for info in infos
        if info.is_file and not Path(info.path).name.startswith(".")
    )


def _utc(at: datetime | None) -> datetime | None:
    return at if at is None or at.tzinfo is None else at.astimezone(UTC).replace(tzinfo=None)


def without_mark(text: _Bytes, path: str) -> _Bytes:
    """`text`, the beginning of the file `path`, less UTF-8's byte order mark.

    Raises:
        InputError: the text is UTF-16.
    """
    if text.startswith(_UTF16_MARKS):
        raise InputError(f"{path}: is UTF-16; convert it to UTF-8 (iconv -t UTF-8)")
    # Not without the test: removeprefix copies either way.
    return text.removeprefix(_UTF8_MARK) if text.startswith(_UTF8_MARK) else text


def numbered_lines(
    file: LogFile, on_bytes: Callable[[int], None], quiet: timedelta = _WRITTEN_ON
) -> Iterator[Lines]:
    """Lines of UTF-8 text that are not blank; bytes that are not UTF-8 become U+FFFD.

    A line longer than `MAX_LINE_BYTES` is unread. Where the file was written to less than `quiet`
    ago, a last line without its end that is no whole JSON object waits (`LogFile.waits_until`).

    Raises:
        InputError: the file can't be read, or is UTF-16.
    """
    file.waits_until = None
    number = 1
    rest = b""
    long: _LongLine | None = None
    with file.open(on_bytes) as stream:
        # Room for a block costs more than reading a small file into it.
        is_listed = file.size_bytes and not (file.packed or file.pipe)
        most = min(BLOCK_BYTES, file.size_bytes + 1) if is_listed else BLOCK_BYTES
        ended = False
        while not ended:
            block, ended = _next_block(stream, rest, most)
            most = BLOCK_BYTES
            if len(block) == len(rest):
                break
            if number == 1 and not rest and long is None:
                block = without_mark(block, file.path)
            unread: tuple[Unread, ...] = ()
            if long is not None:
                cut = block.find(b"\n") + 1 or len(block)
                long.size_bytes += cut
                if block[cut - 1 : cut] != b"\n":
                    continue
                unread, long, number = (long.unread(),), None, number + 1
                del block[:cut]
            end = block.rfind(b"\n") + 1
            rest = bytes(memoryview(block)[end:])
            if len(rest) > MAX_LINE_BYTES:
                later = number + block.count(b"\n", 0, end)
                long, rest = _LongLine(later, rest[:_TOLD_BYTES], len(rest)), b""
            if end or unread:
                count, lines = _split(block, end, number)
                number += count
                yield from lines._replace(unread=unread + lines.unread).parts()
    if long is not None:
        yield Lines(_NO_NUMBERS, _NO_TEXTS, (long.unread(),))
    if rest.strip(_BLANK):
        until = None if _is_whole(rest) else file.grows_until(quiet)
        if until is not None and until > utc_now():
            file.waits_until = until
        else:
            yield _split(bytearray(rest + b"\n"), len(rest) + 1, number)[1]


# Not pa.array, which imports pandas.
_NO_NUMBERS = pa.nulls(0, pa.int64())
_NO_TEXTS = pa.nulls(0, pa.string())


def _is_whole(line: bytes) -> bool:
    """Whether a line that lacks its end is a JSON object: the beginning of one never is."""
    with suppress(ValueError, RecursionError):
        return isinstance(json.loads(line.decode(errors="replace"), strict=False), dict)
    return False


@dataclass
class _LongLine:
    """A line that is longer than is read, while the rest of it comes."""

    number: int
    beginning: bytes
    size_bytes: int

    def unread(self) -> Unread:
        return Unread(
            self.number,
            f"longer than {MAX_LINE_BYTES // 1024 // 1024} MiB",
            self.beginning.decode(errors="replace"),
            self.size_bytes,
        )


def _next_block(stream: IO[bytes], rest: bytes, most: int) -> tuple[bytearray, bool]:
    """`rest` and at most so much of what comes after it; whether the file has ended there."""
    block = bytearray(len(rest) + most)
    block[: len(rest)] = rest
    filled = len(rest)
    with memoryview(block) as view:
        # A pipe gives a little at a time.
        while filled < len(block) and (count := stream.readinto(view[filled:])):  # type: ignore[attr-defined]
            filled += count
    ended = filled < len(block)
    del block[filled:]
    return block, ended


def _split(block: bytearray, end: int, first: int) -> tuple[int, Lines]:
    """How many lines ``block[:end]`` has, and those not blank; the text is not copied.

    The block ends in a newline.
    """
    data = np.frombuffer(block, dtype=np.uint8, count=end)
    ends = np.flatnonzero(data == ord("\n")) + 1
    offsets = np.zeros(len(ends) + 1, dtype=np.int32)
    offsets[1:] = ends
    binary = pa.Array.from_buffers(
        pa.binary(), len(ends), [None, pa.py_buffer(offsets), pa.py_buffer(block)]
    )
    numbers = np.arange(first, first + len(ends), dtype=np.int64)
    spaced = np.flatnonzero(np.isin(data[offsets[:-1]], _WHITESPACE))
    left_out = [line for line in spaced if not binary[line].as_py().strip(_BLANK)]
    unread = []
    sizes = np.diff(offsets)
    if len(sizes) and sizes.max() > MAX_LINE_BYTES:
        for line in np.flatnonzero(sizes > MAX_LINE_BYTES):
            beginning = bytes(block[offsets[line] : offsets[line] + _TOLD_BYTES])
            unread.append(_LongLine(int(numbers[line]), beginning, int(sizes[line])).unread())
            left_out.append(line)
    if left_out:
        kept = np.delete(np.arange(len(ends)), left_out)
        binary, numbers = binary.take(pa.array(kept)), numbers[kept]
    try:
        texts = binary.cast(pa.string())
    except pa.ArrowInvalid:
        texts = pa.array(
            [line.decode(errors="replace") for line in binary.to_pylist()], pa.string()
        )
    return len(ends), Lines(pa.array(numbers), texts, tuple(unread))
