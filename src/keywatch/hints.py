"""What an error adds to help: the name that was probably meant, and what to install."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def to_install(extra: str) -> str:
    """The command that installs the packages of `extra`, in a sentence; from the checkout.

    No index is asked for ``keywatch``: what has that name there need not be this program.
    """
    return f"run pip install '.[{extra}]' in Keywatch's checkout"


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that `name` was probably meant to be; None where no name is near.

    >>> nearest("Chta", ["chat", "pager"])
    'chat'
    """
    names = {one.casefold(): one for one in known}
    found = get_close_matches(name.casefold(), names, n=1)
    return names[found[0]] if found else None


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """``; did you mean 'chat'?``; empty where no known name is near."""
    near = nearest(name, known)
    return "" if near is None else f"; did you mean {near!r}?"


def unknown(what: str, name: str, known: Iterable[str]) -> str:
    """What is said of `name`, which is no known `what`.

    >>> unknown("channel", "chta", ["chat", "pager"])
    "unknown channel 'chta'; available: chat, pager; did you mean 'chat'?"
    """
    names = list(known)
    shown = ", ".join(names) or "none"
    return f"unknown {what} {name!r}; available: {shown}{did_you_mean(name, names)}"
