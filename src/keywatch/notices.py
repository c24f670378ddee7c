"""What there is to say while something runs, such as that another writer is waited for.

Whoever runs it hears of it: the command line, a flow, a test. Else nothing is said. And whether
whoever runs it wants it to end, for what would wait on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_listener: ContextVar[Callable[[str], None] | None] = ContextVar("keywatch_notices", default=None)


def notice(text: str) -> None:
    """Tell the listener of this thread, if there is one."""
    if listener := _listener.get():
        listener(text)


@contextmanager
def notices_to(listener: Callable[[str], None]) -> Iterator[None]:
    """`listener` is called with each notice of what runs inside, in this thread."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


_stop: ContextVar[Callable[[], bool]] = ContextVar("keywatch_stop", default=lambda: False)


def is_stopping() -> bool:
    """Whether this thread is to end: then nobody waits for another process any more."""
    return _stop.get()()


@contextmanager
def stopped_when(asked: Callable[[], bool]) -> Iterator[None]:
    """What runs inside, in this thread, is to end as soon as `asked` says so."""
    token = _stop.set(asked)
    try:
        yield
    finally:
        _stop.reset(token)
