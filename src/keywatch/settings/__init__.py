"""Settings: a TOML file, overridden by KEYWATCH_* environment variables.

``keywatch.toml`` beside the working directory is read when ``--config`` is not given. Nested
names are joined with two underscores in the environment: ``KEYWATCH_INGEST__MAX_REJECT_SHARE``.
"""

from __future__ import annotations

import hashlib
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    IPvAnyNetwork,
    ValidationError,
    field_validator,
)
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from keywatch import content
from keywatch.errors import ContentError, SettingsError
from keywatch.model import Family
from keywatch.settings.deliver import DeliverSettings
from keywatch.settings.time_zone import is_time_zone

DEFAULT_FILE = Path("keywatch.toml")

Share = Annotated[float, Field(ge=0, le=1)]
Bits = Annotated[float, Field(ge=0)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class LakeSettings(_Section):
    """Where tables live and how long a writer waits for another one."""

    catalog: str | None = None
    """DuckLake catalogue, such as ``postgres:dbname=keywatch``; else a SQLite file in the lake."""
    data_path: str | None = None
    """Where the Parquet files go, e.g. ``s3://bucket/keywatch``; ``data`` in the lake if absent."""
    wait_seconds: Annotated[float, Field(ge=0)] = 300
    keep_events_days: Annotated[int, Field(ge=30)] | None = None
    """Events older than that are pruned by `keywatch lake maintain`; none is where it is absent."""
    keep_snapshots_days: Annotated[int, Field(ge=1)] = 30
    """Snapshots older than that expire: a run older than that can't be run again."""
    memory_limit: str = "1GB"
    """DuckDB's own limit; the process needs about half as much again."""
    threads: Annotated[int, Field(ge=1)] | None = None
    """Cores that a command uses; all of them if absent. A small lake is judged cheapest by one."""


class IngestSettings(_Section):
    """What a load accepts."""

    places: tuple[str, ...] = ()
    """Files, folders, globs and ``s3://…`` that are loaded where no other is named."""
    max_reject_share: Share = 0.05
    chunk_bytes: Annotated[int, Field(ge=1024)] = 96 * 1024 * 1024
    """Uncompressed log text that is held in memory at once."""
    most_ahead_hours: Annotated[float, Field(ge=0, le=24 * 366)] = 24
    """An event that is ahead of the clock by more is held back until its time has come."""
    time_zone: str | None = None
    """IANA zone of times that a log writes without an offset, e.g. ``Europe/Berlin``; else they are
    refused, but for those of sources that are UTC by definition."""
    trusted_proxies: tuple[IPvAnyNetwork, ...] = ()
    """Networks of the user's own proxies: of a list of addresses the client is the first from the
    right that is in none of them; the first that is public, where this is empty."""

    @field_validator("time_zone")
    @classmethod
    def _known(cls, name: str | None) -> str | None:
        if name is not None and not is_time_zone(name):
            raise ValueError(f"no time zone {name!r}; say it as Europe/Berlin or UTC")
        return name


class GeoIPSettings(_Section):
    """The user's own GeoLite2/GeoIP2 files; each takes precedence over the bundled ones."""

    city: Path | None = None
    country: Path | None = None
    asn: Path | None = None
    anonymous_ip: Path | None = None
    enterprise: Path | None = None


class ReviewSettings(_Section):
    """What a review looks back on."""

    baseline_days: Annotated[int, Field(ge=7, le=400)] = 90
    warm_up_days: Annotated[int, Field(ge=1)] = 5
    """A key seen on fewer days before the window is judged by policy and peers only."""
    replayed_windows: Annotated[int, Field(ge=0, le=104)] = 8
    """Earlier windows of the same length that are replayed to calibrate the scores, at most."""
    replay_history_days: Annotated[int, Field(ge=1)] = 28
    """A window with less history before it is not replayed."""
    late_weeks: Annotated[int, Field(ge=0, le=52)] = 4
    """Lines this late are told of; what is older is judged for the record."""
    power_keys: Annotated[int, Field(ge=0)] = 200
    """Keys that a review injects thefts into, to say what would be caught; 0: none."""


class ReportSettings(_Section):
    """Where the scheduled review leaves its pages."""

    folder: Path = Path("reports")


class MetricsSettings(_Section):
    """Where figures for Prometheus go."""

    file: Path | None = None
    """A file of node_exporter's textfile collector; none is written where it is absent."""

    @field_validator("file")
    @classmethod
    def _collected(cls, file: Path | None) -> Path | None:
        if file is not None and file.suffix != ".prom":
            raise ValueError("the textfile collector reads files whose name ends in .prom")
        return file


class ContentSettings(_Section):
    """What is used beside the bundled content."""

    folders: tuple[Path, ...] = ()
    """Folders with ``vendors/NAME/`` or ``detectors/NAME/`` in them.

    That they are named makes their vendors known to the process (`content.add_folders`).
    """

    @field_validator("folders")
    @classmethod
    def _known(cls, folders: tuple[Path, ...]) -> tuple[Path, ...]:
        try:
            content.add_folders(folders)
        except ContentError as e:
            raise ValueError(str(e)) from e
        return tuple(folder.resolve() for folder in folders)


class ScoringSettings(_Section):
    """How evidence becomes an action; ARCHITECTURE.md says where the numbers come from."""

    false_revoke_rate: Annotated[float, Field(gt=0, lt=1)] = 0.05
    """The expected share of ``revoke`` that hits innocent keys, at most (false discovery rate)."""
    investigate_per_1000_keys: Annotated[float, Field(ge=0, le=1000)] = 10
    """The analysts' budget: innocent keys to look at in a window, as many as expected at most."""
    investigate_at_least: Annotated[float, Field(ge=0)] = 0.1
    """The budget of a small lake, in innocent keys a window; whichever budget is larger counts."""
    unfamiliar_place: Literal["revoke", "investigate", "none"] = "revoke"
    """What the rule of the same name says where too little was ordinary yet; none: never asked."""
    second_family_bits: Bits = 3.0
    """``revoke`` by statistics needs two families, or questions of origin, with this much each."""
    revoke_bits: Bits = 10.0
    """``revoke`` by statistics needs at least this much in all."""
    imitators: Annotated[float, Field(gt=0, le=1)] = 0.1
    """The share of thieves who call what the owner calls: bounds what speaks for the owner."""
    family_caps_bits: dict[Family, Bits] = {
        "origin": 20.0,
        "endpoints": 14.0,
        "volume": 14.0,
        "client": 14.0,
        "policy": 14.0,
        "all": 2.0,
    }
    """The most that one detector of a family adds (0: left out); a family not named has no cap."""
    investigate_bits: Bits = 15.0
    """``investigate`` where too little history can be replayed to calibrate the scores."""


class Settings(BaseSettings):
    """Everything that can be set; ``config_hash`` names a set of values."""

    model_config = SettingsConfigDict(
        env_prefix="KEYWATCH_", env_nested_delimiter="__", extra="forbid", frozen=True
    )

    storage: LakeSettings = LakeSettings()
    ingest: IngestSettings = IngestSettings()
    content: ContentSettings = ContentSettings()
    geoip: GeoIPSettings = GeoIPSettings()
    review: ReviewSettings = ReviewSettings()
    scoring: ScoringSettings = ScoringSettings()
    report: ReportSettings = ReportSettings()
    metrics: MetricsSettings = MetricsSettings()
    deliver: DeliverSettings = DeliverSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment wins over the file (the file's values come in as arguments)."""
        return env_settings, init_settings

    def without_power(self) -> Settings:
        """The same, for reviews that say nothing of detection power."""
        review = self.review.model_copy(update={"power_keys": 0})
        return self.model_copy(update={"review": review})

    @property
    def config_hash(self) -> str:
        """16 hex digits; the same values give the same hash.

        It names how a review is judged, so where lake, pages and figures are and who is told are
        no part of it. Of content outside it is what stands there that counts, not where.
        """
        left_out = {"content", "deliver", "metrics", "report", "storage"}
        judged = self.model_dump_json(exclude=left_out)
        if self.content.folders:
            judged += content.digest_of(self.content.folders)
        return hashlib.sha256(judged.encode()).hexdigest()[:16]


def load_settings(file: Path | None = None) -> Settings:
    """The settings of `file`, else of ``keywatch.toml`` if there is one, else the defaults.

    Raises:
        SettingsError: the file is absent, not TOML, or has a wrong or unknown value.
    """
    path = file or (DEFAULT_FILE if DEFAULT_FILE.exists() else None)
    values: dict[str, Any] = {}
    if path is not None:
        try:
            values = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as e:
            raise SettingsError(f"{path}: can't be read ({e.strerror}); check --config") from e
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
            raise SettingsError(f"{path}: not valid TOML: {e}") from e
    try:
        return Settings(**values)
    except ValidationError as e:
        where = path or "the environment (KEYWATCH_…)"
        wrong = "; ".join(f"{'.'.join(map(str, i['loc']))}: {i['msg']}" for i in e.errors())
        raise SettingsError(f"{where}: {wrong}") from e
