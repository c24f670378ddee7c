"""What came of a load, and of the demo."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from keywatch.model import Review
from keywatch.report.safe_text import printable

if TYPE_CHECKING:
    from keywatch.ingest import LoadReport

_ALERTS = ("revoke", "rotate", "investigate")


def render_load(report: LoadReport) -> str:
    """A load in a few lines: counts, what was there already, and the first rejects."""
    new = [file for file in report.files if not file.already_loaded]
    old = len(report.files) - len(new)
    lines = []
    if new:
        first = min((f.first_ts for f in new if f.first_ts), default=None)
        last = max((f.last_ts for f in new if f.last_ts), default=None)
        span = f", {first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M} UTC" if first and last else ""
        sources = " and ".join(sorted({f.source for f in new if f.source}))
        lines.append(
            f"Loaded {report.total('events'):,} events from {_count(len(new), 'file')}"
            f"{f' ({sources})' if sources else ''}{span}."
        )
    if old:
        lines.append(f"{_count(old, 'file')} loaded before: nothing changed.")
    if report.total("duplicates"):
        lines.append(f"{report.total('duplicates'):,} requests were there already.")
    if report.total("keyless"):
        lines.append(f"{report.total('keyless'):,} events have no key; they are kept apart.")
    if report.new_addresses:
        lines.append(
            f"{report.new_addresses:,} new addresses located (IP Geolocation by DB-IP, https://db-ip.com)."
        )
    if report.total("rejects"):
        lines.append(f"{report.total('rejects'):,} lines could not be read; the first:")
        lines += [f"  {printable(reject, max_length=160)}" for reject in report.first_rejects]
    return "\n".join(lines)


def render_demo_verdict(review: Review, truth: Iterable[Mapping[str, Any]]) -> str:
    """The review beside the sample's truth: found, missed, and innocent keys alerted."""
    by_key = {row["key_id"]: row for row in truth}
    stolen = {key_id for key_id, row in by_key.items() if row["stolen"]}
    actions = {case.key_id: case.action for case in review.cases}
    revoked = [key for key in stolen if actions.get(key) == "revoke"]
    looked_at = [key for key in stolen if actions.get(key) in ("rotate", "investigate")]
    missed = sorted(by_key[key]["theft"] for key in stolen if actions.get(key, "none") == "none")
    innocent = [key for key, action in actions.items() if action in _ALERTS and key not in stolen]
    missed_kinds = f" ({', '.join(missed)})" if missed else ""
    share = len(innocent) / max(1, len(by_key) - len(stolen))
    lines = [
        "The truth about this sample",
        f"  stolen keys           {len(stolen)} of {len(by_key)}",
        f"  named to revoke       {len(revoked)}",
        f"  named to investigate  {len(looked_at)}",
        f"  missed                {len(missed)}{missed_kinds}",
        f"  innocent but alerted  {len(innocent)} ({share:.1%} of the innocent keys)",
    ]
    return "\n".join(lines)


def _count(n: int, noun: str) -> str:
    return f"{n:,} {noun}{'' if n == 1 else 's'}"
