"""The style of SQL, as `make check` asks for it: `python tools/sql_style.py`.

Lines of 100 columns, keywords in upper case, no space at a line's end, `--` comments, and a
`-- grain:` at each table, view and detector. DuckDB's own tokens say what a keyword is.
sqlfluff was tried (4.5, DuckDB's dialect): it can't parse 14 of the 41 files, mostly for $names and
macros, wants rewrites of the aligned columns, and takes 16 s of processor; this takes 0.2 s.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import duckdb

ROOT = Path(__file__).resolve().parent.parent
_FOLDERS = ("src", "detectors", "deploy")
_WIDTH = 100
_VALUES = {"true", "false", "lambda"}
"""Reserved, and in lower case as the functions are."""
_PHRASES = {
    "alter", "exclude", "filter", "following", "insert", "macro", "nulls", "over", "partition",
    "preceding", "recursive", "rows", "temp", "unbounded", "update", "variable", "view",
}  # fmt: skip
"""Words that SQL does not reserve and that name nothing here."""
_COMMENTS = re.compile(r"'(?:[^']|'')*'|--[^\n]*|(/\*)")
_LOW = re.compile(rb"([a-z_]+)\s*(\(|:=)?")
_MAKES_ROWS = re.compile(
    r"^CREATE (OR REPLACE )?(TEMP )?(TABLE|VIEW)\b|^CREATE .*\) AS TABLE$", re.MULTILINE
)


@cache
def _categories() -> dict[str, str]:
    """How DuckDB files its words, less those that it does not reserve anywhere."""
    rows = duckdb.execute(
        "SELECT keyword_name, keyword_category FROM duckdb_keywords() "
        "WHERE keyword_category <> 'unreserved'"
    ).fetchall()
    return {str(word): str(category) for word, category in rows}


def faults(sql: str, *, rows: bool, grain: bool = True) -> Iterator[tuple[int, str]]:
    """What is wrong with a file's text, by line; with `rows` it is one query, as of a detector.

    Without `grain` no table has to say its own.
    """
    for number, line in enumerate(sql.split("\n"), 1):
        if len(line) > _WIDTH:
            yield number, f"{len(line)} columns: break it at {_WIDTH}"
        if line != line.rstrip():
            yield number, "space at its end: remove it"
    for match in _COMMENTS.finditer(sql):
        if match[1]:
            yield sql.count("\n", 0, match.start()) + 1, "a comment of another kind: write --"
    text = sql.encode()
    for start, kind in duckdb.tokenize(sql):
        if kind == duckdb.token_type.keyword and (word := _low_keyword(text, start)):
            yield text.count(b"\n", 0, start) + 1, f"keyword {word!r}: write it in upper case"
    if rows and not sql.startswith("-- grain:"):
        yield 1, "no grain: begin with a line `-- grain: COLUMNS`"
    if grain and not rows:
        yield from _without_grain(sql)


def _low_keyword(text: bytes, start: int) -> str | None:
    """The keyword there, if it is in lower case and no function, argument, column or $name."""
    match = _LOW.match(text, start)
    if not match or text[start - 1 : start] in (b"$", b".") or match[2] == b":=":
        return None
    word = match[1].decode()
    category = _categories().get(word)
    is_function = category != "reserved" and match[2] == b"("
    is_low = category and word not in _VALUES and not is_function
    return word if is_low or word in _PHRASES else None


def _without_grain(sql: str) -> Iterator[tuple[int, str]]:
    says_grain = False
    for number, line in enumerate(sql.split("\n"), 1):
        says_grain = says_grain or line.startswith("-- grain:")
        if _MAKES_ROWS.match(line):
            if not says_grain:
                yield number, "no grain: put a line `-- grain: COLUMNS` above it"
            says_grain = False


def main() -> int:
    """Print each fault with its file and line; 1 where there is one."""
    found = 0
    for file in sorted(each for name in _FOLDERS for each in (ROOT / name).rglob("*.sql")):
        is_detector = file.name == "detect.sql"
        # What an upgrade makes has its grain in the schema, what inject.sql makes in prepare.sql.
        grain = not file.name.startswith(("upgrade_", "inject"))
        for number, what in faults(file.read_text("utf-8"), rows=is_detector, grain=grain):
            found += 1
            print(f"{file.relative_to(ROOT)}:{number}: {what}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
