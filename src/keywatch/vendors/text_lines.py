"""Lines of plain text that are records: those of a web server's access log, and key=value."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, NamedTuple

import pyarrow as pa

from keywatch.vendors.client_address import is_address
from keywatch.vendors.files import Lines, LogFile, Unread, numbered_lines

__all__ = ["LINE_FORMS", "access_record", "line_form_of", "logfmt_record", "text_lines"]

# A quote in a quoted text is escaped by both servers, so a client's text ends where they end it.
_QUOTED = r'"((?:[^"\\]|\\.)*+)"'
_ACCESS = re.compile(
    rf"(?P<before>.{{3,1000}}?) \[(?P<time>\d[^\]\"]{{9,39}})\] (?P<request>{_QUOTED}) "
    r"(?P<status>\d{3}|-) (?P<bytes>\d{1,18}|-)(?P<rest>(?:\s.*)?)",
    re.DOTALL,
)
_FIELD = re.compile(rf"(?:([A-Za-z_][\w.-]{{0,40}})=)?(?:{_QUOTED}|([^\s\"]\S*))")
_ESCAPE = re.compile(r'\\(?:x([0-9A-Fa-f]{2})|(["\\])|([nrt]))')
_CONTROLS = {"n": "\n", "r": "\r", "t": "\t"}
_PAIR = re.compile(rf'(?:^|\s)([^\s="]{{1,100}})=(?:{_QUOTED}|([^\s"]*))')
_LEAST_PAIRS = 3
_LOOKED_AT = 50
_SECONDS = re.compile(r"\d{1,6}\.\d{3}")
_REQUEST_ID = re.compile(r"[0-9a-f]{32}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_TOLD_LENGTH = 20_000

_Record = dict[str, Any]


def text_lines(file: LogFile, form: str, on_bytes: Callable[[int], None]) -> Iterator[Lines]:
    """Each line as JSON text, read in a `form` of `LINE_FORMS`; one that is not in it is unread.

    Raises:
        InputError: the file can't be read.
    """
    read, what = LINE_FORMS[form]
    for lines in numbered_lines(file, on_bytes, file.quiet):
        numbers, texts, unread = [], [], list(lines.unread)
        for number, line in zip(lines.numbers.to_pylist(), lines.texts.to_pylist(), strict=True):
            record = read(line)
            if record is None:
                size = len(line.encode())
                unread.append(Unread(number, f"is {what}", line[:_TOLD_LENGTH], size))
            else:
                numbers.append(number)
                texts.append(json.dumps(record, ensure_ascii=False))
        yield Lines(pa.array(numbers, pa.int64()), pa.array(texts, pa.string()), tuple(unread))


def access_record(line: str) -> _Record | None:
    """The fields of a line in the common or combined format, by the names that nginx gives them.

    Other text may stand before the address (syslog, the virtual host), and fields of one's own
    behind: those written ``name=value`` keep their name, others are known by their form (a list of
    addresses, seconds, a request's id).

    >>> record = access_record('1.2.3.4 - ana [30/Sep/2026:10:00:01 +0200] "GET /x HTTP/1.1" 200 9')
    >>> record["remote_user"], record["time_local"], record["request"]
    ('ana', '30/Sep/2026:10:00:01 +0200', 'GET /x HTTP/1.1')
    """
    match = _ACCESS.fullmatch(line.rstrip("\r\n"))
    if match is None or (client := _client(match["before"].split(" "))) is None:
        return None
    address, user = client
    record = _behind(match["rest"]) | {
        "remote_addr": address, "remote_user": user, "time_local": match["time"],
        "request": _unescaped(match["request"][1:-1]), "status": match["status"],
        "body_bytes_sent": match["bytes"],
    }  # fmt: skip
    return {name: value for name, value in record.items() if value not in ("-", "")}


def _client(words: list[str]) -> tuple[str, str] | None:
    """The address and the user at the end of what stands before the time.

    Both may be more than a word: a list of addresses, a user's name with blanks.
    """
    places = range(len(words) - 2)
    at = next((at for at in places if is_address(words[at])), None)
    if at is None:
        # The name of a host; identd's answer, which follows, is always a hyphen.
        at = next((at for at in places if words[at] != "-" and words[at + 1] == "-"), None)
    if at is None:
        return None
    first = at
    while first > 0 and words[first - 1].endswith(","):
        first -= 1
    user = " ".join(words[at + 2 :]).strip('"')
    return " ".join(words[first : at + 1]), user


def _behind(rest: str) -> _Record:
    """What stands behind the size: referrer and agent, and fields of one's own."""
    record: _Record = {}
    quoted = 0
    for name, text, word in _FIELD.findall(rest):
        value = _unescaped(text) if text else word
        if name:
            record.setdefault(name, value)
        elif not word and quoted < 2:
            record[("http_referer", "http_user_agent")[quoted]] = value
            quoted += 1
        elif not word and all(is_address(hop.strip()) for hop in value.split(",")):
            record.setdefault("http_x_forwarded_for", value)
        elif _SECONDS.fullmatch(value):
            record.setdefault("request_time", value)
        elif _REQUEST_ID.fullmatch(value):
            record.setdefault("request_id", value)
    return record


def logfmt_record(line: str) -> _Record | None:
    """The fields of a line of ``key=value`` and ``key="some text"``; None where it has few.

    >>> logfmt_record('time=2026-09-30T10:00:01Z path="/v1/a b" status=200')
    {'time': '2026-09-30T10:00:01Z', 'path': '/v1/a b', 'status': '200'}
    """
    if line.startswith("{"):
        return None
    record: _Record = {}
    for name, text, word in _PAIR.findall(line):
        record.setdefault(name, _unescaped(text) if text else word)
    return record if len(record) >= _LEAST_PAIRS else None


def _unescaped(text: str) -> str:
    return _ESCAPE.sub(_one, text) if "\\" in text else text


def _one(match: re.Match[str]) -> str:
    if match[1]:
        return chr(int(match[1], 16))
    return match[2] or _CONTROLS[match[3]]


class _LineForm(NamedTuple):
    read: Callable[[str], _Record | None]
    otherwise: str


LINE_FORMS = {
    "access_log": _LineForm(access_record, "no line of an access log"),
    "logfmt": _LineForm(logfmt_record, "not key=value"),
}


def line_form_of(head: str) -> str | None:
    """In which of `LINE_FORMS` a log is that begins with `head`; None for another one."""
    lines = list(islice((line for line in head.split("\n") if line.strip()), _LOOKED_AT))
    for form, (read, _) in LINE_FORMS.items():
        # The last one may be cut.
        if 2 * sum(read(line) is not None for line in lines) > len(lines):
            return form
    return None
