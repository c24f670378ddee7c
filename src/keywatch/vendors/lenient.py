"""What can be understood of a line that is no valid JSON, or that lacks a field: the second pass.

Agents and paths are chosen by whoever holds a key, so an odd one must not cost the line. Nothing is
guessed: text that can't be is U+FFFD, a value that can't be is null, and of a line that breaks off
what stands before the break is taken.
"""

from __future__ import annotations

import json
import re
from typing import Any

_DECODER = json.JSONDecoder(
    object_pairs_hook=lambda pairs: dict(reversed(pairs)),
    strict=False,
    parse_int=str,
    parse_float=str,
    parse_constant=lambda _: None,
)
_MOST_NESTED = 100
_NO_TEXT = re.compile("[\x00\ud800-\udfff]")
_BAD_ESCAPE = re.compile(r'(\\(?:["\\/bfnrt]|u[0-9A-Fa-f]{4}))|\\')
# Possessive, for a repetition that may be gone back in remembers each of its steps: 4 GB for 30 MB.
_STRING = r'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
# An escape outside of a string is a token too: else each escaped quote of a string that is not
# closed would be tried as the begin of another one, and a line of these takes hours.
_QUOTED = rf"{_STRING}|\\."
_LAST_COMMA = re.compile(rf"({_QUOTED})|,(?=\s*[}}\]])", re.DOTALL)
_TOKEN = re.compile(rf"{_QUOTED}|[{{}}\[\]]", re.DOTALL)
_SPACE = re.compile(r"[\s\ufeff]*")
_PAUSE = re.compile(r"\s*[:,]?\s*")


def understood(text: str) -> str | None:
    """`text` as the JSON object that it was meant to be; None where it is none.

    Of a name that stands twice the first value counts, as DuckDB has it.
    """
    repaired = _BAD_ESCAPE.sub(lambda m: m[1] or r"\\", text)
    start = _SPACE.match(repaired)
    assert start is not None
    begin = start.end()
    if not repaired.startswith("{", begin):
        return None
    try:
        value, _ = _DECODER.raw_decode(_LAST_COMMA.sub(lambda m: m[1] or "", repaired), begin)
    except (ValueError, RecursionError):
        value = _before_the_break(repaired, begin + 1)
    return json.dumps(_clean(value), ensure_ascii=False)


def _before_the_break(text: str, at: int) -> dict[str, Any]:
    """The pairs of an object from `at` on, as far as they can be read."""
    pairs: dict[str, Any] = {}
    while text.startswith('"', at := _skip(text, at)):
        try:
            name, at = _DECODER.raw_decode(text, at)
            at = _skip(text, at)
            begins = text[at : at + 1]
            try:
                value, at = _DECODER.raw_decode(text, at)
            except (ValueError, RecursionError):
                if begins not in ("{", "[") or (end := end_of_value(text, at)) is None:
                    break
                value, at = None, end
            pairs.setdefault(name, value)
        except (ValueError, RecursionError):
            break
    return pairs


def _skip(text: str, at: int) -> int:
    pause = _PAUSE.match(text, at)
    assert pause is not None
    return pause.end()


def end_of_value(text: str, at: int) -> int | None:
    """Where the object or list at `at` ends, by its brackets; None where it does not."""
    depth = 0
    for token in _TOKEN.finditer(text, at):
        if token[0] in ("{", "["):
            depth += 1
        elif token[0] in ("}", "]"):
            depth -= 1
            if depth <= 0:
                return token.end()
    return None


def _clean(value: Any, depth: int = 0) -> Any:
    """`value` with U+FFFD for what is no text, and null for what is nested too deeply."""
    if isinstance(value, str):
        return _NO_TEXT.sub("\ufffd", value)
    if isinstance(value, (dict, list)) and depth >= _MOST_NESTED:
        return None
    if isinstance(value, dict):
        return {_NO_TEXT.sub("\ufffd", k): _clean(v, depth + 1) for k, v in value.items()}
    if isinstance(value, list):
        return [_clean(each, depth + 1) for each in value]
    return value
