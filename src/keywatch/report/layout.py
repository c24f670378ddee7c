"""A page of text: paragraphs and columns that never pass its width, in color or plain."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Literal, TypeAlias

from rich.console import Console
from rich.text import Text

from keywatch.text.safe_text import printable

LEAST_WIDTH = 40

_GAP = 2
_LEAST_LAST_COLUMN = 16
_COMMAND = re.compile(r"\bkeywatch (?:(?:alerts|keys|lake) )?[a-z]+")
_LONGEST_PATH = 4096


@dataclass(frozen=True)
class Stack:
    """Cells under each other."""

    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Grid:
    """Rows of one length, in columns as wide as their widest cell.

    The last column takes the rest of the line; where that is little, the widest others give way.

    Attributes:
        rows: At least one.
        align: Of the columns from the first on; the others are left.
        one_line: Cut the last column where it would wrap.
    """

    rows: Sequence[Sequence[Cell]]
    align: Sequence[Literal["left", "right"]] = ()
    one_line: bool = False


Cell: TypeAlias = str | Text | Stack | Grid
"""A `str` is plain text; nothing is ever read as markup."""


def styled(*spans: str | tuple[str, str]) -> Text:
    """Text of plain spans and (text, style) spans."""
    return Text.assemble(*spans)


class Page:
    """Collects lines; `text` is all of it.

    Color is the caller's choice alone: the terminal and the environment aren't asked. With the
    folder of a `lake`, commands to paste name it.
    """

    def __init__(self, width: int, *, color: bool, lake: Path | None = None) -> None:
        self._lake = "" if lake is None else f" --lake {shlex.quote(str(lake))}"
        self._lake = printable(self._lake, _LONGEST_PATH)
        self._width = max(width, LEAST_WIDTH)
        self._lines: list[Text] = []
        self._console = Console(
            file=StringIO(),
            width=self._width,
            force_terminal=color,
            color_system="standard" if color else None,
            no_color=not color,
            legacy_windows=False,
            markup=False,
            emoji=False,
            highlight=False,
            _environ={},
        )

    def add(self, cell: Cell, *, indent: int = 0) -> None:
        """Show a cell, each of its lines moved right by `indent`."""
        for line in self._wrapped(cell, self._width - indent):
            self._lines.append(Text(" " * indent) + line)

    def command(self, *words: str) -> str:
        """The command of these words, quoted by the caller where necessary, less empty ones."""
        return " ".join(filter(None, ("keywatch", *words))) + self._lake

    def with_commands(self, text: str) -> str:
        """`text`, a sentence of a review, whose commands have the page's lake after their name.

        Where both have quotes it stays as it is: the lake's could end those of a value in it.
        """
        if "'" in self._lake and "'" in text:
            return text
        return _COMMAND.sub(lambda found: found[0] + self._lake, text)

    def heading(self, text: str) -> None:
        """A section's name, after an empty line."""
        self.blank()
        self.add(styled((text, "bold")))

    def blank(self) -> None:
        """An empty line."""
        self._lines.append(Text())

    def rule(self) -> None:
        """A line across the page."""
        self.add(styled(("─" * self._width, "dim")))

    @property
    def text(self) -> str:
        """Everything so far, without spaces at the ends of lines."""
        with self._console.capture() as capture:
            for line in self._lines:
                line.rstrip()
                self._console.print(line, no_wrap=True, overflow="ignore", crop=False)
        return capture.get()

    def _wrapped(self, cell: Cell, width: int) -> list[Text]:
        match cell:
            case str():
                return self._wrapped(Text(cell), width)
            case Text():
                return list(cell.wrap(self._console, width, overflow="fold"))
            case Stack(cells):
                return [line for part in cells for line in self._wrapped(part, width)]
            case Grid():
                widths = _column_widths(cell, width)
                return [line for row in cell.rows for line in self._row(cell, row, widths)]

    def _row(self, grid: Grid, row: Sequence[Cell], widths: Sequence[int]) -> list[Text]:
        """The row's lines: each cell wrapped to its column, and padded up to the next one."""
        columns = [self._wrapped(cell, width) for cell, width in zip(row, widths, strict=True)]
        if grid.one_line:
            last = _text(row[-1])
            last.truncate(widths[-1], overflow="ellipsis")
            columns[-1] = [last]
        lines = []
        for number in range(max(len(column) for column in columns)):
            line = Text()
            for index, (column, width) in enumerate(zip(columns, widths, strict=True)):
                part = column[number] if number < len(column) else Text()
                part.rstrip()
                if index < len(grid.align) and grid.align[index] == "right":
                    part.pad_left(width - part.cell_len)
                if index < len(widths) - 1:
                    part.pad_right(width - part.cell_len + _GAP)
                line.append_text(part)
            lines.append(line)
        return lines


def _text(cell: Cell) -> Text:
    if isinstance(cell, Text):
        return cell.copy()
    if isinstance(cell, str):
        return Text(cell)
    raise TypeError("only text can be cut to one line")


def _column_widths(grid: Grid, width: int) -> list[int]:
    others = [max(map(_natural_width, column)) for column in zip(*grid.rows, strict=True)][:-1]
    room = width - _GAP * len(others)
    least = min(_LEAST_LAST_COLUMN, max(room - len(others), 1))
    while sum(others) > room - least and max(others) > 1:
        others[others.index(max(others))] -= 1
    return [*others, max(room - sum(others), 1)]


def _natural_width(cell: Cell) -> int:
    """Terminal cells that it takes when nothing wraps."""
    match cell:
        case str():
            return Text(cell).cell_len
        case Text():
            return cell.cell_len
        case Stack(cells):
            return max(map(_natural_width, cells), default=0)
        case Grid(rows):
            columns = [max(map(_natural_width, column)) for column in zip(*rows, strict=True)]
            return sum(columns) + _GAP * (len(columns) - 1)
