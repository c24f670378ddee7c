"""What `keywatch doctor` looks at."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keywatch import ahead, alerts, deliver, detectors, integrity, verdicts
from keywatch.errors import KeywatchError, LakeDamagedError, LakeError, SecretError
from keywatch.folder import parquet_files
from keywatch.lake import Lake, duckdb_version, utc_now
from keywatch.model import Suppression
from keywatch.report import printable
from keywatch.report.phrases import count
from keywatch.secrets import SECRET_FILE
from keywatch.settings import GeoIPSettings, Settings
from keywatch.weeks import last_event

if TYPE_CHECKING:
    from keywatch.origins import DatabaseInfo


@dataclass(frozen=True)
class Diagnosis:
    """One thing `diagnose` looked at; `exit_code` is not 0 when it stands in the way.

    `suppression`: that it is about, where what is expected ends.
    """

    text: str
    note: bool = False
    exit_code: int = 0
    suppression: Suppression | None = None

    @property
    def status(self) -> str:
        """``bad``, ``note`` or ``ok``."""
        return "bad" if self.exit_code else "note" if self.note else "ok"

    def document(self) -> dict[str, Any]:
        """The same for JSON."""
        told: dict[str, Any] = {"status": self.status, "text": self.text}
        if self.suppression is not None:
            days = {
                name: getattr(self.suppression, name).isoformat()
                for name in ("starts_on", "ends_on")
            }
            told["suppression"] = asdict(self.suppression) | days
        return told


_OLD_GEOIP_DAYS = 90
_ENDING_DAYS = 14
"""How long before and after its end a suppression is named."""
_MOST_TEXT = 500
_LEFT_OUT_DAYS = 30
_MOST_FILES = 50


def diagnose(lake_folder: Path, settings: Settings, *, deep: bool = False) -> list[Diagnosis]:
    """Settings, the lake, its files, the GeoIP databases' age, the detectors, the channels, ends.

    With `deep` each Parquet file is read through.
    """
    parts: tuple[Callable[[], list[Diagnosis]], ...] = (
        lambda: [Diagnosis(f"settings {settings.config_hash}")],
        lambda: diagnose_lake(lake_folder, settings, deep=deep),
        lambda: _left_out_diagnoses(lake_folder, settings),
        lambda: _clock_diagnoses(lake_folder, settings),
        lambda: [_database_diagnosis(each) for each in _databases(settings.geoip)],
        lambda: [Diagnosis(f"{len(detectors.load_detectors())} detectors")],
        lambda: _channel_diagnoses(lake_folder, settings),
        lambda: _unlisted_diagnoses(lake_folder, settings),
        lambda: _ending_diagnoses(lake_folder, settings),
    )
    return _looked_at(lake_folder, parts)


def diagnose_lake(folder: Path, settings: Settings, *, deep: bool = False) -> list[Diagnosis]:
    """The lake: its catalogue, its files (with `deep` read through), its journal, its secret."""
    return _looked_at(
        folder,
        (
            lambda: [_lake_diagnosis(folder, settings)],
            lambda: _file_diagnoses(folder, settings, deep),
            lambda: [_journal_diagnosis(folder)],
            lambda: [_secret_diagnosis(folder, settings)],
        ),
    )


def _looked_at(
    lake_folder: Path, parts: tuple[Callable[[], list[Diagnosis]], ...]
) -> list[Diagnosis]:
    found: list[Diagnosis] = []
    for part in parts:
        try:
            found += part()
        except KeywatchError as e:
            if all(one.text != str(e) for one in found):
                found.append(Diagnosis(str(e), exit_code=e.exit_code))
        except (Lake.Error, OSError) as e:
            text = f"{lake_folder}: {type(e).__name__}: {str(e).splitlines()[0] if str(e) else ''}"
            found.append(Diagnosis(printable(text, _MOST_TEXT), exit_code=LakeError.exit_code))
    return found


def _lake_diagnosis(folder: Path, settings: Settings) -> Diagnosis:
    with Lake.open(folder, settings.storage) as lake:
        files, events, rejects, keys = lake.rows(
            "SELECT (SELECT count(*) FROM lake.ingested_files), "
            "(SELECT coalesce(sum(events), 0)::BIGINT FROM lake.activity), "
            "(SELECT count(*) FROM lake.rejects), "
            "(SELECT count(DISTINCT key_id) FROM lake.keys)"
        )[0]
        last = last_event(lake)
        until = f" until {last:%Y-%m-%d %H:%M} UTC" if last else ""
        return Diagnosis(
            f"lake {folder}: DuckDB {duckdb_version()}, snapshot {lake.snapshot}, {files:,} files, "
            f"{events:,} events{until}, {rejects:,} rejected lines, {keys:,} keys in the inventory"
        )


def _left_out_diagnoses(folder: Path, settings: Settings) -> list[Diagnosis]:
    """Files that were found in the last weeks and are no part of the lake, with the reasons."""
    files: list[tuple[Any, ...]] = []
    # What is wrong with the lake stands in its own line.
    with suppress(LakeError), Lake.open(folder, settings.storage) as lake:
        files = lake.rows(
            "SELECT path, arg_max(reason, seen_at), max(seen_at) AS seen_at "
            "FROM lake.left_out_files WHERE seen_at > $since "
            "AND path NOT IN (SELECT path FROM lake.ingested_files) "
            "GROUP BY path ORDER BY seen_at DESC, path",
            since=utc_now() - timedelta(days=_LEFT_OUT_DAYS),
        )
    return [
        Diagnosis(
            printable(
                f"left out since {seen_at:%Y-%m-%d}: {path}: {reason.partition(chr(10))[0]}",
                max_length=_MOST_TEXT,
            ),
            note=True,
        )
        for path, reason, seen_at in files[:_MOST_FILES]
    ]


def _clock_diagnoses(
    folder: Path, settings: Settings, now: datetime | None = None
) -> list[Diagnosis]:
    """What is ahead of the clock, or whether all is."""
    limit = ahead.limit_of(now or utc_now(), settings.ingest.most_ahead_hours)
    # What is wrong with the lake stands in its own line.
    with suppress(LakeError), Lake.open(folder, settings.storage) as lake:
        if last_event(lake) is not None and ahead.clock_is_doubted(lake, limit):
            text = "all events of the lake are ahead of this machine's clock: check it"
            return [Diagnosis(text, note=True)]
        held = ahead.held_back(lake)
        if held.events:
            text = (
                f"{count(held.events, 'event')} of {count(held.keys, 'key')} held back, ahead of "
                f"the clock: {held.first_ts:%Y-%m-%d} to {held.last_ts:%Y-%m-%d}; check the clock "
                "of who wrote them"
            )
            return [Diagnosis(text, note=True)]
    return []


def _file_diagnoses(folder: Path, settings: Settings, deep: bool) -> list[Diagnosis]:
    """Each Parquet file that is not as the catalogue says, else all of them in one."""
    if not folder.exists():
        return []
    with Lake.open_damaged(folder, settings.storage) as lake:
        named = integrity.named_files(lake)
        found = [
            Diagnosis(
                printable(f"{fault}; keywatch lake repair takes it out", _MOST_TEXT),
                exit_code=LakeDamagedError.exit_code,
            )
            for fault in integrity.faults(lake, deep=deep)
        ]
        place, known = lake.data_folder, lake.known_files()
        strange = sum(file.name not in known for file in (parquet_files(place) if place else ()))
    how = "read through" if deep else "size and footer looked at; --deep reads them through"
    if not found:
        found = [Diagnosis(f"{len(named):,} Parquet files are whole ({how})")]
    if strange:
        text = f"{strange:,} Parquet files in {place} are not the lake's; they are left alone"
        found.append(Diagnosis(text, note=True))
    return found


def _journal_diagnosis(folder: Path) -> Diagnosis:
    cut = sum(
        integrity.journal_faults(folder / name)
        for name in ("outbox.journal", "outbox.journal.committing")
    )
    if not cut:
        return Diagnosis("the delivery journal is whole")
    text = (
        f"{cut:,} lines of the delivery journal are cut or damaged: what was sent then may be sent "
        "again by keywatch deliver"
    )
    return Diagnosis(text, note=True)


def _secret_diagnosis(folder: Path, settings: Settings) -> Diagnosis:
    """The secret of the hashes of keys that were seen in full."""
    file = folder / SECRET_FILE
    with Lake.open(folder, settings.storage) as lake:
        if not lake.check_secret():
            return Diagnosis("no key-hash secret yet: the first load makes it")
    mode = file.stat().st_mode & 0o777
    if mode & 0o077:
        raise LakeDamagedError(f"{file}: others may read it ({mode:04o}); chmod 600 it")
    return Diagnosis("the key-hash secret is there, for its owner only")


def _databases(settings: GeoIPSettings) -> list[DatabaseInfo]:
    """Those that answer, in order of precedence."""
    from keywatch.origins import GeoIPPaths, OriginReader

    with OriginReader(GeoIPPaths(**settings.model_dump())) as reader:
        return list(reader.databases)


def _database_diagnosis(database: DatabaseInfo) -> Diagnosis:
    days = (utc_now().date() - database.built_on).days
    text = f"{database.name} of {database.built_on}, {days} days old"
    if days <= _OLD_GEOIP_DAYS:
        return Diagnosis(text)
    mend = "update Keywatch, or name newer files in [geoip] of keywatch.toml"
    return Diagnosis(f"{text}: {mend}", note=True)


def _channel_diagnoses(folder: Path, settings: Settings) -> list[Diagnosis]:
    """Each channel: whether it could be used, and how its outbox is; nothing is sent."""
    standings = [deliver.Standing(name) for name in settings.deliver.channels]
    # What is wrong with the lake stands in its own line.
    with suppress(LakeError), Lake.open(folder, settings.storage) as lake:
        standings = deliver.standings(lake, settings.deliver.channels)
    unusable = deliver.unusable_channels(settings.deliver)
    near = deliver.near_channels(settings.deliver)
    found = []
    for standing in standings:
        channel = settings.deliver.channels.get(standing.channel)
        kind = channel.kind if channel else "no longer in the settings"
        text = f"channel {standing.channel} ({kind}): {deliver.describe(standing)}"
        if why := unusable.get(standing.channel):
            found.append(Diagnosis(f"{text}; {why}", exit_code=SecretError.exit_code))
        else:
            where = near.get(standing.channel)
            if where:
                text += f"; its receiver is {where}: make sure that this is meant"
            late = standing.waits_for(utc_now()) > deliver.LONG_WAIT
            note = standing.dead > 0 or late or bool(where) or channel is None
            found.append(Diagnosis(text, note=note))
    return found


def _unlisted_diagnoses(folder: Path, settings: Settings) -> list[Diagnosis]:
    """Keys with an open alert that the inventory no longer lists."""
    with suppress(LakeError), Lake.open(folder, settings.storage) as lake:
        return [Diagnosis(text, note=True) for text in alerts.unlisted_notes(lake)]
    return []


def _ending_diagnoses(folder: Path, settings: Settings) -> list[Diagnosis]:
    """What is expected until a day that is near, and what was until not long ago."""
    today, near = utc_now().date(), timedelta(days=_ENDING_DAYS)
    ending: tuple[Suppression, ...] = ()
    with suppress(LakeError), Lake.open(folder, settings.storage) as lake:
        ending = verdicts.ending(lake, today - near, today + near)
    return [_ending_diagnosis(each, today) for each in ending]


def _ending_diagnosis(one: Suppression, today: date) -> Diagnosis:
    text = (
        f"{one.origin} {'was' if one.ends_on < today else 'is'} expected of {one.key_id} until "
        f"{one.ends_on} ({', '.join(one.families)}), says {one.owner}: {one.because}"
    )
    return Diagnosis(printable(text, max_length=_MOST_TEXT), note=True, suppression=one)
