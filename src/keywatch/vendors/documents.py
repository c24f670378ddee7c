"""JSON values as their records, one after another: memory does not grow with a document."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Callable, Iterator
from typing import IO

import numpy as np
import pyarrow as pa

from keywatch.errors import InputError
from keywatch.vendors.files import (
    BLOCK_BYTES,
    MAX_LINE_BYTES,
    MOST_LINES,
    Lines,
    LogFile,
    Unread,
    numbered_lines,
    without_mark,
)
from keywatch.vendors.lenient import end_of_value
from keywatch.vendors.shapes import Shape
from keywatch.vendors.wrappers import Wrapper

_DECODER = json.JSONDecoder(
    strict=False, parse_int=str, parse_float=str, parse_constant=lambda _: None
)
_BETWEEN = re.compile(r"[\s,]*")
_TWO_VALUES = re.compile(rb"\} ?\{")
_PAIR = re.compile(r"\s*:\s*")
_NEXT_RECORD = re.compile(r"\n(?:,[ \t]*)?\{")
_READ_BYTES = 1024 * 1024
_TOLD_LENGTH = 20_000


def json_lines(file: LogFile, shape: Shape, on_bytes: Callable[[int], None]) -> Iterator[Lines]:
    """The records of a file with one value a line, out of what stands around them.

    Values that follow one another in a line are records of that line.

    Raises:
        InputError: the file can't be read.
    """
    for lines in numbered_lines(file, on_bytes):
        texts = lines.texts
        if shape.is_prefixed:
            import pyarrow.compute as pc

            texts = pc.replace_substring_regex(texts, r"^[^{]*\{", "{", max_replacements=1)
        if shape.wrapper is None and not _may_hold_several(texts):
            yield lines._replace(texts=texts)
            continue
        taken_apart = shape.wrapper.taken_off if shape.wrapper else _values_of
        of_lines = [taken_apart(text) for text in texts.to_pylist()]
        counts = [len(found) for found in of_lines]
        numbers = np.repeat(lines.numbers.to_numpy(), counts)
        found = pa.array([text for found in of_lines for text in found], pa.string())
        yield from Lines(pa.array(numbers), found, lines.unread).parts()


def _may_hold_several(texts: pa.Array) -> bool:
    """Whether a line may have more than one value; looked for in all of them at once."""
    held = texts.buffers()[2]
    return held is not None and _TWO_VALUES.search(memoryview(held)) is not None


def _values_of(text: str) -> list[str]:
    """The values that follow one another in `text`; itself where it is not made of these."""
    if not _TWO_VALUES.search(text.encode()):
        return [text]
    values, at = [], 0
    while at < len(text):
        try:
            _, end = _DECODER.raw_decode(text, at)
        except (ValueError, RecursionError):
            return [text]
        values.append(text[at:end])
        at = _after_spaces(text, end)
    return values


def record_lines(
    file: LogFile, wrapper: Wrapper | None, on_bytes: Callable[[int], None]
) -> Iterator[Lines]:
    """The records of the JSON values in `file`, out of their `wrapper`, numbered from 1.

    Values and lists of them may follow one another with anything between them that is no text:
    spaces, commas, newlines, nothing.

    Raises:
        InputError: the file can't be read, or breaks off inside a value.
    """
    with file.open(on_bytes) as stream:
        document = _Document(stream, file.path)
        number, size = 1, 0
        texts: list[str] = []
        for text in document.records(wrapper):
            texts.append(text)
            size += len(text)
            if size >= BLOCK_BYTES or len(texts) == MOST_LINES:
                yield _numbered(texts, number)
                number, size, texts = number + len(texts), 0, []
        yield _numbered(texts, number)._replace(unread=tuple(document.unread))


def _numbered(texts: list[str], first: int) -> Lines:
    return Lines(
        pa.array(range(first, first + len(texts)), pa.int64()), pa.array(texts, pa.string())
    )


def _after_spaces(text: str, at: int) -> int:
    between = _BETWEEN.match(text, at)
    assert between is not None
    return between.end()


def _holds_others(text: str) -> bool:
    """Whether a value that is not quite JSON has the records behind it in it."""
    if not _NEXT_RECORD.search(text):
        return False
    try:
        json.loads(text, strict=False)
    except (ValueError, RecursionError):
        return True
    return False


class _Document:
    """The text of a file, of which a record or so is held at a time."""

    def __init__(self, stream: IO[bytes], path: str) -> None:
        self._stream = stream
        self._path = path
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._text = ""
        self._at = 0
        self._ended = False
        self._count = 0
        self._read_bytes = 0
        self._is_broken = False
        self.unread: list[Unread] = []
        self._more(first=True)

    def records(self, wrapper: Wrapper | None) -> Iterator[str]:
        while begins := self._next():
            if begins == "{" and wrapper is not None and wrapper.list_name:
                yield from self._list_of(wrapper)
            elif begins == "{":
                yield from self._record(wrapper)
            elif begins == "[":
                yield from self._elements(wrapper)
            else:
                self.unread.append(self._what_follows())
                return

    def _record(self, wrapper: Wrapper | None, *, in_list: bool = False) -> Iterator[str]:
        """The value that begins here: a record, or what is in its wrapper."""
        yield from self._unwrapped(self._value(), wrapper, in_list=in_list)

    def _unwrapped(self, text: str, wrapper: Wrapper | None, *, in_list: bool) -> Iterator[str]:
        self._count += 1
        if wrapper is None:
            yield text
        else:
            yield from wrapper.taken_off(text, in_list=in_list)

    def _elements(self, wrapper: Wrapper | None, *, in_list: bool = False) -> Iterator[str]:
        """The elements of the list that begins here."""
        self._at += 1
        while (begins := self._next()) not in ("]", ""):
            try:
                text = self._value()
            except InputError:
                if not _NEXT_RECORD.search(self._text, self._at):
                    raise
                text = ""
            if not text or _holds_others(text):
                self._at -= len(text)
                yield from self._rest_by_lines(wrapper, in_list=in_list)
                return
            yield from self._unwrapped(text, wrapper, in_list=in_list)
        if begins == "":
            raise self._cut()
        self._at += 1

    def _rest_by_lines(self, wrapper: Wrapper | None, *, in_list: bool) -> Iterator[str]:
        """The records on lines of their own after one that has no end; that one as it stands."""
        self._is_broken = True
        while not self._ended or self._at < len(self._text):
            end = self._text.find("\n", self._at)
            if end < 0 and not self._ended:
                self._need()
                continue
            line = self._text[self._at : end if end >= 0 else None].rstrip(" ,\t\r")
            self._at = end + 1 if end >= 0 else len(self._text)
            at, values = _after_spaces(line, 0), list[str]()
            while line.startswith("{", at) and (after := end_of_value(line, at)):
                values.append(line[at:after])
                at = _after_spaces(line, after)
            if line[at:].strip("]} "):
                self._count += 1
                yield line
            else:
                for value in values:
                    yield from self._unwrapped(value, wrapper, in_list=in_list)

    def _list_of(self, wrapper: Wrapper) -> Iterator[str]:
        """What is in the wrapper's list in the object that begins here; the object without one."""
        has_list, pairs = False, list[str]()
        self._at += 1
        while (begins := self._next()) == '"':
            key = self._value()
            while (pair := _PAIR.match(self._text, self._at)) is None or pair.end() == len(
                self._text
            ):
                self._need()
            self._at = pair.end()
            is_list = json.loads(key, strict=False) == wrapper.list_name
            if is_list and self._text[self._at] == "[":
                has_list, pairs = True, []
                yield from self._elements(wrapper, in_list=True)
                if self._is_broken:
                    return
            elif has_list:
                self._value()
            else:
                pairs.append(f"{key}: {self._value()}")
        if begins != "}":
            raise self._cut()
        self._at += 1
        if not has_list and pairs:
            self._count += 1
            yield f"{{{', '.join(pairs)}}}"

    def _next(self) -> str:
        """The next character that is no space or comma; nothing at the end."""
        while True:
            self._at = _after_spaces(self._text, self._at)
            if self._at < len(self._text):
                return self._text[self._at]
            if self._ended:
                return ""
            self._more()

    def _value(self) -> str:
        """The text of the value that begins here, also of one that is not quite JSON."""
        while True:
            try:
                _, end = _DECODER.raw_decode(self._text, self._at)
            except (ValueError, RecursionError):
                nested = self._text.startswith(("{", "["), self._at)
                found = end_of_value(self._text, self._at) if nested else None
                if found is None:
                    self._need()
                    continue
                end = found
            # A number may go on.
            if end == len(self._text) and self._text[end - 1] not in '}]"' and not self._ended:
                self._more()
                continue
            text = self._text[self._at : end]
            self._at = end
            return text

    def _need(self) -> None:
        if self._ended or len(self._text) - self._at > MAX_LINE_BYTES:
            raise self._cut()
        self._more()

    def _more(self, *, first: bool = False) -> None:
        """Read on, twice as much as is held, so that a long record is not looked at too often."""
        held = len(self._text) - self._at
        block = self._stream.read(max(_READ_BYTES, held))
        self._ended = not block
        self._read_bytes += len(block)
        if first:
            block = without_mark(block, self._path)
        self._text = self._text[self._at :] + self._decoder.decode(block, final=self._ended)
        self._at = 0

    def _cut(self) -> InputError:
        return InputError(
            f"{self._path}: breaks off in record {self._count + 1}, or is not JSON from there on; "
            "was the transfer incomplete? Fetch the file again"
        )

    def _what_follows(self) -> Unread:
        """All that stands after the last value: worth as many records as it has room for."""
        before = max(1, self._read_bytes - len(self._text) + self._at)
        beginning, size = self._text[self._at : self._at + _TOLD_LENGTH], 0
        while not self._ended:
            size += len(self._text) - self._at
            self._at = len(self._text)
            self._more()
        size += len(self._text) - self._at
        worth = max(1, round(size * self._count / before))
        reason = "is not JSON, after the last value"
        return Unread(self._count + 1, reason, beginning, size, lines_worth=worth)
