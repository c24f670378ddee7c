"""Engines whose processes end in the middle of a review, and a Dask cluster of one's own.

Workers import this module.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from keywatch.engine import Common, Engine, Result, SomeTask
from tests.conftest import ROOT

PATIENCE_SECONDS = 300


def once_killed(mark: Path, function: Callable[[Any, Any], Any], common: Any, task: Any) -> Any:
    """`function`, whose process is killed the first time, when its work is done."""
    found = function(common, task)
    try:
        mark.touch(exist_ok=False)
    except FileExistsError:
        return found
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("killed")


@dataclass
class Deadly:
    """An engine that kills a worker once in each of the phases named, and tells which it saw."""

    engine: Engine
    folder: Path
    phases: Sequence[str]

    def __post_init__(self) -> None:
        self.killed: list[str] = []

    @property
    def workers(self) -> int:
        return self.engine.workers

    def each(
        self,
        function: Callable[[Common, SomeTask], Result],
        common: Common,
        tasks: Iterable[SomeTask],
        ahead: int | None = None,
    ) -> Generator[Result]:
        phase = function.__name__
        mark = self.folder / phase
        deadly = partial(once_killed, mark, function) if phase in self.phases else function
        try:
            yield from self.engine.each(deadly, common, tasks, ahead)
        finally:
            if mark.exists() and phase not in self.killed:
                self.killed.append(phase)

    def everywhere(self, function: Callable[[], None]) -> None:
        self.engine.everywhere(function)


def kill_other(pid: int, common: Any, task: Any) -> None:
    """In place of a task's work: end another process."""
    os.kill(pid, signal.SIGKILL)


def lacks_a_package(common: Any, task: Any) -> None:
    """In place of a task's work: a worker of another environment."""
    raise ModuleNotFoundError("No module named 'numpy'")


@contextmanager
def scheduler_and_worker(folder: Path) -> Iterator[tuple[str, int]]:
    """A Dask scheduler and a worker on the loopback: its address and its process."""
    told = folder / "scheduler.json"
    quiet = {
        **os.environ,
        "DASK_LOGGING__DISTRIBUTED": "critical",
        "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}",
    }
    common = ["--scheduler-file", str(told), "--no-dashboard", "--interface", "lo"]
    with _ended(_started("scheduler", [*common, "--port", "0"], folder, quiet)) as scheduler:
        until = time.monotonic() + PATIENCE_SECONDS
        while not told.exists():
            assert scheduler.poll() is None, "the scheduler ended"
            assert time.monotonic() < until, "the scheduler does not start"
            time.sleep(0.05)
        worker = [*common, "--nthreads", "1", "--no-nanny", "--local-directory", str(folder)]
        with _ended(_started("worker", worker, folder, quiet)):
            yield json.loads(told.read_text())["address"], scheduler.pid


def _started(
    what: str, words: Sequence[str], folder: Path, env: dict[str, str]
) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", f"distributed.cli.dask_{what}", *words]
    with (folder / f"{what}.log").open("wb") as log:
        return subprocess.Popen(command, cwd=folder, env=env, stdout=log, stderr=log)


@contextmanager
def _ended(process: subprocess.Popen[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    try:
        yield process
    finally:
        process.kill()
        process.wait()
