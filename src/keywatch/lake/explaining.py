"""What a failed statement says of the disk, the memory or the lake's files, with the mend."""

from __future__ import annotations

import errno
from pathlib import Path

import duckdb

from keywatch.errors import (
    LakeDamagedError,
    LakeError,
    LakeMemoryError,
    LakeReadOnlyError,
    LakeSpaceError,
)

_FULL = (errno.ENOSPC, errno.EDQUOT)
_NOT_WRITABLE = (errno.EROFS, errno.EACCES, errno.EPERM)
_FULL_WORDS = ("No space left on device", "disk is full", "Disk quota exceeded")
_READ_ONLY_WORDS = ("Read-only file system", "readonly database", "Permission denied")
_DAMAGE_WORDS = (
    "Corrupt", "TProtocolException", "disk I/O error", "file is not a database", "malformed",
    "HTTP 404", "HTTP 416",
)  # fmt: skip


def explained(error: Exception, folder: Path | None, data_path: str = "") -> LakeError | None:
    """What a failed statement or file says of the disk, the memory or the lake's files.

    None where it says nothing of them.
    """
    text = first_line(error)
    where = folder or "the disk"
    number = error.errno if isinstance(error, OSError) else None
    if isinstance(error, MemoryError | duckdb.OutOfMemoryException):
        return LakeMemoryError(
            "out of memory; nothing was stored. Close other programs, use a smaller window, or set "
            f"storage.memory_limit in keywatch.toml to what is free ({text})"
        )
    if number in _FULL or any(word in str(error) for word in _FULL_WORDS):
        return LakeSpaceError(
            f"{where}: the disk is full; nothing was stored. Free some space and try again ({text})"
        )
    if number in _NOT_WRITABLE or any(word in str(error) for word in _READ_ONLY_WORDS):
        return LakeReadOnlyError(
            f"{where}: can't be written or read by this user; change its permissions, or mount its "
            f"disk writable ({text})"
        )
    of_files = data_path and data_path in text and isinstance(error, duckdb.Error)
    if of_files or any(word in text for word in _DAMAGE_WORDS):
        return LakeDamagedError(
            f"{where}: a file is missing or damaged ({text}); keywatch doctor lists it, "
            "keywatch lake repair repairs what it can"
        )
    return None


def first_line(error: Exception) -> str:
    """The first line of what it says; else its name."""
    return str(error).splitlines()[0] if str(error) else type(error).__name__
