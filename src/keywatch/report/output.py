"""What is shown, as a file."""

from __future__ import annotations

from pathlib import Path

from keywatch.errors import UsageError

_OWNER_ALONE = 0o600


def write_whole(file: Path, text: str, mode: int = _OWNER_ALONE) -> None:
    """Write `text` as UTF-8: the whole file or, where that fails, nothing; `mode` says for whom.

    Raises:
        UsageError: it can't be written.
    """
    partial = file.with_name(f".{file.name}.partial")
    try:
        partial.touch(mode)
        partial.write_text(text, encoding="utf-8")
        partial.chmod(mode)
        partial.replace(file)
    except OSError as e:
        raise UsageError(f"{file}: can't be written ({e.strerror})") from e
