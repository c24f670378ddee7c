"""What is said of an error, wherever: on a terminal, in a flow's log and state, on a page."""

from __future__ import annotations

import traceback
from pathlib import Path

from keywatch.errors import KeywatchError
from keywatch.lake import explained
from keywatch.text.safe_text import printable
from keywatch.text.secrets import without_tokens

_MOST_OF_A_LINE = 1000


def render_failure(error: Exception) -> str:
    """What is wrong, where, and the mend; it shows no token and moves no cursor.

    Of an error that nobody expected only its kind and place are said: a log may have said the rest.
    """
    lines = without_tokens(_said(error)).splitlines()
    return "\n".join(printable(line, max_length=_MOST_OF_A_LINE) for line in lines)


def _said(error: Exception) -> str:
    known = error if isinstance(error, KeywatchError) else explained(error, None)
    if known is not None:
        return str(known)
    if isinstance(error, OSError):
        return f"{error.filename or 'a file'}: {error.strerror or error}"
    place = traceback.extract_tb(error.__traceback__)[-1]
    return (
        f"internal error in Keywatch: {type(error).__name__} at {Path(place.filename).name}:"
        f"{place.lineno}; please report it. No change was left half done"
    )
