"""Values as SQL writes them: the one place where text gets into a query."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date, datetime

# What a $name is never looked for in, or a $name.
_TOKENS = re.compile(
    r"""--[^\n]*|/\*.*?\*/|'(?:[^']|'')*'|"(?:[^"]|"")*"|\$([a-z_][a-z0-9_]*)""", re.DOTALL
)


def with_values(sql: str, values: Mapping[str, object]) -> str:
    """`sql` with a literal in place of each ``$name``, but in comments and quotes."""

    def token(match: re.Match[str]) -> str:
        return _literal(values[match[1]]) if match[1] else match[0]

    return _TOKENS.sub(token, sql)


def _literal(value: object) -> str:
    """`value` as SQL that means just that, whatever it holds.

    Raises:
        TypeError: it is no text, number, truth value, time, None or list of those.
    """
    match value:
        case None:
            return "NULL"
        case bool():
            return str(value)
        case int():
            return f"({value})"
        case float():
            return f"'{value}'::DOUBLE"
        case str():
            return quoted(value)
        case datetime():
            return f"TIMESTAMP '{value.isoformat(' ')}'"
        case date():
            return f"DATE '{value}'"
        case list():
            return f"[{', '.join(map(_literal, value))}]"
        case _:
            raise TypeError(f"no SQL literal for {type(value).__name__}")


def quoted(text: str) -> str:
    """`text` as a literal of SQL, whatever it holds: the one place where text gets into a query."""
    written = "'" + text.replace("'", "''").replace("\0", "' || chr(0) || '") + "'"
    return f"({written})" if "\0" in text else written
