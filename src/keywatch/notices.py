"""What there is to say while something runs, such as that another writer is waited for.

Whoever runs it hears of it: the command line, a flow, a test. Else nothing is said. So with the
step that it is at, which is of no interest once it is done. And whether whoever runs it wants it to
end, for what would wait on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import TypeVar

T = TypeVar("T")

_listener: ContextVar[Callable[[str], None] | None] = ContextVar("keywatch_notices", default=None)


def notice(text: str) -> None:
    """Tell the listener of this thread, if there is one."""
    if listener := _listener.get():
        listener(text)


def notices_to(listener: Callable[[str], None]) -> AbstractContextManager[None]:
    """`listener` is called with each notice of what runs inside, in this thread."""
    return _held(_listener, listener)


_steps: ContextVar[Callable[[str], None] | None] = ContextVar("keywatch_steps", default=None)


def step(text: str) -> None:
    """Tell who listens to the steps of this thread, if anybody does, what is done from now on."""
    if listener := _steps.get():
        listener(text)


def in_steps(what: str, results: Iterable[T], count: int) -> Iterator[T]:
    """`results`, so many, each a step while it is made: ``what: 3 of 8``."""
    made = iter(results)
    for nth in range(1, count + 1):
        step(f"{what}: {nth} of {count}")
        yield next(made)


def steps_to(listener: Callable[[str], None]) -> AbstractContextManager[None]:
    """`listener` is called with each step of what runs inside, in this thread."""
    return _held(_steps, listener)


def steps_of(whole: str) -> AbstractContextManager[None]:
    """The steps of what runs inside are told as a part of `whole`."""
    listener = _steps.get()
    return _held(_steps, listener and (lambda text: listener(f"{whole}: {text}")))


_stop: ContextVar[Callable[[], bool]] = ContextVar("keywatch_stop", default=lambda: False)


def is_stopping() -> bool:
    """Whether this thread is to end: then nobody waits for another process any more."""
    return _stop.get()()


def stopped_when(asked: Callable[[], bool]) -> AbstractContextManager[None]:
    """What runs inside, in this thread, is to end as soon as `asked` says so."""
    return _held(_stop, asked)


@contextmanager
def _held(variable: ContextVar[T], value: T) -> Iterator[None]:
    token = variable.set(value)
    try:
        yield
    finally:
        variable.reset(token)
