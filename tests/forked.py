"""A command in a process of its own, to be killed or waited for.

It is forked from one that has imported Keywatch: to start Python and import it takes longer than
most commands do.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from multiprocessing import get_context
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

from keywatch import cli

_CONTEXT = get_context("forkserver")
_CONTEXT.set_forkserver_preload(
    [
        "keywatch.cli", "keywatch.pipeline", "keywatch.deliver.sender", "keywatch.load.ingest",
        "keywatch.detect.kinds.isolation_forest", "keywatch.detect.kinds.peers", "tests.conftest",
    ]
)  # fmt: skip


class Forked:
    """One command of keywatch in the folder `cwd`, from now on."""

    def __init__(self, *words: str | Path, cwd: Path | None = None, **env: str) -> None:
        self._begin(cli.main, [str(word) for word in words], cwd=cwd, env=env)

    @classmethod
    def calling(cls, function: Callable[..., None], *arguments: object) -> Forked:
        """A function of a module in place of a command."""
        forked = cls.__new__(cls)
        forked._begin(function, *arguments)
        return forked

    def _begin(
        self,
        function: Callable[..., Any],
        *arguments: object,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self._said = NamedTemporaryFile()  # noqa: SIM115
        given = (function, arguments, cwd or Path.cwd(), {**os.environ, **(env or {})})
        self._process = _CONTEXT.Process(target=_run, args=(*given, self._said.name))
        self._process.start()

    def ends(self, within: float | None = None) -> bool:
        """Whether it has ended, waiting for as many seconds, or for as long as it takes."""
        self._process.join(within)
        return self._process.exitcode is not None

    def kill(self) -> int | None:
        """SIGKILL, where it has not ended; its exit code."""
        self._process.kill()
        self._process.join()
        return self._process.exitcode

    def signal(self, number: int) -> None:
        """Send it a signal."""
        assert self._process.pid is not None
        os.kill(self._process.pid, number)

    @property
    def exit_code(self) -> int | None:
        """Negative: the signal that ended it; None: it has not ended."""
        return self._process.exitcode

    @property
    def said(self) -> str:
        """What it wrote to its output and its errors until now."""
        return Path(self._said.name).read_text(encoding="utf-8")


def _run(
    function: Callable[..., Any],
    arguments: tuple[object, ...],
    cwd: Path,
    env: Mapping[str, str],
    said: str,
) -> None:
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    out = os.open(said, os.O_WRONLY | os.O_APPEND)
    os.dup2(out, 1)
    os.dup2(out, 2)
    function(*arguments)
