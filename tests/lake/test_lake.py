"""The lake's transactions: readers, writers, and a writer that dies."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from keywatch.errors import LakeBusyError, LakeDamagedError, LakeError
from keywatch.lake import FORMAT_VERSION, METADATA, Lake, attach, utc_now
from keywatch.lake import lake as lake_module
from keywatch.settings import LakeSettings
from tests.conftest import ROOT, Loading, event, events, listed_files, tables_of
from tests.forked import Forked
from tests.lake.loader import CHUNK_BYTES, load, spill_and_die
from tests.lake.older_formats import take_back
from tests.long import long_form


def start(code: str, *arguments: str | Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)])},
    )


def finish(process: subprocess.Popen[str]) -> str:
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return out


def wait_for(condition: Callable[[], Any], process: Forked) -> None:
    """Wait until `condition` holds, or the process has ended."""
    deadline = time.monotonic() + 600
    while not condition():
        assert time.monotonic() < deadline, process.said
        if process.ends(0.002):
            return


# --------------------------------------------------------------------------------- opening a lake


def test_a_small_lake_is_read_on_one_core(
    loading: Loading, monkeypatch: pytest.MonkeyPatch
) -> None:
    loading.take(events(1), "one.jsonl")
    folder = loading.lake.folder
    assert folder is not None
    monkeypatch.delitem(attach.CONFIG, "threads")

    def threads(settings: LakeSettings) -> int:
        with Lake.open(folder, settings) as lake:
            return int(lake.value("SELECT current_setting('threads')"))

    assert threads(LakeSettings()) == 1
    assert threads(LakeSettings(threads=3)) == 3
    monkeypatch.setattr(lake_module, "_SMALL_ROWS", 0)
    monkeypatch.setitem(attach.CONFIG, "threads", 5)
    assert threads(LakeSettings()) == 5


def test_a_lake_must_be_made_first(tmp_path: Path) -> None:
    with pytest.raises(LakeError, match="no lake found there; load a log first"):
        Lake.open(tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_a_new_lake_is_private_and_opens_again(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "lake"
    with Lake.open(folder, create=True) as lake:
        assert lake.value("SELECT version FROM lake.format") == FORMAT_VERSION
        first = lake.snapshot
    with Lake.open(folder) as lake:
        assert lake.snapshot == first
    for path in (folder, folder / "data", folder / "tmp"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700


@pytest.mark.parametrize("content", [b"no database" * 100, b""], ids=["text", "empty"])
def test_a_catalogue_that_is_none_is_said_to_be_damaged(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "catalog.sqlite").write_bytes(content)
    with pytest.raises(LakeError) as raised:
        Lake.open(tmp_path)
    assert str(tmp_path) in str(raised.value)
    assert raised.value.exit_code == 3


def test_a_lake_of_another_format_is_refused(tmp_path: Path) -> None:
    with Lake.open(tmp_path, create=True) as lake, lake.writing():
        lake.execute("UPDATE lake.format SET version = 99")
    with pytest.raises(LakeDamagedError, match="lake format 99, but this Keywatch reads 8"):
        Lake.open(tmp_path)


def test_a_lake_of_an_older_format_is_upgraded_and_keeps_its_rows(tmp_path: Path) -> None:
    columns = (
        "SELECT table_name, column_name, data_type FROM duckdb_columns() "
        "WHERE database_name = 'lake' ORDER BY ALL"
    )
    with Lake.open(tmp_path / "new", create=True) as lake:
        new = lake.rows(columns)
    with Lake.open(tmp_path / "old", create=True) as lake, lake.writing():
        lake.execute("INSERT INTO lake.rejects VALUES (1, 2, 3, 'why', 'text', NULL, NULL)")
        for day in ("2020-01-01", "9999-12-31"):
            lake.execute(
                "INSERT INTO lake.suppressions VALUES ('s', 'v', 'k', 'AS64496', 'ana', 'moved', "
                f"DATE '2019-10-01', DATE '{day}', NULL)"
            )
        take_back(lake, 2)
        lake.execute(
            "INSERT INTO lake.events BY NAME SELECT 'k' AS key_id, '192.0.2.1' AS address, "
            "TIMESTAMP '2026-09-30 10:20:00' AS ts, 1 AS load_id"
        )
    for _ in range(2):
        with Lake.open(tmp_path / "old") as lake:
            assert lake.value("SELECT version FROM lake.format") == FORMAT_VERSION
            assert lake.rows(columns) == new
            assert lake.rows("FROM lake.rejects") == [(1, 2, 3, "why", "text", None, None)]
            families = ["origin", "endpoints", "client", "all"]
            ended, cut = lake.rows(
                "SELECT ends_on, families FROM lake.suppressions ORDER BY ends_on"
            )
            assert ended == (date(2020, 1, 1), families)
            assert cut[1] == families
            assert timedelta(days=179) <= cut[0] - utc_now().date() <= timedelta(days=181)
            assert lake.rows("FROM lake.activity_hours") == [
                ("k", datetime(2026, 9, 30, 10), "192.0.2.1", 1, 1)
            ]


def test_a_lake_in_memory_has_the_same_tables(tmp_path: Path) -> None:
    columns = (
        "SELECT table_name, column_name, data_type FROM duckdb_columns() "
        "WHERE database_name = 'lake' ORDER BY ALL"
    )
    with Lake.in_memory() as memory, Lake.open(tmp_path, create=True) as folder:
        assert memory.rows(columns) == folder.rows(columns)


# ------------------------------------------------------------------------------------ transactions


@pytest.mark.parametrize(
    "value",
    [
        None, True, -7, 2**40, 0.1, 1e-300, float("inf"),
        "", "it's \\' ''", "-- $other\n; DROP TABLE t",
        "\0 $other \0", "“…” \u202e", datetime(2026, 9, 28, 1, 2, 3, 4), date(2026, 9, 28),
        ["a'", None, "$other"], [1.5, -2.0],
    ],
)  # fmt: skip
def test_a_value_in_a_query_stays_that_value(kept_lake: Lake, value: Any) -> None:
    query = """
        -- $value
        /* $value
           $value */
        SELECT $value AS given, '$value' AS "$value", 1-$other AS difference
    """
    assert kept_lake.records(query, value=value, other=-1.5) == [
        {"given": value, "$value": "$value", "difference": 2.5}
    ]


def test_a_value_that_sql_has_no_literal_for_is_refused(kept_lake: Lake) -> None:
    with pytest.raises(TypeError, match="bytes"):
        kept_lake.value("SELECT $value", value=b"")


def test_a_planned_query_reads_what_is_registered_now() -> None:
    count = "SELECT count(*) AS n, any_value(typeof(a)) AS kind FROM given"
    tables = [pa.table({"a": [1, 2, 3]}), pa.table({"a": [4]}), pa.table({"a": ["x", "y"]})]
    with Lake.scratch() as scratch:
        found = []
        for table in tables:
            with scratch.registered("given", table):
                found += scratch.planned(count).to_pylist()
        assert found == [
            {"n": 3, "kind": "BIGINT"}, {"n": 1, "kind": "BIGINT"}, {"n": 2, "kind": "VARCHAR"}
        ]  # fmt: skip


def test_a_steady_value_is_asked_once_a_snapshot(loading: Loading) -> None:
    lake, asked = loading.lake, "SELECT count(*) FROM lake.events WHERE key_id <> $key_id"
    found = []
    for count in (2, 5):
        loading.take(events(count), f"{count}.jsonl")
        found.append(lake.steady_value(asked, key_id="x"))
        with lake.reading():
            found += [lake.steady_value(asked, key_id="x") for _ in range(2)]
            assert len(lake._values) == 1
    assert found == [2, 2, 2, 5, 5, 5]


def test_what_is_undone_leaves_a_lake_in_memory_empty() -> None:
    case = pa.table({"run_id": ["r"]})
    with Lake.in_memory() as lake:
        for fails in (False, True, False):
            with suppress(ZeroDivisionError), lake.undone():
                with lake.writing(), lake.registered("case", case):
                    lake.execute('INSERT INTO lake.cases BY NAME FROM "case"')
                lake.execute("CREATE OR REPLACE TEMP TABLE kept AS FROM lake.cases")
                assert lake.value("SELECT count(*) FROM kept") == 1
                if fails:
                    raise ZeroDivisionError
            assert lake.value("SELECT count(*) FROM lake.cases") == 0
            assert lake.value("SELECT count(*) FROM duckdb_tables() WHERE temporary") == 0
        with lake.writing():
            lake.execute("INSERT INTO lake.cases (run_id) VALUES ('r')")
        assert lake.value("SELECT count(*) FROM lake.cases") == 1


def test_a_slow_query_writes_nothing_to_standard_output(tmp_path: Path) -> None:
    shown = "SELECT current_setting('enable_progress_bar')"
    with Lake.open(tmp_path / "lake", create=True) as lake, Lake.scratch() as scratch:
        assert not lake.value(shown)
        assert not scratch.value(shown)


def test_writing_is_all_or_nothing(loading: Loading) -> None:
    lake = loading.lake

    def write(run: str, *, fail: bool) -> None:
        with lake.writing():
            lake.execute("INSERT INTO lake.cases (run_id) VALUES ($run)", run=run)
            if fail:
                raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write("lost", fail=True)
    write("kept", fail=False)
    assert lake.rows("SELECT run_id FROM lake.cases") == [("kept",)]


def test_the_catalogue_states_that_tables_are_empty_until_they_are_not(loading: Loading) -> None:
    lake = loading.lake
    counted = f"""
        SELECT table_name, record_count, next_row_id
        FROM {METADATA}.ducklake_table_stats JOIN {METADATA}.ducklake_table USING (table_id)
        WHERE table_name IN ('verdicts', 'suppressions') ORDER BY ALL
    """
    assert lake.rows(counted) == [("suppressions", 0, 0), ("verdicts", 0, 0)]
    assert lake.rows("FROM lake.suppressions") == []
    keys: tuple[str | None, ...] = ("key_1", None, "key_2")
    for key in keys:
        with lake.writing():
            lake.execute("INSERT INTO lake.suppressions (key_id) VALUES ($key)", key=key)
    assert lake.rows(counted) == [("suppressions", 3, 3), ("verdicts", 0, 0)]
    of = "SELECT count(*) FROM lake.suppressions WHERE key_id"
    assert [lake.value(f"{of} {this}") for this in ("IS NULL", "= 'key_2'", "> 'key_1'")] == [1] * 3


def test_reading_sees_one_snapshot(loading: Loading) -> None:
    loading.take(events(3), "a.jsonl")
    with Lake.open(loading.folder / "lake") as reader, reader.reading():
        count = "SELECT count(*) FROM lake.events"
        assert reader.value(count) == 3
        snapshot = reader.snapshot
        reader.execute("CREATE TEMP TABLE seen AS FROM lake.events")
        loading.take(events(5), "b.jsonl")
        assert reader.value(count) == 3
        assert reader.snapshot == snapshot
        with pytest.raises(Lake.Error):
            reader.execute("DELETE FROM lake.events")
    assert loading.lake.value(count) == 5


def test_a_brief_reading_sees_one_snapshot_and_ends_with_an_error(loading: Loading) -> None:
    loading.take(events(3), "a.jsonl")
    count = "SELECT count(*) FROM lake.events"
    with Lake.open(loading.folder / "lake") as reader:
        with reader.reading_briefly():
            assert reader.steady_value(count) == 3
            loading.take(events(5), "b.jsonl")
            assert reader.value(count) == 3
            assert len(reader._values) == 1
        assert reader.steady_value(count) == 5
        with pytest.raises(Lake.Error, match="read-only"), reader.reading_briefly():
            reader.execute("DELETE FROM lake.events")
        with reader.reading(), reader.reading_briefly():
            assert reader.value(count) == 5
        with reader.writing():
            reader.execute("DELETE FROM lake.events WHERE false")


def test_a_registered_table_can_change_and_survives_a_rollback(loading: Loading) -> None:
    lake = loading.lake

    def fail_with(table: pa.Table) -> None:
        with lake.writing(), lake.registered("words", table):
            assert lake.rows("FROM words") == [(1,)]
            raise ZeroDivisionError

    for name in ("one", "two"):
        with lake.registered("words", pa.table({"word": [name]})):
            assert lake.rows("FROM words") == [(name,)]
        assert lake.rows("FROM words") == []
        with pytest.raises(ZeroDivisionError):
            fail_with(pa.table({"n": [1]}))


def test_another_process_sees_the_last_commit_while_a_load_is_open(loading: Loading) -> None:
    loading.take(events(3), "a.jsonl")
    reader = """
        import sys
        from pathlib import Path
        from keywatch.lake import FORMAT_VERSION, Lake
        with Lake.open(Path(sys.argv[1])) as lake:
            print(lake.value("SELECT count(*) FROM lake.events"))
    """
    lake = loading.lake
    with lake.writing():
        lake.execute("INSERT INTO lake.events SELECT * FROM lake.events")
        assert lake.value("SELECT count(*) FROM lake.events") == 6
        assert finish(start(reader, loading.folder / "lake")) == "3\n"
    assert finish(start(reader, loading.folder / "lake")) == "6\n"


def test_a_second_writer_waits_says_so_and_succeeds(loading: Loading) -> None:
    log = loading.write(events(4))
    with loading.lake.writing():
        second = Forked.calling(load, loading.folder / "lake", log, 600.0)
        waits = f"process {os.getpid()} is writing to {loading.folder / 'lake'}; waiting for it\n"
        wait_for(lambda: second.said == f"open\n{waits}", second)
    assert second.ends()
    assert second.said == f"open\n{waits}done\n"
    assert loading.lake.value("SELECT count(*) FROM lake.events") == 4


def test_a_second_writer_that_may_not_wait_says_who_is_writing(loading: Loading) -> None:
    settings = LakeSettings(wait_seconds=0)
    with (
        loading.lake.writing(),
        Lake.open(loading.folder / "lake", settings) as second,
        pytest.raises(LakeBusyError, match=f"process {os.getpid()} is still writing") as raised,
        second.writing(),
    ):
        pass
    assert raised.value.exit_code == 3


def test_a_catalogue_that_stays_locked_is_busy_not_damaged(loading: Loading) -> None:
    holder = """
        import sqlite3, sys
        catalogue = sqlite3.connect(sys.argv[1], isolation_level=None)
        catalogue.execute("BEGIN EXCLUSIVE")
        print("held", flush=True)
        sys.stdin.read()
    """
    settings = LakeSettings(wait_seconds=0.2)
    insert = "INSERT INTO lake.cases (run_id) VALUES ($run)"
    with Lake.open(loading.folder / "lake", settings) as lake:
        other = start(holder, loading.folder / "lake" / "catalog.sqlite")
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(LakeBusyError, match="nothing was stored"), lake.writing():
            lake.execute(insert, run="x")
        other.communicate("")
        with lake.writing():
            lake.execute(insert, run="y")
        assert lake.rows("SELECT run_id FROM lake.cases") == [("y",)]


# ------------------------------------------------------------------------------------- the crash

KILLS, LEAST_STAGES = long_form((10, 4), (5, 3))


def many_logs(loading: Loading) -> Path:
    """Logs of a dozen chunks with duplicates, bad lines and full keys among them."""
    for n in range(6):
        rows = [
            event(
                timestamp=f"2026-09-{n + 1:02}T{i // 3600:02}:{i // 60 % 60:02}:{i % 60:02}Z",
                request_id=f"r{n}-{i if i % 50 else i // 2}",
                ip=f"84.{n}.{i % 250}.7",
                key_id=f"key_{i % 40}",
                endpoint=f"/v1/checks/{i % 90}" + ("?key=ply_live_" + "a1" * 12) * (i % 97 == 0),
            )
            for i in range(2000)
        ]
        loading.write(rows, f"{n}.jsonl")
    with (loading.folder / "logs" / "3.jsonl").open("ab") as log:
        log.write(b"bad line\n" * 30)
    return loading.folder / "logs"


def traces(folder: Path) -> int:
    """How many bytes a load has written so far."""
    return sum(file.stat().st_size for file in (folder / "data").rglob("*") if file.is_file())


@pytest.mark.slow
def test_a_loader_killed_at_any_point_leaves_what_one_clean_run_makes(
    loading: Loading, tmp_path: Path, empty_lake: Path
) -> None:
    logs = many_logs(loading)
    loading.load(logs, chunk_bytes=CHUNK_BYTES)
    clean = loading.tables()
    written = traces(tmp_path / "lake")
    secret = (tmp_path / "lake" / "key-hash.secret").read_bytes()

    stages = set()
    for kill in range(KILLS):
        folder = tmp_path / f"killed-{kill}"
        shutil.copytree(empty_lake, folder)
        (folder / "key-hash.secret").write_bytes(secret)
        # From before the first byte to after the last: the commit.
        goal = kill / (KILLS - 2) * written
        process = Forked.calling(load, folder, logs, 600.0)
        wait_for(lambda process=process: process.said, process)  # type: ignore[misc]
        if kill < KILLS - 1:
            wait_for(lambda goal=goal, folder=folder: traces(folder) >= goal, process)  # type: ignore[misc]
        else:
            wait_for(lambda folder=folder: size_of_wal(folder) > 0, process)  # type: ignore[misc]
        process.kill()
        with Lake.open(folder) as lake:
            after = tables_of(lake)
            assert after in ({table: [] for table in clean}, clean)
        stages.add((traces(folder) * 4 // written, after == clean))
        load(folder, logs, 600.0)
        with Lake.open(folder) as lake:
            assert tables_of(lake) == clean, f"kill {kill} at {goal:.0f} bytes"
            left = set((folder / "data").rglob("*.parquet"))
            if after != clean:
                assert left == listed_files(lake)
    assert len(stages) >= LEAST_STAGES, f"the kills came at the same stages: {stages}"


def size_of_wal(folder: Path) -> int:
    wal = folder / "catalog.sqlite-wal"
    return wal.stat().st_size if wal.exists() else 0


def test_two_connections_spill_into_folders_of_their_own(tmp_path: Path) -> None:
    Lake.open(tmp_path, create=True).close()
    small = LakeSettings(memory_limit="60MB", threads=1)
    made = "SELECT i, hash(i + {}) AS h, md5(i::VARCHAR) AS text FROM range(2000000) AS r(i)"
    with Lake.open(tmp_path, small) as one, Lake.open(tmp_path, small) as other:
        for lake, shift in ((one, 1), (other, 7)):
            lake.execute(f"CREATE TEMP TABLE spilled AS {made.format(shift)}")
        assert len([*tmp_path.glob("tmp/*/duckdb_temp_*")]) > 1
        for lake, shift in ((one, 1), (other, 7)):
            wrong = f"SELECT count(*) FROM spilled WHERE h <> hash(i + {shift})"
            assert lake.value(wrong) == 0
            assert lake.value("SELECT count(*) FROM spilled WHERE text <> md5(i::VARCHAR)") == 0
    assert [*tmp_path.glob("tmp/*")] == []


def test_what_a_killed_process_spilled_is_removed_and_that_of_others_stays(tmp_path: Path) -> None:
    Lake.open(tmp_path, create=True).close()
    killed = Forked.calling(spill_and_die, tmp_path)
    assert killed.ends()
    assert killed.exit_code == -signal.SIGKILL
    (left,) = (each for each in tmp_path.glob("tmp/*") if each.is_dir())
    with Lake.open(tmp_path):
        (own,) = (each for each in tmp_path.glob("tmp/*") if each.is_dir())
        assert own != left
        with Lake.open(tmp_path):
            assert own.is_dir()
            assert len([each for each in tmp_path.glob("tmp/*") if each.is_dir()]) == 2
    assert [*tmp_path.glob("tmp/*")] == []
