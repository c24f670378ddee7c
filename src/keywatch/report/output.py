"""What is shown, as a file."""

from __future__ import annotations

from pathlib import Path

from keywatch.errors import UsageError


def write_whole(file: Path, text: str, mode: int | None = None) -> None:
    """Write `text` as UTF-8: the whole file or, where that fails, nothing.

    `mode` is who may read it, where that is not as the process has it.

    Raises:
        UsageError: it can't be written.
    """
    partial = file.with_name(f".{file.name}.partial")
    try:
        partial.write_text(text, encoding="utf-8")
        if mode is not None:
            partial.chmod(mode)
        partial.replace(file)
    except OSError as e:
        raise UsageError(f"{file}: can't be written ({e.strerror})") from e
