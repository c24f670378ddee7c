"""The lake's events as OCSF API Activity (class 6003), one JSON object a line.

The source ``ocsf_api_activity`` reads back all that a review depends on: the events of a lake,
loaded into a new one, give the same cases. What OCSF has no place for stands in
``unmapped.keywatch``. Events are stored without secrets, and so they are written.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, TextIO

from keywatch.lake import Lake
from keywatch.model import Window
from keywatch.report.ocsf import INFORMATIONAL, OCSF_VERSION, address_field, milliseconds
from keywatch.text.document import rfc3339
from keywatch.vendors.registry import sources, vendor_named

__all__ = ["api_activity", "write_events"]

_ACTIVITIES = ("Unknown", "Create", "Read", "Update", "Delete")
_CREATE, _READ, _UPDATE, _DELETE = 1, 2, 3, 4
_BY_METHOD = {
    "POST": _CREATE, "GET": _READ, "HEAD": _READ, "PUT": _UPDATE, "PATCH": _UPDATE,
    "DELETE": _DELETE,
}  # fmt: skip
_BY_WORD = {
    "create": _CREATE, "add": _CREATE, "run": _CREATE, "insert": _CREATE,
    "get": _READ, "list": _READ, "describe": _READ, "head": _READ, "lookup": _READ,
    "search": _READ, "read": _READ, "view": _READ,
    "update": _UPDATE, "put": _UPDATE, "modify": _UPDATE, "set": _UPDATE, "patch": _UPDATE,
    "attach": _UPDATE, "detach": _UPDATE,
    "delete": _DELETE, "remove": _DELETE, "terminate": _DELETE,
}  # fmt: skip
"""By the first word of a call that is named, such as ``CreateAccessKey``."""
_METHODS = {"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"}
"""Those that OCSF lists."""
_FIRST_WORD = re.compile(r"[A-Z]?[a-z]+")
_NAMED_CALL = re.compile(r"([a-z0-9][a-z0-9.-]*):(\S+)")
_NOWHERE = "(none)"
"""Stands for the source of an event whose log has no address."""
# Of equal times in the order of the load: which call follows which is evidence.
_EVENTS = """
    SELECT ts, key_id, "key", principal, address, method, endpoint, object, path, status,
        user_agent, response_bytes, duration_ms, request_id, exposed, source
    FROM lake.events
    WHERE day = $day AND {chosen}
    ORDER BY ts, rowid
"""


def write_events(
    lake: Lake, out: TextIO, window: Window | None = None, key_ids: Sequence[str] | None = None
) -> int:
    """Write the events of `window` (all by default) and these keys or principals; returns how many.

    A line an event, in ASCII, in the order of time. Requests made without a key, and lines that
    could not be read, are no part of it. No more than a few events are held in memory.
    """
    conditions, given = ["true"], dict[str, object]()
    if window is not None:
        conditions.append("day >= $start AND day < $end")
        given |= {"start": window.start.date(), "end": window.end.date()}
    if key_ids is not None:
        conditions.append("list_has_any($key_ids, [key_id, principal])")
        given |= {"key_ids": list(key_ids)}
    chosen = " AND ".join(conditions)
    days = lake.rows(f"SELECT DISTINCT day FROM lake.events WHERE {chosen} ORDER BY day", **given)
    written = 0
    for (day,) in days:
        for batch in lake.batches(_EVENTS.format(chosen=chosen), day=day, **given):
            events = batch.to_pylist()
            out.writelines(
                json.dumps(api_activity(each), ensure_ascii=True, allow_nan=False) + "\n"
                for each in events
            )
            written += len(events)
    return written


def api_activity(event: Mapping[str, Any]) -> dict[str, Any]:
    """One event of the lake as an OCSF object; times are milliseconds since 1970, and RFC 3339."""
    activity = _activity(event)
    severity_id, severity = INFORMATIONAL
    return {
        "activity_id": activity,
        "activity_name": _ACTIVITIES[activity],
        "category_uid": 6,
        "category_name": "Application Activity",
        "class_uid": 6003,
        "class_name": "API Activity",
        "type_uid": 600300 + activity,
        "type_name": f"API Activity: {_ACTIVITIES[activity]}",
        "time": milliseconds(event["ts"]),
        "time_dt": rfc3339(event["ts"]),
        "severity_id": severity_id,
        "severity": severity,
        **_status(event["status"]),
        "metadata": _metadata(event),
        "actor": _actor(event),
        "src_endpoint": _source(event["address"]),
        "api": _api(event),
        **_http(event),
        **({"resources": [{"uid": event["object"]}]} if event["object"] else {}),
        **_rest(event),
    }


def _activity(event: Mapping[str, Any]) -> int:
    if event["method"]:
        return _BY_METHOD.get(event["method"], 0)
    word = _FIRST_WORD.match(event["endpoint"].rpartition(":")[2])
    return _BY_WORD.get(word[0].lower(), 0) if word else 0


def _status(status: int | None) -> dict[str, Any]:
    if status is None:
        return {"status_id": 0, "status": "Unknown"}
    if status < 400:
        return {"status_id": 1, "status": "Success"}
    return {"status_id": 2, "status": "Failure"}


def _metadata(event: Mapping[str, Any]) -> dict[str, Any]:
    known = sources().get(event["source"])
    product = {"name": event["source"]} if known is None else {
        "name": known.title, "vendor_name": vendor_named(known.vendor).title,
    }  # fmt: skip
    return {
        "version": OCSF_VERSION,
        "uid": event["request_id"],
        "log_name": event["source"],
        "product": product,
        "profiles": ["datetime"],
    }


def _actor(event: Mapping[str, Any]) -> dict[str, Any]:
    principal = event["principal"]
    user = {"uid": principal or event["key_id"], "credential_uid": event["key_id"]}
    return {"user": user} | ({"session": {"issuer": principal}} if principal else {})


def _source(address: str) -> dict[str, Any]:
    return {address_field(address): address} if address else {"name": _NOWHERE}


def _api(event: Mapping[str, Any]) -> dict[str, Any]:
    named = _NAMED_CALL.fullmatch(event["endpoint"])
    call: dict[str, Any] = (
        {"operation": named[2], "service": {"name": named[1]}}
        if named
        else {"operation": event["endpoint"]}
    )
    return call | ({"response": {"code": event["status"]}} if event["status"] is not None else {})


def _http(event: Mapping[str, Any]) -> dict[str, Any]:
    request: dict[str, Any] = {}
    if event["method"] in _METHODS:
        request["http_method"] = event["method"]
    if event["user_agent"] is not None:
        request["user_agent"] = event["user_agent"]
    if _is_path(event["path"]):
        path, asked, query = event["path"].partition("?")
        request["url"] = {"path": path} | ({"query_string": query} if asked else {})
    found = {"http_request": request} if request else {}
    if event["status"] is not None and event["response_bytes"] is not None:
        found["http_response"] = {"code": event["status"], "length": event["response_bytes"]}
    return found


def _rest(event: Mapping[str, Any]) -> dict[str, Any]:
    """The duration, which OCSF has in whole milliseconds, and what it has no place for."""
    rest: dict[str, Any] = {"source": event["source"]}
    whole = None if event["duration_ms"] is None else round(event["duration_ms"])
    if event["key"] is not None:
        rest["key"] = event["key"]
    if event["method"] and event["method"] not in _METHODS:
        rest["method"] = event["method"]
    if event["path"] and not _is_path(event["path"]):
        rest["path"] = event["path"]
    if event["status"] is None and event["response_bytes"] is not None:
        rest["response_bytes"] = event["response_bytes"]
    if whole != event["duration_ms"]:
        rest["duration_ms"] = event["duration_ms"]
    if event["exposed"]:
        rest["exposed"] = True
    return ({} if whole is None else {"duration": whole}) | {"unmapped": {"keywatch": rest}}


def _is_path(path: str | None) -> bool:
    """Whether it is one; a log that names its calls may have something else there."""
    return path is not None and path.startswith("/")
