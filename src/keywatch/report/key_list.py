"""All keys, and what a report of leaked ones came to, for people and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from keywatch.review.key_list import LISTED_DAYS, ListedKey
from keywatch.text.phrases import count, listed
from keywatch.text.safe_text import printable

if TYPE_CHECKING:
    from keywatch.load.leaks import LeakReport

_HEADER = (
    "key", "name", "owner", "environment", "created", "last use", "requests", "places",
    "rotation", "scopes used", "state",
)  # fmt: skip
_MOST_LENGTH = 32
_MOST_COUNTRIES = 3
_MOST_KEYS = 20


def render_keys(keys: Sequence[ListedKey]) -> str:
    """A line a key, in columns; what is not known is ``-``."""
    if not keys:
        return (
            "No keys: the lake has neither a log nor an inventory. Load a log with keywatch "
            "ingest, an inventory with keywatch keys import.\n"
        )
    rows = [_HEADER, *map(_cells, keys)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    note = (
        f"{count(len(keys), 'key')}. Requests, places and scopes used are of the last "
        f"{LISTED_DAYS} days of the log."
    )
    return "\n".join([*lines, "", note, ""])


def _cells(one: ListedKey) -> tuple[str, ...]:
    return (
        printable(one.key_id, 48),
        _text(one.name),
        _text(one.owner),
        _text(one.environment),
        _day(one.created_at),
        _day(one.last_use),
        f"{one.requests:,}",
        _places(one),
        _rotation(one.rotation_in_days),
        _scopes(one),
        f"{one.state}, leaked" if one.leaked else one.state,
    )


def _text(text: str | None) -> str:
    return printable(text, _MOST_LENGTH) if text else "-"


def _day(moment: datetime | None) -> str:
    return "-" if moment is None else moment.date().isoformat()


def _places(one: ListedKey) -> str:
    if not one.networks:
        return "-"
    where = f" ({listed(one.countries, _MOST_COUNTRIES)})" if one.countries else ""
    return printable(f"{count(one.networks, 'network')}{where}", _MOST_LENGTH)


def _rotation(days: int | None) -> str:
    if days is None:
        return "-"
    return f"overdue {count(-days, 'day')}" if days < 0 else f"in {count(days, 'day')}"


def _scopes(one: ListedKey) -> str:
    if one.scopes is None or one.scopes_used is None:
        return "-"
    return f"{one.scopes_used} of {len(one.scopes)}"


def key_document(keys: Sequence[ListedKey]) -> dict[str, Any]:
    """The keys as JSON values; times are RFC 3339."""
    rows = [{name: _json_value(value) for name, value in asdict(one).items()} for one in keys]
    return {"days": LISTED_DAYS, "keys": rows}


def _json_value(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.replace(tzinfo=UTC).isoformat().replace("+00:00", "Z")
    return list(value) if isinstance(value, tuple) else value


def render_leaks(report: LeakReport) -> str:
    """What was read, and what of it asks for an action; keys in force first."""
    if not report.finds:
        return f"{report.title}: no findings"
    lines = [f"{report.title}: {count(report.finds, 'finding')} read, {report.new:,} new"]
    keys = sorted(report.keys, key=lambda one: not one.is_in_force)
    for one in keys[:_MOST_KEYS]:
        who = ", ".join(printable(text) for text in (one.name, one.owner) if text)
        what = "in force: revoke it" if one.is_in_force else "revoked or expired"
        lines.append(f"  {printable(one.key_id)}{f' ({who})' if who else ''}: {what}")
    if more := keys[_MOST_KEYS:]:
        in_force = sum(one.is_in_force for one in more)
        lines.append(
            f"  and {count(len(more), 'more key')}, {in_force:,} in force (keywatch keys list)"
        )
    if report.unknown:
        lines.append(
            f"  {count(report.unknown, 'finding matches', 'findings match')} no key in the "
            "inventory or the log; matched again when the inventory or the log has the key"
        )
    return "\n".join(lines)
