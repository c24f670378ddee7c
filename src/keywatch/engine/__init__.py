"""Where the tasks of a review or a load run: in this process, or on a cluster."""

from __future__ import annotations

import platform
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import Protocol, TypeVar

from keywatch import __version__, content
from keywatch.errors import EngineError
from keywatch.hints import to_install
from keywatch.settings import EngineSettings

__all__ = ["Engine", "InProcess", "Task", "become_worker", "opened", "opened_when_asked"]

Common = TypeVar("Common")
Result = TypeVar("Result")


class Task(Protocol):
    """What a function is called with, once each. It can be pickled, as all that goes with it."""

    @property
    def number(self) -> int:
        """A task goes to the process that ran the last one of its number, if it is still there."""


SomeTask = TypeVar("SomeTask", bound=Task)


class Engine(Protocol):
    """Runs tasks in processes that may end at any time: then what they ran is run again."""

    @property
    def workers(self) -> int:
        """How many tasks run at one time."""

    def each(
        self,
        function: Callable[[Common, SomeTask], Result],
        common: Common,
        tasks: Iterable[SomeTask],
        ahead: int | None = None,
    ) -> Generator[Result]:
        """``function(common, task)`` of each task, in their order, as soon as it is there.

        At most `ahead` tasks are under way, or done and not yet asked for; by default all of them.

        Raises:
            EngineError: the cluster is gone, or its workers ended again and again.
        """

    def everywhere(self, function: Callable[[], None]) -> None:
        """Call `function` in each process that can be reached."""


class InProcess:
    """This process as an engine: what is meant for several is done in turn."""

    def __init__(self, workers: int = 1) -> None:
        self.workers = workers

    def each(
        self,
        function: Callable[[Common, SomeTask], Result],
        common: Common,
        tasks: Iterable[SomeTask],
        ahead: int | None = None,
    ) -> Generator[Result]:
        """As of `Engine`."""
        return (function(common, task) for task in tasks)

    def everywhere(self, function: Callable[[], None]) -> None:
        """As of `Engine`."""
        function()


def become_worker(version: str, what: str, folders: tuple[Path, ...]) -> None:
    """Have this process work as the one that asks: with the content of these folders, too.

    Raises:
        EngineError: `what` is of another `version` of Keywatch.
    """
    if version != __version__:
        raise EngineError(
            f"the worker on {platform.node()} runs Keywatch {__version__}, {what} {version}: "
            "install the same version on all machines; nothing was stored"
        )
    content.add_folders(folders)


@contextmanager
def opened(settings: EngineSettings) -> Iterator[Engine | None]:
    """The cluster that the settings name, for the time inside; None where they name none.

    Raises:
        EngineError: it can't be reached, or Dask is not installed.
    """
    if settings.kind == "local":
        yield None
        return
    try:
        from keywatch.engine.cluster import Cluster
    except ImportError as e:
        raise EngineError(
            f"an engine on Dask needs more packages ({e}): {to_install('cluster')}"
        ) from e
    with Cluster.opened(settings.scheduler, settings.workers) as cluster:
        yield cluster


@contextmanager
def opened_when_asked(settings: EngineSettings) -> Iterator[Callable[[], Engine | None]]:
    """As `opened`, but no sooner than somebody asks for it."""
    with ExitStack() as stack:
        yield cache(lambda: stack.enter_context(opened(settings)))
