"""An engine on Dask, and the only module that knows Dask."""

from __future__ import annotations

import logging
import pickle
import tempfile
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import CancelledError
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, TypeVar

import dask
from dask.system import CPU_COUNT
from distributed import Client, Future, KilledWorker, LocalCluster, Security, get_worker
from distributed.client import ClosedClientError

from keywatch.engine import Common, Result, SomeTask, Task
from keywatch.errors import EngineError

T = TypeVar("T")

_CONNECT_SECONDS = 20
_CONFIG = {
    # What all tasks have in common is one large argument on purpose: the scheduler keeps it, so it
    # is there again after the worker that had it has died.
    "distributed.admin.large-graph-warning-threshold": "10GB",
    "distributed.comm.timeouts.connect": f"{_CONNECT_SECONDS}s",
    # To sample stacks a hundred times a second takes more than some tasks.
    "distributed.worker.profile.enabled": False,
    # No pages: they would be open to all on the machine.
    "distributed.scheduler.http.routes": [],
    "distributed.worker.http.routes": [],
    # What a worker's end means is told by this module.
    "logging.distributed": "critical",
}


class Cluster:
    """The workers of a Dask scheduler."""

    def __init__(self, client: Client, name: str) -> None:
        self._client = client
        self._name = name
        self._at: dict[int, str] = {}
        """The worker that ran the last task of each number."""
        self._is_lost = False
        with self._explaining():
            client.wait_for_workers(1, timeout=_CONNECT_SECONDS)
            self._workers: int = sum(client.nthreads().values())

    @classmethod
    @contextmanager
    def opened(cls, scheduler: str | None, workers: int | None) -> Iterator[Cluster]:
        """The cluster of a `scheduler`, or one of so many processes on this machine.

        The latter listens on 127.0.0.1 only, and accepts nobody without the certificate that is
        made for it.

        Raises:
            EngineError: the scheduler does not answer, or has no workers.
        """
        logging.getLogger("distributed").setLevel(logging.CRITICAL)
        with ExitStack() as stack:
            stack.enter_context(dask.config.set(_CONFIG))
            address: str | LocalCluster | None = scheduler
            security = None  # as Dask's own configuration says
            if scheduler is None:
                folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="keywatch-dask-"))
                security = Security.temporary()
                address = stack.enter_context(
                    LocalCluster(
                        n_workers=workers or CPU_COUNT,
                        threads_per_worker=1,
                        processes=True,
                        host="127.0.0.1",
                        protocol="tls://",
                        security=security,
                        dashboard_address=None,
                        scheduler_kwargs={"dashboard_address": "127.0.0.1:0"},
                        local_directory=folder,
                        memory_limit=0,  # DuckDB keeps to storage.memory_limit, and spills
                        silence_logs=logging.CRITICAL,
                    )
                )
            name = scheduler or "of this machine"
            try:
                client = stack.enter_context(
                    Client(
                        address,
                        security=security,
                        timeout=_CONNECT_SECONDS,
                        set_as_default=False,
                    )
                )
            except OSError as e:
                raise _lost(name, e) from e
            yield cls(client, name)

    @property
    def scheduler(self) -> str:
        """Its scheduler's address."""
        return str(self._client.scheduler_info()["address"])

    @property
    def workers(self) -> int:
        """How many tasks run at one time."""
        return self._workers

    def each(
        self,
        function: Callable[[Common, SomeTask], Result],
        common: Common,
        tasks: Iterable[SomeTask],
        ahead: int | None = None,
    ) -> Generator[Result]:
        """As of `Engine`."""
        coming: deque[tuple[SomeTask, Future[Any]]] = deque()
        try:
            with self._explaining():
                what = pickle.dumps((function, common), 5)
                shared = self._client.submit(pickle.loads, what, pure=False)
            for task in tasks:
                if len(coming) == ahead:
                    yield self._result_of(*coming.popleft())
                with self._explaining():
                    where = self._where(task.number)
                    coming.append(
                        (task, self._client.submit(_run, shared, task, pure=False, **where))
                    )
            while coming:
                yield self._result_of(*coming.popleft())
        finally:
            if not self._is_lost:
                with suppress(EngineError), self._explaining():
                    self._client.cancel([future for _, future in coming])

    def _result_of(self, task: Task, future: Future[Any]) -> Any:
        # As long as it is not asked for, it is done again if its worker ends.
        with self._explaining():
            self._at[task.number], result = self._client.gather(future)
        return result

    def _where(self, number: int) -> dict[str, Any]:
        at = self._at.get(number)
        return {} if at is None else {"workers": [at], "allow_other_workers": True}

    def everywhere(self, function: Callable[[], None]) -> None:
        """As of `Engine`."""
        if self._is_lost:
            return
        with suppress(EngineError), self._explaining():
            self._client.run(function, on_error="ignore")

    @contextmanager
    def _explaining(self) -> Iterator[None]:
        # Beside errors of a connection, a lost scheduler cancels what was asked of it.
        try:
            yield
        except KilledWorker as e:
            raise EngineError(
                f"the cluster {self._name}: workers ended again and again at one task "
                f"({e.task}); nothing was stored. Their logs tell why; if memory ran out, lower "
                "storage.keys_at_once for reviews, ingest.chunk_bytes for loads"
            ) from e
        except ImportError as e:
            raise EngineError(
                f"the cluster {self._name}: a worker has other packages ({e}); nothing was stored. "
                "Install the same versions on all machines"
            ) from e
        except (OSError, CancelledError, ClosedClientError) as e:
            self._is_lost = True
            raise _lost(self._name, e) from e


def _lost(name: str, error: BaseException) -> EngineError:
    return EngineError(
        f"the cluster {name} does not answer, or has no workers ({type(error).__name__}); nothing "
        "was stored. Try again once its scheduler and workers run"
    )


def _run(shared: tuple[Callable[[Any, Any], T], Any], task: Any) -> tuple[str, T]:
    function, common = shared
    worker = str(get_worker().address)
    try:
        return worker, function(common, task)
    except OSError as e:
        # Not to be taken for an error of the connection to the cluster.
        raise EngineError(f"worker {worker}: {e}") from e
