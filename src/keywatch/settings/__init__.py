"""Settings: a TOML file, overridden by KEYWATCH_* environment variables.

``keywatch.toml`` beside the working directory is read when ``--config`` is not given. Nested
names are joined with two underscores in the environment: ``KEYWATCH_INGEST__MAX_REJECT_SHARE``.
"""

from __future__ import annotations

import hashlib
import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    IPvAnyNetwork,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict
from pydantic_settings import SettingsError as NotJsonError

from keywatch import content
from keywatch.errors import ContentError, SettingsError, UsageError
from keywatch.model import Family
from keywatch.notices import notice
from keywatch.settings import explaining
from keywatch.settings.deliver import DeliverSettings
from keywatch.settings.owners import OwnerSettings
from keywatch.settings.storage import LakeSettings as LakeSettings
from keywatch.settings.time_zone import is_time_zone

DEFAULT_FILE = Path("keywatch.toml")
_SCHEDULER = r"(?:tcp|tls)://(?:[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\]):\d{1,5}"

Share = Annotated[float, Field(ge=0, le=1)]
Bits = Annotated[float, Field(ge=0)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class IngestSettings(_Section):
    """What a load accepts."""

    places: tuple[str, ...] = ()
    """Files, folders, globs and ``s3://…`` to load unless others are named."""
    max_reject_share: Share = 0.05
    """A file with a larger share of unreadable lines is rejected as a different kind of log."""
    chunk_bytes: Annotated[int, Field(ge=1024)] = 96 * 1024 * 1024
    """Uncompressed log text in memory at one time."""
    most_ahead_hours: Annotated[float, Field(ge=0, le=24 * 366)] = 24
    """Events dated further in the future are held back until their time comes."""
    time_zone: str | None = None
    """IANA zone of times without an offset, e.g. ``Europe/Berlin``. By default they are an error,
    except in sources that use UTC by definition."""
    trusted_proxies: tuple[IPvAnyNetwork, ...] = ()
    """Networks of your own proxies: in a list of addresses, the client is the first from the right
    that is in none of them; if this is empty, the first public one."""

    @field_validator("time_zone")
    @classmethod
    def _known(cls, name: str | None) -> str | None:
        if name is not None and not is_time_zone(name):
            raise ValueError(f"no time zone {name!r}; use a name such as Europe/Berlin or UTC")
        return name


class GeoIPSettings(_Section):
    """Your own GeoLite2 or GeoIP2 files; each takes precedence over the bundled ones."""

    city: Path | None = None
    """Towns and countries: GeoLite2 or GeoIP2 City."""
    country: Path | None = None
    """Countries only."""
    asn: Path | None = None
    """Networks."""
    anonymous_ip: Path | None = None
    """Hosting, VPN, proxy and Tor addresses: GeoIP2 Anonymous IP."""
    enterprise: Path | None = None
    """Towns, networks and the kind of connection: GeoIP2 Enterprise."""


class ReviewSettings(_Section):
    """The history that a review uses."""

    baseline_days: Annotated[int, Field(ge=7, le=400)] = 90
    """The history before the window with which its use is compared."""
    warm_up_days: Annotated[int, Field(ge=1)] = 5
    """A key seen on fewer days before the window is assessed by policy and peers only."""
    replayed_windows: Annotated[int, Field(ge=0, le=104)] = 8
    """At most so many earlier windows of the same length calibrate the scores."""
    replay_history_days: Annotated[int, Field(ge=1)] = 28
    """A window with less history is not replayed."""
    late_weeks: Annotated[int, Field(ge=0, le=52)] = 4
    """Lines this late raise alerts; older ones are scored for the record only."""
    power_keys: Annotated[int, Field(ge=0)] = 200
    """Keys into which a review injects thefts to compute detection power; 0: none."""


class EngineSettings(_Section):
    """Where a review is made, and where the lines of a load are read."""

    kind: Literal["local", "dask"] = "local"
    """In the process of the command, or on a Dask cluster."""
    scheduler: str | None = None
    """The cluster's, as ``tcp://HOST:PORT`` or ``tls://HOST:PORT``; by default a command starts a
    cluster of its own on this machine."""
    workers: Annotated[int, Field(ge=1, le=256)] | None = None
    """Processes of such a cluster; by default as many as there are cores."""

    @field_validator("scheduler")
    @classmethod
    def _is_address(cls, scheduler: str | None) -> str | None:
        if scheduler is not None and not re.fullmatch(_SCHEDULER, scheduler):
            raise ValueError("not an address: write tcp://HOST:PORT or tls://HOST:PORT")
        return scheduler

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if self.scheduler is not None and self.kind != "dask":
            raise ValueError('scheduler needs kind = "dask"')
        return self


class ReportSettings(_Section):
    """Where the scheduled review writes its pages."""

    folder: Path = Path("reports")
    """One page for each reviewed week is written here."""


class MetricsSettings(_Section):
    """Where metrics for Prometheus are written."""

    file: Path | None = None
    """A file for node_exporter's textfile collector; by default none is written."""

    @field_validator("file")
    @classmethod
    def _collected(cls, file: Path | None) -> Path | None:
        if file is not None and file.suffix != ".prom":
            raise ValueError("the textfile collector reads files whose name ends in .prom")
        return file


class ContentSettings(_Section):
    """Content used in addition to the bundled content."""

    folders: tuple[Path, ...] = ()
    """Folders that contain ``vendors/NAME/`` or ``detectors/NAME/``.

    Their vendors become known to the process (`content.add_folders`).
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
    """How evidence becomes an action; docs/method.md has the statistics."""

    false_revoke_rate: Annotated[float, Field(gt=0, lt=1)] = 0.05
    """The largest expected share of innocent keys in ``revoke`` (false discovery rate)."""
    investigate_per_1000_keys: Annotated[float, Field(ge=0, le=1000)] = 10
    """The analysts' budget: the most innocent keys expected per window."""
    investigate_at_least: Annotated[float, Field(ge=0)] = 0.1
    """The budget of a small lake, in innocent keys per window; the larger budget counts."""
    unfamiliar_place: Literal["revoke", "investigate", "none"] = "revoke"
    """The action of this rule if history is too short to calibrate; none: rule off."""
    second_family_bits: Bits = 3.0
    """``revoke`` by statistics needs so many bits from each of two families or origin questions."""
    revoke_bits: Bits = 10.0
    """``revoke`` by statistics needs at least this total."""
    imitators: Annotated[float, Field(gt=0, le=1)] = 0.1
    """The share of thieves who behave like the owner; bounds the evidence for the owner."""
    family_caps_bits: dict[Family, Bits] = {
        "origin": 20.0,
        "endpoints": 14.0,
        "volume": 14.0,
        "client": 14.0,
        "policy": 14.0,
        "all": 2.0,
    }
    """The most that a detector of a family adds (0: excluded); other families have no cap."""
    investigate_bits: Bits = 15.0
    """The threshold of ``investigate`` if history is too short to calibrate."""


class Settings(BaseSettings):
    """All settings; ``config_hash`` identifies a set of values."""

    model_config = SettingsConfigDict(
        env_prefix=explaining.PREFIX,
        env_nested_delimiter=explaining.DELIMITER,
        extra="forbid",
        frozen=True,
    )

    storage: LakeSettings = LakeSettings()
    ingest: IngestSettings = IngestSettings()
    content: ContentSettings = ContentSettings()
    geoip: GeoIPSettings = GeoIPSettings()
    review: ReviewSettings = ReviewSettings()
    engine: EngineSettings = EngineSettings()
    scoring: ScoringSettings = ScoringSettings()
    report: ReportSettings = ReportSettings()
    metrics: MetricsSettings = MetricsSettings()
    deliver: DeliverSettings = DeliverSettings()
    owners: OwnerSettings = OwnerSettings()

    @field_validator("owners")
    @classmethod
    def _owners_are_reached(cls, owners: OwnerSettings, info: ValidationInfo) -> OwnerSettings:
        if "deliver" in info.data:  # else it is wrong itself
            owners.check_channels(info.data["deliver"].channels)
        return owners

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
        """The same settings without detection power."""
        review = self.review.model_copy(update={"power_keys": 0})
        return self.model_copy(update={"review": review})

    def on_engine(self, named: str) -> Settings:
        """The same settings with another engine: ``local``, ``dask`` or ``dask:tcp://HOST:PORT``.

        Raises:
            UsageError: it is none of these.
        """
        kind, _, scheduler = named.partition(":")
        values = {"kind": kind, "scheduler": scheduler or None, "workers": self.engine.workers}
        try:
            engine = EngineSettings.model_validate(values)
        except ValidationError as e:
            raise UsageError(
                f"--engine {named!r}: write local, dask, or dask:tcp://HOST:PORT"
            ) from e
        return self.model_copy(update={"engine": engine})

    @property
    def config_hash(self) -> str:
        """16 hex digits; the same values give the same hash.

        It identifies how a review is scored, so the places of lake, engine, pages and metrics,
        channels and owners are not part of it. For content outside, its text counts, not its path.
        """
        left_out = {"content", "deliver", "engine", "metrics", "owners", "report", "storage"}
        counting = self.model_dump_json(exclude=left_out)
        if self.content.folders:
            counting += content.digest_of(self.content.folders)
        return hashlib.sha256(counting.encode()).hexdigest()[:16]


def load_settings(file: Path | None = None) -> Settings:
    """The settings in `file`, otherwise in ``keywatch.toml`` if it exists, otherwise defaults.

    Raises:
        SettingsError: the file is missing, not TOML, or has a wrong or unknown value; names
            file and line, or the variable, and what is expected.
    """
    path = file or (DEFAULT_FILE if DEFAULT_FILE.exists() else None)
    text = ""
    values: dict[str, Any] = {}
    if path is not None:
        try:
            text = path.read_text(encoding="utf-8")
            values = tomllib.loads(text)
        except OSError as e:
            raise SettingsError(f"{path}: can't be read ({e.strerror}); check --config") from e
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
            raise SettingsError(f"{path}: not valid TOML: {e}") from e
    for told in explaining.ignored_variables(Settings):
        notice(told)
    try:
        return Settings(**values)
    except ValidationError as e:
        raise SettingsError(explaining.explain(e, Settings, path, text, values)) from e
    except NotJsonError as e:
        raise SettingsError(explaining.not_json(Settings)) from e
