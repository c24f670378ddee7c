r"""Text from logs made safe to show: paths, agents and names are chosen by whoever calls the API.

What could move the cursor, start a line, hide or change the order of text is shown as its escape
(``\x1b``, ``\n``, ``\u202e``). Letters of right-to-left scripts stay as they are.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Any

MAX_LENGTH = 200
"""Characters of one value that are shown unless said otherwise."""

_CUT = "…"
_MOST_MARKS = 3
"""Combining marks on one letter; Vietnamese and Thai need two or three, overprinting needs many."""

# Letters, marks and symbols by their category, and blank on the screen; or, as the skin tones of
# emoji are, one cell or none by what stands before.
_BLANK = frozenset(
    map(chr, [0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x2800, 0x3164, 0xFFA0])
) | frozenset(
    chr(code)
    for first, last in [(0x180B, 0x180F), (0xFE00, 0xFE0F), (0xE0100, 0xE01EF), (0x1F3FB, 0x1F3FF)]
    for code in range(first, last + 1)
)


# A vowel or an end of a Korean syllable takes no cell of its own, but alone it takes one.
_SECOND_JAMO = re.compile("[\u1160-\u11ff\ud7b0-\ud7ff]")
_HANGUL = re.compile("[\u1100-\u11ff\ua960-\ua97f\uac00-\ud7ff]")


def printable(text: str, max_length: int = MAX_LENGTH) -> str:
    """`text` on one line, with everything that isn't a visible character or a space escaped.

    At most `max_length` (≥ 1) characters come back, the last one ``…`` when something was cut; an
    escape is never cut in two. Safe for a terminal, not for markup: HTML needs its own escaping.
    """
    if len(text) <= max_length and text.isascii() and text.isprintable():
        return text  # nearly every text, and without a look at each character
    pieces: list[str] = []
    length = marks = 0
    for char in text[: max_length + 1]:
        marks = marks + 1 if unicodedata.category(char).startswith("M") else 0
        # A mark at the start would land on what stands before the value.
        stray = marks > min(_MOST_MARKS, len(pieces)) or (
            bool(_SECOND_JAMO.match(char)) and not (pieces and _HANGUL.match(pieces[-1]))
        )
        shown = char.isprintable() and char not in _BLANK and not stray
        piece = char if shown else char.encode("unicode_escape").decode("ascii")
        pieces.append(piece)
        length += len(piece)
    if length <= max_length:
        return "".join(pieces)
    while length > max_length - len(_CUT):
        length -= len(pieces.pop())
    return "".join(pieces) + _CUT


def unicode_only(value: Any) -> Any:
    """A JSON value with lone surrogates as U+FFFD: UTF-8 and strict readers of JSON refuse them."""
    match value:
        case str() if value.isascii():
            return value
        case str():
            return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        case dict():
            return {unicode_only(key): unicode_only(item) for key, item in value.items()}
        case list() | tuple():
            return [unicode_only(item) for item in value]
        case _:
            return value
