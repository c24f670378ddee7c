"""The search for planted secrets in short: each way once, loaded in this process."""

from __future__ import annotations

import random
from pathlib import Path

import duckdb

from keywatch.load.inventory import import_keys
from tests.conftest import Loading
from tests.torture.planted import MARK, files_under, marked, plant, shown_in


def test_nothing_planted_is_in_any_byte_of_a_lake(loading: Loading) -> None:
    random.seed(5)
    planted = plant(loading.folder / "in", 1)
    report = loading.load(planted.logs, max_reject_share=1.0)
    import_keys(loading.lake, planted.inventory)
    assert report.total("events") > 150
    assert report.total("rejects") == 8
    open_lake = files_under(loading.folder / "lake", whole=False)
    loading.lake.connection.close()
    closed_lake = files_under(loading.folder / "lake")
    assert shown_in(open_lake, planted.ways) == []
    assert shown_in(closed_lake, planted.ways) == []


def test_the_search_finds_what_was_planted(tmp_path: Path) -> None:
    random.seed(5)
    planted = plant(tmp_path, 1)
    found = shown_in(files_under(tmp_path), planted.ways)
    ways = {place.split(": ", 1)[1] for place in found}
    # In base64 no number can be read, a name is not in the bytes, and nothing undoes \u here.
    hidden = {way for way in planted.ways if "base64" in way or "file" in way or "escaped" in way}
    assert set(planted.ways) - hidden <= ways
    assert "something in base64" in ways


def test_the_search_finds_what_parquet_compresses(tmp_path: Path) -> None:
    secret = marked(0, 40)
    file = tmp_path / "x.parquet"
    text = f"{secret[:20]}' || repeat('x', 9999) || '{secret}"
    duckdb.sql(f"COPY (SELECT '{text}' AS t FROM range(9)) TO '{file}' (COMPRESSION zstd)")
    assert MARK in secret
    assert shown_in(files_under(tmp_path), ["planted"]) == [f"{file}: planted"]
