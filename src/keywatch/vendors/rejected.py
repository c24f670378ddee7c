"""What is kept of a line that can't be read: an allow-list of its fields, never the line."""

from __future__ import annotations

import json
import re
from typing import Any

from keywatch.text.secrets import Redactor
from keywatch.vendors.lenient import understood

_READ_LENGTH, _LONGEST_VALUE = 20_000, 200
_ID = re.compile(r"[A-Za-z0-9_.:+/=@-]+")
_TIME = re.compile(r"[0-9TZtz:+., /-]{1,40}")
_ADDRESS = re.compile(r"[A-Za-z0-9_.:\[\]-]{2,100}")
_WORD = re.compile(r"[A-Za-z0-9.-]{1,100}")
_SHAPES = {
    "timestamp": _TIME, "request_id": _ID, "key_id": _ID, "ip": _ADDRESS, "method": _WORD,
    "status": re.compile("[0-9]{1,3}"),
    "eventTime": _TIME, "eventID": _ID, "sourceIPAddress": _ADDRESS, "eventSource": _WORD,
    "eventName": _WORD, "awsRegion": _WORD, "errorCode": _WORD,
}  # fmt: skip
"""What a value has to look like to be kept; another may be anything, such as a secret."""
_QUERY = re.compile(r"[?#;].*", re.DOTALL)


def told_of(text: str, size_bytes: int, redactor: Redactor) -> str:
    """What may be kept of a line as JSON text, redacted, and the line's size and keyed digest."""
    fields = json.loads(understood(text[:_READ_LENGTH]) or "{}")
    told: dict[str, Any] = {
        name: redactor.redact(value)[:_LONGEST_VALUE]
        for name, shape in _SHAPES.items()
        if shape.fullmatch(value := _text(fields.get(name)))
    }
    if key := _text(fields.get("key")):
        told["key"] = redactor.mask_key(key)[:_LONGEST_VALUE]
    if endpoint := _text(fields.get("endpoint")):
        told["endpoint"] = redactor.redact(_QUERY.sub("", endpoint))[:_LONGEST_VALUE]
    identity = fields.get("userIdentity")
    access_key_id = _text(identity.get("accessKeyId")) if isinstance(identity, dict) else ""
    if _ID.fullmatch(access_key_id):
        told["accessKeyId"] = redactor.redact(access_key_id)[:_LONGEST_VALUE]
    told |= {"bytes": size_bytes, "digest": redactor.key_hash(text)}
    return json.dumps(told, ensure_ascii=False)


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
