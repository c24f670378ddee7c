"""What `keywatch doctor` looks at."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from keywatch import deliver
from keywatch.detect import detectors
from keywatch.errors import (
    KeywatchError,
    LakeDamagedError,
    LakeError,
    SecretError,
    UsageError,
    VendorError,
)
from keywatch.lake import Lake, duckdb_version
from keywatch.lake.folder import parquet_files
from keywatch.lake.weeks import last_event
from keywatch.load import ahead
from keywatch.model import HealthFinding, Suppression
from keywatch.operate import health, integrity
from keywatch.operate.metrics import write_metrics
from keywatch.review import alerts, verdicts
from keywatch.settings import GeoIPSettings, Settings
from keywatch.text.key_forms import key_faults
from keywatch.text.phrases import count, named
from keywatch.text.safe_text import printable
from keywatch.text.secrets import SECRET_FILE
from keywatch.vendors import sources
from keywatch.vendors.registry import vendor_faults, vendors


@dataclass(frozen=True)
class Diagnosis:
    """One thing `diagnose` looked at; `exit_code` is not 0 when it stands in the way.

    `check` names what was looked at, and stays the same. `suppression`: that it is about, where
    what is expected ends; `health`: the finding, where it is one.
    """

    check: str
    text: str
    note: bool = False
    exit_code: int = 0
    suppression: Suppression | None = None
    health: HealthFinding | None = None

    @property
    def is_finding(self) -> bool:
        """Whether it is a finding of health that asks for something."""
        return self.status == "warn"

    @property
    def status(self) -> str:
        """``bad``, ``warn``, ``note`` or ``ok``."""
        if self.exit_code:
            return "bad"
        if self.health is not None:
            return self.health.status
        return "note" if self.note else "ok"

    def document(self) -> dict[str, Any]:
        """The same for JSON."""
        told: dict[str, Any] = {"check": self.check, "status": self.status, "text": self.text}
        if self.health is not None:
            told["subject"] = self.health.subject
        if self.suppression is not None:
            days = {
                name: getattr(self.suppression, name).isoformat()
                for name in ("starts_on", "ends_on")
            }
            told["suppression"] = asdict(self.suppression) | days
        return told


_ENDING_DAYS = 14
"""How long before and after its end a suppression is named."""
_MOST_TEXT = 500

Part = tuple[str, Callable[[], Iterator[Diagnosis]]]
"""What is looked at, and by what."""


def diagnose(
    lake_folder: Path, settings: Settings, now: datetime, *, deep: bool = False
) -> list[Diagnosis]:
    """Settings, the lake, its files, its health, the databases, the detectors, the channels, ends.

    `now` is naive UTC. With `deep` each Parquet file is read through.
    """
    found = [Diagnosis("settings", f"settings {settings.config_hash}")]
    found += diagnose_lake(lake_folder, settings, deep=deep)
    beside: list[Part] = [
        ("databases", lambda: _database_diagnoses(settings.geoip, now)),
        ("detectors", lambda: _detector_diagnoses(settings)),
        ("vendors", _vendor_diagnoses),
    ]
    try:
        with Lake.open(lake_folder, settings.storage) as lake:
            inside: list[Part] = [
                ("clock", lambda: _clock_diagnoses(lake, settings, now)),
                ("health", lambda: _health_diagnoses(lake, settings, now)),
                *beside,
                ("channel", lambda: _channel_diagnoses(lake, settings)),
                ("unlisted", lambda: _unlisted_diagnoses(lake)),
                ("expected", lambda: _ending_diagnoses(lake, now)),
            ]
            return found + _looked_at(lake_folder, inside, found)
    except LakeError:
        # What is wrong with the lake stands in its own line.
        channels: Part = ("channel", lambda: _channel_diagnoses(None, settings))
        return found + _looked_at(lake_folder, [*beside, channels], found)


def diagnose_lake(folder: Path, settings: Settings, *, deep: bool = False) -> list[Diagnosis]:
    """The lake: its catalogue, its files (with `deep` read through), its journal, its secret."""
    parts: list[Part] = [
        ("lake", lambda: _lake_diagnoses(folder, settings)),
        ("files", lambda: _file_diagnoses(folder, settings, deep)),
        ("journal", lambda: _journal_diagnoses(folder)),
        ("secret", lambda: _secret_diagnoses(folder, settings)),
    ]
    return _looked_at(folder, parts, [])


def _looked_at(folder: Path, parts: list[Part], before: list[Diagnosis]) -> list[Diagnosis]:
    """What each of `parts` finds; an error that was told already is not told again."""
    found: list[Diagnosis] = []
    for check, part in parts:
        try:
            found += part()
        except KeywatchError as e:
            if all(one.text != str(e) for one in before + found):
                found.append(Diagnosis(check, str(e), exit_code=e.exit_code))
        except (Lake.Error, OSError) as e:
            text = f"{folder}: {type(e).__name__}: {str(e).splitlines()[0] if str(e) else ''}"
            told = printable(text, _MOST_TEXT)
            found.append(Diagnosis(check, told, exit_code=LakeError.exit_code))
    return found


def _lake_diagnoses(folder: Path, settings: Settings) -> Iterator[Diagnosis]:
    with Lake.open(folder, settings.storage) as lake:
        files, events, rejects, keys = lake.rows(
            "SELECT (SELECT count(*) FROM lake.ingested_files), "
            "(SELECT coalesce(sum(events), 0)::BIGINT FROM lake.activity), "
            "(SELECT count(*) FROM lake.rejects), "
            "(SELECT count(DISTINCT key_id) FROM lake.keys)"
        )[0]
        last = last_event(lake)
        until = f" until {last:%Y-%m-%d %H:%M} UTC" if last else ""
        yield Diagnosis(
            "lake",
            f"lake {folder}: DuckDB {duckdb_version()}, snapshot {lake.snapshot}, "
            f"{count(files, 'file')}, {count(events, 'event')}{until}, "
            f"{count(rejects, 'rejected line')}, {count(keys, 'key')} in the inventory",
        )


def _clock_diagnoses(lake: Lake, settings: Settings, now: datetime) -> Iterator[Diagnosis]:
    """What is ahead of the clock, or whether all is."""
    limit = ahead.limit_of(now, settings.ingest.most_ahead_hours)
    if last_event(lake, now) is not None and ahead.clock_is_doubted(lake, limit):
        text = "all events of the lake are dated in the future: check this machine's clock"
        yield Diagnosis("clock", text, note=True)
    elif (held := ahead.held_back(lake)).events:
        yield Diagnosis(
            "clock",
            f"{count(held.events, 'event')} of {count(held.keys, 'key')} held back as dated in the "
            f"future: {held.first_ts:%Y-%m-%d} to {held.last_ts:%Y-%m-%d}; check the clock of the "
            "machine that wrote them",
            note=True,
        )


def _health_diagnoses(lake: Lake, settings: Settings, now: datetime) -> Iterator[Diagnosis]:
    """The findings of `health`, or that there are none; they go into the figures too."""
    found = health.findings(lake, settings, now)
    for one in found:
        yield Diagnosis(one.check, one.text, health=one)
    if all(one.is_note for one in found):
        yield Diagnosis("health", "no problems with log, keys, reviews, feed or scores")
    try:
        write_metrics(lake, settings, found, now)
    except UsageError as e:
        yield Diagnosis("metrics", f"{e}; see [metrics] file", exit_code=e.exit_code)


def _file_diagnoses(folder: Path, settings: Settings, deep: bool) -> Iterator[Diagnosis]:
    """Each Parquet file that is not as the catalogue says, else all of them in one."""
    if not folder.exists():
        return
    with Lake.open_damaged(folder, settings.storage) as lake:
        files = integrity.named_files(lake)
        found = [
            Diagnosis(
                "files",
                printable(f"{fault}; run keywatch lake repair", _MOST_TEXT),
                exit_code=LakeDamagedError.exit_code,
            )
            for fault in integrity.faults(lake, deep=deep)
        ]
        place, known = lake.data_folder, lake.known_files()
        strange = sum(file.name not in known for file in (parquet_files(place) if place else ()))
    how = "read in full" if deep else "size and footer checked; --deep reads them in full"
    if not found:
        found = [Diagnosis("files", f"{len(files):,} Parquet files are intact ({how})")]
    yield from found
    if strange:
        text = f"{strange:,} Parquet files in {place} do not belong to the lake and are ignored"
        yield Diagnosis("files", text, note=True)


def _journal_diagnoses(folder: Path) -> Iterator[Diagnosis]:
    cut = sum(
        integrity.journal_faults(folder / name)
        for name in ("outbox.journal", "outbox.journal.committing")
    )
    if not cut:
        yield Diagnosis("journal", "the delivery journal is intact")
        return
    text = (
        f"{count(cut, 'line')} of the delivery journal {named(cut, 'is', 'are')} incomplete "
        "or damaged: keywatch deliver may send some messages again"
    )
    yield Diagnosis("journal", text, note=True)


def _secret_diagnoses(folder: Path, settings: Settings) -> Iterator[Diagnosis]:
    """The secret of the hashes of keys that were seen in full."""
    file, named = folder / SECRET_FILE, settings.storage.key_hash_secret
    with Lake.open(folder, settings.storage) as lake:
        if settings.storage.catalog is not None and not lake.has_secret:
            text = "this machine has no key-hash secret of the shared lake: it can't load logs"
            yield Diagnosis("secret", text, note=True)
            return
        if not lake.check_secret():
            yield Diagnosis("secret", "no key-hash secret yet: the first load creates it")
            return
        known = lake.secret_fingerprint
    if named is not None:
        text = f"the key-hash secret ({named}) is the lake's (fingerprint {known})"
        yield Diagnosis("secret", text)
        return
    mode = file.stat().st_mode & 0o777
    if mode & 0o077:
        raise LakeDamagedError(f"{file}: readable for others (mode {mode:04o}); run chmod 600")
    yield Diagnosis("secret", "the key-hash secret is present and readable for its owner only")


def _database_diagnoses(settings: GeoIPSettings, now: datetime) -> Iterator[Diagnosis]:
    """The databases that answer, in order of precedence; which are old, the health says."""
    from keywatch.load.origins import GeoIPPaths, OriginReader

    with OriginReader(GeoIPPaths(**settings.model_dump())) as reader:
        for database in reader.databases:
            days = (now.date() - database.built_on).days
            text = f"{database.name} built on {database.built_on}, {days} days old"
            yield Diagnosis("databases", text)


def _detector_diagnoses(settings: Settings) -> Iterator[Diagnosis]:
    found = detectors.load_detectors(settings.content.folders)
    yield Diagnosis("detectors", count(len(found), "detector"))


def _vendor_diagnoses() -> Iterator[Diagnosis]:
    """What is known of vendors; one whose keys can't be told stands in the way of each load."""
    known = f"{count(len(vendors()), 'vendor')}, {count(len(sources()), 'log format')}"
    yield Diagnosis("vendors", f"{known}: {', '.join(sources())}")
    in_the_way = {str(fault) for fault in key_faults().values()}
    for text in sorted({str(fault) for fault in vendor_faults()} | in_the_way):
        code = VendorError.exit_code if text in in_the_way else 0
        yield Diagnosis("vendors", text, note=not code, exit_code=code)


def _channel_diagnoses(lake: Lake | None, settings: Settings) -> Iterator[Diagnosis]:
    """Each channel: whether it could be used, and how its outbox is; nothing is sent."""
    channels = settings.deliver.channels
    standings = (
        deliver.standings(lake, channels) if lake else [deliver.Standing(name) for name in channels]
    )
    unusable = deliver.unusable_channels(settings.deliver)
    near = deliver.near_channels(settings.deliver)
    claimed = deliver.claimed(lake) if lake else {}
    for standing in standings:
        channel = channels.get(standing.channel)
        kind = channel.kind if channel else "no longer in the settings"
        text = f"channel {standing.channel} ({kind}): {deliver.describe(standing)}"
        if claim := claimed.get(standing.channel):
            text += f"; {claim}"
        if why := unusable.get(standing.channel):
            yield Diagnosis("channel", f"{text}; {why}", exit_code=SecretError.exit_code)
        else:
            where = near.get(standing.channel)
            if where:
                text += f"; its receiver is {where}: check that this is intended"
            note = standing.dead > 0 or bool(where) or channel is None
            yield Diagnosis("channel", text, note=note)


def _unlisted_diagnoses(lake: Lake) -> Iterator[Diagnosis]:
    """Keys with an open alert that the inventory no longer lists."""
    for text in alerts.unlisted_notes(lake):
        yield Diagnosis("unlisted", text, note=True)


def _ending_diagnoses(lake: Lake, now: datetime) -> Iterator[Diagnosis]:
    """What is expected until a day that is near, and what was until not long ago."""
    today, near = now.date(), timedelta(days=_ENDING_DAYS)
    for one in verdicts.ending(lake, today - near, today + near):
        text = (
            f"{one.origin} {'was' if one.ends_on < today else 'is'} expected of {one.key_id} until "
            f"{one.ends_on} ({', '.join(one.families)}), confirmed by {one.owner}: {one.because}"
        )
        yield Diagnosis("expected", printable(text, _MOST_TEXT), note=True, suppression=one)
