"""What must never happen to a lake: files of nobody's removed, or read and written by a query."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
import uuid
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest

import keywatch
from keywatch.errors import LakeDamagedError, LakeError, UsageError
from keywatch.lake import Lake
from keywatch.lake.attach import extension_file
from keywatch.lake.folder import Writing, remove_remains
from keywatch.load.ingest import load_files
from keywatch.settings import IngestSettings, LakeSettings
from keywatch.vendors import find_files
from tests.conftest import ROOT, Loading, NoWhere, events, listed_files

COUNT = "SELECT count(*) FROM lake.events"


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake of 30 events of one load; tests take copies of its folder."""
    folder = tmp_path_factory.mktemp("template")
    with Lake.open(folder / "lake", create=True) as lake:
        Loading(folder, lake).take(events(30))
    return folder


@pytest.fixture
def loaded(template: Path, tmp_path: Path) -> Path:
    shutil.copytree(template, tmp_path, dirs_exist_ok=True)
    return tmp_path / "lake"


def load(folder: Path, logs: Path, settings: LakeSettings | None = None) -> None:
    with Lake.open(folder, settings, create=True) as lake:
        load_files(lake, find_files([str(logs)]), IngestSettings(), NoWhere())


def contents(folder: Path) -> dict[Path, bytes]:
    return {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def run_and_die(code: str, *arguments: Path) -> None:
    """Run `code` in a process of its own, which has to end by ``os._exit(9)``."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)])},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 9, done.stderr


# -------------------------------------------------------------------------- whose the files are


def gone(folder: Path) -> None:
    (folder / "catalog.sqlite").unlink()


def empty(folder: Path) -> None:
    (folder / "catalog.sqlite").write_bytes(b"")


def only_the_mark(folder: Path) -> None:
    gone(folder)
    shutil.rmtree(folder / "data" / "main")


def only_the_files(folder: Path) -> None:
    empty(folder)
    (folder / "data" / "lake.id").unlink()


def a_new_one(folder: Path) -> None:
    gone(folder)
    with Lake.open(folder.parent / "new", create=True):
        pass
    shutil.copy(folder.parent / "new" / "catalog.sqlite", folder)


@pytest.mark.parametrize("damage", [gone, empty, only_the_mark, only_the_files, a_new_one])
def test_files_without_their_catalogue_are_damage_and_never_written(
    damage: Callable[[Path], None], loaded: Path
) -> None:
    damage(loaded)
    before = contents(loaded / "data")
    for create in (True, False):
        with pytest.raises(LakeDamagedError) as raised:
            Lake.open(loaded, create=create)
        assert raised.value.exit_code == 3
        assert str(loaded) in str(raised.value)
        assert contents(loaded / "data") == before
    if damage is not a_new_one:
        assert "keywatch lake repair" in str(raised.value)
    if damage is gone:
        assert not (loaded / "catalog.sqlite").exists()


def test_two_lakes_in_one_place_are_found_out(loaded: Path, tmp_path: Path) -> None:
    shared = LakeSettings(data_path=str(loaded / "data"))
    before = contents(loaded / "data")
    second = tmp_path / "second"
    with pytest.raises(LakeDamagedError, match=r"contains \d+ Parquet files"):
        Lake.open(second, shared, create=True)
    # One that was made before lakes had marks.
    with Lake.open(second, create=True):
        pass
    marks = {
        "first": before[loaded / "data" / "lake.id"],
        "second": (second / "data" / "lake.id").read_bytes(),
    }
    shutil.copytree(second / "data", loaded / "data", dirs_exist_ok=True)
    for mark, own, other in (("first", loaded, second), ("second", second, loaded)):
        (loaded / "data" / "lake.id").write_bytes(marks[mark])
        with Lake.open(own, shared):
            pass
        with pytest.raises(LakeDamagedError, match="Two lakes can't share one place"):
            Lake.open(other, shared)
    kept = {file: file.read_bytes() for file in before if file.name != "lake.id"}
    assert kept.items() <= before.items()
    assert len(kept) == len(before) - 1


def test_a_lost_mark_is_written_again_by_the_next_writer(loaded: Path) -> None:
    mark = loaded / "data" / "lake.id"
    text = mark.read_text()
    mark.unlink()
    with Lake.open(loaded) as lake:
        assert lake.value(COUNT) == 30
        assert not mark.exists()
        with lake.writing():
            pass
    assert mark.read_text() == text
    mark.write_text("")
    with pytest.raises(LakeDamagedError, match=r"lake\.id: contains no lake id"):
        Lake.open(loaded)


def test_a_lake_that_was_half_made_is_made_by_the_next(tmp_path: Path) -> None:
    half = """
        import os, sys
        from pathlib import Path
        from keywatch.lake import Lake
        Lake._commit = lambda self: os._exit(9)
        Lake.open(Path(sys.argv[1]), create=True)
    """
    run_and_die(half, tmp_path)
    assert list((tmp_path / "data").rglob("*.parquet"))
    with pytest.raises(LakeError, match="load a log first"):
        Lake.open(tmp_path)
    with Lake.open(tmp_path, create=True) as lake:
        assert set((tmp_path / "data").rglob("*.parquet")) == listed_files(lake)
    assert not (tmp_path / "writer.journal").exists()


def test_only_what_a_dead_writer_wrote_is_removed(loaded: Path, tmp_path: Path) -> None:
    strangers = [
        loaded / "data" / "report.parquet",
        loaded
        / "data"
        / "main"
        / "events"
        / "ducklake-01a215dd-916f-71e9-a576-2e79e4f3b6a1.parquet",
        loaded / "data" / "main" / "events" / f"ducklake-{uuid.uuid4()}.parquet",
    ]
    for file in strangers:
        file.write_bytes(b"somebody's")
    dies = """
        import os, sys
        from pathlib import Path
        from keywatch.lake import Lake
        with Lake.open(Path(sys.argv[1])) as lake, lake.writing():
            lake.execute("INSERT INTO lake.cases (run_id) VALUES ('lost')")
            lake.execute("DELETE FROM lake.events WHERE request_id = 'req_3'")
            os._exit(9)
    """
    with Lake.open(loaded) as lake:
        known = listed_files(lake)
    run_and_die(dies, loaded)
    assert len(set((loaded / "data").rglob("*.parquet")) - known) == 5
    with Lake.open(loaded) as lake:
        with lake.writing():
            lake.execute("INSERT INTO lake.cases (run_id) VALUES ('kept')")
        now = listed_files(lake)
        assert lake.value(COUNT) == 30
    assert set((loaded / "data").rglob("*.parquet")) == now | set(strangers)


def test_a_file_is_a_writers_only_if_name_and_time_say_so(tmp_path: Path) -> None:
    # Both of 2026-11-26 03:19:31.
    name = "ducklake-01a215dd-916f-71e9-a576-2e79e4f3b6a1.parquet"
    since = int(datetime.fromisoformat("2026-11-26T03:19:31+00:00").timestamp() * 1000)
    lake = str(uuid.uuid4())
    within = Writing(lake, since, since + 1000)
    for file in (name, "other.parquet", name.replace("-71e9-", "-41e9-")):
        (tmp_path / file).write_bytes(b"")
    later = [
        Writing(lake, since + 1000, since + 9000),
        Writing(lake, since),
        Writing(lake, 0, since - 1),
    ]
    assert remove_remains(tmp_path, later, ()) == 0
    assert remove_remains(tmp_path, [within], {name}) == 0
    assert remove_remains(tmp_path, [*later, within], ()) == 1
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        name.replace("-71e9-", "-41e9-"), "other.parquet"
    ]  # fmt: skip


# ------------------------------------------------------------------------------- what a query may

QUERIES = [
    "SELECT * FROM ducklake_expire_snapshots('lake', versions => [1])",
    "SELECT * FROM ducklake_cleanup_old_files('lake', cleanup_all => true)",
    "SELECT * FROM ducklake_delete_orphaned_files('lake', cleanup_all => true)",
    "SELECT * FROM ducklake_merge_adjacent_files('lake')",
    "SELECT * FROM ducklake_rewrite_data_files('lake')",
    "SELECT * FROM ducklake_flush_inlined_data('lake')",
    "SELECT * FROM ducklake_set_option('lake', 'parquet_version', '1')",
    "SELECT * FROM ducklake_add_data_files('lake', 'cases', 'x.parquet')",
    "SELECT * FROM sqlite_query('__ducklake_metadata_lake', 'DELETE FROM ducklake_snapshot')",
    "SELECT * FROM sqlite_scan('{lake}/catalog.sqlite', 'ducklake_snapshot')",
    "SELECT * FROM SQLITE_ATTACH('{lake}/catalog.sqlite')",
    "SELECT (SELECT count(*) FROM system.main.sqlite_scan('{lake}/catalog.sqlite', 'x'))",
    "WITH t AS (FROM read_text('/etc/passwd')) SELECT * FROM t",
    "SELECT * FROM read_text('/etc/passwd')",
    "SELECT * FROM read_csv('{lake}/key-hash.secret')",
    "SELECT * FROM read_blob('{lake}/data/../key-hash.secret')",
    "SELECT * FROM glob('{lake}/*')",
    "FROM '{lake}/key-hash.secret'",
    "FROM '/etc/passwd.csv'",
    "FROM query('FROM read_text(''/etc/passwd'')')",
    "COPY (SELECT 1) TO '{lake}/out.csv'",
    "COPY (SELECT 1) TO '{lake}/data/out.csv'",
    "EXPORT DATABASE '{lake}/out'",
    "ATTACH '{lake}/data/x.db'",
    "ATTACH '{lake}/catalog.sqlite' AS other (TYPE sqlite)",
    "DETACH lake",
    "INSTALL httpfs",
    "LOAD httpfs",
    "SET enable_external_access = true",
    "SET lock_configuration = false",
    "CALL ducklake_expire_snapshots('lake', versions => [1])",
    "DELETE FROM lake.events",
    "DELETE FROM __ducklake_metadata_lake.ducklake_snapshot",
    "CREATE TABLE lake.mine (a INTEGER)",
    "CREATE TEMP TABLE mine AS SELECT 1",
    "SELECT 1; DELETE FROM lake.events",
    "",
]


@pytest.mark.parametrize("query", QUERIES)
def test_a_lake_to_look_at_runs_one_select_of_its_tables(query: str, template: Path) -> None:
    lake = template / "lake"
    before = contents(lake / "data")
    view = keywatch.open(lake, frames="arrow")
    with pytest.raises(UsageError, match=r"one SELECT|a query here reads tables"):
        view.sql(query.replace("{lake}", str(lake)))
    assert contents(lake / "data") == before


def test_what_a_select_is_not_asked_is_refused_by_the_connection_too(loaded: Path) -> None:
    allowed = []
    before = contents(loaded / "data")
    with Lake.open(loaded) as lake:
        lake.look()
        for query in QUERIES[:-2]:
            if query == "DETACH lake":
                continue
            try:
                lake.rows(query.replace("{lake}", str(loaded)))
            except (Lake.Error, LakeError):
                continue
            allowed.append(query.split("(")[0].replace("{lake}", ""))
        assert lake.value(COUNT) == 30
    # None of these changes the lake: there is nothing to merge or to clean up. SQLite opens its own
    # files, so the check of the statement alone keeps them from a query, as it does a COPY into the
    # place of the Parquet files.
    assert set(allowed) <= {
        "SELECT * FROM ducklake_cleanup_old_files",
        "SELECT * FROM ducklake_merge_adjacent_files",
        "SELECT * FROM ducklake_rewrite_data_files",
        "SELECT * FROM ducklake_flush_inlined_data",
        "SELECT * FROM sqlite_scan",
        "SELECT * FROM SQLITE_ATTACH",
        "COPY ",
        "ATTACH '/data/x.db'",
        "ATTACH '/catalog.sqlite' AS other ",
        "CREATE TEMP TABLE mine AS SELECT 1",
    }
    assert {file: file.read_bytes() for file in before} == before
    with Lake.open(loaded) as lake:
        assert lake.value(COUNT) == 30


@pytest.mark.parametrize("place", ["data/", ""])
def test_a_lake_loads_no_extension_of_anybody_else(place: str, loaded: Path) -> None:
    # A good one, under a name that was not loaded yet: only the place is wrong.
    theirs = loaded / f"{place}theirs.duckdb_extension"
    shutil.copyfile(extension_file("postgres_scanner"), theirs)
    with Lake.open(loaded) as lake, pytest.raises(Lake.Error, match="extensions is disabled"):
        lake.execute(f"LOAD '{theirs}'")


def test_what_an_analyst_asks_goes_on_working(template: Path) -> None:
    view = keywatch.open(template / "lake", frames="arrow")
    keys = view.sql("SELECT DISTINCT key_id FROM lake.events")
    asked = """
        WITH days AS (SELECT unnest(range($days)) AS n)
        SELECT count(*)::BIGINT AS n, any_value(day) FROM lake.events
        JOIN keys USING (key_id), days, generate_series(1, 2)
        WHERE key_id NOT IN (SELECT key_id FROM verdicts_in_force())
    """
    assert len(view.sql(asked, keys=keys, days=2)) == 1
