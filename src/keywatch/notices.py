"""What there is to say while something runs, such as that another writer is waited for.

Whoever runs it hears of it: the command line, a flow, a test. Else nothing is said.
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
