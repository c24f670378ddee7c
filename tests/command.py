"""A command as a user gives it, run in this process: starting Python takes longer than most do."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import chdir, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

from keywatch import cli


@dataclass(frozen=True)
class Ran:
    """What a command left."""

    code: int
    out: str
    err: str


def keywatch(*words: str | Path, cwd: Path | None = None, piped: str = "", **env: str) -> Ran:
    """Run one command in the folder `cwd`, with `piped` as its standard input."""
    out, err = _stream(), _stream()
    with (
        _umask_kept(),
        chdir(cwd or Path.cwd()),
        patch.dict(os.environ, {"NO_COLOR": "1", **env}),
        patch.object(sys, "stdin", _stream(piped)),
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        code = _exit_code([str(word) for word in words])
    return Ran(code, _text(out), _text(err))


def _exit_code(words: list[str]) -> int:
    try:
        cli.main(words)
    except SystemExit as e:
        return int(e.code or 0)
    return 0


@contextmanager
def _umask_kept() -> Iterator[None]:
    # The command sets its own, for all that it makes.
    mask = os.umask(0o077)
    os.umask(mask)
    try:
        yield
    finally:
        os.umask(mask)


def _stream(text: str = "") -> io.TextIOWrapper:
    """As a process has them: text that is no UTF-8 can't be written."""
    return io.TextIOWrapper(io.BytesIO(text.encode()), encoding="utf-8")


def _text(stream: io.TextIOWrapper) -> str:
    stream.flush()
    stream.seek(0)
    return stream.read()
