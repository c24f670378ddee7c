"""A lake's tables as an older Keywatch made them, to test upgrades; from the newest format back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from keywatch.lake.lake import FORMAT_VERSION

if TYPE_CHECKING:
    from keywatch.lake.lake import Lake

_NEW_TABLES: dict[int, tuple[str, ...]] = {
    8: ("questions", "answers"),
    7: ("alert_notes",),
    6: (),
    5: ("held_back", "review_queue", "maintenance", "left_out_files", "identity", "unlisted_keys"),
    4: ("new_networks",),
    3: ("alerts", "deliveries", "delivery_outcomes"),
}
"""What each format added. What an upgrade adds only where it is missing is left."""
_NEW_COLUMNS: dict[int, tuple[tuple[str, str], ...]] = {
    5: (
        ("rejects", "key_id"), ("rejects", "ts"), ("ingested_files", "waits_until"),
        ("ingested_files", "held_back"),
    ),
    4: (
        ("keys", "honey"), ("activity", "peak_per_minute"), ("verdicts", "origins"),
        ("verdicts", "families"), ("suppressions", "families"), ("activity_hours", "address"),
        ("replayed_visits", "network"), ("replayed_visits", "goes_on"),
        ("replayed_visits", "ruled"), ("replayed_visits", "moved"),
    ),
}  # fmt: skip
_OLD_TABLES: dict[int, tuple[str, ...]] = {
    5: ("CREATE TABLE lake.watches (load_id BIGINT, made_at TIMESTAMP)",),
    3: (
        "CREATE TABLE lake.deliveries (delivery_id VARCHAR, run_id VARCHAR, key_id VARCHAR, "
        "channel VARCHAR, due_at TIMESTAMP, sent_at TIMESTAMP, tries INTEGER, error VARCHAR)",
    ),
}
"""What a format's upgrade removes."""


def take_back(lake: Lake, version: int) -> None:
    """Give a lake that is being written the tables of format ``version`` (2 or later)."""
    assert set(_NEW_TABLES) == set(range(3, FORMAT_VERSION + 1)), "what did the newest format add?"
    for undone in range(FORMAT_VERSION, version, -1):
        for table in _NEW_TABLES[undone]:
            lake.execute(f"DROP TABLE lake.{table}")
        for table, column in _NEW_COLUMNS.get(undone, ()):
            lake.execute(f"ALTER TABLE lake.{table} DROP COLUMN {column}")
        for statement in _OLD_TABLES.get(undone, ()):
            lake.execute(statement)
    lake.execute(f"UPDATE lake.format SET version = {version}")
    if version < 5 and lake.folder is not None:
        (lake.folder / "data" / "lake.id").unlink()
