"""Indicators are of confirmed thefts alone, name no key, and stay the same objects."""

from __future__ import annotations

import gzip
import json
import re
from datetime import date, datetime
from pathlib import Path

import pytest

from keywatch import pipeline
from keywatch.report.stix import TheftAddress, stix_bundle
from tests.command import keywatch
from tests.review.test_least_privilege import flagged
from tests.test_pipeline import AWAY, SETTINGS, WEEK, daily, key, lake_of, line, theft

SEEN = datetime(2026, 10, 1, 3), datetime(2026, 10, 1, 3, 9)
ONE = TheftAddress(AWAY, *SEEN, 1, datetime(2026, 10, 5), datetime(2026, 10, 6))
SIX = TheftAddress("2001:db8::1", *SEEN, 3, datetime(2026, 10, 5), datetime(2026, 10, 5))
ID = re.compile(r"[a-z]+--[0-9a-f]{8}-[0-9a-f]{4}-5[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    """A theft from one address, and a private one that was flagged with it."""
    events = [*daily(date(2026, 9, 20), 15), *theft(), line("2026-10-01T04:00:00", ip="10.1.2.3")]
    made = lake_of(tmp_path, events, [key()])
    day = date(2026, 10, 1)
    flagged(made, ("key_1", day, "45.153.78.0/24"), ("key_1", day, "10.1.2.0/24"))
    return made


def test_only_what_a_verdict_calls_a_theft_is_an_indicator(lake: Path) -> None:
    empty = pipeline.theft_indicators(lake, SETTINGS)
    assert "objects" not in empty
    pipeline.give_verdict(
        lake, "key_1", "compromised", SETTINGS, by="ana", because="x", window=WEEK
    )
    bundle = pipeline.theft_indicators(lake, SETTINGS)
    maker, indicator = bundle["objects"]
    assert bundle["id"] == empty["id"]
    assert indicator["pattern"] == f"[ipv4-addr:value = '{AWAY}']"
    assert indicator["valid_from"] == "2026-10-01T03:00:00Z"
    assert indicator["created_by_ref"] == maker["id"]
    assert "key_1" not in json.dumps(bundle)
    pipeline.undo_verdict(lake, "key_1", SETTINGS, by="ana", because="x", window=WEEK)
    assert pipeline.theft_indicators(lake, SETTINGS) == empty


def test_ids_are_of_the_lake_and_the_address() -> None:
    maker, first, second = stix_bundle("one", [ONE, SIX])["objects"]
    assert second["pattern"] == "[ipv6-addr:value = '2001:db8::1']"
    assert (first["created"], first["modified"]) == ("2026-10-05T00:00:00Z", "2026-10-06T00:00:00Z")
    assert stix_bundle("one", [ONE])["objects"] == [maker, first]
    same_maker, of_another_lake = stix_bundle("other", [ONE])["objects"]
    assert same_maker == maker
    assert of_another_lake["id"] != first["id"]
    assert all(ID.fullmatch(each["id"]) for each in (maker, first, second, of_another_lake))


def test_a_key_or_a_window_is_no_part_of_it(lake: Path) -> None:
    ran = keywatch("lake", "export", "--lake", lake, "--format", "stix", "--key", "key_1")
    assert ran.code == 2
    assert "use it without a key or a window" in ran.err


def test_a_bundle_is_compressed_where_the_name_says_so(lake: Path, tmp_path: Path) -> None:
    file = tmp_path / "thefts.json.gz"
    assert (
        keywatch("lake", "export", "--lake", lake, "--format", "stix", "--output", file).code == 0
    )
    assert json.loads(gzip.decompress(file.read_bytes()))["type"] == "bundle"
