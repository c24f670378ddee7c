"""Files as streams of numbered lines: plain, gzip or zstd, local or on an object store."""

from __future__ import annotations

import glob
import hashlib
import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, NamedTuple, TypeVar, cast

import numpy as np
import pyarrow as pa
import pyarrow.fs as pafs

from keywatch.errors import InputError

LOG_ENDINGS = (".jsonl", ".ndjson", ".json", ".csv", ".log")
COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}
MAX_LINE_BYTES = 16 * 1024 * 1024
_HEAD_BYTES = 256 * 1024
_BLOCK_BYTES = 8 * 1024 * 1024
_WHITESPACE = np.frombuffer(b" \t\r\n", dtype=np.uint8)
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
_UTF8_MARK = b"\xef\xbb\xbf"
_Bytes = TypeVar("_Bytes", bytes, bytearray)
_READ_ERRORS = (OSError, EOFError, pa.ArrowInvalid)


class Lines(NamedTuple):
    """Consecutive lines of a file: their numbers (from 1) and texts, of equal length."""

    numbers: pa.Array
    texts: pa.Array


class Contents(NamedTuple):
    """What a file held when it was read: bytes as stored, and 64 hex digits over them."""

    size_bytes: int
    sha256: str


@dataclass
class LogFile:
    """A file to load; `path` as the user can find it again, `size_bytes` as listed.

    `modified_at` is UTC, as listed. `contents` is known once the file has been read to its end.
    """

    path: str
    size_bytes: int
    filesystem: pafs.FileSystem | None = None
    modified_at: datetime | None = field(default=None, compare=False)
    contents: Contents | None = field(default=None, compare=False)

    def sha256(self) -> str:
        """64 hex digits over the stored bytes; reads the file.

        Raises:
            InputError: the file can't be read.
        """
        with self._guarded(), self._open_stored() as stream:
            return hashlib.file_digest(cast("io.RawIOBase", stream), "sha256").hexdigest()

    def head(self) -> bytes:
        """The first bytes, decompressed.

        Raises:
            InputError: the file can't be read or its compression is damaged.
        """
        with self._guarded(), _Stored(self._open_stored()) as stored:
            return self._decompressed(stored).read(_HEAD_BYTES)

    @contextmanager
    def open(self, on_bytes: Callable[[int], None] = lambda _: None) -> Iterator[IO[bytes]]:
        """The decompressed bytes; `on_bytes` hears of stored bytes as they are read.

        Raises:
            InputError: the file can't be read or its compression is damaged.
        """
        with self._guarded(), _Stored(self._open_stored(), on_bytes) as stored:
            yield self._decompressed(stored)
            while stored.read(_BLOCK_BYTES):  # what may follow the compressed stream
                pass
            self.contents = stored.contents

    def _decompressed(self, stored: _Stored) -> IO[bytes]:
        kind = COMPRESSIONS.get(Path(self.path).suffix.lower())
        if kind is None:
            return cast("IO[bytes]", stored)
        return cast("IO[bytes]", pa.CompressedInputStream(pa.PythonFile(stored, mode="r"), kind))

    def _open_stored(self) -> IO[bytes]:
        if self.filesystem is not None:
            return cast("IO[bytes]", self.filesystem.open_input_file(self.path.partition("://")[2]))
        return Path(self.path).open("rb", buffering=0)

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            yield
        except _READ_ERRORS as e:
            raise InputError(
                f"{self.path}: can't be read to its end ({e}); "
                "is it there, readable and complete? Fetch the file again"
            ) from e


class _Stored(io.RawIOBase):
    """A readable stream that tells how much was read, and hashes it."""

    def __init__(self, stream: IO[bytes], on_bytes: Callable[[int], None] = lambda _: None) -> None:
        super().__init__()
        self._stream = stream
        self._on_bytes = on_bytes
        self._size = 0
        self._sha256 = hashlib.sha256()

    @property
    def contents(self) -> Contents:
        return Contents(self._size, self._sha256.hexdigest())

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        count: int = self._stream.readinto(buffer)  # type: ignore[attr-defined]
        self._sha256.update(memoryview(buffer)[:count])
        self._size += count
        self._on_bytes(count)
        return count

    def close(self) -> None:
        self._stream.close()
        super().close()


def find_files(paths: list[str]) -> list[LogFile]:
    """The log files under `paths` (files, folders, globs, ``s3://…``), sorted, each once.

    Raises:
        InputError: a path leads to nothing.
    """
    found: dict[str, LogFile] = {}
    for path in paths:
        files = list(_remote(path) if "://" in path else _local(path))
        if not files:
            raise InputError(
                f"{path}: no log file there (looked for {', '.join(LOG_ENDINGS)}, "
                f"plain or {', '.join(COMPRESSIONS)})"
            )
        found |= {file.path: file for file in files}
    return [found[path] for path in sorted(found)]


def _local(path: str) -> Iterator[LogFile]:
    if Path(path).is_dir():
        names = [str(p) for p in Path(path).rglob("*") if p.is_file() and _is_log(p.name)]
    elif Path(path).exists():
        names = [path]
    else:
        names = [p for p in glob.glob(path, recursive=True) if Path(p).is_file()]  # noqa: PTH207 — Path.glob can't take an absolute pattern
    for name in names:
        listed = Path(name).stat()
        modified_at = datetime.fromtimestamp(listed.st_mtime, UTC).replace(tzinfo=None)
        yield LogFile(name, listed.st_size, modified_at=modified_at)


def _remote(uri: str) -> Iterator[LogFile]:
    try:
        filesystem, path = pafs.FileSystem.from_uri(uri)
        info = filesystem.get_file_info(path)
        if info.type == pafs.FileType.File:
            infos = [info]
        else:
            infos = filesystem.get_file_info(pafs.FileSelector(path, recursive=True))
    except (OSError, pa.ArrowInvalid, pa.ArrowNotImplementedError) as e:
        raise InputError(f"{uri}: can't be listed: {e}") from e
    scheme = uri.partition("://")[0]
    return (
        LogFile(f"{scheme}://{info.path}", info.size, filesystem, _utc(info.mtime))
        for info in infos
        if info.is_file and _is_log(info.path)
    )


def _utc(at: datetime | None) -> datetime | None:
    return at if at is None or at.tzinfo is None else at.astimezone(UTC).replace(tzinfo=None)


def _is_log(name: str) -> bool:
    lower = name.lower()
    for ending in COMPRESSIONS:
        lower = lower.removesuffix(ending)
    return lower.endswith(LOG_ENDINGS) and not Path(name).name.startswith(".")


def without_mark(text: _Bytes, path: str) -> _Bytes:
    """`text`, the beginning of the file `path`, less UTF-8's byte order mark.

    Raises:
        InputError: the text is UTF-16.
    """
    if text.startswith(_UTF16_MARKS):
        raise InputError(f"{path}: is UTF-16; convert it to UTF-8 (iconv -t UTF-8)")
    # Not without the test: removeprefix copies either way.
    return text.removeprefix(_UTF8_MARK) if text.startswith(_UTF8_MARK) else text


def numbered_lines(file: LogFile, on_bytes: Callable[[int], None]) -> Iterator[Lines]:
    """Lines of UTF-8 text that are not blank; bytes that are not UTF-8 become U+FFFD.

    A line longer than `MAX_LINE_BYTES` is given as its beginning, which is no JSON any more.

    Raises:
        InputError: the file can't be read, or is UTF-16.
    """
    number = 1
    rest = b""
    with file.open(on_bytes) as stream:
        while block := _next_block(stream, rest):
            if number == 1 and not rest:
                block = without_mark(block, file.path)
            end = block.rfind(b"\n") + 1
            rest = bytes(memoryview(block)[end:])
            if len(rest) > MAX_LINE_BYTES:
                # Keep the beginning (it will be a reject) and drop the middle as it comes.
                rest = rest[:1000] + b" [line too long]"
            if end:
                count, lines = _split(block, end, number)
                number += count
                yield lines
    if rest:
        yield _split(bytearray(rest + b"\n"), len(rest) + 1, number)[1]


def _next_block(stream: IO[bytes], rest: bytes) -> bytearray:
    """`rest` and what comes after it, read into its place; empty at the end of the file."""
    block = bytearray(len(rest) + _BLOCK_BYTES)
    block[: len(rest)] = rest
    with memoryview(block) as view:
        count: int = stream.readinto(view[len(rest) :])  # type: ignore[attr-defined]
    if not count:
        return bytearray()
    del block[len(rest) + count :]
    return block


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
    blank = [line for line in spaced if not binary[line].as_py().strip(b" \t\r\n")]
    if blank:
        kept = np.delete(np.arange(len(ends)), blank)
        binary, numbers = binary.take(pa.array(kept)), numbers[kept]
    try:
        texts = binary.cast(pa.string())
    except pa.ArrowInvalid:
        texts = pa.array([line.decode(errors="replace") for line in binary.to_pylist()])
    return len(ends), Lines(pa.array(numbers), texts)
