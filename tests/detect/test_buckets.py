"""The window's tables made bucket by bucket are those that are made at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from keywatch import pipeline, sample
from keywatch.detect import detectors, scoring
from keywatch.detect.buckets import Buckets, families
from keywatch.detect.detectors import Detector
from keywatch.lake import Lake
from keywatch.lake.weeks import last_full_week
from keywatch.model import Review, Window
from keywatch.review import making
from keywatch.settings import LakeSettings, ReviewSettings, Settings
from keywatch.text.document import review_document
from keywatch.vendors import catalogue_by_source
from tests.findings import findings

SETTINGS = Settings(review=ReviewSettings(power_keys=5, replayed_windows=1))
AT_ONCE = 5


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake of 24 keys, with flags of a review before."""
    folder = tmp_path_factory.mktemp("buckets")
    world = sample.generate(
        folder / "world", keys=24, weeks=6, seed=21, thefts=3, events_per_key_day=3
    )
    pipeline.ingest(folder / "lake", [str(world.logs[0].parent)], SETTINGS)
    pipeline.import_keys(folder / "lake", world.inventory, SETTINGS)
    with Lake.open(folder / "lake") as lake:
        week = last_full_week(lake)
    pipeline.review(folder / "lake", before(week), SETTINGS)
    return folder / "lake"


def before(week: Window) -> Window:
    return Window(week.start - timedelta(weeks=1), week.end - timedelta(weeks=1))


@pytest.fixture
def lake(folder: Path) -> Iterator[Lake]:
    with Lake.open(folder) as lake, lake.reading():
        yield lake


def rows_of(lake: Lake) -> dict[str, list[str]]:
    """All that the window's tables contain; a sum of doubles depends on their order."""
    columns = lake.rows(
        "SELECT table_name, string_agg(CASE data_type WHEN 'DOUBLE' "
        "THEN format('round({}, 6)', column_name) ELSE column_name END, ', ' "
        "ORDER BY column_index) FROM duckdb_columns() "
        "WHERE database_name = 'temp' AND NOT internal GROUP BY table_name"
    )
    wanted = {"places", "expected_endpoints"}
    wanted |= {name for name, is_table in detectors.tables_of_window().items() if is_table}
    return {
        name: sorted(repr(row) for row in lake.rows(f"SELECT {shown} FROM temp.{name}"))
        for name, shown in columns
        if name in wanted
    }


def span_of(lake: Lake, keys_at_once: int) -> Buckets:
    window = last_full_week(lake)
    start = window.start.date() - timedelta(days=90)
    end = window.end.date()
    return Buckets.of_span(lake, start, end, catalogue_by_source(), keys_at_once)


def test_all_tables_are_those_that_are_made_at_once(lake: Lake) -> None:
    window = last_full_week(lake)
    span_of(lake, 1000).prepare_window(lake, window, 90)
    at_once = rows_of(lake)
    buckets = span_of(lake, AT_ONCE)
    assert buckets.count > 2
    buckets.prepare_window(lake, before(window), 90)
    assert rows_of(lake) != at_once
    buckets.prepare_window(lake, window, 90)
    assert rows_of(lake) == at_once
    assert len(at_once) == sum(detectors.tables_of_window().values()) + 2
    assert sum(map(bool, at_once.values())) > len(at_once) / 2


def test_kin_are_in_one_bucket_and_others_are_not_more_than_asked_for(lake: Lake) -> None:
    span_of(lake, AT_ONCE)
    of_key: dict[str, int] = dict(lake.rows("FROM key_buckets"))
    owners: dict[str, set[int]] = {}
    sizes: dict[int, int] = {}
    for key_id, owner, replaces in lake.rows(
        "SELECT key_id, owner, replaces FROM inventory_in_force()"
    ):
        owners.setdefault(owner, set()).add(of_key[key_id])
        assert replaces is None or of_key.get(replaces, of_key[key_id]) == of_key[key_id]
    for key_id, bucket in of_key.items():
        assert key_id in detectors.kin(lake, [key_id])
        assert {of_key[kin] for kin in detectors.kin(lake, [key_id])} == {bucket}
        sizes[bucket] = sizes.get(bucket, 0) + 1
    assert sorted(sizes) == list(range(len(sizes)))
    largest = max(len(detectors.kin(lake, [key_id])) for key_id in of_key)
    assert max(sizes.values()) <= max(AT_ONCE, largest)


def test_without_keys_there_are_no_families() -> None:
    with Lake.in_memory() as lake:
        detectors.begin_span(lake, date(2026, 1, 1), date(2026, 2, 1))
        assert families(lake) == []


def test_to_many_keys_models_are_fitted_by_some(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    window = last_full_week(lake)
    span_of(lake, 1000).prepare_window(lake, window, 90)
    (forest,) = detectors.to_fit(detectors.load_detectors())
    assert detectors.keys_to_fit(lake) is None
    monkeypatch.setattr(detectors, "MOST_FITTED_KEYS", 12)
    drawn = detectors.keys_to_fit(lake)
    assert drawn is not None
    assert len(drawn) == 12
    fitted: dict[str, Any] = {}
    detectors.run(lake, forest, window, fitted, drawn)
    of_some = detectors.rows_to_fit(lake, forest, window, drawn)
    assert 0 < len(of_some) < len(detectors.rows_to_fit(lake, forest, window, None))
    same = detectors.fitted_to(forest, of_some)
    assert fitted[forest.id].ordinary.tolist() == same.ordinary.tolist()


def test_detectors_have_the_tables_of_one_bucket_at_a_time(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    window = last_full_week(lake)
    loaded = scoring.gathered(detectors.load_detectors())
    seen: list[int] = []
    run = detectors.run

    def counted(lake: Lake, detector: Detector, *others: Any) -> None:
        seen.append(lake.value("SELECT count(DISTINCT key_id) FROM baseline_days"))
        run(lake, detector, *others)

    monkeypatch.setattr(detectors, "run", counted)
    buckets = span_of(lake, AT_ONCE)
    drawn = detectors.keys_to_fit(lake)
    found = {}
    for is_last in (False, True):
        found[is_last] = buckets.score(lake, window, 90, loaded, loaded, {}, drawn, is_last=is_last)
    whole = lake.value("SELECT count(DISTINCT key_id) FROM baseline_days")
    assert len(seen) == 2 * buckets.count * len(loaded)
    assert max(seen) < whole
    # What a review tells of the window reads all of its tables.
    assert lake.value("SELECT count(DISTINCT key_id) FROM evidence") > max(seen)
    at_once = span_of(lake, 1000).score(lake, window, 90, loaded, loaded, {}, drawn, is_last=True)
    assert max(seen) == whole
    for each in found.values():
        assert each.visits == at_once.visits
        assert each.bits.toarray().tolist() == at_once.bits.toarray().tolist()
        assert each.cases.tolist() == at_once.cases.tolist()


def test_a_detector_from_outside_that_compares_with_peers_has_the_tables_of_all_keys(
    lake: Lake, tmp_path: Path
) -> None:
    window = last_full_week(lake)
    counting = replace(
        detectors.load_detectors()[0],
        id="keys_like_it",
        kind="sql",
        history="peers",
        folder=tmp_path,
        params={},
        sql="-- grain: visit; reads visits, baseline_days\n"
        "SELECT key_id, day, prefix, 1.0 AS bits, '' AS typical, (SELECT count(DISTINCT key_id) "
        "FROM baseline_days)::VARCHAR AS actual, '' AS explanation FROM visits",
    )
    said = []
    for keys_at_once in (1000, AT_ONCE):
        buckets = span_of(lake, keys_at_once)
        buckets.score(lake, window, 90, [counting], [counting], {}, None, is_last=True)
        said.append(lake.rows("SELECT key_id, actual FROM evidence ORDER BY ALL"))
    assert said[0] == said[1] != []


def test_a_review_says_the_same(folder: Path) -> None:
    def of(keys_at_once: int) -> Review:
        storage = LakeSettings(keys_at_once=keys_at_once)
        settings = SETTINGS.model_copy(update={"storage": storage})
        with Lake.open(folder, storage) as lake, lake.reading():
            answer, _ = making.make_review(lake, last_full_week(lake), settings)
        return answer

    at_once, in_buckets = of(1000), of(AT_ONCE)
    assert in_buckets.alerted()
    assert in_buckets.coverage.power
    assert findings(review_document(in_buckets)) == findings(review_document(at_once))
    assert in_buckets.coverage == at_once.coverage
    assert in_buckets.run == at_once.run
