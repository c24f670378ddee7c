"""Shared arithmetic of the lake's SQL."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from keywatch.lake import Lake


@pytest.fixture(scope="module")
def scratch() -> Iterator[Lake]:
    lake = Lake.scratch()
    yield lake
    lake.connection.close()


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("2026-09-30T10:00:01Z", "2026-09-30 10:00:01"),
        ("2026-09-30t10:00:01z", "2026-09-30 10:00:01"),
        ("2026-09-30T10:00:02.123456789Z", "2026-09-30 10:00:02.123456"),
        ("2026-09-30 10:00:01 UTC", "2026-09-30 10:00:01"),
        ("2026-09-30T12:00:01+02:00", "2026-09-30 10:00:01"),
        ("2026-09-30T12:00:01+0200", "2026-09-30 10:00:01"),
        ("2026-09-30 06:30:01.5 -03:30", "2026-09-30 10:00:01.5"),
        # A leap second is the second before it.
        ("2016-12-31T23:59:60Z", "2016-12-31 23:59:59"),
        ("2017-01-01T00:59:60.7+01:00", "2016-12-31 23:59:59"),
        # The hour that a clock shows twice in autumn is two by its offsets.
        ("2026-10-25T02:30:00+02:00", "2026-10-25 00:30:00"),
        ("2026-10-25T02:30:00+01:00", "2026-10-25 01:30:00"),
        # Seconds, milli-, micro- and nanoseconds since 1970.
        ("1790000000", "2026-09-21 14:13:20"),
        ("1790000000.123", "2026-09-21 14:13:20.123"),
        ("1790000000123", "2026-09-21 14:13:20.123"),
        ("1790000000123456", "2026-09-21 14:13:20.123456"),
        ("1790000000123456789", "2026-09-21 14:13:20.123456"),
        # The clocks that are the most ahead, and an hour alone.
        ("2026-10-01T00:00:01+14:00", "2026-09-30 10:00:01"),
        ("2026-09-29T22:00:01-12", "2026-09-30 10:00:01"),
        ("2026-09-30T23:45:01+13:45", "2026-09-30 10:00:01"),
        ("30/Sep/2026:12:00:01 +0200", "2026-09-30 10:00:01"),
        ("01/Oct/2026:00:00:01 +1400", "2026-09-30 10:00:01"),
        # No place on earth has such an offset.
        ("2026-09-30T10:00:01+99:99", None),
        ("2026-09-30T10:00:01+25:00", None),
        ("2026-09-30T10:00:01-2500", None),
        ("2026-09-30T10:00:01+24", None),
        ("2026-09-30T10:00:01+14:01", None),
        ("2026-09-30T10:00:01+02:60", None),
        ("30/Sep/2026:10:00:01 +9999", None),
        ("30/Sep/2026:10:00:01 +1430", None),
        ("30/Sep/2026:10:00:01 +0260", None),
        # What is no time.
        ("2026-09-30T10:60:00Z", None),
        ("2026-13-01T10:00:00+00:00", None),
        ("2026-09-30", None),
        ("12", None),
        ("99999999999999", None),
        ("when", None),
        ("", None),
    ],
)
def test_times_are_utc_however_they_are_written(
    text: str, instant: str | None, scratch: Lake
) -> None:
    assert scratch.value("SELECT utc($text) = $instant::TIMESTAMP", text=text, instant=instant) in (
        (True,) if instant else (None,)
    )


@pytest.mark.parametrize(
    ("text", "zone", "instant"),
    [
        ("2026-09-30 10:00:01", None, None),
        ("2026-09-30 10:00:01", "UTC", "2026-09-30 10:00:01"),
        ("2026-09-30T10:00:01.000000000", "UTC", "2026-09-30 10:00:01"),
        ("2026-09-30 10:00:01,250", "UTC", "2026-09-30 10:00:01.25"),
        ("2016-12-31 23:59:60", "UTC", "2016-12-31 23:59:59"),
        ("2026-09-30 12:00:01", "Europe/Berlin", "2026-09-30 10:00:01"),
        ("2026-12-30 12:00:01", "Europe/Berlin", "2026-12-30 11:00:01"),
        # An offset wins over the zone.
        ("2026-09-30T12:00:01+02:00", "America/New_York", "2026-09-30 10:00:01"),
    ],
)
def test_a_time_without_an_offset_is_of_the_zone(
    text: str, zone: str | None, instant: str | None, scratch: Lake
) -> None:
    at = scratch.value("SELECT utc($text, zone := $zone)", text=text, zone=zone)
    assert at == (instant and scratch.value("SELECT $text::TIMESTAMP", text=instant))
