"""`keywatch lake repair`: mends what can be mended of a damaged lake, and says what can't.

Nothing is ever deleted: a damaged file, and a file that the catalogue does not know after it was
taken from a copy, goes into a folder ``set-aside-…`` in the lake's folder.
"""

from __future__ import annotations

import shutil
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path

import pyarrow as pa

from keywatch.errors import LakeDamagedError, LakeError, SecretError
from keywatch.lake import METADATA, Lake
from keywatch.lake import folder as files
from keywatch.lake.catalogue_copies import copies, what_is_wrong
from keywatch.lake.folder import SET_ASIDE
from keywatch.operate.integrity import Fault, faults
from keywatch.operate.rollups import (
    ROLLUPS,
    SCORED_AGAIN,
    Locator,
    locate_missing,
    roll_up_again,
)
from keywatch.settings import LakeSettings
from keywatch.text.phrases import count
from keywatch.text.secrets import SECRET_FILE

_MOST_NAMED = 20
_EVENTS = ("events", "keyless_events")
_MENDED = {*ROLLUPS, *_EVENTS, *SCORED_AGAIN, "ingested_files", "origins", "format", "identity"}
_AGAIN = {
    "keys": "import the inventory again",
    "unlisted_keys": "import the inventory again",
    "leaked_keys": "import the scanners' reports again (keywatch keys leaked)",
    "verdicts": "give the verdicts again, as far as you know them",
    "suppressions": "give the verdicts expected again",
    "runs": "review the weeks again",
    "evidence": "review the weeks again",
    "cases": "review the weeks again",
    "recommendations": "review the weeks again",
    "new_networks": "review the weeks again",
    "flagged_visits": "review the weeks again: until then flagged visits count as usual",
    "alerts": "review the last week again: its alerts are opened and sent again",
    "questions": "owners can't answer what they were asked: give the verdicts yourself",
    "answers": "give the owners' verdicts again, as far as you know them",
    "deliveries": "waiting messages are lost; the next review sends open alerts again",
    "delivery_outcomes": "messages may be sent again",
    "alert_notes": "assignments and comments of alerts are lost",
    "review_queue": "weeks with new lines may not be queued any more: review them again",
    "held_back": "events dated in the future are lost: load them again later",
    "rejects": "the rejected lines are lost",
    "path_templates": "ids in paths are learnt again from the next loads",
}


@dataclass
class RepairReport:
    """What was done, and what can't be mended or is to be done by a person; sentences."""

    done: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)


def render_repair(report: RepairReport) -> str:
    """The report, a line a sentence."""
    lines = [f"REPAIRED {text}" for text in report.done] + [
        f"LEFT     {text}" for text in report.left
    ]
    return "\n".join(lines) or "Nothing to repair."


def repair(
    folder: Path,
    settings: LakeSettings,
    locator: Locator,
    now: datetime,
    *,
    new_secret: bool = False,
) -> RepairReport:
    """Mend the lake in `folder` as far as can be; with `new_secret`, make one where it is lost.

    Raises:
        LakeError: there is no lake, somebody else writes, or it can't be written.
    """
    return _Repair(folder, settings, now).run(locator, new_secret)


class _Repair:
    def __init__(self, folder: Path, settings: LakeSettings, now: datetime) -> None:
        if not folder.is_dir():
            raise LakeError(f"{folder}: no lake found there")
        self._folder, self._settings = folder, settings
        self._aside = folder / f"{SET_ASIDE}{now:%Y%m%dT%H%M%SZ}"
        self._now = now
        self._report = RepairReport()
        self._lost: list[tuple[str, int, int, date | None, date | None]] = []

    def run(self, locator: Locator, new_secret: bool) -> RepairReport:
        with (
            Lake(Lake.scratch().connection, self._folder, self._settings) as unopened,
            unopened.alone(),
        ):
            restored = self._restore_catalogue(unopened)
        if restored is not None:
            self._set_aside_the_newer(restored)
        if self._report.left and restored is None and not self._can_be_opened():
            return self._report
        with Lake.open_damaged(self._folder, self._settings) as lake, lake.alone():
            self._drop_lost_files(lake)
            self._write_identity_again(lake)
        with Lake.open(self._folder, self._settings) as lake:
            with lake.alone():
                can_be_written = self._mend_secret(lake, new_secret)
            if can_be_written:
                self._mend_rows(lake, locator)
        return self._report

    def _mend_rows(self, lake: Lake, locator: Locator) -> None:
        with lake.writing():
            self._mark_to_load_again(lake)
            self._rebuild_rollups(lake)
            if located := locate_missing(lake, locator):
                self._report.done.append(f"{count(located, 'address', 'addresses')} located again")
            if self._report.done or self._report.left:
                lake.execute("DELETE FROM lake.reviews")

    def _can_be_opened(self) -> bool:
        with suppress(LakeDamagedError), Lake.open_damaged(self._folder, self._settings):
            return True
        return False

    # ------------------------------------------------------------------------------ the catalogue

    def _restore_catalogue(self, lake: Lake) -> datetime | None:
        """Put the newest whole copy in the place of a catalogue that is not; its time."""
        file = lake.sqlite_file
        if file is None or (wrong := what_is_wrong(file)) is None:
            return None
        for made, copy in copies(file):
            if what_is_wrong(copy) is not None:
                continue
            for each in (file, *(file.with_name(f"{file.name}{end}") for end in ("-wal", "-shm"))):
                if each.exists():
                    self._set_aside(each)
            half = file.with_suffix(".half")
            shutil.copyfile(copy, half)
            half.chmod(0o600)
            half.replace(file)
            self._report.done.append(
                f"the catalogue ({wrong}): restored from its copy of {made:%Y-%m-%d %H:%M} UTC"
            )
            return made
        self._report.left.append(
            f"the catalogue {file} {wrong}, and there is no intact copy of it: restore it from a "
            "backup, or load the logs into a new folder; the Parquet files stay as they are"
        )
        return None

    def _set_aside(self, file: Path) -> None:
        where = self._aside / file.relative_to(self._folder) if self._within(file) else self._aside
        where.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        shutil.move(file, where)

    def _within(self, file: Path) -> bool:
        return file.is_relative_to(self._folder)

    def _set_aside_the_newer(self, restored: datetime) -> None:
        """Move what was written after the copy out of the way, and say what is to be done again."""
        with Lake.open_damaged(self._folder, self._settings) as lake:
            known, place = lake.known_files(), lake.data_folder
            if place is None:
                return
            newer = [file for file in files.parquet_files(place) if file.name not in known]
            loads = [file for file in newer if file.parent.name == "ingested_files"]
            paths = _paths_in(loads)
            for file in newer:
                self._set_aside(file)
        if newer:
            again = f": {_listed(paths)}" if paths else ""
            self._report.left.append(
                f"{len(newer):,} newer Parquet files moved to {self._aside}: load what was "
                f"loaded since {restored:%Y-%m-%d %H:%M} UTC again{again}; verdicts, imports and "
                "reviews since then have to be repeated"
            )

    # ------------------------------------------------------------------------------------- secret

    def _mend_secret(self, lake: Lake, new_secret: bool) -> bool:
        """Whether the lake can be written: not while this machine has a wrong secret."""
        file, named = self._folder / SECRET_FILE, self._settings.key_hash_secret
        try:
            lake.check_secret()
        except (LakeDamagedError, SecretError) as e:
            if not new_secret:
                self._report.left.append(str(e))
                return named is None and not file.exists()
            if named is None and file.exists():
                self._set_aside(file)
            lake.adopt_secret()
            what = f"the secret in {named} is the lake's now" if named else f"{file}: created anew"
            self._report.done.append(f"{what}; keys logged in full count as new keys from now on")
        if file.exists() and file.stat().st_mode & 0o077:
            file.chmod(0o600)
            self._report.done.append(f"{file}: made readable for its owner only")
        return True

    # -------------------------------------------------------------------------------------- files

    def _drop_lost_files(self, lake: Lake) -> None:
        """Take files that are missing or unreadable out of the catalogue."""
        found = list(faults(lake, deep=True))
        if not found:
            return
        for fault in found:
            if not fault.file.deletes:
                self._note_lost_rows(lake, fault)
        self._forget(lake, [fault for fault in found if not fault.file.deletes], "data_file")
        self._forget(lake, [fault for fault in found if fault.file.deletes], "delete_file")
        for fault in found:
            if "://" not in fault.file.path and Path(fault.file.path).exists():
                self._set_aside(Path(fault.file.path))
            self._tell(fault)
        lake.attach_again()

    def _note_lost_rows(self, lake: Lake, fault: Fault) -> None:
        """Keep what the catalogue still says of the rows: of which loads and days."""
        said = {
            name: (low, high)
            for name, low, high in lake.rows(
                f"""
                SELECT DISTINCT c.column_name, s.min_value, s.max_value
                FROM {METADATA}.ducklake_file_column_stats AS s
                JOIN {METADATA}.ducklake_column AS c USING (table_id, column_id)
                WHERE s.data_file_id = $id
                """,
                id=fault.file.file_id,
            )
        }
        low, high = said.get("load_id") or (None, None)
        first, last = said.get("day") or (None, None)
        if not (first and last):
            first, last = (value and value[:10] for value in said.get("hour") or (None, None))
        if low is None or high is None:
            return
        self._lost.append(
            (
                fault.file.table,
                int(low),
                int(high),
                date.fromisoformat(first) if first else None,
                date.fromisoformat(last) if last else None,
            )
        )

    def _forget(self, lake: Lake, found: list[Fault], kind: str) -> None:
        if not found:
            return
        ids = ", ".join(str(fault.file.file_id) for fault in found)
        key = f"{kind}_id"
        lake.execute("BEGIN")
        lake.execute(f"DELETE FROM {METADATA}.ducklake_{kind} WHERE {key} IN ({ids})")
        if kind == "data_file":
            for table in ("file_column_stats", "file_partition_value", "delete_file"):
                lake.execute(f"DELETE FROM {METADATA}.ducklake_{table} WHERE {key} IN ({ids})")
            for fault in found:
                if fault.file.current:
                    lake.execute(
                        f"UPDATE {METADATA}.ducklake_table_stats SET "
                        f"record_count = record_count - {fault.file.rows}, "
                        f"file_size_bytes = file_size_bytes - {fault.file.size_bytes} "
                        f"WHERE table_id = {fault.file.table_id}"
                    )
        lake.execute("COMMIT")

    def _tell(self, fault: Fault) -> None:
        table = fault.file.table
        text = f"{fault}; removed from the catalogue"
        if fault.file.deletes:
            self._report.left.append(
                f"{text}: deleted rows of {table} may be back; repeat keywatch lake forget for "
                "what was erased"
            )
        elif (
            not fault.file.current
            or table in {*ROLLUPS, *SCORED_AGAIN, "origins", "format", "identity"}
            or table in {*_EVENTS, "ingested_files"}
        ):
            self._report.done.append(text)
        else:
            self._report.left.append(f"{text}: {_AGAIN.get(table, 'its rows are lost')}")

    def _write_identity_again(self, lake: Lake) -> None:
        """The two tables that say which lake this is, where their file was lost."""
        from keywatch.lake import FORMAT_VERSION

        tables = {name for (name,) in lake.rows(_TABLE_NAMES)}
        if "format" in tables and not lake.rows("FROM lake.format"):
            # Its columns are those of this format, or the lake could not have been written by it.
            has_print = lake.rows(_TABLES_WITH_PRINT)
            version = 6 if has_print else 5 if "identity" in tables else 4
            version = 7 if "alert_notes" in tables else version
            version = FORMAT_VERSION if "questions" in tables else version
            lake.execute(f"INSERT INTO lake.format VALUES ({version})")
            self._report.done.append(f"format of the lake restored: {version}")
        if "identity" in tables and not lake.rows("FROM lake.identity"):
            lake.write_identity()
            self._report.done.append("id of the lake restored")

    # --------------------------------------------------------------------------------------- rows

    def _mark_to_load_again(self, lake: Lake) -> None:
        """Files whose rows were lost are not known any more; and ids go on where they were."""
        lost = [each for each in self._lost if each[0] in _EVENTS]
        of_loads = " OR ".join(f"load_id BETWEEN {low} AND {high}" for _, low, high, _, _ in lost)
        if lost:
            paths = [
                path
                for (path,) in lake.rows(
                    f"SELECT DISTINCT path FROM lake.ingested_files WHERE {of_loads} ORDER BY path"
                )
            ]
            # The rows stay, for the next load's number and the feed's go on from theirs.
            lake.execute(
                f"UPDATE lake.ingested_files SET sha256 = NULL, size_bytes = NULL WHERE {of_loads}"
            )
            days = sorted({day for each in lost for day in each[3:] if day is not None})
            span = f" of {days[0]} to {days[-1]}" if days else ""
            which = _listed(paths) if paths else f"the logs{span}"
            self._report.left.append(f"events{span} were lost: load again {which}")
        lake.execute(
            """
            INSERT INTO lake.ingested_files BY NAME
            WITH seen AS (
                SELECT max(load_id) AS load_id FROM (
                    SELECT load_id FROM lake.events UNION ALL SELECT load_id FROM lake.activity
                    UNION ALL SELECT load_id FROM lake.review_queue
                )
            ),
            kept AS (
                SELECT max(load_id) AS load_id, max(file_id) AS file_id FROM lake.ingested_files
            )
            SELECT coalesce(kept.file_id, 0) + 1_000_000 AS file_id, seen.load_id,
                '(lost)' AS path, 0 AS lines, 0 AS events, 0 AS duplicates, 0 AS keyless,
                0 AS rejects, $now AS loaded_at
            FROM seen, kept
            WHERE seen.load_id > coalesce(kept.load_id, 0)
            """,
            now=self._now,
        )

    def _rebuild_rollups(self, lake: Lake) -> None:
        """Roll up again each day of a load of which roll-ups and events don't agree.

        What was rolled up of events that were pruned since stays as it is.
        """
        lost = [each for each in self._lost if each[0] in {*ROLLUPS, "events"}]
        of_lost = " OR ".join(
            f"(load_id BETWEEN {low} AND {high} AND day BETWEEN DATE '{first}' AND DATE '{last}')"
            for _, low, high, first, last in lost
            if first and last
        )
        lake.execute(
            "CREATE OR REPLACE TEMP TABLE rolled_up AS "
            + " UNION ALL ".join(
                f"SELECT '{table}' AS rollup, load_id, {day} AS day, sum(events) AS events "
                f"FROM lake.{table} GROUP BY ALL"
                for table, day in ROLLUPS.items()
            )
        )
        lake.execute(
            f"""
            CREATE OR REPLACE TEMP TABLE to_roll_up AS
            WITH counted AS (
                SELECT load_id, day, count(*) AS events, count(principal) AS in_sessions
                FROM lake.events GROUP BY ALL
            ),
            expected AS (
                SELECT rollup, load_id, day,
                    CASE WHEN rollup = 'sessions' THEN nullif(in_sessions, 0)
                        ELSE events END AS events
                FROM counted, unnest({list(ROLLUPS)}) AS r(rollup)
            ),
            wrong AS (
                SELECT load_id, day FROM expected AS e
                LEFT JOIN rolled_up AS r USING (rollup, load_id, day)
                WHERE r.events IS DISTINCT FROM e.events
                UNION
                SELECT load_id, day FROM rolled_up WHERE {of_lost or "false"}
            )
            SELECT w.load_id, w.day, coalesce(c.events, 0) AS events
            FROM wrong AS w LEFT JOIN counted AS c USING (load_id, day)
            ORDER BY ALL
            """
        )
        wrong = lake.rows("FROM to_roll_up ORDER BY ALL")
        if not wrong:
            return
        roll_up_again(lake, wrong)
        days = count(len({day for _, day, _ in wrong}), "day")
        self._report.done.append(
            f"activity, hours, transitions and sessions of {days} rebuilt from the events"
        )
        # Replays that read them before are not to be trusted.
        for table in SCORED_AGAIN:
            lake.execute(f"DELETE FROM lake.{table}")


_TABLES_WITH_PRINT = (
    "SELECT table_name FROM duckdb_columns() "
    "WHERE database_name = 'lake' AND column_name = 'secret_fingerprint'"
)
_TABLE_NAMES = "SELECT table_name FROM duckdb_tables() WHERE database_name = 'lake'"


def _paths_in(loads: list[Path]) -> list[str]:
    """The source files that Parquet files of the table ``ingested_files`` name."""
    from pyarrow import parquet

    found: set[str] = set()
    for file in loads:
        with suppress(pa.ArrowException, OSError):
            found.update(parquet.read_table(file, columns=["path"])["path"].to_pylist())
    return sorted(found)


def _listed(paths: list[str]) -> str:
    more = len(paths) - _MOST_NAMED
    return ", ".join(paths[:_MOST_NAMED]) + (f" and {more:,} more" if more > 0 else "")
