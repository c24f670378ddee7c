"""What a catalogue of many files costs: the time to open a lake and to plan its queries.

`python -m benchmarks.catalogue --files 10000 100000 1000000` makes a lake, loads one small log and
adds rows to its catalogue as if so many files had been loaded before, half of them of `events` and
half of `activity`. These files do not exist: each query asks for days that their statistics rule
out, so what it takes is the catalogue alone. It is in SQLite and, where its programs are installed,
in a PostgreSQL: without the indexes that Keywatch adds to DuckLake's tables, then with them.
The seconds are of the clock, the least of three, for PostgreSQL's processor time is not this
process's; beside them is how many times it takes with the fewest files.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

from keywatch.lake import METADATA, Lake
from keywatch.load.ingest import load_files
from keywatch.settings import IngestSettings, LakeSettings
from keywatch.vendors import find_files
from tests import postgres
from tests.conftest import NoWhere, as_json_lines, events

_RUNS = 3
_DAYS = 200
_AT_ONCE = 50_000
_QUERIES = {
    "a key's events of a day": "SELECT count(*) FROM lake.events "
    "WHERE day = DATE '2026-09-30' AND key_id = 'key_0700353'",
    "a week of activity": "SELECT count(*) FROM lake.activity "
    "WHERE day >= DATE '2026-09-28' AND day < DATE '2026-10-05'",
    "another table": "SELECT count(*) FROM lake.ingested_files",
}


def main() -> int:
    given = _arguments()
    fewest: dict[str, float] = {}
    for files in given.files:
        for kind, figures in _measured(files):
            print(f"{files:,} files, {kind}")
            for what, seconds in figures.items():
                least = fewest.setdefault(f"{kind} {what}", seconds)
                print(f"  {what:24} {seconds:7.3f} s  {seconds / least:6.1f} times", flush=True)
    return 0


def _measured(files: int) -> Iterator[tuple[str, dict[str, float]]]:
    with tempfile.TemporaryDirectory() as folder:
        here = LakeSettings()
        _make(Path(folder), here, files)
        yield "SQLite", _figures(Path(folder), here)
    if postgres.programs() is None:
        print("without PostgreSQL: its programs are not here")
        return
    with tempfile.TemporaryDirectory() as folder, postgres.server() as catalog:
        shared = LakeSettings.model_validate({"catalog": catalog, "data_path": f"{folder}/data"})
        _make(Path(folder), shared, files)
        with Lake.open(Path(folder) / "lake", shared) as lake:
            server = lake.server()
            assert server is not None
            with closing(server):
                server.execute("DROP INDEX keywatch_files, keywatch_file_statistics; ANALYZE")
                yield "PostgreSQL without indexes", _figures(Path(folder), shared)
                server.index_files()
                server.execute("ANALYZE")
        yield "PostgreSQL", _figures(Path(folder), shared)


def _make(folder: Path, settings: LakeSettings, files: int) -> None:
    log = folder / "log.jsonl"
    log.write_bytes(as_json_lines(events(50)))
    with Lake.open(folder / "lake", settings, create=True) as lake:
        load_files(lake, find_files([str(log)]), IngestSettings(), NoWhere())
        for table in ("events", "activity"):
            _add_files(lake, table, files // 2)


def _add_files(lake: Lake, table: str, count: int) -> None:
    """Files like the table's own, of the days from January on."""
    table_id = lake.value(
        f"SELECT table_id FROM {METADATA}.ducklake_table WHERE table_name = $table", table=table
    )
    own, first = lake.rows(
        f"SELECT max(data_file_id), (SELECT max(next_file_id) FROM {METADATA}.ducklake_snapshot) "
        f"FROM {METADATA}.ducklake_data_file WHERE table_id = {table_id}"
    )[0]
    nth = f"{first} + nth AS data_file_id"
    day = f"DATE '2026-01-01' + (nth * {_DAYS} // {count})::INTEGER"
    moment = f"strftime({day}, '%Y-%m-%d 12:00:00')"
    lower, upper = (
        f"CASE WHEN column_type = 'date' THEN ({day})::VARCHAR "
        f"WHEN starts_with(column_type, 'timestamp') THEN {moment} ELSE {name} END AS {name}"
        for name in ("min_value", "max_value")
    )
    for begin in range(0, count, _AT_ONCE):
        each = f"range({begin}, {min(begin + _AT_ONCE, count)}) AS t(nth)"
        lake.execute(
            f"INSERT INTO {METADATA}.ducklake_data_file "
            f"SELECT f.* REPLACE ({nth}, nth || path AS path) "
            f"FROM {METADATA}.ducklake_data_file AS f, {each} WHERE data_file_id = {own}"
        )
        lake.execute(
            f"INSERT INTO {METADATA}.ducklake_file_column_stats "
            f"SELECT s.* REPLACE ({nth}, {lower}, {upper}) "
            f"FROM {METADATA}.ducklake_file_column_stats AS s "
            f"JOIN {METADATA}.ducklake_column USING (table_id, column_id), {each} "
            f"WHERE data_file_id = {own}"
        )
    lake.execute(
        f"UPDATE {METADATA}.ducklake_snapshot SET next_file_id = {first + count} "
        f"WHERE snapshot_id = (SELECT max(snapshot_id) FROM {METADATA}.ducklake_snapshot)"
    )


def _figures(folder: Path, settings: LakeSettings) -> dict[str, float]:
    def opened() -> None:
        with Lake.open(folder / "lake", settings):
            pass

    found = {"open": _least(opened)}
    with Lake.open(folder / "lake", settings) as lake:
        for what, sql in _QUERIES.items():
            found[what] = _least(lambda sql=sql: lake.rows(sql))  # type: ignore[misc]
        found["a commit"] = _least(lambda: _write(lake))
    return found


def _write(lake: Lake) -> None:
    with lake.writing():
        lake.execute("INSERT INTO lake.left_out_files BY NAME SELECT 'x' AS path")


def _least(act: Callable[[], object]) -> float:
    seconds = []
    for _ in range(_RUNS):
        begin = time.perf_counter()
        act()
        seconds.append(time.perf_counter() - begin)
    return min(seconds)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Planning times of a catalogue of many files.")
    parser.add_argument("--files", type=int, nargs="+", default=[10_000, 100_000])
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
