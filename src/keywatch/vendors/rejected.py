"""What is kept of a line that can't be read: an allow-list of its fields, never the line."""

from __future__ import annotations

import json
import re
from typing import Any

from keywatch.text.secrets import Redactor
from keywatch.vendors.lenient import understood
from keywatch.vendors.mapping import field_alike
from keywatch.vendors.source import COLUMNS, Source, value_at

_READ_LENGTH, _LONGEST_VALUE = 20_000, 200
_ID = re.compile(r"[A-Za-z0-9_.:+/=@-]+")
_TIME = re.compile(
    r"(?:[0-9TZtz:+., /-]|\b(?i:jan|feb|mar|apr|may|june?|july?|aug|sept?|oct|nov|dec|january|"
    r"february|march|april|august|september|october|november|december|mon|tue|wed|thu|fri|sat|sun|"
    r"am|pm|utc|gmt|cest|cet)\b){1,40}"
)
_ADDRESS = re.compile(r"[A-Za-z0-9_.:\[\]-]{2,100}")
_WORD = re.compile(r"[A-Za-z0-9.-]{1,100}")
_PATH = re.compile(r".+", re.DOTALL)
_SHAPES = {
    "time": _TIME, "request_id": _ID, "key_id": _ID, "address": _ADDRESS, "method": _WORD,
    "status": re.compile("[0-9]{1,3}"), "path": _PATH,
}  # fmt: skip
"""What a value has to look like to be kept; another may be anything, such as a secret."""
_QUERY = re.compile(r"[?#;].*", re.DOTALL)
_FIELD = re.compile(r"[\w@ .-]{1,60}", re.ASCII)
_OTHERS = frozenset(COLUMNS) - _SHAPES.keys()
"""Columns of which nothing is kept; a field that is none, such as an error's code, is a word."""


LOOKS_LIKE = "looks like it"
"""Under this name what is kept of a line has the field that may be the one that is missing."""


def told_of(text: str, size_bytes: int, reason: str, source: Source, redactor: Redactor) -> str:
    """What may be kept of a line as JSON text, redacted, and the line's size and keyed digest.

    Of a line that was rejected for a missing field also the name of the one that looks like it.
    """
    record = json.loads(understood(text[:_READ_LENGTH]) or "{}")
    told: dict[str, Any] = {}
    for column, paths in source.fields.items():
        if column in _OTHERS and column != "key":
            continue
        for path, name in zip(paths, source.names_of(column), strict=True):
            if (value := _text(value_at(record, path))) and name not in told:
                secret = column == "key_id" and source.key_id_is_secret
                kept = _kept("key" if secret else column, value, redactor)
                told |= {name: kept[:_LONGEST_VALUE]} if kept else {}
    missing = reason.removesuffix(" is missing")
    for column in source.required if missing != reason else ():
        alike = field_alike(record, column) if source.told_as(column) == missing else ""
        told |= {LOOKS_LIKE: alike} if _FIELD.fullmatch(alike) else {}
    told |= {"bytes": size_bytes, "digest": redactor.key_hash(text)}
    return json.dumps(told, ensure_ascii=False)


def _kept(column: str, value: str, redactor: Redactor) -> str:
    if column == "key":
        return redactor.mask_key(value)
    if column == "path":
        value = _QUERY.sub("", value)
    return redactor.redact(value) if _SHAPES.get(column, _WORD).fullmatch(value) else ""


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
